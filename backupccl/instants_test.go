package backupccl

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/protectedts"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// TestNeededVersionsStay collects garbage with next to no time to live while a
// backup has its protection and has not read anything yet: what a full reads at
// its end and an incremental since its start must still be there.
func TestNeededVersionsStay(t *testing.T) {
	ctx := context.Background()
	var n *testNode
	var user keys.Span // has a short time to live
	collect := func(context.Context, string) error { return nil }
	n = startNode(t, nodeOptions{
		testing: Testing{Hook: func(ctx context.Context, place string) error { return collect(ctx, place) }},
		open: func() (*kvtest.Node, error) {
			return kvtest.Start(kvtest.Options{GC: &kvserver.GCConfig{
				Policies: func(context.Context, keys.Span) ([]kvserver.GCPolicy, error) {
					if user.Key == nil {
						return nil, nil
					}
					return []kvserver.GCPolicy{{Span: user, TTL: time.Millisecond}}, nil
				},
				Protections: func(ctx context.Context) ([]kvserver.Protection, hlc.Timestamp, error) {
					state, err := protectedts.Load(ctx, n.db)
					var out []kvserver.Protection
					for _, r := range state.Records {
						out = append(out, kvserver.Protection{Timestamp: r.Timestamp})
					}
					return out, state.ReadAt, err
				},
				Interval: time.Hour, Eager: true,
			}})
		},
	})
	n.createDatabase("d")
	tbl, model := n.createTable("d", "t"), rows{}
	n.write(tbl, model, someRows(0, 60, "a"))
	user = tbl.Span()
	// A collection reads the protections, and then the present is a moment later.
	collections := 0
	collect = func(ctx context.Context, place string) error {
		if place != "backup.after.protect" {
			return nil
		}
		n.write(tbl, maps.Clone(model), rows{1: "", 2: "later", 3: "", 70: "new"})
		time.Sleep(20 * time.Millisecond)
		collections++
		return n.node.Store.CollectGarbage(ctx)
	}
	want := maps.Clone(model)
	end := n.db.Clock().Now()
	n.mustRun(backupInto(databases("d"), endingAt(end)))
	n.mustRun(restoreFrom(databases("d"), newName("full")))
	n.expect("full", "t", want)

	// The rows deleted by the hook, and one more, since the full's end.
	for id, v := range (rows{1: "", 2: "later", 3: "", 70: "new"}) {
		if v == "" {
			delete(model, id)
		} else {
			model[id] = v
		}
	}
	n.write(tbl, model, rows{5: "", 6: "b"})
	want = maps.Clone(model)
	end = n.db.Clock().Now()
	// The chain's own end is still above the threshold: nothing was collected since.
	if _, err := n.run(backupInto(databases("d"), latest, endingAt(end))); err != nil {
		t.Fatalf("incremental: %v", err)
	}
	n.mustRun(restoreFrom(databases("d"), newName("inc")))
	n.expect("inc", "t", want)
	if collections != 2 {
		t.Errorf("%d collections, want one in each backup", collections)
	}
	// Without protection the same collection takes versions away.
	n.write(tbl, model, rows{7: "", 8: "c"})
	time.Sleep(20 * time.Millisecond)
	if err := n.node.Store.CollectGarbage(ctx); err != nil {
		t.Fatal(err)
	}
	collect = func(context.Context, string) error { return nil }
	for what, b := range map[string]*parser.Backup{
		"an incremental since":      backupInto(databases("d"), latest),
		"a full that ends at":       backupInto(databases("d"), endingAt(end)),
		"a full with history up to": backupInto(databases("d"), withHistory, endingAt(end), func(b *parser.Backup) { b.To = uris("nodelocal://1/h") }),
	} {
		if _, err := n.run(b); err == nil || !strings.Contains(err.Error(), "must be after replica GC threshold") {
			t.Errorf("%s a time whose versions are collected: %v", what, err)
		}
	}
}

