// Package server puts one node together: storage, keyspace, jobs, SQL, the
// PostgreSQL port and the HTTP port.
//
// A Node opens its parts from the bottom up and closes them in reverse. Run is the
// life of a node: it starts, serves until its context ends, lets clients finish
// (drain) and stops. All wiring between the packages is plain code in node.go;
// nothing registers itself.
//
// Start reading at config.go, then node.go.
package server
