package sql

import (
	"context"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// fingerprintPageBytes bounds the memory of a fingerprint.
const fingerprintPageBytes = 4 << 20

// fingerprintOf sums the live pairs of a span as backups do: it depends neither
// on their order nor on table ids, checksums and times.
func fingerprintOf(ctx context.Context, db *kv.DB, span keys.Span, ts hlc.Timestamp) (string, error) {
	var sum storage.Fingerprint
	for rest := span; ; {
		page, err := db.Export(ctx, rest, kv.ExportOptions{EndTime: ts, TargetBytes: fingerprintPageBytes})
		if err != nil {
			return "", err
		}
		for _, x := range page.Summary.Indexes {
			sum.Add(x.Fingerprint)
		}
		if page.Resume == nil {
			return sum.String(), nil
		}
		rest = *page.Resume
	}
}
