package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/testkit"
)

// TestCrashKeepsWhatWasAcknowledged pulls the plug at random moments: what was
// committed with sync or ingested is there, every batch is there whole or not at
// all, and no batch is missing before one that is there.
func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if *randomSeed != 0 {
		seed = *randomSeed
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	ctx := context.Background()
	fs := testkit.NewCrashFS()
	cfg := testConfig(fs)
	cfg.MemTableBytes = 64 << 10
	e := openTest(t, cfg)
	const width = 5
	counter := func(i int) keys.Key { return keys.Key(fmt.Sprintf("\x90counter%d", i)) }
	ingestPrefix := func(n int64) keys.Key { return keys.Key(fmt.Sprintf("\xa0%06d", n)) }

	intentPrefix := func(n int64) keys.Key { return keys.Key(fmt.Sprintf("\xb0%06d", n)) }
	loader := TxnID{9}

	check := func(clone *testkit.CrashFS, synced int64, ingested, loaded []int64) {
		c := cfg
		c.FS = clone
		e, err := Open(c)
		if err != nil {
			t.Fatalf("seed %d: opening after a crash: %v", seed, err)
		}
		defer e.Close()
		var have int64 = -1
		for i := range width {
			res, err := MVCCGet(ctx, e, counter(i), hlc.MaxTimestamp, GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				have = res.Timestamp.WallTime
			} else if res.Timestamp.WallTime != have {
				t.Fatalf("seed %d: half a batch: counter 0 at %d, counter %d at %d", seed, have, i, res.Timestamp.WallTime)
			}
		}
		if have < synced {
			t.Fatalf("seed %d: synced batch %d lost, store is at %d", seed, synced, have)
		}
		// Every earlier version is there too: no batch is missing in between.
		n, err := ComputeStats(ctx, e, keys.Key("\x90"), keys.Key("\x91"))
		if err != nil {
			t.Fatal(err)
		}
		if n.KeyCount != have*width {
			t.Fatalf("seed %d: %d versions at batch %d", seed, n.KeyCount, have)
		}
		for _, g := range ingested {
			p := ingestPrefix(g)
			scan, err := MVCCScan(ctx, e, p, p.PrefixEnd(), hlc.MaxTimestamp, ScanOptions{})
			if err != nil || len(scan.KVs) != 20 {
				t.Fatalf("seed %d: ingested file %d has %d keys of 20 (%v)", seed, g, len(scan.KVs), err)
			}
		}
		for _, g := range loaded {
			p := intentPrefix(g)
			locks, _, err := ScanLocks(ctx, e, p, p.PrefixEnd(), 0)
			if err != nil || len(locks) != 20 || locks[7].Txn.ID != loader {
				t.Fatalf("seed %d: %d locks of 20 in load %d (%v)", seed, len(locks), g, err)
			}
			if n, err := ComputeStats(ctx, e, p, p.PrefixEnd()); err != nil || n.KeyCount != 20 || n.IntentCount != 20 {
				t.Fatalf("seed %d: load %d left %+v (%v)", seed, g, n, err)
			}
			if _, err := MVCCGet(ctx, e, locks[0].Key, hlc.MaxTimestamp, GetOptions{}); class(err) != "locked" {
				t.Fatalf("seed %d: the filter forgot the locks of load %d: %v", seed, g, err)
			}
		}
	}

	var now, synced int64
	var ingested, loaded []int64
	for step := range 400 {
		switch n := rng.IntN(20); {
		case n == 0:
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			check(clone, synced, ingested, loaded)
		case n == 1:
			g := int64(step)
			var sst SSTBuffer
			w := NewSSTWriter(&sst, CompressFast)
			for i := range 20 {
				if err := w.PutVersion(MVCCKey{Key: append(ingestPrefix(g), byte(i)), Timestamp: PlaceholderTimestamp}, val("x")); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			if _, err := e.IngestSST(ctx, sst.Bytes(), IngestOptions{Span: keys.Prefix(ingestPrefix(g)), Timestamp: ts(7), RequireEmpty: true}); err != nil {
				t.Fatal(err)
			}
			ingested = append(ingested, g)
		case n == 2:
			g := int64(step)
			var pairs []Pair
			for i := range 20 {
				pairs = append(pairs, Pair{Key: append(intentPrefix(g), byte(i)), Value: val("x")})
			}
			files, err := MVCCPutSorted(ctx, e, pairs, true, &Txn{TxnMeta: TxnMeta{ID: loader, WriteTimestamp: ts(9)}, ReadTimestamp: ts(9)})
			if err != nil || files == nil {
				t.Fatalf("preparing intents: %v", err)
			}
			if err := e.IngestIntents(ctx, files); err != nil {
				t.Fatal(err)
			}
			loaded = append(loaded, g)
		default:
			now++
			b := e.NewBatch()
			for i := range width {
				if err := MVCCPut(ctx, b, counter(i), ts(now), val(fmt.Sprint(now)), WriteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			sync := rng.IntN(3) == 0
			if err := b.Commit(sync); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if sync {
				synced = now
			}
		}
	}
	check(fs.CrashClone(vfs.CrashCloneCfg{}), synced, ingested, loaded)
}

// TestCrashWhileIngesting clones the file system while files are being ingested.
func TestCrashWhileIngesting(t *testing.T) {
	ctx := context.Background()
	fs := testkit.NewCrashFS()
	cfg := testConfig(fs)
	e := openTest(t, cfg)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { // Ends at stop; the test waits for done.
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			p := keys.Key(fmt.Sprintf("\xa0%06d", n))
			var sst SSTBuffer
			w := NewSSTWriter(&sst, CompressFast)
			for i := range 50 {
				if err := w.PutVersion(MVCCKey{Key: append(p.Clone(), byte(i)), Timestamp: PlaceholderTimestamp}, val("x")); err != nil {
					done <- err
					return
				}
			}
			if _, err := w.Finish(); err != nil {
				done <- err
				return
			}
			if _, err := e.IngestSST(ctx, sst.Bytes(), IngestOptions{Span: keys.Prefix(p), Timestamp: ts(7)}); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 20 {
		time.Sleep(time.Millisecond)
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		c := cfg
		c.FS = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
		e2, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		scan, err := MVCCScan(ctx, e2, keys.Key("\xa0"), keys.Key("\xa1"), hlc.MaxTimestamp, ScanOptions{})
		if err != nil || len(scan.KVs)%50 != 0 {
			t.Fatalf("crash %d: %d keys of files of 50: %v", i, len(scan.KVs), err)
		}
		if names, err := e2.FS().List(e2.stagingDir()); err != nil || len(names) > 0 {
			t.Fatalf("staged files survive a crash: %v %v", names, err)
		}
		if err := e2.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// fullFS is a file system with little space.
type fullFS struct {
	vfs.FS
	avail uint64
	// failIngest fails the creation of files in the staging directory.
	failWith error
}

func (f *fullFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: f.avail, TotalBytes: 1 << 40}, nil
}

func (f *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.failWith != nil {
		return nil, f.failWith
	}
	return f.FS.Create(name, c)
}

func TestFullDiskIsAnErrorAndNothingIsApplied(t *testing.T) {
	ctx := context.Background()
	fs := &fullFS{FS: vfs.NewMem(), avail: 1 << 40}
	cfg := testConfig(fs)
	cfg.ReserveBytes = 1 << 20
	e := openTest(t, cfg)
	put := func(key string, reserve bool) error {
		b := e.NewBatch()
		defer b.Close()
		if reserve {
			b.UseReserve()
		}
		if err := MVCCPut(ctx, b, keys.Key(key), ts(5), val("v"), WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		return b.Commit(true)
	}
	if err := put("\x90a", false); err != nil {
		t.Fatal(err)
	}
	fs.avail = 1 << 20
	e.space.checked = time.Time{}
	if err := put("\x90a1", false); err != nil {
		t.Errorf("a small commit may use a part of the reserve: %v", err)
	}
	big := e.NewBatch()
	if err := big.Put(keys.Key("\x91"), make([]byte, smallWriteBytes)); err != nil {
		t.Fatal(err)
	}
	if err := big.Commit(false); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a large commit on a full disk: %v", err)
	}
	if err := big.Close(); err != nil {
		t.Fatal(err)
	}
	fs.avail = 1 << 18
	e.space.checked = time.Time{}
	if err := put("\x90b", false); !errors.Is(err, ErrDiskFull) {
		t.Errorf("commit on a full disk: %v", err)
	}
	if err := put("\x90c", true); err != nil {
		t.Errorf("commit that may use the reserve: %v", err)
	}
	if got := scanString(t, e, "\x90", "\x91", ts(9), ScanOptions{}); got != "\x90a=v@5 \x90a1=v@5 \x90c=v@5" {
		t.Errorf("after a refused commit: %q", got)
	}
	var sst SSTBuffer
	w := NewSSTWriter(&sst, CompressFast)
	if err := w.PutVersion(MVCCKey{Key: keys.Key("\x90d"), Timestamp: PlaceholderTimestamp}, val("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	o := IngestOptions{Span: keys.Prefix(keys.Key("\x90")), Timestamp: ts(7)}
	if _, err := e.IngestSST(ctx, sst.Bytes(), o); !errors.Is(err, ErrDiskFull) {
		t.Errorf("ingestion on a full disk: %v", err)
	}
	fs.avail = 1 << 40
	e.space.checked = time.Time{}
	fs.failWith = &vfsPathError{syscall.ENOSPC}
	if _, err := e.IngestSST(ctx, sst.Bytes(), o); !errors.Is(err, ErrDiskFull) {
		t.Errorf("ingestion that meets ENOSPC: %v", err)
	}
	fs.failWith = nil
	if _, err := e.IngestSST(ctx, sst.Bytes(), o); err != nil {
		t.Errorf("ingestion after space came back: %v", err)
	}
}

type vfsPathError struct{ err error }

func (e *vfsPathError) Error() string { return "create: " + e.err.Error() }
func (e *vfsPathError) Unwrap() error { return e.err }
