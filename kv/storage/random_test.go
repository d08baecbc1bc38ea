package storage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

var (
	randomSeed  = flag.Uint64("seed", 0, "run the randomized history of this seed only")
	randomFor   = flag.Duration("random-for", 0, "run randomized histories for so long")
	randomSteps = flag.Int("random-steps", 400, "steps of one randomized history")
)

// TestRandomHistoriesAgainstModel runs random operations on an engine with tiny
// blocks and files, and on the model, and compares every read and export.
func TestRandomHistoriesAgainstModel(t *testing.T) {
	if *randomSeed != 0 {
		runHistory(t, *randomSeed)
		return
	}
	base := uint64(time.Now().UnixNano())
	deadline := time.Now().Add(*randomFor)
	views := 0
	for i := uint64(0); i < 12 || time.Now().Before(deadline); i++ {
		views += runHistory(t, base+i)
		if t.Failed() {
			return
		}
	}
	if views == 0 {
		t.Error("the view of no chain was compared")
	}
}

func runHistory(t *testing.T, seed uint64) (views int) {
	h := openHistory(t, seed)
	defer func() { _ = h.e.Close() }()
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("seed %d, step %d: panic", seed, h.step)
			panic(r)
		}
	}()
	for h.step = 0; h.step < *randomSteps && !t.Failed(); h.step++ {
		h.one()
	}
	if t.Failed() {
		t.Logf("repeat with -run TestRandomHistories -seed %d\n%s", seed, strings.Join(h.log[max(0, len(h.log)-60):], "\n"))
	}
	return h.views
}

// openHistory begins a history on an empty store; the caller closes h.e.
func openHistory(t *testing.T, seed uint64) *history {
	h := &history{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem()}
	h.m = newModel(modelKeys())
	h.now = 100
	h.noRanges = h.rng.IntN(3) == 0
	cfg := testConfig(h.fs)
	cfg.MemTableBytes = 64 << 10
	cfg.Testing = TestingConfig{BlockSize: 1 + h.rng.IntN(300), TargetFileBytes: 2 << 10, MinLockRun: 1 + h.rng.IntN(4),
		ExportChunkBytes: 1 + h.rng.IntN(400), DisableAutoCompactions: h.rng.IntN(4) == 0}
	e, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.e = e
	return h
}

// history is one run.
type history struct {
	t    *testing.T
	seed uint64
	step int
	rng  *rand.Rand
	fs   *vfs.MemFS
	e    *Engine
	m    *model
	now  int64
	txns []*modelTxn
	ids  byte
	// noRanges: no range tombstones, so that the paths of points alone are taken.
	noRanges bool
	st       Stats
	log      []string
	views    int // restores whose fingerprint was compared
	// committing, if set, is shown each batch before it is committed. Nothing is
	// ingested then.
	committing func(b *Batch)
}

func (h *history) logf(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%4d ", h.step)+fmt.Sprintf(format, args...))
}

func (h *history) fail(format string, args ...any) {
	h.t.Helper()
	h.t.Errorf("seed %d, step %d: %s", h.seed, h.step, fmt.Sprintf(format, args...))
}

func (h *history) must(err error) {
	h.t.Helper()
	if err != nil {
		h.fail("%v", err)
		h.t.FailNow()
	}
}

// tick returns a new timestamp, sometimes with a logical part.
func (h *history) tick() hlc.Timestamp {
	if h.rng.IntN(3) > 0 {
		h.now++
		return hlc.Timestamp{WallTime: h.now}
	}
	h.now++
	return hlc.Timestamp{WallTime: h.now, Logical: int32(1 + h.rng.IntN(3))}
}

// past returns a timestamp at which the model still knows everything.
func (h *history) past() hlc.Timestamp {
	ts := hlc.Timestamp{WallTime: h.m.gc.WallTime + h.rng.Int64N(h.now-h.m.gc.WallTime+3), Logical: int32(h.rng.IntN(3))}
	ts.Forward(h.m.gc)
	return ts
}

