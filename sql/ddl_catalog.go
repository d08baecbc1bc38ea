package sql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// What schema changes need of the catalog: finding objects, checking that they
// may be changed, writing them and the names and references that hang on them.

// relKind says which relations a statement is about.
type relKind int

const (
	kindAny relKind = iota
	kindTable
	kindView
	kindMatView
	kindSequence
	kindAlterable // what ALTER TABLE accepts
)

func (k relKind) word() string {
	return [...]string{"relation", "table", "view", "materialized view", "sequence", "table"}[k]
}

func (k relKind) accepts(t *catalog.Table) bool {
	switch k {
	case kindTable:
		return t.IsTable()
	case kindView:
		return t.IsView() && !t.IsMaterializedView()
	case kindMatView:
		return t.IsMaterializedView()
	case kindSequence:
		return t.IsSequence()
	}
	return true
}

// kindWord names what a relation is.
func kindWord(t *catalog.Table) string {
	switch {
	case t.IsSequence():
		return "sequence"
	case t.IsMaterializedView():
		return "materialized view"
	case t.IsView():
		return "view"
	}
	return "table"
}

// resolveRelation finds a relation of a kind. With ifExists a missing one is a
// notice and nil.
func (p *planner) resolveRelation(ctx context.Context, name any, kind relKind, ifExists bool) (*catalog.Table, error) {
	ref, err := p.resolver().FindTable(ctx, name, catalog.Flags{})
	if err != nil {
		return nil, err
	}
	if ref == nil {
		parts := catalog.NameParts(name)
		text := parts[len(parts)-1] // PostgreSQL's DROP does not say where it looked
		if kind == kindAlterable && !ifExists {
			text = strings.Join(parts, ".")
		}
		if ifExists {
			p.notice("%s \"%s\" does not exist, skipping", kind.missingWord(), text)
			return nil, nil
		}
		return nil, pgerr.Newf(pgerr.UndefinedTable, "%s \"%s\" does not exist", kind.missingWord(), text)
	}
	if ref.Table == nil {
		return nil, errSystemCatalog(ref.Name)
	}
	if !kind.accepts(ref.Table) {
		e := pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a %s", ref.Name, kind.word())
		switch {
		case ref.Table.IsSequence():
			e = e.WithHint("Use DROP SEQUENCE to remove a sequence.")
		case ref.Table.IsMaterializedView():
			e = e.WithHint("Use DROP MATERIALIZED VIEW to remove a materialized view.")
		case ref.Table.IsView():
			e = e.WithHint("Use DROP VIEW to remove a view.")
		default:
			e = e.WithHint("Use DROP TABLE to remove a table.")
		}
		return nil, e
	}
	return ref.Table, nil
}

// missingWord is how PostgreSQL speaks of one that is not there.
func (k relKind) missingWord() string {
	if k == kindAlterable {
		return "relation"
	}
	return k.word()
}

func errSystemCatalog(name string) error {
	return pgerr.Newf(pgerr.InsufficientPrivilege, "permission denied: \"%s\" is a system catalog", name)
}

// resolveTable finds a table, view or sequence.
func (p *planner) resolveTable(ctx context.Context, name any) (*catalog.Table, error) {
	return p.resolveRelation(ctx, name, kindAny, false)
}

// tableByID returns a table by id.
func (p *planner) tableByID(ctx context.Context, id catalog.ID) (*catalog.Table, error) {
	return p.cat.MustTableByID(ctx, id, catalog.Flags{})
}

// mutableTable returns the message of a relation for changing.
func (p *planner) mutableTable(ctx context.Context, id catalog.ID) (*catalogpb.TableDescriptor, error) {
	if err := p.lockTable(ctx, id); err != nil {
		return nil, err
	}
	pb, err := p.cat.MutableTable(ctx, id)
	if err != nil || p.newInTxn(id) || len(pb.GetPrimaryIndex().GetKeyColumnIds()) == 0 {
		return pb, err
	}
	last, err := catalog.ClaimedIndexID(ctx, p.srv.db, id)
	pb.NextIndexId = max(pb.NextIndexId, last+1)
	return pb, err
}

