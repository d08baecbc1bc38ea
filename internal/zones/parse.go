package zones

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// ParseConstraint reads "+region=eu", "-ssd" or the old form "ssd".
func ParseConstraint(s string) (Constraint, error) {
	s = strings.TrimSpace(s)
	bad := fmt.Errorf("constraint needs to be in the form \"(key=)value\", not %q", s)
	var k Constraint
	switch {
	case strings.HasPrefix(s, "+"):
	case strings.HasPrefix(s, "-"):
		k.Prohibited = true
	default:
		return k, &InvalidError{"constraints must either be required (prefixed with a '+') or prohibited (prefixed with a '-')"}
	}
	parts := strings.Split(s[1:], "=")
	switch {
	case len(parts) == 1 && parts[0] != "":
		k.Value = parts[0]
	case len(parts) == 2 && parts[0] != "" && parts[1] != "":
		k.Key, k.Value = parts[0], parts[1]
	default:
		return k, bad
	}
	return k, nil
}

// InvalidError says that a configuration can be read and means nothing.
type InvalidError struct{ text string }

func (e *InvalidError) Error() string { return e.text }

// ParseConstraints reads the list form '[+region=eu, -ssd]' and the map form
// '{+region=eu: 2, "+region=us,+ssd": 1}'.
func ParseConstraints(in string) ([]Conjunction, error) {
	v, err := parseFlow(in)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		cs, err := constraintList(v)
		if err != nil || len(cs) == 0 {
			return nil, err
		}
		return []Conjunction{{Constraints: cs}}, nil
	case map[string]any:
		var out []Conjunction
		for key, n := range v {
			count, err := strconv.ParseInt(fmt.Sprint(n), 10, 32)
			if err != nil {
				return nil, fmt.Errorf("invalid per-replica constraint count %v of %q", n, key)
			}
			if count < 1 {
				return nil, &InvalidError{"constraints must apply to at least one replica"}
			}
			j := Conjunction{NumReplicas: int32(count)}
			for _, s := range strings.Split(key, ",") {
				k, err := ParseConstraint(s)
				if err != nil {
					return nil, err
				}
				j.Constraints = append(j.Constraints, k)
			}
			out = append(out, j)
		}
		sort.Slice(out, func(i, j int) bool { return fmt.Sprint(out[i].Constraints) < fmt.Sprint(out[j].Constraints) })
		return out, nil
	}
	return nil, fmt.Errorf("invalid constraints %q: a list or a map is expected", in)
}

// ParseLeasePreferences reads '[[+region=a], [+region=b]]'.
func ParseLeasePreferences(in string) ([][]Constraint, error) {
	v, err := parseFlow(in)
	if err != nil {
		return nil, err
	}
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, fmt.Errorf("invalid lease preferences %q: a list of lists is expected", in)
	}
	var out [][]Constraint
	for _, e := range list {
		l, ok := e.([]any)
		if !ok {
			return nil, fmt.Errorf("invalid lease preferences %q: a list of lists is expected", in)
		}
		cs, err := constraintList(l)
		if err != nil {
			return nil, fmt.Errorf("lease preference %w", err)
		}
		out = append(out, cs)
	}
	return out, nil
}

func constraintList(v []any) ([]Constraint, error) {
	var out []Constraint
	for _, e := range v {
		s, ok := e.(string)
		if !ok {
			s = fmt.Sprint(e)
		}
		k, err := ParseConstraint(s)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// bareWord is a flow scalar without quotes: everything up to the next bracket,
// comma or colon.
var bareWord = regexp.MustCompile(`^[^\[\]{},:"']+`)

// parseFlow reads the flow syntax shared by YAML and JSON as far as constraints
// use it, by quoting bare words and leaving the rest to the JSON decoder.
func parseFlow(in string) (any, error) {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(in); {
		switch ch := in[i]; ch {
		case ' ', '\t', '\n', '\r':
			i++
		case '[', ']', '{', '}', ',', ':':
			if ch == '[' || ch == '{' {
				if depth++; depth > 8 {
					return nil, fmt.Errorf("%q is nested too deeply", in)
				}
			}
			b.WriteByte(ch)
			i++
		case '"', '\'':
			end := strings.IndexByte(in[i+1:], ch)
			if end < 0 {
				return nil, fmt.Errorf("unterminated quote in %q", in)
			}
			q, _ := json.Marshal(in[i+1 : i+1+end])
			b.Write(q)
			i += end + 2
		default:
			w := bareWord.FindString(in[i:])
			i += len(w)
			word := strings.TrimSpace(w)
			if _, err := strconv.Atoi(word); err == nil && !strings.HasPrefix(word, "+") && !strings.HasPrefix(word, "-") {
				b.WriteString(word)
			} else {
				q, _ := json.Marshal(word)
				b.Write(q)
			}
		}
	}
	if b.Len() == 0 {
		return nil, nil
	}
	var v any
	if err := json.Unmarshal([]byte(b.String()), &v); err != nil {
		return nil, fmt.Errorf("%q is neither a list nor a map of constraints", in)
	}
	return v, nil
}
