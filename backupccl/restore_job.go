package backupccl

import (
	"context"
	"fmt"
	"log/slog"
	"sort"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// restoreResumer runs one RESTORE job:
//
//	plan ─► descriptors offline ─► data, piece by piece ─► publish, with system tables
//
// Each arrow is one transaction or a checkpoint, recorded in the job's details
// or progress, so a run that dies is continued where it stood. Before publishing
// everything can be undone; after it nothing is left that could fail.
type restoreResumer struct {
	s   *Service
	log *slog.Logger
}

// Resume implements jobs.Resumer.
func (r *restoreResumer) Resume(ctx context.Context, job *jobs.Job) error {
	return r.pauseInstead(job, elsewhere(r.resume(ctx, job)))
}

func (r *restoreResumer) resume(ctx context.Context, job *jobs.Job) error {
	r.log = job.Log
	d := &backuppb.RestoreDetails{}
	if err := proto.Unmarshal(job.Payload().Details, d); err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "decoding details of restore job: %w", err)
	}
	if d.Published && (d.SystemTablesDone || !d.Targets.Cluster) {
		return r.published(ctx, job, d)
	}
	col, err := r.s.openCollection(ctx, d.Uris, d.IncrementalUris)
	if err != nil {
		return err
	}
	defer col.close()
	if err := job.CheckPausepoint("restore.before_load_descriptors_from_backup"); err != nil {
		return err
	}
	src, err := r.s.loadSource(ctx, col, d)
	if err != nil {
		return err
	}
	if d.Targets.SystemUsers {
		return r.restoreSystemUsers(ctx, job, src, d)
	}
	if !d.DescriptorsWritten {
		if err := r.prepare(ctx, job, src, d); err != nil {
			return err
		}
	}
	if !d.Published {
		if err := r.s.hook(ctx, "restore.after.descriptors"); err != nil {
			return err
		}
		if err := job.CheckPausepoint("restore.after_pre_data"); err != nil {
			return err
		}
		if err := job.CheckPausepoint("restore.before_flow"); err != nil {
			return err
		}
		if err := r.restoreDataPatiently(ctx, job, src, d); err != nil {
			return err
		}
		if err := r.s.hook(ctx, "restore.before.publish"); err != nil {
			return err
		}
	}
	// A job that an older version published may lack the system tables.
	if err := r.publish(ctx, job, src, d); err != nil {
		return err
	}
	return r.published(ctx, job, d)
}

// published ends the job once everything is visible.
func (r *restoreResumer) published(ctx context.Context, job *jobs.Job, d *backuppb.RestoreDetails) error {
	if err := r.s.hook(ctx, "restore.after.publish"); err != nil {
		return err
	}
	if err := job.CheckPausepoint("restore.after_publishing_descriptors"); err != nil {
		return err
	}
	if !d.Targets.Cluster {
		return nil
	}
	r.systemTablesRestored(ctx)
	return job.CheckPausepoint("restore.after_cleanup_temp_system_tables")
}

// prepare checks the restore against this cluster, decides all ids, and makes
// the descriptors, offline: one transaction.
func (r *restoreResumer) prepare(ctx context.Context, job *jobs.Job, src *restoreSource, d *backuppb.RestoreDetails) error {
	sel, err := src.selectTargets(d)
	if err != nil {
		return err
	}
	want := map[uint32]bool{}
	if len(sel.dbs) > 0 {
		for _, id := range src.sch.closure(sel) {
			want[id] = true
		}
	}
	for _, t := range sel.tables {
		want[t.ID()] = true
	}
	// Temporary objects were taken off the selection, not out of its closure.
	for id := range want {
		if t, ok := src.sch.byID[id].(*catalog.Table); ok && t.Proto().Temporary {
			delete(want, id)
		}
	}
	if err := checkDependencies(d, src.sch, sel, want); err != nil {
		return err
	}
	if err := r.checkRegions(src, sel, d); err != nil {
		return err
	}
	return r.createOffline(ctx, job, src, sel, d)
}

