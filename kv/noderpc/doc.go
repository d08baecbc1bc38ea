// Package noderpc is the road between nodes: requests to ranges, raft messages,
// snapshots of ranges, clock readings and the first contact of a new node.
//
// A Server receives and hands everything to a Handler. A Dialer sends: it keeps
// one connection to each node it was asked for, by node id, and watches it with
// pings. Requests to ranges travel on streams that live as long as the connection
// and carry one request at a time; ending the stream cancels the request. Raft
// messages to a node leave in order on one stream, from a bounded queue that never
// makes its sender wait.
//
// Both sides are sure of each other: every stream names the cluster, its sender
// and whom it takes the receiver for, and is refused if that is wrong. Every
// message carries a reading of its sender's hybrid logical clock, which moves the
// receiver's forward, or is refused if it is too far ahead.
//
// What was sent and not answered may have happened; SendError says which errors
// leave that open.
//
// Start reading at noderpc.go, then peer.go and batch.go.
package noderpc
