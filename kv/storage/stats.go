package storage

// Stats counts what a span holds. Operations add their change to the Stats that
// the caller passes; the sum over all operations is what ComputeStats finds,
// except after range tombstones, ingestion of overlapping files and clears,
// which set Estimates.
type Stats struct {
	KeyCount    int64 // versions, tombstones included
	KeyBytes    int64 // engine keys of versions
	ValBytes    int64 // values of versions
	LiveCount   int64 // keys whose newest version (provisional or not) is no tombstone
	LiveBytes   int64 // key (without version) and value bytes of those
	IntentCount int64
	IntentBytes int64 // key (without version) and value bytes of provisional versions
	RangeKeys   int64
	Estimates   bool
}

// Add adds o to s.
func (s *Stats) Add(o Stats) {
	s.KeyCount += o.KeyCount
	s.KeyBytes += o.KeyBytes
	s.ValBytes += o.ValBytes
	s.LiveCount += o.LiveCount
	s.LiveBytes += o.LiveBytes
	s.IntentCount += o.IntentCount
	s.IntentBytes += o.IntentBytes
	s.RangeKeys += o.RangeKeys
	s.Estimates = s.Estimates || o.Estimates
}

// Total is the logical size of all versions: what splits go by.
func (s *Stats) Total() int64 { return s.KeyBytes + s.ValBytes }

// GarbageBytes is what no read at the present needs.
func (s *Stats) GarbageBytes() int64 { return max(s.Total()-s.LiveBytes, 0) }
