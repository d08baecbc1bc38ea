package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// NewHashJoin joins on equality of leftCols and rightCols, pair by pair of the
// same type, and on the residual predicate on. The right input is kept in
// memory: the planner gives the smaller one. If it does not fit, both inputs
// are divided by hash into files.
func NewHashJoin(f *Flow, left, right Operator, kind JoinType, leftCols, rightCols []int, on tree.TypedExpr) Operator {
	return &hashJoin{
		joiner: newJoiner(f, left, right, kind, on), leftCols: leftCols, rightCols: rightCols, acc: account{b: f.Mem},
	}
}

type hashJoin struct {
	joiner
	leftCols, rightCols []int
	acc                 account

	table     map[string]int32 // key → first row, as index into rows
	rows      []tree.Datums
	next      []int32 // next row with the same key, or -1
	arena     arena
	matched   bitset
	nullRight bool // the right side has a row with a NULL key
	anyRight  bool

	key      []byte
	probe    func(context.Context) (tree.Datums, error)
	haveLeft bool
	found    bool
	cand     int32
	tail     int // next right row to look at when left is done; -1 before
	depth    int
	todo     []joinPart
	curL     *rowFile
	nullRows *rowBuffer // right rows with NULL keys, for right and full joins
	nullIt   *rowIter
}

// joinPart is a pair of files with the rows of one hash partition.
type joinPart struct {
	left, right *rowFile
	depth       int
}

func (o *hashJoin) Open(ctx context.Context) error {
	o.reset()
	o.on.open(o.flow)
	if err := o.right.Open(ctx); err != nil {
		return err
	}
	rightParts, err := o.build(ctx, o.right.Next)
	if err != nil {
		return err
	}
	o.right.Close()
	if err := o.left.Open(ctx); err != nil {
		return err
	}
	if rightParts == nil {
		o.probe = o.left.Next
		return nil
	}
	defer rightParts.close()
	return o.divide(ctx, o.left.Next, rightParts)
}

func (o *hashJoin) reset() {
	o.clearTable()
	for _, p := range o.todo {
		p.left.close()
		p.right.close()
	}
	o.curL.close()
	o.todo, o.curL, o.probe = nil, nil, nil
	if o.nullRows != nil {
		o.nullRows.clear()
	}
	o.nullRows, o.nullIt = nil, nil
	o.nullRight, o.anyRight, o.depth = false, false, 0
}

func (o *hashJoin) clearTable() {
	o.acc.clear()
	o.table, o.rows, o.next, o.arena = map[string]int32{}, nil, nil, arena{}
	o.matched, o.haveLeft, o.tail = nil, false, -1
}

func (o *hashJoin) Close() {
	o.reset()
	o.joiner.Close()
}

// build fills the table. If it does not fit, it divides all rows of the source
// into partitions and returns these.
func (o *hashJoin) build(ctx context.Context, source func(context.Context) (tree.Datums, error)) (*partitions, error) {
	var parts *partitions
	spill := func(key []byte, row tree.Datums) error {
		file, err := parts.file(partitionOf(key, o.depth))
		if err != nil {
			return err
		}
		return file.append(row)
	}
	for {
		row, err := source(ctx)
		if err == nil {
			err = checkCtx(ctx, &o.n)
		}
		if err != nil {
			parts.close()
			return nil, err
		}
		if row == nil {
			return parts, nil
		}
		o.anyRight = true
		var hasNull bool
		o.key, hasNull = appendKeyCols(o.key[:0], row, o.rightCols)
		if hasNull {
			o.nullRight = true
			if o.kind.rightOuter() {
				if o.nullRows == nil {
					o.nullRows = newRowBuffer(o.flow)
				}
				if err := o.nullRows.add(row); err != nil {
					parts.close()
					return nil, err
				}
			}
			continue // Equals nothing.
		}
		if parts == nil {
			n := rowSize(row) + 4
			if _, ok := o.table[string(o.key)]; !ok {
				n += int64(len(o.key)) + mapEntryBytes
			}
			if o.acc.growFloor(n) {
				o.insert(row)
				continue
			}
			if o.depth >= maxDepth || len(o.rows) == 0 {
				return nil, ErrBudgetExceeded(n, o.flow.Mem)
			}
			parts = &partitions{flow: o.flow}
			var key []byte
			for _, r := range o.rows {
				key, _ = appendKeyCols(key[:0], r, o.rightCols)
				if err := spill(key, r); err != nil {
					parts.close()
					return nil, err
				}
			}
			o.clearTable()
		}
		if err := spill(o.key, row); err != nil {
			parts.close()
			return nil, err
		}
	}
}

// insert adds row under o.key at the end of its chain's head: rows of one key
// come out in an order that does not matter to SQL.
func (o *hashJoin) insert(row tree.Datums) {
	i := int32(len(o.rows))
	o.rows = append(o.rows, o.arena.copy(row))
	if head, ok := o.table[string(o.key)]; ok {
		o.next = append(o.next, o.next[head])
		o.next[head] = i
		return
	}
	o.next = append(o.next, -1)
	o.table[string(o.key)] = i
}

