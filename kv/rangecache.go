package kv

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// rangeCache remembers which range holds which keys. It may be wrong: replicas
// check every batch, and the router repairs the cache from their answer.
type rangeCache struct {
	// descs is sorted by start key and has no overlaps. Readers take the whole
	// slice without a lock; writers replace it.
	descs atomic.Pointer[[]*kvpb.RangeDescriptor]
	mu    sync.Mutex // serialises writers
}

// get returns the cached range that holds key, or, if before, the one that holds
// the keys directly before key. Nil means unknown.
func (c *rangeCache) get(key keys.Key, before bool) *kvpb.RangeDescriptor {
	p := c.descs.Load()
	if p == nil {
		return nil
	}
	descs := *p
	if len(descs) == 1 && !before { // One range holds all: the common case of a small store.
		if descs[0].ContainsKey(key) {
			return descs[0]
		}
		return nil
	}
	i := sort.Search(len(descs), func(i int) bool {
		if before {
			return key.Compare(descs[i].EndKey) <= 0
		}
		return key.Compare(descs[i].EndKey) < 0
	})
	if i == len(descs) {
		return nil
	}
	d := descs[i]
	if before && d.StartKey.Less(key) || !before && d.StartKey.Compare(key) <= 0 {
		return d
	}
	return nil
}

// insert adds d in place of all cached ranges that overlap it and are older. If
// one of them is newer, d itself is out of date and is left out.
func (c *rangeCache) insert(d *kvpb.RangeDescriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var old []*kvpb.RangeDescriptor
	if p := c.descs.Load(); p != nil {
		old = *p
	}
	lo := sort.Search(len(old), func(i int) bool { return d.StartKey.Less(old[i].EndKey) })
	hi := lo
	for hi < len(old) && old[hi].StartKey.Less(d.EndKey) {
		if old[hi].Generation > d.Generation {
			return
		}
		hi++
	}
	next := make([]*kvpb.RangeDescriptor, 0, len(old)+1)
	next = append(next, old[:lo]...)
	next = append(next, d)
	next = append(next, old[hi:]...)
	c.descs.Store(&next)
}

// evict removes d, which turned out to be wrong.
func (c *rangeCache) evict(d *kvpb.RangeDescriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.descs.Load()
	if p == nil {
		return
	}
	next := make([]*kvpb.RangeDescriptor, 0, len(*p))
	for _, o := range *p {
		if o != d {
			next = append(next, o)
		}
	}
	c.descs.Store(&next)
}
