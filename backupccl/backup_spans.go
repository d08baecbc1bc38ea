package backupccl

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// clusterSystemTables are the system tables that a backup of the whole cluster
// carries. The others describe this cluster only, or are rebuilt.
var clusterSystemTables = []*systables.Table{
	systables.Users, systables.Zones, systables.Settings, systables.UI, systables.Locations,
	systables.RoleMembers, systables.Comments, systables.RoleOptions, systables.ScheduledJobs,
	systables.DatabaseRoleSettings, systables.Privileges, systables.ExternalConnections,
}

// backupTargets are a backup's descriptors at its end time.
type backupTargets struct {
	sch *schema
	ids []uint32 // everything that the layer lists
	// system are the system tables of a cluster backup.
	system []*systables.Table
}

// loadTargets reads the descriptors of a backup as of its end.
func (s *Service) loadTargets(ctx context.Context, d *backuppb.BackupDetails) (*backupTargets, error) {
	sch, err := loadSchema(ctx, s.cfg.DB, manifest.Time(d.EndTime))
	if err != nil {
		return nil, err
	}
	t := &backupTargets{sch: sch, ids: d.TargetIds}
	if d.Targets.Cluster {
		t.system = clusterSystemTables
		seen := map[uint32]bool{}
		for _, id := range t.ids {
			seen[id] = true
		}
		system := []uint32{catalog.SystemDatabaseID, catalog.PublicSchemaID}
		for _, st := range t.system {
			system = append(system, st.ID)
		}
		for _, id := range system {
			if sch.byID[id] != nil && !seen[id] {
				t.ids = append(t.ids, id)
			}
		}
		sort.Slice(t.ids, func(i, j int) bool { return t.ids[i] < t.ids[j] })
	}
	return t, nil
}

// spans returns the data spans of all targets, in order.
func (t *backupTargets) spans() []keys.Span {
	var out []keys.Span
	have := map[uint32]bool{}
	for _, id := range t.ids {
		if tbl, ok := t.sch.byID[id].(*catalog.Table); ok {
			out = append(out, dataSpans(tbl)...)
			have[id] = true
		}
	}
	for _, st := range t.system {
		if !have[st.ID] {
			out = append(out, st.Span())
		}
	}
	manifest.SortSpans(out)
	return out
}

// wasOfflineSince says whether a table became public again after t: what layers
// up to t hold of it may lack deletions.
func wasOfflineSince(tbl *catalog.Table, t hlc.Timestamp) bool {
	return t.Less(catalog.TimestampFromPB(tbl.Proto().OnlineSince))
}

// introducedSpans returns those of spans that the previous layer does not hold
// completely: they are exported from the beginning of time.
func introducedSpans(sch *schema, spans []keys.Span, prev *manifest.Layer) []keys.Span {
	if prev == nil {
		return nil
	}
	var out []keys.Span
	for _, sp := range spans {
		if prev.Covers(sp) {
			id, _, _, ok := keys.DecodeIndexPrefix(sp.Key)
			tbl, _ := sch.byID[id].(*catalog.Table)
			if !ok || tbl == nil || !wasOfflineSince(tbl, prev.End()) {
				continue
			}
		}
		out = append(out, sp)
	}
	return out
}

// revision is one state of a descriptor.
type revision struct {
	id   uint32
	time hlc.Timestamp
	desc []byte // empty: dropped
}

