package builtins

import (
	"regexp"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// What stands in text may be too large for its type. The parser's packages let some
// of that wrap around, so it is looked for here.

var numberWithExponent = regexp.MustCompile(`^\s*[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+\s*$`)

// afterTimestamps is the first instant that PostgreSQL's timestamps do not reach.
var afterTimestamps = time.Date(294277, 1, 1, 0, 0, 0, 0, time.UTC)

// checkTimestampText refuses timestamps that PostgreSQL does not have.
func checkTimestampText(d tree.Datum, s string) error {
	var t time.Time
	switch d := d.(type) {
	case *tree.DTimestamp:
		t = d.Time
	case *tree.DTimestampTZ:
		t = d.Time
	default:
		return nil
	}
	if t.Before(afterTimestamps) || t.Equal(pgdate.TimeInfinity) && strings.Contains(strings.ToLower(s), "inf") {
		return nil
	}
	return pgerr.Newf("22008", "timestamp out of range: \"%s\"", s)
}
