package kvserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/allocator"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
	"github.com/holdfastdb/holdfast/kv/storage"

	"google.golang.org/protobuf/proto"
)

// Config is what a Store needs.
type Config struct {
	Engine *storage.Engine
	Clock  *hlc.Clock
	Log    *slog.Logger
	NodeID kvpb.NodeID
	// Settings; nil functions mean the defaults.
	//
	// ClosedTimestampTarget is how far behind the present a range with several
	// replicas promises not to change (kv.closed_timestamp.target_duration).
	ClosedTimestampTarget func() time.Duration
	// GC says what garbage collection has to respect. Without it there is none.
	GC *GCConfig

	// Network makes the store part of a cluster: its ranges can have replicas on
	// other nodes. Transport and FirstRange are needed then, too.
	Network Network
	// Transport reaches replicas in other stores.
	Transport kv.Transport
	// FirstRange says where the range with the addressing records is, as far as the
	// node has heard; it may be out of date.
	FirstRange func(context.Context) (*kvpb.RangeDescriptor, error)
	// Distance says how far another node is, for reads that any replica can serve.
	// Nil: this node is nearer than all others.
	Distance func(kvpb.NodeID) int
	// LeaseAcquired hears of each lease that this store gets, soon after; nil: nobody
	// does. It must not wait.
	LeaseAcquired func(d *kvpb.RangeDescriptor, sequence int64)
	// Stores tells of all stores of the cluster, as far as the node has heard, and
	// ZoneConfig what holds for keys. With them the store keeps its ranges where they
	// should be; without, it leaves them where they are.
	Stores     func() []allocator.Store
	ZoneConfig ZoneFunc
	// MergeQueue says whether small ranges are merged; nil: they are not.
	MergeQueue func() bool
	// CheckInterval is how often each range is checked for whether its replicas are
	// alike; nil or zero: never.
	CheckInterval func() time.Duration
	// SnapshotRate is how many bytes per second snapshots may send, all together; nil or
	// zero: any number.
	SnapshotRate func() int64
	// PlacementTick is how often it looks what there is to do. Zero: one second.
	PlacementTick time.Duration
	// TickInterval is the unit of raft's timeouts. Zero: 200 ms.
	TickInterval time.Duration
}

// Store is one engine with the replicas in it. It is safe for concurrent use.
type Store struct {
	cfg    Config
	eng    *storage.Engine
	clock  *hlc.Clock
	log    *slog.Logger
	ident  Ident
	sender kv.Sender // reaches all ranges, for the store's own requests

	tsCache  *tsCache
	locks    *lockTable
	marks    *txnMarks
	waits    waitEdges
	resolver *resolver
	bound    clockBound

	// started is the clock's time at Start. Whoever was a client before is gone.
	started hlc.Timestamp
	opened  time.Time

	replicas struct {
		sync.Mutex // writers only; readers use the pointer
		byID       atomic.Pointer[map[kvpb.RangeID]*Replica]
		// blank are replicas that know nothing of their range yet, but may vote.
		blank map[kvpb.RangeID]*Replica
		// reserved are the keys of ranges that come to this store by a snapshot just now.
		reserved map[kvpb.RangeID]keys.Span
	}
	raft      *raftgroup.Scheduler // nil: not part of a cluster
	placement *placement           // nil: ranges stay where they are
	// splitting has the ranges whose beginning is being applied here.
	splitting sync.Map
	arriving  sync.Mutex // one replica comes or goes at a time

	stop      context.CancelFunc
	ctx       context.Context // of work that nobody waits for; ended by stop
	stopping  <-chan struct{} // closed by stop
	bg        sync.WaitGroup
	asyncLock sync.Mutex // held between asking whether the store is closing and bg.Go
	closed    atomic.Bool
	inFlight  atomic.Int64 // requests being evaluated

	// testMerge, if set, is asked before steps of a merge; false: it ends there, as if
	// whoever works on it had died.
	testMerge func(kvpb.MergeStep) bool
	// testJoint, if set, is asked before a joint configuration is left; false: it is
	// not, as if its leaseholder had died.
	testJoint func() bool
	settling  atomic.Bool // see wakeFrozen

	pacer        pacer
	summing      chan struct{} // one token for the checksum that may be computed
	inconsistent atomic.Int64  // checks that found replicas which differ

	followerReads atomic.Int64 // batches that were served without the lease
	orphanTurn    atomic.Int64 // of removeOrphans
}

