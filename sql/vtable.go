package sql

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/apd"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/pgfacts"
)

// Virtual tables are defined by a line of text (their columns, from pgfacts for
// PostgreSQL's own) and a function that yields rows as maps from column names to
// Go values. A column that a row leaves out is NULL, or the zero of its type if
// PostgreSQL declares it NOT NULL.

// vrow is a row of a virtual table before conversion.
type vrow map[string]any

// vctx is what the rows of virtual tables are made from: the catalog as the
// transaction sees it, for one database.
type vctx struct {
	p  *planner
	db *catalog.Database // nil if there is no current database
	*descSet
}

// vpopulate yields the rows of a virtual table.
type vpopulate func(ctx context.Context, v *vctx, add func(vrow) error) error

// virtualSchema is the set of tables of one virtual schema.
type virtualSchema struct {
	name   string
	oid    oid.Oid
	tables map[string]*virtualTable
	order  []*virtualTable // by name
}

// virtualSchemas are all virtual schemas, by name. They are the same for every
// server, and built when first used.
func virtualSchemas() map[string]*virtualSchema {
	virtual.once.Do(func() { virtual.schemas = makeVirtualSchemas() })
	return virtual.schemas
}

// virtual is filled at first use: tables list each other, which a plain
// initializer could not.
var virtual struct {
	once    sync.Once
	schemas map[string]*virtualSchema
}

func makeVirtualSchemas() map[string]*virtualSchema {
	out := map[string]*virtualSchema{}
	next := catalog.VirtualTableIDBase
	for _, s := range []struct {
		name   string
		oid    oid.Oid
		tables []pgfacts.Table
		fill   map[string]vpopulate
	}{
		{catalog.PgCatalogName, oidPgCatalog, append(pgfacts.PgCatalog(), extraPgCatalog()...), pgCatalogTables()},
		{catalog.InformationSchemaName, oidInformationSchema, pgfacts.InformationSchema(), informationSchemaTables()},
		{catalog.CrdbInternalName, oidCrdbInternal, crdbInternalDefs(), crdbInternalTables()},
		{catalog.PgExtensionName, oidPgExtension, nil, nil},
	} {
		vs := &virtualSchema{name: s.name, oid: s.oid, tables: map[string]*virtualTable{}}
		for _, def := range s.tables {
			if vs.tables[def.Name] != nil {
				continue
			}
			t := newVirtualTable(s.name, def, s.fill[def.Name])
			t.id = next
			if o, ok := wellKnownClassOIDs[def.Name]; ok && s.name == catalog.PgCatalogName {
				t.id = catalog.ID(o)
			} else {
				next--
			}
			vs.tables[def.Name] = t
			vs.order = append(vs.order, t)
		}
		out[s.name] = vs
	}
	return out
}

// virtualTableByName finds a virtual table.
func (s *Server) virtualTableByName(schema, name string) *virtualTable {
	if vs := virtualSchemas()[schema]; vs != nil {
		return vs.tables[name]
	}
	return nil
}

func newVirtualTable(schema string, def pgfacts.Table, fill vpopulate) *virtualTable {
	t := &virtualTable{schema: schema, name: def.Name}
	conv := make([]func(any) tree.Datum, len(def.Columns))
	zero := make(tree.Datums, len(def.Columns))
	for i, c := range def.Columns {
		typ := vtypeByName(c.Type)
		t.columns = append(t.columns, virtualColumn{name: c.Name, typ: typ})
		conv[i] = vconverter(typ)
		zero[i] = tree.DNull
		if c.NotNull {
			zero[i] = vzero(typ)
		}
	}
	system := schema == catalog.PgCatalogName
	if system { // psql and pg_dump ask for it
		t.columns = append(t.columns, virtualColumn{name: "tableoid", typ: types.Oid, hidden: true})
	}
	t.populate = func(ctx context.Context, p *planner, db string, addRow func(...tree.Datum) error) error {
		if fill == nil {
			return nil
		}
		v, err := p.newVctx(ctx, db)
		if err != nil {
			return err
		}
		row := make(tree.Datums, len(t.columns))
		if system {
			row[len(def.Columns)] = tree.NewDOid(tree.DInt(t.id))
		}
		return fill(ctx, v, func(r vrow) error {
			used := 0
			for i, c := range def.Columns {
				val, ok := r[c.Name]
				if ok {
					used++
				}
				if !ok || val == nil {
					row[i] = zero[i]
					if ok {
						row[i] = tree.DNull
					}
					continue
				}
				row[i] = conv[i](val)
			}
			if used != len(r) {
				for k := range r {
					if !t.hasColumn(k) {
						return fmt.Errorf("virtual table %s.%s has no column %q", schema, def.Name, k)
					}
				}
			}
			return addRow(row...)
		})
	}
	return t
}

