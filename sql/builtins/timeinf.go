package builtins

import (
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func isInfinite(t time.Time) bool {
	return t.Equal(pgdate.TimeInfinity) || t.Equal(pgdate.TimeNegativeInfinity)
}

// dateTime is midnight of a date, or the infinity that the date is.
func dateTime(d *tree.DDate) (time.Time, error) {
	switch {
	case d.IsFinite():
		t, err := d.ToTime()
		if err == nil && t.After(pgdate.TimeInfinity) {
			err = pgerr.New("22008", "date out of range for timestamp")
		}
		return t, MapError(err)
	case d.PGEpochDays() > 0:
		return pgdate.TimeInfinity, nil
	}
	return pgdate.TimeNegativeInfinity, nil
}

// toDate is the date of a wall clock, infinities included.
func toDate(t time.Time) (tree.Datum, error) {
	switch {
	case t.Equal(pgdate.TimeInfinity):
		return tree.NewDDate(pgdate.PosInfDate), nil
	case t.Equal(pgdate.TimeNegativeInfinity):
		return tree.NewDDate(pgdate.NegInfDate), nil
	}
	return tree.NewDDateFromTime(t)
}

// castTime casts between dates and timestamps; done is false for other values.
func castTime(ctx *tree.EvalContext, d tree.Datum, t *types.T) (out tree.Datum, done bool, err error) {
	var wall time.Time
	switch v := d.(type) {
	case *tree.DDate:
		if t.Family() == types.DateFamily {
			return d, true, nil
		}
		if wall, err = dateTime(v); err != nil {
			return nil, true, err
		}
	case *tree.DTimestamp:
		wall = v.Time.UTC()
	case *tree.DTimestampTZ:
		if t.Family() == types.TimestampTZFamily {
			if t.Precision() >= 6 || isInfinite(v.Time) {
				return d, true, nil
			}
			return nil, false, nil
		}
		wall = v.Time
		if !isInfinite(wall) {
			wall = wallUTC(wall.In(ctx.GetLocation()))
		}
	default:
		return nil, false, nil
	}
	switch t.Family() {
	case types.DateFamily:
		out, err = toDate(wall)
	case types.TimeFamily, types.TimeTZFamily:
		if isInfinite(wall) {
			return tree.DNull, true, nil
		}
		return nil, false, nil
	case types.TimestampFamily:
		out = &tree.DTimestamp{Time: wall}
	case types.TimestampTZFamily:
		out = &tree.DTimestampTZ{Time: inZone(wall, ctx.GetLocation())}
	default:
		return nil, false, nil
	}
	if err == nil && t.Precision() < 6 && t.Family() != types.DateFamily && !isInfinite(wall) {
		out, err = tree.PerformCast(ctx, out, t) // Rounds.
	}
	return out, true, MapError(err)
}

// addInterval adds months (keeping to the last day of shorter ones), then days, both
// on the calendar of loc, then time.
func addInterval(t time.Time, d duration.Duration, sign int64, loc *time.Location) (time.Time, error) {
	if isInfinite(t) {
		return t, nil
	}
	months, days, nanos := sign*d.Months, sign*d.Days, sign*d.Nanos()
	const most = 300_000 * 400 // More than the range of timestamps; keeps int arithmetic far from its edges.
	if months > most || months < -most || days > most*40 || days < -most*40 {
		return t, errTimestampRange()
	}
	if months != 0 || days != 0 {
		w := wallUTC(t.In(loc))
		y, m, day := w.Date()
		if months != 0 {
			first := time.Date(y, m+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
			last := time.Date(first.Year(), first.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
			y, m, day = first.Year(), first.Month(), min(day, last)
		}
		w = time.Date(y, m, day+int(days), w.Hour(), w.Minute(), w.Second(), w.Nanosecond(), time.UTC)
		t = inZone(w, loc)
	}
	t = t.Add(time.Duration(nanos)).UTC()
	if t.Before(pgdate.TimeNegativeInfinity) || t.After(pgdate.TimeInfinity) {
		return t, errTimestampRange()
	}
	return t, nil
}

func errTimestampRange() error { return pgerr.New("22008", "timestamp out of range") }

// registerTimeOps gives dates and timestamps the arithmetic of PostgreSQL: infinities
// stay what they are, and days follow the calendar of the session's zone.
func registerTimeOps(set func(op tree.BinaryOperator, l, r *types.T, fn binFn)) {
	shift := func(ctx *tree.EvalContext, v, by tree.Datum, sign int64) (tree.Datum, error) {
		d := by.(*tree.DInterval).Duration
		switch v := v.(type) {
		case *tree.DTimestamp:
			t, err := addInterval(v.Time.UTC(), d, sign, time.UTC)
			return &tree.DTimestamp{Time: t}, err
		case *tree.DTimestampTZ:
			t, err := addInterval(v.Time, d, sign, ctx.GetLocation())
			return &tree.DTimestampTZ{Time: t}, err
		}
		t, err := dateTime(v.(*tree.DDate))
		if err == nil {
			t, err = addInterval(t, d, sign, time.UTC)
		}
		return &tree.DTimestamp{Time: t}, err
	}
	for _, typ := range []*types.T{types.Timestamp, types.TimestampTZ, types.Date} {
		set(tree.Plus, typ, types.Interval, func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) { return shift(ctx, l, r, 1) })
		set(tree.Plus, types.Interval, typ, func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) { return shift(ctx, r, l, 1) })
		set(tree.Minus, typ, types.Interval, func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) { return shift(ctx, l, r, -1) })
	}
	dateAndTime := func(l, r tree.Datum) (tree.Datum, error) {
		t, err := dateTime(l.(*tree.DDate))
		if err == nil && !isInfinite(t) {
			t = t.Add(time.Duration(*r.(*tree.DTime)) * time.Microsecond)
		}
		return &tree.DTimestamp{Time: t}, err
	}
	set(tree.Plus, types.Date, types.Time, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) { return dateAndTime(l, r) })
	set(tree.Plus, types.Time, types.Date, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) { return dateAndTime(r, l) })

	// timestamp - timestamp counts whole days as days.
	sub := func(l, r time.Time) (tree.Datum, error) {
		if isInfinite(l) || isInfinite(r) {
			return nil, pgerr.New("22008", "cannot subtract infinite timestamps")
		}
		return diffDays(l.UnixMicro() - r.UnixMicro()), nil
	}
	set(tree.Minus, types.Timestamp, types.Timestamp, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		return sub(l.(*tree.DTimestamp).Time, r.(*tree.DTimestamp).Time)
	})
	set(tree.Minus, types.TimestampTZ, types.TimestampTZ, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		return sub(l.(*tree.DTimestampTZ).Time, r.(*tree.DTimestampTZ).Time)
	})
	set(tree.Minus, types.Timestamp, types.TimestampTZ, func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		return sub(inZone(l.(*tree.DTimestamp).Time.UTC(), ctx.GetLocation()), r.(*tree.DTimestampTZ).Time)
	})
	set(tree.Minus, types.TimestampTZ, types.Timestamp, func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		return sub(l.(*tree.DTimestampTZ).Time, inZone(r.(*tree.DTimestamp).Time.UTC(), ctx.GetLocation()))
	})
}
