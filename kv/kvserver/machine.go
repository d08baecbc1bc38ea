package kvserver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// machine is a replica as its raft group sees it: the state that the commands of
// the log change, in the same way on every store. The group calls it from one
// goroutine at a time.
//
// What is decided is staged in the group's batch; what the rest of the replica
// sees of it follows once that is committed, in the same order.
type machine struct {
	r *Replica
	// The state as of the last command that was staged.
	desc   *kvpb.RangeDescriptor
	lease  *lease
	frozen *frozen
	stats  storage.Stats
	then   []func()
}

var _ raftgroup.Machine = (*machine)(nil)

func newMachine(r *Replica) *machine {
	return &machine{r: r, desc: r.Desc(), lease: r.lease.Load(), frozen: r.frozen.Load(), stats: r.Stats()}
}

// Alone implements raftgroup.Machine: an ingestion does not go through the batch.
func (m *machine) Alone(c raftgroup.Command) bool {
	return len(c.Data) > 0 && c.Data[0] == applyAlone
}

// Apply implements raftgroup.Machine.
func (m *machine) Apply(b *storage.Batch, c raftgroup.Command) error {
	m.r.pending.supersede(c.Term)
	if len(c.Data) == 0 {
		return nil
	}
	cmd, err := decodeCommand(c)
	if err != nil {
		return err
	}
	result, err := m.command(b, cmd)
	if err != nil {
		return err
	}
	finish := m.r.pending.take(cmd.Id) // It must not be taken for lost when the next term begins.
	m.then = append(m.then, func() { finish(result) })
	return nil
}

// command stages what cmd changes. The result is for its proposer: if it is not
// nil, nothing was changed.
func (m *machine) command(b *storage.Batch, cmd *kvserverpb.Command) (result, err error) {
	if cmd.Thaw != nil {
		return m.thaw(b, cmd.Thaw)
	}
	if m.frozen != nil {
		return m.r.notLeaseholder(kvpb.ReplicaDescriptor{}), nil
	}
	if cmd.Lease != nil {
		return m.newLease(b, cmd.Lease)
	}
	if cmd.LeaseSequence != m.lease.sequence {
		return m.r.notLeaseholder(m.lease.holder), nil
	}
	if g := cmd.Gc; g != nil {
		gc, err := gcStateFromProto(g)
		if err != nil {
			return nil, err
		}
		m.r.gc.Store(gc) // Readers must know before anything can be removed.
	}
	if in := cmd.Ingestion; in != nil {
		return m.ingest(b, in)
	}
	if cmd.Split != nil {
		return m.split(b, cmd.Split)
	}
	if cmd.Freeze != nil {
		return m.freeze(b, cmd.Freeze)
	}
	if cmd.Check != 0 {
		m.r.beginChecksum(cmd.Check, m.desc, m.stats)
		return nil, nil
	}
	if cmd.Merge != nil {
		return m.merge(b, cmd.Merge)
	}
	if cmd.Range != nil {
		return m.newDescriptor(b, cmd.Range)
	}
	if len(cmd.Batch) > 0 {
		if err := b.ApplyRepr(cmd.Batch); err != nil {
			return nil, err
		}
	}
	if s := cmd.Stats; s != nil {
		return nil, m.addStats(b, statsFromProto(s))
	}
	return nil, nil
}

// addStats counts what a command adds.
func (m *machine) addStats(b *storage.Batch, delta storage.Stats) error {
	next := m.stats
	next.Add(delta)
	return m.setStats(b, next)
}

func (m *machine) setStats(b *storage.Batch, next storage.Stats) error {
	m.stats = next
	m.then = append(m.then, func() { m.r.setStats(next) })
	return putStats(b, m.r.id, next)
}

func putStats(b *storage.Batch, id kvpb.RangeID, s storage.Stats) error {
	v, err := encodeStats(s)
	if err != nil {
		return err
	}
	return b.Put(rangeIDKey(id, suffixStats), v)
}

// setStats is for ranges with a group, whose statistics are part of their state.
func (r *Replica) setStats(s storage.Stats) {
	r.mu.Lock()
	r.mu.stats = s
	r.mu.Unlock()
	r.noticeSize(&s)
}

