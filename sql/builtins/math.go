package builtins

import (
	"math"
	"math/big"
	"math/rand/v2"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func defineMath(d definitions) {
	ff := func(name string, f func(float64) (float64, error)) {
		d.scalar(name, ts(tFloat), tFloat, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			x := float(a[0])
			y, err := f(x)
			if err != nil {
				return nil, err
			}
			if math.IsInf(y, 0) && !math.IsInf(x, 0) {
				return nil, errFloatOverflow()
			}
			return dfloat(y)
		})
	}
	plain := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) { return f(x), nil }
	}
	domain := func(lo, hi float64, f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) {
			if x < lo || x > hi {
				return 0, pgerr.New(pgerr.NumericValueOutOfRange, "input is out of range")
			}
			return f(x), nil
		}
	}
	finite := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) {
			if math.IsInf(x, 0) {
				return 0, pgerr.New(pgerr.NumericValueOutOfRange, "input is out of range")
			}
			return f(x), nil
		}
	}
	dd := func(name string, f func(*apd.Decimal) (*apd.Decimal, error)) {
		d.scalar(name, ts(tDec), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			r, err := f(&a[0].(*tree.DDecimal).Decimal)
			if err != nil {
				return nil, err
			}
			return checkNumeric(r)
		})
	}
	round := func(scale int32) func(*apd.Decimal) (*apd.Decimal, error) {
		return func(x *apd.Decimal) (*apd.Decimal, error) { return roundDecimal(x, scale), nil }
	}

	ff("abs", plain(math.Abs))
	dd("abs", func(x *apd.Decimal) (*apd.Decimal, error) {
		y := new(apd.Decimal).Set(x)
		y.Negative = false
		return y, nil
	})
	d.add("abs", argTypes(tInt), tree.IdentityReturnType(0), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := num(a[0])
		if n == math.MinInt64 {
			return nil, errIntRange(64)
		}
		if n < 0 {
			n = -n
		}
		return dint(n)
	})
	for _, n := range []string{"ceil", "ceiling"} {
		ff(n, plain(math.Ceil))
		dd(n, func(x *apd.Decimal) (*apd.Decimal, error) { return floorDecimal(x, true), nil })
	}
	ff("floor", plain(math.Floor))
	dd("floor", func(x *apd.Decimal) (*apd.Decimal, error) { return floorDecimal(x, false), nil })
	ff("round", plain(math.RoundToEven))
	dd("round", round(0))
	ff("trunc", plain(math.Trunc))
	dd("trunc", func(x *apd.Decimal) (*apd.Decimal, error) { return truncDecimal(x, 0), nil })
	scaled := func(name string, f func(*apd.Decimal, int32) *apd.Decimal) {
		d.scalar(name, ts(tDec, tInt), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			n := min(max(num(a[1]), -2000), 2000)
			return checkNumeric(f(&a[0].(*tree.DDecimal).Decimal, int32(n)))
		})
	}
	scaled("round", roundDecimal)
	scaled("trunc", truncDecimal)
	ff("sign", plain(func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	}))
	dd("sign", func(x *apd.Decimal) (*apd.Decimal, error) {
		if x.Form == apd.NaN {
			return x, nil
		}
		return apd.New(int64(x.Sign()), 0), nil
	})
	ff("sqrt", func(x float64) (float64, error) {
		if x < 0 {
			return 0, pgerr.New("2201F", "cannot take square root of a negative number")
		}
		return math.Sqrt(x), nil
	})
	dd("sqrt", sqrtDecimal)
	ff("cbrt", plain(math.Cbrt))
	ff("exp", plain(math.Exp))
	dd("exp", expDecimal)
	logErr := func(x float64) error {
		if x == 0 {
			return pgerr.New("2201E", "cannot take logarithm of zero")
		}
		if x < 0 {
			return pgerr.New("2201E", "cannot take logarithm of a negative number")
		}
		return nil
	}
	ff("ln", func(x float64) (float64, error) { return math.Log(x), logErr(x) })
	dd("ln", lnDecimal)
	for _, n := range []string{"log", "log10"} {
		ff(n, func(x float64) (float64, error) { return math.Log10(x), logErr(x) })
		dd(n, func(x *apd.Decimal) (*apd.Decimal, error) { return logDecimal(apd.New(10, 0), x) })
	}
	d.scalar("log", ts(tDec, tDec), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		r, err := logDecimal(&a[0].(*tree.DDecimal).Decimal, &a[1].(*tree.DDecimal).Decimal)
		if err != nil {
			return nil, err
		}
		return checkNumeric(r)
	})
	for _, n := range []string{"power", "pow"} {
		d.scalar(n, ts(tFloat, tFloat), tFloat, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			x, y := float(a[0]), float(a[1])
			r, err := powFloat(x, y)
			if err != nil {
				return nil, err
			}
			if math.IsInf(r, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
				return nil, errFloatOverflow()
			}
			return dfloat(r)
		})
		d.scalar(n, ts(tDec, tDec), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
			return powDecimal(&a[0].(*tree.DDecimal).Decimal, &a[1].(*tree.DDecimal).Decimal)
		})
	}
	d.add("mod", argTypes(tInt, tInt), widerInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		if num(a[1]) == 0 {
			return nil, errDivByZero()
		}
		if num(a[1]) == -1 {
			return dint(0)
		}
		return dint(num(a[0]) % num(a[1]))
	})
	d.scalar("mod", ts(tDec, tDec), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		r, err := modDecimal(&a[0].(*tree.DDecimal).Decimal, &a[1].(*tree.DDecimal).Decimal)
		if err != nil {
			return nil, err
		}
		return checkNumeric(r)
	})
	d.scalar("div", ts(tDec, tDec), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		x, y := &a[0].(*tree.DDecimal).Decimal, &a[1].(*tree.DDecimal).Decimal
		if r, done, err := specialDiv(x, y); done {
			if err != nil {
				return nil, err
			}
			return checkNumeric(r)
		}
		// Exact: drop the remainder before dividing.
		m, err := modDecimal(x, y)
		if err != nil {
			return nil, err
		}
		return checkNumeric(quoDecimal(addDecimal(x, negDecimal(m)), y, 0))
	})
	gcd := func(x, y int64) (int64, bool) {
		r := new(big.Int).GCD(nil, nil, new(big.Int).Abs(big.NewInt(x)), new(big.Int).Abs(big.NewInt(y)))
		return r.Int64(), r.IsInt64()
	}
	d.add("gcd", argTypes(tInt, tInt), widerInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		g, ok := gcd(num(a[0]), num(a[1]))
		if !ok {
			return nil, errIntRange(64)
		}
		return dint(g)
	})
	d.add("lcm", argTypes(tInt, tInt), widerInt, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		x, y := num(a[0]), num(a[1])
		if x == 0 || y == 0 {
			return dint(0)
		}
		g, ok := gcd(x, y)
		if !ok {
			return nil, errIntRange(64)
		}
		r := new(big.Int).Mul(big.NewInt(x/g), big.NewInt(y))
		r.Abs(r)
		if !r.IsInt64() {
			return nil, errIntRange(64)
		}
		return dint(r.Int64())
	})
	d.scalar("factorial", ts(tInt), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := num(a[0])
		if n < 0 {
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "factorial of a negative number is undefined")
		}
		if n > 32177 {
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
		}
		out := &tree.DDecimal{}
		out.Coeff.MulRange(1, max(n, 1))
		return out, nil
	})
	d.scalar("scale", ts(tDec), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		x := &a[0].(*tree.DDecimal).Decimal
		if x.Form != apd.Finite {
			return tree.DNull, nil
		}
		return dint(int64(scaleOf(x)))
	})
	minScale := func(x *apd.Decimal) int32 {
		if x.Coeff.Sign() == 0 {
			return 0
		}
		var r apd.Decimal
		r.Reduce(x)
		return scaleOf(&r)
	}
	d.scalar("min_scale", ts(tDec), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		x := &a[0].(*tree.DDecimal).Decimal
		if x.Form != apd.Finite {
			return tree.DNull, nil
		}
		return dint(int64(minScale(x)))
	})
	dd("trim_scale", func(x *apd.Decimal) (*apd.Decimal, error) {
		if x.Form != apd.Finite {
			return x, nil
		}
		return roundDecimal(x, minScale(x)), nil
	})
	d.scalar("pi", nil, tFloat, func(*tree.EvalContext, tree.Datums) (tree.Datum, error) { return dfloat(math.Pi) })
	ff("degrees", plain(func(x float64) float64 { return x * 180 / math.Pi }))
	ff("radians", plain(func(x float64) float64 { return x / 180 * math.Pi }))
	ff("sin", finite(math.Sin))
	ff("cos", finite(math.Cos))
	ff("tan", finite(math.Tan))
	ff("cot", finite(func(x float64) float64 { return 1 / math.Tan(x) }))
	ff("asin", domain(-1, 1, math.Asin))
	ff("acos", domain(-1, 1, math.Acos))
	ff("atan", plain(math.Atan))
	ff("sinh", plain(math.Sinh))
	ff("cosh", plain(math.Cosh))
	ff("tanh", plain(math.Tanh))
	ff("asinh", plain(math.Asinh))
	ff("acosh", domain(1, math.Inf(1), math.Acosh))
	ff("atanh", domain(-1, 1, math.Atanh))
	deg := func(name string, f func(float64) float64) {
		ff(name, finite(func(x float64) float64 {
			return math.Round(f(x*math.Pi/180)*1e15) / 1e15
		}))
	}
	deg("sind", math.Sin)
	deg("cosd", math.Cos)
	deg("tand", math.Tan)
	ff("asind", domain(-1, 1, func(x float64) float64 { return math.Round(math.Asin(x)*180/math.Pi*1e13) / 1e13 }))
	ff("acosd", domain(-1, 1, func(x float64) float64 { return math.Round(math.Acos(x)*180/math.Pi*1e13) / 1e13 }))
	ff("atand", plain(func(x float64) float64 { return math.Round(math.Atan(x)*180/math.Pi*1e13) / 1e13 }))
	d.scalar("atan2", ts(tFloat, tFloat), tFloat, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dfloat(math.Atan2(float(a[0]), float(a[1])))
	})
	d.scalar("isnan", ts(tFloat), tBool, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) { return dbool(math.IsNaN(float(a[0]))) })
	d.scalar("random", nil, tFloat, func(ctx *tree.EvalContext, _ tree.Datums) (tree.Datum, error) {
		if env, err := getEnv(ctx); err == nil {
			return dfloat(env.Random())
		}
		return dfloat(rand.Float64())
	}, volatile)
	d.scalar("setseed", ts(tFloat), typVoid, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s := float(a[0])
		if s < -1 || s > 1 || math.IsNaN(s) {
			return nil, pgerr.Newf("22023", "setseed parameter %v is out of allowed range [-1,1]", s)
		}
		if env, err := getEnv(ctx); err == nil {
			env.SetSeed(s)
		}
		return void()
	}, volatile)
	d.scalar("width_bucket", ts(tDec, tDec, tDec, tInt), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		v := func(i int) *apd.Decimal { return &a[i].(*tree.DDecimal).Decimal }
		return widthBucketDec(v(0), v(1), v(2), num(a[3]))
	})
	d.scalar("width_bucket", ts(tFloat, tFloat, tFloat, tInt), tInt4, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return widthBucket(float(a[0]), float(a[1]), float(a[2]), num(a[3]))
	})
	d.scalar("width_bucket", ts(tAny, tArr), tInt4, func(ctx *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		n := int64(0)
		for _, e := range tree.MustBeDArray(a[1]).Array {
			if Compare(ctx, a[0], e) >= 0 {
				n++
			}
		}
		return dint(n)
	})
	d.add("isfinite", argTypes(tDate), tree.FixedReturnType(tBool), func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return dbool(a[0].(*tree.DDate).IsFinite())
	})
}

