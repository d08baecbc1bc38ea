package kv

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// Whatever was added is covered, within the memory bound.
func TestSpanSetCoversWhatWasAdded(t *testing.T) {
	s := rand.Uint64()
	t.Logf("seed %d", s)
	rng := rand.New(rand.NewPCG(s, 1))
	for range 50 {
		set := spanSet{maxBytes: 200 + rng.IntN(3000)}
		var added []keys.Span
		buf := make([]byte, 0, 64)
		for range rng.IntN(400) {
			// The caller may use its memory again.
			buf = append(buf[:0], keys.IndexPrefix(uint32(100+rng.IntN(5)), uint32(1+rng.IntN(2)))...)
			buf = fmt.Appendf(buf, "%04d", rng.IntN(10000))
			sp := keys.Span{Key: keys.Key(buf).Clone()}
			if rng.IntN(4) == 0 {
				sp.EndKey = append(sp.Key.Clone(), 'x')
			}
			added = append(added, sp)
			set.add(buf, sp.EndKey)
		}
		out := set.sorted()
		for i := 1; i < len(out); i++ {
			if !out[i-1].Key.Less(out[i].Key) {
				t.Fatalf("%s is not before %s", out[i-1], out[i])
			}
		}
		if n := spansBytes(out); n > set.maxBytes+200 {
			t.Fatalf("%d spans of %d bytes, the bound is %d", len(out), n, set.maxBytes)
		}
		for _, sp := range added {
			covered := false
			for _, o := range out {
				covered = covered || o.ContainsSpan(sp)
			}
			if !covered {
				t.Fatalf("%s was added and is not in %v", sp, out)
			}
		}
	}
}
