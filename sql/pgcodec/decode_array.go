package pgcodec

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// decodeArray reads {1,2,NULL,"a b"} and, for the vector types, "1 2 3".
func (c *Codec) decodeArray(text string, s *Settings) (tree.Datum, error) {
	out := tree.NewDArray(c.elem.typ)
	add := func(d tree.Datum, err error) error {
		if err != nil {
			return err
		}
		return out.Append(d)
	}
	if c.OID == oid.T_int2vector || c.OID == oid.T_oidvector {
		for _, f := range strings.Fields(text) {
			if err := add(c.elem.DecodeText([]byte(f), s)); err != nil {
				return nil, err
			}
		}
		if c.OID == oid.T_oidvector {
			return tree.NewDOidVectorFromDArray(out), nil
		}
		return tree.NewDIntVectorFromDArray(out), nil
	}
	malformed := func(detail string) error {
		return pgerr.Newf(pgerr.InvalidTextRepresentation, "malformed array literal: \"%s\"", text).WithDetail("%s", detail)
	}
	i := 0
	skip := func() {
		for i < len(text) && isSpace(text[i]) {
			i++
		}
	}
	skip()
	if i < len(text) && text[i] == '[' { // explicit bounds: [1:3]={…}
		eq := strings.IndexByte(text[i:], '=')
		if eq < 0 {
			return nil, malformed("Missing \"=\" after array dimensions.")
		}
		i += eq + 1
		skip()
	}
	if i >= len(text) || text[i] != '{' {
		return nil, malformed("Array value must start with \"{\" or dimension information.")
	}
	i++
	skip()
	if i < len(text) && text[i] == '}' {
		i++
	} else {
		for {
			skip()
			var elem []byte
			quoted := false
			switch {
			case i >= len(text):
				return nil, malformed("Unexpected end of input.")
			case text[i] == '{':
				return nil, pgerr.New(pgerr.FeatureNotSupported, "multidimensional arrays are not supported")
			case text[i] == '"':
				quoted = true
				i++
				for i < len(text) && text[i] != '"' {
					if text[i] == '\\' {
						i++
						if i >= len(text) {
							break
						}
					}
					elem = append(elem, text[i])
					i++
				}
				if i >= len(text) {
					return nil, malformed("Unexpected end of input.")
				}
				i++
				skip()
			default:
				keep := 0 // blanks after this point are not part of the element
				for i < len(text) && text[i] != ',' && text[i] != '}' {
					switch ch := text[i]; {
					case ch == '"' || ch == '{':
						return nil, malformed("Unexpected \"" + string(ch) + "\" character.")
					case ch == '\\':
						i++
						if i >= len(text) {
							return nil, malformed("Unexpected end of input.")
						}
						elem = append(elem, text[i])
						keep = len(elem)
						quoted = true
					default:
						elem = append(elem, ch)
						if !isSpace(ch) {
							keep = len(elem)
						}
					}
					i++
				}
				elem = elem[:keep]
				if keep == 0 {
					if i < len(text) {
						return nil, malformed("Unexpected \"" + string(text[i]) + "\" character.")
					}
					return nil, malformed("Unexpected end of input.")
				}
			}
			var err error
			if !quoted && strings.EqualFold(string(elem), "null") {
				err = add(tree.DNull, nil)
			} else {
				err = add(c.elem.DecodeText(elem, s))
			}
			if err != nil {
				return nil, err
			}
			if i >= len(text) {
				return nil, malformed("Unexpected end of input.")
			}
			ch := text[i]
			i++
			if ch == '}' {
				break
			}
			if ch != ',' {
				return nil, malformed("Unexpected array element.")
			}
		}
	}
	skip()
	if i != len(text) {
		return nil, malformed("Junk after closing right brace.")
	}
	return out, nil
}
