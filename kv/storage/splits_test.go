package storage

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfastdb/holdfast/internal/keys"
)

func TestApproximateSplits(t *testing.T) {
	cfg := DefaultConfig("store")
	cfg.FS, cfg.ReserveBytes = NewMemFS(), 0
	eng, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	key := func(i int) keys.Key {
		return append(keys.IndexPrefix(200, 1), byte(0x89+i/50), byte(0x89+i%50), 0x88)
	}
	// Ten files of fifty rows that do not compress.
	rng := rand.NewChaCha8([32]byte{1})
	value := make([]byte, 1000)
	for f := range 10 {
		var buf bytes.Buffer
		w := NewSSTWriter(&buf, CompressNone)
		for i := range 50 {
			_, _ = rng.Read(value)
			clear(value[:valueChecksumLen])
			value[valueChecksumLen] = 3
			if err := w.PutVersion(MVCCKey{Key: key(f*50 + i), Timestamp: PlaceholderTimestamp}, value); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		if _, err := eng.IngestSST(t.Context(), buf.Bytes(), IngestOptions{Span: keys.TableSpan(200), Timestamp: PlaceholderTimestamp.Next()}); err != nil {
			t.Fatal(err)
		}
	}
	span := keys.IndexSpan(200, 1)
	got, err := eng.ApproximateSplits(span.Key, span.EndKey, 120<<10)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < 2 || len(got) > 5 {
		t.Errorf("%d splits of 500 kB into 120 kB", len(got))
	}
	prev := span.Key
	for _, k := range got {
		if !prev.Less(k) || !k.Less(span.EndKey) || !keys.RowPrefix(append(k.Clone(), 0x88)).Equal(k) {
			t.Errorf("split %s after %s is no row boundary in order", k, prev)
		}
		prev = k
	}
	if got, err := eng.ApproximateSplits(span.Key, span.EndKey, 1<<30); err != nil || len(got) != 0 {
		t.Errorf("small span: %v, %v", got, err)
	}
}
