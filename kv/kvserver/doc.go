// Package kvserver evaluates requests on ranges: the part of the keyspace layer
// that stands beside the storage engine.
//
// A Store owns one engine and the Replicas in it. A Replica holds one range of
// keys: it puts requests that touch the same keys in order (latches), makes them
// wait for locks of other transactions (lockTable), chooses timestamps at which
// nothing that was read before changes (tsCache), evaluates them into a write
// batch, and applies that through one function, propose. Nothing above it knows how
// a batch becomes durable: at once, if the range has one replica, or by way of the
// range's raft log.
//
// Of a range with several replicas one has the lease (lease.go) and evaluates
// requests. What it decided becomes a command in the log (replicate.go), which every
// replica applies in the same order (machine.go). Replicas come and go by commands,
// too (replicas.go). Where ranges are is filed in the first one (addressing.go).
// Where they should be is decided by package allocator and done by placement.go.
//
// The promises: what was acknowledged is durable; a read returns the newest
// committed values at its timestamp and nothing is ever written at or below it
// afterwards; of two transactions that wait for each other one is aborted; a
// transaction whose client is gone stands in nobody's way for long.
//
// Start reading at store.go, then replica.go, eval.go and eval_txn.go; the waiting
// is in lockwait.go over locktable.go.
package kvserver
