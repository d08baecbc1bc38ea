package exec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/parser"
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/sessiondata"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// newFlow returns a flow whose budget is limitBytes (0: none). When the test
// ends, all memory must have been given back and no spill file be left open.
func newFlow(t testing.TB, limitBytes int64) *Flow {
	t.Helper()
	builtins.Register()
	pool := NewPool(limitBytes)
	f := NewFlow(&tree.EvalContext{
		Context:      context.Background(),
		SessionData:  &sessiondata.SessionData{DataConversion: sessiondata.DataConversionConfig{Location: time.UTC}},
		TxnTimestamp: time.Unix(1e9, 0), StmtTimestamp: time.Unix(1e9, 0),
	}, NewBudget(pool, limitBytes), t.TempDir())
	before := openFiles()
	t.Cleanup(func() {
		if f.Mem.Used() != 0 {
			t.Errorf("%d bytes of the budget were not given back", f.Mem.Used())
		}
		f.Mem.Close()
		if pool.Used() != 0 {
			t.Errorf("%d bytes of the pool were not given back", pool.Used())
		}
		if n := openFiles(); n > before {
			t.Errorf("%d files left open", n-before)
		}
		if left, _ := os.ReadDir(f.TempDir); len(left) > 0 {
			t.Errorf("files left in the temporary directory: %v", left)
		}
	})
	return f
}

// openFiles counts this process's deleted but open files.
func openFiles() int {
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range ents {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(target, "holdfast-spill") {
			n++
		}
	}
	return n
}

// parse type checks an expression over columns @1, @2… of the given types.
func parse(t testing.TB, expr string, cols ...*types.T) tree.TypedExpr {
	t.Helper()
	var p parser.Parser
	stmts, err := p.ParseWithInt("SELECT "+expr, types.Int4)
	if err != nil {
		t.Fatal(err)
	}
	e := stmts[0].AST.(*tree.Select).Select.(*tree.SelectClause).Exprs[0].Expr
	e, err = tree.SimpleVisit(e, func(e tree.Expr) (bool, tree.Expr, error) {
		switch e := e.(type) {
		case *tree.IndexedVar:
			return false, tree.NewTypedOrdinalReference(e.Idx, cols[e.Idx]), nil
		case *tree.FuncExpr:
			if e.WindowDef != nil { // Not walked into.
				for _, o := range e.WindowDef.OrderBy {
					o.Expr = tree.NewTypedOrdinalReference(o.Expr.(*tree.IndexedVar).Idx, cols[o.Expr.(*tree.IndexedVar).Idx])
				}
			}
		}
		return true, e, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sema := tree.MakeSemaContext()
	te, err := builtins.TypeCheck(&sema, e, types.Any)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return te
}

func call(t testing.TB, expr string, cols ...*types.T) *tree.FuncExpr {
	t.Helper()
	fe, ok := parse(t, expr, cols...).(*tree.FuncExpr)
	if !ok {
		t.Fatalf("%s is no call", expr)
	}
	return fe
}

// table is rows of (a INT8, b TEXT, c FLOAT8) with many duplicates and NULLs.
var tableTypes = []*types.T{types.Int, types.String, types.Float}

func randomTable(rng *rand.Rand, n, keys int) []tree.Datums {
	rows := make([]tree.Datums, n)
	for i := range rows {
		rows[i] = tree.Datums{tree.NewDInt(tree.DInt(rng.IntN(keys))), tree.NewDString(fmt.Sprintf("s%d", rng.IntN(keys))), tree.NewDFloat(tree.DFloat(rng.IntN(keys)) / 2)}
		for c := range rows[i] {
			if rng.IntN(10) == 0 {
				rows[i][c] = tree.DNull
			}
		}
	}
	return rows
}

func key(row tree.Datums) string {
	parts := make([]string, len(row))
	for i, d := range row {
		parts[i] = tree.AsStringWithFlags(d, tree.FmtBareStrings)
	}
	return strings.Join(parts, "|")
}

func keys(rows []tree.Datums) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = key(r)
	}
	return out
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func diff(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		g, w := "(none)", "(none)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("%s: row %d of %d/%d: got %s want %s", what, i, len(got), len(want), g, w)
		}
	}
}

