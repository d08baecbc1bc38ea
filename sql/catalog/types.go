package catalog

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// UserTypeOIDBase is what a type's descriptor id is added to for its OID.
const UserTypeOIDBase = 100000

// enumFamily is the family number of enums in stored column types. The parser's
// types package ends at 21.
const enumFamily = types.Family(24)

// EnumType returns the type of columns of the enum with this OID.
func EnumType(o oid.Oid) *types.T {
	return types.MakeCollatedString(types.String, "@"+strconv.FormatUint(uint64(o), 10))
}

// EnumOID says whether t is an enum, and which.
func EnumOID(t *types.T) (oid.Oid, bool) {
	if t == nil || t.Family() != types.CollatedStringFamily {
		return 0, false
	}
	return localeOID(t.Locale())
}

// IsEnumLocale says whether a DCollatedString with this locale is an enum value.
func IsEnumLocale(locale string) bool { return len(locale) > 1 && locale[0] == '@' }

func localeOID(locale string) (oid.Oid, bool) {
	if !IsEnumLocale(locale) {
		return 0, false
	}
	v, err := strconv.ParseUint(locale[1:], 10, 32)
	if err != nil {
		return 0, false
	}
	return oid.Oid(v), true
}

// TypeIDFromOID returns the descriptor id of a user-defined type.
func TypeIDFromOID(o oid.Oid) (ID, bool) {
	if o <= UserTypeOIDBase {
		return 0, false
	}
	return ID(o - UserTypeOIDBase), true
}

// OIDFromTypeID returns the OID of the type with descriptor id.
func OIDFromTypeID(id ID) oid.Oid { return oid.Oid(id + UserTypeOIDBase) }

// UserTypeOIDs returns the OIDs of the user-defined types that t uses.
func UserTypeOIDs(t *types.T) []oid.Oid {
	if t.Family() == types.ArrayFamily {
		return UserTypeOIDs(t.ArrayContents())
	}
	if o, ok := EnumOID(t); ok {
		return []oid.Oid{o}
	}
	return nil
}

// PGOid returns the type OID that clients see. For arrays of enums the array
// type's OID is only known to the type's descriptor: pass it as arrayOID, or 0
// to fall back to text[].
func PGOid(t *types.T, enums EnumSet) oid.Oid {
	if o, ok := EnumOID(t); ok {
		return o
	}
	if t.Family() == types.ArrayFamily {
		if o, ok := EnumOID(t.ArrayContents()); ok {
			if e := enums[o]; e != nil && e.ArrayOID != 0 {
				return e.ArrayOID
			}
			return oid.T__text
		}
	}
	return t.Oid()
}

// EnumSet holds the enums that a statement or a table uses, by OID.
type EnumSet map[oid.Oid]*Enum

// Enum is an enum type ready for use: its labels both ways.
type Enum struct {
	OID      oid.Oid
	ArrayOID oid.Oid
	ID       ID
	Version  uint64
	// Name is the type's name; Schema and Database qualify it.
	Database, Schema, Name string
	Members                []EnumMember // in order

	typ     *types.T
	locale  string
	byLabel map[string]int
	byPhys  map[string]*tree.DCollatedString
	visible visibility
}

// visibility says whether the search path has the schema of a type, where that is
// known: PGTypeName qualifies the others.
type visibility uint8

const (
	byDefault visibility = iota // as with the default search path
	inPath
	notInPath
)

// Visible returns e as it is shown where the search path has its schema, or has it
// not.
func (e *Enum) Visible(path bool) *Enum {
	c := *e
	c.visible = notInPath
	if path {
		c.visible = inPath
	}
	return &c
}

// EnumMember is one label of an enum.
type EnumMember struct {
	Label    string
	Physical []byte
	// ReadOnly members are being added or removed: they can be read, not written.
	ReadOnly bool
}

