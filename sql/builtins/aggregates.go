package builtins

import (
	"context"
	"math"
	"math/big"
	"sort"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/bitarray"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// agg is an aggregate as functions over its state, which Reset empties. size is
// the memory of what it has collected.
type agg struct {
	add    func(args ...tree.Datum) error
	result func() (tree.Datum, error)
	reset  func()
	size   func() int64
	args   []tree.Datum
}

func (a *agg) Add(_ context.Context, first tree.Datum, rest ...tree.Datum) error {
	a.args = append(append(a.args[:0], first), rest...)
	return a.add(a.args...)
}
func (a *agg) Result() (tree.Datum, error) { return a.result() }
func (a *agg) Reset(context.Context)       { a.reset() }
func (a *agg) Close(context.Context)       {}
func (a *agg) Size() int64 {
	if a.size == nil {
		return 128
	}
	return 128 + a.size()
}

// AggregateGrows says whether an aggregate collects its arguments, such that its
// memory grows with the number of rows.
func AggregateGrows(name string) bool {
	switch name {
	case "array_agg", "string_agg", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg",
		"percentile_cont", "percentile_disc", "mode":
		return true
	}
	return false
}

func defineAggregates(d definitions) {
	fixed := tree.FixedReturnType
	same := tree.IdentityReturnType(0)
	def := func(name string, args tree.TypeList, ret tree.ReturnTyper, mk func([]*types.T, *tree.EvalContext) tree.AggregateFunc) {
		d.aggregate(name, args, ret, mk)
	}
	def("count_rows", argTypes(), fixed(tInt), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &countAgg{rows: true} })
	def("count", argTypes(tAny), fixed(tInt), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &countAgg{} })
	for _, n := range []string{"min", "max"} {
		want := 1
		if n == "min" {
			want = -1
		}
		def(n, argTypes(tAny), textual, func(_ []*types.T, ctx *tree.EvalContext) tree.AggregateFunc { return &extremeAgg{ctx: ctx, want: want} })
	}
	def("any_value", argTypes(tAny), same, func(_ []*types.T, ctx *tree.EvalContext) tree.AggregateFunc { return &extremeAgg{ctx: ctx, want: 2} })
	sumInt := func(args []tree.TypedExpr) *types.T {
		if len(args) > 0 && intWidth(args[0].ResolvedType()) < 64 {
			return tInt
		}
		return tDec
	}
	def("sum", argTypes(tInt), sumInt, func(t []*types.T, _ *tree.EvalContext) tree.AggregateFunc {
		return &intSumAgg{asInt: len(t) > 0 && intWidth(t[0]) < 64}
	})
	def("sum_int", argTypes(tInt), fixed(tInt), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &intSumAgg{asInt: true} })
	def("avg", argTypes(tInt), fixed(tDec), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &intSumAgg{avg: true} })
	def("sum", argTypes(tDec), fixed(tDec), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &decSumAgg{} })
	def("avg", argTypes(tDec), fixed(tDec), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &decSumAgg{avg: true} })
	def("sum", argTypes(tFloat), same, func(t []*types.T, _ *tree.EvalContext) tree.AggregateFunc {
		return &floatAgg{kind: "sum", real: len(t) > 0 && isReal(t[0])}
	})
	def("avg", argTypes(tFloat), fixed(tFloat), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &floatAgg{kind: "avg"} })
	def("sum", argTypes(tIval), fixed(tIval), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &intervalAgg{} })
	def("avg", argTypes(tIval), fixed(tIval), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &intervalAgg{avg: true} })
	for _, n := range []string{"variance", "var_samp", "var_pop", "stddev", "stddev_samp", "stddev_pop"} {
		kind := map[string]string{"variance": "var_samp", "stddev": "stddev_samp"}[n]
		if kind == "" {
			kind = n
		}
		def(n, argTypes(tFloat), fixed(tFloat), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &floatAgg{kind: kind} })
		def(n, argTypes(tDec), fixed(tDec), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &decVarAgg{kind: kind} })
		def(n, argTypes(tInt), fixed(tDec), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return &decVarAgg{kind: kind} })
	}
	for _, n := range []string{"corr", "covar_pop", "covar_samp", "regr_avgx", "regr_avgy", "regr_count", "regr_intercept",
		"regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy"} {
		ret := tFloat
		if n == "regr_count" {
			ret = tInt
		}
		def(n, argTypes(tFloat, tFloat), fixed(ret), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return newRegr(n) })
	}
	for _, n := range []string{"bool_and", "every", "bool_or"} {
		or := n == "bool_or"
		def(n, argTypes(tBool), fixed(tBool), func([]*types.T, *tree.EvalContext) tree.AggregateFunc {
			var v tree.Datum = tree.DNull
			return &agg{
				add: func(a ...tree.Datum) error {
					if a[0] != tree.DNull && (v == tree.DNull || (a[0] == tree.DBoolTrue) == or) {
						v = a[0]
					}
					return nil
				},
				result: func() (tree.Datum, error) { return v, nil },
				reset:  func() { v = tree.DNull },
			}
		})
	}
	for _, n := range []string{"bit_and", "bit_or", "bit_xor", "xor_agg"} {
		op := func(a, b int64) int64 {
			switch n {
			case "bit_and":
				return a & b
			case "bit_or":
				return a | b
			}
			return a ^ b
		}
		def(n, argTypes(tInt), same, func([]*types.T, *tree.EvalContext) tree.AggregateFunc {
			var v *int64
			return &agg{
				add: func(a ...tree.Datum) error {
					if a[0] == tree.DNull {
						return nil
					}
					x := num(a[0])
					if v != nil {
						x = op(*v, x)
					}
					v = &x
					return nil
				},
				result: func() (tree.Datum, error) {
					if v == nil {
						return tree.DNull, nil
					}
					return dint(*v)
				},
				reset: func() { v = nil },
			}
		})
		if n == "xor_agg" {
			continue
		}
		def(n, argTypes(tBit), same, func([]*types.T, *tree.EvalContext) tree.AggregateFunc {
			var v *bitarray.BitArray
			return &agg{
				add: func(a ...tree.Datum) error {
					if a[0] == tree.DNull {
						return nil
					}
					x := a[0].(*tree.DBitArray).BitArray
					if v != nil {
						if v.BitLen() != x.BitLen() {
							return pgerr.New("22026", "cannot AND bit strings of different sizes")
						}
						switch n {
						case "bit_and":
							x = bitarray.And(*v, x)
						case "bit_or":
							x = bitarray.Or(*v, x)
						default:
							x = bitarray.Xor(*v, x)
						}
					}
					v = &x
					return nil
				},
				result: func() (tree.Datum, error) {
					if v == nil {
						return tree.DNull, nil
					}
					return &tree.DBitArray{BitArray: *v}, nil
				},
				reset: func() { v = nil },
			}
		})
	}
	def("array_agg", argTypes(tAny), arrayOf(0), func(t []*types.T, _ *tree.EvalContext) tree.AggregateFunc {
		elem := types.String
		if len(t) > 0 && t[0].Family() != types.UnknownFamily {
			elem = t[0]
		}
		return newCollect(func(ds []tree.Datum) (tree.Datum, error) {
			if len(ds) == 0 {
				return tree.DNull, nil
			}
			return newArray(elem, ds)
		}, 1)
	})
	for _, t := range ts(tText, tBytes) {
		def("string_agg", argTypes(t, t), fixed(t), func([]*types.T, *tree.EvalContext) tree.AggregateFunc { return newStringAgg(t == tBytes) })
	}
	for _, n := range []string{"json_agg", "jsonb_agg"} {
		def(n, argTypes(tAny), fixed(tJSON), func(_ []*types.T, ctx *tree.EvalContext) tree.AggregateFunc {
			return newCollect(func(ds []tree.Datum) (tree.Datum, error) {
				if len(ds) == 0 {
					return tree.DNull, nil
				}
				b := json.NewArrayBuilder(len(ds))
				for _, x := range ds {
					j, err := toJSON(ctx, x)
					if err != nil {
						return nil, err
					}
					b.Add(j)
				}
				return tree.NewDJSON(b.Build()), nil
			}, 1)
		})
	}
	for _, n := range []string{"json_object_agg", "jsonb_object_agg"} {
		def(n, argTypes(tAny, tAny), fixed(tJSON), func(_ []*types.T, ctx *tree.EvalContext) tree.AggregateFunc {
			return newCollect(func(ds []tree.Datum) (tree.Datum, error) {
				if len(ds) == 0 {
					return tree.DNull, nil
				}
				b := json.NewObjectBuilder(len(ds) / 2)
				for i := 0; i < len(ds); i += 2 {
					if ds[i] == tree.DNull {
						return nil, pgerr.New("22023", "field name must not be null")
					}
					j, err := toJSON(ctx, ds[i+1])
					if err != nil {
						return nil, err
					}
					b.Add(anyText(ctx, ds[i]), j)
				}
				return tree.NewDJSON(b.Build()), nil
			}, 2)
		})
	}
	// Ordered-set aggregates: percentile_cont(fraction) WITHIN GROUP (ORDER BY x)
	// reaches us as percentile_cont(fraction, x).
	pct := func(name string, t *types.T, ret tree.ReturnTyper) {
		def(name, argTypes(tFloat, t), ret, func(_ []*types.T, ctx *tree.EvalContext) tree.AggregateFunc {
			return newCollect(func(ds []tree.Datum) (tree.Datum, error) { return percentile(ctx, name == "percentile_cont", ds) }, 2)
		})
	}
	pct("percentile_cont", tFloat, fixed(tFloat))
	pct("percentile_cont", tIval, fixed(tIval))
	pct("percentile_disc", tAny, tree.IdentityReturnType(1))
	def("mode", argTypes(tAny), same, func(_ []*types.T, ctx *tree.EvalContext) tree.AggregateFunc {
		return newCollect(func(ds []tree.Datum) (tree.Datum, error) { return modeOf(ctx, ds), nil }, 1)
	})
}

