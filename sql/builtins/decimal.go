package builtins

import (
	"math/big"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// PostgreSQL's limits of numeric.
const (
	numericMaxResultScale = 16383
	numericMinSigDigits   = 16
	numericMaxDigits      = 131072
	decDigits             = 4 // digits per NBASE digit
)

var bigTen = big.NewInt(10)

func pow10(n int32) *big.Int { return new(big.Int).Exp(bigTen, big.NewInt(int64(n)), nil) }

// plainScale returns d without a positive exponent: PostgreSQL's numerics have a
// scale of at least 0.
func plainScale(d *apd.Decimal) *apd.Decimal {
	if d.Form != apd.Finite || d.Exponent <= 0 {
		return d
	}
	out := &apd.Decimal{Negative: d.Negative}
	out.Coeff.Mul(&d.Coeff, pow10(d.Exponent))
	return out
}

func scaleOf(d *apd.Decimal) int32 {
	if d.Exponent < 0 {
		return -d.Exponent
	}
	return 0
}

// roundDecimal rounds half away from zero to scale digits after the point, which
// may be negative. The result has exactly that scale (or 0).
func roundDecimal(d *apd.Decimal, scale int32) *apd.Decimal {
	if d.Form != apd.Finite {
		return d
	}
	out := &apd.Decimal{Negative: d.Negative, Exponent: -scale}
	if diff := d.Exponent + scale; diff >= 0 {
		out.Coeff.Mul(&d.Coeff, pow10(diff))
	} else {
		div := pow10(-diff)
		var rem big.Int
		out.Coeff.QuoRem(&d.Coeff, div, &rem)
		if rem.Lsh(&rem, 1).Cmp(div) >= 0 {
			out.Coeff.Add(&out.Coeff, big.NewInt(1))
		}
	}
	if out.Coeff.Sign() == 0 {
		out.Negative = false
	}
	if scale < 0 {
		return plainScale(out)
	}
	return out
}

// truncDecimal cuts digits after scale.
func truncDecimal(d *apd.Decimal, scale int32) *apd.Decimal {
	if d.Form != apd.Finite {
		return d
	}
	out := &apd.Decimal{Negative: d.Negative, Exponent: -scale}
	if diff := d.Exponent + scale; diff >= 0 {
		out.Coeff.Mul(&d.Coeff, pow10(diff))
	} else {
		out.Coeff.Quo(&d.Coeff, pow10(-diff))
	}
	if out.Coeff.Sign() == 0 {
		out.Negative = false
	}
	if scale < 0 {
		return plainScale(out)
	}
	return out
}

// nbaseWeight returns, for a non-zero finite d, the weight of its first base-10000
// digit and that digit, as PostgreSQL's choice of result scales needs them.
func nbaseWeight(d *apd.Decimal) (weight int32, first int64) {
	if d.Coeff.Sign() == 0 {
		return 0, 0
	}
	digits := int32(len(d.Coeff.String()))
	intDigits := digits + d.Exponent // digits before the point; may be negative
	// weight = floor((intDigits-1)/4)
	w := intDigits - 1
	if w >= 0 {
		weight = w / decDigits
	} else {
		weight = -((-w + decDigits - 1) / decDigits)
	}
	// first = floor(|d| / 10^(4*weight))
	shift := d.Exponent - decDigits*weight
	var v big.Int
	if shift >= 0 {
		v.Mul(&d.Coeff, pow10(shift))
	} else {
		v.Quo(&d.Coeff, pow10(-shift))
	}
	return weight, v.Int64()
}

// divScale is the number of digits after the point of a quotient: at least 16
// significant digits, and no fewer than either operand has.
func divScale(a, b *apd.Decimal) int32 {
	w1, f1 := nbaseWeight(a)
	w2, f2 := nbaseWeight(b)
	qweight := w1 - w2
	if f1 <= f2 {
		qweight--
	}
	rscale := numericMinSigDigits - qweight*decDigits
	rscale = max(rscale, scaleOf(a), scaleOf(b), 0)
	return min(rscale, 1000)
}

// divDecimal is numeric division. Its result has the scale that PostgreSQL chooses.
func divDecimal(a, b *apd.Decimal) (*apd.Decimal, error) {
	if d, done, err := specialDiv(a, b); done {
		return d, err
	}
	return quoDecimal(a, b, divScale(a, b)), nil
}

// quoDecimal divides finite values, rounding half away from zero to scale.
func quoDecimal(a, b *apd.Decimal, scale int32) *apd.Decimal {
	out := &apd.Decimal{Negative: a.Negative != b.Negative, Exponent: -scale}
	// a*10^ea / (b*10^eb) * 10^scale
	var num, den, rem big.Int
	num.Set(&a.Coeff)
	den.Set(&b.Coeff)
	if shift := a.Exponent - b.Exponent + scale; shift >= 0 {
		num.Mul(&num, pow10(shift))
	} else {
		den.Mul(&den, pow10(-shift))
	}
	out.Coeff.QuoRem(&num, &den, &rem)
	if rem.Lsh(&rem, 1).Cmp(&den) >= 0 {
		out.Coeff.Add(&out.Coeff, big.NewInt(1))
	}
	if out.Coeff.Sign() == 0 {
		out.Negative = false
	}
	return out
}

func specialDiv(a, b *apd.Decimal) (*apd.Decimal, bool, error) {
	nan := func() *apd.Decimal { return &apd.Decimal{Form: apd.NaN} }
	switch {
	case a.Form == apd.NaN || b.Form == apd.NaN:
		return nan(), true, nil
	case a.Form == apd.Infinite && b.Form == apd.Infinite:
		return nan(), true, nil
	case b.Form == apd.Finite && b.Coeff.Sign() == 0:
		return nil, true, errDivByZero()
	case a.Form == apd.Infinite:
		return &apd.Decimal{Form: apd.Infinite, Negative: a.Negative != b.Negative}, true, nil
	case b.Form == apd.Infinite:
		return &apd.Decimal{}, true, nil
	}
	return nil, false, nil
}

// modDecimal is the remainder with the dividend's sign.
func modDecimal(a, b *apd.Decimal) (*apd.Decimal, error) {
	switch {
	case a.Form == apd.NaN || b.Form == apd.NaN || a.Form == apd.Infinite:
		if b.Form == apd.Finite && b.Coeff.Sign() == 0 && a.Form != apd.NaN {
			return nil, errDivByZero()
		}
		return &apd.Decimal{Form: apd.NaN}, nil
	case b.Form == apd.Infinite:
		return a, nil
	case b.Coeff.Sign() == 0:
		return nil, errDivByZero()
	}
	e := min(a.Exponent, b.Exponent, 0)
	var x, y big.Int
	x.Mul(&a.Coeff, pow10(a.Exponent-e))
	y.Mul(&b.Coeff, pow10(b.Exponent-e))
	out := &apd.Decimal{Exponent: e}
	out.Coeff.Rem(&x, &y)
	out.Negative = a.Negative && out.Coeff.Sign() != 0
	return out, nil
}

func addDecimal(a, b *apd.Decimal) *apd.Decimal {
	if a.Form != apd.Finite || b.Form != apd.Finite {
		switch {
		case a.Form == apd.NaN || b.Form == apd.NaN,
			a.Form == apd.Infinite && b.Form == apd.Infinite && a.Negative != b.Negative:
			return &apd.Decimal{Form: apd.NaN}
		case a.Form == apd.Infinite:
			return a
		}
		return b
	}
	e := min(a.Exponent, b.Exponent)
	var x, y big.Int
	x.Set(&a.Coeff)
	if a.Exponent > e {
		x.Mul(&x, pow10(a.Exponent-e))
	}
	y.Set(&b.Coeff)
	if b.Exponent > e {
		y.Mul(&y, pow10(b.Exponent-e))
	}
	if a.Negative {
		x.Neg(&x)
	}
	if b.Negative {
		y.Neg(&y)
	}
	out := &apd.Decimal{Exponent: e}
	out.Coeff.Add(&x, &y)
	if out.Coeff.Sign() < 0 {
		out.Negative = true
		out.Coeff.Neg(&out.Coeff)
	}
	return plainScale(out)
}

func negDecimal(a *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal).Set(a)
	if a.Form == apd.Infinite || a.Form == apd.Finite && a.Coeff.Sign() != 0 {
		out.Negative = !a.Negative
	}
	return out
}

