package catalog

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Peers lets the caches of all nodes of a cluster be used as one. A node that
// serves SQL is a member: it holds a lease, a row with an expiration that it moves
// ahead, under which its transactions may use what is cached, and which bounds the
// timestamps at which they commit. Who changes a descriptor announces it first:
//
//	changer                          every other member
//	locks the descriptor in kv
//	writes a row: what, how     ──►  takes it from the cache, whose users from
//	                                 then on read it in their transactions;
//	                                 if the change is exclusive, waits for its
//	                                 users and keeps new ones out
//	waits for all               ◄──  writes an answer
//	works, commits
//	removes the row             ──►  lets it into the cache again
//
// So a cached version is never used beside a newer one, except where a change is
// made so that both can be. A member that does not answer loses its lease when
// that expires; what it then still does cannot commit. Without a lease a node reads
// every descriptor in the transaction that uses it, which is slower and as right.
//
// Who joins while a change is under way was not asked: the changer reads the number
// of joins in its transaction and is tried again.
type Peers struct {
	cfg   PeersConfig
	cache *Cache
	db    *kv.DB
	log   *slog.Logger
	id    string // of this process: 16 random bytes
	wake  chan struct{}
	again bool // it has joined before

	// looking is held while what others announce is looked at.
	poked chan Signals // what Poke was given

	looking sync.Mutex
	foreign map[string]*foreignChange // by announcement; guarded by looking

	mu struct {
		sync.Mutex
		own   []*ownChange
		slots map[uint32]bool // of rows that stand
		quick time.Time       // look often until then
		alone bool            // when last looked at
	}
}

// PeersConfig is what Peers are made of.
type PeersConfig struct {
	DB     *kv.DB
	NodeID int32
	Log    *slog.Logger

	TTL       time.Duration // of the lease
	Heartbeat time.Duration // between extensions of the lease
	Poll      time.Duration // between looks for announcements, if nobody calls Look

	// Begin and End are told of what another node announces beside descriptors.
	Begin, End func(ctx context.Context, s Signals) error
	// Notify asks the other nodes to Look; nil leaves it to their polling.
	Notify func()
	// Frozen, of tests, says that the process is as one that the system does not let
	// run: it keeps no lease and obeys nobody.
	Frozen func() bool
}

// DefaultPeersConfig returns a configuration with all durations set.
func DefaultPeersConfig() PeersConfig {
	return PeersConfig{TTL: 9 * time.Second, Heartbeat: 3 * time.Second, Poll: 100 * time.Millisecond}
}

// Signals say what changes beside descriptors.
type Signals uint32

// What can change.
const (
	RolesChange      Signals = 1 << iota // memberships
	SettingsChange                       // cluster settings
	EverythingChange                     // all that a node remembers of system tables
	JobsChange                           // jobs; nobody depends on it
	ZonesChange                          // zone configurations; nobody depends on it
)

// Keys of the protocol. All of it is one short span, read at once.
var (
	peersPrefix  = append(append(keys.Key(nil), keys.SystemPrefix...), "catalog-"...)
	answerPrefix = append(append(keys.Key(nil), peersPrefix...), "answer/"...)
	changePrefix = append(append(keys.Key(nil), peersPrefix...), "change/"...)
	joinsKey     = append(append(keys.Key(nil), peersPrefix...), "joins"...)
	memberPrefix = append(append(keys.Key(nil), peersPrefix...), "member/"...)
	// schemaLockPrefix is beside that span, which is read often: a key for each
	// descriptor that was ever changed with another member there.
	schemaLockPrefix = append(append(keys.Key(nil), keys.SystemPrefix...), "schema-lock/"...)
)

// memberRow is the lease of a process.
type memberRow struct {
	Node    int32
	Expires int64 // wall time; the process commits nothing later that depends on its cache
}

// changeRow announces what a transaction will change.
type changeRow struct {
	Owner     []byte // process
	Txn       []byte // names the transaction's announcements
	Number    int    // among them
	Exclusive []ID
	Shared    []ID // not changed, but to be used
	Changed   []ID
	Signals   Signals
}

// answerRow says that a process is ready for a change.
type answerRow struct {
	Txn      []byte // of the announcement
	Number   int
	Deadlock bool
	At       int64 // nothing that depends on the old version commits later
}

