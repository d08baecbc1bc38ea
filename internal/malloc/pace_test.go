package malloc

import (
	"runtime/debug"
	"testing"
)

// TestTight: the pace is tight while anybody wants it so, and what it was afterwards.
func TestTight(t *testing.T) {
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	for _, c := range []struct{ usual, tight int }{{100, tightPercent}, {400, tightPercent}, {33, 33}, {-1, -1}} {
		before := debug.SetGCPercent(c.usual)
		one, two := Tight(), Tight()
		if got := percent(); got != c.tight {
			t.Errorf("GOGC %d: %d while tight, want %d", c.usual, got, c.tight)
		}
		one()
		one() // Once is enough, twice does no harm.
		if got := percent(); got != c.tight {
			t.Errorf("GOGC %d: %d while one still wants it tight, want %d", c.usual, got, c.tight)
		}
		two()
		if got := percent(); got != c.usual {
			t.Errorf("GOGC %d: %d afterwards", c.usual, got)
		}
		debug.SetGCPercent(before)
	}
}
