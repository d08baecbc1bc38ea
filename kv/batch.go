package kv

import (
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// KeyValue is a key with its value, nil if the key does not exist, and the
// timestamp of that value. The memory is the receiver's.
type KeyValue = kvpb.KeyValue

// Pair is a key and the value to be written there.
type Pair = storage.Pair

// GetOptions says how a Get treats locks.
type GetOptions struct {
	ForUpdate  bool // lock the key, if it exists, until the transaction ends
	SkipLocked bool // a key that another transaction has locked counts as missing
	NoWait     bool // fail instead of waiting for a lock
}

// ScanOptions says how far a scan goes and how it treats locks.
type ScanOptions struct {
	MaxKeys     int64 // zero: no limit
	TargetBytes int64 // stop when the result has so many bytes; zero: no limit
	Reverse     bool  // from the end to the start
	ForUpdate   bool  // lock what is returned until the transaction ends
	SkipLocked  bool  // leave out what other transactions have locked
	NoWait      bool  // fail instead of waiting for a lock
}

func (o ScanOptions) request(start, end keys.Key) kvpb.Request {
	r := kvpb.Request{Op: kvpb.OpScan, Key: start, EndKey: end}
	if o.Reverse {
		r.Op = kvpb.OpReverseScan
	}
	if o.ForUpdate {
		r.Lock = kvpb.LockExclusive
	}
	return r
}

func waitPolicy(skipLocked, noWait bool) kvpb.WaitPolicy {
	switch {
	case skipLocked:
		return kvpb.WaitSkip
	case noWait:
		return kvpb.WaitError
	}
	return kvpb.WaitBlock
}

// ScanResult is what a scan found, and what a limit left unread.
type ScanResult struct {
	KVs    []KeyValue
	Resume *keys.Span // nil: everything was read
}

// Batch is a list of operations that go out together. Fill it, pass it to
// Txn.Run or Txn.CommitInBatch, then read Results. Keys and values must not
// change until then. A Batch may be used again after Reset.
type Batch struct {
	reqs []kvpb.Request
	// MaxKeys and TargetBytes limit what all reads of the batch return together.
	MaxKeys, TargetBytes int64
	// Results has one entry per operation, in order, after a successful Run.
	Results []Result

	skipLocked, noWait bool
}

// Result is the outcome of one operation of a Batch.
type Result struct {
	KVs    []KeyValue // Get: at most one; Scan: all
	Resume *keys.Span
	Count  int64 // DelRange: deleted keys; Inc: the new value
}

// Len returns the number of operations.
func (b *Batch) Len() int { return len(b.reqs) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.reqs)
	*b = Batch{reqs: b.reqs[:0]}
}

// Get reads a key.
func (b *Batch) Get(key keys.Key) { b.add(kvpb.Request{Op: kvpb.OpGet, Key: key}) }

// GetForUpdate reads a key and locks it if it exists.
func (b *Batch) GetForUpdate(key keys.Key) {
	b.add(kvpb.Request{Op: kvpb.OpGet, Key: key, Lock: kvpb.LockExclusive})
}

// Scan reads [start, end). Limits, SkipLocked and NoWait hold for the whole
// batch: those of any operation apply to all.
func (b *Batch) Scan(start, end keys.Key, opts ScanOptions) {
	b.add(opts.request(start, end))
	b.skipLocked = b.skipLocked || opts.SkipLocked
	b.noWait = b.noWait || opts.NoWait
	if opts.MaxKeys > 0 {
		b.MaxKeys = opts.MaxKeys
	}
	if opts.TargetBytes > 0 {
		b.TargetBytes = opts.TargetBytes
	}
}

// Put writes a value.
func (b *Batch) Put(key keys.Key, value []byte) {
	b.add(kvpb.Request{Op: kvpb.OpPut, Key: key, Value: value})
}

// CPut writes value if the present one, without its checksum, equals expected;
// nil expects that the key does not exist.
func (b *Batch) CPut(key keys.Key, value, expected []byte) {
	b.add(kvpb.Request{Op: kvpb.OpCPut, Key: key, Value: value, Expected: expected})
}

// Del deletes keys.
func (b *Batch) Del(ks ...keys.Key) {
	for _, k := range ks {
		b.add(kvpb.Request{Op: kvpb.OpDelete, Key: k})
	}
}

// DelRange deletes every key of [start, end).
func (b *Batch) DelRange(start, end keys.Key) {
	b.add(kvpb.Request{Op: kvpb.OpDeleteRange, Key: start, EndKey: end})
}

// Inc adds by to an integer.
func (b *Batch) Inc(key keys.Key, by int64) {
	b.add(kvpb.Request{Op: kvpb.OpInc, Key: key, Delta: by})
}

func (b *Batch) add(r kvpb.Request) { b.reqs = append(b.reqs, r) }

func (b *Batch) fill(resp *kvpb.BatchResponse) {
	b.Results = make([]Result, len(b.reqs))
	for i := range b.Results {
		r := &resp.Responses[i]
		b.Results[i] = Result{KVs: r.KVs, Resume: r.Resume, Count: r.Count}
	}
}
