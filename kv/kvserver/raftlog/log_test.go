package raftlog

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

var testPrefix = append(keys.LocalRangeIDPrefix.Clone(), 7)

func openEngine(t *testing.T, fs vfs.FS) *storage.Engine {
	t.Helper()
	cfg := storage.DefaultConfig("store")
	cfg.FS, cfg.ReserveBytes, cfg.MemTableBytes = fs, 0, 1<<20
	eng, err := storage.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return eng
}

func openLog(t *testing.T, eng *storage.Engine, cacheBytes int64) *Log {
	t.Helper()
	l, err := Open(eng, testPrefix, nil, cacheBytes)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// commit applies what stage adds to a batch.
func commit(t *testing.T, eng *storage.Engine, stage func(b *storage.Batch) (func(), error)) {
	t.Helper()
	b := eng.NewWriteBatch()
	defer b.Close()
	done, err := stage(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	done()
}

func entries(first, n int, term uint64, data int) []*pb.Entry {
	var out []*pb.Entry
	for i := range n {
		out = append(out, &pb.Entry{Index: proto.Uint64(uint64(first + i)), Term: proto.Uint64(term), Data: make([]byte, data)})
	}
	return out
}

// compare asks the log and raft's own log in memory the same questions.
func compare(t *testing.T, l *Log, want *raft.MemoryStorage) {
	t.Helper()
	first, _ := want.FirstIndex()
	last, _ := want.LastIndex()
	if f, _ := l.FirstIndex(); f != first {
		t.Fatalf("first index %d, want %d", f, first)
	}
	if x, _ := l.LastIndex(); x != last {
		t.Fatalf("last index %d, want %d", x, last)
	}
	for i := first - 1; i <= last+1; i++ {
		term, err := l.Term(i)
		wantTerm, wantErr := want.Term(i)
		if term != wantTerm || !errors.Is(err, wantErr) {
			t.Fatalf("term of %d: %d, %v, want %d, %v", i, term, err, wantTerm, wantErr)
		}
	}
	for lo := first; lo <= last; lo += 1 + uint64(rand.IntN(4)) {
		hi := lo + rand.Uint64N(last+2-lo)
		if hi == lo {
			continue
		}
		limit := []uint64{math.MaxUint64, 0, 100, 2000}[rand.IntN(4)]
		got, err := l.Entries(lo, hi, limit)
		wantEnts, wantErr := want.Entries(lo, hi, limit)
		if !errors.Is(err, wantErr) || fmt.Sprint(got) != fmt.Sprint(wantEnts) {
			t.Fatalf("entries [%d, %d) within %d: %d, %v, want %d, %v", lo, hi, limit, len(got), err, len(wantEnts), wantErr)
		}
	}
	hs, _, _ := l.InitialState()
	wantHS, _, _ := want.InitialState()
	if hs.GetTerm() != wantHS.GetTerm() || hs.GetCommit() != wantHS.GetCommit() || hs.GetVote() != wantHS.GetVote() {
		t.Fatalf("hard state %v, want %v", hs, wantHS)
	}
}

// The log does what raft's own one in memory does, over appends, replacements,
// truncations, snapshots, orderly restarts and crashes.
func TestLikeMemoryStorage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	eng := openEngine(t, fs)
	cacheBytes := int64(rng.IntN(3000))
	l := openLog(t, eng, cacheBytes)
	want := raft.NewMemoryStorage()
	term := uint64(1)
	for step := range 600 {
		first, _ := want.FirstIndex()
		last, _ := want.LastIndex()
		old, _, _ := want.InitialState()
		switch op := rng.IntN(20); {
		case op < 12: // Append, sometimes over what was not committed.
			if rng.IntN(4) == 0 {
				term++
			}
			at := last + 1
			if commit := max(old.GetCommit(), first-1); rng.IntN(4) == 0 && commit < last {
				at = commit + 1 + rng.Uint64N(last-commit)
				term++
			}
			ents := entries(int(at), rng.IntN(5), term, rng.IntN(300))
			end := max(at+uint64(len(ents)), at) - 1
			if len(ents) == 0 {
				end = last
			}
			lo := max(old.GetCommit(), first-1)
			hs := &pb.HardState{Term: proto.Uint64(term), Vote: proto.Uint64(1), Commit: proto.Uint64(lo + rng.Uint64N(end-lo+1))}
			commit(t, eng, func(b *storage.Batch) (func(), error) { return l.Stage(b, hs, ents) })
			_ = want.SetHardState(hs)
			if err := want.Append(ents); err != nil {
				t.Fatal(err)
			}
		case op < 15: // Truncate what is committed.
			if c := old.GetCommit(); c >= first {
				to := first + rng.Uint64N(c-first+1)
				commit(t, eng, func(b *storage.Batch) (func(), error) { return l.Truncate(b, to) })
				if err := want.Compact(to); err != nil {
					t.Fatal(err)
				}
			}
		case op == 15: // A snapshot from ahead.
			to := last + 1 + rng.Uint64N(10)
			hs := &pb.HardState{Term: proto.Uint64(term), Commit: proto.Uint64(to)}
			commit(t, eng, func(b *storage.Batch) (func(), error) {
				reset, err := l.Reset(b, to, term)
				if err != nil {
					return nil, err
				}
				stage, err := l.Stage(b, hs, nil)
				return func() { reset(); stage() }, err
			})
			_ = want.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: proto.Uint64(to), Term: proto.Uint64(term)}})
			_ = want.SetHardState(hs)
		case op == 16:
			if err := eng.Close(); err != nil {
				t.Fatal(err)
			}
			eng = openEngine(t, fs)
			l = openLog(t, eng, cacheBytes)
		case op == 17: // Crash: what was committed with sync is there.
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(seed, uint64(step)))})
			_ = eng.Close()
			fs = crashed
			eng = openEngine(t, fs)
			l = openLog(t, eng, cacheBytes)
		}
		compare(t, l, want)
	}
	if err := eng.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStageRefusesGaps(t *testing.T) {
	eng := openEngine(t, vfs.NewMem())
	defer eng.Close()
	l := openLog(t, eng, 1<<20)
	commit(t, eng, func(b *storage.Batch) (func(), error) { return l.Stage(b, nil, entries(1, 5, 1, 10)) })
	b := eng.NewWriteBatch()
	defer b.Close()
	if _, err := l.Stage(b, nil, entries(7, 1, 1, 0)); err == nil {
		t.Error("an entry after a gap was taken")
	}
	if _, err := l.Stage(b, nil, append(entries(6, 1, 1, 0), entries(8, 1, 1, 0)...)); err == nil {
		t.Error("entries with a gap were taken")
	}
	if _, err := l.Truncate(b, 9); err == nil {
		t.Error("more was truncated than is there")
	}
}

