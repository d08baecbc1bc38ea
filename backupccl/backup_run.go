package backupccl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

const (
	progressInterval = time.Second // between writes of progress to the job
	checkpointStep   = 0.05        // of the whole, between two checkpoints
	// incrementalPieces is how much larger pieces are when only changes are read.
	incrementalPieces = 16
	pieceDiskBytes    = 4 << 20 // aimed at, as the store keeps it; what a lost worker loses at most
)

// backupRun is one run of the export phase: it hands out pieces, collects what
// processors report, and writes checkpoints and progress.
type backupRun struct {
	s       *Service
	job     *jobs.Job
	d       *backuppb.BackupDetails
	locs    manifest.Locations // of the layer
	log     *slog.Logger
	targets *backupTargets
	written *backuppb.Manifest // once the layer is complete

	mu struct {
		sync.Mutex
		files     []*backuppb.File
		done      []keys.Span
		covered   [][]keys.Span       // done, by location
		read      indexSums           // what the pages of all that is done had
		unsaved   backuppb.Checkpoint // since the last checkpoint
		sequence  uint32              // of the last checkpoint
		saving    bool                // one checkpoint or progress write at a time
		savedAt   time.Time
		savedPart float64
		shownAt   time.Time
		began     time.Time
		parts     []keys.Span // the whole, as it was cut by this run
		total     float64     // number of parts, at least 1
		doneParts float64     // how many of them are finished
		countedAt time.Time
		startedAt float64 // doneParts when the run began
		bytes     int64   // logical, exported by this run
		written   int64   // physical, all runs
	}
}