// NewEnum builds an Enum from its descriptor.
func NewEnum(d *catalogpb.TypeDescriptor, database, schema string) *Enum {
	e := &Enum{
		OID: OIDFromTypeID(d.Id), ID: d.Id, Version: d.Version,
		Database: database, Schema: schema, Name: d.Name,
		byLabel: make(map[string]int, len(d.EnumMembers)),
		byPhys:  make(map[string]*tree.DCollatedString, len(d.EnumMembers)),
	}
	if d.ArrayTypeId != 0 {
		e.ArrayOID = OIDFromTypeID(d.ArrayTypeId)
	}
	e.typ = EnumType(e.OID)
	e.locale = e.typ.Locale()
	for _, m := range d.EnumMembers {
		e.Members = append(e.Members, EnumMember{
			Label:    m.LogicalRepresentation,
			Physical: m.PhysicalRepresentation,
			ReadOnly: m.Capability == catalogpb.TypeDescriptor_EnumMember_READ_ONLY,
		})
	}
	sort.SliceStable(e.Members, func(i, j int) bool {
		return string(e.Members[i].Physical) < string(e.Members[j].Physical)
	})
	for i, m := range e.Members {
		e.byLabel[m.Label] = i
		e.byPhys[string(m.Physical)] = &tree.DCollatedString{Contents: m.Label, Locale: e.locale, Key: m.Physical}
	}
	return e
}

// Type returns the enum's *types.T.
func (e *Enum) Type() *types.T { return e.typ }

// FromLabel returns the value with this label.
func (e *Enum) FromLabel(label string) (*tree.DCollatedString, error) {
	i, ok := e.byLabel[label]
	if !ok {
		return nil, pgerr.Newf(pgerr.InvalidTextRepresentation, "invalid input value for enum %s: \"%s\"", e.Name, label)
	}
	return e.byPhys[string(e.Members[i].Physical)], nil
}

// FromPhysical returns the value with this physical representation, and nil if
// the enum has none. The result is shared: it must not be changed.
func (e *Enum) FromPhysical(phys []byte) *tree.DCollatedString { return e.byPhys[string(phys)] }

// Values returns all values in order.
func (e *Enum) Values() []*tree.DCollatedString {
	out := make([]*tree.DCollatedString, len(e.Members))
	for i, m := range e.Members {
		out[i] = e.byPhys[string(m.Physical)]
	}
	return out
}

// NewEnumMembers gives physical representations to the labels of a new enum,
// spread evenly: for three labels 40, 80, c0.
func NewEnumMembers(labels []string) []*catalogpb.TypeDescriptor_EnumMember {
	out := make([]*catalogpb.TypeDescriptor_EnumMember, len(labels))
	// As many bytes as leave room between neighbours.
	width := 1
	for span := 256; len(labels)+1 >= span && width < 4; span *= 256 {
		width++
	}
	total := uint64(1) << (8 * width)
	for i, l := range labels {
		v := total * uint64(i+1) / uint64(len(labels)+1)
		phys := make([]byte, width)
		for b := width - 1; b >= 0; b-- {
			phys[b] = byte(v)
			v >>= 8
		}
		out[i] = &catalogpb.TypeDescriptor_EnumMember{PhysicalRepresentation: phys, LogicalRepresentation: l}
	}
	return out
}

// EnumPhysicalBetween returns bytes that sort strictly between lo and hi; a nil
// lo is before everything, a nil hi after everything.
func EnumPhysicalBetween(lo, hi []byte) []byte {
	var out []byte
	for i := 0; ; i++ {
		a, b := 0, 256
		if i < len(lo) {
			a = int(lo[i])
		}
		if hi != nil {
			b = 0
			if i < len(hi) {
				b = int(hi[i])
			}
		}
		if mid := (a + b) / 2; mid > a {
			return append(out, byte(mid))
		}
		out = append(out, byte(a))
		if a < b {
			hi = nil // Already below hi: only lo bounds the rest.
		}
	}
}

// MarshalType returns the bytes of a column type message. Enums are written as
// family 24 with their OID.
func MarshalType(t *types.T) ([]byte, error) {
	return storedType(t).Marshal()
}

func storedType(t *types.T) *types.T {
	if o, ok := EnumOID(t); ok {
		return &types.T{InternalType: types.InternalType{Family: enumFamily, Oid: o}}
	}
	if t.Family() == types.ArrayFamily {
		if o, ok := EnumOID(t.ArrayContents()); ok {
			return &types.T{InternalType: types.InternalType{
				Family: types.ArrayFamily, Oid: oid.T_anyarray,
				ArrayContents: storedType(EnumType(o)),
			}}
		}
	}
	return t
}

// UnmarshalType reads the bytes of a column type message of any version. Types
// that this program does not support are an error that names them.
func UnmarshalType(b []byte) (t *types.T, err error) {
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, pgerr.Newf(pgerr.DataCorrupted, "corrupt column type: %v", r)
		}
	}()
	t = &types.T{}
	if err := t.Unmarshal(b); err != nil {
		return nil, pgerr.Newf(pgerr.DataCorrupted, "corrupt column type: %w", err)
	}
	return hydrateType(t)
}

