// Package protectedts keeps old versions from being collected for as long as a
// record says so.
//
// A Record names a timestamp and a target: no version that a read of the target
// at that timestamp or later could need is removed while the record exists.
// Records are rows of system.protected_ts_records; a backup writes one before it
// reads and removes it when it ends.
//
// The garbage collector asks a State, one complete read of all records. It may
// use the State only for thresholds up to State.ReadAt minus the time-to-live: a
// record that was written later protects timestamps that such a threshold does
// not reach. Start reading at Protect, then State.
package protectedts

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/apd"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
)

// ErrNotFound says that no record has the id.
var ErrNotFound = errors.New("protected timestamp record does not exist")

// Target is what a record protects.
type Target struct {
	Cluster     bool
	DatabaseIDs []uint32 // with all their tables, future ones too
	TableIDs    []uint32
}

// Record protects Target from Timestamp on.
type Record struct {
	ID        [16]byte
	Timestamp hlc.Timestamp
	Target    Target
	MetaType  string // who wrote it: "jobs", "schedules"
	Meta      []byte // of that kind: the job's id
}

// Positions of the columns of system.protected_ts_records.
const (
	colID = iota
	colTS
	colMetaType
	colMeta
	colNumSpans
	colSpans
	colVerified
	colTarget
)

// Protect writes rec. It takes effect when txn commits, for versions that are
// not collected yet; the caller's reads find out whether they were in time.
func Protect(ctx context.Context, txn *kv.Txn, rec Record) error {
	if rec.Timestamp.IsEmpty() {
		return errors.New("a protected timestamp record without a timestamp")
	}
	if !rec.Target.Cluster && len(rec.Target.DatabaseIDs) == 0 && len(rec.Target.TableIDs) == 0 {
		return errors.New("a protected timestamp record without a target")
	}
	pair, err := encode(rec)
	if err != nil {
		return err
	}
	if err := txn.CPut(ctx, pair.Key, pair.Value, nil); err != nil {
		return fmt.Errorf("protecting %s: %w", rec.Timestamp, err)
	}
	return nil
}

// Release removes a record. It returns ErrNotFound if there is none.
func Release(ctx context.Context, txn *kv.Txn, id [16]byte) error {
	if _, err := Get(ctx, txn, id); err != nil {
		return err
	}
	key, err := systables.ProtectedTimestamps.Key(id)
	if err != nil {
		return err
	}
	return txn.Del(ctx, key)
}

// Update moves the timestamp of a record.
func Update(ctx context.Context, txn *kv.Txn, id [16]byte, ts hlc.Timestamp) error {
	rec, err := Get(ctx, txn, id)
	if err != nil {
		return err
	}
	rec.Timestamp = ts
	pair, err := encode(rec)
	if err != nil {
		return err
	}
	return txn.Put(ctx, pair.Key, pair.Value)
}

// Get returns a record, or ErrNotFound.
func Get(ctx context.Context, txn *kv.Txn, id [16]byte) (Record, error) {
	key, err := systables.ProtectedTimestamps.Key(id)
	if err != nil {
		return Record{}, err
	}
	got, err := txn.Get(ctx, key)
	if err != nil {
		return Record{}, fmt.Errorf("reading protected timestamp record %x: %w", id, err)
	}
	if got.Value == nil {
		return Record{}, fmt.Errorf("record %x: %w", id, ErrNotFound)
	}
	return decode(systables.KV{Key: key, Value: got.Value})
}

func encode(rec Record) (systables.KV, error) {
	target, err := proto.Marshal(&TargetMessage{
		Cluster: rec.Target.Cluster, DatabaseIds: rec.Target.DatabaseIDs, TableIds: rec.Target.TableIDs,
	})
	if err != nil {
		return systables.KV{}, err
	}
	ts, _, err := apd.NewFromString(rec.Timestamp.AsOfSystemTime())
	if err != nil {
		return systables.KV{}, err
	}
	row := make(systables.Row, len(systables.ProtectedTimestamps.Columns))
	row[colID], row[colTS], row[colMetaType] = rec.ID, ts, rec.MetaType
	if rec.Meta != nil {
		row[colMeta] = rec.Meta
	}
	row[colNumSpans], row[colVerified], row[colTarget] = int64(0), true, target
	pairs, err := systables.ProtectedTimestamps.Encode(row)
	if err != nil {
		return systables.KV{}, err
	}
	return pairs[0], nil
}

func decode(pair systables.KV) (Record, error) {
	row, err := systables.ProtectedTimestamps.Decode(pair.Key, pair.Value)
	if err != nil {
		return Record{}, pgerr.Newf(pgerr.DataCorrupted, "protected timestamp record: %w", err)
	}
	rec := Record{ID: row[colID].([16]byte), MetaType: row[colMetaType].(string)}
	rec.Meta, _ = row[colMeta].([]byte)
	if rec.Timestamp, err = hlc.ParseAsOfSystemTime(row[colTS].(*apd.Decimal).Text('f')); err != nil {
		return Record{}, pgerr.Newf(pgerr.DataCorrupted, "protected timestamp record %x: %w", rec.ID, err)
	}
	var target TargetMessage
	b, _ := row[colTarget].([]byte)
	if err := proto.Unmarshal(b, &target); err != nil {
		return Record{}, pgerr.Newf(pgerr.DataCorrupted, "protected timestamp record %x: %w", rec.ID, err)
	}
	rec.Target = Target{Cluster: target.Cluster, DatabaseIDs: target.DatabaseIds, TableIDs: target.TableIds}
	return rec, nil
}

// State is one complete read of all records.
type State struct {
	ReadAt  hlc.Timestamp // the time of the read
	Records []Record
}

// Load reads all records in one transaction.
func Load(ctx context.Context, db *kv.DB) (State, error) {
	var s State
	err := db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		s = State{}
		span := systables.ProtectedTimestamps.Span()
		res, err := txn.Scan(ctx, span.Key, span.EndKey, kv.ScanOptions{})
		if err != nil {
			return fmt.Errorf("reading protected timestamp records: %w", err)
		}
		for _, pair := range res.KVs {
			rec, err := decode(systables.KV{Key: pair.Key, Value: pair.Value})
			if err != nil {
				return err // A record that cannot be read might protect anything.
			}
			s.Records = append(s.Records, rec)
		}
		s.ReadAt = txn.ReadTimestamp()
		return nil
	})
	return s, err
}

// firstUserTable is the lowest descriptor id of a user's object. The tables
// below it describe the others: a read of any table at an old timestamp needs
// their versions of that time, so every record protects them.
const firstUserTable = 100

// Earliest returns the earliest timestamp that a record protects for a table,
// and false if none does. databaseID is 0 when it is not known; then records of
// any database protect the table.
func (s State) Earliest(tableID, databaseID uint32) (hlc.Timestamp, bool) {
	var earliest hlc.Timestamp
	found := false
	for _, rec := range s.Records {
		if rec.Target.covers(tableID, databaseID) && (!found || rec.Timestamp.Less(earliest)) {
			earliest, found = rec.Timestamp, true
		}
	}
	return earliest, found
}

func (t Target) covers(tableID, databaseID uint32) bool {
	switch {
	case t.Cluster || tableID < firstUserTable:
		return true
	case databaseID == 0 && len(t.DatabaseIDs) > 0:
		return true
	}
	return slices.Contains(t.DatabaseIDs, databaseID) || slices.Contains(t.TableIDs, tableID)
}
