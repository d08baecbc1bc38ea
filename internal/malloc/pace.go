package malloc

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// How much garbage may lie beside what is in use, in percent of it, while somebody
// has asked for little: a large heap is not collected that often, since what else the
// process does would pay for it.
const (
	tightPercent      = 25
	tightPercentLarge = 50
	largeHeapBytes    = 64 << 20
)

// pace counts those who asked.
var pace struct {
	sync.Mutex
	holders int
	usual   int // the percentage to go back to
	now     int
}

// Pace keeps the Go heap tight until End.
type Pace struct{ end func() }

// Tight lets the Go heap grow by a quarter of what is in use before garbage is
// collected, instead of by as much again, until End is called. It is for long work that
// makes little garbage for the time it takes, such as a restore: there more collections
// cost nothing that can be measured, and the process reaches its largest size within
// the first seconds instead of creeping up to it. A stricter GOGC remains as it is.
func Tight() *Pace {
	pace.Lock()
	defer pace.Unlock()
	if pace.holders++; pace.holders == 1 {
		pace.usual = debug.SetGCPercent(tightPercent)
		pace.now = tightPercent
		setPace()
	}
	return &Pace{sync.OnceFunc(loosen)}
}

// Adjust looks at the size of the heap again; call it now and then.
func (p *Pace) Adjust() {
	pace.Lock()
	defer pace.Unlock()
	if pace.holders > 0 {
		setPace()
	}
}

// End goes back to the usual pace, if nobody else wants it tight.
func (p *Pace) End() { p.end() }

func loosen() {
	pace.Lock()
	defer pace.Unlock()
	if pace.holders--; pace.holders == 0 {
		debug.SetGCPercent(pace.usual)
	}
}

// setPace is called with the lock held.
func setPace() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	large := live[0].Value.Kind() == metrics.KindUint64 && live[0].Value.Uint64() > largeHeapBytes
	if p := tight(pace.usual, large); p != pace.now { // To set it stops the world.
		debug.SetGCPercent(p)
		pace.now = p
	}
}

// tight is the percentage where usual is the one that was asked for.
func tight(usual int, large bool) int {
	percent := tightPercent
	if large {
		percent = tightPercentLarge
	}
	return min(usual, percent) // Below zero: left to a memory limit.
}
