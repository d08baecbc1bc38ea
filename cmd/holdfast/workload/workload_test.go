package workload

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func defaultWorkload(name string) Workload {
	w := ByName(name)
	w.Flags(pflag.NewFlagSet("", pflag.ContinueOnError))
	return w
}

func TestMovrFacts(t *testing.T) {
	for _, tc := range []struct {
		i, n int
		want string
	}{
		{0, 50, "00000000-0000-4000-8000-000000000000"},
		{1, 50, "051eb851-eb85-4ec0-8000-000000000001"},
		{3, 50, "0f5c28f5-c28f-4c00-8000-000000000003"},
		{5, 50, "19999999-9999-4a00-8000-000000000005"},
	} {
		if got := movrID(tc.i, tc.n); got != tc.want {
			t.Errorf("id %d of %d: %s, want %s", tc.i, tc.n, got, tc.want)
		}
	}
	w := defaultWorkload("movr")
	want := map[string]int{"users": 50, "vehicles": 15, "rides": 500, "vehicle_location_histories": 1000, "promo_codes": 1000, "user_promo_codes": 0}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, tab := range w.Tables() {
		if tab.Rows != want[tab.Name] {
			t.Errorf("%s has %d rows, want %d", tab.Name, tab.Rows, want[tab.Name])
		}
		last := ""
		for i := range tab.Rows {
			row := tab.Row(i)
			if len(row) != len(tab.Columns) {
				t.Fatalf("%s row %d has %d values for %d columns", tab.Name, i, len(row), len(tab.Columns))
			}
			if fmt.Sprint(row) != fmt.Sprint(tab.Row(i)) {
				t.Fatalf("%s row %d is another one the second time", tab.Name, i)
			}
			if tab.Columns[0] == "id" {
				id := row[0].(string)
				if !uuid.MatchString(id) || id <= last {
					t.Errorf("%s row %d: id %s after %s", tab.Name, i, id, last)
				}
				last = id
			}
		}
	}
	first := fmt.Sprint(w.Tables()[0].Row(0))
	if first != "[00000000-0000-4000-8000-000000000000 new york Robert Murphy 99176 Anderson Mills 8885705228]" {
		t.Error(first)
	}
	// Foreign keys stay within the city, which is part of them.
	m := w.(*movr)
	users := map[string]bool{}
	for i := range m.users {
		r := m.userRow(i)
		users[fmt.Sprint(r[1], r[0])] = true
	}
	for i := range m.rides {
		if r := m.rideRow(i); !users[fmt.Sprint(r[1], r[3])] {
			t.Fatalf("ride %d has a rider who is not in %s", i, r[1])
		}
	}
	m.users = 5
	if err := m.Check(); err == nil || err.Error() != "at least 9 users are required" {
		t.Error(err)
	}
}

func TestCities(t *testing.T) {
	counts := map[string]int{}
	for i := range 50 {
		counts[movrCity(i, 50)]++
	}
	for _, c := range movrCities {
		if counts[c] < 5 || counts[c] > 6 {
			t.Errorf("%s has %d of 50 rows", c, counts[c])
		}
	}
	if movrCity(0, 9) != "new york" || movrCity(8, 9) != "rome" {
		t.Error(movrCity(0, 9), movrCity(8, 9))
	}
}

func TestHistogram(t *testing.T) {
	h := &histogram{}
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]float64{.5: 500, .95: 950, .99: 990, 1: 1000} {
		if got := h.quantile(q); got < want*.95 || got > want*1.06 {
			t.Errorf("quantile %v is %v ms, want about %v", q, got, want)
		}
	}
	if (&histogram{}).quantile(.5) != 0 {
		t.Error("an empty histogram has a median")
	}
}

func TestLiteral(t *testing.T) {
	for _, tc := range []struct {
		in   any
		want string
	}{{nil, "NULL"}, {1, "1"}, {"it's", "'it''s'"}, {[]byte{1, 255}, `'\x01ff'`}, {1.5, "1.5"},
		{time.Date(2019, 1, 2, 3, 4, 5, 6000, time.UTC), "'2019-01-02 03:04:05.000006'"}} {
		if got := literal(tc.in); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.in, got, tc.want)
		}
	}
}
