package rowenc

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/bitarray"
	enc "github.com/auxten/postgresql-parser/pkg/util/encoding"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/auxten/postgresql-parser/pkg/util/timetz"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// Kinds of a datum inside a tuple. The encoding package names them too, but its
// constants are not all those that occur on disk.
const (
	vNull     = 1
	vNotNull  = 2
	vInt      = 3
	vFloat    = 4
	vDecimal  = 5
	vBytes    = 6
	vTime     = 8
	vDuration = 9
	vTrue     = 10
	vFalse    = 11
	vUUID     = 12
	vArray    = 13
	vIPAddr   = 14
	vJSON     = 15
	vTuple    = 16
	vBitArray = 17
	vTimeTZ   = 19
	vGeo      = 20
	vBox2D    = 24
	vVoid     = 25
	vTSQuery  = 26
	vTSVector = 27
	vPGVector = 44
)

const microsPerDay = 24 * 60 * 60 * 1000000

func unixTime(sec, nsec int64) time.Time { return time.Unix(sec, nsec).UTC() }

// EncodeValueDatum appends d as it stands in a tuple: a tag with the column-id
// delta, then the data. NULL is only valid inside arrays of tuples, never as a
// column: leave NULL columns out.
func EncodeValueDatum(b []byte, delta uint32, d tree.Datum) ([]byte, error) {
	switch t := unwrap(d).(type) {
	case *tree.DInt:
		return enc.EncodeIntValue(b, delta, int64(*t)), nil
	case *tree.DString:
		b = enc.EncodeValueTag(b, delta, vBytes)
		b = enc.EncodeNonsortingUvarint(b, uint64(len(*t)))
		return append(b, string(*t)...), nil
	case *tree.DBool:
		return enc.EncodeBoolValue(b, delta, bool(*t)), nil
	case *tree.DFloat:
		return enc.EncodeFloatValue(b, delta, float64(*t)), nil
	case *tree.DDecimal:
		return enc.EncodeDecimalValue(b, delta, &t.Decimal), nil
	case *tree.DBytes:
		b = enc.EncodeValueTag(b, delta, vBytes)
		b = enc.EncodeNonsortingUvarint(b, uint64(len(*t)))
		return append(b, string(*t)...), nil
	case *tree.DDate:
		return enc.EncodeIntValue(b, delta, t.UnixEpochDaysWithOrig()), nil
	case *tree.DTime:
		return enc.EncodeIntValue(b, delta, int64(*t)), nil
	case *tree.DTimestamp:
		return enc.EncodeTimeValue(b, delta, t.Time), nil
	case *tree.DTimestampTZ:
		return enc.EncodeTimeValue(b, delta, t.Time), nil
	case *tree.DTimeTZ:
		return enc.EncodeTimeTZValue(b, delta, t.TimeTZ), nil
	case *tree.DInterval:
		return enc.EncodeDurationValue(b, delta, t.Duration), nil
	case *tree.DUuid:
		return enc.EncodeUUIDValue(b, delta, t.UUID), nil
	case *tree.DIPAddr:
		return enc.EncodeIPAddrValue(b, delta, t.IPAddr), nil
	case *tree.DJSON:
		body, err := json.EncodeJSON(nil, t.JSON)
		if err != nil {
			return nil, err
		}
		return enc.EncodeJSONValue(b, delta, body), nil
	case *tree.DArray:
		body, err := encodeArrayBody(nil, t)
		if err != nil {
			return nil, err
		}
		return enc.EncodeArrayValue(b, delta, body), nil
	case *tree.DBitArray:
		return enc.EncodeBitArrayValue(b, delta, t.BitArray), nil
	case *tree.DCollatedString:
		if catalog.IsEnumLocale(t.Locale) {
			return enc.EncodeBytesValue(b, delta, t.Key), nil
		}
		return enc.EncodeBytesValue(b, delta, []byte(t.Contents)), nil
	case *tree.DOid:
		return enc.EncodeIntValue(b, delta, int64(t.DInt)), nil
	}
	if d == tree.DNull {
		return enc.EncodeNullValue(b, delta), nil
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to store a value of type %T", d)
}

// encodeBare appends the bare form: one column in a pair of its own. The first
// byte is the pair's tag.
func encodeBare(b []byte, d tree.Datum) ([]byte, error) {
	switch t := unwrap(d).(type) {
	case *tree.DInt:
		return enc.EncodeUntaggedIntValue(append(b, tagInt), int64(*t)), nil
	case *tree.DBool:
		v := int64(0)
		if *t {
			v = 1
		}
		return enc.EncodeUntaggedIntValue(append(b, tagInt), v), nil
	case *tree.DOid:
		return enc.EncodeUntaggedIntValue(append(b, tagInt), int64(t.DInt)), nil
	case *tree.DDate:
		return enc.EncodeUntaggedIntValue(append(b, tagInt), t.UnixEpochDaysWithOrig()), nil
	case *tree.DTime:
		return enc.EncodeUntaggedIntValue(append(b, tagInt), int64(*t)), nil
	case *tree.DFloat:
		return enc.EncodeUint64Ascending(append(b, tagFloat), math.Float64bits(float64(*t))), nil
	case *tree.DString:
		return append(append(b, tagBytes), string(*t)...), nil
	case *tree.DBytes:
		return append(append(b, tagBytes), string(*t)...), nil
	case *tree.DCollatedString:
		if catalog.IsEnumLocale(t.Locale) {
			return append(append(b, tagBytes), t.Key...), nil
		}
		return append(append(b, tagBytes), t.Contents...), nil
	case *tree.DUuid:
		return append(append(b, tagBytes), t.GetBytes()...), nil
	case *tree.DIPAddr:
		return t.ToBuffer(append(b, tagBytes)), nil
	case *tree.DJSON:
		return json.EncodeJSON(append(b, tagBytes), t.JSON)
	case *tree.DArray:
		return encodeArrayBody(append(b, tagBytes), t)
	case *tree.DTimestamp:
		return enc.EncodeTimeAscending(append(b, tagTime), t.Time), nil
	case *tree.DTimestampTZ:
		return enc.EncodeTimeAscending(append(b, tagTime), t.Time), nil
	case *tree.DDecimal:
		return enc.EncodeNonsortingDecimal(append(b, tagDecimal), &t.Decimal), nil
	case *tree.DInterval:
		return enc.EncodeDurationAscending(append(b, tagDuration), t.Duration)
	case *tree.DBitArray:
		return enc.EncodeUntaggedBitArrayValue(append(b, tagBitArray), t.BitArray), nil
	case *tree.DTimeTZ:
		return enc.EncodeTimeTZAscending(append(b, tagTimeTZ), t.TimeTZ), nil
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to store a value of type %T", d)
}

// arrayElemKind returns the element type that an array body declares.
func arrayElemKind(t *types.T) (byte, error) {
	switch t.Family() {
	case types.IntFamily, types.OidFamily, types.DateFamily, types.TimeFamily:
		return vInt, nil
	case types.FloatFamily:
		return vFloat, nil
	case types.DecimalFamily:
		return vDecimal, nil
	case types.StringFamily, types.BytesFamily, types.CollatedStringFamily:
		return vBytes, nil
	case types.TimestampFamily, types.TimestampTZFamily:
		return vTime, nil
	case types.IntervalFamily:
		return vDuration, nil
	case types.BoolFamily:
		return vTrue, nil
	case types.UuidFamily:
		return vUUID, nil
	case types.INetFamily:
		return vIPAddr, nil
	case types.JsonFamily:
		return vJSON, nil
	case types.BitFamily:
		return vBitArray, nil
	case types.TimeTZFamily:
		return vTimeTZ, nil
	}
	return 0, pgerr.Newf(pgerr.FeatureNotSupported, "unable to store an array of %s", t.Family())
}

const arrayHasNulls = 0x10

func encodeArrayBody(b []byte, a *tree.DArray) ([]byte, error) {
	kind, err := arrayElemKind(a.ParamTyp)
	if err != nil {
		return nil, err
	}
	hasNulls := false
	for _, e := range a.Array {
		hasNulls = hasNulls || e == tree.DNull
	}
	header := byte(1)
	if hasNulls {
		header |= arrayHasNulls
	}
	b = append(b, header)
	b = enc.EncodeNonsortingUvarint(b, uint64(kind))
	b = enc.EncodeNonsortingUvarint(b, uint64(len(a.Array)))
	if hasNulls {
		at := len(b)
		b = append(b, make([]byte, (len(a.Array)+7)/8)...)
		for i, e := range a.Array {
			if e == tree.DNull {
				b[at+i/8] |= 1 << (i % 8)
			}
		}
	}
	for _, e := range a.Array {
		if e == tree.DNull {
			continue
		}
		if b, err = encodeUntagged(b, e); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// encodeUntagged appends the data of a tuple datum without its tag. A BOOL has
// no data, so its one byte is the tag.
func encodeUntagged(b []byte, d tree.Datum) ([]byte, error) {
	switch t := unwrap(d).(type) {
	case *tree.DBool:
		if *t {
			return append(b, vTrue), nil
		}
		return append(b, vFalse), nil
	case *tree.DInt:
		return enc.EncodeUntaggedIntValue(b, int64(*t)), nil
	case *tree.DOid:
		return enc.EncodeUntaggedIntValue(b, int64(t.DInt)), nil
	case *tree.DDate:
		return enc.EncodeUntaggedIntValue(b, t.UnixEpochDaysWithOrig()), nil
	case *tree.DTime:
		return enc.EncodeUntaggedIntValue(b, int64(*t)), nil
	case *tree.DString:
		return enc.EncodeUntaggedBytesValue(b, []byte(*t)), nil
	case *tree.DBytes:
		return enc.EncodeUntaggedBytesValue(b, []byte(*t)), nil
	case *tree.DCollatedString:
		if catalog.IsEnumLocale(t.Locale) {
			return enc.EncodeUntaggedBytesValue(b, t.Key), nil
		}
		return enc.EncodeUntaggedBytesValue(b, []byte(t.Contents)), nil
	case *tree.DFloat:
		return enc.EncodeUntaggedFloatValue(b, float64(*t)), nil
	case *tree.DDecimal:
		return enc.EncodeUntaggedDecimalValue(b, &t.Decimal), nil
	case *tree.DTimestamp:
		return enc.EncodeUntaggedTimeValue(b, t.Time), nil
	case *tree.DTimestampTZ:
		return enc.EncodeUntaggedTimeValue(b, t.Time), nil
	case *tree.DInterval:
		return enc.EncodeUntaggedDurationValue(b, t.Duration), nil
	case *tree.DUuid:
		return enc.EncodeUntaggedUUIDValue(b, t.UUID), nil
	case *tree.DIPAddr:
		return enc.EncodeUntaggedIPAddrValue(b, t.IPAddr), nil
	case *tree.DBitArray:
		return enc.EncodeUntaggedBitArrayValue(b, t.BitArray), nil
	case *tree.DTimeTZ:
		return enc.EncodeUntaggedTimeTZValue(b, t.TimeTZ), nil
	case *tree.DJSON:
		body, err := json.EncodeJSON(nil, t.JSON)
		if err != nil {
			return nil, err
		}
		return enc.EncodeUntaggedBytesValue(b, body), nil
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to store an array of %T", d)
}

// decodeBUvarint reads a big-endian base-128 number.
func decodeBUvarint(b []byte) (rest []byte, v uint64, err error) {
	for i, c := range b {
		if i == 10 {
			break
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return b[i+1:], v, nil
		}
	}
	return nil, 0, corrupt("corrupt value: length without end")
}

// decodeValueTag reads the tag of a tuple datum.
func decodeValueTag(b []byte) (rest []byte, delta uint32, kind uint64, err error) {
	rest, v, err := decodeBUvarint(b)
	if err != nil {
		return nil, 0, 0, err
	}
	if v>>4 > math.MaxUint32 {
		return nil, 0, 0, corrupt("corrupt value: column id %d", v>>4)
	}
	delta, kind = uint32(v>>4), v&0xf
	if kind == 0xf {
		if rest, kind, err = decodeBUvarint(rest); err != nil {
			return nil, 0, 0, err
		}
	}
	return rest, delta, kind, nil
}

func decodeZZ(b []byte) (rest []byte, v int64, err error) {
	v, n := binary.Varint(b)
	if n <= 0 {
		return nil, 0, corrupt("corrupt value: integer without end")
	}
	return b[n:], v, nil
}

func decodeLenBytes(b []byte) (rest, data []byte, err error) {
	b, n, err := decodeBUvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(b)) {
		return nil, nil, corrupt("corrupt value: %d bytes of %d", len(b), n)
	}
	return b[n:], b[:n:n], nil
}

// skipValue returns what follows the data of a tuple datum.
func skipValue(b []byte, kind uint64) (rest []byte, err error) {
	need := func(n int) ([]byte, error) {
		if len(b) < n {
			return nil, corrupt("corrupt value: %d bytes of %d", len(b), n)
		}
		return b[n:], nil
	}
	zz := func(n int) ([]byte, error) {
		for ; n > 0; n-- {
			if b, _, err = decodeZZ(b); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	switch kind {
	case vNull, vNotNull, vTrue, vFalse, vVoid:
		return b, nil
	case vInt:
		return zz(1)
	case vFloat:
		return need(8)
	case vDecimal:
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, corrupt("corrupt decimal")
		}
		return b[w+int(n):], nil
	case vBytes, vArray, vJSON, vGeo, vTSQuery, vTSVector, vPGVector:
		rest, _, err = decodeLenBytes(b)
		return rest, err
	case vTime, vTimeTZ:
		return zz(2)
	case vDuration:
		return zz(3)
	case vUUID:
		return need(16)
	case vIPAddr:
		if len(b) < 2 {
			return nil, corrupt("corrupt address")
		}
		if b[0] == byte(ipaddr.IPv4family) {
			return need(6)
		}
		return need(18)
	case vBitArray:
		rest, n, err := decodeBUvarint(b)
		if err != nil {
			return nil, err
		}
		words := n / 64
		if n%64 != 0 {
			words++
		}
		if words > uint64(len(rest)/8) {
			return nil, corrupt("corrupt bit array")
		}
		return rest[words*8:], nil
	case vTuple:
		rest, n, err := decodeBUvarint(b)
		if err != nil {
			return nil, err
		}
		for ; n > 0; n-- {
			var k uint64
			if rest, _, k, err = decodeValueTag(rest); err != nil {
				return nil, err
			}
			if rest, err = skipValue(rest, k); err != nil {
				return nil, err
			}
		}
		return rest, nil
	case vBox2D:
		for i := 0; i < 4; i++ {
			n := 9
			if len(b) > 0 && (b[0] == 0x02 || b[0] == 0x04) {
				n = 1
			}
			if b, err = need(n); err != nil {
				return nil, err
			}
		}
		return b, nil
	}
	return nil, corrupt("corrupt value: unknown kind %d", kind)
}

// kindMatches says whether a datum of this kind can be a value of type t.
func mismatch(t *types.T, kind uint64) error {
	return corrupt("corrupt value: kind %d where %s was expected", kind, t.Family())
}

// DecodeValueDatum reads a tagged tuple datum of type t.
func DecodeValueDatum(a *DatumAlloc, t *types.T, enums catalog.EnumSet, b []byte) (d tree.Datum, rest []byte, err error) {
	defer guard(&err)
	rest, _, kind, err := decodeValueTag(b)
	if err != nil {
		return nil, nil, err
	}
	return decodeValue(a, t, enums, rest, kind)
}

// decodeValue reads the data of a tuple datum.
func decodeValue(a *DatumAlloc, t *types.T, enums catalog.EnumSet, b []byte, kind uint64) (d tree.Datum, rest []byte, err error) {
	if kind == vNull {
		return tree.DNull, b, nil
	}
	switch t.Family() {
	case types.IntFamily:
		if kind != vInt {
			return nil, nil, mismatch(t, kind)
		}
		rest, v, err := decodeZZ(b)
		if err != nil {
			return nil, nil, err
		}
		return a.NewInt(v), rest, nil
	case types.StringFamily:
		if kind != vBytes {
			return nil, nil, mismatch(t, kind)
		}
		rest, data, err := decodeLenBytes(b)
		if err != nil {
			return nil, nil, err
		}
		if t.Oid() == oid.T_name {
			return tree.NewDName(string(data)), rest, nil
		}
		return a.NewString(string(data)), rest, nil
	case types.BoolFamily:
		switch kind {
		case vTrue:
			return tree.DBoolTrue, b, nil
		case vFalse:
			return tree.DBoolFalse, b, nil
		}
		return nil, nil, mismatch(t, kind)
	case types.BytesFamily:
		if kind != vBytes {
			return nil, nil, mismatch(t, kind)
		}
		rest, data, err := decodeLenBytes(b)
		if err != nil {
			return nil, nil, err
		}
		return a.NewBytes(string(data)), rest, nil
	case types.FloatFamily:
		if kind != vFloat || len(b) < 8 {
			return nil, nil, mismatch(t, kind)
		}
		return a.NewFloat(math.Float64frombits(binary.BigEndian.Uint64(b))), b[8:], nil
	case types.DecimalFamily:
		if kind != vDecimal {
			return nil, nil, mismatch(t, kind)
		}
		rest, err := skipValue(b, kind)
		if err != nil {
			return nil, nil, err
		}
		p := a.decs.make()
		if _, err := enc.DecodeIntoUntaggedDecimalValue(&p.Decimal, b); err != nil {
			return nil, nil, wrapCorrupt(err)
		}
		return p, rest, nil
	case types.DateFamily:
		rest, v, err := decodeIntKind(t, b, kind)
		if err != nil {
			return nil, nil, err
		}
		p := a.dates.make()
		p.Date = pgdate.MakeCompatibleDateFromDisk(v)
		return p, rest, nil
	case types.TimeFamily:
		rest, v, err := decodeIntKind(t, b, kind)
		if err != nil {
			return nil, nil, err
		}
		if v < 0 || v > microsPerDay {
			return nil, nil, corrupt("corrupt time of day %d", v)
		}
		p := a.times.make()
		*p = tree.DTime(v)
		return p, rest, nil
	case types.OidFamily:
		rest, v, err := decodeIntKind(t, b, kind)
		if err != nil {
			return nil, nil, err
		}
		return tree.NewDOidWithName(tree.DInt(v), t, ""), rest, nil
	case types.TimestampFamily, types.TimestampTZFamily:
		if kind != vTime {
			return nil, nil, mismatch(t, kind)
		}
		rest, sec, err := decodeZZ(b)
		if err != nil {
			return nil, nil, err
		}
		rest, nsec, err := decodeZZ(rest)
		if err != nil {
			return nil, nil, err
		}
		if nsec < 0 || nsec >= 1e9 {
			return nil, nil, corrupt("corrupt timestamp: %d nanoseconds in a second", nsec)
		}
		if t.Family() == types.TimestampFamily {
			p := a.ts.make()
			p.Time = unixTime(sec, nsec)
			return p, rest, nil
		}
		p := a.tstz.make()
		p.Time = unixTime(sec, nsec)
		return p, rest, nil
	case types.TimeTZFamily:
		if kind != vTimeTZ {
			return nil, nil, mismatch(t, kind)
		}
		p := a.timetz.make()
		rest, p.TimeTZ, err = enc.DecodeUntaggedTimeTZValue(b)
		if err == nil {
			err = checkTimeTZ(p.TimeTZ)
		}
		return p, rest, wrapCorrupt(err)
	case types.IntervalFamily:
		if kind != vDuration {
			return nil, nil, mismatch(t, kind)
		}
		p := a.ivals.make()
		rest, p.Duration, err = enc.DecodeUntaggedDurationValue(b)
		return p, rest, wrapCorrupt(err)
	case types.UuidFamily:
		if kind != vUUID || len(b) < 16 {
			return nil, nil, mismatch(t, kind)
		}
		d, err := a.uuid(b[:16])
		return d, b[16:], err
	case types.INetFamily:
		if kind != vIPAddr {
			return nil, nil, mismatch(t, kind)
		}
		return a.ipAddr(b)
	case types.BitFamily:
		if kind != vBitArray {
			return nil, nil, mismatch(t, kind)
		}
		rest, v, err := decodeBits(b)
		if err != nil {
			return nil, nil, err
		}
		return &tree.DBitArray{BitArray: v}, rest, nil
	case types.JsonFamily:
		if kind != vJSON {
			return nil, nil, mismatch(t, kind)
		}
		rest, data, err := decodeLenBytes(b)
		if err != nil {
			return nil, nil, err
		}
		j, err := decodeJSON(data)
		if err != nil {
			return nil, nil, err
		}
		return tree.NewDJSON(j), rest, nil
	case types.ArrayFamily:
		if kind != vArray {
			return nil, nil, mismatch(t, kind)
		}
		rest, data, err := decodeLenBytes(b)
		if err != nil {
			return nil, nil, err
		}
		d, err := decodeArrayBody(a, t, enums, data)
		return d, rest, err
	case types.CollatedStringFamily:
		if kind != vBytes {
			return nil, nil, mismatch(t, kind)
		}
		rest, data, err := decodeLenBytes(b)
		if err != nil {
			return nil, nil, err
		}
		d, err := a.collated(t, enums, data)
		return d, rest, err
	}
	return nil, nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to read a value of type %s", t.Family())
}

func decodeIntKind(t *types.T, b []byte, kind uint64) ([]byte, int64, error) {
	if kind != vInt {
		return nil, 0, mismatch(t, kind)
	}
	return decodeZZ(b)
}

func (a *DatumAlloc) uuid(data []byte) (tree.Datum, error) {
	if len(data) != 16 {
		return nil, corrupt("corrupt UUID of %d bytes", len(data))
	}
	p := a.uuids.make()
	copy(p.UUID[:], data)
	return p, nil
}

func (a *DatumAlloc) ipAddr(data []byte) (tree.Datum, []byte, error) {
	if len(data) < 2 || data[0] > byte(ipaddr.IPv6family) {
		return nil, nil, corrupt("corrupt address")
	}
	if _, err := skipValue(data, vIPAddr); err != nil {
		return nil, nil, err
	}
	if mask := data[1]; mask > 128 || (data[0] == byte(ipaddr.IPv4family) && mask > 32) {
		return nil, nil, corrupt("corrupt address: mask of %d bits", mask)
	}
	p := a.addrs.make()
	rest, err := p.FromBuffer(data)
	return p, rest, wrapCorrupt(err)
}

func (a *DatumAlloc) collated(t *types.T, enums catalog.EnumSet, data []byte) (tree.Datum, error) {
	if o, ok := catalog.EnumOID(t); ok {
		return enumValue(enums, o, data)
	}
	d, err := tree.NewDCollatedString(string(data), t.Locale(), &a.env)
	if err != nil {
		return nil, pgerr.Newf(pgerr.InvalidParameterValue, "collation %q: %w", t.Locale(), err)
	}
	return d, nil
}

func checkTimeTZ(t timetz.TimeTZ) error {
	if t.TimeOfDay < 0 || int64(t.TimeOfDay) > microsPerDay || t.OffsetSecs < -86400 || t.OffsetSecs > 86400 {
		return corrupt("corrupt time of day %d with offset %d", t.TimeOfDay, t.OffsetSecs)
	}
	return nil
}

func decodeBits(b []byte) ([]byte, bitarray.BitArray, error) {
	rest, err := skipValue(b, vBitArray)
	if err != nil {
		return nil, bitarray.BitArray{}, err
	}
	_, v, err := enc.DecodeUntaggedBitArrayValue(b)
	return rest, v, wrapCorrupt(err)
}

func decodeArrayBody(a *DatumAlloc, t *types.T, enums catalog.EnumSet, b []byte) (tree.Datum, error) {
	if len(b) == 0 {
		return nil, corrupt("corrupt array: no header")
	}
	header := b[0]
	if header&0x0f > 1 {
		return nil, corrupt("corrupt array: %d dimensions", header&0x0f)
	}
	b, kind, err := decodeBUvarint(b[1:])
	if err != nil {
		return nil, err
	}
	b, n, err := decodeBUvarint(b)
	if err != nil {
		return nil, err
	}
	var nulls []byte
	if header&arrayHasNulls != 0 {
		w := (n + 7) / 8
		if n > uint64(len(b))*8 || w > uint64(len(b)) {
			return nil, corrupt("corrupt array: %d elements in %d bytes", n, len(b))
		}
		nulls, b = b[:w], b[w:]
	} else if n > uint64(len(b)) {
		return nil, corrupt("corrupt array: %d elements in %d bytes", n, len(b))
	}
	arr := tree.NewDArray(t.ArrayContents())
	arr.Array = make(tree.Datums, 0, n)
	for i := uint64(0); i < n; i++ {
		if nulls != nil && nulls[i/8]&(1<<(i%8)) != 0 {
			if err := arr.Append(tree.DNull); err != nil {
				return nil, wrapCorrupt(err)
			}
			continue
		}
		k := kind
		if kind == vTrue || kind == vFalse {
			if len(b) == 0 {
				return nil, corrupt("corrupt array: too short")
			}
			k, b = uint64(b[0]), b[1:]
		}
		var d tree.Datum
		if d, b, err = decodeValue(a, t.ArrayContents(), enums, b, k); err != nil {
			return nil, err
		}
		if err := arr.Append(d); err != nil {
			return nil, wrapCorrupt(err)
		}
	}
	if len(b) > 0 {
		return nil, corrupt("corrupt array: %d bytes left over", len(b))
	}
	return wrapVector(arr, t), nil
}

// decodeBare reads the bare form of a value of type t.
func decodeBare(a *DatumAlloc, t *types.T, enums catalog.EnumSet, tag byte, b []byte) (d tree.Datum, err error) {
	wrong := func() (tree.Datum, error) {
		return nil, corrupt("corrupt value: tag %d where %s was expected", tag, t.Family())
	}
	var rest []byte
	switch t.Family() {
	case types.IntFamily, types.OidFamily, types.DateFamily, types.TimeFamily:
		if tag != tagInt {
			return wrong()
		}
		d, rest, err = decodeValue(a, t, enums, b, vInt)
	case types.BoolFamily:
		if tag != tagInt {
			return wrong()
		}
		var v int64
		rest, v, err = decodeZZ(b)
		d = tree.MakeDBool(v != 0)
	case types.FloatFamily:
		if tag != tagFloat {
			return wrong()
		}
		d, rest, err = decodeValue(a, t, enums, b, vFloat)
	case types.StringFamily:
		if tag != tagBytes {
			return wrong()
		}
		if t.Oid() == oid.T_name {
			return tree.NewDName(string(b)), nil
		}
		return a.NewString(string(b)), nil
	case types.BytesFamily:
		if tag != tagBytes {
			return wrong()
		}
		return a.NewBytes(string(b)), nil
	case types.CollatedStringFamily:
		if tag != tagBytes {
			return wrong()
		}
		return a.collated(t, enums, b)
	case types.UuidFamily:
		if tag != tagBytes {
			return wrong()
		}
		return a.uuid(b)
	case types.INetFamily:
		if tag != tagBytes {
			return wrong()
		}
		d, rest, err = a.ipAddr(b)
	case types.JsonFamily:
		if tag != tagBytes {
			return wrong()
		}
		j, err := decodeJSON(b)
		if err != nil {
			return nil, err
		}
		return tree.NewDJSON(j), nil
	case types.ArrayFamily:
		if tag != tagBytes {
			return wrong()
		}
		return decodeArrayBody(a, t, enums, b)
	case types.TimestampFamily, types.TimestampTZFamily:
		if tag != tagTime {
			return wrong()
		}
		d, rest, err = decodeKeyDatum(a, t, enums, b, Asc)
	case types.IntervalFamily:
		if tag != tagDuration {
			return wrong()
		}
		d, rest, err = decodeKeyDatum(a, t, enums, b, Asc)
	case types.TimeTZFamily:
		if tag != tagTimeTZ {
			return wrong()
		}
		d, rest, err = decodeKeyDatum(a, t, enums, b, Asc)
	case types.DecimalFamily:
		if tag != tagDecimal || len(b) == 0 {
			return wrong()
		}
		p := a.decs.make()
		if err := enc.DecodeIntoNonsortingDecimal(&p.Decimal, b, nil); err != nil {
			return nil, wrapCorrupt(err)
		}
		return p, nil
	case types.BitFamily:
		if tag != tagBitArray {
			return wrong()
		}
		var v bitarray.BitArray
		rest, v, err = decodeBits(b)
		d = &tree.DBitArray{BitArray: v}
	default:
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to read a value of type %s", t.Family())
	}
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, corrupt("corrupt value: %d bytes left over", len(rest))
	}
	if d == tree.DNull {
		return nil, corrupt("corrupt value: NULL in a pair of its own")
	}
	return d, nil
}
