package partition

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	enc "github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// Special is a word that stands where a value could. The numbers are stored.
type Special uint64

// Default matches what no other value matches; the others are the ends of ranges.
const (
	Default  Special = 0
	MaxValue Special = 1
	MinValue Special = 2
)

func (s Special) String() string {
	switch s {
	case MaxValue:
		return "MAXVALUE"
	case MinValue:
		return "MINVALUE"
	}
	return "DEFAULT"
}

// Value is one column of a Tuple: a datum of the column's type, or if that is nil
// a special word.
type Value struct {
	Datum   tree.Datum
	Special Special
}

func (v Value) String() string {
	if v.Datum == nil {
		return v.Special.String()
	}
	if s, ok := v.Datum.(*tree.DCollatedString); ok {
		return tree.NewDString(s.Contents).String() // A label of an enum.
	}
	return v.Datum.String()
}

// Tuple is what a row's first columns are compared with. After a special word only
// the same word may follow.
type Tuple []Value

func (t Tuple) String() string {
	parts := make([]string, len(t))
	for i, v := range t {
		parts[i] = v.String()
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

// Constants returns the datums before the first special word.
func (t Tuple) Constants() tree.Datums {
	var out tree.Datums
	for _, v := range t {
		if v.Datum == nil {
			break
		}
		out = append(out, v.Datum)
	}
	return out
}

// Encode returns the bytes of the descriptor.
func (t Tuple) Encode() ([]byte, error) {
	var b []byte
	var err error
	for _, v := range t {
		if v.Datum != nil {
			if b, err = rowenc.EncodeValueDatum(b, enc.NoColumnID, v.Datum); err != nil {
				return nil, err
			}
			continue
		}
		b = enc.EncodeNotNullValue(b, enc.NoColumnID)
		b = enc.EncodeNonsortingUvarint(b, uint64(v.Special))
	}
	return b, nil
}

// Decode reads the n values of a tuple that belong to the columns of x from number
// offset on.
func Decode(x *catalog.Index, enums catalog.EnumSet, offset, n int, b []byte) (Tuple, error) {
	if offset+n > len(x.KeyColumns) {
		return nil, corrupt(x, "more columns than the index has")
	}
	var a rowenc.DatumAlloc
	t := make(Tuple, n)
	for i := range t {
		_, dataOffset, _, typ, err := enc.DecodeValueTag(b)
		if err != nil {
			return nil, corrupt(x, err.Error())
		}
		if typ == enc.NotNull {
			rest, _, v, err := enc.DecodeNonsortingUvarint(b[dataOffset:])
			if err != nil || v > uint64(MinValue) {
				return nil, corrupt(x, "an unknown special value")
			}
			t[i], b = Value{Special: Special(v)}, rest
			continue
		}
		d, rest, err := rowenc.DecodeValueDatum(&a, x.KeyColumns[offset+i].Type, enums, b)
		if err != nil {
			return nil, corrupt(x, err.Error())
		}
		t[i], b = Value{Datum: d}, rest
	}
	if len(b) > 0 {
		return nil, corrupt(x, "bytes after the last value")
	}
	return t, nil
}

func corrupt(x *catalog.Index, what string) error {
	return pgerr.Newf(pgerr.DataCorrupted, "corrupt partitioning of index \"%s\": %s", x.Name, what)
}