func under(prefix keys.Key, parts ...string) keys.Key {
	k := prefix.Clone()
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

// ProcessIDLen is the length of the name of a process among the members.
const ProcessIDLen = peerIDLen

const (
	peerIDLen = 16
	tagBytes  = 3
)

// Process names this process.
func (p *Peers) Process() string { return p.id }

// HasNode says whether a node has a lease.
func (p *Peers) HasNode(ctx context.Context, node int32) (bool, error) {
	state, err := p.load(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range state.members {
		if m.Node == node && m.Expires >= state.at.WallTime {
			return true, nil
		}
	}
	return false, nil
}

// Alive says whether a process has a lease. One whose lease has expired loses it.
func (p *Peers) Alive(ctx context.Context, process string) (bool, error) {
	state, err := p.load(ctx)
	if err != nil {
		return false, err
	}
	m, ok := state.members[process]
	if !ok || m.Expires >= state.at.WallTime {
		return ok, nil
	}
	return false, p.bury(ctx, process)
}

// Members returns the processes that have a lease, or have not lost it for good.
func (p *Peers) Members(ctx context.Context) (map[string]bool, error) {
	state, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for process := range state.members {
		out[process] = true
	}
	return out, nil
}

func encodePeerRow(key keys.Key, row any) ([]byte, error) {
	b, err := json.Marshal(row)
	if err != nil {
		return nil, err
	}
	v := append([]byte{0, 0, 0, 0, tagBytes}, b...)
	kvpb.SetChecksum(key, v)
	return v, nil
}

func decodePeerRow(key keys.Key, value []byte, row any) error {
	if len(value) < 5 || value[4] != tagBytes {
		return fmt.Errorf("%s holds %x, which is no row of the catalog's members", keys.Pretty(key), value)
	}
	return json.Unmarshal(value[5:], row)
}

func randomID() string {
	id := make([]byte, peerIDLen)
	rand.Read(id) // never fails
	return string(id)
}

// Join makes the cache one of a cluster's. It must come before the cache is used.
// The former process of the same node is no more: the store's lock is ours.
func (c *Cache) Join(ctx context.Context, cfg PeersConfig) (*Peers, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Peers{cfg: cfg, cache: c, db: cfg.DB, log: cfg.Log, id: randomID(), wake: make(chan struct{}, 1), poked: make(chan Signals, 1), foreign: map[string]*foreignChange{}}
	p.mu.slots = map[uint32]bool{}
	c.peers = p
	if err := p.join(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// join writes the lease and forgets what is cached: it may have changed.
func (p *Peers) join(ctx context.Context) error {
	p.cache.mu.Lock()
	p.cache.mu.leaseEnd = 0
	p.cache.mu.Unlock()
	var expires hlc.Timestamp
	err := p.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		sp := keys.Prefix(memberPrefix)
		res, err := txn.Scan(ctx, sp.Key, sp.EndKey, kv.ScanOptions{})
		if err != nil {
			return err
		}
		for _, row := range res.KVs {
			var m memberRow
			if err := decodePeerRow(row.Key, row.Value, &m); err != nil {
				return err
			}
			if m.Node == p.cfg.NodeID {
				if err := txn.Del(ctx, row.Key); err != nil {
					return err
				}
			}
		}
		if _, err := txn.Inc(ctx, joinsKey, 1); err != nil {
			return err
		}
		expires = txn.ReadTimestamp().Add(p.cfg.TTL)
		return p.putMember(ctx, txn, expires)
	})
	if err != nil {
		return fmt.Errorf("joining the catalog's members: %w", err)
	}
	// What is announced already was announced to others; it must be obeyed before
	// anything is cached.
	if err := p.Look(ctx); err != nil {
		return err
	}
	if p.again && p.cfg.Begin != nil {
		// Others have not told this process of what they changed meanwhile.
		if err := p.cfg.Begin(ctx, EverythingChange); err != nil {
			return err
		}
		if err := p.cfg.End(ctx, EverythingChange); err != nil {
			return err
		}
	}
	p.again = true
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	p.cache.clearLocked()
	p.cache.mu.changedAt.Forward(p.db.Clock().Now())
	p.cache.mu.leaseGen++
	p.cache.mu.leaseEnd = expires.WallTime
	return nil
}

func (p *Peers) putMember(ctx context.Context, txn *kv.Txn, expires hlc.Timestamp) error {
	key := under(memberPrefix, p.id)
	v, err := encodePeerRow(key, memberRow{Node: p.cfg.NodeID, Expires: expires.WallTime})
	if err != nil {
		return err
	}
	return txn.Put(ctx, key, v)
}

// extend moves the lease's end. lost: others have taken it away.
func (p *Peers) extend(ctx context.Context) (lost bool, _ error) {
	var expires hlc.Timestamp
	key := under(memberPrefix, p.id)
	err := p.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		got, err := txn.Get(ctx, key)
		if err != nil {
			return err
		}
		if lost = len(got.Value) == 0; lost {
			return nil
		}
		expires = txn.ReadTimestamp().Add(p.cfg.TTL)
		return p.putMember(ctx, txn, expires)
	})
	if err != nil || lost {
		return lost, err
	}
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	p.cache.mu.leaseEnd = max(p.cache.mu.leaseEnd, expires.WallTime)
	return false, nil
}

