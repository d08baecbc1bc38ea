package pgcodec

import (
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// The expectations are PostgreSQL's.
func TestJSONErrors(t *testing.T) {
	long := `{"` + strings.Repeat("a", 80) + `":zz}`
	for in, want := range map[string]string{
		`{"a":}`:           `Expected JSON value, but found "}".|JSON data, line 1: {"a":}`,
		`abc`:              `Token "abc" is invalid.|JSON data, line 1: abc`,
		``:                 `The input string ended unexpectedly.|JSON data, line 1: `,
		`{"a" 1}`:          `Expected ":", but found "1".|JSON data, line 1: {"a" 1...`,
		`{"a":1,}`:         `Expected string, but found "}".|JSON data, line 1: {"a":1,}`,
		`[1 2]`:            `Expected "," or "]", but found "2".|JSON data, line 1: [1 2...`,
		`[,]`:              `Expected JSON value, but found ",".|JSON data, line 1: [,...`,
		`{"a":1}}`:         `Expected end of input, but found "}".|JSON data, line 1: {"a":1}}`,
		`[]]`:              `Expected end of input, but found "]".|JSON data, line 1: []]`,
		`01`:               `Token "01" is invalid.|JSON data, line 1: 01`,
		`"\u0000"`:         `\u0000 cannot be converted to text.|JSON data, line 1: "\u0000...`,
		`"\ude00"`:         `Unicode low surrogate must follow a high surrogate.|JSON data, line 1: "\ude00...`,
		"{\"a\":1,\n tru}": "Token \"tru\" is invalid.|JSON data, line 2:  tru...",
		`"a\x"`:            `Escape sequence "\x" is invalid.|JSON data, line 1: "a\x...`,
		long:               "",
		`"\ud83d\ude00"`:   "ok",
		`{"a":[1,{}]} `:    "ok",
	} {
		c := Make(types.Jsonb, oid.T_jsonb, -1)
		_, err := c.DecodeText([]byte(in), nil)
		got := "ok"
		if err != nil {
			e := pgerr.Flatten(err)
			got = e.Detail + "|" + e.Where
			if in == long && e.Detail == `Token "zz" is invalid.` {
				continue
			}
		}
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", in, got, want)
		}
	}
}