// Ident says which store of which cluster an engine is.
type Ident struct {
	ClusterID [16]byte
	NodeID    kvpb.NodeID
	StoreID   kvpb.StoreID
}

// ErrNotBootstrapped says that an engine is new: it belongs to no cluster yet.
var ErrNotBootstrapped = errors.New("store is not bootstrapped")

// ReadIdent returns the identity that Bootstrap wrote.
func ReadIdent(eng *storage.Engine) (Ident, error) {
	b, ok, err := eng.Get(storeKey(suffixIdent))
	if err != nil {
		return Ident{}, fmt.Errorf("reading store identity: %w", err)
	}
	if !ok {
		return Ident{}, ErrNotBootstrapped
	}
	var m kvserverpb.StoreIdent
	if err := proto.Unmarshal(b, &m); err != nil || len(m.ClusterId) != 16 {
		return Ident{}, storage.Mark(fmt.Errorf("decoding store identity %x: %w", b, err), storage.ErrCorrupt)
	}
	id := Ident{NodeID: kvpb.NodeID(m.NodeId), StoreID: kvpb.StoreID(m.StoreId)}
	copy(id.ClusterID[:], m.ClusterId)
	return id, nil
}

// Bootstrap makes a new engine the first store of a new cluster: one range holds
// the whole keyspace.
func Bootstrap(eng *storage.Engine, id Ident) error {
	if _, err := ReadIdent(eng); !errors.Is(err, ErrNotBootstrapped) {
		if err == nil {
			err = errors.New("store is bootstrapped already")
		}
		return err
	}
	desc := &kvpb.RangeDescriptor{
		RangeID: 1, StartKey: keys.MinKey, EndKey: keys.MaxKey, Generation: 1, NextReplicaID: 2,
		Replicas: []kvpb.ReplicaDescriptor{{NodeID: id.NodeID, StoreID: id.StoreID, ReplicaID: 1}},
	}
	b := eng.NewBatch()
	defer b.Close()
	if err := putLocalDescriptor(b, desc); err != nil {
		return err
	}
	addressing, err := encodeRangeDescriptor(desc)
	if err != nil {
		return err
	}
	if err := b.Put(MetaKey(desc.EndKey), addressing); err != nil {
		return err
	}
	if err := putIdent(b, id); err != nil {
		return err
	}
	return b.Commit(true)
}

// Join makes a new engine a store of a cluster that exists: it has no ranges yet.
func Join(eng *storage.Engine, id Ident) error {
	if _, err := ReadIdent(eng); !errors.Is(err, ErrNotBootstrapped) {
		if err == nil {
			err = errors.New("store is bootstrapped already")
		}
		return err
	}
	b := eng.NewBatch()
	defer b.Close()
	if err := putIdent(b, id); err != nil {
		return err
	}
	return b.Commit(true)
}

func putIdent(w storage.Writer, id Ident) error {
	ident, err := encodeProto(&kvserverpb.StoreIdent{ClusterId: id.ClusterID[:], NodeId: int32(id.NodeID), StoreId: int32(id.StoreID)})
	if err != nil {
		return err
	}
	return w.Put(storeKey(suffixIdent), ident)
}

// putLocalDescriptor writes a descriptor to where its replicas have it.
func putLocalDescriptor(w storage.Writer, d *kvpb.RangeDescriptor) error {
	b, err := encodeRangeDescriptor(d)
	if err != nil {
		return err
	}
	return w.Put(rangeDescriptorKey(d.StartKey), b)
}

