package pgcodec

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

var (
	longNumber    = regexp.MustCompile(`\d{7}`)
	intervalField = regexp.MustCompile(`(\d+)(?:\.\d*)?\s*(:|[a-zA-Z]*)`)
)

// checkIntervalFields refuses numbers in the text of an interval that would wrap
// around: hours, minutes and seconds are kept as 64 bits of nanoseconds.
func checkIntervalFields(s string) error {
	if !longNumber.MatchString(s) {
		return nil
	}
	const maxSeconds = (1<<63 - 1) / int64(time.Second)
	for _, m := range intervalField.FindAllStringSubmatch(s, -1) {
		unit := strings.ToLower(m[2])
		per := int64(0)
		switch {
		case unit == ":" || strings.HasPrefix(unit, "h"):
			per = 3600
		case unit == "m" || strings.HasPrefix(unit, "min"):
			per = 60
		case unit == "s" || unit == "" || strings.HasPrefix(unit, "sec"):
			per = 1
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil || per > 0 && n > maxSeconds/per || n > 1<<50 {
			return errIntervalField(s)
		}
	}
	return nil
}

// checkInterval refuses what PostgreSQL's intervals do not hold.
func checkInterval(d *tree.DInterval, s string) error {
	if d.Days != int64(int32(d.Days)) {
		return errIntervalField(s)
	}
	if d.Months != int64(int32(d.Months)) {
		return pgerr.New("22008", "interval out of range")
	}
	return nil
}

func errIntervalField(s string) error {
	return pgerr.Newf("22015", "interval field value out of range: \"%s\"", s)
}