func (r *restoreResumer) checkRegions(src *restoreSource, sel *selection, d *backuppb.RestoreDetails) error {
	if d.RemoveRegions {
		for _, t := range sel.tables {
			if t.Proto().GetLocalityConfig().GetRegionalByRow() != nil {
				return pgerr.Newf(pgerr.InvalidParameterValue,
					"cannot perform a remove_regions RESTORE with region by row enabled table %s in BACKUP target", t.Name())
			}
		}
		return nil
	}
	if d.SkipLocalitiesCheck {
		return nil
	}
	here := map[string]bool{}
	for _, tier := range strings.Split(r.s.cfg.Locality, ",") {
		if k, v, ok := strings.Cut(tier, "="); ok && k == "region" {
			here[v] = true
		}
	}
	var missing []string
	for _, db := range sel.dbs {
		rc := db.Proto().GetRegionConfig()
		if rc.GetPrimaryRegion() == "" {
			continue
		}
		if enum, ok := src.sch.byID[rc.RegionEnumId].(*catalog.Type); ok {
			for _, m := range enum.Proto().EnumMembers {
				if !here[m.LogicalRepresentation] {
					missing = append(missing, m.LogicalRepresentation)
				}
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
		"detected a mismatch in regions between the restore cluster and the backup cluster, missing regions detected: %s.",
		strings.Join(missing, ", ")).
		WithHint("there are two ways you can resolve this issue: 1) update the cluster to which you're restoring to ensure that " +
			"the regions present on the nodes' --locality flags match those present in the backup image, or 2) restore with the " +
			"\"skip_localities_check\" option")
}

// createOffline allocates ids and writes the new descriptors in one transaction
// with the job's details.
func (r *restoreResumer) createOffline(
	ctx context.Context, job *jobs.Job, src *restoreSource, sel *selection, d *backuppb.RestoreDetails,
) error {
	ids := newIDs{db: r.s.cfg.DB}
	base := proto.CloneOf(d)
	var dropped []string
	progress := &backuppb.RestoreProgress{}
	if err := proto.Unmarshal(job.Progress().Details, progress); err != nil {
		return pgerr.Newf(pgerr.DataCorrupted, "decoding progress of restore job: %w", err)
	}
	err := r.changeCatalog(ctx, job, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record, cat *catalog.Collection) error {
		proto.Reset(d)
		proto.Merge(d, base)
		p := &restorePlacer{d: d, src: src, sel: sel, cat: cat, txn: txn, ids: &ids}
		if err := p.place(ctx); err != nil {
			return err
		}
		rw := newRewriter(d, src.sch)
		msgs, err := rw.descriptors()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			desc, err := cat.Create(ctx, m)
			if err != nil {
				return err
			}
			d.RestoredIds = append(d.RestoredIds, desc.ID())
		}
		dropped = append(append([]string(nil), sel.skipped...), rw.dropped...)
		if !src.last.IsCluster() && !src.last.Manifest.HasComments {
			dropped = append(dropped, "comments, which this backup was made without by an earlier version")
		}
		progress.Notices = nil
		for _, what := range dropped {
			progress.Notices = append(progress.Notices, "not restored: "+what)
		}
		if rec.Progress.Details, err = proto.Marshal(progress); err != nil {
			return err
		}
		d.DescriptorsWritten = true
		d.Description = describeRestore(d)
		b, err := proto.Marshal(d)
		if err != nil {
			return err
		}
		rec.Payload.Details, rec.Payload.Description = b, d.Description
		rec.Payload.DescriptorIds = d.RestoredIds[:min(len(d.RestoredIds), maxJobDescriptorIDs)]
		rec.Progress.RunningStatus = "restoring data"
		return nil
	})
	if err != nil {
		return err
	}
	for _, what := range dropped {
		r.log.InfoContext(ctx, "left out of the restore", "what", what)
	}
	r.log.InfoContext(ctx, "descriptors created offline", "count", len(d.RestoredIds))
	return nil
}

// changeCatalog is an update of the job with a collection of descriptors. What the
// collection uses is given up after each attempt, whatever became of it: kept, it
// would be in the way of every later change to these objects.
func (r *restoreResumer) changeCatalog(
	ctx context.Context, job *jobs.Job, fn func(context.Context, *kv.Txn, *jobs.Record, *catalog.Collection) error,
) error {
	release := func() {}
	defer func() { release() }()
	return job.Update(ctx, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record) error {
		release()
		cat := r.s.cfg.Catalog.NewCollection(txn)
		release = cat.Release
		return fn(ctx, txn, rec, cat)
	})
}

// newIDs hands out descriptor ids and keeps them over retries of a transaction.
type newIDs struct {
	db    *kv.DB
	byOld map[uint32]uint32
	kept  bool // ids of the backup are used as they are; survives retries
}

