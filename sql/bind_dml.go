package sql

import (
	"strconv"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"slices"
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

type mutationOp int

const (
	opInsert mutationOp = iota
	opUpdate
	opDelete
)

func (o mutationOp) String() string { return [...]string{"insert", "update", "delete"}[o] }

// mutationNode writes the rows of its input to a table and yields the rows as
// written (as deleted, for DELETE).
//
// Rows are laid out by the ordinals of desc.AllColumns(); 0 in a list of ids
// means NULL.
type mutationNode struct {
	op   mutationOp
	desc *catalog.Table
	in   rel

	// oldRow is the present row (update, delete), newRow the one to write
	// (insert, update).
	oldRow, newRow []colID
	// changed are the ordinals that an update sets.
	changed map[int]bool
	checks  []checkItem
	// outRow are the columns it yields; pass are columns of the input that
	// RETURNING needs too.
	outRow []colID
	pass   []colID
	// returning: rows are wanted.
	returning bool
	// top: it is the statement itself, not part of a WITH.
	top      bool
	conflict *conflictPlan
	// bulk: COPY and INSERT … SELECT, whose rows may be ingested.
	bulk bool
	// all: DELETE of all rows of a table that nothing depends on.
	all bool
}

// checkItem is a CHECK constraint over the columns of newRow.
type checkItem struct {
	name string
	expr tree.TypedExpr
}

// conflictPlan is ON CONFLICT.
type conflictPlan struct {
	// arbiters are the indexes whose conflicts are handled; others are errors.
	arbiters []*catalog.Index
	nothing  bool
	// existing are the columns of the row in the way. updRow is the row it
	// becomes, made by items over existing and newRow, if where is true.
	existing []colID
	items    []item
	computed []item
	updRow   []colID
	where    tree.TypedExpr
	changed  map[int]bool
	checks   []checkItem
}

func (n *mutationNode) cols() colSet {
	s := makeColSet(n.outRow...)
	s.union(makeColSet(n.pass...))
	return s
}

func (n *mutationNode) mapExprs(fn func(tree.TypedExpr) tree.TypedExpr) {
	for i := range n.checks {
		n.checks[i].expr = fn(n.checks[i].expr)
	}
	if c := n.conflict; c != nil {
		for i := range c.items {
			c.items[i].expr = fn(c.items[i].expr)
		}
		for i := range c.computed {
			c.computed[i].expr = fn(c.computed[i].expr)
		}
		for i := range c.checks {
			c.checks[i].expr = fn(c.checks[i].expr)
		}
		if c.where != nil {
			c.where = fn(c.where)
		}
	}
}

func (n *mutationNode) directCols(s *colSet) {
	for _, l := range [][]colID{n.oldRow, n.newRow, n.pass} {
		for _, id := range l {
			if id != 0 {
				s.add(id)
			}
		}
	}
}

// internalCols are made inside of the node, by ON CONFLICT.
func (n *mutationNode) internalCols() colSet {
	var s colSet
	if c := n.conflict; c != nil {
		s.union(makeColSet(c.existing...))
		s.union(makeColSet(c.updRow...))
	}
	return s
}

// target finds the table of INSERT, UPDATE or DELETE.
func (b *binder) target(te tree.TableExpr, what string) (*catalog.TableRef, string, *tree.IndexFlags, error) {
	var alias string
	var hint *tree.IndexFlags
	if a, ok := te.(*tree.AliasedTableExpr); ok {
		alias, hint, te = string(a.As.Alias), a.IndexFlags, a.Expr
	}
	tn, ok := te.(*tree.TableName)
	if !ok {
		return nil, "", nil, pgerr.Newf(pgerr.WrongObjectType, "cannot %s this kind of table", what)
	}
	ref, err := b.p.lookupRelation(b.ctx, tn)
	if err != nil {
		return nil, "", nil, b.p.locateName(err, string(tn.TableName))
	}
	if alias == "" {
		alias = string(tn.TableName)
	}
	switch {
	case ref.Table == nil:
		return nil, "", nil, pgerr.Newf(pgerr.InsufficientPrivilege, "permission denied: %q is a system catalog", ref.Name)
	case ref.Table.IsView():
		return nil, "", nil, pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "cannot %s view %q", what, ref.Name).
			WithHint("Views are not updatable; write to the tables below it.")
	case ref.Table.IsSequence():
		return nil, "", nil, pgerr.Newf(pgerr.WrongObjectType, "cannot change sequence %q", ref.Name)
	}
	b.deps = append(b.deps, planDep{ref.Table.ID(), ref.Table.Version()})
	return ref, alias, hint, nil
}

