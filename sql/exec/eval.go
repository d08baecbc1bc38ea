package exec

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// foldedExpr is an expression whose constant parts are evaluated at each Open.
type foldedExpr struct {
	orig, cur tree.TypedExpr
	fold      bool
}

func newFoldedExpr(e tree.TypedExpr) foldedExpr {
	return foldedExpr{orig: e, cur: e, fold: builtins.Foldable(e)}
}

func (e *foldedExpr) open(f *Flow) {
	if e.fold {
		e.cur = builtins.FoldConstants(f.Eval, e.orig)
	}
}

// evalCount evaluates the row count of a LIMIT or OFFSET clause.
func evalCount(f *Flow, e tree.TypedExpr, none int64, clause string, code pgerr.Code) (int64, error) {
	if e == nil {
		return none, nil
	}
	d, err := f.EvalRow(e, nil)
	if err != nil {
		return 0, err
	}
	if d == tree.DNull {
		return none, nil
	}
	if _, ok := d.(*tree.DInt); !ok {
		if d, err = tree.PerformCast(f.Eval, d, types.Int); err != nil {
			return 0, builtins.MapError(err)
		}
	}
	n := int64(tree.MustBeDInt(d))
	if n < 0 {
		return 0, pgerr.Newf(code, "%s must not be negative", clause)
	}
	return n, nil
}
