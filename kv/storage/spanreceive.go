package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// ReceivedSpans is the content of a SpanSet that came from another store, in
// files beside this one. Nobody sees it before ReplaceSpans. It must be closed;
// what a crash leaves of it is removed when the store is opened.
type ReceivedSpans struct {
	eng      *Engine
	set      SpanSet
	spans    []engineSpan
	paths    []string
	bytes    int64
	counts   SpanCounts
	checksum [16]byte
	locks    lockCounts
	ranges   rangeKeySpans // where range keys are
}

// Spans is what the stream said it holds. The caller checks that it is what was
// asked for: ReplaceSpans empties all of it.
func (r *ReceivedSpans) Spans() SpanSet { return r.set }

// Counts says how much there is.
func (r *ReceivedSpans) Counts() SpanCounts { return r.counts }

// Checksum is that of ChecksumSpans where the content comes from.
func (r *ReceivedSpans) Checksum() [16]byte { return r.checksum }

// FileBytes is the size of the files.
func (r *ReceivedSpans) FileBytes() int64 { return r.bytes }

// Close removes the files, unless they have become part of the store. It may be
// called again.
func (r *ReceivedSpans) Close() error {
	var first error
	for _, p := range r.paths {
		if err := r.eng.fs.Remove(p); err != nil && first == nil {
			first = markEngineError(err)
		}
	}
	r.paths = nil
	return first
}

// receivedFileBytes is about how large the files of a received range become.
const receivedFileBytes = 64 << 20

// ReceiveSpans reads a stream of SpansSnapshot.WriteTo, to its end and not
// further, checks it and writes it to files. A stream that is damaged or breaks
// off is refused (ErrCorrupt, io.ErrUnexpectedEOF) and leaves nothing. Reads of r
// end it when they fail; ctx is looked at between them.
func (e *Engine) ReceiveSpans(ctx context.Context, r io.Reader) (*ReceivedSpans, error) {
	rcv := &ReceivedSpans{eng: e}
	w := &receivedWriter{rcv: rcv, target: receivedFileBytes}
	if n := e.cfg.Testing.TargetFileBytes; n > 0 {
		w.target = n
	}
	end, err := readSpanStream(ctx, r, w)
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		w.abort()
		_ = rcv.Close()
		return nil, fmt.Errorf("receiving the range at %s: %w", keys.Pretty(rcv.set.User.Key), markEngineError(err))
	}
	rcv.counts, rcv.checksum = end.counts, end.checksum
	return rcv, nil
}

// receivedWriter writes the files of ReceivedSpans. Every engine key of the spans
// belongs to exactly one file, and each file removes all that the store has in
// its part: a range deletion does not touch points of its own file, which get the
// same sequence number.
type receivedWriter struct {
	rcv    *ReceivedSpans
	target int64

	span      int
	file      vfs.File
	path      string
	w         *SSTWriter
	from      []byte // where the file's part begins
	key       []byte // of the last point of the file
	fresh     int64  // bytes since the size was looked at
	full      bool   // the next possible cut is one
	fragments []rangeFragment
	pending   int64 // bytes of the fragments
}

// rangeFragment are range keys over [start, end) that the file does not have yet.
type rangeFragment struct {
	start, end []byte
	suffixes   []suffixValue
}

func (w *receivedWriter) begin(set SpanSet, spans []engineSpan) error {
	w.rcv.set, w.rcv.spans, w.span = set, spans, -1
	return nil
}

// enter goes on to a span and completes those before it.
func (w *receivedWriter) enter(span int) error {
	for w.span < span {
		if w.span >= 0 {
			if err := w.complete(w.rcv.spans[w.span].end); err != nil {
				return err
			}
		}
		if w.span++; w.span == len(w.rcv.spans) {
			return nil
		}
		if err := w.open(w.rcv.spans[w.span].start); err != nil {
			return err
		}
	}
	return nil
}

func (w *receivedWriter) finish() error { return w.enter(len(w.rcv.spans)) }

// open starts the file of what begins at from.
func (w *receivedWriter) open(from []byte) error {
	e := w.rcv.eng
	path := e.stagedPath()
	f, err := e.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	w.path, w.file = path, vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: 1 << 20})
	w.w = newSSTWriter(w.file, sstWriterOptions(CompressFast, blockBytes, true))
	w.from, w.key, w.fresh, w.full = append(w.from[:0], from...), w.key[:0], 0, false
	return nil
}

