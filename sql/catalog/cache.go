package catalog

import (
	"context"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/hlc"
)

// Cache holds the descriptors that the node's transactions share. It is safe for
// concurrent use.
//
// An entry is the newest committed version. A transaction that changes
// descriptors removes their entries when it has committed and before its client
// learns of it, so whoever starts afterwards reads the new version. A
// transaction that began before may go on with the version it has: schema
// changes are made so that two neighbouring versions can be used at once, and
// WaitForOneVersion tells the schema changer when the older one is out of use.
// With several nodes, Peers does for all of them what these two calls do for one.
type Cache struct {
	system     map[ID]Descriptor
	systemName map[namespaceKey]ID
	peers      *Peers // nil: no other node uses the keyspace; set before the first use

	mu struct {
		sync.Mutex
		byID   map[ID]Descriptor
		byName map[namespaceKey]ID
		enums  map[ID]*Enum
		tables map[ID]hydrated
		// uses counts open collections by descriptor version.
		uses map[ID]map[uint64]int
		// holders are the collections behind uses, exclusive those that keep others
		// out, waiting those that wait to get in; see lock.go.
		holders   map[ID]map[*Collection]struct{}
		exclusive map[ID]*Collection
		waiting   map[*Collection]lockWait
		watchers  int // callers in WaitForOneVersion
		// epoch rises with every invalidation: what was read before does not enter
		// the cache after.
		epoch uint64
		// changedAt is the commit timestamp of the last change. What a transaction
		// with an older read timestamp reads is history, however late it reads it,
		// and does not enter the cache.
		changedAt hlc.Timestamp
		changed   chan struct{} // closed and replaced when uses shrink

		// With peers: what is cached may be used by transactions below leaseEnd, and
		// they commit below it while leaseGen stays. suspended counts the changes of
		// other nodes under way to descriptors, announcing are the collections that
		// wait for other nodes, and lastUse is the latest time of a transaction that
		// has ended here.
		leaseEnd   int64
		leaseGen   uint64
		suspended  map[ID]int
		announcing map[*Collection]*announcing
		lastUse    hlc.Timestamp
	}
}

type hydrated struct {
	base  *Table
	enums []*Enum
	table *Table
}

// NewCache returns an empty cache that knows the system descriptors.
func NewCache() (*Cache, error) {
	sys, err := SystemDescriptors()
	if err != nil {
		return nil, err
	}
	c := &Cache{system: make(map[ID]Descriptor), systemName: make(map[namespaceKey]ID)}
	for _, d := range sys {
		c.system[d.ID()] = d
		c.systemName[nameOf(d)] = d.ID()
	}
	c.mu.uses = make(map[ID]map[uint64]int)
	c.mu.holders = make(map[ID]map[*Collection]struct{})
	c.mu.exclusive = make(map[ID]*Collection)
	c.mu.waiting = make(map[*Collection]lockWait)
	c.mu.suspended = make(map[ID]int)
	c.mu.announcing = make(map[*Collection]*announcing)
	c.mu.changed = make(chan struct{})
	c.clearLocked()
	return c, nil
}

// nameOf returns where a descriptor's name stands in system.namespace.
func nameOf(d Descriptor) namespaceKey {
	return namespaceKey{parent: d.ParentID(), schema: d.ParentSchemaID(), name: d.Name()}
}

func (c *Cache) clearLocked() {
	c.mu.byID = make(map[ID]Descriptor)
	c.mu.byName = make(map[namespaceKey]ID)
	c.mu.enums = make(map[ID]*Enum)
	c.mu.tables = make(map[ID]hydrated)
	c.mu.epoch++
}

// Clear forgets all entries, as after a restore that wrote system.descriptor
// directly.
func (c *Cache) Clear() {
	c.clearAt(hlc.Timestamp{WallTime: time.Now().UnixNano()})
}

func (c *Cache) clearAt(ts hlc.Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clearLocked()
	c.mu.changedAt.Forward(ts)
}

// Invalidate forgets what is known of these descriptors, and all names: a commit
// that changed them calls it.
func (c *Cache) Invalidate(ids ...ID) {
	c.invalidateAt(hlc.Timestamp{WallTime: time.Now().UnixNano()}, ids...)
}

func (c *Cache) invalidateAt(ts hlc.Timestamp, ids ...ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.changedAt.Forward(ts)
	c.forgetLocked(ids)
}

func (c *Cache) forgetLocked(ids []ID) {
	for _, id := range ids {
		delete(c.mu.byID, id)
		delete(c.mu.enums, id)
		delete(c.mu.tables, id)
	}
	c.mu.byName = make(map[namespaceKey]ID)
	// A table that uses a changed enum must be built anew.
	for id, h := range c.mu.tables {
		for _, e := range h.enums {
			if c.mu.enums[e.ID] != e {
				delete(c.mu.tables, id)
				break
			}
		}
	}
	c.mu.epoch++
}

// suspend makes transactions read these descriptors from the store: another node
// is about to change them.
func (c *Cache) suspend(ids []ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.mu.suspended[id]++
	}
	c.forgetLocked(ids)
}

// resume undoes suspend. What was read below ts may be of before the change.
func (c *Cache) resume(ids []ID, ts hlc.Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.mu.suspended[id]--; c.mu.suspended[id] <= 0 {
			delete(c.mu.suspended, id)
		}
	}
	c.mu.changedAt.Forward(ts)
	c.forgetLocked(ids)
}

