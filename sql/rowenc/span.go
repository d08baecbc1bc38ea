package rowenc

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	enc "github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// Bound limits one column. A nil *Bound is open.
type Bound struct {
	Datum     tree.Datum
	Inclusive bool
}

// IndexKey returns the key prefix of the entries of x whose first key columns
// have these values. The values must have the types of the columns.
func IndexKey(x *catalog.Index, values tree.Datums) (keys.Key, error) {
	b := []byte(x.Prefix())
	var err error
	for i, d := range values {
		dir := Asc
		if i < len(x.KeyDirections) {
			dir = x.KeyDirections[i]
		}
		if b, err = EncodeKeyDatum(b, d, dir); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// PrefixSpan returns the span of the entries of x whose first key columns have
// these values; no values: the whole index.
func PrefixSpan(x *catalog.Index, values tree.Datums) (keys.Span, error) {
	k, err := IndexKey(x, values)
	if err != nil {
		return keys.Span{}, err
	}
	return keys.Prefix(k), nil
}

// RangeSpan returns the span of the entries of x whose first key columns equal
// prefix and whose next key column lies between lo and hi, NULL excluded. With
// both bounds open these are the entries where that column is not NULL. ok is
// false when the span is empty.
func RangeSpan(x *catalog.Index, prefix tree.Datums, lo, hi *Bound) (sp keys.Span, ok bool, err error) {
	base, err := IndexKey(x, prefix)
	if err != nil {
		return sp, false, err
	}
	dir := Asc // of the columns that complete the key
	if len(prefix) < len(x.KeyDirections) {
		dir = x.KeyDirections[len(prefix)]
	}
	encode := func(d tree.Datum) (keys.Key, error) {
		return EncodeKeyDatum(append(make([]byte, 0, len(base)+16), base...), d, dir)
	}
	if dir == Desc {
		lo, hi = hi, lo // The greatest value has the least key.
	}
	start, end := base, base.PrefixEnd()
	switch {
	case lo != nil:
		if start, err = encode(lo.Datum); err != nil {
			return sp, false, err
		}
		if !lo.Inclusive {
			start = start.PrefixEnd()
		}
	case dir == Asc:
		start = enc.EncodeNotNullAscending(append(make([]byte, 0, len(base)+1), base...))
	}
	switch {
	case hi != nil:
		if end, err = encode(hi.Datum); err != nil {
			return sp, false, err
		}
		if hi.Inclusive {
			end = end.PrefixEnd()
		}
	case dir == Desc:
		end = enc.EncodeNotNullDescending(append(make([]byte, 0, len(base)+1), base...))
	}
	return keys.Span{Key: start, EndKey: end}, start.Less(end), nil
}

// NullSpan returns the span of the entries of x whose first key columns equal
// prefix and whose next key column is NULL.
func NullSpan(x *catalog.Index, prefix tree.Datums) (keys.Span, error) {
	return PrefixSpan(x, append(append(tree.Datums(nil), prefix...), tree.DNull))
}

// SplitKey returns the key at which to split x before the entry with these
// values, for SPLIT AT.
func SplitKey(x *catalog.Index, values tree.Datums) (keys.Key, error) { return IndexKey(x, values) }
