package sql

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// bindFrom binds a FROM clause; without one there is one row of no columns.
func (b *binder) bindFrom(from *tree.From, s *scope) (rel, *scope, error) {
	fs := s.child()
	if len(from.Tables) == 0 {
		return oneRow(), fs, nil
	}
	var in rel
	seen := map[string]bool{}
	for _, te := range from.Tables {
		r, cols, err := b.bindTable(te, s, fs.cols)
		if err != nil {
			return nil, nil, err
		}
		if err := checkDuplicateAliases(seen, cols); err != nil {
			return nil, nil, err
		}
		in = b.crossJoin(in, r)
		fs.cols = append(fs.cols, cols...)
	}
	return in, fs, nil
}

func oneRow() rel { return &valuesNode{rows: [][]tree.TypedExpr{{}}} }

// crossJoin puts r beside in; r may use columns of in.
func (b *binder) crossJoin(in, r rel) rel {
	if in == nil {
		return r
	}
	return &joinNode{kind: joinInner, left: in, right: r, lateral: freeCols(r).intersects(in.cols())}
}

// bindTable binds an item of FROM. left are the columns of the items before it,
// which LATERAL ones can see.
func (b *binder) bindTable(te tree.TableExpr, s *scope, left []scopeCol) (rel, []scopeCol, error) {
	switch t := te.(type) {
	case *tree.AliasedTableExpr:
		return b.bindAliased(t, s, left)
	case *tree.ParenTableExpr:
		return b.bindTable(t.Expr, s, left)
	case *tree.JoinTableExpr:
		return b.bindJoin(t, s, left)
	case *tree.TableName:
		return b.bindTableName(t, nil, s)
	case *tree.Subquery:
		return b.bindSubqueryTable(t.Select, s)
	case *tree.RowsFromExpr:
		return b.bindRowsFrom(t, "", nil, false, &scope{parent: s, cols: left})
	case *tree.StatementSource:
		return b.bindStatementSource(t, s)
	case *tree.TableRef:
		return nil, nil, pgerr.New(pgerr.FeatureNotSupported, "numeric table references are not supported")
	}
	return nil, nil, pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: %T in FROM", te)
}

func (b *binder) bindAliased(t *tree.AliasedTableExpr, s *scope, left []scopeCol) (rel, []scopeCol, error) {
	inner := s
	if t.Lateral {
		inner = &scope{parent: s, cols: left}
	}
	var r rel
	var cols []scopeCol
	var err error
	switch e := t.Expr.(type) {
	case *tree.RowsFromExpr:
		return b.bindRowsFrom(e, string(t.As.Alias), t.As.Cols, t.Ordinality, &scope{parent: s, cols: left})
	case *tree.TableName:
		r, cols, err = b.bindTableName(e, t.IndexFlags, inner)
	case *tree.Subquery:
		r, cols, err = b.bindSubqueryTable(e.Select, inner)
	default:
		r, cols, err = b.bindTable(e, inner, left)
	}
	if err != nil {
		return nil, nil, err
	}
	if t.Ordinality {
		id := b.newCol("ordinality", types.Int)
		r = &ordinalityNode{in: r, id: id}
		table := ""
		if len(cols) > 0 {
			table = cols[0].table
		}
		cols = append(cols, scopeCol{name: "ordinality", table: table, id: id, typ: types.Int})
	}
	if t.As.Alias == "" {
		return r, cols, nil
	}
	cols, err = aliasCols(cols, string(t.As.Alias), t.As.Cols)
	return r, cols, err
}

// aliasCols renames a table and its first columns.
func aliasCols(cols []scopeCol, alias string, names tree.NameList) ([]scopeCol, error) {
	out := append([]scopeCol(nil), cols...)
	i := 0
	for j := range out {
		c := &out[j]
		c.table, c.schema, c.db = alias, "", ""
		if c.hidden {
			continue
		}
		if i < len(names) {
			c.name = string(names[i])
		}
		i++
	}
	if len(names) > i {
		return nil, pgerr.Newf("42P10", "table %q has %d columns available but %d columns specified", alias, i, len(names))
	}
	return out, nil
}

