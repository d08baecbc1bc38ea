package raftgroup

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvserver/raftlog"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Command is a committed proposal.
type Command struct {
	Index, Term uint64
	Data        []byte // empty: a leader's first entry, or one that only moves the index
}

// Machine is the replicated state of one range. One goroutine at a time calls it.
//
// An error is one of the store, such as a failed disk: the group stops where it
// is. What is wrong with a command is for the machine to decide, the same way on
// all replicas.
type Machine interface {
	// Alone says whether a command must find in the engine everything that was
	// applied before it.
	Alone(c Command) bool
	// Apply stages in b what a command changes.
	Apply(b *storage.Batch, c Command) error
	// ApplyConfChange stages in b what a change of the configuration means; c.Data
	// is what was proposed with it. If it returns false there is no such change:
	// the configuration stays as it is.
	ApplyConfChange(b *storage.Batch, c Command) (bool, error)
	// Applied says that everything staged since is committed, through index.
	Applied(index uint64)
	// OpenSnapshot pins the state as it is applied now.
	OpenSnapshot() (Snapshot, error)
	// InstallSnapshot replaces the state by one that was received, and commits b
	// together with that, durably.
	InstallSnapshot(b *storage.Batch, received any) error
	// StateChanged says that the group has another leader, term or role.
	StateChanged(Status)
	// Stopped says that the group has met an error of the store and will not run
	// any more.
	Stopped(error)
}

// Snapshot is a pinned state of a machine.
type Snapshot interface {
	io.WriterTo
	io.Closer
}

// Status is where a group stands, to the knowledge of this replica.
type Status struct {
	ReplicaID, Leader uint64 // 0: unknown
	Term              uint64
	State             raft.StateType
	Applied           uint64
}

// IsLeader says whether this replica leads its group.
func (s Status) IsLeader() bool { return s.State == raft.StateLeader }

// Options say which replica of which range a group is.
type Options struct {
	RangeID   int64
	ReplicaID uint64
	Prefix    keys.Key // of the replica's own keys
	Machine   Machine
}

// Proposal is what Propose takes.
type Proposal struct {
	Data []byte
	// ConfChange, if set, is proposed with Data as its context.
	ConfChange *pb.ConfChangeV2
	// Appended, if set, is called when the proposal is in this replica's log, as an
	// entry of term. Once an entry of a later term is applied it will never be.
	Appended func(term uint64)
	// Dropped is called if the proposal was certainly not appended anywhere; a
	// proposal that is neither dropped nor applied may still come.
	Dropped func(error)
}

const suffixApplied = "rapl"

// Group is one replica's part in the consensus of a range.
type Group struct {
	s         *Scheduler
	log       *slog.Logger
	rangeID   int64
	replicaID uint64
	prefix    keys.Key
	machine   Machine
	status    atomic.Pointer[Status]

	queued, active bool // guarded by the scheduler's lock
	quiesced       atomic.Bool
	silence        atomic.Int64 // ticks since another replica had something to say

	in struct {
		sync.Mutex
		messages  []*pb.Message
		proposals []Proposal
		calls     []func(*raft.RawNode)
		ticks     int
		ended     bool
	}

	// running is held while the group runs. It guards what follows.
	running  sync.Mutex
	err      error // why the group does not run any more
	rn       *raft.RawNode
	raftLog  *raftlog.Log
	applied  uint64
	appliedT uint64 // term of the applied index
	conf     *pb.ConfState
	logBytes int64 // appended since the log was truncated
	quiet    int   // ticks since something happened
	failed   error // of a call
	// Raft replaces a change of the configuration by nothing while another is in the
	// log unapplied, perhaps one from before this replica led. So none is proposed
	// then.
	confPending bool
	confAfter   uint64
	incoming    map[uint64]any    // received snapshots by index, until raft decides
	sending     map[uint64]uint64 // replicas that a snapshot is on its way to, by index
}

