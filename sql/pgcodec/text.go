package pgcodec

import (
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"
)

// AppendText appends the text form of d, which is not NULL.
func (c *Codec) AppendText(b []byte, d tree.Datum, s *Settings) []byte {
	switch v := d.(type) {
	case *tree.DInt:
		return strconv.AppendInt(b, int64(*v), 10)
	case *tree.DString:
		return c.appendString(b, string(*v))
	case *tree.DBool:
		if *v {
			return append(b, 't')
		}
		return append(b, 'f')
	case *tree.DFloat:
		if c.OID == oid.T_float4 {
			return appendFloat(b, float64(*v), 32, s.ExtraFloatDigits)
		}
		return appendFloat(b, float64(*v), 64, s.ExtraFloatDigits)
	case *tree.DDecimal:
		return AppendDecimal(b, &v.Decimal)
	case *tree.DBytes:
		return appendBytea(b, string(*v), s.ByteaEscape)
	case *tree.DDate:
		return appendDate(b, v.Date)
	case *tree.DTime:
		return appendTimeOfDay(b, int64(*v))
	case *tree.DTimeTZ:
		b = appendTimeOfDay(b, int64(v.TimeOfDay))
		return appendOffset(b, -int(v.OffsetSecs))
	case *tree.DTimestamp:
		return appendTimestamp(b, v.Time.UTC(), false)
	case *tree.DTimestampTZ:
		loc := s.Location
		if loc == nil {
			loc = time.UTC
		}
		return appendTimestamp(b, v.Time.In(loc), true)
	case *tree.DInterval:
		return appendInterval(b, v.Duration, s.IntervalStyle)
	case *tree.DUuid:
		return appendUUID(b, v.UUID.GetBytes())
	case *tree.DIPAddr:
		return appendINet(b, v.IPAddr)
	case *tree.DBitArray:
		return append(b, v.BitArray.String()...)
	case *tree.DJSON:
		return AppendJSON(b, v.JSON)
	case *tree.DOid:
		return c.appendOID(b, v)
	case *tree.DArray:
		return c.appendArray(b, v, s)
	case *tree.DTuple:
		return appendRecord(b, v, s)
	case *tree.DCollatedString:
		return c.appendString(b, v.Contents)
	case *tree.DOidWrapper:
		return c.AppendText(b, v.Wrapped, s)
	}
	return append(b, tree.AsStringWithFlags(d, tree.FmtPgwireText)...)
}

// appendString pads char(n) with blanks, which is how PostgreSQL keeps it.
func (c *Codec) appendString(b []byte, s string) []byte {
	b = append(b, s...)
	if c.OID == oid.T_bpchar && c.TypMod > 4 {
		for n := utf8.RuneCountInString(s); n < int(c.TypMod)-4; n++ {
			b = append(b, ' ')
		}
	}
	return b
}

// appendOID prints the reg* types by name when the datum knows it, and 0 as "-".
func (c *Codec) appendOID(b []byte, v *tree.DOid) []byte {
	switch c.OID {
	case oid.T_oid, oid.T_xid, oid.T_cid, oid.T_int4, oid.T_int8:
		return strconv.AppendUint(b, uint64(uint32(v.DInt)), 10)
	}
	if v.ResolvedType().Oid() == oid.T_oid {
		return strconv.AppendUint(b, uint64(uint32(v.DInt)), 10)
	}
	f := tree.NewFmtCtx(tree.FmtPgwireText)
	v.Format(f)
	name := f.CloseAndGetString()
	if n := len(name); n >= 2 && name[0] == '\'' && name[n-1] == '\'' {
		// The datum quotes what is not one word.
		name = strings.ReplaceAll(name[1:n-1], "''", "'")
	}
	if name == "0" {
		return append(b, '-')
	}
	return append(b, name...)
}

// appendFloat follows PostgreSQL: with extra digits the shortest text that
// reads back, else 15 (or 6) significant digits.
func appendFloat(b []byte, f float64, bits, extraDigits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	}
	digits, limit := 15, 15
	if bits == 32 {
		digits, limit = 6, 6
	}
	if extraDigits > 0 {
		if f == 0 {
			if math.Signbit(f) {
				return append(b, "-0"...)
			}
			return append(b, '0')
		}
		exp := exponentOf(b, f, -1, bits)
		if exp < -4 || exp >= limit {
			return strconv.AppendFloat(b, f, 'e', -1, bits)
		}
		return strconv.AppendFloat(b, f, 'f', -1, bits)
	}
	// %.{digits}g of C: fixed notation below 10^digits, no trailing zeros.
	digits = max(digits+extraDigits, 1)
	exp := 0
	if f != 0 {
		exp = exponentOf(b, f, digits-1, bits)
	}
	start := len(b)
	if exp < -4 || exp >= digits {
		b = strconv.AppendFloat(b, f, 'e', digits-1, bits)
		e := start
		for b[e] != 'e' {
			e++
		}
		tail := string(b[e:])
		return append(trimZeros(b[:e], start), tail...)
	}
	return trimZeros(strconv.AppendFloat(b, f, 'f', digits-1-exp, bits), start)
}

