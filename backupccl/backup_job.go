package backupccl

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/protectedts"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// backupResumer runs one BACKUP job: resolve, export, metadata. It may be
// started many times; what an earlier run reached stands in the job's details
// and in the checkpoints beside the layer.
type backupResumer struct {
	s   *Service
	log *slog.Logger
}

// flowRetries is how often an export is tried again without progress.
const flowRetries = 5

// Resume implements jobs.Resumer.
func (r *backupResumer) Resume(ctx context.Context, job *jobs.Job) error {
	return elsewhere(r.run(ctx, job))
}

// elsewhere leaves a job whose storage only another node can open to that node.
func elsewhere(err error) error {
	if errors.Is(err, extstore.ErrOtherNode) {
		return jobs.MarkElsewhere(err)
	}
	return err
}

func (r *backupResumer) run(ctx context.Context, job *jobs.Job) error {
	r.log = job.Log
	d := &backuppb.BackupDetails{}
	if err := proto.Unmarshal(job.Payload().Details, d); err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "decoding details of backup job: %w", err)
	}
	if !bytes.Equal(d.ClusterId, r.s.cfg.ClusterID[:]) {
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
			"cannot resume backup started on another cluster (%x != %x)", d.ClusterId, r.s.cfg.ClusterID)
	}
	col, err := r.s.openCollection(ctx, d.Uris, d.IncrementalUris)
	if err != nil {
		return err
	}
	defer col.close()
	var targets *backupTargets
	if d.Resolved {
		targets, err = r.s.loadTargets(ctx, d)
	} else {
		targets, err = r.resolve(ctx, job, col, d)
	}
	if err != nil {
		return errProtection(err)
	}
	run := &backupRun{s: r.s, job: job, d: d, locs: col.locs, log: r.log, targets: targets}
	if d.InIncrementalStore {
		run.locs = col.inc
	}
	if err := run.export(ctx); err != nil {
		return err
	}
	if err := r.s.hook(ctx, "backup.before.metadata"); err != nil {
		return err
	}
	return run.finish(ctx, col)
}

// errProtection names the cause when what a backup wants to read is gone.
func errProtection(err error) error {
	var gc *kvpb.BatchTimestampBeforeGCError
	if !errors.As(err, &gc) {
		return err
	}
	return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "protected ts verification error: %w", err).
		WithHint("The versions between the previous backup and this one are garbage collected in part. " +
			"Take a full backup, or raise gc.ttlseconds before the next chain.")
}

// claimedPlace is where the layer goes and what it continues.
type claimedPlace struct {
	targets *backupTargets
	prev    *manifest.Layer // nil for a full
	notices []string
}

// claimAttempts bounds how often a backup gives way to another one that has the
// name of its directory, each time for a hundredth of a second.
const claimAttempts = 50

// errOvertaken says that another backup, which ends later, was appended to the
// chain since this one was planned.
var errOvertaken = errors.New("another backup that ends later was appended to the chain")

// movable says whether the backup may end a little later than planned, and so go
// to another directory: neither its time nor that directory was asked for.
func movable(d *backuppb.BackupDetails) bool {
	return !d.AsOf && (d.Subdir == "" || !manifest.Time(d.StartTime).IsEmpty())
}

