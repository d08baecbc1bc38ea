package storage

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/holdfastdb/holdfast/internal/keys"
)

func TestList(t *testing.T) {
	var buf bytes.Buffer
	w := NewListWriter(&buf)
	const n = 20000
	for i := range n {
		if err := w.Add(fmt.Appendf(nil, "k%06d", i), fmt.Appendf(nil, "value %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Add(keys.Key("a"), nil); err == nil {
		t.Error("a key out of order was accepted")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	count := func(b []byte, span keys.Span) (got int, err error) {
		err = ReadList(t.Context(), b, span, func(keys.Key, []byte) error { got++; return nil })
		return got, err
	}
	if got, err := count(buf.Bytes(), keys.Span{}); got != n || err != nil {
		t.Errorf("read %d of %d pairs: %v", got, n, err)
	}
	if got, err := count(buf.Bytes(), keys.Span{Key: keys.Key("k000100"), EndKey: keys.Key("k000200")}); got != 100 || err != nil {
		t.Errorf("read %d of 100 pairs: %v", got, err)
	}
	for i := 0; i < buf.Len(); i += 1 + buf.Len()/20 {
		b := bytes.Clone(buf.Bytes())
		b[i] ^= 0x40
		if got, err := count(b, keys.Span{}); err == nil && got != n {
			t.Errorf("byte %d flipped: %d pairs and no error", i, got)
		}
	}
	if _, err := count(buf.Bytes()[:buf.Len()/2], keys.Span{}); err == nil {
		t.Error("half a file was read")
	}
}
