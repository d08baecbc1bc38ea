// Package jobs runs work that must outlive a connection, a process or a node.
//
// A job is a row of system.jobs: a payload (what the user asked for, written
// once, and how it ended), a progress record (how far the work got) and a claim
// (the session that may run it, and an epoch that grows with every claim). Each
// update names the claim it was made under, so a process that lost its claim
// cannot overwrite the work of its successor.
//
// A session is a row too: a process keeps it alive by heartbeats and holds its
// claims for as long as the row has not expired. Jobs of an expired session are
// adopted by any process.
//
// Registry finds and claims rows; Resumer does the work and may be started many
// times, on different nodes. Start reading at state.go, then registry.go.
package jobs
