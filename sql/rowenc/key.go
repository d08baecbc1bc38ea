package rowenc

import (
	"bytes"
	"math"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	enc "github.com/auxten/postgresql-parser/pkg/util/encoding"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Direction is the direction of an indexed column.
type Direction = catalogpb.Direction

// The directions.
const (
	Asc  = catalogpb.Direction_ASC
	Desc = catalogpb.Direction_DESC
)

// Markers of the key forms that the encoding package of the parser lacks.
const (
	arrayMarkerAsc  = 0x3f
	arrayMarkerDesc = 0x40
	emptyArrayInv   = 0x43 // in inverted indexes

	keyTermAsc      = 0x00
	keyTermDesc     = 0xff
	nullInArrayAsc  = 0x01
	nullInArrayDesc = 0xfe
)

func corrupt(format string, args ...any) error {
	return pgerr.Newf(pgerr.DataCorrupted, format, args...)
}

// guard turns a panic of a decoder that trusts its input into an error.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = corrupt("corrupt value: %v", r)
	}
}

func unwrap(d tree.Datum) tree.Datum {
	if w, ok := d.(*tree.DOidWrapper); ok {
		return w.Wrapped
	}
	return d
}

// EncodeKeyDatum appends the key form of d.
func EncodeKeyDatum(b []byte, d tree.Datum, dir Direction) ([]byte, error) {
	if d == tree.DNull {
		if dir == Asc {
			return enc.EncodeNullAscending(b), nil
		}
		return enc.EncodeNullDescending(b), nil
	}
	asc := dir == Asc
	switch t := unwrap(d).(type) {
	case *tree.DInt:
		return encodeKeyInt(b, int64(*t), asc), nil
	case *tree.DString:
		if asc {
			return enc.EncodeStringAscending(b, string(*t)), nil
		}
		return enc.EncodeStringDescending(b, string(*t)), nil
	case *tree.DBool:
		v := int64(0)
		if *t {
			v = 1
		}
		return encodeKeyInt(b, v, asc), nil
	case *tree.DDecimal:
		if asc {
			return enc.EncodeDecimalAscending(b, &t.Decimal), nil
		}
		return enc.EncodeDecimalDescending(b, &t.Decimal), nil
	case *tree.DFloat:
		if asc {
			return enc.EncodeFloatAscending(b, float64(*t)), nil
		}
		return enc.EncodeFloatDescending(b, float64(*t)), nil
	case *tree.DTimestamp:
		if asc {
			return enc.EncodeTimeAscending(b, t.Time), nil
		}
		return enc.EncodeTimeDescending(b, t.Time), nil
	case *tree.DTimestampTZ:
		if asc {
			return enc.EncodeTimeAscending(b, t.Time), nil
		}
		return enc.EncodeTimeDescending(b, t.Time), nil
	case *tree.DDate:
		return encodeKeyInt(b, t.UnixEpochDaysWithOrig(), asc), nil
	case *tree.DTime:
		return encodeKeyInt(b, int64(*t), asc), nil
	case *tree.DBytes:
		if asc {
			return enc.EncodeStringAscending(b, string(*t)), nil
		}
		return enc.EncodeStringDescending(b, string(*t)), nil
	case *tree.DUuid:
		return encodeKeyBytes(b, t.GetBytes(), asc), nil
	case *tree.DCollatedString:
		return encodeKeyBytes(b, t.Key, asc), nil
	case *tree.DIPAddr:
		return encodeKeyBytes(b, t.ToBuffer(nil), asc), nil
	case *tree.DOid:
		return encodeKeyInt(b, int64(t.DInt), asc), nil
	case *tree.DTimeTZ:
		if asc {
			return enc.EncodeTimeTZAscending(b, t.TimeTZ), nil
		}
		return enc.EncodeTimeTZDescending(b, t.TimeTZ), nil
	case *tree.DInterval:
		if asc {
			return enc.EncodeDurationAscending(b, t.Duration)
		}
		return enc.EncodeDurationDescending(b, t.Duration)
	case *tree.DBitArray:
		if asc {
			return enc.EncodeBitArrayAscending(b, t.BitArray), nil
		}
		return enc.EncodeBitArrayDescending(b, t.BitArray), nil
	case *tree.DArray:
		return encodeKeyArray(b, t, dir)
	case *tree.DJSON:
		return encodeKeyJSON(b, t.JSON, dir)
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to encode a value of type %T as a key", d)
}

func encodeKeyInt(b []byte, v int64, asc bool) []byte {
	if asc {
		return enc.EncodeVarintAscending(b, v)
	}
	return enc.EncodeVarintDescending(b, v)
}

func encodeKeyBytes(b, data []byte, asc bool) []byte {
	if asc {
		return enc.EncodeBytesAscending(b, data)
	}
	return enc.EncodeBytesDescending(b, data)
}

func encodeKeyArray(b []byte, a *tree.DArray, dir Direction) ([]byte, error) {
	marker, term, null := byte(arrayMarkerAsc), byte(keyTermAsc), byte(nullInArrayAsc)
	if dir == Desc {
		marker, term, null = arrayMarkerDesc, keyTermDesc, nullInArrayDesc
	}
	b = append(b, marker)
	var err error
	for _, e := range a.Array {
		if e == tree.DNull {
			b = append(b, null)
			continue
		}
		if b, err = EncodeKeyDatum(b, e, dir); err != nil {
			return nil, err
		}
	}
	return append(b, term), nil
}

// decodeVarint reads an ordered varint. The library's decoder accepts first
// bytes that no encoder writes; here they are an error.
func decodeVarint(b []byte, asc bool) (rest []byte, v int64, err error) {
	if len(b) == 0 || b[0] < 0x80 || b[0] > 0xfd {
		return nil, 0, corrupt("corrupt key: not an integer")
	}
	if asc {
		rest, v, err = enc.DecodeVarintAscending(b)
	} else {
		rest, v, err = enc.DecodeVarintDescending(b)
	}
	if err != nil {
		return nil, 0, corrupt("corrupt key: %w", err)
	}
	return rest, v, nil
}

// decodeKeyBytes reads the escaped bytes form. The result is in scratch or
// aliases b.
func decodeKeyBytes(b, scratch []byte, asc bool) (rest, data []byte, err error) {
	if asc {
		if len(b) == 0 || b[0] != 0x12 {
			return nil, nil, corrupt("corrupt key: not a string")
		}
		b = b[1:]
		// Most strings hold no zero byte: one search, no copy.
		i := bytes.IndexByte(b, 0)
		if i < 0 || i+1 >= len(b) {
			return nil, nil, corrupt("corrupt key: string without end")
		}
		if b[i+1] == 0x01 {
			return b[i+2:], b[:i], nil
		}
		out := scratch[:0]
		for {
			switch b[i+1] {
			case 0x01:
				return b[i+2:], append(out, b[:i]...), nil
			case 0xff:
				out = append(append(out, b[:i]...), 0)
				b = b[i+2:]
			default:
				return nil, nil, corrupt("corrupt key: unknown escape in a string")
			}
			if i = bytes.IndexByte(b, 0); i < 0 || i+1 >= len(b) {
				return nil, nil, corrupt("corrupt key: string without end")
			}
		}
	}
	if len(b) == 0 || b[0] != 0x13 {
		return nil, nil, corrupt("corrupt key: not a string")
	}
	b = b[1:]
	out := scratch[:0]
	for i := 0; i < len(b); i++ {
		if b[i] != 0xff {
			out = append(out, ^b[i])
			continue
		}
		if i+1 >= len(b) {
			break
		}
		switch b[i+1] {
		case 0xfe:
			return b[i+2:], out, nil
		case 0x00:
			out = append(out, 0)
			i++
		default:
			return nil, nil, corrupt("corrupt key: unknown escape in a string")
		}
	}
	return nil, nil, corrupt("corrupt key: string without end")
}

// DecodeKeyDatum reads the key form of a value of type t. enums is needed for
// enum types. Collated strings cannot be read back from a key: the caller takes
// them from the value, and here they are NULL.
func DecodeKeyDatum(a *DatumAlloc, t *types.T, enums catalog.EnumSet, b []byte, dir Direction) (d tree.Datum, rest []byte, err error) {
	defer guard(&err)
	return decodeKeyDatum(a, t, enums, b, dir)
}

func decodeKeyDatum(a *DatumAlloc, t *types.T, enums catalog.EnumSet, b []byte, dir Direction) (tree.Datum, []byte, error) {
	if len(b) == 0 {
		return nil, nil, corrupt("corrupt key: too short")
	}
	if b[0] == 0x00 || b[0] == 0xff {
		return tree.DNull, b[1:], nil
	}
	asc := dir == Asc
	var err error
	switch t.Family() {
	case types.IntFamily:
		rest, v, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		return a.NewInt(v), rest, nil
	case types.StringFamily:
		rest, data, err := decodeKeyBytes(b, a.scratch, asc)
		if err != nil {
			return nil, nil, err
		}
		if t.Oid() == oid.T_name {
			return tree.NewDName(string(data)), rest, nil
		}
		return a.NewString(string(data)), rest, nil
	case types.BoolFamily:
		rest, v, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		return tree.MakeDBool(v != 0), rest, nil
	case types.BytesFamily:
		rest, data, err := decodeKeyBytes(b, a.scratch, asc)
		if err != nil {
			return nil, nil, err
		}
		return a.NewBytes(string(data)), rest, nil
	case types.DecimalFamily:
		d := a.decs.make()
		if asc {
			b, d.Decimal, err = enc.DecodeDecimalAscending(b, nil)
		} else {
			b, d.Decimal, err = enc.DecodeDecimalDescending(b, nil)
		}
		return d, b, wrapCorrupt(err)
	case types.FloatFamily:
		if len(b) < 9 && b[0] != 0x02 && b[0] != 0x04 && b[0] != 0x06 {
			return nil, nil, corrupt("corrupt key: float too short")
		}
		var f float64
		if asc {
			b, f, err = enc.DecodeFloatAscending(b)
		} else {
			b, f, err = enc.DecodeFloatDescending(b)
		}
		if f == 0 {
			f = 0 // A zero read from a descending key comes out as -0; a real -0 is stored in the value.
		}
		return a.NewFloat(f), b, wrapCorrupt(err)
	case types.TimestampFamily:
		rest, sec, nsec, err := decodeKeyTime(b, asc)
		if err != nil {
			return nil, nil, err
		}
		p := a.ts.make()
		p.Time = unixTime(sec, nsec)
		return p, rest, nil
	case types.TimestampTZFamily:
		rest, sec, nsec, err := decodeKeyTime(b, asc)
		if err != nil {
			return nil, nil, err
		}
		p := a.tstz.make()
		p.Time = unixTime(sec, nsec)
		return p, rest, nil
	case types.DateFamily:
		rest, v, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		p := a.dates.make()
		p.Date = pgdate.MakeCompatibleDateFromDisk(v)
		return p, rest, nil
	case types.TimeFamily:
		rest, v, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		if v < 0 || v > microsPerDay {
			return nil, nil, corrupt("corrupt time of day %d", v)
		}
		p := a.times.make()
		*p = tree.DTime(v)
		return p, rest, nil
	case types.UuidFamily:
		rest, data, err := decodeKeyBytes(b, a.scratch, asc)
		if err != nil {
			return nil, nil, err
		}
		d, err := a.uuid(data)
		return d, rest, err
	case types.INetFamily:
		rest, data, err := decodeKeyBytes(b, a.scratch, asc)
		if err != nil {
			return nil, nil, err
		}
		d, tail, err := a.ipAddr(data)
		if err == nil && len(tail) > 0 {
			err = corrupt("corrupt address")
		}
		return d, rest, err
	case types.OidFamily:
		rest, v, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		return tree.NewDOidWithName(tree.DInt(v), t, ""), rest, nil
	case types.TimeTZFamily:
		p := a.timetz.make()
		if asc {
			b, p.TimeTZ, err = enc.DecodeTimeTZAscending(b)
		} else {
			b, p.TimeTZ, err = enc.DecodeTimeTZDescending(b)
		}
		if err == nil {
			err = checkTimeTZ(p.TimeTZ)
		}
		return p, b, wrapCorrupt(err)
	case types.IntervalFamily:
		p := a.ivals.make()
		if asc {
			b, p.Duration, err = enc.DecodeDurationAscending(b)
		} else {
			b, p.Duration, err = enc.DecodeDurationDescending(b)
		}
		return p, b, wrapCorrupt(err)
	case types.BitFamily:
		p := &tree.DBitArray{}
		if asc {
			b, p.BitArray, err = enc.DecodeBitArrayAscending(b)
		} else {
			b, p.BitArray, err = enc.DecodeBitArrayDescending(b)
		}
		return p, b, wrapCorrupt(err)
	case types.CollatedStringFamily:
		rest, data, err := decodeKeyBytes(b, a.scratch, asc)
		if err != nil {
			return nil, nil, err
		}
		o, ok := catalog.EnumOID(t)
		if !ok {
			return tree.DNull, rest, nil
		}
		d, err := enumValue(enums, o, data)
		return d, rest, err
	case types.ArrayFamily:
		return decodeKeyArray(a, t, enums, b, dir)
	case types.JsonFamily:
		j, rest, err := decodeKeyJSON(a, b, dir, 0)
		if err != nil {
			return nil, nil, err
		}
		return tree.NewDJSON(j), rest, nil
	}
	return nil, nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to decode a key of type %s", t.Family())
}

func wrapCorrupt(err error) error {
	if err == nil || pgerr.GetCode(err) == pgerr.DataCorrupted {
		return err
	}
	return corrupt("corrupt value: %w", err)
}

func enumValue(enums catalog.EnumSet, o oid.Oid, phys []byte) (tree.Datum, error) {
	e := enums[o]
	if e == nil {
		return nil, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", o)
	}
	v := e.FromPhysical(phys)
	if v == nil {
		return nil, corrupt("enum %s has no value with representation %x", e.Name, phys)
	}
	return v, nil
}

func decodeKeyTime(b []byte, asc bool) (rest []byte, sec, nsec int64, err error) {
	if len(b) == 0 || b[0] != 0x14 {
		return nil, 0, 0, corrupt("corrupt key: not a timestamp")
	}
	if rest, sec, err = decodeVarint(b[1:], asc); err != nil {
		return nil, 0, 0, err
	}
	if rest, nsec, err = decodeVarint(rest, asc); err != nil {
		return nil, 0, 0, err
	}
	if nsec < 0 || nsec >= 1e9 {
		return nil, 0, 0, corrupt("corrupt key: %d nanoseconds in a second", nsec)
	}
	return rest, sec, nsec, nil
}

func decodeKeyArray(a *DatumAlloc, t *types.T, enums catalog.EnumSet, b []byte, dir Direction) (tree.Datum, []byte, error) {
	marker, term, null := byte(arrayMarkerAsc), byte(keyTermAsc), byte(nullInArrayAsc)
	if dir == Desc {
		marker, term, null = arrayMarkerDesc, keyTermDesc, nullInArrayDesc
	}
	if b[0] != marker {
		return nil, nil, corrupt("corrupt key: not an array")
	}
	b = b[1:]
	arr := tree.NewDArray(t.ArrayContents())
	for {
		if len(b) == 0 {
			return nil, nil, corrupt("corrupt key: array without end")
		}
		var d tree.Datum
		switch b[0] {
		case term:
			return wrapVector(arr, t), b[1:], nil
		case null:
			d, b = tree.DNull, b[1:]
		default:
			var err error
			if d, b, err = decodeKeyDatum(a, t.ArrayContents(), enums, b, dir); err != nil {
				return nil, nil, err
			}
		}
		if err := arr.Append(d); err != nil {
			return nil, nil, wrapCorrupt(err)
		}
	}
}

func wrapVector(arr *tree.DArray, t *types.T) tree.Datum {
	switch t.Oid() {
	case oid.T_int2vector:
		return tree.NewDIntVectorFromDArray(arr)
	case oid.T_oidvector:
		return tree.NewDOidVectorFromDArray(arr)
	}
	return arr
}

// SkipKeyDatum returns what follows the key form of a value of type t.
func SkipKeyDatum(t *types.T, b []byte, dir Direction) (rest []byte, err error) {
	defer guard(&err)
	return skipKeyDatum(t, b, dir)
}

func skipKeyDatum(t *types.T, b []byte, dir Direction) ([]byte, error) {
	if len(b) == 0 {
		return nil, corrupt("corrupt key: too short")
	}
	switch b[0] {
	case 0x00, 0xff:
		return b[1:], nil
	case arrayMarkerAsc, arrayMarkerDesc:
		// Falls through: arrays and JSON are unknown to PeekLength.
	default:
		switch t.Family() {
		case types.IntFamily, types.BoolFamily, types.DateFamily, types.TimeFamily, types.OidFamily:
			// The first byte says the length: 80…87 negative, 88…f5 itself, f6…fd positive.
			n := 1
			switch c := b[0]; {
			case c < 0x80 || c > 0xfd:
				return nil, corrupt("corrupt key: not an integer")
			case c < 0x88:
				n += 0x88 - int(c)
			case c > 0xf5:
				n += int(c) - 0xf5
			}
			if len(b) < n {
				return nil, corrupt("corrupt key: integer too short")
			}
			return b[n:], nil
		case types.JsonFamily:
		default:
			n, err := enc.PeekLength(b)
			if err != nil || n <= 0 || n > len(b) {
				return nil, corrupt("corrupt key: unknown value %x", b[0])
			}
			return b[n:], nil
		}
	}
	var a DatumAlloc
	_, rest, err := decodeKeyDatum(&a, skippable(t), nil, b, dir)
	return rest, err
}

// skippable replaces types whose values need more than the bytes to be decoded.
func skippable(t *types.T) *types.T {
	if t.Family() == types.ArrayFamily {
		if _, ok := catalog.EnumOID(t.ArrayContents()); ok {
			return types.MakeArray(types.Bytes)
		}
	}
	return t
}

// IsComposite says whether d cannot be read back exactly from its key form, so
// that a copy of it goes into the value.
func IsComposite(d tree.Datum) bool {
	switch t := unwrap(d).(type) {
	case *tree.DCollatedString:
		return !catalog.IsEnumLocale(t.Locale)
	case *tree.DFloat:
		return math.Float64bits(float64(*t)) == 1<<63
	case *tree.DJSON:
		return true
	case *tree.DArray:
		for _, e := range t.Array {
			if IsComposite(e) {
				return true
			}
		}
		return false
	case *tree.DDecimal:
		return t.IsComposite()
	}
	return false
}
