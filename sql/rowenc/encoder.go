package rowenc

import (
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// Encoder turns rows of one table into pairs. The pairs it returns own their
// memory. It is not safe for concurrent use.
type Encoder struct {
	table   *catalog.Table
	pos     []int // by column id: position in a row, -1 if rows lack it
	primary *indexPlan
	plans   map[uint32]*indexPlan

	key, val []byte // scratch
	arena    []byte
}

// indexPlan is what encoding an entry of an index needs, worked out once.
type indexPlan struct {
	x          *catalog.Index
	prefix     []byte
	key        []colPlan
	suffix     []colPlan
	families   []familyPlan
	asPrimary  bool
	composites []colPlan // key columns whose type may need a copy in the value
}

type colPlan struct {
	id  uint32
	pos int
	dir Direction
	typ *types.T
}

// familyPlan lists the value columns of one family's pair, by ascending id.
type familyPlan struct {
	id   uint32
	cols []colPlan
	bare bool
}

// NewEncoder returns an encoder for rows whose datums are those of cols, in that
// order. A column that cols lacks is written as NULL.
func NewEncoder(t *catalog.Table, cols []*catalog.Column) (*Encoder, error) {
	if t.PrimaryIndex() == nil {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "\"%s\" has no rows of its own", t.Name())
	}
	e := &Encoder{table: t, plans: make(map[uint32]*indexPlan)}
	maxID := uint32(0)
	for _, c := range t.AllColumns() {
		maxID = max(maxID, c.ID)
	}
	e.pos = make([]int, maxID+1)
	for i := range e.pos {
		e.pos[i] = -1
	}
	for i, c := range cols {
		if c != nil && c.ID <= maxID {
			e.pos[c.ID] = i
		}
	}
	e.primary = e.plan(t.PrimaryIndex())
	return e, nil
}

func (e *Encoder) colPlan(c *catalog.Column, dir Direction) colPlan {
	return colPlan{id: c.ID, pos: e.pos[c.ID], dir: dir, typ: c.Type}
}

func (e *Encoder) plan(x *catalog.Index) *indexPlan {
	if p := e.plans[x.ID]; p != nil && p.x == x {
		return p
	}
	p := &indexPlan{x: x, prefix: x.Prefix(), asPrimary: x.PrimaryEncoding()}
	inKey := make(map[uint32]bool)
	for i, c := range x.KeyColumns {
		p.key = append(p.key, e.colPlan(c, x.KeyDirections[i]))
		inKey[c.ID] = true
	}
	for _, c := range x.SuffixColumns {
		p.suffix = append(p.suffix, e.colPlan(c, Asc))
		inKey[c.ID] = true
	}
	for _, c := range x.FullKeyColumns() {
		for _, id := range x.PB.CompositeColumnIds {
			if id == c.ID {
				p.composites = append(p.composites, e.colPlan(c, Asc))
			}
		}
	}
	stored := make(map[uint32]*catalog.Column)
	for _, c := range x.StoredColumns {
		if !inKey[c.ID] {
			stored[c.ID] = c
		}
	}
	p.families = e.familyPlans(p, stored)
	e.plans[x.ID] = p
	return p
}

// familyPlans divides the stored columns of an index among the table's families.
func (e *Encoder) familyPlans(p *indexPlan, stored map[uint32]*catalog.Column) []familyPlan {
	zero := familyPlan{}
	var rest []familyPlan
	onePair := !p.asPrimary && p.x.PB.Version == 0
	seen := make(map[uint32]bool)
	for _, f := range e.table.Families() {
		fp := familyPlan{id: f.Id}
		for _, id := range f.ColumnIds {
			if c := stored[id]; c != nil && !seen[id] {
				seen[id] = true
				fp.cols = append(fp.cols, e.colPlan(c, Asc))
			}
		}
		if f.Id == 0 || onePair {
			zero.cols = append(zero.cols, fp.cols...)
			continue
		}
		fp.bare = p.asPrimary && len(f.ColumnIds) == 1 && f.DefaultColumnId == f.ColumnIds[0]
		if len(fp.cols) > 0 {
			rest = append(rest, fp)
		}
	}
	// A column that no family lists (it is being added) goes to family 0.
	for id, c := range stored {
		if !seen[id] {
			zero.cols = append(zero.cols, e.colPlan(c, Asc))
		}
	}
	out := append([]familyPlan{zero}, rest...)
	for _, f := range out {
		sort.Slice(f.cols, func(i, j int) bool { return f.cols[i].id < f.cols[j].id })
	}
	return out
}

func (c *colPlan) datum(row tree.Datums) tree.Datum {
	if c.pos < 0 || row[c.pos] == nil {
		return tree.DNull
	}
	return row[c.pos]
}

