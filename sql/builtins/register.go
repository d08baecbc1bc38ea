package builtins

import (
	"sync"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

var registerOnce sync.Once

// Register fills the parser's function table (tree.FunDefs) and replaces its
// operators where PostgreSQL computes otherwise. It must be called before any
// statement is type checked; later calls do nothing.
func Register() {
	registerOnce.Do(func() {
		tree.FunDefs = map[string]*tree.FunctionDefinition{}
	})
}
