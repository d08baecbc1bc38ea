package backupccl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/protectedts"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// sampleNode has a database d with a table t of 300 rows.
func sampleNode(t *testing.T, o nodeOptions) (*testNode, rows) {
	n := startNode(t, o)
	n.createDatabase("d")
	model := rows{}
	n.write(n.createTable("d", "t"), model, someRows(0, 300, "a"))
	return n, model
}

// protections returns how many protected timestamps there are.
func (n *testNode) protections() int {
	n.t.Helper()
	st, err := protectedts.Load(context.Background(), n.db)
	if err != nil {
		n.t.Fatal(err)
	}
	return len(st.Records)
}

// TestStorageFaults fails each storage operation of a backup, and of a restore,
// in turn and in every way, twice in a row so that retries do not hide it. The
// statement ends with an honest error or with the correct result, and nothing
// half made is ever seen.
func TestStorageFaults(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000}})
	var mu sync.Mutex
	var count, failAt int
	action := fault.Pass
	n.places.wrap = func(s extstore.Store) extstore.Store {
		return fault.New(s, func(fault.Op) fault.Action {
			mu.Lock()
			defer mu.Unlock()
			count++
			// Two operations, since each is tried twice.
			if action != fault.Pass && (count == failAt || count == failAt+1) {
				return action
			}
			return fault.Pass
		})
	}
	arm := func(a fault.Action, at int) {
		mu.Lock()
		defer mu.Unlock()
		action, failAt, count = a, at, 0
	}
	for _, a := range []fault.Action{fault.Refuse, fault.LoseAnswer, fault.Tear} {
		failed, succeeded := 0, 0
		for at := 1; ; at++ {
			arm(a, at)
			where := fmt.Sprintf("nodelocal://1/b%d-%d", a, at)
			_, err := n.run(backupInto(databases("d"), func(b *parser.Backup) { b.To = uris(where) }))
			mu.Lock()
			reached := count >= at
			mu.Unlock()
			arm(fault.Pass, 0)
			if p := n.protections(); p != 0 {
				t.Errorf("%d at %d: %d protected timestamps stay behind", a, at, p)
			}
			if err != nil {
				failed++
			} else {
				succeeded++
				if _, err := n.run(restoreFrom(databases("d"), newName("e"), func(r *parser.Restore) { r.From = uris(where) })); err != nil {
					t.Errorf("%d at %d: backup succeeded, restore: %v", a, at, err)
				} else {
					n.expect("e", "t", model)
					n.dropDatabase("e")
				}
			}
			if !reached {
				break
			}
		}
		if failed == 0 || succeeded == 0 {
			t.Errorf("action %d: %d backups failed and %d succeeded", a, failed, succeeded)
		}
	}
	n.mustRun(backupInto(databases("d")))
	for _, a := range []fault.Action{fault.Refuse, fault.Tear} {
		failed := 0
		for at := 1; ; at++ {
			arm(a, at)
			_, err := n.run(restoreFrom(databases("d"), newName("e")))
			mu.Lock()
			reached := count >= at
			mu.Unlock()
			arm(fault.Pass, 0)
			if err != nil {
				failed++
				n.expect("e", "t", nil)
			} else {
				n.expect("e", "t", model)
				n.dropDatabase("e")
			}
			if off := n.offlineObjects(); len(off) > 0 {
				t.Errorf("restore, %d at %d: %v stay behind", a, at, off)
			}
			if !reached {
				break
			}
		}
		if failed == 0 {
			t.Errorf("restore, action %d: nothing failed", a)
		}
	}
}

