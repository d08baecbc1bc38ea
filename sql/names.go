package sql

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// resolver finds objects by the names that the session's statements use.
func (p *planner) resolver() *catalog.Resolver {
	return &catalog.Resolver{
		Collection:      p.cat,
		CurrentDatabase: p.s.data.Database,
		SearchPath:      p.s.searchPath(),
		User:            p.s.data.User,
		VirtualTable: func(schema, table string) bool {
			return p.srv.virtualTableByName(schema, table) != nil
		},
	}
}

// searchPath is the setting as a list.
func (s *Session) searchPath() []string {
	if s.vars.searchPath == nil {
		return []string{"$user", catalog.PublicSchemaName}
	}
	return s.vars.searchPath
}

// inPath says whether names of a schema need no qualification.
func (s *Session) inPath(schema string) bool {
	if schema == catalog.PgCatalogName {
		return true
	}
	for _, n := range s.searchPath() {
		if n == schema || n == "$user" && schema == s.data.User {
			return true
		}
	}
	return false
}

// lookupRelation finds a table, view, sequence or virtual table.
func (p *planner) lookupRelation(ctx context.Context, tn *tree.TableName) (*catalog.TableRef, error) {
	return p.resolver().Table(ctx, tn, catalog.Flags{})
}

// typeText is the name of a type as PostgreSQL prints it, enums included.
func (p *planner) typeText(ctx context.Context, t *types.T) string {
	set := catalog.EnumSet{}
	for _, o := range catalog.UserTypeOIDs(t) {
		if e, err := p.cat.EnumByOID(ctx, o); err == nil && e != nil {
			set[o] = e.Visible(p.s.inPath(e.Schema))
		}
	}
	if t.Family() == types.UnknownFamily {
		return "unknown"
	}
	return catalog.PGTypeName(t, set)
}

// enumOf returns the enum of a type, or nil.
func (b *binder) enumOf(t *types.T) (*catalog.Enum, bool, error) {
	array := t.Family() == types.ArrayFamily
	el := t
	if array {
		el = t.ArrayContents()
	}
	o, ok := catalog.EnumOID(el)
	if !ok {
		return nil, false, nil
	}
	e, err := b.p.cat.EnumByOID(b.ctx, o)
	if err == nil && e != nil {
		b.deps = append(b.deps, planDep{e.ID, e.Version})
	}
	return e, array, err
}

// enumAssign brings a literal to an enum column; ok is false if the column is of
// another type.
func (b *binder) enumAssign(te tree.TypedExpr, t *types.T) (_ tree.TypedExpr, ok bool, _ error) {
	e, array, err := b.enumOf(t)
	if err != nil || e == nil {
		return nil, false, err
	}
	if te.ResolvedType().Equivalent(t) && te.ResolvedType().Family() != types.UnknownFamily {
		return te, true, nil
	}
	if d, isConst := builtins.ConstValue(te); isConst {
		v, err := e.Cast(d, array)
		if err != nil {
			return nil, true, err
		}
		return v, true, nil
	}
	switch te.ResolvedType().Family() {
	case types.StringFamily, types.UnknownFamily, types.ArrayFamily:
		return &catalog.EnumCast{Expr: te, Enum: e, Array: array}, true, nil
	}
	return nil, false, nil
}

// castExpr casts explicitly.
func (p *planner) castExpr(te tree.TypedExpr, t *types.T) (tree.TypedExpr, error) {
	for _, o := range catalog.UserTypeOIDs(t) {
		e, err := p.cat.EnumByOID(p.ctx(), o)
		if err != nil {
			return nil, err
		}
		if e != nil {
			c := &catalog.EnumCast{Expr: te, Enum: e, Array: t.Family() == types.ArrayFamily}
			return c.TypeCheck(&p.semaCtx, types.Any)
		}
	}
	return builtins.TypeCheck(&p.semaCtx, &tree.CastExpr{Expr: te, Type: t, SyntaxMode: tree.CastShort}, types.Any)
}

func (p *planner) ctx() context.Context {
	if p.evalCtx.Context != nil {
		return p.evalCtx.Context
	}
	return context.Background()
}

