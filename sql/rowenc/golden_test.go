package rowenc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// vectors holds descriptors and pairs that another implementation of the format
// wrote; testdata/README says where they come from.
type vectors struct {
	tables  map[uint32]*catalog.Table
	skipped map[uint32]string
	pairs   map[uint32]map[uint32][]KV // by table and index, in key order
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadVectors(t testing.TB, name string) *vectors {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{tables: map[uint32]*catalog.Table{}, skipped: map[uint32]string{}, pairs: map[uint32]map[uint32][]KV{}}
	enums := catalog.EnumSet{}
	sc := bufio.NewScanner(zr)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		switch w[0] {
		case "desc":
			b := unhex(t, w[1])
			d, err := catalog.Unmarshal(b)
			if err != nil {
				v.skipped[0] = err.Error()
				continue
			}
			switch d := d.(type) {
			case *catalog.Table:
				v.tables[d.ID()] = d
			case *catalog.Type:
				if d.IsEnum() {
					e := catalog.NewEnum(d.Proto(), "", "public")
					enums[e.OID] = e
				}
			}
		case "kv":
			val := ""
			if len(w) > 2 {
				val = w[2]
			}
			kv := KV{Key: unhex(t, w[1]), Value: unhex(t, val)}
			tid, xid, _, ok := keys.DecodeIndexPrefix(kv.Key)
			if !ok {
				t.Fatalf("key %x", kv.Key)
			}
			if v.pairs[tid] == nil {
				v.pairs[tid] = map[uint32][]KV{}
			}
			v.pairs[tid][xid] = append(v.pairs[tid][xid], kv)
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	for id, tab := range v.tables {
		v.tables[id] = tab.WithEnums(enums)
	}
	for _, m := range v.pairs {
		for _, kvs := range m {
			sort.Slice(kvs, func(i, j int) bool { return kvs[i].Key.Less(kvs[j].Key) })
		}
	}
	return v
}

func (v *vectors) ids() []uint32 {
	var ids []uint32
	for id := range v.tables {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

func storedColumns(t *catalog.Table) []*catalog.Column {
	var out []*catalog.Column
	for _, c := range t.Columns() {
		inKey := false
		for _, k := range t.PrimaryIndex().KeyColumns {
			inKey = inKey || k.ID == c.ID // A hash shard is virtual, but it is in the key.
		}
		if !c.Virtual || inKey {
			out = append(out, c)
		}
	}
	return out
}

func fetchAll(t testing.TB, tab *catalog.Table, x *catalog.Index, cols []*catalog.Column, kvs []KV) []tree.Datums {
	t.Helper()
	f := NewFetcher(tab, x, cols)
	f.VerifyChecksums()
	src := &SlicePairs{KVs: kvs}
	var rows []tree.Datums
	for {
		row := make(tree.Datums, len(cols))
		ok, err := f.Next(context.Background(), src, row)
		if err != nil {
			t.Fatalf("%s@%s: %v", tab.Name(), x.Name, err)
		}
		if !ok {
			return rows
		}
		rows = append(rows, row)
	}
}

// sameExceptChecksum says whether two values agree. Vectors from backfills have
// no checksum.
func sameExceptChecksum(got, want []byte) bool {
	if bytes.Equal(want[:4], []byte{0, 0, 0, 0}) {
		return bytes.Equal(got[4:], want[4:])
	}
	return bytes.Equal(got, want)
}

// TestVectors decodes every row that the other implementation wrote and encodes
// it again, rows and index entries: the bytes must be the same.
func TestVectors(t *testing.T) {
	for _, tc := range []struct {
		name                string
		tables, rows, pairs int
	}{
		{"types", 123, 785, 1734},
		{"shapes", 9, 30, 60},
		{"fx", 6, 1146, 1258},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := loadVectors(t, tc.name)
			var tables, rows, pairs int
			for _, id := range v.ids() {
				tab := v.tables[id]
				if !tab.IsTable() && !tab.IsMaterializedView() || tab.PrimaryIndex() == nil {
					continue
				}
				tables++
				n, p := checkTable(t, tab, v.pairs[id])
				rows += n
				pairs += p
			}
			if tables < tc.tables || rows < tc.rows || pairs < tc.pairs {
				t.Errorf("checked %d tables, %d rows, %d pairs; want at least %d, %d, %d", tables, rows, pairs, tc.tables, tc.rows, tc.pairs)
			}
			t.Logf("%d tables, %d rows, %d pairs equal; skipped: %v", tables, rows, pairs, v.skipped)
		})
	}
}

func checkTable(t *testing.T, tab *catalog.Table, pairs map[uint32][]KV) (rows, same int) {
	t.Helper()
	cols := storedColumns(tab)
	data := fetchAll(t, tab, tab.PrimaryIndex(), cols, pairs[tab.PrimaryIndex().ID])
	e, err := NewEncoder(tab, cols)
	if err != nil {
		t.Fatal(err)
	}
	compare := func(x *catalog.Index, got []KV) {
		t.Helper()
		sort.Slice(got, func(i, j int) bool { return got[i].Key.Less(got[j].Key) })
		want := pairs[x.ID]
		if len(got) != len(want) {
			t.Errorf("%s@%s: %d pairs, want %d", tab.Name(), x.Name, len(got), len(want))
		}
		for i := range got {
			if i >= len(want) {
				break
			}
			if !bytes.Equal(got[i].Key, want[i].Key) || !sameExceptChecksum(got[i].Value, want[i].Value) {
				t.Errorf("%s@%s pair %d:\n got %x = %x\nwant %x = %x", tab.Name(), x.Name, i, got[i].Key, got[i].Value, want[i].Key, want[i].Value)
				return
			}
			same++
		}
	}
	var out []KV
	for _, row := range data {
		if out, err = e.EncodeRow(out, row); err != nil {
			t.Fatalf("%s: %v", tab.Name(), err)
		}
	}
	compare(tab.PrimaryIndex(), out)
	for _, x := range tab.SecondaryIndexes() {
		if x.Predicate != "" || usesVirtual(x) {
			continue // Which rows have an entry, and with what, is not for this package to know.
		}
		out = out[:0]
		for _, row := range data {
			if out, err = e.EncodeIndexEntries(out, x, row); err != nil {
				t.Fatalf("%s@%s: %v", tab.Name(), x.Name, err)
			}
		}
		compare(x, append([]KV(nil), out...))
		if !x.Inverted {
			checkIndexScan(t, tab, x, cols, data, pairs[x.ID])
		}
	}
	return len(data), same
}

func usesVirtual(x *catalog.Index) bool {
	for _, c := range x.FullKeyColumns() {
		if c.Virtual {
			return true
		}
	}
	return false
}

// checkIndexScan reads the rows through a secondary index and compares the
// columns that it holds.
func checkIndexScan(t *testing.T, tab *catalog.Table, x *catalog.Index, cols []*catalog.Column, rows []tree.Datums, kvs []KV) {
	t.Helper()
	var want []*catalog.Column
	var pos []int
	for i, c := range cols {
		for _, k := range append(x.FullKeyColumns(), x.StoredColumns...) {
			if k.ID == c.ID {
				want, pos = append(want, c), append(pos, i)
				break
			}
		}
	}
	var got, exp []string
	for _, r := range fetchAll(t, tab, x, want, kvs) {
		got = append(got, fmt.Sprint(r))
	}
	for _, r := range rows {
		sub := make(tree.Datums, len(pos))
		for i, p := range pos {
			sub[i] = r[p]
		}
		exp = append(exp, fmt.Sprint(sub))
	}
	sort.Strings(got)
	sort.Strings(exp)
	if fmt.Sprint(got) != fmt.Sprint(exp) {
		t.Errorf("%s@%s: rows through the index differ\n got %.2000s\nwant %.2000s", tab.Name(), x.Name, got, exp)
	}
}
