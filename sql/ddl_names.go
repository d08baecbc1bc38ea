package sql

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// maxIdentifierBytes is PostgreSQL's NAMEDATALEN - 1.
const maxIdentifierBytes = 63

// objectName joins a table, its columns and a label as PostgreSQL does for
// default names, shortening the longer of the first two until all fit.
func objectName(table, columns, label string) string {
	overhead := len(label) + 1
	if columns != "" {
		overhead++
	}
	a, b := len(table), len(columns)
	for a+b+overhead > maxIdentifierBytes {
		if a > b {
			a--
		} else {
			b--
		}
	}
	parts := []string{clip(table, a)}
	if columns != "" {
		parts = append(parts, clip(columns, b))
	}
	return strings.Join(append(parts, label), "_")
}

// clip cuts s to at most n bytes, at a character boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// freeName returns the first of name, name1, name2, … that is not taken.
func freeName(table, columns, label string, taken func(string) bool) string {
	for i := 0; ; i++ {
		l := label
		if i > 0 {
			l = fmt.Sprintf("%s%d", label, i)
		}
		if n := objectName(table, columns, l); !taken(n) {
			return n
		}
	}
}

// constraintNames returns the names of all constraints and indexes of a table,
// those of schema changes under way included.
func constraintNames(pb *catalogpb.TableDescriptor) map[string]bool {
	names := map[string]bool{}
	if pb.PrimaryIndex != nil {
		names[pb.PrimaryIndex.Name] = true
	}
	for _, x := range pb.Indexes {
		names[x.Name] = true
	}
	for _, m := range pb.Mutations {
		if m.Index != nil {
			names[m.Index.Name] = true
		}
		if m.Constraint != nil {
			names[m.Constraint.Name] = true
		}
	}
	for _, c := range pb.Checks {
		names[c.Name] = true
	}
	for _, f := range pb.OutboundFks {
		names[f.Name] = true
	}
	delete(names, "")
	return names
}

// chooseConstraintName gives a constraint or index its default name.
func chooseConstraintName(pb *catalogpb.TableDescriptor, columns []string, label string) string {
	taken := constraintNames(pb)
	return freeName(pb.Name, strings.Join(columns, "_"), label, func(n string) bool { return taken[n] })
}
