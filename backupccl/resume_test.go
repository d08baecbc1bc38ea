package backupccl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/extstore/fault"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// TestOverlappingCheckpoints: a coordinator that lost its claim goes on for a
// while, so the checkpoints of a backup may have the same spans in other files,
// cut otherwise, or whole again under another name. The successor takes each
// once, does the rest again, and the layer is right.
func TestOverlappingCheckpoints(t *testing.T) {
	var pauseNext atomic.Bool
	hook := func(_ context.Context, place string) error {
		if place == "backup.after.checkpoint" && pauseNext.CompareAndSwap(true, false) {
			return extstore.Permanent(jobs.PauseSelf("test"))
		}
		return nil
	}
	n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000, Hook: hook}})
	n.svc.cfg.Workers = 1
	pauseNext.Store(true)
	if _, err := n.run(backupInto(databases("d"))); err == nil {
		t.Fatal("the backup did not pause")
	}
	rec := n.waitState(jobs.TypeBackup, jobs.Paused)
	d := &backuppb.BackupDetails{}
	if err := proto.Unmarshal(rec.Payload.Details, d); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	mem := n.places.mem("/c")
	c, _, err := manifest.ReadCheckpoints(ctx, mem, d.LayerDir, d.BackupId)
	if err != nil || len(c.Finished) == 0 {
		t.Fatalf("checkpoints: %v, %v", c, err)
	}
	// The other coordinator: each file again under another name, then all that is
	// done in one piece, with a file that is nothing.
	twin := &backuppb.Checkpoint{BackupId: d.BackupId, Sequence: 9}
	var all []keys.Span
	for i, f := range c.Finished {
		f = proto.CloneOf(f)
		for _, file := range f.Files {
			b, err := extstore.ReadAll(ctx, mem, d.LayerDir+"/"+file.Path, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			file.Path = manifest.DataName(fmt.Sprint("twin", i))
			if err := manifest.WriteDataFile(ctx, mem, d.LayerDir, file.Path, b); err != nil {
				t.Fatal(err)
			}
		}
		twin.Finished = append(twin.Finished, f)
		all = append(all, manifest.Spans(f.Done)...)
	}
	whole := &backuppb.Finished{Done: manifest.SpansPB(manifest.MergeSpans(nil, all)), Files: []*backuppb.File{{
		Path: manifest.DataName("none"), Span: c.Finished[0].Done[0], EntryCounts: &backuppb.RowCount{},
	}}}
	for i, cp := range []*backuppb.Checkpoint{twin, c, {BackupId: d.BackupId, Sequence: 10, Finished: []*backuppb.Finished{whole}}} {
		// Older ones sort behind the true one.
		if err := manifest.WriteCheckpoint(ctx, mem, d.LayerDir, time.Unix(int64(i), 0), cp); err != nil {
			t.Fatal(err)
		}
	}
	n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
	if err := n.jobs.Wait(ctx, rec.ID); err != nil {
		t.Fatal(err)
	}
	l, err := manifest.Open(ctx, manifest.Locations{{Store: mem}}, d.LayerDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Files(ctx, func(f *manifest.DataFile) error {
		if strings.Contains(f.Path, "twin") || strings.Contains(f.Path, "none") {
			t.Errorf("the layer lists %s", f.Path)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if l.Manifest.EntryCounts.Rows != int64(len(model)) {
		t.Errorf("the layer counts %d rows, want %d", l.Manifest.EntryCounts.Rows, len(model))
	}
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	n.expect("e", "t", model)
}

// TestTwoLocationsInOnePlace: a destination whose locations lie in one bucket is
// odd but no reason to have files twice.
func TestTwoLocationsInOnePlace(t *testing.T) {
	var pauseNext atomic.Bool
	hook := func(_ context.Context, place string) error {
		if place == "backup.after.checkpoint" && pauseNext.CompareAndSwap(true, false) {
			return extstore.Permanent(jobs.PauseSelf("test"))
		}
		return nil
	}
	n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000, Hook: hook}})
	n.svc.cfg.Workers = 1
	to := uris(place+"?COCKROACH_LOCALITY=default", place+"?COCKROACH_LOCALITY=region%3Deu")
	pauseNext.Store(true)
	if _, err := n.run(backupInto(databases("d"), func(b *parser.Backup) { b.To = to })); err == nil {
		t.Fatal("the backup did not pause")
	}
	rec := n.waitState(jobs.TypeBackup, jobs.Paused)
	n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
	if err := n.jobs.Wait(t.Context(), rec.ID); err != nil {
		t.Fatal(err)
	}
	n.mustRun(restoreFrom(databases("d"), newName("e"), func(r *parser.Restore) { r.From = to }))
	n.expect("e", "t", model)
}

// TestAfterPublish: what a restore has published stays, whatever becomes of its
// job: a failure, a cancel, a pause.
func TestAfterPublish(t *testing.T) {
	for _, cluster := range []bool{false, true} {
		for _, how := range []string{"failure", "cancel", "pause", "none"} {
			t.Run(fmt.Sprintf("cluster=%t/%s", cluster, how), func(t *testing.T) {
				src, model := sampleNode(t, nodeOptions{})
				src.setComment("kept")
				targets := parser.Targets{}
				stmt := restoreFrom(targets)
				if !cluster {
					targets = databases("d")
					stmt = restoreFrom(targets)
				}
				src.mustRun(backupInto(targets))
				reached, goOn := make(chan struct{}), make(chan struct{})
				hook := func(ctx context.Context, place string) error {
					if place != "restore.after.publish" {
						return nil
					}
					switch how {
					case "failure":
						return errors.New("planted")
					case "cancel":
						close(reached)
						select {
						case <-goOn:
						case <-ctx.Done():
						}
						return ctx.Err()
					case "pause":
						how = ""
						return jobs.PauseSelf("test")
					}
					return nil
				}
				n := startNode(t, nodeOptions{clusterID: 2, places: src.places, testing: Testing{Hook: hook}})
				done := make(chan error, 1)
				go func() { _, err := n.run(stmt); done <- err }()
				switch how {
				case "cancel":
					<-reached
					rec := n.waitState(jobs.TypeRestore, jobs.Running)
					n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Cancel(ctx, txn, rec.ID) })
					if err := <-done; err == nil || err.Error() != "job canceled by user" {
						t.Error(err)
					}
					n.waitState(jobs.TypeRestore, jobs.Canceled)
				case "failure":
					if err := <-done; err == nil || !strings.Contains(err.Error(), "planted") {
						t.Error(err)
					}
					n.waitState(jobs.TypeRestore, jobs.Failed)
				case "pause":
					if err := <-done; err == nil || !strings.Contains(err.Error(), "was paused") {
						t.Error(err)
					}
					rec := n.waitState(jobs.TypeRestore, jobs.Paused)
					n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
					n.waitState(jobs.TypeRestore, jobs.Succeeded)
				default:
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				n.expect("d", "t", model)
				if off := n.offlineObjects(); len(off) > 0 {
					t.Errorf("%v stay behind", off)
				}
				if got := n.comment(); got != "kept" {
					t.Errorf("the comment on the table is %q", got)
				}
			})
		}
	}
}