func (b *binder) bindSubqueryTable(sel tree.SelectStatement, s *scope) (rel, []scopeCol, error) {
	q, err := b.bindSelect(sel, s)
	if err != nil {
		return nil, nil, err
	}
	return q.in, queryScope(q, ""), nil
}

// queryScope makes the columns of a query those of a table.
func queryScope(q *query, table string) []scopeCol {
	cols := make([]scopeCol, 0, len(q.cols))
	for _, c := range q.cols {
		cols = append(cols, scopeCol{name: c.name, table: table, id: c.id, typ: c.typ, hidden: c.hidden})
	}
	return cols
}

// bindTableName binds a table, view, sequence or WITH query.
func (b *binder) bindTableName(tn *tree.TableName, hint *tree.IndexFlags, s *scope) (rel, []scopeCol, error) {
	name := string(tn.TableName)
	if !tn.ExplicitSchema {
		if d := s.findCTE(name); d != nil {
			return b.bindCTERef(d, name)
		}
	}
	ref, err := b.p.lookupRelation(b.ctx, tn)
	if err != nil {
		return nil, nil, b.p.locateName(err, name)
	}
	if ref.Table == nil {
		vt := b.p.srv.virtualTableByName(ref.Schema.Name, ref.Name)
		if vt == nil {
			return nil, nil, pgerr.Newf(pgerr.UndefinedTable, "relation %q does not exist", tn.String())
		}
		db := ""
		if ref.Database != nil {
			db = ref.Database.Name()
		}
		return b.bindVirtual(vt, db)
	}
	desc := ref.Table
	b.deps = append(b.deps, planDep{desc.ID(), desc.Version()})
	user := b.p.user()
	if b.owner != "" && !b.p.internal {
		user = b.owner
	}
	if err := b.p.checkSelect(b.ctx, desc, user); err != nil {
		return nil, nil, err
	}
	if desc.IsView() && !desc.IsMaterializedView() {
		return b.bindView(ref)
	}
	if desc.IsSequence() {
		return b.bindSequence(desc, name)
	}
	tab, cols := b.addTable(ref, name, false)
	if hint != nil && (hint.Index != "" || hint.IndexID != 0) {
		if err := checkIndexHint(desc, hint); err != nil {
			return nil, nil, err
		}
	}
	return &scanNode{tab: tab, hint: hint}, cols, nil
}

// addTable gives a table's columns their ids. With all, columns of schema changes
// under way get one too, though no name finds them.
func (b *binder) addTable(ref *catalog.TableRef, alias string, all bool) (*tableRef, []scopeCol) {
	tab := &tableRef{desc: ref.Table, alias: alias, columns: ref.Table.Columns()}
	if all {
		tab.columns = ref.Table.AllColumns()
	}
	db := ""
	if ref.Database != nil {
		db = ref.Database.Name()
	}
	var cols []scopeCol
	for ord, c := range tab.columns {
		id := b.md.add(colMeta{name: c.Name, typ: c.Type, tab: tab, ord: ord})
		tab.colIDs = append(tab.colIDs, id)
		if c.Public() && !c.Inaccessible {
			cols = append(cols, scopeCol{name: c.Name, table: alias, schema: ref.Schema.Name, db: db, id: id, typ: c.Type, hidden: c.Hidden, rel: ref.Table.ID()})
		}
	}
	if hasIndexExprs(ref.Table) {
		b.bindIndexExprs(tab)
	}
	return tab, cols
}

