package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/holdfastdb/holdfast/kv/storage"
)

// Transport carries messages between replicas. It may lose, delay, repeat and
// reorder them.
type Transport interface {
	// Send never waits; what cannot be queued is lost.
	Send(rangeID int64, m *pb.Message)
	// SendSnapshot streams snap to the receiver of m, which is a MsgSnap, and
	// returns when the receiver has it all, or with an error.
	SendSnapshot(ctx context.Context, rangeID int64, m *pb.Message, snap Snapshot) error
}

// Config is what a Scheduler needs.
type Config struct {
	Engine    *storage.Engine
	Transport Transport
	Log       *slog.Logger
	// TickInterval is the unit of election and heartbeat timeouts.
	TickInterval time.Duration
	// ElectionTicks and HeartbeatTicks are in units of TickInterval.
	ElectionTicks, HeartbeatTicks int
	// Workers is how many groups run at once. They wait for the disk together, so
	// more of them share one sync.
	Workers int
	// MaxLogBytes is how much log is kept for followers that lag.
	MaxLogBytes int64
	// CacheBytes bounds the entries that a group keeps in memory.
	CacheBytes int64
	// Snapshots bounds how many are sent at once.
	Snapshots int
}

// DefaultConfig has all but Engine and Transport.
func DefaultConfig() Config {
	return Config{
		Log: slog.New(slog.DiscardHandler), TickInterval: 200 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 2,
		Workers: 16, MaxLogBytes: 16 << 20, CacheBytes: 1 << 20, Snapshots: 2,
	}
}

// Validate says what is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Engine == nil || c.Transport == nil || c.Log == nil:
		return errors.New("raft: engine, transport and log are needed")
	case c.TickInterval <= 0 || c.HeartbeatTicks < 1 || c.ElectionTicks <= c.HeartbeatTicks:
		return fmt.Errorf("raft: bad ticks: %s, heartbeat every %d, election after %d", c.TickInterval, c.HeartbeatTicks, c.ElectionTicks)
	case c.Workers < 1 || c.Snapshots < 1:
		return errors.New("raft: workers and snapshots must be positive")
	}
	return nil
}

// Scheduler owns the groups of a store and the goroutines that run them.
type Scheduler struct {
	cfg       Config
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup
	snapshots chan struct{} // one token for each that may be sent

	mu struct {
		sync.Mutex
		groups map[int64]*Group
		queue  []*Group
		closed bool
	}
	work sync.Cond // on mu: the queue is not empty, or the scheduler is closed
}

// NewScheduler starts the workers; Close ends them.
func NewScheduler(cfg Config) (*Scheduler, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Scheduler{cfg: cfg, snapshots: make(chan struct{}, cfg.Snapshots)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.mu.groups = map[int64]*Group{}
	s.work.L = &s.mu
	for range cfg.Workers {
		s.running.Go(s.worker)
	}
	s.running.Go(s.tick)
	return s, nil
}

// Close stops all groups where they are and waits for the goroutines.
func (s *Scheduler) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.work.Broadcast()
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
}

// Group returns the group of a range, or nil.
func (s *Scheduler) Group(rangeID int64) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.groups[rangeID]
}

// Remove takes a group out. When Remove returns the group does not run and never
// will again.
func (s *Scheduler) Remove(rangeID int64) {
	s.mu.Lock()
	g := s.mu.groups[rangeID]
	delete(s.mu.groups, rangeID)
	s.mu.Unlock()
	if g != nil {
		g.end(errors.New("the replica was removed"))
	}
}

func (s *Scheduler) add(g *Group) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return context.Canceled
	}
	if s.mu.groups[g.rangeID] != nil {
		return fmt.Errorf("raft group of r%d exists", g.rangeID)
	}
	s.mu.groups[g.rangeID] = g
	return nil
}

// Step hands in a message from another replica.
func (s *Scheduler) Step(rangeID int64, m *pb.Message) {
	if g := s.Group(rangeID); g != nil {
		g.step(m)
	}
}

// enqueue has g run soon. A group that runs now runs once more.
func (s *Scheduler) enqueue(g *Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed || g.queued {
		return
	}
	g.queued = true
	if g.active {
		return // Its worker puts it back.
	}
	s.mu.queue = append(s.mu.queue, g)
	s.work.Signal()
}

func (s *Scheduler) worker() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		for len(s.mu.queue) == 0 && !s.mu.closed {
			s.work.Wait()
		}
		if s.mu.closed {
			return
		}
		g := s.mu.queue[0]
		s.mu.queue = s.mu.queue[1:]
		g.queued, g.active = false, true
		s.mu.Unlock()
		g.run()
		s.mu.Lock()
		g.active = false
		if g.queued {
			s.mu.queue = append(s.mu.queue, g)
			s.work.Signal()
		}
	}
}

// tick moves the logical clock of all groups.
func (s *Scheduler) tick() {
	t := time.NewTicker(s.cfg.TickInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return
		}
		s.mu.Lock()
		all := make([]*Group, 0, len(s.mu.groups))
		for _, g := range s.mu.groups {
			all = append(all, g)
		}
		s.mu.Unlock()
		for _, g := range all {
			g.tick()
		}
	}
}
