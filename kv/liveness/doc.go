// Package liveness keeps, in the keyspace itself, who is alive: for each node one
// record that its process renews, and that everybody believes until it expires.
//
// A Record also says how a node belongs to the cluster, its Membership, and
// whether it drains. Every change is conditional on what the record said before, so
// of two that want to change it one learns that it must look again.
//
// It is also what keeps two processes from being one node: each process of a node
// has an epoch of its own, and only takes over a record that has expired, or that
// was renewed from the very address that it now has. A process that finds itself
// replaced ends.
//
// Records are true only as far as clocks are: a node is alive until its record
// expires by the reader's clock. Nothing that must be safe rests on that; leases
// have expirations of their own.
//
// Start reading at liveness.go; Run is what a node does.
package liveness