// rowScope makes the columns of a written row visible under the table's name.
func rowScope(parent *scope, ref *catalog.TableRef, alias string, ids []colID) *scope {
	s := &scope{parent: parent}
	db := ""
	if ref.Database != nil {
		db = ref.Database.Name()
	}
	for i, c := range ref.Table.AllColumns() {
		if c.Public() && !c.Inaccessible && ids[i] != 0 {
			s.cols = append(s.cols, scopeCol{name: c.Name, table: alias, schema: ref.Schema.Name, db: db, id: ids[i], typ: c.Type, hidden: c.Hidden, rel: ref.Table.ID()})
		}
	}
	return s
}

// ownInsert and ownDelete find the statements that add to those of the grammar.
func ownInsert(stmt tree.Statement) *parser.InsertOverriding {
	o, _ := stmt.(*parser.InsertOverriding)
	return o
}

func ownDelete(stmt tree.Statement) *parser.DeleteUsing {
	o, _ := stmt.(*parser.DeleteUsing)
	return o
}

func (b *binder) bindInsertPlus(t *parser.InsertOverriding, s *scope) (*query, error) {
	o := overrideUser
	if t.System {
		o = overrideSystem
	}
	return b.insert(t.Insert, s, o)
}

func (b *binder) bindInsert(t *tree.Insert, s *scope) (*query, error) {
	return b.insert(t, s, overrideNone)
}

type overriding int

const (
	overrideNone overriding = iota
	overrideSystem
	overrideUser
)

// withScope binds a statement's WITH.
func (b *binder) withScope(w *tree.With, s *scope) (*scope, []*cteDef, error) {
	if w == nil {
		return s, nil, nil
	}
	s = s.child()
	defs, err := b.bindWith(w, s)
	return s, defs, err
}

func (b *binder) insert(t *tree.Insert, s *scope, over overriding) (*query, error) {
	if err := b.p.checkWritable("INSERT"); err != nil {
		return nil, err
	}
	s, defs, err := b.withScope(t.With, s)
	if err != nil {
		return nil, err
	}
	ref, alias, _, err := b.target(t.Table, "insert into")
	if err != nil {
		return nil, err
	}
	desc := ref.Table
	privs := []string{"INSERT"}
	if t.OnConflict != nil && !t.OnConflict.DoNothing {
		privs = append(privs, "UPDATE")
	}
	if err := b.p.checkTablePrivileges(b.ctx, desc, privs...); err != nil {
		return nil, err
	}

	// The columns that values are given for.
	var targets []*catalog.Column
	if len(t.Columns) > 0 {
		seen := map[uint32]bool{}
		for _, name := range t.Columns {
			c := desc.ColumnByName(string(name))
			if c == nil {
				return nil, b.p.locateName(pgerr.Newf(pgerr.UndefinedColumn, "column %q of relation %q does not exist", string(name), desc.Name()), string(name))
			}
			if seen[c.ID] {
				return nil, pgerr.Newf(pgerr.DuplicateColumn, "column %q specified more than once", string(name))
			}
			seen[c.ID] = true
			targets = append(targets, c)
		}
	} else {
		targets = append(targets, desc.VisibleColumns()...)
	}

	m := &mutationNode{op: opInsert, desc: desc}
	given := map[uint32]colID{}
	if t.Rows == nil || t.Rows.Select == nil {
		m.in = oneRow() // DEFAULT VALUES
	} else if err := b.insertSource(m, t.Rows, s, targets, given, over, len(t.Columns) > 0); err != nil {
		return nil, err
	}
	if err := b.completeRow(m, given); err != nil {
		return nil, err
	}
	if m.checks, err = b.bindChecks(desc, m.newRow, nil); err != nil {
		return nil, err
	}
	m.outRow = make([]colID, len(m.newRow))
	for i, c := range desc.AllColumns() {
		m.outRow[i] = b.newCol(c.Name, c.Type)
	}
	if t.OnConflict != nil {
		if err := b.bindConflict(m, t.OnConflict, s, ref, alias, targets); err != nil {
			return nil, err
		}
	}
	m.bulk = t.OnConflict == nil && t.Rows != nil && t.Rows.Select != nil && !isValuesClause(t.Rows.Select)
	q, err := b.returning(m, t.Returning, rowScope(s, ref, alias, m.outRow))
	if err != nil {
		return nil, err
	}
	return b.withEffects(q, defs), nil
}

