package storage

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// cacheHold keeps the block cache from growing while spans are read from end to
// end that nobody may read again soon: what is exported, and what is searched for
// garbage. Without it a scan of a large database fills the whole cache, and the
// process is larger by that from then on.
//
// During such reads the cache keeps the size it has, or may grow to a quarter of its
// bound. What other requests read takes the places of what the scan has read.
type cacheHold struct {
	cache *pebble.Cache

	mu      sync.Mutex
	holders int
	release func() // nil: the cache is full anyway
}

// begin starts a scan, which ends with the returned function.
func (h *cacheHold) begin() (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders++; h.holders == 1 {
		bound := h.cache.MaxSize()
		if spare := bound - max(h.cache.Size(), bound/4); spare > 0 {
			h.release = h.cache.Reserve(int(spare))
		}
	}
	return h.end
}

func (h *cacheHold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holders--; h.holders == 0 && h.release != nil {
		h.release()
		h.release = nil
	}
}
