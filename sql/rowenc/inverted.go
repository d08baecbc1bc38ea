package rowenc

import (
	"bytes"
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/util/json"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// InvertedKeys returns the key parts under which an inverted index holds d,
// sorted and distinct: one per element of an array, one per path to a leaf of a
// JSON value. NULL has none.
func InvertedKeys(d tree.Datum) ([][]byte, error) {
	if d == tree.DNull {
		return nil, nil
	}
	var out [][]byte
	switch t := unwrap(d).(type) {
	case *tree.DArray:
		if len(t.Array) == 0 {
			return [][]byte{{emptyArrayInv}}, nil
		}
		for _, e := range t.Array {
			b, err := EncodeKeyDatum(nil, e, Asc)
			if err != nil {
				return nil, err
			}
			out = append(out, b)
		}
	case *tree.DJSON:
		var err error
		if out, err = json.EncodeInvertedIndexKeys(nil, t.JSON); err != nil {
			return nil, err
		}
	default:
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "a value of type %s cannot be in an inverted index", d.ResolvedType())
	}
	sort.Slice(out, func(i, j int) bool { return bytes.Compare(out[i], out[j]) < 0 })
	n := 0
	for i, b := range out {
		if i == 0 || !bytes.Equal(b, out[n-1]) {
			out[n] = b
			n++
		}
	}
	return out[:n], nil
}
