package backupccl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// part is what can have a comment in a test: a kind of comment, an object by kind
// and name ("" is the database itself), and a column, index or constraint of it.
type part struct {
	typ    int64
	object string
	sub    int64
}

// commentParts are those of relatedNode's database.
var commentParts = []part{
	{0, "database ", 0}, {4, "schema public", 0}, {6, "type mood", 0}, {1, "table v", 0}, {1, "table seq", 0},
	{1, "table parent", 0}, {2, "table parent", 1}, {2, "table parent", 3}, {3, "table parent", 1}, {3, "table parent", 2}, {5, "table parent", 1},
	{1, "table child", 0}, {2, "table child", 2}, {5, "table child", 1},
}

type comments map[part]string

// named returns the objects of a database as part names them, offline ones too.
func (n *testNode) named(db string) map[string]uint32 {
	n.t.Helper()
	out := map[string]uint32{}
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		clear(out)
		all, err := cat.All(ctx)
		var id uint32
		for _, d := range all {
			if d.Kind() == catalog.DatabaseKind && d.Name() == db {
				id = d.ID()
				out["database "] = id
			}
		}
		for _, d := range all {
			if d.ParentID() == id && id != 0 {
				out[d.Kind().String()+" "+d.Name()] = d.ID()
			}
		}
		return err
	})
	return out
}

// commentOn writes comments on parts of a database in one transaction, "" removes;
// have changes too. It returns when that happened.
func (n *testNode) commentOn(db string, have, changes comments) (ts hlc.Timestamp) {
	n.t.Helper()
	ids := n.named(db)
	n.txn(func(ctx context.Context, txn *kv.Txn, _ *catalog.Collection) error {
		b := txn.NewBatch()
		for p, text := range changes {
			if ids[p.object] == 0 {
				return fmt.Errorf("no %s in %s", p.object, db)
			}
			key := systables.Row{p.typ, int64(ids[p.object]), p.sub, text}
			put, _, err := systables.Comments.Change(nil, key)
			if err != nil {
				return err
			}
			for _, pair := range put {
				if text == "" {
					b.Del(pair.Key)
				} else {
					b.Put(pair.Key, pair.Value)
				}
			}
		}
		err := txn.Run(ctx, b)
		ts = txn.CommitTimestamp()
		return err
	})
	for p, text := range changes {
		if text == "" {
			delete(have, p)
		} else {
			have[p] = text
		}
	}
	return ts
}

// commentsIn returns the comments in a database.
func (n *testNode) commentsIn(db string) comments {
	n.t.Helper()
	name := map[int64]string{}
	for object, id := range n.named(db) {
		name[int64(id)] = object
	}
	out := comments{}
	for _, r := range n.allComments() {
		if object, ok := name[r[1].(int64)]; ok {
			out[part{r[0].(int64), object, r[2].(int64)}] = r[3].(string)
		}
	}
	return out
}

func (n *testNode) allComments() (rows []systables.Row) {
	n.t.Helper()
	n.txn(func(ctx context.Context, txn *kv.Txn, _ *catalog.Collection) (err error) {
		rows, err = scanSystemTable(ctx, txn, systables.Comments)
		return err
	})
	return rows
}

func (n *testNode) expectComments(what, db string, want comments) {
	n.t.Helper()
	if got := n.commentsIn(db); !maps.Equal(got, want) {
		n.t.Errorf("%s: comments\n got %v\nwant %v", what, got, want)
	}
}

