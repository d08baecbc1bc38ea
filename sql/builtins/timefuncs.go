package builtins

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/timeofday"
	"github.com/auxten/postgresql-parser/pkg/util/timetz"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

func defineTime(d definitions) {
	defineNow(d)
	defineExtract(d)
	defineMakeTime(d)

	for _, typ := range ts(tTS, tTSTZ, tDate, tIval) {
		ret := typ
		if typ == tDate {
			ret = tTSTZ // PostgreSQL casts a date to timestamptz here.
		}
		d.scalar("date_trunc", ts(tText, typ), ret, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			field := strings.ToLower(strings.TrimSpace(str(a[0])))
			switch v := a[1].(type) {
			case *tree.DInterval:
				return truncInterval(field, v)
			case *tree.DTimestamp:
				if isInfinite(v.Time) {
					return v, nil
				}
				t, err := truncTime(field, v.Time.UTC(), "timestamp without time zone")
				return &tree.DTimestamp{Time: t}, err
			case *tree.DTimestampTZ:
				if isInfinite(v.Time) {
					return v, nil
				}
				t, err := truncTime(field, v.Time.In(ctx.GetLocation()), "timestamp with time zone")
				return &tree.DTimestampTZ{Time: t}, err
			}
			tz, err := CastDatum(ctx, a[1], tTSTZ, ExplicitCast)
			if err != nil {
				return nil, err
			}
			if isInfinite(tz.(*tree.DTimestampTZ).Time) {
				return tz, nil
			}
			t, err := truncTime(field, tz.(*tree.DTimestampTZ).Time.In(ctx.GetLocation()), "timestamp with time zone")
			return &tree.DTimestampTZ{Time: t}, err
		})
	}
	d.scalar("date_trunc", ts(tText, tTSTZ, tText), tTSTZ, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		loc, err := zone(str(a[2]))
		if err != nil {
			return nil, err
		}
		if isInfinite(a[1].(*tree.DTimestampTZ).Time) {
			return a[1], nil
		}
		t, err := truncTime(strings.ToLower(str(a[0])), a[1].(*tree.DTimestampTZ).Time.In(loc), "timestamp with time zone")
		return &tree.DTimestampTZ{Time: t}, err
	})
	d.scalar("date_bin", ts(tIval, tTS, tTS), tTS, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, err := dateBin(a[0].(*tree.DInterval).Duration, a[1].(*tree.DTimestamp).Time, a[2].(*tree.DTimestamp).Time)
		return &tree.DTimestamp{Time: t}, err
	})
	d.scalar("date_bin", ts(tIval, tTSTZ, tTSTZ), tTSTZ, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, err := dateBin(a[0].(*tree.DInterval).Duration, a[1].(*tree.DTimestampTZ).Time, a[2].(*tree.DTimestampTZ).Time)
		return &tree.DTimestampTZ{Time: t}, err
	})

	age := func(a, b time.Time) (tree.Datum, error) {
		if isInfinite(a) || isInfinite(b) {
			return nil, errTimestampRange()
		}
		return &tree.DInterval{Duration: ageOf(a, b)}, nil
	}
	d.scalar("age", ts(tTS, tTS), tIval, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return age(a[0].(*tree.DTimestamp).Time.UTC(), a[1].(*tree.DTimestamp).Time.UTC())
	})
	d.scalar("age", ts(tTSTZ, tTSTZ), tIval, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		loc := ctx.GetLocation()
		return age(a[0].(*tree.DTimestampTZ).Time.In(loc), a[1].(*tree.DTimestampTZ).Time.In(loc))
	})
	today := func(ctx *tree.EvalContext) time.Time {
		n := ctx.GetRelativeParseTime()
		return time.Date(n.Year(), n.Month(), n.Day(), 0, 0, 0, 0, n.Location())
	}
	d.scalar("age", ts(tTS), tIval, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := today(ctx)
		return age(time.Date(n.Year(), n.Month(), n.Day(), 0, 0, 0, 0, time.UTC), a[0].(*tree.DTimestamp).Time.UTC())
	})
	d.scalar("age", ts(tTSTZ), tIval, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return age(today(ctx), a[0].(*tree.DTimestampTZ).Time.In(ctx.GetLocation()))
	})

	// AT TIME ZONE gives the zone last, the function has it first.
	toZoned := func(ts, zn int) fn {
		return func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			loc, err := zoneOf(a[zn])
			if err != nil {
				return nil, err
			}
			t := a[ts].(*tree.DTimestamp).Time.UTC()
			return &tree.DTimestampTZ{Time: inZone(t, loc)}, nil
		}
	}
	toLocal := func(ts, zn int) fn {
		return func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			loc, err := zoneOf(a[zn])
			if err != nil {
				return nil, err
			}
			t := a[ts].(*tree.DTimestampTZ).Time
			if !isInfinite(t) {
				t = wallUTC(t.In(loc))
			}
			return &tree.DTimestamp{Time: t}, nil
		}
	}
	toTTZ := func(ts, zn int) fn {
		return func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			loc, err := zoneOf(a[zn])
			if err != nil {
				return nil, err
			}
			v := a[ts].(*tree.DTimeTZ)
			_, off := ctx.GetRelativeParseTime().In(loc).Zone()
			utc := int64(v.TimeOfDay) + int64(v.OffsetSecs)*1e6
			local := ((utc+int64(off)*1e6)%dayMicros + dayMicros) % dayMicros
			return tree.NewDTimeTZ(timetz.MakeTimeTZ(timeofday.TimeOfDay(local), int32(-off))), nil
		}
	}
	// A time without zone is the session's.
	timeToTTZ := func(ts, zn int) fn {
		to := toTTZ(ts, zn)
		return func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			args := append(tree.Datums(nil), a...)
			_, off := ctx.GetRelativeParseTime().In(ctx.GetLocation()).Zone()
			args[ts] = tree.NewDTimeTZ(timetz.MakeTimeTZ(timeofday.TimeOfDay(*a[ts].(*tree.DTime)), int32(-off)))
			return to(ctx, args)
		}
	}
	for _, z := range ts(tText, tIval) {
		d.scalar("timezone", ts(tTime, z), tTTZ, timeToTTZ(0, 1))
		d.scalar("timezone", ts(z, tTime), tTTZ, timeToTTZ(1, 0))
		d.scalar("timezone", ts(tTSTZ, z), tTS, toLocal(0, 1))
		d.scalar("timezone", ts(tTS, z), tTSTZ, toZoned(0, 1))
		d.scalar("timezone", ts(tTTZ, z), tTTZ, toTTZ(0, 1))
		d.scalar("timezone", ts(z, tTSTZ), tTS, toLocal(1, 0))
		d.scalar("timezone", ts(z, tTS), tTSTZ, toZoned(1, 0))
		d.scalar("timezone", ts(z, tTTZ), tTTZ, toTTZ(1, 0))
	}

	ival := func(name string, f func(duration.Duration) duration.Duration) {
		d.scalar(name, ts(tIval), tIval, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return &tree.DInterval{Duration: f(a[0].(*tree.DInterval).Duration)}, nil
		})
	}
	ival("justify_hours", justifyHours)
	ival("justify_days", justifyDays)
	ival("justify_interval", justifyInterval)
	for _, typ := range ts(tTS, tTSTZ) {
		d.scalar("isfinite", ts(typ), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			switch v := a[0].(type) {
			case *tree.DTimestamp:
				return dbool(!isInfinite(v.Time))
			case *tree.DTimestampTZ:
				return dbool(!isInfinite(v.Time))
			}
			return tree.DBoolTrue, nil
		})
	}
	d.scalar("isfinite", ts(tIval), tBool, func(*tree.EvalContext, tree.Datums) (tree.Datum, error) { return tree.DBoolTrue, nil })

	defineTimeFormat(d)
	defineNumberFormat(d)
}