// Open loads the replicas of a bootstrapped engine and starts the store's
// background work, which Close ends. It moves the clock above everything that
// the store served before.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ident, err := ReadIdent(cfg.Engine)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, eng: cfg.Engine, clock: cfg.Clock, log: cfg.Log, ident: ident, opened: time.Now(), summing: make(chan struct{}, 1), pacer: pacer{rate: cfg.SnapshotRate}}
	if err := s.startClock(); err != nil {
		return nil, err
	}
	s.tsCache = newTSCache(s.started)
	s.locks = newLockTable()
	s.marks = newTxnMarks(s.started)
	router := kv.NewRouter(s, s)
	if router.Distance = cfg.Distance; router.Distance == nil {
		router.Distance = func(n kvpb.NodeID) int {
			if n == ident.NodeID {
				return 0
			}
			return 1
		}
	}
	s.sender = router
	s.replicas.blank, s.replicas.reserved = map[kvpb.RangeID]*Replica{}, map[kvpb.RangeID]keys.Span{}
	s.replicas.byID.Store(&map[kvpb.RangeID]*Replica{})
	bgCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.ctx, s.stopping = stop, bgCtx, bgCtx.Done()
	s.resolver = newResolver(bgCtx, s)
	if cfg.Network != nil && cfg.Stores != nil && cfg.ZoneConfig != nil {
		s.placement = newPlacement(s)
	}
	if err := s.startRaft(); err != nil {
		stop()
		return nil, err
	}
	if err := s.loadReplicas(); err != nil {
		s.closeRaft()
		stop()
		return nil, err
	}
	s.bg.Go(func() { s.maintain(bgCtx) })
	if cfg.Network == nil {
		s.bg.Go(func() { s.cleanUpAfterRestart(bgCtx) })
	}
	if s.placement != nil {
		s.bg.Go(func() { s.placement.run(bgCtx) })
	}
	return s, nil
}

// startRaft begins to run raft groups, of which there are none yet.
func (s *Store) startRaft() error {
	if s.cfg.Network == nil {
		return nil
	}
	rc := raftgroup.DefaultConfig()
	rc.Engine, rc.Transport, rc.Log = s.eng, raftTransport{s}, s.log
	if s.cfg.TickInterval > 0 {
		rc.TickInterval = s.cfg.TickInterval
	}
	var err error
	s.raft, err = raftgroup.NewScheduler(rc)
	return err
}

func (s *Store) closeRaft() {
	if s.raft != nil {
		s.raft.Close()
	}
}

// async runs fn in a goroutine that Close waits for. A store that is closing does
// not begin anything; then async returns false.
func (s *Store) async(fn func(context.Context)) bool {
	s.asyncLock.Lock()
	defer s.asyncLock.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.bg.Go(func() { fn(s.ctx) })
	return true
}

// ErrStopped says that the store is closing.
var ErrStopped = pgerr.New(pgerr.AdminShutdown, "the node is shutting down")

// Close stops background work, waits for the requests under way, refuses new
// ones, and writes what makes the next start quick.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.asyncLock.Lock()
	s.stop()
	s.asyncLock.Unlock()
	// What is on its way through a log is given up.
	_ = s.eachReplica(func(r *Replica) error {
		r.pending.endAll(&kvpb.AmbiguousResultError{Cause: ErrStopped}, ErrStopped)
		return nil
	})
	s.resolver.close()
	s.bg.Wait()
	// Who waits for a lock gives up when stopping is closed; all others finish by
	// themselves.
	for s.inFlight.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	s.closeRaft()
	return s.persistIdle(true)
}

// Ident returns the store's identity.
func (s *Store) Ident() Ident { return s.ident }

// Engine returns the store's engine.
func (s *Store) Engine() *storage.Engine { return s.eng }