// textual is the argument's type without its limits, but text for varchar, which
// has no min of its own.
func textual(args []tree.TypedExpr) *types.T {
	if len(args) == 0 {
		return tree.UnknownReturnType
	}
	t := args[0].ResolvedType()
	switch {
	case t.Oid() == oid.T_varchar:
		return types.String
	case t.Family() == types.DecimalFamily:
		return types.Decimal
	}
	return t
}

type countAgg struct {
	n    int64
	rows bool
}

func (c *countAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if c.rows || d != tree.DNull {
		c.n++
	}
	return nil
}
func (c *countAgg) Result() (tree.Datum, error) { return dint(c.n) }
func (c *countAgg) Reset(context.Context)       { c.n = 0 }
func (c *countAgg) Close(context.Context)       {}
func (c *countAgg) Size() int64                 { return 24 }

// extremeAgg keeps the smallest (want -1), largest (1) or first (2) value.
type extremeAgg struct {
	ctx  *tree.EvalContext
	want int
	v    tree.Datum
}

func (m *extremeAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if d == tree.DNull {
		return nil
	}
	if m.v == nil || m.want != 2 && Compare(m.ctx, d, m.v) == m.want {
		m.v = d
	}
	return nil
}
func (m *extremeAgg) Result() (tree.Datum, error) {
	if m.v == nil {
		return tree.DNull, nil
	}
	return m.v, nil
}
func (m *extremeAgg) Reset(context.Context) { m.v = nil }
func (m *extremeAgg) Close(context.Context) {}
func (m *extremeAgg) Size() int64 {
	if m.v == nil {
		return 40
	}
	return 40 + int64(m.v.Size())
}

