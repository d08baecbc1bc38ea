package backupccl

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// backedUpStatistics returns what the planner knew at a time about the tables of
// a backup.
func (s *Service) backedUpStatistics(ctx context.Context, t *backupTargets, at hlc.Timestamp) (*backuppb.TableStatistics, error) {
	st := systables.TableStatistics
	tables := map[int64]bool{}
	for _, id := range t.ids {
		if tbl, ok := t.sch.byID[id].(*catalog.Table); ok && tbl.HasData() {
			tables[int64(id)] = true
		}
	}
	out := &backuppb.TableStatistics{}
	sp := st.Span()
	for {
		res, err := s.cfg.DB.Scan(ctx, sp.Key, sp.EndKey, at, kv.ScanOptions{MaxKeys: 1000})
		if err != nil {
			return nil, fmt.Errorf("reading table statistics: %w", err)
		}
		for _, pair := range res.KVs {
			row, err := st.Decode(pair.Key, pair.Value)
			if err != nil {
				return nil, pgerr.Newf(pgerr.DataCorrupted, "system.%s: %w", st.Name, err)
			}
			if id, _ := row[st.Col("tableID")].(int64); tables[id] {
				out.Statistics = append(out.Statistics, statisticOfRow(row))
			}
		}
		if res.Resume == nil {
			return out, nil
		}
		sp = *res.Resume
	}
}

func statisticOfRow(row systables.Row) *backuppb.TableStatistic {
	st := systables.TableStatistics
	integer := func(col string) int64 { n, _ := row[st.Col(col)].(int64); return n }
	out := &backuppb.TableStatistic{
		TableId: uint32(integer("tableID")), RowCount: integer("rowCount"), DistinctCount: integer("distinctCount"), NullCount: integer("nullCount"),
	}
	out.Name, _ = row[st.Col("name")].(string)
	if created, ok := row[st.Col("createdAt")].(time.Time); ok {
		out.CreatedMicros = created.UnixMicro()
	}
	columns, _ := row[st.Col("columnIDs")].([]string)
	for _, c := range columns {
		if id, err := strconv.ParseUint(c, 10, 32); err == nil {
			out.ColumnIds = append(out.ColumnIds, uint32(id))
		}
	}
	out.Histogram, _ = row[st.Col("histogram")].([]byte)
	return out
}

// restoredStatistics returns the rows of system.table_statistics for the tables
// that a restore makes, in their new ids. Column ids do not change. firstID
// numbers the rows; tables are new, so any numbers do.
func restoredStatistics(ctx context.Context, src *restoreSource, d *backuppb.RestoreDetails, firstID int64) ([]systables.Row, error) {
	stats, err := src.last.Statistics(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading table statistics of the backup: %w", err)
	}
	newID := map[uint32]uint32{}
	for _, rw := range d.Rewrites {
		if !rw.ToExisting {
			newID[rw.OldId] = rw.NewId
		}
	}
	st := systables.TableStatistics
	var rows []systables.Row
	for _, s := range stats.Statistics {
		id, ok := newID[s.TableId]
		if !ok {
			continue
		}
		row := make(systables.Row, len(st.Columns))
		set := func(col string, v any) { row[st.Col(col)] = v }
		var columns []string
		for _, c := range s.ColumnIds {
			columns = append(columns, strconv.FormatUint(uint64(c), 10))
		}
		set("tableID", int64(id))
		set("statisticID", firstID+int64(len(rows)))
		if s.Name != "" {
			set("name", s.Name)
		}
		set("columnIDs", columns)
		set("createdAt", time.UnixMicro(s.CreatedMicros).UTC())
		set("rowCount", s.RowCount)
		set("distinctCount", s.DistinctCount)
		set("nullCount", s.NullCount)
		if len(s.Histogram) > 0 {
			set("histogram", s.Histogram)
		}
		rows = append(rows, row)
	}
	sort.Slice(rows, func(i, j int) bool {
		return rows[i][st.Col("statisticID")].(int64) < rows[j][st.Col("statisticID")].(int64)
	})
	return rows, nil
}
