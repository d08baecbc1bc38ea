package sql

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// A view keeps its query as text in which every relation stands with its schema,
// and every * as the columns it meant, so that neither the search path nor a
// column added later changes it. Relations know the views that read them.

// viewQuery is a query that has been made ready to be kept.
type viewQuery struct {
	text string
	cols []ResultColumn
	// deps maps the relations it reads to the columns it uses of each; nil: all.
	deps map[catalog.ID][]uint32
}

// prepareView qualifies names, expands stars and finds dependencies.
func (p *planner) prepareView(ctx context.Context, sel *tree.Select, names tree.NameList) (*viewQuery, error) {
	q := &viewQuery{deps: map[catalog.ID][]uint32{}}
	desc, err := p.describeQuery(ctx, sel)
	if err != nil {
		return nil, err
	}
	q.cols = desc.cols
	if len(names) > len(q.cols) {
		return nil, pgerr.New(pgerr.SyntaxError, "CREATE VIEW specifies more column names than columns")
	}
	seen := map[string]bool{}
	for i := range q.cols {
		if i < len(names) {
			q.cols[i].Name = string(names[i])
		}
		if seen[q.cols[i].Name] {
			return nil, pgerr.Newf(pgerr.DuplicateColumn, "column \"%s\" specified more than once", q.cols[i].Name)
		}
		seen[q.cols[i].Name] = true
	}
	w := &viewWriter{p: p, ctx: ctx, q: q}
	// The tree is rewritten while it is printed; the statement itself stays as it
	// was parsed.
	f := tree.NewFmtCtx(tree.FmtParsable)
	f.SetReformatTableNames(w.table)
	f.FormatNode(sel)
	if w.err != nil {
		return nil, w.err
	}
	q.text = f.CloseAndGetString()
	if starInQuery.MatchString(q.text) {
		if q.text, err = p.expandStars(ctx, q); err != nil {
			return nil, err
		}
	}
	q.text, err = p.qualifyView(ctx, q.text)
	return q, err
}

// qualifyView does for all other names in a view's query what viewWriter does for
// its tables: columns lose the name of this database, types get that of their schema.
func (p *planner) qualifyView(ctx context.Context, text string) (string, error) {
	stmt, err := parser.ParseOne(text)
	if err != nil {
		return "", err
	}
	changed := parser.StripDatabase(stmt.AST, p.s.data.Database)
	parser.EachName(stmt.AST, func(node any) {
		u, ok := node.(*parser.UDTCast)
		if !ok || u.Name == nil || err != nil {
			return
		}
		was := u.Name
		u.Name, err = p.qualifiedType(ctx, was)
		changed = changed || u.Name.String() != was.String()
	})
	if err != nil || !changed {
		return text, err
	}
	return tree.AsStringWithFlags(stmt.AST, tree.FmtParsable), nil
}

// viewWriter qualifies table names.
type viewWriter struct {
	p   *planner
	ctx context.Context
	q   *viewQuery
	err error
	// ctes are names of WITH queries, which stay as they are.
	ctes map[string]bool
}

func (w *viewWriter) table(f *tree.FmtCtx, tn *tree.TableName) {
	if w.err != nil {
		return
	}
	if w.ctes == nil {
		w.ctes = map[string]bool{}
	}
	plain := func() {
		f.WriteString(quoteIdent(string(tn.TableName)))
	}
	ref, err := w.p.resolver().FindTable(w.ctx, tn, catalog.Flags{})
	if err != nil {
		w.err = err
		return
	}
	if ref == nil {
		plain() // a WITH query, which the binder has found
		return
	}
	if ref.Table != nil {
		if ref.Table.Proto().Temporary {
			w.err = pgerr.New(pgerr.FeatureNotSupported, "unimplemented: views on temporary tables")
			return
		}
		if ref.Database != nil && ref.Database.Name() != w.p.s.data.Database {
			f.WriteString(quoteIdent(ref.Database.Name()) + ".")
		}
		w.q.deps[ref.Table.ID()] = nil
	}
	f.WriteString(quoteIdent(ref.Schema.Name) + ".")
	plain()
}

