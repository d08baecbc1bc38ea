package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/testkit"
)

// frames cuts a stream into its mark and frames.
func frames(t testing.TB, b []byte) [][]byte {
	t.Helper()
	n := len(spanStreamMark) + 1
	out := [][]byte{b[:n]}
	for b = b[n:]; len(b) > 0; b = b[n:] {
		n = frameHeaderBytes + int(binary.BigEndian.Uint32(b[6:]))
		out = append(out, b[:n])
	}
	return out
}

// TestDamagedStreamChangesNothing cuts, flips, drops, repeats and swaps parts of a
// stream; none is accepted, and the store stays as it was.
func TestDamagedStreamChangesNothing(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 7))
	set := testRangeSpans()
	from, to := fillRange(t, seed, 150), fillRange(t, seed+1, 100)
	// Several frames of content.
	b := from.e.NewBatch()
	for i := range 40 {
		v := make([]byte, 20000)
		for j := range v {
			v[j] = byte(rng.Uint32())
		}
		from.must(b.putVersion(append(set.User.Key.Clone(), byte(i)), ts(5), MakeValue(v)))
	}
	from.must(b.Commit(false))
	from.must(b.Close())
	good := stream(t, from.e, set)
	fs := frames(t, good)
	if len(fs) < 6 {
		t.Fatalf("a stream of %d frames", len(fs))
	}
	in, beside := dumpSpans(t, to.e, set)
	refused := func(what string, r io.Reader) error {
		t.Helper()
		_, err := to.e.ReceiveSpans(ctx, r)
		if err == nil {
			t.Fatalf("seed %d: accepted: %s", seed, what)
		}
		return err
	}
	for i := range fs {
		cut := bytes.Join(fs[:i], nil)
		if err := refused(fmt.Sprintf("%d of %d frames", i, len(fs)), bytes.NewReader(cut)); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrCorrupt) {
			t.Errorf("a torn stream gives %v", err)
		}
		if i == 0 {
			continue
		}
		without := bytes.Join(append(append([][]byte{}, fs[:i]...), fs[i+1:]...), nil)
		refused(fmt.Sprintf("without frame %d", i), bytes.NewReader(without))
		if i < len(fs)-1 { // What follows the last one is not looked at.
			twice := bytes.Join(append(append([][]byte{}, fs[:i+1]...), fs[i:]...), nil)
			refused(fmt.Sprintf("frame %d twice", i), bytes.NewReader(twice))
			swapped := append([][]byte{}, fs...)
			swapped[i], swapped[i+1] = fs[i+1], fs[i]
			refused(fmt.Sprintf("frames %d and %d swapped", i, i+1), bytes.NewReader(bytes.Join(swapped, nil)))
		}
	}
	for range 100 {
		n := rng.IntN(len(good))
		refused(fmt.Sprintf("%d of %d bytes", n, len(good)), bytes.NewReader(good[:n]))
		bad := bytes.Clone(good)
		bit := byte(1) << rng.IntN(8)
		bad[n] ^= bit
		refused(fmt.Sprintf("byte %d with %x flipped", n, bit), bytes.NewReader(bad))
	}
	// The spans are in the first frame alone: no checksum but its own covers them.
	for _, i := range []int{1, len(fs) - 1} {
		at := len(bytes.Join(fs[:i], nil))
		for n := range fs[i] {
			bad := bytes.Clone(good)
			bad[at+n] ^= 1 << rng.IntN(8)
			refused(fmt.Sprintf("byte %d of frame %d flipped", n, i), bytes.NewReader(bad))
		}
	}
	if err := refused("another version", bytes.NewReader(append([]byte(spanStreamMark+"\x02"), good[8:]...))); !strings.Contains(err.Error(), "version 2") {
		t.Errorf("another version: %v", err)
	}
	if err := refused("a reader that fails", iotest.TimeoutReader(iotest.HalfReader(bytes.NewReader(good)))); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a reader that fails: %v", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := to.e.ReceiveSpans(done, bytes.NewReader(good)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context ended: %v", err)
	}
	checkStaging(t, to.e)
	if in2, beside2 := dumpSpans(t, to.e, set); in2 != in || beside2 != beside {
		t.Error("a refused stream changed the store")
	}
	// Accepted and given up.
	rcv, err := to.e.ReceiveSpans(ctx, iotest.OneByteReader(bytes.NewReader(good)))
	to.must(err)
	to.must(rcv.Close())
	checkStaging(t, to.e)
	if err := to.e.ReplaceSpans(rcv, nil); err == nil {
		t.Error("closed content was taken")
	}
}

