package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// Spool runs a plan once and lets any number of readers see its rows: a CTE.
// Whoever plans the statement closes it at the end.
type Spool struct {
	in     Operator
	buf    *rowBuffer
	filled bool
}

// NewSpool returns a spool of in.
func NewSpool(f *Flow, in Operator) *Spool { return &Spool{in: in, buf: newRowBuffer(f)} }

// Fill runs the plan if that has not happened. Readers call it; data-modifying
// CTEs are filled even if nobody reads them.
func (s *Spool) Fill(ctx context.Context) error {
	if s.filled {
		return nil
	}
	s.buf.clear()
	if err := Drain(ctx, s.in, s.buf.add); err != nil {
		return err
	}
	s.filled = true
	return nil
}

// Len returns the number of rows, once filled.
func (s *Spool) Len() int64 { return s.buf.len() }

// Close forgets the rows.
func (s *Spool) Close() {
	s.in.Close()
	s.buf.clear()
	s.filled = false
}

// Reader returns an operator over the spool's rows, independent of others.
func (s *Spool) Reader() Operator { return &spoolReader{s: s} }

type spoolReader struct {
	s  *Spool
	it *rowIter
	n  int
}

func (r *spoolReader) Types() []*types.T { return r.s.in.Types() }
func (r *spoolReader) Close()            { r.it = nil }
func (r *spoolReader) Open(ctx context.Context) error {
	r.it = r.s.buf.iter()
	return r.s.Fill(ctx)
}
func (r *spoolReader) Next(ctx context.Context) (tree.Datums, error) {
	if err := checkCtx(ctx, &r.n); err != nil {
		return nil, err
	}
	return r.it.row()
}

// WorkTable is what the recursive part of a recursive CTE sees: the rows of the
// round before.
type WorkTable struct {
	flow *Flow
	typs []*types.T
	buf  *rowBuffer
}

// NewWorkTable returns an empty work table.
func NewWorkTable(f *Flow, typs []*types.T) *WorkTable {
	return &WorkTable{flow: f, typs: typs, buf: newRowBuffer(f)}
}

// Reader returns an operator over the present rows.
func (w *WorkTable) Reader() Operator { return &workReader{w: w} }

type workReader struct {
	w  *WorkTable
	it *rowIter
}

func (r *workReader) Types() []*types.T                         { return r.w.typs }
func (r *workReader) Close()                                    { r.it = nil }
func (r *workReader) Open(context.Context) error                { r.it = r.w.buf.iter(); return nil }
func (r *workReader) Next(context.Context) (tree.Datums, error) { return r.it.row() }

// NewRecursive runs a recursive CTE: the rows of initial, then those of
// recursive over the rows of the round before (work), until a round yields
// none. Without all (UNION), rows seen before are dropped.
func NewRecursive(f *Flow, initial, recursive Operator, work *WorkTable, all bool) Operator {
	return &recursiveOp{flow: f, initial: initial, recursive: recursive, work: work, all: all, acc: account{b: f.Mem}}
}

type recursiveOp struct {
	flow               *Flow
	initial, recursive Operator
	work               *WorkTable
	all                bool
	acc                account
	seen               map[string]struct{}
	key                []byte
	cols               []int
	next               *rowBuffer // rows of this round
	cur                Operator
	n                  int
}

func (o *recursiveOp) Types() []*types.T { return o.work.typs }

func (o *recursiveOp) Open(ctx context.Context) error {
	o.reset()
	o.next = newRowBuffer(o.flow)
	o.seen = map[string]struct{}{}
	o.cols = make([]int, len(o.work.typs))
	for i := range o.cols {
		o.cols[i] = i
	}
	o.cur = o.initial
	return o.cur.Open(ctx)
}

func (o *recursiveOp) reset() {
	o.acc.clear()
	o.seen = nil
	o.work.buf.clear()
	if o.next != nil {
		o.next.clear()
	}
	o.cur = nil
}

func (o *recursiveOp) Close() {
	o.reset()
	o.initial.Close()
	o.recursive.Close()
}

func (o *recursiveOp) Next(ctx context.Context) (tree.Datums, error) {
	for o.cur != nil {
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		row, err := o.cur.Next(ctx)
		if err != nil {
			return nil, err
		}
		if row == nil {
			o.cur.Close()
			if o.next.len() == 0 {
				o.cur = nil
				return nil, nil
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			o.work.buf.clear()
			o.work.buf, o.next = o.next, o.work.buf
			o.cur = o.recursive
			if err := o.cur.Open(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if !o.all {
			o.key, _ = appendKeyCols(o.key[:0], row, o.cols)
			if _, ok := o.seen[string(o.key)]; ok {
				continue
			}
			if err := o.acc.grow(int64(len(o.key)) + mapEntryBytes); err != nil {
				return nil, err
			}
			o.seen[string(o.key)] = struct{}{}
		}
		if err := o.next.add(row); err != nil {
			return nil, err
		}
		return row, nil
	}
	return nil, nil
}