func (n *testNode) setComment(text string) {
	n.t.Helper()
	tbl := n.table("d", "t")
	n.txn(func(ctx context.Context, txn *kv.Txn, _ *catalog.Collection) error {
		return insertRows(ctx, txn, systables.Comments, []systables.Row{{int64(1), int64(tbl.ID()), int64(0), text}})
	})
}

func (n *testNode) comment() (text string) {
	n.t.Helper()
	tbl := n.table("d", "t")
	n.txn(func(ctx context.Context, txn *kv.Txn, _ *catalog.Collection) error {
		text = ""
		rows, err := scanSystemTable(ctx, txn, systables.Comments)
		for _, r := range rows {
			if tbl != nil && r[1] == int64(tbl.ID()) {
				text, _ = r[3].(string)
			}
		}
		return err
	})
	return text
}

// TestClusterRestoreWithoutSystemTables: a backup whose system tables cannot be
// read fails the restore before anything is published, and nothing is left.
func TestClusterRestoreWithoutSystemTables(t *testing.T) {
	src, model := sampleNode(t, nodeOptions{})
	src.setComment("kept")
	src.mustRun(backupInto(parser.Targets{}))
	var broken atomic.Bool
	hook := func(_ context.Context, place string) error {
		if place == "restore.before.publish" {
			broken.Store(true)
		}
		return nil
	}
	n := startNode(t, nodeOptions{clusterID: 2, places: src.places, testing: Testing{Hook: hook}})
	n.places.wrap = func(s extstore.Store) extstore.Store {
		f := fault.New(s, func(op fault.Op) fault.Action {
			if broken.Load() && op.Kind == "open" {
				return fault.Refuse
			}
			return fault.Pass
		})
		f.Err = extstore.Permanent(errors.New("bucket gone"))
		return f
	}
	if _, err := n.run(restoreFrom(parser.Targets{})); err == nil || !strings.Contains(err.Error(), "bucket gone") {
		t.Errorf("got %v", err)
	}
	n.expect("d", "t", nil)
	n.places.wrap = nil
	n.mustRun(restoreFrom(parser.Targets{}))
	n.expect("d", "t", model)
}

