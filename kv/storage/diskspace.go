package storage

import (
	"fmt"
	"sync"
	"time"
)

// spaceGuard remembers for a moment how much space the disk has.
type spaceGuard struct {
	mu      sync.Mutex
	checked time.Time
	free    int64 // above the reserve, less what was granted since
	full    bool
}

const spaceCheckEvery = 500 * time.Millisecond

// smallWriteBytes: what is smaller may use most of the reserve. Bulk loads and
// restores stop first, so that DROP, and sessions that write a row now and then,
// work for longer.
const smallWriteBytes = 64 << 10

// SpaceFor says whether n more bytes may be written: nil, or an error marked
// ErrDiskFull that leaves the reserve for what must go on (the write-ahead log,
// compactions that free space, the end of running transactions). Small writes
// leave a quarter of it.
func (e *Engine) SpaceFor(n int64) error {
	if e.cfg.ReserveBytes == 0 {
		return nil
	}
	g := &e.space
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.checked) >= spaceCheckEvery || n > g.free && now.Sub(g.checked) >= spaceCheckEvery/50 {
		u, err := e.fs.GetDiskUsage(e.cfg.Dir)
		if err != nil {
			return nil // A file system that cannot tell must not stop writes.
		}
		g.checked, g.free = now, int64(min(u.AvailBytes, 1<<62))-e.cfg.ReserveBytes
	}
	free := g.free
	if n < smallWriteBytes {
		free += e.cfg.ReserveBytes / 4 * 3
	}
	full := n > free
	switch {
	case full && !g.full:
		g.full = true
		e.log.Error("disk is nearly full: refusing writes", "dir", e.cfg.Dir, "free_above_reserve", g.free)
	case !full && g.full && g.free > 0:
		g.full = false
		e.log.Info("disk has space again", "dir", e.cfg.Dir)
	}
	if full {
		return Mark(fmt.Errorf("store %s has %d bytes left above its reserve of %d, %d wanted: disk is full",
			e.cfg.Dir, max(g.free, 0), e.cfg.ReserveBytes, n), ErrDiskFull)
	}
	g.free -= n
	return nil
}
