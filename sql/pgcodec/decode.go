package pgcodec

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/bitarray"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/uuid"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Decode reads a value in either format. data is not kept.
func (c *Codec) Decode(data []byte, format int16, s *Settings) (tree.Datum, error) {
	switch format {
	case FormatText:
		return c.DecodeText(data, s)
	case FormatBinary:
		return c.DecodeBinary(data, s)
	}
	return nil, pgerr.Newf(pgerr.InvalidParameterValue, "unsupported format code: %d", format)
}

// DecodeText reads what a client wrote as text, as the input function of the
// type would. data is not kept.
func (c *Codec) DecodeText(data []byte, s *Settings) (tree.Datum, error) {
	switch c.typ.Family() {
	case types.IntFamily:
		return c.decodeInt(data)
	case types.StringFamily, types.CollatedStringFamily, types.UnknownFamily, types.AnyFamily:
		return c.decodeString(data)
	case types.BoolFamily:
		return decodeBool(data)
	case types.FloatFamily:
		return c.decodeFloat(data)
	case types.DecimalFamily:
		return decodeDecimal(data)
	case types.BytesFamily:
		return decodeBytea(data)
	case types.DateFamily:
		return decodeDate(data, s)
	case types.TimeFamily:
		return decodeTime(string(data), s)
	case types.TimeTZFamily:
		return decodeTimeTZ(string(data), s)
	case types.TimestampFamily:
		return decodeTimestamp(data, s)
	case types.TimestampTZFamily:
		return decodeTimestampTZ(data, s)
	case types.IntervalFamily:
		if err := checkIntervalFields(string(data)); err != nil {
			return nil, err
		}
		d, err := tree.ParseDInterval(string(data))
		if err != nil {
			return nil, errSyntax("22007", "interval", data)
		}
		return d, checkInterval(d, string(data))
	case types.UuidFamily:
		return decodeUUID(data)
	case types.INetFamily:
		var ip ipaddr.IPAddr
		if err := ipaddr.ParseINet(strings.TrimSpace(string(data)), &ip); err != nil {
			return nil, errSyntax(pgerr.InvalidTextRepresentation, "inet", data)
		}
		return tree.NewDIPAddr(tree.DIPAddr{IPAddr: ip}), nil
	case types.BitFamily:
		return decodeBits(string(data))
	case types.JsonFamily:
		if err := checkUTF8(data); err != nil {
			return nil, err
		}
		d, err := tree.ParseDJSON(string(data))
		if err != nil {
			return nil, explainJSON(data)
		}
		return d, checkJSON(data)
	case types.OidFamily:
		return c.decodeOID(data)
	case types.ArrayFamily:
		return c.decodeArray(string(data), s)
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "input of type %s is not supported", c.typ.Name())
}

// errSyntax is the error of PostgreSQL's input functions.
func errSyntax(code pgerr.Code, typeName string, data []byte) error {
	return pgerr.Newf(code, "invalid input syntax for type %s: \"%s\"", typeName, data)
}

