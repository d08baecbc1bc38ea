package exec

import (
	"context"
	"slices"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// JoinType says which rows a join yields.
type JoinType int

const (
	InnerJoin JoinType = iota
	LeftJoin
	RightJoin
	FullJoin
	// SemiJoin yields the left rows that have a match, once, without right columns.
	SemiJoin
	// AntiJoin yields the left rows without a match (NOT EXISTS).
	AntiJoin
	// NullAwareAntiJoin is NOT IN: no row at all if the right side has a NULL
	// key, and none for a left NULL unless the right side is empty. Hash join
	// only, without residual predicate.
	NullAwareAntiJoin
)

func (t JoinType) String() string {
	return [...]string{"inner", "left outer", "right outer", "full outer", "semi", "anti", "null-aware anti"}[t]
}

func (t JoinType) leftOuter() bool  { return t == LeftJoin || t == FullJoin }
func (t JoinType) rightOuter() bool { return t == RightJoin || t == FullJoin }
func (t JoinType) leftOnly() bool   { return t == SemiJoin || t == AntiJoin || t == NullAwareAntiJoin }

// joiner holds what all joins share: the row of left and right columns.
type joiner struct {
	flow        *Flow
	left, right Operator
	kind        JoinType
	on          foldedExpr // over left and right columns; nil is true
	typs        []*types.T
	nLeft       int
	row         tree.Datums
	n           int
}

func newJoiner(f *Flow, left, right Operator, kind JoinType, on tree.TypedExpr) joiner {
	lt, rt := left.Types(), right.Types()
	j := joiner{flow: f, left: left, right: right, kind: kind, on: newFoldedExpr(on), nLeft: len(lt)}
	j.typs = slices.Concat(lt, rt)
	j.row = make(tree.Datums, len(j.typs))
	return j
}

func (j *joiner) Types() []*types.T {
	if j.kind.leftOnly() {
		return j.typs[:j.nLeft]
	}
	return j.typs
}

func (j *joiner) setLeft(row tree.Datums) {
	if row == nil {
		setNulls(j.row[:j.nLeft])
		return
	}
	copy(j.row, row)
}

func (j *joiner) setRight(row tree.Datums) {
	if row == nil {
		setNulls(j.row[j.nLeft:])
		return
	}
	copy(j.row[j.nLeft:], row)
}

func setNulls(row tree.Datums) {
	for i := range row {
		row[i] = tree.DNull
	}
}

// matches evaluates the residual predicate on the current row.
func (j *joiner) matches() (bool, error) {
	if j.on.cur == nil {
		return true, nil
	}
	return j.flow.EvalBool(j.on.cur, j.row)
}

// out is the current row as the join's type shows it.
func (j *joiner) out() tree.Datums {
	if j.kind.leftOnly() {
		return j.row[:j.nLeft]
	}
	return j.row
}

func (j *joiner) Close() {
	j.left.Close()
	j.right.Close()
}

// NewNestedLoopJoin compares each left row with all right rows, which are read
// once and kept (on disk if they must).
func NewNestedLoopJoin(f *Flow, left, right Operator, kind JoinType, on tree.TypedExpr) Operator {
	return &nestedLoop{joiner: newJoiner(f, left, right, kind, on), buf: newRowBuffer(f)}
}

type nestedLoop struct {
	joiner
	buf      *rowBuffer
	it       *rowIter
	idx      int    // of the right row that it gives next
	matched  bitset // right rows that found a partner, for right and full
	haveLeft bool
	found    bool
	tail     bool // left is done: yield unmatched right rows
}

func (o *nestedLoop) Open(ctx context.Context) error {
	o.buf.clear()
	o.on.open(o.flow)
	o.it, o.matched, o.haveLeft, o.tail = nil, nil, false, false
	err := Drain(ctx, o.right, o.buf.add)
	if err != nil {
		return err
	}
	return o.left.Open(ctx)
}

func (o *nestedLoop) Close() {
	o.buf.clear()
	o.joiner.Close()
}

func (o *nestedLoop) Next(ctx context.Context) (tree.Datums, error) {
	for !o.tail {
		if !o.haveLeft {
			row, err := o.left.Next(ctx)
			if err != nil {
				return nil, err
			}
			if row == nil {
				if !o.kind.rightOuter() {
					return nil, nil
				}
				o.tail, o.it, o.idx = true, o.buf.iter(), 0
				break
			}
			o.setLeft(row)
			o.haveLeft, o.found = true, false
			o.it, o.idx = o.buf.iter(), 0
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		right, err := o.it.row()
		if err != nil {
			return nil, err
		}
		if right == nil {
			o.haveLeft = false
			if !o.found && (o.kind.leftOuter() || o.kind == AntiJoin) {
				o.setRight(nil)
				return o.out(), nil
			}
			continue
		}
		o.idx++
		o.setRight(right)
		ok, err := o.matches()
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		o.found = true
		if o.kind.rightOuter() {
			o.matched.set(o.idx - 1)
		}
		switch o.kind {
		case SemiJoin:
			o.haveLeft = false
		case AntiJoin:
			o.haveLeft = false
			continue
		}
		return o.out(), nil
	}
	for {
		right, err := o.it.row()
		if err != nil || right == nil {
			return nil, err
		}
		o.idx++
		if !o.matched.get(o.idx - 1) {
			o.setLeft(nil)
			o.setRight(right)
			return o.row, nil
		}
	}
}

type bitset []uint64

func (b *bitset) set(i int) {
	for len(*b) <= i>>6 {
		*b = append(*b, 0)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}

func (b bitset) get(i int) bool { return i>>6 < len(b) && b[i>>6]&(1<<(i&63)) != 0 }

// NewApply runs the right plan anew for each left row, which the right plan sees
// through outer (LATERAL, correlated subqueries). outer may be nil. Right and
// full joins are not possible.
func NewApply(f *Flow, left, right Operator, outer *OuterRow, kind JoinType, on tree.TypedExpr) Operator {
	return &apply{joiner: newJoiner(f, left, right, kind, on), outer: outer}
}

type apply struct {
	joiner
	outer    *OuterRow
	haveLeft bool
	found    bool
}

func (o *apply) Open(ctx context.Context) error {
	o.haveLeft = false
	o.on.open(o.flow)
	return o.left.Open(ctx)
}

func (o *apply) Next(ctx context.Context) (tree.Datums, error) {
	for {
		if !o.haveLeft {
			row, err := o.left.Next(ctx)
			if err != nil || row == nil {
				return nil, err
			}
			o.setLeft(row)
			if o.outer != nil {
				o.outer.Set(row)
			}
			if err := o.right.Open(ctx); err != nil {
				return nil, err
			}
			o.haveLeft, o.found = true, false
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		if o.outer != nil {
			// An inner plan shared with another expression may have set it.
			o.outer.Set(o.row[:o.nLeft])
		}
		right, err := o.right.Next(ctx)
		if err != nil {
			return nil, err
		}
		if right == nil {
			o.haveLeft = false
			if !o.found && (o.kind.leftOuter() || o.kind == AntiJoin) {
				o.setRight(nil)
				return o.out(), nil
			}
			continue
		}
		o.setRight(right)
		ok, err := o.matches()
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		o.found = true
		switch o.kind {
		case SemiJoin:
			o.haveLeft = false
		case AntiJoin:
			o.haveLeft = false
			continue
		}
		return o.out(), nil
	}
}