// expandStars replaces SELECT * by the columns it stands for now. Only the
// outermost select list is expanded: inner ones cannot change what the view shows
// unless the outer one lets them, and then the outer star is expanded.
func (p *planner) expandStars(ctx context.Context, q *viewQuery) (string, error) {
	stmt, err := parser.ParseOne(q.text)
	if err != nil {
		return "", err
	}
	sel, ok := stmt.AST.(*tree.Select)
	if !ok {
		return q.text, nil
	}
	clause, ok := sel.Select.(*tree.SelectClause)
	if !ok {
		return q.text, nil
	}
	var out tree.SelectExprs
	changed := false
	for _, e := range clause.Exprs {
		from := ""
		switch t := e.Expr.(type) {
		case tree.UnqualifiedStar:
		case *tree.AllColumnsSelector:
			from = t.TableName.Parts[0]
		case *tree.UnresolvedName:
			if !t.Star {
				out = append(out, e)
				continue
			}
			from = t.Parts[1]
		default:
			out = append(out, e)
			continue
		}
		cols, err := p.starColumns(ctx, clause, sel.With, from)
		if err != nil {
			return "", err
		}
		if cols == nil {
			return q.text, nil // Columns that cannot be named apart: the star stays.
		}
		changed = true
		for _, c := range cols {
			n := &tree.UnresolvedName{NumParts: 1}
			n.Parts[0] = c.name
			if c.table != "" && !c.merged {
				n.NumParts, n.Parts[1] = 2, c.table
			}
			out = append(out, tree.SelectExpr{Expr: n})
		}
	}
	if !changed {
		return q.text, nil
	}
	clause.Exprs = out
	return tree.AsStringWithFlags(sel, tree.FmtParsable), nil
}

// starColumns lists what * or t.* means in a select clause.
func (p *planner) starColumns(ctx context.Context, clause *tree.SelectClause, with *tree.With, table string) ([]scopeCol, error) {
	b := p.newBinder(ctx)
	s := &scope{}
	if with != nil {
		return nil, nil
	}
	_, fs, err := b.bindFrom(&clause.From, s)
	if err != nil {
		return nil, err
	}
	var out []scopeCol
	seen := map[string]bool{}
	for _, c := range fs.cols {
		if c.hidden || (table != "" && c.table != table) {
			continue
		}
		key := c.table + "." + c.name
		if seen[key] {
			return nil, nil
		}
		seen[key] = true
		out = append(out, c)
	}
	return out, nil
}

// createView runs CREATE [OR REPLACE] VIEW.
func (p *planner) createView(ctx context.Context, n *parser.CreateView) error {
	db, schema, err := p.targetSchema(ctx, &n.Name, n.Temporary)
	if err != nil {
		return err
	}
	name := n.Name.Table()
	if n.Replace {
		d, err := p.cat.ObjectByName(ctx, db.ID(), schema.ID, name)
		if err != nil {
			return err
		}
		if t, ok := d.(*catalog.Table); ok {
			return p.replaceView(ctx, t, n)
		}
	}
	if skip, err := p.checkNewRelation(ctx, db, schema, name, n.IfNotExists); err != nil || skip {
		return err
	}
	q, err := p.prepareView(ctx, n.AsSource, n.ColumnNames)
	if err != nil {
		return err
	}
	id, err := p.newDescID(ctx)
	if err != nil {
		return err
	}
	pb := newTableDesc(id, db.ID(), schema.ID, name, p.defaultPrivilegesFor(db, schema, catalog.TableObject))
	pb.Temporary = n.Temporary
	if err := viewColumns(pb, q); err != nil {
		return err
	}
	pb.ViewQuery = q.text
	if err := p.writeNew(ctx, pb); err != nil {
		return err
	}
	return p.linkView(ctx, pb, q)
}

// viewColumns gives a view the columns of its query.
func viewColumns(pb *catalogpb.TableDescriptor, q *viewQuery) error {
	for _, c := range q.cols {
		t := c.Typ
		if t.Family() == types.UnknownFamily {
			t = types.String
		}
		enc, err := catalog.MarshalType(t)
		if err != nil {
			return err
		}
		if _, err := addColumn(pb, &catalogpb.ColumnDescriptor{Name: c.Name, Type: enc, Nullable: true}); err != nil {
			return err
		}
	}
	return nil
}

// linkView writes the references between a view and what it reads.
func (p *planner) linkView(ctx context.Context, pb *catalogpb.TableDescriptor, q *viewQuery) error {
	pb.DependsOn = nil
	for id := range q.deps {
		pb.DependsOn = append(pb.DependsOn, id)
	}
	slices.Sort(pb.DependsOn)
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	for _, id := range pb.DependsOn {
		src, err := p.mutableTable(ctx, id)
		if err != nil {
			return err
		}
		src.DependedOnBy = slices.DeleteFunc(src.DependedOnBy, func(r *catalogpb.Reference) bool { return r.Id == pb.Id })
		src.DependedOnBy = append(src.DependedOnBy, &catalogpb.Reference{Id: pb.Id, ColumnIds: p.columnsNamed(src, q.text), ById: true})
		if err := p.writeTable(ctx, src); err != nil {
			return err
		}
	}
	return p.syncTypeReferences(ctx, nil, pb)
}

