package sql

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/exec"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgfacts"
)

// indexExprs evaluates what the indexes of a table need of a row beside its stored
// columns: the hidden columns that stand for indexed expressions, and the predicates
// of partial indexes.
//
// Hidden columns are in no family. Whoever writes index entries fills them into the
// row first; readers decode them from the index or compute them anew.
type indexExprs struct {
	flow    *exec.Flow
	virtual []virtualExpr
	preds   map[uint32]tree.TypedExpr // by index id
}

type virtualExpr struct {
	pos  int // in the row
	col  *catalog.Column
	expr tree.TypedExpr
}

// newIndexExprs binds the expressions of a table over rows of cols. It returns nil
// if the table has none.
func (p *planner) newIndexExprs(desc *catalog.Table, cols []*catalog.Column) (*indexExprs, error) {
	if !hasIndexExprs(desc) {
		return nil, nil
	}
	b := p.newBinder(p.ctx())
	all := desc.AllColumns()
	row := make([]colID, len(all))
	ids := make([]colID, len(cols))
	for i, c := range cols {
		ids[i] = b.newCol(c.Name, c.Type)
		row[c.Ordinal] = ids[i]
	}
	lay := newLayout(ids)
	c := p.newCompiler(p.ctx(), b.md)
	sc := tableRowScope(desc, row)
	e := &indexExprs{flow: p.flow, preds: map[uint32]tree.TypedExpr{}}
	for i, col := range cols {
		if !col.Virtual {
			continue
		}
		te, err := b.virtualExpr(col, sc)
		if err == nil {
			te, err = c.bind(te, lay)
		}
		if err != nil {
			return nil, err
		}
		e.virtual = append(e.virtual, virtualExpr{i, col, te})
	}
	for _, x := range desc.Indexes() {
		if x.Predicate == "" {
			continue
		}
		te, err := b.predicate(x, sc)
		if err != nil {
			// The rows given lack a column of it: it is not going to be asked for.
			if pgerr.GetCode(err) == pgerr.UndefinedColumn {
				continue
			}
			return nil, err
		}
		if e.preds[x.ID], err = c.bind(te, lay); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func hasIndexExprs(desc *catalog.Table) bool {
	for _, x := range desc.Indexes() {
		if x.Predicate != "" {
			return true
		}
		for _, c := range x.KeyColumns {
			if c.Virtual {
				return true
			}
		}
	}
	return false
}

// virtualExpr binds the expression of a hidden column.
func (b *binder) virtualExpr(c *catalog.Column, sc *scope) (tree.TypedExpr, error) {
	e, err := b.storedExpr(c.ComputeExpr)
	if err != nil {
		return nil, err
	}
	return b.assignedExpr(e, sc, c, "index expression")
}

// predicate binds the predicate of a partial index.
func (b *binder) predicate(x *catalog.Index, sc *scope) (tree.TypedExpr, error) {
	e, err := b.storedExpr(x.Predicate)
	if err != nil {
		return nil, err
	}
	return b.bindBool(e, sc, exprMode{clause: "WHERE"})
}

// fill computes the hidden columns of a row.
func (e *indexExprs) fill(row tree.Datums) error {
	if e == nil {
		return nil
	}
	for _, v := range e.virtual {
		d, err := e.flow.EvalRow(v.expr, row)
		if err != nil {
			return err
		}
		row[v.pos] = d
	}
	return nil
}

// in says whether a row belongs into index x.
func (e *indexExprs) in(x *catalog.Index, row tree.Datums) (bool, error) {
	if x.Predicate == "" {
		return true, nil
	}
	pred, ok := e.preds[x.ID]
	if !ok {
		return false, pgerr.Newf(pgerr.Internal, "the predicate of index %q is not bound", x.Name)
	}
	return e.flow.EvalBool(pred, row)
}

// columnsOfIndexExprs are the columns that the expressions and the predicate of an
// index use.
func columnsOfIndexExprs(pb *catalogpb.TableDescriptor, x *catalogpb.IndexDescriptor) ([]uint32, error) {
	var out []uint32
	add := func(text string) error {
		e, err := parseExpr(text)
		if err != nil {
			return err
		}
		ids, err := columnsUsed(pb, e)
		out = append(out, ids...)
		return err
	}
	if x.Predicate != "" {
		if err := add(x.Predicate); err != nil {
			return nil, err
		}
	}
	for _, id := range x.KeyColumnIds {
		if c := findColumnByID(pb, id); c != nil && c.Inaccessible {
			if err := add(c.GetComputeExpr()); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// indexPredicate checks the WHERE of CREATE INDEX and returns the text to store.
func (p *planner) indexPredicate(ctx context.Context, pb *catalogpb.TableDescriptor, e tree.Expr) (string, error) {
	if err := forbidSubqueries(e, "index predicate", true); err != nil {
		return "", err
	}
	te, err := p.bindStandalone(ctx, pb, e, "WHERE", types.Bool)
	if err != nil {
		return "", err
	}
	if f := te.ResolvedType().Family(); f != types.BoolFamily && f != types.UnknownFamily {
		return "", pgerr.Newf(pgerr.DatatypeMismatch, "argument of WHERE must be type boolean, not type %s", p.typeDisplay(ctx, te.ResolvedType()))
	}
	if err := p.requireImmutable(ctx, pb, e, te, "predicate"); err != nil {
		return "", err
	}
	return p.storedText(ctx, e)
}

// exprColumn adds the hidden column that stands for an indexed expression.
func (p *planner) exprColumn(ctx context.Context, pb *catalogpb.TableDescriptor, e tree.Expr) (*catalogpb.ColumnDescriptor, error) {
	if err := forbidSubqueries(e, "index expression", true); err != nil {
		return nil, err
	}
	enc, err := p.exprType(ctx, pb, e)
	if err != nil {
		return nil, err
	}
	text, err := p.storedText(ctx, e)
	if err != nil {
		return nil, err
	}
	for _, c := range pb.Columns {
		if c.Inaccessible && c.GetComputeExpr() == text {
			return c, nil // Another index has it already.
		}
	}
	name := freeName("holdfast_internal_idx", "", "expr", func(n string) bool { return findColumn(pb, n) != nil })
	return addColumn(pb, &catalogpb.ColumnDescriptor{
		Name: name, Type: enc, Nullable: true, Hidden: true, Inaccessible: true, Virtual: true, ComputeExpr: &text,
	})
}

// exprType is the type of an indexed expression.
func (p *planner) exprType(ctx context.Context, pb *catalogpb.TableDescriptor, e tree.Expr) ([]byte, error) {
	te, err := p.bindStandalone(ctx, pb, e, "index expressions", types.Any)
	if err != nil {
		return nil, err
	}
	if err := p.requireImmutable(ctx, pb, e, te, "expression"); err != nil {
		return nil, err
	}
	typ := te.ResolvedType()
	if typ.Family() == types.UnknownFamily {
		typ = types.String
	}
	if err := checkIndexable(typ, exprName(e)); err != nil {
		return nil, err
	}
	return catalog.MarshalType(typ)
}

// exprName is how PostgreSQL calls the column of an indexed expression.
func exprName(e tree.Expr) string {
	switch t := stripParens(e).(type) {
	case *tree.FuncExpr:
		parts := strings.Split(tree.AsString(&t.Func), ".")
		return strings.ToLower(strings.Trim(parts[len(parts)-1], `"`))
	case *builtins.Cast:
		if n := exprName(t.Expr); n != "expr" {
			return n
		}
	case *tree.CastExpr:
		if n := exprName(t.Expr); n != "expr" {
			return n
		}
	case *tree.UnresolvedName:
		return t.Parts[0]
	case *tree.CoalesceExpr:
		return strings.ToLower(t.Name)
	case *tree.CaseExpr:
		return "case"
	}
	return "expr"
}

func errNoInverted() error {
	return pgerr.New(pgerr.FeatureNotSupported, "index method \"gin\" is not supported").
		WithHint("An index on an expression serves conditions on one element, as in CREATE INDEX ON t ((j->>'key')).")
}

// dropUnusedExprColumns removes hidden columns that no index has any more.
func dropUnusedExprColumns(pb *catalogpb.TableDescriptor) {
	for _, c := range slices.Clone(pb.Columns) {
		if c.Inaccessible && !slices.ContainsFunc(pb.Indexes, func(x *catalogpb.IndexDescriptor) bool {
			return slices.Contains(x.KeyColumnIds, c.Id)
		}) {
			removeColumn(pb, c.Id)
		}
	}
}

// requireImmutable refuses expressions whose value may change while the row does
// not: an index would go on holding the old one. what is "predicate" or "expression".
func (p *planner) requireImmutable(ctx context.Context, pb *catalogpb.TableDescriptor, e tree.Expr, te tree.TypedExpr, what string) error {
	bad := pgerr.Newf(pgerr.InvalidObjectDefinition, "functions in index %s must be marked IMMUTABLE", what)
	if mutableExpr(te) {
		return bad
	}
	// A literal that reads as a moment only in some time zone, or as a date only in
	// some order of fields, is no constant either: the text of the expression is what
	// is kept.
	text := p.zonelessText(te)
	for _, order := range []string{"MDY", "DMY", "YMD"} {
		other, err := p.textElsewhere(ctx, pb, e, order)
		if err != nil || other != text {
			return bad.WithHint("Write times with their time zone, and dates as year-month-day.")
		}
	}
	return nil
}

// textElsewhere is the zonelessText of an expression as a session with other settings
// reads it.
func (p *planner) textElsewhere(ctx context.Context, pb *catalogpb.TableDescriptor, e tree.Expr, dateOrder string) (string, error) {
	s := p.s
	here := s.codecSettings()
	loc := s.data.DataConversion.Location
	defer func() { s.codec, s.data.DataConversion.Location = here, loc }()
	there := *here
	there.Location, there.IntervalStyle = oddZone, "sql_standard"
	there.MonthFirst, there.DayFirst = dateOrder == "MDY", dateOrder == "DMY"
	s.codec, s.data.DataConversion.Location = &there, oddZone
	te, err := p.bindStandalone(ctx, pb, e, "WHERE", types.Any)
	if err != nil {
		return "", err
	}
	return p.zonelessText(te), nil
}

// zonelessText is the text of an expression with its moments as numbers.
func (p *planner) zonelessText(te tree.TypedExpr) string {
	return tree.AsString(rewriteExpr(te, func(e tree.TypedExpr) tree.TypedExpr {
		v, ok := builtins.ConstValue(e)
		if c, isCast := e.(*builtins.Cast); isCast {
			if _, ok = builtins.ConstValue(c.Expr); ok {
				var err error
				if v, err = c.Eval(&p.evalCtx); err != nil {
					return nil
				}
			}
		}
		if !ok {
			return nil
		}
		if t, ok := v.(*tree.DTimestampTZ); ok {
			return tree.NewDInt(tree.DInt(t.UnixMicro()))
		}
		return v.(tree.TypedExpr)
	}))
}

// mutableExpr says whether an expression's value depends on more than its columns.
func mutableExpr(te tree.TypedExpr) bool {
	v := mutableVisitor{}
	tree.WalkExprConst(&v, te)
	return v.found
}

type mutableVisitor struct{ found bool }

// zoned types have a value that reads differently in each time zone.
func zoned(t *types.T) bool {
	return t.Family() == types.TimestampTZFamily || t.Family() == types.TimeTZFamily
}

func timeLike(t *types.T) bool {
	switch t.Family() {
	case types.DateFamily, types.TimeFamily, types.TimestampFamily, types.IntervalFamily, types.TimestampTZFamily, types.TimeTZFamily:
		return true
	}
	return false
}

func (v *mutableVisitor) VisitPre(e tree.Expr) (bool, tree.Expr) {
	if v.found {
		return false, e
	}
	switch t := e.(type) {
	case *tree.FuncExpr:
		v.found = mutableCall(t)
	case *builtins.Cast:
		if _, ok := builtins.ConstValue(t.Expr); ok {
			break // requireImmutable tries those.
		}
		a, b := t.Expr.ResolvedType(), t.Typ
		text := a.Family() == types.StringFamily || b.Family() == types.StringFamily
		v.found = a.Family() != b.Family() && (zoned(a) || zoned(b) || text && (timeLike(a) || timeLike(b)))
	case *tree.ComparisonExpr:
		v.found = mixesZones(t.TypedLeft(), t.TypedRight())
	case *tree.BinaryExpr:
		l, r := t.TypedLeft().ResolvedType(), t.TypedRight().ResolvedType()
		v.found = mixesZones(t.TypedLeft(), t.TypedRight()) ||
			l.Family() == types.TimestampTZFamily && r.Family() == types.IntervalFamily ||
			r.Family() == types.TimestampTZFamily && l.Family() == types.IntervalFamily ||
			t.Operator == tree.Concat && (timeLike(l) || timeLike(r))
	}
	return !v.found, e
}

func (v *mutableVisitor) VisitPost(e tree.Expr) tree.Expr { return e }

// mixesZones: one operand has a time zone, the other a time without one.
func mixesZones(l, r tree.TypedExpr) bool {
	a, b := l.ResolvedType(), r.ResolvedType()
	return zoned(a) && timeLike(b) && !zoned(b) && b.Family() != types.IntervalFamily ||
		zoned(b) && timeLike(a) && !zoned(a) && a.Family() != types.IntervalFamily
}

// mutableCall says whether a function may give another value for the same
// arguments, by PostgreSQL's own classification.
func mutableCall(f *tree.FuncExpr) bool {
	if def, ok := f.Func.FunctionReference.(*tree.FunctionDefinition); ok && def.Impure {
		return true
	}
	name := exprName(f)
	vol := procVolatility()[name]
	if vol == "" || !strings.Contains(vol, "i") {
		// What PostgreSQL does not have is ours: Impure has told of it.
		return vol != ""
	}
	if vol == strings.Repeat("i", len(vol)) {
		return false
	}
	// Some forms are immutable: those that no time zone takes part in.
	for _, a := range f.Exprs {
		if te, ok := a.(tree.TypedExpr); ok && zoned(te.ResolvedType()) {
			return true
		}
	}
	return false
}

// conflictExprs reads what ON CONFLICT (…) WHERE p names: columns, expressions by
// their text, and the predicate.
func conflictExprs(oc *tree.OnConflict) (cols []string, exprs []string, predicate string) {
	for _, n := range oc.Columns {
		switch kind, text := parser.ConflictTarget(n); kind {
		case parser.ConflictExpr:
			exprs = append(exprs, text)
		case parser.ConflictPredicate:
			predicate = text
		default:
			cols = append(cols, text)
		}
	}
	return cols, exprs, predicate
}

// oddZone is a time zone in which nothing reads as it does elsewhere.
var oddZone = time.FixedZone("odd", 13*3600+1234)

// procVolatility maps the name of each function of PostgreSQL to the letters of its
// forms: i, s or v.
var procVolatility = sync.OnceValue(func() map[string]string {
	header, rows := pgfacts.Rows("pg_proc")
	name, vol := slices.Index(header, "proname"), slices.Index(header, "provolatile")
	m := map[string]string{}
	for _, r := range rows {
		m[r[name]] += r[vol]
	}
	return m
})
