// Package sql turns statements into reads and writes of the keyspace.
//
// A Session is one client's conversation: its settings, its transaction and
// its prepared statements. For each statement it makes a planner, which binds
// names and types (bind*.go), chooses indexes and join methods (opt*.go) and
// builds a tree of operators that streams rows (exec*.go).
//
// Promises: a statement either happens as a whole or not at all; a transaction
// is serializable; a statement that the store asks to run again is run again
// here as long as the client has seen none of its rows; memory is bounded, and
// a statement that would exceed its budget fails with SQLSTATE 53200.
//
// Start reading at session.go (the boundary to the wire protocol), then
// txn_state.go (BEGIN to COMMIT), planner.go and exec.go (dispatch).
package sql