// export exports everything that no checkpoint has. When it returns nil, the
// files of the layer are complete.
func (b *backupRun) export(ctx context.Context) error {
	if err := b.alreadyWritten(ctx); err != nil || b.written != nil {
		return err
	}
	if err := b.loadCheckpoints(ctx); err != nil {
		return err
	}
	if err := b.job.CheckPausepoint("backup.before.flow"); err != nil {
		return err
	}
	b.mu.began = time.Now()
	var lastDone float64
	for attempt := 0; ; attempt++ {
		err := b.exportOnce(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var gc *kvpb.BatchTimestampBeforeGCError
		switch {
		case errors.As(err, &gc):
			return errProtection(err)
		case errors.Is(err, jobs.ErrLostClaim):
			return err
		case !extstore.IsRetryable(err) || pgerr.GetCode(err) == pgerr.DiskFull || pgerr.GetCode(err) == pgerr.DataCorrupted:
			return fmt.Errorf("failed to run backup: %w", err)
		}
		b.mu.Lock()
		if b.mu.doneParts >= lastDone+0.01*b.mu.total {
			lastDone, attempt = b.mu.doneParts, 0
		}
		b.mu.Unlock()
		if attempt >= flowRetries {
			return fmt.Errorf("exhausted retries: %w", err)
		}
		b.log.WarnContext(ctx, "export failed; will retry", "attempt", attempt, "err", err)
		select {
		case <-time.After(min(time.Second, 50*time.Millisecond<<attempt)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.checkComplete()
}

// checkComplete trusts nothing: what was asked for must be what is finished, once,
// and the files must have what was read.
func (b *backupRun) checkComplete() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var parts []keys.Span
	for _, spans := range b.mu.covered {
		parts = append(parts, spans...)
	}
	if err := manifest.CheckExact(manifest.Spans(b.d.Spans), parts); err != nil {
		return fmt.Errorf("the export is not complete: %w", err)
	}
	have := indexSums{}
	for _, f := range b.mu.files {
		have.add(f.Indexes)
	}
	if err := b.mu.read.equal(have); err != nil {
		return fmt.Errorf("the files differ from what was read for them: %w", err)
	}
	return nil
}

// alreadyWritten finds out whether an earlier run got as far as the manifest.
func (b *backupRun) alreadyWritten(ctx context.Context) error {
	exists, err := manifest.Exists(ctx, b.locs.Default(), b.d.LayerDir)
	if err != nil || !exists {
		return err
	}
	l, err := manifest.Open(ctx, b.locs, b.d.LayerDir)
	if err != nil {
		return err
	}
	if !bytes.Equal(l.Manifest.Id, b.d.BackupId) {
		return manifest.ErrManifestExists(b.d.LayerDir)
	}
	b.written = l.Manifest
	b.mu.sequence = 1 // Checkpoints may be there.
	return nil
}

// loadCheckpoints takes over what earlier runs finished. Two runs may have
// exported the same, if the first went on for a while after it had lost its
// claim, and two locations may be one place: whatever overlaps with what was
// taken already is passed over, its files too, and what is missing then is done
// again.
func (b *backupRun) loadCheckpoints(ctx context.Context) error {
	b.mu.covered, b.mu.read = make([][]keys.Span, len(b.locs)), indexSums{}
	whole := manifest.Spans(b.d.Spans)
	passed := 0
	for i, loc := range b.locs {
		c, damaged, err := manifest.ReadCheckpoints(ctx, loc.Store, b.d.LayerDir, b.d.BackupId)
		if err != nil {
			return err
		}
		for _, err := range damaged {
			b.log.WarnContext(ctx, "checkpoint passed over; its work is done again", "err", err)
		}
		b.mu.sequence = max(b.mu.sequence, c.Sequence)
		for _, f := range c.Finished {
			if !b.takeOver(i, f, whole) {
				passed++
			}
		}
	}
	if passed > 0 {
		b.log.InfoContext(ctx, "parts of checkpoints passed over: other parts have the same", "parts", passed)
	}
	return nil
}

// takeOver takes what an earlier run finished, unless some of it is there already.
func (b *backupRun) takeOver(location int, f *backuppb.Finished, whole []keys.Span) bool {
	done := manifest.Spans(f.Done)
	for _, file := range f.Files {
		if !b.locs.InLocation(location, file.LocalityKv) {
			return false // Seen through another location that lies in the same place.
		}
	}
	if _, twice := manifest.Overlap(done); twice || overlapsAny(b.mu.done, done) || len(manifest.Subtract(done, whole)) > 0 {
		return false
	}
	b.mu.files = append(b.mu.files, f.Files...)
	b.mu.done = manifest.MergeSpans(b.mu.done, done)
	b.mu.covered[location] = manifest.MergeSpans(b.mu.covered[location], done)
	b.mu.read.add(f.Indexes)
	for _, file := range f.Files {
		b.mu.written += int64(file.BackingFileSize)
	}
	return true
}

// overlapsAny says whether any of more overlaps with one of spans, which are
// sorted and joined.
func overlapsAny(spans, more []keys.Span) bool {
	for _, sp := range more {
		i := sort.Search(len(spans), func(i int) bool { return sp.Key.Less(spans[i].End()) })
		if i < len(spans) && spans[i].Overlaps(sp) {
			return true
		}
	}
	return false
}

// exportOnce exports what is left with the processors there are.
func (b *backupRun) exportOnce(ctx context.Context) error {
	pieces, err := b.plan(ctx)
	if err != nil {
		return err
	}
	p := &processor{
		s: b.s, d: b.d, locs: b.locs, bucket: b.locs.BucketFor(b.s.cfg.Locality),
		pageBytes: min(maxPageBytes, b.s.cfg.Settings.fileSize.Get()), rowBytes: maxRowBytes,
		isPrimary: b.isPrimary, report: b.report, pushAt: b.mu.began.Add(b.s.cfg.Settings.priorityAfter.Get()),
		view: manifest.Time(b.d.StartTime).IsEmpty() || b.s.cfg.Settings.chainFingerprints.Get(),
	}
	if n := b.s.cfg.Testing.PageBytes; n > 0 {
		p.pageBytes = n
	}
	if n := b.s.cfg.Testing.RowBytes; n > 0 {
		p.rowBytes = n
	}
	if len(b.locs) > 1 {
		if p.bucket > 0 {
			b.log.InfoContext(ctx, fmt.Sprintf("backing up %d spans to destination specified by locality %s", len(pieces), b.locs[p.bucket].Locality))
		} else {
			b.log.InfoContext(ctx, fmt.Sprintf("backing up %d spans to default locality because backup localities %s have no match in node's localities %s",
				len(pieces), b.locs.Localities(), b.s.cfg.Locality))
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := make(chan piece)
	go func() { // Ends with ctx at the latest.
		defer close(work)
		for _, pc := range pieces {
			select {
			case work <- pc:
			case <-ctx.Done():
				return
			}
		}
	}()
	err = p.run(ctx, work)
	if saveErr := b.flushCheckpoint(context.WithoutCancel(ctx), err); err == nil {
		err = saveErr
	}
	return err
}

func (b *backupRun) isPrimary(table, index uint32) bool {
	t, _ := b.targets.sch.byID[table].(*catalog.Table)
	return isPrimary(t, index)
}

// plan cuts what is left into pieces, in the order of keys.
func (b *backupRun) plan(ctx context.Context) ([]piece, error) {
	introduced := map[string]bool{}
	for _, sp := range b.d.IntroducedSpans {
		introduced[string(sp.Key)] = true
	}
	var out []piece
	var all []keys.Span
	for _, sp := range manifest.Spans(b.d.Spans) {
		start := manifest.Time(b.d.StartTime)
		if introduced[string(sp.Key)] {
			start = hlc.Timestamp{}
		}
		size := int64(pieceDiskBytes)
		if !start.IsEmpty() {
			size *= incrementalPieces
		}
		parts, err := b.s.cfg.DB.SplitSpanBySize(ctx, sp, size)
		if err != nil {
			return nil, err
		}
		all = append(all, parts...)
		b.mu.Lock()
		rest := manifest.Subtract(parts, b.mu.done)
		b.mu.Unlock()
		for _, r := range rest {
			out = append(out, piece{r, start})
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.parts, b.mu.total = all, max(float64(len(all)), 1)
	b.countDoneLocked()
	b.mu.startedAt = b.mu.doneParts
	return out, nil
}

// report takes what a worker has finished.
func (b *backupRun) report(ctx context.Context, o outcome) error {
	b.mu.Lock()
	if _, twice := manifest.Overlap(o.spans); twice || overlapsAny(b.mu.done, o.spans) {
		b.mu.Unlock()
		return extstore.Permanent(fmt.Errorf("%s was exported twice", pieceName(o.spans[0])))
	}
	here := b.locs.BucketFor(b.s.cfg.Locality)
	indexes := summariesPB(&o.sum)
	b.mu.files = append(b.mu.files, o.files...)
	b.mu.done = manifest.MergeSpans(b.mu.done, o.spans)
	b.mu.covered[here] = manifest.MergeSpans(b.mu.covered[here], o.spans)
	b.mu.read.add(indexes)
	b.mu.unsaved.Finished = append(b.mu.unsaved.Finished,
		&backuppb.Finished{Files: o.files, Done: manifest.SpansPB(o.spans), Indexes: indexes})
	for _, f := range o.files {
		b.mu.bytes += f.EntryCounts.DataSize
		b.mu.written += int64(f.BackingFileSize)
	}
	now := time.Now()
	if now.Sub(b.mu.countedAt) >= progressInterval/4 {
		b.countDoneLocked()
	}
	part := b.mu.doneParts / b.mu.total
	save := !b.mu.saving && (now.Sub(b.mu.savedAt) >= b.s.cfg.Settings.checkpointInterval.Get() && !b.mu.savedAt.IsZero() ||
		part >= b.mu.savedPart+checkpointStep && now.Sub(b.mu.began) >= progressInterval && part < 1)
	if b.mu.savedAt.IsZero() {
		b.mu.savedAt = b.mu.began
	}
	show := !b.mu.saving && now.Sub(b.mu.shownAt) >= progressInterval && now.Sub(b.mu.began) >= progressInterval
	if b.s.cfg.Testing.PageBytes > 0 {
		save = !b.mu.saving
	}
	if !save && !show {
		b.mu.Unlock()
		return nil
	}
	b.mu.saving = true
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.mu.saving = false
		b.mu.Unlock()
	}()
	if save {
		if err := b.saveCheckpoint(ctx); err != nil {
			return err
		}
		if err := b.s.hook(ctx, "backup.after.checkpoint"); err != nil {
			return err
		}
	}
	return b.showProgress(ctx)
}

// countDoneLocked finds out how many parts are finished. A part that is finished
// in part does not count.
func (b *backupRun) countDoneLocked() {
	b.mu.countedAt = time.Now()
	unfinished, last := 0, -1
	for _, left := range manifest.Subtract(b.mu.parts, b.mu.done) {
		// Both are in the order of keys.
		i := sort.Search(len(b.mu.parts), func(i int) bool { return left.Key.Less(b.mu.parts[i].EndKey) })
		if i != last {
			unfinished++
			last = i
		}
	}
	b.mu.doneParts = b.mu.total - float64(unfinished)
}

// flushCheckpoint keeps what the workers finished before they stopped with err.
func (b *backupRun) flushCheckpoint(ctx context.Context, err error) error {
	b.mu.Lock()
	pending := len(b.mu.unsaved.Finished) > 0
	b.mu.Unlock()
	if err == nil || !pending {
		return nil // A complete export goes straight into the manifest.
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if saveErr := b.saveCheckpoint(ctx); saveErr != nil {
		b.log.WarnContext(ctx, "last checkpoint not written", "err", saveErr)
	}
	return nil
}

// saveCheckpoint writes what was finished since the last one, each locality's
// share into its own store.
func (b *backupRun) saveCheckpoint(ctx context.Context) error {
	b.mu.Lock()
	c := &backuppb.Checkpoint{BackupId: b.d.BackupId, Finished: b.mu.unsaved.Finished, Sequence: b.mu.sequence + 1}
	b.mu.unsaved = backuppb.Checkpoint{}
	b.mu.sequence++
	part := b.mu.doneParts / b.mu.total
	b.mu.Unlock()
	if len(c.Finished) == 0 {
		return nil
	}
	// This node writes to one bucket, so all of the share lies there.
	loc := b.locs[b.locs.BucketFor(b.s.cfg.Locality)]
	if err := manifest.WriteCheckpoint(ctx, loc.Store, b.d.LayerDir, time.Now(), c); err != nil {
		return err
	}
	b.mu.Lock()
	b.mu.savedAt, b.mu.savedPart = time.Now(), part
	b.mu.Unlock()
	b.log.InfoContext(ctx, "checkpointed", "fraction", part, "parts", len(c.Finished))
	return nil
}

func (b *backupRun) showProgress(ctx context.Context) error {
	b.mu.Lock()
	b.mu.shownAt = time.Now()
	part := b.mu.doneParts / b.mu.total
	elapsed := time.Since(b.mu.began).Seconds()
	rate := float64(b.mu.bytes) / max(elapsed, 0.001)
	status := fmt.Sprintf("exporting: %.0f of %.0f pieces, %s written, %s/s",
		b.mu.doneParts, b.mu.total, formatBytes(b.mu.written), formatBytes(int64(rate)))
	if advanced := b.mu.doneParts - b.mu.startedAt; advanced > 0 {
		remaining := time.Duration(elapsed / advanced * (b.mu.total - b.mu.doneParts) * float64(time.Second))
		status += fmt.Sprintf(", about %s left", remaining.Round(time.Second))
	}
	b.mu.Unlock()
	pb, err := proto.Marshal(b.progress())
	if err != nil {
		return err
	}
	return b.job.Update(ctx, func(_ context.Context, _ *kv.Txn, rec *jobs.Record) error {
		rec.Progress.FractionCompleted = max(rec.Progress.FractionCompleted, min(part, 0.99))
		rec.Progress.RunningStatus, rec.Progress.Details = status, pb
		return nil
	})
}

// progress is what the job row keeps.
func (b *backupRun) progress() *backuppb.BackupProgress {
	old := &backuppb.BackupProgress{}
	_ = proto.Unmarshal(b.job.Progress().Details, old) // Only its notices are kept.
	b.mu.Lock()
	defer b.mu.Unlock()
	return &backuppb.BackupProgress{
		SpansTotal: int64(b.mu.total), SpansDone: int64(b.mu.doneParts), BytesWritten: b.mu.written,
		CheckpointSequence: b.mu.sequence, Notices: old.Notices,
	}
}

// layerData is what the data of a complete layer is.
type layerData struct {
	files   []*backuppb.File
	covered [][]keys.Span // by location
	sums    indexSums
}

func (b *backupRun) data() layerData {
	b.mu.Lock()
	defer b.mu.Unlock()
	return layerData{b.mu.files, b.mu.covered, b.mu.read}
}

func (b *backupRun) checkpoints() uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.sequence
}

func formatBytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