func collect(t *testing.T, op Operator) []tree.Datums {
	t.Helper()
	rows, err := Collect(context.Background(), op)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// eachBudget runs a test without limit and with budgets small enough to spill.
func eachBudget(t *testing.T, limits []int64, f func(t *testing.T, flow *Flow, rng *rand.Rand)) {
	for _, limit := range limits {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("limit=%d/seed=%d", limit, seed), func(t *testing.T) {
				f(t, newFlow(t, limit), rand.New(rand.NewPCG(seed, 1)))
			})
		}
	}
}

func nullEq(a, b tree.Datum) bool {
	return a != tree.DNull && b != tree.DNull && builtins.Compare(nil, a, b) == 0
}

// modelJoin is the join by its definition.
func modelJoin(left, right []tree.Datums, kind JoinType, match func(l, r tree.Datums) bool, nr int) []string {
	var out []string
	nulls := func(n int) tree.Datums {
		d := make(tree.Datums, n)
		setNulls(d)
		return d
	}
	used := make([]bool, len(right))
	for _, l := range left {
		found := false
		for j, r := range right {
			if match(l, r) {
				found, used[j] = true, true
				if !kind.leftOnly() {
					out = append(out, key(slices.Concat(l, r)))
				}
			}
		}
		switch {
		case kind == SemiJoin && found, kind == AntiJoin && !found:
			out = append(out, key(l))
		case kind.leftOuter() && !found:
			out = append(out, key(slices.Concat(l, nulls(nr))))
		}
	}
	if kind.rightOuter() {
		for j, r := range right {
			if !used[j] {
				out = append(out, key(slices.Concat(nulls(len(left[0])), r)))
			}
		}
	}
	return sorted(out)
}

func TestJoins(t *testing.T) {
	limits := []int64{0, 10 << 10}
	eachBudget(t, limits, func(t *testing.T, f *Flow, rng *rand.Rand) {
		left, right := randomTable(rng, 150, 25), randomTable(rng, 110, 25)
		six := append(slices.Clone(tableTypes), tableTypes...)
		on := parse(t, "@3 <= @6", six...)
		for _, kind := range []JoinType{InnerJoin, LeftJoin, RightJoin, FullJoin, SemiJoin, AntiJoin} {
			for _, residual := range []bool{false, true} {
				var pred tree.TypedExpr
				match := func(l, r tree.Datums) bool { return nullEq(l[0], r[0]) && nullEq(l[1], r[1]) }
				full := parse(t, "@1 = @4 and @2 = @5", six...)
				if residual {
					pred = on
					inner := match
					match = func(l, r tree.Datums) bool {
						return inner(l, r) && l[2] != tree.DNull && r[2] != tree.DNull && builtins.Compare(nil, l[2], r[2]) <= 0
					}
					full = parse(t, "@1 = @4 and @2 = @5 and @3 <= @6", six...)
				}
				want := modelJoin(left, right, kind, match, 3)
				what := fmt.Sprintf("%s residual=%t", kind, residual)
				l, r := NewRows(tableTypes, left), NewRows(tableTypes, right)
				diff(t, "hash "+what, sorted(keys(collect(t, NewHashJoin(f, l, r, kind, []int{0, 1}, []int{0, 1}, pred)))), want)
				diff(t, "nested loop "+what, sorted(keys(collect(t, NewNestedLoopJoin(f, l, r, kind, full)))), want)
				ord := Ordering{Order(0, false), Order(1, true)}
				diff(t, "merge "+what, sorted(keys(collect(t, NewMergeJoin(f, NewSort(f, l, ord), NewSort(f, r, ord), kind, ord, ord, pred)))), want)
				if !kind.rightOuter() {
					outer := &OuterRow{}
					inner := NewFilter(f, r, tree.NewTypedAndExpr(
						tree.NewTypedComparisonExpr(tree.EQ, outer.Ref(0, types.Int), tree.NewTypedOrdinalReference(0, types.Int)),
						tree.NewTypedComparisonExpr(tree.EQ, outer.Ref(1, types.String), tree.NewTypedOrdinalReference(1, types.String))))
					diff(t, "apply "+what, sorted(keys(collect(t, NewApply(f, l, inner, outer, kind, pred)))), want)
				}
			}
		}
	})
}