// TestLateWorker: a worker of a restore that lives on after its job lost its claim,
// and somebody else published the table, repeats what it read. Rows that were
// changed or deleted since stay as they are.
func TestLateWorker(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{})
	n.mustRun(backupInto(databases("d")))
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	ctx := t.Context()
	rec := n.waitState(jobs.TypeRestore, jobs.Succeeded)
	d := &backuppb.RestoreDetails{}
	if err := proto.Unmarshal(rec.Payload.Details, d); err != nil {
		t.Fatal(err)
	}
	col, err := n.svc.openCollection(ctx, d.Uris, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer col.close()
	src, err := n.svc.loadSource(ctx, col, d)
	if err != nil {
		t.Fatal(err)
	}
	again := func() (first error) {
		run := &restoreRun{s: n.svc, d: d, src: src}
		run.mu.progress, run.mu.indexes, run.mu.savedAt = &backuppb.RestoreProgress{}, map[storage.IndexID]*backuppb.IndexSummary{}, time.Now()
		plans, err := run.plan(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, pc := range cutPieces(plans, nil, restorePieceBytes, 200) {
			if err := run.piece(ctx, newFileCache(1<<20, t.TempDir()), &storage.SSTBuffer{}, pc); first == nil {
				first = err
			}
		}
		return first
	}
	tbl := n.table("e", "t")
	if err := again(); err != nil {
		t.Errorf("repeated at once: %v", err)
	}
	n.expect("e", "t", model)
	for _, change := range []rows{{3: "by a user"}, {4: ""}} {
		n.write(tbl, model, change)
		if err := again(); err == nil || !strings.Contains(err.Error(), "would shadow the live key") {
			t.Errorf("after %v: %v", change, err)
		}
		n.expect("e", "t", model)
	}
}

// TestLatestIsTheNewestEnd: LATEST means the full with the latest end, whichever
// was written last.
func TestLatestIsTheNewestEnd(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{})
	earlier := n.db.Clock().Now()
	time.Sleep(20 * time.Millisecond) // Full backups are named after hundredths of a second.
	tbl := n.table("d", "t")
	n.write(tbl, model, rows{1: "newer"})
	n.mustRun(backupInto(databases("d")))
	n.mustRun(backupInto(databases("d"), endingAt(earlier)))
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	n.expect("e", "t", model)
	n.write(tbl, model, rows{2: "newest"})
	n.mustRun(backupInto(databases("d"), latest))
	n.mustRun(restoreFrom(databases("d"), newName("f")))
	n.expect("f", "t", model)
}