// Bootstrap writes what makes a replica begin with an empty log after index, with
// the given configuration. All first replicas of a range begin alike.
func Bootstrap(b *storage.Batch, prefix keys.Key, index, term uint64, conf *pb.ConfState) error {
	l := raftlog.Empty(prefix)
	if _, err := l.Reset(b, index, term); err != nil {
		return err
	}
	if _, err := l.Stage(b, &pb.HardState{Term: proto.Uint64(term), Commit: proto.Uint64(index)}, nil); err != nil {
		return err
	}
	return putApplied(b, prefix, index, term, conf)
}

// ReadVote returns the hard state of a replica, nil if it has none.
func ReadVote(r storage.Reader, prefix keys.Key) (*pb.HardState, error) {
	return raftlog.ReadHardState(r, prefix)
}

// KeepVote stages, for a replica that Bootstrap has just staged, what it had voted
// before: nobody votes twice in one term.
func KeepVote(b *storage.Batch, prefix keys.Key, old *pb.HardState) error {
	if old == nil {
		return nil
	}
	return raftlog.KeepVote(b, prefix, old)
}

// Add loads a replica's state and begins to run it.
func (s *Scheduler) Add(o Options) (*Group, error) {
	g := &Group{
		s: s, log: s.cfg.Log.With("range", o.RangeID, "replica", o.ReplicaID), rangeID: o.RangeID, replicaID: o.ReplicaID,
		prefix: o.Prefix, machine: o.Machine, incoming: map[uint64]any{}, sending: map[uint64]uint64{},
	}
	var err error
	if g.applied, g.appliedT, g.conf, err = readApplied(s.cfg.Engine, o.Prefix); err != nil {
		return nil, err
	}
	if g.raftLog, err = raftlog.Open(s.cfg.Engine, o.Prefix, g.conf, s.cfg.CacheBytes); err != nil {
		return nil, err
	}
	if first, _ := g.raftLog.FirstIndex(); g.applied+1 < first {
		return nil, storage.Mark(fmt.Errorf("r%d is applied to %d, its log begins at %d", o.RangeID, g.applied, first), storage.ErrCorrupt)
	}
	g.rn, err = raft.NewRawNode(&raft.Config{
		ID: o.ReplicaID, ElectionTick: s.cfg.ElectionTicks, HeartbeatTick: s.cfg.HeartbeatTicks,
		Storage: raftStorage{g}, Applied: g.applied,
		MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: 8 << 20, MaxUncommittedEntriesSize: 64 << 20,
		MaxInflightMsgs: 128, MaxInflightBytes: 32 << 20,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, Logger: raftLogger{g.log},
		StepDownOnRemoval: true, // Also without a vote: nobody could take the lease from it.
	})
	if err != nil {
		return nil, err
	}
	g.publish()
	if err := s.add(g); err != nil {
		return nil, err
	}
	return g, nil
}

// Status returns where the group stands.
func (g *Group) Status() Status { return *g.status.Load() }

// Propose has p appended to the log if this replica leads.
func (g *Group) Propose(p Proposal) {
	g.in.Lock()
	if g.in.ended {
		g.in.Unlock()
		p.Dropped(raft.ErrStopped)
		return
	}
	g.in.proposals = append(g.in.proposals, p)
	g.in.Unlock()
	g.s.enqueue(g)
}

// Campaign has this replica ask for leadership now.
func (g *Group) Campaign() { g.call(func(rn *raft.RawNode) { _ = rn.Campaign() }) }

// TransferLeader has this replica, if it leads, hand over to another.
func (g *Group) TransferLeader(to uint64) { g.call(func(rn *raft.RawNode) { rn.TransferLeader(to) }) }

// ReportUnreachable says that a message to a replica was lost.
func (g *Group) ReportUnreachable(replica uint64) {
	g.call(func(rn *raft.RawNode) { rn.ReportUnreachable(replica) })
}

// Progress calls fn with what a leader knows of each replica.
func (g *Group) Progress(fn func(replica uint64, learner bool, p tracker.Progress)) {
	g.running.Lock()
	defer g.running.Unlock()
	g.rn.WithProgress(func(id uint64, typ raft.ProgressType, p tracker.Progress) {
		fn(id, typ == raft.ProgressTypeLearner, p)
	})
}

