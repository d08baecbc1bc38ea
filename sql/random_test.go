package sql

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRandomAccessPaths compares queries that can use indexes with the same
// queries made opaque to the optimizer: conditions behind IS TRUE, orders behind
// an expression. SEED repeats a run.
func TestRandomAccessPaths(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newTestSession(t, newTestServer(t))
	mustExec(t, s, `CREATE TABLE t (a int, b int, c int NOT NULL, d text, id int, PRIMARY KEY (c, id),
		INDEX t_a (a), INDEX t_bd (b DESC, d), UNIQUE INDEX t_ub (b, id), INDEX t_d (d) STORING (a), UNIQUE INDEX t_ua (a, b))`)
	val := func(n int) string {
		if rng.IntN(5) == 0 {
			return "NULL"
		}
		return strconv.Itoa(rng.IntN(n) - n/2)
	}
	for i := range 300 {
		d := "NULL"
		if rng.IntN(6) > 0 {
			d = "'" + strings.Repeat(string(rune('a'+rng.IntN(3))), rng.IntN(3)+1) + "'"
		}
		mustExec(t, s, fmt.Sprintf("INSERT INTO t VALUES (%s, %s, %d, %s, %d) ON CONFLICT DO NOTHING", val(20), val(10), rng.IntN(7), d, i))
	}
	cond := func() string {
		switch rng.IntN(12) {
		case 0:
			return fmt.Sprintf("a = %d", rng.IntN(20)-10)
		case 1:
			return fmt.Sprintf("b %s %d", []string{"<", "<=", ">", ">=", "=", "<>"}[rng.IntN(6)], rng.IntN(10)-5)
		case 2:
			return fmt.Sprintf("c IN (%d, %d, NULL)", rng.IntN(7), rng.IntN(7))
		case 3:
			return fmt.Sprintf("d = '%s'", strings.Repeat(string(rune('a'+rng.IntN(3))), rng.IntN(3)+1))
		case 4:
			return fmt.Sprintf("d LIKE '%c%%'", 'a'+rune(rng.IntN(3)))
		case 5:
			return fmt.Sprintf("id BETWEEN %d AND %d", rng.IntN(300), rng.IntN(300))
		case 6:
			return []string{"a IS NULL", "b IS NOT NULL", "d IS NULL", "a IS NOT NULL"}[rng.IntN(4)]
		case 7:
			return fmt.Sprintf("a = ANY(ARRAY[%d, NULL, %d])", rng.IntN(20)-10, rng.IntN(20)-10)
		case 8:
			return fmt.Sprintf("(a > %d OR b IS NULL)", rng.IntN(20)-10)
		case 9:
			return fmt.Sprintf("d > '%c'", 'a'+rune(rng.IntN(3)))
		case 10:
			return fmt.Sprintf("(a, c) = (%d, %d)", rng.IntN(20)-10, rng.IntN(7))
		}
		return fmt.Sprintf("NOT (c = %d)", rng.IntN(7))
	}
	for range 400 {
		var conds []string
		for range rng.IntN(4) {
			conds = append(conds, cond())
		}
		where, opaque := "", ""
		if len(conds) > 0 {
			where = " WHERE " + strings.Join(conds, " AND ")
			opaque = " WHERE (" + strings.Join(conds, " AND ") + ") IS TRUE"
		}
		dir := func() string {
			return []string{"", " DESC", " NULLS FIRST", " DESC NULLS LAST"}[rng.IntN(4)]
		}
		var order, hidden []string
		for _, i := range rng.Perm(3)[:rng.IntN(3)] {
			d := dir()
			order = append(order, []string{"a", "b", "c"}[i]+d)
			hidden = append(hidden, []string{"a", "b", "c"}[i]+" + 0"+d)
		}
		order, hidden = append(order, "id"), append(hidden, "id + 0")
		limit := ""
		if rng.IntN(3) == 0 {
			limit = fmt.Sprintf(" LIMIT %d", rng.IntN(8))
		}
		cols := []string{"*", "a, id", "b, d, id", "count(*)", "max(a), min(b)", "d, a, c, id"}[rng.IntN(6)]
		q, naive := "SELECT "+cols+" FROM t"+where, "SELECT "+cols+" FROM t"+opaque
		if !strings.Contains(cols, "(") {
			q += " ORDER BY " + strings.Join(order, ", ") + limit
			naive += " ORDER BY " + strings.Join(hidden, ", ") + limit
		}
		got, want := textRows(s, mustExec(t, s, q)), textRows(s, mustExec(t, s, naive))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("%s\ngot  %q\nwant %q (by %s)\nplan\n%s", q, got, want, naive,
				strings.Join(textRows(s, mustExec(t, s, "EXPLAIN "+q)), "\n"))
		}
	}
	// Joins: whatever the method, the rows are those of the filtered product.
	for range 60 {
		on := []string{"x.a = y.b", "x.c = y.c AND x.id = y.id", "x.b = y.a AND x.c < y.c", "x.id = y.a", "x.a = y.a AND x.b = y.b"}[rng.IntN(5)]
		c := cond()
		where := " WHERE " + strings.NewReplacer("a ", "x.a ", "b ", "x.b ", "c ", "x.c ", "d ", "x.d ", "id ", "x.id ").Replace(" "+c)
		if strings.ContainsAny(c, "(") {
			where = fmt.Sprintf(" WHERE x.id < %d", rng.IntN(300))
		}
		kind := []string{"JOIN", "LEFT JOIN"}[rng.IntN(2)]
		q := "SELECT x.id, y.id FROM t x " + kind + " t y ON " + on + where + " ORDER BY 1, 2"
		naive := "SELECT x.id, y.id FROM t x " + kind + " t y ON (" + on + ") IS TRUE" + where + " ORDER BY 1, 2"
		got, want := textRows(s, mustExec(t, s, q)), textRows(s, mustExec(t, s, naive))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Fatalf("%s\ngot  %d rows %.300q\nwant %d rows %.300q\nplan\n%s", q, len(got), got, len(want), want,
				strings.Join(textRows(s, mustExec(t, s, "EXPLAIN "+q)), "\n"))
		}
	}
}