// TestStatisticsTravel: what the planner knew about tables comes back under their
// new ids, not with schema_only.
func TestStatisticsTravel(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{})
	created := time.Date(2026, 5, 6, 7, 8, 9, 123000, time.UTC)
	old := n.table("d", "t").ID()
	insert := func(table uint32, id, rowCount int64) {
		n.txn(func(ctx context.Context, txn *kv.Txn, _ *catalog.Collection) error {
			return insertRows(ctx, txn, systables.TableStatistics, []systables.Row{
				{int64(table), id, "auto", []string{"1", "3"}, created, rowCount, int64(7), int64(2), []byte("h")},
				{int64(table), id + 1, nil, []string{"2"}, created, rowCount, int64(8), int64(0), nil},
			})
		})
	}
	of := func(table uint32) (out []string) {
		n.txn(func(ctx context.Context, txn *kv.Txn, _ *catalog.Collection) error {
			out = nil
			rows, err := scanSystemTable(ctx, txn, systables.TableStatistics)
			for _, r := range rows {
				if r[0] == int64(table) {
					out = append(out, fmt.Sprint(r[2:]))
				}
			}
			return err
		})
		return out
	}
	insert(old, 5, 300)
	insert(9999, 5, 1) // Of some other table.
	want := of(old)
	n.mustRun(backupInto(databases("d")))
	insert(old, 50, 400) // After the backup.
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	if got := of(n.table("e", "t").ID()); len(want) != 2 || !slices.Equal(got, want) {
		t.Errorf("restored statistics %q, want %q", got, want)
	}
	n.mustRun(restoreFrom(databases("d"), newName("f"), func(r *parser.Restore) { r.Options.SchemaOnly = true }))
	if got := of(n.table("f", "t").ID()); len(got) != 0 {
		t.Errorf("schema_only brought statistics %q", got)
	}
}

// TestSkippedIsSaid: whatever a backup or a restore leaves out is told to the
// client.
func TestSkippedIsSaid(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{})
	n.createTable("d", "busy", func(pb *catalogpb.TableDescriptor) {
		pb.State, pb.OfflineReason = catalogpb.State_OFFLINE, "importing"
	})
	other := n.table("d", "t")
	n.createTable("d", "child", func(pb *catalogpb.TableDescriptor) {
		pb.OutboundFks = []*catalogpb.ForeignKeyConstraint{{
			Name: "child_fk", OriginTableId: pb.Id, ReferencedTableId: other.ID(), OriginColumnIds: []uint32{3}, ReferencedColumnIds: []uint32{1},
		}}
	})
	n.mustRun(backupInto(databases("d")))
	if len(n.notices) != 1 || n.notices[0].Message != `table "busy" is offline (importing) and is left out` {
		t.Errorf("backup: %v", n.notices)
	}
	n.notices = nil
	n.createDatabase("e")
	n.mustRun(restoreFrom(tables("d.child"), func(r *parser.Restore) {
		r.Options.IntoDB, r.Options.SkipMissingFKs = str("e"), true
	}))
	if len(n.notices) != 1 || n.notices[0].Message != "not restored: foreign key child_fk of table child, whose other table is not restored" {
		t.Errorf("restore: %v", n.notices)
	}
}