// call has fn run with the group.
func (g *Group) call(fn func(*raft.RawNode)) bool {
	g.in.Lock()
	if g.in.ended {
		g.in.Unlock()
		return false
	}
	g.in.calls = append(g.in.calls, fn)
	g.in.Unlock()
	g.s.enqueue(g)
	return true
}

// maxInbox bounds what waits while a group is slow; raft sends again.
const maxInbox = 4096

func (g *Group) step(m *pb.Message) {
	g.in.Lock()
	if g.in.ended || len(g.in.messages) >= maxInbox {
		g.in.Unlock()
		return
	}
	g.in.messages = append(g.in.messages, m)
	g.in.Unlock()
	g.s.enqueue(g)
}

func (g *Group) tick() {
	if g.quiesced.Load() {
		return
	}
	g.in.Lock()
	g.in.ticks++
	g.in.Unlock()
	g.s.enqueue(g)
}

// refuse takes nothing in any more and drops what waits.
func (g *Group) refuse(err error) {
	g.in.Lock()
	g.in.ended = true
	dropped := g.in.proposals
	g.in.messages, g.in.proposals, g.in.calls = nil, nil, nil
	g.in.Unlock()
	for _, p := range dropped {
		p.Dropped(err)
	}
}

// end refuses everything from now on and waits for the run under way.
func (g *Group) end(err error) {
	g.refuse(err)
	g.running.Lock()
	defer g.running.Unlock()
	if g.err == nil {
		g.err = err
	}
}

// run does all that there is to do now.
func (g *Group) run() {
	g.running.Lock()
	defer g.running.Unlock()
	if g.err != nil {
		return
	}
	if err := g.runLocked(); err != nil {
		g.err = err
		g.log.Error("the replica stops", "err", err)
		g.refuse(err)
		g.status.Store(&Status{ReplicaID: g.replicaID, Applied: g.applied}) // It leads nobody.
		g.machine.Stopped(err)
	}
}

func (g *Group) runLocked() error {
	g.in.Lock()
	messages, proposals, calls, ticks := g.in.messages, g.in.proposals, g.in.calls, g.in.ticks
	g.in.messages, g.in.proposals, g.in.calls, g.in.ticks = nil, nil, nil, 0
	g.in.Unlock()

	for range min(ticks, g.s.cfg.ElectionTicks/2) { // A store that was slow is not to vote at once.
		g.rn.Tick()
	}
	g.quiet += ticks
	if len(messages) > 0 {
		g.silence.Store(0)
	} else {
		g.silence.Add(int64(ticks))
	}
	if len(calls)+len(proposals) > 0 {
		g.awake()
	}
	for _, m := range messages {
		if !g.leavesQuiet(m) {
			// A refused message is one of a stale or unknown sender.
			_ = g.rn.Step(m)
		}
	}
	for _, fn := range calls {
		fn(g.rn)
		if g.failed != nil {
			return g.failed
		}
	}
	for _, p := range proposals {
		var err error
		if p.ConfChange != nil {
			p.ConfChange.Context = p.Data
			// Raft would put nothing in its place, too, if it does not fit.
			joint := len(g.conf.GetVotersOutgoing()) > 0
			if g.confPending || g.applied < g.confAfter || joint != p.ConfChange.LeaveJoint() {
				err = raft.ErrProposalDropped
			} else if err = g.rn.ProposeConfChange(p.ConfChange); err == nil {
				g.confPending = true
			}
		} else {
			err = g.rn.Propose(p.Data)
		}
		if err != nil {
			p.Dropped(err)
		} else if p.Appended != nil {
			p.Appended(g.rn.BasicStatus().GetTerm())
		}
	}
	for g.rn.HasReady() {
		if err := g.ready(); err != nil {
			return err
		}
	}
	if ticks == 0 {
		return nil
	}
	if g.quiet >= g.s.cfg.ElectionTicks {
		g.quiesce()
	}
	return g.truncate()
}