func TestDamageIsNoticed(t *testing.T) {
	eng := openEngine(t, vfs.NewMem())
	defer eng.Close()
	l := openLog(t, eng, 1<<20)
	commit(t, eng, func(b *storage.Batch) (func(), error) {
		return l.Stage(b, &pb.HardState{Term: proto.Uint64(1), Commit: proto.Uint64(3)}, entries(1, 5, 1, 10))
	})
	for name, damage := range map[string]func(b *storage.Batch) error{
		"gap":          func(b *storage.Batch) error { return b.Clear(l.entryKey(2)) },
		"lost entries": func(b *storage.Batch) error { return b.ClearRange(l.entryKey(3), l.entryKey(6)) },
		"garbage":      func(b *storage.Batch) error { return b.Put(l.entryKey(4), []byte{0xff}) },
		"wrong place": func(b *storage.Batch) error {
			v, _ := proto.Marshal(entries(9, 1, 1, 0)[0])
			return b.Put(l.entryKey(6), v)
		},
		"hard state": func(b *storage.Batch) error { return b.Put(l.key(suffixHardState), []byte{0xff}) },
		"truncation": func(b *storage.Batch) error { return b.Put(l.key(suffixTruncated), []byte{1}) },
	} {
		snap := map[string][]byte{}
		if err := eng.Scan(testPrefix, testPrefix.PrefixEnd(), func(k keys.Key, v []byte) (bool, error) {
			snap[string(k)] = append([]byte(nil), v...)
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
		commit(t, eng, func(b *storage.Batch) (func(), error) { return func() {}, damage(b) })
		if _, err := Open(eng, testPrefix, nil, 1<<20); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: error %v, want corruption", name, err)
		}
		commit(t, eng, func(b *storage.Batch) (func(), error) {
			if err := b.ClearRange(testPrefix, testPrefix.PrefixEnd()); err != nil {
				return nil, err
			}
			for k, v := range snap {
				if err := b.Put(keys.Key(k), v); err != nil {
					return nil, err
				}
			}
			return func() {}, nil
		})
	}
}
