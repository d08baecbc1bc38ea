package oracle

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
)

// op is a statement of a transaction, with the rows of a COPY.
type op struct {
	sql  string
	copy string
}

// generator changes a state at random and says how the real database is changed in
// the same way.
type generator struct {
	rng  *rand.Rand
	next int // the next number never used before
}

func (g *generator) number() int { g.next++; return g.next }

func (g *generator) name(prefix string) string { return fmt.Sprintf("%s%d", prefix, g.number()) }

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.Intn(len(from))] }

// writersSchema holds the tables of the concurrent writers: nothing here drops or
// fills them.
const writersSchema = "w."

// step changes one database of s, which the caller owns, in one transaction.
func (g *generator) step(s *state) (db string, ops []op) {
	db = pick(g.rng, sortedKeys(s.dbs))
	d := s.dbs[db]
	for range 1 + g.rng.Intn(3)/2 {
		ops = append(ops, g.change(d)...)
	}
	return db, ops
}

func sqls(stmts ...string) (ops []op) {
	for _, s := range stmts {
		ops = append(ops, op{sql: s})
	}
	return ops
}

// own returns the tables that steps may do anything to.
func (d *database) own() []string {
	return slices.DeleteFunc(sortedKeys(d.tables), func(k string) bool { return strings.HasPrefix(k, writersSchema) })
}

func (g *generator) change(d *database) []op {
	rng := g.rng
	own := d.own()
	if len(own) == 0 || len(own) < 7 && rng.Intn(10) == 0 {
		return g.createTable(d, g.newName(d, "t"))
	}
	key := pick(rng, own)
	t := d.tables[key]
	switch rng.Intn(54) {
	case 0:
		stmts := append(d.dropViews(t.uid, ""), "DROP TABLE "+key+" CASCADE")
		d.forget(key)
		if rng.Intn(2) == 0 { // The same name again, for another table.
			return append(sqls(stmts...), g.createTable(d, key)...)
		}
		return sqls(stmts...)
	case 1, 2:
		return g.truncate(d, key)
	case 3, 4:
		return g.addColumn(d, pick(rng, sortedKeys(d.tables)))
	case 5:
		return g.dropColumn(d, pick(rng, sortedKeys(d.tables)))
	case 6, 7, 8:
		return g.createIndex(d, pick(rng, sortedKeys(d.tables)))
	case 9:
		return g.dropIndex(d, pick(rng, sortedKeys(d.tables)))
	case 10:
		schema, _, _ := strings.Cut(key, ".")
		renamed := schema + "." + g.name("t")
		stmts := d.dropViews(t.uid, "")
		d.tables[renamed] = t
		delete(d.tables, key)
		_, bare, _ := strings.Cut(renamed, ".")
		return sqls(append(stmts, fmt.Sprintf("ALTER TABLE %s RENAME TO %s", key, bare))...)
	case 11:
		return g.moveTable(d, key)
	case 12:
		return g.renameColumn(d, key)
	case 13:
		return g.createView(d, key)
	case 14:
		if len(d.views) > 0 {
			k := pick(rng, sortedKeys(d.views))
			delete(d.views, k)
			return sqls("DROP VIEW " + k)
		}
	case 15, 16:
		return g.changeEnum(d)
	case 17:
		return g.changeSequence(d)
	case 18:
		return g.changeSchema(d)
	case 19, 20:
		return g.copyIn(d, key)
	case 21, 22:
		return g.bigWrite(d)
	case 23: // All rows, which is no TRUNCATE.
		d.deleteRows(key, func(int) bool { return true })
		return sqls("DELETE FROM " + key)
	case 24:
		return g.widenColumn(d, key)
	}
	var ops []op
	for range 1 + rng.Intn(4) {
		key := pick(rng, own)
		if rng.Intn(6) == 0 { // What a savepoint takes back never was.
			lost := d.clone()
			ops = append(ops, op{sql: "SAVEPOINT p"})
			ops = append(ops, g.write(lost, key)...)
			ops = append(ops, op{sql: "ROLLBACK TO SAVEPOINT p"})
		}
		ops = append(ops, g.write(d, key)...)
	}
	return ops
}

// newName returns a free qualified name.
func (g *generator) newName(d *database, prefix string) string {
	schemas := slices.DeleteFunc(sortedKeys(d.schemas), func(s string) bool { return s+"." == writersSchema })
	return pick(g.rng, append(schemas, "public")) + "." + g.name(prefix)
}

