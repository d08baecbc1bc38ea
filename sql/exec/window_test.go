package exec

import (
	"slices"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// TestWindow checks window functions on (grp, v) = (a: 1 2 2 4), (b: 5); the
// wanted values are PostgreSQL's.
func TestWindow(t *testing.T) {
	typs := []*types.T{types.String, types.Int4}
	var rows []tree.Datums
	for _, r := range []struct {
		g string
		v int
	}{{"a", 2}, {"b", 5}, {"a", 1}, {"a", 4}, {"a", 2}} {
		rows = append(rows, tree.Datums{tree.NewDString(r.g), tree.NewDInt(tree.DInt(r.v))})
	}
	for _, tc := range []struct {
		call string // of f(@2) OVER (PARTITION BY @1 ORDER BY @2 <frame>)
		args []int
		want []string // for a: 1 2 2 4, then b: 5
	}{
		{"row_number() OVER (ORDER BY @2)", nil, []string{"1", "2", "3", "4", "1"}},
		{"rank() OVER (ORDER BY @2)", nil, []string{"1", "2", "2", "4", "1"}},
		{"dense_rank() OVER (ORDER BY @2)", nil, []string{"1", "2", "2", "3", "1"}},
		{"percent_rank() OVER (ORDER BY @2)", nil, []string{"0.0", "0.3333333333333333", "0.3333333333333333", "1.0", "0.0"}},
		{"cume_dist() OVER (ORDER BY @2)", nil, []string{"0.25", "0.75", "0.75", "1.0", "1.0"}},
		{"lag(@2) OVER (ORDER BY @2)", []int{1}, []string{"NULL", "1", "2", "2", "NULL"}},
		{"lead(@2) OVER (ORDER BY @2)", []int{1}, []string{"2", "2", "4", "NULL", "NULL"}},
		{"first_value(@2) OVER (ORDER BY @2)", []int{1}, []string{"1", "1", "1", "1", "5"}},
		{"last_value(@2) OVER (ORDER BY @2)", []int{1}, []string{"1", "2", "2", "4", "5"}},
		{"sum(@2) OVER (ORDER BY @2)", []int{1}, []string{"1", "5", "5", "9", "5"}},
		{"sum(@2) OVER (ORDER BY @2 ROWS UNBOUNDED PRECEDING)", []int{1}, []string{"1", "3", "5", "9", "5"}},
		{"sum(@2) OVER (ORDER BY @2 ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)", []int{1}, []string{"3", "5", "8", "6", "5"}},
		{"sum(@2) OVER (ORDER BY @2 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)", []int{1}, []string{"9", "9", "9", "9", "5"}},
		{"sum(@2) OVER (ORDER BY @2 RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)", []int{1}, []string{"1", "5", "5", "4", "5"}},
		{"sum(@2) OVER (ORDER BY @2 RANGE BETWEEN 1 FOLLOWING AND 2 FOLLOWING)", []int{1}, []string{"4", "4", "4", "NULL", "NULL"}},
		{"sum(@2) OVER (ORDER BY @2 GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW)", []int{1}, []string{"1", "5", "5", "8", "5"}},
		{"count(*) OVER (ORDER BY @2 ROWS BETWEEN 2 FOLLOWING AND 3 FOLLOWING)", nil, []string{"2", "1", "0", "0", "0"}},
		{"sum(@2) OVER (ORDER BY @2 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW)", []int{1}, []string{"8", "7", "7", "5", "NULL"}},
		{"sum(@2) OVER (ORDER BY @2 ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE TIES)", []int{1}, []string{"9", "7", "7", "9", "5"}},
	} {
		for _, limit := range []int64{0, 2500} {
			f := newFlow(t, limit)
			fe := call(t, tc.call, typs...)
			op := NewWindow(f, NewRows(typs, rows), []WindowSpec{{
				Func: fe, Args: tc.args, Filter: -1, Partition: []int{0}, Order: Ordering{Order(1, false)}, Frame: fe.WindowDef.Frame,
			}})
			var got []string
			for _, r := range collect(t, op) {
				got = append(got, key(r[2:]))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%s, limit %d:\n got  %v\n want %v", tc.call, limit, got, tc.want)
			}
		}
	}
}

func TestWindowSeveralOrders(t *testing.T) {
	f := newFlow(t, 0)
	typs := []*types.T{types.Int4}
	rows := []tree.Datums{{tree.NewDInt(1)}, {tree.NewDInt(3)}, {tree.NewDInt(2)}}
	asc, desc := call(t, "row_number() OVER (ORDER BY @1)", typs...), call(t, "rank() OVER (ORDER BY @1 DESC)", typs...)
	op := NewWindow(f, NewRows(typs, rows), []WindowSpec{
		{Func: asc, Filter: -1, Order: Ordering{Order(0, false)}},
		{Func: desc, Filter: -1, Order: Ordering{Order(0, true)}},
		{Func: asc, Filter: -1, Order: Ordering{Order(0, false)}},
	})
	got := sorted(keys(collect(t, op)))
	if want := []string{"1|1|3|1", "2|2|2|2", "3|3|1|3"}; !slices.Equal(got, want) {
		t.Errorf("got %v want %v", got, want)
	}
	ntile := call(t, "ntile(2) OVER (ORDER BY @1)", typs...)
	withArg := NewProject(f, NewRows(typs, rows), []tree.TypedExpr{tree.NewTypedOrdinalReference(0, types.Int4), parse(t, "2")})
	got = keys(collect(t, NewWindow(f, withArg, []WindowSpec{{Func: ntile, Args: []int{1}, Filter: -1, Order: Ordering{Order(0, false)}}})))
	if want := []string{"1|2|1", "2|2|1", "3|2|2"}; !slices.Equal(got, want) {
		t.Errorf("ntile: got %v want %v", got, want)
	}
}