// intSumAgg sums integers: in 64 bits while they suffice, then in a big.Int.
type intSumAgg struct {
	asInt, avg bool
	n, sum     int64
	big        *big.Int
}

func (s *intSumAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if d == tree.DNull {
		return nil
	}
	x := num(d)
	s.n++
	if s.big != nil {
		s.big.Add(s.big, big.NewInt(x))
		return nil
	}
	c := s.sum + x
	if (c > s.sum) != (x > 0) && x != 0 {
		s.big = new(big.Int).Add(big.NewInt(s.sum), big.NewInt(x))
		return nil
	}
	s.sum = c
	return nil
}

func (s *intSumAgg) Result() (tree.Datum, error) {
	if s.n == 0 {
		return tree.DNull, nil
	}
	if s.asInt {
		if s.big != nil {
			if !s.big.IsInt64() {
				return nil, errIntRange(64)
			}
			return dint(s.big.Int64())
		}
		return dint(s.sum)
	}
	var dec *apd.Decimal
	if s.big != nil {
		dec = &apd.Decimal{Negative: s.big.Sign() < 0}
		dec.Coeff.Abs(s.big)
	} else {
		dec = apd.New(s.sum, 0)
	}
	if s.avg {
		q, err := divDecimal(dec, apd.New(s.n, 0))
		if err != nil {
			return nil, err
		}
		dec = q
	}
	return &tree.DDecimal{Decimal: *dec}, nil
}
func (s *intSumAgg) Reset(context.Context) { s.n, s.sum, s.big = 0, 0, nil }
func (s *intSumAgg) Close(context.Context) {}
func (s *intSumAgg) Size() int64           { return 48 }