func defineNow(d definitions) {
	now := func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return ctx.GetTxnTimestamp(precision(a)), nil
	}
	for _, n := range []string{"now", "transaction_timestamp", "current_timestamp"} {
		d.scalar(n, nil, tTSTZ, now)
	}
	d.scalar("current_timestamp", ts(tInt), tTSTZ, now)
	localNow := func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return ctx.GetTxnTimestampNoZone(precision(a)), nil
	}
	d.scalar("localtimestamp", nil, tTS, localNow)
	d.scalar("localtimestamp", ts(tInt), tTS, localNow)
	d.scalar("statement_timestamp", nil, tTSTZ, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		return tree.MakeDTimestampTZ(ctx.GetStmtTimestamp(), time.Microsecond), nil
	})
	d.scalar("clock_timestamp", nil, tTSTZ, func(*tree.EvalContext, tree.Datums) (tree.Datum, error) {
		return tree.MakeDTimestampTZ(time.Now(), time.Microsecond), nil
	}, volatile)
	d.scalar("timeofday", nil, tText, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		return text(time.Now().In(ctx.GetLocation()).Format("Mon Jan 02 15:04:05.000000 2006 MST"))
	}, volatile)
	d.scalar("current_date", nil, tDate, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		return tree.NewDDateFromTime(ctx.GetRelativeParseTime())
	})
	cur := func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return ctx.GetTxnTime(precision(a)), nil
	}
	d.scalar("current_time", nil, tTTZ, cur)
	d.scalar("current_time", ts(tInt), tTTZ, cur)
	local := func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return ctx.GetTxnTimeNoZone(precision(a)), nil
	}
	d.scalar("localtime", nil, tTime, local)
	d.scalar("localtime", ts(tInt), tTime, local)
	sleep := func(ctx *tree.EvalContext, for_ time.Duration) (tree.Datum, error) {
		c := ctx.Context
		if c == nil {
			c = context.Background()
		}
		t := time.NewTimer(for_)
		defer t.Stop()
		select {
		case <-t.C:
			return void()
		case <-c.Done():
			return nil, c.Err()
		}
	}
	d.scalar("pg_sleep", ts(tFloat), typVoid, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return sleep(ctx, time.Duration(float(a[0])*float64(time.Second)))
	}, volatile)
	d.scalar("pg_sleep_for", ts(tIval), typVoid, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		days, micros := IntervalMicros(a[0].(*tree.DInterval))
		return sleep(ctx, time.Duration(days)*24*time.Hour+time.Duration(micros)*time.Microsecond)
	}, volatile)
	d.scalar("pg_sleep_until", ts(tTSTZ), typVoid, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return sleep(ctx, time.Until(a[0].(*tree.DTimestampTZ).Time))
	}, volatile)
}

