package workload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/pflag"
)

// movrCities are the cities in the order in which rows are dealt to them.
var movrCities = []string{
	"new york", "boston", "washington dc", // us_east
	"seattle", "san francisco", "los angeles", // us_west
	"amsterdam", "paris", "rome", // europe_west
}

var movrCreationTime = time.Date(2019, 1, 2, 3, 4, 5, 0, time.UTC)

// movr is a company that rents vehicles: the example database of the documents.
type movr struct {
	db                                                 string
	users, vehicles, rides, histories, promos, userPCs int
	ranges                                             int
	seed                                               uint64
	loader                                             string
}

func newMovr() *movr { return &movr{} }

func (m *movr) Name() string     { return "movr" }
func (m *movr) Database() string { return m.db }

func (m *movr) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&m.db, "db", "movr", "database of the tables")
	fs.IntVar(&m.users, "num-users", 50, "initial users")
	fs.IntVar(&m.vehicles, "num-vehicles", 15, "initial vehicles")
	fs.IntVar(&m.rides, "num-rides", 500, "initial rides")
	fs.IntVar(&m.histories, "num-histories", 1000, "initial locations of vehicles on rides")
	fs.IntVar(&m.promos, "num-promo-codes", 1000, "initial promo codes")
	fs.IntVar(&m.userPCs, "num-user-promos", 0, "initial promo codes in use")
	fs.IntVar(&m.ranges, "num-ranges", 9, "accepted for scripts that set it")
	fs.StringVar(&m.loader, "data-loader", "INSERT", "how initial rows are loaded")
	fs.Uint64Var(&m.seed, "seed", 1, "seed of the random data")
}

func (m *movr) Check() error {
	n := len(movrCities)
	for _, c := range []struct {
		what string
		rows int
	}{{"users", m.users}, {"vehicles", m.vehicles}, {"rides", m.rides}, {"histories", m.histories}} {
		if c.rows < n {
			return fmt.Errorf("at least %d %s are required", n, c.what)
		}
	}
	if strings.ToUpper(m.loader) != "INSERT" {
		return fmt.Errorf("--data-loader: %s is not supported, rows are loaded by INSERT", m.loader)
	}
	return nil
}

// movrCity is the city of the i-th of n rows: equal shares, one after the other.
func movrCity(i, n int) string {
	c := int(float64(i) / (float64(n) / float64(len(movrCities))))
	return movrCities[min(c, len(movrCities)-1)]
}

// cityRows are the rows [from, to) of n that belong to the city of row i.
func cityRows(city string, n int) (from, to int) {
	from = -1
	for i := range n {
		if movrCity(i, n) == city {
			if from < 0 {
				from = i
			}
			to = i + 1
		}
	}
	return max(from, 0), to
}