func isSpace(ch byte) bool {
	return ch == ' ' || (ch >= '\t' && ch <= '\r')
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// parseInt reads an optionally signed decimal number. fits is false when it is a
// number but needs more than 64 bits.
func parseInt(b []byte) (n int64, ok, fits bool) {
	neg := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		neg = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 {
		return 0, false, false
	}
	var u uint64
	over := false
	for _, ch := range b {
		ch -= '0'
		if ch > 9 {
			return 0, false, false
		}
		if u > (math.MaxUint64-9)/10 {
			over = true
		}
		u = u*10 + uint64(ch)
	}
	switch {
	case over || (!neg && u > math.MaxInt64) || u > math.MaxInt64+1:
		return 0, true, false
	case neg:
		return -int64(u), true, true
	}
	return int64(u), true, true
}

func intTypeName(size int16) string {
	switch size {
	case 2:
		return "smallint"
	case 4:
		return "integer"
	}
	return "bigint"
}

// intSize is the width of the column's integers: the OID knows it for what
// clients see, the type for the rest.
func (c *Codec) intSize() int16 {
	if c.Size > 0 {
		return c.Size
	}
	return int16(c.typ.Width() / 8)
}

func (c *Codec) decodeInt(data []byte) (tree.Datum, error) {
	n, err := c.DecodeInt(data)
	if err != nil {
		return nil, err
	}
	return tree.NewDInt(tree.DInt(n)), nil
}

// DecodeInt is DecodeText for integer types, for callers that allocate datums
// themselves.
func (c *Codec) DecodeInt(data []byte) (int64, error) {
	n, ok, fits := parseInt(data)
	if !ok {
		if n, ok, fits = parseInt(trimSpace(data)); !ok {
			return 0, errSyntax(pgerr.InvalidTextRepresentation, intTypeName(c.intSize()), data)
		}
	}
	switch c.intSize() {
	case 2:
		fits = fits && int64(int16(n)) == n
	case 4:
		fits = fits && int64(int32(n)) == n
	}
	if !fits {
		return 0, pgerr.Newf(pgerr.NumericValueOutOfRange, "value \"%s\" is out of range for type %s", data, intTypeName(c.intSize()))
	}
	return n, nil
}

// checkUTF8 refuses what PostgreSQL refuses in text: broken UTF-8 and NUL.
func checkUTF8(data []byte) error {
	for i := 0; i < len(data); {
		ch := data[i]
		if ch != 0 && ch < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(data[i:])
		if ch == 0 || (r == utf8.RuneError && n <= 1) {
			bad := data[i:min(i+utf8SequenceLen(ch), len(data))]
			text := ""
			for _, x := range bad {
				text += " 0x" + strconv.FormatUint(uint64(x)|0x100, 16)[1:]
			}
			return pgerr.Newf("22021", "invalid byte sequence for encoding \"UTF8\":%s", text)
		}
		i += n
	}
	return nil
}

// utf8SequenceLen is the length that a first byte announces.
func utf8SequenceLen(ch byte) int {
	switch {
	case ch&0xe0 == 0xc0:
		return 2
	case ch&0xf0 == 0xe0:
		return 3
	case ch&0xf8 == 0xf0:
		return 4
	}
	return 1
}

func (c *Codec) decodeString(data []byte) (tree.Datum, error) {
	data, err := c.CheckString(data)
	if err != nil {
		return nil, err
	}
	s := tree.DString(data)
	// The values of an enum look like collated strings; its labels are read as text.
	if c.typ.Family() == types.CollatedStringFamily && !strings.HasPrefix(c.typ.Locale(), "@") {
		return tree.NewDCollatedString(string(s), c.typ.Locale(), &tree.CollationEnvironment{})
	}
	return &s, nil
}

// CheckString is DecodeText for string types, for callers that allocate datums
// themselves. The result is part of data.
func (c *Codec) CheckString(data []byte) ([]byte, error) {
	if err := checkUTF8(data); err != nil {
		return nil, err
	}
	switch c.OID {
	case oid.T_bpchar:
		for len(data) > 0 && data[len(data)-1] == ' ' {
			data = data[:len(data)-1]
		}
	case oid.T_name:
		data = truncateUTF8(data, 63)
	case oid.T_char:
		data = data[:min(len(data), 1)]
	}
	return data, nil
}

func truncateUTF8(data []byte, limit int) []byte {
	if len(data) <= limit {
		return data
	}
	for limit > 0 && !utf8.RuneStart(data[limit]) {
		limit--
	}
	return data[:limit]
}

// decodeBool takes unique prefixes of true, false, yes, no, on, off and 1, 0.
func decodeBool(data []byte) (tree.Datum, error) {
	t := trimSpace(data)
	prefix := func(word string, atLeast int) bool {
		return len(t) >= atLeast && len(t) <= len(word) && strings.EqualFold(string(t), word[:len(t)])
	}
	switch {
	case prefix("true", 1), prefix("yes", 1), prefix("on", 2), prefix("1", 1):
		return tree.DBoolTrue, nil
	case prefix("false", 1), prefix("no", 1), prefix("off", 2), prefix("0", 1):
		return tree.DBoolFalse, nil
	}
	return nil, errSyntax(pgerr.InvalidTextRepresentation, "boolean", data)
}

func (c *Codec) decodeFloat(data []byte) (tree.Datum, error) {
	name, bits := "double precision", 64
	if c.OID == oid.T_float4 || (c.typ.Width() == 32 && c.OID != oid.T_float8) {
		name, bits = "real", 32
	}
	t := string(trimSpace(data))
	switch strings.ToLower(t) {
	case "nan":
		return tree.NewDFloat(tree.DFloat(math.NaN())), nil
	case "inf", "+inf", "infinity", "+infinity":
		return tree.NewDFloat(tree.DFloat(math.Inf(1))), nil
	case "-inf", "-infinity":
		return tree.NewDFloat(tree.DFloat(math.Inf(-1))), nil
	}
	if !looksNumeric(t) {
		return nil, errSyntax(pgerr.InvalidTextRepresentation, name, data)
	}
	f, err := strconv.ParseFloat(t, bits)
	if err != nil {
		if math.IsInf(f, 0) {
			return nil, pgerr.Newf(pgerr.NumericValueOutOfRange, "\"%s\" is out of range for type %s", data, name)
		}
		return nil, errSyntax(pgerr.InvalidTextRepresentation, name, data)
	}
	if mantissa, _, _ := strings.Cut(strings.ToLower(t), "e"); f == 0 && strings.ContainsAny(mantissa, "123456789") {
		return nil, pgerr.Newf(pgerr.NumericValueOutOfRange, "\"%s\" is out of range for type %s", data, name)
	}
	return tree.NewDFloat(tree.DFloat(f)), nil
}

// looksNumeric keeps out what Go's and apd's parsers take beyond PostgreSQL:
// underscores, hexadecimal, words.
func looksNumeric(s string) bool {
	digit := false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch >= '0' && ch <= '9':
			digit = true
		case ch == '.' || ch == '+' || ch == '-':
		case (ch == 'e' || ch == 'E') && digit:
		default:
			return false
		}
	}
	return digit
}