// TestSameHundredth: backups whose ends fall into one hundredth of a second, one
// after the other or at once, each find a name of their own.
func TestSameHundredth(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{})
	tbl := n.table("d", "t")
	n.mustRun(backupInto(databases("d")))
	for i := range 4 { // Each takes less than 10 ms, mostly.
		n.write(tbl, model, rows{int64(i): fmt.Sprint("x", i)})
		n.mustRun(backupInto(databases("d"), latest))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := n.run(backupInto(databases("d"), latest)); err != nil {
				t.Errorf("one of four: %v", err)
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			if _, err := n.run(backupInto(databases("d"), func(b *parser.Backup) { b.To = uris("nodelocal://1/fulls") })); err != nil {
				t.Errorf("one of three: %v", err)
			}
		})
	}
	wg.Wait()
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	n.expect("e", "t", model)
	if out := n.mustRun(&parser.ShowBackups{In: uris("nodelocal://1/fulls")}); len(out) != 3 {
		t.Errorf("%d fulls", len(out))
	}
}

// TestAppendedTargets: what may be appended to what, and what may not.
func TestAppendedTargets(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{})
	n.createTable("d", "u")
	n.createDatabase("other")
	n.createTable("other", "x")
	all := map[string]parser.Targets{
		"cluster": {}, "d": databases("d"), "d, other": databases("d", "other"), "other": databases("other"),
		"d.t": tables("d.t"), "d.u": tables("d.u"), "d.t, d.u": tables("d.t", "d.u"), "d.*": tables("d.*"),
	}
	const (
		cluster  = "cannot append a backup of specific tables or databases to a cluster backup"
		noD      = `previous backup does not contain the complete database "d"`
		noOther  = `previous backup does not contain the complete database "other"`
		noT      = `previous backup does not contain table "t"`
		noU      = `previous backup does not contain table "u"`
		noSystem = `previous backup does not contain the complete database "system"`
	)
	for _, c := range []struct{ first, then, want string }{
		{"cluster", "cluster", ""}, {"cluster", "d", cluster}, {"cluster", "d.t", cluster},
		{"d", "cluster", noSystem}, {"d, other", "cluster", noSystem}, {"d.t", "cluster", noSystem},
		{"d", "d", ""}, {"d", "d, other", noOther}, {"d", "other", noOther}, {"d, other", "d", ""},
		{"d", "d.t", ""}, {"d", "d.*", ""}, {"d.*", "d", ""}, {"d.t", "d", noD}, {"d.t, d.u", "d", noD}, {"d.t", "d.*", noD},
		{"d.t", "d.t", ""}, {"d.t, d.u", "d.t", ""}, {"d.t", "d.u", noU}, {"d.u", "d.t, d.u", noT}, {"other", "d.t", noT},
	} {
		where := func(b *parser.Backup) {
			b.To = uris("nodelocal://1/" + strings.NewReplacer(" ", "", ",", "+").Replace(c.first+"-"+c.then))
		}
		n.mustRun(backupInto(all[c.first], where))
		_, err := n.run(backupInto(all[c.then], where, latest))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s, then %s: %v", c.first, c.then, err)
		case c.want != "" && (err == nil || err.Error() != c.want || pgerr.GetCode(err) != pgerr.InvalidParameterValue):
			t.Errorf("%s, then %s: got %v, want %s", c.first, c.then, err, c.want)
		}
	}
	// A chain may narrow, and what it left out does not come back unseen.
	n.mustRun(backupInto(databases("d")))
	n.mustRun(backupInto(tables("d.t"), latest))
	if _, err := n.run(backupInto(databases("d"), latest)); err == nil || err.Error() != noD {
		t.Errorf("database after a table: %v", err)
	}
	n.createDatabase("e")
	n.mustRun(restoreFrom(tables("d.t"), func(r *parser.Restore) { r.Options.IntoDB = str("e") }))
	n.expect("e", "t", model)
}