// precision reads the optional argument of current_timestamp(p) and the like.
func precision(a tree.Datums) time.Duration {
	p := int64(6)
	if len(a) > 0 {
		p = min(max(num(a[0]), 0), 6)
	}
	return tree.TimeFamilyPrecisionToRoundDuration(int32(p))
}

// inZone reads the wall clock of t as local time of loc.
func inZone(t time.Time, loc *time.Location) time.Time { return pgcodec.InZone(t, loc) }

// wallUTC keeps the wall clock of t and drops its zone.
func wallUTC(t time.Time) time.Time {
	if isInfinite(t) {
		return t
	}
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

func zoneOf(d tree.Datum) (*time.Location, error) {
	if iv, ok := d.(*tree.DInterval); ok {
		return time.FixedZone("", int(iv.Duration.Nanos()/1e9)), nil
	}
	return zone(str(d))
}

// zoneAbbrevs are the common abbreviations of PostgreSQL's default set that the
// time zone database does not know as zones.
var zoneAbbrevs = map[string]int{
	"utc": 0, "gmt": 0, "z": 0, "zulu": 0, "ut": 0, "wet": 0, "west": 3600, "bst": 3600, "cet": 3600, "cest": 7200, "met": 3600,
	"mest": 7200, "eet": 7200, "eest": 10800, "msk": 10800, "ist": 7200, "est": -18000, "edt": -14400, "cst": -21600,
	"cdt": -18000, "mst": -25200, "mdt": -21600, "pst": -28800, "pdt": -25200, "akst": -32400, "akdt": -28800, "hst": -36000,
	"jst": 32400, "kst": 32400, "aest": 36000, "aedt": 39600, "acst": 34200, "awst": 28800, "nzst": 43200, "nzdt": 46800, "brt": -10800,
	"art": -10800, "sgt": 28800, "hkt": 28800, "pkt": 18000,
}

func zone(name string) (*time.Location, error) {
	name = strings.TrimSpace(name)
	if off, ok := zoneAbbrevs[strings.ToLower(name)]; ok {
		return time.FixedZone(strings.ToUpper(name), off), nil
	}
	if off, ok := posixOffset(name); ok {
		// POSIX: positive is west of Greenwich.
		return time.FixedZone("", -off), nil
	}
	if loc, err := time.LoadLocation(name); err == nil && name != "" && !strings.EqualFold(name, "local") {
		return loc, nil
	}
	// Names are found in any case.
	parts := strings.Split(strings.ToLower(name), "/")
	for i, p := range parts {
		words := strings.Split(p, "_")
		for j, w := range words {
			if w != "" && w != "of" && w != "au" {
				words[j] = strings.ToUpper(w[:1]) + w[1:]
			}
		}
		parts[i] = strings.Join(words, "_")
	}
	for _, try := range []string{strings.Join(parts, "/"), strings.ToUpper(name)} {
		if loc, err := time.LoadLocation(try); err == nil && try != "" {
			return loc, nil
		}
	}
	return nil, pgerr.Newf("22023", "time zone %q not recognized", name)
}

// posixOffset reads +hh[:mm[:ss]], also after an abbreviation as in UTC+3.
func posixOffset(s string) (int, bool) {
	i := strings.IndexAny(s, "+-")
	if i < 0 || i > 5 || strings.Contains(s, "/") {
		return 0, false
	}
	for _, c := range s[:i] {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return 0, false
		}
	}
	off := 0
	unit := 3600
	for _, p := range strings.Split(s[i+1:], ":") {
		n, err := strconv.Atoi(p)
		if err != nil || unit == 0 {
			return 0, false
		}
		if unit == 3600 && len(p) == 4 {
			n, off = n/100, off+n%100*60
		}
		off += n * unit
		unit /= 60
	}
	if s[i] == '-' {
		off = -off
	}
	return off, true
}