// bindIndexExprs binds what the indexes of a table are over, for the optimizer.
func (b *binder) bindIndexExprs(tab *tableRef) {
	tab.exprs, tab.preds = map[uint32]tree.TypedExpr{}, map[uint32][]tree.TypedExpr{}
	row := make([]colID, len(tab.desc.AllColumns()))
	for i, c := range tab.columns {
		row[c.Ordinal] = tab.colIDs[i]
	}
	sc := tableRowScope(tab.desc, row)
	for _, c := range tab.columns {
		if c.Virtual {
			if e, err := b.virtualExpr(c, sc); err == nil {
				tab.exprs[c.ID] = e
			}
		}
	}
	for _, x := range tab.desc.PublicIndexes() {
		if x.Predicate != "" {
			if e, err := b.predicate(x, sc); err == nil {
				tab.preds[x.ID] = splitAnd(e)
			}
		}
	}
}

func (b *binder) bindVirtual(vt *virtualTable, db string) (rel, []scopeCol, error) {
	n := &virtualNode{table: vt, db: db}
	var cols []scopeCol
	for _, c := range vt.columns {
		id := b.newCol(c.name, c.typ)
		n.outCols = append(n.outCols, id)
		cols = append(cols, scopeCol{name: c.name, table: vt.name, schema: vt.schema, db: db, id: id, typ: c.typ, hidden: c.hidden, rel: catalog.ID(vt.id)})
	}
	return n, cols, nil
}

// bindView puts the view's query in its place. Names in it mean what they meant
// to its owner.
func (b *binder) bindView(ref *catalog.TableRef) (rel, []scopeCol, error) {
	desc := ref.Table
	if b.viewDepth >= maxPlanDepth {
		return nil, nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "infinite recursion detected in rules for relation %q", desc.Name())
	}
	stmt, err := parser.ParseOne(desc.Proto().ViewQuery)
	if err != nil {
		return nil, nil, pgerr.Wrapf(err, pgerr.DataCorrupted, "view %q", desc.Name())
	}
	sel, ok := stmt.AST.(*tree.Select)
	if !ok {
		return nil, nil, pgerr.Newf(pgerr.DataCorrupted, "view %q is not a query", desc.Name())
	}
	saved := b.owner
	b.owner = desc.Privileges().GetOwner()
	b.viewDepth++
	q, err := b.bindFullSelect(sel, &scope{})
	b.viewDepth--
	b.owner = saved
	if err != nil {
		return nil, nil, err
	}
	db := ""
	if ref.Database != nil {
		db = ref.Database.Name()
	}
	var cols []scopeCol
	i := 0
	for _, c := range readableColumns(desc) {
		if c.Hidden {
			continue
		}
		if i >= len(q.cols) {
			break
		}
		cols = append(cols, scopeCol{name: c.Name, table: desc.Name(), schema: ref.Schema.Name, db: db, id: q.cols[i].id, typ: q.cols[i].typ})
		i++
	}
	return q.in, cols, nil
}

// bindSequence binds SELECT … FROM a sequence.
func (b *binder) bindSequence(desc *catalog.Table, name string) (rel, []scopeCol, error) {
	src := b.p.sequenceRows(desc)
	return b.bindSource(src, name)
}

func (b *binder) bindSource(src *rowSource, table string) (rel, []scopeCol, error) {
	n := &sourceNode{src: src}
	var cols []scopeCol
	for _, c := range src.columns {
		id := b.newCol(c.Name, c.Typ)
		n.outCols = append(n.outCols, id)
		cols = append(cols, scopeCol{name: c.Name, table: table, id: id, typ: c.Typ, hidden: c.Hidden})
	}
	return n, cols, nil
}

// bindStatementSource binds [SHOW …] and [INSERT … RETURNING …] in FROM.
func (b *binder) bindStatementSource(t *tree.StatementSource, s *scope) (rel, []scopeCol, error) {
	q, err := b.bindStatement(t.Statement, s)
	if err != nil {
		return nil, nil, err
	}
	if q == nil {
		return nil, nil, pgerr.Newf(pgerr.FeatureNotSupported, "statement source %s returns no rows", t.Statement.StatementTag())
	}
	d := &cteDef{name: "statement", in: q.in, inCols: q.ids(), mutates: true, refs: 1}
	b.mutating = append(b.mutating, d)
	n := &cteScanNode{def: d}
	var cols []scopeCol
	for _, c := range q.cols {
		id := b.newCol(c.name, c.typ)
		n.outCols = append(n.outCols, id)
		cols = append(cols, scopeCol{name: c.name, id: id, typ: c.typ, hidden: c.hidden})
	}
	return n, cols, nil
}