// exponentOf returns the decimal exponent of f after rounding to prec digits,
// using the free end of scratch.
func exponentOf(scratch []byte, f float64, prec, bits int) int {
	e := strconv.AppendFloat(scratch, f, 'e', prec, bits)[len(scratch):]
	for i := len(e) - 1; i >= 0; i-- {
		if e[i] == 'e' {
			n, _ := strconv.Atoi(string(e[i+1:]))
			return n
		}
	}
	return 0
}

// trimZeros drops trailing zeros of a fraction that begins after start.
func trimZeros(b []byte, start int) []byte {
	dot := false
	for _, ch := range b[start:] {
		dot = dot || ch == '.'
	}
	if !dot {
		return b
	}
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	if b[len(b)-1] == '.' {
		b = b[:len(b)-1]
	}
	return b
}

// AppendDecimal prints d with all digits of its scale and never an exponent.
func AppendDecimal(b []byte, d *apd.Decimal) []byte {
	switch d.Form {
	case apd.NaN, apd.NaNSignaling:
		return append(b, "NaN"...)
	case apd.Infinite:
		if d.Negative {
			b = append(b, '-')
		}
		return append(b, "Infinity"...)
	}
	if d.Negative && d.Coeff.Sign() != 0 {
		b = append(b, '-')
	}
	start := len(b)
	if d.Coeff.IsInt64() {
		b = strconv.AppendInt(b, d.Coeff.Int64(), 10)
	} else {
		b = d.Coeff.Append(b, 10)
	}
	if d.Exponent >= 0 {
		if d.Coeff.Sign() == 0 {
			return b
		}
		for range d.Exponent {
			b = append(b, '0')
		}
		return b
	}
	scale := -int(d.Exponent)
	if missing := scale + 1 - (len(b) - start); missing > 0 {
		for range missing {
			b = append(b, '0')
		}
		copy(b[start+missing:], b[start:len(b)-missing])
		for i := range missing {
			b[start+i] = '0'
		}
	}
	b = append(b, 0)
	point := len(b) - 1 - scale
	copy(b[point+1:], b[point:len(b)-1])
	b[point] = '.'
	return b
}

func appendBytea(b []byte, s string, escape bool) []byte {
	if !escape {
		b = append(b, '\\', 'x')
		const digits = "0123456789abcdef"
		for i := 0; i < len(s); i++ {
			b = append(b, digits[s[i]>>4], digits[s[i]&15])
		}
		return b
	}
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '\\':
			b = append(b, '\\', '\\')
		case ch < 0x20 || ch > 0x7e:
			b = append(b, '\\', '0'+ch>>6, '0'+ch>>3&7, '0'+ch&7)
		default:
			b = append(b, ch)
		}
	}
	return b
}

func appendDate(b []byte, d pgdate.Date) []byte {
	if !d.IsFinite() {
		if d.PGEpochDays() > 0 {
			return append(b, "infinity"...)
		}
		return append(b, "-infinity"...)
	}
	t, _ := d.ToTime() // Only infinite dates have none.
	y, m, day := t.Date()
	return appendEra(appendYMD(b, y, int(m), day), y)
}

// appendYMD prints year 0 and below as the years BC that appendEra then names.
func appendYMD(b []byte, y, m, d int) []byte {
	if y <= 0 {
		y = 1 - y
	}
	if y < 10000 {
		b = append(b, byte('0'+y/1000), byte('0'+y/100%10), byte('0'+y/10%10), byte('0'+y%10))
	} else {
		b = strconv.AppendInt(b, int64(y), 10)
	}
	b = append(b, '-')
	b = append2(b, m)
	b = append(b, '-')
	return append2(b, d)
}

func appendEra(b []byte, y int) []byte {
	if y <= 0 {
		return append(b, " BC"...)
	}
	return b
}

