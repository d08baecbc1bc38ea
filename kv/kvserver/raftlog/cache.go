package raftlog

import (
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/raft/v3/raftpb"
)

// cache holds the newest entries of a log, without a gap, up to a size.
type cache struct {
	ents     []*pb.Entry
	bytes    int64
	maxBytes int64
}

// replace takes in new entries; those of the same or higher index go.
func (c *cache) replace(ents []*pb.Entry) {
	if len(ents) == 0 {
		return
	}
	first := ents[0].GetIndex()
	if n := len(c.ents); n > 0 && (first < c.ents[0].GetIndex() || first > c.ents[n-1].GetIndex()+1) {
		c.clear()
	}
	for n := len(c.ents); n > 0 && c.ents[n-1].GetIndex() >= first; n = len(c.ents) {
		c.bytes -= entryBytes(c.ents[n-1])
		c.ents = c.ents[: n-1 : n-1] // Whoever was given these entries keeps them.
	}
	for _, e := range ents {
		c.bytes += entryBytes(e)
		c.ents = append(c.ents, e)
	}
	drop := 0
	for c.bytes > c.maxBytes && drop < len(c.ents)-1 {
		c.bytes -= entryBytes(c.ents[drop])
		drop++
	}
	c.forget(drop)
}

// truncate drops the entries up to index.
func (c *cache) truncate(index uint64) {
	drop := 0
	for drop < len(c.ents) && c.ents[drop].GetIndex() <= index {
		c.bytes -= entryBytes(c.ents[drop])
		drop++
	}
	c.forget(drop)
}

// forget drops the oldest n entries, and their memory now and then.
func (c *cache) forget(n int) {
	if n == 0 {
		return
	}
	c.ents = c.ents[n:]
	if cap(c.ents) > 4*len(c.ents)+64 {
		c.ents = append([]*pb.Entry(nil), c.ents...)
	}
}

func (c *cache) clear() { c.ents, c.bytes = nil, 0 }

// from returns the cached entries of [lo, hi), nil if lo is not among them.
func (c *cache) from(lo, hi uint64) []*pb.Entry {
	if len(c.ents) == 0 || lo < c.ents[0].GetIndex() || lo > c.ents[len(c.ents)-1].GetIndex() {
		return nil
	}
	i := lo - c.ents[0].GetIndex()
	j := min(uint64(len(c.ents)), i+hi-lo)
	return c.ents[i:j:j]
}

func entryBytes(e *pb.Entry) int64 { return int64(proto.Size(e)) }