func defineExtract(d definitions) {
	for _, typ := range ts(tTS, tTSTZ, tDate, tTime, tTTZ, tIval) {
		name := typeName(typ)
		get := func(ctx *tree.EvalContext, a tree.Datums) (*apd.Decimal, error) {
			return extractField(ctx, strings.ToLower(strings.TrimSpace(str(a[0]))), a[1], name)
		}
		d.scalar("extract", ts(tText, typ), tDec, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			v, err := get(ctx, a)
			if err != nil || v == nil {
				return tree.DNull, err
			}
			return &tree.DDecimal{Decimal: *v}, nil
		})
		d.scalar("date_part", ts(tText, typ), tFloat, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			v, err := get(ctx, a)
			if err != nil || v == nil {
				return tree.DNull, err
			}
			return dfloat(decimalToFloat(v))
		})
	}
	d.scalar("extract_duration", ts(tText, tIval), tInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		days, micros := IntervalMicros(a[1].(*tree.DInterval))
		secs := days*86400 + micros/1e6
		switch f := strings.ToLower(str(a[0])); f {
		case "hour", "hours":
			return dint(secs / 3600)
		case "minute", "minutes":
			return dint(secs / 60)
		case "second", "seconds":
			return dint(secs)
		case "millisecond", "milliseconds":
			return dint((days*dayMicros + micros) / 1000)
		case "microsecond", "microseconds":
			return dint(days*dayMicros + micros)
		default:
			return nil, pgerr.Newf("22023", "unsupported timespan: %s", f)
		}
	})
}

func decOf(v int64, scale int32) *apd.Decimal { return apd.New(v, -scale) }

