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
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
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
	resolver *resolver
	bound    clockBound

	// started is the clock's time at Start. Whoever was a client before is gone.
	started hlc.Timestamp
	opened  time.Time

	replicas struct {
		sync.RWMutex // writers only; readers use the pointer
		byID         atomic.Pointer[map[kvpb.RangeID]*Replica]
		lastID       kvpb.RangeID
	}

	stop     context.CancelFunc
	stopping <-chan struct{} // closed by stop
	bg       sync.WaitGroup
	closed   atomic.Bool
	inFlight atomic.Int64 // requests being evaluated
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
	if err := putDescriptor(b, desc); err != nil {
		return err
	}
	ident, err := encodeProto(&kvserverpb.StoreIdent{ClusterId: id.ClusterID[:], NodeId: int32(id.NodeID), StoreId: int32(id.StoreID)})
	if err != nil {
		return err
	}
	if err := b.Put(storeKey(suffixIdent), ident); err != nil {
		return err
	}
	return b.Commit(true)
}

// putDescriptor writes a descriptor to both places where it is looked for.
func putDescriptor(w storage.Writer, d *kvpb.RangeDescriptor) error {
	b, err := encodeRangeDescriptor(d)
	if err != nil {
		return err
	}
	if err := w.Put(rangeDescriptorKey(d.StartKey), b); err != nil {
		return err
	}
	return w.Put(MetaKey(d.EndKey), b)
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
	s := &Store{cfg: cfg, eng: cfg.Engine, clock: cfg.Clock, log: cfg.Log, ident: ident, opened: time.Now()}
	if err := s.startClock(); err != nil {
		return nil, err
	}
	s.tsCache = newTSCache(s.started)
	s.locks = newLockTable()
	s.marks = newTxnMarks(s.started)
	s.sender = kv.NewRouter(s, s)
	if err := s.loadReplicas(); err != nil {
		return nil, err
	}
	bgCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.stopping = stop, bgCtx.Done()
	s.resolver = newResolver(bgCtx, s)
	s.bg.Go(func() { s.maintain(bgCtx) })
	s.bg.Go(func() { s.cleanUpAfterRestart(bgCtx) })
	return s, nil
}

// ErrStopped says that the store is closing.
var ErrStopped = pgerr.New(pgerr.AdminShutdown, "the node is shutting down")

// Close stops background work, waits for the requests under way, refuses new
// ones, and writes what makes the next start quick.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.resolver.close()
	s.bg.Wait()
	// Who waits for a lock gives up when stopping is closed; all others finish by
	// themselves.
	for s.inFlight.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
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
		if !d.StartKey.Equal(start) || !d.StartKey.Equal(at) {
			return false, storage.Mark(fmt.Errorf("%s does not continue at %s", d, at), storage.ErrCorrupt)
		}
		at = d.EndKey
		r, err := s.newReplica(d)
		if err != nil {
			return false, err
		}
		byID[d.RangeID] = r
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("loading ranges: %w", err)
	}
	if !at.Equal(keys.MaxKey) {
		return storage.Mark(fmt.Errorf("ranges end at %s", at), storage.ErrCorrupt)
	}
	s.replicas.byID.Store(&byID)
	return nil
}

func (s *Store) newReplica(d *kvpb.RangeDescriptor) (*Replica, error) {
	r := &Replica{store: s, id: d.RangeID, log: s.log.With("range", int64(d.RangeID))}
	r.desc.Store(d)
	if b, ok, err := s.eng.Get(rangeIDKey(d.RangeID, suffixGCThreshold)); err != nil {
		return nil, err
	} else if ok {
		g, err := decodeGCState(b)
		if err != nil {
			return nil, err
		}
		r.gc.Store(g)
	}
	if b, ok, err := s.eng.Get(rangeIDKey(d.RangeID, suffixStats)); err != nil {
		return nil, err
	} else if ok {
		if r.mu.stats, err = decodeStats(b); err != nil {
			return nil, err
		}
	}
	return r, nil
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

// SendTo implements kv.Transport for the replicas of this store.
func (s *Store) SendTo(ctx context.Context, _ kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
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

// LookupRange implements kv.Directory from the addressing records.
func (s *Store) LookupRange(_ context.Context, key keys.Key, before bool) (*kvpb.RangeDescriptor, error) {
	from := key.Next() // Records are filed under the range's end, which is exclusive.
	if before {
		from = key
	}
	if keys.MaxKey.Less(from) || !before && key.Equal(keys.MaxKey) {
		return nil, fmt.Errorf("key %s is beyond the last range", key)
	}
	var d *kvpb.RangeDescriptor
	err := s.eng.Scan(MetaKey(from), keys.MetaMax, func(_ keys.Key, v []byte) (bool, error) {
		var err error
		d, err = decodeRangeDescriptor(v)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, storage.Mark(fmt.Errorf("no range holds %s", key), storage.ErrCorrupt)
	}
	return d, nil
}

// closedTimestamp is up to where the range has promised not to change. Only
// followers read by that promise, so a range without any makes none, and a
// long transaction on it is not pushed forward again and again.
func (r *Replica) closedTimestamp() hlc.Timestamp {
	if len(r.Desc().Replicas) < 2 {
		return hlc.Timestamp{}
	}
	target := 3 * time.Second
	if f := r.store.cfg.ClosedTimestampTarget; f != nil {
		target = f()
	}
	return r.store.clock.Now().Add(-target)
}

func (r *Replica) info(q *kvpb.Request) kvpb.RangeInfo {
	st := r.Stats()
	info := kvpb.RangeInfo{
		Descriptor: *r.Desc(), Leaseholder: r.store.ident.NodeID,
		Bytes: st.Total(), LiveBytes: st.LiveBytes, LiveKeys: st.LiveCount,
	}
	span := q.Span()
	if args, ok := q.Args.(*kvpb.RangeInfoArgs); ok {
		span.EndKey = args.EndKey
	}
	info.GCThreshold = r.gc.Load().threshold(span)
	return info
}
