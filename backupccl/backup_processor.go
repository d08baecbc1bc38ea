package backupccl

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

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
// hold what they had.
type outcome struct {
	files []*backuppb.File
	spans []keys.Span
}

// processor exports the pieces of one node's share. Run returns when all pieces
// that came are exported, and report has been called for each of them.
type processor struct {
	s         *Service
	d         *backuppb.BackupDetails
	locs      manifest.Locations
	bucket    int // of this node
	pageBytes int64
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

	// small gathers pages too small for a file of their own.
	small struct {
		buf   *storage.SSTBuffer
		w     *storage.SSTWriter
		sum   storage.ExportSummary
		spans []keys.Span
		start hlc.Timestamp
	}
	// held are the files of a row that was cut: they count once it is complete.
	held     []*backuppb.File
	heldSpan keys.Span

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
		StartTime: pc.start, EndTime: manifest.Time(w.p.d.EndTime), AllRevisions: w.p.d.RevisionHistory,
		TargetBytes: w.p.pageBytes, MaxBytes: maxRowBytes,
	}
	if shift := w.p.s.cfg.Testing.ShiftStart; shift != 0 && !pc.start.IsEmpty() {
		opts.StartTime = pc.start.Add(shift)
	}
	from := pc.span.Key
	return w.p.s.exportPages(ctx, pc.span, opts, func(page *kv.ExportPage) error {
		covered := keys.Span{Key: from, EndKey: pc.span.End()}
		if page.Resume != nil {
			covered.EndKey = page.Resume.Key
			from = page.Resume.Key
		}
		if fn := w.p.s.cfg.Testing.AfterExport; fn != nil {
			fn(0, covered)
		}
		if drop := w.p.s.cfg.Testing.DropSpan; drop != nil && drop(covered) {
			return w.p.report(ctx, outcome{spans: []keys.Span{covered}})
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
	return w.upload(ctx, page.SST, &page.Summary, covered, start, []keys.Span{covered})
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
	if len(page.SST) > 0 {
		sp := covered
		if page.MidRow && !page.ResumeTS.IsEmpty() {
			sp.EndKey = covered.EndKey.Next() // The page has newer versions of that key.
		}
		if !sp.Key.Less(sp.EndKey) {
			sp.EndKey = sp.Key.Next()
		}
		f, err := w.put(ctx, page.SST, &page.Summary, sp, start)
		if err != nil {
			return err
		}
		w.held = append(w.held, f)
	}
	if page.MidRow {
		return nil
	}
	o := outcome{files: w.held, spans: []keys.Span{w.heldSpan}}
	w.held, w.heldSpan = nil, keys.Span{}
	return w.p.report(ctx, o)
}

func (w *exportWorker) takeSmall(ctx context.Context, page *kv.ExportPage, covered keys.Span, start hlc.Timestamp) error {
	s := &w.small
	if n := len(s.spans); n > 0 && (s.start != start || covered.Key.Less(s.spans[n-1].EndKey)) {
		if err := w.flushSmall(ctx); err != nil {
			return err
		}
	}
	if s.w == nil {
		s.buf = &storage.SSTBuffer{}
		s.w, s.start = storage.NewSSTWriter(s.buf, storage.CompressFast), start
		s.sum = storage.ExportSummary{}
	}
	err := storage.VisitSST(ctx, storage.NewMemSST(page.SST), covered.Key, covered.EndKey, storage.SSTVisitor{
		Version:        s.w.PutVersion,
		RangeTombstone: s.w.PutRangeTombstone,
	})
	if err != nil {
		return fmt.Errorf("gathering small pages: %w", err)
	}
	s.sum.Add(&page.Summary)
	s.spans = append(s.spans, covered)
	if s.w.DataBytes() >= w.p.pageBytes/2 {
		return w.flushSmall(ctx)
	}
	return nil
}

// flushSmall completes the file of small pages.
func (w *exportWorker) flushSmall(ctx context.Context) error {
	s := &w.small
	if s.w == nil {
		return nil
	}
	sst := s.w
	s.w = nil
	if _, err := sst.Finish(); err != nil {
		return err
	}
	sp := keys.Span{Key: s.spans[0].Key, EndKey: s.spans[len(s.spans)-1].EndKey}
	// The upload goes on while the next file is gathered: it owns what it gets.
	spans, sum, buf := s.spans, s.sum, s.buf
	s.spans, s.sum, s.buf = nil, storage.ExportSummary{}, nil
	return w.upload(ctx, buf.Bytes(), &sum, sp, s.start, spans)
}

// upload writes a file while the worker exports the next page, and reports it.
func (w *exportWorker) upload(
	ctx context.Context, sst []byte, sum *storage.ExportSummary, sp keys.Span, start hlc.Timestamp, done []keys.Span,
) error {
	if err := w.wait(); err != nil {
		return err
	}
	result := make(chan error, 1)
	w.uploading = result
	go func() { // wait receives its end, also when the worker fails.
		f, err := w.put(ctx, sst, sum, sp, start)
		if err == nil {
			err = w.p.report(ctx, outcome{files: []*backuppb.File{f}, spans: done})
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

// put writes one data file and describes it.
func (w *exportWorker) put(
	ctx context.Context, sst []byte, sum *storage.ExportSummary, sp keys.Span, start hlc.Timestamp,
) (*backuppb.File, error) {
	var unique [8]byte
	if _, err := rand.Read(unique[:]); err != nil {
		return nil, err
	}
	loc := w.p.locs[w.p.bucket]
	name := manifest.DataName(strconv.FormatUint(binary.BigEndian.Uint64(unique[:])>>1, 10))
	hash := sha256.Sum256(sst)
	if err := manifest.WriteDataFile(ctx, loc.Store, w.p.d.LayerDir, name, sst); err != nil {
		return nil, err
	}
	f := &backuppb.File{
		Span: manifest.SpanPB(sp), Path: name, StartTime: manifest.TimePB(start), EndTime: w.p.d.EndTime,
		LocalityKv: loc.Locality, BackingFileSize: uint64(len(sst)), Sha256: hash[:],
		Indexes: summariesPB(sum), EntryCounts: &backuppb.RowCount{},
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

// subtract returns what is left of spans without done.
func subtract(spans []keys.Span, done []keys.Span) []keys.Span {
	sorted := append([]keys.Span(nil), done...)
	sortSpans(sorted)
	var out []keys.Span
	for _, sp := range spans {
		rest := sp
		for _, d := range sorted {
			if !d.Key.Less(rest.EndKey) {
				break
			}
			if !rest.Key.Less(d.End()) {
				continue
			}
			if rest.Key.Less(d.Key) {
				out = append(out, keys.Span{Key: rest.Key, EndKey: d.Key})
			}
			rest.Key = d.End()
			if !rest.Key.Less(rest.EndKey) {
				break
			}
		}
		if bytes.Compare(rest.Key, rest.EndKey) < 0 {
			out = append(out, rest)
		}
	}
	return out
}