// claimIndexIDs makes sure that no other transaction gives the same ids to indexes
// of the table, even if this one does not commit: what goes into new indexes
// outside of the transaction may still be under way when nobody waits for it.
func (p *planner) claimIndexIDs(ctx context.Context, table catalog.ID, ids []uint32) error {
	if len(ids) == 0 || p.newInTxn(table) {
		return nil
	}
	return catalog.ClaimIndexID(ctx, p.srv.db, table, slices.Max(ids))
}

// lockTable keeps other transactions of all nodes from using a relation until
// this one ends, and waits until none does. Schema changes take it, as they take
// ACCESS EXCLUSIVE in PostgreSQL.
func (p *planner) lockTable(ctx context.Context, id catalog.ID) error {
	if p.newInTxn(id) || p.s.tx.locked[id] {
		return nil
	}
	if err := p.cat.LockExclusive(ctx, id, p.s.vars.lockTimeout); err != nil {
		return err
	}
	if p.s.tx.locked == nil {
		p.s.tx.locked = map[catalog.ID]bool{}
	}
	p.s.tx.locked[id] = true
	return nil
}

// writeTable stores a changed relation.
func (p *planner) writeTable(ctx context.Context, pb *catalogpb.TableDescriptor) error {
	p.schemaChanged()
	_, err := p.cat.Write(ctx, pb)
	return err
}

// writeNew stores a new relation and its name.
func (p *planner) writeNew(ctx context.Context, pb *catalogpb.TableDescriptor) error {
	p.schemaChanged()
	if p.s.tx.created == nil {
		p.s.tx.created = map[catalog.ID]bool{}
	}
	p.s.tx.created[pb.Id] = true
	if pb.Temporary {
		if err := p.srv.noteOwned(ctx, p.txn.Put, ownedTemporary, pb.Id, 0); err != nil {
			return err
		}
		p.afterCommit(func(context.Context) error {
			p.s.temporary = append(p.s.temporary, pb.Id)
			return nil
		})
	}
	_, err := p.cat.Create(ctx, pb)
	return err
}

// lockForChange locks a table and returns it as the store has it, past any cache.
func (p *planner) lockForChange(ctx context.Context, id catalog.ID) (*catalog.Table, error) {
	pb, err := p.mutableTable(ctx, id)
	if err != nil {
		return nil, err
	}
	return p.hydrated(ctx, pb)
}

// schemaChanged forgets what was read of the catalog for virtual tables.
func (p *planner) schemaChanged() { p.s.tx.schemaSeq++ }

func (p *planner) newDescID(ctx context.Context) (catalog.ID, error) {
	return catalog.AllocateID(ctx, p.srv.db)
}

// targetSchema finds where a new object goes and checks that the user may put it
// there.
func (p *planner) targetSchema(ctx context.Context, name any, temporary bool) (*catalog.Database, catalog.SchemaRef, error) {
	ref, _, err := p.resolver().Target(ctx, name)
	if err != nil {
		return nil, catalog.SchemaRef{}, err
	}
	if ref.Database.ID() == catalog.SystemDatabaseID {
		return nil, ref, pgerr.New(pgerr.InsufficientPrivilege, "user root does not have CREATE privilege on database system")
	}
	if ref.Desc != nil {
		if err := p.checkPrivilege(ctx, ref.Desc.Privileges(), catalog.Create, "schema", ref.Name); err != nil {
			return nil, ref, err
		}
	}
	if temporary {
		p.warn("01000", "temporary tables live in the current schema and end with the session")
	}
	return ref.Database, ref, nil
}

// checkNewRelation makes sure that a name is free. skip says that it is taken and
// IF NOT EXISTS was given.
func (p *planner) checkNewRelation(ctx context.Context, db *catalog.Database, schema catalog.SchemaRef, name string, ifNotExists bool) (skip bool, _ error) {
	if err := checkIdentifier(name); err != nil {
		return false, err
	}
	d, err := p.cat.ObjectByName(ctx, db.ID(), schema.ID, name)
	if err != nil || d == nil {
		return false, err
	}
	if t, ok := d.(*catalog.Type); ok {
		return false, pgerr.Newf(pgerr.DuplicateObject, "type \"%s\" already exists", t.Name())
	}
	if ifNotExists {
		p.notice("relation \"%s\" already exists, skipping", name)
		return true, nil
	}
	return false, pgerr.Newf(pgerr.DuplicateRelation, "relation \"%s\" already exists", name)
}

