package builtins

import (
	"math"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

var numberKeys = []string{
	",", ".", "0", "9", "B", "C", "D", "EEEE", "G", "L", "MI", "PL", "PR", "RN", "SG", "S", "V",
	"b", "c", "d", "eeee", "g", "l", "mi", "pl", "pr", "rn", "sg", "s", "v",
}

func defineNumberFormat(d definitions) {
	d.scalar("to_char", ts(tDec, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s, err := numberToChar(str(a[1]), &a[0].(*tree.DDecimal).Decimal)
		return tree.NewDString(s), err
	})
	d.scalar("to_char", ts(tInt, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		s, err := numberToChar(str(a[1]), apd.New(num(a[0]), 0))
		return tree.NewDString(s), err
	})
	d.scalar("to_char", ts(tFloat, tText), tText, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		f := float(a[0])
		var x apd.Decimal
		switch {
		case math.IsNaN(f):
			x.Form = apd.NaN
		case math.IsInf(f, 0):
			x.Form, x.Negative = apd.Infinite, f < 0
		default:
			if _, _, err := x.SetString(strconv.FormatFloat(f, 'g', 15, 64)); err != nil {
				return nil, err
			}
		}
		s, err := numberToChar(str(a[1]), plainScale(&x))
		return tree.NewDString(s), err
	})
	d.scalar("to_number", ts(tText, tText), tDec, func(_ *tree.EvalContext, a tree.Datums) (tree.Datum, error) {
		return toNumber(str(a[0]), str(a[1]))
	})
}

// numberToChar is to_char for numbers.
func numberToChar(f string, x *apd.Decimal) (string, error) {
	nodes := parsePicture(f, numberKeys)
	var pre, post, multi int // digits before and after the point, and after V
	var afterPoint, roman, sci, afterV, b bool
	zeroFrom := -1 // position of the first 0 among the digits before the point
	var sign, signPre, fm = "", false, strings.Contains(f, "FM") || strings.Contains(f, "fm")
	digits := 0
	for _, n := range nodes {
		switch strings.ToUpper(n.key) {
		case "9", "0":
			switch {
			case afterV:
				multi++
			case afterPoint:
				post++
			default:
				if n.key == "0" && zeroFrom < 0 {
					zeroFrom = pre
				}
				pre++
			}
			digits++
		case ".", "D":
			if afterPoint {
				return "", pgerr.New(pgerr.SyntaxError, "multiple decimal points")
			}
			afterPoint = true
		case "V":
			afterV = true
		case "S", "MI", "PL", "SG", "PR":
			if strings.EqualFold(n.key, "PL") {
				break // PL adds a plus beside the number's own sign.
			}
			sign = strings.ToUpper(n.key)
			if digits == 0 {
				signPre = true
			}
		case "RN":
			roman = true
		case "EEEE":
			sci = true
		case "B":
			b = true
		}
	}
	if roman {
		return romanNumber(x, fm), nil
	}
	if sci {
		if x.Form != apd.Finite {
			return " " + strings.Repeat("#", pre+post+6), nil
		}
		fl := strconv.FormatFloat(decimalToFloat(x), 'e', post, 64)
		if !x.Negative {
			fl = " " + fl
		}
		return fl, nil
	}
	if multi > 0 {
		x = mulDecimal(x, &apd.Decimal{Coeff: *pow10(int32(multi))})
		pre += multi
	}
	if x.Form != apd.Finite {
		s := strings.Repeat(" ", max(0, pre+1-3)) + "NaN"
		if x.Form == apd.Infinite {
			s = " " + strings.Repeat("#", pre)
			if x.Negative {
				s = "-" + strings.Repeat("#", pre)
			}
			if afterPoint {
				s += "." + strings.Repeat("#", post)
			}
			return s, nil
		}
		if fm {
			s = strings.TrimSpace(s)
		}
		return s, nil
	}
	r := roundDecimal(x, int32(post))
	neg := x.Negative && r.Coeff.Sign() != 0 || r.Negative
	abs := new(apd.Decimal).Set(r)
	abs.Negative = false
	txt := string(pgcodec.AppendDecimal(nil, abs))
	ip, fp, _ := strings.Cut(txt, ".")
	if ip == "0" && (pre == 0 || post > 0 || zeroFrom < 0) && !(post == 0 && !afterPoint) {
		ip = "" // No digit for an integer part of zero, unless a 0 asks for it.
	}
	if post == 0 && ip == "0" && afterPoint && zeroFrom < 0 {
		ip = ""
	}
	overflow := len(ip) > pre
	lead := pre - len(ip)
	// Which trailing digits of the fraction FM drops.
	lastFrac := post
	if fm {
		keep := 0
		k := 0
		seen := false
		for _, n := range nodes {
			switch strings.ToUpper(n.key) {
			case ".", "D":
				seen = true
			case "9", "0":
				if seen {
					k++
					if n.key == "0" || k <= len(fp) && fp[k-1] != '0' {
						keep = k
					}
				}
			}
		}
		lastFrac = keep
	}
	var out strings.Builder
	signDone := false
	putSign := func() {
		if signDone {
			return
		}
		signDone = true
		switch {
		case sign == "PR" && neg:
			out.WriteByte('<')
		case sign == "PR" && !fm:
			out.WriteByte(' ')
		case sign == "S" && signPre && neg, sign == "" && neg:
			out.WriteByte('-')
		case sign == "S" && signPre:
			out.WriteByte('+')
		case sign == "" && !fm:
			out.WriteByte(' ')
		}
	}
	pos, frac, started := 0, 0, false
	seenPoint := false
	for _, n := range nodes {
		switch strings.ToUpper(n.key) {
		case "":
			out.WriteString(n.text)
		case "9", "0":
			if seenPoint {
				frac++
				if overflow {
					if frac <= lastFrac || !fm {
						out.WriteByte('#')
					}
					continue
				}
				if frac <= lastFrac && frac <= len(fp) {
					out.WriteByte(fp[frac-1])
				}
				continue
			}
			pos++
			switch {
			case overflow:
				putSign()
				started = true
				out.WriteByte('#')
			case pos > lead:
				putSign()
				started = true
				out.WriteByte(ip[pos-lead-1])
			case zeroFrom >= 0 && pos > zeroFrom:
				putSign()
				started = true
				out.WriteByte('0')
			case !fm:
				out.WriteByte(' ')
			}
		case ",", "G":
			if started {
				out.WriteByte(',')
			} else if !fm {
				out.WriteByte(' ')
			}
		case ".", "D":
			seenPoint = true
			putSign()
			if !fm || lastFrac > 0 || strings.ToUpper(n.key) == "." || n.key == "D" {
				out.WriteByte('.')
			}
			started = true
		case "S":
			if !signPre {
				putSign()
				if neg {
					out.WriteByte('-')
				} else {
					out.WriteByte('+')
				}
			}
		case "MI":
			switch {
			case neg:
				out.WriteByte('-')
			case !fm:
				out.WriteByte(' ')
			}
		case "PL":
			switch {
			case !neg:
				out.WriteByte('+')
			case !fm:
				out.WriteByte(' ')
			}
		case "SG":
			if neg {
				out.WriteByte('-')
			} else {
				out.WriteByte('+')
			}
		case "L", "C":
			if !fm {
				out.WriteByte(' ')
			}
		}
		if n.th != "" && n.key != "" && !neg && pos == pre && !afterPoint {
			if v, err := abs.Int64(); err == nil {
				out.WriteString(ordinal(int(v%100), n.th))
			}
		}
	}
	if sign == "PR" {
		if neg {
			out.WriteByte('>')
		} else if !fm {
			out.WriteByte(' ')
		}
	}
	s := out.String()
	if b && r.Coeff.Sign() == 0 {
		s = strings.Repeat(" ", len(s))
	}
	if !signDone && sign == "" && neg {
		s = "-" + s
	}
	return s, nil
}

