package builtins

import (
	"math"
	"math/big"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// apdContext computes with precision significant digits and room to spare.
func apdContext(precision int32) *apd.Context {
	c := apd.BaseContext.WithPrecision(uint32(max(precision, 1)))
	c.Rounding = apd.RoundHalfUp // half away from zero
	c.MaxExponent, c.MinExponent = apd.MaxExponent, apd.MinExponent
	c.Traps = 0
	return c
}

func sqrtDecimal(x *apd.Decimal) (*apd.Decimal, error) {
	switch {
	case x.Form == apd.NaN:
		return x, nil
	case x.Negative && !(x.Form == apd.Finite && x.Coeff.Sign() == 0):
		return nil, pgerr.New("2201F", "cannot take square root of a negative number")
	case x.Form == apd.Infinite:
		return x, nil
	}
	weight, _ := nbaseWeight(x)
	var sweight int32
	if weight >= 0 {
		sweight = weight*decDigits/2 + 1
	} else {
		sweight = 1 - (-weight*decDigits)/2
	}
	if x.Coeff.Sign() == 0 {
		sweight = 1
	}
	return sqrtToScale(x, max(numericMinSigDigits-sweight, scaleOf(x), 0)), nil
}

// sqrtToScale is the root of a finite x that is not negative.
func sqrtToScale(x *apd.Decimal, rscale int32) *apd.Decimal {
	// floor(sqrt(x * 10^(2s))) with two more digits, then rounded.
	s := rscale + 2
	n := new(big.Int).Set(&x.Coeff)
	shift := x.Exponent + 2*s
	if shift >= 0 {
		n.Mul(n, pow10(shift))
	} else {
		n.Quo(n, pow10(-shift))
	}
	out := &apd.Decimal{Exponent: -s}
	out.Coeff.Sqrt(n)
	return roundDecimal(out, rscale)
}

func expDecimal(x *apd.Decimal) (*apd.Decimal, error) {
	switch {
	case x.Form == apd.NaN:
		return x, nil
	case x.Form == apd.Infinite:
		if x.Negative {
			return &apd.Decimal{}, nil
		}
		return x, nil
	}
	f := decimalToFloat(x)
	if f > 300000 {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	// Digits of the result's weight, as exp_var estimates them.
	val := f * 0.434294481903252
	val = max(val, -2000)
	val = min(val, 2000)
	rscale := numericMinSigDigits - int32(val)
	rscale = min(max(rscale, scaleOf(x), 0), 1000)
	out := new(apd.Decimal)
	if _, err := apdContext(int32(math.Abs(val))+rscale+20).Exp(out, x); err != nil {
		return nil, err
	}
	return roundDecimal(out, rscale), nil
}

func checkLog(x *apd.Decimal) error {
	if x.Form == apd.NaN {
		return nil
	}
	if x.Form == apd.Finite && x.Coeff.Sign() == 0 {
		return pgerr.New("2201E", "cannot take logarithm of zero")
	}
	if x.Negative {
		return pgerr.New("2201E", "cannot take logarithm of a negative number")
	}
	return nil
}

// lnWeight estimates the decimal weight of ln(x), as estimate_ln_dweight does.
func lnWeight(x *apd.Decimal) int32 {
	f := decimalToFloat(x)
	if f >= 0.9 && f <= 1.1 {
		diff := addDecimal(x, apd.New(-1, 0))
		if diff.Coeff.Sign() == 0 {
			return 0
		}
		w, first := nbaseWeight(diff)
		return w*decDigits + int32(math.Log10(float64(first)))
	}
	l := math.Abs(math.Log(f))
	if math.IsInf(l, 0) || l == 0 {
		l = math.Abs(float64(len(x.Coeff.String()))+float64(x.Exponent)) * 2.302585092994046
	}
	return int32(math.Log10(l))
}

func lnDecimal(x *apd.Decimal) (*apd.Decimal, error) {
	if err := checkLog(x); err != nil {
		return nil, err
	}
	if x.Form != apd.Finite {
		return x, nil
	}
	rscale := numericMinSigDigits - lnWeight(x)
	rscale = min(max(rscale, scaleOf(x), 0), 1000)
	out := new(apd.Decimal)
	if _, err := apdContext(rscale+30).Ln(out, x); err != nil {
		return nil, err
	}
	return roundDecimal(out, rscale), nil
}

func logDecimal(base, x *apd.Decimal) (*apd.Decimal, error) {
	for _, d := range []*apd.Decimal{base, x} {
		if err := checkLog(d); err != nil {
			return nil, err
		}
		if d.Form != apd.Finite {
			return &apd.Decimal{Form: apd.NaN}, nil
		}
	}
	bw, xw := lnWeight(base), lnWeight(x)
	rscale := numericMinSigDigits - (xw - bw)
	rscale = min(max(rscale, scaleOf(base), scaleOf(x), 0), 1000)
	ctx := apdContext(rscale + 40)
	var lb, lx apd.Decimal
	if _, err := ctx.Ln(&lb, base); err != nil {
		return nil, err
	}
	if _, err := ctx.Ln(&lx, x); err != nil {
		return nil, err
	}
	if lb.Coeff.Sign() == 0 {
		return nil, errDivByZero()
	}
	return quoDecimal(&lx, &lb, rscale), nil
}

// powDecimal is numeric ^ numeric.
func powDecimal(a, b *apd.Decimal) (tree.Datum, error) {
	one := apd.New(1, 0)
	switch {
	case a.Form == apd.NaN:
		if b.Form == apd.Finite && b.Coeff.Sign() == 0 {
			return checkNumeric(one)
		}
		return checkNumeric(a)
	case b.Form == apd.NaN:
		if a.Cmp(one) == 0 {
			return checkNumeric(one)
		}
		return checkNumeric(b)
	}
	if a.Form != apd.Finite || b.Form != apd.Finite {
		f, err := powFloat(decimalToFloat(a), decimalToFloat(b))
		if err != nil {
			return nil, err
		}
		return CastDatum(nil, tree.NewDFloat(tree.DFloat(f)), tDec, ExplicitCast)
	}
	bInt := floorDecimal(b, false).Cmp(b) == 0
	switch {
	case a.Coeff.Sign() == 0 && b.Negative:
		return nil, pgerr.New("2201F", "zero raised to a negative power is undefined")
	case a.Negative && !bInt:
		return nil, pgerr.New("2201F", "a negative number raised to a non-integer power yields a complex result")
	case a.Coeff.Sign() == 0 && b.Coeff.Sign() == 0:
		return checkNumeric(roundDecimal(one, numericMinSigDigits))
	case a.Coeff.Sign() == 0:
		return checkNumeric(roundDecimal(&apd.Decimal{}, numericMinSigDigits))
	}
	if bInt {
		if n, err := truncDecimal(b, 0).Int64(); err == nil && n >= math.MinInt32 && n <= math.MaxInt32 {
			return powInt(a, n, scaleOf(a))
		}
	}
	// exp(b * ln(a)), with the scale that power_var chooses.
	abs := new(apd.Decimal).Set(a)
	abs.Negative = false
	est := decimalToFloat(b) * lnFloat(abs)
	if est > 300000 {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	val := min(max(est*0.434294481903252, -2000), 2000)
	rscale := numericMinSigDigits - int32(val)
	rscale = min(max(rscale, scaleOf(a), scaleOf(b), 0), 1000)
	ctx := apdContext(int32(math.Abs(val)) + rscale + 40)
	var l, r apd.Decimal
	if _, err := ctx.Ln(&l, abs); err != nil {
		return nil, err
	}
	if _, err := ctx.Mul(&l, &l, b); err != nil {
		return nil, err
	}
	if _, err := ctx.Exp(&r, &l); err != nil {
		return nil, err
	}
	out := roundDecimal(&r, rscale)
	if a.Negative && bInt && new(big.Int).And(&truncDecimal(b, 0).Coeff, big.NewInt(1)).Sign() != 0 {
		out.Negative = true
	}
	return checkNumeric(out)
}

func lnFloat(x *apd.Decimal) float64 {
	f := decimalToFloat(x)
	if f == 0 || math.IsInf(f, 0) {
		digits := len(x.Coeff.String())
		return (float64(digits) + float64(x.Exponent)) * math.Ln10
	}
	return math.Log(f)
}

// powInt is a to an integer power, with the scale of power_var_int.
func powInt(a *apd.Decimal, n int64, ascale int32) (tree.Datum, error) {
	f := math.Abs(decimalToFloat(a))
	weight := float64(0)
	if f > 0 && !math.IsInf(f, 0) {
		weight = math.Log10(f) * float64(n)
	} else {
		weight = (float64(len(a.Coeff.String())) + float64(a.Exponent)) * float64(n)
	}
	if weight > numericMaxDigits {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	if weight < -numericMaxResultScale-1 {
		return checkNumeric(roundDecimal(&apd.Decimal{}, numericMaxResultScale))
	}
	rscale := min(max(numericMinSigDigits, ascale), 1000)
	if n == 0 {
		return checkNumeric(roundDecimal(apd.New(1, 0), rscale))
	}
	neg := n < 0
	if neg {
		n = -n
	}
	ctx := apdContext(int32(math.Abs(weight)) + rscale + 40)
	result, base := apd.New(1, 0), new(apd.Decimal).Set(a)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			if _, err := ctx.Mul(result, result, base); err != nil {
				return nil, err
			}
		}
		if n > 1 {
			if _, err := ctx.Mul(base, base, base); err != nil {
				return nil, err
			}
		}
	}
	if neg {
		return checkNumeric(quoDecimal(apd.New(1, 0), result, rscale))
	}
	return checkNumeric(roundDecimal(result, rscale))
}
