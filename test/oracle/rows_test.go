package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	keysPerTable = 400
	// wideBytes is what makes a COPY of wideRows rows worth an sstable.
	wideBytes, wideRows = 4000, 300
)

// value returns a random value for a column.
func (g *generator) value(d *database, c *column) string {
	switch {
	case c.unique:
		return fmt.Sprint(g.number())
	case c.enum != "":
		if g.rng.Intn(8) == 0 {
			return "NULL"
		}
		return pick(g.rng, d.enums[c.enum])
	case c.parent != 0:
		_, t := d.tableByUID(c.parent)
		if len(t.rows) == 0 || g.rng.Intn(5) == 0 {
			return "NULL"
		}
		return pick(g.rng, sortedKeys(t.rows)) // Parents have single keys.
	case c.name == "part":
		return []string{"a", "b", "ü"}[g.rng.Intn(3)]
	}
	return randomValue(g.rng, c.typ)
}

// put adds a row, or replaces the one with its key.
func (g *generator) put(t *table, row []string) {
	switch t.pk {
	case 0:
		t.rows[fmt.Sprint("#", g.number())] = row
	case 1:
		t.rows[row[0]] = row
	case 2:
		t.rows[row[0]+"\x00"+row[1]] = row
	}
}

// write inserts, updates or deletes rows of one table.
func (g *generator) write(d *database, key string) []op {
	rng := g.rng
	t := d.tables[key]
	if t.big {
		return g.writeBig(d, key)
	}
	from := rng.Intn(keysPerTable)
	to := from + rng.Intn(40)
	within := func(row []string) bool {
		pk, _ := strconv.Atoi(row[0])
		return from <= pk && pk <= to
	}
	switch rng.Intn(6) {
	case 0:
		d.deleteRows(key, func(pk int) bool { return from <= pk && pk <= to })
		return sqls(fmt.Sprintf("DELETE FROM %s WHERE pk BETWEEN %d AND %d", key, from, to))
	case 1, 2:
		i := max(t.pk, 1) + rng.Intn(len(t.columns)-max(t.pk, 1))
		if t.columns[i].unique {
			to = from
		}
		v := g.value(d, &t.columns[i])
		t = d.edit(key)
		n := 0
		for k, row := range t.rows {
			if within(row) {
				row = slices.Clone(row)
				row[i] = v
				t.rows[k] = row
				n++
			}
		}
		if t.columns[i].unique && n > 1 {
			// One value cannot serve two rows.
			for k, row := range t.rows {
				if within(row) {
					row[i] = "NULL"
					t.rows[k] = row
				}
			}
			v = "NULL"
		}
		return sqls(fmt.Sprintf("UPDATE %s SET %s = %s WHERE pk BETWEEN %d AND %d", key, t.columns[i].name, quote(v), from, to))
	}
	// Insert what is missing and replace what is there, in one statement.
	t = d.edit(key)
	var values []string
	for pk := from; pk <= to; pk++ {
		row := g.newRow(d, t, pk)
		g.put(t, row)
		lits := make([]string, len(row))
		for i, v := range row {
			lits[i] = quote(v)
		}
		values = append(values, "("+strings.Join(lits, ", ")+")")
	}
	stmt := fmt.Sprintf("INSERT INTO %s VALUES %s", key, strings.Join(values, ", "))
	if t.pk > 0 {
		var sets []string
		for _, c := range t.columns[t.pk:] {
			sets = append(sets, fmt.Sprintf("%s = excluded.%s", c.name, c.name))
		}
		stmt += fmt.Sprintf(" ON CONFLICT (%s) DO UPDATE SET %s", []string{"", "pk", "pk, part"}[t.pk], strings.Join(sets, ", "))
	}
	return sqls(stmt)
}

func (g *generator) newRow(d *database, t *table, pk int) []string {
	row := []string{fmt.Sprint(pk)}
	for i := range t.columns[1:] {
		row = append(row, g.value(d, &t.columns[i+1]))
	}
	return row
}

// bigWrite changes thousands of rows in one statement, if there is a big table.
func (g *generator) bigWrite(d *database) []op {
	for _, k := range d.own() {
		if d.tables[k].big {
			return g.writeBig(d, k)
		}
	}
	return nil
}

func (g *generator) writeBig(d *database, key string) []op {
	rng := g.rng
	from := rng.Intn(5000)
	to := from + rng.Intn(1+rng.Intn(3000))
	k := rng.Intn(1000)
	switch rng.Intn(4) {
	case 0:
		d.deleteRows(key, func(pk int) bool { return from <= pk && pk <= to })
		return sqls(fmt.Sprintf("DELETE FROM %s WHERE pk BETWEEN %d AND %d", key, from, to))
	case 1:
		t := d.edit(key)
		for rk, row := range t.rows {
			if pk, _ := strconv.Atoi(row[0]); from <= pk && pk <= to && row[1] != "NULL" {
				row = slices.Clone(row)
				n, _ := strconv.Atoi(row[1])
				row[1] = fmt.Sprint(n + k)
				t.rows[rk] = row
			}
		}
		return sqls(fmt.Sprintf("UPDATE %s SET n = n + %d WHERE pk BETWEEN %d AND %d", key, k, from, to))
	}
	t := d.edit(key)
	for pk := from; pk <= to; pk++ {
		n, s := fmt.Sprint(pk*k), fmt.Sprintf("v%d", pk%7)
		row, ok := t.rows[fmt.Sprint(pk)]
		if ok {
			row = slices.Clone(row)
			row[1], row[2] = n, s
		} else {
			row = []string{fmt.Sprint(pk), n, s}
			for _, c := range t.columns[3:] {
				row = append(row, c.def)
			}
		}
		t.rows[row[0]] = row
	}
	return sqls(fmt.Sprintf("INSERT INTO %s (pk, n, s) SELECT i, i::BIGINT * %d, 'v' || (i %% 7) FROM generate_series(%d, %d) AS g(i) ON CONFLICT (pk) DO UPDATE SET n = excluded.n, s = excluded.s",
		key, k, from, to))
}

// copyIn loads rows into an empty table that the same transaction makes, or has
// truncated: small ones go row by row, big ones are ingested.
func (g *generator) copyIn(d *database, key string) []op {
	rng := g.rng
	var ops []op
	if rng.Intn(2) == 0 {
		key = g.newName(d, "c")
		ops = g.createTable(d, key)
	} else {
		d.empty(key)
		ops = sqls("TRUNCATE " + key + " CASCADE")
	}
	if rng.Intn(2) == 0 {
		ops = append(ops, g.createIndex(d, key)...)
	}
	t := d.edit(key)
	rows := rng.Intn(wideRows)
	wide := -1
	if rng.Intn(2) == 0 {
		for i, c := range t.columns {
			if c.typ == "TEXT" && c.name != "part" && !slices.ContainsFunc(t.indexes, func(x index) bool { return slices.Contains(x.columns, c.name) }) {
				wide, rows = i, wideRows
			}
		}
	}
	var b strings.Builder
	for pk := range rows {
		row := g.newRow(d, t, pk)
		if wide >= 0 {
			row[wide] = strings.Repeat(fmt.Sprintf("%x", rng.Uint64()), wideBytes/16)
		}
		g.put(t, row)
		b.WriteString(copyText(row))
	}
	return append(ops, op{sql: "COPY " + key + " FROM STDIN", copy: b.String()})
}