func TestNullAwareAntiJoin(t *testing.T) {
	f := newFlow(t, 0)
	col := func(vals ...any) []tree.Datums {
		var rows []tree.Datums
		for _, v := range vals {
			if v == nil {
				rows = append(rows, tree.Datums{tree.DNull})
			} else {
				rows = append(rows, tree.Datums{tree.NewDInt(tree.DInt(v.(int)))})
			}
		}
		return rows
	}
	typ := []*types.T{types.Int}
	for _, tc := range []struct {
		name        string
		left, right []tree.Datums
		want        []string
	}{
		{"plain", col(1, 2, nil), col(2, 3), []string{"1"}},
		{"null on the right", col(1, 2, nil), col(2, nil), nil},
		{"empty right", col(1, nil), nil, []string{"1", "NULL"}},
	} {
		got := keys(collect(t, NewHashJoin(f, NewRows(typ, tc.left), NewRows(typ, tc.right), NullAwareAntiJoin, []int{0}, []int{0}, nil)))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v want %v", tc.name, got, tc.want)
		}
	}
}

func TestSort(t *testing.T) {
	eachBudget(t, []int64{0, 4 << 10, 2000}, func(t *testing.T, f *Flow, rng *rand.Rand) {
		rows := randomTable(rng, 3000, 50)
		for i := range rows {
			rows[i] = append(rows[i], tree.NewDInt(tree.DInt(i)))
		}
		typs := append(slices.Clone(tableTypes), types.Int)
		for _, ord := range []Ordering{
			{Order(0, false)}, {Order(1, true), Order(0, false)}, {{Col: 2, NullsFirst: true}, {Col: 0, Desc: true}},
		} {
			want := slices.Clone(rows)
			slices.SortStableFunc(want, func(a, b tree.Datums) int { return ord.Compare(f.Eval, a, b) })
			op := NewSort(f, NewRows(typs, rows), ord)
			diff(t, "sort", keys(collect(t, op)), keys(want))
			diff(t, "sort again", keys(collect(t, op)), keys(want))
			top := NewTopN(f, NewRows(typs, rows), ord, tree.NewDInt(10), tree.NewDInt(5))
			diff(t, "top n", keys(collect(t, top)), keys(want[5:15]))
		}
	})
}

func TestSortNulls(t *testing.T) {
	f := newFlow(t, 0)
	rows := []tree.Datums{{tree.DNull}, {tree.NewDInt(2)}, {tree.NewDInt(1)}}
	for _, tc := range []struct {
		ord  OrderCol
		want []string
	}{
		{Order(0, false), []string{"1", "2", "NULL"}},
		{Order(0, true), []string{"NULL", "2", "1"}},
		{OrderCol{NullsFirst: true}, []string{"NULL", "1", "2"}},
		{OrderCol{Desc: true}, []string{"2", "1", "NULL"}},
	} {
		got := keys(collect(t, NewSort(f, NewRows([]*types.T{types.Int}, rows), Ordering{tc.ord})))
		if !slices.Equal(got, tc.want) {
			t.Errorf("%+v: got %v want %v", tc.ord, got, tc.want)
		}
	}
}

func TestDistinct(t *testing.T) {
	eachBudget(t, []int64{0, 10 << 10, 3000}, func(t *testing.T, f *Flow, rng *rand.Rand) {
		rows := randomTable(rng, 5000, 12)
		seen := map[string]bool{}
		var want []string
		for _, r := range rows {
			if k := key(r); !seen[k] {
				seen[k] = true
				want = append(want, k)
			}
		}
		got := keys(collect(t, NewDistinct(f, NewRows(tableTypes, rows), []int{0, 1, 2})))
		diff(t, "distinct", sorted(got), sorted(want))
		ord := Ordering{Order(1, false), Order(0, true), Order(2, false)}
		on := collect(t, NewOrderedDistinct(f, NewSort(f, NewRows(tableTypes, rows), ord), []int{1}))
		srt := collect(t, NewSort(f, NewRows(tableTypes, rows), ord))
		want = nil
		for i, r := range srt {
			if i == 0 || key(r[1:2]) != key(srt[i-1][1:2]) {
				want = append(want, key(r))
			}
		}
		diff(t, "distinct on", keys(on), want)
	})
}

