package builtins

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// defineWindows declares the window functions. Package exec computes them by
// name: they need the partition, not arguments alone.
func defineWindows(d definitions) {
	for _, n := range []string{"row_number", "rank", "dense_rank"} {
		d.window(n, argTypes(), tree.FixedReturnType(tInt))
	}
	for _, n := range []string{"percent_rank", "cume_dist"} {
		d.window(n, argTypes(), tree.FixedReturnType(tFloat))
	}
	d.window("ntile", argTypes(tInt), tree.FixedReturnType(tInt4))
	for _, n := range []string{"lag", "lead"} {
		d.window(n, argTypes(tAny), tree.IdentityReturnType(0))
		d.window(n, argTypes(tAny, tInt), tree.IdentityReturnType(0))
		d.window(n, argTypes(tAny, tInt, tAny), tree.IdentityReturnType(0))
	}
	d.window("first_value", argTypes(tAny), tree.IdentityReturnType(0))
	d.window("last_value", argTypes(tAny), tree.IdentityReturnType(0))
	d.window("nth_value", argTypes(tAny, tInt), tree.IdentityReturnType(0))
}
