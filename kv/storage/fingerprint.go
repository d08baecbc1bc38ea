package storage

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// Fingerprint is a sum of 128-bit hashes, modulo 2^128: equal for equal sets of
// pairs in any order, and the sum over parts is the sum of the whole.
type Fingerprint struct {
	Hi, Lo uint64
}

// Add adds o to f.
func (f *Fingerprint) Add(o Fingerprint) {
	var carry uint64
	f.Lo, carry = bits.Add64(f.Lo, o.Lo, 0)
	f.Hi, _ = bits.Add64(f.Hi, o.Hi, carry)
}

// Sub takes o from f.
func (f *Fingerprint) Sub(o Fingerprint) {
	var borrow uint64
	f.Lo, borrow = bits.Sub64(f.Lo, o.Lo, 0)
	f.Hi, _ = bits.Sub64(f.Hi, o.Hi, borrow)
}

func (f Fingerprint) String() string { return fmt.Sprintf("%016x%016x", f.Hi, f.Lo) }

// IndexID names an index. Keys outside of table data count under the zero id.
type IndexID struct {
	TableID, IndexID uint32
}

// IndexSummary counts what a file, a page or a span has of one index.
type IndexSummary struct {
	Rows            int64 // row prefixes with at least one live pair
	KVs             int64 // point versions, tombstones included
	Tombstones      int64 // point tombstones among them
	RangeTombstones int64 // range tombstones that begin in the index, each version
	KeyBytes        int64 // keys without version
	ValueBytes      int64
	// Fingerprint sums the hashes of key (without table id), tombstone marker
	// and value (without checksum) over all KVs.
	Fingerprint Fingerprint
	// TimedFingerprint hashes the version's timestamp too; zero where it was not
	// asked for.
	TimedFingerprint Fingerprint

	// ViewKVs and View say how the index's live pairs at the export's end differ
	// from those at its start, in number and by the sum of their hashes: added to
	// what was true at the start they give what is true at the end, whatever lies
	// between. They count if ExportOptions.View asked for them and ViewUnknown is
	// not set.
	ViewKVs     int64
	View        Fingerprint
	ViewUnknown bool
}

// Add adds o to s.
func (s *IndexSummary) Add(o *IndexSummary) {
	s.Rows += o.Rows
	s.KVs += o.KVs
	s.Tombstones += o.Tombstones
	s.RangeTombstones += o.RangeTombstones
	s.KeyBytes += o.KeyBytes
	s.ValueBytes += o.ValueBytes
	s.Fingerprint.Add(o.Fingerprint)
	s.TimedFingerprint.Add(o.TimedFingerprint)
	s.ViewKVs += o.ViewKVs
	s.View.Add(o.View)
	s.ViewUnknown = s.ViewUnknown || o.ViewUnknown
}

// ExportSummary says what a page or file holds, by index.
type ExportSummary struct {
	Indexes   map[IndexID]*IndexSummary
	DataBytes int64 // keys and values
}

// Add adds o to s.
func (s *ExportSummary) Add(o *ExportSummary) {
	if s.Indexes == nil {
		s.Indexes = make(map[IndexID]*IndexSummary, len(o.Indexes))
	}
	for id, is := range o.Indexes {
		if have := s.Indexes[id]; have != nil {
			have.Add(is)
		} else {
			c := *is
			s.Indexes[id] = &c
		}
	}
	s.DataBytes += o.DataBytes
}

// Total sums over all indexes.
func (s *ExportSummary) Total() IndexSummary {
	var t IndexSummary
	for _, is := range s.Indexes {
		t.Add(is)
	}
	return t
}

// Markers in the hashed bytes.
const (
	markValue          = 1
	markTombstone      = 2
	markRangeTombstone = 3
)

// Summarizer builds an ExportSummary from versions in key order.
type Summarizer struct {
	timed bool
	sum   ExportSummary
	cur   *IndexSummary
	// prefix is the table and index part of the last key, tableLen the length of
	// its table part.
	prefix   []byte
	tableLen int
	row      []byte // the row counted last
	hasRow   bool
	buf      []byte
	last     Fingerprint // of the pair added last
}

// NewSummarizer returns an empty one; timed adds fingerprints with timestamps.
func NewSummarizer(timed bool) *Summarizer {
	return &Summarizer{timed: timed, sum: ExportSummary{Indexes: make(map[IndexID]*IndexSummary)}}
}

