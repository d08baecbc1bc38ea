package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// fkEnforcer makes one statement's changes to one table obey foreign keys. The
// statement tells it of each row it inserts, updates or deletes, and calls finish
// after its writes: only then is it known whether a missing parent came with the
// same statement, and what a deleted parent leaves behind.
//
// Rows are datums by ordinal of table.AllColumns, or a prefix of that.
type fkEnforcer struct {
	p     *planner
	table *catalog.Table
	out   []*childCheck
	in    []*parentAction
}

// maxPendingKeys bounds what is remembered between look-ups. Keys whose parent
// is found are forgotten; what remains then are violations, or parents that are
// yet to come in this statement.
const maxPendingKeys = 4096

// fkKey is the values of a foreign key in one row.
type fkKey tree.Datums

// childCheck looks for the parents of new keys.
type childCheck struct {
	fk       *catalogpb.ForeignKeyConstraint
	ordinals []int
	parent   *catalog.Table
	index    *catalog.Index
	// order maps the index's key columns to positions in the foreign key.
	order   []int
	pending map[string]fkKey
	// missing are those that one look-up did not find.
	missing map[string]fkKey
	checked map[string]bool // found before; bounded
}

// parentAction does for children what a foreign key says when parents go.
type parentAction struct {
	fk       *catalogpb.ForeignKeyConstraint
	child    *catalog.Table
	ordinals []int
	deleted  []fkKey
	updated  [][2]fkKey
	seen     map[string]bool
}

// newFKEnforcer returns nil when table has no foreign keys on either side.
func (p *planner) newFKEnforcer(ctx context.Context, table *catalog.Table) (*fkEnforcer, error) {
	if len(table.OutboundFKs()) == 0 && len(table.InboundFKs()) == 0 {
		return nil, nil
	}
	e := &fkEnforcer{p: p, table: table}
	for _, fk := range table.OutboundFKs() {
		if fk.Validity == catalogpb.ConstraintValidity_DROPPING {
			continue
		}
		c := &childCheck{fk: fk, ordinals: ordinals(table, fk.OriginColumnIds), pending: map[string]fkKey{}, missing: map[string]fkKey{}, checked: map[string]bool{}}
		var err error
		if c.parent, err = p.tableByID(ctx, fk.ReferencedTableId); err != nil {
			return nil, err
		}
		if c.index, c.order = referencedIndex(c.parent, fk.ReferencedColumnIds); c.index == nil {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "foreign key \"%s\" refers to columns of \"%s\" that are not unique", fk.Name, c.parent.Name())
		}
		e.out = append(e.out, c)
	}
	for _, fk := range table.InboundFKs() {
		a := &parentAction{fk: fk, ordinals: ordinals(table, fk.ReferencedColumnIds), seen: map[string]bool{}}
		var err error
		if a.child, err = p.tableByID(ctx, fk.OriginTableId); err != nil {
			return nil, err
		}
		e.in = append(e.in, a)
	}
	return e, nil
}

// referencedIndex finds the unique index over exactly the given columns, in any
// order.
func referencedIndex(t *catalog.Table, cols []uint32) (*catalog.Index, []int) {
next:
	for _, x := range t.PublicIndexes() {
		if !x.Unique || x.Predicate != "" || len(x.KeyColumns) != len(cols) {
			continue
		}
		order := make([]int, len(cols))
		for i, kc := range x.KeyColumns {
			order[i] = -1
			for j, id := range cols {
				if id == kc.ID {
					order[i] = j
				}
			}
			if order[i] < 0 {
				continue next
			}
		}
		return x, order
	}
	return nil, nil
}

func ordinals(t *catalog.Table, ids []uint32) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		if c := t.ColumnByID(id); c != nil {
			out[i] = c.Ordinal
		}
	}
	return out
}

func pick(row tree.Datums, ords []int) (fkKey, string, int) {
	key := make(fkKey, len(ords))
	nulls := 0
	var b strings.Builder
	for i, o := range ords {
		key[i] = tree.DNull
		if o < len(row) && row[o] != nil {
			key[i] = row[o]
		}
		if key[i] == tree.DNull {
			nulls++
		}
		s := key[i].String()
		fmt.Fprintf(&b, "%d:%s", len(s), s)
	}
	return key, b.String(), nulls
}

// insert notes a new row.
func (e *fkEnforcer) insert(ctx context.Context, row tree.Datums) error {
	if e == nil {
		return nil
	}
	for _, c := range e.out {
		if err := e.note(ctx, c, row); err != nil {
			return err
		}
	}
	return nil
}