func isValuesClause(s tree.SelectStatement) bool {
	_, ok := s.(*tree.ValuesClause)
	return ok
}

// insertSource binds the VALUES or query of an INSERT.
func (b *binder) insertSource(m *mutationNode, rows *tree.Select, s *scope, targets []*catalog.Column, given map[uint32]colID, over overriding, named bool) error {
	v, isValues := rows.Select.(*tree.ValuesClause)
	if isValues && rows.With == nil && rows.OrderBy == nil && rows.Limit == nil {
		return b.insertValues(m, v, s, targets, given, over, named)
	}
	q, err := b.bindFullSelect(rows, s)
	if err != nil {
		return err
	}
	m.in = q.in
	if err := checkTargetCount(len(q.cols), len(targets), named); err != nil {
		return err
	}
	var items []item
	for i, oc := range q.cols {
		c := targets[i]
		if err := checkGenerated(c, false, over); err != nil {
			return err
		}
		if over == overrideUser && c.Identity != catalogpb.IdentityType_NOT_IDENTITY {
			continue
		}
		var e tree.TypedExpr = &colRef{id: oc.id, typ: oc.typ, name: oc.name}
		if oc.literal {
			e, err = b.castLiteral(e, c.Type, true)
		} else {
			e, err = b.assign(e, c)
		}
		if err != nil {
			return err
		}
		if r, ok := e.(*colRef); ok {
			given[c.ID] = r.id
			continue
		}
		id := b.newCol(c.Name, c.Type)
		items = append(items, item{id, e})
		given[c.ID] = id
	}
	if items != nil {
		m.in = &projectNode{in: m.in, items: items}
	}
	return nil
}

func checkTargetCount(have, want int, named bool) error {
	if have > want {
		return pgerr.New(pgerr.SyntaxError, "INSERT has more expressions than target columns")
	}
	if have < want && named {
		return pgerr.New(pgerr.SyntaxError, "INSERT has more target columns than expressions")
	}
	return nil
}

// checkGenerated refuses values for columns that make their own.
func checkGenerated(c *catalog.Column, isDefault bool, over overriding) error {
	if isDefault {
		return nil
	}
	if c.IsComputed() {
		return pgerr.Newf("428C9", "cannot insert a non-DEFAULT value into column %q", c.Name).
			WithDetail("Column %q is a generated column.", c.Name)
	}
	if c.Identity == catalogpb.IdentityType_GENERATED_ALWAYS && over == overrideNone {
		return pgerr.Newf("428C9", "cannot insert a non-DEFAULT value into column %q", c.Name).
			WithDetail("Column %q is an identity column defined as GENERATED ALWAYS.", c.Name).
			WithHint("Use OVERRIDING SYSTEM VALUE to override.")
	}
	return nil
}

// insertValues binds the VALUES of an INSERT: each value takes the type of its
// column.
func (b *binder) insertValues(m *mutationNode, v *tree.ValuesClause, s *scope, targets []*catalog.Column, given map[uint32]colID, over overriding, named bool) error {
	n := &valuesNode{}
	width := len(v.Rows[0])
	for _, row := range v.Rows {
		if len(row) != width {
			return pgerr.New(pgerr.SyntaxError, "VALUES lists must all be the same length")
		}
	}
	if err := checkTargetCount(width, len(targets), named); err != nil {
		return err
	}
	// Columns that are DEFAULT in every row need no value.
	skip := make([]bool, width)
	for j := range width {
		c := targets[j]
		skip[j] = over == overrideUser && c.Identity != catalogpb.IdentityType_NOT_IDENTITY
		if skip[j] {
			continue
		}
		all := true
		for _, row := range v.Rows {
			_, isDef := row[j].(tree.DefaultVal)
			all = all && isDef
			if err := checkGenerated(c, isDef, over); err != nil {
				return err
			}
		}
		if all || c.IsComputed() {
			skip[j] = true
			continue
		}
		id := b.newCol(c.Name, c.Type)
		given[c.ID] = id
		n.outCols = append(n.outCols, id)
	}
	for _, row := range v.Rows {
		out := make([]tree.TypedExpr, 0, len(n.outCols))
		for j, e := range row {
			if skip[j] {
				continue
			}
			c := targets[j]
			var te tree.TypedExpr
			var err error
			if _, isDef := e.(tree.DefaultVal); isDef {
				te, err = b.defaultExpr(c)
			} else {
				te, err = b.assignedExpr(e, s, c, "VALUES")
			}
			if err != nil {
				return err
			}
			out = append(out, te)
		}
		n.rows = append(n.rows, out)
	}
	m.in = n
	return nil
}