type decSumAgg struct {
	avg bool
	n   int64
	sum *apd.Decimal
}

func (s *decSumAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if d == tree.DNull {
		return nil
	}
	x := &d.(*tree.DDecimal).Decimal
	s.n++
	if s.sum == nil {
		s.sum = x
		return nil
	}
	s.sum = addDecimal(s.sum, x)
	return nil
}
func (s *decSumAgg) Result() (tree.Datum, error) {
	if s.n == 0 {
		return tree.DNull, nil
	}
	if s.avg {
		q, err := divDecimal(s.sum, apd.New(s.n, 0))
		if err != nil {
			return nil, err
		}
		return checkNumeric(q)
	}
	return checkNumeric(s.sum)
}
func (s *decSumAgg) Reset(context.Context) { s.n, s.sum = 0, nil }
func (s *decSumAgg) Close(context.Context) {}
func (s *decSumAgg) Size() int64           { return 80 }

// floatAgg computes sums and variances by Youngs and Cramer, as PostgreSQL does.
type floatAgg struct {
	kind       string
	real       bool // A sum of reals is a real at each step.
	n, sx, sx2 float64
}

func (s *floatAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if d == tree.DNull {
		return nil
	}
	x := float(d)
	s.n++
	s.sx += x
	if s.real {
		s.sx = float64(float32(s.sx))
	}
	if s.n > 1 {
		tmp := x*s.n - s.sx
		s.sx2 += tmp * tmp / (s.n * (s.n - 1))
	} else if math.IsNaN(x) || math.IsInf(x, 0) {
		s.sx2 = math.NaN()
	}
	if math.IsInf(s.sx, 0) && !math.IsInf(x, 0) && s.kind == "sum" && !math.IsInf(s.sx-x, 0) {
		return errFloatOverflow()
	}
	return nil
}
func (s *floatAgg) Result() (tree.Datum, error) {
	if s.n == 0 {
		return tree.DNull, nil
	}
	switch s.kind {
	case "sum":
		return dfloat(s.sx)
	case "avg":
		return dfloat(s.sx / s.n)
	case "var_pop":
		return dfloat(s.sx2 / s.n)
	case "stddev_pop":
		return dfloat(math.Sqrt(s.sx2 / s.n))
	}
	if s.n < 2 {
		return tree.DNull, nil
	}
	if s.kind == "var_samp" {
		return dfloat(s.sx2 / (s.n - 1))
	}
	return dfloat(math.Sqrt(s.sx2 / (s.n - 1)))
}
func (s *floatAgg) Reset(context.Context) { s.n, s.sx, s.sx2 = 0, 0, 0 }
func (s *floatAgg) Close(context.Context) {}
func (s *floatAgg) Size() int64           { return 48 }

type intervalAgg struct {
	avg bool
	n   int64
	sum duration.Duration
}

