package storage

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is the file system a store is on.
type FS = vfs.FS

// MemFS is a file system in memory, for tests.
type MemFS = vfs.MemFS

// NewMemFS returns an empty file system in memory.
func NewMemFS() *MemFS { return vfs.NewMem() }

// NewCrashableMemFS returns one whose CrashClone method gives what would be left
// of it after a crash.
func NewCrashableMemFS() *MemFS { return vfs.NewCrashableMem() }
