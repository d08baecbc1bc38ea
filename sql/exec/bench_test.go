package exec

import (
	"context"
	"testing"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

const benchRows = 10000

func benchTable() ([]*types.T, []tree.Datums) {
	typs := []*types.T{types.Int4, types.Int4, types.String}
	rows := make([]tree.Datums, benchRows)
	for i := range rows {
		rows[i] = tree.Datums{tree.NewDInt(tree.DInt(i)), tree.NewDInt(tree.DInt(i % 100)), tree.NewDString("some text")}
	}
	return typs, rows
}

// benchOp reports the time per input row.
func benchOp(b *testing.B, mk func(f *Flow, in Operator, typs []*types.T) Operator) {
	f := newFlow(b, 0)
	typs, rows := benchTable()
	op := mk(f, NewRows(typs, rows), typs)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := Drain(context.Background(), op, func(tree.Datums) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

func BenchmarkFilter(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		return NewFilter(f, in, parse(b, "@2 < 50", typs...))
	})
}

func BenchmarkProject(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		return NewProject(f, in, []tree.TypedExpr{parse(b, "@1 + 1", typs...), parse(b, "@3", typs...)})
	})
}

func BenchmarkHashAggregate(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		return NewHashAggregate(f, in, []int{1}, []AggSpec{
			{Func: call(b, "count(*)"), Filter: -1}, {Func: call(b, "sum(@1)", typs...), Args: []int{0}, Filter: -1},
		})
	})
}

func BenchmarkHashJoin(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		_, rows := benchTable()
		return NewHashJoin(f, in, NewRows(typs, rows[:100]), InnerJoin, []int{1}, []int{0}, nil)
	})
}

func BenchmarkSort(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		return NewSort(f, in, Ordering{Order(1, false), Order(0, true)})
	})
}

func BenchmarkSortSpilled(b *testing.B) {
	f := newFlow(b, 256<<10)
	typs, rows := benchTable()
	op := NewSort(f, NewRows(typs, rows), Ordering{Order(1, false), Order(0, true)})
	for range b.N {
		if err := Drain(context.Background(), op, func(tree.Datums) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
}

func BenchmarkTopN(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		return NewTopN(f, in, Ordering{Order(1, true), Order(0, false)}, tree.NewDInt(10), nil)
	})
}

func BenchmarkWindow(b *testing.B) {
	benchOp(b, func(f *Flow, in Operator, typs []*types.T) Operator {
		return NewWindow(f, in, []WindowSpec{{
			Func: call(b, "sum(@1) OVER ()", typs...), Args: []int{0}, Filter: -1, Partition: []int{1}, Order: Ordering{Order(0, false)},
		}})
	})
}