func (h *history) key() string { return h.m.keys[h.rng.IntN(len(h.m.keys))] }

func (h *history) value() string {
	if h.rng.IntN(5) == 0 {
		return ""
	}
	return fmt.Sprintf("v%d%s", h.step, strings.Repeat("x", h.rng.IntN(30)))
}

func storedValue(s string) []byte {
	if s == "" {
		return nil
	}
	return append([]byte{9, 9, 9, 9, 3}, s...)
}

func (h *history) span() (string, string) {
	a, b := h.key(), h.key()
	if h.rng.IntN(3) == 0 {
		a, b = h.m.keys[0], "\xfd"
	}
	if b < a {
		a, b = b, a
	}
	if a == b {
		b += "\x00"
	}
	return a, b
}

func (h *history) txn() *modelTxn {
	if len(h.txns) == 0 {
		return nil
	}
	return h.txns[h.rng.IntN(len(h.txns))]
}

// class names an error as the model does.
func class(err error) string {
	var lc *LockConflictError
	var wto *WriteTooOldError
	var unc *ReadWithinUncertaintyError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &lc):
		return "locked"
	case errors.As(err, &wto):
		return "toorecent"
	case errors.As(err, &unc):
		return "uncertain"
	}
	return err.Error()
}

// write runs fn on a batch and commits it if it succeeds.
func (h *history) write(fn func(b *Batch, st *Stats) error) error { return h.writeMany(fn, false) }

// writeMany is write for operations that may fail half-way.
func (h *history) writeMany(fn func(b *Batch, st *Stats) error, partial bool) error {
	b := h.e.NewBatch()
	defer func() { h.must(b.Close()) }()
	var st Stats
	err := fn(b, &st)
	if err != nil {
		if !b.Empty() && !partial {
			h.fail("a failed write left something in the batch: %v", err)
		}
		return err
	}
	if h.committing != nil {
		h.committing(b)
	}
	h.must(b.Commit(h.rng.IntN(4) == 0))
	h.st.Add(st)
	return nil
}

func (h *history) one() {
	ctx := context.Background()
	switch n := h.rng.IntN(100); {
	case n < 12: // A write outside of transactions, sometimes in the past.
		k, v, ts := h.key(), h.value(), h.tick()
		if h.rng.IntN(4) == 0 {
			ts = h.past().Next()
		}
		h.checkedWrite("put", k, ts, v, nil)
	case n < 17:
		if len(h.txns) < 3 {
			h.ids++
			now := h.tick()
			tx := &modelTxn{locked: map[string]bool{}}
			tx.ID = TxnID{h.ids}
			tx.ReadTimestamp, tx.WriteTimestamp, tx.MinTimestamp = now, now, now
			h.txns = append(h.txns, tx)
		}
	case n < 23:
		if tx := h.txn(); tx != nil && h.committing == nil {
			tx.Sequence++
			h.putSorted(tx)
		}
	case n < 40:
		if tx := h.txn(); tx != nil {
			tx.Sequence++
			h.checkedWrite("txn put", h.key(), hlc.Timestamp{}, h.value(), tx)
		}
	case n < 43: // Its timestamp is pushed.
		if tx := h.txn(); tx != nil {
			tx.WriteTimestamp = h.tick()
			h.logf("txn %d now writes at %s", tx.ID[0], tx.WriteTimestamp)
		}
	case n < 45: // It restarts.
		if tx := h.txn(); tx != nil {
			tx.Epoch++
			tx.WriteTimestamp = h.tick()
			tx.ReadTimestamp = tx.WriteTimestamp
			tx.IgnoredSeqNums = nil
			h.logf("txn %d epoch %d at %s", tx.ID[0], tx.Epoch, tx.WriteTimestamp)
		}
	case n < 50: // It rolls back to a savepoint.
		if tx := h.txn(); tx != nil && tx.Sequence > 0 {
			from := 1 + h.rng.Int32N(tx.Sequence)
			tx.IgnoredSeqNums = ignoreFrom(tx.IgnoredSeqNums, from, tx.Sequence)
			h.logf("txn %d ignores %v", tx.ID[0], tx.IgnoredSeqNums)
		}
	case n < 60:
		h.resolve()
	case n < 63:
		if h.noRanges {
			return
		}
		a, b := h.span()
		ts := h.tick()
		if h.rng.IntN(4) == 0 {
			ts = h.past().Next()
		}
		want := h.m.deleteRange(a, b, ts)
		err := h.write(func(bt *Batch, st *Stats) error {
			return MVCCDeleteRangeTombstone(ctx, bt, keys.Key(a), keys.Key(b), ts, st)
		})
		h.logf("range tombstone [%x, %x)@%s: %s", a, b, ts, want)
		if class(err) != want {
			h.fail("range tombstone: got %v, want %q", err, want)
		}
	case n < 66:
		h.deleteRange()
	case n < 68:
		h.must(h.e.Flush())
	case n < 70:
		h.must(h.e.Compact(ctx, keys.Key("\x80"), keys.Key("\xff")))
	case n < 72:
		h.collect()
	case n < 73:
		h.reopen()
	case n < 74:
		h.restore()
	case n < 76:
		h.checkStats()
	case n < 86:
		h.export()
	default:
		h.read()
	}
}

