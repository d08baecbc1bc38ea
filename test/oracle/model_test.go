package oracle

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// state is a plain picture of all databases at one instant. It knows nothing of
// how Holdfast stores anything: values are the text that PostgreSQL prints for
// them. Once it is part of the history it never changes; whoever changes
// something works on a clone.
type state struct {
	dbs map[string]*database
}

type database struct {
	uid     int
	schemas map[string]bool // public included
	// All by "schema.name".
	tables map[string]*table
	enums  map[string][]string // labels in order
	seqs   map[string]*sequence
	views  map[string]*view
}

type table struct {
	uid     int
	pk      int // columns of the primary key; 0: none, rows have a hidden id
	columns []column
	indexes []index
	fks     []foreignKey
	// rows by the text of the primary key, or by a number of our own.
	rows map[string][]string
	// fixed is how many of the first columns stay as they are.
	fixed int
	big   bool // may hold thousands of rows
}

type column struct {
	name, typ, def string
	unique         bool
	enum           string // "schema.name"
	parent         int    // uid of the table that a foreign key points to
}

type index struct {
	name    string
	columns []string
	desc    []bool
	storing []string
	unique  bool
}

type foreignKey struct {
	name, column string
	parent       int
	cascade      bool // else SET NULL
}

type sequence struct {
	last, start, increment int64
	called                 bool
}

// view shows the rows of a table whose pk is divisible.
type view struct {
	table   int // uid
	columns []string
	modulus int
}

func newDatabase(uid int) *database {
	return &database{uid: uid, schemas: map[string]bool{"public": true}, tables: map[string]*table{},
		enums: map[string][]string{}, seqs: map[string]*sequence{}, views: map[string]*view{}}
}

func (s *state) clone() *state {
	c := &state{dbs: map[string]*database{}}
	for name, d := range s.dbs {
		c.dbs[name] = d.clone()
	}
	return c
}

// clone shares tables: edit replaces them.
func (d *database) clone() *database {
	c := &database{uid: d.uid, schemas: maps.Clone(d.schemas), tables: maps.Clone(d.tables), enums: maps.Clone(d.enums),
		seqs: map[string]*sequence{}, views: maps.Clone(d.views)}
	for k, q := range d.seqs {
		n := *q
		c.seqs[k] = &n
	}
	return c
}

// edit returns a table that may be changed. Rows are replaced, never changed.
func (d *database) edit(key string) *table {
	t := *d.tables[key]
	t.columns, t.indexes, t.fks, t.rows = slices.Clone(t.columns), slices.Clone(t.indexes), slices.Clone(t.fks), maps.Clone(t.rows)
	d.tables[key] = &t
	return &t
}

func (s *state) dbByUID(uid int) (string, *database) {
	for name, d := range s.dbs {
		if d.uid == uid {
			return name, d
		}
	}
	return "", nil
}

func (d *database) tableByUID(uid int) (string, *table) {
	for key, t := range d.tables {
		if t.uid == uid {
			return key, t
		}
	}
	return "", nil
}

func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
}

// sortedKeys makes choices by a seed repeatable.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// shown shortens long values on both sides of a comparison alike.
func shown(v string) string {
	if len(v) > 80 {
		return fmt.Sprintf("%s…%d…%s", v[:20], len(v), v[len(v)-20:])
	}
	return v
}

func line(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = shown(v)
	}
	return "  " + strings.Join(out, "|")
}

// scope says which part of a database a comparison is about.
type scope struct {
	tables map[string]bool // nil: everything
	noSeqs bool            // values of sequences are not known at that instant
}

