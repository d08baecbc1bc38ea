// Package exec runs query plans: a tree of row operators over datums, with no
// knowledge of where rows are stored.
//
// An Operator is opened, pulled row by row and closed; opening it again starts
// over, which is how a correlated inner plan is run once per outer row. A Flow
// is what the operators of one statement share: the evaluation context, the
// memory budget (Budget, drawn from the node's Pool) and the place for spilled
// rows. Scalar expressions are typed expressions of the parser's tree in which
// a column of the input is a tree.IndexedVar; OuterRow gives inner plans the
// columns of the row around them, Subquery runs a plan inside an expression.
//
// Promises: an operator keeps no more memory than its budget lets it; sorts,
// distincts, hash joins, hash aggregates and spools go to temporary files at the
// limit, and what cannot spill fails with SQLSTATE 53200. Close gives back all
// memory and removes all files, also after an error, and may be called twice.
// Rows compare as in PostgreSQL: NULLs last unless asked, NaN above all numbers,
// text by bytes.
//
// Start reading at operator.go, then flow.go, budget.go and one operator, such
// as sort.go.
package exec
