package partition

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// index is one over columns a, b and c of type INT.
func index(t *testing.T, p *catalogpb.PartitioningDescriptor, dirs ...catalogpb.Direction) *catalog.Index {
	t.Helper()
	typ, err := catalog.MarshalType(types.Int)
	if err != nil {
		t.Fatal(err)
	}
	x := &catalogpb.IndexDescriptor{Name: "x", Id: 1, Partitioning: p, Unique: true}
	pb := &catalogpb.TableDescriptor{Name: "t", Id: 100, Version: 1, PrimaryIndex: x}
	for i, name := range []string{"a", "b", "c"} {
		pb.Columns = append(pb.Columns, &catalogpb.ColumnDescriptor{Name: name, Id: uint32(i + 1), Type: typ})
		x.KeyColumnIds, x.KeyColumnNames = append(x.KeyColumnIds, uint32(i+1)), append(x.KeyColumnNames, name)
		dir := catalogpb.Direction_ASC
		if i < len(dirs) {
			dir = dirs[i]
		}
		x.KeyColumnDirections = append(x.KeyColumnDirections, dir)
	}
	table, err := catalog.NewTable(pb)
	if err != nil {
		t.Fatal(err)
	}
	return table.PrimaryIndex()
}

// tuple encodes ints and special words.
func tuple(t *testing.T, vs ...any) []byte {
	t.Helper()
	var tup Tuple
	for _, v := range vs {
		switch v := v.(type) {
		case Special:
			tup = append(tup, Value{Special: v})
		case nil:
			tup = append(tup, Value{Datum: tree.DNull})
		case int:
			tup = append(tup, Value{Datum: tree.NewDInt(tree.DInt(v))})
		}
	}
	b, err := tup.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func list(name string, sub *catalogpb.PartitioningDescriptor, values ...[]byte) *catalogpb.PartitioningDescriptor_List {
	return &catalogpb.PartitioningDescriptor_List{Name: name, Values: values, Subpartitioning: sub}
}

// TestPieces asks of single rows in which partition they are, and compares with what
// the definition says when it is read by a person.
func TestPieces(t *testing.T) {
	sub := &catalogpb.PartitioningDescriptor{NumColumns: 1, List: []*catalogpb.PartitioningDescriptor_List{
		list("one-two", nil, tuple(t, 2)), list("one-null", nil, tuple(t, nil))}}
	ranges := &catalogpb.PartitioningDescriptor{NumColumns: 2, Range: []*catalogpb.PartitioningDescriptor_Range{
		{Name: "low", FromInclusive: tuple(t, MinValue, MinValue), ToExclusive: tuple(t, 1, 5)},
		{Name: "mid", FromInclusive: tuple(t, 1, 5), ToExclusive: tuple(t, 2, MaxValue)},
		{Name: "high", FromInclusive: tuple(t, 4, MinValue), ToExclusive: tuple(t, MaxValue, MaxValue)},
	}}
	down := &catalogpb.PartitioningDescriptor{NumColumns: 1, Range: []*catalogpb.PartitioningDescriptor_Range{
		{Name: "high", FromInclusive: tuple(t, MinValue), ToExclusive: tuple(t, 3)},
		{Name: "low", FromInclusive: tuple(t, 3), ToExclusive: tuple(t, MaxValue)},
	}}
	lists := &catalogpb.PartitioningDescriptor{NumColumns: 1, List: []*catalogpb.PartitioningDescriptor_List{
		list("one", sub, tuple(t, 1)), list("even", nil, tuple(t, 2), tuple(t, 4)), list("rest", nil, tuple(t, Default))}}
	pairs := &catalogpb.PartitioningDescriptor{NumColumns: 2, List: []*catalogpb.PartitioningDescriptor_List{
		list("exact", nil, tuple(t, 1, 2)), list("one", nil, tuple(t, 1, Default))}}
	for _, c := range []struct {
		name string
		x    *catalog.Index
		want string
	}{
		{"lists", index(t, lists), "NULL rest, 0 rest, 1/NULL one-null, 1/1 one, 1/2 one-two, 1/3 one, 2/1 even, 3/1 rest, 4/9 even, 5 rest"},
		{"pairs", index(t, pairs), "0 -, 1/1 one, 1/2 exact, 1/3 one, 2/2 -"},
		{"ranges", index(t, ranges), "NULL low, 0 low, 1/4 low, 1/5 mid, 2/9 mid, 3/0 -, 4/NULL high, 9 high"},
		{"descending", index(t, down, catalogpb.Direction_DESC), "9 high, 4 high, 3 low, 1 low, NULL low"},
		{"none", index(t, nil), "1 -, 2 -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Check(c.x, nil); err != nil {
				t.Fatal(err)
			}
			pieces, err := Pieces(c.x, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !pieces[0].Start.Equal(c.x.Prefix()) || !slices.IsSortedFunc(pieces, func(a, b Piece) int { return a.Start.Compare(b.Start) }) {
				t.Errorf("pieces begin at %s and are not in order: %v", pieces[0].Start, pieces)
			}
			for _, w := range strings.Split(c.want, ", ") {
				row, want, _ := strings.Cut(w, " ")
				var vals tree.Datums
				for _, f := range strings.Split(row, "/") {
					n := 0
					if _, err := fmt.Sscan(f, &n); err != nil {
						vals = append(vals, tree.DNull)
					} else {
						vals = append(vals, tree.NewDInt(tree.DInt(n)))
					}
				}
				key, err := rowenc.IndexKey(c.x, append(vals, tree.NewDInt(7)))
				if err != nil {
					t.Fatal(err)
				}
				i, found := slices.BinarySearchFunc(pieces, key, func(p Piece, k keys.Key) int { return p.Start.Compare(k) })
				if !found {
					i--
				}
				if got := pieces[i].Name; got != want && (got != "" || want != "-") {
					t.Errorf("row %s is in %q, want %q", row, got, want)
				}
			}
		})
	}
}

// FuzzDecode: what stands in a descriptor of a damaged backup is an error at most.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 2, 3}, 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		x := index(t, nil)
		tup, err := Decode(x, nil, 0, max(0, min(n, 5)), b)
		if err == nil {
			if _, err := tup.Encode(); err != nil {
				t.Errorf("%v was decoded and cannot be encoded: %v", tup, err)
			}
		}
	})
}
