package sql

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// followerReadLag is how far follower_read_timestamp() lies in the past.
const followerReadLag = 4200 * time.Millisecond

// evalAsOfTimestamp evaluates the expression of AS OF SYSTEM TIME: a timestamp,
// an interval before now, nanoseconds, or an HLC decimal.
func evalAsOfTimestamp(p *planner, as tree.AsOfClause) (hlc.Timestamp, error) {
	now := p.evalCtx.StmtTimestamp
	if fe, ok := stripParens(as.Expr).(*tree.FuncExpr); ok {
		return asOfFunction(p, fe, now)
	}
	if hasSelect(as.Expr) {
		return hlc.Timestamp{}, errAsOfNotConstant()
	}
	te, err := builtins.TypeCheck(&p.semaCtx, as.Expr, types.String)
	if err != nil {
		return hlc.Timestamp{}, asOfError("%v", err)
	}
	if !isConstant(te) {
		if ph, ok := te.(*tree.Placeholder); ok {
			if p.preparing {
				return hlc.Timestamp{}, nil
			}
			d, err := p.argument(ph)
			if err != nil {
				return hlc.Timestamp{}, err
			}
			return asOfDatum(p, d, now)
		}
		return hlc.Timestamp{}, errAsOfNotConstant()
	}
	d, err := te.Eval(&p.evalCtx)
	if err != nil {
		return hlc.Timestamp{}, asOfError("%v", err)
	}
	return asOfDatum(p, d, now)
}

func asOfError(format string, args ...any) error {
	return pgerr.Newf(pgerr.InvalidParameterValue, "AS OF SYSTEM TIME: "+format, args...)
}

func errAsOfNotConstant() error {
	return asOfError("only constant expressions, with_min_timestamp, with_max_staleness, or follower_read_timestamp are allowed")
}

// hasSelect says whether a query stands in e.
func hasSelect(e tree.Expr) bool {
	found := false
	_, _ = tree.SimpleVisit(e, func(e tree.Expr) (bool, tree.Expr, error) {
		if _, ok := e.(*tree.Subquery); ok {
			found = true
		}
		return !found, e, nil
	})
	return found
}

func asOfFunction(p *planner, fe *tree.FuncExpr, now time.Time) (hlc.Timestamp, error) {
	name := strings.ToLower(fe.Func.String())
	switch name {
	case "follower_read_timestamp", "experimental_follower_read_timestamp":
		return hlc.Timestamp{WallTime: now.Add(-followerReadLag).UnixNano()}, nil
	case "with_min_timestamp", "with_max_staleness":
		if len(fe.Exprs) < 1 {
			return hlc.Timestamp{}, asOfError("%s needs an argument", name)
		}
		want := types.TimestampTZ
		if name == "with_max_staleness" {
			want = types.Interval
		}
		te, err := builtins.TypeCheck(&p.semaCtx, fe.Exprs[0], want)
		if err != nil {
			return hlc.Timestamp{}, asOfError("%v", err)
		}
		d, err := te.Eval(&p.evalCtx)
		if err != nil {
			return hlc.Timestamp{}, asOfError("%v", err)
		}
		if iv, ok := d.(*tree.DInterval); ok {
			// The bound is the oldest that will do; the newest is as good.
			if iv.Duration.Nanos() < 0 {
				return hlc.Timestamp{}, asOfError("interval duration for with_max_staleness must be greater or equal to 0")
			}
			return hlc.Timestamp{WallTime: now.Add(-time.Microsecond).UnixNano()}, nil
		}
		ts, err := asOfDatum(p, d, now)
		if err != nil {
			return ts, err
		}
		if newest := (hlc.Timestamp{WallTime: now.Add(-time.Microsecond).UnixNano()}); ts.Less(newest) {
			return newest, nil
		}
		return ts, nil
	}
	return hlc.Timestamp{}, errAsOfNotConstant()
}

// wallNanos returns t in nanoseconds since the Unix epoch; what is beyond the
// reach of an int64 becomes the nearest that is not.
func wallNanos(t time.Time) int64 {
	switch y := t.Year(); {
	case y >= 2262:
		return math.MaxInt64
	case y < 1678:
		return math.MinInt64
	}
	return t.UnixNano()
}

// asOfDatum converts a value to a timestamp.
func asOfDatum(p *planner, d tree.Datum, now time.Time) (hlc.Timestamp, error) {
	var ts hlc.Timestamp
	switch t := d.(type) {
	case *tree.DString:
		s := strings.TrimSpace(string(*t))
		if dt, err := tree.ParseDTimestampTZ(&p.evalCtx, s, time.Microsecond); err == nil && !looksNumeric(s) {
			ts.WallTime = wallNanos(dt.Time)
			break
		}
		if looksNumeric(s) {
			if dec, _, err := apd.NewFromString(s); err == nil {
				var err error
				if ts, err = decimalToHLC(dec); err != nil {
					return ts, err
				}
				break
			}
		}
		iv, err := tree.ParseDInterval(s)
		if err != nil {
			return ts, asOfError("value is neither timestamp, decimal, nor interval")
		}
		return asOfDatum(p, iv, now)
	case *tree.DTimestamp:
		ts.WallTime = wallNanos(t.Time)
	case *tree.DTimestampTZ:
		ts.WallTime = wallNanos(t.Time)
	case *tree.DInt:
		ts.WallTime = int64(*t)
	case *tree.DDecimal:
		var err error
		if ts, err = decimalToHLC(&t.Decimal); err != nil {
			return ts, err
		}
	case *tree.DInterval:
		if (t.Duration == duration.Duration{}) {
			return ts, asOfError("interval value %s too small, absolute value must be >= 1µs", t)
		}
		ts.WallTime = wallNanos(duration.Add(now, t.Duration))
	default:
		return ts, asOfError("expected timestamp, decimal, or interval, got %s", typeName(d.ResolvedType()))
	}
	switch {
	case ts.IsEmpty():
		return ts, asOfError("zero timestamp is invalid")
	case ts.WallTime < 0:
		return ts, asOfError("timestamp before 1970-01-01T00:00:00Z is invalid")
	case p.srv.clock.Now().Less(ts):
		return ts, asOfError("cannot specify timestamp in the future (%s > %s)", ts, p.srv.clock.Now())
	}
	return ts, nil
}

func looksNumeric(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return true
}

// decimalToHLC reads wall nanoseconds and, in ten digits after the point, the
// logical part.
func decimalToHLC(d *apd.Decimal) (hlc.Timestamp, error) {
	var ts hlc.Timestamp
	text := d.Text('f')
	wall, frac, _ := strings.Cut(text, ".")
	w, ok := new(big.Int).SetString(wall, 10)
	if !ok || !w.IsInt64() {
		return ts, asOfError("%s is out of range", text)
	}
	ts.WallTime = w.Int64()
	if frac != "" {
		if len(frac) > 10 {
			return ts, asOfError("logical part has too many digits")
		}
		frac += strings.Repeat("0", 10-len(frac))
		l, err := strconv.ParseInt(frac, 10, 32)
		if err != nil {
			return ts, asOfError("logical part of %s is out of range", text)
		}
		ts.Logical = int32(l)
	}
	return ts, nil
}
