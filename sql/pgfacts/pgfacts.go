// Package pgfacts holds what is the same in every PostgreSQL 15 server: the
// columns of its system catalogs and information schema, and the rows of the
// catalogs that describe built-in types, operators, access methods and so on.
//
// Drivers and tools ask for these by number and by name, so they are taken from
// PostgreSQL itself (generate.sh) instead of being written by hand. Package sql
// serves them as virtual tables.
package pgfacts

import (
	"embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed data
var files embed.FS

// Table is a system catalog or view.
type Table struct {
	Name    string
	Columns []Column
}

// Column is a column of a Table; Type is a name as format_type prints it, or a
// domain of the information schema.
type Column struct {
	Name, Type string
	NotNull    bool
}

// PgCatalog lists the tables and views of schema pg_catalog.
var PgCatalog = sync.OnceValue(func() []Table { return mustTables("data/pg_catalog.txt") })

// InformationSchema lists the tables and views of schema information_schema.
var InformationSchema = sync.OnceValue(func() []Table { return mustTables("data/information_schema.txt") })

// TimeZones lists the names of time zones.
var TimeZones = sync.OnceValue(func() []string { return lines("data/timezones.txt") })

// Rows returns the constant rows of a catalog: a header with the names of the
// columns that are known, then one slice of texts per row. Empty text stands
// for NULL as well as for the empty string.
func Rows(table string) (header []string, rows [][]string) {
	ls := lines("data/" + table + ".tsv")
	header = strings.Split(ls[0], "\t")
	for _, l := range ls[1:] {
		rows = append(rows, strings.Split(l, "\t"))
	}
	return header, rows
}

// ParseTable reads "name(column type, column type!, …)"; the exclamation mark
// stands for NOT NULL.
func ParseTable(def string) (Table, error) {
	name, cols, ok := strings.Cut(strings.TrimSpace(def), "(")
	cols, closed := strings.CutSuffix(cols, ")")
	if !ok || !closed {
		return Table{}, fmt.Errorf("table definition %q is not name(column type, …)", def)
	}
	t := Table{Name: name}
	for _, c := range strings.Split(cols, ",") {
		col, typ, ok := strings.Cut(strings.TrimSpace(c), " ")
		if !ok {
			return Table{}, fmt.Errorf("column %q of %s has no type", c, name)
		}
		typ, notNull := strings.CutSuffix(typ, "!")
		t.Columns = append(t.Columns, Column{Name: strings.Trim(col, `"`), Type: typ, NotNull: notNull})
	}
	return t, nil
}

func mustTables(file string) []Table {
	var out []Table
	for _, l := range lines(file) {
		t, err := ParseTable(l)
		if err != nil {
			panic(err) // The file is part of the binary; a test reads it.
		}
		out = append(out, t)
	}
	return out
}

func lines(file string) []string {
	b, err := files.ReadFile(file)
	if err != nil {
		panic(err) // Part of the binary.
	}
	return strings.Split(strings.TrimRight(string(b), "\n"), "\n")
}
