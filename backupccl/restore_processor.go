package backupccl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/malloc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

const (
	// restorePieceBytes is how much data one piece brings in at least: with the file
	// that reaches it, of a full backup of short rows one file.
	restorePieceBytes = 4 << 20
	// ingestBytes is the size of one ingested sstable, before compression.
	ingestBytes = 8 << 20
	// fileCacheBytes bounds the files that a worker holds in memory. One file that is
	// larger is held too: those that backups write have at most 32 MiB, and up to
	// 64 MiB for the history of one row.
	fileCacheBytes = 8 << 20
)

// indexPlan is what has to be done for one index.
type indexPlan struct {
	span     keys.Span // in the backup's keys
	oldTable uint32
	newTable uint32
	files    []*manifest.DataFile // of all layers that count, by start key
	// merged is what the chain says the index held at the time restored; nil if it
	// does not say it. Then the merge must at least come by all that the files have,
	// which is filed.
	merged, filed *backuppb.IndexSummary
}

// id names the index as it is restored.
func (p *indexPlan) id() storage.IndexID {
	_, index, _, _ := keys.DecodeIndexPrefix(p.span.Key)
	return storage.IndexID{TableID: p.newTable, IndexID: index}
}

// restorePiece is a part of an index that one worker restores.
type restorePiece struct {
	*indexPlan
	part keys.Span // in the backup's keys
}

// restoreRun is the data phase of a restore.
type restoreRun struct {
	s   *Service
	job *jobs.Job
	d   *backuppb.RestoreDetails
	src *restoreSource
	// verifyOnly reads and checks everything and writes nothing.
	verifyOnly bool

	mu struct {
		sync.Mutex
		progress *backuppb.RestoreProgress
		indexes  map[storage.IndexID]*backuppb.IndexSummary // in new ids
		pieces   int
		done     int
		began    time.Time
		savedAt  time.Time
		saving   bool
	}
}

// restoreData brings in the rows of all restored tables, or only checks them.
func (r *restoreResumer) restoreData(ctx context.Context, job *jobs.Job, src *restoreSource, d *backuppb.RestoreDetails) error {
	if d.SchemaOnly && !d.VerifyBackupTableData {
		return nil
	}
	run := &restoreRun{s: r.s, job: job, d: d, src: src, verifyOnly: d.SchemaOnly}
	run.mu.progress = &backuppb.RestoreProgress{}
	if err := proto.Unmarshal(job.Progress().Details, run.mu.progress); err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "decoding progress of restore job: %w", err)
	}
	if run.mu.progress.Counts == nil {
		run.mu.progress.Counts = &backuppb.RowCount{}
	}
	run.mu.indexes = map[storage.IndexID]*backuppb.IndexSummary{}
	for _, ix := range run.mu.progress.Indexes {
		run.mu.indexes[storage.IndexID{TableID: ix.TableId, IndexID: ix.IndexId}] = ix
	}
	plans, err := run.plan(ctx)
	if err != nil {
		return err
	}
	pieces := cutPieces(plans, manifest.Spans(run.mu.progress.Done),
		r.s.cfg.Settings.restoreSpanBytes.Get(), int(r.s.cfg.Settings.restoreSpanFiles.Get()))
	run.mu.pieces, run.mu.began, run.mu.savedAt = len(pieces), time.Now(), time.Now()
	job.Log.InfoContext(ctx, "restoring data", "indexes", len(plans), "pieces", len(pieces), "layers", len(src.layers))
	if err := run.process(ctx, pieces); err != nil {
		if ctx.Err() == nil { // What is done stays done when it is tried again.
			if saveErr := run.save(ctx, false); saveErr != nil {
				job.Log.WarnContext(ctx, "last checkpoint not written", "err", saveErr)
			}
		}
		return err
	}
	if err := run.verify(plans); err != nil {
		return err
	}
	return run.save(ctx, true)
}