// ready handles one Ready.
//
// Invariant: entries and hard state are durable before a message that depends on
// them leaves. A leader's own appends may go out before, since its vote for them
// is counted only after they are durable here.
func (g *Group) ready() error {
	rd := g.rn.Ready()
	leader := g.Status().IsLeader() || rd.SoftState != nil && rd.SoftState.RaftState == raft.StateLeader
	for _, m := range rd.Messages {
		if leader && m.GetType() == pb.MsgApp {
			g.s.cfg.Transport.Send(g.rangeID, m)
		}
	}
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := g.install(rd); err != nil {
			return err
		}
	} else if rd.HardState != nil || len(rd.Entries) > 0 {
		if err := g.append(rd); err != nil {
			return err
		}
	}
	for _, m := range rd.Messages {
		switch {
		case m.GetType() == pb.MsgSnap:
			g.sendSnapshot(m)
		case !leader || m.GetType() != pb.MsgApp:
			g.s.cfg.Transport.Send(g.rangeID, m)
		}
	}
	if err := g.apply(rd.CommittedEntries); err != nil {
		return err
	}
	g.rn.Advance(rd)
	g.publish()
	return nil
}

func (g *Group) append(rd raft.Ready) error {
	b := g.s.cfg.Engine.NewWriteBatch()
	defer b.Close()
	b.UseReserve()
	done, err := g.raftLog.Stage(b, rd.HardState, rd.Entries)
	if err != nil {
		return err
	}
	for _, e := range rd.Entries {
		g.logBytes += int64(len(e.GetData()))
	}
	if err := b.Commit(rd.MustSync); err != nil {
		return fmt.Errorf("appending to the log of r%d: %w", g.rangeID, err)
	}
	done()
	return nil
}

// apply hands committed entries to the machine.
//
// Invariant: what entries change and the applied index that covers them are in
// one batch, so after a crash the replica holds both or neither.
func (g *Group) apply(ents []*pb.Entry) error {
	if len(ents) == 0 {
		return nil
	}
	for len(ents) > 0 {
		n := 1
		for n < len(ents) && !g.machine.Alone(command(ents[n])) {
			n++
		}
		if err := g.applySome(ents[:n]); err != nil {
			return err
		}
		ents = ents[n:]
	}
	return nil
}

func command(e *pb.Entry) Command {
	if e.GetType() != pb.EntryNormal {
		return Command{Index: e.GetIndex(), Term: e.GetTerm()}
	}
	return Command{Index: e.GetIndex(), Term: e.GetTerm(), Data: e.GetData()}
}

func (g *Group) applySome(ents []*pb.Entry) error {
	b := g.s.cfg.Engine.NewBatch()
	defer b.Close()
	b.UseReserve() // Whether there is space was asked before it was proposed.
	for _, e := range ents {
		if e.GetIndex() != g.applied+1 {
			return fmt.Errorf("r%d is applied to %d and is given entry %d", g.rangeID, g.applied, e.GetIndex())
		}
		if err := g.applyEntry(b, e); err != nil {
			return fmt.Errorf("r%d: applying entry %d: %w", g.rangeID, e.GetIndex(), err)
		}
		g.applied, g.appliedT = e.GetIndex(), e.GetTerm()
	}
	if err := putApplied(b, g.prefix, g.applied, g.appliedT, g.conf); err != nil {
		return err
	}
	// No sync: the synced log can replay this batch, and the log is truncated by a
	// later write of the same write-ahead log, which cannot survive without it.
	if err := b.Commit(false); err != nil {
		return fmt.Errorf("r%d: applying through %d: %w", g.rangeID, g.applied, err)
	}
	g.machine.Applied(g.applied)
	return nil
}

