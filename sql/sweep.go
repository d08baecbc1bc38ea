package sql

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// SweepAfterRestart does what the sessions of the former process of this node
// would have done at their ends: it drops their temporary relations, and it clears
// rows that were ingested beside transactions that never committed. It must end
// before the first session begins and before jobs run: nothing here could be told
// from what they have just made.
func (s *Server) SweepAfterRestart(ctx context.Context) error {
	var temporary []catalog.ID
	var known []keys.Span
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		temporary, known = nil, nil
		c := s.catalog.NewCollection(txn)
		defer c.Release()
		all, err := c.All(ctx)
		if err != nil {
			return err
		}
		for _, d := range all {
			t, ok := d.(*catalog.Table)
			if !ok || t.ID() < catalog.FirstUserID {
				continue
			}
			if t.Proto().Temporary && t.State() == catalogpb.State_PUBLIC {
				temporary = append(temporary, t.ID())
			}
			known = append(known, knownSpans(t)...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading descriptors: %w", err)
	}
	if err := s.dropLeftTemporary(ctx, temporary); err != nil {
		return err
	}
	return s.clearUnknown(ctx, known)
}

// dropLeftTemporary drops the temporary relations of sessions that are no more.
func (s *Server) dropLeftTemporary(ctx context.Context, ids []catalog.ID) error {
	if len(ids) == 0 {
		return nil
	}
	sess, err := s.NewSession(ctx, SessionArgs{User: catalog.RootUser, Database: catalog.SystemDatabaseName})
	if err != nil {
		return err
	}
	defer sess.Close(ctx)
	for _, id := range ids {
		if err := sess.dropTemporaryTable(ctx, id); err != nil {
			return fmt.Errorf("dropping temporary relation %d of a former session: %w", id, err)
		}
	}
	s.log.InfoContext(ctx, "dropped temporary relations of former sessions", "count", len(ids))
	return nil
}

// knownSpans returns where a table may have rows: in its indexes and those that a
// job still has to delete, or anywhere if it is dropped itself.
func knownSpans(t *catalog.Table) []keys.Span {
	if t.State() == catalogpb.State_DROP {
		return []keys.Span{t.Span()}
	}
	spans := []keys.Span{keys.IndexSpan(t.ID(), 1)} // Sequences have no index but this.
	for _, x := range t.Indexes() {
		spans = append(spans, x.Span())
	}
	for _, x := range t.Proto().DroppedIndexes {
		spans = append(spans, keys.IndexSpan(t.ID(), x.IndexId))
	}
	return spans
}

// clearUnknown clears live rows outside of all known spans. What was ever
// published is deleted before its descriptor goes, so such rows were never seen by
// anybody and nobody may ask for their history.
func (s *Server) clearUnknown(ctx context.Context, known []keys.Span) error {
	slices.SortFunc(known, func(a, b keys.Span) int { return a.Key.Compare(b.Key) })
	from := keys.TablePrefix(catalog.FirstUserID)
	for _, k := range append(known, keys.Span{Key: keys.TableDataMax, EndKey: keys.TableDataMax.Next()}) {
		for from.Less(k.Key) {
			res, err := s.db.Scan(ctx, from, k.Key, s.clock.Now(), kv.ScanOptions{MaxKeys: 1})
			if err != nil {
				return fmt.Errorf("looking for rows of nobody: %w", err)
			}
			if len(res.KVs) == 0 {
				break
			}
			table, index, _, ok := keys.DecodeIndexPrefix(res.KVs[0].Key)
			if !ok {
				return fmt.Errorf("key %s is of no table", keys.Pretty(res.KVs[0].Key))
			}
			span := keys.IndexSpan(table, index)
			if err := s.db.ClearRange(ctx, span); err != nil {
				return fmt.Errorf("clearing rows of nobody: %w", err)
			}
			s.log.InfoContext(ctx, "cleared rows of a transaction that did not commit", "table", table, "index", index)
			from = span.End()
		}
		if from.Less(k.End()) {
			from = k.End()
		}
	}
	return nil
}
