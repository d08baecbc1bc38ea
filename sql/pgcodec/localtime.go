package pgcodec

import (
	"time"

	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
)

// InZone reads the wall clock of t as local time of loc and gives the instant.
//
// As PostgreSQL: a wall clock that a spring-forward skips is read with the offset
// before it, one that a fall-back repeats with the offset after it. time.Date
// promises neither.
func InZone(t time.Time, loc *time.Location) time.Time {
	if t.Equal(pgdate.TimeInfinity) || t.Equal(pgdate.TimeNegativeInfinity) {
		return t
	}
	wall := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	if loc == time.UTC {
		return wall
	}
	offset := func(at time.Time) time.Duration {
		_, secs := at.In(loc).Zone()
		return time.Duration(secs) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	early, late := wall.Add(-before), wall.Add(-after)
	if before == after {
		if offset(early) == before {
			return early
		}
		// Two transitions within two days.
		return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), loc).UTC()
	}
	if offset(late) == after {
		return late // The only reading, or the later of two.
	}
	return early // The only reading, or none: a gap.
}