// TestCommentsTravel changes comments at random, and nothing else, over a chain. A
// restore of the database brings those of its instant, whatever kind of backup it
// comes from, and none but those.
func TestCommentsTravel(t *testing.T) {
	for _, cluster := range []bool{false, true} {
		for _, history := range []bool{false, true} {
			t.Run(fmt.Sprintf("cluster=%t/history=%t", cluster, history), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, 4))
				n, _, _ := relatedNode(t)
				n.createDatabase("other")
				n.createTable("other", "parent")
				n.commentOn("other", comments{}, comments{{0, "database ", 0}: "not this", {1, "table parent", 0}: "nor that"})
				other := n.commentsIn("other")
				targets, opts := databases("d"), []func(*parser.Backup){}
				if cluster {
					targets = parser.Targets{}
				}
				if history {
					opts = append(opts, withHistory)
				}
				type moment struct {
					ts   hlc.Timestamp
					want comments
				}
				model := comments{}
				changes, ends := []moment{}, []moment{}
				change := func() {
					c := comments{}
					for range 1 + rng.IntN(3) {
						text := ""
						if rng.IntN(3) > 0 {
							text = fmt.Sprintf("text %d\nthé 'other' line", rng.IntN(1000))
						}
						c[commentParts[rng.IntN(len(commentParts))]] = text
					}
					changes = append(changes, moment{n.commentOn("d", model, c), maps.Clone(model)})
				}
				for layer := range 5 {
					for range rng.IntN(5) {
						change()
					}
					time.Sleep(11 * time.Millisecond) // A layer of a given end has the name of its hundredth.
					ends = append(ends, moment{n.db.Clock().Now(), maps.Clone(model)})
					if layer < 4 {
						change() // Before the backup runs, and after its end.
					}
					n.mustRun(backupInto(targets, append(opts, endingAt(ends[layer].ts))...))
					if layer == 0 {
						opts = append(opts, latest)
					}
				}
				n.commentOn("d", model, comments{commentParts[0]: "after all", commentParts[5]: "", commentParts[6]: "new"})
				try := func(what string, m moment) {
					t.Helper()
					n.mustRun(restoreFrom(databases("d"), newName("e"), at(m.ts)))
					n.expectComments(what, "e", m.want)
					n.dropDatabase("e")
				}
				for i, m := range ends {
					try(fmt.Sprint("end of layer ", i), m)
				}
				if history {
					for i, m := range changes {
						try(fmt.Sprint("change ", i), m)
						if i > 0 {
							try(fmt.Sprint("before change ", i), moment{m.ts.Prev(), changes[i-1].want})
						}
					}
				}
				n.expectComments("what was backed up", "d", model)
				n.expectComments("what was not", "other", other)
				if cluster {
					m := startNode(t, nodeOptions{clusterID: 2, places: n.places})
					m.mustRun(restoreFrom(parser.Targets{}))
					last := ends[len(ends)-1].want
					m.expectComments("a new cluster", "d", last)
					if got := len(m.allComments()); got != len(last)+len(other) {
						t.Errorf("a new cluster has %d comments, want %d", got, len(last)+len(other))
					}
				}
			})
		}
	}
}

// TestCommentsOfTables: a restored table has its comments and those of its parts.
// What was there already keeps its own.
func TestCommentsOfTables(t *testing.T) {
	n, _, _ := relatedNode(t)
	model := comments{}
	for i, p := range commentParts {
		n.commentOn("d", model, comments{p: fmt.Sprint("text ", i)})
	}
	for _, targets := range []parser.Targets{databases("d"), tables("d.child", "d.parent"), {}} {
		n.mustRun(backupInto(targets))
		n.createDatabase("e")
		own := comments{}
		n.commentOn("e", own, comments{{0, "database ", 0}: "mine", {4, "schema public", 0}: "mine too"})
		n.mustRun(restoreFrom(tables("d.child"), func(r *parser.Restore) {
			r.Options.IntoDB, r.Options.SkipMissingFKs = str("e"), true
		}))
		want := maps.Clone(own)
		for p, text := range model {
			if p.object == "table child" {
				want[p] = text
			}
		}
		if len(want) != 5 {
			t.Fatalf("%d comments to expect, not 5", len(want))
		}
		n.expectComments(fmt.Sprint(targets), "e", want)
		n.dropDatabase("e")
	}
	n.mustRun(backupInto(databases("d")))
	n.mustRun(restoreFrom(databases("d"), newName("f"), func(r *parser.Restore) { r.Options.SchemaOnly = true }))
	n.expectComments("schema_only", "f", model)
}

