package gcpace

import (
	"runtime/debug"
	"testing"
)

// now returns the GOGC in force.
func now() int {
	n := debug.SetGCPercent(100)
	debug.SetGCPercent(n)
	return n
}

func TestTighten(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for _, c := range []struct{ before, during int }{{100, percent}, {20, 20}, {-1, -1}} {
		debug.SetGCPercent(c.before)
		first, second := Tighten(), Tighten()
		if got := now(); got != c.during {
			t.Errorf("GOGC %d is %d during bulk work, want %d", c.before, got, c.during)
		}
		first()
		first() // counts once
		if got := now(); got != c.during {
			t.Errorf("GOGC %d is %d while one of two is left, want %d", c.before, got, c.during)
		}
		second()
		if got := now(); got != c.before {
			t.Errorf("GOGC %d is %d afterwards", c.before, got)
		}
	}
}
