package builtins

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// TypeCheck is how SQL expressions get types: like tree.TypeCheck, but with
// PostgreSQL's rules for literals (1 is int4, 1.0 numeric, no folding of 1/2
// to 0.5), implicit casts, common types (CASE, COALESCE, IN, ARRAY…) and integer
// widths. The result may still hold IndexedVars and Subqueries as given.
// Errors are PostgreSQL's.
func TypeCheck(ctx *tree.SemaContext, expr tree.Expr, desired *types.T) (tree.TypedExpr, error) {
	e, err := expr.TypeCheck(ctx, desired)
	if err != nil {
		return nil, MapError(err)
	}
	return e, nil
}

// TypeOf returns the type PostgreSQL would give e as a result column: as
// e.ResolvedType(), except that an integer literal that fits is int4.
func TypeOf(e tree.TypedExpr) *types.T { return e.ResolvedType() }

// CommonType returns the type to which PostgreSQL brings the branches of a
// UNION, CASE or VALUES list: ok is false if there is none.
func CommonType(a, b *types.T) (t *types.T, ok bool) {
	if a.Family() == types.UnknownFamily {
		return b, true
	}
	return a, b.Family() == types.UnknownFamily || a.Equivalent(b)
}

// AssignCast casts e to typ as INSERT, UPDATE and COPY do: with the casts
// PostgreSQL allows in assignments, checking ranges and lengths (22003, 22001).
// It returns e itself if there is nothing to do.
func AssignCast(e tree.TypedExpr, typ *types.T) (tree.TypedExpr, error) {
	return tree.NewTypedCastExpr(e, typ)
}
