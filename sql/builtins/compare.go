package builtins

import (
	"bytes"
	"cmp"
	"math"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/cockroachdb/apd"
)

// Compare orders two values as PostgreSQL's default operator classes do: NULL
// after everything, NaN after all numbers, text by bytes, arrays by element and
// then length, records by column. It returns -1, 0 or 1.
func Compare(ctx *tree.EvalContext, a, b tree.Datum) int {
	switch l := a.(type) {
	case *tree.DInt:
		switch r := b.(type) {
		case *tree.DInt:
			return cmp.Compare(*l, *r)
		case *tree.DDecimal:
			return compareDecimal(apd.New(int64(*l), 0), &r.Decimal)
		}
	case *tree.DString:
		if r, ok := b.(*tree.DString); ok {
			return strings.Compare(string(*l), string(*r))
		}
	case *tree.DFloat:
		switch r := b.(type) {
		case *tree.DFloat:
			return CompareFloat(float64(*l), float64(*r))
		case *tree.DInt:
			return CompareFloat(float64(*l), float64(*r))
		case *tree.DDecimal:
			return CompareFloat(float64(*l), decimalToFloat(&r.Decimal))
		}
	case *tree.DDecimal:
		switch r := b.(type) {
		case *tree.DDecimal:
			return compareDecimal(&l.Decimal, &r.Decimal)
		case *tree.DInt:
			return compareDecimal(&l.Decimal, apd.New(int64(*r), 0))
		case *tree.DFloat:
			return CompareFloat(decimalToFloat(&l.Decimal), float64(*r))
		}
	case *tree.DTimestamp, *tree.DTimestampTZ, *tree.DDate:
		if ld, ok := l.(*tree.DDate); ok {
			if rd, ok := b.(*tree.DDate); ok {
				return cmp.Compare(ld.PGEpochDays(), rd.PGEpochDays())
			}
		}
		_, lz := a.(*tree.DTimestampTZ)
		_, rz := b.(*tree.DTimestampTZ)
		lt, lok := instant(ctx, a, lz || rz)
		rt, rok := instant(ctx, b, lz || rz)
		if lok && rok {
			return lt.Compare(rt)
		}
	case *tree.DInterval:
		if r, ok := b.(*tree.DInterval); ok {
			return compareInterval(l, r)
		}
	case *tree.DUuid:
		if r, ok := b.(*tree.DUuid); ok {
			return bytes.Compare(l.UUID[:], r.UUID[:])
		}
	case *tree.DArray:
		if r, ok := b.(*tree.DArray); ok {
			return compareDatums(ctx, l.Array, r.Array)
		}
	case *tree.DTuple:
		if r, ok := b.(*tree.DTuple); ok {
			return compareDatums(ctx, l.D, r.D)
		}
	case *tree.DJSON:
		if r, ok := b.(*tree.DJSON); ok {
			// An empty array at the top is below everything, for historical reasons.
			le, re := isEmptyArray(l.JSON), isEmptyArray(r.JSON)
			if le != re {
				if le {
					return -1
				}
				return 1
			}
			if c, err := l.JSON.Compare(r.JSON); err == nil {
				return c
			}
		}
	}
	switch {
	case a == tree.DNull && b == tree.DNull:
		return 0
	case a == tree.DNull:
		return 1
	case b == tree.DNull:
		return -1
	}
	if f, ok := b.(*tree.DFloat); ok && math.IsNaN(float64(*f)) {
		return -1 // The parser's own order has NaN first.
	}
	if lf, rf := a.ResolvedType().Family(), b.ResolvedType().Family(); lf != rf && !comparableFamilies(lf, rf) {
		// Type checking keeps such pairs away; the parser would panic.
		return cmp.Compare(lf, rf)
	}
	return a.Compare(ctx, b)
}

// comparableFamilies lists the mixed pairs that the parser's datums compare.
func comparableFamilies(a, b types.Family) bool {
	in := func(f types.Family, set ...types.Family) bool {
		for _, s := range set {
			if f == s {
				return true
			}
		}
		return false
	}
	for _, set := range [][]types.Family{
		{types.IntFamily, types.FloatFamily, types.DecimalFamily},
		{types.DateFamily, types.TimestampFamily, types.TimestampTZFamily},
		{types.TimeFamily, types.TimeTZFamily},
	} {
		if in(a, set...) && in(b, set...) {
			return true
		}
	}
	return false
}

// instant is the time of a date or timestamp; those without zone are read in the
// session's if zoned is set.
func instant(ctx *tree.EvalContext, d tree.Datum, zoned bool) (time.Time, bool) {
	local := func(t time.Time) time.Time {
		if zoned && ctx != nil {
			return inZone(t, ctx.GetLocation())
		}
		return t
	}
	switch v := d.(type) {
	case *tree.DTimestamp:
		return local(v.Time.UTC()), true
	case *tree.DTimestampTZ:
		return v.Time, true
	case *tree.DDate:
		t, err := dateTime(v)
		if err != nil {
			return pgdate.TimeInfinity, true // Later than any timestamp.
		}
		return local(t), true
	}
	return time.Time{}, false
}

func isEmptyArray(j json.JSON) bool { return j.Type() == json.ArrayJSONType && j.Len() == 0 }

func compareDatums(ctx *tree.EvalContext, l, r tree.Datums) int {
	for i := range min(len(l), len(r)) {
		if c := Compare(ctx, l[i], r[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(l), len(r))
}

// CompareFloat orders numbers with NaN equal to itself and above all others.
func CompareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	case math.IsNaN(a) && math.IsNaN(b):
		return 0
	case math.IsNaN(a):
		return 1
	}
	return -1
}

func compareDecimal(a, b *apd.Decimal) int {
	if an, bn := a.Form == apd.NaN, b.Form == apd.NaN; an || bn {
		switch {
		case an && bn:
			return 0
		case an:
			return 1
		}
		return -1
	}
	return a.Cmp(b)
}

func decimalToFloat(d *apd.Decimal) float64 {
	f, _ := d.Float64() // An error says that f is an infinity: too large.
	return f
}

// IntervalMicros is the length by which intervals compare: months count 30
// days, days 24 hours. hi is days, lo microseconds below a day.
func IntervalMicros(d *tree.DInterval) (days, micros int64) {
	const dayMicros = 24 * 60 * 60 * 1_000_000
	us := d.Duration.Nanos() / 1000
	days = d.Duration.Months*30 + d.Duration.Days + us/dayMicros
	micros = us % dayMicros
	if micros < 0 {
		micros += dayMicros
		days--
	}
	return days, micros
}

func compareInterval(a, b *tree.DInterval) int {
	ad, am := IntervalMicros(a)
	bd, bm := IntervalMicros(b)
	if c := cmp.Compare(ad, bd); c != 0 {
		return c
	}
	return cmp.Compare(am, bm)
}
