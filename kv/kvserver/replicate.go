package kvserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/chance"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// pendingCommands are what this replica has proposed and not seen applied.
type pendingCommands struct {
	sync.Mutex
	byID  map[uint64]*pendingCommand
	ended error // why nothing more is taken in
}

type pendingCommand struct {
	term uint64     // in which it was appended to the log; 0: not yet
	done chan error // receives once
}

// errLost says that a command was certainly not applied and never will be.
var errLost = errors.New("the command did not get into the log")

// errUnderway says that the caller gave up while a command was on its way.
type errUnderway struct {
	cause error
	done  <-chan error
}

func (e *errUnderway) Error() string { return e.cause.Error() }
func (e *errUnderway) Unwrap() error { return e.cause }

func (p *pendingCommands) add() (uint64, *pendingCommand, error) {
	p.Lock()
	defer p.Unlock()
	if p.ended != nil {
		return 0, nil, p.ended
	}
	if p.byID == nil {
		p.byID = map[uint64]*pendingCommand{}
	}
	id := chance.Uint64()
	c := &pendingCommand{done: make(chan error, 1)}
	p.byID[id] = c
	return id, c, nil
}

func (p *pendingCommands) appended(id, term uint64) {
	p.Lock()
	defer p.Unlock()
	if c := p.byID[id]; c != nil {
		c.term = term
	}
}

// take returns what tells the proposer of a command, if it is here, what became of
// it. From now on the command is not pending.
func (p *pendingCommands) take(id uint64) (finish func(error)) {
	p.Lock()
	c := p.byID[id]
	delete(p.byID, id)
	p.Unlock()
	return func(err error) {
		if c != nil {
			c.done <- err
		}
	}
}

// supersede ends what was appended before term: entries of term follow it in the
// log, so what of it is not applied by now was replaced.
func (p *pendingCommands) supersede(term uint64) {
	p.Lock()
	defer p.Unlock()
	for id, c := range p.byID {
		if c.term != 0 && c.term < term {
			delete(p.byID, id)
			c.done <- errLost
		}
	}
}

// endAll answers all with err, and with refuse, if it is not nil, what comes later
// and is never proposed.
func (p *pendingCommands) endAll(err, refuse error) {
	p.Lock()
	defer p.Unlock()
	if refuse != nil {
		p.ended = refuse
	}
	for id, c := range p.byID {
		delete(p.byID, id)
		c.done <- err
	}
}

// maxReproposals bounds how often a command that did not get into the log is
// proposed again, for about two seconds: as long as it takes to elect a leader.
const maxReproposals = 20

// maxCommandBytes bounds what a command writes: it is held in memory by every
// replica and goes into the log and over the network as one piece.
const maxCommandBytes = 64 << 20

// commandOverhead is what a command may take beyond what it writes.
const commandOverhead = 1 << 20

func checkCommandSize(n int) error {
	if n <= maxCommandBytes {
		return nil
	}
	return pgerr.Newf(pgerr.ProgramLimitExceeded, "command is too large: %d bytes of %d that a range accepts at once", n, maxCommandBytes).
		WithHint("Write or delete fewer or smaller rows in one statement.")
}