// visible are the columns without those of the system, which are last.
func (t *virtualTable) visible() []virtualColumn {
	n := len(t.columns)
	for n > 0 && t.columns[n-1].hidden {
		n--
	}
	return t.columns[:n]
}

func (t *virtualTable) hasColumn(name string) bool {
	for _, c := range t.columns {
		if c.name == name {
			return true
		}
	}
	return false
}

// newVctx reads the catalog for virtual tables.
func (p *planner) newVctx(ctx context.Context, db string) (*vctx, error) {
	descs, err := p.allDescs(ctx)
	if err != nil {
		return nil, err
	}
	v := &vctx{p: p, descSet: descs}
	if db == "" {
		db = p.s.data.Database
	}
	v.db = descs.dbByName[db]
	return v, nil
}

var vtypes = sync.OnceValue(func() map[string]*types.T {
	m := map[string]*types.T{
		"oid": types.Oid, "name": types.Name, "text": types.String, "boolean": types.Bool, "bool": types.Bool,
		"smallint": types.Int2, "integer": types.Int4, "int": types.Int, "bigint": types.Int, "real": types.Float4,
		"double precision": types.Float, "float": types.Float, "numeric": types.Decimal, "decimal": types.Decimal,
		`"char"`: types.OidToType[oid.T_char], "regproc": types.RegProc, "regtype": types.RegType, "xid": types.Oid,
		"timestamp with time zone": types.TimestampTZ, "timestamptz": types.TimestampTZ, "timestamp": types.Timestamp,
		"interval": types.Interval, "inet": types.INet, "bytea": types.Bytes, "jsonb": types.Jsonb, "uuid": types.Uuid,
		"int2vector": types.Int2Vector, "oidvector": types.OidVector, "pg_node_tree": types.String, "pg_lsn": types.String,
		"anyarray": types.String, "aclitem": types.String, "pg_ndistinct": types.String, "pg_dependencies": types.String,
		"pg_mcv_list": types.String, "pg_statistic": types.String,
		// Domains of the information schema.
		"sql_identifier": types.Name, "character_data": types.VarChar, "cardinal_number": types.Int4,
		"yes_or_no": types.MakeVarChar(3), "time_stamp": types.TimestampTZ,
	}
	return m
})

// vtypeByName maps the type names of pgfacts to types.
func vtypeByName(name string) *types.T {
	if el, ok := strings.CutSuffix(name, "[]"); ok {
		return types.MakeArray(vtypeByName(el))
	}
	if t, ok := vtypes()[name]; ok {
		return t
	}
	return types.String
}

// vzero is the value of a NOT NULL column that a row leaves out.
func vzero(t *types.T) tree.Datum {
	switch t.Family() {
	case types.BoolFamily:
		return tree.DBoolFalse
	case types.IntFamily:
		return tree.NewDInt(0)
	case types.OidFamily:
		return vconverter(t)(0)
	case types.FloatFamily:
		return tree.NewDFloat(0)
	case types.StringFamily:
		return vconverter(t)("")
	case types.ArrayFamily:
		return vconverter(t)([]any{})
	}
	return tree.DNull
}