// TestStreamOutOfOrderIsRefused has streams with good checksums whose content no
// sender would make.
func TestStreamOutOfOrderIsRefused(t *testing.T) {
	set := SpanSet{User: keys.Span{Key: keys.Key("\x90"), EndKey: keys.Key("\xa0")}, Local: []keys.Span{{Key: keys.Key("\x01ix")}, keys.Prefix(keys.Key("\x01iy"))}}
	v := func(k string, at int64) []byte { return EncodeMVCCKey(keys.Key(k), ts(at)) }
	p := func(k string) []byte { return v(k, 0) }
	suffix := func(at int64) []byte { return appendTimestampSuffix(nil, ts(at)) }
	lock := appendLockKey(nil, keys.Key("\x91"), LockIntent, TxnID{1})
	make := func(fn func(c *spanContent)) []byte {
		var out bytes.Buffer
		w := &frameWriter{w: &out}
		_ = w.raw(append([]byte(spanStreamMark), spanStreamVersion))
		_ = w.frame(frameSpans, set.append(nil))
		c := newSpanContent(w)
		fn(c)
		_ = w.flush()
		_ = w.frame(frameEnd, spanEnd{counts: c.counts, checksum: c.checksum()}.append(nil))
		return out.Bytes()
	}
	e := openTest(t, testConfig(vfs.NewMem()))
	for name, x := range map[string]struct {
		ok bool
		fn func(c *spanContent)
	}{
		"nothing": {true, func(c *spanContent) {}},
		"good order": {true, func(c *spanContent) {
			_ = c.point(p("\x01ix"), nil, false)
			_ = c.point(lock, nil, true)
			_ = c.point(v("\x90", 5), nil, false)
			_ = c.point(v("\x90", 4), nil, false)
		}},
		"good ranges": {true, func(c *spanContent) {
			_ = c.rangeKey(p("\x90"), p("\x91"), suffix(5), nil)
			_ = c.rangeKey(p("\x90"), p("\x91"), suffix(4), nil)
			_ = c.point(v("\x90", 3), nil, false)
			_ = c.rangeKey(p("\x91"), p("\xa0"), suffix(9), nil)
		}},
		"descending keys":     {false, func(c *spanContent) { _ = c.point(v("\x91", 1), nil, false); _ = c.point(v("\x90", 1), nil, false) }},
		"descending versions": {false, func(c *spanContent) { _ = c.point(v("\x90", 4), nil, false); _ = c.point(v("\x90", 5), nil, false) }},
		"a key twice":         {false, func(c *spanContent) { _ = c.point(v("\x90", 4), nil, false); _ = c.point(v("\x90", 4), nil, false) }},
		"outside":             {false, func(c *spanContent) { _ = c.point(v("\xa0", 4), nil, false) }},
		"between the spans":   {false, func(c *spanContent) { _ = c.point(p("\x01ixx"), nil, false) }},
		"spans backward":      {false, func(c *spanContent) { _ = c.point(v("\x90", 4), nil, false); _ = c.point(p("\x01ix"), nil, false) }},
		"version of a single": {false, func(c *spanContent) { _ = c.point(v("\x01ix", 4), nil, false) }},
		"malformed key":       {false, func(c *spanContent) { _ = c.point([]byte("\x91\x55"), nil, false) }},
		"empty key":           {false, func(c *spanContent) { _ = c.point(nil, nil, false) }},
		"odd suffix":          {false, func(c *spanContent) { _ = c.point([]byte("\x91\x00ab\x03"), nil, false) }},
		"lock as a version":   {false, func(c *spanContent) { _ = c.point(append([]byte("\x91\x00"), lock[4:]...), nil, false) }},
		"version as a lock":   {false, func(c *spanContent) { _ = c.point(v("\x01z\x91", 4), nil, true) }},
		"locks miscounted":    {false, func(c *spanContent) { _ = c.point(lock, nil, false) }},
		"range key outside":   {false, func(c *spanContent) { _ = c.rangeKey(p("\x91"), p("\xa1"), suffix(5), nil) }},
		"range key of a lock": {false, func(c *spanContent) { _ = c.rangeKey(p("\x01z\x91"), p("\x01z\x92"), suffix(5), nil) }},
		"empty range key":     {false, func(c *spanContent) { _ = c.rangeKey(p("\x91"), p("\x91"), suffix(5), nil) }},
		"range without time":  {false, func(c *spanContent) { _ = c.rangeKey(p("\x91"), p("\x92"), nil, nil) }},
		"range of versions":   {false, func(c *spanContent) { _ = c.rangeKey(v("\x91", 2), p("\x92"), suffix(3), nil) }},
		"overlapping ranges": {false, func(c *spanContent) {
			_ = c.rangeKey(p("\x91"), p("\x93"), suffix(5), nil)
			_ = c.rangeKey(p("\x92"), p("\x94"), suffix(5), nil)
		}},
		"ranges up in time": {false, func(c *spanContent) {
			_ = c.rangeKey(p("\x91"), p("\x93"), suffix(5), nil)
			_ = c.rangeKey(p("\x91"), p("\x93"), suffix(6), nil)
		}},
		"range after a point": {false, func(c *spanContent) {
			_ = c.point(v("\x92", 4), nil, false)
			_ = c.rangeKey(p("\x91"), p("\x93"), suffix(5), nil)
		}},
		"point before range": {false, func(c *spanContent) {
			_ = c.rangeKey(p("\x92"), p("\x93"), suffix(5), nil)
			_ = c.point(v("\x91", 4), nil, false)
		}},
		"half an entry": {false, func(c *spanContent) { _, _ = c.w.Write([]byte{1, 9, 'x'}); _, _ = c.hash.Write([]byte{1, 9, 'x'}) }},
		"half a length": {false, func(c *spanContent) { _, _ = c.w.Write([]byte{1, 0x80}); _, _ = c.hash.Write([]byte{1, 0x80}) }},
		"unknown entry": {false, func(c *spanContent) { _, _ = c.w.Write([]byte{3}); _, _ = c.hash.Write([]byte{3}) }},
		"counts":        {false, func(c *spanContent) { c.counts.Bytes++ }},
		"checksum":      {false, func(c *spanContent) { _, _ = c.hash.Write([]byte{3}) }},
	} {
		rcv, err := e.ReceiveSpans(context.Background(), bytes.NewReader(make(x.fn)))
		switch {
		case x.ok && err != nil:
			t.Errorf("%s: %v", name, err)
		case !x.ok && err == nil:
			t.Errorf("%s: accepted", name)
		case !x.ok && !errors.Is(err, ErrCorrupt):
			t.Errorf("%s: not marked as corrupt: %v", name, err)
		}
		if err == nil {
			_ = rcv.Close()
		}
	}
	checkStaging(t, e)
}