// newLease decides about a request for the lease: it is granted if the lease is
// still the one that the request wants to replace.
func (m *machine) newLease(b *storage.Batch, q *kvserverpb.LeaseRequest) (result, err error) {
	next := leaseFromProto(q.GetNext())
	if !m.lease.same(leaseFromProto(q.GetPrevious())) {
		return m.r.notLeaseholder(m.lease.holder), nil
	}
	// It may have left or lost its vote since it was chosen, and then it could not lead.
	if o, ok := m.desc.Replica(next.holder.ReplicaID); !ok || !o.Type.MayServe() {
		return m.r.notLeaseholder(kvpb.ReplicaDescriptor{}), nil
	}
	v, err := encodeProto(next.proto())
	if err != nil {
		return nil, err
	}
	if err := b.Put(rangeIDKey(m.r.id, suffixLease), v); err != nil {
		return nil, err
	}
	m.setLease(next)
	return nil, nil
}

// setLease has the replica see next once it is committed.
func (m *machine) setLease(next *lease) {
	old := m.lease
	m.lease = next
	m.then = append(m.then, func() {
		r := m.r
		r.store.clock.Update(next.start)
		if next.sequence != old.sequence && next.holder.StoreID == r.store.ident.StoreID {
			r.raiseFloor(next.start)
		}
		r.lease.Store(next)
		if f := r.store.cfg.LeaseAcquired; f != nil && next.sequence != old.sequence && next.holder.StoreID == r.store.ident.StoreID {
			f(r.Desc(), next.sequence)
		}
		if next.sequence != old.sequence && next.holder.StoreID == r.store.ident.StoreID {
			r.store.placement.look(r.id)
		}
		if next.sequence != old.sequence {
			r.log.Debug("lease", "holder", next.holder.StoreID, "sequence", next.sequence)
		}
	})
}

// ingest makes an sstable part of the store. What its checks find is the same on
// every replica. When the command is applied again after a crash they may find its
// own keys, and refuse what is there already.
func (m *machine) ingest(b *storage.Batch, in *kvserverpb.Ingestion) (result, err error) {
	res, err := m.r.store.eng.IngestSST(context.Background(), in.Sst, storage.IngestOptions{
		Span: keys.Span{Key: in.GetSpan().GetKey(), EndKey: in.GetSpan().GetEndKey()}, Timestamp: tsFromProto(in.Timestamp),
		RequireEmpty: in.RequireEmpty, DisallowShadowing: in.DisallowShadowing, OnlyRepeat: in.OnlyRepeat,
	})
	if err != nil {
		if refusedIngestion(err) {
			return err, nil
		}
		return nil, err
	}
	return nil, m.addStats(b, res.Stats)
}

// refusedIngestion says whether err is about the file and the keys that it meets,
// which are the same everywhere, and not about this store.
func refusedIngestion(err error) bool {
	var locks *storage.LockConflictError
	var old *storage.WriteTooOldError
	var notEmpty *storage.NotEmptyError
	var shadow *storage.ShadowingError
	return errors.Is(err, storage.ErrBadSST) || errors.As(err, &locks) || errors.As(err, &old) || errors.As(err, &notEmpty) || errors.As(err, &shadow)
}

// ApplyConfChange implements raftgroup.Machine.
func (m *machine) ApplyConfChange(b *storage.Batch, c raftgroup.Command) (bool, error) {
	m.r.pending.supersede(c.Term)
	if len(c.Data) == 0 {
		return true, nil // Raft itself leaves a joint configuration.
	}
	cmd, err := decodeCommand(c)
	if err != nil {
		return false, err
	}
	var result error
	if cmd.LeaseSequence != m.lease.sequence {
		result = m.r.notLeaseholder(m.lease.holder)
	} else if m.frozen != nil {
		result = m.r.notLeaseholder(kvpb.ReplicaDescriptor{})
	} else if result, err = m.newDescriptor(b, cmd.Range); err != nil {
		return false, err
	}
	finish := m.r.pending.take(cmd.Id) // It must not be taken for lost when the next term begins.
	m.then = append(m.then, func() { finish(result) })
	return result == nil, nil
}