func (e *fkEnforcer) note(ctx context.Context, c *childCheck, row tree.Datums) error {
	key, id, nulls := pick(row, c.ordinals)
	if nulls > 0 {
		if c.fk.Match == catalogpb.Match_FULL && nulls < len(key) {
			return pgerr.Newf(pgerr.ForeignKeyViolation, "insert or update on table \"%s\" violates foreign key constraint \"%s\"", e.table.Name(), c.fk.Name).
				WithDetail("MATCH FULL does not allow mixing of null and nonnull key values.").
				WithConstraint(e.p.schemaNameOf(ctx, e.table), e.table.Name(), c.fk.Name)
		}
		return nil
	}
	if c.checked[id] || c.pending[id] != nil || c.missing[id] != nil {
		return nil
	}
	c.pending[id] = key
	if len(c.pending) >= maxPendingKeys {
		if err := e.lookup(ctx, c); err != nil {
			return err
		}
		if len(c.missing) >= maxPendingKeys && c.parent.ID() != e.table.ID() {
			return e.violation(ctx, c)
		}
	}
	return nil
}

// update notes a changed row. old may be nil if no table refers to this one.
func (e *fkEnforcer) update(ctx context.Context, old, new tree.Datums) error {
	if e == nil {
		return nil
	}
	for _, c := range e.out {
		if old != nil && sameKey(&e.p.evalCtx, old, new, c.ordinals) {
			continue
		}
		if err := e.note(ctx, c, new); err != nil {
			return err
		}
	}
	for _, a := range e.in {
		if old == nil || sameKey(&e.p.evalCtx, old, new, a.ordinals) {
			continue
		}
		ok, id, nulls := pick(old, a.ordinals)
		if nulls > 0 || a.seen[id] {
			continue
		}
		a.seen[id] = true
		nk, _, _ := pick(new, a.ordinals)
		a.updated = append(a.updated, [2]fkKey{ok, nk})
	}
	return nil
}

func sameKey(ec *tree.EvalContext, a, b tree.Datums, ords []int) bool {
	for _, o := range ords {
		if o >= len(a) || o >= len(b) || a[o].Compare(ec, b[o]) != 0 {
			return false
		}
	}
	return true
}

// delete notes a deleted row.
func (e *fkEnforcer) delete(_ context.Context, old tree.Datums) error {
	if e == nil {
		return nil
	}
	for _, a := range e.in {
		key, id, nulls := pick(old, a.ordinals)
		if nulls > 0 || a.seen[id] {
			continue
		}
		a.seen[id] = true
		a.deleted = append(a.deleted, key)
	}
	return nil
}

// finish checks what is left, after the statement's writes have been sent.
func (e *fkEnforcer) finish(ctx context.Context) error {
	if e == nil {
		return nil
	}
	e.p.txn.Step(ctx)
	for _, a := range e.in {
		if err := e.act(ctx, a); err != nil {
			return err
		}
	}
	for _, c := range e.out {
		for id, k := range c.missing {
			c.pending[id] = k
		}
		clear(c.missing)
		if err := e.lookup(ctx, c); err != nil {
			return err
		}
		if len(c.missing) > 0 {
			return e.violation(ctx, c)
		}
	}
	return nil
}

// lookup reads the parents of all pending keys in one batch.
func (e *fkEnforcer) lookup(ctx context.Context, c *childCheck) error {
	if len(c.pending) == 0 {
		return nil
	}
	ids := make([]string, 0, len(c.pending))
	ks := make([]keys.Key, 0, len(c.pending))
	for id, key := range c.pending {
		k, err := e.parentKey(c, key)
		if err != nil {
			return err
		}
		ids, ks = append(ids, id), append(ks, k)
	}
	found, err := e.p.existing(ctx, ks)
	if err != nil {
		return err
	}
	if len(c.checked) > maxPendingKeys {
		clear(c.checked)
	}
	for i, id := range ids {
		if found[i] {
			c.checked[id] = true
		} else {
			c.missing[id] = c.pending[id]
		}
	}
	clear(c.pending)
	return nil
}

// parentKey is the key of the parent's index entry for a foreign key's values.
func (e *fkEnforcer) parentKey(c *childCheck, key fkKey) (keys.Key, error) {
	vals := make(tree.Datums, len(c.order))
	for i, j := range c.order {
		d, err := convertDatum(&e.p.evalCtx, key[j], c.index.KeyColumns[i].Type)
		if err != nil {
			return nil, err
		}
		vals[i] = d
	}
	return uniqueKey(c.index, vals)
}

