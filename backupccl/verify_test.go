package backupccl

import (
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// chainNode has a chain of a full and two incrementals of d.t in many small files,
// and the states at the ends of its layers.
func chainNode(t *testing.T, history bool, hooks *Testing) (n *testNode, ends []hlc.Timestamp, states []rows) {
	n = startNode(t, nodeOptions{testing: *hooks})
	n.createDatabase("d")
	tbl, model := n.createTable("d", "t"), rows{}
	n.write(tbl, model, someRows(0, 200, "a"))
	for layer := range 3 {
		if layer > 0 {
			changes := rows{}
			for i := range int64(40) {
				switch i % 4 {
				case 0:
					changes[i*5+int64(layer)] = ""
				case 1:
					changes[1000*int64(layer)+i] = fmt.Sprint("new", i)
				default:
					changes[i*5+int64(layer)] = fmt.Sprint("changed in ", layer)
				}
			}
			n.write(tbl, model, changes)
		}
		time.Sleep(11 * time.Millisecond) // A layer of a given end has the name of its hundredth.
		end := n.db.Clock().Now()
		e := []func(*parser.Backup){endingAt(end)}
		if layer > 0 {
			e = append(e, latest)
		}
		if history {
			e = append(e, withHistory)
		}
		n.mustRun(backupInto(databases("d"), e...))
		ends, states = append(ends, end), append(states, maps.Clone(model))
	}
	return n, ends, states
}

// TestChainFaults plants faults into a chain and into its restore. Each must make
// the restore, or the backup, fail with an error that names it; none may give
// wrong rows. The first fault is none.
func TestChainFaults(t *testing.T) {
	incremental := func(d *manifest.Draft) bool { return d.Header.StartTime.GetWallTime() > 0 }
	for _, c := range []struct {
		name  string
		hooks Testing
		// backup says that the backup itself fails.
		backup bool
		want   string
	}{
		{name: "none"},
		{name: "file missing in the list of an incremental", hooks: Testing{EditDraft: func(d *manifest.Draft) {
			if incremental(d) {
				d.Files = d.Files[:len(d.Files)-1]
			}
		}}, want: "are not all of its files: index "},
		{name: "file twice in the list", backup: true, hooks: Testing{EditDraft: func(d *manifest.Draft) {
			if incremental(d) {
				d.Files = append(d.Files, d.Files[0])
			}
		}}, want: "before writing the manifest: file data/"},
		{name: "file missing in the plan", hooks: Testing{EditPlan: func(files []*manifest.DataFile) []*manifest.DataFile {
			return files[1:]
		}}, want: "restored index "},
		{name: "file of an incremental missing in the plan", hooks: Testing{EditPlan: func(files []*manifest.DataFile) []*manifest.DataFile {
			for i, f := range files {
				if f.StartTime.GetWallTime() > 0 {
					return append(files[:i:i], files[i+1:]...)
				}
			}
			return files
		}}, want: "restored index "},
		{name: "file used twice", hooks: Testing{EditPlan: func(files []*manifest.DataFile) []*manifest.DataFile {
			return append(files, files[0])
		}}, want: "is planned twice for index 1 of table "},
		{name: "tombstones skipped", hooks: Testing{EditMerge: func(o *storage.RestoreOptions) { o.Testing.SkipTombstones = true }}, want: "restored index "},
		{name: "older versions chosen", hooks: Testing{EditMerge: func(o *storage.RestoreOptions) {
			o.AsOf = hlc.Timestamp{WallTime: o.AsOf.WallTime - 1} // Replaced below by the end of a layer.
		}}, want: "restored index "},
		{name: "one piece not read", hooks: Testing{DropSpan: everyThird()}, backup: true, want: "the files differ from what was read for them: index "},
	} {
		for _, history := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, "/history=", history), func(t *testing.T) {
				hooks := c.hooks
				hooks.PageBytes = 2000
				if c.backup {
					n := startNode(t, nodeOptions{})
					n.createDatabase("d")
					tbl := n.createTable("d", "t")
					model := rows{}
					n.write(tbl, model, someRows(0, 200, "a"))
					n.mustRun(backupInto(databases("d")))
					n.write(tbl, model, someRows(0, 200, "b"))
					n.svc.cfg.Testing = hooks
					_, err := n.run(backupInto(databases("d"), latest))
					if pgerr.GetCode(err) != pgerr.DataCorrupted || !strings.Contains(err.Error(), c.want) {
						t.Errorf("backup: %s %v", pgerr.GetCode(err), err)
					}
					// Nothing of it counts.
					n.svc.cfg.Testing = Testing{}
					n.mustRun(backupInto(databases("d"), latest))
					n.mustRun(restoreFrom(databases("d"), newName("e")))
					n.expect("e", "t", model)
					return
				}
				setup := Testing{PageBytes: 2000, EditDraft: hooks.EditDraft}
				n, ends, states := chainNode(t, history, &setup)
				if hooks.EditMerge != nil && c.name == "older versions chosen" {
					hooks.EditMerge = func(o *storage.RestoreOptions) { o.AsOf = ends[1] }
				}
				n.svc.cfg.Testing = hooks
				_, err := n.run(restoreFrom(databases("d"), newName("e")))
				if c.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					n.expect("e", "t", states[2])
					return
				}
				if pgerr.GetCode(err) != pgerr.DataCorrupted || !strings.Contains(err.Error(), c.want) {
					t.Errorf("restore: %s %v", pgerr.GetCode(err), err)
				}
				n.expect("e", "t", nil)
				if off := n.offlineObjects(); len(off) > 0 {
					t.Errorf("%v stay behind", off)
				}
			})
		}
	}
}