func (g *generator) createTable(d *database, key string) []op {
	rng := g.rng
	_, bare, _ := strings.Cut(key, ".")
	t := &table{uid: g.number(), rows: map[string][]string{}}
	defs := []string{"pk INT NOT NULL"}
	t.columns = []column{{name: "pk", typ: "INT"}}
	if rng.Intn(6) == 0 {
		t.big, t.pk, t.fixed = true, 1, 3
		t.columns = append(t.columns, column{name: "n", typ: "BIGINT"}, column{name: "s", typ: "TEXT"})
		defs = append(defs, "n BIGINT", "s TEXT")
	} else {
		t.pk = []int{1, 1, 1, 2, 0}[rng.Intn(5)]
		if t.pk == 2 {
			t.columns = append(t.columns, column{name: "part", typ: "TEXT"})
			defs = append(defs, "part TEXT NOT NULL")
		}
		for i := range 1 + rng.Intn(5) {
			c := column{name: fmt.Sprintf("c%d", i), typ: pick(rng, valueTypes)}
			t.columns = append(t.columns, c)
			defs = append(defs, c.name+" "+c.typ)
		}
		if rng.Intn(3) == 0 {
			c := column{name: "u", typ: "BIGINT", unique: true}
			t.columns = append(t.columns, c)
			defs = append(defs, "u BIGINT")
			name := "u_" + g.name("x")
			t.indexes = append(t.indexes, index{name: name, columns: []string{"u"}, desc: []bool{false}, unique: true})
			defs = append(defs, "CONSTRAINT "+name+" UNIQUE (u)")
		}
		if enums := sortedKeys(d.enums); len(enums) > 0 && rng.Intn(2) == 0 {
			c := column{name: "e", typ: "enum", enum: pick(rng, enums)}
			t.columns = append(t.columns, c)
			defs = append(defs, "e "+c.enum)
		}
		if parents := d.parents(); len(parents) > 0 && rng.Intn(3) == 0 {
			parent := pick(rng, parents)
			f := foreignKey{name: g.name("fk"), column: "f", parent: d.tables[parent].uid, cascade: rng.Intn(2) == 0}
			t.columns = append(t.columns, column{name: "f", typ: "INT", parent: f.parent})
			t.fks = append(t.fks, f)
			action := "SET NULL"
			if f.cascade {
				action = "CASCADE"
			}
			defs = append(defs, "f INT", fmt.Sprintf("CONSTRAINT %s FOREIGN KEY (f) REFERENCES %s (pk) ON DELETE %s", f.name, parent, action))
		}
	}
	pkey := bare + "_" + g.name("pkey")
	switch t.pk {
	case 1:
		defs = append(defs, "CONSTRAINT "+pkey+" PRIMARY KEY (pk)")
		t.indexes = append(t.indexes, index{name: pkey, columns: []string{"pk"}, desc: []bool{false}, unique: true})
	case 2:
		defs = append(defs, "CONSTRAINT "+pkey+" PRIMARY KEY (pk, part)")
		t.indexes = append(t.indexes, index{name: pkey, columns: []string{"pk", "part"}, desc: []bool{false, false}, unique: true})
	}
	d.tables[key] = t
	return sqls(fmt.Sprintf("CREATE TABLE %s (%s)", key, strings.Join(defs, ", ")))
}

// parents returns the tables that a foreign key may point to.
func (d *database) parents() (out []string) {
	for _, k := range d.own() {
		if t := d.tables[k]; t.pk == 1 && len(t.fks) == 0 && t.column("f") < 0 {
			out = append(out, k)
		}
	}
	return out
}

func (g *generator) truncate(d *database, key string) []op {
	d.empty(key)
	ops := sqls("TRUNCATE " + key + " CASCADE")
	if g.rng.Intn(3) == 0 {
		return append(ops, g.copyIn(d, key)...)
	}
	return ops
}

// empty is TRUNCATE … CASCADE.
func (d *database) empty(key string) {
	t := d.edit(key)
	t.rows = map[string][]string{}
	for _, k := range sortedKeys(d.tables) {
		if d.tables[k].pointsTo(t.uid) {
			d.edit(k).rows = map[string][]string{}
		}
	}
}

