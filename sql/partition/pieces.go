package partition

import (
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// Piece is a part of an index: the keys from Start to the next piece. Name is that
// of the innermost partition that holds it, or empty.
type Piece struct {
	Start keys.Key
	Name  string
}

// Pieces cuts an index at the bounds of its partitions. The first piece begins where
// the index does, and the last ends there.
func Pieces(x *catalog.Index, enums catalog.EnumSet) ([]Piece, error) {
	m := &pieceMap{pieces: []Piece{{Start: x.Prefix()}}}
	if err := m.add(x, enums, x.PB.Partitioning, nil); err != nil {
		return nil, err
	}
	end := x.Prefix().PrefixEnd()
	m.pieces = slices.DeleteFunc(m.pieces, func(p Piece) bool { return p.Start.Equal(end) })
	return slices.CompactFunc(m.pieces, func(a, b Piece) bool { return a.Name == b.Name }), nil
}

type pieceMap struct{ pieces []Piece }

// cut makes a piece begin at k and returns its index.
func (m *pieceMap) cut(k keys.Key) int {
	i, found := slices.BinarySearchFunc(m.pieces, k, func(p Piece, k keys.Key) int { return p.Start.Compare(k) })
	if !found {
		m.pieces = slices.Insert(m.pieces, i, Piece{Start: k, Name: m.pieces[i-1].Name})
	}
	return i
}

// assign gives the keys of a span inside the index to name.
func (m *pieceMap) assign(sp keys.Span, name string) {
	lo := m.cut(sp.Key)
	hi := m.cut(sp.EndKey)
	m.pieces[lo].Name = name
	m.pieces = slices.Delete(m.pieces, lo+1, hi)
}

// add assigns what p says of the keys that begin with prefix.
func (m *pieceMap) add(x *catalog.Index, enums catalog.EnumSet, p *catalogpb.PartitioningDescriptor, prefix tree.Datums) error {
	n := int(p.GetNumColumns())
	if n == 0 {
		return nil
	}
	type value struct {
		list *catalogpb.PartitioningDescriptor_List
		t    Tuple
	}
	var values []value
	for _, l := range p.List {
		for _, b := range l.Values {
			t, err := Decode(x, enums, len(prefix), n, b)
			if err != nil {
				return err
			}
			values = append(values, value{l, t})
		}
	}
	// What says more comes later and wins: ('a', DEFAULT) before ('a', 1).
	slices.SortStableFunc(values, func(a, b value) int { return len(a.t.Constants()) - len(b.t.Constants()) })
	for _, v := range values {
		whole := append(slices.Clone(prefix), v.t.Constants()...)
		sp, err := rowenc.PrefixSpan(x, whole)
		if err != nil {
			return err
		}
		m.assign(sp, v.list.Name)
		if len(v.t.Constants()) == n {
			if err := m.add(x, enums, v.list.Subpartitioning, whole); err != nil {
				return err
			}
		}
	}
	for _, r := range p.Range {
		sp, err := rangeSpan(x, enums, r, n, prefix)
		if err != nil {
			return err
		}
		if sp.Key.Less(sp.EndKey) {
			m.assign(sp, r.Name)
		}
	}
	return nil
}

func rangeSpan(x *catalog.Index, enums catalog.EnumSet, r *catalogpb.PartitioningDescriptor_Range, n int, prefix tree.Datums) (keys.Span, error) {
	from, err := Decode(x, enums, len(prefix), n, r.FromInclusive)
	if err != nil {
		return keys.Span{}, err
	}
	to, err := Decode(x, enums, len(prefix), n, r.ToExclusive)
	if err != nil {
		return keys.Span{}, err
	}
	lo, err := boundKey(x, from, prefix)
	if err != nil {
		return keys.Span{}, err
	}
	hi, err := boundKey(x, to, prefix)
	return keys.Span{Key: lo, EndKey: hi}, err
}

// boundKey is the key of one end of a range.
func boundKey(x *catalog.Index, t Tuple, prefix tree.Datums) (keys.Key, error) {
	consts := t.Constants()
	k, err := rowenc.IndexKey(x, append(slices.Clone(prefix), consts...))
	if err != nil {
		return nil, err
	}
	if len(consts) < len(t) && t[len(consts)].Special == MaxValue {
		return k.PrefixEnd(), nil
	}
	return k, nil
}

// Check refuses partitions that are empty or that share rows.
func Check(x *catalog.Index, enums catalog.EnumSet) error {
	return check(x, enums, x.PB.Partitioning, nil)
}

func check(x *catalog.Index, enums catalog.EnumSet, p *catalogpb.PartitioningDescriptor, prefix tree.Datums) error {
	n := int(p.GetNumColumns())
	if n == 0 {
		return nil
	}
	seen := map[string]string{}
	for _, l := range p.List {
		for _, b := range l.Values {
			t, err := Decode(x, enums, len(prefix), n, b)
			if err != nil {
				return err
			}
			k, err := rowenc.IndexKey(x, append(slices.Clone(prefix), t.Constants()...))
			if err != nil {
				return err
			}
			// Values that compare equal have one key: 1.0 and 1.00. A prefix of the
			// key with DEFAULT behind it is another value than the key alone.
			if other, ok := seen[string(k)]; ok {
				if other == l.Name {
					return pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: %s is given twice", l.Name, t)
				}
				return errOverlap(other, l.Name)
			}
			seen[string(k)] = l.Name
			if len(t.Constants()) == n {
				if err := check(x, enums, l.Subpartitioning, append(slices.Clone(prefix), t.Constants()...)); err != nil {
					return err
				}
			}
		}
	}
	type named struct {
		name string
		sp   keys.Span
	}
	var ranges []named
	for _, r := range p.Range {
		sp, err := rangeSpan(x, enums, r, n, prefix)
		if err != nil {
			return err
		}
		if !sp.Key.Less(sp.EndKey) {
			from, err := Decode(x, enums, len(prefix), n, r.FromInclusive)
			if err != nil {
				return err
			}
			to, err := Decode(x, enums, len(prefix), n, r.ToExclusive)
			if err != nil {
				return err
			}
			how := "is greater than"
			if sp.Key.Equal(sp.EndKey) {
				how = "is equal to"
			}
			return pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: empty range: lower bound %s %s upper bound %s", r.Name, from, how, to)
		}
		ranges = append(ranges, named{r.Name, sp})
	}
	slices.SortFunc(ranges, func(a, b named) int { return a.sp.Key.Compare(b.sp.Key) })
	for i := 1; i < len(ranges); i++ {
		if ranges[i].sp.Key.Less(ranges[i-1].sp.EndKey) {
			return errOverlap(ranges[i-1].name, ranges[i].name)
		}
	}
	return nil
}

func errOverlap(a, b string) error {
	return pgerr.Newf(pgerr.InvalidObjectDefinition, "partitions %s and %s overlap", a, b)
}
