package pgcodec

import (
	"math"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/bitarray"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/ipaddr"
	"github.com/auxten/postgresql-parser/pkg/util/timetz"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/auxten/postgresql-parser/pkg/util/uint128"
	"github.com/auxten/postgresql-parser/pkg/util/uuid"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

const invalidBinary pgerr.Code = "22P03"

func errBinary(typeName string) error {
	return pgerr.Newf(invalidBinary, "incorrect binary data format for type %s", typeName)
}

// DecodeBinary reads a value as the type's receive function would. data is not kept.
func (c *Codec) DecodeBinary(data []byte, s *Settings) (tree.Datum, error) {
	switch c.typ.Family() {
	case types.IntFamily:
		n, ok := int64(0), int(c.intSize()) == len(data)
		switch len(data) {
		case 2:
			n = int64(int16(be.Uint16(data)))
		case 4:
			n = int64(int32(be.Uint32(data)))
		case 8:
			n = int64(be.Uint64(data))
		}
		if !ok {
			return nil, errBinary(intTypeName(c.intSize()))
		}
		return tree.NewDInt(tree.DInt(n)), nil
	case types.StringFamily, types.CollatedStringFamily, types.UnknownFamily, types.AnyFamily:
		return c.decodeString(data)
	case types.BoolFamily:
		if len(data) != 1 {
			return nil, errBinary("boolean")
		}
		return tree.MakeDBool(data[0] != 0), nil
	case types.FloatFamily:
		switch {
		case len(data) == 4 && c.Size != 8:
			return tree.NewDFloat(tree.DFloat(math.Float32frombits(be.Uint32(data)))), nil
		case len(data) == 8 && c.Size != 4:
			return tree.NewDFloat(tree.DFloat(math.Float64frombits(be.Uint64(data)))), nil
		}
		return nil, errBinary("double precision")
	case types.DecimalFamily:
		return decodeDecimalBinary(data)
	case types.BytesFamily:
		return tree.NewDBytes(tree.DBytes(data)), nil
	case types.DateFamily:
		if len(data) != 4 {
			return nil, errBinary("date")
		}
		d, err := pgdate.MakeDateFromPGEpoch(int32(be.Uint32(data)))
		if err != nil {
			return nil, pgerr.New("22008", "date out of range")
		}
		return tree.NewDDate(d), nil
	case types.TimeFamily:
		if len(data) != 8 {
			return nil, errBinary("time")
		}
		t, err := timeOfDay(int64(be.Uint64(data)))
		if err != nil {
			return nil, err
		}
		return tree.MakeDTime(t), nil
	case types.TimeTZFamily:
		if len(data) != 12 {
			return nil, errBinary("time with time zone")
		}
		t, err := timeOfDay(int64(be.Uint64(data)))
		if err != nil {
			return nil, err
		}
		offset := int32(be.Uint32(data[8:]))
		if offset > timetz.MaxTimeTZOffsetSecs || offset < timetz.MinTimeTZOffsetSecs {
			return nil, pgerr.New("22009", "time zone displacement out of range")
		}
		return tree.NewDTimeTZ(timetz.MakeTimeTZ(t, offset)), nil
	case types.TimestampFamily, types.TimestampTZFamily:
		if len(data) != 8 {
			return nil, errBinary("timestamp")
		}
		t, err := timeFromMicros(int64(be.Uint64(data)))
		if err != nil {
			return nil, err
		}
		if c.typ.Family() == types.TimestampFamily {
			return &tree.DTimestamp{Time: t}, nil
		}
		return &tree.DTimestampTZ{Time: t}, nil
	case types.IntervalFamily:
		return decodeIntervalBinary(data)
	case types.UuidFamily:
		if len(data) != 16 {
			return nil, errBinary("uuid")
		}
		var u uuid.UUID
		copy(u[:], data)
		return tree.NewDUuid(tree.DUuid{UUID: u}), nil
	case types.INetFamily:
		return decodeINetBinary(data)
	case types.BitFamily:
		return decodeBitsBinary(data)
	case types.JsonFamily:
		if c.OID != oid.T_json {
			if len(data) < 1 || data[0] != 1 {
				return nil, pgerr.New(invalidBinary, "unsupported jsonb version number")
			}
			data = data[1:]
		}
		return c.DecodeText(data, s)
	case types.OidFamily:
		if len(data) != 4 {
			return nil, errBinary("oid")
		}
		return tree.NewDOidWithName(tree.DInt(be.Uint32(data)), c.typ, ""), nil
	case types.ArrayFamily:
		return c.decodeArrayBinary(data, s)
	}
	return nil, pgerr.Newf("42883", "no binary input function available for type %s", c.typ.Name())
}

func decodeIntervalBinary(data []byte) (tree.Datum, error) {
	if len(data) != 16 {
		return nil, errBinary("interval")
	}
	us := int64(be.Uint64(data))
	if us > math.MaxInt64/1000 || us < math.MinInt64/1000 {
		return nil, pgerr.New("22008", "interval out of range")
	}
	d := duration.MakeDuration(us*1000, int64(int32(be.Uint32(data[8:]))), int64(int32(be.Uint32(data[12:]))))
	return &tree.DInterval{Duration: d}, nil
}

func decodeINetBinary(data []byte) (tree.Datum, error) {
	if len(data) < 4 || len(data) != 4+int(data[3]) {
		return nil, errBinary("inet")
	}
	ip := ipaddr.IPAddr{Mask: data[1]}
	switch {
	case data[0] == pgAFInet && data[3] == 4 && data[1] <= 32:
		ip.Family = ipaddr.IPv4family
		ip.Addr = ipaddr.Addr(uint128.FromInts(0, uint64(be.Uint32(data[4:]))|ipaddr.IPv4mappedIPv6prefix))
	case data[0] == pgAFInet6 && data[3] == 16 && data[1] <= 128:
		ip.Family = ipaddr.IPv6family
		ip.Addr = ipaddr.Addr(uint128.FromInts(be.Uint64(data[4:]), be.Uint64(data[12:])))
	default:
		return nil, errBinary("inet")
	}
	return tree.NewDIPAddr(tree.DIPAddr{IPAddr: ip}), nil
}

func decodeBitsBinary(data []byte) (tree.Datum, error) {
	if len(data) < 4 {
		return nil, errBinary("bit varying")
	}
	n := be.Uint32(data)
	data = data[4:]
	if n > math.MaxInt32-7 || len(data) != int(n+7)/8 {
		return nil, errBinary("bit varying")
	}
	words, last := bitarray.EncodingPartsForBitLen(uint(n))
	for i, by := range data {
		words[i/8] |= uint64(by) << (56 - 8*(i%8))
	}
	if len(words) > 0 {
		words[len(words)-1] &= ^uint64(0) << (64 - last) // bits beyond the length say nothing
	}
	bits, err := bitarray.FromEncodingParts(words, last)
	if err != nil {
		return nil, errBinary("bit varying")
	}
	return &tree.DBitArray{BitArray: bits}, nil
}

func (c *Codec) decodeArrayBinary(data []byte, s *Settings) (tree.Datum, error) {
	if len(data) < 12 {
		return nil, errBinary("array")
	}
	dims, elemOID := be.Uint32(data), oid.Oid(be.Uint32(data[8:]))
	data = data[12:]
	out := tree.NewDArray(c.elem.typ)
	if dims == 0 {
		return out, nil
	}
	if dims != 1 {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "multidimensional arrays are not supported")
	}
	if elemOID != c.elem.OID && c.elem.OID != oid.T_anyelement && !sameBinary(elemOID, c.elem.OID) {
		return nil, pgerr.Newf(pgerr.DatatypeMismatch, "binary data has array element type %d instead of expected %d", elemOID, c.elem.OID)
	}
	if len(data) < 8 {
		return nil, errBinary("array")
	}
	count := be.Uint32(data)
	data = data[8:]
	if uint64(count)*4 > uint64(len(data)) {
		return nil, errBinary("array") // each element has at least its length
	}
	for range count {
		if len(data) < 4 {
			return nil, errBinary("array")
		}
		n := int32(be.Uint32(data))
		data = data[4:]
		d := tree.Datum(tree.DNull)
		if n >= 0 {
			if int(n) > len(data) {
				return nil, errBinary("array")
			}
			var err error
			if d, err = c.elem.DecodeBinary(data[:n], s); err != nil {
				return nil, err
			}
			data = data[n:]
		} else if n != -1 {
			return nil, errBinary("array")
		}
		if err := out.Append(d); err != nil {
			return nil, pgerr.Wrapf(err, pgerr.InvalidParameterValue, "reading array")
		}
	}
	if len(data) != 0 {
		return nil, errBinary("array")
	}
	return out, nil
}

// sameBinary says that two types have the same binary form, so that drivers may
// name either.
func sameBinary(a, b oid.Oid) bool {
	text := func(o oid.Oid) bool {
		switch o {
		case oid.T_text, oid.T_varchar, oid.T_bpchar, oid.T_name, oid.T_unknown:
			return true
		}
		return false
	}
	label := func(o oid.Oid) bool { return text(o) || o > 16384 } // of an enum: text too
	return text(a) && label(b) || label(a) && text(b)
}
