package sql

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// bootstrapVersion is the version of the system tables' layout. Migrations bring
// an older store up to it; a newer store is refused.
const bootstrapVersion = 1

// versionSetting is the row of system.settings that says which version a store
// has reached.
const versionSetting = "version"

// OIDs of the built-in roles.
const (
	rootOID   = 1
	adminOID  = 2
	nodeOID   = 3
	publicOID = 4

	firstRoleOID = 100
)

// Bootstrap makes a store ready for SQL. A new store gets database system with
// its tables, the databases defaultdb and postgres, and the users root and admin;
// a store of an older version is migrated. It is safe to run at every start.
func Bootstrap(ctx context.Context, db *kv.DB) error {
	return db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		key, err := systables.Settings.Key(versionSetting)
		if err != nil {
			return err
		}
		got, err := txn.Get(ctx, key)
		if err != nil {
			return err
		}
		if got.Value != nil {
			row, err := systables.Settings.Decode(key, got.Value)
			if err != nil {
				return err
			}
			return migrate(ctx, txn, fmt.Sprint(row[systables.Settings.Col("value")]))
		}
		return bootstrapNew(ctx, txn, time.Now().UTC())
	})
}

// migrations[i] brings a store from version i+1 to i+2.
var migrations []func(ctx context.Context, txn *kv.Txn) error

func migrate(ctx context.Context, txn *kv.Txn, stored string) error {
	var v int
	if _, err := fmt.Sscanf(stored, "1000000.%d", &v); err != nil || v < 1 {
		return fmt.Errorf("the store has version %q, which this program does not know", stored)
	}
	if v > bootstrapVersion {
		return fmt.Errorf("the store was written by a newer version of this program (layout %d, this program knows %d)", v, bootstrapVersion)
	}
	for ; v < bootstrapVersion; v++ {
		if err := migrations[v-1](ctx, txn); err != nil {
			return fmt.Errorf("migrating the store to layout %d: %w", v+1, err)
		}
		if err := putRow(ctx, txn, systables.Settings, systables.Row{versionSetting, versionValue(v + 1), time.Now().UTC(), "m"}); err != nil {
			return err
		}
	}
	return nil
}

func versionValue(v int) string { return fmt.Sprintf("1000000.%d", v) }

func putRow(ctx context.Context, txn *kv.Txn, t *systables.Table, row systables.Row) error {
	pairs, err := t.Encode(row)
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

func bootstrapNew(ctx context.Context, txn *kv.Txn, now time.Time) error {
	var ts hlc.Timestamp
	ts.WallTime = now.UnixNano()
	mod := catalog.TimestampPB(ts)
	w := &bootstrapWriter{ctx: ctx, txn: txn}

	descs, err := catalog.InitialDescriptors()
	if err != nil {
		return err
	}
	for _, d := range descs {
		w.desc(d, mod)
	}
	seq := rowenc.SequenceKey(catalog.RoleIDSequenceID)
	w.put(seq, rowenc.EncodeInt(seq, firstRoleOID-1))
	w.row(systables.Users, systables.Row{catalog.RootUser, []byte{}, false, int64(rootOID)})
	w.row(systables.Users, systables.Row{catalog.AdminRole, []byte{}, true, int64(adminOID)})
	w.row(systables.RoleMembers, systables.Row{catalog.AdminRole, catalog.RootUser, true, int64(adminOID), int64(rootOID)})
	w.row(systables.Settings, systables.Row{versionSetting, versionValue(bootstrapVersion), now, "m"})
	w.put(catalog.IDCounterKey, rowenc.EncodeInt(catalog.IDCounterKey, int64(catalog.FirstAllocatableID-1)))
	return w.err
}

// bootstrapWriter keeps the first error, so that the list above reads as a list.
type bootstrapWriter struct {
	ctx context.Context
	txn *kv.Txn
	err error
}

func (w *bootstrapWriter) row(t *systables.Table, row systables.Row) {
	if w.err == nil {
		w.err = putRow(w.ctx, w.txn, t, row)
	}
}

func (w *bootstrapWriter) put(key keys.Key, value []byte) {
	if w.err == nil {
		w.err = w.txn.Put(w.ctx, key, value)
	}
}

func (w *bootstrapWriter) desc(d catalog.Descriptor, mod *catalogpb.Timestamp) {
	msg := proto.CloneOf(d.Message())
	switch u := msg.Union.(type) {
	case *catalogpb.Descriptor_Table:
		u.Table.ModificationTime, u.Table.CreateAsOfTime = mod, mod
	case *catalogpb.Descriptor_Database:
		u.Database.ModificationTime = mod
	case *catalogpb.Descriptor_Schema:
		u.Schema.ModificationTime = mod
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.row(systables.Descriptor, systables.Row{int64(d.ID()), b})
	w.row(systables.Namespace, systables.Row{int64(d.ParentID()), int64(d.ParentSchemaID()), d.Name(), int64(d.ID())})
}
