package sql

import (
	"context"
	"math"
	"slices"
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// Pages of a scan grow from the first to the last of these: a query that stops
// early reads little, a long one pays few round trips.
const (
	firstPageBytes = 32 << 10
	maxPageBytes   = 2 << 20
)

// maxSpans bounds what IN lists over several columns multiply to.
const maxSpans = 100_000

// compileScan makes the reader of a table.
func (c *compiler) compileScan(t *scanNode, need colSet) (exec.Operator, *layout, error) {
	if t.access == nil {
		return nil, nil, pgerr.Newf(pgerr.WrongObjectType, "cannot read from %q", t.tab.desc.Name())
	}
	a := t.access
	nd := withCols(need, a.residual...)
	var ids []colID
	var want []*catalog.Column
	for i, col := range t.tab.columns {
		if nd.has(t.tab.colIDs[i]) {
			ids = append(ids, t.tab.colIDs[i])
			want = append(want, col)
		}
	}
	lay := newLayout(ids)
	r, err := c.newReader(t, want)
	if err != nil {
		return nil, nil, err
	}
	var op exec.Operator = r
	if !a.covering {
		op = newIndexJoin(c.p, r, t, want, c.lockFor(t))
	}
	pred, err := c.bindAnd(a.residual, lay)
	if err != nil {
		return nil, nil, err
	}
	if pred != nil {
		op = exec.NewFilter(c.p.flow, op, pred)
	}
	return op, lay, nil
}

// lockFor says how a scan locks what it finds. UPDATE and DELETE in a block lock
// the rows that they name by key before they change them: a writer that comes
// second waits for the first and then sees its work, instead of finding out when
// it is too late to wait. A statement alone in its transaction is run again
// instead, which costs less than locks.
func (c *compiler) lockFor(t *scanNode) lockMode {
	if t.lock.on || !t.target || c.p.autoCommit || len(t.access.points) == 0 {
		return t.lock
	}
	return lockMode{on: true}
}

// newReader makes a reader of the entries of t's index. If the index covers the
// scan it yields want, otherwise the primary key.
func (c *compiler) newReader(t *scanNode, want []*catalog.Column) (*tableReader, error) {
	a := t.access
	r := &tableReader{p: c.p, flow: c.p.flow, index: a.index, reverse: a.reverse, flipNulls: a.flipNulls, splitNaN: a.splitNaN, single: a.single}
	if !a.covering {
		want = t.tab.desc.PrimaryIndex().KeyColumns
	}
	r.init(t.tab.desc, want)
	r.opts = kv.ScanOptions{Reverse: a.reverse}
	if lock := c.lockFor(t); a.covering && lock.on {
		r.opts.ForUpdate, r.opts.SkipLocked, r.opts.NoWait = true, lock.skipLocked, lock.noWait
	}
	if t.limitHint > 0 && len(a.residual) == 0 {
		r.firstKeys = t.limitHint * int64(max(len(t.tab.desc.Families()), 1))
	}
	none := newLayout(nil)
	var err error
	for _, pt := range a.points {
		b := boundPoint{typ: pt.col.Type, null: pt.null}
		if b.vals, err = c.bindAll(pt.vals, none); err != nil {
			return nil, err
		}
		if b.array, err = c.bind(pt.array, none); err != nil {
			return nil, err
		}
		r.points = append(r.points, b)
	}
	if rc := a.rng; rc != nil {
		b := &boundRange{loExcl: rc.loExcl, hiExcl: rc.hiExcl, prefix: rc.prefix, hasNaN: hasNaN(rc.col)}
		if b.lo, err = c.bind(rc.lo, none); err != nil {
			return nil, err
		}
		if b.hi, err = c.bind(rc.hi, none); err != nil {
			return nil, err
		}
		r.rng = b
	}
	return r, nil
}

type boundPoint struct {
	typ   *types.T
	vals  []tree.TypedExpr
	array tree.TypedExpr
	null  bool
}

type boundRange struct {
	lo, hi         tree.TypedExpr
	loExcl, hiExcl bool
	prefix         string
	hasNaN         bool
}

// tableReader is the operator that reads entries of one index and decodes them.
// Spans are computed when it is opened, so it can depend on outer rows.
type tableReader struct {
	p     *planner
	flow  *exec.Flow
	desc  *catalog.Table
	index *catalog.Index

	points             []boundPoint
	rng                *boundRange
	reverse, flipNulls bool
	splitNaN           bool
	single             bool
	opts               kv.ScanOptions
	firstKeys          int64

	typs    []*types.T
	fetcher *rowenc.Fetcher
	row     tree.Datums

	spans     []keys.Span
	exact     bool // spans are keys to get
	next      int  // span to read next
	resume    *keys.Span
	kvs       []kv.KeyValue
	pos       int
	pageBytes int64
	pages     int
	read      int64 // entries so far
	full      bool  // the whole index is read: its size becomes known
}

func (r *tableReader) init(desc *catalog.Table, want []*catalog.Column) {
	r.desc = desc
	r.fetcher = rowenc.NewFetcher(desc, r.index, want)
	r.row = make(tree.Datums, len(want))
	r.typs = make([]*types.T, len(want))
	for i, c := range want {
		r.typs[i] = c.Type
	}
}

func (r *tableReader) Types() []*types.T { return r.typs }

func (r *tableReader) Close() {
	r.kvs, r.spans, r.resume = nil, nil, nil
}

func (r *tableReader) Open(context.Context) error {
	r.kvs, r.pos, r.next, r.resume, r.pages, r.read = nil, 0, 0, nil, 0, 0
	r.pageBytes = firstPageBytes
	r.exact, r.full = false, false
	r.fetcher.Reset()
	return r.makeSpans()
}

// makeSpans evaluates the constraints.
func (r *tableReader) makeSpans() error {
	r.spans = r.spans[:0]
	prefixes := []tree.Datums{nil}
	for i := range r.points {
		vals, err := r.pointValues(&r.points[i])
		if err != nil {
			return err
		}
		if len(vals) == 0 {
			return nil
		}
		if len(vals)*len(prefixes) > maxSpans {
			return pgerr.Newf(pgerr.ProgramLimitExceeded, "conditions on index %q select too many spans", r.index.Name)
		}
		if len(prefixes) == 1 && len(vals) == 1 {
			prefixes[0] = append(prefixes[0], vals[0])
			continue
		}
		next := make([]tree.Datums, 0, len(prefixes)*len(vals))
		for _, p := range prefixes {
			for _, v := range vals {
				next = append(next, append(p[:len(p):len(p)], v))
			}
		}
		prefixes = next
	}
	if r.rng == nil && r.getable() {
		r.exact = true
	}
	for _, p := range prefixes {
		if err := r.addSpans(p); err != nil {
			return err
		}
	}
	if len(prefixes) > 1 {
		sort.Slice(r.spans, func(i, j int) bool {
			return r.spans[i].Key.Less(r.spans[j].Key) != r.reverse
		})
	}
	return nil
}

// getable says that the points fix whole keys of single pairs.
func (r *tableReader) getable() bool {
	if !r.index.Unique || len(r.points) < len(r.index.KeyColumns) || len(r.desc.Families()) > 1 {
		return false
	}
	if !r.index.PrimaryEncoding() && len(r.points) > len(r.index.KeyColumns) {
		return false
	}
	for _, p := range r.points {
		if p.null {
			return false
		}
	}
	return true
}

func (r *tableReader) pointValues(b *boundPoint) (tree.Datums, error) {
	if b.null {
		return tree.Datums{tree.DNull}, nil
	}
	if b.array != nil {
		d, err := r.eval(b.array)
		if err != nil {
			return nil, err
		}
		arr, ok := d.(*tree.DArray)
		if !ok {
			return nil, nil
		}
		return r.distinct(arr.Array), nil
	}
	out := make(tree.Datums, 0, len(b.vals))
	for _, v := range b.vals {
		d, err := r.eval(v)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	if len(out) == 1 && out[0] != tree.DNull {
		return out, nil
	}
	return r.distinct(out), nil
}

// distinct drops NULLs, which equal nothing, and repetitions.
func (r *tableReader) distinct(in tree.Datums) tree.Datums {
	out := make(tree.Datums, 0, len(in))
	for _, d := range in {
		if d != tree.DNull {
			out = append(out, d)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return builtins.Compare(r.flow.Eval, out[i], out[j]) < 0 })
	n := 0
	for i, d := range out {
		if i == 0 || builtins.Compare(r.flow.Eval, d, out[n-1]) != 0 {
			out[n] = d
			n++
		}
	}
	return out[:n]
}

func (r *tableReader) eval(e tree.TypedExpr) (tree.Datum, error) {
	if d, ok := builtins.ConstValue(e); ok {
		return d, nil
	}
	return r.flow.EvalRow(e, nil)
}

// addSpans appends the spans of one combination of point values.
func (r *tableReader) addSpans(prefix tree.Datums) error {
	add := func(sp keys.Span, ok bool, err error) error {
		if err == nil && ok {
			r.spans = append(r.spans, sp)
		}
		return err
	}
	if r.exact {
		k, err := rowenc.IndexKey(r.index, prefix)
		if err != nil {
			return err
		}
		r.spans = append(r.spans, keys.Span{Key: rowenc.AppendFamily(k, 0)})
		return nil
	}
	if g := r.rng; g != nil {
		var lo, hi *rowenc.Bound
		bound := func(e tree.TypedExpr, excl bool) (*rowenc.Bound, bool, error) {
			if e == nil {
				return nil, true, nil
			}
			d, err := r.eval(e)
			if err != nil || d == tree.DNull {
				return nil, false, err
			}
			return &rowenc.Bound{Datum: d, Inclusive: !excl}, true, nil
		}
		var ok bool
		var err error
		if lo, ok, err = bound(g.lo, g.loExcl); err != nil || !ok {
			return err
		}
		if hi, ok, err = bound(g.hi, g.hiExcl); err != nil || !ok {
			return err
		}
		if g.prefix != "" {
			lo = &rowenc.Bound{Datum: tree.NewDString(g.prefix), Inclusive: true}
			if end := prefixEnd(g.prefix); end != "" {
				hi = &rowenc.Bound{Datum: tree.NewDString(end)}
			}
		}
		if g.hasNaN && (lo != nil || hi != nil || r.splitNaN) {
			return r.addNumberSpans(prefix, lo, hi)
		}
		sp, ok, err := rowenc.RangeSpan(r.index, prefix, lo, hi)
		return add(sp, ok, err)
	}
	if r.flipNulls || r.splitNaN {
		nulls, err := rowenc.NullSpan(r.index, prefix)
		if err != nil {
			return err
		}
		// NULLs come first in ascending keys; flipped, they change places.
		nullsAtStart := keyDesc(r.index, len(prefix)) == r.reverse != r.flipNulls
		if nullsAtStart {
			r.spans = append(r.spans, nulls)
		}
		if r.splitNaN {
			err = r.addNumberSpans(prefix, nil, nil)
		} else {
			sp, ok, rerr := rowenc.RangeSpan(r.index, prefix, nil, nil)
			err = add(sp, ok, rerr)
		}
		if err == nil && !nullsAtStart {
			r.spans = append(r.spans, nulls)
		}
		return err
	}
	sp, err := rowenc.PrefixSpan(r.index, prefix)
	r.full = len(prefix) == 0
	return add(sp, true, err)
}

// addNumberSpans appends the spans of a range of a column that may hold NaN, which
// keys have below -Infinity and comparisons above Infinity.
func (r *tableReader) addNumberSpans(prefix tree.Datums, lo, hi *rowenc.Bound) error {
	nan := tree.Datum(&tree.DDecimal{Decimal: apd.Decimal{Form: apd.NaN}})
	if keyColumns(r.index)[len(prefix)].Type.Family() == types.FloatFamily {
		nan = tree.NewDFloat(tree.DFloat(math.NaN()))
	}
	isNaN := func(b *rowenc.Bound) bool { return b != nil && builtins.Compare(r.flow.Eval, b.Datum, nan) == 0 }
	withNaN := hi == nil || isNaN(hi) && hi.Inclusive
	if isNaN(hi) {
		hi = nil
	}
	var spans []keys.Span
	if isNaN(lo) {
		withNaN = withNaN && lo.Inclusive
	} else {
		if lo == nil {
			lo = &rowenc.Bound{Datum: nan}
		}
		sp, ok, err := rowenc.RangeSpan(r.index, prefix, lo, hi)
		if err != nil {
			return err
		}
		if ok {
			spans = append(spans, sp)
		}
	}
	if withNaN {
		sp, err := rowenc.PrefixSpan(r.index, append(prefix[:len(prefix):len(prefix)], nan))
		if err != nil {
			return err
		}
		spans = append(spans, sp)
	}
	if keyDesc(r.index, len(prefix)) != r.reverse {
		slices.Reverse(spans)
	}
	r.spans = append(r.spans, spans...)
	return nil
}

// prefixEnd is the first string after all that begin with s, "" if there is none.
func prefixEnd(s string) string {
	b := []byte(s)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// Next implements exec.Operator.
func (r *tableReader) Next(ctx context.Context) (tree.Datums, error) {
	ok, err := r.fetcher.Next(ctx, (*readerPairs)(r), r.row)
	if err != nil || !ok {
		return nil, err
	}
	return r.row, nil
}

// readerPairs feeds the fetcher.
type readerPairs tableReader

// Next implements rowenc.Pairs.
func (rp *readerPairs) Next(ctx context.Context) (keys.Key, []byte, bool, error) {
	r := (*tableReader)(rp)
	for r.pos >= len(r.kvs) {
		more, err := r.page(ctx)
		if err != nil || !more {
			return nil, nil, false, err
		}
	}
	kv := &r.kvs[r.pos]
	r.pos++
	return kv.Key, kv.Value, true, nil
}

// page reads the next page and reports false at the end.
func (r *tableReader) page(ctx context.Context) (bool, error) {
	r.kvs, r.pos = nil, 0
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if r.exact {
		return r.gets(ctx)
	}
	var sp keys.Span
	switch {
	case r.resume != nil:
		sp = *r.resume
		r.resume = nil
	case r.next < len(r.spans):
		sp = r.spans[r.next]
		r.next++
	default:
		if r.full {
			r.p.srv.stats.set(r.desc.ID(), r.read/int64(max(len(r.desc.Families()), 1)))
		}
		return false, nil
	}
	opts := r.opts
	opts.TargetBytes = r.pageBytes
	if r.pages == 0 && r.firstKeys > 0 {
		opts.MaxKeys = r.firstKeys
	} else {
		r.pageBytes = min(r.pageBytes*4, maxPageBytes)
	}
	r.pages++
	res, err := r.p.txn.Scan(ctx, sp.Key, sp.EndKey, opts)
	if err != nil {
		return false, err
	}
	r.kvs, r.resume = res.KVs, res.Resume
	r.read += int64(len(res.KVs))
	return true, nil
}

// getsPerBatch bounds how many keys are asked for at once.
const getsPerBatch = 1000

// gets reads keys that are fully known.
func (r *tableReader) gets(ctx context.Context) (bool, error) {
	n := min(len(r.spans)-r.next, getsPerBatch)
	if n == 0 {
		return false, nil
	}
	batch := r.spans[r.next : r.next+n]
	r.next += n
	if n == 1 {
		kvp, err := r.p.txn.GetWith(ctx, batch[0].Key, kv.GetOptions{
			ForUpdate: r.opts.ForUpdate, SkipLocked: r.opts.SkipLocked, NoWait: r.opts.NoWait,
		})
		if err != nil {
			return false, err
		}
		if kvp.Value != nil {
			r.kvs = append(r.kvs, kvp)
		}
		return true, nil
	}
	kvs, err := getAll(ctx, r.p.txn, spanKeys(batch), r.opts)
	r.kvs = kvs
	return true, err
}

func spanKeys(spans []keys.Span) []keys.Key {
	out := make([]keys.Key, len(spans))
	for i, s := range spans {
		out[i] = s.Key
	}
	return out
}

// getAll reads keys and returns those that exist, in order.
func getAll(ctx context.Context, txn *kv.Txn, ks []keys.Key, opts kv.ScanOptions) ([]kv.KeyValue, error) {
	if opts.SkipLocked || opts.NoWait {
		var out []kv.KeyValue
		for _, k := range ks {
			kvp, err := txn.GetWith(ctx, k, kv.GetOptions{ForUpdate: opts.ForUpdate, SkipLocked: opts.SkipLocked, NoWait: opts.NoWait})
			if err != nil {
				return nil, err
			}
			if kvp.Value != nil {
				out = append(out, kvp)
			}
		}
		return out, nil
	}
	b := txn.NewBatch()
	for _, k := range ks {
		if opts.ForUpdate {
			b.GetForUpdate(k)
		} else {
			b.Get(k)
		}
	}
	if err := txn.Run(ctx, b); err != nil {
		return nil, err
	}
	out := make([]kv.KeyValue, 0, len(ks))
	for _, res := range b.Results {
		for _, kvp := range res.KVs {
			if kvp.Value != nil {
				out = append(out, kvp)
			}
		}
	}
	return out, nil
}

// indexJoin fetches the rows that a secondary index found from the primary one,
// many at a time.
type indexJoin struct {
	p       *planner
	in      *tableReader
	fetcher *rowenc.Fetcher
	typs    []*types.T
	row     tree.Datums
	opts    kv.ScanOptions
	multi   bool

	pairs rowenc.SlicePairs
	batch int
	done  bool
}

const maxJoinBatch = 2000

func newIndexJoin(p *planner, in *tableReader, t *scanNode, want []*catalog.Column, lock lockMode) *indexJoin {
	desc := t.tab.desc
	j := &indexJoin{
		p: p, in: in, multi: len(desc.Families()) > 1,
		fetcher: rowenc.NewFetcher(desc, desc.PrimaryIndex(), want),
		row:     make(tree.Datums, len(want)),
	}
	for _, c := range want {
		j.typs = append(j.typs, c.Type)
	}
	if lock.on {
		j.opts = kv.ScanOptions{ForUpdate: true, SkipLocked: lock.skipLocked, NoWait: lock.noWait}
	}
	return j
}

func (j *indexJoin) Types() []*types.T { return j.typs }
func (j *indexJoin) Close()            { j.pairs.KVs = nil; j.in.Close() }

func (j *indexJoin) Open(ctx context.Context) error {
	j.pairs.KVs, j.done = nil, false
	j.batch = 32
	if j.in.firstKeys > 0 {
		j.batch = int(min(j.in.firstKeys, maxJoinBatch))
	}
	j.fetcher.Reset()
	return j.in.Open(ctx)
}

func (j *indexJoin) Next(ctx context.Context) (tree.Datums, error) {
	for {
		ok, err := j.fetcher.Next(ctx, &j.pairs, j.row)
		if err != nil {
			return nil, err
		}
		if ok {
			return j.row, nil
		}
		if j.done {
			return nil, nil
		}
		if err := j.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// fill fetches the next batch of rows.
func (j *indexJoin) fill(ctx context.Context) error {
	desc := j.in.desc
	pk := desc.PrimaryIndex()
	var ks []keys.Key
	for len(ks) < j.batch {
		row, err := j.in.Next(ctx)
		if err != nil {
			return err
		}
		if row == nil {
			j.done = true
			break
		}
		k, err := rowenc.IndexKey(pk, row)
		if err != nil {
			return err
		}
		ks = append(ks, k)
	}
	j.batch = min(j.batch*4, maxJoinBatch)
	if len(ks) == 0 {
		return nil
	}
	var kvs []kv.KeyValue
	if !j.multi {
		for i := range ks {
			ks[i] = rowenc.AppendFamily(ks[i], 0)
		}
		var err error
		if kvs, err = getAll(ctx, j.p.txn, ks, j.opts); err != nil {
			return err
		}
	} else {
		b := j.p.txn.NewBatch()
		for _, k := range ks {
			b.Scan(k, k.PrefixEnd(), j.opts)
		}
		if err := j.p.txn.Run(ctx, b); err != nil {
			return err
		}
		for _, r := range b.Results {
			kvs = append(kvs, r.KVs...)
		}
	}
	j.pairs.KVs = j.pairs.KVs[:0]
	for _, kvp := range kvs {
		j.pairs.KVs = append(j.pairs.KVs, rowenc.KV{Key: kvp.Key, Value: kvp.Value})
	}
	return nil
}

// compileCount makes count(*) of a whole table without decoding rows, if that is
// what t is.
func (c *compiler) compileCount(t *groupNode) exec.Operator {
	if !t.scalar || len(t.aggs) != 1 {
		return nil
	}
	a := &t.aggs[0]
	s, ok := t.in.(*scanNode)
	if !ok || len(a.args) > 0 || a.filter != 0 || a.distinct || a.fn.Func.String() != "count_rows" {
		return nil
	}
	if s.access == nil || len(s.filters) > 0 || s.lock.on || len(s.tab.desc.Families()) > 1 {
		return nil
	}
	r := &tableReader{p: c.p, flow: c.p.flow, index: s.access.index}
	r.init(s.tab.desc, nil)
	return &countReader{tableReader: r}
}

// countReader yields the number of entries of an index.
type countReader struct {
	*tableReader
	done bool
}

func (o *countReader) Types() []*types.T { return []*types.T{types.Int} }

func (o *countReader) Open(ctx context.Context) error {
	o.done = false
	return o.tableReader.Open(ctx)
}

func (o *countReader) Next(ctx context.Context) (tree.Datums, error) {
	if o.done {
		return nil, nil
	}
	o.done = true
	o.pageBytes = maxPageBytes
	n := int64(0)
	for {
		more, err := o.page(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			return tree.Datums{tree.NewDInt(tree.DInt(n))}, nil
		}
		n += int64(len(o.kvs))
	}
}

// rowSink keeps the rows of a virtual table within the statement's budget.
type rowSink struct {
	p    *planner
	typs []*types.T
	rows []tree.Datums
	size int64
	pos  int
}

func newRowSink(p *planner, typs []*types.T) *rowSink { return &rowSink{p: p, typs: typs} }

func (s *rowSink) add(vals ...tree.Datum) error {
	if len(vals) != len(s.typs) {
		return pgerr.Newf(pgerr.Internal, "a row of %d columns was made for a table of %d", len(vals), len(s.typs))
	}
	n := int64(24 + 16*len(vals))
	row := make(tree.Datums, len(vals))
	for i, d := range vals {
		if d == nil {
			d = tree.DNull
		}
		row[i] = d
		n += int64(d.Size())
	}
	if err := s.p.mem.Grow(n); err != nil {
		return err
	}
	s.size += n
	s.rows = append(s.rows, row)
	return nil
}

func (s *rowSink) next() tree.Datums {
	if s.pos >= len(s.rows) {
		return nil
	}
	s.pos++
	return s.rows[s.pos-1]
}

func (s *rowSink) reset() {
	s.p.mem.Shrink(s.size)
	s.rows, s.size, s.pos = nil, 0, 0
}

// virtualReader reads a virtual table.
type virtualReader struct {
	p     *planner
	table *virtualTable
	db    string
	rows  *rowSink
	full  bool
}

func (o *virtualReader) Types() []*types.T { return o.rows.typs }
func (o *virtualReader) Close()            { o.rows.reset(); o.full = false }
func (o *virtualReader) Open(ctx context.Context) error {
	if o.full {
		// The table stays the same within a statement.
		o.rows.pos = 0
		return nil
	}
	o.rows.reset()
	err := o.table.populate(ctx, o.p, o.db, o.rows.add)
	if err == errStopRows {
		err = nil
	}
	o.full = err == nil
	return err
}
func (o *virtualReader) Next(context.Context) (tree.Datums, error) { return o.rows.next(), nil }

// sourceReader runs a statement that is not a query.
type sourceReader struct {
	p    *planner
	src  *rowSource
	rows *rowSink
	ran  bool
}

func (o *sourceReader) Types() []*types.T { return o.rows.typs }
func (o *sourceReader) Close()            {}
func (o *sourceReader) Open(ctx context.Context) error {
	if o.ran {
		o.rows.pos = 0
		return nil
	}
	o.ran = true
	err := o.src.run(ctx, o.p, o.rows.add)
	if err == errStopRows {
		err = nil
	}
	return err
}
func (o *sourceReader) Next(context.Context) (tree.Datums, error) { return o.rows.next(), nil }