// take copies b into memory that the caller may keep.
func (e *Encoder) take(b []byte) []byte {
	if len(b) > cap(e.arena)-len(e.arena) {
		// Small for the one row of most statements, large for many.
		e.arena = make([]byte, 0, max(min(4*cap(e.arena), 32<<10), 512, len(b)))
	}
	at := len(e.arena)
	e.arena = append(e.arena, b...)
	return e.arena[at:len(e.arena):len(e.arena)]
}

// encodeKeyCols appends the key forms of cols and says whether one was NULL.
func encodeKeyCols(b []byte, cols []colPlan, row tree.Datums) (_ []byte, hasNull bool, err error) {
	for i := range cols {
		d := cols[i].datum(row)
		hasNull = hasNull || d == tree.DNull
		if b, err = EncodeKeyDatum(b, d, cols[i].dir); err != nil {
			return nil, false, err
		}
	}
	return b, hasNull, nil
}

// RowPrefix returns the prefix of the keys of row in the primary index.
func (e *Encoder) RowPrefix(row tree.Datums) (keys.Key, error) {
	b, err := e.rowPrefix(row)
	if err != nil {
		return nil, err
	}
	return e.take(b), nil
}

func (e *Encoder) rowPrefix(row tree.Datums) ([]byte, error) {
	b, hasNull, err := encodeKeyCols(append(e.key[:0], e.primary.prefix...), e.primary.key, row)
	if err != nil {
		return nil, err
	}
	e.key = b
	if hasNull {
		for i := range e.primary.key {
			if c := &e.primary.key[i]; c.datum(row) == tree.DNull {
				name := e.table.ColumnByID(c.id).Name
				return nil, pgerr.Newf(pgerr.NotNullViolation,
					"null value in column \"%s\" of relation \"%s\" violates not-null constraint", name, e.table.Name())
			}
		}
	}
	return b, nil
}

// EncodeRow appends the pairs of row in the primary index: always that of family
// 0, and those of other families that have a column which is not NULL.
func (e *Encoder) EncodeRow(out []KV, row tree.Datums) ([]KV, error) {
	return e.encodeRow(out, row, false)
}

// UpdateRow is EncodeRow, but for a row that may exist: a family with nothing to
// store gets a pair with an empty value, which deletes.
func (e *Encoder) UpdateRow(out []KV, row tree.Datums) ([]KV, error) {
	return e.encodeRow(out, row, true)
}

func (e *Encoder) encodeRow(out []KV, row tree.Datums, deletes bool) ([]KV, error) {
	prefix, err := e.rowPrefix(row)
	if err != nil {
		return nil, err
	}
	return e.encodeFamilies(out, e.primary, prefix, row, deletes)
}

func (e *Encoder) encodeFamilies(out []KV, p *indexPlan, prefix []byte, row tree.Datums, deletes bool) ([]KV, error) {
	n := len(prefix)
	for i := range p.families {
		f := &p.families[i]
		v := append(e.val[:0], 0, 0, 0, 0)
		present := f.id == 0
		var err error
		if f.bare {
			if d := f.cols[0].datum(row); d != tree.DNull {
				present = true
				v, err = encodeBare(v, d)
			}
		} else {
			v = append(v, tagTuple)
			var any bool
			v, any, err = encodeTuple(v, f, compositesFor(p, f), row)
			present = present || any
		}
		if err != nil {
			return nil, err
		}
		e.val = v
		prefix = AppendFamily(prefix[:n], f.id)
		switch {
		case present:
			kv := KV{Key: e.take(prefix), Value: e.take(v)}
			SetChecksum(kv.Key, kv.Value)
			out = append(out, kv)
		case deletes:
			out = append(out, KV{Key: e.take(prefix)})
		}
	}
	e.key = prefix
	return out, nil
}

func compositesFor(p *indexPlan, f *familyPlan) []colPlan {
	if f.id == 0 {
		return p.composites
	}
	return nil
}

// encodeTuple appends the columns of a family and the composite copies of key
// columns by ascending id, and says whether it wrote any.
func encodeTuple(b []byte, f *familyPlan, composites []colPlan, row tree.Datums) (_ []byte, any bool, err error) {
	last := uint32(0)
	put := func(c *colPlan, d tree.Datum) error {
		b, err = EncodeValueDatum(b, c.id-last, d)
		last, any = c.id, true
		return err
	}
	if len(composites) > 0 {
		// Rare: merge the two lists.
		merged := append(append([]colPlan(nil), f.cols...), composites...)
		sort.Slice(merged, func(i, j int) bool { return merged[i].id < merged[j].id })
		isKey := make(map[uint32]bool, len(composites))
		for _, c := range composites {
			isKey[c.id] = true
		}
		for i := range merged {
			c := &merged[i]
			d := c.datum(row)
			if d == tree.DNull || isKey[c.id] && !IsComposite(d) {
				continue
			}
			if err := put(c, d); err != nil {
				return nil, false, err
			}
		}
		return b, any, nil
	}
	for i := range f.cols {
		c := &f.cols[i]
		if d := c.datum(row); d != tree.DNull {
			if err := put(c, d); err != nil {
				return nil, false, err
			}
		}
	}
	return b, any, nil
}