// newDescriptor decides about the next descriptor of the range: it must be made of
// the present one.
func (m *machine) newDescriptor(b *storage.Batch, p *kvserverpb.RangeDescriptor) (result, err error) {
	next, err := descriptorFromProto(p)
	if err != nil {
		return nil, err
	}
	if next.Generation != m.desc.Generation+1 {
		return fmt.Errorf("%s is %s by now", next, m.desc), nil
	}
	if m.desc.Absorbing != 0 && next.Absorbing != 0 {
		return fmt.Errorf("%s is about to absorb r%d", m.desc, m.desc.Absorbing), nil
	}
	if err := putLocalDescriptor(b, next); err != nil {
		return nil, err
	}
	m.setDesc(next)
	return nil, nil
}

func (m *machine) setDesc(next *kvpb.RangeDescriptor) {
	old := m.desc
	m.desc = next
	m.then = append(m.then, func() {
		m.r.desc.Store(next)
		m.r.sayGoodbye(old, next)
		m.r.descChanged()
	})
}

// Applied implements raftgroup.Machine.
func (m *machine) Applied(index uint64) {
	m.r.sawApplied(index) // Before any proposer knows: see closeTimestamps.
	then := m.then
	m.then = nil
	for _, fn := range then {
		fn()
	}
}

// split stages the two halves. The right one begins with a log of its own, the
// same on every store.
func (m *machine) split(b *storage.Batch, sp *kvserverpb.Split) (result, err error) {
	left, err := descriptorFromProto(sp.Left)
	if err != nil {
		return nil, err
	}
	right, err := descriptorFromProto(sp.Right)
	if err != nil {
		return nil, err
	}
	if left.Generation != m.desc.Generation+1 || m.desc.Absorbing != 0 || m.desc.Joint() {
		return fmt.Errorf("%s is %s by now", left, m.desc), nil
	}
	r := m.r
	leftStats, rightStats := splitStats(m.stats, sp)
	m.desc = left
	vote, ok, err := r.store.makeRoomFor(right)
	if err != nil {
		return nil, err
	}
	if !ok {
		// This store has left the right range already, without having seen it begin.
		if err := putLocalDescriptor(b, left); err != nil {
			return nil, err
		}
		m.then = append(m.then, func() { r.desc.Store(left) })
		return nil, errors.Join(b.ClearSpans(replicatedSpans(right)), m.setStats(b, leftStats))
	}
	n := r.splitOff(right)
	n.lease.Store(&lease{
		sequence: m.lease.sequence, holder: sameStore(right, m.lease.holder), start: m.lease.start, expiration: m.lease.expiration,
	})
	if err := n.stageSplit(b, left); err != nil {
		return nil, err
	}
	if err := n.stageGroup(b, splitIndex, splitTerm, right, n.lease.Load()); err != nil {
		return nil, err
	}
	if err := raftgroup.KeepVote(b, logPrefix(n.id), vote); err != nil {
		return nil, err
	}
	if err := putStats(b, n.id, rightStats); err != nil {
		return nil, err
	}
	n.mu.stats = rightStats
	m.then = append(m.then, func() { r.finishSplit(n, left) })
	return nil, m.setStats(b, leftStats)
}

func sameStore(d *kvpb.RangeDescriptor, r kvpb.ReplicaDescriptor) kvpb.ReplicaDescriptor {
	o, _ := d.ReplicaOn(r.StoreID)
	return o
}

// StateChanged implements raftgroup.Machine.
func (m *machine) StateChanged(st raftgroup.Status) {
	if st.IsLeader() {
		// Not from here: the group is running.
		m.r.store.async(func(context.Context) { m.r.followLease() })
	}
}

// Stopped implements raftgroup.Machine: whoever waits for a command is told that
// nobody knows, and nothing is proposed any more. The lease runs out.
func (m *machine) Stopped(err error) {
	m.r.givenUp.Store(math.MaxInt64)
	m.r.pending.endAll(&kvpb.AmbiguousResultError{Cause: err}, m.r.notLeaseholder(kvpb.ReplicaDescriptor{}))
}

// rangeSnapshot is the state of a range that goes to another store.
type rangeSnapshot struct {
	header []byte
	spans  *storage.SpansSnapshot
}