// Bounds of PostgreSQL's numeric: digits before and after the point.
const (
	maxNumericInteger  = 131072
	maxNumericFraction = 16383
)

func decodeDecimal(data []byte) (tree.Datum, error) {
	t := trimSpace(data)
	out := &tree.DDecimal{}
	if n, ok, fits := parseInt(t); ok && fits && n != math.MinInt64 {
		out.SetInt64(n)
		return out, nil
	}
	text := string(t)
	switch strings.ToLower(text) {
	case "nan":
		out.Form = apd.NaN
		return out, nil
	case "inf", "+inf", "infinity", "+infinity":
		out.Form = apd.Infinite
		return out, nil
	case "-inf", "-infinity":
		out.Form, out.Negative = apd.Infinite, true
		return out, nil
	}
	if !looksNumeric(text) {
		return nil, errSyntax(pgerr.InvalidTextRepresentation, "numeric", data)
	}
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		n, err := strconv.Atoi(text[e+1:])
		if err != nil && !strings.Contains(err.Error(), "range") {
			return nil, errSyntax(pgerr.InvalidTextRepresentation, "numeric", data)
		}
		if err != nil || n > maxNumericInteger || n < -maxNumericFraction {
			return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
		}
	}
	if len(text) > maxNumericInteger+maxNumericFraction+64 {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	if _, _, err := out.Decimal.SetString(text); err != nil {
		return nil, errSyntax(pgerr.InvalidTextRepresentation, "numeric", data)
	}
	if int64(out.Exponent)+out.NumDigits() > maxNumericInteger || out.Exponent < -maxNumericFraction {
		return nil, pgerr.New(pgerr.NumericValueOutOfRange, "value overflows numeric format")
	}
	if out.Coeff.Sign() == 0 {
		out.Negative = false
	}
	return out, nil
}

func fromHex(ch byte) (byte, bool) {
	switch {
	case ch >= '0' && ch <= '9':
		return ch - '0', true
	case ch >= 'a' && ch <= 'f':
		return ch - 'a' + 10, true
	case ch >= 'A' && ch <= 'F':
		return ch - 'A' + 10, true
	}
	return 0, false
}