func romanNumber(x *apd.Decimal, fm bool) string {
	n, err := roundDecimal(x, 0).Int64()
	if err != nil || n < 1 || n > 3999 {
		return strings.Repeat("#", 15)
	}
	var b strings.Builder
	for _, r := range []struct {
		v int64
		s string
	}{{1000, "M"}, {900, "CM"}, {500, "D"}, {400, "CD"}, {100, "C"}, {90, "XC"}, {50, "L"}, {40, "XL"}, {10, "X"}, {9, "IX"}, {5, "V"}, {4, "IV"}, {1, "I"}} {
		for n >= r.v {
			b.WriteString(r.s)
			n -= r.v
		}
	}
	if fm {
		return b.String()
	}
	return strings.Repeat(" ", 15-b.Len()) + b.String()
}

// toNumber reads a number as its picture says.
func toNumber(s, f string) (tree.Datum, error) {
	if f == "" {
		return tree.DNull, nil
	}
	var b strings.Builder
	neg := false
	nodes := parsePicture(f, numberKeys)
	rest := s
	shift := int32(0)
	afterV, afterPoint := false, false
	takeSign := func() {
		for rest != "" && (rest[0] == ' ' || rest[0] == '+' || rest[0] == '-' || rest[0] == '<') {
			if rest[0] == '-' || rest[0] == '<' {
				neg = true
			}
			stop := rest[0] != ' '
			rest = rest[1:]
			if stop {
				break
			}
		}
	}
	takeSign()
	for _, n := range nodes {
		switch strings.ToUpper(n.key) {
		case "9", "0":
			if afterV {
				shift++
			}
			if rest == "" {
				continue
			}
			if c := rest[0]; c >= '0' && c <= '9' {
				b.WriteByte(c)
				rest = rest[1:]
			} else if c == '.' && !afterPoint {
				continue
			}
		case ".", "D":
			if strings.HasPrefix(rest, ".") {
				b.WriteByte('.')
				rest = rest[1:]
			}
			afterPoint = true
		case ",", "G":
			rest = strings.TrimPrefix(rest, ",")
		case "V":
			afterV = true
		case "S", "MI", "SG", "PL", "PR":
			takeSign()
		case "L", "C":
			if rest != "" && (rest[0] < '0' || rest[0] > '9') {
				rest = rest[1:]
			}
		case "":
			for range n.text {
				if rest != "" {
					rest = rest[1:]
				}
			}
		}
	}
	txt := b.String()
	if txt == "" || txt == "." {
		return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "invalid input syntax for type numeric: %q", " ")
	}
	if strings.HasPrefix(strings.TrimSpace(rest), "-") || strings.HasPrefix(rest, ">") {
		neg = neg || strings.Contains(strings.ToUpper(f), "MI") || strings.HasPrefix(rest, ">")
	}
	var x apd.Decimal
	if _, _, err := x.SetString(txt); err != nil {
		return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "invalid input syntax for type numeric: %q", s)
	}
	x.Negative = neg && x.Coeff.Sign() != 0
	out := plainScale(&x)
	if shift > 0 {
		out = quoDecimal(out, &apd.Decimal{Coeff: *pow10(shift)}, scaleOf(out)+shift)
	}
	return &tree.DDecimal{Decimal: *out}, nil
}
