package builtins

import (
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/types"

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
