package liveness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Config is what a node's Liveness needs.
type Config struct {
	DB     *kv.DB
	NodeID kvpb.NodeID
	// Started is when this process began, in nanoseconds since 1970, and Address
	// where it is reached.
	Started int64
	Address string
	Log     *slog.Logger

	Interval time.Duration // between renewals; zero: 3 s
	TTL      time.Duration // how long one lasts; zero: 9 s
	// DeadAfter is how long after its expiration a node counts as dead; nil: 5
	// minutes (server.time_until_store_dead).
	DeadAfter func() time.Duration
}

const (
	defaultInterval = 3 * time.Second
	// DefaultTTL is how long a renewal lasts.
	DefaultTTL       = 9 * time.Second
	defaultDeadAfter = 5 * time.Minute
)

// Liveness is a node's part: it renews the node's record and watches those of
// others. It is safe for concurrent use.
type Liveness struct {
	cfg   Config
	begun chan struct{} // closed when the record is this process's and others' are known
	once  sync.Once

	mu struct {
		sync.Mutex
		records map[kvpb.NodeID]Record
		// draining and ended are what the next renewals say.
		draining, ended bool
		// former is the record as this process found it, if another one's had not
		// expired.
		former *Record
	}
}

// New returns a Liveness that does nothing until Run.
func New(cfg Config) *Liveness {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.DeadAfter == nil {
		cfg.DeadAfter = func() time.Duration { return defaultDeadAfter }
	}
	l := &Liveness{cfg: cfg, begun: make(chan struct{})}
	l.mu.records = map[kvpb.NodeID]Record{}
	return l
}

// ErrReplaced marks that another process is this node.
var ErrReplaced = errors.New("another process runs as this node")

// ErrDecommissioned marks that this node is not part of the cluster any more.
var ErrDecommissioned = errors.New("this node was decommissioned")

// Run renews the record and reads those of others until ctx is done, when it
// returns nil, or until this process must not be the node any more: the error says
// why.
func (l *Liveness) Run(ctx context.Context) error {
	for failing := false; ; {
		pause := l.cfg.Interval
		err := l.renew(ctx)
		if err == nil {
			err = l.refresh(ctx)
		}
		if err == nil {
			l.once.Do(func() { close(l.begun) })
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrReplaced), errors.Is(err, ErrDecommissioned):
			return err
		case errors.Is(err, errFormer):
			pause /= 6
		case err != nil:
			if !failing {
				l.cfg.Log.WarnContext(ctx, "renewing the liveness record; will go on trying", "err", err)
			}
			failing = true
		case failing:
			l.cfg.Log.InfoContext(ctx, "the liveness record is renewed again")
			failing = false
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// Begun is closed when the record is this process's and those of others are known.
func (l *Liveness) Begun() <-chan struct{} { return l.begun }

// renew makes the record last for another while.
func (l *Liveness) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.TTL)
	defer cancel()
	r, err := change(ctx, l.cfg.DB, l.cfg.NodeID, func(r *Record) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.mu.ended {
			return context.Canceled
		}
		now := l.now()
		if err := l.mayRenew(r, now); err != nil {
			return err
		}
		if r.Started != l.cfg.Started {
			r.Epoch++
		}
		r.Started, r.Address, r.Draining = l.cfg.Started, l.cfg.Address, l.mu.draining
		r.Expiration = now.Add(l.cfg.TTL)
		return nil
	})
	if err != nil {
		return err
	}
	l.remember(*r)
	return nil
}

// mayRenew says whether this process may write its own renewal over r.
func (l *Liveness) mayRenew(r *Record, now time.Time) error {
	if r.Membership == Decommissioned {
		return fmt.Errorf("n%d: %w", r.NodeID, ErrDecommissioned)
	}
	if r.Epoch == 0 || r.Started == l.cfg.Started {
		return nil
	}
	select {
	case <-l.begun:
		return fmt.Errorf("n%d is now the process at %s that started at %s: %w", r.NodeID, r.Address, startTime(r), ErrReplaced)
	default:
	}
	// Who had this address has ended, or this process could not have it.
	if r.Address == l.cfg.Address || now.After(r.Expiration) {
		return nil
	}
	if l.mu.former == nil {
		l.mu.former = r
	}
	if r.Expiration.After(l.mu.former.Expiration) || r.Started != l.mu.former.Started {
		return fmt.Errorf("n%d runs already, at %s since %s: %w", r.NodeID, r.Address, startTime(r), ErrReplaced)
	}
	return fmt.Errorf("waiting for the former process of n%d, at %s, to be forgotten: %w", r.NodeID, r.Address, errFormer)
}

