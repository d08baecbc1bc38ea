package exec

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// NewConcat yields the rows of its inputs one after the other (UNION ALL).
// UNION is a NewDistinct over it.
func NewConcat(typs []*types.T, ins ...Operator) Operator { return &concat{typs: typs, ins: ins} }

type concat struct {
	typs []*types.T
	ins  []Operator
	cur  int
	open bool
}

func (o *concat) Types() []*types.T { return o.typs }

func (o *concat) Open(context.Context) error {
	o.Close()
	o.cur = 0
	return nil
}

func (o *concat) Next(ctx context.Context) (tree.Datums, error) {
	for o.cur < len(o.ins) {
		in := o.ins[o.cur]
		if !o.open {
			if err := in.Open(ctx); err != nil {
				return nil, err
			}
			o.open = true
		}
		row, err := in.Next(ctx)
		if err != nil || row != nil {
			return row, err
		}
		in.Close()
		o.open = false
		o.cur++
	}
	return nil, nil
}

func (o *concat) Close() {
	for _, in := range o.ins {
		in.Close()
	}
	o.open = false
}

// SetOpKind is INTERSECT or EXCEPT.
type SetOpKind int

const (
	Intersect SetOpKind = iota
	Except
)

// NewSetOp computes INTERSECT or EXCEPT, with ALL if all is set. Rows compare as
// in DISTINCT: NULLs are equal. Both sides are sorted and merged, so any size
// can be worked on.
func NewSetOp(f *Flow, kind SetOpKind, all bool, left, right Operator) Operator {
	ord := make(Ordering, len(left.Types()))
	for i := range ord {
		ord[i] = Order(i, false)
	}
	return &setOp{
		flow: f, kind: kind, all: all, typs: left.Types(), ord: ord,
		left: NewSort(f, left, ord), right: NewSort(f, right, ord),
	}
}

type setOp struct {
	flow        *Flow
	kind        SetOpKind
	all         bool
	typs        []*types.T
	ord         Ordering
	left, right Operator
	l, r        tree.Datums // heads of the two sides; nil at the end
	started     bool
	repeat      int64
	out         tree.Datums
	n           int
}

func (o *setOp) Types() []*types.T { return o.typs }

func (o *setOp) Open(ctx context.Context) error {
	o.started, o.repeat = false, 0
	if err := o.left.Open(ctx); err != nil {
		return err
	}
	return o.right.Open(ctx)
}

func (o *setOp) Close() {
	o.left.Close()
	o.right.Close()
}

func (o *setOp) Next(ctx context.Context) (_ tree.Datums, err error) {
	if !o.started {
		o.started = true
		// The right side first: its sort gives its memory back to the left's.
		if o.r, err = o.right.Next(ctx); err != nil {
			return nil, err
		}
		if o.l, err = o.left.Next(ctx); err != nil {
			return nil, err
		}
	}
	for {
		if o.repeat > 0 {
			o.repeat--
			return o.out, nil
		}
		if o.l == nil {
			return nil, nil
		}
		if err := checkCtx(ctx, &o.n); err != nil {
			return nil, err
		}
		// One distinct row of the left side, with its counts on both.
		o.out = append(o.out[:0], o.l...)
		var nl, nr int64
		for o.l != nil && o.ord.Compare(o.flow.Eval, o.l, o.out) == 0 {
			nl++
			if o.l, err = o.left.Next(ctx); err != nil {
				return nil, err
			}
		}
		for o.r != nil {
			c := o.ord.Compare(o.flow.Eval, o.r, o.out)
			if c > 0 {
				break
			}
			if c == 0 {
				nr++
			}
			if o.r, err = o.right.Next(ctx); err != nil {
				return nil, err
			}
		}
		switch {
		case o.kind == Intersect && o.all:
			o.repeat = min(nl, nr)
		case o.kind == Intersect && nr > 0:
			o.repeat = 1
		case o.kind == Except && o.all:
			o.repeat = max(nl-nr, 0)
		case o.kind == Except && nr == 0:
			o.repeat = 1
		}
	}
}