func mulDecimal(a, b *apd.Decimal) *apd.Decimal {
	if a.Form != apd.Finite || b.Form != apd.Finite {
		zero := func(d *apd.Decimal) bool { return d.Form == apd.Finite && d.Coeff.Sign() == 0 }
		if a.Form == apd.NaN || b.Form == apd.NaN || zero(a) || zero(b) {
			return &apd.Decimal{Form: apd.NaN}
		}
		return &apd.Decimal{Form: apd.Infinite, Negative: a.Negative != b.Negative}
	}
	a, b = plainScale(a), plainScale(b) // 1e20 has scale 0, not -20.
	out := &apd.Decimal{Exponent: a.Exponent + b.Exponent}
	out.Coeff.Mul(&a.Coeff, &b.Coeff)
	out.Negative = a.Negative != b.Negative && out.Coeff.Sign() != 0
	if scaleOf(out) > numericMaxResultScale {
		return roundDecimal(out, numericMaxResultScale)
	}
	return plainScale(out)
}

// checkNumeric says 22003 for values beyond what numeric holds.
func checkNumeric(d *apd.Decimal) (tree.Datum, error) {
	if d.Form == apd.Finite && int64(d.Coeff.BitLen())*3/10+int64(d.Exponent) > numericMaxDigits {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	return &tree.DDecimal{Decimal: *d}, nil
}

func errDivByZero() error { return pgerr.New(pgerr.DivisionByZero, "division by zero") }