// divide writes the left rows into the partitions of the right ones.
func (o *hashJoin) divide(ctx context.Context, source func(context.Context) (tree.Datums, error), right *partitions) error {
	left := &partitions{flow: o.flow}
	defer left.close()
	for {
		row, err := source(ctx)
		if err == nil {
			err = checkCtx(ctx, &o.n)
		}
		if err != nil {
			return err
		}
		if row == nil {
			break
		}
		// Rows with NULL keys go along; they find no partner wherever they are.
		o.key, _ = appendKeyCols(o.key[:0], row, o.leftCols)
		file, err := left.file(partitionOf(o.key, o.depth))
		if err != nil {
			return err
		}
		if err := file.append(row); err != nil {
			return err
		}
	}
	for i := range fanout {
		l, r := left.take(i), right.take(i)
		if l == nil && (r == nil || !o.kind.rightOuter()) {
			r.close()
			continue
		}
		o.todo = append(o.todo, joinPart{l, r, o.depth + 1})
	}
	return nil
}

// nextPart loads the next partition; false if there is none.
func (o *hashJoin) nextPart(ctx context.Context) (bool, error) {
	for len(o.todo) > 0 {
		p := o.todo[len(o.todo)-1]
		o.todo = o.todo[:len(o.todo)-1]
		o.curL.close()
		o.clearTable()
		o.curL, o.depth = p.left, p.depth
		var parts *partitions
		if p.right != nil {
			defer p.right.close()
			r, err := p.right.reader()
			if err != nil {
				return false, err
			}
			if parts, err = o.build(ctx, func(context.Context) (tree.Datums, error) { return r.next() }); err != nil {
				return false, err
			}
		}
		o.probe = func(context.Context) (tree.Datums, error) { return nil, nil }
		if p.left != nil {
			l, err := p.left.reader()
			if err != nil {
				parts.close()
				return false, err
			}
			o.probe = func(context.Context) (tree.Datums, error) { return l.next() }
		}
		if parts == nil {
			return true, nil
		}
		err := o.divide(ctx, o.probe, parts)
		parts.close()
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

func (o *hashJoin) Next(ctx context.Context) (tree.Datums, error) {
	for {
		if o.probe != nil {
			row, err := o.nextRow(ctx)
			if err != nil || row != nil {
				return row, err
			}
			o.probe = nil
		}
		more, err := o.nextPart(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if o.nullRows == nil {
		return nil, nil
	}
	if o.nullIt == nil {
		o.nullIt = o.nullRows.iter()
	}
	row, err := o.nullIt.row()
	if err != nil || row == nil {
		return nil, err
	}
	o.setLeft(nil)
	o.setRight(row)
	return o.row, nil
}

// nextRow joins the rows of probe with the table; nil when both are done.
func (o *hashJoin) nextRow(ctx context.Context) (tree.Datums, error) {
	for o.tail < 0 {
		if !o.haveLeft {
			row, err := o.probe(ctx)
			if err != nil {
				return nil, err
			}
			if err := checkCtx(ctx, &o.n); err != nil {
				return nil, err
			}
			if row == nil {
				if !o.kind.rightOuter() {
					return nil, nil
				}
				o.tail = 0
				break
			}
			var hasNull bool
			o.key, hasNull = appendKeyCols(o.key[:0], row, o.leftCols)
			o.cand = -1
			if !hasNull {
				if head, ok := o.table[string(o.key)]; ok {
					o.cand = head
				}
			}
			if o.kind == NullAwareAntiJoin {
				if !o.anyRight || (!hasNull && !o.nullRight && o.cand < 0) {
					return row, nil
				}
				continue
			}
			if o.cand < 0 && !o.kind.leftOuter() && o.kind != AntiJoin {
				continue
			}
			o.setLeft(row)
			o.haveLeft, o.found = true, false
		}
		if o.cand < 0 {
			o.haveLeft = false
			if !o.found && (o.kind.leftOuter() || o.kind == AntiJoin) {
				o.setRight(nil)
				return o.out(), nil
			}
			continue
		}
		i := o.cand
		o.cand = o.next[i]
		o.setRight(o.rows[i])
		ok, err := o.matches()
		if err != nil {
			return nil, err
		}
		if !ok {
			if err := checkCtx(ctx, &o.n); err != nil {
				return nil, err
			}
			continue
		}
		o.found = true
		if o.kind.rightOuter() {
			o.matched.set(int(i))
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
	for o.tail < len(o.rows) {
		i := o.tail
		o.tail++
		if !o.matched.get(i) {
			o.setLeft(nil)
			o.setRight(o.rows[i])
			return o.row, nil
		}
	}
	return nil, nil
}