// TestDamagedFiles restores from a backup of which one file is missing,
// truncated, flipped or swapped: an error each time, and nothing is left.
func TestDamagedFiles(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000}})
	n.mustRun(backupInto(databases("d")))
	mem := n.places.mem("/c")
	var names []string
	if err := mem.List(t.Context(), "", "", func(name string) error { names = append(names, name); return nil }); err != nil {
		t.Fatal(err)
	}
	var other []byte
	for _, name := range names {
		if strings.Contains(name, "BACKUP-LOCK") {
			continue
		}
		good, err := extstore.ReadAll(t.Context(), mem, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(good)
		flipped[len(flipped)/2] ^= 4
		ways := map[string][]byte{"missing": nil, "truncated": good[:len(good)/2], "flipped": flipped}
		if other != nil && strings.Contains(name, "/data/") {
			ways["swapped"] = other
		}
		if strings.Contains(name, "/data/") {
			other = good
		}
		for how, b := range ways {
			mem.Tamper(name, b)
			_, err := n.run(restoreFrom(databases("d"), newName("e")))
			if err == nil {
				t.Errorf("%s %s: restored", name, how)
				n.dropDatabase("e")
			} else if code := pgerr.GetCode(err); code == "" || code == pgerr.Internal {
				t.Errorf("%s %s: SQLSTATE %q for %v", name, how, code, err)
			}
			n.expect("e", "t", nil)
			if off := n.offlineObjects(); len(off) > 0 {
				t.Errorf("%s %s: %v stay behind", name, how, off)
			}
			mem.Tamper(name, good)
		}
	}
	n.mustRun(restoreFrom(databases("d"), newName("e")))
}

// waitState waits until the newest job of a type has one of the states.
func (n *testNode) waitState(jobType string, states ...jobs.State) *jobs.Record {
	n.t.Helper()
	var last *jobs.Record
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		err := n.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error {
			last = nil
			return n.jobs.Each(ctx, txn, func(r *jobs.Record) error {
				if r.Type == jobType && (last == nil || r.ID > last.ID) {
					last = r
				}
				return nil
			})
		})
		if err != nil {
			n.t.Fatal(err)
		}
		if last != nil && slices.Contains(states, last.State) {
			return last
		}
	}
	if last == nil {
		n.t.Fatalf("no job of type %s", jobType)
	}
	n.t.Fatalf("job is %s (%v), want %v", last.State, last.Payload.Error, states)
	return nil
}

func (n *testNode) control(fn func(ctx context.Context, txn *kv.Txn) error) {
	n.t.Helper()
	if err := n.db.Txn(context.Background(), fn); err != nil {
		n.t.Fatal(err)
	}
}

// TestPauseResume pauses a backup and a restore after each checkpoint and
// resumes them. No finished span is exported again.
func TestPauseResume(t *testing.T) {
	var mu sync.Mutex
	exported := 0
	var finished []keys.Span // according to checkpoints, before the present run
	var pauseNext bool
	var n *testNode
	hook := func(ctx context.Context, place string) error {
		mu.Lock()
		defer mu.Unlock()
		if !pauseNext || !strings.HasSuffix(place, ".after.checkpoint") {
			return nil
		}
		pauseNext = false
		return extstore.Permanent(jobs.PauseSelf("test"))
	}
	n, model := sampleNode(t, nodeOptions{testing: Testing{
		PageBytes: 3000, Hook: hook,
		AfterExport: func(_ jobs.ID, span keys.Span) {
			mu.Lock()
			defer mu.Unlock()
			exported++
			if left := manifest.Subtract([]keys.Span{span}, finished); len(left) != 1 || left[0].String() != span.String() {
				t.Errorf("%s was finished and is exported again", span)
			}
		},
	}})
	n.svc.cfg.Workers = 1
	for _, what := range []struct {
		jobType string
		stmt    tree.Statement
	}{{jobs.TypeBackup, backupInto(databases("d"))}, {jobs.TypeRestore, restoreFrom(databases("d"), newName("e"))}} {
		pauseNext = true
		_, err := n.run(what.stmt)
		if err == nil || !strings.Contains(err.Error(), "was paused before it completed with reason: test") {
			t.Fatalf("%s: got %v", what.jobType, err)
		}
		pauses := 0
		for {
			rec := n.waitState(what.jobType, jobs.Paused, jobs.Succeeded, jobs.Failed)
			if rec.State != jobs.Paused {
				if rec.State != jobs.Succeeded {
					t.Fatalf("%s: %v", what.jobType, rec.Payload.Error)
				}
				break
			}
			pauses++
			n.expect("e", "t", nil)
			mu.Lock()
			finished = n.checkpointed()
			if len(finished) == 0 && what.jobType == jobs.TypeBackup {
				t.Error("nothing is checkpointed")
			}
			pauseNext = pauses < 4
			mu.Unlock()
			n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
			if err := n.jobs.Wait(context.Background(), rec.ID); err != nil && !strings.Contains(err.Error(), "paused") {
				t.Fatalf("%s: %v", what.jobType, err)
			}
		}
		if pauses < 2 {
			t.Errorf("%s was paused %d times only", what.jobType, pauses)
		}
	}
	n.expect("e", "t", model)
	if exported == 0 {
		t.Error("no export was seen")
	}
}