func TestAggregate(t *testing.T) {
	eachBudget(t, []int64{0, 60 << 10}, func(t *testing.T, f *Flow, rng *rand.Rand) {
		rows := randomTable(rng, 3000, 60)
		specs := func() []AggSpec {
			return []AggSpec{
				{Func: call(t, "count(*)"), Filter: -1},
				{Func: call(t, "count(@1)", tableTypes...), Args: []int{0}, Filter: -1},
				{Func: call(t, "sum(@1)", tableTypes...), Args: []int{0}, Filter: -1},
				{Func: call(t, "min(@3)", nil, nil, types.Float), Args: []int{2}, Filter: -1},
				{Func: call(t, "count(DISTINCT @1)", tableTypes...), Args: []int{0}, Filter: -1},
			}
		}
		type state struct {
			n, na, sum int64
			min        tree.Datum
			distinct   map[string]bool
			key        tree.Datum
		}
		model := map[string]*state{}
		var order []string
		for _, r := range rows {
			k := key(r[1:2])
			s := model[k]
			if s == nil {
				s = &state{min: tree.DNull, distinct: map[string]bool{}, key: r[1]}
				model[k] = s
				order = append(order, k)
			}
			s.n++
			if r[0] != tree.DNull {
				s.na++
				s.sum += int64(*r[0].(*tree.DInt))
				s.distinct[key(r[:1])] = true
			}
			if r[2] != tree.DNull && (s.min == tree.DNull || builtins.Compare(nil, r[2], s.min) < 0) {
				s.min = r[2]
			}
		}
		var want []string
		for _, k := range order {
			s := model[k]
			sum := "NULL"
			if s.na > 0 {
				sum = fmt.Sprint(s.sum)
			}
			want = append(want, fmt.Sprintf("%s|%d|%d|%s|%s|%d", key(tree.Datums{s.key}), s.n, s.na, sum, key(tree.Datums{s.min}), len(s.distinct)))
		}
		in := NewRows(tableTypes, rows)
		diff(t, "hash", sorted(keys(collect(t, NewHashAggregate(f, in, []int{1}, specs())))), sorted(want))
		srt := NewSort(f, in, Ordering{Order(1, false)})
		diff(t, "ordered", sorted(keys(collect(t, NewOrderedAggregate(f, srt, []int{1}, specs())))), sorted(want))
	})
}

func TestAggregateForms(t *testing.T) {
	f := newFlow(t, 0)
	typs := []*types.T{types.Int4, types.String, types.Bool}
	mk := func(a int, b string, c bool) tree.Datums {
		return tree.Datums{tree.NewDInt(tree.DInt(a)), tree.NewDString(b), tree.MakeDBool(tree.DBool(c))}
	}
	rows := []tree.Datums{mk(3, "c", true), mk(1, "a", false), mk(2, "b", true), mk(2, "b", false)}
	for _, tc := range []struct {
		name string
		spec AggSpec
		want string
	}{
		{"sum of int4 is bigint", AggSpec{Func: call(t, "sum(@1)", typs...), Args: []int{0}, Filter: -1}, "8"},
		{"avg of int has 16 digits", AggSpec{Func: call(t, "avg(@1)", typs...), Args: []int{0}, Filter: -1}, "2.0000000000000000"},
		{"filter", AggSpec{Func: call(t, "sum(@1) FILTER (WHERE @3)", typs...), Args: []int{0}, Filter: 2}, "5"},
		{"order by", AggSpec{Func: call(t, "string_agg(@2, ',')", typs...), Args: []int{1, 1}, Filter: -1, Order: Ordering{Order(0, true)}}, "cbbbbaa"},
		{"distinct order by", AggSpec{Func: call(t, "array_agg(DISTINCT @1)", typs...), Args: []int{0}, Filter: -1, Order: Ordering{Order(0, false)}}, "ARRAY[1,2,3]"},
		{"bool_and", AggSpec{Func: call(t, "bool_and(@3)", typs...), Args: []int{2}, Filter: -1}, "false"},
		{"bool_or", AggSpec{Func: call(t, "bool_or(@3)", typs...), Args: []int{2}, Filter: -1}, "true"},
		{"stddev", AggSpec{Func: call(t, "stddev(@1)", typs...), Args: []int{0}, Filter: -1}, "0.81649658092772603273"},
		{"variance", AggSpec{Func: call(t, "var_pop(@1)", typs...), Args: []int{0}, Filter: -1}, "0.50000000000000000000"},
	} {
		got := keys(collect(t, NewHashAggregate(f, NewRows(typs, rows), nil, []AggSpec{tc.spec})))
		if len(got) != 1 || got[0] != tc.want {
			t.Errorf("%s: got %v want %s", tc.name, got, tc.want)
		}
	}
	if typ := call(t, "sum(@1)", typs...).ResolvedType(); !typ.Identical(types.Int) {
		t.Errorf("sum(int4) is %s", typ)
	}
	if typ := call(t, "sum(@1)", types.Int).ResolvedType(); typ.Family() != types.DecimalFamily {
		t.Errorf("sum(int8) is %s", typ)
	}
	// No rows: a scalar aggregate yields one row, a grouped one none.
	count := []AggSpec{{Func: call(t, "count(*)"), Filter: -1}}
	if got := keys(collect(t, NewHashAggregate(f, NewRows(typs, nil), nil, count))); !slices.Equal(got, []string{"0"}) {
		t.Errorf("scalar: %v", got)
	}
	if got := keys(collect(t, NewOrderedAggregate(f, NewRows(typs, nil), nil, count))); !slices.Equal(got, []string{"0"}) {
		t.Errorf("scalar, ordered: %v", got)
	}
	if got := collect(t, NewHashAggregate(f, NewRows(typs, nil), []int{0}, count)); len(got) != 0 {
		t.Errorf("grouped: %v", got)
	}
}