func ignoreFrom(old []SeqRange, from, to int32) []SeqRange {
	var out []SeqRange
	for _, r := range old {
		if r.End < from {
			out = append(out, r)
		} else if r.Start < from {
			from = r.Start
		}
	}
	return append(out, SeqRange{from, to})
}

func (h *history) checkedWrite(what, k string, ts hlc.Timestamp, v string, tx *modelTxn) {
	ctx := context.Background()
	var txn *Txn
	if tx != nil {
		c := tx.Txn
		txn = &c
	}
	readTS := ts
	if txn != nil {
		readTS = txn.ReadTimestamp
	}
	before := h.m.read(k, readTS, GetOptions{Txn: txn})
	cput := h.rng.IntN(3) == 0
	expected, mismatch := before.value, false
	if cput && h.rng.IntN(2) == 0 {
		expected, mismatch = "other", true
	}
	replay := h.rng.IntN(4) == 0
	l := h.m.locks[k]
	var want string
	if cput && mismatch && (l == nil || l.txn == tx) {
		// The condition is looked at after the checks that the model makes.
		if l == nil {
			if nv, ok := h.m.newest(k, hlc.MaxTimestamp); ok && (readTS.Less(nv.ts) || (txn == nil && ts.LessEq(nv.ts)) || (txn != nil && txn.WriteTimestamp.LessEq(nv.ts))) {
				want = "toorecent"
			}
		}
		if want == "" {
			want = "condition"
		}
	} else {
		want = h.m.put(k, ts, v, tx)
	}
	var existed bool
	err := h.write(func(b *Batch, st *Stats) (err error) {
		o := WriteOptions{Txn: txn, Stats: st}
		switch {
		case cput:
			err = MVCCConditionalPut(ctx, b, keys.Key(k), ts, storedValue(v), storedValue(expected), false, o)
		case v == "":
			existed, err = MVCCDelete(ctx, b, keys.Key(k), ts, o)
			if err == nil && existed != (before.kind == "value") {
				h.fail("delete of %x says existed=%t, model read %+v", k, existed, before)
			}
		default:
			err = MVCCPut(ctx, b, keys.Key(k), ts, storedValue(v), o)
		}
		if err == nil && replay && txn != nil {
			// The same request again changes nothing and says the same.
			n := b.Count()
			var err error
			if v != "" {
				err = MVCCPut(ctx, b, keys.Key(k), ts, storedValue(v), o)
			} else if again, derr := MVCCDelete(ctx, b, keys.Key(k), ts, o); !cput && again != existed {
				h.fail("delete sent again: existed=%t, before %t: %v", again, existed, derr)
			} else {
				err = derr
			}
			if err != nil || b.Count() != n {
				h.fail("replay: %v, %d operations more", err, b.Count()-n)
			}
		}
		return err
	})
	got := class(err)
	var cf *ConditionFailedError
	if errors.As(err, &cf) {
		got = "condition"
		if actual := string(trimTag(cf.Actual)); actual != before.value {
			h.fail("condition of %x failed with actual %q, model has %q", k, actual, before.value)
		}
	}
	h.logf("%s %x@%s=%q cput=%t: %s", what, k, ts, v, cput, want)
	if txn != nil {
		h.logf("     txn %d epoch %d seq %d write %s read %s", txn.ID[0], txn.Epoch, txn.Sequence, txn.WriteTimestamp, txn.ReadTimestamp)
	}
	if got != want {
		h.fail("%s of %x at %s: got %v, want %q", what, k, ts, err, want)
	}
}

