// Package storage keeps versioned keys on one disk.
//
// It answers: how are many versions of many keys stored so that a read at any
// timestamp, a transaction that may still roll back, an incremental backup that
// touches only what changed, and a restore that copies files all work on the
// same bytes?
//
// Nouns. An Engine is one Pebble store in one directory. A Reader is a view of
// it: the Engine (latest), a Snapshot, a ReadOnly (one consistent state for one
// request) or a Batch (that state plus the batch's own writes). A version is an
// engine key (key, timestamp) and a value; an empty value is a tombstone. A
// range tombstone deletes all keys of a span as of its timestamp. A lock
// (intent) is a record in the lock table that says the version at its timestamp
// is provisional and whose it is; the record also keeps the values that the
// same transaction wrote earlier, so that savepoints can roll back and
// statements can read as of a sequence number.
//
// Promises. A batch is applied whole or not at all, also across a crash. A read
// at timestamp t sees for each key the newest committed version ≤ t, unless a
// range tombstone in between hides it, and it reports every foreign lock ≤ t: no
// read and no export skips a lock silently. Nothing here knows of ranges,
// latches or leases: callers serialise conflicting writers.
//
// Start reading at enginekey.go (bytes of a key), lock.go (bytes of a lock),
// then mvcc_scan.go and mvcc_put.go; export.go and restore.go are the road of a
// backup; spans.go, spanstream.go and spanreceive.go that of a replica to another
// store.
package storage
