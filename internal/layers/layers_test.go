// Package layers keeps the import graph as docs/architecture.md draws it.
package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/holdfastdb/holdfast/"

// rank orders the layers: a package may import packages of a lower rank, and of
// its own top-level folder.
var rank = map[string]int{
	"internal":   0,
	"kv/storage": 1, "gossip": 1,
	"kv":   2,
	"jobs": 3,
	"sql":  4, "backupccl": 4,
	"server": 5,
	"cmd":    6, "test": 6,
}

// leaves of sql are shared by sql and backupccl; they know nothing of the rest
// of sql.
var leaves = map[string]bool{"sql/parser": true, "sql/catalog": true, "sql/rowenc": true, "sql/catalog/catalogpb": true}

// layerOf returns the layer of a package path below the module.
func layerOf(pkg string) string {
	if pkg == "kv/storage" || strings.HasPrefix(pkg, "kv/storage/") {
		return "kv/storage"
	}
	top, _, _ := strings.Cut(pkg, "/")
	return top
}

type pkgInfo struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T) []pkgInfo {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkgInfo
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkgInfo
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		from, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		fromLayer := layerOf(from)
		fromRank, known := rank[fromLayer]
		if !known {
			t.Errorf("%s is in no layer; the top-level folders are fixed, see docs/architecture.md", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			checkImport(t, from, fromLayer, fromRank, to)
		}
	}
}

func checkImport(t *testing.T, from, fromLayer string, fromRank int, to string) {
	toLayer := layerOf(to)
	toRank := rank[toLayer]
	switch {
	case fromLayer == "internal" && toLayer == "internal":
	case leaves[from] && toLayer == "sql" && !leaves[to]:
		t.Errorf("%s imports %s: the leaves of sql know nothing of the rest of sql", from, to)
	case fromLayer == "backupccl" && toLayer == "sql" && leaves[to]:
	case fromLayer == toLayer:
	case toRank >= fromRank:
		t.Errorf("%s imports %s: imports point down; declare the interface you need in %s and let server introduce the two", from, to, from)
	}
}

// TestWrappedDependencies keeps each large dependency behind the one package
// that wraps it.
func TestWrappedDependencies(t *testing.T) {
	owners := map[string][]string{
		"gocloud.dev/":                                         {"backupccl/extstore"},
		"github.com/hashicorp/memberlist":                      {"gossip"},
		"github.com/cockroachdb/pebble/v2":                     {"kv/storage", "internal/testkit"},
		"github.com/jackc/pgproto3/v2":                         {"server/pgwire"},
		"go.etcd.io/raft/v3":                                   {"kv/kvserver", "kv/noderpc"},
		"github.com/auxten/postgresql-parser/pkg/sql/sem/tree": {"sql", "backupccl", "server"},
	}
	for _, p := range listPackages(t) {
		from, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue
		}
		for _, imp := range p.Imports {
			for dep, allowed := range owners {
				if !strings.HasPrefix(imp, dep) {
					continue
				}
				fine := false
				for _, a := range allowed {
					fine = fine || from == a || strings.HasPrefix(from, a+"/")
				}
				if !fine {
					t.Errorf("%s imports %s, which only %v may", from, imp, allowed)
				}
			}
		}
	}
}
