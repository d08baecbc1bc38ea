// Package raftlog keeps the raft logs of a store's replicas in its engine.
//
// A Log holds one replica's entries, its HardState (term, vote, commit) and up to
// where the log was truncated. It is the raft.Storage of the replica's group. What
// is to be written is staged in a batch, so that many logs, and a log together
// with the state that its entries change, share one commit and one sync.
//
// The promise: after a crash the log is what the last committed batch made it,
// without gaps; entries that raft was told are stable are there. Recent entries
// are kept in memory, up to a bound, so that applying and sending them reads
// nothing from disk.
//
// Start reading at log.go; cache.go is the memory.
package raftlog
