package sql

import (
	"context"
	"fmt"
	"time"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// What a process makes that must not outlive it is noted in the keyspace beside the
// thing itself: temporary relations, and indexes that are filled outside of a
// transaction that may not commit. The process removes the note with the thing. If
// it dies, another one, or the next of its node, finds the note and does so.

// ownedThing is such a note. It is all key; its value is the node.
type ownedThing struct {
	process string // of catalog.ProcessIDLen bytes
	kind    ownedKind
	table   catalog.ID
	index   uint32 // 0: the whole table
}

type ownedKind byte

const (
	ownedTemporary ownedKind = 't'
	ownedRows      ownedKind = 'r'
)

var ownedPrefix = append(append(keys.Key(nil), keys.SystemPrefix...), "owned/"...)

func (o ownedThing) key() keys.Key {
	k := append(append(ownedPrefix.Clone(), o.process...), byte(o.kind))
	return encoding.EncodeUvarintAscending(encoding.EncodeUvarintAscending(k, uint64(o.table)), uint64(o.index))
}

func decodeOwned(key keys.Key) (o ownedThing, _ error) {
	rest := key[len(ownedPrefix):]
	if len(rest) <= catalog.ProcessIDLen {
		return o, fmt.Errorf("key %s names nothing that a process owns", keys.Pretty(key))
	}
	o.process, o.kind = string(rest[:catalog.ProcessIDLen]), ownedKind(rest[catalog.ProcessIDLen])
	rest, table, err := encoding.DecodeUvarintAscending(rest[catalog.ProcessIDLen+1:])
	if err != nil {
		return o, err
	}
	_, index, err := encoding.DecodeUvarintAscending(rest)
	o.table, o.index = catalog.ID(table), uint32(index)
	return o, err
}

// process names this process among those that use the keyspace.
func (s *Server) process() string {
	if s.peers == nil {
		return string(make([]byte, catalog.ProcessIDLen))
	}
	return s.peers.Process()
}

// noteOwned notes a thing of this process. put is of a transaction that makes it, or
// of the DB before it is made.
func (s *Server) noteOwned(ctx context.Context, put func(context.Context, keys.Key, []byte) error, kind ownedKind, table catalog.ID, index uint32) error {
	key := ownedThing{s.process(), kind, table, index}.key()
	return put(ctx, key, kvpb.EncodeInt(key, int64(s.cfg.NodeID)))
}

// ownRows notes that the open transaction fills indexes beside itself, and sees to
// what becomes of them.
func (p *planner) ownRows(ctx context.Context, table catalog.ID, index uint32) error {
	srv := p.srv
	// If this process is taken for dead and the rows are cleared, it must not commit.
	p.cat.Bind()
	if err := srv.noteOwned(ctx, srv.db.Put, ownedRows, table, index); err != nil {
		return fmt.Errorf("noting an index to be filled: %w", err)
	}
	note := ownedThing{srv.process(), ownedRows, table, index}
	tx := &p.s.tx
	tx.afterRollback = append(tx.afterRollback, func(ctx context.Context) {
		if err := srv.sweepRows(ctx, note); err != nil {
			srv.log.WarnContext(ctx, "clearing rows of a transaction that did not commit", "err", err)
		}
	})
	p.txn.OnCommit(func() {
		if err := srv.db.Del(context.WithoutCancel(ctx), note.key()); err != nil {
			srv.log.WarnContext(ctx, "removing the note on an index that is filled; it will be found again", "err", err)
		}
	})
	return nil
}

// SweepAfterRestart does what the sessions of the former process of this node
// would have done at their ends: it drops their temporary relations, and it clears
// rows that were ingested beside transactions that never committed. It must end
// before the first session begins.
func (s *Server) SweepAfterRestart(ctx context.Context) error {
	things, nodes, err := s.ownedThings(ctx)
	if err != nil {
		return err
	}
	for i, o := range things {
		if s.peers == nil || nodes[i] == int64(s.cfg.NodeID) && o.process != s.process() {
			if err := s.sweep(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	// sweepInterval is how often processes are looked for that are no more.
	sweepInterval = 30 * time.Second
	// sweepAfter is how long a process must have been without a lease.
	sweepAfter = time.Minute
)

// sweeper removes what processes have left that are no more. It remembers since
// when each was without a lease: one that was only slow gets another.
type sweeper struct {
	since map[string]time.Time
}

func (w *sweeper) run(ctx context.Context, s *Server) error {
	if s.peers == nil {
		return nil
	}
	things, _, err := s.ownedThings(ctx)
	if err != nil {
		return err
	}
	members, err := s.peers.Members(ctx)
	if err != nil {
		return err
	}
	was := w.since
	w.since = map[string]time.Time{}
	for _, o := range things {
		if members[o.process] {
			continue
		}
		since, ok := was[o.process]
		if !ok {
			since = time.Now()
		}
		w.since[o.process] = since
		if time.Since(since) < sweepAfter {
			continue
		}
		if err := s.sweep(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) ownedThings(ctx context.Context) (things []ownedThing, nodes []int64, _ error) {
	sp := keys.Prefix(ownedPrefix)
	res, err := s.db.Scan(ctx, sp.Key, sp.EndKey, s.clock.Now(), kv.ScanOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("reading what processes own: %w", err)
	}
	for _, row := range res.KVs {
		o, err := decodeOwned(row.Key)
		if err != nil {
			return nil, nil, err
		}
		node, err := kvpb.DecodeInt(row.Value)
		if err != nil {
			return nil, nil, err
		}
		things, nodes = append(things, o), append(nodes, node)
	}
	return things, nodes, nil
}

// sweep removes a thing whose process is no more. Several nodes may do so at once.
func (s *Server) sweep(ctx context.Context, o ownedThing) error {
	if o.kind == ownedTemporary {
		sess, err := s.NewSession(ctx, SessionArgs{User: catalog.RootUser, Database: catalog.SystemDatabaseName})
		if err != nil {
			return err
		}
		defer sess.Close(ctx)
		if err := sess.dropTemporaryTable(ctx, o.table); err != nil {
			return fmt.Errorf("dropping temporary relation %d of a former session: %w", o.table, err)
		}
		s.log.InfoContext(ctx, "dropped a temporary relation of a former session", "id", o.table)
		return s.db.Del(ctx, o.key())
	}
	return s.sweepRows(ctx, o)
}

// sweepRows clears rows that no descriptor knows: those of a transaction that can no
// longer commit. What was ever published is deleted before its descriptor goes, so
// such rows were never seen by anybody and nobody may ask for their history.
func (s *Server) sweepRows(ctx context.Context, o ownedThing) error {
	known := false
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		// What the cache has may be older.
		d, err := catalog.ReadDescriptor(ctx, txn, o.table)
		if err != nil {
			return err
		}
		t, _ := d.(*catalog.Table)
		known = t != nil && knowsIndex(t, o.index)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading descriptor %d: %w", o.table, err)
	}
	if !known {
		span := keys.TableSpan(o.table)
		if o.index != 0 {
			span = keys.IndexSpan(o.table, o.index)
		}
		if err := s.db.ClearRange(ctx, span); err != nil {
			return fmt.Errorf("clearing rows of nobody: %w", err)
		}
		s.log.InfoContext(ctx, "cleared rows of a transaction that did not commit", "table", o.table, "index", o.index)
	}
	return s.db.Del(ctx, o.key())
}

// knowsIndex says whether a table may have rows in an index: in its indexes and
// those that a job still has to delete, or anywhere if it is dropped itself.
func knowsIndex(t *catalog.Table, index uint32) bool {
	if index == 0 || t.State() == catalogpb.State_DROP || t.IndexByID(index) != nil {
		return true
	}
	for _, x := range t.Proto().DroppedIndexes {
		if x.IndexId == index {
			return true
		}
	}
	return false
}
