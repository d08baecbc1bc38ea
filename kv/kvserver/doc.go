// Package kvserver evaluates requests on ranges: the part of the keyspace layer
// that stands beside the storage engine.
//
// A Store owns one engine and the Replicas in it. A Replica holds one range of
// keys: it puts requests that touch the same keys in order (latches), makes them
// wait for locks of other transactions (lockTable), chooses timestamps at which
// nothing that was read before changes (tsCache), evaluates them into a write
// batch, and applies that through one function, propose. That function is where
// consensus goes; nothing above it knows how a batch becomes durable.
//
// The promises: what was acknowledged is durable; a read returns the newest
// committed values at its timestamp and nothing is ever written at or below it
// afterwards; of two transactions that wait for each other one is aborted; a
// transaction whose client is gone stands in nobody's way for long.
//
// Start reading at store.go, then replica.go, eval.go and eval_txn.go; the waiting
// is in lockwait.go over locktable.go.
package kvserver