// putSorted writes several keys at once and compares with one put after the other.
func (h *history) putSorted(tx *modelTxn) {
	ctx := context.Background()
	mustBeNew := h.rng.IntN(2) == 0
	of := 1 + h.rng.IntN(4)
	var pairs []Pair
	want := ""
	for _, k := range h.m.keys {
		if h.rng.IntN(of) > 0 {
			continue
		}
		pairs = append(pairs, Pair{Key: keys.Key(k), Value: storedValue("s" + k)})
		if want != "" {
			continue
		}
		l := h.m.locks[k]
		nv, found := h.m.newest(k, hlc.MaxTimestamp)
		switch {
		case l != nil && l.txn != tx:
			want = "locked"
		case l == nil && found && (tx.ReadTimestamp.Less(nv.ts) || tx.WriteTimestamp.LessEq(nv.ts)):
			want = "toorecent"
		case mustBeNew && h.m.read(k, tx.ReadTimestamp, GetOptions{Txn: &tx.Txn}).value != "":
			want = "condition"
		}
	}
	if len(pairs) == 0 {
		return
	}
	txn := tx.Txn
	ro := h.e.NewReadOnly()
	files, err := MVCCPutSorted(ctx, ro, pairs, mustBeNew, &txn)
	h.must(ro.Close())
	way := "files"
	switch {
	case err == nil && files != nil:
		h.must(h.e.IngestIntents(ctx, files))
		h.st.Add(files.Stats)
	case err == nil:
		way = "one by one"
		err = h.writeMany(func(b *Batch, st *Stats) error {
			for _, p := range pairs {
				o := WriteOptions{Txn: &txn, Stats: st}
				var err error
				if mustBeNew {
					err = MVCCConditionalPut(ctx, b, p.Key, hlc.Timestamp{}, p.Value, nil, false, o)
				} else {
					err = MVCCPut(ctx, b, p.Key, hlc.Timestamp{}, p.Value, o)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}, true)
	}
	got := class(err)
	var cf *ConditionFailedError
	if errors.As(err, &cf) {
		got = "condition"
	}
	h.logf("txn %d epoch %d seq %d puts %d keys new=%t by %s: %q", tx.ID[0], tx.Epoch, tx.Sequence, len(pairs), mustBeNew, way, want)
	if got != want {
		h.fail("put of %d keys: got %v, want %q", len(pairs), err, want)
	}
	if want != "" {
		return
	}
	for _, p := range pairs {
		if c := h.m.put(string(p.Key), hlc.Timestamp{}, "s"+string(p.Key), tx); c != "" {
			h.fail("model put: %s", c)
		}
	}
}

func trimTag(v []byte) []byte {
	if len(v) < 5 {
		return nil
	}
	return v[5:]
}

// resolve ends or pushes a transaction.
func (h *history) resolve() {
	ctx := context.Background()
	i := h.rng.IntN(max(1, len(h.txns)))
	if len(h.txns) == 0 {
		return
	}
	tx := h.txns[i]
	status := TxnStatus(h.rng.IntN(3))
	at := tx.WriteTimestamp
	for k := range tx.locked {
		at.Forward(h.m.locks[k].ts)
	}
	if status == Pending && h.rng.IntN(2) == 0 {
		at = h.tick()
		tx.WriteTimestamp = at
	}
	meta := tx.TxnMeta
	meta.WriteTimestamp = at
	h.logf("txn %d %s at %s, ignored %v", tx.ID[0], status, at, tx.IgnoredSeqNums)
	locked := make([]string, 0, len(tx.locked))
	for k := range tx.locked {
		locked = append(locked, k)
	}
	sort.Strings(locked)
	if h.rng.IntN(2) == 0 {
		maxKeys := int64(h.rng.IntN(3))
		span := keys.Span{Key: keys.Key(h.m.keys[0]), EndKey: keys.Key("\xfd")}
		for resume := &span; resume != nil; {
			h.must(h.write(func(b *Batch, st *Stats) (err error) {
				_, resume, err = MVCCResolveIntentRange(ctx, b, LockUpdate{Span: *resume, Txn: meta, Status: status, IgnoredSeqNums: tx.IgnoredSeqNums}, maxKeys, st)
				return err
			}))
		}
	} else {
		for _, k := range locked {
			h.must(h.write(func(b *Batch, st *Stats) error {
				found, err := MVCCResolveIntent(ctx, b, LockUpdate{Span: keys.Span{Key: keys.Key(k)}, Txn: meta, Status: status, IgnoredSeqNums: tx.IgnoredSeqNums}, st)
				if err == nil && !found {
					h.fail("lock on %x not found", k)
				}
				return err
			}))
		}
	}
	for _, k := range locked {
		h.m.resolve(k, tx, status, at, tx.IgnoredSeqNums)
	}
	if status != Pending {
		h.txns = slices.Delete(h.txns, i, i+1)
	}
}

// deleteRange compares MVCCDeleteRange with deletes key by key.
func (h *history) deleteRange() {
	ctx := context.Background()
	a, b := h.span()
	ts := h.tick()
	tx := h.txn()
	o := DeleteRangeOptions{ReturnKeys: true, MaxKeys: int64(h.rng.IntN(4))}
	readTS := ts.Prev()
	if tx != nil {
		tx.Sequence++
		c := tx.Txn
		o.Txn = &c
		readTS = tx.ReadTimestamp
	}
	// The model stops at the first obstacle, before anything is written.
	var victims []string
	want, more := "", false
	for _, k := range h.m.keys {
		if k < a || k >= b {
			continue
		}
		r := h.m.read(k, readTS, GetOptions{Txn: o.Txn, FailOnMoreRecent: true})
		if r.kind == "toorecent" && !h.m.hasPoint(k, hlc.MaxTimestamp) {
			continue // A range tombstone over nothing.
		}
		if o.MaxKeys > 0 && int64(len(victims)) == o.MaxKeys {
			if more = r.kind != "none"; more {
				break
			}
			continue
		}
		if r.kind == "locked" || r.kind == "toorecent" {
			want = r.kind
			break
		}
		if l := h.m.locks[k]; tx != nil && r.kind == "value" && (l == nil || l.txn != tx) && tx.WriteTimestamp.LessEq(r.ts) {
			want = "toorecent" // At the very timestamp of the delete.
			break
		}
		if r.kind == "value" {
			victims = append(victims, k)
		}
	}
	var res DeleteRangeResult
	err := h.writeMany(func(bt *Batch, st *Stats) (err error) {
		o.Stats = st
		res, err = MVCCDeleteRange(ctx, bt, keys.Key(a), keys.Key(b), ts, o)
		if err == nil && tx != nil {
			n := bt.Count()
			again, err := MVCCDeleteRange(ctx, bt, keys.Key(a), keys.Key(b), ts, o)
			if err != nil || again.NumKeys != res.NumKeys || bt.Count() != n {
				h.fail("delete range sent again: %d keys, before %d, %d operations more: %v", again.NumKeys, res.NumKeys, bt.Count()-n, err)
			}
		}
		return err
	}, true)
	h.logf("delete range [%x, %x)@%s: %q %x", a, b, ts, want, victims)
	if err == nil && want == "" {
		for _, k := range victims {
			if c := h.m.put(k, ts, "", tx); c != "" {
				h.fail("model put: %s", c)
			}
		}
	}
	if got := class(err); got != want && !(more && got == "") {
		// An unlimited scan reports a lock before an older obstacle; both are right.
		h.fail("delete range [%x, %x): got %v, want %q", a, b, err, want)
		return
	}
	if err == nil {
		var got []string
		for _, k := range res.Keys {
			got = append(got, string(k))
		}
		if !slices.Equal(got, victims) || (res.ResumeSpan == nil && more) {
			h.fail("delete range [%x, %x): got %x, want %x, resume %v", a, b, got, victims, res.ResumeSpan)
		}
	}
}

func (h *history) reopen() {
	h.must(h.e.Close())
	cfg := h.e.cfg
	e, err := Open(cfg)
	h.must(err)
	h.e = e
}

func (h *history) checkStats() {
	got, err := ComputeStats(context.Background(), h.e, keys.Key("\x80"), keys.Key("\xff"))
	h.must(err)
	want := h.st
	want.Estimates, want.RangeKeys, got.RangeKeys = false, 0, 0
	if h.st.Estimates {
		h.st = got
		return
	}
	if got != want {
		h.fail("stats: computed %+v, summed up %+v", got, want)
	}
}

// collect raises the GC threshold and removes what nobody may read any more.
func (h *history) collect() {
	ctx := context.Background()
	threshold := h.past()
	threshold.Backward(hlc.Timestamp{WallTime: h.now})
	for _, tx := range h.txns {
		// A transaction that reads below the threshold would be refused above us.
		threshold.Backward(tx.ReadTimestamp)
	}
	if threshold.Less(h.m.gc) {
		return
	}
	h.m.gc.Forward(threshold)
	var span *keys.Span
	for span = (&keys.Span{Key: keys.Key(h.m.keys[0]), EndKey: keys.Key("\xfd")}); span != nil; {
		g, resume, err := FindGarbage(ctx, h.e, span.Key, span.EndKey, threshold, int64(h.rng.IntN(3)*40))
		h.must(err)
		h.must(h.write(func(b *Batch, st *Stats) error { return MVCCGarbageCollect(ctx, b, g, threshold, st) }))
		if resume == nil && h.rng.IntN(2) == 0 {
			// A second time nothing more is found, unless locks were in the way.
			h.must(h.write(func(b *Batch, st *Stats) error { return MVCCGarbageCollect(ctx, b, g, threshold, st) }))
		}
		span = resume
	}
	h.logf("gc below %s", threshold)
	// The model forgets in the same way what no read ≥ threshold can see.
	for _, k := range h.m.keys {
		vs := h.m.versions[k]
		keep := vs[:0:0]
		for i, v := range vs {
			newestBelow := v.ts.LessEq(threshold) && (i == len(vs)-1 || threshold.Less(vs[i+1].ts))
			live := newestBelow && v.value != ""
			for _, t := range h.m.covering(k) {
				if v.ts.LessEq(t) && t.LessEq(threshold) {
					live = false
				}
			}
			if threshold.Less(v.ts) || live {
				keep = append(keep, v)
			} else if l := h.m.locks[k]; l != nil && l.ts.LessEq(threshold) {
				keep = append(keep, v)
			}
		}
		h.m.versions[k] = keep
	}
}
