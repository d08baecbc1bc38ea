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

	mu struct {
		sync.Mutex
		files     []*backuppb.File
		done      []keys.Span
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
	written, err := b.alreadyWritten(ctx)
	if err != nil || written {
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
	// Trust nothing: what was asked for must be what is finished.
	b.mu.Lock()
	defer b.mu.Unlock()
	if left := subtract(manifest.Spans(b.d.Spans), b.mu.done); len(left) > 0 {
		return fmt.Errorf("export ended with %d spans unfinished, the first in %s", len(left), pieceName(left[0]))
	}
	return nil
}

// alreadyWritten says whether an earlier run got as far as the manifest.
func (b *backupRun) alreadyWritten(ctx context.Context) (bool, error) {
	exists, err := manifest.Exists(ctx, b.locs.Default(), b.d.LayerDir)
	if err != nil || !exists {
		return false, err
	}
	l, err := manifest.Open(ctx, b.locs, b.d.LayerDir)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(l.Manifest.Id, b.d.BackupId) {
		return false, manifest.ErrManifestExists(b.d.LayerDir)
	}
	err = l.Files(ctx, func(f *manifest.DataFile) error {
		b.mu.files = append(b.mu.files, f.File)
		return nil
	})
	return true, err
}

func (b *backupRun) loadCheckpoints(ctx context.Context) error {
	for _, loc := range b.locs {
		c, damaged, err := manifest.ReadCheckpoints(ctx, loc.Store, b.d.LayerDir, b.d.BackupId)
		if err != nil {
			return err
		}
		for _, err := range damaged {
			b.log.WarnContext(ctx, "checkpoint passed over; its work is done again", "err", err)
		}
		b.mu.files = append(b.mu.files, c.Files...)
		b.mu.done = append(b.mu.done, manifest.Spans(c.Done)...)
		b.mu.sequence = max(b.mu.sequence, c.Sequence)
		for _, f := range c.Files {
			b.mu.written += int64(f.BackingFileSize)
		}
	}
	return nil
}

// exportOnce exports what is left with the processors there are.
func (b *backupRun) exportOnce(ctx context.Context) error {
	pieces, err := b.plan(ctx)
	if err != nil {
		return err
	}
	p := &processor{
		s: b.s, d: b.d, locs: b.locs, bucket: b.locs.BucketFor(b.s.cfg.Locality),
		pageBytes: min(maxPageBytes, b.s.cfg.Settings.fileSize.Get()),
		isPrimary: b.isPrimary, report: b.report,
	}
	if n := b.s.cfg.Testing.PageBytes; n > 0 {
		p.pageBytes = n
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
		rest := subtract(parts, b.mu.done)
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
	b.mu.files = append(b.mu.files, o.files...)
	b.mu.done = mergeSpans(b.mu.done, o.spans)
	b.mu.unsaved.Files = append(b.mu.unsaved.Files, o.files...)
	b.mu.unsaved.Done = append(b.mu.unsaved.Done, manifest.SpansPB(o.spans)...)
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
	for _, left := range subtract(b.mu.parts, b.mu.done) {
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
	pending := len(b.mu.unsaved.Done) > 0
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
	c := &backuppb.Checkpoint{BackupId: b.d.BackupId, Files: b.mu.unsaved.Files, Done: b.mu.unsaved.Done, Sequence: b.mu.sequence + 1}
	b.mu.unsaved = backuppb.Checkpoint{}
	b.mu.sequence++
	part := b.mu.doneParts / b.mu.total
	b.mu.Unlock()
	if len(c.Done) == 0 {
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
	b.log.InfoContext(ctx, "checkpointed", "fraction", part, "files", len(c.Files))
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

func (b *backupRun) allFiles() []*backuppb.File {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.files
}

func (b *backupRun) checkpoints() uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.sequence
}

// mergeSpans adds more to spans and joins neighbours.
func mergeSpans(spans, more []keys.Span) []keys.Span {
	all := append(spans, more...)
	if len(all) < 2 {
		return all
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Key.Less(all[j].Key) })
	out := all[:1]
	for _, sp := range all[1:] {
		last := &out[len(out)-1]
		if last.End().Less(sp.Key) {
			out = append(out, sp)
			continue
		}
		if last.End().Less(sp.End()) {
			last.EndKey = sp.End()
		}
	}
	return out
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
