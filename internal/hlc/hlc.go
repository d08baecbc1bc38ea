// Package hlc keeps hybrid logical time: a physical clock that never runs
// backwards and has a logical counter for events within one nanosecond.
//
// Every version, transaction and backup is named by a Timestamp. A Clock hands
// them out in strictly increasing order on one node and is moved forward by
// timestamps that arrive from others. A process persists an upper bound of what
// its clock handed out and starts above it, so a restart never reuses an
// instant. Start reading at Timestamp, then Clock.
package hlc

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Timestamp is an instant of hybrid logical time. The zero Timestamp is before
// all others and means "none".
type Timestamp struct {
	WallTime int64 // nanoseconds since the Unix epoch
	Logical  int32 // orders events within one nanosecond
}

// MaxTimestamp is after every instant a clock can return.
var MaxTimestamp = Timestamp{WallTime: math.MaxInt64, Logical: math.MaxInt32}

// FromTime converts wall time, with logical part zero.
func FromTime(t time.Time) Timestamp { return Timestamp{WallTime: t.UnixNano()} }

// Time returns the physical part in UTC.
func (t Timestamp) Time() time.Time { return time.Unix(0, t.WallTime).UTC() }

// IsEmpty says whether t is the zero Timestamp.
func (t Timestamp) IsEmpty() bool { return t == Timestamp{} }

// Less says whether t is before u.
func (t Timestamp) Less(u Timestamp) bool {
	return t.WallTime < u.WallTime || (t.WallTime == u.WallTime && t.Logical < u.Logical)
}

// LessEq says whether t is before or equal to u.
func (t Timestamp) LessEq(u Timestamp) bool { return !u.Less(t) }

// Compare returns -1, 0 or +1.
func (t Timestamp) Compare(u Timestamp) int {
	switch {
	case t.Less(u):
		return -1
	case u.Less(t):
		return 1
	}
	return 0
}

// Next returns the instant directly after t.
func (t Timestamp) Next() Timestamp {
	if t.Logical == math.MaxInt32 {
		return Timestamp{WallTime: t.WallTime + 1}
	}
	return Timestamp{WallTime: t.WallTime, Logical: t.Logical + 1}
}

// Prev returns the instant directly before t. The zero Timestamp has none and
// is returned unchanged.
func (t Timestamp) Prev() Timestamp {
	switch {
	case t.Logical > 0:
		return Timestamp{WallTime: t.WallTime, Logical: t.Logical - 1}
	case t.WallTime > 0:
		return Timestamp{WallTime: t.WallTime - 1, Logical: math.MaxInt32}
	}
	return t
}

// Add moves the physical part by d and keeps the logical part.
func (t Timestamp) Add(d time.Duration) Timestamp {
	return Timestamp{WallTime: t.WallTime + int64(d), Logical: t.Logical}
}

// Forward raises t to u if u is later and says whether it did.
func (t *Timestamp) Forward(u Timestamp) bool {
	if t.Less(u) {
		*t = u
		return true
	}
	return false
}

// Backward lowers t to u if u is earlier and says whether it did.
func (t *Timestamp) Backward(u Timestamp) bool {
	if u.Less(*t) {
		*t = u
		return true
	}
	return false
}

// Later returns the later of t and u.
func Later(t, u Timestamp) Timestamp {
	t.Forward(u)
	return t
}

// String prints seconds, nanoseconds and the logical part: 1711033445.120000000,3.
func (t Timestamp) String() string {
	return fmt.Sprintf("%d.%09d,%d", t.WallTime/1e9, t.WallTime%1e9, t.Logical)
}

// AsOfSystemTime prints t in the decimal form that AS OF SYSTEM TIME takes:
// nanoseconds, and the logical part as ten digits after the point.
func (t Timestamp) AsOfSystemTime() string {
	return fmt.Sprintf("%d.%010d", t.WallTime, t.Logical)
}

// ParseAsOfSystemTime reads what AsOfSystemTime prints; the logical part may be
// missing.
func ParseAsOfSystemTime(s string) (Timestamp, error) {
	wall, frac, hasFrac := strings.Cut(s, ".")
	w, err := strconv.ParseInt(wall, 10, 64)
	if err != nil {
		return Timestamp{}, fmt.Errorf("parsing timestamp %q: %w", s, err)
	}
	t := Timestamp{WallTime: w}
	if !hasFrac {
		return t, nil
	}
	if len(frac) > 10 {
		return Timestamp{}, fmt.Errorf("parsing timestamp %q: more than ten digits in the logical part", s)
	}
	l, err := strconv.ParseUint(frac+strings.Repeat("0", 10-len(frac)), 10, 64)
	if err != nil {
		return Timestamp{}, fmt.Errorf("parsing timestamp %q: %w", s, err)
	}
	if l > math.MaxInt32 {
		return Timestamp{}, fmt.Errorf("parsing timestamp %q: the logical part exceeds %d", s, math.MaxInt32)
	}
	t.Logical = int32(l)
	return t, nil
}

// Clock hands out increasing timestamps. It is safe for concurrent use.
type Clock struct {
	now       func() int64
	maxOffset time.Duration

	mu struct {
		sync.Mutex
		last Timestamp
	}
}

// NewClock returns a clock over now, which gives nanoseconds since the Unix
// epoch. maxOffset bounds how far clocks of one cluster may differ.
func NewClock(now func() int64, maxOffset time.Duration) *Clock {
	return &Clock{now: now, maxOffset: maxOffset}
}

// NewSystemClock returns a clock over the machine's time.
func NewSystemClock(maxOffset time.Duration) *Clock {
	return NewClock(func() int64 { return time.Now().UnixNano() }, maxOffset)
}

// Now returns a timestamp later than all returned or seen before.
func (c *Clock) Now() Timestamp {
	phys := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.last.WallTime >= phys {
		c.mu.last = c.mu.last.Next()
	} else {
		c.mu.last = Timestamp{WallTime: phys}
	}
	return c.mu.last
}

// Update moves the clock forward to at least t.
func (c *Clock) Update(t Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last.Forward(t)
}

// PhysicalNow returns the underlying wall clock in nanoseconds.
func (c *Clock) PhysicalNow() int64 { return c.now() }

// PhysicalTime returns the underlying wall clock.
func (c *Clock) PhysicalTime() time.Time { return time.Unix(0, c.now()).UTC() }

// MaxOffset returns the bound on clock differences within the cluster.
func (c *Clock) MaxOffset() time.Duration { return c.maxOffset }

// OffsetError says that a timestamp of another node is further ahead of this
// machine's clock than clocks of one cluster may be apart.
type OffsetError struct {
	Ahead, MaxOffset time.Duration
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("the clock of the other node is %s ahead of this one's, more than the maximum offset of %s", e.Ahead, e.MaxOffset)
}

// Receive is Update with a timestamp of another node. It refuses one that is too
// far ahead with an *OffsetError, so that one wrong clock does not drag all
// others along. Without a maximum offset nothing is too far.
func (c *Clock) Receive(t Timestamp) error {
	if ahead := time.Duration(t.WallTime - c.now()); c.maxOffset > 0 && t.WallTime > 0 && ahead > c.maxOffset {
		return &OffsetError{Ahead: ahead, MaxOffset: c.maxOffset}
	}
	c.Update(t)
	return nil
}