func everyThird() func(sp keys.Span) bool {
	var seen atomic.Int64
	return func(keys.Span) bool { return seen.Add(1)%3 == 0 }
}

// TestInstantFaults: of an instant inside history no fingerprint is recorded. All
// that the files have must still have been read, and their lists must be whole.
func TestInstantFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		hooks Testing
		want  string
	}{
		{name: "none"},
		{name: "file missing in the list", hooks: Testing{EditDraft: func(d *manifest.Draft) {
			if d.Header.StartTime.GetWallTime() > 0 {
				d.Files = d.Files[1:]
			}
		}}, want: "are not all of its files: index "},
		{name: "file missing in the plan", hooks: Testing{EditPlan: func(files []*manifest.DataFile) []*manifest.DataFile { return files[:len(files)-1] }},
			want: "of index 1 of table "},
		{name: "file used twice", hooks: Testing{EditPlan: func(files []*manifest.DataFile) []*manifest.DataFile { return append(files, files[0]) }},
			want: "is planned twice for index 1 of table "},
		{name: "described wrongly", hooks: Testing{EditDraft: func(d *manifest.Draft) {
			for _, f := range d.Files {
				f.Indexes[0].FingerprintLo++
			}
			for _, e := range d.Descriptors {
				for _, ix := range e.Indexes {
					for _, f := range d.Files {
						if f.Indexes[0].TableId == ix.TableId && f.Indexes[0].IndexId == ix.IndexId {
							ix.FingerprintLo++
						}
					}
				}
			}
		}}, want: "the restore read "},
	} {
		t.Run(c.name, func(t *testing.T) {
			setup := Testing{PageBytes: 2000, EditDraft: c.hooks.EditDraft}
			n, ends, states := chainNode(t, true, &setup)
			n.svc.cfg.Testing = c.hooks
			// Between the write of the last layer and its end, and before it.
			for i, at := range []hlc.Timestamp{ends[2].Prev(), ends[1].Next()} {
				_, err := n.run(restoreFrom(databases("d"), newName("e"), func(r *parser.Restore) { r.AsOf = asOf(at) }))
				if c.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					n.expect("e", "t", states[2-i])
					n.dropDatabase("e")
					continue
				}
				if pgerr.GetCode(err) != pgerr.DataCorrupted || !strings.Contains(err.Error(), c.want) {
					t.Errorf("restore: %s %v", pgerr.GetCode(err), err)
				}
				n.expect("e", "t", nil)
			}
		})
	}
}

// TestViewsSayWhatIsThere compares what each layer of a chain says that the whole
// holds with what a full taken at the same time says; and without the setting
// incrementals say nothing, and restores still work.
func TestViewsSayWhatIsThere(t *testing.T) {
	for _, history := range []bool{false, true} {
		n, ends, states := chainNode(t, history, &Testing{PageBytes: 2000})
		for i, end := range ends {
			n.mustRun(backupInto(databases("d"), endingAt(end), func(b *parser.Backup) { b.To = uris(fmt.Sprint("nodelocal://1/full", i)) }))
			want := n.views(fmt.Sprint("/full", i), 0)
			got := n.views("/c", i)
			if len(want) != 2 || !maps.Equal(got, want) {
				t.Errorf("history %t, layer %d:\n got %v\nwant %v", history, i, got, want)
			}
		}
		if err := n.reg.Apply(map[string]string{"bulkio.backup.chain_fingerprints.enabled": "false"}); err != nil {
			t.Fatal(err)
		}
		n.mustRun(backupInto(databases("d"), latest))
		if got := n.views("/c", 3); len(got) != 2 {
			t.Errorf("an empty incremental says %v", got) // Nothing changed: nothing need be looked up.
		}
		tbl := n.table("d", "t")
		n.write(tbl, states[2], rows{1: "x"})
		n.mustRun(backupInto(databases("d"), latest))
		if got := n.views("/c", 4); len(got) != 0 {
			t.Errorf("without the setting: %v", got)
		}
		n.mustRun(restoreFrom(databases("d"), newName("e")))
		n.expect("e", "t", states[2])
	}
}

// views returns the merged views that the i-th layer of a chain records, as text by index.
func (n *testNode) views(place string, i int) map[string]string {
	n.t.Helper()
	ctx := n.t.Context()
	locs := manifest.Locations{{Store: n.places.mem(place)}}
	subdir, err := manifest.ReadLatest(ctx, locs.Default())
	if err != nil {
		n.t.Fatal(err)
	}
	chain, err := manifest.LoadChain(ctx, locs, nil, subdir)
	if err != nil {
		n.t.Fatal(err)
	}
	out := map[string]string{}
	err = chain.All()[i].Descriptors(ctx, func(e *backuppb.DescriptorEntry) error {
		for _, ix := range e.Merged {
			out[fmt.Sprintf("%d/%d", ix.TableId, ix.IndexId)] = fmt.Sprintf("%d %016x%016x", ix.ViewKvs, ix.ViewHi, ix.ViewLo)
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}