func TestSetOps(t *testing.T) {
	eachBudget(t, []int64{0, 2000}, func(t *testing.T, f *Flow, rng *rand.Rand) {
		one := func(n int) []tree.Datums {
			rows := randomTable(rng, n, 12)
			for i := range rows {
				rows[i] = rows[i][:2]
			}
			return rows
		}
		typs := tableTypes[:2]
		left, right := one(400), one(300)
		count := func(rows []tree.Datums) map[string]int {
			m := map[string]int{}
			for _, r := range rows {
				m[key(r)]++
			}
			return m
		}
		lc, rc := count(left), count(right)
		for _, kind := range []SetOpKind{Intersect, Except} {
			for _, all := range []bool{false, true} {
				var want []string
				for k, n := range lc {
					m := rc[k]
					times := 0
					switch {
					case kind == Intersect && all:
						times = min(n, m)
					case kind == Intersect && m > 0, kind == Except && !all && m == 0:
						times = 1
					case kind == Except && all:
						times = max(n-m, 0)
					}
					for range times {
						want = append(want, k)
					}
				}
				got := keys(collect(t, NewSetOp(f, kind, all, NewRows(typs, left), NewRows(typs, right))))
				diff(t, fmt.Sprint(kind, all), sorted(got), sorted(want))
			}
		}
		got := keys(collect(t, NewConcat(typs, NewRows(typs, left), NewRows(typs, right))))
		diff(t, "concat", got, append(keys(left), keys(right)...))
	})
}

func TestSpoolAndRecursive(t *testing.T) {
	eachBudget(t, []int64{0, 3000}, func(t *testing.T, f *Flow, rng *rand.Rand) {
		rows := randomTable(rng, 300, 20)
		s := NewSpool(f, NewRows(tableTypes, rows))
		a, b := s.Reader(), s.Reader()
		diff(t, "first reader", keys(collect(t, a)), keys(rows))
		diff(t, "second reader", keys(collect(t, b)), keys(rows))
		s.Close()

		// 1, then n+1 while n < 50; UNION drops what comes again.
		typ := []*types.T{types.Int}
		for _, all := range []bool{true, false} {
			w := NewWorkTable(f, typ)
			next := "@1 + 1"
			if !all {
				next = "(@1 + 1) % 50"
			}
			step := NewProject(f, NewFilter(f, w.Reader(), parse(t, "@1 < 50", types.Int)), []tree.TypedExpr{parse(t, next, types.Int)})
			op := NewRecursive(f, NewRows(typ, []tree.Datums{{tree.NewDInt(1)}}), step, w, all)
			if got := len(collect(t, op)); got != 50 {
				t.Errorf("all=%t: %d rows, want 50", all, got)
			}
		}
	})
}

