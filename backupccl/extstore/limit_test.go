package extstore_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/settings"
)

// TestRateLimits: a transfer takes the time that the settings leave it, in each
// direction by itself, a changed setting counts at once, and other kinds of
// storage are not held up.
func TestRateLimits(t *testing.T) {
	ctx := context.Background()
	reg := settings.NewRegistry()
	cfg := extstore.DefaultConfig()
	cfg.ExternalIODir = t.TempDir()
	cfg.Settings = extstore.RegisterSettings(reg)
	f := extstore.NewFactory(cfg)
	body := bytes.Repeat([]byte("x"), 160<<10)
	n := 0
	transfer := func(uri string) (write, read time.Duration) {
		t.Helper()
		s, err := f.Open(ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		n++
		name := string(rune('a' + n))
		start := time.Now()
		if err := s.Put(ctx, name, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		write = time.Since(start)
		if uri == "null:///" {
			return write, 0
		}
		start = time.Now()
		got, err := extstore.ReadAll(ctx, s, name, 1<<20)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		return write, time.Since(start)
	}
	set := func(name, v string) {
		t.Helper()
		if err := reg.Apply(map[string]string{name: v}); err != nil {
			t.Fatal(err)
		}
	}
	// Beyond the burst of 32 KiB, 128 KiB go at 512 KiB a second.
	const slow = 250 * time.Millisecond
	set("cloudstorage.nodelocal.write.node_rate_limit", "524288")
	w, r := transfer("nodelocal://1/a")
	if r > slow/2 {
		t.Errorf("reading took %s and is not limited", r)
	}
	if err := reg.Apply(map[string]string{
		"cloudstorage.nodelocal.read.node_rate_limit": "524288", "cloudstorage.nodelocal.read.node_burst_limit": "32768",
	}); err != nil {
		t.Fatal(err)
	}
	if w < 50*time.Millisecond { // A burst of 128 KiB, then 32 KiB.
		t.Errorf("writing took %s", w)
	}
	w, r = transfer("nodelocal://1/a")
	if w > slow/2 {
		t.Errorf("writing took %s though its limit is gone", w)
	}
	if r < slow-20*time.Millisecond || r > 20*slow {
		t.Errorf("reading took %s, want at least %s", r, slow)
	}
	if w, _ := transfer("null:///"); w > slow/2 {
		t.Errorf("writing to another kind of storage took %s", w)
	}
}