// widerInt is the return type of functions of two integers.
func widerInt(args []tree.TypedExpr) *types.T {
	if len(args) < 2 {
		return tInt
	}
	w := int32(16)
	for _, a := range args {
		if t := a.ResolvedType(); t.Family() == tInt.Family() {
			w = max(w, intWidth(t))
		}
	}
	return intOfWidth(w)
}

func widthBucket(x, lo, hi float64, n int64) (tree.Datum, error) {
	switch {
	case n <= 0:
		return nil, pgerr.New("2201G", "count must be greater than zero")
	case math.IsNaN(x) || math.IsNaN(lo) || math.IsNaN(hi):
		return nil, pgerr.New("2201G", "operand, lower bound, and upper bound cannot be NaN")
	case math.IsInf(lo, 0) || math.IsInf(hi, 0):
		return nil, pgerr.New("2201G", "lower and upper bounds must be finite")
	case lo == hi:
		return nil, pgerr.New("2201G", "lower bound cannot equal upper bound")
	case lo < hi && x < lo || lo > hi && x > lo:
		return dint(0)
	case lo < hi && x >= hi || lo > hi && x <= hi:
		return dint(n + 1)
	case lo < hi:
		return dint(int64(float64(n)*(x-lo)/(hi-lo)) + 1)
	}
	return dint(int64(float64(n)*(lo-x)/(lo-hi)) + 1)
}