// take returns a new id for each of olds, in their order.
func (n *newIDs) take(ctx context.Context, olds []uint32) error {
	if n.byOld == nil {
		n.byOld = map[uint32]uint32{}
	}
	var missing []uint32
	for _, id := range olds {
		if _, ok := n.byOld[id]; !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	first, err := catalog.AllocateIDRange(ctx, n.db, len(missing))
	if err != nil {
		return fmt.Errorf("allocating descriptor ids: %w", err)
	}
	for i, id := range missing {
		n.byOld[id] = first + uint32(i)
	}
	return nil
}

// publish makes everything visible in one transaction: descriptors with their
// comments, statistics and, of a cluster, its system tables.
func (r *restoreResumer) publish(ctx context.Context, job *jobs.Job, src *restoreSource, d *backuppb.RestoreDetails) error {
	var system []systemRows
	var stats, comments []systables.Row
	var err error
	if d.Targets.Cluster {
		if system, err = r.readSystemTables(ctx, src, d); err != nil {
			return err
		}
	} else if !d.Published {
		if comments, err = restoredComments(ctx, src, d); err != nil {
			return err
		}
	}
	if !d.SchemaOnly && !d.Published {
		if stats, err = restoredStatistics(ctx, src, d, r.s.cfg.DB.Clock().Now().WallTime); err != nil {
			return err
		}
	}
	done := proto.CloneOf(d)
	done.Published, done.SystemTablesDone = true, d.Targets.Cluster
	b, err := proto.Marshal(done)
	if err != nil {
		return err
	}
	err = r.changeCatalog(ctx, job, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record, cat *catalog.Collection) error {
		if rec.State != jobs.Running {
			// Somebody asked for a pause or a cancel just now; it comes first.
			return jobs.MarkRetryable(fmt.Errorf("the job is %s", rec.State))
		}
		if !d.Published {
			if err := r.putOnline(ctx, cat, txn, d); err != nil {
				return err
			}
		}
		if err := insertRows(ctx, txn, systables.TableStatistics, stats); err != nil {
			return fmt.Errorf("restoring statistics: %w", err)
		}
		if err := insertRows(ctx, txn, systables.Comments, comments); err != nil {
			return fmt.Errorf("restoring comments: %w", err)
		}
		if err := r.writeSystemTables(ctx, txn, system); err != nil {
			return err
		}
		rec.Payload.Details = b
		rec.Progress.FractionCompleted, rec.Progress.RunningStatus = 1, ""
		return nil
	})
	if err != nil {
		return fmt.Errorf("publishing restored descriptors: %w", err)
	}
	proto.Reset(d)
	proto.Merge(d, done)
	r.log.InfoContext(ctx, "published", "descriptors", len(d.RestoredIds))
	return nil
}

// putOnline changes all restored descriptors to public, and the existing ones
// that they now belong to.
func (r *restoreResumer) putOnline(ctx context.Context, cat *catalog.Collection, txn *kv.Txn, d *backuppb.RestoreDetails) error {
	restored := map[uint32]bool{}
	for _, id := range d.RestoredIds {
		restored[id] = true
	}
	newSchemas := map[uint32]map[string]uint32{} // of databases that existed
	typeUsers := map[uint32][]uint32{}           // of types that existed
	existingType := map[uint32]bool{}
	for _, rw := range d.Rewrites {
		if rw.ToExisting {
			existingType[rw.NewId] = true
		}
	}
	for _, id := range d.RestoredIds {
		desc, err := cat.ByID(ctx, id)
		if err != nil {
			return err
		}
		if desc == nil || desc.State() != catalogpb.State_OFFLINE || desc.OfflineReason() != restoringReason {
			return fmt.Errorf("descriptor %d is not as the restore left it", id)
		}
		m := proto.CloneOf(desc.Message())
		switch u := m.Union.(type) {
		case *catalogpb.Descriptor_Database:
			u.Database.State, u.Database.OfflineReason = catalogpb.State_PUBLIC, ""
		case *catalogpb.Descriptor_Schema:
			u.Schema.State, u.Schema.OfflineReason = catalogpb.State_PUBLIC, ""
			if !restored[u.Schema.ParentId] {
				if newSchemas[u.Schema.ParentId] == nil {
					newSchemas[u.Schema.ParentId] = map[string]uint32{}
				}
				newSchemas[u.Schema.ParentId][u.Schema.Name] = id
			}
		case *catalogpb.Descriptor_Type:
			u.Type.State, u.Type.OfflineReason = catalogpb.State_PUBLIC, ""
		case *catalogpb.Descriptor_Table:
			u.Table.State, u.Table.OfflineReason = catalogpb.State_PUBLIC, ""
			u.Table.OnlineSince = catalog.TimestampPB(txn.ReadTimestamp())
			tbl := desc.(*catalog.Table)
			for _, o := range tbl.EnumOIDs() {
				if tid := o - catalog.UserTypeOIDBase; existingType[tid] {
					typeUsers[tid] = append(typeUsers[tid], id)
				}
			}
		}
		if _, err := cat.Write(ctx, m); err != nil {
			return err
		}
	}
	for db, names := range newSchemas {
		pb, err := cat.MutableDatabase(ctx, db)
		if err != nil {
			return err
		}
		if pb.Schemas == nil {
			pb.Schemas = map[string]*catalogpb.DatabaseDescriptor_SchemaInfo{}
		}
		for name, id := range names {
			pb.Schemas[name] = &catalogpb.DatabaseDescriptor_SchemaInfo{Id: id}
		}
		if _, err := cat.Write(ctx, pb); err != nil {
			return err
		}
	}
	for tid, users := range typeUsers {
		pb, err := cat.MutableType(ctx, tid)
		if err != nil {
			return err
		}
		pb.ReferencingDescriptorIds = append(pb.ReferencingDescriptorIds, users...)
		if _, err := cat.Write(ctx, pb); err != nil {
			return err
		}
	}
	return nil
}

