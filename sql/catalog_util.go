package sql

import (
	"context"
	"sync"

	"github.com/lib/pq/oid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs/jobspb"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/pgfacts"
)

type typeOIDValue = oid.Oid

// factTable is a catalog of pgfacts with its columns by name.
type factTable struct {
	at   map[string]int
	rows [][]string
}

var factTables sync.Map // table name → *factTable

func factsOf(table string) (map[string]int, [][]string) {
	if f, ok := factTables.Load(table); ok {
		t := f.(*factTable)
		return t.at, t.rows
	}
	header, rows := pgfacts.Rows(table)
	t := &factTable{at: map[string]int{}, rows: rows}
	for i, h := range header {
		t.at[h] = i
	}
	factTables.Store(table, t)
	return t.at, t.rows
}

// decodeDesc decodes a stored descriptor.
func (s *Server) decodeDesc(id catalog.ID, b []byte, ts hlc.Timestamp) (catalog.Descriptor, error) {
	d, err := catalog.UnmarshalAt(b, ts)
	if err != nil {
		return nil, pgerr.Wrapf(err, pgerr.DataCorrupted, "descriptor %d", id)
	}
	return d, nil
}

// rowEstimate is reltuples: -1 if unknown.
func (p *planner) rowEstimate(_ context.Context, t *catalog.Table) float64 {
	if n, ok := p.srv.stats.rows(t.ID()); ok {
		return float64(n)
	}
	return -1
}

// noteTruncated tells the planner's statistics that a table is empty.
func (p *planner) noteTruncated(id catalog.ID) {
	stats := &p.srv.stats
	p.txn.OnCommit(func() { stats.set(id, 0) })
}

// spanBytes is the approximate size of a span.
func (p *planner) spanBytes(ctx context.Context, span keys.Span) (int64, error) {
	infos, err := p.srv.db.Ranges(ctx, span)
	if err != nil {
		return 0, err
	}
	// Ranges are larger than tables here, so their sizes say little: the table is
	// asked for a bounded sample.
	_ = infos
	res, err := p.srv.db.Scan(ctx, span.Key, span.End(), p.srv.clock.Now(), kv.ScanOptions{TargetBytes: 1 << 20})
	if err != nil {
		return 0, err
	}
	var n int64
	for _, pair := range res.KVs {
		n += int64(len(pair.Key) + len(pair.Value))
	}
	return n, nil
}

// pbToJSON renders messages by the names of the documented ones.
func pbToJSON(message string, data []byte) (string, error) {
	var m proto.Message
	switch message {
	case "cockroach.sql.sqlbase.Descriptor", "holdfast.sql.catalog.Descriptor", "desc":
		m = &catalogpb.Descriptor{}
	case "cockroach.sql.jobs.jobspb.Payload", "holdfast.jobs.Payload":
		m = &jobspb.Payload{}
	case "cockroach.sql.jobs.jobspb.Progress", "holdfast.jobs.Progress":
		m = &jobspb.Progress{}
	default:
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "unknown proto message type %s", message)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "invalid protocol message: %v", err)
	}
	b, err := protojson.Marshal(m)
	return string(b), err
}