// errFormer marks that the record is of another process, which may have died.
var errFormer = errors.New("the record has not expired")

func startTime(r *Record) string { return time.Unix(0, r.Started).UTC().Format(time.DateTime) }

// CheckStart says whether a process that starts as the node of r may: not while
// another one is alive elsewhere. It is for whoever lets the process in.
func CheckStart(r *Record, address string, now time.Time) error {
	switch {
	case r.Membership == Decommissioned:
		return fmt.Errorf("n%d: %w", r.NodeID, ErrDecommissioned)
	case r.Address == address || now.After(r.Expiration):
		return nil
	}
	return fmt.Errorf("n%d runs already, at %s since %s: %w", r.NodeID, r.Address, startTime(r), ErrReplaced)
}

func (l *Liveness) now() time.Time { return l.cfg.DB.Clock().PhysicalTime() }

// Refresh reads the records of all nodes now, and not when it is their turn.
func (l *Liveness) Refresh(ctx context.Context) error { return l.refresh(ctx) }

func (l *Liveness) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.TTL)
	defer cancel()
	_, err := l.ReadAll(ctx)
	return err
}

// ReadAll reads the records of all nodes, by node: what was written when it is
// called is in them.
func (l *Liveness) ReadAll(ctx context.Context) ([]Record, error) {
	all, err := readAll(ctx, l.cfg.DB)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		l.remember(r)
	}
	return all, nil
}

// SetMembership changes how a node belongs to the cluster. What is so already is no
// error; a step that is not allowed is.
func (l *Liveness) SetMembership(ctx context.Context, id kvpb.NodeID, to Membership) (*Record, error) {
	r, err := setMembership(ctx, l.cfg.DB, id, to)
	if err != nil {
		return nil, err
	}
	l.remember(*r)
	return r, nil
}

// remember keeps r unless a newer record is known: an answer may have been on its
// way for longer than another that was asked for after it.
func (l *Liveness) remember(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.mu.records[r.NodeID]; ok && r.Written.Less(known.Written) {
		return
	}
	l.mu.records[r.NodeID] = r
}

// Record returns what was last read of a node.
func (l *Liveness) Record(id kvpb.NodeID) (Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.mu.records[id]
	return r, ok
}

// Records returns what was last read of all nodes, in no order.
func (l *Liveness) Records() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Record, 0, len(l.mu.records))
	for _, r := range l.mu.records {
		out = append(out, r)
	}
	return out
}

// IsLive says whether a node's record has not expired.
func (l *Liveness) IsLive(id kvpb.NodeID) bool {
	r, ok := l.Record(id)
	return ok && l.now().Before(r.Expiration)
}

// IsDead says whether a node has been gone for so long that its replicas should be
// brought elsewhere.
func (l *Liveness) IsDead(id kvpb.NodeID) bool {
	r, ok := l.Record(id)
	return ok && r.Expiration.Add(l.cfg.DeadAfter()).Before(l.now())
}

// SetDraining tells everybody that this node is about to end, or is not.
func (l *Liveness) SetDraining(ctx context.Context, draining bool) error {
	l.mu.Lock()
	l.mu.draining = draining
	l.mu.Unlock()
	return l.renew(ctx)
}

// End gives the record up, so that the next process of this node need not wait for
// its expiration. Run must have returned.
func (l *Liveness) End(ctx context.Context) error {
	l.mu.Lock()
	l.mu.ended = true
	l.mu.Unlock()
	_, err := change(ctx, l.cfg.DB, l.cfg.NodeID, func(r *Record) error {
		if r.Started != l.cfg.Started {
			return fmt.Errorf("n%d: %w", r.NodeID, ErrReplaced)
		}
		r.Expiration, r.Draining = l.now(), false
		return nil
	})
	return err
}