// movrID is the id of the i-th of n rows: spread evenly over all UUIDs, in the
// order of the rows, and of the form of a random UUID.
func movrID(i, n int) string {
	var u [16]byte
	// With the precision of a float64, as in the documents.
	binary.BigEndian.PutUint64(u[:8], uint64(float64(i)/float64(n)*(1<<64)))
	binary.BigEndian.PutUint64(u[8:], uint64(i))
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func (m *movr) Tables() []Table {
	return []Table{
		{
			Name: "users", Rows: m.users, Row: m.userRow,
			Columns: []string{"id", "city", "name", "address", "credit_card"},
			Schema:  "(id UUID NOT NULL, city VARCHAR NOT NULL, name VARCHAR, address VARCHAR, credit_card VARCHAR, PRIMARY KEY (city, id))",
		},
		{
			Name: "vehicles", Rows: m.vehicles, Row: m.vehicleRow,
			Columns: []string{"id", "city", "type", "owner_id", "creation_time", "status", "current_location", "ext"},
			Schema: "(id UUID NOT NULL, city VARCHAR NOT NULL, type VARCHAR, owner_id UUID, creation_time TIMESTAMP, status VARCHAR, current_location VARCHAR, ext JSONB, " +
				"PRIMARY KEY (city, id), INDEX vehicles_auto_index_fk_city_ref_users (city, owner_id))",
		},
		{
			Name: "rides", Rows: m.rides, Row: m.rideRow,
			Columns: []string{"id", "city", "vehicle_city", "rider_id", "vehicle_id", "start_address", "end_address", "start_time", "end_time", "revenue"},
			Schema: "(id UUID NOT NULL, city VARCHAR NOT NULL, vehicle_city VARCHAR, rider_id UUID, vehicle_id UUID, start_address VARCHAR, end_address VARCHAR, " +
				"start_time TIMESTAMP, end_time TIMESTAMP, revenue DECIMAL(10,2), PRIMARY KEY (city, id), " +
				"INDEX rides_auto_index_fk_city_ref_users (city, rider_id), INDEX rides_auto_index_fk_vehicle_city_ref_vehicles (vehicle_city, vehicle_id), " +
				"CONSTRAINT check_vehicle_city_city CHECK (vehicle_city = city))",
		},
		{
			Name: "vehicle_location_histories", Rows: m.histories, Row: m.historyRow,
			Columns: []string{"city", "ride_id", `"timestamp"`, "lat", "long"},
			Schema:  `(city VARCHAR NOT NULL, ride_id UUID NOT NULL, "timestamp" TIMESTAMP NOT NULL, lat FLOAT8, long FLOAT8, PRIMARY KEY (city, ride_id, "timestamp"))`,
		},
		{
			Name: "promo_codes", Rows: m.promos, Row: m.promoRow,
			Columns: []string{"code", "description", "creation_time", "expiration_time", "rules"},
			Schema:  "(code VARCHAR NOT NULL, description VARCHAR, creation_time TIMESTAMP, expiration_time TIMESTAMP, rules JSONB, PRIMARY KEY (code))",
		},
		{
			Name: "user_promo_codes", Rows: m.userPCs, Row: m.userPromoRow,
			Columns: []string{"city", "user_id", "code", `"timestamp"`, "usage_count"},
			Schema:  `(city VARCHAR NOT NULL, user_id UUID NOT NULL, code VARCHAR NOT NULL, "timestamp" TIMESTAMP, usage_count INT8, PRIMARY KEY (city, user_id, code))`,
		},
	}
}

func (m *movr) AfterLoad() []string {
	var out []string
	for _, fk := range [][3]string{
		{"vehicles", "city, owner_id", "users"}, {"rides", "city, rider_id", "users"},
		{"rides", "vehicle_city, vehicle_id", "vehicles"},
		{"vehicle_location_histories", "city, ride_id", "rides"}, {"user_promo_codes", "city, user_id", "users"},
	} {
		name := fk[0] + "_" + strings.ReplaceAll(fk[1], ", ", "_") + "_fkey"
		out = append(out, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (city, id)", fk[0], name, fk[1], fk[2]))
	}
	return out
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func personName(r *rand.Rand) string { return pick(r, firstNames) + " " + pick(r, lastNames) }

func streetAddress(r *rand.Rand) string {
	s := fmt.Sprintf("%d %s %s", 1+r.IntN(99999), pick(r, lastNames), pick(r, streetKinds))
	if r.IntN(3) == 0 {
		s += fmt.Sprintf(" %s %d", pick(r, []string{"Apt.", "Suite"}), r.IntN(100))
	}
	return s
}

func creditCard(r *rand.Rand) string { return fmt.Sprintf("%010d", r.Int64N(1e10)) }

func words(r *rand.Rand, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = pick(r, plainWords)
	}
	return strings.Join(out, " ")
}

func (m *movr) userRow(i int) []any {
	if i == 0 {
		return []any{movrID(i, m.users), movrCity(i, m.users), "Robert Murphy", "99176 Anderson Mills", "8885705228"}
	}
	r := rowRand(m.seed, "users", i)
	return []any{movrID(i, m.users), movrCity(i, m.users), personName(r), streetAddress(r), creditCard(r)}
}

// vehicleStatus is available, in_use or lost in 40, 55 and 5 of 100 cases.
func vehicleStatus(r *rand.Rand) string {
	switch n := r.IntN(100); {
	case n < 40:
		return "available"
	case n < 95:
		return "in_use"
	}
	return "lost"
}

func vehicleExt(r *rand.Rand, kind string) string {
	color := pick(r, []string{"red", "yellow", "blue", "green", "black"})
	if kind != "bike" {
		return fmt.Sprintf(`{"color": "%s"}`, color)
	}
	brand := pick(r, []string{"Merida", "Fuji", "Cervelo", "Pinarello", "Santa Cruz", "Kona", "Schwinn"})
	return fmt.Sprintf(`{"brand": "%s", "color": "%s"}`, brand, color)
}

var vehicleKinds = []string{"skateboard", "bike", "scooter"}

// inCity returns the id of a random row, of n, that is in city.
func inCity(r *rand.Rand, city string, n int) string {
	from, to := cityRows(city, n)
	if to <= from {
		return movrID(0, n)
	}
	return movrID(from+r.IntN(to-from), n)
}

func (m *movr) vehicleRow(i int) []any {
	r := rowRand(m.seed, "vehicles", i)
	city, kind := movrCity(i, m.vehicles), pick(r, vehicleKinds)
	return []any{movrID(i, m.vehicles), city, kind, inCity(r, city, m.users), movrCreationTime, vehicleStatus(r), streetAddress(r), vehicleExt(r, kind)}
}

func (m *movr) rideRow(i int) []any {
	r := rowRand(m.seed, "rides", i)
	city := movrCity(i, m.rides)
	start := movrCreationTime.Add(-time.Duration(r.IntN(30)) * 24 * time.Hour)
	end := start.Add(time.Duration(r.IntN(60)) * time.Hour)
	return []any{movrID(i, m.rides), city, city, inCity(r, city, m.users), inCity(r, city, m.vehicles),
		streetAddress(r), streetAddress(r), start, end, r.IntN(100)}
}

func latLong(r *rand.Rand) (lat, long float64) {
	return float64(-180 + r.IntN(360)), float64(-90 + r.IntN(180))
}

func (m *movr) historyRow(i int) []any {
	r := rowRand(m.seed, "vehicle_location_histories", i)
	city := movrCity(i, m.histories)
	lat, long := latLong(r)
	return []any{city, inCity(r, city, m.rides), movrCreationTime.Add(time.Duration(i) * time.Millisecond), lat, long}
}

const promoRules = `{"type": "percent_discount", "value": "10%"}`

func (m *movr) promoRow(i int) []any {
	r := rowRand(m.seed, "promo_codes", i)
	code := fmt.Sprintf("%d_%s", i, strings.ReplaceAll(words(r, 3), " ", "_"))
	expires := movrCreationTime.Add(time.Duration(r.IntN(30)) * 24 * time.Hour)
	return []any{code, words(r, 20), movrCreationTime, expires, promoRules}
}

func (m *movr) userPromoRow(i int) []any {
	r := rowRand(m.seed, "user_promo_codes", i)
	city := movrCity(i, m.userPCs)
	return []any{city, inCity(r, city, m.users), m.promoRow(i % max(m.promos, 1))[0], movrCreationTime.Add(time.Duration(i) * time.Millisecond), r.IntN(5)}
}

// movrWorker is one active user of the application.
type movrWorker struct {
	m     *movr
	r     *rand.Rand
	rides []movrRide // that this worker has started
}

type movrRide struct{ id, city string }

func (m *movr) Worker(id int, seed uint64) Worker {
	return &movrWorker{m: m, r: rand.New(rand.NewPCG(seed, uint64(id)))}
}

func (w *movrWorker) newID() string {
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], w.r.Uint64())
	binary.BigEndian.PutUint64(u[8:], w.r.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// Do reads in 95 of 100 cases and else writes what a user could do, once in a
// while with a new location of each ride under way.
func (w *movrWorker) Do(ctx context.Context, conn *pgx.Conn) (string, error) {
	city := pick(w.r, movrCities)
	if w.r.IntN(100) < 95 {
		rows, err := conn.Query(ctx, "SELECT city, id FROM vehicles WHERE city = $1", city)
		if err != nil {
			return "readVehicles", err
		}
		rows.Close()
		return "readVehicles", rows.Err()
	}
	if len(w.rides) > 0 && w.r.IntN(10) == 0 {
		lat, long := latLong(w.r)
		ride := pick(w.r, w.rides)
		_, err := conn.Exec(ctx, `INSERT INTO vehicle_location_histories (city, ride_id, "timestamp", lat, long) VALUES ($1, $2, now(), $3, $4)`,
			ride.city, ride.id, lat, long)
		return "updateActiveRides", err
	}
	switch w.r.IntN(6) {
	case 0:
		_, err := conn.Exec(ctx, "INSERT INTO users (id, city, name, address, credit_card) VALUES ($1, $2, $3, $4, $5)",
			w.newID(), city, personName(w.r), streetAddress(w.r), creditCard(w.r))
		return "addUser", err
	case 1:
		user, err := w.randomID(ctx, conn, "users", city)
		if err != nil {
			return "addVehicle", err
		}
		kind := pick(w.r, vehicleKinds)
		_, err = conn.Exec(ctx, "INSERT INTO vehicles (id, city, type, owner_id, creation_time, status, current_location, ext) VALUES ($1, $2, $3, $4, now()::timestamp, $5, $6, $7)",
			w.newID(), city, kind, user, vehicleStatus(w.r), streetAddress(w.r), vehicleExt(w.r, kind))
		return "addVehicle", err
	case 2:
		return "startRide", w.startRide(ctx, conn, city)
	case 3:
		if len(w.rides) == 0 {
			return "startRide", w.startRide(ctx, conn, city)
		}
		ride := w.rides[0]
		w.rides = w.rides[1:]
		_, err := conn.Exec(ctx, "UPDATE rides SET end_address = $3, end_time = now()::timestamp WHERE city = $1 AND id = $2", ride.city, ride.id, streetAddress(w.r))
		return "endRide", err
	case 4:
		code := fmt.Sprintf("%s_%d", strings.ReplaceAll(words(w.r, 3), " ", "_"), w.r.IntN(1e6))
		_, err := conn.Exec(ctx, "INSERT INTO promo_codes (code, description, creation_time, expiration_time, rules) VALUES ($1, $2, now()::timestamp, now()::timestamp + '30 days'::interval, $3) ON CONFLICT (code) DO NOTHING",
			code, words(w.r, 20), promoRules)
		return "createPromoCode", err
	}
	user, err := w.randomID(ctx, conn, "users", city)
	if err != nil {
		return "applyPromoCode", err
	}
	code := w.m.promoRow(w.r.IntN(max(w.m.promos, 1)))[0]
	_, err = conn.Exec(ctx, `INSERT INTO user_promo_codes (city, user_id, code, "timestamp", usage_count) VALUES ($1, $2, $3, now()::timestamp, 1) ON CONFLICT (city, user_id, code) DO UPDATE SET usage_count = user_promo_codes.usage_count + 1`,
		city, user, code)
	return "applyPromoCode", err
}

func (w *movrWorker) startRide(ctx context.Context, conn *pgx.Conn, city string) error {
	user, err := w.randomID(ctx, conn, "users", city)
	if err != nil {
		return err
	}
	vehicle, err := w.randomID(ctx, conn, "vehicles", city)
	if err != nil {
		return err
	}
	id := w.newID()
	if _, err := conn.Exec(ctx, "INSERT INTO rides (id, city, vehicle_city, rider_id, vehicle_id, start_address, start_time) VALUES ($1, $2, $2, $3, $4, $5, now()::timestamp)",
		id, city, user, vehicle, streetAddress(w.r)); err != nil {
		return err
	}
	w.rides = append(w.rides, movrRide{id, city})
	return nil
}

// randomID finds the row of a city that is next to a random id.
func (w *movrWorker) randomID(ctx context.Context, conn *pgx.Conn, table, city string) (string, error) {
	var id string
	err := conn.QueryRow(ctx, "SELECT id::text FROM "+table+" WHERE city = $1 AND id >= $2 ORDER BY id LIMIT 1", city, w.newID()).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = conn.QueryRow(ctx, "SELECT id::text FROM "+table+" WHERE city = $1 ORDER BY id LIMIT 1", city).Scan(&id)
	}
	return id, err
}
