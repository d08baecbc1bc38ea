package sql

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// mapTreeError gives errors of the parser's packages their SQLSTATE.
func mapTreeError(err error) error { return builtins.MapError(err) }

// locate adds the position in the statement's text to an error that names a
// thing in quotes, if that thing stands in the text.
func (p *planner) locate(err error) error {
	err = builtins.MapError(err)
	var pe *pgerr.Error
	if !errors.As(err, &pe) || pe.Position != 0 {
		return err
	}
	if pe.Code == pgerr.UndefinedFunction {
		if name, ok := between(pe.Message, "function ", "("); ok {
			return p.locateName(err, lastPart(name))
		}
	}
	return err
}

func between(s, a, b string) (string, bool) {
	i := strings.Index(s, a)
	if i < 0 {
		return "", false
	}
	s = s[i+len(a):]
	if i = strings.Index(s, b); i < 0 {
		return "", false
	}
	return s[:i], true
}

// locateName points an error at the first place where name stands in the
// statement's text. The syntax tree has no positions; a name that an error
// complains of is nearly always the first of its kind.
func (p *planner) locateName(err error, name string) error {
	var pe *pgerr.Error
	if !errors.As(err, &pe) || pe.Position != 0 || p.stmt.SQL == "" || p.depth > 0 {
		return err
	}
	if i := findWord(p.stmt.SQL, name); i >= 0 {
		c := *pe
		c.Position = utf8.RuneCountInString(p.stmt.SQL[:i]) + 1
		return &c
	}
	return err
}

// findWord finds name as an identifier in sql, outside of strings, and returns
// where the (possibly qualified) name begins.
func findWord(sql, name string) int {
	lower := strings.ToLower(sql)
	ident := func(c byte) bool {
		return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 0x80
	}
	for i := 0; i < len(sql); {
		switch c := sql[i]; {
		case c == '\'':
			j := strings.IndexByte(sql[i+1:], '\'')
			if j < 0 {
				return -1
			}
			i += j + 2
		case c == '-' && strings.HasPrefix(sql[i:], "--"):
			j := strings.IndexByte(sql[i:], '\n')
			if j < 0 {
				return -1
			}
			i += j + 1
		case c == '"':
			j := strings.IndexByte(sql[i+1:], '"')
			if j < 0 {
				return -1
			}
			if sql[i+1:i+1+j] == name {
				return wordStart(lower, i, ident)
			}
			i += j + 2
		case ident(lower[i]):
			j := i
			for j < len(lower) && ident(lower[j]) {
				j++
			}
			if lower[i:j] == name {
				return wordStart(lower, i, ident)
			}
			i = j
		default:
			i++
		}
	}
	return -1
}

// wordStart steps back over the qualification in front of a name.
func wordStart(lower string, i int, ident func(byte) bool) int {
	for i > 1 && lower[i-1] == '.' && (ident(lower[i-2]) || lower[i-2] == '"') {
		j := i - 2
		for j > 0 && (ident(lower[j-1]) || lower[j-1] == '"') {
			j--
		}
		i = j
	}
	return i
}
