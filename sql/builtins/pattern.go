package builtins

import (
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// registerPatterns fills in the pattern operators, which the parser leaves empty.
func registerPatterns() {
	set := func(op tree.ComparisonOperator, match func(s, pattern string) (bool, error)) {
		for _, o := range tree.CmpOps[op] {
			o.(*tree.CmpOp).Fn = func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
				s, _ := textOf(unwrap(l))
				p, _ := textOf(unwrap(r))
				if len(s)+len(p) > longText {
					return leave(ctx, func(*tree.EvalContext) (tree.Datum, error) {
						ok, err := match(s, p)
						return tree.MakeDBool(tree.DBool(ok)), err
					})
				}
				ok, err := match(s, p)
				return tree.MakeDBool(tree.DBool(ok)), err
			}
		}
	}
	set(tree.Like, func(s, p string) (bool, error) { return matchLike(s, p, '\\') })
	set(tree.ILike, func(s, p string) (bool, error) {
		return matchLike(strings.ToLower(s), strings.ToLower(p), '\\')
	})
	set(tree.SimilarTo, func(s, p string) (bool, error) { return matchSimilar(s, p, `\`) })
	set(tree.RegMatch, func(s, p string) (bool, error) { return matchRegexp(s, p, "") })
	set(tree.RegIMatch, func(s, p string) (bool, error) { return matchRegexp(s, p, "i") })
}

func unwrap(d tree.Datum) tree.Datum {
	if w, ok := d.(*tree.DOidWrapper); ok {
		return w.Wrapped
	}
	return d
}

// matchLike matches s with a LIKE pattern; escape 0 means that there is none.
func matchLike(s, p string, escape rune) (bool, error) {
	// The classic two-pointer search: on a mismatch the last % takes one more
	// character. It needs no memory and at most len(s)*len(p) steps.
	si, pi := 0, 0
	starP, starS := -1, 0
	for si < len(s) || pi < len(p) {
		if pi < len(p) {
			c, n := utf8.DecodeRuneInString(p[pi:])
			switch {
			case c == escape && escape != 0:
				if pi+n >= len(p) {
					return false, pgerr.New("22025", "LIKE pattern must not end with escape character")
				}
				lit, ln := utf8.DecodeRuneInString(p[pi+n:])
				if si < len(s) {
					if sc, sn := utf8.DecodeRuneInString(s[si:]); sc == lit && (lit != utf8.RuneError || s[si] == p[pi+n]) {
						si += sn
						pi += n + ln
						continue
					}
				}
			case c == '%':
				starP, starS = pi+n, si
				pi += n
				continue
			case si < len(s):
				sc, sn := utf8.DecodeRuneInString(s[si:])
				if c == '_' || sc == c && (c != utf8.RuneError || s[si] == p[pi]) {
					si += sn
					pi += n
					continue
				}
			}
		}
		if starP < 0 || starS >= len(s) {
			return false, nil
		}
		_, sn := utf8.DecodeRuneInString(s[starS:])
		starS += sn
		si, pi = starS, starP
		if pi == len(p) {
			return true, nil // A trailing % takes the rest.
		}
	}
	return true, nil
}

func matchSimilar(s, p, escape string) (bool, error) {
	re, err := similarToRegexp(p, escape)
	if err != nil {
		return false, err
	}
	return matchRegexp(s, re, "")
}

// similarToRegexp translates a SQL regular expression.
func similarToRegexp(p, escape string) (string, error) {
	if utf8.RuneCountInString(escape) > 1 {
		return "", pgerr.New("22019", "invalid escape string").WithHint("Escape string must be empty or one character.")
	}
	var b strings.Builder
	b.WriteString("^(?:")
	afterEscape, inClass := false, false
	for _, c := range p {
		switch {
		case afterEscape:
			b.WriteString(regexp.QuoteMeta(string(c)))
			afterEscape = false
		case escape != "" && string(c) == escape:
			afterEscape = true
		case inClass:
			if c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteRune(c)
			inClass = c != ']'
		case c == '[':
			b.WriteRune(c)
			inClass = true
		case c == '%':
			b.WriteString(".*")
		case c == '_':
			b.WriteByte('.')
		case c == '(':
			b.WriteString("(?:")
		case strings.ContainsRune(`\.^$`, c):
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteString(")$")
	return b.String(), nil
}

func matchRegexp(s, p, flags string) (bool, error) {
	re, err := compileRegexp(p, flags)
	if err != nil {
		return false, err
	}
	return re.MatchString(s), nil
}

// regexpCache keeps compiled expressions: a query has few and uses them for each row.
var regexpCache = struct {
	sync.Mutex
	m map[string]*regexp.Regexp
}{m: map[string]*regexp.Regexp{}}

const regexpCacheSize = 512

// compileRegexp compiles a PostgreSQL regular expression with its flags.
// Back references and look-around have no counterpart in Go and are refused.
func compileRegexp(p, flags string) (*regexp.Regexp, error) {
	key := flags + "/" + p
	regexpCache.Lock()
	re, ok := regexpCache.m[key]
	regexpCache.Unlock()
	if ok {
		return re, nil
	}
	expr, longest, err := translateRegexp(p, flags)
	if err != nil {
		return nil, err
	}
	if re, err = regexp.Compile(expr); err != nil {
		msg := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		for _, m := range [][2]string{
			{"missing closing )", "parentheses () not balanced"}, {"unexpected )", "parentheses () not balanced"},
			{"missing closing ]", "brackets [] not balanced"}, {"missing argument to repetition", "quantifier operand invalid"},
			{"invalid character class range", "invalid character range"}, {"invalid repeat count", "invalid repetition count(s)"},
			{"trailing backslash", "invalid escape \\ sequence"}, {"invalid escape sequence", "invalid escape \\ sequence"},
		} {
			if strings.HasPrefix(msg, m[0]) {
				msg = m[1]
			}
		}
		return nil, pgerr.Newf("2201B", "invalid regular expression: %s", msg)
	}
	if longest {
		re.Longest()
	}
	regexpCache.Lock()
	if len(regexpCache.m) >= regexpCacheSize {
		clear(regexpCache.m)
	}
	regexpCache.m[key] = re
	regexpCache.Unlock()
	return re, nil
}

// translateRegexp turns an ARE into Go syntax. longest says that matches are the
// longest at their place, as in PostgreSQL unless a quantifier is not greedy.
func translateRegexp(p, flags string) (expr string, longest bool, err error) {
	goFlags := "s" // The dot matches newlines; ^ and $ only the ends.
	literal := false
	for _, f := range flags {
		switch f {
		case 'i':
			goFlags += "i"
		case 'c':
			goFlags = strings.ReplaceAll(goFlags, "i", "")
		case 'n', 'm':
			goFlags = strings.ReplaceAll(goFlags, "s", "") + "m"
		case 'p':
			goFlags = strings.ReplaceAll(goFlags, "s", "")
		case 'w':
			goFlags += "m"
		case 's', 't', 'e', 'g':
		case 'q':
			literal = true
		case 'x':
			p = stripExpanded(p)
		default:
			return "", false, pgerr.Newf("22023", "invalid regular expression option: %q", string(f))
		}
	}
	if strings.HasPrefix(p, "***=") {
		literal, p = true, p[4:]
	} else {
		p = strings.TrimPrefix(p, "***:")
	}
	if literal {
		return "(?" + goFlags + ")" + regexp.QuoteMeta(p), true, nil
	}
	var b strings.Builder
	b.WriteString("(?" + goFlags + ")")
	longest = true
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '\\' && i+1 < len(p) {
			i++
			switch n := p[i]; {
			case n == 'm' || n == 'M' || n == 'y':
				b.WriteString(`\b`)
			case n == 'Y':
				b.WriteString(`\B`)
			case n == 'A' || n == 'Z':
				b.WriteString(map[byte]string{'A': `\A`, 'Z': `\z`}[n])
			case n >= '1' && n <= '9' && !inClass:
				return "", false, pgerr.New(pgerr.FeatureNotSupported, "back references in regular expressions are not supported")
			case n == 'e':
				b.WriteString(`\x1b`)
			case n == 'B':
				b.WriteString(`\\`)
			case n == 'u' && i+4 < len(p):
				b.WriteString(`\x{` + p[i+1:i+5] + `}`)
				i += 4
			case n < utf8.RuneSelf && (n == '_' || n >= 'a' && n <= 'z' || n >= 'A' && n <= 'Z' || n >= '0' && n <= '9'):
				b.WriteByte('\\')
				b.WriteByte(n)
			default:
				_, size := utf8.DecodeRuneInString(p[i:])
				b.WriteString(regexp.QuoteMeta(p[i : i+size]))
				i += size - 1
			}
			continue
		}
		if inClass {
			switch {
			case c == '[' && i+1 < len(p) && (p[i+1] == ':' || p[i+1] == '.' || p[i+1] == '='):
				end := strings.Index(p[i+2:], string(p[i+1])+"]")
				if end < 0 {
					return "", false, pgerr.New("2201B", "invalid regular expression: brackets [] not balanced")
				}
				name := p[i+2 : i+2+end]
				if p[i+1] == ':' {
					b.WriteString("[:" + name + ":]")
				} else {
					b.WriteString(regexp.QuoteMeta(name))
				}
				i += end + 3
			case c == '[':
				b.WriteString(`\[`)
			case c == ']':
				inClass = false
				b.WriteByte(c)
			default:
				b.WriteByte(c)
			}
			continue
		}
		switch {
		case c == '[':
			if strings.HasPrefix(p[i:], "[[:<:]]") || strings.HasPrefix(p[i:], "[[:>:]]") {
				b.WriteString(`\b`)
				i += 6
				continue
			}
			inClass = true
			b.WriteByte(c)
			if i+1 < len(p) && p[i+1] == '^' {
				i++
				b.WriteByte('^')
			}
			if i+1 < len(p) && p[i+1] == ']' { // A first ] stands for itself.
				i++
				b.WriteString(`\]`)
			}
		case c == '?' && i > 0 && strings.IndexByte("*+?}", p[i-1]) >= 0 && (i < 2 || p[i-2] != '\\'):
			longest = false
			b.WriteByte(c)
		case strings.HasPrefix(p[i:], "(?=") || strings.HasPrefix(p[i:], "(?!") || strings.HasPrefix(p[i:], "(?<"):
			return "", false, pgerr.New(pgerr.FeatureNotSupported, "look-around in regular expressions is not supported")
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), longest, nil
}

// stripExpanded removes what the x flag says is no part of the expression.
func stripExpanded(p string) string {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\' && i+1 < len(p):
			b.WriteByte(c)
			i++
			b.WriteByte(p[i])
		case inClass:
			inClass = c != ']'
			b.WriteByte(c)
		case c == '[':
			inClass = true
			b.WriteByte(c)
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		case c == '#':
			for i < len(p) && p[i] != '\n' {
				i++
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
