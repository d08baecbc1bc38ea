package builtins

import (
	"math"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/duration"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// TestRanges reads texts at the edges of what their types hold.
func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		text string
		typ  *types.T
		code pgerr.Code
	}{
		{"1e200000", types.Decimal, "22003"},
		{"1e-x", types.Decimal, "22P02"},
		{"1e100", types.Decimal, ""},
		{"2562047:00", types.Interval, ""},
		{"9999999999:00", types.Interval, "22015"},
		{"9999999999999 seconds", types.Interval, "22015"},
		{"2147483647 days", types.Interval, ""},
		{"3000000000 days", types.Interval, "22015"},
		{"178000000 years", types.Interval, ""},
		{"200000000 years", types.Interval, "22008"},
		{"1 year 2 mons 3 days 04:05:06.789", types.Interval, ""},
		{"P1Y2M3DT4H5M6S", types.Interval, ""},
		{"294276-12-31 23:59:59.999999", types.Timestamp, ""},
		{"294277-01-01", types.Timestamp, "22008"},
		{"1e-400", types.Float, "22003"},
		{"0e-400", types.Float, ""},
		{"infinity", types.Timestamp, ""},
		{"infinity", types.TimestampTZ, ""},
		{"-infinity", types.TimestampTZ, ""},
	} {
		_, err := parseText(tc.text, tc.typ)
		if got := pgerr.GetCode(err); (err != nil || tc.code != "") && got != tc.code {
			t.Errorf("%q as %s: %v (%s), want %q", tc.text, tc.typ, err, got, tc.code)
		}
	}
}

// TestIntervalArithmetic: sums and products that PostgreSQL's intervals do not hold
// are errors.
func TestIntervalArithmetic(t *testing.T) {
	iv := func(months, days, seconds int64) duration.Duration {
		return duration.MakeDuration(seconds*1e9, days, months)
	}
	const most = 1<<31 - 1
	for _, tc := range []struct {
		name string
		get  func() (tree.Datum, error)
		want string // "" for out of range
	}{
		{"sum", func() (tree.Datum, error) { return addIntervals(iv(1, 2, 3), iv(4, -5, 6)) }, "5 mons -3 days +00:00:09"},
		{"months", func() (tree.Datum, error) { return addIntervals(iv(most, 0, 0), iv(1, 0, 0)) }, ""},
		{"days", func() (tree.Datum, error) { return addIntervals(iv(0, -most, 0), iv(0, -2, 0)) }, ""},
		{"time", func() (tree.Datum, error) { return addIntervals(iv(0, 0, 9e9), iv(0, 0, 9e9)) }, ""},
		{"time below", func() (tree.Datum, error) { return addIntervals(iv(0, 0, -9e9), iv(0, 0, -9e9)) }, ""},
		{"product", func() (tree.Datum, error) { return scaleInterval(iv(1, 1, 1), 2.5, 0, false) }, "2 mons 17 days 12:00:02.5"},
		{"product of months", func() (tree.Datum, error) { return scaleInterval(iv(1, 0, 0), 1e18, 0, false) }, ""},
		{"product of days", func() (tree.Datum, error) { return scaleInterval(iv(0, 1, 0), -1e18, 0, false) }, ""},
		{"product of time", func() (tree.Datum, error) { return scaleInterval(iv(0, 0, 1), 1e12, 0, false) }, ""},
		{"not a number", func() (tree.Datum, error) { return scaleInterval(iv(1, 0, 0), math.NaN(), 0, false) }, ""},
		{"quotient", func() (tree.Datum, error) { return scaleInterval(iv(1, 0, 0), 0, 1e-300, true) }, ""},
	} {
		d, err := tc.get()
		switch {
		case tc.want == "" && pgerr.GetCode(err) != "22008":
			t.Errorf("%s: %v, %v, want out of range", tc.name, d, err)
		case tc.want != "" && (err != nil || d.(*tree.DInterval).Duration.String() != tc.want):
			t.Errorf("%s: %v, %v, want %s", tc.name, d, err, tc.want)
		}
	}
}
