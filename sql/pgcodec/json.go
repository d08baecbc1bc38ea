package pgcodec

import (
	"bytes"
	"sort"

	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/cockroachdb/apd"
)

// AppendJSON prints j as jsonb_out does: ", " and ": " between parts, shorter
// keys of an object first, numbers without exponent.
func AppendJSON(b []byte, j json.JSON) []byte {
	switch j.Type() {
	case json.ObjectJSONType:
		it, err := j.ObjectIter()
		if err != nil || it == nil {
			return appendGenericJSON(b, j)
		}
		type pair struct {
			key string
			val json.JSON
		}
		pairs := make([]pair, 0, j.Len())
		for it.Next() {
			pairs = append(pairs, pair{it.Key(), it.Value()})
		}
		sort.SliceStable(pairs, func(i, k int) bool {
			if len(pairs[i].key) != len(pairs[k].key) {
				return len(pairs[i].key) < len(pairs[k].key)
			}
			return pairs[i].key < pairs[k].key
		})
		b = append(b, '{')
		for i, p := range pairs {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = appendJSONString(b, p.key)
			b = append(b, ": "...)
			b = AppendJSON(b, p.val)
		}
		return append(b, '}')
	case json.ArrayJSONType:
		b = append(b, '[')
		for i := range j.Len() {
			if i > 0 {
				b = append(b, ", "...)
			}
			v, err := j.FetchValIdx(i)
			if err != nil || v == nil {
				return append(b, "null"...)
			}
			b = AppendJSON(b, v)
		}
		return append(b, ']')
	case json.StringJSONType:
		if s, err := j.AsText(); err == nil && s != nil {
			return appendJSONString(b, *s)
		}
	case json.NumberJSONType:
		if s, err := j.AsText(); err == nil && s != nil {
			return appendJSONNumber(b, *s)
		}
	}
	return appendGenericJSON(b, j)
}

func appendGenericJSON(b []byte, j json.JSON) []byte {
	var buf bytes.Buffer
	j.Format(&buf)
	return append(b, buf.Bytes()...)
}

// appendJSONNumber expands an exponent, as numeric_out does.
func appendJSONNumber(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == 'e' || s[i] == 'E' {
			var d apd.Decimal
			if _, _, err := d.SetString(s); err == nil {
				return AppendDecimal(b, &d)
			}
			break
		}
	}
	return append(b, s...)
}

func appendJSONString(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '"':
			b = append(b, '\\', '"')
		case ch == '\\':
			b = append(b, '\\', '\\')
		case ch == '\n':
			b = append(b, '\\', 'n')
		case ch == '\r':
			b = append(b, '\\', 'r')
		case ch == '\t':
			b = append(b, '\\', 't')
		case ch == '\b':
			b = append(b, '\\', 'b')
		case ch == '\f':
			b = append(b, '\\', 'f')
		case ch < 0x20:
			b = append(b, '\\', 'u', '0', '0', digits[ch>>4], digits[ch&15])
		default:
			b = append(b, ch)
		}
	}
	return append(b, '"')
}
