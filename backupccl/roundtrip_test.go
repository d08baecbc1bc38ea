package backupccl

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// TestRoundTrip: what was backed up comes back, beside the original and in its
// place.
func TestRoundTrip(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	tbl := n.createTable("d", "t")
	n.createTable("d", "empty")
	model := rows{}
	n.write(tbl, model, someRows(0, 500, "a"))
	out := n.mustRun(backupInto(databases("d")))
	if len(out) != 1 || out[0][1] != "succeeded" || out[0][3] != "500" || out[0][4] != "500" {
		t.Errorf("backup returned %q", out)
	}
	out = n.mustRun(restoreFrom(databases("d"), newName("e")))
	if len(out) != 1 || out[0][1] != "succeeded" || out[0][2] != "1.0" || out[0][3] != "500" || out[0][4] != "500" {
		t.Errorf("restore returned %q", out)
	}
	n.expect("e", "t", model)
	n.expect("e", "empty", rows{})
	n.expect("d", "t", model)
	n.dropDatabase("d")
	n.expect("d", "t", nil)
	n.mustRun(restoreFrom(databases("d")))
	n.expect("d", "t", model)
	if off := n.offlineObjects(); len(off) > 0 {
		t.Errorf("left offline: %v", off)
	}
}

// TestRandomChains compares random chains, with and without history, with a
// plain model at random times.
func TestRandomChains(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { randomChain(t, seed, Testing{PageBytes: 2000}) })
	}
}

// randomChain takes a chain over random writes and restores it at random times.
func randomChain(t *testing.T, seed uint64, hooks Testing) (failed bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	n := startNode(t, nodeOptions{testing: hooks})
	n.createDatabase("d")
	tbl := n.createTable("d", "t")
	model := rows{}
	type moment struct {
		ts   hlc.Timestamp
		rows rows
	}
	var history []moment
	remember := func(ts hlc.Timestamp) { history = append(history, moment{ts, maps.Clone(model)}) }
	remember(n.write(tbl, model, someRows(0, 300, "a")))
	hist := rng.IntN(2) == 0
	opts := func(extra ...func(*parser.Backup)) []func(*parser.Backup) {
		if hist {
			extra = append(extra, withHistory)
		}
		return extra
	}
	var ends []moment
	layers := 2 + rng.IntN(4)
	for layer := range layers {
		for range rng.IntN(5) {
			remember(n.write(tbl, model, randomChanges(rng, model, 1+rng.IntN(40))))
		}
		time.Sleep(11 * time.Millisecond) // A layer of a given end has the name of its hundredth.
		end := n.db.Clock().Now()
		e := []func(*parser.Backup){endingAt(end)}
		if layer > 0 {
			e = append(e, latest)
		}
		n.mustRun(backupInto(databases("d"), opts(e...)...))
		ends = append(ends, moment{end, maps.Clone(model)})
		if layer == layers/2 {
			// A table that is made between layers, and one that goes.
			extra := n.createTable("d", "late")
			n.write(extra, rows{}, someRows(0, 50, "late"))
		}
	}
	try := func(m moment, what string) {
		out, err := n.run(restoreFrom(databases("d"), newName("e"), at(m.ts)))
		if err != nil {
			t.Errorf("%s at %s: %v", what, m.ts, err)
			return
		}
		_ = out
		n.expect("e", "t", m.rows)
		n.dropDatabase("e")
	}
	for i, m := range ends {
		try(m, fmt.Sprint("end of layer ", i))
	}
	if hist {
		for range 6 {
			i := rng.IntN(len(history))
			m := history[i]
			try(m, "a write")
			if i > 0 {
				try(moment{m.ts.Prev(), history[i-1].rows}, "one tick before a write")
			}
		}
	}
	return t.Failed()
}