// RowKeys appends the keys of all pairs that row may have in the primary index.
func (e *Encoder) RowKeys(out []keys.Key, row tree.Datums) ([]keys.Key, error) {
	prefix, err := e.rowPrefix(row)
	if err != nil {
		return nil, err
	}
	n := len(prefix)
	for i := range e.primary.families {
		prefix = AppendFamily(prefix[:n], e.primary.families[i].id)
		out = append(out, e.take(prefix))
	}
	e.key = prefix
	return out, nil
}

// EncodeIndexEntries appends the pairs of row in index x: none, one or several
// for an inverted index. Whether row satisfies the predicate of a partial index
// is for the caller to know. The pairs of one entry come with their family 0
// first: on that key uniqueness is enforced.
func (e *Encoder) EncodeIndexEntries(out []KV, x *catalog.Index, row tree.Datums) ([]KV, error) {
	return e.encodeIndex(out, x, row, false)
}

// UpdateIndexEntries is EncodeIndexEntries for entries that may exist: pairs with
// nothing to store get an empty value, which deletes.
func (e *Encoder) UpdateIndexEntries(out []KV, x *catalog.Index, row tree.Datums) ([]KV, error) {
	return e.encodeIndex(out, x, row, true)
}

func (e *Encoder) encodeIndex(out []KV, x *catalog.Index, row tree.Datums, deletes bool) ([]KV, error) {
	p := e.plan(x)
	if x.Inverted {
		return e.encodeInverted(out, p, row)
	}
	b, hasNull, err := encodeKeyCols(append(e.key[:0], p.prefix...), p.key, row)
	if err != nil {
		return nil, err
	}
	if p.asPrimary {
		e.key = b
		return e.encodeFamilies(out, p, b, row, deletes)
	}
	if !x.Unique || hasNull {
		if b, _, err = encodeKeyCols(b, p.suffix, row); err != nil {
			return nil, err
		}
	}
	n := len(b)
	for i := range p.families {
		f := &p.families[i]
		v := append(e.val[:0], 0, 0, 0, 0)
		present := f.id == 0
		if f.id == 0 {
			v = append(v, tagBytes)
			if x.Unique {
				if v, _, err = encodeKeyCols(v, p.suffix, row); err != nil {
					return nil, err
				}
			}
		} else {
			v = append(v, tagTuple)
		}
		var any bool
		if v, any, err = encodeTuple(v, f, compositesFor(p, f), row); err != nil {
			return nil, err
		}
		e.val = v
		b = AppendFamily(b[:n], f.id)
		switch {
		case present || any:
			kv := KV{Key: e.take(b), Value: e.take(v)}
			SetChecksum(kv.Key, kv.Value)
			out = append(out, kv)
		case deletes:
			out = append(out, KV{Key: e.take(b)})
		}
	}
	e.key = b
	return out, nil
}

// IndexKeys appends the keys of all pairs that row may have in index x.
func (e *Encoder) IndexKeys(out []keys.Key, x *catalog.Index, row tree.Datums) ([]keys.Key, error) {
	kvs, err := e.encodeIndex(nil, x, row, true)
	if err != nil {
		return nil, err
	}
	for _, kv := range kvs {
		out = append(out, kv.Key)
	}
	return out, nil
}

// encodeInverted writes one entry per distinct element.
func (e *Encoder) encodeInverted(out []KV, p *indexPlan, row tree.Datums) ([]KV, error) {
	last := len(p.key) - 1
	b, _, err := encodeKeyCols(append(e.key[:0], p.prefix...), p.key[:last], row)
	if err != nil {
		return nil, err
	}
	n := len(b)
	elems, err := InvertedKeys(p.key[last].datum(row))
	if err != nil {
		return nil, err
	}
	for _, el := range elems {
		b = append(b[:n], el...)
		if b, _, err = encodeKeyCols(b, p.suffix, row); err != nil {
			return nil, err
		}
		b = AppendFamily(b, 0)
		kv := KV{Key: e.take(b), Value: e.take([]byte{0, 0, 0, 0, tagBytes})}
		SetChecksum(kv.Key, kv.Value)
		out = append(out, kv)
	}
	e.key = b
	return out, nil
}