// assignedExpr binds an expression as the new value of a column.
func (b *binder) assignedExpr(e tree.Expr, s *scope, c *catalog.Column, clause string) (tree.TypedExpr, error) {
	te, err := b.bindExpr(e, s, exprMode{clause: clause, desired: c.Type})
	if err != nil {
		return nil, err
	}
	if isLiteral(e) {
		if v, ok := builtins.ConstValue(te); ok {
			if d, ok := v.(*tree.DString); ok && c.Type.Family() != types.StringFamily {
				return b.castLiteral(d, c.Type, true)
			}
		}
	}
	return b.assign(te, c)
}

// assign casts a value to a column's type as assignments may.
func (b *binder) assign(te tree.TypedExpr, c *catalog.Column) (tree.TypedExpr, error) {
	if te == tree.DNull {
		return te, nil
	}
	if e, ok, err := b.enumAssign(te, c.Type); ok || err != nil {
		return e, err
	}
	out, err := builtins.AssignCast(te, c.Type)
	if err != nil {
		if pe := pgerr.Flatten(err); pe.Code == pgerr.DatatypeMismatch || pe.Code == "42846" {
			return nil, b.p.locateName(pgerr.Newf(pgerr.DatatypeMismatch, "column %q is of type %s but expression is of type %s",
				c.Name, b.p.typeText(b.ctx, c.Type), b.p.typeText(b.ctx, te.ResolvedType())).
				WithHint("You will need to rewrite or cast the expression."), c.Name)
		}
		return nil, b.p.locate(err)
	}
	return out, nil
}

// defaultExpr is the value of a column for which none is given.
func (b *binder) defaultExpr(c *catalog.Column) (tree.TypedExpr, error) {
	if !c.HasDefault() || c.IsComputed() {
		return tree.DNull, nil
	}
	e, err := b.storedExpr(c.DefaultExpr)
	if err != nil {
		return nil, err
	}
	if e, err = sequencesByID(e, c.PB.GetUsesSequenceIds()); err != nil {
		return nil, err
	}
	return b.assignedExpr(e, &scope{}, c, "DEFAULT")
}

// sequencesByID replaces the names of sequences in a stored expression by their
// ids, which come in the order in which the names appear first. The names are
// those of the table's database, which need not be the session's.
func sequencesByID(e tree.Expr, ids []uint32) (tree.Expr, error) {
	if len(ids) == 0 {
		return e, nil
	}
	byName := map[string]uint32{}
	return tree.SimpleVisit(e, func(x tree.Expr) (bool, tree.Expr, error) {
		f, name, ok := sequenceCall(x)
		if !ok {
			return true, x, nil
		}
		id, ok := byName[name]
		if !ok {
			if len(byName) == len(ids) {
				return true, x, nil
			}
			id = ids[len(byName)]
			byName[name] = id
		}
		c := *f
		c.Exprs = append(tree.Exprs{tree.NewStrVal(strconv.FormatUint(uint64(id), 10))}, f.Exprs[1:]...)
		return false, &c, nil
	})
}

// storedExpr parses an expression of a descriptor.
func (b *binder) storedExpr(text string) (tree.Expr, error) {
	e, err := parser.ParseExpr(text)
	if err != nil {
		return nil, pgerr.Wrapf(err, pgerr.DataCorrupted, "stored expression %q", text)
	}
	return e, nil
}

// completeRow gives every writable column its value: given, default, or computed
// from the others.
func (b *binder) completeRow(m *mutationNode, given map[uint32]colID) error {
	cols := m.desc.AllColumns()
	m.newRow = make([]colID, len(cols))
	writable := map[uint32]bool{}
	for _, c := range m.desc.WritableColumns() {
		writable[c.ID] = true
	}
	var items []item
	for i, c := range cols {
		if id, ok := given[c.ID]; ok {
			m.newRow[i] = id
			continue
		}
		if !writable[c.ID] || c.IsComputed() {
			continue
		}
		e, err := b.defaultExpr(c)
		if err != nil {
			return err
		}
		id := b.newCol(c.Name, c.Type)
		m.newRow[i] = id
		items = append(items, item{id, e})
	}
	if items != nil {
		m.in = &projectNode{in: m.in, items: items}
	}
	computed, err := b.computedItems(m.desc, m.newRow)
	if err != nil {
		return err
	}
	if computed != nil {
		m.in = &projectNode{in: m.in, items: computed}
	}
	return nil
}