// checkpointed returns what the checkpoints of the only layer in place say.
func (n *testNode) checkpointed() []keys.Span {
	n.t.Helper()
	mem := n.places.mem("/c")
	var out []keys.Span
	err := mem.List(context.Background(), "", "", func(name string) error {
		dir, _, ok := strings.Cut(name, "/progress/")
		if !ok {
			return nil
		}
		rec := n.waitState(jobs.TypeBackup, jobs.Paused)
		d := &backuppb.BackupDetails{}
		if err := proto.Unmarshal(rec.Payload.Details, d); err != nil {
			return err
		}
		c, _, err := manifest.ReadCheckpoints(context.Background(), mem, dir, d.BackupId)
		for _, f := range c.GetFinished() {
			out = append(out, manifest.Spans(f.Done)...)
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// TestCancel cancels a backup and a restore half-way: nothing stays behind.
func TestCancel(t *testing.T) {
	reached, goOn := make(chan string, 100), make(chan struct{})
	var armed sync.Map
	hook := func(ctx context.Context, place string) error {
		if _, ok := armed.Load(place); !ok {
			return nil
		}
		reached <- place
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n, _ := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000, Hook: hook}})
	cancel := func(place, jobType string, stmt tree.Statement) {
		t.Helper()
		armed.Store(place, true)
		done := make(chan error, 1)
		go func() {
			_, err := n.run(stmt)
			done <- err
		}()
		<-reached
		rec := n.waitState(jobType, jobs.Running)
		n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Cancel(ctx, txn, rec.ID) })
		if err := <-done; err == nil || err.Error() != "job canceled by user" {
			t.Errorf("%s canceled at %s: %v", jobType, place, err)
		}
		armed.Delete(place)
		for len(reached) > 0 {
			<-reached
		}
		n.waitState(jobType, jobs.Canceled)
		if p := n.protections(); p != 0 {
			t.Errorf("%s canceled at %s: %d protected timestamps stay behind", jobType, place, p)
		}
		if off := n.offlineObjects(); len(off) > 0 {
			t.Errorf("%s canceled at %s: %v stay behind", jobType, place, off)
		}
	}
	cancel("backup.after.checkpoint", jobs.TypeBackup, backupInto(databases("d")))
	cancel("backup.before.metadata", jobs.TypeBackup, backupInto(databases("d")))
	if _, err := n.run(restoreFrom(databases("d"), newName("e"))); err == nil || !strings.HasPrefix(err.Error(), "path does not contain a completed latest backup") {
		t.Errorf("restore of a canceled backup: %v", err)
	}
	n.mustRun(backupInto(databases("d")))
	cancel("restore.after.descriptors", jobs.TypeRestore, restoreFrom(databases("d"), newName("e")))
	cancel("restore.after.checkpoint", jobs.TypeRestore, restoreFrom(databases("d"), newName("e")))
	cancel("restore.before.publish", jobs.TypeRestore, restoreFrom(databases("d"), newName("e")))
	n.expect("e", "t", nil)
	n.mustRun(restoreFrom(databases("d"), newName("e")))
}