// claimPlace decides what the layer is and where it goes, and locks the place. A
// directory is named after the backup's end to the hundredth of a second: if
// another backup of the same moment has the name, or a later one has continued
// the chain, the end moves on. What the backup is about is found again then, since
// a layer says what there was at its end. A time or a directory that the user
// asked for stays.
func (r *backupResumer) claimPlace(
	ctx context.Context, jobID int64, col *collection, d *backuppb.BackupDetails, beforeLock func() error,
) (*claimedPlace, error) {
	for attempt := 1; ; attempt++ {
		c, err := r.tryPlace(ctx, jobID, col, d, beforeLock)
		taken := pgerr.GetCode(err) == pgerr.DuplicateFile && movable(d)
		if err == nil || d.AsOf || attempt >= claimAttempts || !taken && !errors.Is(err, errOvertaken) {
			return c, err
		}
		select {
		// Two that give way to each other shall not meet again.
		case <-time.After(10*time.Millisecond + rand.N(20*time.Millisecond)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		d.EndTime = manifest.TimePB(r.s.cfg.DB.Clock().Now())
		if _, _, err := r.s.chooseTargets(ctx, d); err != nil {
			return nil, err
		}
	}
}

func (r *backupResumer) tryPlace(
	ctx context.Context, jobID int64, col *collection, d *backuppb.BackupDetails, beforeLock func() error,
) (*claimedPlace, error) {
	targets, err := r.s.loadTargets(ctx, d)
	if err != nil {
		return nil, errProtection(err)
	}
	prev, notices, err := r.chooseLayer(ctx, col, targets, d)
	if err != nil {
		return nil, err
	}
	if err := beforeLock(); err != nil {
		return nil, err
	}
	dest := col.locs
	if d.InIncrementalStore {
		dest = col.inc
	}
	return &claimedPlace{targets, prev, notices}, manifest.Lock(ctx, dest.Default(), d.LayerDir, jobID, movable(d))
}

// resolve decides where the layer goes and what it covers, claims the place,
// protects what will be read, and records all that with the job.
func (r *backupResumer) resolve(ctx context.Context, job *jobs.Job, col *collection, d *backuppb.BackupDetails) (*backupTargets, error) {
	if err := r.s.hook(ctx, "backup.before.resolve"); err != nil {
		return nil, err
	}
	place, err := r.claimPlace(ctx, int64(job.ID()), col, d, func() error { return job.CheckPausepoint("backup.before.write_lock") })
	if err != nil {
		return nil, err
	}
	if err := job.CheckPausepoint("backup.after.write_lock"); err != nil {
		return nil, err
	}
	targets, prev, notices := place.targets, place.prev, place.notices
	end := manifest.Time(d.EndTime)
	spans := targets.spans()
	if d.RevisionHistory {
		if prev == nil {
			from, err := r.s.revisionStart(ctx, spans)
			if err != nil {
				return nil, err
			}
			d.RevisionStartTime = manifest.TimePB(from)
		} else {
			d.RevisionStartTime = d.StartTime
		}
		revs, err := r.s.descriptorRevisions(ctx, manifest.Time(d.StartTime), end)
		if err != nil {
			return nil, errProtection(err)
		}
		gone, err := historicalSpans(revs, d, spans)
		if err != nil {
			return nil, err
		}
		spans = append(spans, gone...)
		manifest.SortSpans(spans)
	}
	d.Spans = manifest.SpansPB(spans)
	d.IntroducedSpans = manifest.SpansPB(introducedSpans(targets.sch, spans, prev))

	var id, pts [16]byte
	if _, err := crand.Read(id[:]); err != nil {
		return nil, err
	}
	if _, err := crand.Read(pts[:]); err != nil {
		return nil, err
	}
	d.BackupId, d.ProtectedTimestampId, d.Resolved = id[:], pts[:], true
	d.Description = describeBackup(d)
	b, err := proto.Marshal(d)
	if err != nil {
		return nil, err
	}
	progress, err := proto.Marshal(&backuppb.BackupProgress{Notices: notices})
	if err != nil {
		return nil, err
	}
	if err := job.CheckPausepoint("backup.before.write_first_checkpoint"); err != nil {
		return nil, err
	}
	err = job.Update(ctx, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record) error {
		rec.Payload.Details, rec.Payload.Description = b, d.Description
		rec.Progress.Details, rec.Progress.RunningStatus = progress, "exporting"
		return protectedts.Protect(ctx, txn, protectedts.Record{
			ID: pts, Timestamp: protectFrom(d), Target: protectTarget(d, targets),
			MetaType: "jobs", Meta: fmt.Append(nil, job.ID()),
		})
	})
	if err != nil {
		return nil, err
	}
	if err := r.s.hook(ctx, "backup.after.protect"); err != nil {
		return nil, err
	}
	if err := job.CheckPausepoint("backup.after.write_first_checkpoint"); err != nil {
		return nil, err
	}
	return targets, job.CheckPausepoint("backup.after.details_has_checkpoint")
}

// protectFrom is the earliest time whose versions the backup needs.
func protectFrom(d *backuppb.BackupDetails) hlc.Timestamp {
	if start := manifest.Time(d.StartTime); !start.IsEmpty() {
		return start
	}
	if d.RevisionHistory {
		// All history that is still there, even if nothing was collected yet.
		return hlc.Later(manifest.Time(d.RevisionStartTime), hlc.Timestamp{WallTime: 1})
	}
	return manifest.Time(d.EndTime)
}

func protectTarget(d *backuppb.BackupDetails, t *backupTargets) protectedts.Target {
	if d.Targets.Cluster {
		return protectedts.Target{Cluster: true}
	}
	target := protectedts.Target{DatabaseIDs: d.CompleteDbs}
	complete := map[uint32]bool{}
	for _, id := range d.CompleteDbs {
		complete[id] = true
	}
	for _, id := range t.ids {
		if tbl, ok := t.sch.byID[id].(*catalog.Table); ok && !complete[tbl.ParentID()] {
			target.TableIDs = append(target.TableIDs, id)
		}
	}
	if len(target.TableIDs) == 0 && len(target.DatabaseIDs) == 0 {
		// An empty selection reads descriptors only.
		target.TableIDs = []uint32{systables.Descriptor.ID}
	}
	return target
}

// revisionStart returns from when on all revisions of spans, of descriptors and of
// comments are still there.
func (s *Service) revisionStart(ctx context.Context, spans []keys.Span) (hlc.Timestamp, error) {
	from, err := s.cfg.DB.GCThreshold(ctx, systables.Descriptor.Span())
	if err != nil {
		return hlc.Timestamp{}, err
	}
	for _, sp := range append([]keys.Span{systables.Comments.Span()}, spans...) {
		t, err := s.cfg.DB.GCThreshold(ctx, sp)
		if err != nil {
			return hlc.Timestamp{}, err
		}
		from.Forward(t)
	}
	return from, nil
}

// chooseLayer decides whether the backup is full or incremental and names its
// directory. It returns the layer that an incremental continues.
func (r *backupResumer) chooseLayer(
	ctx context.Context, col *collection, targets *backupTargets, d *backuppb.BackupDetails,
) (prev *manifest.Layer, notices []string, err error) {
	store := col.locs.Default()
	end := manifest.Time(d.EndTime)
	if !d.Latest && d.Subdir == "" {
		subdir := manifest.Subdir(end)
		if exists, err := manifest.FullExists(ctx, store, subdir); err != nil {
			return nil, nil, err
		} else if exists {
			return nil, nil, pgerr.Newf(pgerr.DuplicateFile,
				"A full backup already exists in %s. Consider running an incremental backup to this full backup via `BACKUP INTO '%s' IN '%s'`",
				store, subdir, store)
		}
		if _, err := manifest.ReadLatest(ctx, store); err == nil {
			notices = append(notices, "a new full backup was taken; use INTO LATEST IN to append")
		} else if !errors.Is(err, extstore.ErrNotExist) && pgerr.GetCode(err) != pgerr.UndefinedFile {
			return nil, nil, err
		}
		d.ResolvedSubdir, d.LayerDir = subdir, manifest.FullDir(subdir)
		return nil, notices, nil
	}
	subdir, err := manifest.ResolveSubdir(ctx, store, d.Subdir, d.Latest)
	if err != nil {
		return nil, nil, err
	}
	d.ResolvedSubdir = subdir
	exists, err := manifest.FullExists(ctx, store, subdir)
	if err != nil {
		return nil, nil, err
	}
	if !exists {
		if d.AllowFullWithSubdir && !d.Latest {
			d.LayerDir = manifest.FullDir(subdir)
			return nil, nil, nil
		}
		if d.Latest {
			return nil, nil, pgerr.Newf(pgerr.UndefinedFile,
				"the LATEST file in %s points to %s, which holds no complete backup", store, subdir).
				WithHint("Take a full backup with BACKUP INTO, or name another subdirectory that SHOW BACKUPS IN lists.")
		}
		return nil, nil, pgerr.Newf(pgerr.UndefinedFile,
			"No full backup exists in %q to append an incremental backup to. To take a full backup, remove the subdirectory "+
				"from the backup command (i.e. run 'BACKUP ... INTO <collectionURI>').", subdir)
	}
	chain, err := manifest.LoadChain(ctx, col.locs, col.inc, subdir)
	if err != nil {
		return nil, nil, fmt.Errorf("reading previous backup layers: %w", err)
	}
	layers, err := chain.Latest()
	if err != nil {
		return nil, nil, fmt.Errorf("adjusting backup destination to append new layer to existing backup: %w", err)
	}
	prev = layers[len(layers)-1]
	if err := r.checkAppend(ctx, prev, col.locs, targets, d); err != nil {
		return nil, nil, err
	}
	d.StartTime = manifest.TimePB(prev.End())
	d.PreviousId, d.PreviousDir, d.PreviousInIncrementalStore = prev.Manifest.Id, prev.Dir, col.inc != nil && !prev.IsFull()
	d.IncrementalRoot = chain.IncrementalRoot
	d.LayerDir = manifest.IncrementalDir(chain.IncrementalRoot, prev.End(), end)
	d.InIncrementalStore = col.inc != nil
	return prev, nil, nil
}

// checkAppend says whether the backup may continue prev.
func (r *backupResumer) checkAppend(
	ctx context.Context, prev *manifest.Layer, locs manifest.Locations, targets *backupTargets, d *backuppb.BackupDetails,
) error {
	m := prev.Manifest
	if !bytes.Equal(m.ClusterId, r.s.cfg.ClusterID[:]) {
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "previous BACKUP belongs to cluster %s", manifest.FormatID(m.ClusterId)).
			WithHint("Take a full backup of this cluster into another collection.")
	}
	if d.Targets.Cluster && !prev.IsCluster() {
		// Its system tables are in no backup of databases.
		return pgerr.Newf(pgerr.InvalidParameterValue, "previous backup does not contain the complete database %q", catalog.SystemDatabaseName).
			WithHint("Take a full backup of the cluster with BACKUP INTO.")
	}
	if prev.IsCluster() && !d.Targets.Cluster {
		return pgerr.New(pgerr.InvalidParameterValue,
			"cannot append a backup of specific tables or databases to a cluster backup")
	}
	if end := manifest.Time(d.EndTime); end.LessEq(prev.End()) {
		if !d.AsOf {
			return errOvertaken
		}
		return pgerr.Newf(pgerr.InvalidParameterValue,
			"`AS OF SYSTEM TIME` %s must be greater than the previous backup's end time of %s.",
			end.AsOfSystemTime(), prev.End().AsOfSystemTime())
	}
	if have, want := prev.Localities(), locs.Localities(); fmt.Sprint(have) != fmt.Sprint(want) {
		return pgerr.Newf(pgerr.InvalidParameterValue,
			"Requested backup has localities %s, but a previous backup layer in this collection has localities %s. "+
				"Mismatched backup layers are not supported. Please take a new full backup with the new localities, "+
				"or an incremental backup with matching localities.", want, have)
	}
	if prev.IsCluster() {
		return nil
	}
	complete := map[uint32]bool{}
	for _, id := range m.CompleteDbs {
		complete[id] = true
	}
	for _, id := range d.CompleteDbs {
		if !complete[id] {
			return pgerr.Newf(pgerr.InvalidParameterValue,
				"previous backup does not contain the complete database %q", targets.sch.byID[id].Name())
		}
	}
	known := map[uint32]bool{}
	if err := prev.Descriptors(ctx, func(e *backuppb.DescriptorEntry) error {
		known[e.Id] = true
		return nil
	}); err != nil {
		return err
	}
	for _, id := range targets.ids {
		if tbl, ok := targets.sch.byID[id].(*catalog.Table); ok && !known[id] && !complete[tbl.ParentID()] {
			return pgerr.Newf(pgerr.InvalidParameterValue, "previous backup does not contain table %q", tbl.Name())
		}
	}
	return nil
}

