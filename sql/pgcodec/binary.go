package pgcodec

import (
	"encoding/binary"
	"math"
	"math/big"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// pgEpochMicros is 2000-01-01 in microseconds since 1970.
const pgEpochMicros = 946684800 * 1_000_000

// Families of inet as PostgreSQL numbers them, whatever the platform.
const (
	pgAFInet  = 2
	pgAFInet6 = 3
)

var be = binary.BigEndian

// AppendBinary appends the binary form of d, which is not NULL. It errs when the
// datum does not fit the column's type.
func (c *Codec) AppendBinary(b []byte, d tree.Datum, s *Settings) ([]byte, error) {
	switch v := d.(type) {
	case *tree.DInt:
		return c.appendIntBinary(b, int64(*v))
	case *tree.DString:
		return c.appendString(b, string(*v)), nil
	case *tree.DBool:
		if *v {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	case *tree.DFloat:
		if c.OID == oid.T_float4 {
			return be.AppendUint32(b, math.Float32bits(float32(*v))), nil
		}
		if *v != *v {
			return be.AppendUint64(b, 0x7ff8<<48), nil // one NaN, as PostgreSQL has
		}
		return be.AppendUint64(b, math.Float64bits(float64(*v))), nil
	case *tree.DDecimal:
		return appendDecimalBinary(b, &v.Decimal)
	case *tree.DBytes:
		return append(b, string(*v)...), nil
	case *tree.DDate:
		return be.AppendUint32(b, uint32(v.PGEpochDays())), nil
	case *tree.DTime:
		return be.AppendUint64(b, uint64(*v)), nil
	case *tree.DTimeTZ:
		b = be.AppendUint64(b, uint64(v.TimeOfDay))
		return be.AppendUint32(b, uint32(v.OffsetSecs)), nil
	case *tree.DTimestamp:
		return be.AppendUint64(b, uint64(timestampMicros(v.Time))), nil
	case *tree.DTimestampTZ:
		return be.AppendUint64(b, uint64(timestampMicros(v.Time))), nil
	case *tree.DInterval:
		b = be.AppendUint64(b, uint64(v.Duration.Nanos()/1000))
		b = be.AppendUint32(b, uint32(int32(v.Duration.Days)))
		return be.AppendUint32(b, uint32(int32(v.Duration.Months))), nil
	case *tree.DUuid:
		return append(b, v.UUID.GetBytes()...), nil
	case *tree.DIPAddr:
		return appendINetBinary(b, v.IPAddr), nil
	case *tree.DBitArray:
		return appendBitsBinary(b, v), nil
	case *tree.DJSON:
		if c.OID != oid.T_json {
			b = append(b, 1) // jsonb's format version
		}
		return AppendJSON(b, v.JSON), nil
	case *tree.DOid:
		return be.AppendUint32(b, uint32(v.DInt)), nil
	case *tree.DArray:
		return c.appendArrayBinary(b, v, s)
	case *tree.DTuple:
		return appendRecordBinary(b, v, s)
	case *tree.DCollatedString:
		return c.appendString(b, v.Contents), nil
	case *tree.DOidWrapper:
		return c.AppendBinary(b, v.Wrapped, s)
	}
	return b, pgerr.Newf("42883", "no binary output function available for type %s", d.ResolvedType().Name())
}

func (c *Codec) appendIntBinary(b []byte, n int64) ([]byte, error) {
	switch c.Size {
	case 2:
		if int64(int16(n)) != n {
			return b, pgerr.New(pgerr.NumericValueOutOfRange, "smallint out of range")
		}
		return be.AppendUint16(b, uint16(n)), nil
	case 4:
		if c.OID == oid.T_int4 && int64(int32(n)) != n {
			return b, pgerr.New(pgerr.NumericValueOutOfRange, "integer out of range")
		}
		return be.AppendUint32(b, uint32(n)), nil
	}
	return be.AppendUint64(b, uint64(n)), nil
}

func timestampMicros(t time.Time) int64 {
	if t.Equal(pgdate.TimeInfinity) {
		return math.MaxInt64
	}
	if t.Equal(pgdate.TimeNegativeInfinity) {
		return math.MinInt64
	}
	return t.Unix()*1_000_000 + int64(t.Nanosecond()/1000) - pgEpochMicros
}

const (
	numericPositive = 0x0000
	numericNegative = 0x4000
	numericNaN      = 0xC000
	numericPlusInf  = 0xD000
	numericMinusInf = 0xF000
)

// appendDecimalBinary writes groups of four decimal digits, the way PostgreSQL
// holds numeric: count, weight of the first group, sign, scale, groups.
func appendDecimalBinary(b []byte, d *apd.Decimal) ([]byte, error) {
	special := func(sign, scale uint16) []byte {
		b = be.AppendUint32(b, 0)
		b = be.AppendUint16(b, sign)
		return be.AppendUint16(b, scale)
	}
	switch d.Form {
	case apd.NaN, apd.NaNSignaling:
		return special(numericNaN, 0), nil
	case apd.Infinite:
		if d.Negative {
			return special(numericMinusInf, 0x20), nil
		}
		return special(numericPlusInf, 0x20), nil
	}
	var digitsBuf [64]byte
	digits := digitsBuf[:0]
	if d.Coeff.Sign() != 0 {
		digits = d.Coeff.Append(digits, 10)
	}
	scale := max(-int(d.Exponent), 0)
	if scale > 16383 || len(digits)+max(int(d.Exponent), 0) > 131072 {
		return b, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	for range max(int(d.Exponent), 0) {
		if len(digits) > 0 {
			digits = append(digits, '0')
		}
	}
	// intDigits of the digits stand before the point; it may be negative.
	intDigits := len(digits) - scale
	// Pad in front so that groups align with the point, and behind to whole groups.
	lead := ((-intDigits)%4 + 4) % 4
	groupsBefore := (intDigits + lead) / 4
	groups := (lead + len(digits) + 3) / 4
	head := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	first, last := -1, -1
	for g := range groups {
		n := 0
		for k := range 4 {
			n *= 10
			if i := g*4 + k - lead; i >= 0 && i < len(digits) {
				n += int(digits[i] - '0')
			}
		}
		if n == 0 && first < 0 {
			continue // leading zero groups are not stored
		}
		if first < 0 {
			first = g
		}
		if n != 0 {
			last = g
		}
		b = be.AppendUint16(b, uint16(n))
	}
	count, weight := 0, 0
	if first >= 0 {
		count = last - first + 1
		weight = groupsBefore - 1 - first
		b = b[:head+8+2*count] // trailing zero groups are not stored
	}
	sign := uint16(numericPositive)
	if d.Negative && count > 0 {
		sign = numericNegative
	}
	be.PutUint16(b[head:], uint16(count))
	be.PutUint16(b[head+2:], uint16(int16(weight)))
	be.PutUint16(b[head+4:], sign)
	be.PutUint16(b[head+6:], uint16(scale))
	return b, nil
}

func decodeDecimalBinary(data []byte) (*tree.DDecimal, error) {
	if len(data) < 8 {
		return nil, errBinary("numeric")
	}
	count := int(be.Uint16(data))
	weight := int(int16(be.Uint16(data[2:])))
	sign := be.Uint16(data[4:])
	scale := int(be.Uint16(data[6:]))
	data = data[8:]
	out := &tree.DDecimal{}
	switch sign {
	case numericNaN:
		out.Form = apd.NaN
		return out, nil
	case numericPlusInf, numericMinusInf:
		out.Form, out.Negative = apd.Infinite, sign == numericMinusInf
		return out, nil
	case numericPositive, numericNegative:
	default:
		return nil, pgerr.New("22P03", "invalid sign in external \"numeric\" value")
	}
	if len(data) != 2*count {
		return nil, errBinary("numeric")
	}
	if scale > 16383 {
		return nil, pgerr.New("22P03", "invalid scale in external \"numeric\" value")
	}
	digits := make([]byte, 0, 4*count+1)
	for i := range count {
		n := be.Uint16(data[2*i:])
		if n > 9999 {
			return nil, pgerr.New("22P03", "invalid digit in external \"numeric\" value")
		}
		digits = append(digits, byte('0'+n/1000), byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
	}
	// The digits end 4*(count-1-weight) places after the point; make that scale.
	places := 4 * (count - 1 - weight)
	if count == 0 {
		places = 0
	}
	for places < scale {
		digits = append(digits, '0')
		places++
	}
	if cut := min(places-scale, len(digits)); places > scale {
		digits = digits[:len(digits)-cut]
	}
	if len(digits) == 0 {
		digits = append(digits, '0')
	}
	if _, ok := new(big.Int).SetString(string(digits), 10); !ok {
		return nil, errBinary("numeric")
	}
	out.Coeff.SetString(string(digits), 10)
	out.Exponent = int32(-scale)
	out.Negative = sign == numericNegative && out.Coeff.Sign() != 0
	return out, nil
}

func appendINetBinary(b []byte, ip ipaddr.IPAddr) []byte {
	if ip.Family == ipaddr.IPv4family {
		b = append(b, pgAFInet, ip.Mask, 0, 4)
		return be.AppendUint32(b, uint32(ip.Addr.Lo))
	}
	b = append(b, pgAFInet6, ip.Mask, 0, 16)
	b = be.AppendUint64(b, ip.Addr.Hi)
	return be.AppendUint64(b, ip.Addr.Lo)
}

func appendBitsBinary(b []byte, v *tree.DBitArray) []byte {
	words, _ := v.EncodingParts()
	n := v.BitLen()
	b = be.AppendUint32(b, uint32(n))
	bytesLeft := int(n+7) / 8
	for _, w := range words {
		for shift := 56; shift >= 0 && bytesLeft > 0; shift -= 8 {
			b = append(b, byte(w>>shift))
			bytesLeft--
		}
	}
	return b
}

// appendArrayBinary writes the dimension header and then each element with its
// length. Arrays of arrays are written as one array of two dimensions.
func (c *Codec) appendArrayBinary(b []byte, a *tree.DArray, s *Settings) ([]byte, error) {
	elem := c.elem
	if elem == nil {
		e := Make(a.ParamTyp, 0, -1)
		elem = &e
	}
	lower := uint32(1)
	if c.OID == oid.T_int2vector || c.OID == oid.T_oidvector {
		lower = 0
	}
	hasNull := uint32(0)
	for _, d := range a.Array {
		if d == tree.DNull {
			hasNull = 1
		}
	}
	if len(a.Array) == 0 {
		b = be.AppendUint32(b, 0)
		b = be.AppendUint32(b, 0)
		return be.AppendUint32(b, uint32(elem.OID)), nil
	}
	b = be.AppendUint32(b, 1)
	b = be.AppendUint32(b, hasNull)
	b = be.AppendUint32(b, uint32(elem.OID))
	b = be.AppendUint32(b, uint32(len(a.Array)))
	b = be.AppendUint32(b, lower)
	for _, d := range a.Array {
		var err error
		if b, err = elem.appendField(b, d, s); err != nil {
			return b, err
		}
	}
	return b, nil
}

// appendField writes a length and the binary value, or -1 for NULL.
func (c *Codec) appendField(b []byte, d tree.Datum, s *Settings) ([]byte, error) {
	if d == tree.DNull {
		return be.AppendUint32(b, math.MaxUint32), nil
	}
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b, err := c.AppendBinary(b, d, s)
	if err != nil {
		return b, err
	}
	be.PutUint32(b[at:], uint32(len(b)-at-4))
	return b, nil
}

func appendRecordBinary(b []byte, t *tree.DTuple, s *Settings) ([]byte, error) {
	b = be.AppendUint32(b, uint32(len(t.D)))
	for i, d := range t.D {
		c := recordField(t, i, d)
		b = be.AppendUint32(b, uint32(c.OID))
		var err error
		if b, err = c.appendField(b, d, s); err != nil {
			return b, err
		}
	}
	return b, nil
}