// TestRestart ends the process at every place of a backup and a restore; the
// next life on the same disk finishes the job.
func TestRestart(t *testing.T) {
	for _, c := range []struct{ place, jobType string }{
		{"backup.before.resolve", jobs.TypeBackup}, {"backup.after.checkpoint", jobs.TypeBackup},
		{"backup.before.metadata", jobs.TypeBackup}, {"backup.after.manifest", jobs.TypeBackup},
		{"restore.after.descriptors", jobs.TypeRestore}, {"restore.after.checkpoint", jobs.TypeRestore},
		{"restore.before.publish", jobs.TypeRestore},
	} {
		t.Run(c.place, func(t *testing.T) {
			reached := make(chan struct{}, 100)
			hook := func(ctx context.Context, place string) error {
				if place != c.place {
					return nil
				}
				reached <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			}
			n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000, Hook: hook}})
			stmt := tree.Statement(backupInto(databases("d")))
			if c.jobType == jobs.TypeRestore {
				n.mustRun(backupInto(databases("d")))
				stmt = restoreFrom(databases("d"), newName("e"))
			}
			go func() { _, _ = n.run(stmt) }() // Its node goes away.
			<-reached
			n.stop()
			m := startNode(t, nodeOptions{fs: n.fs, places: n.places, testing: Testing{PageBytes: 3000}})
			rec := m.waitState(c.jobType, jobs.Succeeded, jobs.Failed, jobs.Canceled)
			if rec.State != jobs.Succeeded {
				t.Fatalf("job is %s: %v", rec.State, rec.Payload.Error)
			}
			if c.jobType == jobs.TypeBackup {
				m.mustRun(restoreFrom(databases("d"), newName("e")))
			}
			m.expect("e", "t", model)
			if p := m.protections(); p != 0 {
				t.Errorf("%d protected timestamps stay behind", p)
			}
			if off := m.offlineObjects(); len(off) > 0 {
				t.Errorf("%v stay behind", off)
			}
		})
	}
}

// TestPlantedFaults shows that the comparison with a model finds what it must: a
// span that is not exported, and a start that is too late.
func TestPlantedFaults(t *testing.T) {
	t.Run("dropped span", func(t *testing.T) {
		var seen atomic.Int64
		drop := func(keys.Span) bool { return seen.Add(1)%3 == 0 }
		if !plantedRun(t, Testing{PageBytes: 2000, DropSpan: drop}) {
			t.Error("a dropped span was not noticed")
		}
	})
	t.Run("late start", func(t *testing.T) {
		if !plantedRun(t, Testing{PageBytes: 2000, ShiftStart: 300 * time.Millisecond}) {
			t.Error("a start that is too late was not noticed")
		}
	})
}

// plantedRun takes a small chain and says whether a restore differs from the
// model or fails.
func plantedRun(t *testing.T, hooks Testing) bool {
	n := startNode(t, nodeOptions{testing: hooks})
	n.createDatabase("d")
	tbl := n.createTable("d", "t")
	model := rows{}
	n.write(tbl, model, someRows(0, 300, "a"))
	if _, err := n.run(backupInto(databases("d"))); err != nil {
		return true
	}
	n.write(tbl, model, someRows(0, 30, "b"))
	if hooks.ShiftStart > 0 {
		time.Sleep(hooks.ShiftStart + 50*time.Millisecond) // The window is not empty.
	}
	if _, err := n.run(backupInto(databases("d"), latest)); err != nil {
		return true
	}
	if _, err := n.run(restoreFrom(databases("d"), newName("e"))); err != nil {
		return true
	}
	got := n.readQuietly(n.table("e", "t"))
	return len(got) != len(model) || difference(got, model) != ""
}

