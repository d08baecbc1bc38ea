package exec

import (
	"container/heap"
	"context"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// OrderCol is one column of an ordering. PostgreSQL's defaults are NULLs last
// for ascending and NULLs first for descending columns: see Order.
type OrderCol struct {
	Col        int
	Desc       bool
	NullsFirst bool
}

// Ordering is a list of columns, the most significant first.
type Ordering []OrderCol

// Order returns an OrderCol with the default place of NULLs.
func Order(col int, desc bool) OrderCol { return OrderCol{Col: col, Desc: desc, NullsFirst: desc} }

// Compare orders two rows.
func (o Ordering) Compare(ctx *tree.EvalContext, a, b tree.Datums) int {
	for _, c := range o {
		if r := c.compare(ctx, a[c.Col], b[c.Col]); r != 0 {
			return r
		}
	}
	return 0
}

func (c OrderCol) compare(ctx *tree.EvalContext, x, y tree.Datum) int {
	if x == tree.DNull || y == tree.DNull {
		switch {
		case x == y:
			return 0
		case (x == tree.DNull) == c.NullsFirst:
			return -1
		}
		return 1
	}
	r := builtins.Compare(ctx, x, y)
	if c.Desc {
		return -r
	}
	return r
}

// NewSort yields the rows of in by ord; rows equal in ord keep their order.
// What does not fit into memory is sorted in runs on disk.
func NewSort(f *Flow, in Operator, ord Ordering) Operator {
	return &sortOp{unary: unary{flow: f, in: in}, sorter: newSorter(f, ord)}
}

type sortOp struct {
	unary
	sorter *sorter
	it     func() (tree.Datums, error)
	n      int
}

func (o *sortOp) Open(ctx context.Context) error {
	o.sorter.clear()
	o.it = nil
	return o.in.Open(ctx)
}

func (o *sortOp) Next(ctx context.Context) (tree.Datums, error) {
	if o.it == nil {
		for {
			row, err := o.in.Next(ctx)
			if err != nil {
				return nil, err
			}
			if row == nil {
				break
			}
			if err := o.sorter.add(row); err != nil {
				return nil, err
			}
		}
		// The input's memory is free for others while we emit.
		o.in.Close()
		var err error
		if o.it, err = o.sorter.finish(ctx); err != nil {
			return nil, err
		}
	}
	if err := checkCtx(ctx, &o.n); err != nil {
		return nil, err
	}
	return o.it()
}

func (o *sortOp) Close() {
	o.sorter.clear()
	o.it = nil
	o.in.Close()
}

// maxRuns is how many files are merged at once; each has a read buffer.
const maxRuns = 32

// sorter collects rows, then gives them back in order.
type sorter struct {
	flow  *Flow
	ord   Ordering
	acc   account
	rows  []tree.Datums
	arena arena
	runs  []*rowFile
}

func newSorter(f *Flow, ord Ordering) *sorter {
	return &sorter{flow: f, ord: ord, acc: account{b: f.Mem}}
}

func (s *sorter) add(row tree.Datums) error {
	n := rowSize(row)
	if err := checkRowSize(n); err != nil {
		return err
	}
	if !s.acc.growFloor(n) {
		if len(s.rows) > 0 {
			if err := s.spill(); err != nil {
				return err
			}
		}
		if !s.acc.growFloor(n) {
			return ErrBudgetExceeded(n, s.flow.Mem) // One row is larger than what there is.
		}
	}
	s.rows = append(s.rows, s.arena.copy(row))
	return nil
}

func (s *sorter) sortMem() {
	ctx := s.flow.Eval
	slices.SortStableFunc(s.rows, func(a, b tree.Datums) int { return s.ord.Compare(ctx, a, b) })
}

// spill writes the rows in memory as a sorted run.
func (s *sorter) spill() error {
	s.sortMem()
	run, err := s.flow.newRowFile()
	if err != nil {
		return err
	}
	s.runs = append(s.runs, run)
	for _, row := range s.rows {
		if err := run.append(row); err != nil {
			return err
		}
	}
	s.dropMem()
	if len(s.runs) >= maxRuns {
		return s.compact()
	}
	return nil
}

func (s *sorter) dropMem() {
	s.rows, s.arena = nil, arena{}
	s.acc.clear()
}

// compact merges all runs into one. Runs stay in the order of their rows, so
// the sort stays stable.
func (s *sorter) compact() error {
	next, err := s.merge()
	if err != nil {
		return err
	}
	run, err := s.flow.newRowFile()
	if err != nil {
		return err
	}
	for {
		row, err := next()
		if err == nil && row != nil {
			err = run.append(row)
		}
		if err != nil {
			run.close()
			return err
		}
		if row == nil {
			break
		}
	}
	for _, r := range s.runs {
		r.close()
	}
	s.runs = append(s.runs[:0], run)
	return nil
}

// finish returns an iterator over all rows in order; nil is the end.
func (s *sorter) finish(ctx context.Context) (func() (tree.Datums, error), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(s.runs) > 0 {
		if len(s.rows) > 0 {
			if err := s.spill(); err != nil {
				return nil, err
			}
		}
		return s.merge()
	}
	s.sortMem()
	i := 0
	return func() (tree.Datums, error) {
		if i >= len(s.rows) {
			return nil, nil
		}
		i++
		return s.rows[i-1], nil
	}, nil
}

func (s *sorter) clear() {
	s.dropMem()
	for _, r := range s.runs {
		r.close()
	}
	s.runs = nil
}

// merge returns an iterator over all runs.
func (s *sorter) merge() (func() (tree.Datums, error), error) {
	h := &mergeHeap{s: s}
	for i, run := range s.runs {
		r, err := run.reader()
		if err != nil {
			return nil, err
		}
		row, err := r.next()
		if err != nil {
			return nil, err
		}
		if row != nil {
			h.items = append(h.items, mergeItem{row: row, run: i, r: r})
		}
	}
	heap.Init(h)
	started := false
	return func() (tree.Datums, error) {
		// The row given out last belongs to its reader, which may go on only now.
		if started && len(h.items) > 0 {
			top := &h.items[0]
			row, err := top.r.next()
			if err != nil {
				return nil, err
			}
			if row == nil {
				heap.Pop(h)
			} else {
				top.row = row
				heap.Fix(h, 0)
			}
		}
		started = true
		if len(h.items) == 0 {
			return nil, nil
		}
		return h.items[0].row, nil
	}, nil
}

type mergeItem struct {
	row tree.Datums
	run int
	r   *rowFileReader
}

type mergeHeap struct {
	s     *sorter
	items []mergeItem
}

func (h *mergeHeap) Len() int { return len(h.items) }
func (h *mergeHeap) Less(i, j int) bool {
	if c := h.s.ord.Compare(h.s.flow.Eval, h.items[i].row, h.items[j].row); c != 0 {
		return c < 0
	}
	return h.items[i].run < h.items[j].run
}
func (h *mergeHeap) Swap(i, j int) { h.items[i], h.items[j] = h.items[j], h.items[i] }
func (h *mergeHeap) Push(x any)    { h.items = append(h.items, x.(mergeItem)) }
func (h *mergeHeap) Pop() any {
	x := h.items[len(h.items)-1]
	h.items = h.items[:len(h.items)-1]
	return x
}

// NewTopN is a sort followed by OFFSET and LIMIT that keeps only the rows it
// needs. limit and offset are as for NewLimit; a NULL limit means a full sort.
func NewTopN(f *Flow, in Operator, ord Ordering, limit, offset tree.TypedExpr) Operator {
	return &topN{sortOp: sortOp{unary: unary{flow: f, in: in}, sorter: newSorter(f, ord)}, limit: limit, offset: offset}
}

// topNMax is the largest number of rows kept in a heap; above it, sorting all
// rows costs about the same and can spill.
const topNMax = 10000

type topN struct {
	sortOp
	limit, offset tree.TypedExpr
	skip, left    int64
	heapDone      bool
	acc           account
	rows          []topRow
}

type topRow struct {
	row  tree.Datums
	seq  int64
	size int64
}

func (o *topN) Open(ctx context.Context) error {
	var err error
	if o.left, err = evalCount(o.flow, o.limit, -1, "LIMIT", "2201W"); err != nil {
		return err
	}
	if o.skip, err = evalCount(o.flow, o.offset, 0, "OFFSET", "2201X"); err != nil {
		return err
	}
	o.heapDone = false
	o.acc.clear()
	o.acc.b = o.flow.Mem
	o.rows = nil
	return o.sortOp.Open(ctx)
}

func (o *topN) Close() {
	o.acc.clear()
	o.rows = nil
	o.sortOp.Close()
}

func (o *topN) Next(ctx context.Context) (tree.Datums, error) {
	if o.left == 0 {
		return nil, nil
	}
	if !o.heapDone && o.left > 0 && o.left <= topNMax && o.skip <= topNMax {
		if err := o.fill(ctx); err != nil {
			return nil, err
		}
		o.heapDone = true
	}
	for ; o.skip > 0; o.skip-- {
		if row, err := o.pull(ctx); err != nil || row == nil {
			return nil, err
		}
	}
	row, err := o.pull(ctx)
	if row != nil && o.left > 0 {
		o.left--
	}
	return row, err
}

func (o *topN) pull(ctx context.Context) (tree.Datums, error) {
	if !o.heapDone {
		return o.sortOp.Next(ctx)
	}
	if len(o.rows) == 0 {
		return nil, nil
	}
	row := o.rows[0].row
	o.rows = o.rows[1:]
	return row, nil
}

// fill keeps the first skip+left rows in a heap whose top is the last of them.
func (o *topN) fill(ctx context.Context) error {
	k := int(o.skip + o.left)
	h := (*topHeap)(o)
	for seq := int64(0); ; seq++ {
		row, err := o.in.Next(ctx)
		if err != nil {
			return err
		}
		if row == nil {
			break
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return err
		}
		if len(o.rows) == k && o.sorter.ord.Compare(o.flow.Eval, row, o.rows[0].row) >= 0 {
			continue
		}
		n := rowSize(row)
		if len(o.rows) == k {
			o.acc.b.Shrink(o.rows[0].size)
			o.acc.used -= o.rows[0].size
			if err := o.acc.grow(n); err != nil {
				return err
			}
			copy(o.rows[0].row, row)
			o.rows[0].seq, o.rows[0].size = seq, n
			heap.Fix(h, 0)
			continue
		}
		if err := o.acc.grow(n); err != nil {
			return err
		}
		heap.Push(h, topRow{row: append(tree.Datums{}, row...), seq: seq, size: n})
	}
	o.in.Close()
	slices.SortFunc(o.rows, func(a, b topRow) int {
		if c := o.sorter.ord.Compare(o.flow.Eval, a.row, b.row); c != 0 {
			return c
		}
		return int(a.seq - b.seq)
	})
	return nil
}

type topHeap topN

func (h *topHeap) Len() int { return len(h.rows) }
func (h *topHeap) Less(i, j int) bool {
	if c := h.sorter.ord.Compare(h.flow.Eval, h.rows[i].row, h.rows[j].row); c != 0 {
		return c > 0
	}
	return h.rows[i].seq > h.rows[j].seq
}
func (h *topHeap) Swap(i, j int) { h.rows[i], h.rows[j] = h.rows[j], h.rows[i] }
func (h *topHeap) Push(x any)    { h.rows = append(h.rows, x.(topRow)) }
func (h *topHeap) Pop() any {
	x := h.rows[len(h.rows)-1]
	h.rows = h.rows[:len(h.rows)-1]
	return x
}
