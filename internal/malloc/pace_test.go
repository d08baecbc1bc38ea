package malloc

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func percent() int {
	p := debug.SetGCPercent(100)
	debug.SetGCPercent(p)
	return p
}

// TestTight: the pace is tight while anybody wants it so, and what it was afterwards.
func TestTight(t *testing.T) {
	for _, c := range []struct{ usual, tight int }{{100, tightPercent}, {400, tightPercent}, {20, 20}, {-1, -1}} {
		before := debug.SetGCPercent(c.usual)
		one, two := Tight(), Tight()
		if got := percent(); got != c.tight {
			t.Errorf("GOGC %d: %d while tight, want %d", c.usual, got, c.tight)
		}
		one.End()
		one.End() // Once is enough, twice does no harm.
		if got := percent(); got != c.tight {
			t.Errorf("GOGC %d: %d while one still wants it tight, want %d", c.usual, got, c.tight)
		}
		two.End()
		two.Adjust()
		if got := percent(); got != c.usual {
			t.Errorf("GOGC %d: %d afterwards", c.usual, got)
		}
		debug.SetGCPercent(before)
	}
}

// TestTightLargeHeap: a heap that has become large is collected less often, from the
// next look on.
func TestTightLargeHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	p := Tight()
	defer p.End()
	large := make([]byte, 2*largeHeapBytes)
	runtime.GC()
	p.Adjust()
	if got := percent(); got != tightPercentLarge {
		t.Errorf("%d with a large heap, want %d", got, tightPercentLarge)
	}
	runtime.KeepAlive(large)
	large = nil
	runtime.GC()
	p.Adjust()
	if got := percent(); got != tightPercent {
		t.Errorf("%d with a small heap again, want %d", got, tightPercent)
	}
}
