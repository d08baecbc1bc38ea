package parser

import (
	"strings"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/lex"
)

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokIdent            // unquoted identifier or keyword, folded to lower case
	tokQuoted           // "identifier"
	tokString           // '…', e'…', N'…', $$…$$
	tokBytes            // b'…', x'…', B'…'
	tokNumber
	tokParam // $1
	tokOp    // anything else, one operator each
	tokError // str says why
)

// token is a piece of SQL text with its place: src[pos:end].
type token struct {
	kind     tokenKind
	str      string // folded identifier, string value, operator, or text of a number
	pos, end int
}

// is says whether t is the unquoted word kw.
func (t token) is(kw string) bool { return t.kind == tokIdent && t.str == kw }

// op says whether t is the operator s.
func (t token) op(s string) bool { return t.kind == tokOp && t.str == s }

// isName says whether t can be a name.
func (t token) isName() bool { return t.kind == tokIdent || t.kind == tokQuoted }

// longOps are the operators of several characters, longest first. Everything else
// is an operator of one character.
var longOps = []string{
	"!~~*", ":::", "!~~", "~~*", "->>", "#>>", "<<=", ">>=", "!~*", "||/",
	"::", "!=", "<>", "<=", ">=", "<<", ">>", "<@", "@>", "||", "|/", "->", "#>", "#-", "&&", "?|", "?&",
	"~~", "~*", "!~", "..", "//", "@@", ":=", "=>", "^@",
}

// scanner cuts SQL text into tokens by the rules of PostgreSQL.
type scanner struct {
	src string
	pos int
}

// scanAll returns the tokens of src up to the end or the first error, which is
// the last token then.
func scanAll(src string) []token {
	s := scanner{src: src}
	toks := make([]token, 0, len(src)/5+4)
	for {
		t := s.next()
		if t.kind == tokEOF {
			return toks
		}
		toks = append(toks, t)
		if t.kind == tokError {
			return toks
		}
	}
}

func (s *scanner) fail(pos int, msg string) token {
	s.pos = len(s.src)
	return token{kind: tokError, str: msg, pos: pos, end: len(s.src)}
}

// space skips white space and comments.
func (s *scanner) space() (errPos int, ok bool) {
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			s.pos++
		case c == '-' && strings.HasPrefix(s.src[s.pos:], "--"):
			if i := strings.IndexByte(s.src[s.pos:], '\n'); i >= 0 {
				s.pos += i + 1
			} else {
				s.pos = len(s.src)
			}
		case c == '/' && strings.HasPrefix(s.src[s.pos:], "/*"):
			start := s.pos
			depth := 1
			for s.pos += 2; depth > 0; {
				rest := s.src[s.pos:]
				switch {
				case rest == "":
					return start, false
				case strings.HasPrefix(rest, "*/"):
					depth--
					s.pos += 2
				case strings.HasPrefix(rest, "/*"):
					depth++
					s.pos += 2
				default:
					s.pos++
				}
			}
		default:
			return 0, true
		}
	}
	return 0, true
}

func (s *scanner) next() token {
	if at, ok := s.space(); !ok {
		return s.fail(at, "unterminated comment")
	}
	if s.pos >= len(s.src) {
		return token{kind: tokEOF, pos: len(s.src), end: len(s.src)}
	}
	start := s.pos
	c := s.src[start]
	quoteNext := start+1 < len(s.src) && s.src[start+1] == '\''
	switch {
	case c == '\'':
		return s.str(start, start, false)
	case (c == 'e' || c == 'E') && quoteNext:
		return s.str(start, start+1, true)
	case (c == 'n' || c == 'N') && quoteNext:
		return s.str(start, start+1, false)
	case (c == 'b' || c == 'B' || c == 'x' || c == 'X') && quoteNext:
		t := s.str(start, start+1, c == 'b')
		if t.kind == tokString {
			t.kind = tokBytes
		}
		return t
	case c == '"':
		return s.quoted(start)
	case c == '$':
		return s.dollar(start)
	case c >= '0' && c <= '9', c == '.' && start+1 < len(s.src) && lex.IsDigit(int(s.src[start+1])):
		return s.number(start)
	case lex.IsIdentStart(int(c)):
		for s.pos < len(s.src) && lex.IsIdentMiddle(int(s.src[s.pos])) {
			s.pos++
		}
		return token{kind: tokIdent, str: fold(s.src[start:s.pos]), pos: start, end: s.pos}
	}
	for _, op := range longOps {
		if strings.HasPrefix(s.src[start:], op) {
			s.pos += len(op)
			return token{kind: tokOp, str: op, pos: start, end: s.pos}
		}
	}
	s.pos++
	return token{kind: tokOp, str: s.src[start:s.pos], pos: start, end: s.pos}
}

func fold(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= utf8.RuneSelf {
			return lex.NormalizeName(s)
		} else if c >= 'A' && c <= 'Z' {
			return foldUpper(s)
		}
	}
	return s
}

func foldUpper(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return lex.NormalizeName(s)
		}
	}
	return strings.ToLower(s)
}

