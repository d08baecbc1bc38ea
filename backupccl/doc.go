// Package backupccl brings data back: BACKUP, RESTORE and SHOW BACKUP.
//
// A backup is taken in two places. Planning, in the session, turns a statement
// into a job record and touches no storage. The job, on whichever node claims
// it, resolves the destination, protects the timestamps it reads, exports spans
// page by page as sstables, and writes the metadata last, so that a layer exists
// when its manifest does. A restore reads a chain of layers, makes new
// descriptors offline under new ids, merges the layers' files span by span,
// ingests them, and publishes everything in one transaction.
//
// Nouns: layer, chain and collection are those of package manifest; a schema is
// the set of descriptors at one time; a piece is a part of a span that is
// exported or restored as one and recorded as one in a checkpoint. The promise:
// a restore returns exactly what was backed up, or says clearly why not, and
// nobody ever sees half of it.
//
// Start reading at service.go, then backup_planning.go, backup_job.go,
// backup_processor.go and their restore counterparts.
package backupccl
