package rowenc

import (
	"bytes"
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// Pairs is where a Fetcher reads from: the pairs of a scan in key order. Key and
// value stay unchanged until the second call of Next after the one that gave them.
type Pairs interface {
	Next(ctx context.Context) (key keys.Key, value []byte, ok bool, err error)
}

// SlicePairs reads pairs from a slice.
type SlicePairs struct{ KVs []KV }

// Next implements Pairs.
func (s *SlicePairs) Next(context.Context) (keys.Key, []byte, bool, error) {
	if len(s.KVs) == 0 {
		return nil, nil, false, nil
	}
	kv := s.KVs[0]
	s.KVs = s.KVs[1:]
	return kv.Key, kv.Value, true, nil
}

// Fetcher decodes the rows of one index, only the columns that are wanted. It is
// not safe for concurrent use.
type Fetcher struct {
	table  *catalog.Table
	index  *catalog.Index
	enums  catalog.EnumSet
	want   int // number of wanted columns
	prefix []byte

	key       []fetchCol
	suffix    []fetchCol
	keyNeeded int // key columns up to the last wanted one
	unique    bool
	asPrimary bool
	multi     bool // a row may have several pairs
	verify    bool
	vals      []valCol // by column id
	maxVal    uint32   // the highest column id wanted from values
	bareCol   map[uint32]uint32

	alloc DatumAlloc
	// The pair read ahead, when rows may have several.
	aheadKey   keys.Key
	aheadValue []byte
	ahead      bool
	rowKey     []byte
}

type fetchCol struct {
	typ *types.T
	dir Direction
	out int // position in the row, -1 if not wanted
}

type valCol struct {
	typ *types.T
	out int32
}

// NewFetcher returns a fetcher for index x of table t that yields rows of the
// columns want, in that order. A column that x does not hold is NULL. The table
// must know its enums if it has any.
func NewFetcher(t *catalog.Table, x *catalog.Index, want []*catalog.Column) *Fetcher {
	f := &Fetcher{
		table: t, index: x, enums: t.Enums(), want: len(want), prefix: x.Prefix(),
		unique: x.Unique, asPrimary: x.PrimaryEncoding(),
	}
	out := make(map[uint32]int, len(want))
	maxID := uint32(0)
	for i, c := range want {
		out[c.ID] = i
		maxID = max(maxID, c.ID)
	}
	pos := func(id uint32) int {
		if p, ok := out[id]; ok {
			return p
		}
		return -1
	}
	for i, c := range x.KeyColumns {
		p := pos(c.ID)
		if x.Inverted && i == len(x.KeyColumns)-1 {
			p = -1 // The key holds an element, not the value.
		}
		f.key = append(f.key, fetchCol{typ: c.Type, dir: x.KeyDirections[i], out: p})
		if p >= 0 {
			f.keyNeeded = i + 1
		}
	}
	for _, c := range x.SuffixColumns {
		f.suffix = append(f.suffix, fetchCol{typ: c.Type, dir: Asc, out: pos(c.ID)})
	}
	f.vals = make([]valCol, maxID+1)
	for i := range f.vals {
		f.vals[i].out = -1
	}
	for _, c := range want {
		if c.Virtual {
			continue
		}
		f.vals[c.ID] = valCol{typ: c.Type, out: int32(out[c.ID])}
		f.maxVal = max(f.maxVal, c.ID)
	}
	if len(t.Families()) > 1 {
		f.multi = true
		f.bareCol = make(map[uint32]uint32)
	}
	for _, fam := range t.Families() {
		if fam.DefaultColumnId != 0 && f.bareCol != nil {
			f.bareCol[fam.Id] = fam.DefaultColumnId
		}
	}
	return f
}

// VerifyChecksums makes the fetcher check the checksum of every value.
func (f *Fetcher) VerifyChecksums() { f.verify = true }

// Reset prepares for another scan.
func (f *Fetcher) Reset() { f.ahead, f.aheadKey, f.aheadValue = false, nil, nil }

// RowKey returns the key prefix of the row that Next returned last: what all its
// pairs share. It is valid until the next call.
func (f *Fetcher) RowKey() keys.Key { return f.rowKey }

// Next reads a row into row, which must have as many elements as columns are
// wanted, and reports false at the end. The datums belong to the caller.
func (f *Fetcher) Next(ctx context.Context, src Pairs, row tree.Datums) (ok bool, err error) {
	defer guard(&err)
	var key keys.Key
	var value []byte
	if f.ahead {
		key, value, f.ahead = f.aheadKey, f.aheadValue, false
	} else if key, value, ok, err = src.Next(ctx); err != nil || !ok {
		return false, err
	}
	for i := range row {
		row[i] = tree.DNull
	}
	family, err := f.firstPair(key, value, row)
	if err != nil {
		return false, err
	}
	if !f.multi {
		return true, nil
	}
	for {
		key, value, ok, err = src.Next(ctx)
		if err != nil {
			return false, err
		}
		if !ok {
			return true, nil
		}
		if len(key) <= len(f.rowKey) || !bytes.HasPrefix(key, f.rowKey) || !samePrefix(key, len(f.rowKey)) {
			f.aheadKey, f.aheadValue, f.ahead = key, value, true
			return true, nil
		}
		next, err := decodeFamily(key[len(f.rowKey):])
		if err != nil {
			return false, err
		}
		if next <= family {
			return false, corrupt("corrupt row at %s: column families out of order", key)
		}
		family = next
		if err := f.decodePair(key, value, family, row, false); err != nil {
			return false, err
		}
	}
}

// samePrefix says whether the family suffix of key begins at n.
func samePrefix(key keys.Key, n int) bool {
	size, ok := keys.FamilySuffixLen(key)
	return ok && len(key)-size == n
}

// firstPair decodes the key columns and the first pair of a row.
func (f *Fetcher) firstPair(key keys.Key, value []byte, row tree.Datums) (family uint32, err error) {
	if !bytes.HasPrefix(key, f.prefix) {
		return 0, corrupt("corrupt key %s: not of index %d of table %q", key, f.index.ID, f.table.Name())
	}
	if f.index.Inverted {
		return 0, f.invertedPair(key, value, row)
	}
	b := key[len(f.prefix):]
	hasNull := false
	suffixInValue := false
	if f.asPrimary && f.keyNeeded == 0 {
		// Nothing of the key is wanted: its end tells where the family begins.
		n, ok := keys.FamilySuffixLen(key)
		if !ok || n > len(b) {
			return 0, corrupt("corrupt key %s: no column family", key)
		}
		b = b[len(b)-n:]
	} else {
		for i := range f.key {
			c := &f.key[i]
			if len(b) > 0 && (b[0] == 0x00 || b[0] == 0xff) {
				hasNull = true
			}
			if b, err = f.keyCol(c, b, row); err != nil {
				return 0, err
			}
		}
		if !f.asPrimary {
			if !f.unique || hasNull {
				for i := range f.suffix {
					if b, err = f.keyCol(&f.suffix[i], b, row); err != nil {
						return 0, err
					}
				}
			}
			suffixInValue = f.unique
		}
	}
	if family, err = decodeFamily(b); err != nil {
		return 0, err
	}
	f.rowKey = append(f.rowKey[:0], key[:len(key)-len(b)]...)
	return family, f.decodePair(key, value, family, row, suffixInValue)
}

func (f *Fetcher) keyCol(c *fetchCol, b []byte, row tree.Datums) ([]byte, error) {
	if c.out < 0 {
		return skipKeyDatum(c.typ, b, c.dir)
	}
	d, rest, err := decodeKeyDatum(&f.alloc, c.typ, f.enums, b, c.dir)
	if err != nil {
		return nil, err
	}
	row[c.out] = d
	return rest, nil
}

func (f *Fetcher) decodePair(key keys.Key, value []byte, family uint32, row tree.Datums, suffixInValue bool) (err error) {
	if f.verify {
		if err := VerifyChecksum(key, value); err != nil {
			return err
		}
	}
	tag, data, err := splitValue(key, value)
	if err != nil {
		return err
	}
	switch {
	case tag == tagTuple:
		return f.tuple(data, row)
	case f.asPrimary:
		id := f.bareCol[family]
		if id == 0 {
			return corrupt("corrupt value at %s: tag %d in a family without a column of its own", key, tag)
		}
		if id > f.maxVal || f.vals[id].out < 0 {
			return nil
		}
		row[f.vals[id].out], err = decodeBare(&f.alloc, f.vals[id].typ, f.enums, tag, data)
		return err
	case tag == tagBytes:
		if suffixInValue && family == 0 {
			for i := range f.suffix {
				if data, err = f.keyCol(&f.suffix[i], data, row); err != nil {
					return err
				}
			}
		}
		return f.tuple(data, row)
	}
	return corrupt("corrupt value at %s: tag %d", key, tag)
}

// tuple decodes (column id delta, datum)… A column that is not wanted, or that no
// longer exists, is skipped.
func (f *Fetcher) tuple(b []byte, row tree.Datums) (err error) {
	id := uint32(0)
	for len(b) > 0 {
		var delta uint32
		var kind uint64
		// The usual tag is one byte: delta below 8, kind below 15.
		if c := b[0]; c < 0x80 && c&0xf != 0xf {
			delta, kind, b = uint32(c>>4), uint64(c&0xf), b[1:]
		} else if b, delta, kind, err = decodeValueTag(b); err != nil {
			return err
		}
		if delta == 0 || id+delta < id {
			return corrupt("corrupt value: column ids out of order")
		}
		id += delta
		if id > f.maxVal {
			return nil
		}
		v := &f.vals[id]
		if v.out < 0 {
			if b, err = skipValue(b, kind); err != nil {
				return err
			}
			continue
		}
		if row[v.out], b, err = decodeValue(&f.alloc, v.typ, f.enums, b, kind); err != nil {
			return err
		}
	}
	return nil
}

// invertedPair reads what an inverted entry tells of its row: the columns before
// the inverted one and the primary key.
func (f *Fetcher) invertedPair(key keys.Key, value []byte, row tree.Datums) (err error) {
	b := key[len(f.prefix):]
	last := len(f.key) - 1
	for i := 0; i < last; i++ {
		if b, err = f.keyCol(&f.key[i], b, row); err != nil {
			return err
		}
	}
	if b, err = skipInverted(f.key[last].typ, b); err != nil {
		return err
	}
	for i := range f.suffix {
		if b, err = f.keyCol(&f.suffix[i], b, row); err != nil {
			return err
		}
	}
	if _, err = decodeFamily(b); err != nil {
		return err
	}
	f.rowKey = append(f.rowKey[:0], key[:len(key)-len(b)]...)
	_, _, err = splitValue(key, value)
	return err
}

// skipInverted returns what follows the element part of an inverted key.
func skipInverted(t *types.T, b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, corrupt("corrupt key: too short")
	}
	if b[0] == 0x00 || b[0] == emptyArrayInv {
		return b[1:], nil
	}
	if t.Family() == types.ArrayFamily {
		return skipKeyDatum(t.ArrayContents(), b, Asc)
	}
	if b[0] != 0x37 {
		return nil, corrupt("corrupt key: not a JSON path")
	}
	// The path is escaped text with steps 00 02 and 00 03, ended by 00 01.
	for b = b[1:]; ; {
		i := bytes.IndexByte(b, 0)
		if i < 0 || i+2 >= len(b) {
			return nil, corrupt("corrupt key: JSON path without end")
		}
		c := b[i+1]
		b = b[i+2:]
		if c == 0x01 {
			break
		}
	}
	switch c := b[0]; {
	case c == 0x00, c == 0x0a, c == 0x0b, c == 0x38, c == 0x39:
		return b[1:], nil
	case c == 0x12:
		return skipKeyDatum(types.String, b, Asc)
	}
	return skipKeyDatum(types.Decimal, b, Asc)
}