func TestSubquery(t *testing.T) {
	f := newFlow(t, 0)
	typ := []*types.T{types.Int}
	var inner []tree.Datums
	for i := range 5 {
		inner = append(inner, tree.Datums{tree.NewDInt(tree.DInt(i))})
	}
	outer := &OuterRow{}
	less := tree.NewTypedComparisonExpr(tree.LT, tree.NewTypedOrdinalReference(0, types.Int), outer.Ref(0, types.Int))
	correlated := NewHashAggregate(f, NewFilter(f, NewRows(typ, inner), less), nil, []AggSpec{{Func: call(t, "count(*)"), Filter: -1}})
	sub := NewSubquery(f, correlated, ScalarSubquery, outer)
	got := keys(collect(t, NewProject(f, NewRows(typ, inner), []tree.TypedExpr{sub})))
	if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("correlated: got %v want %v", got, want)
	}
	one := NewSubquery(f, NewRows(typ, inner), ScalarSubquery, nil)
	_, err := f.EvalRow(one, nil)
	if pgerr.GetCode(err) != "21000" {
		t.Errorf("several rows: %v", err)
	}
	for kind, want := range map[SubqueryKind]string{ExistsSubquery: "true", ArraySubquery: "ARRAY[0,1,2,3,4]"} {
		d, err := f.EvalRow(NewSubquery(f, NewRows(typ, inner), kind, nil), nil)
		if err != nil || key(tree.Datums{d}) != want {
			t.Errorf("kind %d: got %v, %v want %s", kind, d, err, want)
		}
	}
	f.Mem.Shrink(f.Mem.Used()) // Kept values are released with the statement.
}

func TestProjectSet(t *testing.T) {
	f := newFlow(t, 0)
	one := NewRows(nil, []tree.Datums{{}})
	got := keys(collect(t, NewProjectSet(f, one, []*tree.FuncExpr{
		call(t, "generate_series(1, 3)"), call(t, "unnest(array['a','b'])"),
	}, false, true)))
	if want := []string{"1|a|1", "2|b|2", "3|NULL|3"}; !slices.Equal(got, want) {
		t.Errorf("side by side: got %v want %v", got, want)
	}
	got = keys(collect(t, NewProjectSet(f, one, []*tree.FuncExpr{call(t, `jsonb_each('{"a":1,"b":[2]}')`)}, true, false)))
	if want := []string{"a|1", "b|[2]"}; !slices.Equal(got, want) {
		t.Errorf("records: got %v want %v", got, want)
	}
	typ := []*types.T{types.Int}
	in := NewRows(typ, []tree.Datums{{tree.NewDInt(2)}, {tree.DNull}, {tree.NewDInt(0)}, {tree.NewDInt(1)}})
	got = keys(collect(t, NewProjectSet(f, in, []*tree.FuncExpr{call(t, "generate_series(1, @1)", types.Int)}, false, false)))
	if want := []string{"2|1", "2|2", "1|1"}; !slices.Equal(got, want) {
		t.Errorf("per row: got %v want %v", got, want)
	}
	if _, err := Collect(context.Background(), NewProjectSet(f, one, []*tree.FuncExpr{call(t, "generate_series(1, 3, 0)")}, false, false)); pgerr.GetCode(err) != "22023" {
		t.Errorf("step 0: %v", err)
	}
}

func TestMemoryLimit(t *testing.T) {
	f := newFlow(t, 4000)
	rows := randomTable(rand.New(rand.NewPCG(1, 1)), 1000, 2)
	agg := NewHashAggregate(f, NewRows(tableTypes, rows), nil, []AggSpec{{Func: call(t, "array_agg(@2)", tableTypes...), Args: []int{1}, Filter: -1}})
	_, err := Collect(context.Background(), agg)
	if pgerr.GetCode(err) != pgerr.OutOfMemory {
		t.Errorf("array_agg: %v", err)
	}
	// All rows of one key: dividing does not help a hash join.
	same := make([]tree.Datums, 500)
	for i := range same {
		same[i] = tree.Datums{tree.NewDInt(1)}
	}
	in := NewRows([]*types.T{types.Int}, same)
	_, err = Collect(context.Background(), NewHashJoin(f, in, in, InnerJoin, []int{0}, []int{0}, nil))
	if pgerr.GetCode(err) != pgerr.OutOfMemory {
		t.Errorf("hash join: %v", err)
	}
}

func TestCancel(t *testing.T) {
	f := newFlow(t, 0)
	ctx, cancel := context.WithCancel(context.Background())
	rows := randomTable(rand.New(rand.NewPCG(1, 1)), 3000, 2)
	op := NewNestedLoopJoin(f, NewRows(tableTypes, rows), NewRows(tableTypes, rows), InnerJoin, parse(t, "false"))
	defer op.Close()
	if err := op.Open(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := op.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