func (s *intervalAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if d != tree.DNull {
		s.n++
		sum, err := addIntervals(s.sum, d.(*tree.DInterval).Duration)
		if err != nil {
			return err
		}
		s.sum = sum.(*tree.DInterval).Duration
	}
	return nil
}
func (s *intervalAgg) Result() (tree.Datum, error) {
	if s.n == 0 {
		return tree.DNull, nil
	}
	if s.avg {
		return scaleInterval(s.sum, 0, float64(s.n), true)
	}
	return &tree.DInterval{Duration: s.sum}, nil
}
func (s *intervalAgg) Reset(context.Context) { s.n, s.sum = 0, duration.Duration{} }
func (s *intervalAgg) Close(context.Context) {}
func (s *intervalAgg) Size() int64           { return 48 }

// decVarAgg computes variances of numerics and integers exactly.
type decVarAgg struct {
	kind      string
	n         int64
	sum, sum2 *apd.Decimal
}

func (s *decVarAgg) Add(_ context.Context, d tree.Datum, _ ...tree.Datum) error {
	if d == tree.DNull {
		return nil
	}
	var x *apd.Decimal
	if i, ok := d.(*tree.DInt); ok {
		x = apd.New(int64(*i), 0)
	} else {
		x = &d.(*tree.DDecimal).Decimal
	}
	if s.n == 0 {
		s.sum, s.sum2 = &apd.Decimal{}, &apd.Decimal{}
	}
	s.n++
	s.sum = addDecimal(s.sum, x)
	s.sum2 = addDecimal(s.sum2, mulDecimal(x, x))
	return nil
}
func (s *decVarAgg) Result() (tree.Datum, error) {
	samp := s.kind == "var_samp" || s.kind == "stddev_samp"
	if s.n == 0 || samp && s.n < 2 {
		return tree.DNull, nil
	}
	if s.sum.Form != apd.Finite {
		return &tree.DDecimal{Decimal: apd.Decimal{Form: apd.NaN}}, nil
	}
	n := apd.New(s.n, 0)
	num := addDecimal(mulDecimal(n, s.sum2), negDecimal(mulDecimal(s.sum, s.sum)))
	if num.Coeff.Sign() == 0 || num.Negative {
		return &tree.DDecimal{}, nil
	}
	den := mulDecimal(n, n)
	if samp {
		den = mulDecimal(n, apd.New(s.n-1, 0))
	}
	scale := divScale(num, den)
	v := quoDecimal(num, den, scale)
	if s.kind == "stddev_samp" || s.kind == "stddev_pop" {
		v = sqrtToScale(v, scale)
	}
	return checkNumeric(v)
}
func (s *decVarAgg) Reset(context.Context) { s.n, s.sum, s.sum2 = 0, nil, nil }
func (s *decVarAgg) Close(context.Context) {}
func (s *decVarAgg) Size() int64           { return 160 }

// newRegr is the family of two-argument statistics: f(y, x).
func newRegr(kind string) tree.AggregateFunc {
	var n, sx, sxx, sy, syy, sxy float64
	return &agg{
		add: func(a ...tree.Datum) error {
			if a[0] == tree.DNull || a[1] == tree.DNull {
				return nil
			}
			y, x := float(a[0]), float(a[1])
			n++
			sx += x
			sy += y
			if n > 1 {
				tx, ty := x*n-sx, y*n-sy
				scale := 1 / (n * (n - 1))
				sxx += tx * tx * scale
				syy += ty * ty * scale
				sxy += tx * ty * scale
			}
			return nil
		},
		result: func() (tree.Datum, error) {
			if kind == "regr_count" {
				return dint(int64(n))
			}
			if n < 1 || kind == "covar_samp" && n < 2 {
				return tree.DNull, nil
			}
			switch kind {
			case "covar_pop":
				return dfloat(sxy / n)
			case "covar_samp":
				return dfloat(sxy / (n - 1))
			case "corr":
				if sxx == 0 || syy == 0 {
					return tree.DNull, nil
				}
				return dfloat(sxy / math.Sqrt(sxx*syy))
			case "regr_avgx":
				return dfloat(sx / n)
			case "regr_avgy":
				return dfloat(sy / n)
			case "regr_sxx":
				return dfloat(sxx)
			case "regr_syy":
				return dfloat(syy)
			case "regr_sxy":
				return dfloat(sxy)
			}
			if sxx == 0 {
				return tree.DNull, nil
			}
			switch kind {
			case "regr_slope":
				return dfloat(sxy / sxx)
			case "regr_intercept":
				return dfloat((sy - sx*sxy/sxx) / n)
			}
			if syy == 0 {
				return dfloat(1)
			}
			return dfloat(sxy * sxy / (sxx * syy))
		},
		reset: func() { n, sx, sxx, sy, syy, sxy = 0, 0, 0, 0, 0, 0 },
	}
}

