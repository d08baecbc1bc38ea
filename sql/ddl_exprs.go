package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/sessiondata"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// Expressions in descriptors are kept as SQL text: defaults, checks, computed
// columns. Columns stand in them by bare name, relations by schema and name; a
// rename rewrites the texts that use the old name.

// parseExpr reads an expression stored in a descriptor.
func parseExpr(text string) (tree.Expr, error) {
	e, err := parser.ParseExpr(text)
	if err != nil {
		return nil, pgerr.Wrapf(err, pgerr.DataCorrupted, "stored expression %q", text)
	}
	return e, nil
}

// columnType resolves the type of a column definition, which may name an enum.
func (p *planner) columnType(ctx context.Context, t *types.T) (*types.T, error) {
	if t == nil {
		return nil, pgerr.New(pgerr.SyntaxError, "column has no type")
	}
	if name, id, array, ok := parser.UserDefinedType(t); ok {
		return p.resolveUserType(ctx, name, id, array)
	}
	switch t.Family() {
	case types.TupleFamily, types.AnyFamily, types.UnknownFamily:
		return nil, pgerr.Newf(pgerr.InvalidTableDefinition, "column has pseudo-type %s", catalog.PGTypeName(t, nil))
	case types.ArrayFamily:
		if t.ArrayContents().Family() == types.ArrayFamily {
			return nil, pgerr.New(pgerr.FeatureNotSupported, "unimplemented: nested arrays")
		}
	}
	return t, nil
}

// bindStandalone gives an expression of a descriptor its type. tbl is the table
// whose columns it may use, or nil for none.
func (p *planner) bindStandalone(ctx context.Context, tbl *catalogpb.TableDescriptor, e tree.Expr, clause string, desired *types.T) (tree.TypedExpr, error) {
	b := p.newBinder(ctx)
	b.uncacheable = true
	sc := &scope{}
	if tbl != nil {
		for _, c := range tbl.Columns {
			t, err := catalog.UnmarshalType(c.Type)
			if err != nil {
				return nil, err
			}
			sc.cols = append(sc.cols, scopeCol{name: c.Name, table: tbl.Name, id: b.newCol(c.Name, t), typ: t, hidden: c.Hidden})
		}
	}
	return b.bindExpr(e, sc, exprMode{clause: clause, desired: desired})
}

// forbidSubqueries refuses what may not stand in an expression of a table.
func forbidSubqueries(e tree.Expr, what string, columns bool) error {
	_, err := tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		switch t := x.(type) {
		case *tree.Subquery:
			return false, x, pgerr.Newf(pgerr.FeatureNotSupported, "cannot use subquery in %s", what)
		case *tree.Placeholder:
			return false, x, pgerr.Newf(pgerr.UndefinedParameter, "there is no parameter %s", t.String())
		case *tree.UnresolvedName:
			if !columns && !t.Star {
				return false, x, pgerr.Newf(pgerr.FeatureNotSupported, "cannot use column reference in %s", what)
			}
		case *tree.FuncExpr:
			if t.WindowDef != nil {
				return false, x, pgerr.Newf("42P20", "window functions are not allowed in %ss", what)
			}
			if def, err := t.Func.Resolve(sessiondata.SearchPath{}); err == nil && def.Class == tree.AggregateClass {
				return false, x, pgerr.Newf(pgerr.GroupingError, "aggregate functions are not allowed in %ss", what)
			}
		}
		return true, x, nil
	})
	return err
}