func append2(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

// appendFraction prints microseconds without trailing zeros.
func appendFraction(b []byte, micros int) []byte {
	if micros == 0 {
		return b
	}
	b = append(b, '.', byte('0'+micros/100000), byte('0'+micros/10000%10), byte('0'+micros/1000%10),
		byte('0'+micros/100%10), byte('0'+micros/10%10), byte('0'+micros%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

func appendTimeOfDay(b []byte, micros int64) []byte {
	secs := int(micros / 1e6)
	b = append2(b, secs/3600)
	b = append(b, ':')
	b = append2(b, secs/60%60)
	b = append(b, ':')
	b = append2(b, secs%60)
	return appendFraction(b, int(micros%1e6))
}

// appendOffset prints seconds east of UTC as +hh[:mm[:ss]].
func appendOffset(b []byte, secs int) []byte {
	sign := byte('+')
	if secs < 0 {
		sign, secs = '-', -secs
	}
	b = append(b, sign)
	b = append2(b, secs/3600)
	if secs%3600 != 0 {
		b = append(b, ':')
		b = append2(b, secs/60%60)
		if secs%60 != 0 {
			b = append(b, ':')
			b = append2(b, secs%60)
		}
	}
	return b
}

func appendTimestamp(b []byte, t time.Time, zone bool) []byte {
	if t.Equal(pgdate.TimeInfinity) {
		return append(b, "infinity"...)
	}
	if t.Equal(pgdate.TimeNegativeInfinity) {
		return append(b, "-infinity"...)
	}
	y, m, d := t.Date()
	b = appendYMD(b, y, int(m), d)
	b = append(b, ' ')
	hh, mm, ss := t.Clock()
	b = append2(b, hh)
	b = append(b, ':')
	b = append2(b, mm)
	b = append(b, ':')
	b = append2(b, ss)
	b = appendFraction(b, t.Nanosecond()/1000)
	if zone {
		_, off := t.Zone()
		b = appendOffset(b, off)
	}
	return appendEra(b, y)
}

func appendUUID(b, u []byte) []byte {
	n := len(b)
	b = append(b, "00000000-0000-0000-0000-000000000000"...)
	out := b[n:]
	hex.Encode(out[0:8], u[0:4])
	hex.Encode(out[9:13], u[4:6])
	hex.Encode(out[14:18], u[6:8])
	hex.Encode(out[19:23], u[8:10])
	hex.Encode(out[24:36], u[10:16])
	return b
}

func appendINet(b []byte, ip ipaddr.IPAddr) []byte {
	return append(b, ip.String()...)
}

// appendArray prints {a,b} with quotes where an element needs them; the two
// vector types of the catalog are blank-separated.
func (c *Codec) appendArray(b []byte, a *tree.DArray, s *Settings) []byte {
	elem := c.elem
	if elem == nil {
		e := Make(a.ParamTyp, 0, -1)
		elem = &e
	}
	if c.OID == oid.T_int2vector || c.OID == oid.T_oidvector {
		for i, d := range a.Array {
			if i > 0 {
				b = append(b, ' ')
			}
			b = elem.AppendText(b, d, s)
		}
		return b
	}
	b = append(b, '{')
	for i, d := range a.Array {
		if i > 0 {
			b = append(b, ',')
		}
		if d == tree.DNull {
			b = append(b, "NULL"...)
			continue
		}
		if inner, ok := d.(*tree.DArray); ok {
			b = elem.appendArray(b, inner, s)
			continue
		}
		start := len(b)
		b = elem.AppendText(b, d, s)
		if arrayElementNeedsQuotes(b[start:]) {
			b = quoteTail(b, start, '\\')
		}
	}
	return append(b, '}')
}

func arrayElementNeedsQuotes(e []byte) bool {
	if len(e) == 0 {
		return true
	}
	if len(e) == 4 && e[0]|0x20 == 'n' && e[1]|0x20 == 'u' && e[2]|0x20 == 'l' && e[3]|0x20 == 'l' {
		return true
	}
	for _, ch := range e {
		switch ch {
		case '"', '\\', '{', '}', ',', ' ', '\t', '\n', '\r', '\v', '\f':
			return true
		}
	}
	return false
}

// appendRecord prints (a,b); a NULL field is empty, an empty string is "".
func appendRecord(b []byte, t *tree.DTuple, s *Settings) []byte {
	b = append(b, '(')
	for i, d := range t.D {
		if i > 0 {
			b = append(b, ',')
		}
		if d == tree.DNull {
			continue
		}
		start := len(b)
		c := recordField(t, i, d)
		b = c.AppendText(b, d, s)
		if recordFieldNeedsQuotes(b[start:]) {
			b = quoteTail(b, start, 0)
		}
	}
	return append(b, ')')
}

func recordField(t *tree.DTuple, i int, d tree.Datum) Codec {
	typ := d.ResolvedType()
	if fields := t.ResolvedType().TupleContents(); i < len(fields) && fields[i].Family() == typ.Family() {
		typ = &fields[i]
	}
	return Make(typ, 0, -1)
}

func recordFieldNeedsQuotes(e []byte) bool {
	if len(e) == 0 {
		return true
	}
	for _, ch := range e {
		switch ch {
		case '"', '\\', '(', ')', ',', ' ', '\t', '\n', '\r', '\v', '\f':
			return true
		}
	}
	return false
}

// quoteTail puts b[start:] in double quotes. Quotes and backslashes inside get
// esc in front of them, or are doubled when esc is 0.
func quoteTail(b []byte, start int, esc byte) []byte {
	extra := 2
	for _, ch := range b[start:] {
		if ch == '"' || ch == '\\' {
			extra++
		}
	}
	end := len(b)
	for range extra {
		b = append(b, 0)
	}
	w := len(b) - 1
	b[w] = '"'
	for r := end - 1; r >= start; r-- {
		w--
		b[w] = b[r]
		if b[r] == '"' || b[r] == '\\' {
			w--
			b[w] = esc
			if esc == 0 {
				b[w] = b[r]
			}
		}
	}
	b[start] = '"'
	return b
}
