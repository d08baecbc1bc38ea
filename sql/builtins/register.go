package builtins

import (
	"sync"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

var registerOnce sync.Once

// Register fills the parser's function table (tree.FunDefs) and replaces its
// operators where PostgreSQL computes otherwise. It must be called before any
// statement is type checked; later calls do nothing.
func Register() {
	registerOnce.Do(func() {
		registerOps()
		d := definitions{}
		defineStrings(d)
		defineRegexp(d)
		defineMath(d)
		defineTime(d)
		defineJSON(d)
		defineArrays(d)
		defineMisc(d)
		defineSystem(d)
		defineAggregates(d)
		defineWindows(d)
		defineGenerators(d)
		d.publish()
	})
}

func errSetInScalar() error {
	return pgerr.New(pgerr.FeatureNotSupported, "set-valued function called in context that cannot accept a set")
}