// setColumnDefault checks a default and keeps its text. NULL is no default.
func (p *planner) setColumnDefault(ctx context.Context, pb *catalogpb.TableDescriptor, col *catalogpb.ColumnDescriptor, typ *types.T, e tree.Expr) error {
	if e == tree.DNull {
		col.DefaultExpr = nil
		return nil
	}
	if err := forbidSubqueries(e, "DEFAULT expression", false); err != nil {
		return err
	}
	te, err := p.bindStandalone(ctx, nil, e, "DEFAULT", typ)
	if err != nil {
		return err
	}
	if from := te.ResolvedType(); !assignable(from, typ) {
		return pgerr.Newf(pgerr.DatatypeMismatch, "column \"%s\" is of type %s but default expression is of type %s",
			col.Name, p.typeDisplay(ctx, typ), p.typeDisplay(ctx, from)).WithHint("You will need to rewrite or cast the expression.")
	}
	if e, err = p.qualifySequences(ctx, e); err != nil {
		return err
	}
	text, err := p.storedText(ctx, e)
	if err != nil {
		return err
	}
	col.DefaultExpr = &text
	return nil
}

// assignable says whether values of one type may be stored as another without
// an explicit cast, as in PostgreSQL's assignment casts.
func assignable(from, to *types.T) bool {
	if from.Equivalent(to) || from.Family() == types.UnknownFamily || to.Family() == types.StringFamily {
		return true
	}
	num := func(t *types.T) bool {
		switch t.Family() {
		case types.IntFamily, types.FloatFamily, types.DecimalFamily:
			return true
		}
		return false
	}
	timeish := func(t *types.T) bool {
		switch t.Family() {
		case types.DateFamily, types.TimestampFamily, types.TimestampTZFamily, types.TimeFamily, types.TimeTZFamily:
			return true
		}
		return false
	}
	switch {
	case num(from) && num(to), timeish(from) && timeish(to):
		return true
	case from.Family() == types.IntFamily && to.Family() == types.OidFamily, from.Family() == types.OidFamily && to.Family() == types.IntFamily:
		return true
	case from.Family() == types.ArrayFamily && to.Family() == types.ArrayFamily:
		return assignable(from.ArrayContents(), to.ArrayContents())
	case from.Family() == types.BitFamily && to.Family() == types.BitFamily:
		return true
	case from.Family() == types.StringFamily && to.Family() == types.CollatedStringFamily, from.Family() == types.CollatedStringFamily:
		// A literal: text becomes an enum value or a collated string on writing.
		return true
	}
	return false
}

// storedText is the text of an expression as a descriptor keeps it. Columns are
// named without their table, types by schema and name and without their database:
// the text must mean the same under any search path, and after the database got
// another name.
func (p *planner) storedText(ctx context.Context, e tree.Expr) (string, error) {
	e, err := unqualifyColumns(e)
	if err != nil {
		return "", err
	}
	if e, err = p.qualifyTypes(ctx, e); err != nil {
		return "", err
	}
	return tree.AsString(e), nil
}

// qualifyTypes gives casts to user-defined types of this database the names of
// their schemas.
func (p *planner) qualifyTypes(ctx context.Context, e tree.Expr) (tree.Expr, error) {
	return tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		u, ok := x.(*parser.UDTCast)
		if !ok || u.Name == nil {
			return true, x, nil
		}
		name, err := p.qualifiedType(ctx, u.Name)
		if err != nil {
			return false, x, err
		}
		c := *u
		c.Name = name
		return true, &c, nil
	})
}

// qualifiedType returns schema.name of the type that a name stands for now.
func (p *planner) qualifiedType(ctx context.Context, n *tree.UnresolvedObjectName) (*tree.UnresolvedObjectName, error) {
	t, ref, err := p.resolver().FindType(ctx, n)
	if err != nil || t == nil || ref.Database == nil || ref.Database.Name() != p.s.data.Database {
		return n, err
	}
	return tree.NewUnresolvedObjectName(2, [3]string{t.Name(), ref.Name}, tree.NoAnnotation)
}