// descriptorRevisions returns all states that descriptors had in (start, end],
// and the one that each had at start, by id and time.
func (s *Service) descriptorRevisions(ctx context.Context, start, end hlc.Timestamp) ([]revision, error) {
	var out []revision
	span := systables.Descriptor.Span()
	opts := kv.ExportOptions{StartTime: start, EndTime: end, AllRevisions: true, TargetBytes: 16 << 20}
	err := s.exportPages(ctx, span, opts, time.Time{}, func(p *kv.ExportPage) error {
		if len(p.SST) == 0 {
			return nil
		}
		return storage.VisitSST(ctx, storage.NewMemSST(p.SST), span.Key, span.EndKey, storage.SSTVisitor{
			Version: func(key storage.MVCCKey, value []byte) error {
				r := revision{time: key.Timestamp}
				if len(value) > 0 {
					id, b, err := decodeDescriptorRow(key.Key, value)
					if err != nil {
						return err
					}
					r.id, r.desc = id, append([]byte(nil), b...)
				} else {
					row, err := systables.Descriptor.DecodeKey(key.Key)
					if err != nil {
						return err
					}
					id, _ := row[0].(int64)
					r.id = uint32(id)
				}
				out = append(out, r)
				return nil
			},
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of descriptors: %w", err)
	}
	if !start.IsEmpty() {
		// What was there already when the layer begins.
		before, err := loadSchema(ctx, s.cfg.DB, start)
		if err != nil {
			return nil, err
		}
		for id, b := range before.entries {
			out = append(out, revision{id: id, time: modificationTime(before.byID[id], start), desc: b})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].id != out[j].id {
			return out[i].id < out[j].id
		}
		return out[i].time.Less(out[j].time)
	})
	return out, nil
}

// modificationTime is when d got its state, or at the latest.
func modificationTime(d catalog.Descriptor, latest hlc.Timestamp) hlc.Timestamp {
	t := d.ModificationTime()
	if t.IsEmpty() || latest.Less(t) {
		return latest
	}
	return t
}

// exportPages exports a span page by page. From pushAt on open transactions that
// are in the way are pushed; before, they are waited for.
func (s *Service) exportPages(
	ctx context.Context, span keys.Span, opts kv.ExportOptions, pushAt time.Time, fn func(*kv.ExportPage) error,
) error {
	for {
		p, err := s.exportPage(ctx, span, opts, pushAt)
		if err != nil {
			return err
		}
		if err := fn(&p); err != nil {
			return err
		}
		if p.Resume == nil {
			return nil
		}
		span, opts.ResumeTS, opts.ResumeMidRow = *p.Resume, p.ResumeTS, p.MidRow
	}
}

// exportPage exports one page, within the time that is set for it.
func (s *Service) exportPage(ctx context.Context, span keys.Span, opts kv.ExportOptions, pushAt time.Time) (kv.ExportPage, error) {
	attempt := func() (kv.ExportPage, error) {
		limit := s.cfg.Settings.readTimeout.Get()
		if limit == 0 {
			return s.cfg.DB.Export(ctx, span, opts)
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		p, err := s.cfg.DB.Export(ctx, span, opts)
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("reading took longer than bulkio.backup.read_timeout allows, %s: %w", limit, err)
		}
		return p, err
	}
	for {
		wait := time.Until(pushAt)
		opts.NoWait = wait > 0
		p, err := attempt()
		var locked *kvpb.LockNotAvailableError
		if !opts.NoWait || !errors.As(err, &locked) {
			return p, err
		}
		select {
		case <-time.After(min(wait, s.cfg.Settings.readRetryDelay.Get())):
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// historicalSpans returns the spans of public tables within the window that are
// not among the spans at its end: indexes and tables that were dropped. Only
// tables that the backup is about count: its own, and those of its complete
// databases.
func historicalSpans(revs []revision, d *backuppb.BackupDetails, have []keys.Span) ([]keys.Span, error) {
	ids, dbs := map[uint32]bool{}, map[uint32]bool{}
	for _, id := range d.TargetIds {
		ids[id] = true
	}
	for _, id := range d.CompleteDbs {
		dbs[id] = true
	}
	known := map[string]bool{}
	for _, sp := range have {
		known[string(sp.Key)] = true
	}
	var out []keys.Span
	for _, r := range revs {
		if len(r.desc) == 0 {
			continue
		}
		var pb catalogpb.Descriptor
		if err := proto.Unmarshal(r.desc, &pb); err != nil {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "decoding descriptor %d: %w", r.id, err)
		}
		desc, err := catalog.New(&pb)
		if err != nil {
			return nil, err
		}
		tbl, ok := desc.(*catalog.Table)
		if !ok || tbl.State() != catalogpb.State_PUBLIC || !ids[r.id] && !dbs[tbl.ParentID()] &&
			!(d.Targets.Cluster && tbl.ParentID() != catalog.SystemDatabaseID) {
			continue
		}
		for _, sp := range dataSpans(tbl) {
			if !known[string(sp.Key)] {
				known[string(sp.Key)] = true
				out = append(out, sp)
			}
		}
	}
	manifest.SortSpans(out)
	return out, nil
}

// descriptorEntries makes the descriptor list of a layer: the state at its end
// and, with revision history, the changes within it.
func (s *Service) descriptorEntries(
	t *backupTargets, d *backuppb.BackupDetails, revs []revision, data layerData, views map[uint32][]*backuppb.IndexSummary,
) []*backuppb.DescriptorEntry {
	sums := map[uint32][]*backuppb.IndexSummary{}
	for id, sum := range data.sums {
		sum.ViewKvs, sum.ViewHi, sum.ViewLo, sum.ViewKnown = 0, 0, 0, false // See merged.
		sums[id.TableID] = append(sums[id.TableID], sum)
	}
	for _, list := range sums {
		sort.Slice(list, func(i, j int) bool { return list[i].IndexId < list[j].IndexId })
	}
	fileBytes := map[uint32]int64{}
	for _, f := range data.files {
		var total int64
		for _, ix := range f.Indexes {
			total += ix.KeyBytes + ix.ValueBytes
		}
		for _, ix := range f.Indexes {
			if total > 0 {
				fileBytes[ix.TableId] += int64(float64(f.BackingFileSize) * float64(ix.KeyBytes+ix.ValueBytes) / float64(total))
			}
		}
	}
	render := func(catalog.Descriptor) string { return "" }
	if s.cfg.CreateStatements != nil {
		all := make([]catalog.Descriptor, 0, len(t.sch.byID))
		for _, d := range t.sch.byID {
			all = append(all, d)
		}
		render = s.cfg.CreateStatements(all)
	}
	var out []*backuppb.DescriptorEntry
	for _, id := range t.ids {
		desc := t.sch.byID[id]
		if desc == nil {
			continue // Dropped between planning and now cannot be: both read at the end time.
		}
		e := &backuppb.DescriptorEntry{Id: id, Desc: t.sch.entries[id], FileBytes: fileBytes[id], CreateStatement: render(desc)}
		e.Indexes, e.Merged = sums[id], views[id]
		delete(sums, id)
		out = append(out, e)
	}
	if !d.RevisionHistory {
		return out
	}
	relevant := relevantRevisions(revs, d)
	for _, r := range revs {
		if relevant[r.id] {
			// What a table that is gone at the end had stands with its first state.
			out = append(out, &backuppb.DescriptorEntry{Id: r.id, Time: manifest.TimePB(r.time), Desc: r.desc, Indexes: sums[r.id]})
			delete(sums, r.id)
		}
	}
	return out
}

// relevantRevisions returns the ids whose history the layer keeps: its targets
// and whatever was in its complete databases at any time.
func relevantRevisions(revs []revision, d *backuppb.BackupDetails) map[uint32]bool {
	out := map[uint32]bool{}
	dbs := map[uint32]bool{}
	for _, id := range d.TargetIds {
		out[id] = true
	}
	for _, id := range d.CompleteDbs {
		dbs[id], out[id] = true, true
	}
	for _, r := range revs {
		if out[r.id] || len(r.desc) == 0 {
			continue
		}
		var pb catalogpb.Descriptor
		if proto.Unmarshal(r.desc, &pb) != nil {
			continue // loadSchema has complained already.
		}
		desc, err := catalog.New(&pb)
		if err != nil {
			continue
		}
		if d.Targets.Cluster && !systemDatabase(desc) || dbs[desc.ParentID()] {
			out[r.id] = true
		}
	}
	return out
}