// str scans a string literal whose quote is at quote. Literals that are
// separated by white space with a line break are one.
func (s *scanner) str(start, quote int, escapes bool) token {
	var b []byte
	i := quote + 1
	from := i
	for {
		if i >= len(s.src) {
			return s.fail(start, "unterminated quoted string")
		}
		switch c := s.src[i]; {
		case c == '\'':
			b = append(b, s.src[from:i]...)
			if i+1 < len(s.src) && s.src[i+1] == '\'' {
				b = append(b, '\'')
				i += 2
				from = i
				continue
			}
			i++
			j, newline := i, false
			for j < len(s.src) && strings.IndexByte(" \t\r\n\f", s.src[j]) >= 0 {
				newline = newline || s.src[j] == '\n'
				j++
			}
			if newline && j < len(s.src) && s.src[j] == '\'' {
				i = j + 1
				from = i
				continue
			}
			s.pos = i
			return token{kind: tokString, str: string(b), pos: start, end: i}
		case c == '\\' && escapes && i+1 < len(s.src):
			b = append(b, s.src[from:i]...)
			var r string
			r, i = unescape(s.src, i+1)
			b = append(b, r...)
			from = i
		default:
			i++
		}
	}
}

// unescape reads the escape after a backslash at src[i:].
func unescape(src string, i int) (string, int) {
	switch c := src[i]; c {
	case 'n':
		return "\n", i + 1
	case 't':
		return "\t", i + 1
	case 'r':
		return "\r", i + 1
	case 'b':
		return "\b", i + 1
	case 'f':
		return "\f", i + 1
	case 'x':
		v, n := digits(src[i+1:], 16, 2)
		if n > 0 {
			return string([]byte{byte(v)}), i + 1 + n
		}
	case 'u', 'U':
		width := 4
		if c == 'U' {
			width = 8
		}
		if v, n := digits(src[i+1:], 16, width); n == width && v <= utf8.MaxRune {
			return string(rune(v)), i + 1 + n
		}
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v, n := digits(src[i:], 8, 3)
		return string([]byte{byte(v)}), i + n
	}
	return src[i : i+1], i + 1
}

func digits(s string, base, limit int) (v, n int) {
	for n < limit && n < len(s) {
		d := strings.IndexByte("0123456789abcdef", s[n]|0x20)
		if s[n] >= '0' && s[n] <= '9' {
			d = int(s[n] - '0')
		}
		if d < 0 || d >= base {
			break
		}
		v = v*base + d
		n++
	}
	return v, n
}

func (s *scanner) quoted(start int) token {
	var b []byte
	i := start + 1
	from := i
	for {
		j := strings.IndexByte(s.src[i:], '"')
		if j < 0 {
			return s.fail(start, "unterminated quoted identifier")
		}
		i += j
		b = append(b, s.src[from:i]...)
		if i+1 < len(s.src) && s.src[i+1] == '"' {
			b = append(b, '"')
			i += 2
			from = i
			continue
		}
		s.pos = i + 1
		if len(b) == 0 {
			return s.fail(start, "zero-length delimited identifier")
		}
		return token{kind: tokQuoted, str: string(b), pos: start, end: s.pos}
	}
}

// dollar scans $1, $$…$$ and $tag$…$tag$.
func (s *scanner) dollar(start int) token {
	i := start + 1
	for i < len(s.src) && lex.IsDigit(int(s.src[i])) {
		i++
	}
	if i > start+1 {
		s.pos = i
		return token{kind: tokParam, str: s.src[start+1 : i], pos: start, end: i}
	}
	for i < len(s.src) && s.src[i] != '$' && (lex.IsIdentStart(int(s.src[i])) || i > start+1 && lex.IsDigit(int(s.src[i]))) {
		i++
	}
	if i >= len(s.src) || s.src[i] != '$' {
		s.pos = start + 1
		return token{kind: tokOp, str: "$", pos: start, end: s.pos}
	}
	tag := s.src[start : i+1]
	j := strings.Index(s.src[i+1:], tag)
	if j < 0 {
		return s.fail(start, "unterminated dollar-quoted string")
	}
	body := s.src[i+1 : i+1+j]
	s.pos = i + 1 + j + len(tag)
	return token{kind: tokString, str: body, pos: start, end: s.pos}
}

func (s *scanner) number(start int) token {
	i := start
	src := s.src
	isDigit := func(i int) bool { return i < len(src) && lex.IsDigit(int(src[i])) }
	if src[i] == '0' && i+1 < len(src) && (src[i+1] == 'x' || src[i+1] == 'X') {
		for i += 2; i < len(src) && lex.IsHexDigit(int(src[i])); i++ {
		}
	} else {
		for isDigit(i) {
			i++
		}
		if i < len(src) && src[i] == '.' && !strings.HasPrefix(src[i:], "..") {
			for i++; isDigit(i); i++ {
			}
		}
		if i < len(src) && (src[i] == 'e' || src[i] == 'E') {
			j := i + 1
			if j < len(src) && (src[j] == '+' || src[j] == '-') {
				j++
			}
			if isDigit(j) {
				for i = j; isDigit(i); i++ {
				}
			}
		}
	}
	s.pos = i
	return token{kind: tokNumber, str: src[start:i], pos: start, end: i}
}
