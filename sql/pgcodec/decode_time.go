package pgcodec

import (
	"regexp"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/util/timeofday"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// parseContext gives tree's time parsers the moment and the zone.
type parseContext struct{ now time.Time }

func (p parseContext) GetRelativeParseTime() time.Time { return p.now }

func (s *Settings) now() time.Time { return time.Now().In(s.location()) }

func (s *Settings) parseMode() pgdate.ParseMode {
	switch {
	case s == nil:
	case s.DayFirst:
		return pgdate.ParseModeDMY
	case s.MonthFirst:
		return pgdate.ParseModeMDY
	}
	return pgdate.ParseModeYMD
}

// errDatetime tells a value out of range from one that is no date at all.
func errDatetime(err error, typeName string, data []byte) error {
	msg := err.Error()
	if strings.Contains(msg, "out of range") || strings.Contains(msg, "must be between") ||
		strings.HasPrefix(typeName, "time") && looksLikeTime.Match(data) {
		return pgerr.Newf("22008", "date/time field value out of range: \"%s\"", data)
	}
	return errSyntax("22007", typeName, data)
}

var looksLikeTime = regexp.MustCompile(`^\s*\d{1,2}:\d{2}(:\d{2}(\.\d*)?)?\s*$`)

func digits(b []byte) (n int, ok bool) {
	for _, ch := range b {
		if ch < '0' || ch > '9' {
			return 0, false
		}
		n = n*10 + int(ch-'0')
	}
	return n, true
}

// parseISODate reads YYYY-MM-DD at the start of b.
func parseISODate(b []byte) (y, m, d int, ok bool) {
	if len(b) < 10 || b[4] != '-' || b[7] != '-' {
		return 0, 0, 0, false
	}
	y, ok1 := digits(b[:4])
	m, ok2 := digits(b[5:7])
	d, ok3 := digits(b[8:10])
	if !ok1 || !ok2 || !ok3 || y == 0 || m < 1 || m > 12 || d < 1 || d > daysIn(y, m) {
		return 0, 0, 0, false
	}
	return y, m, d, true
}

func daysIn(y, m int) int {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// parseISOTimestamp reads the form that PostgreSQL writes, without zone:
// YYYY-MM-DD[ HH:MM:SS[.ffffff]]. Everything else goes to the full parser.
func parseISOTimestamp(b []byte) (time.Time, bool) {
	y, mo, d, ok := parseISODate(b)
	if !ok {
		return time.Time{}, false
	}
	if len(b) == 10 {
		return time.Date(y, time.Month(mo), d, 0, 0, 0, 0, time.UTC), true
	}
	if len(b) < 19 || (b[10] != ' ' && b[10] != 'T') || b[13] != ':' || b[16] != ':' {
		return time.Time{}, false
	}
	h, ok1 := digits(b[11:13])
	mi, ok2 := digits(b[14:16])
	s, ok3 := digits(b[17:19])
	if !ok1 || !ok2 || !ok3 || h > 23 || mi > 59 || s > 59 {
		return time.Time{}, false
	}
	nanos := 0
	if len(b) > 19 {
		frac := b[20:]
		if b[19] != '.' || len(frac) == 0 || len(frac) > 6 {
			return time.Time{}, false
		}
		n, ok := digits(frac)
		if !ok {
			return time.Time{}, false
		}
		for range 9 - len(frac) {
			n *= 10
		}
		nanos = n
	}
	return time.Date(y, time.Month(mo), d, h, mi, s, nanos, time.UTC), true
}

func decodeDate(data []byte, s *Settings) (tree.Datum, error) {
	if len(data) == 10 {
		if y, m, d, ok := parseISODate(data); ok {
			date, err := pgdate.MakeDateFromTime(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC))
			if err == nil {
				return tree.NewDDate(date), nil
			}
		}
	}
	date, err := pgdate.ParseDate(s.now(), s.parseMode(), string(data))
	if err != nil {
		return nil, errDatetime(err, "date", data)
	}
	return tree.NewDDate(date), nil
}

func decodeTime(t string, s *Settings) (tree.Datum, error) {
	d, err := tree.ParseDTime(parseContext{s.now()}, t, time.Microsecond)
	if err != nil {
		return nil, errDatetime(err, "time", []byte(t))
	}
	return d, nil
}

func decodeTimeTZ(t string, s *Settings) (tree.Datum, error) {
	d, err := tree.ParseDTimeTZ(parseContext{s.now()}, t, time.Microsecond)
	if err != nil {
		return nil, errDatetime(err, "time with time zone", []byte(t))
	}
	return d, nil
}

func decodeTimestamp(data []byte, s *Settings) (tree.Datum, error) {
	if t, ok := parseISOTimestamp(data); ok {
		return &tree.DTimestamp{Time: t}, nil
	}
	t, err := pgdate.ParseTimestamp(s.now(), s.parseMode(), string(data))
	if err != nil {
		return nil, errDatetime(err, "timestamp", data)
	}
	if t != pgdate.TimeInfinity && t != pgdate.TimeNegativeInfinity {
		_, offset := t.Zone()
		t = t.Add(time.Duration(offset) * time.Second).UTC()
	}
	return tree.MakeDTimestamp(t, time.Microsecond), nil
}

func decodeTimestampTZ(data []byte, s *Settings) (tree.Datum, error) {
	if t, ok := parseISOTimestamp(data); ok {
		return &tree.DTimestampTZ{Time: InZone(t, s.location())}, nil
	}
	t, err := pgdate.ParseTimestamp(s.now(), s.parseMode(), string(data))
	if err != nil {
		return nil, errDatetime(err, "timestamp with time zone", data)
	}
	return tree.MakeDTimestampTZ(t.UTC(), time.Microsecond), nil
}

// timeFromMicros is the inverse of timestampMicros.
func timeFromMicros(us int64) (time.Time, error) {
	switch us {
	case 1<<63 - 1:
		return pgdate.TimeInfinity, nil
	case -1 << 63:
		return pgdate.TimeNegativeInfinity, nil
	}
	secs := us / 1_000_000
	rest := us % 1_000_000
	t := time.Unix(secs+pgEpochMicros/1_000_000, rest*1000).UTC()
	if t.Before(pgdate.TimeNegativeInfinity) || t.After(pgdate.TimeInfinity) {
		return t, pgerr.New("22008", "timestamp out of range")
	}
	return t, nil
}

func timeOfDay(us int64) (timeofday.TimeOfDay, error) {
	if us < 0 || us > 86400*1_000_000 {
		return 0, pgerr.New("22008", "time out of range")
	}
	return timeofday.TimeOfDay(us), nil
}
