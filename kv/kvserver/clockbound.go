package kvserver

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
)

// clockBound is a durable upper bound of the timestamps this store has served.
// After a restart the clock starts above it, even if the machine's time was set
// back: no timestamp is used twice, and nothing is written below a read of the
// former life.
type clockBound struct {
	wall atomic.Int64
	used atomic.Int64 // roughly the newest timestamp that was asked for
	mu   sync.Mutex   // one writer at a time
}

const (
	// clockLead is how far the bound is moved ahead of the clock. After a crash a
	// member of a cluster waits for so long at most; a node that is alone is at most
	// so much ahead of real time.
	clockLead = time.Second
	// clockRenewal is how often it is moved while the store is used.
	clockRenewal = 400 * time.Millisecond
)

// startClock moves the clock above everything the store has served.
func (s *Store) startClock() error {
	b, ok, err := s.eng.Get(storeKey(suffixClock))
	if err != nil {
		return fmt.Errorf("reading the clock's bound: %w", err)
	}
	if ok {
		ts, err := decodeTimestamp(b)
		if err != nil {
			return fmt.Errorf("reading the clock's bound: %w", err)
		}
		ahead := time.Duration(ts.WallTime - s.clock.PhysicalNow())
		switch {
		case ahead > 10*clockLead:
			s.log.Warn("the machine's clock was set back; time stands still until it has caught up", "by", ahead)
		case ahead > 0 && s.cfg.Network != nil:
			// Others allow for clocks that differ by the maximum offset, and would not see
			// as uncertain what is written further ahead: they could miss it.
			s.log.Debug("waiting for the machine's clock to pass what a former process may have used", "for", ahead)
			time.Sleep(ahead + time.Millisecond)
		}
		s.clock.Update(hlc.Timestamp{WallTime: ts.WallTime + 1})
	}
	s.started = s.clock.Now()
	return s.moveClockBound(s.started)
}

// coverClock returns when the bound is at or above ts. Usually it is.
func (s *Store) coverClock(_ context.Context, ts hlc.Timestamp) error {
	if ts.WallTime <= s.bound.wall.Load() {
		if ts.WallTime > s.bound.used.Load()+int64(clockRenewal/4) {
			s.bound.used.Store(ts.WallTime)
		}
		return nil
	}
	if limit := s.clock.PhysicalNow() + int64(time.Hour); ts.WallTime > limit {
		return fmt.Errorf("timestamp %s is too far in the future", ts)
	}
	return s.moveClockBound(ts)
}

func (s *Store) moveClockBound(ts hlc.Timestamp) error {
	s.bound.mu.Lock()
	defer s.bound.mu.Unlock()
	wall := max(ts.WallTime, s.clock.PhysicalNow()) + int64(clockLead)
	if wall <= s.bound.wall.Load()+int64(clockLead/8) && ts.WallTime <= s.bound.wall.Load() {
		return nil // Somebody has just moved it.
	}
	if err := s.writeClockBound(hlc.Timestamp{WallTime: wall}); err != nil {
		return err
	}
	s.bound.wall.Store(wall)
	return nil
}

func (s *Store) writeClockBound(bound hlc.Timestamp) error {
	b := s.eng.NewWriteBatch()
	defer b.Close()
	b.UseReserve()
	if err := b.Put(storeKey(suffixClock), encodeTimestamp(bound)); err != nil {
		return err
	}
	if err := b.Commit(true); err != nil {
		return fmt.Errorf("moving the clock's bound: %w", err)
	}
	return nil
}
