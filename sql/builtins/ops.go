package builtins

import (
	"math"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/duration"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

type binFn = func(*tree.EvalContext, tree.Datum, tree.Datum) (tree.Datum, error)

// registerOps replaces operators of the parser's tables where PostgreSQL computes
// something else. An overload's function is replaced in place: result types come
// from the type checker (binOpType), which also checks integer widths.
func registerOps() {
	set := func(op tree.BinaryOperator, l, r *types.T, fn binFn) {
		for _, o := range tree.BinOps[op] {
			b := o.(*tree.BinOp)
			if b.LeftType.Identical(l) && b.RightType.Identical(r) {
				b.Fn = fn
				return
			}
		}
		panic("builtins: the parser has no operator " + l.String() + op.String() + r.String())
	}
	setRet := func(op tree.BinaryOperator, l, r, ret *types.T, fn binFn) {
		set(op, l, r, fn)
		for _, o := range tree.BinOps[op] {
			b := o.(*tree.BinOp)
			if b.LeftType.Identical(l) && b.RightType.Identical(r) {
				b.ReturnType = ret
			}
		}
	}
	set(tree.Plus, types.Int, types.Int, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		a, b := int64(tree.MustBeDInt(l)), int64(tree.MustBeDInt(r))
		c := a + b
		if (c > a) != (b > 0) {
			return nil, errIntRange(64)
		}
		return tree.NewDInt(tree.DInt(c)), nil
	})
	set(tree.Minus, types.Int, types.Int, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		a, b := int64(tree.MustBeDInt(l)), int64(tree.MustBeDInt(r))
		c := a - b
		if (c < a) != (b > 0) {
			return nil, errIntRange(64)
		}
		return tree.NewDInt(tree.DInt(c)), nil
	})
	set(tree.Mult, types.Int, types.Int, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		a, b := int64(tree.MustBeDInt(l)), int64(tree.MustBeDInt(r))
		c := a * b
		if a != 0 && (c/a != b || a == -1 && b == math.MinInt64) {
			return nil, errIntRange(64)
		}
		return tree.NewDInt(tree.DInt(c)), nil
	})
	intDiv := func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		a, b := tree.MustBeDInt(l), tree.MustBeDInt(r)
		if b == 0 {
			return nil, errDivByZero()
		}
		if b == -1 {
			if a == math.MinInt64 {
				return nil, errIntRange(64)
			}
			return tree.NewDInt(-a), nil
		}
		return tree.NewDInt(a / b), nil
	}
	setRet(tree.Div, types.Int, types.Int, types.Int, intDiv)
	set(tree.Mod, types.Int, types.Int, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		a, b := tree.MustBeDInt(l), tree.MustBeDInt(r)
		if b == 0 {
			return nil, errDivByZero()
		}
		if b == -1 {
			return tree.NewDInt(0), nil
		}
		return tree.NewDInt(a % b), nil
	})
	dec := func(f func(a, b *tree.DDecimal) (tree.Datum, error)) binFn {
		return func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
			return f(l.(*tree.DDecimal), r.(*tree.DDecimal))
		}
	}
	set(tree.Plus, types.Decimal, types.Decimal, dec(func(a, b *tree.DDecimal) (tree.Datum, error) {
		return checkNumeric(addDecimal(&a.Decimal, &b.Decimal))
	}))
	set(tree.Minus, types.Decimal, types.Decimal, dec(func(a, b *tree.DDecimal) (tree.Datum, error) {
		return checkNumeric(addDecimal(&a.Decimal, negDecimal(&b.Decimal)))
	}))
	set(tree.Mult, types.Decimal, types.Decimal, dec(func(a, b *tree.DDecimal) (tree.Datum, error) {
		return checkNumeric(mulDecimal(&a.Decimal, &b.Decimal))
	}))
	set(tree.Div, types.Decimal, types.Decimal, dec(func(a, b *tree.DDecimal) (tree.Datum, error) {
		q, err := divDecimal(&a.Decimal, &b.Decimal)
		if err != nil {
			return nil, err
		}
		return checkNumeric(q)
	}))
	set(tree.Mod, types.Decimal, types.Decimal, dec(func(a, b *tree.DDecimal) (tree.Datum, error) {
		m, err := modDecimal(&a.Decimal, &b.Decimal)
		if err != nil {
			return nil, err
		}
		return checkNumeric(m)
	}))
	set(tree.Pow, types.Decimal, types.Decimal, func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		return leave(ctx, func(*tree.EvalContext) (tree.Datum, error) {
			return powDecimal(&l.(*tree.DDecimal).Decimal, &r.(*tree.DDecimal).Decimal)
		})
	})
	flt := func(f func(a, b float64) (float64, error)) binFn {
		return func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
			a, b := float64(*l.(*tree.DFloat)), float64(*r.(*tree.DFloat))
			c, err := f(a, b)
			if err != nil {
				return nil, err
			}
			if math.IsInf(c, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
				return nil, errFloatOverflow()
			}
			return tree.NewDFloat(tree.DFloat(c)), nil
		}
	}
	set(tree.Plus, types.Float, types.Float, flt(func(a, b float64) (float64, error) { return a + b, nil }))
	set(tree.Minus, types.Float, types.Float, flt(func(a, b float64) (float64, error) { return a - b, nil }))
	set(tree.Mult, types.Float, types.Float, flt(func(a, b float64) (float64, error) {
		if c := a * b; c != 0 || a == 0 || b == 0 {
			return c, nil
		}
		return 0, errFloatUnderflow()
	}))
	set(tree.Div, types.Float, types.Float, flt(func(a, b float64) (float64, error) {
		if b == 0 {
			return 0, errDivByZero()
		}
		if c := a / b; c != 0 || a == 0 || math.IsInf(b, 0) {
			return c, nil
		}
		return 0, errFloatUnderflow()
	}))
	set(tree.Pow, types.Float, types.Float, flt(powFloat))

	set(tree.Plus, types.Interval, types.Interval, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		return addIntervals(l.(*tree.DInterval).Duration, r.(*tree.DInterval).Duration)
	})
	set(tree.Minus, types.Interval, types.Interval, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		x := r.(*tree.DInterval).Duration
		if x.Nanos() == math.MinInt64 {
			return nil, errIntervalRange()
		}
		return addIntervals(l.(*tree.DInterval).Duration, duration.MakeDuration(-x.Nanos(), -x.Days, -x.Months))
	})
	set(tree.Div, types.Interval, types.Float, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		f := float64(*r.(*tree.DFloat))
		if f == 0 {
			return nil, errDivByZero()
		}
		return scaleInterval(l.(*tree.DInterval).Duration, 1/f, f, true)
	})
	set(tree.Div, types.Interval, types.Int, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		f := float64(tree.MustBeDInt(r))
		if f == 0 {
			return nil, errDivByZero()
		}
		return scaleInterval(l.(*tree.DInterval).Duration, 1/f, f, true)
	})
	for _, n := range []*types.T{types.Int, types.Float, types.Decimal} {
		toF := func(d tree.Datum) float64 {
			switch v := d.(type) {
			case *tree.DFloat:
				return float64(*v)
			case *tree.DDecimal:
				return decimalToFloat(&v.Decimal)
			}
			return float64(tree.MustBeDInt(d))
		}
		set(tree.Mult, types.Interval, n, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
			return scaleInterval(l.(*tree.DInterval).Duration, toF(r), 0, false)
		})
		set(tree.Mult, n, types.Interval, func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
			return scaleInterval(r.(*tree.DInterval).Duration, toF(l), 0, false)
		})
	}
	registerTimeOps(set)
	registerCompare()
	registerPatterns()
	registerJSONOps()
}

