package kvserver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// A replica that is not like the others is seen, on demand and in the background,
// while the range is written; nobody changes it.
func TestConsistencyCheck(t *testing.T) {
	c := newMergeCluster(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := int64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = c.node(1).db.Put(ctx, tableKey(60), kvpb.EncodeInt(tableKey(60), n))
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	check := func() []kvpb.CheckReply {
		t.Helper()
		out, err := c.node(2).db.CheckConsistency(ctx, keys.Span{Key: tableKey(0), EndKey: tableKey(99)})
		if err != nil || len(out) != 2 {
			t.Fatalf("%v, %v", out, err)
		}
		return out
	}
	for range 5 {
		for _, o := range check() {
			if o.Status != kvpb.RangeConsistent {
				t.Fatalf("r%d is %s: %s", o.RangeID, o.Status, o.Detail)
			}
		}
	}
	bad := c.node(3)
	b := bad.eng.NewBatch()
	defer b.Close()
	if err := b.Put(addressedKey(tableKey(70), "junk"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	found := check()
	if o := found[0]; o.Status != kvpb.RangeConsistent {
		t.Errorf("r%d is %s", o.RangeID, o.Status)
	}
	if o := found[1]; o.Status != kvpb.RangeInconsistent || !strings.Contains(o.Detail, "(n3,s3)") {
		t.Errorf("r%d is %s: %s", o.RangeID, o.Status, o.Detail)
	}
	var counted int64
	for _, n := range c.nodes {
		counted += n.store.Inconsistent()
	}
	if counted != 1 {
		t.Errorf("%d differences are counted", counted)
	}
	if _, ok, err := bad.eng.Get(addressedKey(tableKey(70), "junk")); !ok || err != nil {
		t.Error("the replica was changed")
	}
	// In the background.
	c.mu.Lock()
	c.checkEvery = time.Second
	c.mu.Unlock()
	eventuallyTrue(t, "the background check sees it", func() bool {
		var now int64
		for _, n := range c.nodes {
			now += n.store.Inconsistent()
		}
		return now > counted
	})
	// Who does not answer is not taken for alike.
	c.mu.Lock()
	c.checkEvery = 0
	c.mu.Unlock()
	c.halt(3)
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if out, err := c.node(1).db.CheckConsistency(short, keys.Span{Key: tableKey(0), EndKey: tableKey(40)}); err == nil && out[0].Status != kvpb.RangeIndeterminate {
		t.Errorf("with a node missing r%d is %s", out[0].RangeID, out[0].Status)
	}
}
