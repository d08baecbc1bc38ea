// Package builtins gives SQL expressions their meaning: how literals, operators,
// casts and calls get types, what they compute, and how their errors read. The
// parser's tree package supplies syntax trees, datums and much of the
// evaluation; where its answer is not PostgreSQL's, this package gives its own.
//
// Register fills the parser's function table and replaces operators; it is
// called once, by the sql package. TypeCheck turns a parsed expression whose
// names and subqueries have been replaced by typed expressions into one that can
// be evaluated. Nodes of our own in the result are Const (a literal with its
// PostgreSQL type; ConstValue unwraps it), Cast, Slice and NullIf. AssignCast,
// CanCast and CommonType serve INSERT, UPDATE, UNION and VALUES; CastDatum and
// FormatText work on values. Compare is the order that sorts, keys of hash
// tables (package exec) and comparison operators share.
//
// Set-returning functions are found by GeneratorOf and run by package exec, as
// are window functions, which are only declared here. Functions that need the
// session, the catalog or the node ask an Env: the Planner field of the
// EvalContext must implement it (and may implement TextEnv).
//
// Promise: for what testdata holds, results and errors are PostgreSQL 15's;
// known.txt lists what is not. Evaluated errors pass through MapError, which
// also takes off what the parser's evaluator wraps around them.
//
// Start reading at register.go, then typecheck.go, coerce.go and cast.go;
// functions are grouped in files by subject.
package builtins
