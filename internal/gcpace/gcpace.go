// Package gcpace collects the Go heap more often while bulk work goes on.
//
// By default the heap may grow to twice what is in use before it is collected. A
// backup or restore holds tens of megabytes of buffers all the time and leaves little
// garbage, so most of that growth buys nothing; and since buffers have no pointers,
// collecting them costs next to nothing. While such work goes on the heap grows by a
// third only.
package gcpace

import (
	"runtime/debug"
	"sync"
)

// percent is what GOGC is during bulk work.
const percent = 33

var state struct {
	sync.Mutex
	holders int
	before  int
}

// Tighten begins bulk work, which ends with the returned function. A GOGC that asks
// for more collections, or for none at all, stays in force.
func Tighten() (end func()) {
	state.Lock()
	defer state.Unlock()
	if state.holders++; state.holders == 1 {
		state.before = debug.SetGCPercent(percent)
		if state.before < percent {
			debug.SetGCPercent(state.before)
		}
	}
	return sync.OnceFunc(loosen)
}

func loosen() {
	state.Lock()
	defer state.Unlock()
	if state.holders--; state.holders == 0 {
		debug.SetGCPercent(state.before)
	}
}