// loadReplicas reads all range descriptors and checks that they cover the
// keyspace.
func (s *Store) loadReplicas() error {
	byID := map[kvpb.RangeID]*Replica{}
	var inOrder []*Replica
	var at keys.Key
	err := s.eng.Scan(keys.LocalRangePrefix, keys.LocalRangePrefix.PrefixEnd(), func(k keys.Key, v []byte) (bool, error) {
		start, suffix, err := decodeAddressedKey(k)
		if err != nil || string(suffix) != suffixRangeDescriptor {
			return err == nil, err
		}
		d, err := decodeRangeDescriptor(v)
		if err != nil {
			return false, err
		}
		// A store of a cluster has some of the ranges, any other has all.
		if gap := !d.StartKey.Equal(at) && s.cfg.Network == nil; gap || !d.StartKey.Equal(start) || d.StartKey.Less(at) {
			return false, storage.Mark(fmt.Errorf("%s does not continue at %s", d, at), storage.ErrCorrupt)
		}
		at = d.EndKey
		r, err := s.newReplica(d)
		if err != nil {
			return false, err
		}
		byID[d.RangeID] = r
		inOrder = append(inOrder, r)
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("loading ranges: %w", err)
	}
	if !at.Equal(keys.MaxKey) && s.cfg.Network == nil {
		return storage.Mark(fmt.Errorf("ranges end at %s", at), storage.ErrCorrupt)
	}
	// Groups run from when they are joined, and what they apply may look for others
	// or add them.
	s.replicas.byID.Store(&byID)
	// From the right: a group may absorb the range to its right as soon as it runs.
	for _, r := range slices.Backward(inOrder) {
		if r.lease.Load() != nil {
			if err := r.joinGroup(); err != nil {
				return fmt.Errorf("loading %s: %w", r.Desc(), err)
			}
		}
	}
	return nil
}

// makeReplica returns a replica of which only the descriptor is known.
func (s *Store) makeReplica(d *kvpb.RangeDescriptor) *Replica {
	r := &Replica{store: s, id: d.RangeID, log: s.log.With("range", int64(d.RangeID)), changing: make(changeLock, 1), leasing: make(changeLock, 1)}
	r.desc.Store(d)
	return r
}

// newReplica returns the replica of a range whose state is on disk.
func (s *Store) newReplica(d *kvpb.RangeDescriptor) (*Replica, error) {
	r := s.makeReplica(d)
	gc, l, f, err := s.readRangeState(d.RangeID)
	if err != nil {
		return nil, err
	}
	r.gc.Store(gc)
	r.setFrozen(f)
	if b, ok, err := s.eng.Get(rangeIDKey(d.RangeID, suffixStats)); err != nil {
		return nil, err
	} else if ok {
		if r.mu.stats, err = decodeStats(b); err != nil {
			return nil, err
		}
	}
	if l == nil {
		return r, nil
	}
	if s.raft == nil {
		return nil, fmt.Errorf("%s has replicas on other nodes, so this store can only be opened as part of its cluster", d)
	}
	if l.holder.StoreID == s.ident.StoreID {
		// It may be usable: one that was given to us while we were away.
		r.raiseFloor(l.start)
		s.clock.Update(l.start)
	}
	r.lease.Store(l)
	return r, nil
}

// readRangeState reads what a replica keeps in memory of its range's state. Without
// a lease the range has no group.
func (s *Store) readRangeState(id kvpb.RangeID) (gc *gcState, l *lease, f *frozen, err error) {
	b, ok, err := s.eng.Get(rangeIDKey(id, suffixGCThreshold))
	if err == nil && ok {
		gc, err = decodeGCState(b)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	b, ok, err = s.eng.Get(rangeIDKey(id, suffixFrozen))
	if err == nil && ok {
		f, err = decodeFrozen(b)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	b, ok, err = s.eng.Get(rangeIDKey(id, suffixLease))
	if err == nil && ok {
		l, err = decodeLease(b)
	}
	return gc, l, f, err
}

// replica returns the replica of a range, or nil.
func (s *Store) replica(id kvpb.RangeID) *Replica { return (*s.replicas.byID.Load())[id] }

// eachReplica calls fn for every replica in key order.
func (s *Store) eachReplica(fn func(*Replica) error) error {
	var all []*Replica
	for _, r := range *s.replicas.byID.Load() {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Replica) int { return a.Desc().StartKey.Compare(b.Desc().StartKey) })
	for _, r := range all {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Sender reaches all ranges of the keyspace.
func (s *Store) Sender() kv.Sender { return s.sender }

// SendTo implements kv.Transport: replicas of this store are asked directly.
func (s *Store) SendTo(ctx context.Context, to kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if to.StoreID != s.ident.StoreID && s.cfg.Transport != nil {
		return s.cfg.Transport.SendTo(ctx, to, ba)
	}
	return s.HandleBatch(ctx, ba)
}

// HandleBatch evaluates a batch that is for a replica of this store.
func (s *Store) HandleBatch(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if s.closed.Load() {
		return nil, ErrStopped
	}
	r := s.replica(ba.RangeID)
	if r == nil {
		return nil, &kvpb.RangeNotFoundError{RangeID: ba.RangeID}
	}
	return r.Send(ctx, ba)
}

func (r *Replica) info(q *kvpb.Request) kvpb.RangeInfo {
	st := r.Stats()
	info := kvpb.RangeInfo{
		Descriptor: *r.Desc(), Leaseholder: r.store.ident.NodeID, // who else would answer
		Bytes: st.Total(), LiveBytes: st.LiveBytes, LiveKeys: st.LiveCount,
	}
	span := q.Span()
	if args, ok := q.Args.(*kvpb.RangeInfoArgs); ok {
		span.EndKey = args.EndKey
	}
	info.GCThreshold = r.gc.Load().threshold(span)
	return info
}
