package storage

import "github.com/cockroachdb/pebble/v2/vfs"

// FS is the file system a store is on.
type FS = vfs.FS

// MemFS is a file system in memory, for tests. CrashClone returns what would be
// left of it after a crash.
type MemFS = vfs.MemFS

// NewMemFS returns an empty MemFS that can be crash-cloned.
func NewMemFS() *MemFS { return vfs.NewCrashableMem() }
