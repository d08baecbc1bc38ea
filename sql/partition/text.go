package partition

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Row describes one partition, as crdb_internal.partitions shows it.
type Row struct {
	Parent, Name string
	Columns      []string // those that this level adds
	List, Range  string   // one of them is empty
}

// Rows lists the partitions of an index, each before its subpartitions.
func Rows(x *catalog.Index, enums catalog.EnumSet) ([]Row, error) {
	return rows(nil, x, enums, x.PB.Partitioning, "", 0)
}

func rows(out []Row, x *catalog.Index, enums catalog.EnumSet, p *catalogpb.PartitioningDescriptor, parent string, offset int) ([]Row, error) {
	n := int(p.GetNumColumns())
	if n == 0 {
		return out, nil
	}
	columns := columnNames(x, offset, n)
	for _, l := range p.List {
		values, err := listText(x, enums, l, offset, n)
		if err != nil {
			return nil, err
		}
		out = append(out, Row{Parent: parent, Name: l.Name, Columns: columns, List: strings.Join(values, ", ")})
		if out, err = rows(out, x, enums, l.Subpartitioning, l.Name, offset+n); err != nil {
			return nil, err
		}
	}
	for _, r := range p.Range {
		from, to, err := rangeText(x, enums, r, offset, n)
		if err != nil {
			return nil, err
		}
		out = append(out, Row{Parent: parent, Name: r.Name, Columns: columns, Range: from + " TO " + to})
	}
	return out, nil
}

func columnNames(x *catalog.Index, offset, n int) []string {
	var out []string
	for _, c := range x.KeyColumns[min(offset, len(x.KeyColumns)):min(offset+n, len(x.KeyColumns))] {
		out = append(out, c.Name)
	}
	return out
}

func listText(x *catalog.Index, enums catalog.EnumSet, l *catalogpb.PartitioningDescriptor_List, offset, n int) ([]string, error) {
	var out []string
	for _, b := range l.Values {
		t, err := Decode(x, enums, offset, n, b)
		if err != nil {
			return nil, err
		}
		out = append(out, t.String())
	}
	return out, nil
}

func rangeText(x *catalog.Index, enums catalog.EnumSet, r *catalogpb.PartitioningDescriptor_Range, offset, n int) (from, to string, err error) {
	lo, err := Decode(x, enums, offset, n, r.FromInclusive)
	if err != nil {
		return "", "", err
	}
	hi, err := Decode(x, enums, offset, n, r.ToExclusive)
	return lo.String(), hi.String(), err
}

// Clause prints the PARTITION BY clause of an index, with a space before it, or
// nothing. newline is a newline with the indentation of the index.
func Clause(x *catalog.Index, enums catalog.EnumSet, newline string) (string, error) {
	var b strings.Builder
	err := clause(&b, x, enums, x.PB.Partitioning, 0, newline)
	return b.String(), err
}

func clause(b *strings.Builder, x *catalog.Index, enums catalog.EnumSet, p *catalogpb.PartitioningDescriptor, offset int, newline string) error {
	n := int(p.GetNumColumns())
	if n == 0 {
		return nil
	}
	kind := "LIST"
	if len(p.Range) > 0 {
		kind = "RANGE"
	}
	var columns []string
	for _, c := range columnNames(x, offset, n) {
		columns = append(columns, quote(c))
	}
	b.WriteString(" PARTITION BY " + kind + " (" + strings.Join(columns, ", ") + ") (")
	comma := ""
	for _, l := range p.List {
		values, err := listText(x, enums, l, offset, n)
		if err != nil {
			return err
		}
		b.WriteString(comma + newline + "\tPARTITION " + quote(l.Name) + " VALUES IN (" + strings.Join(values, ", ") + ")")
		if err := clause(b, x, enums, l.Subpartitioning, offset+n, newline+"\t"); err != nil {
			return err
		}
		comma = ","
	}
	for _, r := range p.Range {
		from, to, err := rangeText(x, enums, r, offset, n)
		if err != nil {
			return err
		}
		b.WriteString(comma + newline + "\tPARTITION " + quote(r.Name) + " VALUES FROM " + from + " TO " + to)
		comma = ","
	}
	b.WriteString(newline + ")")
	return nil
}

func quote(name string) string {
	n := tree.Name(name)
	return n.String()
}

// Names lists the partitions of an index, subpartitions after their parents.
func Names(p *catalogpb.PartitioningDescriptor) []string {
	var out []string
	for _, l := range p.GetList() {
		out = append(append(out, l.Name), Names(l.Subpartitioning)...)
	}
	for _, r := range p.GetRange() {
		out = append(out, r.Name)
	}
	return out
}

// Columns counts the columns that the partitions of an index depend on.
func Columns(p *catalogpb.PartitioningDescriptor) int {
	n := 0
	for _, l := range p.GetList() {
		n = max(n, Columns(l.Subpartitioning))
	}
	return n + int(p.GetNumColumns())
}