// starInQuery finds stars that stand for columns, not for a product.
var starInQuery = regexp.MustCompile(`(?i)\*\s*(,|\)|FROM\b|$)`)

// columnsNamed lists the columns of a relation whose names occur in a query:
// perhaps some more than it uses, never fewer. A star that could not be expanded
// means all.
func (p *planner) columnsNamed(pb *catalogpb.TableDescriptor, query string) []uint32 {
	words := map[string]bool{}
	for _, w := range strings.FieldsFunc(query, func(r rune) bool {
		return !(r == '_' || r == '$' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 127)
	}) {
		words[w] = true
	}
	all := starInQuery.MatchString(query)
	var out []uint32
	for _, c := range pb.Columns {
		if all || words[c.Name] || strings.Contains(query, `"`+c.Name+`"`) {
			out = append(out, c.Id)
		}
	}
	return out
}

// replaceView runs CREATE OR REPLACE VIEW on an existing one: columns may only be
// added at the end.
func (p *planner) replaceView(ctx context.Context, t *catalog.Table, n *parser.CreateView) error {
	if !t.IsView() || t.IsMaterializedView() {
		return pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a view", t.Name())
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	q, err := p.prepareView(ctx, n.AsSource, n.ColumnNames)
	if err != nil {
		return err
	}
	if q.deps[t.ID()] != nil {
		return pgerr.Newf(pgerr.InvalidObjectDefinition, "infinite recursion detected in rules for relation \"%s\"", t.Name())
	}
	pb, err := p.mutableTable(ctx, t.ID())
	if err != nil {
		return err
	}
	if len(q.cols) < len(pb.Columns) {
		return pgerr.New("42P16", "cannot drop columns from view")
	}
	for i, c := range pb.Columns {
		if q.cols[i].Name != c.Name {
			return pgerr.Newf("42P16", "cannot change name of view column \"%s\" to \"%s\"", c.Name, q.cols[i].Name).
				WithHint("Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.")
		}
		old, err := catalog.UnmarshalType(c.Type)
		if err != nil {
			return err
		}
		if nt := q.cols[i].Typ; nt.Family() != types.UnknownFamily && !old.Identical(nt) {
			return pgerr.Newf("42P16", "cannot change data type of view column \"%s\" from %s to %s", c.Name, p.typeDisplay(ctx, old), p.typeDisplay(ctx, nt))
		}
	}
	more := &viewQuery{cols: q.cols[len(pb.Columns):]}
	if err := viewColumns(pb, more); err != nil {
		return err
	}
	for _, id := range pb.DependsOn {
		if _, still := q.deps[id]; !still {
			if err := p.forgetReference(ctx, id, pb.Id); err != nil {
				return err
			}
		}
	}
	pb.ViewQuery = q.text
	return p.linkView(ctx, pb, q)
}

// rewriteView gives a view's text the new name of a relation that it reads.
func (p *planner) rewriteView(ctx context.Context, v, t *catalog.Table, schema catalog.ID, name string) error {
	stmt, err := parser.ParseOne(v.Proto().ViewQuery)
	if err != nil {
		return pgerr.Wrapf(err, pgerr.DataCorrupted, "view %q", v.Name())
	}
	oldSchema, err := p.schemaName(ctx, t.ParentSchemaID())
	if err != nil {
		return err
	}
	newSchema, err := p.schemaName(ctx, schema)
	if err != nil {
		return err
	}
	f := tree.NewFmtCtx(tree.FmtParsable)
	f.SetReformatTableNames(func(f *tree.FmtCtx, tn *tree.TableName) {
		if tn.ExplicitCatalog {
			f.WriteString(quoteIdent(string(tn.CatalogName)) + ".")
		}
		s, n := string(tn.SchemaName), string(tn.TableName)
		if tn.ExplicitSchema && s == oldSchema && n == t.Name() {
			f.WriteString(quoteIdent(newSchema) + "." + quoteIdent(name))
			// Columns are named with the old name: it goes on as an alias.
			return
		}
		if tn.ExplicitSchema {
			f.WriteString(quoteIdent(s) + ".")
		}
		f.WriteString(quoteIdent(n))
	})
	f.FormatNode(stmt.AST)
	text := f.CloseAndGetString()
	// References like old.column keep working through an alias.
	if strings.Contains(text, quoteIdent(t.Name())+".") && name != t.Name() {
		full := quoteIdent(newSchema) + "." + quoteIdent(name)
		if !strings.Contains(text, full+" AS ") {
			text = strings.ReplaceAll(text, full, full+" AS "+quoteIdent(t.Name()))
		}
	}
	if _, err := parser.ParseOne(text); err != nil {
		return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot rename relation \"%s\" because view \"%s\" depends on it", t.Name(), v.Name()).
			WithHint("you can drop %s instead.", v.Name())
	}
	pb, err := p.mutableTable(ctx, v.ID())
	if err != nil {
		return err
	}
	pb.ViewQuery = text
	return p.writeTable(ctx, pb)
}

