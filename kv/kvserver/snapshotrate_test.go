package kvserver

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Snapshots leave at the rate that is set.
func TestSnapshotRate(t *testing.T) {
	c := newTestCluster(t, 3)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // 256 KiB
	for i := range 4 {
		for j := range big { // Nothing that compresses.
			big[j] = byte((j*2654435761 + i*40503) >> 7 * 31)
		}
		if err := c.node(1).db.Put(context.Background(), tableKey(i), kvpb.EncodeBytes(tableKey(i), big)); err != nil {
			t.Fatal(err)
		}
	}
	var rate atomic.Int64
	c.node(1).store.pacer.rate = rate.Load
	took := func(store kvpb.StoreID) time.Duration {
		start := time.Now()
		c.replicate(tableKey(0), store)
		return time.Since(start)
	}
	free := took(2)
	w := pacedWriter{io.Discard, context.Background(), &c.node(1).store.pacer}
	rate.Store(1 << 20)
	start := time.Now()
	for range 8 {
		if _, err := w.Write(big[:64<<10]); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d < 400*time.Millisecond {
		t.Errorf("512 KiB left within %s at 1 MiB/s", d)
	}
	rate.Store(64 << 10)
	if d := took(3); d < 300*time.Millisecond {
		t.Errorf("a snapshot took %s at 64 KiB/s, %s without limit", d, free)
	}
}