// Summary returns what was added so far.
func (s *Summarizer) Summary() ExportSummary { return s.sum }

// startInRow says that the row of key was counted by the page before.
func (s *Summarizer) startInRow(key keys.Key) {
	s.row, s.hasRow = append(s.row[:0], keys.RowPrefix(key)...), true
}

// Add counts a version; value is the simple value, empty for a tombstone.
func (s *Summarizer) Add(key keys.Key, value []byte, ts hlc.Timestamp) {
	s.enter(key)
	c := s.cur
	c.KVs++
	c.KeyBytes += int64(len(key))
	c.ValueBytes += int64(len(value))
	s.sum.DataBytes += int64(len(key) + len(value))
	mark := byte(markValue)
	if len(value) == 0 {
		c.Tombstones++
		mark = markTombstone
	} else {
		n, ok := 0, s.tableLen > 0
		if ok {
			n, ok = keys.FamilySuffixLen(key)
		}
		if row := key[:len(key)-n]; !ok || !s.hasRow || string(row) != string(s.row) {
			c.Rows++
			s.row, s.hasRow = append(s.row[:0], row...), true
		}
	}
	s.hash(key[s.tableLen:], mark, value, ts)
}

// AddRangeTombstone counts a range tombstone.
func (s *Summarizer) AddRangeTombstone(span keys.Span, ts hlc.Timestamp) {
	s.enter(span.Key)
	s.cur.RangeTombstones++
}

// enter makes the index of key the current one.
func (s *Summarizer) enter(key keys.Key) {
	if s.cur != nil && len(s.prefix) > 0 && len(key) >= len(s.prefix) && string(key[:len(s.prefix)]) == string(s.prefix) {
		return
	}
	tableID, indexID, rest, ok := keys.DecodeIndexPrefix(key)
	id := IndexID{}
	s.prefix, s.tableLen = s.prefix[:0], 0
	if ok {
		id = IndexID{TableID: tableID, IndexID: indexID}
		s.prefix = append(s.prefix, key[:len(key)-len(rest)]...)
		_, afterTable, _ := keys.DecodeTablePrefix(key)
		s.tableLen = len(key) - len(afterTable)
	}
	if s.cur = s.sum.Indexes[id]; s.cur == nil {
		s.cur = &IndexSummary{}
		s.sum.Indexes[id] = s.cur
	}
}

// hash adds a pair to the fingerprints. The hashed bytes are the key's length
// (uvarint), the key without table id, the marker, the value without its
// checksum; and for the timed one the timestamp (8 and 4 bytes, big-endian).
func (s *Summarizer) hash(key []byte, mark byte, value []byte, ts hlc.Timestamp) {
	b := s.hashed(key, mark, value)
	h := xxh3.Hash128(b)
	s.last = Fingerprint{Hi: h.Hi, Lo: h.Lo}
	s.cur.Fingerprint.Add(s.last)
	if s.timed {
		b = binary.BigEndian.AppendUint64(b, uint64(ts.WallTime))
		b = binary.BigEndian.AppendUint32(b, uint32(ts.Logical))
		h = xxh3.Hash128(b)
		s.cur.TimedFingerprint.Add(Fingerprint{Hi: h.Hi, Lo: h.Lo})
	}
	s.buf = b
}

// hashed returns the bytes that stand for a pair.
func (s *Summarizer) hashed(key []byte, mark byte, value []byte) []byte {
	b := binary.AppendUvarint(s.buf[:0], uint64(len(key)))
	b = append(b, key...)
	b = append(b, mark)
	if len(value) >= valueChecksumLen {
		b = append(b, value[valueChecksumLen:]...)
	}
	return b
}

// appeared says that the pair added last is in the view at the end.
func (s *Summarizer) appeared() {
	s.cur.ViewKVs++
	s.cur.View.Add(s.last)
}

// vanished says that key had a value at the start and has it no more.
func (s *Summarizer) vanished(key keys.Key, value []byte) {
	s.enter(key)
	s.buf = s.hashed(key[s.tableLen:], markValue, value)
	h := xxh3.Hash128(s.buf)
	s.cur.ViewKVs--
	s.cur.View.Sub(Fingerprint{Hi: h.Hi, Lo: h.Lo})
}