// TestBadInput checks texts and SQLSTATEs of what users can get wrong.
func TestBadInput(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{})
	n.createDatabase("other")
	n.createTable("other", "x")
	before := n.db.Clock().Now()
	n.mustRun(backupInto(databases("d")))
	n.mustRun(backupInto(tables("d.t"), func(b *parser.Backup) { b.To = uris("nodelocal://1/tables") }))
	n.mustRun(backupInto(parser.Targets{}, func(b *parser.Backup) { b.To = uris("nodelocal://1/cluster") }))
	to := func(u ...string) func(*parser.Backup) { return func(b *parser.Backup) { b.To = uris(u...) } }
	from := func(u ...string) func(*parser.Restore) { return func(r *parser.Restore) { r.From = uris(u...) } }
	restoreOpt := func(f func(*parser.RestoreOptions)) func(*parser.Restore) {
		return func(r *parser.Restore) { f(&r.Options) }
	}
	future := n.db.Clock().Now().Add(time.Hour)
	for _, c := range []struct {
		stmt tree.Statement
		code pgerr.Code
		want string
	}{
		{backupInto(databases("nope")), pgerr.InvalidCatalogName, `failed to resolve targets specified in the BACKUP stmt: database "nope" does not exist`},
		{backupInto(tables("d.nope")), pgerr.UndefinedTable, `failed to resolve targets specified in the BACKUP stmt: table "d.nope" does not exist`},
		{backupInto(databases("other"), endingAt(before.Add(-time.Hour))), pgerr.InvalidCatalogName, `failed to resolve targets specified in the BACKUP stmt: database "other" does not exist, or invalid RESTORE timestamp: supplied backups do not cover requested time`},
		{backupInto(databases("d"), endingAt(future)), pgerr.InvalidParameterValue, "AS OF SYSTEM TIME: cannot specify timestamp in the future ("},
		{backupInto(databases("d"), latest, to("nodelocal://1/none")), pgerr.UndefinedFile, "path does not contain a completed latest backup"},
		{backupInto(databases("d"), func(b *parser.Backup) { b.Subdir = str("2020/01/01-000000.00") }), pgerr.UndefinedFile, `No full backup exists in "/2020/01/01-000000.00" to append an incremental backup to.`},
		{backupInto(databases("d"), latest, endingAt(before)), pgerr.InvalidParameterValue, "`AS OF SYSTEM TIME` "},
		{backupInto(databases("other"), latest), pgerr.InvalidParameterValue, `previous backup does not contain the complete database "other"`},
		{backupInto(tables("other.x"), latest), pgerr.InvalidParameterValue, `previous backup does not contain table "x"`},
		{backupInto(databases("d"), latest, to("nodelocal://1/cluster")), pgerr.InvalidParameterValue, "cannot append a backup of specific tables or databases to a cluster backup"},
		{backupInto(databases("d"), to("ftp://x/y")), pgerr.InvalidParameterValue, `unsupported storage scheme: "ftp"`},
		{backupInto(databases("d"), to("nodelocal://1/a", "nodelocal://1/b")), pgerr.InvalidParameterValue, "multiple URLs are provided for partitioned BACKUP, but COCKROACH_LOCALITY is not specified"},
		{backupInto(databases("d"), func(b *parser.Backup) { b.Options.EncryptionPassphrase = str("x") }), pgerr.FeatureNotSupported, "encrypted backups are not supported by this version"},
		{backupInto(databases("d"), func(b *parser.Backup) { b.Options.IncludeAllVirtualClusters = tree.DBoolTrue }), pgerr.InvalidParameterValue, "the include_all_virtual_clusters option is only supported for full cluster backups"},
		{backupInto(databases("d"), func(b *parser.Backup) { b.Options.ExecutionLocality = str("region=mars") }), pgerr.ObjectNotInPrerequisiteState, "no instances found matching locality filter region=mars"},
		{backupInto(databases("d"), func(b *parser.Backup) { b.Options.ExecutionLocality = str("mars") }), pgerr.InvalidParameterValue, `tier must be in the form "key=value" not "mars"`},

		{restoreFrom(databases("d")), pgerr.DuplicateDatabase, `database "d" already exists`},
		{restoreFrom(databases("nope")), pgerr.InvalidCatalogName, `failed to resolve targets in the BACKUP location specified by the RESTORE statement, use SHOW BACKUP to find correct targets: database "nope" does not exist, or invalid RESTORE timestamp: supplied backups do not cover requested time`},
		{restoreFrom(tables("d.nope")), pgerr.UndefinedTable, `failed to resolve targets in the BACKUP location specified by the RESTORE statement, use SHOW BACKUP to find correct targets: table "d.nope" does not exist`},
		{restoreFrom(tables("d.t")), pgerr.DuplicateRelation, `relation "t" already exists`},
		{restoreFrom(tables("d.t"), restoreOpt(func(o *parser.RestoreOptions) { o.IntoDB = str("nowhere") })), pgerr.InvalidCatalogName, `a database named "nowhere" needs to exist to restore table "t"`},
		{restoreFrom(databases("d"), from("nodelocal://1/tables"), newName("z")), pgerr.InvalidParameterValue, "cannot RESTORE DATABASE from a backup of individual tables (use SHOW BACKUP to determine available tables)"},
		{restoreFrom(tables("d.*"), from("nodelocal://1/tables")), pgerr.InvalidParameterValue, "cannot RESTORE <database>.* from a backup of individual tables (use SHOW BACKUP to determine available tables)"},
		{restoreFrom(parser.Targets{}), pgerr.InvalidParameterValue, "full cluster RESTORE can only be used on full cluster BACKUP files"},
		{restoreFrom(parser.Targets{}, from("nodelocal://1/cluster")), pgerr.ObjectNotInPrerequisiteState, "full cluster restore can only be run on a cluster with no tables or databases but found 6 descriptors: d, public, t, other, public, x"},
		{restoreFrom(databases("d"), at(before)), pgerr.InvalidParameterValue, "invalid RESTORE timestamp: restoring to arbitrary time requires that BACKUP for requested time be created with 'revision_history' option. nearest backup time is "},
		{restoreFrom(databases("d"), at(n.db.Clock().Now())), pgerr.InvalidParameterValue, "invalid RESTORE timestamp: supplied backups do not cover requested time"},
		{restoreFrom(databases("d"), restoreOpt(func(o *parser.RestoreOptions) { o.VerifyData = true })), pgerr.InvalidParameterValue, "to set the verify_backup_table_data option, the schema_only option must be set"},
		{restoreFrom(databases("d"), restoreOpt(func(o *parser.RestoreOptions) { o.IntoDB = str("x") })), pgerr.InvalidParameterValue, `cannot use "into_db" option when restoring database(s)`},
		{restoreFrom(databases("d", "other"), newName("x")), pgerr.InvalidParameterValue, "new_db_name can only be used for RESTORE DATABASE with a single target database"},
		{restoreFrom(databases("d"), func(r *parser.Restore) { r.Latest, r.Subdir = false, str("/not/there/atall") }), pgerr.UndefinedFile, `failed to read backup from "mem:///": not/there/atall: could not find BACKUP manifest file in any of the known locations: BACKUP_METADATA, BACKUP_MANIFEST, BACKUP`},
	} {
		_, err := n.run(c.stmt)
		if err == nil {
			t.Errorf("%s: no error", c.stmt)
			continue
		}
		if code := pgerr.GetCode(err); code != c.code || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s:\n got %s %s\nwant %s %s", c.stmt, code, err, c.code, c.want)
		}
	}
	// In a transaction only detached jobs can be made.
	err := n.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error {
		sess := n.session()
		sess.Txn, sess.ExplicitTxn = txn, true
		_, err := n.runAs(sess, backupInto(databases("d")))
		return err
	})
	if err == nil || err.Error() != "BACKUP cannot be used inside a multi-statement transaction without DETACHED option" {
		t.Errorf("in a transaction: %v", err)
	}
	// Nobody without privileges gets anywhere.
	sess := n.session()
	sess.User = "u"
	sess.HasPrivilege = denyAll
	if _, err := n.runAs(sess, backupInto(parser.Targets{})); pgerr.GetCode(err) != pgerr.InsufficientPrivilege {
		t.Errorf("cluster backup by u: %v", err)
	}
	if _, err := n.runAs(sess, backupInto(tables("d.t"))); err == nil || err.Error() != "user u does not have SELECT privilege on relation t" {
		t.Errorf("table backup by u: %v", err)
	}
	if _, err := n.runAs(sess, &parser.ShowBackups{In: uris(place)}); err == nil ||
		err.Error() != "only users with the admin role or the EXTERNALIOIMPLICITACCESS system privilege are allowed to access the specified nodelocal URI" {
		t.Errorf("SHOW BACKUPS by u: %v", err)
	}
}

