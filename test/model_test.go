package test

import (
	"fmt"
	"math/rand"
	"sort"
	"strings"
)

// model is a plain picture of a database, kept beside the real one. It knows
// nothing of how Holdfast stores anything: values are the text that PostgreSQL
// prints for them.
type model struct {
	tables map[string]*modelTable
}

type modelTable struct {
	columns []modelColumn // the first is the primary key
	rows    map[int][]string
	indexes []string
}

type modelColumn struct {
	name, typ string
	index     string // of an index on it, or ""
}

func newModel() *model { return &model{tables: make(map[string]*modelTable)} }

// clone returns a picture that later changes leave alone.
func (m *model) clone() *model {
	c := newModel()
	for name, t := range m.tables {
		nt := &modelTable{columns: append([]modelColumn(nil), t.columns...), rows: make(map[int][]string, len(t.rows)),
			indexes: append([]string(nil), t.indexes...)}
		for pk, row := range t.rows {
			nt.rows[pk] = row // Rows are replaced, never changed.
		}
		c.tables[name] = nt
	}
	return c
}

// dump prints the picture the way dumpDatabase prints the real thing.
func (m *model) dump() string {
	var b strings.Builder
	for _, name := range m.names() {
		t := m.tables[name]
		fmt.Fprintf(&b, "%s(", name)
		for _, c := range t.columns {
			fmt.Fprintf(&b, "%s ", c.name)
		}
		fmt.Fprintf(&b, ") %d rows\n", len(t.rows))
		var lines []string
		for _, row := range t.rows {
			lines = append(lines, "  "+strings.Join(row, "|"))
		}
		sort.Strings(lines)
		for _, l := range lines {
			b.WriteString(l + "\n")
		}
	}
	return b.String()
}

