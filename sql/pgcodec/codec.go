package pgcodec

import (
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/sql/catalog"
)

// Format codes of the wire protocol.
const (
	FormatText   int16 = 0
	FormatBinary int16 = 1
)

// Settings are the session variables that shape text.
type Settings struct {
	// Location is TimeZone; nil means UTC.
	Location *time.Location
	// ExtraFloatDigits above zero asks for the shortest text that reads back
	// as the same number, which is PostgreSQL's default.
	ExtraFloatDigits int
	// ByteaEscape selects bytea_output = escape instead of hex.
	ByteaEscape bool
	// IntervalStyle is one of postgres, postgres_verbose, sql_standard, iso_8601.
	IntervalStyle string
	// MonthFirst and DayFirst read ambiguous dates as DateStyle says; neither
	// means year first.
	MonthFirst, DayFirst bool
}

// DefaultSettings are those of a fresh session.
func DefaultSettings() *Settings {
	return &Settings{Location: time.UTC, ExtraFloatDigits: 1, IntervalStyle: "postgres", MonthFirst: true}
}

// Codec knows how one type looks on the wire.
type Codec struct {
	OID    oid.Oid
	TypMod int32
	// Size is typlen of pg_type: the fixed width in bytes, or -1.
	Size int16

	typ  *types.T
	elem *Codec // element codec of an array
}

// Make returns the codec of a type that clients know by the given OID. The OID
// decides the format; t is the type that decoded values get.
func Make(t *types.T, id oid.Oid, typMod int32) Codec {
	if id == 0 {
		id = t.Oid()
	}
	c := Codec{OID: id, TypMod: typMod, Size: typeSize(id), typ: t}
	if t != nil && t.Family() == types.ArrayFamily {
		elemType := t.ArrayContents()
		elemOID, ok := elementOID[id]
		if !ok {
			elemOID, ok = catalog.EnumOID(elemType)
		}
		if !ok {
			elemOID = elemType.Oid()
		}
		elem := Make(elemType, elemOID, typMod)
		c.elem = &elem
	}
	return c
}

// ForOID returns the codec for a parameter of which only the OID is known. ok is
// false for an OID that is no built-in type.
func ForOID(id oid.Oid) (c Codec, ok bool) {
	if id == oid.T_json {
		return Make(types.Jsonb, id, -1), true
	}
	if id == oid.T__json {
		return Make(types.MakeArray(types.Jsonb), id, -1), true
	}
	t, ok := types.OidToType[id]
	if !ok {
		return Codec{}, false
	}
	return Make(t, id, -1), true
}

// Type returns the type of decoded values.
func (c *Codec) Type() *types.T { return c.typ }

// elementOID maps array types to their elements where lib/pq has a name for them.
var elementOID = map[oid.Oid]oid.Oid{
	oid.T__bool: oid.T_bool, oid.T__bytea: oid.T_bytea, oid.T__char: oid.T_char, oid.T__name: oid.T_name,
	oid.T__int8: oid.T_int8, oid.T__int2: oid.T_int2, oid.T__int4: oid.T_int4, oid.T__text: oid.T_text,
	oid.T__oid: oid.T_oid, oid.T__float4: oid.T_float4, oid.T__float8: oid.T_float8, oid.T__inet: oid.T_inet,
	oid.T__bpchar: oid.T_bpchar, oid.T__varchar: oid.T_varchar, oid.T__date: oid.T_date, oid.T__time: oid.T_time,
	oid.T__timestamp: oid.T_timestamp, oid.T__timestamptz: oid.T_timestamptz, oid.T__interval: oid.T_interval,
	oid.T__timetz: oid.T_timetz, oid.T__bit: oid.T_bit, oid.T__varbit: oid.T_varbit, oid.T__numeric: oid.T_numeric,
	oid.T__uuid: oid.T_uuid, oid.T__json: oid.T_json, oid.T__jsonb: oid.T_jsonb, oid.T__record: oid.T_record,
	oid.T__regclass: oid.T_regclass, oid.T__regtype: oid.T_regtype, oid.T__regproc: oid.T_regproc,
	oid.T__regprocedure: oid.T_regprocedure, oid.T__regnamespace: oid.T_regnamespace,
	oid.T_int2vector: oid.T_int2, oid.T_oidvector: oid.T_oid,
}

func typeSize(id oid.Oid) int16 {
	switch id {
	case oid.T_bool, oid.T_char:
		return 1
	case oid.T_int2:
		return 2
	case oid.T_int4, oid.T_float4, oid.T_date, oid.T_oid, oid.T_regclass, oid.T_regtype, oid.T_regproc,
		oid.T_regprocedure, oid.T_regnamespace, oid.T_regoper, oid.T_regrole, oid.T_xid, oid.T_cid:
		return 4
	case oid.T_int8, oid.T_float8, oid.T_time, oid.T_timestamp, oid.T_timestamptz:
		return 8
	case oid.T_timetz:
		return 12
	case oid.T_interval, oid.T_uuid:
		return 16
	case oid.T_name:
		return 64
	case oid.T_unknown:
		return -2
	}
	return -1
}
