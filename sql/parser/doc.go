// Package parser turns SQL text into syntax trees.
//
// The grammar is that of the parser module the project depends on (its tree
// package gives the trees), extended by a front of our own: a scanner that knows
// positions, rewrites of token sequences that the old grammar lacks
// (rewrite.go), and recursive-descent parsers for whole statements (ast_*.go
// hold their trees, parse_*.go read them). What is inside those statements,
// names, expressions and SELECTs, goes back to the module.
//
// Statements of our own are types of this package that implement
// tree.Statement. Some wrap a statement of the module and add what it cannot say
// (CreateIndex adds a predicate); they are returned only when there is something
// to add. Inside expressions, user-defined types appear as *UDTCast, in column
// definitions as types that UserDefinedType recognises. IdentityOf,
// ConflictConstraint and the like read what else the front put into a tree.
//
// Errors are *pgerr.Error with SQLSTATE 42601 (or 0A000 for what is known but
// not supported), the position in the text, and a hint.
//
// Start reading at parser.go.
package parser