// newCollect keeps all arguments, width of them per row.
func newCollect(finish func([]tree.Datum) (tree.Datum, error), width int) tree.AggregateFunc {
	var all []tree.Datum
	var size int64
	return &agg{
		add: func(a ...tree.Datum) error {
			for _, d := range a[:width] {
				size += int64(d.Size()) + 16
			}
			all = append(all, a[:width]...)
			return nil
		},
		result: func() (tree.Datum, error) { return finish(all) },
		reset:  func() { all, size = nil, 0 },
		size:   func() int64 { return size },
	}
}

func newStringAgg(isBytes bool) tree.AggregateFunc {
	var buf []byte
	any := false
	raw := func(d tree.Datum) string {
		if isBytes {
			return string(*d.(*tree.DBytes))
		}
		return str(d)
	}
	return &agg{
		add: func(a ...tree.Datum) error {
			if a[0] == tree.DNull {
				return nil
			}
			if any && a[1] != tree.DNull {
				buf = append(buf, raw(a[1])...)
			}
			any = true
			buf = append(buf, raw(a[0])...)
			return nil
		},
		result: func() (tree.Datum, error) {
			switch {
			case !any:
				return tree.DNull, nil
			case isBytes:
				return tree.NewDBytes(tree.DBytes(buf)), nil
			}
			return text(string(buf))
		},
		reset: func() { buf, any = nil, false },
		size:  func() int64 { return int64(cap(buf)) },
	}
}

// percentile computes over pairs of fraction and value.
func percentile(ctx *tree.EvalContext, cont bool, pairs []tree.Datum) (tree.Datum, error) {
	var vals []tree.Datum
	var fraction tree.Datum = tree.DNull
	for i := 0; i < len(pairs); i += 2 {
		fraction = pairs[i]
		if pairs[i+1] != tree.DNull {
			vals = append(vals, pairs[i+1])
		}
	}
	if len(vals) == 0 || fraction == tree.DNull {
		return tree.DNull, nil
	}
	f := float(fraction)
	if f < 0 || f > 1 || math.IsNaN(f) {
		return nil, pgerr.Newf(pgerr.NumericValueOutOfRange, "percentile value %g is not between 0 and 1", f)
	}
	sort.SliceStable(vals, func(i, j int) bool { return Compare(ctx, vals[i], vals[j]) < 0 })
	if !cont {
		return vals[max(0, int(math.Ceil(f*float64(len(vals))))-1)], nil
	}
	at := f * float64(len(vals)-1)
	lo, hi := int(math.Floor(at)), int(math.Ceil(at))
	part := at - float64(lo)
	if iv, ok := vals[lo].(*tree.DInterval); ok {
		diff := vals[hi].(*tree.DInterval).Duration.Sub(iv.Duration)
		share, err := scaleInterval(diff, part, 0, false)
		if err != nil {
			return nil, err
		}
		return addIntervals(iv.Duration, share.(*tree.DInterval).Duration)
	}
	a, b := float(vals[lo]), float(vals[hi])
	return dfloat(a + part*(b-a))
}

func modeOf(ctx *tree.EvalContext, ds []tree.Datum) tree.Datum {
	vals := make([]tree.Datum, 0, len(ds))
	for _, d := range ds {
		if d != tree.DNull {
			vals = append(vals, d)
		}
	}
	sort.SliceStable(vals, func(i, j int) bool { return Compare(ctx, vals[i], vals[j]) < 0 })
	var best tree.Datum = tree.DNull
	bestN := 0
	for i := 0; i < len(vals); {
		j := i
		for j < len(vals) && Compare(ctx, vals[i], vals[j]) == 0 {
			j++
		}
		if j-i > bestN {
			best, bestN = vals[i], j-i
		}
		i = j
	}
	return best
}
