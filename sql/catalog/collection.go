package catalog

import (
	"context"
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Txn is what a Collection needs of a transaction; *kv.Txn has it.
type Txn interface {
	Get(ctx context.Context, key keys.Key) (kv.KeyValue, error)
	Scan(ctx context.Context, start, end keys.Key, opts kv.ScanOptions) (kv.ScanResult, error)
	Put(ctx context.Context, key keys.Key, value []byte) error
	Del(ctx context.Context, ks ...keys.Key) error
	ReadTimestamp() hlc.Timestamp
	IsFixed() bool
	OnCommit(fn func())
	CommitTimestamp() hlc.Timestamp

	ProvisionalCommitTimestamp() hlc.Timestamp
	RefreshToNow(ctx context.Context) error
	IsFinished() bool
	BoundCommit(b kv.CommitBound, token uint64)
}

var _ Txn = (*kv.Txn)(nil)

// Collection reads and writes descriptors for one transaction. It is not safe
// for concurrent use. Release must be called when the transaction has ended.
type Collection struct {
	cache *Cache
	txn   Txn

	// own holds what the transaction wrote: nil for a deleted descriptor.
	own map[ID]Descriptor
	// ownNames holds the names it changed: 0 for a removed one.
	ownNames map[namespaceKey]ID
	// before holds the versions that the transaction found, so that many changes in
	// one transaction are one version.
	before map[ID]uint64
	hooked bool

	// read caches what came from the store itself: always at a fixed timestamp.
	read     map[ID]Descriptor
	readName map[namespaceKey]ID
	used     map[ID]uint64
	enums    map[ID]*Enum
	tables   map[ID]*Table
	// exclusive are the descriptors this collection has locked; see lock.go.
	exclusive map[ID]struct{}
	entered   map[ID]struct{}

	// announced names what other nodes were told of the transaction, in so many
	// parts. A foreign collection stands for a transaction of another node.
	announced     string
	announcements int
	foreign       bool
	isBound       bool
}

// NewCollection returns a collection for txn.
func (c *Cache) NewCollection(txn Txn) *Collection {
	return &Collection{cache: c, txn: txn}
}

// Release tells the cache that the collection's versions are out of use. The
// collection can be used again, for the next attempt of its transaction.
func (c *Collection) Release() {
	c.cache.release(c, c.used)
	if c.announced != "" && !c.foreign {
		c.cache.peers.Wake()
	}
	*c = Collection{cache: c.cache, txn: c.txn}
}

// SetTxn releases the collection and points it at another transaction.
func (c *Collection) SetTxn(txn Txn) {
	c.Release()
	c.txn = txn
}

// HasChanges says whether the transaction wrote descriptors or names.
func (c *Collection) HasChanges() bool { return len(c.own)+len(c.ownNames) > 0 }

// ChangedIDs returns the ids of the descriptors that the transaction wrote or
// deleted.
func (c *Collection) ChangedIDs() []ID {
	out := make([]ID, 0, len(c.own))
	for id := range c.own {
		out = append(out, id)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// Mark remembers the changes so far, for a savepoint.
type Mark struct {
	own      map[ID]Descriptor
	ownNames map[namespaceKey]ID
	before   map[ID]uint64
}

// Mark returns a mark for RollbackTo.
func (c *Collection) Mark() Mark {
	return Mark{own: cloneMap(c.own), ownNames: cloneMap(c.ownNames), before: cloneMap(c.before)}
}

// RollbackTo forgets the changes made since m. The transaction's own writes are
// undone by its savepoint.
func (c *Collection) RollbackTo(m Mark) {
	c.own, c.ownNames, c.before = cloneMap(m.own), cloneMap(m.ownNames), cloneMap(m.before)
	c.enums, c.tables = nil, nil
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return nil
	}
	out := make(map[K]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func set[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// ByID returns a descriptor in any state, or nil if there is none.
func (c *Collection) ByID(ctx context.Context, id ID) (Descriptor, error) {
	if d, ok := c.own[id]; ok {
		return d, nil
	}
	if d, ok := c.read[id]; ok {
		return d, nil
	}
	if !c.txn.IsFixed() {
		if err := c.enter(ctx, id); err != nil {
			return nil, err
		}
		if d, lease := c.cache.get(id, c.txn.ReadTimestamp()); d != nil {
			c.noteUse(d)
			if lease != 0 {
				c.bindTo(lease)
			}
			return d, nil
		}
	} else if d := c.cache.system[id]; d != nil {
		return d, nil
	}
	epoch := c.cache.epoch()
	d, err := c.load(ctx, id)
	if err != nil {
		return nil, err
	}
	set(&c.read, id, d)
	if d != nil && !c.txn.IsFixed() {
		c.cache.put(d, epoch, c.txn.ReadTimestamp())
		c.noteUse(d)
	}
	return d, nil
}

// bindTo makes the transaction commit under the lease by which it uses the cache.
func (c *Collection) bindTo(lease uint64) {
	if !c.isBound {
		c.isBound = true
		c.txn.BoundCommit(c.cache, lease)
	}
}

// Bind makes the transaction commit only while this node has the lease that it has
// now.
func (c *Collection) Bind() {
	if c.cache.peers != nil {
		c.bound()
	}
}

// bound is bindTo with the present lease.
func (c *Collection) bound() {
	c.cache.mu.Lock()
	lease := c.cache.mu.leaseGen
	c.cache.mu.Unlock()
	c.bindTo(lease)
}

// noteUse registers that this transaction works with a version, once.
func (c *Collection) noteUse(d Descriptor) {
	if _, ok := c.used[d.ID()]; ok || d.ID() < FirstUserID {
		return
	}
	set(&c.used, d.ID(), d.Version())
	c.cache.use(d.ID(), d.Version())
	// From here on the transaction keeps this version.
	set(&c.read, d.ID(), d)
}

// load reads a descriptor from the store.
func (c *Collection) load(ctx context.Context, id ID) (Descriptor, error) {
	return ReadDescriptor(ctx, c.txn, id)
}

// ReadDescriptor reads a descriptor from the store; nil if there is none.
func ReadDescriptor(ctx context.Context, txn Txn, id ID) (Descriptor, error) {
	key, err := descriptorKey(id)
	if err != nil {
		return nil, err
	}
	res, err := txn.Get(ctx, key)
	if err != nil || len(res.Value) == 0 {
		return nil, err
	}
	return decodeStored(key, res.Value, res.Timestamp)
}

func decodeStored(key keys.Key, value []byte, ts hlc.Timestamp) (Descriptor, error) {
	_, b, err := DecodeDescriptorValue(key, value)
	if err != nil {
		return nil, err
	}
	return UnmarshalAt(b, ts)
}

// UnmarshalAt decodes the bytes of system.descriptor that were written at ts,
// which becomes the modification time: the writer could not know it.
func UnmarshalAt(b []byte, ts hlc.Timestamp) (Descriptor, error) {
	d, err := Unmarshal(b)
	if err != nil || ts.IsEmpty() {
		return d, err
	}
	switch u := d.(type) {
	case *Database:
		u.pb.ModificationTime = TimestampPB(ts)
	case *Schema:
		u.pb.ModificationTime = TimestampPB(ts)
	case *Table:
		u.pb.ModificationTime = TimestampPB(ts)
	case *Type:
		u.pb.ModificationTime = TimestampPB(ts)
	}
	return d, nil
}

// LookupName returns the id that a name stands for, or 0. Databases have parents
// (0, 0), schemas (database, 0).
func (c *Collection) LookupName(ctx context.Context, parent, schema ID, name string) (ID, error) {
	k := namespaceKey{parent, schema, name}
	if id, ok := c.ownNames[k]; ok {
		return id, nil
	}
	if id, ok := c.readName[k]; ok {
		return id, nil
	}
	if id, ok := c.cache.systemName[k]; ok {
		return id, nil
	}
	if !c.txn.IsFixed() {
		if id, ok := c.cache.lookup(k, c.txn.ReadTimestamp()); ok {
			return id, nil
		}
	}
	key, err := k.key()
	if err != nil {
		return 0, err
	}
	epoch := c.cache.epoch()
	res, err := c.txn.Get(ctx, key)
	if err != nil || len(res.Value) == 0 {
		return 0, err
	}
	row, err := systables.Namespace.Decode(key, res.Value)
	if err != nil {
		return 0, err
	}
	v, _ := row[3].(int64)
	id := ID(v)
	if c.txn.IsFixed() {
		set(&c.readName, k, id)
	} else {
		c.cache.putName(k, id, epoch, c.txn.ReadTimestamp())
	}
	return id, nil
}

// Database returns a public database by name, or nil.
func (c *Collection) Database(ctx context.Context, name string) (*Database, error) {
	id, err := c.LookupName(ctx, 0, 0, name)
	if err != nil || id == 0 {
		return nil, err
	}
	return c.DatabaseByID(ctx, id)
}

// MustDatabase is Database with the error for a missing one.
func (c *Collection) MustDatabase(ctx context.Context, name string) (*Database, error) {
	db, err := c.Database(ctx, name)
	if err == nil && db == nil {
		err = pgerr.Newf(pgerr.InvalidCatalogName, "database \"%s\" does not exist", name)
	}
	return db, err
}

// DatabaseByID returns a public database, or nil.
func (c *Collection) DatabaseByID(ctx context.Context, id ID) (*Database, error) {
	d, err := c.ByID(ctx, id)
	if err != nil || d == nil {
		return nil, err
	}
	db, ok := d.(*Database)
	if !ok || db.State() == catalogpb.State_DROP {
		return nil, nil
	}
	if err := offline(db, "database"); err != nil {
		return nil, err
	}
	return db, nil
}

func offline(d Descriptor, kind string) error {
	if d.State() != catalogpb.State_OFFLINE {
		return nil
	}
	return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "%s \"%s\" is offline: %s", kind, d.Name(), d.OfflineReason())
}

// SchemaRef names a schema of a database. Virtual schemas have no id and no
// descriptor.
type SchemaRef struct {
	Database *Database
	Name     string
	ID       ID
	Virtual  bool
	Desc     *Schema // nil for virtual schemas and old public ones
}

// Schema returns a schema of db by name, virtual ones included; ok is false if
// there is none.
func (c *Collection) Schema(ctx context.Context, db *Database, name string) (ref SchemaRef, ok bool, err error) {
	ref = SchemaRef{Database: db, Name: name}
	if IsVirtualSchema(name) {
		ref.Virtual = true
		return ref, true, nil
	}
	id, ok := db.SchemaID(name)
	if !ok {
		return ref, false, nil
	}
	ref.ID = id
	d, err := c.ByID(ctx, id)
	if err != nil {
		return ref, false, err
	}
	s, isSchema := d.(*Schema)
	switch {
	case isSchema && s.State() == catalogpb.State_DROP:
		return ref, false, nil
	case isSchema && s.State() == catalogpb.State_OFFLINE:
		return ref, false, offline(s, "schema")
	case isSchema:
		ref.Desc = s
	case name != PublicSchemaName:
		return ref, false, nil
	}
	return ref, true, nil
}

// SchemaByID returns the reference to the schema with this id in db.
func (c *Collection) SchemaByID(ctx context.Context, db *Database, id ID) (ref SchemaRef, ok bool, err error) {
	d, err := c.ByID(ctx, id)
	if err != nil {
		return ref, false, err
	}
	if s, isSchema := d.(*Schema); isSchema {
		return SchemaRef{Database: db, Name: s.Name(), ID: id, Desc: s}, true, nil
	}
	if id == PublicSchemaID {
		return SchemaRef{Database: db, Name: PublicSchemaName, ID: id}, true, nil
	}
	return ref, false, nil
}

// Flags widen what a lookup finds.
type Flags struct {
	IncludeOffline bool
	IncludeDropped bool
	// IncludeAdding finds tables that are still being created.
	IncludeAdding bool
}

// visible says whether a descriptor in this state may be seen, or why not.
func visible(d Descriptor, f Flags) (bool, error) {
	switch d.State() {
	case catalogpb.State_DROP:
		return f.IncludeDropped, nil
	case catalogpb.State_OFFLINE:
		if f.IncludeOffline {
			return true, nil
		}
		return false, offline(d, "relation")
	case catalogpb.State_ADD:
		return f.IncludeAdding, nil
	}
	return true, nil
}

// TableByID returns a table that knows its enums, or nil if there is none in a
// state that flags allow.
func (c *Collection) TableByID(ctx context.Context, id ID, flags Flags) (*Table, error) {
	if t := c.tables[id]; t != nil {
		if ok, err := visible(t, flags); !ok || err != nil {
			return nil, err
		}
		return t, nil
	}
	d, err := c.ByID(ctx, id)
	if err != nil || d == nil {
		return nil, err
	}
	t, ok := d.(*Table)
	if !ok {
		return nil, nil
	}
	if ok, err := visible(t, flags); !ok || err != nil {
		return nil, err
	}
	if t, err = c.hydrate(ctx, t); err != nil {
		return nil, err
	}
	set(&c.tables, id, t)
	return t, nil
}

// MustTableByID is TableByID with the error for a missing one.
func (c *Collection) MustTableByID(ctx context.Context, id ID, flags Flags) (*Table, error) {
	t, err := c.TableByID(ctx, id, flags)
	if err == nil && t == nil {
		err = pgerr.Newf(pgerr.UndefinedTable, "relation with id %d does not exist", id)
	}
	return t, err
}

func (c *Collection) hydrate(ctx context.Context, t *Table) (*Table, error) {
	oids := t.EnumOIDs()
	if len(oids) == 0 {
		return t, nil
	}
	enums := make([]*Enum, 0, len(oids))
	for _, o := range oids {
		e, err := c.EnumByOID(ctx, oid.Oid(o))
		if err != nil {
			return nil, err
		}
		if e == nil {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "table \"%s\" uses a type with OID %d that does not exist", t.Name(), o)
		}
		enums = append(enums, e)
	}
	return c.cache.hydrate(t, enums), nil
}

// TypeByID returns a type in any state but dropped, or nil.
func (c *Collection) TypeByID(ctx context.Context, id ID) (*Type, error) {
	d, err := c.ByID(ctx, id)
	if err != nil || d == nil {
		return nil, err
	}
	t, ok := d.(*Type)
	if !ok || t.State() == catalogpb.State_DROP {
		return nil, nil
	}
	return t, nil
}

// EnumByOID returns the enum with this OID, or nil.
func (c *Collection) EnumByOID(ctx context.Context, o oid.Oid) (*Enum, error) {
	id, ok := TypeIDFromOID(o)
	if !ok {
		return nil, nil
	}
	if e := c.enums[id]; e != nil {
		return e, nil
	}
	t, err := c.TypeByID(ctx, id)
	if err != nil || t == nil || !t.IsEnum() {
		return nil, err
	}
	database, schema := "", ""
	db, err := c.ByID(ctx, t.ParentID())
	if err != nil {
		return nil, err
	}
	if db, ok := db.(*Database); ok {
		database = db.Name()
		if s, ok, err := c.SchemaByID(ctx, db, t.ParentSchemaID()); err != nil {
			return nil, err
		} else if ok {
			schema = s.Name
		}
	}
	e := c.cache.enum(t, database, schema)
	set(&c.enums, id, e)
	return e, nil
}

// TypeOf returns the *types.T of a user-defined type: an enum, or the array of one.
func (c *Collection) TypeOf(t *Type) (*types.T, error) {
	if t.IsEnum() {
		return EnumType(OIDFromTypeID(t.ID())), nil
	}
	if o, ok := enumArrayType(t); ok {
		return ArrayOf(EnumType(o)), nil
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "type \"%s\" is not supported here", t.Name())
}

// ObjectByName returns a table or type of a schema by name, in any state, or nil.
func (c *Collection) ObjectByName(ctx context.Context, db, schema ID, name string) (Descriptor, error) {
	id, err := c.LookupName(ctx, db, schema, name)
	if err != nil || id == 0 {
		return nil, err
	}
	return c.ByID(ctx, id)
}

// TableByName returns a table of a schema that knows its enums, or nil.
func (c *Collection) TableByName(ctx context.Context, db, schema ID, name string, flags Flags) (*Table, error) {
	id, err := c.LookupName(ctx, db, schema, name)
	if err != nil || id == 0 {
		return nil, err
	}
	return c.TableByID(ctx, id, flags)
}

// scanPage bounds how many descriptors one request returns.
const scanPage = 1000

// All returns every descriptor, in any state, ordered by id.
func (c *Collection) All(ctx context.Context) ([]Descriptor, error) {
	found := make(map[ID]Descriptor)
	sp := systables.Descriptor.Span()
	for {
		res, err := c.txn.Scan(ctx, sp.Key, sp.EndKey, kv.ScanOptions{MaxKeys: scanPage})
		if err != nil {
			return nil, err
		}
		for _, p := range res.KVs {
			id, b, err := DecodeDescriptorValue(p.Key, p.Value)
			if err != nil {
				return nil, err
			}
			if d := c.cache.system[id]; d != nil {
				found[id] = d
				continue
			}
			// The cached wrapper of the same version saves decoding.
			if d, _ := c.cache.get(id, c.txn.ReadTimestamp()); d != nil && d.ModificationTime() == p.Timestamp {
				found[id] = d
				continue
			}
			d, err := UnmarshalAt(b, p.Timestamp)
			if err != nil {
				return nil, err
			}
			found[id] = d
		}
		if res.Resume == nil {
			break
		}
		sp = *res.Resume
	}
	for id, d := range c.own {
		if d == nil {
			delete(found, id)
		} else {
			found[id] = d
		}
	}
	for id, d := range c.cache.system {
		found[id] = d
	}
	out := make([]Descriptor, 0, len(found))
	for _, d := range found {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID() < out[j].ID() })
	return out, nil
}

// AllDatabases returns the public databases ordered by name.
func (c *Collection) AllDatabases(ctx context.Context) ([]*Database, error) {
	all, err := c.All(ctx)
	if err != nil {
		return nil, err
	}
	var out []*Database
	for _, d := range all {
		if db, ok := d.(*Database); ok && db.State() == catalogpb.State_PUBLIC {
			out = append(out, db)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out, nil
}

// AllInDatabase returns the public descriptors of a database's schemas, tables
// and types, ordered by id. Tables know their enums.
func (c *Collection) AllInDatabase(ctx context.Context, db ID) ([]Descriptor, error) {
	all, err := c.All(ctx)
	if err != nil {
		return nil, err
	}
	var out []Descriptor
	for _, d := range all {
		if d.ParentID() != db || d.State() != catalogpb.State_PUBLIC {
			continue
		}
		if t, ok := d.(*Table); ok {
			if d, err = c.hydrate(ctx, t); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
	return out, nil
}
