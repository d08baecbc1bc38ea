package exec

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// SubqueryKind says what a subquery's rows become as a value.
type SubqueryKind int

const (
	// ScalarSubquery is the one column of the one row, NULL without a row; several
	// columns become a tuple.
	ScalarSubquery SubqueryKind = iota
	// ExistsSubquery says whether there is a row.
	ExistsSubquery
	// TupleSubquery is a tuple of all rows, the right side of IN, ANY and ALL.
	TupleSubquery
	// ArraySubquery is ARRAY(SELECT …).
	ArraySubquery
)

// NewSubquery returns an expression that runs plan. If outer is not nil the plan
// is correlated: it refers through outer to the row the expression is evaluated
// on, and runs each time. Otherwise it runs once until Reset of its Flow's
// statement: the value is kept.
func NewSubquery(f *Flow, plan Operator, kind SubqueryKind, outer *OuterRow) *Subquery {
	s := &Subquery{flow: f, plan: plan, kind: kind, outer: outer}
	typs := plan.Types()
	s.typ = types.EmptyTuple
	if len(typs) == 1 {
		s.typ = typs[0]
	} else {
		contents := make([]types.T, len(typs))
		for i, t := range typs {
			contents[i] = *t
		}
		s.typ = types.MakeTuple(contents)
	}
	s.rowTyp = s.typ
	switch kind {
	case ExistsSubquery:
		s.typ = types.Bool
	case TupleSubquery:
		s.typ = types.MakeTuple([]types.T{*s.rowTyp})
	case ArraySubquery:
		s.typ = types.MakeArray(s.rowTyp)
	}
	return s
}

// Subquery is a plan inside an expression.
type Subquery struct {
	flow        *Flow
	plan        Operator
	kind        SubqueryKind
	outer       *OuterRow
	typ, rowTyp *types.T
	value       tree.Datum
}

var (
	_ tree.TypedExpr    = (*Subquery)(nil)
	_ tree.VariableExpr = (*Subquery)(nil)
)

// Plan returns the plan, for EXPLAIN.
func (s *Subquery) Plan() Operator { return s.plan }

// Variable keeps the parser's constant folding away.
func (s *Subquery) Variable() {}

func (s *Subquery) String() string              { return "(subquery)" }
func (s *Subquery) Format(ctx *tree.FmtCtx)     { ctx.WriteString("(subquery)") }
func (s *Subquery) Walk(tree.Visitor) tree.Expr { return s }
func (s *Subquery) ResolvedType() *types.T      { return s.typ }
func (s *Subquery) TypeCheck(*tree.SemaContext, *types.T) (tree.TypedExpr, error) {
	return s, nil
}

// Reset forgets the kept value, for a plan that is run again.
func (s *Subquery) Reset() { s.value = nil }

// Eval implements tree.TypedExpr.
func (s *Subquery) Eval(ctx *tree.EvalContext) (tree.Datum, error) {
	if s.outer == nil {
		if s.value == nil {
			v, err := s.run(ctx)
			if err != nil {
				return nil, err
			}
			s.value = v
		}
		return s.value, nil
	}
	saved, row := s.outer.row, s.flow.row.row
	// The row's owner may be an operator inside the plan as well: keep our own copy.
	s.outer.row = append(tree.Datums(nil), row...)
	v, err := s.run(ctx)
	s.outer.row = saved
	return v, err
}

func (s *Subquery) run(evalCtx *tree.EvalContext) (tree.Datum, error) {
	ctx := evalCtx.Context
	defer s.plan.Close()
	if err := s.plan.Open(ctx); err != nil {
		return nil, err
	}
	acc := account{b: s.flow.Mem}
	defer func() {
		if s.outer != nil {
			acc.clear() // The value is short-lived.
		}
	}()
	var all tree.Datums
	var one tree.Datum
	for n := 0; ; n++ {
		row, err := s.plan.Next(ctx)
		if err != nil {
			return nil, err
		}
		if row == nil {
			break
		}
		if s.kind == ExistsSubquery {
			return tree.DBoolTrue, nil
		}
		var d tree.Datum
		if len(row) == 1 {
			d = row[0]
		} else {
			d = tree.NewDTuple(s.rowTyp, append(tree.Datums(nil), row...)...)
		}
		if s.kind == ScalarSubquery {
			if n > 0 {
				return nil, pgerr.New("21000", "more than one row returned by a subquery used as an expression")
			}
			one = d
			continue
		}
		if err := acc.grow(int64(d.Size()) + datumPtrSize); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	switch s.kind {
	case ExistsSubquery:
		return tree.DBoolFalse, nil
	case TupleSubquery:
		return tree.NewDTuple(s.typ, all...), nil
	case ArraySubquery:
		arr := tree.NewDArray(s.rowTyp)
		for _, d := range all {
			if err := arr.Append(d); err != nil {
				return nil, err
			}
		}
		return arr, nil
	}
	if one == nil {
		return tree.DNull, nil
	}
	return one, nil
}