// complete ends the file, whose part ends at to.
func (w *receivedWriter) complete(to []byte) error {
	span := &w.rcv.spans[w.span]
	var err error
	switch {
	case !span.single:
		err = w.w.clear(w.from, to, span.ranged())
	case len(w.key) == 0:
		err = w.w.deleteRaw(span.start)
	}
	for i := 0; err == nil && i < len(w.fragments); i++ {
		f := &w.fragments[i]
		for _, s := range f.suffixes {
			if err = w.w.w.RangeKeySet(f.start, f.end, s.suffix, s.value); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	w.fragments, w.pending = w.fragments[:0], 0
	sw := w.w
	w.w = nil
	n, err := sw.Finish()
	if err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	f := w.file
	w.file = nil
	w.rcv.paths, w.rcv.bytes = append(w.rcv.paths, w.path), w.rcv.bytes+n
	w.path = ""
	return f.Close()
}

func (w *receivedWriter) abort() {
	if w.w != nil {
		w.w.Abort()
	}
	if w.file != nil {
		_ = w.file.Close()
	}
	if w.path != "" {
		_ = w.rcv.eng.fs.Remove(w.path)
	}
}

// room makes sure that the disk has space for n more bytes, and begins another
// file at the engine key at (without version; nil: not here) if the present one is
// large enough.
func (w *receivedWriter) room(at []byte, n int64) error {
	const every = 256 << 10
	if w.fresh += n; w.fresh >= min(every, w.target) {
		if err := w.rcv.eng.SpaceFor(w.fresh); err != nil {
			return err
		}
		w.fresh, w.full = 0, int64(w.w.w.Raw().EstimatedSize())+w.pending >= w.target
	}
	if !w.full || at == nil || bytes.Equal(at, w.from) {
		return nil
	}
	// Fragments that reach beyond the cut go on in the next file.
	var next []rangeFragment
	for i := range w.fragments {
		f := &w.fragments[i]
		if compareEngineKeys(f.end, at) <= 0 {
			continue
		}
		rest := rangeFragment{start: bytes.Clone(at), end: f.end, suffixes: f.suffixes}
		f.end = rest.start
		next = append(next, rest)
	}
	if err := w.complete(at); err != nil {
		return err
	}
	w.fragments = next
	return w.open(at)
}

func (w *receivedWriter) point(span int, key, value []byte) error {
	if err := w.enter(span); err != nil {
		return err
	}
	// A cut falls between two keys, and before a fragment that begins at a key.
	cut := enginePrefix(key)
	if len(w.key) > 0 && bytes.Equal(cut, enginePrefix(w.key)) {
		cut = nil
	} else if n := len(w.fragments); n > 0 && bytes.Equal(cut, w.fragments[n-1].start) {
		cut = nil
	}
	if err := w.room(cut, int64(len(key)+len(value))); err != nil {
		return err
	}
	w.key = append(w.key[:0], key...)
	if w.rcv.spans[span].locks {
		locked, _, _, err := decodeLockKey(key)
		if err != nil {
			return err
		}
		w.rcv.locks.add(lockSlot(locked))
	}
	return w.w.putRaw(key, value)
}

func (w *receivedWriter) rangeKey(span int, start, end, suffix, value []byte) error {
	if err := w.enter(span); err != nil {
		return err
	}
	n := len(w.fragments)
	size := int64(len(start) + len(end) + len(suffix) + len(value))
	if n == 0 || !bytes.Equal(w.fragments[n-1].start, start) {
		if err := w.room(start, size); err != nil {
			return err
		}
		w.fragments = append(w.fragments, rangeFragment{start: bytes.Clone(start), end: bytes.Clone(end)})
		n = len(w.fragments)
		from, _, err := splitEngineKey(start)
		if err != nil {
			return err
		}
		to, _, err := splitEngineKey(end)
		if err != nil {
			return err
		}
		w.rcv.ranges.add(from, to)
	}
	f := &w.fragments[n-1]
	f.suffixes = append(f.suffixes, suffixValue{bytes.Clone(suffix), bytes.Clone(value)})
	w.pending += size
	return nil
}

// ReplaceSpans makes what was received the whole content of its spans, and
// applies b, in one step: after a crash the store has both or neither. When it
// returns nil, they are durable and visible, and rcv is used up; on error nothing
// has changed, and it may be tried again. Views taken before keep showing the old
// content.
//
// b, which may be nil, has plain keys (and removals of them) outside of the spans.
// It is not to be committed. Nobody else may write to the spans meanwhile.
//
// Errors: ErrDiskFull.
func (e *Engine) ReplaceSpans(rcv *ReceivedSpans, b *Batch) error {
	if err := e.replaceSpans(rcv, b); err != nil {
		return fmt.Errorf("replacing the range at %s: %w", keys.Pretty(rcv.set.User.Key), markEngineError(err))
	}
	return nil
}

func (e *Engine) replaceSpans(rcv *ReceivedSpans, b *Batch) (err error) {
	if rcv.eng != e || len(rcv.paths) == 0 {
		return errors.New("the received content is closed, used, or of another store")
	}
	if err := e.SpaceFor(rcv.bytes / 64); err != nil { // It is on disk already.
		return err
	}
	paths := slices.Clone(rcv.paths)
	defer func() {
		if err != nil {
			for _, p := range paths[len(rcv.paths):] {
				_ = e.fs.Remove(p)
			}
		}
	}()
	if b != nil && !b.Empty() {
		files, err := filesBeside(rcv.spans, b.Repr())
		if err != nil {
			return err
		}
		for _, f := range files {
			p, err := e.stageBytes(f)
			if err != nil {
				return err
			}
			paths = append(paths, p)
		}
	}
	// The filter must know of the locks before they are visible, and may forget
	// those that go afterwards.
	var gone lockCounts
	for i := range rcv.spans {
		if s := &rcv.spans[i]; s.locks {
			if err := visitLockSlots(e.db, s.start, s.end, gone.add); err != nil {
				return err
			}
		}
	}
	for slot, n := range rcv.locks.counts {
		e.locks.raiseBy(uint32(slot), n)
	}
	if p := rcv.ranges.spans.Load(); p != nil {
		for _, s := range *p {
			e.rangeKeys.add(s.Key, s.EndKey)
		}
	}
	if err := e.db.Ingest(context.Background(), paths); err != nil {
		return err // Whether it happened is not known, so the filter stays raised.
	}
	rcv.paths = nil
	for slot, n := range gone.counts {
		for range n {
			e.locks.lower(uint32(slot))
		}
	}
	return nil
}

// lockCounts counts locks by their slot in the filter. The zero value is ready.
type lockCounts struct{ counts []uint32 }

func (c *lockCounts) add(slot uint32) {
	if c.counts == nil {
		c.counts = make([]uint32, lockFilterSlots)
	}
	c.counts[slot]++
}

// filesBeside makes sstables of a serialised batch of plain keys. Files ingested
// together must not overlap, so each gap between the spans gets one of its own.
func filesBeside(spans []engineSpan, repr []byte) ([][]byte, error) {
	ops, err := collectPlain(repr)
	if err != nil {
		return nil, err
	}
	gaps := make([]plainGap, len(spans)+1)
	gapOf := func(start, end []byte) (*plainGap, error) {
		i, _ := slices.BinarySearchFunc(spans, start, func(s engineSpan, k []byte) int {
			if compareEngineKeys(s.end, k) <= 0 {
				return -1
			}
			return 1
		})
		if i < len(spans) && compareEngineKeys(spans[i].start, end) < 0 {
			return nil, fmt.Errorf("the batch writes to [%x, %x), which the received content replaces", start, end)
		}
		return &gaps[i], nil
	}
	for k := range ops.points {
		key := []byte(k)
		g, err := gapOf(key, append(bytes.Clone(key), 0))
		if err != nil {
			return nil, err
		}
		g.points = append(g.points, k)
	}
	for _, s := range ops.clears {
		g, err := gapOf(s.start, s.end)
		if err != nil {
			return nil, err
		}
		g.clears = append(g.clears, s)
	}
	for _, s := range ops.ranges {
		g, err := gapOf(s.start, s.end)
		if err != nil {
			return nil, err
		}
		g.ranges = append(g.ranges, s)
	}
	var files [][]byte
	for i := range gaps {
		if g := &gaps[i]; len(g.points)+len(g.clears)+len(g.ranges) > 0 {
			f, err := g.file(ops)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	return files, nil
}

// plainGap is what a batch does between two spans.
type plainGap struct {
	points         []string
	clears, ranges []engineSpan
}

func (g *plainGap) file(ops *plainOps) ([]byte, error) {
	var out bytes.Buffer
	w := newSSTWriter(&out, sstWriterOptions(CompressFast, blockBytes, true))
	if err := g.write(w, ops); err != nil {
		w.Abort()
		return nil, err
	}
	if _, err := w.Finish(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (g *plainGap) write(w *SSTWriter, ops *plainOps) error {
	slices.SortFunc(g.points, func(a, b string) int { return compareEngineKeys([]byte(a), []byte(b)) })
	for _, k := range g.points {
		op := ops.points[k]
		var err error
		if op.kind == pebble.InternalKeyKindSet {
			err = w.putRaw(op.key, op.value)
		} else {
			err = w.deleteRaw(op.key)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range mergeSpans(g.clears) {
		if err := w.w.DeleteRange(s.start, s.end); err != nil {
			return err
		}
	}
	for _, s := range mergeSpans(g.ranges) {
		if err := w.w.RangeKeyDelete(s.start, s.end); err != nil {
			return err
		}
	}
	return nil
}

// mergeSpans sorts spans and joins those that overlap or touch.
func mergeSpans(spans []engineSpan) []engineSpan {
	slices.SortFunc(spans, func(a, b engineSpan) int { return compareEngineKeys(a.start, b.start) })
	var out []engineSpan
	for _, s := range spans {
		if n := len(out); n > 0 && compareEngineKeys(s.start, out[n-1].end) <= 0 {
			if compareEngineKeys(out[n-1].end, s.end) < 0 {
				out[n-1].end = s.end
			}
			continue
		}
		out = append(out, s)
	}
	return out
}
