package oracle

import (
	"fmt"
	"sort"
	"strings"
)

// dumpDatabase prints what a database holds, in the form of database.dump, read by
// plain SELECTs as of an instant; none: the present.
func (c *client) dumpDatabase(db string, sc scope, at string) (string, error) {
	if at != "" {
		at = " AS OF SYSTEM TIME " + at
	}
	var firstErr error
	query := func(q string) [][]string {
		if firstErr != nil {
			return nil
		}
		rows, err := c.rows(db, q)
		if err != nil {
			firstErr = err
		}
		return rows
	}
	list := func(q string) (out []string) {
		for _, r := range query(q) {
			out = append(out, r[0])
		}
		return out
	}
	var b strings.Builder
	schemas := list("SELECT nspname FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension') ORDER BY 1")
	sort.Strings(schemas)
	if sc.tables == nil {
		fmt.Fprintf(&b, "schemas %s\n", strings.Join(schemas, " "))
		var enums []string
		labels := map[string][]string{}
		for _, r := range query(`SELECT n.nspname || '.' || t.typname, e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
			JOIN pg_namespace n ON n.oid = t.typnamespace ORDER BY e.enumsortorder`) {
			if labels[r[0]] == nil {
				enums = append(enums, r[0])
			}
			labels[r[0]] = append(labels[r[0]], r[1])
		}
		sort.Strings(enums)
		for _, e := range enums {
			fmt.Fprintf(&b, "enum %s (%s)\n", e, strings.Join(labels[e], " "))
		}
		seqs := list("SELECT sequence_schema || '.' || sequence_name FROM information_schema.sequences")
		sort.Strings(seqs)
		for _, q := range seqs {
			fmt.Fprintf(&b, "sequence %s", q)
			if !sc.noSeqs {
				for _, r := range query("SELECT last_value, is_called FROM " + q) {
					fmt.Fprintf(&b, " %s %s", r[0], r[1])
				}
			}
			b.WriteByte('\n')
		}
	}
	columns, indexes, fks := map[string][]string{}, map[string][]string{}, map[string][]string{}
	for _, r := range query("SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns ORDER BY ordinal_position") {
		columns[r[0]] = append(columns[r[0]], r[1])
	}
	for _, r := range query("SELECT schemaname || '.' || tablename, indexname FROM pg_indexes") {
		indexes[r[0]] = append(indexes[r[0]], r[1])
	}
	for _, r := range query(`SELECT n.nspname || '.' || t.relname, c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
		JOIN pg_namespace n ON n.oid = t.relnamespace WHERE c.contype = 'f'`) {
		fks[r[0]] = append(fks[r[0]], r[1])
	}
	tables := list("SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')")
	sort.Strings(tables)
	for _, t := range tables {
		sort.Strings(indexes[t])
		sort.Strings(fks[t])
		rows := query("SELECT * FROM " + t + at)
		fmt.Fprintf(&b, "table %s (%s) indexes (%s) foreign keys (%s) %d rows\n", t,
			strings.Join(columns[t], " "), strings.Join(indexes[t], " "), strings.Join(fks[t], " "), len(rows))
		writeLines(&b, rows)
	}
	if sc.tables == nil {
		views := list("SELECT table_schema || '.' || table_name FROM information_schema.views WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')")
		sort.Strings(views)
		for _, v := range views {
			rows := query("SELECT * FROM " + v + at)
			fmt.Fprintf(&b, "view %s %d rows\n", v, len(rows))
			writeLines(&b, rows)
		}
	}
	return b.String(), firstErr
}

// checkIndexes reads each index by itself, the primary one too: all of them must
// know the rows of the model and no others.
func (c *client) checkIndexes(db string, want *database, sc scope, at string) error {
	if at != "" {
		at = " AS OF SYSTEM TIME " + at
	}
	for _, key := range sortedKeys(want.tables) {
		if sc.tables != nil && !sc.tables[key] {
			continue
		}
		t := want.tables[key]
		for _, x := range t.indexes {
			cols := append([]string(nil), x.columns...)
			for _, p := range t.columns[:t.pk] {
				cols = appendNew(cols, p.name)
			}
			for _, s := range x.storing {
				cols = appendNew(cols, s)
			}
			rows, err := c.rows(db, fmt.Sprintf("SELECT %s FROM %s@%s%s", strings.Join(cols, ", "), key, x.name, at))
			if err != nil {
				return err
			}
			var got, model strings.Builder
			writeLines(&got, rows)
			var wanted [][]string
			for _, r := range t.rows {
				wanted = append(wanted, t.project(r, cols))
			}
			writeLines(&model, wanted)
			if got.String() != model.String() {
				return fmt.Errorf("index %s of %s (%d entries, %d rows) differs from the model:\n%s",
					x.name, key, len(rows), len(wanted), firstDifference(got.String(), model.String()))
			}
		}
	}
	return nil
}

func appendNew(names []string, name string) []string {
	for _, n := range names {
		if n == name {
			return names
		}
	}
	return append(names, name)
}

// compare says how a database differs from the model.
func (c *client) compare(db string, want *database, sc scope, at string) error {
	got, err := c.dumpDatabase(db, sc, at)
	if err != nil {
		return err
	}
	if w := want.dump(sc); got != w {
		return fmt.Errorf("database %s differs from the model:\n%s", db, firstDifference(got, w))
	}
	return c.checkIndexes(db, want, sc, at)
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		var a, b string
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			table := ""
			for _, l := range w[:min(i, len(w))] {
				if !strings.HasPrefix(l, "  ") {
					table = l
				}
			}
			return fmt.Sprintf("line %d\n got %q\nwant %q\n(%d lines, want %d; in %s)", i+1, a, b, len(g), len(w), table)
		}
	}
	return "no difference"
}
