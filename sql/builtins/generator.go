package builtins

import (
	"context"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// Generator gives the rows of one call of a set-returning function.
type Generator interface {
	// Next returns the next row, valid until the call after, or nil at the end.
	Next(ctx context.Context) (tree.Datums, error)
	Close()
}

// GeneratorFactory starts a call with evaluated arguments.
type GeneratorFactory func(ctx *tree.EvalContext, args tree.Datums) (Generator, error)

// generators finds the factory of an overload of a set-returning function: the
// parser's Overload has no place for it. Written by Register only.
var generators = map[*tree.Overload]GeneratorFactory{}

// GeneratorOf returns the factory behind a call of a set-returning function. A
// call whose ResolvedType is a tuple yields one column per element, any other
// call one column.
func GeneratorOf(fn *tree.FuncExpr) (GeneratorFactory, bool) {
	g, ok := generators[fn.ResolvedOverload()]
	return g, ok
}

// IsGenerator says whether a type-checked call returns a set.
func IsGenerator(fn *tree.FuncExpr) bool {
	_, ok := GeneratorOf(fn)
	return ok
}