// extractField is extract(): nil stands for NULL.
func extractField(ctx *tree.EvalContext, field string, d tree.Datum, typ string) (*apd.Decimal, error) {
	unknown := func() error {
		if knownFields[field] {
			return pgerr.Newf(pgerr.FeatureNotSupported, "unit %q not supported for type %s", field, typ)
		}
		return pgerr.Newf("22023", "unit %q not recognized for type %s", field, typ)
	}
	sub := func(micros int64) (*apd.Decimal, bool) { // fields of the time of day
		switch field {
		case "microseconds", "microsecond", "us":
			return decOf(micros%60e6, 0), true
		case "milliseconds", "millisecond", "ms":
			return decOf(micros%60e6, 3), true
		case "second", "seconds", "sec", "s":
			return decOf(micros%60e6, 6), true
		case "minute", "minutes", "min", "m":
			return decOf(micros/60e6%60, 0), true
		case "hour", "hours", "hr", "h":
			return decOf(micros/3600e6, 0), true
		}
		return nil, false
	}
	var t time.Time
	zoned, date := false, false
	switch v := d.(type) {
	case *tree.DTimestamp:
		t = v.Time.UTC()
	case *tree.DTimestampTZ:
		t, zoned = v.Time.In(ctx.GetLocation()), true
		if isInfinite(v.Time) {
			t = v.Time
		}
	case *tree.DDate:
		date = true
		if !v.IsFinite() {
			t = pgdate.TimeInfinity
			if v.PGEpochDays() < 0 {
				t = pgdate.TimeNegativeInfinity
			}
		} else {
			var err error
			if t, err = v.ToTime(); err != nil {
				return nil, MapError(err)
			}
		}
	case *tree.DTime:
		if r, ok := sub(int64(*v)); ok {
			return r, nil
		}
		if field == "epoch" {
			return decOf(int64(*v), 6), nil
		}
		return nil, unknown()
	case *tree.DTimeTZ:
		switch field {
		case "timezone":
			return decOf(int64(-v.OffsetSecs), 0), nil
		case "timezone_hour":
			return decOf(int64(-v.OffsetSecs)/3600, 0), nil
		case "timezone_minute":
			return decOf(int64(-v.OffsetSecs)/60%60, 0), nil
		case "epoch":
			return decOf(int64(v.TimeOfDay)+int64(v.OffsetSecs)*1e6, 6), nil
		}
		if r, ok := sub(int64(v.TimeOfDay)); ok {
			return r, nil
		}
		return nil, unknown()
	case *tree.DInterval:
		return extractInterval(field, v.Duration, unknown)
	}
	if isInfinite(t) {
		inf := &apd.Decimal{Form: apd.Infinite, Negative: t.Equal(pgdate.TimeNegativeInfinity)}
		switch field {
		case "year", "years", "epoch", "julian", "century", "centuries", "decade", "decades", "millennium", "millennia", "isoyear":
			return inf, nil
		}
		return nil, nil
	}
	if date {
		switch field {
		case "microseconds", "milliseconds", "second", "seconds", "minute", "minutes", "hour", "hours", "timezone", "timezone_hour", "timezone_minute":
			return nil, unknown()
		}
	}
	micros := int64(t.Hour())*3600e6 + int64(t.Minute())*60e6 + int64(t.Second())*1e6 + int64(t.Nanosecond()/1000)
	if r, ok := sub(micros); ok {
		return r, nil
	}
	y := t.Year()
	pgYear := func(y int) int { // There is no year 0.
		if y <= 0 {
			return y - 1
		}
		return y
	}
	switch field {
	case "day", "days", "d":
		return decOf(int64(t.Day()), 0), nil
	case "month", "months", "mon", "mons":
		return decOf(int64(t.Month()), 0), nil
	case "quarter", "qtr":
		return decOf(int64(t.Month()-1)/3+1, 0), nil
	case "week", "weeks", "w":
		_, w := t.ISOWeek()
		return decOf(int64(w), 0), nil
	case "isoyear":
		iy, _ := t.ISOWeek()
		return decOf(int64(pgYear(iy)), 0), nil
	case "year", "years", "y", "yr", "yrs":
		return decOf(int64(pgYear(y)), 0), nil
	case "decade", "decades", "dec", "decs":
		return decOf(int64(math.Floor(float64(y)/10)), 0), nil
	case "century", "centuries", "c", "cent":
		return decOf(int64(centuryOf(y, 100)), 0), nil
	case "millennium", "millennia", "mil", "mils":
		return decOf(int64(centuryOf(y, 1000)), 0), nil
	case "dow":
		return decOf(int64(t.Weekday()), 0), nil
	case "isodow":
		return decOf(int64((t.Weekday()+6)%7+1), 0), nil
	case "doy":
		return decOf(int64(t.YearDay()), 0), nil
	case "julian", "jd":
		days := julianDay(t)
		if date {
			return decOf(days, 0), nil
		}
		q := quoDecimal(decOf(micros, 0), decOf(dayMicros, 0), 20)
		if micros == 0 {
			return decOf(days, 0), nil
		}
		return addDecimal(decOf(days, 0), q), nil
	case "epoch":
		if date {
			return decOf(t.Unix(), 0), nil
		}
		return decOf(t.UnixMicro(), 6), nil
	case "timezone", "timezone_hour", "timezone_minute":
		if !zoned {
			return nil, unknown()
		}
		_, off := t.Zone()
		switch field {
		case "timezone_hour":
			return decOf(int64(off/3600), 0), nil
		case "timezone_minute":
			return decOf(int64(off/60%60), 0), nil
		}
		return decOf(int64(off), 0), nil
	}
	return nil, unknown()
}

var knownFields = map[string]bool{
	"microseconds": true, "milliseconds": true, "second": true, "minute": true, "hour": true, "day": true, "week": true,
	"month": true, "quarter": true, "year": true, "decade": true, "century": true, "millennium": true, "dow": true, "isodow": true,
	"doy": true, "isoyear": true, "julian": true, "epoch": true, "timezone": true, "timezone_hour": true, "timezone_minute": true,
}