func TestReceiveSpansOnAFullDisk(t *testing.T) {
	ctx := context.Background()
	set := testRangeSpans()
	from := fillRange(t, 3, 100)
	b := from.e.NewBatch()
	for i := range 40 {
		from.must(b.putVersion(append(set.User.Key.Clone(), byte(i)), ts(5), MakeValue(make([]byte, 40000))))
	}
	from.must(b.Commit(false))
	from.must(b.Close())
	good := stream(t, from.e, set)
	fs := &fullFS{FS: vfs.NewMem(), avail: 1 << 40}
	cfg := testConfig(fs)
	cfg.ReserveBytes = 1 << 20
	e := openTest(t, cfg)
	fs.avail = 1 << 20
	e.space.checked = time.Time{}
	if _, err := e.ReceiveSpans(ctx, bytes.NewReader(good)); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a nearly full disk: %v", err)
	}
	fs.avail = 1 << 40
	e.space.checked = time.Time{}
	fs.failWith = &vfsPathError{syscall.ENOSPC}
	if _, err := e.ReceiveSpans(ctx, bytes.NewReader(good)); !errors.Is(err, ErrDiskFull) {
		t.Errorf("a full disk: %v", err)
	}
	fs.failWith = nil
	checkStaging(t, e)
	rcv, err := e.ReceiveSpans(ctx, bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	fs.failWith = &vfsPathError{syscall.ENOSPC}
	hard := e.NewBatch()
	defer hard.Close()
	if err := hard.Put(keys.Key("\x01i\x8frhst"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := e.ReplaceSpans(rcv, hard); !errors.Is(err, ErrDiskFull) {
		t.Errorf("replacing on a full disk: %v", err)
	}
	if in, _ := dumpSpans(t, e, set); in != "" {
		t.Error("half of it is there")
	}
	fs.failWith = nil
	if err := e.ReplaceSpans(rcv, hard); err != nil {
		t.Errorf("when space came back: %v", err)
	}
	want, _ := checksum(t, from.e, set)
	if got, _ := checksum(t, e, set); got != want {
		t.Error("the copy differs")
	}
	checkStaging(t, e)
}

// TestCrashWhileReplacingSpans pulls the plug before each write to the file system
// between the first byte received and the return of ReplaceSpans: the store has
// the old content with the old keys beside it, or the new with the new.
func TestCrashWhileReplacingSpans(t *testing.T) {
	ctx := context.Background()
	seed := testSeed(t)
	set := testRangeSpans()
	state, entry := append(set.Local[1].Key[:3:3], "rhst"...), append(set.Local[1].Key[:3:3], "rlog5"...)
	crashes, olds, news := 0, 0, 0
	for round := range 2 {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		from := fillRange(t, seed+uint64(round), 120)
		good := stream(t, from.e, set)
		want, _ := dumpSpans(t, from.e, set)

		mem := testkit.NewCrashFS()
		var mu sync.Mutex
		armed := false
		type crash struct {
			what string
			fs   *testkit.CrashFS
		}
		var clones []crash
		cfg := testConfig(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				for _, percent := range []int{0, rng.IntN(101)} {
					c := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
					clones = append(clones, crash{fmt.Sprintf("operation %d on %s", op.Kind, op.Path), c})
				}
			}
			return nil
		})))
		cfg.Testing.TargetFileBytes = 2 << 10
		e := openTest(t, cfg)
		// The old content: that of another history, taken over.
		other := fillRange(t, seed+100+uint64(round), 120)
		commit := func(e *Engine, v string) {
			t.Helper()
			b := e.NewBatch()
			defer b.Close()
			other.must(b.Put(state, []byte(v)))
			other.must(b.Put(entry, []byte(v)))
			other.must(b.Commit(true))
		}
		whole := SpanSet{User: keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}, Local: []keys.Span{{Key: keys.LocalPrefix, EndKey: keys.LocalLockPrefix}}}
		seedSnap, err := e.ReceiveSpans(ctx, bytes.NewReader(stream(t, other.e, whole)))
		other.must(err)
		other.must(e.ReplaceSpans(seedSnap, nil))
		b := e.NewBatch()
		other.must(b.putVersion(set.User.Key.Next(), ts(1<<40), val("in the memtable")))
		other.must(b.Commit(false))
		other.must(b.Close())
		commit(e, "old")
		if round%2 == 0 {
			other.must(e.Flush())
		}
		old, beside := dumpSpans(t, e, set)
		if old == want {
			t.Fatal("old and new content are the same")
		}

		arm := func(on bool) {
			mu.Lock()
			defer mu.Unlock()
			armed = on
		}
		replace := func(e *Engine) {
			t.Helper()
			rcv, err := e.ReceiveSpans(ctx, bytes.NewReader(good))
			other.must(err)
			defer rcv.Close()
			b := e.NewBatch()
			defer b.Close()
			other.must(b.Put(state, []byte("new")))
			other.must(b.Clear(entry))
			other.must(e.ReplaceSpans(rcv, b))
		}
		arm(true)
		replace(e)
		arm(false)
		clones = append(clones, crash{"after the return", mem.CrashClone(vfs.CrashCloneCfg{})})
		_, newBeside := dumpSpans(t, e, set)
		if beside == newBeside {
			t.Fatal("the batch changed nothing")
		}
		for i, c := range clones {
			crashes++
			cc := cfg
			cc.FS = c.fs
			e2, err := Open(cc)
			if err != nil {
				t.Fatalf("seed %d, round %d, crash %d at %s: %v", seed, round, i, c.what, err)
			}
			in, out := dumpSpans(t, e2, set)
			switch {
			case in == old && out == beside && i < len(clones)-1:
				olds++
			case in == want && out == newBeside:
				news++
			default:
				t.Fatalf("seed %d, round %d, crash %d of %d at %s: old content %t, old batch %t, new content %t, new batch %t", seed, round, i, len(clones), c.what,
					in == old, out == beside, in == want, out == newBeside)
			}
			checkStaging(t, e2)
			checkLockFilter(t, e2, true)
			if i%8 == 0 { // Once more.
				replace(e2)
				if in, out := dumpSpans(t, e2, set); in != want || out != newBeside {
					t.Fatalf("seed %d, round %d, crash %d: the second try left something else", seed, round, i)
				}
			}
			other.must(e2.Close())
		}
	}
	t.Logf("%d crashes: %d old, %d new", crashes, olds, news)
	if olds == 0 || news <= 4 {
		t.Errorf("%d crashes left %d old and %d new states", crashes, olds, news)
	}
}
