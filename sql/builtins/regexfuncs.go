package builtins

import (
	"strings"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func defineRegexp(d definitions) {
	flagsOf := func(a tree.Datums, i int) string {
		if len(a) > i {
			return str(a[i])
		}
		return ""
	}
	replace := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		out, err := regexpReplace(str(a[0]), str(a[1]), str(a[2]), flagsOf(a, 3), 1, -1)
		if err != nil {
			return nil, err
		}
		return text(out)
	}
	d.scalar("regexp_replace", ts(tText, tText, tText), tText, replace)
	d.scalar("regexp_replace", ts(tText, tText, tText, tText), tText, replace)
	// regexp_replace(string, pattern, replacement, start [, N [, flags]])
	replaceN := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := int64(1)
		if len(a) > 4 {
			n = num(a[4])
		}
		if num(a[3]) <= 0 {
			return nil, pgerr.Newf("22023", "invalid value for parameter %q: %d", "start", num(a[3]))
		}
		if n < 0 {
			return nil, pgerr.Newf("22023", "invalid value for parameter %q: %d", "n", n)
		}
		out, err := regexpReplace(str(a[0]), str(a[1]), str(a[2]), flagsOf(a, 5), num(a[3]), n)
		if err != nil {
			return nil, err
		}
		return text(out)
	}
	d.scalar("regexp_replace", ts(tText, tText, tText, tInt), tText, replaceN)
	d.scalar("regexp_replace", ts(tText, tText, tText, tInt, tInt), tText, replaceN)
	d.scalar("regexp_replace", ts(tText, tText, tText, tInt, tInt, tText), tText, replaceN)

	match := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		flags := flagsOf(a, 2)
		if strings.Contains(flags, "g") {
			return nil, pgerr.New("22023", `regexp_match() does not support the "global" option`).
				WithHint("Use the regexp_matches function instead.")
		}
		re, err := compileRegexp(str(a[1]), flags)
		if err != nil {
			return nil, err
		}
		s := str(a[0])
		loc := re.FindStringSubmatchIndex(s)
		if loc == nil {
			return tree.DNull, nil
		}
		return groups(s, loc), nil
	}
	d.scalar("regexp_match", ts(tText, tText), types.StringArray, match)
	d.scalar("regexp_match", ts(tText, tText, tText), types.StringArray, match)
	d.scalar("regexp_like", ts(tText, tText), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		ok, err := matchRegexp(str(a[0]), str(a[1]), "")
		return tree.MakeDBool(tree.DBool(ok)), err
	})
	d.scalar("regexp_like", ts(tText, tText, tText), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		ok, err := matchRegexp(str(a[0]), str(a[1]), str(a[2]))
		return tree.MakeDBool(tree.DBool(ok)), err
	})
	count := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		re, err := compileRegexp(str(a[1]), flagsOf(a, 3))
		if err != nil {
			return nil, err
		}
		s := str(a[0])
		if len(a) > 2 {
			s = substr(s, num(a[2]), -1)
		}
		return dint(int64(len(re.FindAllStringIndex(s, -1))))
	}
	d.scalar("regexp_count", ts(tText, tText), tInt4, count)
	d.scalar("regexp_count", ts(tText, tText, tInt), tInt4, count)
	d.scalar("regexp_count", ts(tText, tText, tInt, tText), tInt4, count)
	regSubstr := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		re, err := compileRegexp(str(a[1]), flagsOf(a, 4))
		if err != nil {
			return nil, err
		}
		s, n := str(a[0]), int64(1)
		if len(a) > 2 {
			s = substr(s, num(a[2]), -1)
		}
		if len(a) > 3 {
			n = num(a[3])
		}
		all := re.FindAllString(s, -1)
		if n < 1 || n > int64(len(all)) {
			return tree.DNull, nil
		}
		return text(all[n-1])
	}
	d.scalar("regexp_substr", ts(tText, tText), tText, regSubstr)
	d.scalar("regexp_substr", ts(tText, tText, tInt), tText, regSubstr)
	d.scalar("regexp_substr", ts(tText, tText, tInt, tInt), tText, regSubstr)
	d.scalar("regexp_substr", ts(tText, tText, tInt, tInt, tText), tText, regSubstr)
	instr := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		re, err := compileRegexp(str(a[1]), "")
		if err != nil {
			return nil, err
		}
		s := str(a[0])
		loc := re.FindStringIndex(s)
		if loc == nil {
			return dint(0)
		}
		return dint(int64(utf8.RuneCountInString(s[:loc[0]])) + 1)
	}
	d.scalar("regexp_instr", ts(tText, tText), tInt4, instr)
	split := func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		parts, err := regexpSplit(str(a[0]), str(a[1]), flagsOf(a, 2))
		if err != nil {
			return nil, err
		}
		return textArray(parts), nil
	}
	d.scalar("regexp_split_to_array", ts(tText, tText), types.StringArray, split)
	d.scalar("regexp_split_to_array", ts(tText, tText, tText), types.StringArray, split)
	// substring(string from pattern)
	for _, n := range []string{"substring", "substr"} {
		d.scalar(n, ts(tText, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			re, err := compileRegexp(str(a[1]), "")
			if err != nil {
				return nil, err
			}
			s := str(a[0])
			loc := re.FindStringSubmatchIndex(s)
			switch {
			case loc == nil:
				return tree.DNull, nil
			case len(loc) > 2 && loc[2] >= 0:
				return text(s[loc[2]:loc[3]])
			case len(loc) > 2:
				return tree.DNull, nil
			}
			return text(s[loc[0]:loc[1]])
		})
		d.scalar(n, ts(tText, tText, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			// substring(string from pattern for escape): SQL's own form.
			s, p, esc := str(a[0]), str(a[1]), str(a[2])
			sep := esc + `"`
			parts := strings.Split(p, sep)
			if len(parts) != 3 {
				ok, err := matchSimilar(s, p, esc)
				if err != nil || !ok {
					return tree.DNull, err
				}
				return a[0], nil
			}
			var re strings.Builder
			for i, part := range parts {
				r, err := similarToRegexp(part, esc)
				if err != nil {
					return nil, err
				}
				r = strings.TrimSuffix(strings.TrimPrefix(r, "^"), "$")
				if i == 1 {
					r = "(" + strings.TrimPrefix(r, "(?:")
				} else if i == 0 {
					r = "^" + r
				} else {
					r += "$"
				}
				re.WriteString(r)
			}
			c, err := compileRegexp(re.String(), "")
			if err != nil {
				return nil, err
			}
			m := c.FindStringSubmatch(s)
			if m == nil {
				return tree.DNull, nil
			}
			return text(m[1])
		})
	}
}

