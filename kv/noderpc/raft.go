package noderpc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/noderpc/noderpcpb"
)

// SendRaft sends a message to a replica on another node, or loses it: if the node
// cannot be reached or too much waits for it already. It never waits. The message
// must not change any more.
func (d *Dialer) SendRaft(to kvpb.NodeID, rangeID int64, m *pb.Message) {
	if to == d.self() {
		if h, err := d.localHandler(); err == nil {
			h.HandleRaft(to, rangeID, m)
		}
		return
	}
	f := d.cfg.Faults.of(Message{From: d.self(), To: to, Kind: KindRaft})
	if f.Drop || f.Err != nil {
		d.dropped.Add(1)
		return
	}
	item := raftItem{rangeID: rangeID, m: m, bytes: raftBytes(m)}
	if f.Delay > 0 {
		item.due = time.Now().Add(f.Delay)
	}
	p := d.peer(to)
	added, first := p.raft.add(item, d.cfg.RaftQueueMessages, d.cfg.RaftQueueBytes)
	if !added || first && !d.start(p.sendRaft) {
		d.dropped.Add(1)
	}
}

// RaftDropped returns how many raft messages were lost before they left.
func (d *Dialer) RaftDropped() int64 { return d.dropped.Load() }

type raftItem struct {
	rangeID int64
	m       *pb.Message
	bytes   int
	due     time.Time // not to leave before
}

// raftBytes estimates the size of m from below; entries are all that is large.
func raftBytes(m *pb.Message) int {
	n := 64 + len(m.GetContext())
	for _, e := range m.GetEntries() {
		n += 16 + len(e.GetData())
	}
	return n
}

// raftQueue holds what waits for one peer, including what its sender has taken
// and not sent yet.
type raftQueue struct {
	wake chan struct{} // has one element if there may be something to take

	mu struct {
		sync.Mutex
		items        []raftItem
		count, bytes int
		running      bool // there is a sender
	}
}

// add says whether there was room, and whether a sender must be started.
func (q *raftQueue) add(item raftItem, maxCount, maxBytes int) (added, first bool) {
	q.mu.Lock()
	if q.mu.count > 0 && (q.mu.count >= maxCount || q.mu.bytes+item.bytes > maxBytes) {
		q.mu.Unlock()
		return false, false
	}
	q.mu.items = append(q.mu.items, item)
	q.mu.count++
	q.mu.bytes += item.bytes
	first, q.mu.running = !q.mu.running, true
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true, first
}

// take returns all there is, in the memory of spare if it is large enough.
func (q *raftQueue) take(spare []raftItem) []raftItem {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.mu.items
	q.mu.items = spare[:0]
	return items
}

// done makes room for what took the place of items.
func (q *raftQueue) done(items []raftItem) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.count -= len(items)
	for i := range items {
		q.mu.bytes -= items[i].bytes
	}
}

// What one frame of raft messages holds, if they are small.
const (
	maxFrameMessages = 512
	maxFrameBytes    = 1 << 20
)

// raftSender is the goroutine that sends a peer's messages.
type raftSender struct {
	p      *peer
	c      *conn
	stream grpc.ClientStreamingClient[noderpcpb.RaftMessages, noderpcpb.RaftEnd]
	cancel context.CancelFunc // of stream
	buf    []byte
	lost   bool // the last attempt failed, which was logged
}

func (p *peer) sendRaft() {
	s := &raftSender{p: p, cancel: func() {}}
	defer func() { s.cancel() }()
	var spare []raftItem
	for {
		select {
		case <-p.raft.wake:
		case <-p.d.ctx.Done():
			return
		}
		items := p.raft.take(spare)
		for rest := items; len(rest) > 0; {
			now := frame(rest)
			if err := s.send(now); err != nil {
				// Raft sends again what matters; what waited behind it is old.
				p.d.dropped.Add(int64(len(rest)))
				p.raft.done(rest)
				if p.d.ctx.Err() == nil && !s.lost {
					p.d.cfg.Log.Warn("raft messages to a node are lost", "peer", p.id, "err", err)
				}
				s.lost = true
				break
			}
			s.lost = false
			p.raft.done(now)
			rest = rest[len(now):]
		}
		clear(items)
		spare = items
		if cap(spare) > 4*maxFrameMessages {
			spare = nil
		}
	}
}

// frame returns as much of items as leaves at once.
func frame(items []raftItem) []raftItem {
	// A delayed message goes with those that are due together with it.
	until := time.Now()
	if items[0].due.After(until) {
		until = items[0].due
	}
	until = until.Add(time.Millisecond)
	bytes := 0
	for i := range items {
		if bytes += items[i].bytes; i > 0 && (i == maxFrameMessages || bytes > maxFrameBytes || items[i].due.After(until)) {
			return items[:i]
		}
	}
	return items
}

func (s *raftSender) send(items []raftItem) error {
	d := s.p.d
	if wait := time.Until(items[0].due); wait > 0 {
		select {
		case <-time.After(wait):
		case <-d.ctx.Done():
			return ErrClosed
		}
	}
	if err := s.open(); err != nil {
		return err
	}
	m := &noderpcpb.RaftMessages{
		Now: tsToWire(d.cfg.Clock.Now()), FromNode: int32(d.self()), ToNode: int32(s.p.id),
		Messages: make([]*noderpcpb.RaftMessage, len(items)),
	}
	if cap(s.buf) > 4*maxFrameBytes {
		s.buf = nil
	}
	s.buf = s.buf[:0]
	for i := range items {
		at := len(s.buf)
		var err error
		if s.buf, err = (proto.MarshalOptions{}).MarshalAppend(s.buf, items[i].m); err != nil {
			return err
		}
		// If a later message moves s.buf, this one stays where it is.
		m.Messages[i] = &noderpcpb.RaftMessage{RangeId: items[i].rangeID, Message: s.buf[at:]}
	}
	err := s.stream.Send(m)
	if errors.Is(err, io.EOF) {
		_, err = s.stream.CloseAndRecv()
		err = s.c.failure(err)
	}
	if err != nil {
		s.cancel()
		s.c = nil
	}
	return err
}

// open makes sure that there is a stream on a connection that has not ended.
func (s *raftSender) open() error {
	if s.c != nil && s.c.life.Err() == nil {
		return nil
	}
	s.cancel()
	s.c = nil
	c, err := s.p.get(s.p.d.ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.outgoing(c.life))
	stream, err := c.client.Raft(ctx)
	if err != nil {
		cancel()
		return c.failure(err)
	}
	s.c, s.stream, s.cancel = c, stream, cancel
	return nil
}