// qualifySequences replaces the argument of nextval and its like by the full
// name of the sequence it finds now, cast to regclass.
func (p *planner) qualifySequences(ctx context.Context, e tree.Expr) (tree.Expr, error) {
	return tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		f, name, ok := sequenceCall(x)
		if !ok {
			return true, x, nil
		}
		seq, err := p.resolveSequenceName(ctx, name)
		if err != nil {
			return false, x, err
		}
		schema, err := p.schemaName(ctx, seq.ParentSchemaID())
		if err != nil {
			return false, x, err
		}
		c := *f
		arg, err := parseExpr(strings.TrimSuffix(strings.TrimPrefix(nextvalExpr(schema, seq.Name()), "nextval("), ")"))
		if err != nil {
			return false, x, err
		}
		c.Exprs = append(tree.Exprs{arg}, f.Exprs[1:]...)
		return false, &c, nil
	})
}

// sequenceCall recognises nextval('s'), currval('s'), setval('s', …), with or
// without a cast around the name.
func sequenceCall(x tree.Expr) (f *tree.FuncExpr, name string, ok bool) {
	f, ok = x.(*tree.FuncExpr)
	if !ok || len(f.Exprs) == 0 {
		return nil, "", false
	}
	parts := strings.Split(strings.ToLower(tree.AsString(&f.Func)), ".")
	switch parts[len(parts)-1] {
	case "nextval", "currval", "setval":
	default:
		return nil, "", false
	}
	arg := f.Exprs[0]
	for {
		switch t := arg.(type) {
		case *tree.CastExpr:
			arg = t.Expr
		case *tree.AnnotateTypeExpr:
			arg = t.Expr
		case *tree.ParenExpr:
			arg = t.Expr
		case *tree.StrVal:
			return f, t.RawString(), true
		case *tree.DString:
			return f, string(*t), true
		default:
			return nil, "", false
		}
	}
}

// sequencesUsed lists the names of the sequences an expression text calls.
func sequencesUsed(text string) ([]string, error) {
	if !strings.Contains(text, "(") {
		return nil, nil
	}
	e, err := parseExpr(text)
	if err != nil {
		return nil, err
	}
	var out []string
	_, err = tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		if _, name, ok := sequenceCall(x); ok {
			out = append(out, name)
		}
		return true, x, nil
	})
	return out, err
}

// columnsUsed lists the columns of pb that an expression names.
func columnsUsed(pb *catalogpb.TableDescriptor, e tree.Expr) ([]uint32, error) {
	var out []uint32
	_, err := tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		name := ""
		switch t := x.(type) {
		case *tree.UnresolvedName:
			if !t.Star {
				name = t.Parts[0]
			}
		case *tree.ColumnItem:
			name = string(t.ColumnName)
		}
		if name != "" {
			if c := findColumn(pb, name); c != nil && !slices.Contains(out, c.Id) {
				out = append(out, c.Id)
			}
		}
		return true, x, nil
	})
	slices.Sort(out)
	return out, err
}

// unqualifyColumns strips table names from column references, so that renaming
// the table leaves the text as it is.
func unqualifyColumns(e tree.Expr) (tree.Expr, error) {
	return tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		switch t := x.(type) {
		case *tree.UnresolvedName:
			if !t.Star && t.NumParts > 1 {
				return false, tree.NewUnresolvedName(t.Parts[0]), nil
			}
		case *tree.ColumnItem:
			return false, tree.NewUnresolvedName(string(t.ColumnName)), nil
		}
		return true, x, nil
	})
}

// renameInExpr rewrites a stored expression after a column got a new name.
func renameInExpr(text, from, to string) (string, error) {
	e, err := parseExpr(text)
	if err != nil {
		return "", err
	}
	e, err = tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		if n, ok := x.(*tree.UnresolvedName); ok && !n.Star && n.Parts[0] == from {
			c := *n
			c.Parts[0] = to
			return false, &c, nil
		}
		return true, x, nil
	})
	if err != nil {
		return "", err
	}
	return tree.AsString(e), nil
}

