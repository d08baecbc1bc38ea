package storage

import (
	"context"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// IngestOptions says how IngestSST treats a file.
type IngestOptions struct {
	// Span must contain every key of the file.
	Span keys.Span
	// Timestamp is given to every version in place of the file's own; the file
	// must have at most one version per key. Zero keeps the file's timestamps
	// (tests, and replicas that repeat a decision made elsewhere).
	Timestamp hlc.Timestamp
	// DisallowConflicts refuses the file if the span holds a lock or a version
	// ≥ Timestamp of one of its keys.
	DisallowConflicts bool
}

// IngestSST adds an sstable (as made by SSTWriter) to the store. When it
// returns nil the file is durable and visible at once; on error nothing is.
func (e *Engine) IngestSST(ctx context.Context, sst []byte, opts IngestOptions) (Stats, error) {
	return Stats{}, errTODO
}