func (g *Group) applyEntry(b *storage.Batch, e *pb.Entry) error {
	var cc pb.ConfChangeV2
	switch e.GetType() {
	case pb.EntryNormal:
		return g.machine.Apply(b, command(e))
	case pb.EntryConfChangeV2:
		if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
			return storage.Mark(err, storage.ErrCorrupt)
		}
	case pb.EntryConfChange:
		var v1 pb.ConfChange
		if err := proto.Unmarshal(e.GetData(), &v1); err != nil {
			return storage.Mark(err, storage.ErrCorrupt)
		}
		proto.Merge(&cc, v1.AsV2())
	default:
		return fmt.Errorf("entry of unknown type %s", e.GetType())
	}
	ok, err := g.machine.ApplyConfChange(b, Command{Index: e.GetIndex(), Term: e.GetTerm(), Data: cc.Context})
	if err != nil {
		return err
	}
	g.confPending = false
	if !ok {
		return nil
	}
	g.conf = g.rn.ApplyConfChange(&cc)
	g.raftLog.SetConf(g.conf)
	return nil
}

// truncate drops log that nobody needs: what all followers have or, if there is
// too much of it, what is applied here.
func (g *Group) truncate() error {
	if g.logBytes < g.s.cfg.MaxLogBytes/4 {
		return nil
	}
	to := g.applied
	if g.logBytes < g.s.cfg.MaxLogBytes && g.Status().IsLeader() {
		g.rn.WithProgress(func(_ uint64, _ raft.ProgressType, p tracker.Progress) { to = min(to, p.Match) })
	}
	for _, index := range g.sending {
		to = min(to, index) // Its receiver goes on from there.
	}
	if first, _ := g.raftLog.FirstIndex(); to < first {
		return nil
	}
	b := g.s.cfg.Engine.NewWriteBatch()
	defer b.Close()
	b.UseReserve()
	done, err := g.raftLog.Truncate(b, to)
	if err != nil {
		return err
	}
	if err := b.Commit(false); err != nil {
		return fmt.Errorf("truncating the log of r%d: %w", g.rangeID, err)
	}
	done()
	g.logBytes = 0
	return nil
}

// An idle group quiesces: its leader, once all replicas have everything, tells them
// so and none of them ticks any more. Whatever happens then wakes the one that it
// happens to, which wakes the others by what it has to say. If the leader dies
// meanwhile, nobody notices until somebody wants something of the range: see Wake.

// quiesceContext marks the heartbeat that is the last.
const quiesceContext = "quiesce"

// quiesce stops ticking if this replica leads and nobody lags.
func (g *Group) quiesce() {
	last, err := g.raftLog.LastIndex()
	if err != nil || !g.Status().IsLeader() || g.applied != last || len(g.sending) > 0 {
		return
	}
	var others []uint64
	all := true
	g.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id != g.replicaID {
			others = append(others, id)
			all = all && p.Match == last && p.State == tracker.StateReplicate && p.RecentActive
		}
	})
	if !all {
		return
	}
	for _, id := range others {
		g.s.cfg.Transport.Send(g.rangeID, &pb.Message{
			Type: pb.MsgHeartbeat.Enum(), To: proto.Uint64(id), From: proto.Uint64(g.replicaID), Term: proto.Uint64(g.rn.BasicStatus().GetTerm()),
			Commit: proto.Uint64(last), Context: []byte(quiesceContext),
		})
	}
	g.quiesced.Store(true)
}

// leavesQuiet deals with messages that need not wake the group. It returns false
// for all others, after waking it.
func (g *Group) leavesQuiet(m *pb.Message) bool {
	bs := g.rn.BasicStatus()
	current := m.GetTerm() == bs.GetTerm()
	switch m.GetType() {
	case pb.MsgHeartbeat:
		if string(m.GetContext()) != quiesceContext {
			g.quiesced.Store(false)
			return false // The leader does not sleep; that is not news.
		}
		last, err := g.raftLog.LastIndex()
		if err == nil && current && m.GetFrom() == bs.Lead && m.GetCommit() == last && g.applied == last {
			g.quiesced.Store(true)
			return true
		}
		m.Context = nil // The answer keeps the leader awake.
	case pb.MsgHeartbeatResp:
		if current {
			return g.quiesced.Load() // An answer from before.
		}
	}
	g.awake()
	return false
}