// cast treats the casts that need the catalog; ok is false for others.
func (r *resolver) cast(t *tree.CastExpr) (tree.Expr, bool, error) {
	if ph, ok := stripParens(t.Expr).(*tree.Placeholder); ok {
		// $1::T says that the parameter is a T, unless something else has.
		hints := r.b.p.semaCtx.Placeholders.TypeHints
		if int(ph.Idx) < len(hints) && hints[ph.Idx] == nil {
			if _, _, _, udt := parser.UserDefinedType(t.Type); !udt {
				hints[ph.Idx] = t.Type
			}
		}
	}
	return nil, false, nil
}

// userCast resolves a cast to a user-defined type.
func (r *resolver) userCast(t *parser.UDTCast) (tree.Expr, error) {
	_, e, array, err := r.b.p.resolver().ResolveUDT(r.b.ctx, t.Name, t.OID, t.Array)
	if err != nil {
		return nil, err
	}
	r.b.deps = append(r.b.deps, planDep{e.ID, e.Version})
	sub, err := r.sub(t.Expr)
	if err != nil {
		return nil, err
	}
	return &catalog.EnumCast{Expr: sub, Enum: e, Array: array}, nil
}

// enumComparison brings literals to the enum that they are compared with.
func (r *resolver) enumComparison(t *tree.ComparisonExpr) tree.Expr {
	side := func(e tree.Expr) *types.T {
		te, ok := stripParens(e).(tree.TypedExpr)
		if !ok {
			return nil
		}
		switch te.(type) {
		case *colRef, *catalog.EnumCast, *subqueryExpr:
			typ := te.ResolvedType()
			if len(catalog.UserTypeOIDs(typ)) > 0 {
				return typ
			}
		}
		return nil
	}
	lt, rt := side(t.Left), side(t.Right)
	if (lt == nil) == (rt == nil) {
		return t
	}
	typ, other := lt, t.Right
	if lt == nil {
		typ, other = rt, t.Left
	}
	wrap := func(e tree.Expr, typ *types.T) tree.Expr {
		switch stripParens(e).(type) {
		case *tree.StrVal, *tree.Placeholder:
			en, array, err := r.b.enumOf(typ)
			if err != nil || en == nil {
				return e
			}
			return &catalog.EnumCast{Expr: e, Enum: en, Array: array}
		}
		return e
	}
	c := *t
	var n tree.Expr
	switch o := stripParens(other).(type) {
	case *tree.Tuple:
		tup := *o
		tup.Exprs = append(tree.Exprs(nil), o.Exprs...)
		for i := range tup.Exprs {
			tup.Exprs[i] = wrap(tup.Exprs[i], typ)
		}
		n = &tup
	case *tree.Array:
		a := *o
		a.Exprs = append(tree.Exprs(nil), o.Exprs...)
		for i := range a.Exprs {
			a.Exprs[i] = wrap(a.Exprs[i], typ)
		}
		n = &a
	default:
		if t.Operator == tree.Any || t.Operator == tree.All || t.Operator == tree.Some {
			typ = types.MakeArray(typ)
		}
		n = wrap(other, typ)
	}
	if lt == nil {
		c.Left = n
	} else {
		c.Right = n
	}
	return &c
}

// argument is the value of a placeholder.
func (p *planner) argument(t *tree.Placeholder) (tree.Datum, error) {
	if int(t.Idx) >= len(p.args) {
		return nil, pgerr.Newf(pgerr.UndefinedParameter, "there is no parameter $%d", t.Idx+1)
	}
	d := p.args[t.Idx]
	want := t.ResolvedType()
	if d == tree.DNull || want == nil || d.ResolvedType().Equivalent(want) {
		return d, nil
	}
	c, err := p.castExpr(d, want)
	if err != nil {
		return nil, err
	}
	return p.flow.EvalRow(c, nil)
}

// datumText prints a value as a client would see it in text.
func (p *planner) datumText(d tree.Datum, t *types.T) string {
	return datumToText(d, t, &p.s.data)
}
