package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/protectedts"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// firstUserTableID is the lowest descriptor id of a user's object.
const firstUserTableID = 100

// gcPolicy tells the keyspace, which knows no tables, how long their old versions
// must stay: the zones' gc.ttlseconds and the protection records. The keyspace
// opens before there is a DB to read them with, so db comes later.
type gcPolicy struct {
	db  atomic.Pointer[kv.DB]
	srv atomic.Pointer[sql.Server]
}

func (g *gcPolicy) config(interval time.Duration) *kvserver.GCConfig {
	return &kvserver.GCConfig{Policies: g.policies, Protections: g.protections, Interval: interval, Eager: interval > 0}
}

// policies lists the tables whose zone says another gc.ttlseconds than the default,
// dropped ones included. Without a row in system.zones there are none.
func (g *gcPolicy) policies(ctx context.Context, span keys.Span) ([]kvserver.GCPolicy, error) {
	srv := g.srv.Load()
	if srv == nil {
		return nil, nil // Nothing is collected before protections are known.
	}
	zoneRows := systables.Zones.Span()
	rows, err := srv.DB().Scan(ctx, zoneRows.Key, zoneRows.EndKey, srv.DB().Clock().Now(), kv.ScanOptions{MaxKeys: 1})
	if err != nil || len(rows.KVs) == 0 {
		return nil, err
	}
	descriptors := systables.Descriptor.Span()
	rows, err = srv.DB().Scan(ctx, descriptors.Key, descriptors.EndKey, srv.DB().Clock().Now(), kv.ScanOptions{})
	if err != nil {
		return nil, err
	}
	var out []kvserver.GCPolicy
	for _, row := range rows.KVs {
		id, _, err := catalog.DecodeDescriptorValue(row.Key, row.Value)
		if err != nil {
			return nil, err
		}
		table := keys.TableSpan(id)
		if !table.Overlaps(span) {
			continue
		}
		zone, err := srv.ZoneForTable(ctx, id)
		if err != nil {
			return nil, err
		}
		if zone.GCTTLSeconds != nil && time.Duration(*zone.GCTTLSeconds)*time.Second != kvserver.DefaultGCTTL {
			out = append(out, kvserver.GCPolicy{Span: table, TTL: time.Duration(*zone.GCTTLSeconds) * time.Second})
		}
	}
	return out, nil
}

// protections lists every record of system.protected_ts_records as a protected
// time of spans. A record of a database protects the whole table space: which
// tables belonged to it at which time is not known here.
func (g *gcPolicy) protections(ctx context.Context) ([]kvserver.Protection, hlc.Timestamp, error) {
	db := g.db.Load()
	if db == nil {
		return nil, hlc.Timestamp{}, nil // Complete as of never: nothing is collected.
	}
	state, err := protectedts.Load(ctx, db)
	if err != nil {
		return nil, hlc.Timestamp{}, err
	}
	var out []kvserver.Protection
	for _, r := range state.Records {
		p := kvserver.Protection{Timestamp: r.Timestamp}
		if !r.Target.Cluster && len(r.Target.DatabaseIDs) == 0 {
			// Reading a table as of then needs what the system tables said then.
			p.Spans = append(p.Spans, keys.Span{Key: keys.TableDataMin, EndKey: keys.TablePrefix(firstUserTableID)})
			for _, id := range r.Target.TableIDs {
				prefix := keys.TablePrefix(id)
				p.Spans = append(p.Spans, keys.Span{Key: prefix, EndKey: prefix.PrefixEnd()})
			}
		}
		out = append(out, p)
	}
	return out, state.ReadAt, nil
}
