package storage

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// Compression is how the blocks of a file are compressed.
type Compression int8

// The kinds of compression. The file says its own, so readers need not know.
const (
	CompressFast Compression = iota // cheap, what the store itself uses
	CompressNone
	CompressDense // smaller files for three times the time
)

func (c Compression) profile() *sstable.CompressionProfile {
	switch c {
	case CompressNone:
		return block.NoCompression
	case CompressDense:
		return block.ZstdCompression
	}
	return block.FastestCompression // MinLZ where it is fast, else Snappy: as quick as Snappy, a fifth smaller.
}

// sstWriterOptions returns the options of a file in the store's own format.
func sstWriterOptions(c Compression, blockSize int, filters bool) sstable.WriterOptions {
	o := sstable.WriterOptions{
		Comparer:                &cockroachkvs.Comparer,
		KeySchema:               &keySchema,
		BlockPropertyCollectors: cockroachkvs.BlockPropertyCollectors,
		TableFormat:             storeFormat.MaxTableFormat(),
		BlockSize:               blockSize,
		IndexBlockSize:          max(blockSize*8, 256),
		Compression:             c.profile(),
		MergerName:              "pebble.concatenate",
		// All versions stand in the data blocks: a file is read from end to end,
		// and only such files can be given a new timestamp block by block.
		DisableValueBlocks: true,
	}
	if filters {
		o.FilterPolicy = bloom.FilterPolicy(10)
		o.FilterType = sstable.TableFilter
	}
	return o
}

// SSTWriter writes one sorted file: versions, range tombstones, plain keys.
// Points must come in engine key order, range tombstones by start key; the two
// sequences are independent.
type SSTWriter struct {
	w    *sstable.Writer
	out  *sstOutput
	key  []byte
	n    int64
	data int64
}

// NewSSTWriter returns a writer to w, which it does not close.
func NewSSTWriter(w io.Writer, c Compression) *SSTWriter {
	return newSSTWriter(w, sstWriterOptions(c, blockBytes, false))
}

func newSSTWriter(w io.Writer, o sstable.WriterOptions) *SSTWriter {
	out := &sstOutput{w: w}
	return &SSTWriter{w: sstable.NewWriter(out, o), out: out}
}

// PutVersion adds a version. The value is written as it is.
func (s *SSTWriter) PutVersion(key MVCCKey, value []byte) error {
	s.key = AppendMVCCKey(s.key[:0], key.Key, key.Timestamp)
	return s.putRaw(s.key, value)
}

// Put adds a plain key.
func (s *SSTWriter) Put(key keys.Key, value []byte) error {
	return s.PutVersion(MVCCKey{Key: key}, value)
}

func (s *SSTWriter) putRaw(engineKey, value []byte) error {
	s.n++
	s.data += int64(len(engineKey) + len(value))
	if err := s.w.Set(engineKey, value); err != nil {
		return fmt.Errorf("writing an sstable: %w", markEngineError(err))
	}
	return nil
}

// PutRangeTombstone adds a range tombstone.
func (s *SSTWriter) PutRangeTombstone(span keys.Span, ts hlc.Timestamp) error {
	s.n++
	err := s.w.RangeKeySet(EncodeMVCCKey(span.Key, zeroTS), EncodeMVCCKey(span.End(), zeroTS), appendTimestampSuffix(nil, ts), nil)
	if err != nil {
		return fmt.Errorf("writing an sstable: %w", markEngineError(err))
	}
	return nil
}

// deleteRaw adds the removal of an engine key.
func (s *SSTWriter) deleteRaw(engineKey []byte) error {
	s.n++
	if err := s.w.Delete(engineKey); err != nil {
		return fmt.Errorf("writing an sstable: %w", markEngineError(err))
	}
	return nil
}

// clear makes the file, once ingested, remove all that the store has in [from, to)
// but not what is in the file itself; with ranged, range keys too. It comes before
// range tombstones of the file.
func (s *SSTWriter) clear(from, to []byte, ranged bool) error {
	s.n++
	err := s.w.DeleteRange(from, to)
	if err == nil && ranged {
		err = s.w.RangeKeyDelete(from, to)
	}
	if err != nil {
		return fmt.Errorf("writing an sstable: %w", markEngineError(err))
	}
	return nil
}

// Empty says whether nothing was added.
func (s *SSTWriter) Empty() bool { return s.n == 0 }

// DataBytes is the size of engine keys and values added.
func (s *SSTWriter) DataBytes() int64 { return s.data }

// WrittenBytes is what has gone to the output so far.
func (s *SSTWriter) WrittenBytes() int64 { return s.out.n }

// Finish completes the file and returns its size. The writer is done then, also
// on error.
func (s *SSTWriter) Finish() (int64, error) {
	if err := s.w.Close(); err != nil {
		return 0, fmt.Errorf("finishing an sstable: %w", markEngineError(err))
	}
	return s.out.n, nil
}

// Abort gives the file up; what was written is no sstable.
func (s *SSTWriter) Abort() {
	s.out.aborted.Store(true)
	_ = s.w.Close()
}

// sstOutput passes a table's bytes on.
type sstOutput struct {
	w       io.Writer
	n       int64
	aborted atomic.Bool // set while the table's own goroutine may be writing
}

func (o *sstOutput) Write(p []byte) error {
	if o.aborted.Load() {
		return nil
	}
	n, err := o.w.Write(p)
	o.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}

func (o *sstOutput) Finish() error { return nil }
func (o *sstOutput) Abort()        {}

// SSTBuffer is a file in memory: an io.Writer first, then an SSTFile. A large one
// takes at most a quarter more than it holds, where a bytes.Buffer takes up to twice
// as much, so whoever writes many files uses one buffer again and again.
type SSTBuffer struct{ b []byte }

// A buffer begins with sstBufferMin and doubles up to sstBufferDoubles.
const (
	sstBufferMin     = 32 << 10
	sstBufferDoubles = 1 << 20
)

// Write appends p. The error is always nil.
func (b *SSTBuffer) Write(p []byte) (int, error) {
	if need := len(b.b) + len(p); need > cap(b.b) {
		more := max(cap(b.b), sstBufferMin)
		if more > sstBufferDoubles {
			more /= 4
		}
		b.grow(max(need, cap(b.b)+more))
	}
	b.b = append(b.b, p...)
	return len(p), nil
}

// Grow makes room for n more bytes, and little more: so much that the next file,
// which is about as large, has room too.
func (b *SSTBuffer) Grow(n int) {
	if need := len(b.b) + n; need > cap(b.b) {
		b.grow(need + need/16)
	}
}

func (b *SSTBuffer) grow(size int) {
	b.b = append(make([]byte, 0, size), b.b...)
}

// Reset empties the buffer and keeps its memory.
func (b *SSTBuffer) Reset() { b.b = b.b[:0] }

// Len returns the number of bytes written.
func (b *SSTBuffer) Len() int { return len(b.b) }

// Bytes returns what was written, in the buffer's own memory.
func (b *SSTBuffer) Bytes() []byte { return b.b }

// File returns the finished file.
func (b *SSTBuffer) File() SSTFile { return NewMemSST(b.Bytes()) }
