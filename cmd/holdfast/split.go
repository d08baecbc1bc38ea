package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitStatement finds the end of the first statement of text: the position after
// the semicolon that is not inside a string, an identifier, a comment or a dollar
// quote. ok is false if there is none; then quote says what is still open, empty
// if nothing is.
func splitStatement(text string) (end int, ok bool, quote string) {
	for i := 0; i < len(text); {
		switch ch := text[i]; {
		case ch == ';':
			return i + 1, true, ""
		case ch == '\'':
			escapes := i > 0 && (text[i-1] == 'e' || text[i-1] == 'E') && (i == 1 || !isIdent(text[:i-1]))
			n := quotedEnd(text[i:], '\'', escapes)
			if n < 0 {
				return 0, false, "'"
			}
			i += n
		case ch == '"':
			n := quotedEnd(text[i:], '"', false)
			if n < 0 {
				return 0, false, "\""
			}
			i += n
		case strings.HasPrefix(text[i:], "--"):
			n := strings.IndexByte(text[i:], '\n')
			if n < 0 {
				return 0, false, ""
			}
			i += n + 1
		case strings.HasPrefix(text[i:], "/*"):
			n := commentEnd(text[i:])
			if n < 0 {
				return 0, false, "*"
			}
			i += n
		case ch == '$' && !isIdent(text[:i]):
			tag := dollarTag(text[i:])
			if tag == "" {
				i++
				continue
			}
			n := strings.Index(text[i+len(tag):], tag)
			if n < 0 {
				return 0, false, "$"
			}
			i += 2*len(tag) + n
		default:
			i++
		}
	}
	return 0, false, ""
}

// isIdent says that before ends in a character of an identifier.
func isIdent(before string) bool {
	r, _ := utf8.DecodeLastRuneInString(before)
	return before != "" && (r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r))
}

// quotedEnd returns the length of the quoted text at the start of s, or -1.
func quotedEnd(s string, quote byte, escapes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return -1
}

// commentEnd returns the length of the comment at the start of s, or -1; comments nest.
func commentEnd(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// dollarTag returns the $tag$ at the start of s, or "".
func dollarTag(s string) string {
	for i := 1; i < len(s); i++ {
		r, _ := utf8.DecodeRuneInString(s[i:])
		if s[i] == '$' {
			return s[:i+1]
		}
		if r != '_' && !unicode.IsLetter(r) && (i == 1 || !unicode.IsDigit(r)) {
			return ""
		}
	}
	return ""
}

// isBlank says that a text has nothing to send: blanks, comments and semicolons.
func isBlank(text string) bool {
	for {
		text = strings.TrimLeftFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == ';' })
		switch {
		case text == "":
			return true
		case strings.HasPrefix(text, "--"):
			n := strings.IndexByte(text, '\n')
			if n < 0 {
				return true
			}
			text = text[n+1:]
		case strings.HasPrefix(text, "/*"):
			n := commentEnd(text)
			if n < 0 {
				return false
			}
			text = text[n:]
		default:
			return false
		}
	}
}

// firstWords returns the first n words of a statement in lower case, skipping
// comments.
func firstWords(text string, n int) []string {
	var words []string
	for len(words) < n {
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
		switch {
		case text == "":
			return words
		case strings.HasPrefix(text, "--"):
			_, text, _ = strings.Cut(text, "\n")
			continue
		case strings.HasPrefix(text, "/*"):
			k := commentEnd(text)
			if k < 0 {
				return words
			}
			text = text[k:]
			continue
		}
		k := strings.IndexFunc(text, func(r rune) bool { return !(r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r)) })
		if k == 0 {
			_, k = utf8.DecodeRuneInString(text)
		} else if k < 0 {
			k = len(text)
		}
		words = append(words, strings.ToLower(text[:k]))
		text = text[k:]
	}
	return words
}
