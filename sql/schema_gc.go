package sql

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Data of dropped tables and indexes is deleted by a job of its own: it writes one
// range tombstone per span, so the data are gone for readers of the present and
// stay for those of the past, backups among them. MVCC garbage collection removes
// them when gc.ttlseconds and protected timestamps allow. When that time has
// passed the job takes the descriptor, or the index's entry in it, away, and the zone
// configurations that nothing needs any more.

// gcDetails is what a collection job is about.
type gcDetails struct {
	Tables  []catalog.ID `json:"tables,omitempty"`
	Table   catalog.ID   `json:"table,omitempty"` // with Indexes
	Indexes []uint32     `json:"indexes,omitempty"`
	// Zones are dropped databases whose zone configuration decides, until the end,
	// when Tables may be collected.
	Zones []catalog.ID `json:"zones,omitempty"`
	// DropTime is in nanoseconds.
	DropTime int64 `json:"dropTime"`
}

type gcProgress struct {
	Deleted bool `json:"deleted"` // the tombstones are written
	// TTL is what gc.ttlseconds was when they were. It counts once the database is
	// gone and another job has taken its zone configuration away.
	TTL time.Duration `json:"ttl,omitempty"`
}

// collectTables creates the job for dropped relations.
func (p *planner) collectTables(ctx context.Context, ids, zones []catalog.ID) error {
	if len(ids) == 0 && len(zones) == 0 {
		return nil
	}
	return p.createGCJob(ctx, gcDetails{Tables: ids, Zones: zones}, fmt.Sprintf("GC for %d dropped relations", len(ids)))
}

// dropIndexData creates the job for indexes that pb no longer has, and notes them
// in pb, which the caller writes.
func (p *planner) dropIndexData(ctx context.Context, pb *catalogpb.TableDescriptor, ids []uint32) error {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	// Nothing is stored under ids that this statement gave and took.
	var stored []uint32
	old, err := p.cat.TableByID(ctx, pb.Id, catalog.Flags{IncludeOffline: true})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if old != nil && old.IndexByID(id) != nil {
			stored = append(stored, id)
		}
	}
	if len(stored) == 0 {
		return nil
	}
	if p.newInTxn(pb.Id) {
		// Nobody else has seen the table: its keys are this transaction's own.
		for _, id := range stored {
			sp := keys.IndexSpan(pb.Id, id)
			if _, err := p.txn.DelRange(ctx, sp.Key, sp.EndKey); err != nil {
				return err
			}
		}
		return nil
	}
	now := p.srv.clock.Now().WallTime
	for _, id := range stored {
		pb.DroppedIndexes = append(pb.DroppedIndexes, &catalogpb.DroppedIndex{IndexId: id, DropTime: now})
	}
	return p.createGCJob(ctx, gcDetails{Table: pb.Id, Indexes: stored}, fmt.Sprintf("GC for %d dropped indexes of %s", len(stored), pb.Name))
}

func (p *planner) createGCJob(ctx context.Context, d gcDetails, description string) error {
	if p.srv.cfg.Jobs == nil {
		return nil
	}
	d.DropTime = p.srv.clock.Now().WallTime
	details, err := json.Marshal(d)
	if err != nil {
		return err
	}
	ids := d.Tables
	if d.Table != 0 {
		ids = []catalog.ID{d.Table}
	}
	_, err = p.srv.cfg.Jobs.CreateJob(ctx, p.txn, jobs.New{
		Type: jobs.TypeSchemaChangeGC, Description: description, Username: catalog.NodeUser,
		Details: details, DescriptorIDs: ids, NonCancelable: true,
	})
	return err
}

// clearUnpublished removes keys that a failed schema change left under an index id
// that no descriptor has.
func (p *planner) clearUnpublished(ctx context.Context, table catalog.ID, index uint32) error {
	if p.newInTxn(table) {
		return nil
	}
	sp := keys.IndexSpan(table, index)
	res, err := p.srv.db.Scan(ctx, sp.Key, sp.EndKey, p.srv.clock.Now(), kv.ScanOptions{MaxKeys: 1})
	if err != nil || len(res.KVs) == 0 {
		return err
	}
	return p.srv.db.ClearRange(ctx, sp)
}

// GCResumer runs collection jobs. The server hands it to the job registry.
type GCResumer struct{ Server *Server }

// gcPoll is how often a waiting job looks whether its time has come.
const gcPoll = 30 * time.Second

// Resume implements jobs.Resumer.
func (r *GCResumer) Resume(ctx context.Context, j *jobs.Job) error {
	var d gcDetails
	if err := json.Unmarshal(j.Payload().Details, &d); err != nil {
		return jobs.MarkPermanent(fmt.Errorf("decoding the details of job %d: %w", j.ID(), err))
	}
	var progress gcProgress
	if b := j.Progress().Details; len(b) > 0 {
		if err := json.Unmarshal(b, &progress); err != nil {
			return jobs.MarkPermanent(fmt.Errorf("decoding the progress of job %d: %w", j.ID(), err))
		}
	}
	if !progress.Deleted {
		if err := r.deleteData(ctx, d); err != nil {
			return jobs.MarkRetryable(err) // Nobody else would ever delete it.
		}
		ttl, _, err := r.ttl(ctx, d)
		if err != nil {
			return err
		}
		progress = gcProgress{Deleted: true, TTL: ttl}
		b, err := json.Marshal(progress)
		if err != nil {
			return err
		}
		if err := j.SetProgressDetails(ctx, b); err != nil {
			return err
		}
		if err := j.SetFraction(ctx, 0.5, "waiting for GC TTL"); err != nil {
			return err
		}
	}
	for {
		wait, err := r.remaining(ctx, d, progress)
		if err != nil {
			return err
		}
		if wait <= 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(wait, gcPoll)):
		}
	}
	return r.forget(ctx, d)
}