// bindStatement binds any statement that can be planned; nil means that it
// cannot, or has no columns.
func (b *binder) bindStatement(stmt tree.Statement, s *scope) (*query, error) {
	switch t := stmt.(type) {
	case *tree.Select:
		return b.bindFullSelect(t, s)
	case tree.SelectStatement:
		return b.bindSelect(t, s)
	case *tree.Insert:
		return b.bindInsert(t, s)
	case *tree.Update:
		return b.bindUpdate(t, s)
	case *tree.Delete:
		return b.bindDelete(t, s)
	}
	if own := ownInsert(stmt); own != nil {
		return b.bindInsertPlus(own, s)
	}
	if own := ownDelete(stmt); own != nil {
		return b.bindDeletePlus(own, s)
	}
	if sql, err := b.p.delegate(b.ctx, stmt); err != nil {
		return nil, err
	} else if sql != "" {
		ps, err := parser.ParseOne(sql)
		if err != nil {
			return nil, err
		}
		b.uncacheable = true
		return b.bindStatement(ps.AST, &scope{})
	}
	src, err := b.p.sourceOf(b.ctx, stmt)
	if err != nil || src == nil {
		return nil, err
	}
	b.uncacheable = true
	r, cols, err := b.bindSource(src, "")
	if err != nil {
		return nil, err
	}
	q := &query{in: r}
	for _, c := range cols {
		q.cols = append(q.cols, outCol{name: c.name, id: c.id, typ: c.typ, hidden: c.hidden})
	}
	return q, nil
}

// bindRowsFrom binds functions in FROM.
func (b *binder) bindRowsFrom(t *tree.RowsFromExpr, alias string, names tree.NameList, ordinality bool, s *scope) (rel, []scopeCol, error) {
	n := &projectSetNode{in: oneRow(), expand: true}
	var cols []scopeCol
	for _, e := range t.Items {
		fn, _ := stripParens(e).(*tree.FuncExpr)
		name, _ := tree.GetRenderColName(b.p.s.data.SearchPath, tree.SelectExpr{Expr: e})
		te, err := b.bindTableFunc(e, s)
		if err != nil {
			return nil, nil, err
		}
		typ := builtins.TypeOf(te)
		it := srfItem{expr: te}
		table := alias
		if table == "" {
			table = name
		}
		if typ.Family() == types.TupleFamily && fn != nil {
			labels := typ.TupleLabels()
			for i := range typ.TupleContents() {
				ct := &typ.TupleContents()[i]
				cn := "column" + string(rune('1'+i))
				if i < len(labels) {
					cn = labels[i]
				}
				id := b.newCol(cn, ct)
				it.cols = append(it.cols, id)
				cols = append(cols, scopeCol{name: cn, table: table, id: id, typ: ct})
			}
		} else {
			cn := name
			if alias != "" && len(t.Items) == 1 {
				cn = alias
			}
			if fe, ok := te.(*tree.FuncExpr); ok {
				if def, ok := fe.Func.FunctionReference.(*tree.FunctionDefinition); ok && len(def.ReturnLabels) == 1 {
					cn = def.ReturnLabels[0] // The function names its column itself.
				}
			}
			id := b.newCol(cn, typ)
			it.cols = []colID{id}
			cols = append(cols, scopeCol{name: cn, table: table, id: id, typ: typ, scalar: true})
		}
		n.funcs = append(n.funcs, it)
	}
	if ordinality {
		n.ordinality = b.newCol("ordinality", types.Int)
		table := alias
		if table == "" && len(cols) > 0 {
			table = cols[0].table
		}
		cols = append(cols, scopeCol{name: "ordinality", table: table, id: n.ordinality, typ: types.Int})
	}
	if len(names) > 0 {
		if len(names) > len(cols) {
			return nil, nil, pgerr.Newf("42P10", "table %q has %d columns available but %d columns specified", alias, len(cols), len(names))
		}
		for i, nm := range names {
			cols[i].name = string(nm)
		}
	}
	return n, cols, nil
}