// finish writes the metadata of a layer whose data is complete, then the
// pointer, and gives up protection and checkpoints. Repeating it is harmless.
func (b *backupRun) finish(ctx context.Context, col *collection) error {
	d := b.d
	if b.written == nil {
		if err := b.writeManifest(ctx, col); err != nil {
			return err
		}
	}
	if err := b.s.hook(ctx, "backup.after.manifest"); err != nil {
		return err
	}
	if manifest.Time(d.StartTime).IsEmpty() {
		if err := manifest.WriteLatest(ctx, col.locs.Default(), d.ResolvedSubdir, manifest.Time(d.EndTime).Time()); err != nil {
			return fmt.Errorf("writing LATEST: %w", err)
		}
	}
	if err := b.s.hook(ctx, "backup.after.latest"); err != nil {
		return err
	}
	if b.checkpoints() > 0 {
		for _, loc := range b.locs {
			if err := manifest.DeleteCheckpoints(ctx, loc.Store, d.LayerDir); err != nil {
				// The layer is complete; a write-once bucket keeps them, harmlessly.
				b.log.InfoContext(ctx, "checkpoints stay behind", "err", err)
			}
		}
	}
	if d.UpdatesClusterMonitoringMetrics {
		b.s.lastCompleted.SetToCurrentTime()
	}
	progress := b.progress()
	progress.Counts = b.written.EntryCounts
	pb, err := proto.Marshal(progress)
	if err != nil {
		return err
	}
	return b.job.Update(ctx, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record) error {
		rec.Progress.Details, rec.Progress.FractionCompleted, rec.Progress.RunningStatus = pb, 1, ""
		return releaseProtection(ctx, txn, d.ProtectedTimestampId)
	})
}

