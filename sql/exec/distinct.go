package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// NewDistinct passes, of the rows that are equal in cols, the first. NULLs are
// equal here.
func NewDistinct(f *Flow, in Operator, cols []int) Operator {
	return &distinct{unary: unary{flow: f, in: in}, cols: cols, acc: account{b: f.Mem}}
}

type distinct struct {
	unary
	cols []int
	acc  account
	seen map[string]struct{}
	key  []byte
	n    int

	inDone bool
	full   bool // seen cannot grow: rows with new keys go to rest
	depth  int
	cur    *rowFileReader // the partition being read, after the input
	curF   *rowFile
	rest   *partitions
	todo   []spilled
}

func (o *distinct) Open(ctx context.Context) error {
	o.reset()
	return o.in.Open(ctx)
}

func (o *distinct) reset() {
	o.acc.clear()
	o.rest.close()
	o.curF.close()
	for _, s := range o.todo {
		s.file.close()
	}
	o.seen, o.rest, o.cur, o.curF, o.todo = map[string]struct{}{}, nil, nil, nil, nil
	o.inDone, o.full, o.depth = false, false, 0
}

func (o *distinct) Close() {
	o.reset()
	o.in.Close()
}

func (o *distinct) Next(ctx context.Context) (tree.Datums, error) {
	for {
		row, err := o.pull(ctx)
		if err != nil || row == nil {
			return nil, err
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		o.key, _ = appendKeyCols(o.key[:0], row, o.cols)
		if _, ok := o.seen[string(o.key)]; ok {
			continue
		}
		if !o.full {
			need := int64(len(o.key)) + mapEntryBytes
			ok := o.acc.growFloor(need)
			if !ok && (len(o.seen) == 0 || o.depth >= maxDepth) {
				return nil, ErrBudgetExceeded(need, o.flow.Mem) // Dividing further would not help.
			}
			if ok {
				o.seen[string(o.key)] = struct{}{}
				return row, nil
			}
			o.full = true
			o.rest = &partitions{flow: o.flow}
		}
		file, err := o.rest.file(partitionOf(o.key, o.depth))
		if err != nil {
			return nil, err
		}
		if err := file.append(row); err != nil {
			return nil, err
		}
	}
}

// pull returns the next row of the input or of a partition.
func (o *distinct) pull(ctx context.Context) (tree.Datums, error) {
	for {
		if !o.inDone {
			row, err := o.in.Next(ctx)
			if err != nil || row != nil {
				return row, err
			}
			o.inDone = true
		} else if o.cur != nil {
			row, err := o.cur.next()
			if err != nil || row != nil {
				return row, err
			}
		}
		// One source ended: queue what it left over and take the next.
		o.cur = nil
		o.curF.close()
		if o.rest != nil {
			for i := range fanout {
				if f := o.rest.take(i); f != nil {
					o.todo = append(o.todo, spilled{f, o.depth + 1})
				}
			}
			o.rest = nil
		}
		o.full = false
		o.seen = map[string]struct{}{}
		o.acc.clear()
		if len(o.todo) == 0 {
			return nil, nil
		}
		next := o.todo[len(o.todo)-1]
		o.todo = o.todo[:len(o.todo)-1]
		o.curF, o.depth = next.file, next.depth
		var err error
		if o.cur, err = o.curF.reader(); err != nil {
			return nil, err
		}
	}
}

// NewOrderedDistinct is NewDistinct over an input in which equal rows are
// neighbours. SELECT DISTINCT ON is a sort followed by this.
func NewOrderedDistinct(f *Flow, in Operator, cols []int) Operator {
	return &orderedDistinct{unary: unary{flow: f, in: in}, cols: cols}
}

type orderedDistinct struct {
	unary
	cols      []int
	last, key []byte
	started   bool
	n         int
}

func (o *orderedDistinct) Open(ctx context.Context) error {
	o.started = false
	return o.in.Open(ctx)
}

func (o *orderedDistinct) Next(ctx context.Context) (tree.Datums, error) {
	for {
		row, err := o.in.Next(ctx)
		if err != nil || row == nil {
			return nil, err
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		o.key, _ = appendKeyCols(o.key[:0], row, o.cols)
		if o.started && string(o.key) == string(o.last) {
			continue
		}
		o.started = true
		o.key, o.last = o.last, o.key
		return row, nil
	}
}