func centuryOf(y, n int) int {
	if y > 0 {
		return (y + n - 1) / n
	}
	return -((n - 1 - (y - 1)) / n)
}

// julianDay is the day number of t's date.
func julianDay(t time.Time) int64 {
	days := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400
	return days + 2440588
}

func extractInterval(field string, d duration.Duration, unknown func() error) (*apd.Decimal, error) {
	micros := d.Nanos() / 1000
	years, months := d.Months/12, d.Months%12
	switch field {
	case "microseconds", "microsecond", "us":
		return decOf(micros%60e6, 0), nil
	case "milliseconds", "millisecond", "ms":
		return decOf(micros%60e6, 3), nil
	case "second", "seconds", "sec", "s":
		return decOf(micros%60e6, 6), nil
	case "minute", "minutes", "min", "m":
		return decOf(micros/60e6%60, 0), nil
	case "hour", "hours", "hr", "h":
		return decOf(micros/3600e6, 0), nil
	case "day", "days", "d":
		return decOf(d.Days, 0), nil
	case "month", "months", "mon", "mons":
		return decOf(months, 0), nil
	case "quarter", "qtr":
		return decOf(months/3+1, 0), nil
	case "year", "years", "y", "yr", "yrs":
		return decOf(years, 0), nil
	case "decade", "decades":
		return decOf(years/10, 0), nil
	case "century", "centuries":
		return decOf(years/100, 0), nil
	case "millennium", "millennia":
		return decOf(years/1000, 0), nil
	case "epoch":
		// A year counts 365.25 days, the months beside it 30 days.
		secs := years*31557600 + months*2592000 + d.Days*86400
		return addDecimal(decOf(secs, 0), decOf(micros, 6)), nil
	}
	return nil, unknown()
}

func truncTime(field string, t time.Time, typ string) (time.Time, error) {
	loc := t.Location()
	y, m, d := t.Date()
	date := func(y int, m time.Month, d int) (time.Time, error) {
		return inZone(time.Date(y, m, d, 0, 0, 0, 0, time.UTC), loc), nil
	}
	floorTo := func(y, n int) int { // first year of a decade, or 1 of a century
		if n == 10 {
			return int(math.Floor(float64(y)/10)) * 10
		}
		if y > 0 {
			return (y-1)/n*n + 1
		}
		return -((n-1-y)/n)*n + 1
	}
	switch field {
	case "microseconds", "microsecond", "us":
		return t.UTC(), nil
	case "milliseconds", "millisecond", "ms":
		return t.Add(-time.Duration(t.Nanosecond() % 1e6)).UTC(), nil
	case "second", "seconds":
		return t.Add(-time.Duration(t.Nanosecond())).UTC(), nil
	case "minute", "minutes":
		return t.Add(-time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond())).UTC(), nil
	case "hour", "hours":
		return t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second - time.Duration(t.Nanosecond())).UTC(), nil
	case "day", "days":
		return date(y, m, d)
	case "week", "weeks":
		return date(y, m, d-int(t.Weekday()+6)%7)
	case "month", "months":
		return date(y, m, 1)
	case "quarter":
		return date(y, (m-1)/3*3+1, 1)
	case "year", "years":
		return date(y, 1, 1)
	case "decade", "decades":
		return date(floorTo(y, 10), 1, 1)
	case "century", "centuries":
		return date(floorTo(y, 100), 1, 1)
	case "millennium", "millennia":
		return date(floorTo(y, 1000), 1, 1)
	}
	if knownFields[field] {
		return t, pgerr.Newf(pgerr.FeatureNotSupported, "unit %q not supported for type %s", field, typ)
	}
	return t, pgerr.Newf("22023", "unit %q not recognized for type %s", field, typ)
}

