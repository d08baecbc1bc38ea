package catalog

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// AllocateID returns a new descriptor id. It is not part of any transaction: an
// id that is not used in the end stays unused for ever.
func AllocateID(ctx context.Context, db *kv.DB) (ID, error) { return AllocateIDRange(ctx, db, 1) }

// AllocateIDRange returns the first of n consecutive new descriptor ids.
func AllocateIDRange(ctx context.Context, db *kv.DB, n int) (ID, error) {
	last, err := db.Inc(ctx, IDCounterKey, int64(n))
	if err != nil {
		return 0, err
	}
	first := last - int64(n) + 1
	if first < int64(FirstAllocatableID) {
		// The first use on a new store: skip the ids that are spoken for.
		last, err = db.Inc(ctx, IDCounterKey, int64(FirstAllocatableID)-first)
		if err != nil {
			return 0, err
		}
		first = last - int64(n) + 1
	}
	return ID(first), nil
}

// IndexIDCounterKey counts the index ids of a table that were given to indexes
// filled outside of transactions: it holds the highest. A descriptor alone does not
// remember ids of transactions that did not commit.
func IndexIDCounterKey(table ID) keys.Key {
	return encoding.EncodeUvarintAscending(append(append(keys.Key(nil), keys.SystemPrefix...), "index-idgen/"...), uint64(table))
}

// ClaimedIndexID returns the highest index id of a table that was claimed.
func ClaimedIndexID(ctx context.Context, db *kv.DB, table ID) (uint32, error) {
	v, err := db.Get(ctx, IndexIDCounterKey(table))
	if err != nil || len(v.Value) == 0 {
		return 0, err
	}
	n, err := kvpb.DecodeInt(v.Value)
	return uint32(n), err
}

// ClaimIndexID makes id and all below it ids that are not given again, whatever
// becomes of the transaction that uses them.
func ClaimIndexID(ctx context.Context, db *kv.DB, table ID, id uint32) error {
	have, err := ClaimedIndexID(ctx, db, table)
	if err != nil || id <= have {
		return err
	}
	_, err = db.Inc(ctx, IndexIDCounterKey(table), int64(id-have))
	return err
}

// stored returns the descriptor as the transaction sees it in the store, past
// the cache: what is to be changed must be read so.
func (c *Collection) stored(ctx context.Context, id ID) (Descriptor, error) {
	if d, ok := c.own[id]; ok {
		return d, nil
	}
	return c.load(ctx, id)
}

// MutableTable returns a copy of a table's message for changing, read from the
// store so that a concurrent change is noticed.
func (c *Collection) MutableTable(ctx context.Context, id ID) (*catalogpb.TableDescriptor, error) {
	d, err := c.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	t, ok := d.(*Table)
	if !ok {
		return nil, pgerr.Newf(pgerr.UndefinedTable, "relation with id %d does not exist", id)
	}
	return t.Mutable(), nil
}

// MutableDatabase returns a copy of a database's message for changing.
func (c *Collection) MutableDatabase(ctx context.Context, id ID) (*catalogpb.DatabaseDescriptor, error) {
	d, err := c.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	t, ok := d.(*Database)
	if !ok {
		return nil, pgerr.Newf(pgerr.InvalidCatalogName, "database with id %d does not exist", id)
	}
	return t.Mutable(), nil
}

// MutableSchema returns a copy of a schema's message for changing.
func (c *Collection) MutableSchema(ctx context.Context, id ID) (*catalogpb.SchemaDescriptor, error) {
	d, err := c.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	t, ok := d.(*Schema)
	if !ok {
		return nil, pgerr.Newf(pgerr.InvalidSchemaName, "schema with id %d does not exist", id)
	}
	return t.Mutable(), nil
}

// MutableType returns a copy of a type's message for changing.
func (c *Collection) MutableType(ctx context.Context, id ID) (*catalogpb.TypeDescriptor, error) {
	d, err := c.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	t, ok := d.(*Type)
	if !ok {
		return nil, pgerr.Newf(pgerr.UndefinedObject, "type with id %d does not exist", id)
	}
	return t.Mutable(), nil
}

// Write stores a descriptor message: *catalogpb.DatabaseDescriptor,
// SchemaDescriptor, TableDescriptor, TypeDescriptor, or a Descriptor holding one
// of them. Its version becomes one more than what the transaction found, however
// often it writes; a new one starts at 1. The message belongs to the collection
// afterwards. Names are separate: see SetName, RemoveName, Create and Rename.
func (c *Collection) Write(ctx context.Context, m proto.Message) (Descriptor, error) {
	d, err := describe(m)
	if err != nil {
		return nil, err
	}
	id := d.ID()
	if id == InvalidID {
		return nil, pgerr.Newf(pgerr.Internal, "descriptor %q has no id", d.Name())
	}
	if c.cache.system[id] != nil {
		return nil, pgerr.Newf(pgerr.InsufficientPrivilege, "\"%s\" is a system catalog", d.Name())
	}
	base, ok := c.before[id]
	if !ok {
		old, err := c.load(ctx, id)
		if err != nil {
			return nil, err
		}
		if old != nil {
			base = old.Version()
		}
		if _, locked := c.exclusive[id]; old != nil && !locked {
			if err := c.announce(ctx, changeRow{Changed: []ID{id}}, defaultLockWait); err != nil {
				return nil, err
			}
		}
		set(&c.before, id, base)
	}
	setVersion(d, base+1)
	b, err := Marshal(d)
	if err != nil {
		return nil, err
	}
	key, value, err := encodeDescriptorRow(id, b)
	if err != nil {
		return nil, err
	}
	if err := c.txn.Put(ctx, key, value); err != nil {
		return nil, err
	}
	c.changed(id, d)
	return d, nil
}

