package storage

import (
	"context"
	"errors"
	"io"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

var errTODO = errors.New("not yet")

// ExportOptions says what MVCCExport reads.
type ExportOptions struct {
	Span      keys.Span
	StartTime hlc.Timestamp // exclusive; zero: from the beginning
	EndTime   hlc.Timestamp // inclusive
	// ResumeTS continues inside the history of Span.Key: only versions older
	// than it are exported of that key. Zero: all.
	ResumeTS hlc.Timestamp
	// AllRevisions exports every version and range tombstone in (StartTime,
	// EndTime]; otherwise only the newest of each key, and tombstones only if
	// StartTime is not zero.
	AllRevisions bool
	// TargetBytes ends the page at the first row boundary at which keys and
	// values reach it. 0: no limit.
	TargetBytes int64
	// MaxBytes is the hard limit: a single row that exceeds it is cut between
	// versions. 0: no limit.
	MaxBytes int64
	// MaxLocks bounds the locks in a LockConflictError; 0: 100.
	MaxLocks int
}

// Fingerprint is a sum of 128-bit hashes: equal for equal sets of pairs in any
// order, and the sum over parts is the sum of the whole.
type Fingerprint struct {
	Hi, Lo uint64
}

// IndexID names an index.
type IndexID struct {
	TableID, IndexID uint32
}

// IndexSummary counts what was exported of one index.
type IndexSummary struct {
	Rows             int64 // distinct row prefixes with at least one live exported pair, counted within one file
	KVs              int64 // point versions, tombstones included
	Tombstones       int64 // point tombstones among them
	RangeTombstones  int64
	KeyBytes         int64 // keys without version
	ValueBytes       int64
	Fingerprint      Fingerprint // without timestamps
	TimedFingerprint Fingerprint // with timestamps
}

// ExportSummary says what a page holds.
type ExportSummary struct {
	Indexes   map[IndexID]*IndexSummary
	DataBytes int64 // keys and values
	// Span actually covered: from the request's start to the resume key.
	Span keys.Span
}

// ExportResult is the outcome of one page.
type ExportResult struct {
	Summary ExportSummary
	// ResumeKey is where the next page begins, nil if this was the last.
	ResumeKey keys.Key
	// ResumeTS is set if the page ends inside the history of ResumeKey.
	ResumeTS hlc.Timestamp
	// MidRow says that the page ends inside a row.
	MidRow bool
	// Empty says that nothing was found; nothing was written then.
	Empty bool
}

// MVCCExport writes one page of the span's history to w as an sstable. It
// reports every lock ≤ EndTime as a LockConflictError. Values are written with
// checksum 0 and without extended header.
func MVCCExport(ctx context.Context, r Reader, opts ExportOptions, w io.Writer) (ExportResult, error) {
	return ExportResult{}, errTODO
}