// vconverter turns Go values into datums of a type. Values of a wrong kind are
// bugs of the table's code; they show as their text.
func vconverter(t *types.T) func(any) tree.Datum {
	switch t.Family() {
	case types.BoolFamily:
		return func(v any) tree.Datum {
			if b, ok := v.(bool); ok {
				return tree.MakeDBool(tree.DBool(b))
			}
			return tree.MakeDBool(tree.DBool(fmt.Sprint(v) == "t"))
		}
	case types.IntFamily:
		return func(v any) tree.Datum { return tree.NewDInt(tree.DInt(vint(v))) }
	case types.OidFamily:
		return func(v any) tree.Datum { return voidDatum(t, v) }
	case types.FloatFamily:
		return func(v any) tree.Datum {
			switch v := v.(type) {
			case float64:
				return tree.NewDFloat(tree.DFloat(v))
			case string:
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					return tree.DNull
				}
				return tree.NewDFloat(tree.DFloat(f))
			}
			return tree.NewDFloat(tree.DFloat(vint(v)))
		}
	case types.DecimalFamily:
		return func(v any) tree.Datum {
			switch v := v.(type) {
			case *apd.Decimal:
				return &tree.DDecimal{Decimal: *v}
			case string:
				d, err := tree.ParseDDecimal(v)
				if err != nil {
					return tree.DNull
				}
				return d
			}
			d := &tree.DDecimal{}
			d.SetFinite(vint(v), 0)
			return d
		}
	case types.StringFamily:
		if t.Oid() == oid.T_name {
			return func(v any) tree.Datum { return tree.NewDName(vtext(v)) }
		}
		return func(v any) tree.Datum { return tree.NewDString(vtext(v)) }
	case types.BytesFamily:
		return func(v any) tree.Datum {
			if b, ok := v.([]byte); ok {
				return tree.NewDBytes(tree.DBytes(b))
			}
			return tree.NewDBytes(tree.DBytes(vtext(v)))
		}
	case types.TimestampTZFamily, types.TimestampFamily:
		return func(v any) tree.Datum {
			ts, ok := v.(time.Time)
			if !ok || ts.IsZero() {
				return tree.DNull
			}
			if t.Family() == types.TimestampFamily {
				return tree.MakeDTimestamp(ts.UTC(), time.Microsecond)
			}
			return tree.MakeDTimestampTZ(ts.UTC(), time.Microsecond)
		}
	case types.IntervalFamily:
		return func(v any) tree.Datum {
			if d, ok := v.(time.Duration); ok {
				iv, err := tree.ParseDInterval(strconv.FormatInt(int64(d/time.Second), 10) + " seconds")
				if err == nil {
					return iv
				}
			}
			return tree.DNull
		}
	case types.JsonFamily:
		return func(v any) tree.Datum {
			d, err := tree.ParseDJSON(vtext(v))
			if err != nil {
				return tree.DNull
			}
			return d
		}
	case types.ArrayFamily:
		el := vconverter(t.ArrayContents())
		return func(v any) tree.Datum { return varray(t, el, v) }
	}
	return func(v any) tree.Datum {
		if d, ok := v.(tree.Datum); ok {
			return d
		}
		return tree.DNull
	}
}

func varray(t *types.T, el func(any) tree.Datum, v any) tree.Datum {
	var items []any
	switch v := v.(type) {
	case []any:
		items = v
	case []string:
		for _, s := range v {
			items = append(items, s)
		}
	case []uint32:
		for _, i := range v {
			items = append(items, i)
		}
	case []int:
		for _, i := range v {
			items = append(items, i)
		}
	case []int64:
		for _, i := range v {
			items = append(items, i)
		}
	case []oid.Oid:
		for _, i := range v {
			items = append(items, i)
		}
	case string:
		// The text of an int2vector or oidvector: "1 2 3".
		for _, f := range strings.Fields(v) {
			items = append(items, f)
		}
	default:
		return tree.DNull
	}
	arr := tree.NewDArray(t.ArrayContents())
	for _, it := range items {
		d := tree.Datum(tree.DNull)
		if it != nil {
			d = el(it)
		}
		if err := arr.Append(d); err != nil {
			return tree.DNull
		}
	}
	switch t.Oid() {
	case oid.T_int2vector:
		return tree.NewDIntVectorFromDArray(arr)
	case oid.T_oidvector:
		return tree.NewDOidVectorFromDArray(arr)
	}
	return arr
}

func voidDatum(t *types.T, v any) tree.Datum {
	if s, ok := v.(string); ok {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return voidDatum(t, n)
		}
		// A regproc by name: its number is that of PostgreSQL.
		if s == "-" || s == "" {
			return tree.NewDOidWithName(0, t, "-")
		}
		return tree.NewDOidWithName(tree.DInt(builtinProcOID(s)), t, s)
	}
	n := tree.DInt(vint(v))
	if t.Oid() == oid.T_oid {
		return tree.NewDOid(n)
	}
	name := strconv.FormatInt(int64(n), 10)
	if n == 0 {
		name = "-"
	}
	return tree.NewDOidWithName(n, t, name)
}

func vint(v any) int64 {
	switch v := v.(type) {
	case int:
		return int64(v)
	case int64:
		return v
	case int32:
		return int64(v)
	case int16:
		return int64(v)
	case uint32:
		return int64(v)
	case uint64:
		return int64(v)
	case oid.Oid:
		return int64(v)
	case bool:
		if v {
			return 1
		}
		return 0
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}

func vtext(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		if v {
			return "YES"
		}
		return "NO"
	}
	return fmt.Sprint(v)
}