// TestConcurrentBackups lets two incrementals into one chain run at once: each
// succeeds or says that the place is taken, and the chain stays whole.
func TestConcurrentBackups(t *testing.T) {
	n, model := sampleNode(t, nodeOptions{})
	n.mustRun(backupInto(databases("d")))
	var wg sync.WaitGroup
	end := n.db.Clock().Now()
	var mu sync.Mutex
	ok := 0
	for range 4 {
		wg.Go(func() {
			_, err := n.run(backupInto(databases("d"), latest, endingAt(end)))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ok++
			} else if !strings.Contains(err.Error(), "already contains a") && !strings.Contains(err.Error(), "must be greater than the previous backup's end time") {
				t.Errorf("one of four: %v", err)
			}
		})
	}
	wg.Wait()
	if ok != 1 {
		t.Errorf("%d of four backups into one place succeeded", ok)
	}
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	n.expect("e", "t", model)
}

// TestMovedEnd: a backup whose end moves because its name is taken is about what
// there is at the new end, not at the old one.
func TestMovedEnd(t *testing.T) {
	ctx := context.Background()
	n, _ := sampleNode(t, nodeOptions{})
	gone := n.createTable("d", "gone")
	d, err := n.svc.planBackup(ctx, n.session(), backupInto(databases("d")))
	if err != nil {
		t.Fatal(err)
	}
	planned := manifest.Time(d.EndTime)
	n.dropTable("d", "gone")
	late := n.createTable("d", "late")
	col, err := n.svc.openCollection(ctx, d.Uris, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer col.close()
	const mine, other = 1, 2
	if err := manifest.Lock(ctx, col.locs.Default(), manifest.FullDir(manifest.Subdir(planned)), other, true); err != nil {
		t.Fatal(err)
	}
	r := &backupResumer{s: n.svc}
	if _, err := r.claimPlace(ctx, mine, col, d, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !planned.Less(manifest.Time(d.EndTime)) {
		t.Fatal("the end did not move")
	}
	if !slices.Contains(d.TargetIds, late.ID()) || slices.Contains(d.TargetIds, gone.ID()) {
		t.Errorf("targets %v do not fit the new end: made %d, dropped %d", d.TargetIds, late.ID(), gone.ID())
	}
}

// TestWriteOnce runs a chain in a place whose objects are locked: it refuses to
// delete, and a write to a name that was ever taken is an alarm. Full and
// incremental backups, one that fails, one that pauses and is resumed, and restores
// need neither.
func TestWriteOnce(t *testing.T) {
	var place lockedPlace
	place.body = map[string]string{}
	var pause, fail atomic.Bool
	n, model := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000, Hook: func(_ context.Context, where string) error {
		if where == "backup.after.checkpoint" && fail.Load() {
			return extstore.Permanent(errors.New("planted"))
		}
		if (where == "backup.after.checkpoint" || where == "backup.after.manifest") && pause.CompareAndSwap(true, false) {
			return extstore.Permanent(jobs.PauseSelf("planted"))
		}
		return nil
	}}})
	n.places.wrap = func(s extstore.Store) extstore.Store { return &lockedStore{Store: s, place: &place} }
	n.mustRun(backupInto(databases("d"), withHistory))
	tbl := n.table("d", "t")
	for round := range 3 {
		n.write(tbl, model, someRows(int64(100*round), 150, fmt.Sprint("round", round)))
		stmt := backupInto(databases("d"), latest, withHistory)
		if round == 2 {
			stmt = backupInto(databases("d")) // LATEST moves.
		}
		fail.Store(true)
		if _, err := n.run(stmt); err == nil || !strings.Contains(err.Error(), "planted") {
			t.Fatalf("round %d: %v", round, err)
		}
		fail.Store(false)
		pause.Store(true)
		if _, err := n.run(stmt); err == nil || !strings.Contains(err.Error(), "paused") {
			t.Fatalf("round %d: %v", round, err)
		}
		rec := n.waitState(jobs.TypeBackup, jobs.Paused)
		n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Resume(ctx, txn, rec.ID) })
		if err := n.jobs.Wait(t.Context(), rec.ID); err != nil {
			t.Fatal(err)
		}
		n.mustRun(restoreFrom(databases("d"), newName("e")))
		n.expect("e", "t", model)
		n.dropDatabase("e")
	}
	if place.puts < 50 || place.deletes == 0 {
		t.Errorf("%d writes and %d refused deletions are too few to show anything", place.puts, place.deletes)
	}
	for _, name := range place.taken {
		// A lock or a manifest that is taken is how rivals learn of each other; there
		// are none here.
		t.Errorf("%s was written twice", name)
	}
	// What was written is still what is there.
	for name, want := range place.body {
		got, err := extstore.ReadAll(t.Context(), n.places.mem("/c"), name, 1<<30)
		if err != nil || string(got) != want {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

// lockedPlace is what a lockedStore remembers.
type lockedPlace struct {
	mu            sync.Mutex
	body          map[string]string
	taken         []string
	puts, deletes int
}

// lockedStore keeps each object for ever.
type lockedStore struct {
	extstore.Store
	place *lockedPlace
}

func (s *lockedStore) Put(ctx context.Context, name string, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	err = s.Store.Put(ctx, name, bytes.NewReader(b))
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.puts++
	if _, ok := s.place.body[name]; ok {
		s.place.taken = append(s.place.taken, name)
	} else if err == nil { // One that was given up leaves nothing.
		s.place.body[name] = string(b)
	}
	return err
}

func (s *lockedStore) Delete(context.Context, string) error {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.deletes++
	return extstore.Permanent(errors.New("object is locked"))
}

// TestDiskFull: a destination without room fails a backup with its SQLSTATE and
// leaves nothing that looks like one.
func TestDiskFull(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{testing: Testing{PageBytes: 3000}})
	n.places.wrap = func(s extstore.Store) extstore.Store {
		f := fault.New(s, func(op fault.Op) fault.Action {
			if op.Kind == "put" && strings.Contains(op.Name, "/data/") {
				return fault.Refuse
			}
			return fault.Pass
		})
		f.Err = pgerr.Newf(pgerr.DiskFull, "writing: %w", syscall.ENOSPC)
		return f
	}
	_, err := n.run(backupInto(databases("d")))
	if pgerr.GetCode(err) != pgerr.DiskFull || !strings.HasPrefix(err.Error(), "failed to run backup: ") {
		t.Errorf("got %s %v", pgerr.GetCode(err), err)
	}
	if out := n.mustRun(&parser.ShowBackups{In: uris(place)}); len(out) != 0 {
		t.Errorf("SHOW BACKUPS lists %q", out)
	}
	n.places.wrap = nil
	n.mustRun(backupInto(databases("d")))
}

// TestNotice tells who takes a second full that it is one.
func TestNotice(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{})
	n.mustRun(backupInto(databases("d")))
	if len(n.notices) != 0 {
		t.Errorf("first full: %v", n.notices)
	}
	n.mustRun(backupInto(databases("d")))
	if len(n.notices) != 1 || n.notices[0].Message != "a new full backup was taken; use INTO LATEST IN to append" {
		t.Errorf("second full: %v", n.notices)
	}
}
