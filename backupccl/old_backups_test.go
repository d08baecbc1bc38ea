package backupccl

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/sql/parser"
)

var writeOldBackup = flag.Bool("write-old-backup", false, "write testdata/backups/v1001 anew")

// TestOldBackups restores the backups of every format version that was ever
// written. Their bytes stay as they are; a new version adds a directory.
func TestOldBackups(t *testing.T) {
	const dir = "testdata/backups/v1001"
	full := someRows(0, 40, "old")
	later := rows{}
	for id, v := range full {
		later[id] = v
	}
	changes := rows{3: "", 5: "five", 100: "hundred"}
	if *writeOldBackup {
		n := startNode(t, nodeOptions{})
		n.createDatabase("d")
		tbl := n.createTable("d", "t")
		model := rows{}
		n.write(tbl, model, full)
		n.mustRun(backupInto(databases("d"), withHistory))
		n.write(tbl, model, changes)
		n.mustRun(backupInto(databases("d"), withHistory, latest))
		mem := n.places.mem("/c")
		err := mem.List(t.Context(), "", "", func(name string) error {
			r, err := mem.Open(t.Context(), name, 0, -1)
			if err != nil {
				return err
			}
			defer r.Close()
			var buf bytes.Buffer
			if _, err := buf.ReadFrom(r); err != nil {
				return err
			}
			file := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return err
			}
			return os.WriteFile(file, buf.Bytes(), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	n := startNode(t, nodeOptions{clusterID: 7})
	mem := n.places.mem("/c")
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return mem.Put(context.Background(), filepath.ToSlash(name), bytes.NewReader(b))
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, v := range changes {
		if v == "" {
			delete(later, id)
		} else {
			later[id] = v
		}
	}
	n.mustRun(restoreFrom(databases("d")))
	n.expect("d", "t", later)
	if len(n.notices) != 1 || !strings.HasPrefix(n.notices[0].Message, "not restored: comments, ") {
		t.Errorf("a backup from before there were comments in it: %v", n.notices)
	}
	out := n.mustRun(&parser.ShowBackup{Latest: true, In: uris(place)})
	if len(out) != 6 {
		t.Errorf("SHOW BACKUP: %d rows", len(out))
	}
	// The full alone, through its own directory.
	fulls := n.mustRun(&parser.ShowBackups{In: uris(place)})
	if len(fulls) != 1 || !strings.HasPrefix(fulls[0][0], "/2026/") {
		t.Errorf("SHOW BACKUPS: %q", fulls)
	}
}