// replicate proposes a command, with conf as a change of the raft configuration if
// there is one, and returns when it is applied here.
//
// Errors: a *kvpb.NotLeaseholderError or what Apply decided if the command has no
// effect; *kvpb.AmbiguousResultError if nobody knows; *errUnderway if ctx was done
// before.
func (r *Replica) replicate(ctx context.Context, cmd *kvserverpb.Command, conf *pb.ConfChangeV2) error {
	g := r.group.Load()
	for attempt := 0; ; attempt++ {
		id, c, err := r.pending.add()
		if err != nil {
			return err
		}
		cmd.Id = id
		data, err := encodeCommand(cmd)
		if err != nil {
			r.pending.take(id)
			return err
		}
		if len(data) > maxCommandBytes+commandOverhead {
			r.pending.take(id)
			return checkCommandSize(len(data))
		}
		g.Propose(raftgroup.Proposal{
			Data: data, ConfChange: conf,
			Appended: func(term uint64) { r.pending.appended(id, term) },
			Dropped:  func(error) { r.pending.take(id)(errLost) },
		})
		select {
		case err = <-c.done:
		case <-ctx.Done():
			return &errUnderway{cause: ctx.Err(), done: c.done}
		}
		if !errors.Is(err, errLost) {
			return err
		}
		leads, leader := r.leads()
		if attempt == maxReproposals || leader.StoreID != 0 && !leads {
			return r.notLeaseholder(leader)
		}
		select {
		case <-time.After(time.Duration(5+10*attempt) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-r.store.stopping:
			return ErrStopped
		}
	}
}

// The first byte of an encoded command says how it is applied.
const (
	applyTogether = iota // in one batch with others
	applyAlone
)

func encodeCommand(cmd *kvserverpb.Command) ([]byte, error) {
	b := []byte{applyTogether}
	if cmd.Ingestion != nil || cmd.Check != 0 {
		b[0] = applyAlone
	}
	return proto.MarshalOptions{}.MarshalAppend(b, cmd)
}

func decodeCommand(c raftgroup.Command) (*kvserverpb.Command, error) {
	cmd := &kvserverpb.Command{}
	if err := proto.Unmarshal(c.Data[1:], cmd); err != nil {
		return nil, storage.Mark(fmt.Errorf("decoding command %d: %w", c.Index, err), storage.ErrCorrupt)
	}
	return cmd, nil
}

// command is the form in which a proposal goes into the log.
func (p *proposal) command(leaseSequence int64) *kvserverpb.Command {
	c := &kvserverpb.Command{LeaseSequence: leaseSequence, Gc: p.gc.proto(), Split: p.split}
	if p.batch != nil && !p.batch.Empty() {
		c.Batch = p.batch.Repr()
	}
	if s := statsToProto(p.stats); proto.Size(s) > 0 {
		c.Stats = s
	}
	if p.ingest != nil {
		o := p.ingest.opts
		c.Ingestion = &kvserverpb.Ingestion{
			Sst: p.ingest.sst, Span: &kvserverpb.Span{Key: o.Span.Key, EndKey: o.Span.EndKey}, Timestamp: tsToProto(o.Timestamp),
			RequireEmpty: o.RequireEmpty, DisallowShadowing: o.DisallowShadowing, OnlyRepeat: o.OnlyRepeat,
		}
	}
	return c
}

// Network carries what replicas say to each other between nodes.
type Network interface {
	// SendRaft never waits; what cannot be queued is lost.
	SendRaft(to kvpb.NodeID, rangeID int64, m *pb.Message)
	// SendSnapshot returns when the receiver has it all, or with an error.
	SendSnapshot(ctx context.Context, to kvpb.NodeID, rangeID int64, m *pb.Message, snap io.WriterTo) error
}

// RaftMessage is what replicas say to each other.
type RaftMessage = pb.Message

// raftTransport is the Network as the raft groups see it: between replicas.
type raftTransport struct{ s *Store }

func (t raftTransport) Send(rangeID int64, m *pb.Message) {
	if node := t.s.nodeOf(kvpb.RangeID(rangeID), m.GetTo()); node != 0 {
		t.s.cfg.Network.SendRaft(node, rangeID, m)
	}
}

func (t raftTransport) SendSnapshot(ctx context.Context, rangeID int64, m *pb.Message, snap raftgroup.Snapshot) error {
	node := t.s.nodeOf(kvpb.RangeID(rangeID), m.GetTo())
	if node == 0 {
		return errors.New("nobody knows where that replica is")
	}
	return t.s.cfg.Network.SendSnapshot(ctx, node, rangeID, m, pacedSnapshot{snap, ctx, &t.s.pacer})
}

// nodeOf says where a replica is: by the descriptor or, for one that is not in it
// (any more), by what came from it.
func (s *Store) nodeOf(id kvpb.RangeID, replica uint64) kvpb.NodeID {
	r := s.replica(id)
	if r == nil {
		r = s.blank(id)
	}
	if r == nil {
		return 0
	}
	if d, ok := r.Desc().Replica(int32(replica)); ok {
		return d.NodeID
	}
	if n, ok := r.heardFrom.Load(replica); ok {
		return n.(kvpb.NodeID)
	}
	return 0
}