// computedItems binds generated columns over a row, whose ids it completes.
func (b *binder) computedItems(desc *catalog.Table, row []colID) ([]item, error) {
	var out []item
	cols := desc.AllColumns()
	for i, c := range cols {
		if !c.IsComputed() || c.Virtual {
			continue // What is not stored is the index writer's business.
		}
		e, err := b.storedExpr(c.ComputeExpr)
		if err != nil {
			return nil, err
		}
		te, err := b.assignedExpr(e, tableRowScope(desc, row), c, "generated column")
		if err != nil {
			return nil, err
		}
		id := b.newCol(c.Name, c.Type)
		out = append(out, item{id, te})
		row[i] = id
	}
	return out, nil
}

// tableRowScope is the scope of expressions stored with a table.
func tableRowScope(desc *catalog.Table, row []colID) *scope {
	s := &scope{}
	for i, c := range desc.AllColumns() {
		if row[i] != 0 && !(c.IsComputed() && !c.Public()) {
			s.cols = append(s.cols, scopeCol{name: c.Name, table: desc.Name(), id: row[i], typ: c.Type, hidden: c.Hidden})
		}
	}
	return s
}

// bindChecks binds CHECK constraints over a row. changed, if given, leaves out
// those that no changed column takes part in.
func (b *binder) bindChecks(desc *catalog.Table, row []colID, changed map[int]bool) ([]checkItem, error) {
	var out []checkItem
	for _, ck := range desc.Checks() {
		if ck.Validity == catalogpb.ConstraintValidity_DROPPING {
			continue
		}
		if changed != nil && len(ck.ColumnIds) > 0 {
			hit := false
			for _, id := range ck.ColumnIds {
				if c := desc.ColumnByID(id); c != nil && changed[c.Ordinal] {
					hit = true
				}
			}
			if !hit {
				continue
			}
		}
		e, err := b.storedExpr(ck.Expr)
		if err != nil {
			return nil, err
		}
		te, err := b.bindBool(e, tableRowScope(desc, row), exprMode{clause: "CHECK"})
		if err != nil {
			return nil, err
		}
		out = append(out, checkItem{name: ck.Name, expr: te})
	}
	// The first by name reports.
	slices.SortStableFunc(out, func(x, y checkItem) int { return strings.Compare(x.name, y.name) })
	return out, nil
}

// returning binds RETURNING over the rows that m yields.
func (b *binder) returning(m *mutationNode, rc tree.ReturningClause, rs *scope) (*query, error) {
	exprs, ok := rc.(*tree.ReturningExprs)
	if !ok {
		return &query{in: m}, nil
	}
	m.returning = true
	if err := b.p.checkTablePrivileges(b.ctx, m.desc, "SELECT"); err != nil {
		return nil, err
	}
	sel := &tree.SelectClause{Exprs: tree.SelectExprs(*exprs)}
	items, err := b.expandStars(sel.Exprs, rs)
	if err != nil {
		return nil, err
	}
	q := &query{}
	var proj []item
	for i := range items {
		it := &items[i]
		if it.ast != nil {
			if it.expr, err = b.bindExpr(it.ast, rs, exprMode{clause: "RETURNING"}); err != nil {
				return nil, err
			}
		}
		typ := builtins.TypeOf(it.expr)
		id := b.newCol(it.name, typ)
		proj = append(proj, item{id, it.expr})
		if c, ok := it.expr.(*colRef); ok {
			b.md.cols[id].origin = c.id
		}
		q.cols = append(q.cols, outCol{name: it.name, id: id, typ: typ})
	}
	// Columns of other tables (UPDATE … FROM, DELETE … USING) pass through.
	own := m.cols()
	var pass colSet
	if m.in != nil {
		below := m.in.cols()
		for _, it := range proj {
			for _, id := range colsOf(it.expr).ids() {
				if !own.has(id) && below.has(id) {
					pass.add(id)
				}
			}
		}
	}
	m.pass = pass.ids()
	q.in = &projectNode{in: m, items: proj}
	return q, nil
}
