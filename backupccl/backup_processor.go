package backupccl

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// A page is what one export request returns and, unless it is small, one data
// file. A worker holds one page being written and one being uploaded.
const (
	maxPageBytes = 32 << 20
	// maxRowBytes is the history at which even a single row is cut.
	maxRowBytes = 64 << 20
	// smallPageBytes is the size before compression below which pages are gathered
	// into one file.
	smallPageBytes = 4 << 20
)

// piece is a part of a span that one worker exports.
type piece struct {
	span  keys.Span
	start hlc.Timestamp // exclusive; zero for fulls and introduced spans
}

// outcome is what a worker reports: spans that are finished and the files that
// hold what they had. sum is what the pages had, counted when they were read: the
// files must have the same.
type outcome struct {
	files []*backuppb.File
	spans []keys.Span
	sum   storage.ExportSummary
}

// processor exports the pieces of one node's share. Run returns when all pieces
// that came are exported, and report has been called for each of them.
type processor struct {
	s         *Service
	d         *backuppb.BackupDetails
	locs      manifest.Locations
	bucket    int // of this node
	pageBytes int64
	rowBytes  int64
	view      bool      // find out what the merged view is
	pushAt    time.Time // see exportPages
	// isPrimary says whether an index holds the rows themselves.
	isPrimary func(table, index uint32) bool
	report    func(context.Context, outcome) error
}

// run exports pieces with several workers. Pieces come in the order of keys, so
// the small pages of neighbouring tables meet in one file.
func (p *processor) run(ctx context.Context, pieces <-chan piece) error {
	g, ctx := errgroup.WithContext(ctx)
	for range p.s.cfg.Workers {
		g.Go(func() error {
			w := &exportWorker{p: p}
			err := w.run(ctx, pieces)
			// The upload under way ends before the worker does.
			if waitErr := w.wait(); err == nil {
				err = waitErr
			}
			return err
		})
	}
	return g.Wait()
}

// exportWorker exports pieces one after the other.
type exportWorker struct {
	p *processor

	// small gathers pages too small for a file of their own. The first one is
	// kept as it came and copied only when a second one follows: an incremental
	// often has no other.
	small struct {
		first   []byte
		buf     *storage.SSTBuffer
		w       *storage.SSTWriter    // nil while there is only the first
		sum     storage.ExportSummary // of the pages
		written *storage.Summarizer   // of what went into w
		spans   []keys.Span           // of the pages; none: nothing gathered
		start   hlc.Timestamp
	}
	// held are the files of a row that was cut: they count once it is complete.
	held     []*backuppb.File
	heldSpan keys.Span
	heldSum  storage.ExportSummary

	uploading chan error // result of the upload under way; nil when there is none
}