func widthBucketDec(x, lo, hi *apd.Decimal, n int64) (tree.Datum, error) {
	switch {
	case n <= 0:
		return nil, pgerr.New("2201G", "count must be greater than zero")
	case x.Form == apd.NaN || lo.Form == apd.NaN || hi.Form == apd.NaN:
		return nil, pgerr.New("2201G", "operand, lower bound, and upper bound cannot be NaN")
	case lo.Cmp(hi) == 0:
		return nil, pgerr.New("2201G", "lower bound cannot equal upper bound")
	}
	up := lo.Cmp(hi) < 0
	switch {
	case up && x.Cmp(lo) < 0 || !up && x.Cmp(lo) > 0:
		return dint(0)
	case up && x.Cmp(hi) >= 0 || !up && x.Cmp(hi) <= 0:
		return dint(n + 1)
	}
	a, b := addDecimal(x, negDecimal(lo)), addDecimal(hi, negDecimal(lo))
	q := quoDecimal(mulDecimal(a, apd.New(n, 0)), b, 30)
	i, err := floorDecimal(q, false).Int64()
	if err != nil {
		return nil, errIntRange(32)
	}
	return dint(i + 1)
}

func floorDecimal(x *apd.Decimal, up bool) *apd.Decimal {
	if x.Form != apd.Finite {
		return x
	}
	t := truncDecimal(x, 0)
	if t.Cmp(x) != 0 && x.Negative != up {
		if up {
			return addDecimal(t, apd.New(1, 0))
		}
		return addDecimal(t, apd.New(-1, 0))
	}
	return t
}
