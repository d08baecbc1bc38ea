// Package chance has the random numbers that the store decides by: how long to wait
// before the next try, what to call a transaction. They need not be good, but a
// simulation must be able to repeat them.
package chance

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// source is the simulation's; nil outside of one.
var source atomic.Pointer[seeded]

type seeded struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// Uint64 returns any number.
func Uint64() uint64 {
	s := source.Load()
	if s == nil {
		return rand.Uint64()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Uint64()
}

// Duration returns a duration in [0, below), zero if below is not positive.
func Duration(below time.Duration) time.Duration {
	if below <= 0 {
		return 0
	}
	return time.Duration(Uint64() % uint64(below))
}

// Repeat makes all numbers of this process follow from seed until undo is called.
func Repeat(seed uint64) (undo func()) {
	source.Store(&seeded{rng: rand.New(rand.NewPCG(seed, 0))})
	return func() { source.Store(nil) }
}