// Run keeps the lease and obeys what others announce, until ctx is done.
func (p *Peers) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { p.keepLease(ctx) })
	loops.Go(func() { p.tellPoked(ctx) })
	for ctx.Err() == nil {
		if p.frozen() {
			// It sleeps.
		} else if err := p.Look(ctx); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "looking for changes of the catalog; will retry", "err", err)
		}
		t := time.NewTimer(p.nextLook())
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

func (p *Peers) frozen() bool { return p.cfg.Frozen != nil && p.cfg.Frozen() }

func (p *Peers) keepLease(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if p.frozen() {
			continue
		}
		hb, cancel := context.WithTimeout(ctx, p.cfg.TTL)
		lost, err := p.extend(hb)
		if lost {
			p.log.WarnContext(ctx, "the lease on the catalog was lost; joining again")
			err = p.join(hb)
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "extending the lease on the catalog; will retry", "err", err)
		}
	}
}

// Leave gives the lease back. Run must have ended, and all transactions.
func (p *Peers) Leave(ctx context.Context) error {
	p.cache.mu.Lock()
	p.cache.mu.leaseEnd = 0
	p.cache.mu.Unlock()
	p.looking.Lock()
	for id := range p.foreign {
		p.endForeign(ctx, id)
	}
	p.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	p.removeOwn(ctx)
	if err := p.db.Del(ctx, under(memberPrefix, p.id)); err != nil {
		p.log.WarnContext(ctx, "giving the lease on the catalog back; it will expire", "err", err)
	}
	return nil
}

// leaveTimeout bounds how long a process that stops tries to give its lease back.
const leaveTimeout = 2 * time.Second

// Wake makes Run look at once, as after a message of another node.
func (p *Peers) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Changes come in bursts: after one, the next is looked for soon.
const (
	quickLook = 5 * time.Millisecond
	quickFor  = 500 * time.Millisecond
)

func (p *Peers) nextLook() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.mu.own) > 0 || time.Now().Before(p.mu.quick) {
		return min(quickLook, p.cfg.Poll)
	}
	if p.mu.alone {
		return 10 * p.cfg.Poll
	}
	return p.cfg.Poll
}

// peerState is the span of the protocol at one time.
type peerState struct {
	at      hlc.Timestamp
	members map[string]memberRow
	changes map[string]changeRow // by process and slot
	answers map[string]answerRow // by process, slot and the process that answers
}

func (p *Peers) load(ctx context.Context) (*peerState, error) {
	s := &peerState{
		at: p.db.Clock().Now(), members: map[string]memberRow{}, changes: map[string]changeRow{}, answers: map[string]answerRow{},
	}
	sp := keys.Prefix(peersPrefix)
	res, err := p.db.Scan(ctx, sp.Key, sp.EndKey, s.at, kv.ScanOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the catalog's members: %w", err)
	}
	for _, row := range res.KVs {
		switch {
		case keys.Prefix(memberPrefix).Contains(row.Key):
			err = decodeInto(s.members, row, memberPrefix)
		case keys.Prefix(changePrefix).Contains(row.Key):
			err = decodeInto(s.changes, row, changePrefix)
		case keys.Prefix(answerPrefix).Contains(row.Key):
			err = decodeInto(s.answers, row, answerPrefix)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func decodeInto[T any](m map[string]T, row kv.KeyValue, prefix keys.Key) error {
	var v T
	if err := decodePeerRow(row.Key, row.Value, &v); err != nil {
		return err
	}
	m[string(row.Key[len(prefix):])] = v
	return nil
}

// bury takes the lease of a process away, if it has expired, and what it has
// announced. Whoever commits after this has read the past end of the lease.
func (p *Peers) bury(ctx context.Context, process string) error {
	var gone bool
	err := p.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		gone = false
		key := under(memberPrefix, process)
		got, err := txn.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(got.Value) > 0 {
			var m memberRow
			if err := decodePeerRow(key, got.Value, &m); err != nil {
				return err
			}
			if txn.ReadTimestamp().WallTime <= m.Expires {
				return nil
			}
			if err := txn.Del(ctx, key); err != nil {
				return err
			}
		}
		gone = true
		for _, prefix := range []keys.Key{changePrefix, answerPrefix} {
			sp := keys.Prefix(under(prefix, process))
			if _, err := txn.DelRange(ctx, sp.Key, sp.EndKey); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing a member of the catalog that is no more: %w", err)
	}
	if gone {
		p.log.InfoContext(ctx, "removed a member of the catalog whose lease has expired", "process", fmt.Sprintf("%x", process))
	}
	return nil
}