// OnFailOrCancel implements jobs.Resumer: it removes every descriptor and all
// data that the job made, and nothing else. What was published stays: users have
// it.
func (r *restoreResumer) OnFailOrCancel(ctx context.Context, job *jobs.Job, _ error) error {
	d := &backuppb.RestoreDetails{}
	if err := proto.Unmarshal(job.Payload().Details, d); err != nil {
		return jobs.MarkPermanent(pgerr.Newf(pgerr.DataCorrupted, "decoding details of restore job: %w", err))
	}
	if !d.DescriptorsWritten || d.Published {
		return nil // Nothing was made, or all of it was.
	}
	// Data first: while the descriptors are there, a second attempt finds it.
	for _, rw := range d.Rewrites {
		if rw.ToExisting || rw.NewId < catalog.FirstUserID {
			continue
		}
		if err := r.s.cfg.DB.ClearRange(ctx, keys.TableSpan(rw.NewId)); err != nil {
			return fmt.Errorf("removing restored data of table %d: %w", rw.NewId, err)
		}
	}
	if err := r.s.hook(ctx, "restore.undo.after.data"); err != nil {
		return err
	}
	err := r.changeCatalog(ctx, job, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record, cat *catalog.Collection) error {
		for _, id := range d.RestoredIds {
			desc, err := cat.ByID(ctx, id)
			if err != nil {
				return err
			}
			if desc == nil {
				continue
			}
			if desc.State() == catalogpb.State_PUBLIC {
				continue
			}
			if err := cat.RemoveName(ctx, desc.ParentID(), desc.ParentSchemaID(), desc.Name()); err != nil {
				return err
			}
			if err := cat.Delete(ctx, id); err != nil {
				return err
			}
		}
		if d.DroppedDefaultDatabases {
			if err := createDefaultDatabases(ctx, cat, txn); err != nil {
				return err
			}
		}
		undone := proto.CloneOf(d)
		undone.DescriptorsWritten, undone.RestoredIds, undone.Published = false, nil, false
		b, err := proto.Marshal(undone)
		if err != nil {
			return err
		}
		rec.Payload.Details = b
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing restored descriptors: %w", err)
	}
	r.log = job.Log
	r.log.InfoContext(ctx, "restore undone", "descriptors", len(d.RestoredIds))
	return nil
}

// createDefaultDatabases gives a cluster its empty defaultdb and postgres back.
func createDefaultDatabases(ctx context.Context, cat *catalog.Collection, txn *kv.Txn) error {
	for _, def := range []struct {
		name       string
		id, public uint32
	}{
		{catalog.DefaultDatabaseName, catalog.DefaultDBID, catalog.DefaultDBPublicID},
		{catalog.PostgresDatabaseName, catalog.PostgresDBID, catalog.PostgresPublicID},
	} {
		if id, err := storedName(ctx, txn, 0, 0, def.name); err != nil {
			return err
		} else if id != 0 {
			if d, err := cat.ByID(ctx, id); err != nil || d != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		db, public := catalog.NewDatabaseDescriptors(def.name, def.id, def.public, catalog.RootUser)
		if _, err := cat.Create(ctx, db); err != nil {
			return err
		}
		if _, err := cat.Create(ctx, public); err != nil {
			return err
		}
	}
	return nil
}

// storedName returns the id that a name stands for, read in txn itself and not
// from a cache, so that a concurrent change of the name is a conflict.
func storedName(ctx context.Context, txn *kv.Txn, parent, schemaID uint32, name string) (uint32, error) {
	key, err := systables.Namespace.Key(int64(parent), int64(schemaID), name)
	if err != nil {
		return 0, err
	}
	got, err := txn.Get(ctx, key)
	if err != nil || len(got.Value) == 0 {
		return 0, err
	}
	row, err := systables.Namespace.Decode(key, got.Value)
	if err != nil {
		return 0, err
	}
	id, _ := row[3].(int64)
	return uint32(id), nil
}