func errFloatOverflow() error {
	return pgerr.New(pgerr.NumericValueOutOfRange, "value out of range: overflow")
}

func errFloatUnderflow() error {
	return pgerr.New(pgerr.NumericValueOutOfRange, "value out of range: underflow")
}

const dayMicros = 24 * 60 * 60 * 1_000_000

// diffDays is an interval of days and a remainder of the same sign.
func diffDays(micros int64) *tree.DInterval {
	return &tree.DInterval{Duration: duration.MakeDuration(micros%dayMicros*1000, micros/dayMicros, 0)}
}

// scaleInterval multiplies (or divides) as interval_mul does: fractions of months
// go to days, fractions of days to time.
func scaleInterval(d duration.Duration, factor, divisor float64, div bool) (tree.Datum, error) {
	apply := func(v float64) float64 {
		if div {
			return v / divisor
		}
		return v * factor
	}
	months, days := float64(d.Months), float64(d.Days)
	// The comparison is false of NaN too.
	if !(math.Abs(apply(months)) < math.MaxInt32) || !(math.Abs(apply(days)) < math.MaxInt32) {
		return nil, errIntervalRange()
	}
	resMonths := int64(apply(months))
	resDays := int64(apply(days))
	monthRemDays := tsRound((apply(months) - float64(resMonths)) * 30)
	secRem := tsRound((apply(days) - float64(resDays) + monthRemDays - float64(int64(monthRemDays))) * 86400)
	if math.Abs(secRem) >= 86400 {
		resDays += int64(secRem / 86400)
		secRem -= float64(int64(secRem/86400)) * 86400
	}
	resDays += int64(monthRemDays)
	micros := math.RoundToEven(apply(float64(d.Nanos()/1000)) + secRem*1e6)
	// Time is kept in nanoseconds.
	if !(math.Abs(micros) < math.MaxInt64/1000) {
		return nil, errIntervalRange()
	}
	return inIntervalRange(duration.MakeDuration(int64(micros)*1000, resDays, resMonths))
}

