package exec

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/bitarray"
	"github.com/auxten/postgresql-parser/pkg/util/duration"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/auxten/postgresql-parser/pkg/util/timeofday"
	"github.com/auxten/postgresql-parser/pkg/util/timetz"
	"github.com/auxten/postgresql-parser/pkg/util/timeutil/pgdate"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"
)

// codec writes datums of any kind to bytes and back for spill files. The bytes
// mean something only to the codec that wrote them: types, and datums of kinds
// it does not know, stay in memory and are written as numbers.
type codec struct {
	typs   []*types.T
	typIdx map[*types.T]int
	kept   []tree.Datum
	keptIx map[tree.Datum]int
}

const (
	tagNull = iota
	tagFalse
	tagTrue
	tagInt
	tagFloat
	tagDecimal
	tagString
	tagBytes
	tagCollated
	tagDate
	tagTime
	tagTimeTZ
	tagTimestamp
	tagTimestampTZ
	tagInterval
	tagUUID
	tagINet
	tagJSON
	tagBits
	tagArray
	tagTuple
	tagWrapped
	tagKept
)

func (c *codec) typeNum(t *types.T) uint64 {
	if i, ok := c.typIdx[t]; ok {
		return uint64(i)
	}
	if c.typIdx == nil {
		c.typIdx = map[*types.T]int{}
	}
	// Equal types may come as many pointers, one per datum.
	for i, have := range c.typs {
		if have.Identical(t) {
			return uint64(i)
		}
	}
	c.typIdx[t] = len(c.typs)
	c.typs = append(c.typs, t)
	return uint64(len(c.typs) - 1)
}

func (c *codec) encode(b []byte, d tree.Datum) ([]byte, error) {
	switch t := d.(type) {
	case *tree.DBool:
		if *t {
			return append(b, tagTrue), nil
		}
		return append(b, tagFalse), nil
	case *tree.DInt:
		return binary.AppendVarint(append(b, tagInt), int64(*t)), nil
	case *tree.DFloat:
		return binary.LittleEndian.AppendUint64(append(b, tagFloat), math.Float64bits(float64(*t))), nil
	case *tree.DDecimal:
		flags := byte(t.Form) << 1
		if t.Negative {
			flags |= 1
		}
		b = append(b, tagDecimal, flags)
		b = binary.AppendVarint(b, int64(t.Exponent))
		return appendBlob(b, t.Coeff.Bytes()), nil
	case *tree.DString:
		return appendBlob(append(b, tagString), string(*t)), nil
	case *tree.DBytes:
		return appendBlob(append(b, tagBytes), string(*t)), nil
	case *tree.DCollatedString:
		b = appendBlob(append(b, tagCollated), t.Contents)
		b = appendBlob(b, t.Locale)
		return appendBlob(b, t.Key), nil
	case *tree.DDate:
		return binary.AppendVarint(append(b, tagDate), int64(t.PGEpochDays())), nil
	case *tree.DTime:
		return binary.AppendVarint(append(b, tagTime), int64(*t)), nil
	case *tree.DTimeTZ:
		b = binary.AppendVarint(append(b, tagTimeTZ), int64(t.TimeOfDay))
		return binary.AppendVarint(b, int64(t.OffsetSecs)), nil
	case *tree.DTimestamp:
		return appendTime(append(b, tagTimestamp), t.Time), nil
	case *tree.DTimestampTZ:
		return appendTime(append(b, tagTimestampTZ), t.Time), nil
	case *tree.DInterval:
		b = binary.AppendVarint(append(b, tagInterval), t.Duration.Months)
		b = binary.AppendVarint(b, t.Duration.Days)
		return binary.AppendVarint(b, t.Duration.Nanos()), nil
	case *tree.DUuid:
		return append(append(b, tagUUID), t.UUID[:]...), nil
	case *tree.DIPAddr:
		return appendBlob(append(b, tagINet), t.IPAddr.ToBuffer(nil)), nil
	case *tree.DJSON:
		enc, err := json.EncodeJSON(nil, t.JSON)
		if err != nil {
			return nil, err
		}
		return appendBlob(append(b, tagJSON), enc), nil
	case *tree.DBitArray:
		words, last := t.BitArray.EncodingParts()
		b = binary.AppendUvarint(append(b, tagBits), uint64(len(words)))
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return binary.AppendUvarint(b, last), nil
	case *tree.DArray:
		b = binary.AppendUvarint(append(b, tagArray), c.typeNum(t.ParamTyp))
		return c.encodeRow(b, t.Array)
	case *tree.DTuple:
		b = binary.AppendUvarint(append(b, tagTuple), c.typeNum(t.ResolvedType()))
		return c.encodeRow(b, t.D)
	case *tree.DOidWrapper:
		b = binary.AppendUvarint(append(b, tagWrapped), uint64(t.Oid))
		return c.encode(b, t.Wrapped)
	}
	if d == tree.DNull {
		return append(b, tagNull), nil
	}
	n, ok := c.keptIx[d]
	if !ok {
		if c.keptIx == nil {
			c.keptIx = map[tree.Datum]int{}
		}
		n = len(c.kept)
		c.kept = append(c.kept, d)
		c.keptIx[d] = n
	}
	return binary.AppendUvarint(append(b, tagKept), uint64(n)), nil
}

