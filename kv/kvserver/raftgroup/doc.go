// Package raftgroup runs the raft groups of a store: one etcd RawNode per range,
// worked by a fixed number of goroutines.
//
// A Group is one replica's part in the consensus of its range. Commands that it
// commits are handed, in the order of the log, to its Machine, which stages their
// effects in a batch; the index up to which the log is applied stands in the same
// batch. Scheduler owns all groups of a store: a group runs when it has messages,
// proposals or a tick, on one worker at a time.
//
// The promise: every replica applies the same commands in the same order, each
// once, also over crashes; what raft acknowledges is on disk before. Whether a
// command still makes sense when its turn comes (lease, splits) is the machine's
// business.
//
// Start reading at scheduler.go, then group.go; snapshot.go catches up replicas
// whose entries are truncated.
package raftgroup