// bindTableFunc binds a function call of FROM, which may return a set.
func (b *binder) bindTableFunc(e tree.Expr, s *scope) (tree.TypedExpr, error) {
	if fn, ok := stripParens(e).(*tree.FuncExpr); ok {
		if def, err := fn.Func.Resolve(b.p.s.data.SearchPath); err == nil {
			switch def.Class {
			case tree.GeneratorClass:
				r := &resolver{b: b, s: s, m: exprMode{clause: "functions in FROM"}}
				fe, te, err := r.resolveCall(fn, r)
				if err != nil {
					return nil, b.p.locate(err)
				}
				if fe != nil {
					return fe, nil
				}
				return te, nil
			}
		}
	}
	return b.bindExpr(e, s, exprMode{clause: "functions in FROM"})
}

// bindJoin binds a JOIN with its condition.
func (b *binder) bindJoin(t *tree.JoinTableExpr, s *scope, left []scopeCol) (rel, []scopeCol, error) {
	l, lcols, err := b.bindTable(t.Left, s, left)
	if err != nil {
		return nil, nil, err
	}
	visible := append(append([]scopeCol(nil), left...), lcols...)
	r, rcols, err := b.bindTable(t.Right, s, visible)
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	if err := checkDuplicateAliases(seen, lcols); err != nil {
		return nil, nil, err
	}
	if err := checkDuplicateAliases(seen, rcols); err != nil {
		return nil, nil, err
	}
	n := &joinNode{left: l, right: r, hint: t.Hint}
	switch t.JoinType {
	case "", tree.AstInner, tree.AstCross:
		n.kind = joinInner
	case tree.AstLeft:
		n.kind = joinLeft
	case tree.AstRight:
		n.kind = joinRight
	case tree.AstFull:
		n.kind = joinFull
	default:
		return nil, nil, pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: %s JOIN", t.JoinType)
	}
	if n.lateral = freeCols(r).intersects(l.cols()); n.lateral && (n.kind == joinRight || n.kind == joinFull) {
		return nil, nil, pgerr.New("42P10", "invalid reference to FROM-clause entry for table: the combining JOIN type must be INNER or LEFT for a LATERAL reference")
	}
	switch c := t.Cond.(type) {
	case *tree.OnJoinCond:
		js := &scope{parent: s, cols: append(append([]scopeCol(nil), lcols...), rcols...)}
		cond, err := b.bindBool(c.Expr, js, exprMode{clause: "JOIN/ON"})
		if err != nil {
			return nil, nil, err
		}
		n.on = splitAnd(cond)
	case *tree.UsingJoinCond:
		return b.bindUsing(n, lcols, rcols, c.Cols)
	case tree.NaturalJoinCond, *tree.NaturalJoinCond:
		var names tree.NameList
		for _, lc := range lcols {
			if lc.hidden || lc.merged {
				continue
			}
			for _, rc := range rcols {
				if rc.name == lc.name && !rc.hidden && !rc.merged {
					names = append(names, tree.Name(lc.name))
					break
				}
			}
		}
		return b.bindUsing(n, lcols, rcols, names)
	}
	return n, append(lcols[:len(lcols):len(lcols)], rcols...), nil
}