// usableLocked says whether a transaction that reads at ts may use what is cached
// of a descriptor.
func (c *Cache) usableLocked(id ID, ts hlc.Timestamp) bool {
	return c.peers == nil || ts.WallTime < c.mu.leaseEnd && c.mu.suspended[id] == 0
}

// CommitBound implements kv.CommitBound: a transaction that used the cache under a
// lease commits before that ends.
func (c *Cache) CommitBound(lease uint64) hlc.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	if lease != c.mu.leaseGen {
		return hlc.Timestamp{WallTime: 1} // Never.
	}
	return hlc.Timestamp{WallTime: max(c.mu.leaseEnd, 1)}
}

// Leased says whether a transaction that reads at ts may use what this node
// remembers of the catalog.
func (c *Cache) Leased(ts hlc.Timestamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers == nil || ts.WallTime < c.mu.leaseEnd
}

// usedUntil returns the latest of now and the times of transactions that ended.
func (c *Cache) usedUntil(now hlc.Timestamp) hlc.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return hlc.Later(now, c.mu.lastUse)
}

func (c *Cache) epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.epoch
}

// get returns a cached descriptor that a transaction reading at ts may use, and
// under which lease; 0 stands for none.
func (c *Cache) get(id ID, ts hlc.Timestamp) (Descriptor, uint64) {
	if d := c.system[id]; d != nil {
		return d, 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.mu.byID[id]
	if d == nil || ts.Less(d.ModificationTime()) || !c.usableLocked(id, ts) {
		return nil, 0
	}
	return d, c.mu.leaseGen
}

func (c *Cache) put(d Descriptor, epoch uint64, readAt hlc.Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.epoch != epoch || readAt.Less(c.mu.changedAt) || !c.usableLocked(d.ID(), readAt) {
		return
	}
	if old := c.mu.byID[d.ID()]; old == nil || old.Version() < d.Version() {
		c.mu.byID[d.ID()] = d
	}
}

func (c *Cache) lookup(k namespaceKey, ts hlc.Timestamp) (ID, bool) {
	if id, ok := c.systemName[k]; ok {
		return id, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.mu.byName[k]
	if !ok {
		return 0, false
	}
	// The name is only as good as the descriptor that bears it.
	d := c.mu.byID[id]
	if d == nil || nameOf(d) != k || ts.Less(d.ModificationTime()) || !c.usableLocked(id, ts) {
		return 0, false
	}
	return id, true
}

func (c *Cache) putName(k namespaceKey, id ID, epoch uint64, readAt hlc.Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.epoch == epoch && !readAt.Less(c.mu.changedAt) {
		c.mu.byName[k] = id
	}
}

// enum returns the Enum of a type descriptor, made once per version.
func (c *Cache) enum(t *Type, database, schema string) *Enum {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.mu.enums[t.ID()]; e != nil && e.Version == t.Version() && e.Name == t.Name() && e.Schema == schema && e.Database == database {
		return e
	}
	e := NewEnum(t.Proto(), database, schema)
	if c.mu.byID[t.ID()] == Descriptor(t) {
		c.mu.enums[t.ID()] = e
	}
	return e
}

// hydrate returns t with its enums, made once per combination of versions.
func (c *Cache) hydrate(t *Table, enums []*Enum) *Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.mu.tables[t.ID()]
	if ok && h.base == t && len(h.enums) == len(enums) {
		same := true
		for i := range enums {
			same = same && h.enums[i] == enums[i]
		}
		if same {
			return h.table
		}
	}
	set := make(EnumSet, len(enums))
	for _, e := range enums {
		set[e.OID] = e
	}
	u := t.WithEnums(set)
	if c.mu.byID[t.ID()] == Descriptor(t) {
		c.mu.tables[t.ID()] = hydrated{base: t, enums: enums, table: u}
	}
	return u
}

func (c *Cache) use(id ID, version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.mu.uses[id]
	if m == nil {
		m = make(map[uint64]int)
		c.mu.uses[id] = m
	}
	m[version]++
}

func (c *Cache) release(who *Collection, used map[ID]uint64) {
	if len(used)+len(who.entered)+len(who.exclusive) == 0 {
		return
	}
	var last hlc.Timestamp
	if who.txn != nil {
		last = who.txn.ProvisionalCommitTimestamp() // Not under the mutex: it takes one itself.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked(who)
	c.mu.lastUse.Forward(last)
	for id, v := range used {
		m := c.mu.uses[id]
		if m[v]--; m[v] <= 0 {
			delete(m, v)
		}
		if len(m) == 0 {
			delete(c.mu.uses, id)
		}
	}
	c.signalLocked()
}

// WaitForOneVersion returns when no transaction of this node uses a version of
// the descriptor older than version. The schema changer calls it between two
// steps, which keeps at most two versions in use.
func (c *Cache) WaitForOneVersion(ctx context.Context, id ID, version uint64) error {
	c.mu.Lock()
	c.mu.watchers++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.mu.watchers--
		c.mu.Unlock()
	}()
	for {
		c.mu.Lock()
		old := false
		for v := range c.mu.uses[id] {
			old = old || v < version
		}
		changed := c.mu.changed
		c.mu.Unlock()
		if !old {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(time.Second): // Belt and braces: a missed signal must not hang a schema change.
		}
	}
}

// enumArrayType says whether t is the array type of an enum, and of which.
func enumArrayType(t *Type) (oid.Oid, bool) {
	if len(t.pb.Alias) == 0 {
		return 0, false
	}
	typ, err := UnmarshalType(t.pb.Alias)
	if err != nil || typ.Family() != types.ArrayFamily {
		return 0, false
	}
	return EnumOID(typ.ArrayContents())
}