func truncInterval(field string, v *tree.DInterval) (tree.Datum, error) {
	d := v.Duration
	micros := d.Nanos() / 1000
	out := func(months, days, us int64) (tree.Datum, error) {
		return &tree.DInterval{Duration: duration.MakeDuration(us*1000, days, months)}, nil
	}
	switch field {
	case "microseconds":
		return v, nil
	case "milliseconds":
		return out(d.Months, d.Days, micros/1000*1000)
	case "second", "seconds":
		return out(d.Months, d.Days, micros/1e6*1e6)
	case "minute", "minutes":
		return out(d.Months, d.Days, micros/60e6*60e6)
	case "hour", "hours":
		return out(d.Months, d.Days, micros/3600e6*3600e6)
	case "day", "days":
		return out(d.Months, d.Days, 0)
	case "month", "months":
		return out(d.Months, 0, 0)
	case "quarter":
		return out(d.Months/3*3, 0, 0)
	case "year", "years":
		return out(d.Months/12*12, 0, 0)
	case "decade", "decades":
		return out(d.Months/120*120, 0, 0)
	case "century", "centuries":
		return out(d.Months/1200*1200, 0, 0)
	case "millennium", "millennia":
		return out(d.Months/12000*12000, 0, 0)
	}
	if field == "week" {
		return nil, pgerr.New(pgerr.FeatureNotSupported, `unit "week" not supported for type interval`).
			WithDetail("Months usually have fractional weeks.")
	}
	return nil, pgerr.Newf("22023", "unit %q not recognized for type interval", field)
}

func dateBin(stride duration.Duration, t, origin time.Time) (time.Time, error) {
	if stride.Months != 0 {
		return t, pgerr.New(pgerr.FeatureNotSupported, "timestamps cannot be binned into intervals containing months or years")
	}
	micros := stride.Days*dayMicros + stride.Nanos()/1000
	if micros <= 0 {
		return t, pgerr.New("22008", "stride must be greater than zero")
	}
	diff := t.UnixMicro() - origin.UnixMicro()
	r := diff % micros
	if r < 0 {
		r += micros
	}
	return time.UnixMicro(t.UnixMicro() - r).UTC(), nil
}

// ageOf is the difference in years, months, days and time, as on calendars.
func ageOf(a, b time.Time) duration.Duration {
	neg := a.Before(b)
	if neg {
		a, b = b, a
	}
	ay, am, ad := a.Date()
	by, bm, bd := b.Date()
	us := func(t time.Time) int64 {
		return int64(t.Hour())*3600e6 + int64(t.Minute())*60e6 + int64(t.Second())*1e6 + int64(t.Nanosecond()/1000)
	}
	micros := us(a) - us(b)
	days, months := ad-bd, (ay-by)*12+int(am-bm)
	if micros < 0 {
		micros += dayMicros
		days--
	}
	for days < 0 {
		// Borrow the length of the earlier one's month.
		days += time.Date(by, bm+1, 0, 0, 0, 0, 0, time.UTC).Day()
		months--
	}
	if neg {
		return duration.MakeDuration(-micros*1000, int64(-days), int64(-months))
	}
	return duration.MakeDuration(micros*1000, int64(days), int64(months))
}

func justifyHours(d duration.Duration) duration.Duration {
	micros := d.Nanos() / 1000
	days := d.Days + micros/dayMicros
	micros %= dayMicros
	if days > 0 && micros < 0 {
		micros += dayMicros
		days--
	} else if days < 0 && micros > 0 {
		micros -= dayMicros
		days++
	}
	return duration.MakeDuration(micros*1000, days, d.Months)
}

func justifyDays(d duration.Duration) duration.Duration {
	months := d.Months + d.Days/30
	days := d.Days % 30
	if months > 0 && days < 0 {
		days += 30
		months--
	} else if months < 0 && days > 0 {
		days -= 30
		months++
	}
	return duration.MakeDuration(d.Nanos(), days, months)
}

func justifyInterval(d duration.Duration) duration.Duration {
	micros := d.Nanos() / 1000
	days := d.Days + micros/dayMicros
	micros %= dayMicros
	months := d.Months + days/30
	days %= 30
	if months > 0 && (days < 0 || days == 0 && micros < 0) {
		days += 30
		months--
	} else if months < 0 && (days > 0 || days == 0 && micros > 0) {
		days -= 30
		months++
	}
	if days > 0 && micros < 0 {
		micros += dayMicros
		days--
	} else if days < 0 && micros > 0 {
		micros -= dayMicros
		days++
	}
	return duration.MakeDuration(micros*1000, days, months)
}

