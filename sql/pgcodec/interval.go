package pgcodec

import (
	"strconv"

	"github.com/auxten/postgresql-parser/pkg/util/duration"
)

// intervalParts is an interval as PostgreSQL's struct pg_itm splits it: every
// part of the time has the sign of the time.
type intervalParts struct {
	years, months, days, hours, mins, secs, micros int64
}

func splitInterval(d duration.Duration) intervalParts {
	us := d.Nanos() / 1000
	return intervalParts{
		years: d.Months / 12, months: d.Months % 12, days: d.Days,
		hours: us / 3_600_000_000, mins: us / 60_000_000 % 60, secs: us / 1_000_000 % 60, micros: us % 1_000_000,
	}
}

func (p intervalParts) timeNegative() bool {
	return p.hours < 0 || p.mins < 0 || p.secs < 0 || p.micros < 0
}

func (p intervalParts) timeZero() bool {
	return p.hours == 0 && p.mins == 0 && p.secs == 0 && p.micros == 0
}

func appendInterval(b []byte, d duration.Duration, style string) []byte {
	p := splitInterval(d)
	switch style {
	case "iso_8601":
		return appendIntervalISO(b, p)
	case "sql_standard":
		return appendIntervalSQL(b, p)
	case "postgres_verbose":
		return appendIntervalVerbose(b, p)
	}
	return appendIntervalPostgres(b, p)
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}

// appendClock prints the time without its sign: hh:mm:ss[.ffffff].
func appendClock(b []byte, p intervalParts) []byte {
	h := abs(p.hours)
	if h < 100 {
		b = append2(b, int(h))
	} else {
		b = strconv.AppendInt(b, h, 10)
	}
	b = append(b, ':')
	b = append2(b, int(abs(p.mins)))
	b = append(b, ':')
	b = append2(b, int(abs(p.secs)))
	return appendFraction(b, int(abs(p.micros)))
}

// appendIntervalPostgres prints "1 year 2 mons -3 days +04:05:06". A part after a
// negative one shows its plus sign.
func appendIntervalPostgres(b []byte, p intervalParts) []byte {
	start, before := len(b), false
	unit := func(n int64, name string) {
		if n == 0 {
			return
		}
		if len(b) > start {
			b = append(b, ' ')
		}
		if before && n > 0 {
			b = append(b, '+')
		}
		b = strconv.AppendInt(b, n, 10)
		b = append(b, ' ')
		b = append(b, name...)
		if n != 1 {
			b = append(b, 's')
		}
		before = n < 0
	}
	unit(p.years, "year")
	unit(p.months, "mon")
	unit(p.days, "day")
	if len(b) == start || !p.timeZero() {
		if len(b) > start {
			b = append(b, ' ')
		}
		if p.timeNegative() {
			b = append(b, '-')
		} else if before {
			b = append(b, '+')
		}
		b = appendClock(b, p)
	}
	return b
}

func appendIntervalISO(b []byte, p intervalParts) []byte {
	if p == (intervalParts{}) {
		return append(b, "PT0S"...)
	}
	b = append(b, 'P')
	unit := func(n int64, name byte) {
		if n != 0 {
			b = append(strconv.AppendInt(b, n, 10), name)
		}
	}
	unit(p.years, 'Y')
	unit(p.months, 'M')
	unit(p.days, 'D')
	if !p.timeZero() {
		b = append(b, 'T')
	}
	unit(p.hours, 'H')
	unit(p.mins, 'M')
	if p.secs != 0 || p.micros != 0 {
		if p.secs < 0 || p.micros < 0 {
			b = append(b, '-')
		}
		b = strconv.AppendInt(b, abs(p.secs), 10)
		b = append(appendFraction(b, int(abs(p.micros))), 'S')
	}
	return b
}

func appendIntervalSQL(b []byte, p intervalParts) []byte {
	negative := p.years < 0 || p.months < 0 || p.days < 0 || p.timeNegative()
	positive := p.years > 0 || p.months > 0 || p.days > 0 || p.hours > 0 || p.mins > 0 || p.secs > 0 || p.micros > 0
	yearMonth := p.years != 0 || p.months != 0
	dayTime := p.days != 0 || !p.timeZero()
	day := p.days != 0
	standard := !(negative && positive) && !(yearMonth && dayTime)
	if negative && standard {
		b = append(b, '-')
		p = intervalParts{-p.years, -p.months, -p.days, -p.hours, -p.mins, -p.secs, -p.micros}
	}
	if !negative && !positive {
		return append(b, '0')
	}
	if !standard {
		sign := func(neg bool) {
			if neg {
				b = append(b, '-')
			} else {
				b = append(b, '+')
			}
		}
		sign(p.years < 0 || p.months < 0)
		b = strconv.AppendInt(b, abs(p.years), 10)
		b = append(b, '-')
		b = strconv.AppendInt(b, abs(p.months), 10)
		b = append(b, ' ')
		sign(p.days < 0)
		b = strconv.AppendInt(b, abs(p.days), 10)
		b = append(b, ' ')
		sign(p.timeNegative())
		return appendClockShortHour(b, p)
	}
	switch {
	case yearMonth:
		b = strconv.AppendInt(b, p.years, 10)
		b = append(b, '-')
		return strconv.AppendInt(b, p.months, 10)
	case day:
		b = strconv.AppendInt(b, p.days, 10)
		b = append(b, ' ')
	}
	return appendClockShortHour(b, p)
}

// appendClockShortHour is appendClock without a leading zero in the hours.
func appendClockShortHour(b []byte, p intervalParts) []byte {
	b = strconv.AppendInt(b, abs(p.hours), 10)
	b = append(b, ':')
	b = append2(b, int(abs(p.mins)))
	b = append(b, ':')
	b = append2(b, int(abs(p.secs)))
	return appendFraction(b, int(abs(p.micros)))
}

// appendIntervalVerbose prints "@ 1 year 2 mons ago": the first part sets the
// sign of the whole.
func appendIntervalVerbose(b []byte, p intervalParts) []byte {
	b = append(b, '@')
	start, before := len(b), false
	unit := func(n int64, name string) {
		if n == 0 {
			return
		}
		if len(b) == start {
			before, n = n < 0, abs(n)
		} else if before {
			n = -n
		}
		b = append(b, ' ')
		b = strconv.AppendInt(b, n, 10)
		b = append(b, ' ')
		b = append(b, name...)
		if n != 1 {
			b = append(b, 's')
		}
	}
	unit(p.years, "year")
	unit(p.months, "mon")
	unit(p.days, "day")
	unit(p.hours, "hour")
	unit(p.mins, "min")
	if p.secs != 0 || p.micros != 0 {
		neg := p.secs < 0 || p.micros < 0
		first := len(b) == start
		b = append(b, ' ')
		if first {
			before = neg
		} else if neg != before {
			b = append(b, '-')
		}
		b = strconv.AppendInt(b, abs(p.secs), 10)
		b = appendFraction(b, int(abs(p.micros)))
		b = append(b, " sec"...)
		if abs(p.secs) != 1 || p.micros != 0 {
			b = append(b, 's')
		}
	}
	if len(b) == start {
		b = append(b, " 0"...)
	}
	if before {
		b = append(b, " ago"...)
	}
	return b
}