func (w *exportWorker) run(ctx context.Context, pieces <-chan piece) error {
	for {
		select {
		case pc, ok := <-pieces:
			if !ok {
				return w.flushSmall(ctx)
			}
			if err := w.export(ctx, pc); err != nil {
				return fmt.Errorf("exporting %s: %w", pieceName(pc.span), err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pieceName names a piece in messages by its table and index, never by row keys.
func pieceName(sp keys.Span) string {
	table, index, _, ok := keys.DecodeIndexPrefix(sp.Key)
	if !ok {
		return "span"
	}
	return fmt.Sprintf("index %d of table %d", index, table)
}

func (w *exportWorker) export(ctx context.Context, pc piece) error {
	opts := kv.ExportOptions{
		StartTime: pc.start, EndTime: manifest.Time(w.p.d.EndTime), AllRevisions: w.p.d.RevisionHistory, View: w.p.view,
		TargetBytes: w.p.pageBytes, MaxBytes: w.p.rowBytes,
	}
	if shift := w.p.s.cfg.Testing.ShiftStart; shift != 0 && !pc.start.IsEmpty() {
		opts.StartTime = pc.start.Add(shift)
	}
	from := pc.span.Key
	return w.p.s.exportPages(ctx, pc.span, opts, w.p.pushAt, func(page *kv.ExportPage) error {
		covered := keys.Span{Key: from, EndKey: pc.span.End()}
		if page.Resume != nil {
			covered.EndKey = page.Resume.Key
			from = page.Resume.Key
		}
		if fn := w.p.s.cfg.Testing.AfterExport; fn != nil {
			fn(0, covered)
		}
		if drop := w.p.s.cfg.Testing.DropSpan; drop != nil && drop(covered) {
			return w.p.report(ctx, outcome{spans: []keys.Span{covered}, sum: page.Summary})
		}
		return w.take(ctx, page, covered, pc.start)
	})
}

// take puts a page into a file of its own or among the small ones.
func (w *exportWorker) take(ctx context.Context, page *kv.ExportPage, covered keys.Span, start hlc.Timestamp) error {
	switch {
	case len(w.held) > 0 || page.MidRow:
		return w.takeCut(ctx, page, covered, start)
	case len(page.SST) == 0:
		return w.p.report(ctx, outcome{spans: []keys.Span{covered}})
	case page.Summary.DataBytes < smallPageBytes:
		return w.takeSmall(ctx, page, covered, start)
	}
	// Files of a worker appear in the order of keys, so small ones go first.
	if err := w.flushSmall(ctx); err != nil {
		return err
	}
	return w.upload(ctx, page.SST, &page.Summary, start, []keys.Span{covered}, page.Summary)
}

// takeCut handles pages that end, or begin, inside a row: nothing of them is
// reported before the row is complete, so that no checkpoint holds half a row.
func (w *exportWorker) takeCut(ctx context.Context, page *kv.ExportPage, covered keys.Span, start hlc.Timestamp) error {
	if err := w.flushSmall(ctx); err != nil {
		return err
	}
	if err := w.wait(); err != nil {
		return err
	}
	if w.heldSpan.Key == nil {
		w.heldSpan = covered
	}
	w.heldSpan.EndKey = covered.EndKey
	w.heldSum.Add(&page.Summary)
	if len(page.SST) > 0 {
		sp := covered
		if page.MidRow && !page.ResumeTS.IsEmpty() {
			sp.EndKey = covered.EndKey.Next() // The page has newer versions of that key.
		}
		if !sp.Key.Less(sp.EndKey) {
			sp.EndKey = sp.Key.Next()
		}
		f, err := w.put(ctx, page.SST, &page.Summary, []keys.Span{sp}, start)
		if err != nil {
			return err
		}
		w.held = append(w.held, f)
	}
	if page.MidRow {
		return nil
	}
	o := outcome{files: w.held, spans: []keys.Span{w.heldSpan}, sum: w.heldSum}
	if err := markUnit(o.files); err != nil {
		return err
	}
	w.held, w.heldSpan, w.heldSum = nil, keys.Span{}, storage.ExportSummary{}
	return w.p.report(ctx, o)
}

func (w *exportWorker) takeSmall(ctx context.Context, page *kv.ExportPage, covered keys.Span, start hlc.Timestamp) error {
	s := &w.small
	if n := len(s.spans); n > 0 && (s.start != start || covered.Key.Less(s.spans[n-1].EndKey)) {
		if err := w.flushSmall(ctx); err != nil {
			return err
		}
	}
	if len(s.spans) == 0 {
		s.first, s.start = page.SST, start
	} else {
		if s.w == nil {
			s.buf = &storage.SSTBuffer{}
			s.w = storage.NewSSTWriter(s.buf, storage.CompressFast)
			s.written = storage.NewSummarizer(w.p.d.RevisionHistory || !start.IsEmpty())
			if err := w.appendSmall(ctx, s.first, s.spans[0]); err != nil {
				return err
			}
			s.first = nil
		}
		if err := w.appendSmall(ctx, page.SST, covered); err != nil {
			return err
		}
	}
	s.sum.Add(&page.Summary)
	s.spans = append(s.spans, covered)
	if s.w != nil && s.w.DataBytes() >= w.p.pageBytes/2 {
		return w.flushSmall(ctx)
	}
	return nil
}

// appendSmall copies a page into the file of small ones.
func (w *exportWorker) appendSmall(ctx context.Context, sst []byte, sp keys.Span) error {
	s := &w.small
	err := storage.VisitSST(ctx, storage.NewMemSST(sst), sp.Key, sp.EndKey, storage.SSTVisitor{
		Version: func(key storage.MVCCKey, value []byte) error {
			s.written.Add(key.Key, value, key.Timestamp)
			return s.w.PutVersion(key, value)
		},
		RangeTombstone: func(span keys.Span, ts hlc.Timestamp) error {
			s.written.AddRangeTombstone(span, ts)
			return s.w.PutRangeTombstone(span, ts)
		},
	})
	if err != nil {
		return fmt.Errorf("gathering small pages: %w", err)
	}
	return nil
}

// flushSmall completes the file of small pages.
func (w *exportWorker) flushSmall(ctx context.Context) error {
	// The upload goes on while the next file is gathered: it owns what it gets.
	s := w.small
	w.small.first, w.small.buf, w.small.w, w.small.written, w.small.spans = nil, nil, nil, nil, nil
	w.small.sum = storage.ExportSummary{}
	if len(s.spans) == 0 {
		return nil
	}
	if s.w == nil {
		return w.upload(ctx, s.first, &s.sum, s.start, s.spans, s.sum)
	}
	if _, err := s.w.Finish(); err != nil {
		return err
	}
	// What the pages counted is compared with what the files hold once all are
	// there. The view is no matter of the file alone.
	written := s.written.Summary()
	for id, ix := range s.sum.Indexes {
		if have := written.Indexes[id]; have != nil {
			have.ViewKVs, have.View, have.ViewUnknown = ix.ViewKVs, ix.View, ix.ViewUnknown
		}
	}
	return w.upload(ctx, s.buf.Bytes(), &written, s.start, s.spans, s.sum)
}

// upload writes a file while the worker exports the next page, and reports it. The
// file has sum, the pages of the spans that are done with it had read.
func (w *exportWorker) upload(
	ctx context.Context, sst []byte, sum *storage.ExportSummary, start hlc.Timestamp, done []keys.Span, read storage.ExportSummary,
) error {
	if err := w.wait(); err != nil {
		return err
	}
	result := make(chan error, 1)
	w.uploading = result
	go func() { // wait receives its end, also when the worker fails.
		f, err := w.put(ctx, sst, sum, done, start)
		if err == nil {
			err = w.p.report(ctx, outcome{files: []*backuppb.File{f}, spans: done, sum: read})
		}
		result <- err
	}()
	return nil
}

// wait waits for the upload under way.
func (w *exportWorker) wait() error {
	if w.uploading == nil {
		return nil
	}
	err := <-w.uploading
	w.uploading = nil
	return err
}

// markUnit says of files that they hold the parts of one row.
func markUnit(files []*backuppb.File) error {
	unit, err := uniqueNumber()
	for _, f := range files {
		f.Unit = unit
	}
	return err
}

// uniqueNumber returns a number that nobody else has got, and not 0.
func uniqueNumber() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:])>>1 | 1, nil
}

// put writes one data file, which has all of the spans covered, and describes it.
func (w *exportWorker) put(
	ctx context.Context, sst []byte, sum *storage.ExportSummary, covered []keys.Span, start hlc.Timestamp,
) (*backuppb.File, error) {
	unique, err := uniqueNumber()
	if err != nil {
		return nil, err
	}
	loc := w.p.locs[w.p.bucket]
	name := manifest.DataName(strconv.FormatUint(unique, 10))
	sp := keys.Span{Key: covered[0].Key, EndKey: covered[len(covered)-1].EndKey}
	hash := sha256.Sum256(sst)
	if err := manifest.WriteDataFile(ctx, loc.Store, w.p.d.LayerDir, name, sst); err != nil {
		return nil, err
	}
	f := &backuppb.File{
		Span: manifest.SpanPB(sp), Path: name, StartTime: manifest.TimePB(start), EndTime: w.p.d.EndTime,
		LocalityKv: loc.Locality, BackingFileSize: uint64(len(sst)), Sha256: hash[:],
		Indexes: summariesPB(sum), EntryCounts: &backuppb.RowCount{},
	}
	if covered = manifest.MergeSpans(nil, covered); len(covered) > 1 {
		f.Covered = manifest.SpansPB(covered)
	}
	for _, ix := range f.Indexes {
		f.EntryCounts.DataSize += ix.KeyBytes + ix.ValueBytes
		f.HasRangeKeys = f.HasRangeKeys || ix.RangeTombstones > 0
		if w.p.isPrimary(ix.TableId, ix.IndexId) {
			f.EntryCounts.Rows += ix.Rows
		} else {
			f.EntryCounts.IndexEntries += ix.Rows
		}
	}
	return f, nil
}