// TestCommentsOfFailedRestores: a restore that fails or is canceled leaves no
// comments; one that is continued in another life leaves them once.
func TestCommentsOfFailedRestores(t *testing.T) {
	n, _, _ := relatedNode(t)
	model := comments{}
	n.commentOn("d", model, comments{commentParts[0]: "a", commentParts[5]: "b", commentParts[6]: "c"})
	n.mustRun(backupInto(databases("d")))
	before := n.allComments()
	for _, place := range []string{"restore.after.descriptors", "restore.before.publish"} {
		n.svc.cfg.Testing = Testing{Hook: func(_ context.Context, at string) error {
			if at == place {
				return errors.New("planted")
			}
			return nil
		}}
		if _, err := n.run(restoreFrom(databases("d"), newName("e"))); err == nil || !strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v", place, err)
		}
		n.waitState(jobs.TypeRestore, jobs.Failed)
		if got := n.allComments(); fmt.Sprint(got) != fmt.Sprint(before) {
			t.Errorf("%s: a failed restore leaves comments %v, was %v", place, got, before)
		}
	}
	n.svc.cfg.Testing = Testing{Hook: func(ctx context.Context, at string) error {
		if at != "restore.before.publish" {
			return nil
		}
		rec := n.waitState(jobs.TypeRestore, jobs.Running)
		n.control(func(ctx context.Context, txn *kv.Txn) error { return n.jobs.Cancel(ctx, txn, rec.ID) })
		<-ctx.Done()
		return ctx.Err()
	}}
	if _, err := n.run(restoreFrom(databases("d"), newName("e"))); err == nil {
		t.Error("a canceled restore succeeds")
	}
	n.waitState(jobs.TypeRestore, jobs.Canceled)
	if got := n.allComments(); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("a canceled restore leaves comments %v, was %v", got, before)
	}
	n.svc.cfg.Testing = Testing{}
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	n.expectComments("after all", "e", model)
	if got := len(n.allComments()); got != 2*len(before) {
		t.Errorf("%d comments, want %d twice", got, len(before))
	}
}

// TestCommentsOfDroppedObjects: inside history, an object that is gone at the
// layer's end has its comments, and so has what they were about.
func TestCommentsOfDroppedObjects(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	n.createTable("d", "old")
	model := comments{}
	n.commentOn("d", model, comments{{1, "table old", 0}: "old one"})
	n.mustRun(backupInto(databases("d"), withHistory))
	n.createTable("d", "brief")
	then := n.commentOn("d", model, comments{{1, "table brief", 0}: "brief", {2, "table brief", 2}: "column"})
	want := maps.Clone(model)
	n.commentOn("d", model, comments{{1, "table brief", 0}: "", {2, "table brief", 2}: "", {1, "table old", 0}: ""})
	n.dropTable("d", "brief")
	n.dropTable("d", "old")
	n.mustRun(backupInto(databases("d"), withHistory, latest))
	n.mustRun(restoreFrom(databases("d"), newName("e"), at(then)))
	n.expectComments("then", "e", want)
	n.mustRun(restoreFrom(databases("d"), newName("f")))
	n.expectComments("at the end", "f", comments{})
}

// TestManyComments writes more of them than one request has.
func TestManyComments(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	n.createTable("d", "t")
	model, changes := comments{}, comments{}
	for i := range int64(2*insertRowsBatch + 1) {
		changes[part{2, "table t", i + 1}] = fmt.Sprint("column ", i)
	}
	n.commentOn("d", model, changes)
	n.mustRun(backupInto(databases("d")))
	n.mustRun(restoreFrom(databases("d"), newName("e")))
	got := n.commentsIn("e")
	if !maps.Equal(got, model) {
		t.Errorf("%d comments, want %d; of them %d are the same", len(got), len(model),
			len(slices.DeleteFunc(slices.Collect(maps.Keys(got)), func(p part) bool { return got[p] != model[p] })))
	}
}