// groups returns the groups of a match, or the whole match if there are none.
func groups(s string, loc []int) *tree.DArray {
	out := tree.NewDArray(types.String)
	if len(loc) == 2 {
		_ = out.Append(tree.NewDString(s[loc[0]:loc[1]]))
		return out
	}
	for i := 2; i < len(loc); i += 2 {
		if loc[i] < 0 {
			_ = out.Append(tree.DNull)
		} else {
			_ = out.Append(tree.NewDString(s[loc[i]:loc[i+1]]))
		}
	}
	return out
}

func textArray(parts []string) *tree.DArray {
	out := tree.NewDArray(types.String)
	out.Array = make(tree.Datums, 0, len(parts))
	for _, p := range parts {
		_ = out.Append(tree.NewDString(p))
	}
	return out
}

// regexpReplace replaces the n-th match (all if n is 0, by the g flag if it is -1)
// at or after the start-th character.
func regexpReplace(s, pattern, repl, flags string, start, n int64) (string, error) {
	if n < 0 {
		n = 1
		if strings.Contains(flags, "g") {
			n = 0
		}
	}
	re, err := compileRegexp(pattern, strings.ReplaceAll(flags, "g", ""))
	if err != nil {
		return "", err
	}
	head := ""
	if start > 1 {
		head, s = substr(s, 1, start-1), substr(s, start, -1)
	}
	limit := -1
	if n > 0 {
		limit = int(n)
	}
	var b strings.Builder
	b.WriteString(head)
	last := 0
	for i, loc := range re.FindAllStringSubmatchIndex(s, limit) {
		if n > 0 && int64(i) != n-1 {
			continue
		}
		b.WriteString(s[last:loc[0]])
		expandReplacement(&b, repl, s, loc)
		last = loc[1]
		if b.Len() > maxResultBytes {
			return "", errTooLong()
		}
	}
	b.WriteString(s[last:])
	return b.String(), nil
}

// expandReplacement writes repl with \1…\9, \& and \\.
func expandReplacement(b *strings.Builder, repl, s string, loc []int) {
	for i := 0; i < len(repl); i++ {
		if repl[i] != '\\' || i+1 == len(repl) {
			b.WriteByte(repl[i])
			continue
		}
		i++
		switch c := repl[i]; {
		case c == '&':
			b.WriteString(s[loc[0]:loc[1]])
		case c >= '1' && c <= '9':
			if g := int(c-'0') * 2; g+1 < len(loc) && loc[g] >= 0 {
				b.WriteString(s[loc[g]:loc[g+1]])
			}
		case c == '\\':
			b.WriteByte('\\')
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
}

// regexpSplit cuts s at matches; empty matches cut between characters but not at
// the ends.
func regexpSplit(s, pattern, flags string) ([]string, error) {
	re, err := compileRegexp(pattern, flags)
	if err != nil {
		return nil, err
	}
	var parts []string
	last := 0
	for _, loc := range re.FindAllStringIndex(s, -1) {
		if loc[0] == loc[1] && (loc[0] >= len(s) || loc[0] == last) {
			continue
		}
		parts = append(parts, s[last:loc[0]])
		last = loc[1]
	}
	return append(parts, s[last:]), nil
}