// TestSchemaOfTheInstant checks that a backup lists what there was at its end, not
// when it ran, and that a restore makes what there was at its instant: tables that
// were dropped since come back with their rows, later ones do not exist.
func TestSchemaOfTheInstant(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	gone, goneRows := n.createTable("d", "gone"), rows{}
	n.write(gone, goneRows, someRows(0, 30, "g"))
	past := n.db.Clock().Now()
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		pb, err := cat.MutableTable(ctx, gone.ID())
		if err != nil {
			return err
		}
		pb.Columns[2].Name = "renamed"
		_, err = cat.Write(ctx, pb)
		return err
	})
	late, lateRows := n.createTable("d", "late"), rows{}
	n.write(late, lateRows, someRows(0, 10, "l"))

	has := func(db string, want ...string) {
		t.Helper()
		got := ""
		for _, name := range []string{"gone", "late", "inside"} {
			if n.table(db, name) != nil {
				got += name + " "
			}
		}
		if w := fmt.Sprintln(want); fmt.Sprintln(strings.Fields(got)) != w {
			t.Errorf("%s has tables %q, want %s", db, got, w)
		}
	}
	n.mustRun(backupInto(databases("d"), endingAt(past)))
	n.mustRun(restoreFrom(databases("d"), newName("before")))
	has("before", "gone")
	if c := n.table("before", "gone").Columns()[2].Name; c != "n" {
		t.Errorf("the backup calls a column %q, which it was only later", c)
	}
	n.expect("before", "gone", goneRows)

	n.mustRun(backupInto(databases("d"), withHistory))
	inside, insideRows := n.createTable("d", "inside"), rows{}
	n.write(inside, insideRows, someRows(0, 20, "i"))
	n.write(gone, goneRows, rows{1: "", 2: "x"})
	all := n.db.Clock().Now()
	n.dropTable("d", "inside")
	n.dropTable("d", "gone")
	n.mustRun(backupInto(databases("d"), latest, withHistory))

	n.mustRun(restoreFrom(databases("d"), newName("end")))
	has("end", "late")
	n.mustRun(restoreFrom(databases("d"), newName("all"), at(all)))
	has("all", "gone", "late", "inside")
	n.expect("all", "gone", goneRows)
	n.expect("all", "inside", insideRows)
	n.mustRun(restoreFrom(databases("d"), newName("then"), at(past)))
	has("then", "gone")
}

// TestLongHistoryOfARow backs up rows whose histories exceed what a page may hold,
// so that files are cut between versions of one key, and restores to every version.
// A run that ends in the middle of a row, and one that goes on, must not lose any.
func TestLongHistoryOfARow(t *testing.T) {
	for _, stop := range []bool{false, true} {
		t.Run(fmt.Sprint("stopped=", stop), func(t *testing.T) {
			pages := 0
			fail := func(context.Context, string) error { return nil }
			n := startNode(t, nodeOptions{testing: Testing{
				PageBytes: 1000, RowBytes: 2000,
				Hook:        func(ctx context.Context, place string) error { return fail(ctx, place) },
				AfterExport: func(jobs.ID, keys.Span) { pages++ },
			}})
			n.svc.cfg.Workers = 1
			n.createDatabase("d")
			tbl, model := n.createTable("d", "t"), rows{}
			n.write(tbl, model, someRows(0, 5, "a"))
			type moment struct {
				ts   hlc.Timestamp
				rows rows
			}
			var history []moment
			change := func(i int) {
				v := fmt.Sprint(i, strings.Repeat("x", 150))
				if i%7 == 3 {
					v = "" // Deleted, and made again by the next.
				}
				ts := n.write(tbl, model, rows{2: v, 4: fmt.Sprint(i)})
				history = append(history, moment{ts, maps.Clone(model)})
			}
			for i := range 25 {
				change(i)
			}
			if stop {
				// A run ends after some checkpoint; another one goes on from there.
				checkpoints := 0
				fail = func(_ context.Context, place string) error {
					if place != "backup.after.checkpoint" {
						return nil
					}
					if checkpoints++; checkpoints%5 == 3 {
						return fmt.Errorf("stopped")
					}
					return nil
				}
			}
			n.mustRun(backupInto(databases("d"), withHistory))
			for i := range 25 {
				change(25 + i)
			}
			n.mustRun(backupInto(databases("d"), withHistory, latest))
			if pages < 12 {
				t.Errorf("only %d pages: no row was cut", pages)
			}
			for i := 0; i < len(history); i += 3 {
				n.mustRun(restoreFrom(databases("d"), newName("e"), at(history[i].ts)))
				n.expect("e", "t", history[i].rows)
				n.dropDatabase("e")
			}
		})
	}
}

// TestFailedRestoreLetsGo checks that a restore that fails among descriptors does
// not keep them in use: they could not be changed until the node restarts.
func TestFailedRestoreLetsGo(t *testing.T) {
	n, _ := sampleNode(t, nodeOptions{})
	n.mustRun(backupInto(databases("d")))
	if _, err := n.run(restoreFrom(tables("d.t"))); err == nil || !strings.Contains(err.Error(), "already exists") {
		t.Fatalf("restore of a table that is there: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ids := []uint32{n.database("d").ID(), n.table("d", "t").ID()}
	err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		cat := n.cache.NewCollection(txn)
		defer cat.Release()
		for _, id := range ids {
			if err := cat.LockExclusive(ctx, id, time.Second); err != nil {
				return fmt.Errorf("descriptor %d: %w", id, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