// OnFailOrCancel implements jobs.Resumer. The job cannot be canceled, and what it
// does can always be done again.
func (r *GCResumer) OnFailOrCancel(context.Context, *jobs.Job, error) error { return nil }

// deleteData writes the range tombstones. Doing it twice does no harm: the
// objects are gone.
func (r *GCResumer) deleteData(ctx context.Context, d gcDetails) error {
	var spans []keys.Span
	for _, id := range d.Tables {
		spans = append(spans, keys.TableSpan(id))
	}
	for _, x := range d.Indexes {
		spans = append(spans, keys.IndexSpan(d.Table, x))
	}
	for _, sp := range spans {
		if err := r.Server.db.DeleteRangeTombstone(ctx, sp); err != nil {
			return fmt.Errorf("deleting dropped data: %w", err)
		}
	}
	return nil
}

// remaining says how long until the data may be collected.
func (r *GCResumer) remaining(ctx context.Context, d gcDetails, p gcProgress) (time.Duration, error) {
	ttl, orphaned, err := r.ttl(ctx, d)
	if err != nil {
		return 0, err
	}
	if orphaned && p.TTL > 0 {
		ttl = min(ttl, p.TTL)
	}
	return time.Until(time.Unix(0, d.DropTime).Add(ttl)), nil
}

// ttl returns the longest gc.ttlseconds of the tables that are still to be
// forgotten, and whether their database is gone. An earlier run may have forgotten
// all of them just before its process died: there is nothing to wait for then.
func (r *GCResumer) ttl(ctx context.Context, d gcDetails) (ttl time.Duration, orphaned bool, err error) {
	ids := d.Tables
	if d.Table != 0 {
		ids = []catalog.ID{d.Table}
	}
	for _, id := range ids {
		there := false
		err := r.Server.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
			c := r.Server.catalog.NewCollection(txn)
			defer c.Release()
			t, err := c.ByID(ctx, id) // Types of its columns may be gone: see TableByID.
			if there = t != nil; err != nil || !there {
				return err
			}
			db, err := c.ByID(ctx, t.ParentID())
			orphaned = orphaned || db == nil
			return err
		})
		if err != nil {
			return 0, false, err
		}
		if !there {
			continue
		}
		c, err := r.Server.ZoneForTable(ctx, id)
		if err != nil {
			return 0, false, err
		}
		if c.GCTTLSeconds != nil {
			ttl = max(ttl, time.Duration(*c.GCTTLSeconds)*time.Second)
		}
	}
	return ttl, orphaned, nil
}

// forget removes what the catalog still knows.
func (r *GCResumer) forget(ctx context.Context, d gcDetails) error {
	return r.Server.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		c := r.Server.catalog.NewCollection(txn)
		defer c.Release()
		for _, id := range d.Tables {
			// As it is stored: the types of its columns may be gone.
			t, err := c.ByID(ctx, id)
			if err != nil {
				return err
			}
			if t != nil && t.State() == catalogpb.State_DROP {
				if err := c.Delete(ctx, id); err != nil {
					return err
				}
			}
		}
		for _, id := range append(slices.Clone(d.Tables), d.Zones...) {
			if err := editZone(ctx, txn, id, func(*zones.Config) bool { return false }); err != nil {
				return err
			}
		}
		if d.Table == 0 {
			return nil
		}
		err := editZone(ctx, txn, d.Table, func(z *zones.Config) bool {
			z.Subzones = slices.DeleteFunc(z.Subzones, func(s zones.Subzone) bool { return slices.Contains(d.Indexes, s.IndexID) })
			own := *z
			own.Subzones = nil
			return len(z.Subzones) > 0 || !reflect.DeepEqual(own, zones.Config{})
		})
		if err != nil {
			return err
		}
		t, err := c.TableByID(ctx, d.Table, catalog.Flags{IncludeOffline: true})
		if err != nil || t == nil {
			return err
		}
		pb, err := c.MutableTable(ctx, d.Table)
		if err != nil {
			return err
		}
		pb.DroppedIndexes = slices.DeleteFunc(pb.DroppedIndexes, func(x *catalogpb.DroppedIndex) bool { return slices.Contains(d.Indexes, x.IndexId) })
		_, err = c.Write(ctx, pb)
		return err
	})
}

// editZone changes the zone configuration of an object, if it has one; keep says
// whether it still does afterwards.
func editZone(ctx context.Context, txn *kv.Txn, id catalog.ID, keep func(*zones.Config) bool) error {
	key, err := systables.Zones.Key(int64(id))
	if err != nil {
		return err
	}
	res, err := txn.Get(ctx, key)
	if err != nil || len(res.Value) == 0 {
		return err
	}
	row, err := systables.Zones.Decode(key, res.Value)
	if err != nil {
		return err
	}
	b, _ := row[1].([]byte)
	c, err := zones.Unmarshal(b)
	if err != nil {
		return err
	}
	if !keep(&c) {
		return txn.Del(ctx, key)
	}
	pairs, err := systables.Zones.Encode(systables.Row{int64(id), c.Marshal()})
	if err != nil {
		return err
	}
	for _, p := range pairs {
		if err := txn.Put(ctx, p.Key, p.Value); err != nil {
			return err
		}
	}
	return nil
}