// writeManifest completes the layer: after it, the layer exists.
func (b *backupRun) writeManifest(ctx context.Context, col *collection) error {
	d := b.d
	var revs []revision
	if d.RevisionHistory {
		var err error
		if revs, err = b.s.descriptorRevisions(ctx, manifest.Time(d.StartTime), manifest.Time(d.EndTime)); err != nil {
			return errProtection(err)
		}
	}
	prev, err := b.previousLayer(ctx, col)
	if err != nil {
		return err
	}
	data := b.data()
	views, err := mergedViews(ctx, b.targets, manifest.Spans(d.IntroducedSpans), data.sums, prev)
	if err != nil {
		return err
	}
	entries := b.s.descriptorEntries(b.targets, d, revs, data, views)
	if !d.Targets.Cluster {
		if entries, err = b.s.withComments(ctx, entries, d, revs); err != nil {
			return errProtection(err)
		}
	}
	h := &backuppb.Manifest{
		StartTime: d.StartTime, EndTime: d.EndTime, Spans: d.Spans, IntroducedSpans: d.IntroducedSpans,
		ClusterId: d.ClusterId, NodeId: b.s.cfg.NodeID, BuildInfo: &backuppb.BuildInfo{Tag: b.s.cfg.Version},
		CompleteDbs: d.CompleteDbs, RevisionStartTime: d.RevisionStartTime, Id: d.BackupId, PreviousId: d.PreviousId,
		JobId: int64(b.job.ID()), Targets: d.TargetsSql,
		HasComments: !d.Targets.Cluster,
	}
	if d.RevisionHistory {
		h.MvccFilter = backuppb.Manifest_ALL
		// What a layer holds from the beginning of time has history as far back as
		// it was not collected: all of a full, and the introduced spans of an
		// incremental, whose export no threshold refused. A collection that was
		// under way when the record came may have raised the threshold since. What
		// it is now was safe during all of the export.
		whole := d.IntroducedSpans
		if manifest.Time(d.StartTime).IsEmpty() {
			whole = d.Spans
		}
		if len(whole) > 0 {
			from, err := b.s.revisionStart(ctx, manifest.Spans(whole))
			if err != nil {
				return err
			}
			h.RevisionStartTime = manifest.TimePB(hlc.Later(from, manifest.Time(d.RevisionStartTime)))
		}
	}
	if d.Targets.Cluster {
		h.DescriptorCoverage = backuppb.Manifest_ALL_DESCRIPTORS
	}
	stats, err := b.s.backedUpStatistics(ctx, b.targets, manifest.Time(d.EndTime))
	if err != nil {
		return errProtection(err)
	}
	draft := manifest.Draft{Header: h, Files: data.files, Covered: data.covered, Descriptors: entries, Statistics: stats}
	if fn := b.s.cfg.Testing.EditDraft; fn != nil {
		fn(&draft)
	}
	b.written, err = manifest.Write(ctx, b.locs, d.LayerDir, draft)
	return err
}

