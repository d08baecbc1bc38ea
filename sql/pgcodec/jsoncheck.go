package pgcodec

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// checkJSON refuses what the parser lets pass: closing brackets behind a document,
// and escapes that stand for no character.
func checkJSON(data []byte) error {
	if end := bytes.TrimRight(data, " \t\r\n"); len(end) > 0 && (end[len(end)-1] == '}' || end[len(end)-1] == ']') && !json.Valid(data) {
		return explainJSON(data)
	}
	return checkJSONEscapes(data)
}

// checkJSONEscapes refuses the \u escapes that no text can hold: a zero character
// and halves of surrogate pairs. The parser would put something else in their place.
func checkJSONEscapes(data []byte) error {
	if !bytes.Contains(data, []byte(`\u`)) {
		return nil
	}
	high := false // The escape just before was the first half of a pair.
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			if high {
				return jsonSyntax(data, "Unicode low surrogate must follow a high surrogate.", i)
			}
			continue
		}
		if i++; i >= len(data) || data[i] != 'u' || i+5 > len(data) {
			if high {
				return jsonSyntax(data, "Unicode low surrogate must follow a high surrogate.", i)
			}
			continue
		}
		v, err := strconv.ParseUint(string(data[i+1:i+5]), 16, 16)
		if err != nil {
			return nil // The parser says it.
		}
		i += 4
		switch {
		case v == 0:
			return pgerr.New("22P05", "unsupported Unicode escape sequence").WithDetail("%s", `\u0000 cannot be converted to text.`).
				WithWhere("%s", jsonContext(data, i+1))
		case v >= 0xd800 && v < 0xdc00:
			if high {
				return jsonSyntax(data, "Unicode high surrogate must not follow a high surrogate.", i+1)
			}
			high = true
		case v >= 0xdc00 && v < 0xe000:
			if !high {
				return jsonSyntax(data, "Unicode low surrogate must follow a high surrogate.", i+1)
			}
			high = false
		case high:
			return jsonSyntax(data, "Unicode low surrogate must follow a high surrogate.", i+1)
		}
	}
	return nil
}

func jsonSyntax(data []byte, detail string, at int) error {
	return pgerr.New("22P02", "invalid input syntax for type json").WithDetail("%s", detail).WithWhere("%s", jsonContext(data, at))
}

// jsonContext shows the line of the error up to the end of the offending token.
func jsonContext(data []byte, at int) string {
	at = min(at, len(data))
	line := 1 + bytes.Count(data[:at], []byte("\n"))
	start := bytes.LastIndexByte(data[:at], '\n') + 1
	prefix := ""
	const most = 50
	if at-start > most {
		start = at - most
		for start < at && !utf8.RuneStart(data[start]) {
			start++
		}
		prefix = "..."
	}
	suffix := ""
	if at < len(data) && !bytes.ContainsAny(data[at:at+1], "\r\n") {
		suffix = "..."
	}
	return "JSON data, line " + strconv.Itoa(line) + ": " + prefix + string(data[start:at]) + suffix
}

// explainJSON says as PostgreSQL does why data is no JSON.
func explainJSON(data []byte) error {
	p := &jsonExplainer{src: data}
	p.value()
	if p.err == nil {
		if p.space(); p.at < len(data) {
			p.unexpected("Expected end of input, but found \"%s\".")
		}
	}
	if p.err == nil {
		return pgerr.New("22P02", "invalid input syntax for type json")
	}
	return p.err
}

type jsonExplainer struct {
	src   []byte
	at    int
	depth int
	err   error
}

func (p *jsonExplainer) space() {
	for p.at < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.at]) >= 0 {
		p.at++
	}
}

// token is the text at p.at as PostgreSQL's lexer takes it.
func (p *jsonExplainer) token() []byte {
	end := p.at
	word := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80 || c == '-' || c == '+' || c == '.'
	}
	switch {
	case p.src[end] == '"':
		for end++; end < len(p.src) && p.src[end] != '"'; end++ {
			if p.src[end] == '\\' {
				end++
			}
		}
		end = min(end+1, len(p.src))
	case word(p.src[end]):
		for end < len(p.src) && word(p.src[end]) {
			end++
		}
	default:
		end++
	}
	return p.src[p.at:end]
}

func (p *jsonExplainer) fail(detail string, at int) {
	if p.err == nil {
		p.err = jsonSyntax(p.src, detail, at)
	}
}