// createMaterializedView stores the rows of a query under a name.
func (p *planner) createMaterializedView(ctx context.Context, n *parser.CreateView) (string, error) {
	db, schema, err := p.targetSchema(ctx, &n.Name, false)
	if err != nil {
		return "", err
	}
	name := n.Name.Table()
	if skip, err := p.checkNewRelation(ctx, db, schema, name, n.IfNotExists); err != nil || skip {
		return "", err
	}
	q, err := p.prepareView(ctx, n.AsSource, n.ColumnNames)
	if err != nil {
		return "", err
	}
	id, err := p.newDescID(ctx)
	if err != nil {
		return "", err
	}
	pb := newTableDesc(id, db.ID(), schema.ID, name, p.defaultPrivilegesFor(db, schema, catalog.TableObject))
	m := p.newTableMaker(db, schema, pb)
	if err := m.addQueryColumns(nil, &asQuery{cols: q.cols}); err != nil {
		return "", err
	}
	pb.ViewQuery, pb.IsMaterializedView = q.text, true
	if err := m.finish(ctx); err != nil {
		return "", err
	}
	if pb, err = p.mutableTable(ctx, id); err != nil {
		return "", err
	}
	if err := p.linkView(ctx, pb, q); err != nil {
		return "", err
	}
	if n.NoData {
		return "CREATE MATERIALIZED VIEW", nil
	}
	rows, err := p.fillMaterializedView(ctx, id)
	if err != nil {
		return "", err
	}
	return rowsTag("SELECT", rows), nil
}

// fillMaterializedView runs the view's query and keeps its rows.
func (p *planner) fillMaterializedView(ctx context.Context, id catalog.ID) (int64, error) {
	p.txn.Step(ctx)
	t, err := p.tableByID(ctx, id)
	if err != nil {
		return 0, err
	}
	needed, err := neededColumns(t, indexIDs(t))
	if err != nil {
		return 0, err
	}
	b, err := p.newIndexBuilder(ctx, t, needed, indexIDs(t))
	if err != nil {
		return 0, err
	}
	defer b.close()
	// The query yields the visible columns in order; the hidden key is made here.
	at := make([]int, len(needed))
	for i, c := range needed {
		at[i] = -1
		for j, v := range t.VisibleColumns() {
			if v == c {
				at[i] = j
			}
		}
	}
	row := make(tree.Datums, len(needed))
	err = p.streamQuery(ctx, t.Proto().ViewQuery, func(in tree.Datums) error {
		for i, j := range at {
			if j < 0 {
				row[i] = tree.NewDInt(tree.DInt(p.srv.uniqueRowID()))
				continue
			}
			d, err := fitDatum(&p.evalCtx, in[j], needed[i].Type, needed[i].Name)
			if err != nil {
				return err
			}
			row[i] = d
		}
		return b.add(ctx, row)
	})
	if err != nil {
		return 0, err
	}
	return b.rows, b.finish(ctx)
}

func indexIDs(t *catalog.Table) []uint32 {
	var out []uint32
	for _, x := range t.PublicIndexes() {
		out = append(out, x.ID)
	}
	return out
}

// refreshView runs REFRESH MATERIALIZED VIEW.
func (p *planner) refreshView(ctx context.Context, n *parser.RefreshView) error {
	t, err := p.resolveRelation(ctx, n.Name, kindMatView, false)
	if err != nil {
		return err
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	if err := p.truncateTable(ctx, t.ID(), false); err != nil {
		return err
	}
	if n.NoData {
		return nil
	}
	_, err = p.fillMaterializedView(ctx, t.ID())
	return err
}