// previousLayer opens the layer that an incremental continues; nil for a full.
func (b *backupRun) previousLayer(ctx context.Context, col *collection) (*manifest.Layer, error) {
	if manifest.Time(b.d.StartTime).IsEmpty() || b.d.PreviousDir == "" {
		return nil, nil
	}
	locs := col.locs
	if b.d.PreviousInIncrementalStore {
		locs = col.inc
	}
	l, err := manifest.Open(ctx, locs, b.d.PreviousDir)
	if err == nil && !bytes.Equal(l.Manifest.Id, b.d.PreviousId) {
		err = pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "the previous layer in %s is another one than when the backup began", b.d.PreviousDir)
	}
	return l, err
}

func releaseProtection(ctx context.Context, txn *kv.Txn, id []byte) error {
	if len(id) != 16 {
		return nil
	}
	err := protectedts.Release(ctx, txn, [16]byte(id))
	if errors.Is(err, protectedts.ErrNotFound) {
		return nil
	}
	return err
}

// OnFailOrCancel implements jobs.Resumer: it gives up the protected timestamp
// and removes checkpoints. Data files and the lock stay behind without a
// manifest, invisible, so that nothing is ever deleted that another backup
// might have written.
func (r *backupResumer) OnFailOrCancel(ctx context.Context, job *jobs.Job, _ error) error {
	d := &backuppb.BackupDetails{}
	if err := proto.Unmarshal(job.Payload().Details, d); err != nil {
		return jobs.MarkPermanent(pgerr.Newf(pgerr.DataCorrupted, "decoding details of backup job: %w", err))
	}
	if err := r.s.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		return releaseProtection(ctx, txn, d.ProtectedTimestampId)
	}); err != nil {
		return err
	}
	if !d.Resolved {
		return nil
	}
	// The bucket may be the reason for the failure: it gets one short chance.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	col, err := r.s.openCollection(ctx, d.Uris, d.IncrementalUris)
	if err != nil {
		job.Log.WarnContext(ctx, "checkpoints stay behind", "err", err)
		return nil
	}
	defer col.close()
	locs := col.locs
	if d.InIncrementalStore {
		locs = col.inc
	}
	for _, loc := range locs {
		if err := manifest.DeleteCheckpoints(ctx, loc.Store, d.LayerDir); err != nil {
			job.Log.WarnContext(ctx, "checkpoints stay behind", "err", err)
		}
	}
	return nil
}
