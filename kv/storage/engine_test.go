package storage

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// testConfig is a store in memory.
func testConfig(fs vfs.FS) Config {
	cfg := DefaultConfig("store")
	cfg.FS = fs
	cfg.CacheBytes = 8 << 20
	cfg.MemTableBytes = 1 << 20
	cfg.ReserveBytes = 0
	return cfg
}

func openTest(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestPlainKeysSurviveReopening(t *testing.T) {
	cfg := DefaultConfig(t.TempDir())
	cfg.CacheBytes = 4 << 20
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := e.NewBatch()
	for _, k := range []string{"a", "b", "b\x00", "c"} {
		if err := b.Put(keys.Key(k), []byte("v"+k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Clear(keys.Key("a")); err != nil {
		t.Fatal(err)
	}
	if v, ok, err := b.Get(keys.Key("b")); err != nil || !ok || string(v) != "vb" {
		t.Fatalf("batch read: %q %t %v", v, ok, err)
	}
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrStoreLocked) {
		t.Fatalf("second opener got %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openTest(t, cfg)
	ro := e.NewReadOnly()
	defer ro.Close()
	for _, r := range []Reader{e, ro} {
		var got []string
		if err := r.Scan(keys.Key("a"), keys.Key("c"), func(k keys.Key, v []byte) (bool, error) {
			got = append(got, string(k)+"="+string(v))
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
		if s := strings.Join(got, " "); s != "b=vb b\x00=vb\x00" {
			t.Errorf("scan: %q", s)
		}
	}
}

func TestStoreVersionIsChecked(t *testing.T) {
	fs := vfs.NewMem()
	write := func(name, text string) {
		f, err := fs.Create("store/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := fs.MkdirAll("store", 0o755); err != nil {
		t.Fatal(err)
	}
	write(storeVersionFile, storeVersionLine+"77\n")
	if _, err := Open(testConfig(fs)); !errors.Is(err, ErrStoreVersion) || !strings.Contains(err.Error(), "version 77") {
		t.Errorf("newer version: %v", err)
	}
	write(storeVersionFile, "")
	if _, err := Open(testConfig(fs)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("empty version file: %v", err)
	}
	if err := fs.Remove("store/" + storeVersionFile); err != nil {
		t.Fatal(err)
	}
	write("MANIFEST-000001", "x")
	if _, err := Open(testConfig(fs)); !errors.Is(err, ErrStoreVersion) {
		t.Errorf("foreign store: %v", err)
	}
}
