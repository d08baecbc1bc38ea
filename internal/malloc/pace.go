package malloc

import (
	"runtime/debug"
	"sync"
)

// tightPercent is how much garbage may lie beside what is in use while somebody has
// asked for little of it.
const tightPercent = 50

// pace counts those who asked.
var pace struct {
	sync.Mutex
	holders int
	usual   int // the percentage to go back to
}

// Tight lets the Go heap grow by half of what is in use before garbage is collected,
// instead of by as much again, until end is called. It is for long work that makes
// little garbage for the time it takes, such as a restore: there more collections cost
// nothing that can be measured, and the process reaches its largest size within the
// first seconds instead of creeping up to it. A stricter GOGC remains as it is.
func Tight() (end func()) {
	pace.Lock()
	defer pace.Unlock()
	if pace.holders++; pace.holders == 1 {
		pace.usual = debug.SetGCPercent(tightPercent)
		if pace.usual < tightPercent { // Stricter already, or left to a memory limit.
			debug.SetGCPercent(pace.usual)
		}
	}
	return sync.OnceFunc(loosen)
}

func loosen() {
	pace.Lock()
	defer pace.Unlock()
	if pace.holders--; pace.holders == 0 {
		debug.SetGCPercent(pace.usual)
	}
}