// makeCheck checks a CHECK expression and returns its constraint.
func (p *planner) makeCheck(ctx context.Context, pb *catalogpb.TableDescriptor, name string, e tree.Expr, column string) (*catalogpb.CheckConstraint, error) {
	if err := forbidSubqueries(e, "check constraint", true); err != nil {
		return nil, err
	}
	te, err := p.bindStandalone(ctx, pb, e, "CHECK", types.Bool)
	if err != nil {
		return nil, err
	}
	if f := te.ResolvedType().Family(); f != types.BoolFamily && f != types.UnknownFamily {
		return nil, pgerr.Newf(pgerr.DatatypeMismatch, "argument of CHECK must be type boolean, not type %s", p.typeDisplay(ctx, te.ResolvedType()))
	}
	text, err := p.storedText(ctx, e)
	if err != nil {
		return nil, err
	}
	ids, err := columnsUsed(pb, e)
	if err != nil {
		return nil, err
	}
	if name == "" {
		var parts []string
		switch {
		case column != "":
			parts = []string{column}
		case len(ids) == 1:
			parts = namesOfColumns(pb, ids)
		}
		name = chooseConstraintName(pb, parts, "check")
	} else if constraintNames(pb)[name] {
		return nil, errConstraintExists(pb, name)
	}
	return &catalogpb.CheckConstraint{Name: name, Expr: text, ColumnIds: ids, ConstraintId: nextConstraintID(pb)}, nil
}

// checkComputed checks the expressions of generated columns.
func (p *planner) checkComputed(ctx context.Context, pb *catalogpb.TableDescriptor) error {
	for _, c := range pb.Columns {
		if c.ComputeExpr == nil || c.Inaccessible {
			continue
		}
		e, err := parseExpr(c.GetComputeExpr())
		if err != nil {
			return err
		}
		if err := forbidSubqueries(e, "column generation expression", true); err != nil {
			return err
		}
		typ, err := catalog.UnmarshalType(c.Type)
		if err != nil {
			return err
		}
		te, err := p.bindStandalone(ctx, pb, e, "GENERATED", typ)
		if err != nil {
			return err
		}
		if !assignable(te.ResolvedType(), typ) {
			return pgerr.Newf(pgerr.DatatypeMismatch, "column \"%s\" is of type %s but default expression is of type %s",
				c.Name, p.typeDisplay(ctx, typ), p.typeDisplay(ctx, te.ResolvedType()))
		}
		used, err := columnsUsed(pb, e)
		if err != nil {
			return err
		}
		for _, id := range used {
			if o := findColumnByID(pb, id); o.ComputeExpr != nil {
				return pgerr.Newf(pgerr.InvalidObjectDefinition, "cannot use generated column \"%s\" in column generation expression", o.Name).
					WithDetail("A generated column cannot reference another generated column.")
			}
		}
		if err := onlyImmutable(e); err != nil {
			return err
		}
		text, err := p.storedText(ctx, e)
		if err != nil {
			return err
		}
		c.ComputeExpr = &text
	}
	return nil
}

// onlyImmutable refuses functions whose result may change.
func onlyImmutable(e tree.Expr) error {
	_, err := tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		f, ok := x.(*tree.FuncExpr)
		if !ok {
			return true, x, nil
		}
		if def, err := f.Func.Resolve(sessiondata.SearchPath{}); err == nil && def.Impure {
			return false, x, pgerr.New(pgerr.InvalidObjectDefinition, "generation expression is not immutable")
		}
		return true, x, nil
	})
	return err
}

// typeDisplay is PostgreSQL's name of a type, enums by name.
func (p *planner) typeDisplay(ctx context.Context, t *types.T) string {
	if oids := catalog.UserTypeOIDs(t); len(oids) > 0 {
		if enums, err := p.enumSet(ctx, oids); err == nil {
			return catalog.PGTypeName(t, enums)
		}
	}
	return typeName(t)
}

// parseQualifiedName parses a possibly qualified name written as text, as in
// nextval('s."T"').
func parseQualifiedName(s string) (*tree.UnresolvedObjectName, error) {
	n, err := parser.ParseObjectName(s)
	if err != nil {
		return nil, pgerr.Newf("42602", "invalid name syntax")
	}
	return n, nil
}
