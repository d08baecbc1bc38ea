// Package extstore holds the files of backups in places outside the cluster:
// buckets and directories.
//
// A Store is one collection's place; a URI names it and may carry credentials,
// which Redact hides. Factory opens a Store from a URI and puts the decorators
// around it: retries, rate limits, metrics. The promise of every implementation
// is the same and one test suite checks it: a file appears whole or not at all,
// is never changed once it has its name, and of two writers of one name exactly
// one succeeds. Nothing above this package knows of gocloud or of a provider.
//
// A node's own files are reached from other nodes through Config.Remote, which the
// server supplies; it serves them with OpenLocal.
//
// Start reading at store.go, then uri.go, factory.go and nodelocal.go.
package extstore