func (g *Group) awake() {
	g.quiesced.Store(false)
	g.quiet = 0
}

// Quiesced says whether the group sleeps.
func (g *Group) Quiesced() bool { return g.quiesced.Load() }

// Forsaken says that no other replica has said anything for long, though this one
// does not sleep.
func (g *Group) Forsaken() bool { return g.silence.Load() >= int64(2*g.s.cfg.ElectionTicks) }

// Wake has a group that quiesced look whether its leader is still there.
func (g *Group) Wake() {
	if g.quiesced.Load() {
		g.call(func(*raft.RawNode) {})
	}
}

// publish tells everybody where the group stands.
func (g *Group) publish() {
	bs := g.rn.BasicStatus()
	next := Status{ReplicaID: g.replicaID, Leader: bs.Lead, Term: bs.GetTerm(), State: bs.RaftState, Applied: g.applied}
	old := g.status.Load()
	g.status.Store(&next)
	if next.IsLeader() && (old == nil || !old.IsLeader() || old.Term != next.Term) {
		g.confPending = false
		g.confAfter, _ = g.raftLog.LastIndex()
	}
	if old == nil || old.Leader != next.Leader || old.Term != next.Term || old.State != next.State {
		g.machine.StateChanged(next)
	}
}

// raftStorage is the log as raft sees it, with snapshots of the applied state.
type raftStorage struct{ g *Group }

func (s raftStorage) InitialState() (*pb.HardState, *pb.ConfState, error) {
	return s.g.raftLog.InitialState()
}
func (s raftStorage) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	return s.g.raftLog.Entries(lo, hi, maxSize)
}
func (s raftStorage) Term(i uint64) (uint64, error)   { return s.g.raftLog.Term(i) }
func (s raftStorage) LastIndex() (uint64, error)      { return s.g.raftLog.LastIndex() }
func (s raftStorage) FirstIndex() (uint64, error)     { return s.g.raftLog.FirstIndex() }
func (s raftStorage) Snapshot() (*pb.Snapshot, error) { return s.g.snapshotHeader(), nil }

var errNoApplied = errors.New("replica has no applied state")

func putApplied(b *storage.Batch, prefix keys.Key, index, term uint64, conf *pb.ConfState) error {
	v, err := proto.Marshal(&pb.SnapshotMetadata{Index: proto.Uint64(index), Term: proto.Uint64(term), ConfState: conf})
	if err != nil {
		return err
	}
	return b.Put(append(prefix.Clone(), suffixApplied...), v)
}

func readApplied(r storage.Reader, prefix keys.Key) (index, term uint64, conf *pb.ConfState, err error) {
	v, ok, err := r.Get(append(prefix.Clone(), suffixApplied...))
	if err != nil {
		return 0, 0, nil, err
	}
	if !ok {
		return 0, 0, nil, errNoApplied
	}
	var m pb.SnapshotMetadata
	if err := proto.Unmarshal(v, &m); err != nil {
		return 0, 0, nil, storage.Mark(fmt.Errorf("applied state: %w", err), storage.ErrCorrupt)
	}
	return m.GetIndex(), m.GetTerm(), pb.EnsureConfState(m.GetConfState()), nil
}

// raftLogger gives raft's messages to slog; a panic of raft is a bug and stays one.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any)              {}
func (l raftLogger) Debugf(f string, v ...any)   {}
func (l raftLogger) Info(v ...any)               { l.log.Debug(fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any)    { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l raftLogger) Warning(v ...any)            { l.log.Warn(fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) { l.log.Warn(fmt.Sprintf(f, v...)) }
func (l raftLogger) Error(v ...any)              { l.log.Error(fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.log.Error(fmt.Sprintf(f, v...)) }
func (l raftLogger) Fatal(v ...any)              { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)              { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any)   { panic(fmt.Sprintf(f, v...)) }