// TestRestoreDiskFull: a disk that is full pauses a restore; when there is room
// again it goes on where it stood, and a paused one can be given up.
func TestRestoreDiskFull(t *testing.T) {
	for _, mend := range []bool{true, false} {
		var full atomic.Bool
		var pieces atomic.Int64
		hook := func(_ context.Context, place string) error {
			if place == "restore.before.piece" && pieces.Add(1) > 1 && full.Load() {
				return pgerr.New(pgerr.DiskFull, "no space left on device")
			}
			return nil
		}
		n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000, Hook: hook}})
		n.svc.cfg.Workers = 1
		n.mustRun(backupInto(databases("d")))
		full.Store(true)
		_, err := n.run(restoreFrom(databases("d"), newName("e")))
		if err == nil || !strings.Contains(err.Error(), "was paused before it completed with reason: the disk is full: ") {
			t.Fatalf("got %v", err)
		}
		rec := n.waitState(jobs.TypeRestore, jobs.Paused)
		n.expect("e", "t", nil)
		// Still full: it pauses again.
		n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
		if err := n.jobs.Wait(t.Context(), rec.ID); err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Fatalf("resumed on a full disk: %v", err)
		}
		if mend {
			full.Store(false)
			n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
			if err := n.jobs.Wait(t.Context(), rec.ID); err != nil {
				t.Fatal(err)
			}
			n.expect("e", "t", model)
			continue
		}
		n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Cancel(ctx, txn, rec.ID) })
		n.waitState(jobs.TypeRestore, jobs.Canceled)
		if off := n.offlineObjects(); len(off) > 0 {
			t.Errorf("%v stay behind", off)
		}
		full.Store(false)
		n.mustRun(restoreFrom(databases("d"), newName("e")))
		n.expect("e", "t", model)
	}
}

// TestBucketGone: a bucket that goes away half-way fails a backup and a restore,
// at any operation, in every later one; when it is back, both work again, and
// nothing of the failed ones is seen.
func TestBucketGone(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000}})
	n.mustRun(backupInto(databases("d")))
	tbl := n.table("d", "t")
	n.write(tbl, model, rows{5: "changed"})
	n.svc.cfg.Settings.restoreRetryMax.SetForTest(time.Millisecond)
	n.svc.cfg.Workers = 1
	paused := 0
	var count, from atomic.Int64
	n.places.wrap = func(s extstore.Store) extstore.Store {
		f := fault.New(s, func(fault.Op) fault.Action {
			if at := from.Load(); count.Add(1) >= at && at > 0 {
				return fault.Refuse
			}
			return fault.Pass
		})
		f.Err = errors.New("connection refused")
		return f
	}
	gone := func(stmt tree.Statement, succeeded func()) {
		t.Helper()
		failed := 0
		for at := int64(1); ; at += 3 {
			count.Store(0)
			from.Store(at)
			_, err := n.run(stmt)
			reached := count.Load() >= at
			from.Store(0)
			if err == nil {
				succeeded()
				if !reached {
					break
				}
				continue // The bucket went when the work was done.
			}
			failed++
			if !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("%s, gone at %d: %v", stmt, at, err)
			}
			if strings.Contains(err.Error(), "was paused before it completed with reason: exhausted retries: ") {
				// Something was restored: it waits for the bucket.
				paused++
				n.expect("e", "t", nil)
				rec := n.waitState(jobs.TypeRestore, jobs.Paused)
				n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
				if err := n.jobs.Wait(t.Context(), rec.ID); err != nil {
					t.Fatalf("%s, gone at %d, resumed: %v", stmt, at, err)
				}
				succeeded()
				continue
			}
			if off := n.offlineObjects(); len(off) > 0 {
				t.Errorf("%s, gone at %d: %v stay behind", stmt, at, off)
			}
			if p := n.protections(); p != 0 {
				t.Errorf("%s, gone at %d: %d protected timestamps stay behind", stmt, at, p)
			}
		}
		if failed < 3 {
			t.Errorf("%s failed %d times only", stmt, failed)
		}
	}
	gone(backupInto(databases("d"), latest), func() {})
	if paused > 0 {
		t.Error("a backup paused")
	}
	gone(restoreFrom(databases("d"), newName("e")), func() {
		n.expect("e", "t", model)
		n.dropDatabase("e")
	})
	if paused == 0 {
		t.Error("no restore paused")
	}
}