func decodeBytea(data []byte) (tree.Datum, error) {
	out := make([]byte, 0, len(data))
	if len(data) >= 2 && data[0] == '\\' && data[1] == 'x' {
		for i := 2; i < len(data); {
			if isSpace(data[i]) {
				i++
				continue
			}
			hi, ok := fromHex(data[i])
			if !ok {
				return nil, pgerr.Newf(pgerr.InvalidParameterValue, "invalid hexadecimal digit: \"%c\"", rune(data[i]))
			}
			if i+1 >= len(data) {
				return nil, pgerr.New(pgerr.InvalidParameterValue, "invalid hexadecimal data: odd number of digits")
			}
			lo, ok := fromHex(data[i+1])
			if !ok {
				return nil, pgerr.Newf(pgerr.InvalidParameterValue, "invalid hexadecimal digit: \"%c\"", rune(data[i+1]))
			}
			out = append(out, hi<<4|lo)
			i += 2
		}
		return tree.NewDBytes(tree.DBytes(out)), nil
	}
	for i := 0; i < len(data); i++ {
		switch {
		case data[i] != '\\':
			out = append(out, data[i])
		case i+1 < len(data) && data[i+1] == '\\':
			out = append(out, '\\')
			i++
		case i+3 < len(data) && data[i+1] >= '0' && data[i+1] <= '3' && isOctal(data[i+2]) && isOctal(data[i+3]):
			out = append(out, (data[i+1]-'0')<<6|(data[i+2]-'0')<<3|(data[i+3]-'0'))
			i += 3
		default:
			return nil, pgerr.New(pgerr.InvalidTextRepresentation, "invalid input syntax for type bytea")
		}
	}
	return tree.NewDBytes(tree.DBytes(out)), nil
}

func isOctal(ch byte) bool { return ch >= '0' && ch <= '7' }

func decodeUUID(data []byte) (tree.Datum, error) {
	t := data
	if len(t) > 1 && t[0] == '{' && t[len(t)-1] == '}' {
		t = t[1 : len(t)-1]
	}
	var u uuid.UUID
	n := 0 // nibbles so far
	for i := 0; i < len(t); i++ {
		if t[i] == '-' {
			// A hyphen may follow each group of four digits.
			if n == 0 || n%4 != 0 || n == 32 || t[i-1] == '-' {
				return nil, errSyntax(pgerr.InvalidTextRepresentation, "uuid", data)
			}
			continue
		}
		h, ok := fromHex(t[i])
		if !ok || n == 32 {
			return nil, errSyntax(pgerr.InvalidTextRepresentation, "uuid", data)
		}
		u[n/2] |= h << (4 * (1 - n%2))
		n++
	}
	if n != 32 {
		return nil, errSyntax(pgerr.InvalidTextRepresentation, "uuid", data)
	}
	return tree.NewDUuid(tree.DUuid{UUID: u}), nil
}

func decodeBits(s string) (tree.Datum, error) {
	if s != "" && (s[0] == 'b' || s[0] == 'B') {
		s = s[1:]
	} else if s != "" && (s[0] == 'x' || s[0] == 'X') {
		var bin strings.Builder
		for i := 1; i < len(s); i++ {
			h, ok := fromHex(s[i])
			if !ok {
				return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "\"%c\" is not a valid hexadecimal digit", rune(s[i]))
			}
			bin.WriteString(strconv.FormatUint(uint64(h)|16, 2)[1:])
		}
		s = bin.String()
	}
	for _, ch := range s {
		if ch != '0' && ch != '1' {
			return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "\"%c\" is not a valid binary digit", ch)
		}
	}
	bits, err := bitarray.Parse(s)
	if err != nil {
		return nil, errSyntax(pgerr.InvalidTextRepresentation, "bit varying", []byte(s))
	}
	return &tree.DBitArray{BitArray: bits}, nil
}

// decodeOID takes numbers. A name for a reg* type needs the catalog: SQL casts
// text to it, the wire does not.
func (c *Codec) decodeOID(data []byte) (tree.Datum, error) {
	t := trimSpace(data)
	if len(t) == 1 && t[0] == '-' && c.OID != oid.T_oid {
		return tree.NewDOidWithName(0, c.typ, ""), nil
	}
	n, ok, fits := parseInt(t)
	if !ok {
		return nil, errSyntax(pgerr.InvalidTextRepresentation, c.typ.Name(), data)
	}
	if !fits || n > math.MaxUint32 || n < math.MinInt32 {
		return nil, pgerr.Newf(pgerr.NumericValueOutOfRange, "value \"%s\" is out of range for type oid", data)
	}
	return tree.NewDOidWithName(tree.DInt(uint32(n)), c.typ, ""), nil
}

// location is the zone of timestamps that name none.
func (s *Settings) location() *time.Location {
	if s == nil || s.Location == nil {
		return time.UTC
	}
	return s.Location
}
