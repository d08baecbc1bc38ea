package backupccl

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// versionSetting is the one cluster setting that belongs to this cluster.
const versionSetting = "version"

// systemTableOrder is how a cluster restore brings system tables back, after
// the data and the descriptors: what others refer to first, settings last.
var systemTableOrder = []*systables.Table{
	systables.Zones, systables.Users, systables.Locations, systables.UI, systables.Comments, systables.ScheduledJobs,
	systables.RoleMembers, systables.RoleOptions, systables.DatabaseRoleSettings, systables.Privileges,
	systables.ExternalConnections, systables.Settings,
}

// firstUserDescriptorID separates zones of objects from zones of named ranges.
const firstUserDescriptorID = int64(catalog.FirstUserID)

// systemRows are the rows that a system table is to have.
type systemRows struct {
	table *systables.Table
	rows  []systables.Row
}

// readSystemTables reads what a cluster restore brings back of system tables. All
// of it is read before anything is published: what the backup cannot give fails
// the restore while it can still be undone.
func (r *restoreResumer) readSystemTables(ctx context.Context, src *restoreSource, d *backuppb.RestoreDetails) ([]systemRows, error) {
	newID := map[int64]int64{}
	for _, rw := range d.Rewrites {
		newID[int64(rw.OldId)] = int64(rw.NewId)
	}
	var out []systemRows
	for _, t := range systemTableOrder {
		rows, err := readSystemRows(ctx, src, t, manifest.Time(d.EndTime))
		if err != nil {
			return nil, fmt.Errorf("reading system.%s of the backup: %w", t.Name, err)
		}
		kept := systemRows{table: t}
		for _, row := range rows {
			if adaptSystemRow(t, row, newID) {
				kept.rows = append(kept.rows, row)
			}
		}
		out = append(out, kept)
		if t == systables.Users {
			if err := r.raiseRoleIDs(ctx, kept.rows); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// writeSystemTables replaces the contents of system tables, all or none of them.
func (r *restoreResumer) writeSystemTables(ctx context.Context, txn *kv.Txn, tables []systemRows) error {
	for _, t := range tables {
		if err := replaceSystemRows(ctx, txn, t.table, t.rows); err != nil {
			return fmt.Errorf("restoring system.%s: %w", t.table.Name, err)
		}
		if err := r.s.hook(ctx, "restore.after.system_table"); err != nil {
			return err
		}
	}
	return nil
}

// systemTablesRestored tells the node about them.
func (r *restoreResumer) systemTablesRestored(ctx context.Context) {
	if fn := r.s.cfg.SystemTablesRestored; fn != nil {
		if err := fn(ctx); err != nil {
			// The rows are there; what was cached of the old ones ages out.
			r.log.WarnContext(ctx, "reading restored system tables", "err", err)
		}
	}
}

// readSystemRows returns the rows of a system table as they were in the backup.
func readSystemRows(ctx context.Context, src *restoreSource, t *systables.Table, at hlc.Timestamp) ([]systables.Row, error) {
	var rows []systables.Row
	err := visitRestored(ctx, src, t.Span(), at, func(key keys.Key, value []byte) error {
		row, err := t.Decode(key, append([]byte(nil), value...))
		if err != nil {
			return pgerr.Newf(pgerr.DataCorrupted, "%w", err)
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// adaptSystemRow gives a row the ids of this cluster and says whether it is to
// be kept.
func adaptSystemRow(t *systables.Table, row systables.Row, newID map[int64]int64) bool {
	rekey := func(column string) bool {
		i := t.Col(column)
		old, _ := row[i].(int64)
		if old < firstUserDescriptorID {
			return true
		}
		id, ok := newID[old]
		row[i] = id
		return ok
	}
	switch t {
	case systables.Zones:
		return rekey("id")
	case systables.Comments:
		return rekey("object_id")
	case systables.DatabaseRoleSettings:
		return rekey("database_id")
	case systables.Settings:
		name, _ := row[t.Col("name")].(string)
		return name != versionSetting
	}
	return true
}

// replaceSystemRows deletes what a system table holds and inserts rows.
func replaceSystemRows(ctx context.Context, txn *kv.Txn, t *systables.Table, rows []systables.Row) error {
	have, err := scanSystemTable(ctx, txn, t)
	if err != nil {
		return err
	}
	b := txn.NewBatch()
	for _, old := range have {
		if t == systables.Settings && old[t.Col("name")] == versionSetting {
			continue
		}
		_, del, err := t.Change(old, nil)
		if err != nil {
			return err
		}
		b.Del(del...)
	}
	if err := txn.Run(ctx, b); err != nil {
		return err
	}
	return insertRows(ctx, txn, t, rows)
}

// insertRowsBatch is how many rows insertRows writes with one request.
const insertRowsBatch = 1000

func insertRows(ctx context.Context, txn *kv.Txn, t *systables.Table, rows []systables.Row) error {
	for chunk := range slices.Chunk(rows, insertRowsBatch) {
		b := txn.NewBatch()
		for _, row := range chunk {
			put, _, err := t.Change(nil, row)
			if err != nil {
				return err
			}
			for _, pair := range put {
				b.Put(pair.Key, pair.Value)
			}
		}
		if err := txn.Run(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func scanSystemTable(ctx context.Context, txn *kv.Txn, t *systables.Table) ([]systables.Row, error) {
	var rows []systables.Row
	sp := t.Span()
	for {
		res, err := txn.Scan(ctx, sp.Key, sp.EndKey, kv.ScanOptions{MaxKeys: 1000})
		if err != nil {
			return nil, err
		}
		for _, pair := range res.KVs {
			row, err := t.Decode(pair.Key, pair.Value)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
		if res.Resume == nil {
			return rows, nil
		}
		sp = *res.Resume
	}
}

// roleIDKey is where system.role_id_seq keeps its last value: the row with key 0.
func roleIDKey() keys.Key {
	return append(keys.IndexPrefix(uint32(catalog.RoleIDSequenceID), 1), 0x88, 0x88)
}

// raiseRoleIDs makes the sequence of role ids go on above all that users have.
func (r *restoreResumer) raiseRoleIDs(ctx context.Context, users []systables.Row) error {
	highest := int64(0)
	for _, u := range users {
		if id, ok := u[systables.Users.Col("user_id")].(int64); ok {
			highest = max(highest, id)
		}
	}
	return r.takeRoleID(ctx, highest, 0, nil)
}

// usersHere returns the users of this cluster.
func (r *restoreResumer) usersHere(ctx context.Context) (users []systables.Row, err error) {
	err = r.s.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		users, err = scanSystemTable(ctx, txn, systables.Users)
		return err
	})
	return users, err
}

// takeRoleID advances the sequence by n, and beyond floor; last receives the
// value it then has.
func (r *restoreResumer) takeRoleID(ctx context.Context, floor, n int64, last *int64) error {
	v, err := r.s.cfg.DB.Inc(ctx, roleIDKey(), n)
	if err == nil && v < floor+n {
		v, err = r.s.cfg.DB.Inc(ctx, roleIDKey(), floor+n-v)
	}
	if err != nil {
		return fmt.Errorf("advancing role ids: %w", err)
	}
	if last != nil {
		*last = v
	}
	return nil
}

// errNoUsers says what a backup lacks for RESTORE SYSTEM USERS.
func errNoUsers(err error) error {
	if pgerr.GetCode(err) != pgerr.InvalidParameterValue {
		return err // It was there and could not be read.
	}
	return pgerr.New(pgerr.InvalidParameterValue, "cannot restore system users as no system.users table in the backup").
		WithHint("Backups of the whole cluster hold it, and those of system.users and system.role_members.")
}

// restoreSystemUsers adds the users and roles of the backup that this cluster
// does not have, with their options and memberships. Those that exist stay as
// they are.
func (r *restoreResumer) restoreSystemUsers(ctx context.Context, job *jobs.Job, src *restoreSource, d *backuppb.RestoreDetails) error {
	at := src.sch.at
	read := func(t *systables.Table) ([]systables.Row, error) { return readSystemRows(ctx, src, t, at) }
	users, err := read(systables.Users)
	if err != nil {
		return errNoUsers(err)
	}
	members, err := read(systables.RoleMembers)
	if err != nil {
		return errNoUsers(err)
	}
	options, err := read(systables.RoleOptions)
	if err != nil && pgerr.GetCode(err) != pgerr.InvalidParameterValue {
		return err // A backup of chosen tables may lack them; a damaged one may not.
	}
	var last int64
	here, err := r.usersHere(ctx)
	if err != nil {
		return err
	}
	if err := r.raiseRoleIDs(ctx, here); err != nil {
		return err
	}
	if err := r.takeRoleID(ctx, 0, int64(len(users)), &last); err != nil {
		return err
	}
	first := last - int64(len(users)) + 1
	str := func(t *systables.Table, row systables.Row, col string) string {
		s, _ := row[t.Col(col)].(string)
		return s
	}
	var added int64
	err = job.Update(ctx, func(ctx context.Context, txn *kv.Txn, rec *jobs.Record) error {
		have, err := scanSystemTable(ctx, txn, systables.Users)
		if err != nil {
			return err
		}
		ids := map[string]int64{}
		for _, u := range have {
			ids[str(systables.Users, u, "username")], _ = u[systables.Users.Col("user_id")].(int64)
		}
		b := txn.NewBatch()
		insert := func(t *systables.Table, row systables.Row) error {
			put, _, err := t.Change(nil, row)
			for _, pair := range put {
				b.Put(pair.Key, pair.Value)
			}
			return err
		}
		fresh := map[string]bool{}
		added = 0
		for i, u := range users {
			name := str(systables.Users, u, "username")
			if _, ok := ids[name]; ok {
				continue
			}
			row := append(systables.Row(nil), u...)
			ids[name], fresh[name] = first+int64(i), true
			row[systables.Users.Col("user_id")] = ids[name]
			if err := insert(systables.Users, row); err != nil {
				return err
			}
			added++
		}
		for _, m := range members {
			role, member := str(systables.RoleMembers, m, "role"), str(systables.RoleMembers, m, "member")
			_, roleOK := ids[role]
			if !fresh[member] || !roleOK {
				continue
			}
			row := append(systables.Row(nil), m...)
			row[systables.RoleMembers.Col("role_id")], row[systables.RoleMembers.Col("member_id")] = ids[role], ids[member]
			if err := insert(systables.RoleMembers, row); err != nil {
				return err
			}
		}
		for _, o := range options {
			name := str(systables.RoleOptions, o, "username")
			if !fresh[name] {
				continue
			}
			row := append(systables.Row(nil), o...)
			row[systables.RoleOptions.Col("user_id")] = ids[name]
			if err := insert(systables.RoleOptions, row); err != nil {
				return err
			}
		}
		pb, err := proto.Marshal(&backuppb.RestoreProgress{Counts: &backuppb.RowCount{Rows: added}})
		if err != nil {
			return err
		}
		rec.Progress.Details, rec.Progress.FractionCompleted = pb, 1
		rec.Payload.Description = describeRestore(d)
		return txn.Run(ctx, b)
	})
	if err != nil {
		return err
	}
	r.log.InfoContext(ctx, "users restored", "added", added)
	return nil
}
