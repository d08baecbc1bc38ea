package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestLayersRandom lets connections to three nodes change rows and schema of the
// same tables at once. Afterwards, and after each schema change, every index must
// hold exactly what its table does, and each writer finds the rows it was told
// are there and no others.
func TestLayersRandom(t *testing.T) {
	length := 4 * time.Second
	if testing.Short() {
		length = 2 * time.Second
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	l := openLayers(t, 3, nil)
	c := l.conn(0)
	exec1(t, c, "CREATE TABLE m (id INT PRIMARY KEY, v INT, w TEXT, INDEX m_w (w))")
	exec1(t, c, "CREATE TABLE tr (id INT PRIMARY KEY, v INT, INDEX tr_v (v))")

	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var wg sync.WaitGroup
	var writers []*layerWriter
	for i := range 6 {
		w := &layerWriter{t: t, rng: rand.New(rand.NewSource(seed + int64(i))), c: l.conn(i % 3), base: (i + 1) * 1_000_000, rows: map[int]int{}}
		writers = append(writers, w)
		wg.Go(func() { w.run(ctx) })
	}
	var changers []*layerChanger
	for i := range 3 {
		d := &layerChanger{t: t, rng: rand.New(rand.NewSource(seed + 100 + int64(i))), c: l.conn(i), n: i}
		changers = append(changers, d)
		wg.Go(func() { d.run(ctx) })
	}
	wg.Wait()
	did, refused, changes := 0, 0, 0
	for _, w := range writers {
		did += w.did
		refused += w.refused
	}
	for _, d := range changers {
		changes += d.did
		t.Logf("schema changes of node %d: %d; %v", d.n+1, d.did, d.codes)
	}
	t.Logf("%d writes, %d refused, %d schema changes", did, refused, changes)
	if did < 100 || changes < 10 {
		t.Errorf("too little has happened")
	}
	for i := range l.nodes {
		c := l.conn(i)
		checkEveryIndex(t, c, "m")
		checkEveryIndex(t, c, "tr")
		for _, w := range writers {
			w.check(c)
		}
	}
}

// mayBeRefused says whether a statement may end with this error when schemas
// change around it. It has had no effect then.
func mayBeRefused(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	switch pe.Code {
	case "40001", "40P01", "42P01", "42703", "0A000", "55P03", "42P07", "42704", "42701", "23514", "23505", "42710":
		return true
	}
	return false
}

// layerWriter writes rows whose keys are its own, and remembers them.
type layerWriter struct {
	t            testing.TB
	rng          *rand.Rand
	c            *pgx.Conn
	base, next   int
	rows         map[int]int
	did, refused int
}

func (w *layerWriter) any() int {
	if len(w.rows) == 0 {
		return -1
	}
	ids := make([]int, 0, len(w.rows))
	for id := range w.rows {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids[w.rng.Intn(len(ids))]
}

func (w *layerWriter) run(ctx context.Context) {
	for ctx.Err() == nil {
		was := w.rows
		w.rows = make(map[int]int, len(was))
		for k, v := range was {
			w.rows[k] = v
		}
		err := w.step(context.Background())
		switch {
		case err == nil:
			w.did++
		case mayBeRefused(err):
			w.rows = was
			w.refused++
		default:
			w.t.Errorf("a write failed: %v", err)
			return
		}
	}
}

// step does one thing, which has happened if there is no error.
func (w *layerWriter) step(ctx context.Context) error {
	id, v := w.any(), w.rng.Intn(1000)
	exec := func(sql string, args ...any) error {
		_, err := w.c.Exec(ctx, sql, args...)
		return err
	}
	insert := func() error {
		w.next++
		w.rows[w.base+w.next] = v
		return exec("INSERT INTO m (id, v, w) VALUES ($1, $2, $3)", w.base+w.next, v, fmt.Sprint("w", v%7))
	}
	update := func() error {
		if id < 0 {
			return insert()
		}
		w.rows[id] = v
		return exec("UPDATE m SET v = $2, w = $3 WHERE id = $1", id, v, fmt.Sprint("w", v%7))
	}
	switch k := w.rng.Intn(10); {
	case k < 3 || id < 0:
		return insert()
	case k < 5:
		return update()
	case k < 6:
		delete(w.rows, id)
		return exec("DELETE FROM m WHERE id = $1", id)
	case k < 7:
		return exec("UPSERT INTO tr (id, v) VALUES ($1, $2)", w.rng.Intn(100), v)
	}
	// A transaction that lasts a while, over both tables.
	if err := exec("BEGIN"); err != nil {
		return err
	}
	err := update()
	if err == nil && w.rng.Intn(2) == 0 {
		time.Sleep(time.Duration(w.rng.Intn(20)) * time.Millisecond)
	}
	if err == nil {
		err = insert()
	}
	if err == nil && w.rng.Intn(3) == 0 {
		err = exec("UPSERT INTO tr (id, v) VALUES ($1, $2)", w.rng.Intn(100), v)
	}
	if err == nil {
		return exec("COMMIT")
	}
	if err2 := exec("ROLLBACK"); err2 != nil {
		return err2
	}
	return err
}

// check compares the table with what the writer knows.
func (w *layerWriter) check(c *pgx.Conn) {
	w.t.Helper()
	rows, err := c.Query(context.Background(), "SELECT id, v, w FROM m WHERE id BETWEEN $1 AND $2", w.base, w.base+999_999)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	found := 0
	for rows.Next() {
		var id, v int
		var s string
		if err := rows.Scan(&id, &v, &s); err != nil {
			w.t.Fatal(err)
		}
		if want, ok := w.rows[id]; !ok || want != v || s != fmt.Sprint("w", v%7) {
			w.t.Errorf("row %d has (%d, %s), should have %d (known: %v)", id, v, s, want, ok)
		}
		found++
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	if found != len(w.rows) {
		w.t.Errorf("%d rows of a writer, should be %d", found, len(w.rows))
	}
}

// layerChanger changes schemas.
type layerChanger struct {
	t     testing.TB
	rng   *rand.Rand
	c     *pgx.Conn
	n     int
	did   int
	codes map[string]int
}

func (d *layerChanger) run(ctx context.Context) {
	d.codes = map[string]int{}
	for i := 0; ctx.Err() == nil; i++ {
		stmts := d.statements(i)
		for _, sql := range stmts {
			began := time.Now()
			_, err := d.c.Exec(context.Background(), sql)
			if took := time.Since(began); took > 30*time.Second {
				d.t.Errorf("%s took %v: %v", sql, took, err)
			}
			if err == nil {
				d.did++
				d.codes[strings.Fields(sql)[0]]++
				continue
			}
			if !mayBeRefused(err) {
				d.t.Errorf("%s: %v", sql, err)
				return
			}
			d.codes[pgCode(err)]++
			if sql == "COMMIT" || strings.HasPrefix(sql, "BEGIN") {
				break
			}
		}
		if d.c.PgConn().TxStatus() != 'I' {
			_, _ = d.c.Exec(context.Background(), "ROLLBACK")
		}
		checkEveryIndex(d.t, d.c, "m")
	}
}

// statements returns a schema change, or several that belong together.
func (d *layerChanger) statements(i int) []string {
	name := fmt.Sprintf("x%d", d.rng.Intn(3))
	col := fmt.Sprintf("c%d", d.rng.Intn(3))
	switch d.rng.Intn(10) {
	case 0:
		return []string{"CREATE INDEX " + name + " ON m (v)"}
	case 1:
		return []string{"CREATE INDEX " + name + " ON m (w, v)"}
	case 2:
		return []string{"DROP INDEX " + name}
	case 3:
		return []string{fmt.Sprintf("ALTER TABLE m ADD COLUMN %s INT NOT NULL DEFAULT %d", col, i)}
	case 4:
		return []string{"ALTER TABLE m DROP COLUMN " + col}
	case 5:
		return []string{"ALTER TABLE m RENAME TO m2", "ALTER TABLE m2 RENAME TO m"}
	case 6:
		return []string{"TRUNCATE tr"}
	case 7:
		own := fmt.Sprintf("own%d", d.n)
		return []string{"CREATE TABLE " + own + " AS SELECT * FROM tr", "DROP TABLE " + own}
	case 8:
		return []string{"BEGIN", "SELECT count(*) FROM tr", "CREATE UNIQUE INDEX " + name + " ON m (v, id)", "COMMIT"}
	}
	return []string{"ALTER TABLE m ADD CONSTRAINT chk CHECK (v >= 0)", "ALTER TABLE m DROP CONSTRAINT chk"}
}

// checkEveryIndex compares all indexes of a table with its rows, in one snapshot.
func checkEveryIndex(t testing.TB, c *pgx.Conn, table string) {
	t.Helper()
	ctx := context.Background()
	tx, err := c.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // It only reads.
	check := func() error {
		rows, err := tx.Query(ctx, "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = $1", table)
		if err != nil {
			return err
		}
		cols := map[string]string{}
		for rows.Next() {
			var name, def string
			if err := rows.Scan(&name, &def); err != nil {
				return err
			}
			if name != table+"_pkey" {
				cols[name] = def[strings.LastIndex(def, "(")+1 : strings.LastIndex(def, ")")]
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		read := func(index, cols string) ([]string, error) {
			rows, err := tx.Query(ctx, "SELECT concat_ws('/', id, "+cols+") FROM "+table+"@"+index)
			if err != nil {
				return nil, err
			}
			out, err := pgx.CollectRows(rows, pgx.RowTo[string])
			slices.Sort(out)
			return out, err
		}
		for name, list := range cols {
			byIndex, err := read(name, list)
			if err != nil {
				return err
			}
			byRows, err := read(table+"_pkey", list)
			if err != nil {
				return err
			}
			if !slices.Equal(byIndex, byRows) {
				t.Errorf("index %s of %s has %d entries, the table %d rows, or they differ: %s", name, table, len(byIndex), len(byRows), firstDifference(byIndex, byRows))
			}
		}
		return nil
	}
	if err := check(); err != nil && !mayBeRefused(err) {
		t.Errorf("checking the indexes of %s: %v", table, err)
	}
}

func firstDifference(a, b []string) string {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return "only the table has " + b[i]
		case i >= len(b):
			return "only the index has " + a[i]
		case a[i] != b[i]:
			return fmt.Sprintf("%q in the index, %q in the table", a[i], b[i])
		}
	}
	return ""
}