func (g *generator) addColumn(d *database, key string) []op {
	t := d.edit(key)
	c := column{name: g.name("d"), typ: pick(g.rng, valueTypes)}
	c.def = randomValue(g.rng, c.typ)
	t.columns = append(t.columns, c)
	for k, row := range t.rows {
		t.rows[k] = append(slices.Clip(slices.Clone(row)), c.def)
	}
	return sqls(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s DEFAULT %s", key, c.name, c.typ, quote(c.def)))
}

// spare returns the columns that may be dropped, renamed or changed.
func (t *table) spare() (out []string) {
	for i, c := range t.columns {
		if i >= max(t.pk, t.fixed, 1) && c.parent == 0 && c.name != "u" && c.name != "f" {
			out = append(out, c.name)
		}
	}
	return out
}

func (g *generator) dropColumn(d *database, key string) []op {
	spare := d.tables[key].spare()
	if len(spare) < 2 {
		return nil
	}
	t, name := d.edit(key), pick(g.rng, spare)
	i := t.column(name)
	stmts := append(d.dropViews(t.uid, name), fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", key, name))
	t.columns = slices.Delete(t.columns, i, i+1)
	t.indexes = slices.DeleteFunc(t.indexes, func(x index) bool { return slices.Contains(x.columns, name) || slices.Contains(x.storing, name) })
	for k, row := range t.rows {
		t.rows[k] = slices.Delete(slices.Clone(row), i, i+1)
	}
	return sqls(stmts...)
}

func (g *generator) renameColumn(d *database, key string) []op {
	spare := d.tables[key].spare()
	if len(spare) == 0 {
		return nil
	}
	t, name, renamed := d.edit(key), pick(g.rng, spare), g.name("r")
	stmts := append(d.dropViews(t.uid, ""), fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", key, name, renamed))
	t.columns[t.column(name)].name = renamed
	rename := func(names []string) []string {
		names = slices.Clone(names)
		for i := range names {
			if names[i] == name {
				names[i] = renamed
			}
		}
		return names
	}
	for i := range t.indexes {
		t.indexes[i].columns, t.indexes[i].storing = rename(t.indexes[i].columns), rename(t.indexes[i].storing)
	}
	return sqls(stmts...)
}

// widenColumn makes a number a text, which rewrites all rows.
func (g *generator) widenColumn(d *database, key string) []op {
	t := d.tables[key]
	var numbers []string
	for _, name := range t.spare() {
		if c := t.columns[t.column(name)]; c.typ == "INT" || c.typ == "BIGINT" {
			numbers = append(numbers, name)
		}
	}
	if len(numbers) == 0 {
		return nil
	}
	t = d.edit(key)
	name := pick(g.rng, numbers)
	stmts := append(d.dropViews(t.uid, ""), fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE TEXT", key, name))
	t.columns[t.column(name)].typ = "TEXT"
	return sqls(stmts...)
}

func (g *generator) createIndex(d *database, key string) []op {
	t := d.edit(key)
	var can, may []string
	for i, c := range t.columns {
		if indexable(c.typ) {
			can = append(can, c.name)
		}
		if i >= t.pk {
			may = append(may, c.name)
		}
	}
	g.rng.Shuffle(len(can), func(i, j int) { can[i], can[j] = can[j], can[i] })
	x := index{name: g.name("i"), columns: can[:1+g.rng.Intn(min(2, len(can)))]}
	var cols []string
	for _, c := range x.columns {
		desc := g.rng.Intn(3) == 0
		x.desc = append(x.desc, desc)
		if desc {
			c += " DESC"
		}
		cols = append(cols, c)
		may = slices.DeleteFunc(may, func(m string) bool { return m == strings.TrimSuffix(c, " DESC") })
	}
	stmt := ""
	if len(may) > 0 && g.rng.Intn(3) == 0 {
		x.storing = []string{pick(g.rng, may)}
		stmt = " INCLUDE (" + x.storing[0] + ")"
	}
	unique := ""
	if t.column("u") >= 0 && slices.Contains(x.columns, "u") || t.pk == 1 && slices.Contains(x.columns, "pk") {
		x.unique = true
		unique = "UNIQUE "
	}
	t.indexes = append(t.indexes, x)
	return sqls(fmt.Sprintf("CREATE %sINDEX %s ON %s (%s)%s", unique, x.name, key, strings.Join(cols, ", "), stmt))
}

func (g *generator) dropIndex(d *database, key string) []op {
	schema, _, _ := strings.Cut(key, ".")
	for i, x := range d.tables[key].indexes {
		if strings.HasPrefix(x.name, "i") {
			t := d.edit(key)
			t.indexes = slices.Delete(t.indexes, i, i+1)
			return sqls("DROP INDEX " + schema + "." + x.name)
		}
	}
	return nil
}

func (g *generator) moveTable(d *database, key string) []op {
	t := d.tables[key]
	schema, bare, _ := strings.Cut(key, ".")
	to := pick(g.rng, sortedKeys(d.schemas))
	if to == schema || to+"." == writersSchema || d.tables[to+"."+bare] != nil {
		return nil
	}
	stmts := append(d.dropViews(t.uid, ""), fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", key, to))
	delete(d.tables, key)
	d.tables[to+"."+bare] = t
	return sqls(stmts...)
}

func (g *generator) createView(d *database, key string) []op {
	t := d.tables[key]
	v := &view{table: t.uid, modulus: 2 + g.rng.Intn(3), columns: []string{"pk"}}
	for _, c := range t.columns[1:] {
		if g.rng.Intn(2) == 0 {
			v.columns = append(v.columns, c.name)
		}
	}
	name := g.newName(d, "v")
	d.views[name] = v
	return sqls(fmt.Sprintf("CREATE VIEW %s AS SELECT %s FROM %s WHERE pk %% %d = 0", name, strings.Join(v.columns, ", "), key, v.modulus))
}

func (g *generator) changeEnum(d *database) []op {
	if len(d.enums) == 0 || len(d.enums) < 3 && g.rng.Intn(3) == 0 {
		name := "public." + g.name("e")
		labels := []string{"a" + fmt.Sprint(g.number()), "it's", "ü"}
		d.enums[name] = labels
		return sqls(fmt.Sprintf("CREATE TYPE %s AS ENUM ('%s', 'it''s', 'ü')", name, labels[0]))
	}
	name := pick(g.rng, sortedKeys(d.enums))
	labels := slices.Clone(d.enums[name])
	i := g.rng.Intn(len(labels))
	old := labels[i]
	fresh := g.name("L")
	if g.rng.Intn(2) == 0 {
		d.enums[name] = slices.Insert(labels, i, fresh)
		return sqls(fmt.Sprintf("ALTER TYPE %s ADD VALUE '%s' BEFORE %s", name, fresh, quote(old)))
	}
	labels[i] = fresh
	d.enums[name] = labels
	for _, k := range sortedKeys(d.tables) {
		for ci, c := range d.tables[k].columns {
			if c.enum != name {
				continue
			}
			t := d.edit(k)
			for rk, r := range t.rows {
				if r[ci] == old {
					r = slices.Clone(r)
					r[ci] = fresh
					t.rows[rk] = r
				}
			}
		}
	}
	return sqls(fmt.Sprintf("ALTER TYPE %s RENAME VALUE %s TO '%s'", name, quote(old), fresh))
}

func (g *generator) changeSequence(d *database) []op {
	if len(d.seqs) > 1 && g.rng.Intn(2) == 0 {
		name := pick(g.rng, sortedKeys(d.seqs))
		delete(d.seqs, name)
		return sqls("DROP SEQUENCE " + name)
	}
	q := &sequence{start: int64(g.rng.Intn(1000)), increment: int64(1 + g.rng.Intn(9))}
	q.last = q.start
	name := g.newName(d, "q")
	d.seqs[name] = q
	return sqls(fmt.Sprintf("CREATE SEQUENCE %s MINVALUE 0 START %d INCREMENT %d", name, q.start, q.increment))
}

func (g *generator) changeSchema(d *database) []op {
	own := slices.DeleteFunc(sortedKeys(d.schemas), func(s string) bool { return s == "public" || s+"." == writersSchema })
	if len(own) == 0 || len(own) < 3 && g.rng.Intn(2) == 0 {
		name := g.name("s")
		d.schemas[name] = true
		return sqls("CREATE SCHEMA " + name)
	}
	name := pick(g.rng, own)
	prefix := name + "."
	if g.rng.Intn(2) == 0 {
		renamed := g.name("s")
		stmts := []string{}
		for _, k := range sortedKeys(d.tables) {
			if strings.HasPrefix(k, prefix) {
				stmts = append(stmts, d.dropViews(d.tables[k].uid, "")...)
			}
		}
		rename(d.tables, prefix, renamed+".")
		rename(d.seqs, prefix, renamed+".")
		rename(d.views, prefix, renamed+".")
		delete(d.schemas, name)
		d.schemas[renamed] = true
		return sqls(append(stmts, fmt.Sprintf("ALTER SCHEMA %s RENAME TO %s", name, renamed))...)
	}
	for _, k := range sortedKeys(d.tables) {
		if strings.HasPrefix(k, prefix) {
			d.dropViews(d.tables[k].uid, "")
			d.forget(k)
		}
	}
	for _, k := range sortedKeys(d.views) {
		if strings.HasPrefix(k, prefix) {
			delete(d.views, k)
		}
	}
	for _, k := range sortedKeys(d.seqs) {
		if strings.HasPrefix(k, prefix) {
			delete(d.seqs, k)
		}
	}
	delete(d.schemas, name)
	return sqls("DROP SCHEMA " + name + " CASCADE")
}

func rename[V any](m map[string]V, prefix, to string) {
	for _, k := range sortedKeys(m) {
		if rest, ok := strings.CutPrefix(k, prefix); ok {
			m[to+rest] = m[k]
			delete(m, k)
		}
	}
}
