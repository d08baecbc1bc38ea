package rowenc

import (
	"encoding/binary"
	"sort"

	"github.com/cockroachdb/apd"

	enc "github.com/auxten/postgresql-parser/pkg/util/encoding"
	"github.com/auxten/postgresql-parser/pkg/util/json"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Markers of the key form of JSON, ascending. The descending one of m is
// jsonMarkerSum - m.
const (
	jsonEmptyArray = 0x45
	jsonNull       = 0x46
	jsonString     = 0x47
	jsonNumber     = 0x48
	jsonFalse      = 0x49
	jsonTrue       = 0x4a
	jsonArray      = 0x4b
	jsonObject     = 0x4c
	jsonMarkerSum  = jsonEmptyArray + 0x54

	// maxJSONDepth bounds recursion on corrupt or hostile input.
	maxJSONDepth = 10000
)

// encodeKeyJSON appends the key form of a JSON value.
func encodeKeyJSON(b []byte, j json.JSON, dir Direction) ([]byte, error) {
	asc := dir == Asc
	marker := func(m byte) byte {
		if asc {
			return m
		}
		return jsonMarkerSum - m
	}
	term := byte(keyTermAsc)
	if !asc {
		term = keyTermDesc
	}
	switch j.Type() {
	case json.NullJSONType:
		return append(b, marker(jsonNull)), nil
	case json.FalseJSONType:
		return append(b, marker(jsonFalse)), nil
	case json.TrueJSONType:
		return append(b, marker(jsonTrue)), nil
	case json.StringJSONType:
		s, err := j.AsText()
		if err != nil {
			return nil, err
		}
		return append(encodeKeyBytes(append(b, marker(jsonString)), []byte(*s), asc), term), nil
	case json.NumberJSONType:
		s, err := j.AsText()
		if err != nil {
			return nil, err
		}
		d, _, err := apd.NewFromString(*s)
		if err != nil {
			return nil, corrupt("JSON number %q: %w", *s, err)
		}
		b = append(b, marker(jsonNumber))
		if asc {
			b = enc.EncodeDecimalAscending(b, d)
		} else {
			b = enc.EncodeDecimalDescending(b, d)
		}
		return append(b, term), nil
	case json.ArrayJSONType:
		var elems []json.JSON
		for i := 0; ; i++ {
			e, err := j.FetchValIdx(i)
			if err != nil {
				return nil, err
			}
			if e == nil {
				break
			}
			elems = append(elems, e)
		}
		if len(elems) == 0 {
			b = append(b, marker(jsonEmptyArray))
		} else {
			b = append(b, marker(jsonArray))
		}
		b = encodeKeyInt(b, int64(len(elems)), asc)
		for _, e := range elems {
			var err error
			if b, err = encodeKeyJSON(b, e, dir); err != nil {
				return nil, err
			}
		}
		return append(b, term), nil
	case json.ObjectJSONType:
		it, err := j.ObjectIter()
		if err != nil {
			return nil, err
		}
		type pair struct {
			k string
			v json.JSON
		}
		var ps []pair
		for it.Next() {
			ps = append(ps, pair{it.Key(), it.Value()})
		}
		sort.Slice(ps, func(i, k int) bool { return ps[i].k < ps[k].k })
		b = encodeKeyInt(append(b, marker(jsonObject)), int64(len(ps)), asc)
		for _, p := range ps {
			b = append(encodeKeyBytes(append(b, marker(jsonString)), []byte(p.k), asc), term)
			if b, err = encodeKeyJSON(b, p.v, dir); err != nil {
				return nil, err
			}
		}
		return append(b, term), nil
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unable to encode JSON of type %d as a key", j.Type())
}

func decodeKeyJSON(a *DatumAlloc, b []byte, dir Direction, depth int) (json.JSON, []byte, error) {
	if len(b) == 0 || depth > maxJSONDepth {
		return nil, nil, corrupt("corrupt key: JSON too short or too deep")
	}
	asc := dir == Asc
	m, term := b[0], byte(keyTermAsc)
	if !asc {
		m, term = jsonMarkerSum-b[0], keyTermDesc
	}
	b = b[1:]
	end := func(j json.JSON, b []byte) (json.JSON, []byte, error) {
		if len(b) == 0 || b[0] != term {
			return nil, nil, corrupt("corrupt key: JSON without end")
		}
		return j, b[1:], nil
	}
	switch m {
	case jsonNull:
		return json.NullJSONValue, b, nil
	case jsonFalse:
		return json.FalseJSONValue, b, nil
	case jsonTrue:
		return json.TrueJSONValue, b, nil
	case jsonString:
		rest, data, err := decodeKeyBytes(b, nil, asc)
		if err != nil {
			return nil, nil, err
		}
		return end(json.FromString(string(data)), rest)
	case jsonNumber:
		decode := enc.DecodeDecimalAscending
		if !asc {
			decode = enc.DecodeDecimalDescending
		}
		rest, d, err := decode(b, nil)
		if err != nil {
			return nil, nil, wrapCorrupt(err)
		}
		return end(json.FromDecimal(d), rest)
	case jsonEmptyArray, jsonArray:
		b, n, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		if n < 0 || n > int64(len(b)) {
			return nil, nil, corrupt("corrupt key: JSON array of %d elements", n)
		}
		ab := json.NewArrayBuilder(int(n))
		for ; n > 0; n-- {
			var e json.JSON
			if e, b, err = decodeKeyJSON(a, b, dir, depth+1); err != nil {
				return nil, nil, err
			}
			ab.Add(e)
		}
		return end(ab.Build(), b)
	case jsonObject:
		b, n, err := decodeVarint(b, asc)
		if err != nil {
			return nil, nil, err
		}
		if n < 0 || n > int64(len(b)) {
			return nil, nil, corrupt("corrupt key: JSON object of %d keys", n)
		}
		ob := json.NewObjectBuilder(int(n))
		for ; n > 0; n-- {
			var k, v json.JSON
			if k, b, err = decodeKeyJSON(a, b, dir, depth+1); err != nil {
				return nil, nil, err
			}
			if k.Type() != json.StringJSONType {
				return nil, nil, corrupt("corrupt key: JSON key that is not a string")
			}
			s, err := k.AsText()
			if err != nil {
				return nil, nil, wrapCorrupt(err)
			}
			if v, b, err = decodeKeyJSON(a, b, dir, depth+1); err != nil {
				return nil, nil, err
			}
			ob.Add(*s, v)
		}
		return end(ob.Build(), b)
	}
	return nil, nil, corrupt("corrupt key: unknown JSON marker %x", m)
}

// The body of a stored JSON value: containers with a 4-byte header and 4-byte
// entries. The module's decoder trusts counts and lengths, so checkJSON walks the
// structure first.
const (
	jsonHeaderMask  = 0xe0000000
	jsonCountMask   = 0x0fffffff
	jsonArrayHead   = 0x80000000
	jsonObjectHead  = 0x40000000
	jsonScalarHead  = 0x20000000
	jsonEntryOffset = 0x80000000
	jsonEntryType   = 0x70000000
	jsonContainer   = 0x50000000
	jsonNumberEntry = 0x20000000
	jsonStringEntry = 0x10000000
)

func checkJSON(b []byte, depth int) error {
	if len(b) < 4 || depth > maxJSONDepth {
		return corrupt("corrupt JSON: too short or too deep")
	}
	head := binary.BigEndian.Uint32(b)
	n := int(head & jsonCountMask)
	entries := n
	switch head & jsonHeaderMask {
	case jsonArrayHead:
	case jsonObjectHead:
		entries = 2 * n
	case jsonScalarHead:
		// The count of a scalar is not used: it has one entry.
		entries = 1
	default:
		return corrupt("corrupt JSON: unknown container %x", head)
	}
	if entries > (len(b)-4)/4 {
		return corrupt("corrupt JSON: %d entries in %d bytes", entries, len(b))
	}
	data := b[4+4*entries:]
	pos := 0
	for i := 0; i < entries; i++ {
		e := binary.BigEndian.Uint32(b[4+4*i:])
		size := int(e & jsonCountMask)
		if e&jsonEntryOffset != 0 {
			size -= pos
		}
		if size < 0 || size > len(data)-pos {
			return corrupt("corrupt JSON: entry beyond the end")
		}
		part := data[pos : pos+size]
		pos += size
		isKey := head&jsonHeaderMask == jsonObjectHead && i < n
		switch typ := e & jsonEntryType; {
		case isKey && typ != jsonStringEntry:
			return corrupt("corrupt JSON: key that is not a string")
		case typ == jsonContainer:
			if err := checkJSON(part, depth+1); err != nil {
				return err
			}
		case typ == jsonNumberEntry:
			if len(part) == 0 {
				return corrupt("corrupt JSON: empty number")
			}
		case typ > jsonContainer:
			return corrupt("corrupt JSON: unknown type %x", e)
		}
	}
	return nil
}

// decodeJSON reads a JSON body.
func decodeJSON(b []byte) (json.JSON, error) {
	if err := checkJSON(b, 0); err != nil {
		return nil, err
	}
	rest, j, err := json.DecodeJSON(b)
	if err != nil {
		return nil, wrapCorrupt(err)
	}
	if len(rest) > 0 {
		return nil, corrupt("corrupt JSON: %d bytes left over", len(rest))
	}
	return j, nil
}
