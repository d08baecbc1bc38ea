package storage

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// cacheHold keeps the block cache from growing while much passes through the store
// that nobody may read again soon: what is exported, what is searched for garbage, and
// the indexes of files that are ingested. Without it such work on a large database
// fills the whole cache, and the process is larger by that from then on.
//
// Meanwhile the cache keeps the size it has, or may grow to a small part of its bound.
// What other requests read takes the places of what the work has read.
type cacheHold struct {
	cache *pebble.Cache

	mu      sync.Mutex
	scans   int
	ingests *time.Timer // nil: no file was ingested for a while
	now     holdKind
	release func() // nil: nothing is held, or the cache is full anyway
}

// holdKind says what the cache is held for, and so how far it may grow.
type holdKind int64

const (
	holdNothing holdKind = 0
	holdScans   holdKind = 4  // to a quarter of the bound
	holdIngests holdKind = 40 // to a fortieth
)

// ingestLinger is how long after one file the next is awaited.
const ingestLinger = 3 * time.Second

// begin starts a scan, which ends with the returned function.
func (h *cacheHold) begin() (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.scans++
	h.adjust()
	return h.end
}

func (h *cacheHold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.scans--
	h.adjust()
}

// ingesting says that a file is ingested, of which there may be more.
func (h *cacheHold) ingesting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ingests != nil {
		h.ingests.Reset(ingestLinger)
		return
	}
	h.ingests = time.AfterFunc(ingestLinger, h.close)
	h.adjust()
}

// close ends what ingesting began.
func (h *cacheHold) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ingests != nil {
		h.ingests.Stop()
		h.ingests = nil
		h.adjust()
	}
}

func (h *cacheHold) adjust() {
	kind := holdNothing
	switch {
	case h.ingests != nil:
		kind = holdIngests
	case h.scans > 0:
		kind = holdScans
	}
	if kind == h.now {
		return
	}
	if h.now = kind; h.release != nil {
		h.release()
		h.release = nil
	}
	if kind == holdNothing {
		return
	}
	bound := h.cache.MaxSize()
	if spare := bound - max(h.cache.Size(), bound/int64(kind)); spare > 0 {
		h.release = h.cache.Reserve(int(spare))
	}
}
