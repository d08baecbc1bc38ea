package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// NewMergeJoin joins inputs that are both sorted by their ordering. The
// orderings pair up column by column with equal directions; the rest is as for
// NewHashJoin.
func NewMergeJoin(f *Flow, left, right Operator, kind JoinType, leftOrd, rightOrd Ordering, on tree.TypedExpr) Operator {
	return &mergeJoin{joiner: newJoiner(f, left, right, kind, on), lo: leftOrd, ro: rightOrd, group: newRowBuffer(f)}
}

type mergeJoin struct {
	joiner
	lo, ro Ordering

	rightRow tree.Datums // next right row not in group; nil at the end
	group    *rowBuffer  // right rows equal to groupKey
	groupKey tree.Datums
	matched  bitset
	inGroup  bool

	haveLeft bool
	found    bool
	it       *rowIter
	idx      int
	flush    *rowIter // unmatched rows of the group are going out
	leftDone bool
	started  bool
	alone    tree.Datums
}

func (o *mergeJoin) Open(ctx context.Context) error {
	o.clear()
	o.on.open(o.flow)
	if err := o.right.Open(ctx); err != nil {
		return err
	}
	return o.left.Open(ctx)
}

func (o *mergeJoin) clear() {
	o.group.clear()
	o.rightRow, o.groupKey, o.matched = nil, nil, nil
	o.inGroup, o.haveLeft, o.leftDone, o.started = false, false, false, false
	o.it, o.flush = nil, nil
}

func (o *mergeJoin) Close() {
	o.clear()
	o.joiner.Close()
}

func (o *mergeJoin) advanceRight(ctx context.Context) (err error) {
	o.rightRow, err = o.right.Next(ctx)
	return err
}

func hasNull(row tree.Datums, ord Ordering) bool {
	for _, c := range ord {
		if row[c.Col] == tree.DNull {
			return true
		}
	}
	return false
}

// compareTo compares the left row in o.row with a right row by the orderings.
func (o *mergeJoin) compareTo(right tree.Datums) int {
	for i, c := range o.lo {
		if r := c.compare(o.flow.Eval, o.row[c.Col], right[o.ro[i].Col]); r != 0 {
			return r
		}
	}
	return 0
}

// loadGroup reads the right rows that equal o.rightRow.
func (o *mergeJoin) loadGroup(ctx context.Context) error {
	o.group.clear()
	o.matched, o.inGroup = nil, true
	o.groupKey = append(o.groupKey[:0], o.rightRow...)
	for {
		if err := o.group.add(o.rightRow); err != nil {
			return err
		}
		if err := o.advanceRight(ctx); err != nil {
			return err
		}
		if o.rightRow == nil || o.ro.compareRows(o.flow.Eval, o.groupKey, o.rightRow) != 0 {
			return nil
		}
	}
}

func (o Ordering) compareRows(ctx *tree.EvalContext, a, b tree.Datums) int {
	for _, c := range o {
		if r := builtins.Compare(ctx, a[c.Col], b[c.Col]); r != 0 {
			return r
		}
	}
	return 0
}

func (o *mergeJoin) Next(ctx context.Context) (tree.Datums, error) {
	if !o.started {
		o.started = true
		if err := o.advanceRight(ctx); err != nil {
			return nil, err
		}
	}
	for {
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		if o.flush != nil {
			row, err := o.flush.row()
			if err != nil {
				return nil, err
			}
			if row == nil {
				o.flush, o.inGroup = nil, false
				continue
			}
			o.idx++
			if !o.matched.get(o.idx - 1) {
				return o.rightOnly(row), nil
			}
			continue
		}
		if o.haveLeft && o.it != nil {
			row, err := o.it.row()
			if err != nil {
				return nil, err
			}
			if row != nil {
				o.idx++
				o.setRight(row)
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
			o.it = nil
			o.haveLeft = false
			if !o.found && (o.kind.leftOuter() || o.kind == AntiJoin) {
				o.setRight(nil)
				return o.out(), nil
			}
			continue
		}
		if !o.haveLeft && !o.leftDone {
			row, err := o.left.Next(ctx)
			if err != nil {
				return nil, err
			}
			if row == nil {
				o.leftDone = true
			} else {
				o.setLeft(row)
				o.haveLeft, o.found, o.it = true, false, nil
				if hasNull(row, o.lo) {
					o.haveLeft = false
					if o.kind.leftOuter() || o.kind == AntiJoin {
						o.setRight(nil)
						return o.out(), nil
					}
					continue
				}
			}
		}
		row, done, err := o.step(ctx)
		if err != nil || done || row != nil {
			return row, err
		}
	}
}

// step brings the two sides one step closer, once a left row stands or left is done.
func (o *mergeJoin) step(ctx context.Context) (row tree.Datums, done bool, err error) {
	if o.inGroup {
		if o.haveLeft {
			if c := o.compareTo(o.groupKey); c == 0 {
				o.it, o.idx = o.group.iter(), 0
				return nil, false, nil
			}
		}
		// The left side went past the group.
		if o.kind.rightOuter() {
			o.flush, o.idx = o.group.iter(), 0
			return nil, false, nil
		}
		o.inGroup = false
		return nil, false, nil
	}
	if !o.haveLeft {
		if !o.kind.rightOuter() || o.rightRow == nil {
			return nil, true, nil
		}
		return o.emitRight(ctx)
	}
	if o.rightRow == nil {
		o.haveLeft = false
		if o.kind.leftOuter() || o.kind == AntiJoin {
			o.setRight(nil)
			return o.out(), false, nil
		}
		return nil, o.kind == InnerJoin || o.kind == SemiJoin || o.kind == RightJoin, nil
	}
	if hasNull(o.rightRow, o.ro) {
		return o.skipRight(ctx)
	}
	switch c := o.compareTo(o.rightRow); {
	case c < 0:
		o.haveLeft = false
		if o.kind.leftOuter() || o.kind == AntiJoin {
			o.setRight(nil)
			return o.out(), false, nil
		}
		return nil, false, nil
	case c > 0:
		return o.skipRight(ctx)
	}
	return nil, false, o.loadGroup(ctx)
}

func (o *mergeJoin) skipRight(ctx context.Context) (tree.Datums, bool, error) {
	if !o.kind.rightOuter() {
		return nil, false, o.advanceRight(ctx)
	}
	return o.emitRight(ctx)
}

func (o *mergeJoin) emitRight(ctx context.Context) (tree.Datums, bool, error) {
	out := o.rightOnly(o.rightRow)
	return out, false, o.advanceRight(ctx)
}

// rightOnly makes a row without left side, beside o.row, whose left columns may
// still be in use.
func (o *mergeJoin) rightOnly(row tree.Datums) tree.Datums {
	if o.alone == nil {
		o.alone = make(tree.Datums, len(o.row))
		setNulls(o.alone[:o.nLeft])
	}
	copy(o.alone[o.nLeft:], row)
	return o.alone
}