// TestBoundaries takes layers that end exactly at a commit, and one tick before.
func TestBoundaries(t *testing.T) {
	for _, edit := range []func(*parser.Backup){func(*parser.Backup) {}, withHistory} {
		n := startNode(t, nodeOptions{})
		n.createDatabase("d")
		tbl, model := n.createTable("d", "t"), rows{}
		n.write(tbl, model, someRows(0, 20, "a"))
		var ends []hlc.Timestamp
		var want []rows
		for i := range 3 {
			before := maps.Clone(model)
			time.Sleep(11 * time.Millisecond) // See above.
			ts := n.write(tbl, model, rows{1: fmt.Sprint("b", i), int64(2 + i): "", int64(100 + i): "new"})
			for j, end := range []hlc.Timestamp{ts.Prev(), ts} {
				e := []func(*parser.Backup){edit, endingAt(end)}
				if len(ends) > 0 {
					e = append(e, latest)
				}
				// The names of layers are no finer than 10 ms.
				if j == i%2 {
					n.mustRun(backupInto(databases("d"), e...))
					ends, want = append(ends, end), append(want, []rows{before, maps.Clone(model)}[j])
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		for i, end := range ends {
			n.mustRun(restoreFrom(databases("d"), newName("e"), at(end)))
			n.expect("e", "t", want[i])
			n.dropDatabase("e")
		}
	}
}

// TestShow checks the listings of a chain.
func TestShow(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	tbl := n.createTable("d", "t")
	model := rows{}
	n.write(tbl, model, someRows(0, 100, "a"))
	n.mustRun(backupInto(databases("d")))
	n.write(tbl, model, someRows(0, 10, "b"))
	n.mustRun(backupInto(databases("d"), latest))
	backups := n.mustRun(&parser.ShowBackups{In: uris(place)})
	if len(backups) != 1 || !strings.HasPrefix(backups[0][0], "/") {
		t.Fatalf("SHOW BACKUPS: %q", backups)
	}
	show := func(d parser.ShowBackupDetails, edit func(*parser.ShowBackupOptions)) [][]string {
		s := &parser.ShowBackup{Details: d, Subdir: str(backups[0][0]), In: uris(place)}
		if edit != nil {
			edit(&s.Options)
		}
		out := n.mustRun(s)
		for _, r := range out {
			if len(r) != len(showBackupColumns(s)) {
				t.Errorf("%s: %d values for %d columns", d, len(r), len(showBackupColumns(s)))
			}
		}
		return out
	}
	var got []string
	for _, r := range show(parser.ShowBackupDefault, nil) {
		got = append(got, strings.Join([]string{r[0], r[1], r[2], r[3], r[4], r[8], r[9]}, " "))
	}
	want := []string{
		"NULL NULL d database full NULL false", "d NULL public schema full NULL false", "d public t table full 100 false",
		"NULL NULL d database incremental NULL false", "d NULL public schema incremental NULL false", "d public t table incremental 10 false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("SHOW BACKUP:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := show(parser.ShowBackupRanges, nil); len(r) != 4 {
		t.Errorf("RANGES: %q", r)
	}
	if r := show(parser.ShowBackupFiles, nil); len(r) < 2 || r[0][9] != "-1" || r[0][8] != "NULL" {
		t.Errorf("FILES: %q", r)
	}
	if r := show(parser.ShowBackupValidate, nil); len(r) != 1 || r[0][0] != "No problems found!\n" {
		t.Errorf("VALIDATE: %q", r)
	}
	if r := show(parser.ShowBackupDefault, func(o *parser.ShowBackupOptions) { o.AsJSON = true }); len(r) != 2 {
		t.Errorf("as_json: %q", r)
	}
	r := show(parser.ShowBackupSchemas, func(o *parser.ShowBackupOptions) { o.CheckFiles, o.Privileges, o.DebugIDs = true, true, true })
	if len(r) != 6 || r[2][len(r[2])-2] != "root" {
		t.Errorf("SCHEMAS with everything: %q", r)
	}
	// A data file goes missing.
	files := show(parser.ShowBackupFiles, nil)
	mem := n.places.mem("/c")
	mem.Tamper(strings.Trim(backups[0][0], "/")+"/"+files[0][0], nil)
	_, err := n.run(&parser.ShowBackup{Subdir: str(backups[0][0]), In: uris(place), Options: parser.ShowBackupOptions{CheckFiles: true}})
	if err == nil || !strings.HasPrefix(err.Error(), "The following files are missing from the backup:\n\t") {
		t.Errorf("missing file: %v", err)
	}
}

// TestCluster restores a whole cluster into a new one and refuses one that is
// not empty.
func TestCluster(t *testing.T) {
	n := startNode(t, nodeOptions{})
	n.createDatabase("d")
	tbl := n.createTable("d", "t")
	def := n.createTable("defaultdb", "x")
	model, defModel := rows{}, rows{}
	n.write(tbl, model, someRows(0, 200, "a"))
	n.write(def, defModel, someRows(0, 20, "x"))
	n.mustRun(backupInto(parser.Targets{}))
	n.write(tbl, model, someRows(50, 20, "b"))
	n.mustRun(backupInto(parser.Targets{}, latest))

	m := startNode(t, nodeOptions{clusterID: 2, places: n.places})
	m.mustRun(restoreFrom(parser.Targets{}))
	m.expect("d", "t", model)
	m.expect("defaultdb", "x", defModel)
	if got, want := m.table("d", "t").ID(), tbl.ID(); got != want {
		t.Errorf("table has id %d in a new cluster, want %d", got, want)
	}
	if off := m.offlineObjects(); len(off) > 0 {
		t.Errorf("left offline: %v", off)
	}
	_, err := m.run(restoreFrom(parser.Targets{}))
	if err == nil || !strings.HasPrefix(err.Error(), "full cluster restore can only be run on a cluster with no tables or databases but found 4 descriptors: ") {
		t.Errorf("restore into a cluster with data: %v", err)
	}
	if id := m.newID(); id <= tbl.ID() {
		t.Errorf("new id %d is not above the restored ones", id)
	}
	// The new cluster may not append to the old one's chain.
	if _, err := m.run(backupInto(parser.Targets{}, latest)); err == nil || !strings.Contains(err.Error(), "previous BACKUP belongs to cluster") {
		t.Errorf("append from another cluster: %v", err)
	}
	_ = context.Background
}