// dump prints the picture as dumpDatabase prints the real thing.
func (d *database) dump(sc scope) string {
	var b strings.Builder
	if sc.tables == nil {
		fmt.Fprintf(&b, "schemas %s\n", strings.Join(sortedKeys(d.schemas), " "))
		for _, k := range sortedKeys(d.enums) {
			fmt.Fprintf(&b, "enum %s (%s)\n", k, strings.Join(d.enums[k], " "))
		}
		for _, k := range sortedKeys(d.seqs) {
			fmt.Fprintf(&b, "sequence %s", k)
			if !sc.noSeqs {
				fmt.Fprintf(&b, " %d %s", d.seqs[k].last, map[bool]string{true: "t", false: "f"}[d.seqs[k].called])
			}
			b.WriteByte('\n')
		}
	}
	for _, k := range sortedKeys(d.tables) {
		t := d.tables[k]
		if sc.tables != nil && !sc.tables[k] {
			continue
		}
		var cols, ixs, fks []string
		for _, c := range t.columns {
			cols = append(cols, c.name)
		}
		for _, x := range t.indexes {
			ixs = append(ixs, x.name)
		}
		for _, f := range t.fks {
			if p, _ := d.tableByUID(f.parent); sc.tables == nil || sc.tables[p] {
				fks = append(fks, f.name)
			}
		}
		sort.Strings(ixs)
		sort.Strings(fks)
		fmt.Fprintf(&b, "table %s (%s) indexes (%s) foreign keys (%s) %d rows\n", k,
			strings.Join(cols, " "), strings.Join(ixs, " "), strings.Join(fks, " "), len(t.rows))
		writeLines(&b, t.all())
	}
	if sc.tables != nil {
		return b.String()
	}
	for _, k := range sortedKeys(d.views) {
		rows := d.viewRows(d.views[k])
		fmt.Fprintf(&b, "view %s %d rows\n", k, len(rows))
		writeLines(&b, rows)
	}
	return b.String()
}

func (t *table) all() [][]string { return slices.Collect(maps.Values(t.rows)) }

func writeLines(b *strings.Builder, rows [][]string) {
	lines := make([]string, len(rows))
	for i, r := range rows {
		lines[i] = line(r)
	}
	sort.Strings(lines)
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
}

func (d *database) viewRows(v *view) (out [][]string) {
	_, t := d.tableByUID(v.table)
	for _, r := range t.rows {
		if pk, _ := strconv.Atoi(r[0]); pk%v.modulus == 0 {
			out = append(out, t.project(r, v.columns))
		}
	}
	return out
}

func (t *table) project(row []string, columns []string) []string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = row[t.column(c)]
	}
	return out
}

// dropViews forgets the views on a table and returns the statements for it.
func (d *database) dropViews(uid int, column string) (stmts []string) {
	for _, k := range sortedKeys(d.views) {
		if v := d.views[k]; v.table == uid && (column == "" || slices.Contains(v.columns, column)) {
			delete(d.views, k)
			stmts = append(stmts, "DROP VIEW "+k)
		}
	}
	return stmts
}

// forget takes a table away, with the foreign keys that point to it.
func (d *database) forget(key string) {
	uid := d.tables[key].uid
	delete(d.tables, key)
	for _, k := range sortedKeys(d.tables) {
		if d.tables[k].pointsTo(uid) {
			t := d.edit(k)
			t.fks = slices.DeleteFunc(t.fks, func(f foreignKey) bool { return f.parent == uid })
			for i := range t.columns {
				if t.columns[i].parent == uid {
					t.columns[i].parent = 0
				}
			}
		}
	}
}

func (t *table) pointsTo(uid int) bool {
	return slices.ContainsFunc(t.fks, func(f foreignKey) bool { return f.parent == uid })
}

// deleteRows takes rows away and does to those that point to them what their
// foreign keys say.
func (d *database) deleteRows(key string, gone func(pk int) bool) {
	t := d.edit(key)
	removed := map[string]bool{}
	for k, r := range t.rows {
		if pk, _ := strconv.Atoi(r[0]); gone(pk) {
			delete(t.rows, k)
			removed[r[0]] = true
		}
	}
	for _, k := range sortedKeys(d.tables) {
		if !d.tables[k].pointsTo(t.uid) {
			continue
		}
		child := d.edit(k)
		for _, f := range child.fks {
			i := child.column(f.column)
			for rk, r := range child.rows {
				if f.parent != t.uid || !removed[r[i]] {
					continue
				}
				if f.cascade {
					delete(child.rows, rk)
					continue
				}
				r = slices.Clone(r)
				r[i] = "NULL"
				child.rows[rk] = r
			}
		}
	}
}