// uniqueKey is the key of the entry of a unique index with the given non-NULL
// values: it holds no other columns, and family 0 always exists.
func uniqueKey(x *catalog.Index, vals tree.Datums) (keys.Key, error) {
	k, err := rowenc.IndexKey(x, vals)
	if err != nil {
		return nil, err
	}
	return rowenc.FamilyKey(k, 0), nil
}

func (e *fkEnforcer) violation(ctx context.Context, c *childCheck) error {
	for _, key := range c.missing {
		return pgerr.Newf(pgerr.ForeignKeyViolation, "insert or update on table \"%s\" violates foreign key constraint \"%s\"", e.table.Name(), c.fk.Name).
			WithDetail("Key (%s)=(%s) is not present in table \"%s\".", joinColumns(e.table, c.fk.OriginColumnIds), e.p.keyText(e.table, c.fk.OriginColumnIds, tree.Datums(key)), c.parent.Name()).
			WithConstraint(e.p.schemaNameOf(ctx, e.table), e.table.Name(), c.fk.Name)
	}
	return nil
}

func joinColumns(t *catalog.Table, ids []uint32) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		if c := t.ColumnByID(id); c != nil {
			names[i] = c.Name
		}
	}
	return strings.Join(names, ", ")
}

// existing reports which keys have a value, in the transaction.
func (p *planner) existing(ctx context.Context, ks []keys.Key) ([]bool, error) {
	out := make([]bool, len(ks))
	const perBatch = 512
	for start := 0; start < len(ks); start += perBatch {
		end := min(start+perBatch, len(ks))
		b := p.txn.NewBatch()
		for _, k := range ks[start:end] {
			b.Get(k)
		}
		if err := p.txn.Run(ctx, b); err != nil {
			return nil, err
		}
		for i := start; i < end; i++ {
			r := b.Results[i-start]
			out[i] = len(r.KVs) > 0 && r.KVs[0].Value != nil
		}
	}
	return out, nil
}

// act does what a foreign key that points at this table wants.
func (e *fkEnforcer) act(ctx context.Context, a *parentAction) error {
	if len(a.deleted) > 0 {
		if err := e.actOn(ctx, a, a.fk.OnDelete, a.deleted, nil); err != nil {
			return err
		}
	}
	if len(a.updated) == 0 {
		return nil
	}
	var olds, news []fkKey
	for _, u := range a.updated {
		olds, news = append(olds, u[0]), append(news, u[1])
	}
	return e.actOn(ctx, a, a.fk.OnUpdate, olds, news)
}

// maxActionKeys is how many keys one nested statement handles.
const maxActionKeys = 256

func (e *fkEnforcer) actOn(ctx context.Context, a *parentAction, action catalogpb.ReferenceAction, olds, news []fkKey) error {
	switch action {
	case catalogpb.ReferenceAction_NO_ACTION, catalogpb.ReferenceAction_RESTRICT:
		if action == catalogpb.ReferenceAction_NO_ACTION {
			var err error
			if olds, err = e.gone(ctx, a, olds); err != nil {
				return err
			}
		}
		return e.refuse(ctx, a, olds)
	case catalogpb.ReferenceAction_CASCADE:
		if news == nil {
			return e.forChildren(ctx, a, olds, "DELETE FROM %s")
		}
		for i := range olds {
			if err := e.cascadeUpdate(ctx, a, olds[i], news[i]); err != nil {
				return err
			}
		}
		return nil
	}
	value := "NULL"
	if action == catalogpb.ReferenceAction_SET_DEFAULT {
		value = "DEFAULT"
	}
	var sets []string
	for _, id := range a.fk.OriginColumnIds {
		sets = append(sets, quoteIdent(a.child.ColumnByID(id).Name)+" = "+value)
	}
	if err := e.forChildren(ctx, a, olds, "UPDATE %s SET "+strings.Join(sets, ", ")); err != nil || action != catalogpb.ReferenceAction_SET_DEFAULT {
		return err
	}
	// A child that had the default already did not change, so nothing has looked
	// whether its parent is still there.
	olds, err := e.gone(ctx, a, olds)
	if err != nil {
		return err
	}
	return e.refuse(ctx, a, olds)
}