func checkIdentifier(name string) error {
	if name == "" {
		return pgerr.New(pgerr.SyntaxError, "zero-length delimited identifier")
	}
	if len(name) > maxIdentifierBytes {
		return pgerr.Newf("42622", "identifier \"%s\" is longer than %d bytes", name, maxIdentifierBytes)
	}
	return nil
}

// freeRelationName gives an object that belongs to a table its default name.
func (p *planner) freeRelationName(ctx context.Context, db *catalog.Database, schema catalog.SchemaRef, table, column, label string, taken func(string) bool) (string, error) {
	var firstErr error
	name := freeName(table, column, label, func(n string) bool {
		if taken(n) {
			return true
		}
		d, err := p.cat.ObjectByName(ctx, db.ID(), schema.ID, n)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		return d != nil
	})
	return name, firstErr
}

// parents returns the database and schema of a relation.
func (p *planner) parents(ctx context.Context, t *catalog.Table) (*catalog.Database, catalog.SchemaRef, error) {
	db, err := p.cat.DatabaseByID(ctx, t.ParentID())
	if err != nil {
		return nil, catalog.SchemaRef{}, err
	}
	if db == nil {
		return nil, catalog.SchemaRef{}, pgerr.Newf(pgerr.InvalidCatalogName, "the database of \"%s\" does not exist", t.Name())
	}
	ref, ok, err := p.cat.SchemaByID(ctx, db, t.ParentSchemaID())
	if err == nil && !ok {
		err = pgerr.Newf(pgerr.InvalidSchemaName, "the schema of \"%s\" does not exist", t.Name())
	}
	return db, ref, err
}

// schemaName returns the name of a schema by id.
func (p *planner) schemaName(ctx context.Context, id catalog.ID) (string, error) {
	d, err := p.cat.ByID(ctx, id)
	if err != nil {
		return "", err
	}
	if d == nil {
		return catalog.PublicSchemaName, nil
	}
	return d.Name(), nil
}

// schemaNameOf is schemaName for error messages.
func (p *planner) schemaNameOf(ctx context.Context, t *catalog.Table) string {
	n, err := p.schemaName(ctx, t.ParentSchemaID())
	if err != nil {
		return ""
	}
	return n
}

// qualifiedName returns db.schema.table, quoted for SQL.
func (p *planner) qualifiedName(ctx context.Context, t *catalog.Table) (string, error) {
	db, schema, err := p.parents(ctx, t)
	if err != nil {
		return "", err
	}
	return quoteIdent(db.Name()) + "." + quoteIdent(schema.Name) + "." + quoteIdent(t.Name()), nil
}

// resolveSequenceName finds the sequence that nextval('name') means. A number is
// an OID.
func (p *planner) resolveSequenceName(ctx context.Context, name string) (*catalog.Table, error) {
	var id uint32
	if n, err := fmt.Sscanf(name, "%d", &id); n == 1 && err == nil && fmt.Sprint(id) == name {
		t, err := p.cat.TableByID(ctx, id, catalog.Flags{})
		if err != nil {
			return nil, err
		}
		if t == nil || !t.IsSequence() {
			return nil, pgerr.Newf(pgerr.UndefinedTable, "could not open relation with OID %d", id)
		}
		return t, nil
	}
	un, err := parseQualifiedName(name)
	if err != nil {
		return nil, err
	}
	t, err := p.resolveTable(ctx, un)
	if err != nil {
		return nil, err
	}
	if !t.IsSequence() {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a sequence", t.Name())
	}
	return t, nil
}

// resolveUserType finds a type by name or OID.
func (p *planner) resolveUserType(ctx context.Context, name *tree.UnresolvedObjectName, id uint32, array bool) (*types.T, error) {
	if name == nil {
		e, err := p.cat.EnumByOID(ctx, oid.Oid(id))
		if err != nil {
			return nil, err
		}
		if e == nil {
			return nil, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", id)
		}
		if array {
			return catalog.ArrayOf(e.Type()), nil
		}
		return e.Type(), nil
	}
	t, _, err := p.resolver().ResolveType(ctx, name, array)
	return t, err
}

// enumSet loads enums by OID.
func (p *planner) enumSet(ctx context.Context, oids []oid.Oid) (catalog.EnumSet, error) {
	set := catalog.EnumSet{}
	for _, o := range oids {
		e, err := p.cat.EnumByOID(ctx, o)
		if err != nil {
			return nil, err
		}
		if e != nil {
			set[o] = e.Visible(p.s.inPath(e.Schema))
		}
	}
	return set, nil
}

