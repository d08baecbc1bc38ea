// Package testkit has what tests of several packages share.
package testkit

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// CrashFS is a file system in memory that can be cloned as a crash would leave it,
// at any moment. (Of vfs.MemFS itself, Link takes a lock twice, and hangs if
// CrashClone asks for it in between.)
type CrashFS struct {
	*vfs.MemFS
	linking sync.RWMutex
}

// NewCrashFS returns an empty CrashFS.
func NewCrashFS() *CrashFS { return &CrashFS{MemFS: vfs.NewCrashableMem()} }

// Link implements vfs.FS.
func (fs *CrashFS) Link(oldname, newname string) error {
	fs.linking.RLock()
	defer fs.linking.RUnlock()
	return fs.MemFS.Link(oldname, newname)
}

// CrashClone returns what is left after a crash.
func (fs *CrashFS) CrashClone(cfg vfs.CrashCloneCfg) *CrashFS {
	fs.linking.Lock()
	defer fs.linking.Unlock()
	return &CrashFS{MemFS: fs.MemFS.CrashClone(cfg)}
}