func (m *model) names() []string {
	var names []string
	for name := range m.tables {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

var modelTypes = []string{
	"INT", "BIGINT", "TEXT", "NUMERIC(12,2)", "BOOL", "TIMESTAMPTZ", "UUID", "BYTEA", "JSONB", "TEXT[]", "FLOAT8", "DATE", "VARCHAR(40)",
}

// randomLiteral returns a value as PostgreSQL prints it.
func randomLiteral(rng *rand.Rand, typ string) string {
	if rng.Intn(8) == 0 {
		return "NULL"
	}
	words := []string{"ash", "Birke", "cèdre", "δάφνη", "榆樹", "it's", `a"b`, `back\slash`, " spaced ", ""}
	word := words[rng.Intn(len(words))]
	switch typ {
	case "INT":
		return fmt.Sprint(int32(rng.Uint32()))
	case "BIGINT":
		return fmt.Sprint(int64(rng.Uint64()))
	case "TEXT", "VARCHAR(40)":
		return word + strings.Repeat("x", rng.Intn(20))
	case "NUMERIC(12,2)":
		return fmt.Sprintf("%d.%02d", rng.Intn(1e6), rng.Intn(100))
	case "BOOL":
		return []string{"t", "f"}[rng.Intn(2)]
	case "TIMESTAMPTZ":
		return fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d.%05d1+00", 1900+rng.Intn(200), 1+rng.Intn(12), 1+rng.Intn(28),
			rng.Intn(24), rng.Intn(60), rng.Intn(60), rng.Intn(1e5))
	case "DATE":
		return fmt.Sprintf("%04d-%02d-%02d", 1900+rng.Intn(200), 1+rng.Intn(12), 1+rng.Intn(28))
	case "UUID":
		return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", rng.Uint32(), rng.Intn(1<<16), rng.Intn(1<<16), rng.Intn(1<<16), rng.Int63n(1<<48))
	case "BYTEA":
		b := make([]byte, rng.Intn(20))
		rng.Read(b)
		return fmt.Sprintf(`\x%x`, b)
	case "JSONB":
		return fmt.Sprintf(`{"a": %d, "b": [true, null, "%d"]}`, rng.Intn(1000), rng.Intn(10))
	case "TEXT[]":
		return []string{"{}", "{a,b}", `{"two words",NULL,c}`}[rng.Intn(3)]
	case "FLOAT8":
		return fmt.Sprint(float64(rng.Intn(1<<20)) / 8)
	}
	panic(typ)
}

// quote writes a value as an SQL literal.
func quote(v string) string {
	if v == "NULL" {
		return v
	}
	return "'" + strings.ReplaceAll(v, "'", "''") + "'"
}

// step changes the model at random and returns the statements of one transaction
// that change the real database in the same way.
func (m *model) step(rng *rand.Rand) []string {
	names := m.names()
	if len(names) == 0 || len(names) < 4 && rng.Intn(12) == 0 {
		return m.createTable(rng)
	}
	name := names[rng.Intn(len(names))]
	t := m.tables[name]
	switch rng.Intn(30) {
	case 0:
		delete(m.tables, name)
		return []string{"DROP TABLE " + name}
	case 1:
		t.rows = make(map[int][]string)
		return []string{"TRUNCATE " + name}
	case 2, 3:
		return t.addColumn(rng, name)
	case 4:
		return t.dropColumn(rng, name)
	case 5, 6:
		return t.createIndex(rng, name)
	case 7:
		renamed := fmt.Sprintf("t%d", rng.Intn(1e9))
		delete(m.tables, name)
		m.tables[renamed] = t
		return []string{fmt.Sprintf("ALTER TABLE %s RENAME TO %s", name, renamed)}
	case 8:
		return t.dropIndex(rng)
	}
	var stmts []string
	for range 1 + rng.Intn(3) {
		name = names[rng.Intn(len(names))]
		stmts = append(stmts, m.tables[name].write(rng, name)...)
	}
	return stmts
}

func (m *model) createTable(rng *rand.Rand) []string {
	name := fmt.Sprintf("t%d", rng.Intn(1e9))
	t := &modelTable{columns: []modelColumn{{name: "pk", typ: "INT"}}, rows: make(map[int][]string)}
	defs := "pk INT PRIMARY KEY"
	for i := range 1 + rng.Intn(5) {
		c := modelColumn{name: fmt.Sprintf("c%d", i), typ: modelTypes[rng.Intn(len(modelTypes))]}
		t.columns = append(t.columns, c)
		defs += fmt.Sprintf(", %s %s", c.name, c.typ)
	}
	m.tables[name] = t
	return []string{fmt.Sprintf("CREATE TABLE %s (%s)", name, defs)}
}

func (t *modelTable) addColumn(rng *rand.Rand, name string) []string {
	c := modelColumn{name: fmt.Sprintf("d%d", rng.Intn(1e9)), typ: modelTypes[rng.Intn(len(modelTypes))]}
	def := randomLiteral(rng, c.typ)
	t.columns = append(t.columns, c)
	for pk, row := range t.rows {
		t.rows[pk] = append(append([]string(nil), row...), def)
	}
	return []string{fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s DEFAULT %s", name, c.name, c.typ, quote(def))}
}

func (t *modelTable) dropColumn(rng *rand.Rand, name string) []string {
	if len(t.columns) < 3 {
		return nil
	}
	i := 1 + rng.Intn(len(t.columns)-1)
	c := t.columns[i]
	t.columns = append(append([]modelColumn(nil), t.columns[:i]...), t.columns[i+1:]...)
	for pk, row := range t.rows {
		t.rows[pk] = append(append([]string(nil), row[:i]...), row[i+1:]...)
	}
	return []string{fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", name, c.name)}
}

func (t *modelTable) createIndex(rng *rand.Rand, name string) []string {
	i := rng.Intn(len(t.columns))
	c := &t.columns[i]
	if c.typ == "JSONB" || c.typ == "TEXT[]" || c.index != "" {
		return nil
	}
	c.index = fmt.Sprintf("i%d", rng.Intn(1e9))
	return []string{fmt.Sprintf("CREATE INDEX %s ON %s (%s)", c.index, name, c.name)}
}

func (t *modelTable) dropIndex(rng *rand.Rand) []string {
	c := &t.columns[rng.Intn(len(t.columns))]
	if c.index == "" {
		return nil
	}
	stmt := "DROP INDEX " + c.index
	c.index = ""
	return []string{stmt}
}

// write inserts, updates or deletes rows.
func (t *modelTable) write(rng *rand.Rand, name string) []string {
	const keys = 400
	from := rng.Intn(keys)
	to := from + rng.Intn(40)
	switch rng.Intn(6) {
	case 0:
		for pk := from; pk <= to; pk++ {
			delete(t.rows, pk)
		}
		return []string{fmt.Sprintf("DELETE FROM %s WHERE pk BETWEEN %d AND %d", name, from, to)}
	case 1, 2:
		i := 1 + rng.Intn(len(t.columns)-1)
		v := randomLiteral(rng, t.columns[i].typ)
		for pk := from; pk <= to; pk++ {
			if row, ok := t.rows[pk]; ok {
				row = append([]string(nil), row...)
				row[i] = v
				t.rows[pk] = row
			}
		}
		return []string{fmt.Sprintf("UPDATE %s SET %s = %s WHERE pk BETWEEN %d AND %d", name, t.columns[i].name, quote(v), from, to)}
	}
	// Insert what is missing and replace what is there, in one statement.
	var values []string
	for pk := from; pk <= to; pk++ {
		row := []string{fmt.Sprint(pk)}
		lits := []string{fmt.Sprint(pk)}
		for _, c := range t.columns[1:] {
			v := randomLiteral(rng, c.typ)
			row, lits = append(row, v), append(lits, quote(v))
		}
		t.rows[pk] = row
		values = append(values, "("+strings.Join(lits, ", ")+")")
	}
	var sets []string
	for _, c := range t.columns[1:] {
		sets = append(sets, fmt.Sprintf("%s = excluded.%s", c.name, c.name))
	}
	return []string{fmt.Sprintf("INSERT INTO %s VALUES %s ON CONFLICT (pk) DO UPDATE SET %s",
		name, strings.Join(values, ", "), strings.Join(sets, ", "))}
}
