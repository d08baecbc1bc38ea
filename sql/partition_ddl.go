package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/partition"
)

// setPartitioning makes what PARTITION BY says of an index part of its message; nil
// is PARTITION BY NOTHING. That no two partitions share a row is for
// checkPartitions to see, once the table is whole.
func (p *planner) setPartitioning(ctx context.Context, pb *catalogpb.TableDescriptor, x *catalogpb.IndexDescriptor, by *tree.PartitionBy) error {
	x.Partitioning = nil
	if by == nil {
		return nil
	}
	m := partitionMaker{p: p, pb: pb, x: x, names: map[string]bool{}}
	d, err := m.make(ctx, by, nil)
	x.Partitioning = d
	return err
}

type partitionMaker struct {
	p     *planner
	pb    *catalogpb.TableDescriptor
	x     *catalogpb.IndexDescriptor
	names map[string]bool
}

// make builds one level of partitions below columns that outer levels have.
func (m *partitionMaker) make(ctx context.Context, by *tree.PartitionBy, outer []string) (*catalogpb.PartitioningDescriptor, error) {
	declared := slices.Clone(outer)
	for _, f := range by.Fields {
		declared = append(declared, string(f))
	}
	keyColumns := namesOfColumns(m.pb, m.x.KeyColumnIds)
	if len(declared) > len(keyColumns) {
		return nil, pgerr.Newf(pgerr.SyntaxError, "declared partition columns (%s) exceed the number of columns in index being partitioned (%s)",
			strings.Join(declared, ", "), strings.Join(keyColumns, ", "))
	}
	if !slices.Equal(declared, keyColumns[:len(declared)]) {
		return nil, pgerr.Newf(pgerr.SyntaxError, "declared partition columns (%s) do not match first %d columns in index being partitioned (%s)",
			strings.Join(declared, ", "), len(declared), strings.Join(keyColumns[:len(declared)], ", "))
	}
	d := &catalogpb.PartitioningDescriptor{NumColumns: uint32(len(by.Fields))}
	for _, l := range by.List {
		name, err := m.name(string(l.Name))
		if err != nil {
			return nil, err
		}
		if len(l.Exprs) == 0 {
			return nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: must contain values", name)
		}
		out := &catalogpb.PartitioningDescriptor_List{Name: name}
		d.List = append(d.List, out)
		whole := true
		for _, e := range l.Exprs {
			t, err := m.tuple(ctx, name, "LIST", e, len(outer), len(by.Fields))
			if err != nil {
				return nil, err
			}
			whole = whole && len(t.Constants()) == len(t)
			b, err := t.Encode()
			if err != nil {
				return nil, err
			}
			out.Values = append(out.Values, b)
		}
		if l.Subpartition == nil {
			continue
		}
		if !whole {
			return nil, pgerr.Newf(pgerr.FeatureNotSupported, "PARTITION %s: cannot subpartition a partition with DEFAULT among its values", name).
				WithHint("Subpartitions belong to values of the columns before theirs: name these.")
		}
		if out.Subpartitioning, err = m.make(ctx, l.Subpartition, declared); err != nil {
			return nil, err
		}
	}
	for _, r := range by.Range {
		name, err := m.name(string(r.Name))
		if err != nil {
			return nil, err
		}
		if r.Subpartition != nil {
			return nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: cannot subpartition a range partition", name)
		}
		out := &catalogpb.PartitioningDescriptor_Range{Name: name}
		d.Range = append(d.Range, out)
		for _, bound := range []struct {
			exprs tree.Exprs
			to    *[]byte
		}{{r.From, &out.FromInclusive}, {r.To, &out.ToExclusive}} {
			t, err := m.tuple(ctx, name, "RANGE", &tree.Tuple{Exprs: bound.exprs}, len(outer), len(by.Fields))
			if err != nil {
				return nil, err
			}
			if *bound.to, err = t.Encode(); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

func (m *partitionMaker) name(name string) (string, error) {
	if err := checkIdentifier(name); err != nil {
		return "", err
	}
	if m.names[name] {
		return "", pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: name must be unique (used twice in index %q)", name, m.x.Name)
	}
	m.names[name] = true
	return name, nil
}

// tuple evaluates the values of n columns, the first of which is number offset of
// the index.
func (m *partitionMaker) tuple(ctx context.Context, name, kind string, e tree.Expr, offset, n int) (partition.Tuple, error) {
	exprs := tree.Exprs{e}
	switch t := tree.StripParens(e).(type) {
	case *tree.Tuple:
		exprs = t.Exprs
	default:
		exprs[0] = t
	}
	if len(exprs) != n {
		return nil, pgerr.Newf(pgerr.SyntaxError, "PARTITION %s: partition has %d columns but %d values were supplied", name, n, len(exprs))
	}
	out := make(partition.Tuple, n)
	for i, e := range exprs {
		special := func(s partition.Special, only string) error {
			if only != kind {
				return pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: %s cannot be used with PARTITION BY %s", name, s, kind)
			}
			out[i] = partition.Value{Special: s}
			return nil
		}
		var err error
		switch e := partitionWord(tree.StripParens(e)).(type) {
		case tree.DefaultVal:
			err = special(partition.Default, "LIST")
		case tree.PartitionMinVal:
			err = special(partition.MinValue, "RANGE")
		case tree.PartitionMaxVal:
			err = special(partition.MaxValue, "RANGE")
		default:
			out[i].Datum, err = m.constant(ctx, name, e, findColumnByID(m.pb, m.x.KeyColumnIds[offset+i]))
		}
		if err != nil {
			return nil, err
		}
		if i > 0 && out[i-1].Datum == nil && (out[i].Datum != nil || out[i].Special != out[i-1].Special) {
			w := out[i-1].Special
			return nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: non-%s value (%s) not allowed after %s", name, w, out[i], w)
		}
	}
	return out, nil
}

// partitionWord knows MINVALUE and MAXVALUE, which the grammar takes for columns.
func partitionWord(e tree.Expr) tree.Expr {
	if n, ok := e.(*tree.UnresolvedName); ok && n.NumParts == 1 && !n.Star {
		switch n.Parts[0] {
		case "minvalue":
			return tree.PartitionMinVal{}
		case "maxvalue":
			return tree.PartitionMaxVal{}
		}
	}
	return e
}

// constant evaluates one value and makes it one of the column.
func (m *partitionMaker) constant(ctx context.Context, name string, e tree.Expr, col *catalogpb.ColumnDescriptor) (tree.Datum, error) {
	fail := func(err error) error {
		return pgerr.Wrapf(err, pgerr.GetCode(err), "PARTITION %s", name)
	}
	if forbidSubqueries(e, "partition values", false) != nil {
		return nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: partition values must be constant", name)
	}
	typ, err := catalog.UnmarshalType(col.Type)
	if err != nil {
		return nil, err
	}
	te, err := m.p.bindStandalone(ctx, nil, e, "VALUES", typ)
	if err != nil {
		return nil, fail(err)
	}
	if mutableExpr(te) {
		return nil, pgerr.Newf(pgerr.InvalidObjectDefinition, "PARTITION %s: partition values must be constant", name)
	}
	if te, err = builtins.AssignCast(te, typ); err != nil {
		return nil, fail(err)
	}
	d, err := te.Eval(&m.p.evalCtx)
	if err != nil {
		return nil, fail(err)
	}
	return d, nil
}

// checkPartitions looks at the partitions of all indexes of a table.
func (p *planner) checkPartitions(ctx context.Context, pb *catalogpb.TableDescriptor) error {
	if !slices.ContainsFunc(allIndexes(pb), isPartitioned) {
		return nil
	}
	t, err := p.hydrated(ctx, pb)
	if err != nil {
		return err
	}
	for _, x := range t.PublicIndexes() {
		if err := partition.Check(x, t.Enums()); err != nil {
			return err
		}
	}
	return nil
}

func isPartitioned(x *catalogpb.IndexDescriptor) bool { return x.Partitioning.GetNumColumns() > 0 }

// noticeUnpartitioned says that a new index of a table with partitions has none.
func (p *planner) noticeUnpartitioned(pb *catalogpb.TableDescriptor, x *catalogpb.IndexDescriptor) {
	if isPartitioned(pb.PrimaryIndex) && !isPartitioned(x) {
		p.notice("creating non-partitioned index on partitioned table may not be performant")
	}
}

// partitionBy is ALTER TABLE … PARTITION BY and ALTER INDEX … PARTITION BY: the
// indexes get other partitions. Zone configurations of partitions that are gone go
// with them.
func (a *tableAlter) partitionBy(ctx context.Context, by *tree.PartitionBy, indexes ...*catalogpb.IndexDescriptor) error {
	for _, x := range indexes {
		if err := a.p.setPartitioning(ctx, a.pb, x, by); err != nil {
			return err
		}
	}
	a.after = append(a.after, func(ctx context.Context) error {
		return a.p.editZones(ctx, a.pb.Id, func(z *zones.Config) {
			z.Subzones = slices.DeleteFunc(z.Subzones, func(s zones.Subzone) bool {
				i := slices.IndexFunc(indexes, func(x *catalogpb.IndexDescriptor) bool { return x.Id == s.IndexID })
				return i >= 0 && s.Partition != "" && !slices.Contains(partition.Names(indexes[i].Partitioning), s.Partition)
			})
		})
	})
	return nil
}

// partitionPrimaryKey partitions a new primary key: as the statement says, or as the
// former one was if its first columns are the same.
func (a *tableAlter) partitionPrimaryKey(ctx context.Context, x, former *catalogpb.IndexDescriptor, by *tree.PartitionBy) error {
	if by != nil || !isPartitioned(former) {
		return a.p.setPartitioning(ctx, a.pb, x, by)
	}
	n := partition.Columns(former.Partitioning)
	if len(x.KeyColumnIds) < n || !slices.Equal(x.KeyColumnIds[:n], former.KeyColumnIds[:n]) ||
		!slices.Equal(x.KeyColumnDirections[:n], former.KeyColumnDirections[:n]) {
		a.p.notice("the new primary key of table \"%s\" does not begin with the columns of its partitions: they are dropped", a.pb.Name)
		return nil
	}
	x.Partitioning = former.Partitioning
	a.replace(former.Id, x.Id)
	return nil
}

// keepPartitions refuses another type for a column that partitions depend on.
func (a *tableAlter) keepPartitions(col *catalogpb.ColumnDescriptor) error {
	for _, x := range allIndexes(a.pb) {
		n := partition.Columns(x.Partitioning)
		if slices.Contains(x.KeyColumnIds[:min(n, len(x.KeyColumnIds))], col.Id) {
			return pgerr.Newf(pgerr.FeatureNotSupported, "cannot alter type of column \"%s\": index \"%s\" is partitioned by it", col.Name, x.Name).
				WithHint("Remove the partitions with PARTITION BY NOTHING first.")
		}
	}
	return nil
}

// alterIndex runs ALTER INDEX … PARTITION BY.
func (p *planner) alterIndex(ctx context.Context, n *tree.AlterIndex) error {
	tbl, x, err := p.findIndex(ctx, &n.Index)
	if err != nil {
		if n.IfExists && pgerr.GetCode(err) == pgerr.UndefinedObject {
			p.notice("relation \"%s\" does not exist, skipping", string(n.Index.Index))
			return nil
		}
		return err
	}
	if err := p.checkOwnerOr(ctx, tbl, catalog.Create); err != nil {
		return err
	}
	if tbl, err = p.lockForChange(ctx, tbl.ID()); err != nil {
		return err
	}
	a := &tableAlter{p: p, old: tbl, pb: tbl.Mutable(), values: map[uint32]string{}}
	for _, cmd := range n.Cmds {
		c, ok := cmd.(*tree.AlterIndexPartitionBy)
		if !ok {
			return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: ALTER INDEX%s", tree.AsString(cmd))
		}
		own := findIndex(a.pb, x.Name)
		if own == nil {
			return pgerr.Newf(pgerr.UndefinedObject, "index \"%s\" does not exist", x.Name)
		}
		if err := a.partitionBy(ctx, c.PartitionBy, own); err != nil {
			return err
		}
	}
	return a.apply(ctx)
}

// moveZones gives the zone configurations of indexes that are replaced, and of
// their partitions, to the new ones: next maps ids. The old indexes keep theirs
// until their data is collected.
func (p *planner) moveZones(ctx context.Context, id catalog.ID, next map[uint32]uint32) error {
	if len(next) == 0 {
		return nil
	}
	return p.editZones(ctx, id, func(z *zones.Config) {
		for _, s := range slices.Clone(z.Subzones) {
			if to, ok := next[s.IndexID]; ok {
				s.IndexID = to
				z.SetSubzone(s)
			}
		}
	})
}

// editZones changes the zone configuration of a table, if it has one.
func (p *planner) editZones(ctx context.Context, id catalog.ID, edit func(*zones.Config)) error {
	c, row, err := p.zoneRow(ctx, id)
	if err != nil || row == nil {
		return err
	}
	before := c.Marshal()
	c.SubzoneSpans = nil // They are computed where they are needed.
	edit(&c)
	b := c.Marshal()
	if slices.Equal(before, b) {
		return nil
	}
	p.schemaChanged()
	p.zonesChanged()
	var to systables.Row
	if !c.IsEmpty() || len(c.Subzones) > 0 {
		to = systables.Row{int64(id), b}
	}
	return p.putSystemRow(ctx, systables.Zones, row, to)
}