// changed records an own version and arranges for the cache to hear of the commit.
func (c *Collection) changed(id ID, d Descriptor) {
	set(&c.own, id, d)
	delete(c.read, id)
	c.enums, c.tables = nil, nil
	c.hook()
}

func (c *Collection) hook() {
	if c.hooked {
		return
	}
	c.hooked = true
	cache := c.cache
	// own may be replaced by RollbackTo, so the ids are read at commit. A collection
	// that was released meanwhile reads as empty: then everything goes.
	c.txn.OnCommit(func() {
		if len(c.own)+len(c.ownNames) == 0 {
			cache.clearAt(c.txn.CommitTimestamp())
			return
		}
		cache.invalidateAt(c.txn.CommitTimestamp(), c.ChangedIDs()...)
	})
}

func describe(m proto.Message) (Descriptor, error) {
	switch m := m.(type) {
	case *catalogpb.DatabaseDescriptor:
		return NewDatabase(m), nil
	case *catalogpb.SchemaDescriptor:
		return NewSchema(m), nil
	case *catalogpb.TableDescriptor:
		return NewTable(m)
	case *catalogpb.TypeDescriptor:
		return NewType(m), nil
	case *catalogpb.Descriptor:
		return New(m)
	}
	return nil, pgerr.Newf(pgerr.Internal, "%T is not a descriptor", m)
}

func setVersion(d Descriptor, v uint64) {
	switch d := d.(type) {
	case *Database:
		d.pb.Version, d.pb.ModificationTime = v, nil
	case *Schema:
		d.pb.Version, d.pb.ModificationTime = v, nil
	case *Table:
		d.pb.Version, d.pb.ModificationTime = v, nil
	case *Type:
		d.pb.Version, d.pb.ModificationTime = v, nil
	}
}

// Create writes a new descriptor and its name.
func (c *Collection) Create(ctx context.Context, m proto.Message) (Descriptor, error) {
	d, err := c.Write(ctx, m)
	if err != nil {
		return nil, err
	}
	return d, c.SetName(ctx, d.ParentID(), d.ParentSchemaID(), d.Name(), d.ID())
}

// SetName makes a name stand for id.
func (c *Collection) SetName(ctx context.Context, parent, schema ID, name string, id ID) error {
	k := namespaceKey{parent, schema, name}
	key, value, err := encodeNamespaceRow(k, id)
	if err != nil {
		return err
	}
	if err := c.txn.Put(ctx, key, value); err != nil {
		return err
	}
	set(&c.ownNames, k, id)
	c.hook()
	return nil
}

// RemoveName makes a name stand for nothing.
func (c *Collection) RemoveName(ctx context.Context, parent, schema ID, name string) error {
	k := namespaceKey{parent, schema, name}
	key, err := k.key()
	if err != nil {
		return err
	}
	if err := c.txn.Del(ctx, key); err != nil {
		return err
	}
	set(&c.ownNames, k, InvalidID)
	c.hook()
	return nil
}

// Delete removes a descriptor altogether. Objects with data are first dropped
// (State_DROP) and deleted when their data are gone.
func (c *Collection) Delete(ctx context.Context, id ID) error {
	if c.cache.system[id] != nil {
		return pgerr.Newf(pgerr.InsufficientPrivilege, "descriptor %d is a system catalog", id)
	}
	key, err := descriptorKey(id)
	if err != nil {
		return err
	}
	if err := c.txn.Del(ctx, key); err != nil {
		return err
	}
	c.changed(id, nil)
	return nil
}

// Bootstrap writes what a new store begins with.
func Bootstrap(ctx context.Context, txn Txn) error {
	initial, err := InitialDescriptors()
	if err != nil {
		return err
	}
	for _, d := range initial {
		b, err := Marshal(d)
		if err != nil {
			return err
		}
		key, value, err := encodeDescriptorRow(d.ID(), b)
		if err != nil {
			return err
		}
		if err := txn.Put(ctx, key, value); err != nil {
			return err
		}
		if key, value, err = encodeNamespaceRow(nameOf(d), d.ID()); err != nil {
			return err
		}
		if err := txn.Put(ctx, key, value); err != nil {
			return err
		}
	}
	return nil
}