// unexpected reports the token at p.at, or the end.
func (p *jsonExplainer) unexpected(detail string) {
	if p.at >= len(p.src) {
		p.fail("The input string ended unexpectedly.", len(p.src))
		return
	}
	tok := p.token()
	if c := tok[0]; strings.IndexByte(`{}[]:,"`, c) < 0 && !validJSONWord(tok) {
		p.fail("Token \""+string(tok)+"\" is invalid.", p.at+len(tok))
		return
	}
	p.fail(strings.Replace(detail, "%s", string(tok), 1), p.at+len(tok))
}

func validJSONWord(tok []byte) bool {
	switch string(tok) {
	case "true", "false", "null":
		return true
	}
	s := bytes.TrimPrefix(tok, []byte("-"))
	if len(s) == 0 || s[0] < '0' || s[0] > '9' || len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		return false
	}
	_, err := strconv.ParseFloat(string(s), 64)
	return (err == nil || strings.Contains(err.Error(), "range")) && s[len(s)-1] != '.' && !bytes.Contains(s, []byte("_")) &&
		!bytes.Contains(s, []byte(".e")) && !bytes.Contains(s, []byte(".E"))
}

func (p *jsonExplainer) value() {
	const expected = "Expected JSON value, but found \"%s\"."
	if p.space(); p.err != nil || p.at >= len(p.src) {
		p.unexpected(expected)
		return
	}
	if p.depth++; p.depth > 6000 {
		if p.err == nil {
			p.err = pgerr.New("54001", "stack depth limit exceeded")
		}
		return
	}
	defer func() { p.depth-- }()
	switch p.src[p.at] {
	case '{':
		p.list('}', "Expected \",\" or \"}\", but found \"%s\".", func(first bool) {
			if p.space(); p.at >= len(p.src) || p.src[p.at] != '"' {
				detail := "Expected string, but found \"%s\"."
				if first {
					detail = "Expected string or \"}\", but found \"%s\"."
				}
				p.unexpected(detail)
				return
			}
			p.str()
			if p.space(); p.err == nil && (p.at >= len(p.src) || p.src[p.at] != ':') {
				p.unexpected("Expected \":\", but found \"%s\".")
				return
			}
			p.at++
			p.value()
		})
	case '[':
		p.list(']', "Expected \",\" or \"]\", but found \"%s\".", func(bool) { p.value() })
	case '"':
		p.str()
	default:
		if tok := p.token(); validJSONWord(tok) {
			p.at += len(tok)
			return
		}
		p.unexpected(expected)
	}
}

func (p *jsonExplainer) list(end byte, between string, item func(first bool)) {
	p.at++
	if p.space(); p.at < len(p.src) && p.src[p.at] == end {
		p.at++
		return
	}
	for first := true; p.err == nil; first = false {
		if item(first); p.err != nil {
			return
		}
		if p.space(); p.at < len(p.src) && p.src[p.at] == ',' {
			p.at++
			continue
		}
		if p.at < len(p.src) && p.src[p.at] == end {
			p.at++
			return
		}
		p.unexpected(between)
	}
}

func (p *jsonExplainer) str() {
	start := p.at
	for p.at++; p.at < len(p.src); p.at++ {
		switch c := p.src[p.at]; {
		case c == '"':
			p.at++
			return
		case c < ' ':
			p.fail("Character with value 0x"+strconv.FormatInt(int64(c)+0x100, 16)[1:]+" must be escaped.", p.at)
			return
		case c == '\\':
			p.at++
			if p.at >= len(p.src) {
				continue
			}
			if c := p.src[p.at]; strings.IndexByte(`"\/bfnrtu`, c) < 0 {
				_, n := utf8.DecodeRune(p.src[p.at:])
				p.fail("Escape sequence \"\\"+string(p.src[p.at:p.at+n])+"\" is invalid.", p.at+n)
				return
			} else if c == 'u' {
				for k := 1; k <= 4; k++ {
					if p.at+k >= len(p.src) || !isHexDigit(p.src[p.at+k]) {
						p.fail("\"\\u\" must be followed by four hexadecimal digits.", min(p.at+k+1, len(p.src)))
						return
					}
				}
				p.at += 4
			}
		}
	}
	p.fail("Token \""+string(p.src[start:])+"\" is invalid.", len(p.src))
}

func isHexDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