func (p *planner) enumsOfType(ctx context.Context, t *types.T) catalog.EnumSet {
	set, err := p.enumSet(ctx, catalog.UserTypeOIDs(t))
	if err != nil {
		return nil
	}
	return set
}

// asQuery is a query whose columns are known.
type asQuery struct {
	cols []ResultColumn
}

// describeQuery finds the columns of a query without its rows.
func (p *planner) describeQuery(ctx context.Context, sel *tree.Select) (*asQuery, error) {
	_, cols, err := p.query(ctx, "SELECT * FROM ("+tree.AsString(sel)+") AS q LIMIT 0")
	if err != nil {
		return nil, err
	}
	return &asQuery{cols: cols}, nil
}

// execCount runs a nested statement and returns how many rows it changed.
func (p *planner) execCount(ctx context.Context, sql string, args ...tree.Datum) (int64, error) {
	tag, err := p.execTag(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	var n int64
	if i := strings.LastIndexByte(tag, ' '); i >= 0 {
		if _, err := fmt.Sscanf(tag[i+1:], "%d", &n); err != nil {
			return 0, nil // A tag without a count.
		}
	}
	return n, nil
}

// scanKeys reads [start, end) in the transaction, page by page.
func (p *planner) scanKeys(ctx context.Context, start, end keys.Key, fn func(pair kv.KeyValue) error) error {
	for {
		res, err := p.txn.Scan(ctx, start, end, kv.ScanOptions{TargetBytes: 4 << 20})
		if err != nil {
			return err
		}
		for _, pair := range res.KVs {
			if err := fn(pair); err != nil {
				return err
			}
		}
		if res.Resume == nil {
			return nil
		}
		start = res.Resume.Key
	}
}

func isConditionFailed(err error) bool {
	var e *kvpb.ConditionFailedError
	return errors.As(err, &e)
}

// putRow writes a row of a system table, replacing old if it is not nil.
func (p *planner) putSystemRow(ctx context.Context, t *systables.Table, old, row systables.Row) error {
	put, del, err := t.Change(old, row)
	if err != nil {
		return err
	}
	for _, k := range del {
		if err := p.txn.Del(ctx, k); err != nil {
			return err
		}
	}
	for _, pair := range put {
		if err := p.txn.Put(ctx, pair.Key, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

// systemRow reads a row of a system table by primary key; nil if there is none.
func (p *planner) systemRow(ctx context.Context, t *systables.Table, key ...any) (systables.Row, error) {
	k, err := t.Key(key...)
	if err != nil {
		return nil, err
	}
	res, err := p.txn.Get(ctx, k)
	if err != nil || len(res.Value) == 0 {
		return nil, err
	}
	return t.Decode(k, res.Value)
}

// setComment writes or removes a comment.
func (p *planner) setComment(ctx context.Context, typ, object, sub int64, text *string) error {
	p.schemaChanged()
	old, err := p.systemRow(ctx, systables.Comments, typ, object, sub)
	if err != nil {
		return err
	}
	var row systables.Row
	if text != nil && *text != "" {
		row = systables.Row{typ, object, sub, *text}
	}
	if old == nil && row == nil {
		return nil
	}
	return p.putSystemRow(ctx, systables.Comments, old, row)
}

// deleteComments removes the comment of an object, or with sub < 0 all comments
// of the type on it.
func (p *planner) deleteComments(ctx context.Context, typ int64, object catalog.ID, sub int64) error {
	if sub >= 0 {
		return p.setComment(ctx, typ, int64(object), sub, nil)
	}
	var subs []int64
	if err := p.scanSystem(ctx, systables.Comments, func(row systables.Row) error {
		if row[0] == typ && row[1] == int64(object) {
			subs = append(subs, row[2].(int64))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, s := range subs {
		if err := p.setComment(ctx, typ, int64(object), s, nil); err != nil {
			return err
		}
	}
	return nil
}

// syncTypeReferences keeps the back references of enums to the tables that use
// them. old is the table before the change, new after it; either may be nil.
func (p *planner) syncTypeReferences(ctx context.Context, old, new *catalogpb.TableDescriptor) error {
	used := func(pb *catalogpb.TableDescriptor) (map[catalog.ID]bool, error) {
		out := map[catalog.ID]bool{}
		if pb == nil {
			return out, nil
		}
		for _, c := range pb.Columns {
			t, err := catalog.UnmarshalType(c.Type)
			if err != nil {
				return nil, err
			}
			for _, o := range catalog.UserTypeOIDs(t) {
				if id, ok := catalog.TypeIDFromOID(o); ok {
					out[id] = true
				}
			}
		}
		return out, nil
	}
	before, err := used(old)
	if err != nil {
		return err
	}
	after, err := used(new)
	if err != nil {
		return err
	}
	table := old.GetId() | new.GetId()
	edit := func(id catalog.ID, add bool) error {
		t, err := p.cat.MutableType(ctx, id)
		if err != nil {
			return err
		}
		t.ReferencingDescriptorIds = slices.DeleteFunc(t.ReferencingDescriptorIds, func(x uint32) bool { return x == table })
		if add {
			t.ReferencingDescriptorIds = append(t.ReferencingDescriptorIds, table)
		}
		p.schemaChanged()
		_, err = p.cat.Write(ctx, t)
		return err
	}
	for id := range after {
		if !before[id] {
			if err := edit(id, true); err != nil {
				return err
			}
		}
	}
	for id := range before {
		if !after[id] {
			if err := edit(id, false); err != nil {
				return err
			}
		}
	}
	if new != nil {
		new.DependsOnTypes = new.DependsOnTypes[:0]
		for id := range after {
			new.DependsOnTypes = append(new.DependsOnTypes, id)
		}
		slices.Sort(new.DependsOnTypes)
	}
	return nil
}

// syncSequenceReferences keeps the back references of sequences to the columns
// whose defaults use them, and fills the columns' uses_sequence_ids.
func (p *planner) syncSequenceReferences(ctx context.Context, old, new *catalogpb.TableDescriptor) error {
	before := map[catalog.ID]bool{}
	for _, c := range old.GetColumns() {
		for _, s := range c.UsesSequenceIds {
			before[s] = true
		}
	}
	after := map[catalog.ID][]uint32{}
	for _, c := range new.GetColumns() {
		c.UsesSequenceIds = nil
		names, err := sequencesUsed(c.GetDefaultExpr())
		if err != nil {
			return err
		}
		for _, n := range names {
			seq, err := p.resolveSequenceIn(ctx, new.ParentId, n)
			if err != nil {
				return err
			}
			if !slices.Contains(c.UsesSequenceIds, seq.ID()) {
				c.UsesSequenceIds = append(c.UsesSequenceIds, seq.ID())
				after[seq.ID()] = append(after[seq.ID()], c.Id)
			}
		}
	}
	table := old.GetId() | new.GetId()
	ids := map[catalog.ID]bool{}
	for id := range before {
		ids[id] = true
	}
	for id := range after {
		ids[id] = true
	}
	for id := range ids {
		cols := after[id]
		cur, err := p.cat.TableByID(ctx, id, catalog.Flags{})
		if err != nil {
			return err
		}
		if cur == nil {
			continue // dropped with its column
		}
		var have []uint32
		for _, r := range cur.Proto().DependedOnBy {
			if r.Id == table {
				have = append(have, r.ColumnIds...)
			}
		}
		if slices.Equal(have, cols) {
			continue
		}
		seq, err := p.mutableTable(ctx, id)
		if err != nil {
			return err
		}
		seq.DependedOnBy = slices.DeleteFunc(seq.DependedOnBy, func(r *catalogpb.Reference) bool { return r.Id == table })
		if len(cols) > 0 {
			seq.DependedOnBy = append(seq.DependedOnBy, &catalogpb.Reference{Id: table, ColumnIds: cols, ById: true})
		}
		if err := p.writeTable(ctx, seq); err != nil {
			return err
		}
	}
	return nil
}

// resolveSequenceIn finds a sequence by the schema-qualified name in a stored
// default, in the database of the table.
func (p *planner) resolveSequenceIn(ctx context.Context, db catalog.ID, name string) (*catalog.Table, error) {
	un, err := parseQualifiedName(name)
	if err != nil {
		return nil, err
	}
	if un.NumParts == 2 {
		d, err := p.cat.DatabaseByID(ctx, db)
		if err != nil {
			return nil, err
		}
		if d != nil {
			ref, ok, err := p.cat.Schema(ctx, d, un.Parts[1])
			if err != nil {
				return nil, err
			}
			if ok && !ref.Virtual {
				t, err := p.cat.TableByName(ctx, db, ref.ID, un.Parts[0], catalog.Flags{})
				if err != nil {
					return nil, err
				}
				if t != nil && t.IsSequence() {
					return t, nil
				}
			}
		}
	}
	return p.resolveSequenceName(ctx, name)
}

// setStorageParams obeys WITH (…) of CREATE TABLE and SET (…) of ALTER TABLE.
// What has no meaning here is kept, to be shown again.
func setStorageParams(pb *catalogpb.TableDescriptor, params tree.StorageParams) error {
	for _, sp := range params {
		name := strings.ToLower(string(sp.Key))
		value := "true"
		if sp.Value != nil {
			value = strings.Trim(tree.AsStringWithFlags(sp.Value, tree.FmtBareStrings), "'")
		}
		if name == "exclude_data_from_backup" {
			switch strings.ToLower(value) {
			case "true", "on", "yes", "1":
				if len(pb.InboundFks) > 0 && slices.ContainsFunc(pb.InboundFks, func(f *catalogpb.ForeignKeyConstraint) bool { return f.OriginTableId != pb.Id }) {
					return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "cannot set data in a table with inbound foreign key constraints to be excluded from backup")
				}
				pb.ExcludeDataFromBackup = true
			case "false", "off", "no", "0":
				pb.ExcludeDataFromBackup = false
			default:
				return pgerr.Newf(pgerr.InvalidParameterValue, "invalid value for boolean option \"%s\": %s", name, value)
			}
			continue
		}
		known := knownStorageParams[name]
		if !known && !strings.HasPrefix(name, "autovacuum_") && !strings.HasPrefix(name, "toast.") && !strings.HasPrefix(name, "ttl") {
			return pgerr.Newf(pgerr.InvalidParameterValue, "unrecognized parameter \"%s\"", string(sp.Key))
		}
		pb.StorageParams = slices.DeleteFunc(pb.StorageParams, func(p *catalogpb.StorageParam) bool { return p.Name == name })
		pb.StorageParams = append(pb.StorageParams, &catalogpb.StorageParam{Name: name, Value: value})
	}
	return nil
}

var knownStorageParams = map[string]bool{
	"fillfactor": true, "parallel_workers": true, "toast_tuple_target": true, "user_catalog_table": true, "oids": true,
	"vacuum_index_cleanup": true, "vacuum_truncate": true, "log_autovacuum_min_duration": true, "schema_locked": true,
	"sql_stats_automatic_collection_enabled": true, "infer_rbr_region_col_using_constraint": true,
}

func (m *tableMaker) setStorageParams(params tree.StorageParams) error {
	return setStorageParams(m.pb, params)
}

func resetStorageParams(pb *catalogpb.TableDescriptor, names tree.NameList) error {
	for _, n := range names {
		name := strings.ToLower(string(n))
		if name == "exclude_data_from_backup" {
			pb.ExcludeDataFromBackup = false
		}
		pb.StorageParams = slices.DeleteFunc(pb.StorageParams, func(p *catalogpb.StorageParam) bool { return p.Name == name })
	}
	return nil
}

func errSafeUpdates(what string) error {
	return pgerr.Newf("01000", "rejected (sql_safe_updates = true): %s", what)
}

// keyText is a key's values for a DETAIL line.
func (p *planner) keyText(t *catalog.Table, ids []uint32, vals tree.Datums) string {
	parts := make([]string, len(vals))
	for i, d := range vals {
		switch {
		case d == tree.DNull:
			parts[i] = "null"
		case i < len(ids) && t.ColumnByID(ids[i]) != nil:
			parts[i] = p.datumText(d, t.ColumnByID(ids[i]).Type)
		default:
			parts[i] = p.plainText(d)
		}
	}
	return strings.Join(parts, ", ")
}

func (p *planner) plainText(d tree.Datum) string {
	if d == tree.DNull {
		return "null"
	}
	switch t := d.(type) {
	case *tree.DString:
		// The format below puts quotes around what holds a comma, a space or a brace.
		return string(*t)
	case *tree.DCollatedString:
		return t.Contents
	}
	return tree.AsStringWithFlags(d, tree.FmtPgwireText)
}

var _ = parser.KindTable