func (c *codec) encodeRow(b []byte, row tree.Datums) (_ []byte, err error) {
	b = binary.AppendUvarint(b, uint64(len(row)))
	for _, d := range row {
		if b, err = c.encode(b, d); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendBlob[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// reader takes values off the front of b. Spill files are our own and checked
// for completeness by length, so damage shows as an error in err, once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = fmt.Errorf("spilled row is damaged")
	}
	r.b = nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) blob() []byte   { return r.take(r.uvarint()) }
func (r *reader) string() string { return string(r.blob()) }
func (r *reader) fixed64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) time() time.Time {
	sec := r.varint()
	return time.Unix(sec, int64(r.uvarint())).UTC()
}

func (c *codec) typ(n uint64, r *reader) *types.T {
	if n >= uint64(len(c.typs)) {
		r.fail()
		return types.Unknown
	}
	return c.typs[n]
}

func (c *codec) decode(r *reader) tree.Datum {
	switch tag := r.byte(); tag {
	case tagNull:
	case tagFalse:
		return tree.DBoolFalse
	case tagTrue:
		return tree.DBoolTrue
	case tagInt:
		return tree.NewDInt(tree.DInt(r.varint()))
	case tagFloat:
		return tree.NewDFloat(tree.DFloat(math.Float64frombits(r.fixed64())))
	case tagDecimal:
		flags := r.byte()
		d := &tree.DDecimal{}
		d.Form, d.Negative = apd.Form(flags>>1), flags&1 != 0
		d.Exponent = int32(r.varint())
		d.Coeff = *new(big.Int).SetBytes(r.blob())
		return d
	case tagString:
		return tree.NewDString(r.string())
	case tagBytes:
		return tree.NewDBytes(tree.DBytes(r.string()))
	case tagCollated:
		d := &tree.DCollatedString{Contents: r.string(), Locale: r.string()}
		d.Key = append([]byte(nil), r.blob()...)
		return d
	case tagDate:
		d, err := pgdate.MakeDateFromPGEpoch(int32(r.varint()))
		if err != nil {
			r.fail()
		}
		return tree.NewDDate(d)
	case tagTime:
		return tree.MakeDTime(timeofday.TimeOfDay(r.varint()))
	case tagTimeTZ:
		tod := timeofday.TimeOfDay(r.varint())
		return tree.NewDTimeTZ(timetz.MakeTimeTZ(tod, int32(r.varint())))
	case tagTimestamp:
		return &tree.DTimestamp{Time: r.time()}
	case tagTimestampTZ:
		return &tree.DTimestampTZ{Time: r.time()}
	case tagInterval:
		months, days := r.varint(), r.varint()
		return &tree.DInterval{Duration: duration.DecodeDuration(months, days, r.varint())}
	case tagUUID:
		d := &tree.DUuid{}
		copy(d.UUID[:], r.take(uint64(len(d.UUID))))
		return d
	case tagINet:
		d := &tree.DIPAddr{}
		if _, err := d.IPAddr.FromBuffer(r.blob()); err != nil {
			r.fail()
		}
		return d
	case tagJSON:
		// The bytes of the buffer are reused; the value must own its own.
		_, j, err := json.DecodeJSON(append([]byte(nil), r.blob()...))
		if err != nil {
			r.fail()
			return tree.DNull
		}
		return tree.NewDJSON(j)
	case tagBits:
		n := r.uvarint()
		if n > uint64(len(r.b))/8 {
			r.fail()
			return tree.DNull
		}
		words := make([]uint64, n)
		for i := range words {
			words[i] = r.fixed64()
		}
		a, err := bitarray.FromEncodingParts(words, r.uvarint())
		if err != nil {
			r.fail()
		}
		return &tree.DBitArray{BitArray: a}
	case tagArray:
		d := tree.NewDArray(c.typ(r.uvarint(), r))
		d.Array = c.decodeRow(r, nil)
		for _, e := range d.Array {
			if e == tree.DNull {
				d.HasNulls = true
			} else {
				d.HasNonNulls = true
			}
		}
		return d
	case tagTuple:
		typ := c.typ(r.uvarint(), r)
		return tree.NewDTuple(typ, c.decodeRow(r, nil)...)
	case tagWrapped:
		id := oid.Oid(r.uvarint())
		return &tree.DOidWrapper{Oid: id, Wrapped: c.decode(r)}
	case tagKept:
		n := r.uvarint()
		if n >= uint64(len(c.kept)) {
			r.fail()
			return tree.DNull
		}
		return c.kept[n]
	default:
		r.fail()
	}
	return tree.DNull
}

// decodeRow decodes into buf if it is large enough.
func (c *codec) decodeRow(r *reader, buf tree.Datums) tree.Datums {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	if uint64(cap(buf)) < n {
		buf = make(tree.Datums, n)
	}
	buf = buf[:n]
	for i := range buf {
		buf[i] = c.decode(r)
	}
	return buf
}