// addIntervals adds field by field.
func addIntervals(a, b duration.Duration) (tree.Datum, error) {
	nanos := a.Nanos() + b.Nanos()
	if a.Nanos() > 0 && b.Nanos() > 0 && nanos < 0 || a.Nanos() < 0 && b.Nanos() < 0 && nanos >= 0 {
		return nil, errIntervalRange()
	}
	return inIntervalRange(duration.MakeDuration(nanos, a.Days+b.Days, a.Months+b.Months))
}

// inIntervalRange refuses months and days that do not fit 32 bits.
func inIntervalRange(d duration.Duration) (tree.Datum, error) {
	if d.Days != int64(int32(d.Days)) || d.Months != int64(int32(d.Months)) {
		return nil, errIntervalRange()
	}
	return &tree.DInterval{Duration: d}, nil
}

func errIntervalRange() error { return pgerr.New("22008", "interval out of range") }

func tsRound(v float64) float64 { return math.RoundToEven(v*1e6) / 1e6 }

func powFloat(a, b float64) (float64, error) {
	switch {
	case a == 0 && b < 0:
		return 0, pgerr.New("2201F", "zero raised to a negative power is undefined")
	case a < 0 && b != math.Floor(b) && !math.IsInf(a, 0) && !math.IsInf(b, 0):
		return 0, pgerr.New("2201F", "a negative number raised to a non-integer power yields a complex result")
	}
	c := math.Pow(a, b)
	if c == 0 && a != 0 && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		return 0, errFloatUnderflow()
	}
	return c, nil
}

// registerCompare gives comparisons the order of Compare. The parser's own has
// NaN below all numbers and NULLs in arrays first.
func registerCompare() {
	for _, op := range []tree.ComparisonOperator{tree.EQ, tree.LT, tree.LE} {
		for _, o := range tree.CmpOps[op] {
			c := o.(*tree.CmpOp)
			if c.LeftType.Family() == types.TupleFamily {
				c.Fn = compareRows(op)
				continue
			}
			c.Fn = compareFn(op, c.LeftType, c.RightType)
		}
	}
	// jsonb has an order, which the parser lacks. Its equality gives the parameters.
	for _, o := range tree.CmpOps[tree.EQ] {
		if c := o.(*tree.CmpOp); c.LeftType.Family() == types.JsonFamily {
			for _, op := range []tree.ComparisonOperator{tree.LT, tree.LE} {
				cp := *c
				cp.Fn = compareFn(op, c.LeftType, c.RightType)
				tree.CmpOps[op] = append(tree.CmpOps[op], &cp)
			}
			break
		}
	}
	for _, o := range tree.CmpOps[tree.IsNotDistinctFrom] {
		c := o.(*tree.CmpOp)
		if c.LeftType.Family() == types.TupleFamily {
			continue
		}
		c.Fn = func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
			if l == tree.DNull || r == tree.DNull {
				return tree.MakeDBool(l == tree.DNull && r == tree.DNull), nil
			}
			return tree.MakeDBool(Compare(ctx, l, r) == 0), nil
		}
	}
}

// compareRows compares row by row of the SQL standard: = is unknown if only NULLs
// keep it from being decided, < is decided by the first columns that differ.
func compareRows(op tree.ComparisonOperator) binFn {
	return func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		lt, lok := l.(*tree.DTuple)
		rt, rok := r.(*tree.DTuple)
		if !lok || !rok || len(lt.D) != len(rt.D) {
			return tree.DNull, nil
		}
		sawNull := false
		for i, a := range lt.D {
			b := rt.D[i]
			if a == tree.DNull || b == tree.DNull {
				if op != tree.EQ {
					return tree.DNull, nil
				}
				sawNull = true
				continue
			}
			if c := Compare(ctx, a, b); c != 0 {
				return tree.MakeDBool(op != tree.EQ && c < 0), nil
			}
		}
		if sawNull {
			return tree.DNull, nil
		}
		return tree.MakeDBool(op != tree.LT), nil
	}
}

func compareFn(op tree.ComparisonOperator, lt, rt *types.T) binFn {
	if lt.Family() == types.IntFamily && rt.Family() == types.IntFamily {
		return func(_ *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
			if l == tree.DNull || r == tree.DNull {
				return tree.DNull, nil
			}
			a, b := tree.MustBeDInt(l), tree.MustBeDInt(r)
			switch op {
			case tree.EQ:
				return tree.MakeDBool(a == b), nil
			case tree.LT:
				return tree.MakeDBool(a < b), nil
			}
			return tree.MakeDBool(a <= b), nil
		}
	}
	return func(ctx *tree.EvalContext, l, r tree.Datum) (tree.Datum, error) {
		if l == tree.DNull || r == tree.DNull {
			return tree.DNull, nil
		}
		c := Compare(ctx, l, r)
		switch op {
		case tree.EQ:
			return tree.MakeDBool(c == 0), nil
		case tree.LT:
			return tree.MakeDBool(c < 0), nil
		}
		return tree.MakeDBool(c <= 0), nil
	}
}