// bindUsing joins on columns of the same name, which merge into one.
func (b *binder) bindUsing(n *joinNode, lcols, rcols []scopeCol, names tree.NameList) (rel, []scopeCol, error) {
	lcols, rcols = append([]scopeCol(nil), lcols...), append([]scopeCol(nil), rcols...)
	var merged []scopeCol
	var proj []item
	for _, nm := range names {
		find := func(cols []scopeCol, side string) (*scopeCol, error) {
			var f *scopeCol
			for i := range cols {
				c := &cols[i]
				if c.name != string(nm) || c.merged {
					continue
				}
				if f != nil {
					return nil, pgerr.Newf(pgerr.AmbiguousColumn, "common column name %q appears more than once in %s table", string(nm), side)
				}
				f = c
			}
			if f == nil {
				return nil, pgerr.Newf(pgerr.UndefinedColumn, "column %q specified in USING clause does not exist in %s table", string(nm), side)
			}
			return f, nil
		}
		lc, err := find(lcols, "left")
		if err != nil {
			return nil, nil, err
		}
		rc, err := find(rcols, "right")
		if err != nil {
			return nil, nil, err
		}
		eq, err := builtins.TypeCheck(&b.p.semaCtx, &tree.ComparisonExpr{Operator: tree.EQ, Left: lc.ref(), Right: rc.ref()}, types.Bool)
		if err != nil {
			return nil, nil, pgerr.Newf(pgerr.DatatypeMismatch, "JOIN/USING types %s and %s cannot be matched", typeName(lc.typ), typeName(rc.typ))
		}
		n.on = append(n.on, eq)
		m := scopeCol{name: string(nm), typ: lc.typ, id: lc.id}
		switch n.kind {
		case joinRight:
			m.id, m.typ = rc.id, rc.typ
		case joinFull:
			co, err := builtins.TypeCheck(&b.p.semaCtx, &tree.CoalesceExpr{Name: "COALESCE", Exprs: tree.Exprs{lc.ref(), rc.ref()}}, types.Any)
			if err != nil {
				return nil, nil, err
			}
			m.typ = co.ResolvedType()
			m.id = b.newCol(m.name, m.typ)
			proj = append(proj, item{m.id, co})
		}
		lc.merged, rc.merged = true, true
		merged = append(merged, m)
	}
	var out rel = n
	if proj != nil {
		out = &projectNode{in: n, items: proj}
	}
	return out, append(append(merged, lcols...), rcols...), nil
}

// bindWith binds the WITH queries of a statement into s.
func (b *binder) bindWith(w *tree.With, s *scope) ([]*cteDef, error) {
	s.ctes = map[string]*cteDef{}
	var defs []*cteDef
	for _, c := range w.CTEList {
		name := string(c.Name.Alias)
		if s.ctes[name] != nil {
			return nil, pgerr.Newf("42712", "WITH query name %q specified more than once", name)
		}
		d := &cteDef{name: name}
		var q *query
		var err error
		if u := unionOf(c.Stmt); w.Recursive && u != nil && u.Type == tree.UnionOp {
			q, err = b.bindRecursive(d, u, c, s)
		}
		if q == nil && err == nil {
			q, err = b.bindStatement(c.Stmt, s)
		}
		if err != nil {
			return nil, err
		}
		switch c.Stmt.(type) {
		case *tree.Insert, *tree.Update, *tree.Delete:
			d.mutates = true
		default:
			d.mutates = ownInsert(c.Stmt) != nil || ownDelete(c.Stmt) != nil
		}
		if q == nil {
			return nil, pgerr.Newf(pgerr.FeatureNotSupported, "WITH query %q does not return rows", name)
		}
		if d.in == nil {
			d.in, d.inCols = q.in, q.ids()
		}
		for i, oc := range q.cols {
			n := oc.name
			if i < len(c.Name.Cols) {
				n = string(c.Name.Cols[i])
			}
			d.outNames = append(d.outNames, n)
			d.outTypes = append(d.outTypes, oc.typ)
		}
		if len(c.Name.Cols) > len(q.cols) {
			return nil, pgerr.Newf("42P10", "WITH query %q has %d columns available but %d columns specified", name, len(q.cols), len(c.Name.Cols))
		}
		s.ctes[name] = d
		defs = append(defs, d)
		if d.mutates {
			b.mutating = append(b.mutating, d)
		}
	}
	return defs, nil
}