// OpenSnapshot implements raftgroup.Machine.
func (m *machine) OpenSnapshot() (raftgroup.Snapshot, error) {
	header, err := proto.Marshal(&kvserverpb.SnapshotHeader{Range: descriptorToProto(m.desc), Stats: statsToProto(m.stats)})
	if err != nil {
		return nil, err
	}
	spans, err := m.r.store.eng.OpenSpans(replicatedSpans(m.desc))
	if err != nil {
		return nil, err
	}
	return &rangeSnapshot{header: header, spans: spans}, nil
}

// WriteTo implements io.WriterTo: the length of the header, the header, the spans.
func (s *rangeSnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(s.header))), s.header...))
	if err != nil {
		return int64(n), err
	}
	m, err := s.spans.WriteTo(w)
	return int64(n) + m, err
}

// Close implements io.Closer.
func (s *rangeSnapshot) Close() error { return s.spans.Close() }

// maxSnapshotHeader bounds what is believed of a stream that is not checked yet.
const maxSnapshotHeader = 64 << 10

func readSnapshotHeader(body io.Reader) (*kvserverpb.SnapshotHeader, error) {
	var size [4]byte
	if _, err := io.ReadFull(body, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxSnapshotHeader {
		return nil, fmt.Errorf("snapshot with a header of %d bytes", n)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, body, int64(n)); err != nil {
		return nil, err
	}
	h := &kvserverpb.SnapshotHeader{}
	return h, proto.Unmarshal(b.Bytes(), h)
}

// receivedRange is a snapshot that has arrived.
type receivedRange struct {
	store *Store
	desc  *kvpb.RangeDescriptor
	stats storage.Stats
	spans *storage.ReceivedSpans
}

// InstallSnapshot implements raftgroup.Machine.
func (m *machine) InstallSnapshot(b *storage.Batch, received any) error {
	in := received.(*receivedRange)
	r := m.r
	if err := putStats(b, r.id, in.stats); err != nil {
		return err
	}
	if err := b.Clear(rangeIDKey(r.id, suffixBlank)); err != nil {
		return err
	}
	// What was proposed here may be in the snapshot, or in the log behind it, or
	// lost. Nothing is evaluated under the same lease any more, since it could miss
	// what is yet to be applied.
	r.givenUp.Store(max(r.givenUp.Load(), m.lease.sequence))
	defer r.pending.endAll(&kvpb.AmbiguousResultError{Cause: errors.New("the replica was replaced by a snapshot")}, nil)
	finishOverrun, err := r.store.stageOverrun(b, in.desc)
	if err != nil {
		return err
	}
	if err := r.store.eng.ReplaceSpans(in.spans, b); err != nil {
		return err
	}
	m.desc = in.desc
	gc, l, f, err := r.store.readRangeState(r.id)
	if err != nil {
		return err
	}
	m.lease, m.frozen, m.stats = l, f, in.stats
	m.then = append(m.then, func() {
		finishOverrun()
		r.setFrozen(f)
		r.gc.Store(gc)
		r.clearFormerSpan(in.desc)
		r.desc.Store(in.desc)
		r.setStats(in.stats)
		r.store.clock.Update(l.start)
		if l.holder.StoreID == r.store.ident.StoreID {
			r.raiseFloor(l.start)
		}
		r.lease.Store(l)
		r.store.addReplica(r)
		r.descChanged()
	})
	return nil
}

// replicatedSpans is all that makes the state of a range.
func replicatedSpans(d *kvpb.RangeDescriptor) storage.SpanSet {
	return storage.SpanSet{
		User: d.Span(),
		Local: []keys.Span{
			{Key: rangeIDKey(d.RangeID, suffixFrozen)}, {Key: rangeIDKey(d.RangeID, suffixGCThreshold)}, {Key: rangeIDKey(d.RangeID, suffixLease)},
			addressedSpan(d.Span()),
		},
	}
}

// addressedSpan holds what is addressed by the keys of a span.
func addressedSpan(s keys.Span) keys.Span {
	return keys.Span{Key: addressedKey(s.Key, ""), EndKey: addressedKey(s.EndKey, "")}
}

func (r *Replica) raiseFloor(ts hlc.Timestamp) {
	ts = hlc.Later(ts, r.floorAt())
	r.floor.Store(&ts)
}
