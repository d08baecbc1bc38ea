// Package kvpb holds what a client and a range say to each other: requests,
// responses, transactions, range descriptors and typed errors.
//
// A BatchRequest is a header and a flat list of requests that one range
// evaluates together. Client (package kv), router and replica (kv/kvserver) all
// speak it, so that a replica on another node can stand where a local one does.
// Everything here is data; behaviour lives on both sides of it.
//
// Start reading at batch.go, then txn.go and errors.go; wire.go has the form in
// which all of it goes to another node.
package kvpb
