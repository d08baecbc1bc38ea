// Package partition knows the partitions of an index: named parts of its key
// space, by lists or ranges of the values of its first columns, so that each part
// can have a zone configuration of its own.
//
// A partition is a name and nothing else: rows are stored as if there were none.
// The descriptor of the index holds the definition (PartitioningDescriptor), with
// values in the tuple encoding of rows. Tuple is one such value in memory; Pieces
// turns a definition into spans of keys; text.go prints it.
package partition
