package exec

import (
	"encoding/binary"
	"math"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"github.com/cockroachdb/apd"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// appendKey appends to buf bytes that are equal for two values of one type
// exactly if the values are equal in PostgreSQL: 1.0 and 1.00, 0 and -0, one
// month and 30 days. Operators that group or join by equality use it as a map
// key. Values of different types must be cast to one type first.
func appendKey(buf []byte, d tree.Datum) []byte {
	switch t := d.(type) {
	case *tree.DInt:
		return binary.BigEndian.AppendUint64(append(buf, 'i'), uint64(*t))
	case *tree.DString:
		return appendKeyString(append(buf, 's'), string(*t))
	case *tree.DBool:
		if *t {
			return append(buf, 't')
		}
		return append(buf, 'f')
	case *tree.DFloat:
		f := float64(*t)
		if f == 0 {
			f = 0 // -0 equals 0
		}
		if f != f {
			f = math.NaN()
		}
		return binary.BigEndian.AppendUint64(append(buf, 'd'), math.Float64bits(f))
	case *tree.DDecimal:
		return appendKeyDecimal(append(buf, 'n'), &t.Decimal)
	case *tree.DBytes:
		return appendKeyString(append(buf, 'b'), string(*t))
	case *tree.DUuid:
		return append(append(buf, 'u'), t.UUID[:]...)
	case *tree.DDate:
		return binary.BigEndian.AppendUint64(append(buf, 'D'), uint64(t.UnixEpochDaysWithOrig()))
	case *tree.DTimestamp:
		return binary.BigEndian.AppendUint64(append(buf, 'T'), uint64(t.UnixMicro()))
	case *tree.DTimestampTZ:
		return binary.BigEndian.AppendUint64(append(buf, 'Z'), uint64(t.UnixMicro()))
	case *tree.DTime:
		return binary.BigEndian.AppendUint64(append(buf, 'c'), uint64(*t))
	case *tree.DInterval:
		days, micros := builtins.IntervalMicros(t)
		buf = binary.BigEndian.AppendUint64(append(buf, 'I'), uint64(days))
		return binary.BigEndian.AppendUint64(buf, uint64(micros))
	case *tree.DCollatedString:
		return appendKeyString(append(buf, 'S'), string(t.Key))
	case *tree.DArray:
		buf = binary.BigEndian.AppendUint32(append(buf, 'A'), uint32(len(t.Array)))
		for _, e := range t.Array {
			buf = appendKey(buf, e)
		}
		return buf
	case *tree.DTuple:
		buf = binary.BigEndian.AppendUint32(append(buf, 'R'), uint32(len(t.D)))
		for _, e := range t.D {
			buf = appendKey(buf, e)
		}
		return buf
	case *tree.DJSON:
		return appendKeyJSON(append(buf, 'j'), t.JSON)
	case *tree.DOid:
		return binary.BigEndian.AppendUint64(append(buf, 'o'), uint64(t.DInt))
	case *tree.DOidWrapper:
		return appendKey(buf, t.Wrapped)
	}
	if d == tree.DNull {
		return append(buf, 0)
	}
	// Bits, addresses, time with zone and types of other packages: their text
	// says all that equality looks at.
	return appendKeyString(append(buf, 'x'), tree.AsStringWithFlags(d, tree.FmtBareStrings))
}

func appendKeyString(buf []byte, s string) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(s)))
	return append(buf, s...)
}

// appendKeyDecimal writes sign, exponent and digits without trailing zeros.
func appendKeyDecimal(buf []byte, d *apd.Decimal) []byte {
	if d.Form != apd.Finite {
		sign := byte('+')
		if d.Negative && d.Form == apd.Infinite {
			sign = '-'
		}
		return append(buf, 0xff, byte(d.Form), sign)
	}
	if d.Coeff.Sign() == 0 {
		return append(buf, '0')
	}
	var r apd.Decimal
	r.Reduce(d)
	sign := byte('+')
	if r.Negative {
		sign = '-'
	}
	buf = binary.BigEndian.AppendUint32(append(buf, sign), uint32(r.Exponent))
	return appendKeyString(buf, string(r.Coeff.Bytes()))
}

func appendKeyJSON(buf []byte, j json.JSON) []byte {
	j = j.MaybeDecode()
	switch j.Type() {
	case json.NumberJSONType:
		var d apd.Decimal
		if _, _, err := d.SetString(j.String()); err == nil {
			return appendKeyDecimal(append(buf, 'n'), &d)
		}
	case json.ArrayJSONType:
		buf = append(buf, '[')
		for i := 0; i < j.Len(); i++ {
			e, err := j.FetchValIdx(i)
			if err != nil || e == nil {
				break
			}
			buf = appendKeyJSON(buf, e)
		}
		return append(buf, ']')
	case json.ObjectJSONType:
		buf = append(buf, '{')
		if it, err := j.ObjectIter(); err == nil && it != nil {
			for it.Next() { // Keys come sorted.
				buf = appendKeyString(buf, it.Key())
				buf = appendKeyJSON(buf, it.Value())
			}
		}
		return append(buf, '}')
	}
	return appendKeyString(append(buf, 'v'), j.String())
}

// appendKeyCols appends the key of some columns of row. hasNull says that one of
// them is NULL, for joins, where NULL equals nothing.
func appendKeyCols(buf []byte, row tree.Datums, cols []int) (_ []byte, hasNull bool) {
	for _, c := range cols {
		d := row[c]
		if d == tree.DNull {
			hasNull = true
		}
		buf = appendKey(buf, d)
	}
	return buf, hasNull
}