func hydrateType(t *types.T) (*types.T, error) {
	switch f := t.Family(); {
	case f == enumFamily:
		if t.Oid() <= UserTypeOIDBase {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "corrupt column type: enum with OID %d", t.Oid())
		}
		return EnumType(t.Oid()), nil
	case f == types.ArrayFamily:
		if t.ArrayContents() == nil {
			return nil, pgerr.New(pgerr.DataCorrupted, "corrupt column type: array without element type")
		}
		el, err := hydrateType(t.ArrayContents())
		if err != nil {
			return nil, err
		}
		if el != t.ArrayContents() {
			return ArrayOf(el), nil
		}
		return t, nil
	case f > types.BitFamily && f != types.AnyFamily:
		return nil, pgerr.Newf(pgerr.FeatureNotSupported, "column type of family %d is not supported", f)
	}
	return t, nil
}

// ArrayOf returns the array type over el, enums included.
func ArrayOf(el *types.T) *types.T { return types.MakeArray(el) }

// SQLTypeName prints t as DDL shows it; enums by their qualified name.
func SQLTypeName(t *types.T, enums EnumSet) string {
	if o, ok := EnumOID(t); ok {
		if e := enums[o]; e != nil {
			return e.QualifiedName()
		}
		return fmt.Sprintf("@%d", o)
	}
	if t.Family() == types.ArrayFamily {
		if _, ok := EnumOID(t.ArrayContents()); ok {
			return SQLTypeName(t.ArrayContents(), enums) + "[]"
		}
	}
	return t.SQLString()
}

// QualifiedName returns schema.name, quoted where needed.
func (e *Enum) QualifiedName() string {
	if e.Schema == "" {
		return quoteName(e.Name)
	}
	return quoteName(e.Schema) + "." + quoteName(e.Name)
}

// PGTypeName prints t as PostgreSQL's format_type does.
func PGTypeName(t *types.T, enums EnumSet) string {
	if o, ok := EnumOID(t); ok {
		if e := enums[o]; e != nil {
			if e.visible == inPath || e.visible == byDefault && e.Schema == PublicSchemaName {
				return quoteName(e.Name)
			}
			return e.QualifiedName()
		}
		return fmt.Sprintf("@%d", o)
	}
	if t.Family() == types.ArrayFamily && t.Oid() != oid.T_int2vector && t.Oid() != oid.T_oidvector {
		return PGTypeName(t.ArrayContents(), enums) + "[]"
	}
	switch t.Family() {
	case types.StringFamily, types.CollatedStringFamily:
		switch t.Oid() {
		case oid.T_varchar:
			if t.Width() > 0 {
				return fmt.Sprintf("character varying(%d)", t.Width())
			}
			return "character varying"
		case oid.T_bpchar:
			w := t.Width()
			if w == 0 {
				w = 1
			}
			return fmt.Sprintf("character(%d)", w)
		case oid.T_char:
			return `"char"`
		case oid.T_name:
			return "name"
		}
		if t.Width() > 0 {
			return fmt.Sprintf("character varying(%d)", t.Width())
		}
		return "text"
	case types.DecimalFamily:
		if t.Precision() > 0 {
			return fmt.Sprintf("numeric(%d,%d)", t.Precision(), t.Scale())
		}
		return "numeric"
	case types.BitFamily:
		name := "bit"
		if t.Oid() == oid.T_varbit {
			name = "bit varying"
		}
		if t.Width() > 0 {
			return fmt.Sprintf("%s(%d)", name, t.Width())
		}
		return name
	case types.TimeFamily, types.TimeTZFamily, types.TimestampFamily, types.TimestampTZFamily:
		base, zone := "time", " without time zone"
		if f := t.Family(); f == types.TimestampFamily || f == types.TimestampTZFamily {
			base = "timestamp"
		}
		if f := t.Family(); f == types.TimeTZFamily || f == types.TimestampTZFamily {
			zone = " with time zone"
		}
		if t.InternalType.TimePrecisionIsSet {
			base = fmt.Sprintf("%s(%d)", base, t.Precision())
		}
		return base + zone
	case types.IntervalFamily:
		return strings.ToLower(t.SQLString())
	}
	return t.SQLStandardName()
}

func quoteName(s string) string {
	n := tree.Name(s)
	return n.String()
}
