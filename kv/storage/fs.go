package storage

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is the file system a store is on.
type FS = vfs.FS

// MemFS is a file system in memory, for tests.
type MemFS = vfs.MemFS

// NewMemFS returns an empty file system in memory.
func NewMemFS() *MemFS { return vfs.NewMem() }