// gone returns the keys that no row of the parent has any more.
func (e *fkEnforcer) gone(ctx context.Context, a *parentAction, olds []fkKey) ([]fkKey, error) {
	index, order := referencedIndex(e.table, a.fk.ReferencedColumnIds)
	if index == nil {
		return olds, nil
	}
	ks := make([]keys.Key, len(olds))
	for i, k := range olds {
		vals := make(tree.Datums, len(order))
		for j, o := range order {
			vals[j] = k[o]
		}
		var err error
		if ks[i], err = uniqueKey(index, vals); err != nil {
			return nil, err
		}
	}
	found, err := e.p.existing(ctx, ks)
	if err != nil {
		return nil, err
	}
	var out []fkKey
	for i, k := range olds {
		if !found[i] {
			out = append(out, k)
		}
	}
	return out, nil
}

// refuse fails if a child still refers to one of the keys.
func (e *fkEnforcer) refuse(ctx context.Context, a *parentAction, olds []fkKey) error {
	name, err := e.p.qualifiedName(ctx, a.child)
	if err != nil {
		return err
	}
	for len(olds) > 0 {
		n := min(len(olds), maxActionKeys)
		where, args := e.whereKeys(a, olds[:n])
		var cols []string
		for _, id := range a.fk.OriginColumnIds {
			cols = append(cols, quoteIdent(a.child.ColumnByID(id).Name))
		}
		rows, _, err := e.p.internalQuery(ctx, fmt.Sprintf("SELECT %s FROM %s WHERE %s LIMIT 1", strings.Join(cols, ", "), name, where), args...)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return pgerr.Newf(pgerr.ForeignKeyViolation, "update or delete on table \"%s\" violates foreign key constraint \"%s\" on table \"%s\"",
				e.table.Name(), a.fk.Name, a.child.Name()).
				WithDetail("Key (%s)=(%s) is still referenced from table \"%s\".", joinColumns(e.table, a.fk.ReferencedColumnIds), e.p.keyText(e.table, a.fk.ReferencedColumnIds, rows[0]), a.child.Name()).
				WithConstraint(e.p.schemaNameOf(ctx, a.child), a.child.Name(), a.fk.Name)
		}
		olds = olds[n:]
	}
	return nil
}

// whereKeys is the condition that finds the children of some keys.
func (e *fkEnforcer) whereKeys(a *parentAction, ks []fkKey) (string, tree.Datums) {
	var args tree.Datums
	place := func(d tree.Datum) string {
		args = append(args, d)
		return fmt.Sprintf("$%d", len(args))
	}
	var cols []string
	for _, id := range a.fk.OriginColumnIds {
		cols = append(cols, quoteIdent(a.child.ColumnByID(id).Name))
	}
	var alts []string
	for _, k := range ks {
		var vals []string
		for _, d := range k {
			vals = append(vals, place(d))
		}
		alts = append(alts, strings.Join(vals, ", "))
	}
	if len(cols) == 1 {
		if len(alts) == 1 {
			return cols[0] + " = " + alts[0], args
		}
		return cols[0] + " IN (" + strings.Join(alts, ", ") + ")", args
	}
	if len(alts) == 1 {
		var eqs []string
		for i, v := range strings.Split(alts[0], ", ") {
			eqs = append(eqs, cols[i]+" = "+v)
		}
		return strings.Join(eqs, " AND "), args
	}
	return "(" + strings.Join(cols, ", ") + ") IN ((" + strings.Join(alts, "), (") + "))", args
}

func (e *fkEnforcer) forChildren(ctx context.Context, a *parentAction, olds []fkKey, format string) error {
	name, err := e.p.qualifiedName(ctx, a.child)
	if err != nil {
		return err
	}
	for len(olds) > 0 {
		n := min(len(olds), maxActionKeys)
		where, args := e.whereKeys(a, olds[:n])
		if _, _, err := e.p.internalQuery(ctx, fmt.Sprintf(format, name)+" WHERE "+where, args...); err != nil {
			return err
		}
		olds = olds[n:]
	}
	return nil
}

func (e *fkEnforcer) cascadeUpdate(ctx context.Context, a *parentAction, old, new fkKey) error {
	name, err := e.p.qualifiedName(ctx, a.child)
	if err != nil {
		return err
	}
	where, args := e.whereKeys(a, []fkKey{old})
	var sets []string
	for i, id := range a.fk.OriginColumnIds {
		args = append(args, new[i])
		sets = append(sets, fmt.Sprintf("%s = $%d", quoteIdent(a.child.ColumnByID(id).Name), len(args)))
	}
	_, _, err = e.p.internalQuery(ctx, "UPDATE "+name+" SET "+strings.Join(sets, ", ")+" WHERE "+where, args...)
	return err
}
