package sql

import (
	"context"
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/partition"
)

// vcPartitions fills crdb_internal.partitions: zone_id and subzone_id say which
// configuration of a partition holds, its own or that of the index or above.
func vcPartitions(ctx context.Context, v *vctx, add func(vrow) error) error {
	all, err := v.p.allZones(ctx, v.descSet)
	if err != nil {
		return err
	}
	type object struct {
		id        catalog.ID
		index     uint32
		partition string
	}
	zone := map[object]zoneEntry{}
	for _, e := range all {
		zone[object{e.id, e.index, e.partition}] = e
	}
	for _, t := range v.tables {
		for _, x := range t.PublicIndexes() {
			rows, err := partition.Rows(x, v.enums)
			if err != nil {
				return err
			}
			for _, p := range rows {
				r := vrow{"table_id": t.ID(), "index_id": x.ID, "name": p.Name, "columns": len(p.Columns),
					"column_names": strings.Join(p.Columns, ", "), "zone_id": 0, "subzone_id": 0}
				for col, text := range map[string]string{"parent_name": p.Parent, "list_value": p.List, "range_value": p.Range} {
					if text != "" {
						r[col] = text
					}
				}
				for _, o := range []object{{t.ID(), x.ID, p.Name}, {t.ID(), x.ID, ""}, {t.ID(), 0, ""}, {t.ParentID(), 0, ""}} {
					if e, ok := zone[o]; ok {
						r["zone_id"], r["subzone_id"] = e.id, e.subzone
						break
					}
				}
				if err := add(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// showPartitions is SHOW PARTITIONS FROM TABLE, INDEX or DATABASE.
func (p *planner) showPartitions(ctx context.Context, n *tree.ShowPartitions) (*rowSource, error) {
	var tables []*catalog.Table
	var only *catalog.Index
	switch {
	case n.IsDB:
		db, err := p.cat.MustDatabase(ctx, string(n.Database))
		if err != nil {
			return nil, err
		}
		d, err := p.allDescs(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range d.tables {
			if t.ParentID() == db.ID() {
				tables = append(tables, t)
			}
		}
	case n.IsIndex && n.Index.Index != "":
		t, x, err := p.findIndex(ctx, &n.Index)
		if err != nil {
			return nil, err
		}
		tables, only = append(tables, t), x
	default:
		var t *catalog.Table
		var err error
		if n.IsIndex { // t@*
			t, err = p.resolveTable(ctx, &n.Index.Table)
		} else {
			t, err = p.resolveTable(ctx, n.Table)
		}
		if err != nil {
			return nil, err
		}
		if t.IsView() || t.IsSequence() {
			return nil, pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a table", t.Name())
		}
		tables = append(tables, t)
	}
	const def = "database_name text, table_name text, partition_name text, parent_partition text, column_names text, index_name text, partition_value text, zone_config text, full_zone_config text"
	return source(def, func(ctx context.Context, p *planner, add func(...any) error) error {
		d, err := p.allDescs(ctx)
		if err != nil {
			return err
		}
		for _, t := range tables {
			db, err := p.cat.DatabaseByID(ctx, t.ParentID())
			if err != nil || db == nil {
				return err
			}
			for _, x := range t.PublicIndexes() {
				if only != nil && x.ID != only.ID {
					continue
				}
				rows, err := partition.Rows(x, d.enums)
				if err != nil {
					return err
				}
				for _, r := range rows {
					own, full, err := p.partitionZones(ctx, t, x, r.Name)
					if err != nil {
						return err
					}
					if err := add(db.Name(), t.Name(), r.Name, orNil(r.Parent), strings.Join(r.Columns, ", "),
						t.Name()+"@"+x.Name, r.List+r.Range, orNil(own), full); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}), nil
}

// partitionZones returns the variables that a partition has of its own, and all that
// hold for it.
func (p *planner) partitionZones(ctx context.Context, t *catalog.Table, x *catalog.Index, name string) (own, full string, err error) {
	target, err := p.subzoneTarget(ctx, t, x, name)
	if err != nil {
		return "", "", err
	}
	whole, _, err := p.zoneRow(ctx, t.ID())
	if err != nil {
		return "", "", err
	}
	variables := func(sql string) string {
		_, vars, _ := strings.Cut(sql, "CONFIGURE ZONE USING\n")
		return strings.ReplaceAll(vars, "\t", "")
	}
	if s := whole.Subzone(x.ID, name); s != nil {
		own = variables(zoneSQL(s.Config, ""))
	}
	c, _, err := p.effectiveZone(ctx, target)
	return own, variables(zoneSQL(c, "")), err
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// partitionZoneStatements is what SHOW CREATE TABLE says after the table of the zone
// configurations of its partitions, or a warning that there are none.
func (p *planner) partitionZoneStatements(ctx context.Context, t *catalog.Table) (statements, warning string, err error) {
	whole, _, err := p.zoneRow(ctx, t.ID())
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	partitioned := false
	for _, x := range t.PublicIndexes() {
		for _, name := range partition.Names(x.PB.Partitioning) {
			partitioned = true
			s := whole.Subzone(x.ID, name)
			if s == nil {
				continue
			}
			target, err := p.subzoneTarget(ctx, t, x, name)
			if err != nil {
				return "", "", err
			}
			b.WriteString(";\n" + zoneSQL(s.Config, target.sql))
		}
	}
	if partitioned && b.Len() == 0 {
		return "", "\n-- Warning: Partitioned table with no zone configurations.", nil
	}
	return b.String(), "", nil
}

// partitionClause is what SHOW CREATE appends to an index. A definition that cannot
// be read is shown as a comment: the rest is of use without it.
func (s *descSet) partitionClause(t *catalog.Table, x *catalog.Index) string {
	indent := "\n\t"
	if x.Primary {
		indent = "\n"
	}
	text, err := partition.Clause(x, s.enums, indent)
	if err != nil {
		return fmt.Sprintf(" /* %v */", err)
	}
	return text
}