// unionOf returns the set operation a WITH query consists of.
func unionOf(stmt tree.Statement) *tree.UnionClause {
	switch t := stmt.(type) {
	case *tree.Select:
		if t.With != nil || t.OrderBy != nil || t.Limit != nil {
			return nil
		}
		return unionOf(t.Select)
	case *tree.ParenSelect:
		return unionOf(t.Select)
	case *tree.UnionClause:
		return t
	}
	return nil
}

// bindRecursive binds initial UNION [ALL] step, where step reads the query
// itself. It returns nil if it does not.
func (b *binder) bindRecursive(d *cteDef, u *tree.UnionClause, c *tree.CTE, s *scope) (*query, error) {
	initial, err := b.bindFullSelect(u.Left, s.child())
	if err != nil {
		return nil, err
	}
	for i := range initial.cols {
		oc := &initial.cols[i]
		if oc.typ.Family() == types.UnknownFamily {
			oc.typ = types.String
		}
	}
	d.in, d.inCols = initial.in, initial.ids()
	for i, oc := range initial.cols {
		n := oc.name
		if i < len(c.Name.Cols) {
			n = string(c.Name.Cols[i])
		}
		d.outNames = append(d.outNames, n)
		d.outTypes = append(d.outTypes, oc.typ)
	}
	rs := s.child()
	rs.ctes = map[string]*cteDef{d.name: d}
	d.dedup = !u.All
	// While the step is bound, references read the working table.
	b.recursive = append(b.recursive, d)
	step, err := b.bindFullSelect(u.Right, rs)
	b.recursive = b.recursive[:len(b.recursive)-1]
	if err != nil {
		return nil, err
	}
	refs := d.refs
	names, typs := d.outNames, d.outTypes
	d.outNames, d.outTypes, d.refs = nil, nil, 0
	if refs == 0 {
		// Not recursive after all.
		d.in, d.inCols = nil, nil
		return b.makeSetOp(u.Type, u.All, initial, step)
	}
	if len(step.cols) != len(typs) {
		return nil, pgerr.New(pgerr.SyntaxError, "each UNION query must have the same number of columns")
	}
	var proj []item
	for i, oc := range step.cols {
		ct, ok := builtins.CommonType(typs[i], oc.typ)
		if !ok || (!ct.Equivalent(typs[i]) && !oc.literal) {
			return nil, pgerr.Newf(pgerr.DatatypeMismatch,
				"recursive query %q column %d has type %s in non-recursive term but type %s overall",
				d.name, i+1, typeName(typs[i]), typeName(oc.typ)).
				WithHint("Cast the output of the non-recursive term to the correct type.")
		}
		e, err := b.castLiteral(&colRef{id: oc.id, typ: oc.typ, name: oc.name}, typs[i], oc.literal)
		if err != nil {
			return nil, err
		}
		id := b.newCol(names[i], typs[i])
		proj = append(proj, item{id, e})
		d.stepCols = append(d.stepCols, id)
	}
	d.step = &projectNode{in: step.in, items: proj}
	return initial, nil
}

// bindCTERef binds a reference to a WITH query.
func (b *binder) bindCTERef(d *cteDef, alias string) (rel, []scopeCol, error) {
	d.refs++
	n := &cteScanNode{def: d}
	for _, r := range b.recursive {
		if r == d {
			n.working = true
		}
	}
	var cols []scopeCol
	for i, name := range d.outNames {
		id := b.newCol(name, d.outTypes[i])
		n.outCols = append(n.outCols, id)
		cols = append(cols, scopeCol{name: name, table: alias, id: id, typ: d.outTypes[i]})
	}
	return n, cols, nil
}

// checkIndexHint refuses t@i when i is not there.
func checkIndexHint(desc *catalog.Table, hint *tree.IndexFlags) error {
	if hintedIndex(desc, hint) == nil {
		return pgerr.Newf(pgerr.UndefinedObject, "index %q not found", strings.TrimSpace(string(hint.Index)))
	}
	return nil
}