func defineMakeTime(d definitions) {
	outOfRange := func(what string, parts ...int64) error {
		s := make([]string, len(parts))
		for i, p := range parts {
			s[i] = strconv.FormatInt(p, 10)
			if i > 0 && len(s[i]) == 1 {
				s[i] = "0" + s[i]
			}
		}
		return pgerr.Newf("22008", "%s field value out of range: %s", what, strings.Join(s, "-"))
	}
	makeDate := func(y, m, day int64) (time.Time, error) {
		year := y
		if y < 0 {
			year = y + 1 // -1 is 1 BC, Go's year 0
		}
		t := time.Date(int(year), time.Month(m), int(day), 0, 0, 0, 0, time.UTC)
		if y == 0 || m < 1 || m > 12 || day < 1 || t.Day() != int(day) {
			return t, outOfRange("date", y, m, day)
		}
		return t, nil
	}
	makeTime := func(h, m int64, s float64) (int64, error) {
		if h < 0 || h > 24 || m < 0 || m > 59 || s < 0 || s > 60 || h == 24 && (m > 0 || s > 0) || math.IsNaN(s) {
			return 0, pgerr.Newf("22008", "time field value out of range: %d:%02d:%02g", h, m, s)
		}
		return h*3600e6 + m*60e6 + int64(math.RoundToEven(s*1e6)), nil
	}
	d.scalar("make_date", ts(tInt, tInt, tInt), tDate, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, err := makeDate(num(a[0]), num(a[1]), num(a[2]))
		if err != nil {
			return nil, err
		}
		return tree.NewDDateFromTime(t)
	})
	d.scalar("make_time", ts(tInt, tInt, tFloat), tTime, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		us, err := makeTime(num(a[0]), num(a[1]), float(a[2]))
		return tree.MakeDTime(timeofday.TimeOfDay(us)), err
	})
	stamp := func(a tree.Datums) (time.Time, error) {
		t, err := makeDate(num(a[0]), num(a[1]), num(a[2]))
		if err != nil {
			return t, err
		}
		us, err := makeTime(num(a[3]), num(a[4]), float(a[5]))
		return t.Add(time.Duration(us) * time.Microsecond), err
	}
	d.scalar("make_timestamp", ts(tInt, tInt, tInt, tInt, tInt, tFloat), tTS, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, err := stamp(a)
		return &tree.DTimestamp{Time: t}, err
	})
	d.scalar("make_timestamptz", ts(tInt, tInt, tInt, tInt, tInt, tFloat), tTSTZ, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, err := stamp(a)
		return &tree.DTimestampTZ{Time: inZone(t, ctx.GetLocation())}, err
	})
	d.scalar("make_timestamptz", ts(tInt, tInt, tInt, tInt, tInt, tFloat, tText), tTSTZ, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		t, err := stamp(a)
		if err != nil {
			return nil, err
		}
		loc, err := zone(str(a[6]))
		if err != nil {
			return nil, err
		}
		return &tree.DTimestampTZ{Time: inZone(t, loc)}, nil
	})
	makeInterval := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		get := func(i int) int64 {
			if i < len(a) {
				return num(a[i])
			}
			return 0
		}
		secs := float64(0)
		if len(a) > 6 {
			secs = float(a[6])
		}
		micros := get(4)*3600e6 + get(5)*60e6 + int64(math.RoundToEven(secs*1e6))
		return &tree.DInterval{Duration: duration.MakeDuration(micros*1000, get(2)*7+get(3), get(0)*12+get(1))}, nil
	}
	all := ts(tInt, tInt, tInt, tInt, tInt, tInt, tFloat)
	for n := 0; n <= 7; n++ {
		d.scalar("make_interval", all[:n], tIval, makeInterval)
	}
	d.scalar("to_timestamp", ts(tFloat), tTSTZ, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		f := float(a[0])
		switch {
		case math.IsNaN(f):
			return nil, pgerr.New("22008", "timestamp cannot be NaN")
		case math.IsInf(f, 1):
			return &tree.DTimestampTZ{Time: pgdate.TimeInfinity}, nil
		case math.IsInf(f, -1):
			return &tree.DTimestampTZ{Time: pgdate.TimeNegativeInfinity}, nil
		case math.Abs(f) > 9224318016000:
			return nil, pgerr.Newf("22008", "timestamp out of range: \"%g\"", f)
		}
		return &tree.DTimestampTZ{Time: time.UnixMicro(int64(math.RoundToEven(f * 1e6))).UTC()}, nil
	})
	// Casts written as functions: date(x), timestamp(x) and the like.
	for _, from := range ts(tTS, tTSTZ, tText, tDate) {
		d.scalar("date", ts(from), tDate, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return CastDatum(ctx, a[0], tDate, ExplicitCast)
		})
	}
}

var typVoid = types.String

// void is the value of functions that return nothing; it prints as "".
func void() (tree.Datum, error) { return tree.NewDString(""), nil }