// plan finds for each index of each restored table the files that hold it.
func (run *restoreRun) plan(ctx context.Context) ([]*indexPlan, error) {
	var plans []*indexPlan
	for _, rw := range run.d.Rewrites {
		t, ok := run.src.sch.byID[rw.OldId].(*catalog.Table)
		if !ok || rw.ToExisting {
			continue
		}
		for _, sp := range dataSpans(t) {
			plans = append(plans, &indexPlan{span: sp, oldTable: rw.OldId, newTable: rw.NewId})
		}
	}
	sort.Slice(plans, func(i, j int) bool { return plans[i].span.Key.Less(plans[j].span.Key) })
	if err := findFiles(ctx, run.src, plans); err != nil {
		return nil, err
	}
	if fn := run.s.cfg.Testing.EditPlan; fn != nil {
		for _, p := range plans {
			p.files = fn(p.files)
		}
	}
	for _, p := range plans {
		if err := p.checkOnce(); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// findFiles fills in the files of all plans, which are ordered by span. For each
// span it begins with the newest layer that has it from the beginning of time,
// and demands that every later layer covers it.
func findFiles(ctx context.Context, src *restoreSource, plans []*indexPlan) error {
	first := make([]int, len(plans))
	for i, p := range plans {
		first[i] = -1
		for n := len(src.layers) - 1; n >= 0 && first[i] < 0; n-- {
			l := src.layers[n]
			if !l.Covers(p.span) {
				return fmt.Errorf("%s in layer %s: %w", pieceName(p.span), l.Dir, manifest.ErrNotCovered())
			}
			if l.Introduces(p.span) {
				first[i] = n
			}
		}
		if first[i] < 0 {
			return fmt.Errorf("%s: %w", pieceName(p.span), manifest.ErrNotCovered())
		}
	}
	sums := make([]indexSums, len(plans)) // of one layer
	filed := make([]indexSums, len(plans))
	for i := range filed {
		filed[i] = indexSums{}
	}
	for n, l := range src.layers {
		for i := range sums {
			sums[i] = indexSums{}
		}
		err := l.Files(ctx, func(f *manifest.DataFile) error {
			sp := manifest.Span(f.Span)
			// The first plan that ends behind the file's start.
			i := sort.Search(len(plans), func(i int) bool { return sp.Key.Less(plans[i].span.End()) })
			for ; i < len(plans) && plans[i].span.Key.Less(sp.End()); i++ {
				if n >= first[i] && holdsIndex(f.File, plans[i].span) {
					plans[i].files = append(plans[i].files, f)
					sums[i].add(f.Indexes)
					filed[i].add(f.Indexes)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i, p := range plans {
			if n < first[i] {
				continue
			}
			if err := checkCounted(ctx, l, p, sums[i]); err != nil {
				return err
			}
		}
	}
	if src.sch.at == src.last.End() {
		views, err := src.last.Views(ctx)
		if err != nil {
			return err
		}
		for _, p := range plans {
			if table, index, _, ok := keys.DecodeIndexPrefix(p.span.Key); ok {
				p.merged, _ = views.Of(table, index)
			}
		}
	}
	for i, p := range plans {
		if table, index, _, ok := keys.DecodeIndexPrefix(p.span.Key); ok && p.merged == nil {
			p.filed = filed[i][storage.IndexID{TableID: table, IndexID: index}]
		}
	}
	for _, p := range plans {
		sort.SliceStable(p.files, func(i, j int) bool { return bytes.Compare(p.files[i].Span.Key, p.files[j].Span.Key) < 0 })
	}
	return nil
}

// checkCounted compares what the files of a layer have of an index with what the
// layer counted when it read it.
func checkCounted(ctx context.Context, l *manifest.Layer, p *indexPlan, have indexSums) error {
	table, index, _, ok := keys.DecodeIndexPrefix(p.span.Key)
	if !ok {
		return nil
	}
	want, known, err := l.Counted(ctx, table, index)
	if err != nil || !known {
		return err
	}
	id := storage.IndexID{TableID: table, IndexID: index}
	if got := have[id]; !sameVersions(want, got) {
		return fmt.Errorf("the files that layer %s lists are not all of its files: %w", l.Dir, errSums(id, want, got))
	}
	return nil
}

// checkOnce demands that no file stands in the plan twice.
func (p *indexPlan) checkOnce() error {
	seen := make(map[string]bool, len(p.files))
	for _, f := range p.files {
		name := f.Layer.Dir + "/" + f.Path
		if seen[name] {
			return pgerr.Newf(pgerr.DataCorrupted, "file %s is planned twice for %s", name, pieceName(p.span))
		}
		seen[name] = true
	}
	return nil
}

// holdsIndex says whether a file has anything of an index: a file of gathered
// small pages spans indexes that it has nothing of. A range tombstone counts
// under the index where it begins and may reach into the next.
func holdsIndex(f *backuppb.File, sp keys.Span) bool {
	if len(f.Indexes) == 0 || f.HasRangeKeys {
		return true
	}
	table, index, _, ok := keys.DecodeIndexPrefix(sp.Key)
	if !ok {
		return true
	}
	for _, ix := range f.Indexes {
		if ix.TableId == table && ix.IndexId == index {
			return true
		}
	}
	return false
}

// cutPieces cuts the indexes at the starts of files, so that a piece brings in
// about pieceBytes from at most maxFiles that begin in it, and leaves out what is
// done. Done spans are in new keys.
func cutPieces(plans []*indexPlan, done []keys.Span, pieceBytes int64, maxFiles int) []restorePiece {
	var out []restorePiece
	for _, p := range plans {
		var cuts []keys.Key
		size, count := int64(0), 0
		for _, f := range p.files {
			if (size >= pieceBytes || count >= maxFiles) && p.span.Contains(f.Span.Key) && p.span.Key.Less(f.Span.Key) {
				cut := keys.RowPrefix(f.Span.Key)
				if n := len(cuts); n == 0 || cuts[n-1].Less(cut) {
					cuts = append(cuts, cut)
					size, count = 0, 0
				}
			}
			count++
			size += f.GetEntryCounts().GetDataSize()
		}
		parts := make([]keys.Span, 0, len(cuts)+1)
		from := p.span.Key
		for _, c := range cuts {
			parts = append(parts, keys.Span{Key: from, EndKey: c})
			from = c
		}
		parts = append(parts, keys.Span{Key: from, EndKey: p.span.End()})
		for _, part := range parts {
			for _, left := range manifest.Subtract([]keys.Span{p.toNew(part)}, done) {
				out = append(out, restorePiece{p, p.toOld(left)})
			}
		}
	}
	return out
}

func (p *indexPlan) toNew(sp keys.Span) keys.Span { return rekey(sp, p.oldTable, p.newTable) }
func (p *indexPlan) toOld(sp keys.Span) keys.Span { return rekey(sp, p.newTable, p.oldTable) }

// rekey moves a span within one table to another table id.
func rekey(sp keys.Span, from, to uint32) keys.Span {
	move := func(k keys.Key) keys.Key {
		if rest, ok := bytes.CutPrefix(k, keys.TablePrefix(from)); ok {
			return append(keys.TablePrefix(to), rest...)
		}
		return keys.TablePrefix(to).PrefixEnd() // The end of the table's last index.
	}
	return keys.Span{Key: move(sp.Key), EndKey: move(sp.EndKey)}
}

// process restores pieces with several workers.
func (run *restoreRun) process(ctx context.Context, pieces []restorePiece) error {
	pace := malloc.Tight()
	defer pace.End()
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	next := 0
	for range run.s.cfg.Workers {
		g.Go(func() error {
			cache := newFileCache(fileCacheBytes, run.s.cfg.TempDir)
			defer cache.close()
			var buf storage.SSTBuffer // of the files to be ingested, one after the other
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(pieces) {
					return nil
				}
				pace.Adjust()
				if err := run.piece(ctx, cache, &buf, pieces[i]); err != nil {
					return fmt.Errorf("restoring %s: %w", pieceName(pieces[i].part), err)
				}
			}
		})
	}
	return g.Wait()
}

// piece merges the files of one piece into sstables under new ids and ingests
// them.
func (run *restoreRun) piece(ctx context.Context, cache *fileCache, buf *storage.SSTBuffer, pc restorePiece) error {
	if err := run.s.hook(ctx, "restore.before.piece"); err != nil {
		return err
	}
	// The pieces between this worker's last and this one were others' work.
	cache.passed(pc.part.Key)
	var files []storage.SSTFile
	for _, f := range pc.files {
		if !manifest.Span(f.Span).Overlaps(pc.part) {
			continue
		}
		file, err := cache.get(ctx, f)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	defer cache.passed(pc.part.End())
	var sum storage.ExportSummary
	if len(files) > 0 {
		target := pc.toNew(pc.part)
		parts := []keys.Span{target}
		if !run.verifyOnly {
			var err error
			if parts, err = run.s.cfg.DB.SplitSpan(ctx, target); err != nil {
				return err
			}
		}
		for _, part := range parts {
			if err := run.ingest(ctx, pc.indexPlan, files, part, buf, &sum); err != nil {
				return err
			}
		}
	}
	return run.finished(ctx, pc.toNew(pc.part), &sum)
}

// seenSummary is what a merge came by of the plan's index, as the view of a
// summary: progress keeps the two together.
func seenSummary(p *indexPlan, seen storage.ExportSummary) *storage.ExportSummary {
	t := seen.Total()
	return &storage.ExportSummary{Indexes: map[storage.IndexID]*storage.IndexSummary{
		p.id(): {ViewKVs: t.KVs, View: t.Fingerprint},
	}}
}

// ingest brings one part in, which lies within a range.
func (run *restoreRun) ingest(
	ctx context.Context, p *indexPlan, files []storage.SSTFile, part keys.Span, buf *storage.SSTBuffer, sum *storage.ExportSummary,
) error {
	opts := storage.RestoreOptions{
		Span: p.toOld(part), AsOf: manifest.Time(run.d.EndTime),
		Rewrites: []storage.PrefixRewrite{storage.TableRewrite(p.oldTable, p.newTable)}, Count: p.merged == nil,
	}
	if fn := run.s.cfg.Testing.EditMerge; fn != nil {
		fn(&opts)
	}
	it, err := storage.NewRestoreIterator(ctx, files, opts)
	if err != nil {
		return err
	}
	defer it.Close()
	for {
		buf.Reset() // The store has its own copy.
		var w io.Writer = buf
		if run.verifyOnly {
			w = io.Discard
		}
		page, err := it.WritePage(w, ingestBytes)
		if err != nil {
			return err
		}
		if page.FileBytes > 0 && !run.verifyOnly {
			if err := run.s.ingest.Wait(ctx, buf.Len()); err != nil {
				return err
			}
			sp := keys.Span{Key: page.First, EndKey: page.Last.Next()}
			// A piece may be repeated after a crash. A worker that outlived its job's
			// claim must not write over what users did since the restore was published.
			if _, err := run.s.cfg.DB.AddSSTable(ctx, sp, buf.Bytes(), kv.AddSSTableOptions{OnlyRepeat: true}); err != nil {
				return err
			}
		}
		sum.Add(&page.Summary)
		if page.Done {
			if opts.Count {
				sum.Add(seenSummary(p, it.Seen()))
			}
			return nil
		}
	}
}

// finished records a piece, and now and then saves the record.
func (run *restoreRun) finished(ctx context.Context, target keys.Span, sum *storage.ExportSummary) error {
	run.mu.Lock()
	run.mu.done++
	run.mu.progress.Done = manifest.SpansPB(manifest.MergeSpans(manifest.Spans(run.mu.progress.Done), []keys.Span{target}))
	for _, ix := range summariesPB(sum) {
		id := storage.IndexID{TableID: ix.TableId, IndexID: ix.IndexId}
		if have := run.mu.indexes[id]; have != nil {
			addSummary(have, ix)
		} else {
			run.mu.indexes[id] = ix
		}
	}
	save := !run.mu.saving && time.Since(run.mu.savedAt) >= progressInterval || run.s.cfg.Testing.PageBytes > 0
	run.mu.Unlock()
	if !save {
		return nil
	}
	if err := run.save(ctx, false); err != nil {
		return err
	}
	return run.s.hook(ctx, "restore.after.checkpoint")
}

// save writes the checkpoint into the job's row.
func (run *restoreRun) save(ctx context.Context, complete bool) error {
	run.mu.Lock()
	run.mu.saving = true
	p := run.mu.progress
	p.Indexes = p.Indexes[:0]
	p.Counts = &backuppb.RowCount{}
	for _, ix := range run.mu.indexes {
		p.Indexes = append(p.Indexes, ix)
		p.Counts.DataSize += ix.KeyBytes + ix.ValueBytes
		if run.isPrimary(ix) {
			p.Counts.Rows += ix.Rows
		} else {
			p.Counts.IndexEntries += ix.Rows
		}
	}
	p.SpansTotal = int64(run.mu.pieces)
	b, err := proto.Marshal(p)
	fraction, status := 0.0, ""
	if run.mu.pieces > 0 {
		fraction = float64(run.mu.done) / float64(run.mu.pieces)
		elapsed := time.Since(run.mu.began)
		status = fmt.Sprintf("restoring data: %d of %d pieces, %s", run.mu.done, run.mu.pieces, formatBytes(p.Counts.DataSize))
		if run.mu.done > 0 && !complete {
			left := elapsed * time.Duration(run.mu.pieces-run.mu.done) / time.Duration(run.mu.done)
			status += fmt.Sprintf(", about %s left", left.Round(time.Second))
		}
	}
	run.mu.Unlock()
	defer func() {
		run.mu.Lock()
		run.mu.saving, run.mu.savedAt = false, time.Now()
		run.mu.Unlock()
	}()
	if err != nil {
		return err
	}
	return run.job.Update(ctx, func(_ context.Context, _ *kv.Txn, rec *jobs.Record) error {
		rec.Progress.Details, rec.Progress.RunningStatus = b, status
		rec.Progress.FractionCompleted = max(rec.Progress.FractionCompleted, min(fraction, 0.99))
		return nil
	})
}

// isPrimary says whether a restored index holds rows. Ids of indexes do not
// change.
func (run *restoreRun) isPrimary(ix *backuppb.IndexSummary) bool {
	for _, rw := range run.d.Rewrites {
		if rw.NewId == ix.TableId && !rw.ToExisting {
			t, _ := run.src.sch.byID[rw.OldId].(*catalog.Table)
			return isPrimary(t, ix.IndexId)
		}
	}
	return false
}

// verify compares what was restored with what the backup says it held at that
// time: nothing comes online that differs. Of an instant inside history, and of
// chains from before layers said it, the merged view is not known; then the merge
// must have come by every version that the files are said to have.
func (run *restoreRun) verify(plans []*indexPlan) error {
	run.mu.Lock()
	defer run.mu.Unlock()
	planned := map[storage.IndexID]bool{}
	for _, p := range plans {
		planned[p.id()] = true
		if err := p.check(run.mu.indexes[p.id()]); err != nil {
			return err
		}
	}
	for id, got := range run.mu.indexes {
		if !planned[id] && got.Kvs > 0 {
			return pgerr.Newf(pgerr.DataCorrupted,
				"restored index %d of table %d has %d pairs that the backup does not count", id.IndexID, id.TableID, got.Kvs)
		}
	}
	return nil
}

// check compares what came out of the merge of an index, and what went in, with
// what the backup recorded.
func (p *indexPlan) check(got *backuppb.IndexSummary) error {
	id := p.id()
	if w := p.merged; w != nil {
		if got.GetKvs() == w.ViewKvs && got.GetFingerprintHi() == w.ViewHi && got.GetFingerprintLo() == w.ViewLo {
			return nil
		}
		return pgerr.Newf(pgerr.DataCorrupted,
			"restored index %d of table %d differs from the backup: %d pairs with fingerprint %016x%016x, expected %d with %016x%016x",
			id.IndexID, id.TableID, got.GetKvs(), got.GetFingerprintHi(), got.GetFingerprintLo(), w.ViewKvs, w.ViewHi, w.ViewLo).
			WithHint(verifyHint)
	}
	if w := p.filed; got.GetViewKvs() != w.GetKvs() || got.GetViewHi() != w.GetFingerprintHi() || got.GetViewLo() != w.GetFingerprintLo() {
		return pgerr.Newf(pgerr.DataCorrupted,
			"of index %d of table %d the restore read %d versions with fingerprint %016x%016x, the backup's files have %d with %016x%016x",
			id.IndexID, id.TableID, got.GetViewKvs(), got.GetViewHi(), got.GetViewLo(), w.GetKvs(), w.GetFingerprintHi(), w.GetFingerprintLo()).
			WithHint(verifyHint)
	}
	return nil
}

const verifyHint = "Nothing was restored. SHOW BACKUP … WITH check_files tells which files are missing; an earlier layer can be restored AS OF SYSTEM TIME."

// visitRestored calls fn with every pair of a span of the backup as it was at
// the time restored, in memory: for system tables, which are small.
func visitRestored(ctx context.Context, src *restoreSource, sp keys.Span, at hlc.Timestamp, fn func(key keys.Key, value []byte) error) error {
	table, _, _, _ := keys.DecodeIndexPrefix(sp.Key)
	plan := &indexPlan{span: sp, oldTable: table, newTable: table}
	if err := findFiles(ctx, src, []*indexPlan{plan}); err != nil {
		return err
	}
	var files []storage.SSTFile
	for _, f := range plan.files {
		b, err := f.Read(ctx)
		if err != nil {
			return err
		}
		files = append(files, storage.NewMemSST(b))
	}
	if len(files) == 0 {
		return visitedAll(plan, storage.ExportSummary{})
	}
	it, err := storage.NewRestoreIterator(ctx, files, storage.RestoreOptions{Span: sp, AsOf: at, Count: plan.merged == nil})
	if err != nil {
		return err
	}
	defer it.Close()
	counted := storage.NewSummarizer(false)
	for it.Next() {
		counted.Add(it.Key(), it.Value(), it.Timestamp())
		if err := fn(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	sum := counted.Summary()
	if plan.merged == nil {
		sum.Add(seenSummary(plan, it.Seen()))
	}
	return visitedAll(plan, sum)
}

// visitedAll compares what was read of a system table with what the backup
// recorded. Its span may have several indexes, of which merged is the first.
func visitedAll(plan *indexPlan, sum storage.ExportSummary) error {
	got := indexSums{}
	got.add(summariesPB(&sum))
	return plan.check(got[plan.id()])
}
