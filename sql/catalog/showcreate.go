package catalog

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/lex"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Finder gives a descriptor by id, or nil. Rendering and validation use it to see
// what a descriptor refers to.
type Finder func(id ID) Descriptor

// PartitionText gives the PARTITION BY clause of an index, with a space before it.
// Its values are in the encoding of rows, of which this package knows nothing. A
// nil function leaves partitions out.
type PartitionText func(t *Table, x *Index) string

// CreateStatement renders a descriptor as the statement that makes it, as SHOW
// CREATE does and as backups keep it for people to read.
func CreateStatement(d Descriptor, find func(id ID) Descriptor, partitions PartitionText) (string, error) {
	return (&renderer{find: find, fks: true, partitions: partitions}).statement(d)
}

// CreateStatementWithoutFKs is CreateStatement for SHOW CREATE ALL TABLES, where
// foreign keys follow in statements of their own: see ForeignKeyStatements.
func CreateStatementWithoutFKs(d Descriptor, find func(id ID) Descriptor, partitions PartitionText) (string, error) {
	return (&renderer{find: find, partitions: partitions}).statement(d)
}

// ForeignKeyStatements returns ALTER TABLE … ADD CONSTRAINT and ALTER TABLE …
// VALIDATE CONSTRAINT for the foreign keys of t.
func ForeignKeyStatements(t *Table, find func(id ID) Descriptor) (add, validate []string) {
	r := &renderer{find: find}
	name := r.qualified(t)
	for _, fk := range t.OutboundFKs() {
		add = append(add, "ALTER TABLE "+name+" ADD "+r.foreignKey(t, fk))
		if fk.Validity == catalogpb.ConstraintValidity_VALIDATED {
			validate = append(validate, "ALTER TABLE "+name+" VALIDATE CONSTRAINT "+quoteName(fk.Name))
		}
	}
	return add, validate
}

type renderer struct {
	find       Finder
	fks        bool
	partitions PartitionText
	enums      EnumSet
}

func (r *renderer) partitionBy(t *Table, x *Index) string {
	if r.partitions == nil || x == nil {
		return ""
	}
	return r.partitions(t, x)
}

func (r *renderer) lookup(id ID) Descriptor {
	if r.find == nil {
		return nil
	}
	return r.find(id)
}

func (r *renderer) statement(d Descriptor) (string, error) {
	switch d := d.(type) {
	case *Database:
		return "CREATE DATABASE " + quoteName(d.Name()), nil
	case *Schema:
		return "CREATE SCHEMA " + quoteName(d.Name()), nil
	case *Type:
		if !d.IsEnum() {
			return "", pgerr.Newf(pgerr.WrongObjectType, "type \"%s\" is not made by a statement of its own", d.Name())
		}
		labels := make([]string, len(d.pb.EnumMembers))
		for i, m := range d.pb.EnumMembers {
			labels[i] = lex.EscapeSQLString(m.LogicalRepresentation)
		}
		return "CREATE TYPE " + r.qualified(d) + " AS ENUM (" + strings.Join(labels, ", ") + ")", nil
	case *Table:
		r.enums = r.tableEnums(d)
		switch {
		case d.IsSequence():
			return "CREATE SEQUENCE " + r.qualified(d) + sequenceOptions(d.pb.SequenceOpts), nil
		case d.IsView():
			return r.view(d), nil
		}
		return r.table(d), nil
	}
	return "", pgerr.Newf(pgerr.WrongObjectType, "%T has no CREATE statement", d)
}

// qualified returns schema.name.
func (r *renderer) qualified(d Descriptor) string {
	schema := PublicSchemaName
	if s, ok := r.lookup(d.ParentSchemaID()).(*Schema); ok {
		schema = s.Name()
	}
	return quoteName(schema) + "." + quoteName(d.Name())
}

// tableEnums returns the enums of t, from t itself or by looking them up.
func (r *renderer) tableEnums(t *Table) EnumSet {
	if t.enums != nil {
		return t.enums
	}
	out := EnumSet{}
	for _, o := range t.EnumOIDs() {
		if e := r.enum(oid.Oid(o)); e != nil {
			out[e.OID] = e
		}
	}
	return out
}

func (r *renderer) enum(o oid.Oid) *Enum {
	if e := r.enums[o]; e != nil {
		return e
	}
	id, ok := TypeIDFromOID(o)
	if !ok {
		return nil
	}
	td, ok := r.lookup(id).(*Type)
	if !ok {
		return nil
	}
	schema := PublicSchemaName
	if s, ok := r.lookup(td.ParentSchemaID()).(*Schema); ok {
		schema = s.Name()
	}
	return NewEnum(td.pb, "", schema)
}

func sequenceOptions(o *catalogpb.SequenceOpts) string {
	var b strings.Builder
	if t := o.AsIntegerType; t != "" && !strings.EqualFold(t, "INT8") && !strings.EqualFold(t, "bigint") {
		b.WriteString(" AS " + t)
	}
	fmt.Fprintf(&b, " MINVALUE %d MAXVALUE %d INCREMENT %d START %d", o.MinValue, o.MaxValue, o.Increment, o.Start)
	if o.CacheSize > 1 {
		fmt.Fprintf(&b, " CACHE %d", o.CacheSize)
	}
	if o.Cycle {
		b.WriteString(" CYCLE")
	}
	return b.String()
}

func (r *renderer) view(t *Table) string {
	var names []string
	for _, c := range t.VisibleColumns() {
		names = append(names, quoteName(c.Name))
	}
	kind := "VIEW "
	if t.IsMaterializedView() {
		kind = "MATERIALIZED VIEW "
	}
	return "CREATE " + kind + r.qualified(t) + " (\n\t" + strings.Join(names, ",\n\t") + "\n) AS " + r.expr(t.pb.ViewQuery)
}

func (r *renderer) table(t *Table) string {
	var lines []string
	for _, c := range t.Columns() {
		if !c.Inaccessible {
			lines = append(lines, r.column(c))
		}
	}
	if pk := t.PrimaryIndex(); pk != nil {
		lines = append(lines, "CONSTRAINT "+quoteName(pk.Name)+" PRIMARY KEY ("+r.keyColumns(pk)+")"+sharding(pk))
	}
	for _, x := range t.SecondaryIndexes() {
		lines = append(lines, r.index(t, x))
	}
	if fs := t.Families(); len(fs) > 1 || len(fs) == 1 && fs[0].Name != "primary" {
		for _, f := range fs {
			lines = append(lines, "FAMILY "+quoteName(f.Name)+" ("+r.columnList(t, f.ColumnIds)+")")
		}
	}
	if r.fks {
		for _, fk := range t.OutboundFKs() {
			lines = append(lines, r.foreignKey(t, fk))
		}
	}
	for _, c := range t.Checks() {
		if c.FromHashShardedColumn || c.IsNonNullConstraint {
			continue
		}
		l := "CONSTRAINT " + quoteName(c.Name) + " CHECK (" + r.expr(c.Expr) + ")"
		if c.Validity != catalogpb.ConstraintValidity_VALIDATED {
			l += " NOT VALID"
		}
		lines = append(lines, l)
	}
	s := "CREATE TABLE " + r.qualified(t) + " (\n\t" + strings.Join(lines, ",\n\t") + "\n)" + r.partitionBy(t, t.PrimaryIndex())
	if t.pb.Temporary {
		s = "CREATE TEMP" + strings.TrimPrefix(s, "CREATE")
	}
	if p := r.params(t); p != "" {
		s += " WITH (" + p + ")"
	}
	return s
}

func (r *renderer) params(t *Table) string {
	var out []string
	if t.pb.ExcludeDataFromBackup {
		out = append(out, "exclude_data_from_backup = true")
	}
	for _, p := range t.pb.StorageParams {
		v := p.Value
		if _, err := strconv.ParseFloat(v, 64); err != nil && v != "true" && v != "false" {
			v = lex.EscapeSQLString(v)
		}
		out = append(out, p.Name+" = "+v)
	}
	return strings.Join(out, ", ")
}

func (r *renderer) column(c *Column) string {
	var b strings.Builder
	b.WriteString(quoteName(c.Name) + " " + SQLTypeName(c.Type, r.enums))
	if c.Hidden {
		b.WriteString(" NOT VISIBLE")
	}
	if c.Nullable {
		b.WriteString(" NULL")
	} else {
		b.WriteString(" NOT NULL")
	}
	switch c.Identity {
	case catalogpb.IdentityType_GENERATED_ALWAYS, catalogpb.IdentityType_GENERATED_BY_DEFAULT:
		kind := "ALWAYS"
		if c.Identity == catalogpb.IdentityType_GENERATED_BY_DEFAULT {
			kind = "BY DEFAULT"
		}
		b.WriteString(" GENERATED " + kind + " AS IDENTITY")
		if o := c.PB.GetGeneratedAsIdentitySequenceOption(); o != "" {
			b.WriteString(" (" + strings.TrimSpace(o) + ")")
		}
	default:
		if c.HasDefault() {
			b.WriteString(" DEFAULT " + r.expr(c.DefaultExpr))
		}
	}
	if c.OnUpdateExpr != "" {
		b.WriteString(" ON UPDATE " + r.expr(c.OnUpdateExpr))
	}
	if c.IsComputed() {
		kind := "STORED"
		if c.Virtual {
			kind = "VIRTUAL"
		}
		b.WriteString(" AS (" + r.expr(c.ComputeExpr) + ") " + kind)
	}
	return b.String()
}

func sharding(x *Index) string {
	if s := x.PB.Sharded; s.GetIsSharded() {
		return fmt.Sprintf(" USING HASH WITH (bucket_count=%d)", s.ShardBuckets)
	}
	return ""
}

func (r *renderer) keyColumns(x *Index) string {
	var parts []string
	for i, c := range x.KeyColumns {
		if s := x.PB.Sharded; s.GetIsSharded() && c.Name == s.Name {
			continue
		}
		p := quoteName(c.Name)
		if c.Inaccessible && c.IsComputed() {
			p = "(" + r.expr(c.ComputeExpr) + ")"
		}
		if !x.Inverted || i < len(x.KeyColumns)-1 {
			p += " " + x.KeyDirections[i].String()
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, ", ")
}

func (r *renderer) index(t *Table, x *Index) string {
	kind := "INDEX "
	switch {
	case x.Unique:
		kind = "UNIQUE INDEX "
	case x.Inverted:
		kind = "INVERTED INDEX "
	}
	s := kind + quoteName(x.Name) + " (" + r.keyColumns(x) + ")" + sharding(x)
	if names := x.PB.StoreColumnNames; len(names) > 0 && !x.PrimaryEncoding() {
		q := make([]string, len(names))
		for i, n := range names {
			q[i] = quoteName(n)
		}
		s += " STORING (" + strings.Join(q, ", ") + ")"
	}
	s += r.partitionBy(t, x)
	if x.Predicate != "" {
		s += " WHERE " + r.expr(x.Predicate)
	}
	return s
}

func (r *renderer) columnList(t *Table, ids []uint32) string {
	var names []string
	for _, id := range ids {
		if c := t.ColumnByID(id); c != nil && c.Public() {
			names = append(names, quoteName(c.Name))
		}
	}
	return strings.Join(names, ", ")
}

var actionNames = map[catalogpb.ReferenceAction]string{
	catalogpb.ReferenceAction_RESTRICT: "RESTRICT", catalogpb.ReferenceAction_SET_NULL: "SET NULL",
	catalogpb.ReferenceAction_SET_DEFAULT: "SET DEFAULT", catalogpb.ReferenceAction_CASCADE: "CASCADE",
}

func (r *renderer) foreignKey(t *Table, fk *catalogpb.ForeignKeyConstraint) string {
	target, cols := fmt.Sprintf("[%d AS ref]", fk.ReferencedTableId), ""
	ref, ok := r.lookup(fk.ReferencedTableId).(*Table)
	if fk.ReferencedTableId == t.ID() {
		ref, ok = t, true
	}
	if ok {
		target, cols = r.qualified(ref), r.columnList(ref, fk.ReferencedColumnIds)
		if ref.ParentID() != t.ParentID() {
			if db, ok := r.lookup(ref.ParentID()).(*Database); ok {
				target = quoteName(db.Name()) + "." + target
			}
		}
	}
	s := "CONSTRAINT " + quoteName(fk.Name) + " FOREIGN KEY (" + r.columnList(t, fk.OriginColumnIds) + ") REFERENCES " + target + "(" + cols + ")"
	if fk.Match == catalogpb.Match_FULL {
		s += " MATCH FULL"
	}
	if a := actionNames[fk.OnDelete]; a != "" {
		s += " ON DELETE " + a
	}
	if a := actionNames[fk.OnUpdate]; a != "" {
		s += " ON UPDATE " + a
	}
	if fk.Validity != catalogpb.ConstraintValidity_VALIDATED {
		s += " NOT VALID"
	}
	return s
}

var (
	quotedFunction = regexp.MustCompile(`"(crdb_internal\.\w+)"`)

	regclassRef = regexp.MustCompile(`\b(\d+):::?REGCLASS\b`)
	enumLiteral = regexp.MustCompile(`(?:b|x)'((?:[^'\\]|\\.)*)':::@(\d+)`)
	enumRef     = regexp.MustCompile(`:::?@(\d+)`)
)

// expr shows a stored expression: ids of sequences and types become names.
func (r *renderer) expr(text string) string {
	// Old versions wrote qualified functions as one quoted name.
	text = quotedFunction.ReplaceAllString(text, "$1")
	if !strings.ContainsAny(text, "@") && !strings.Contains(text, "REGCLASS") {
		return text
	}
	text = regclassRef.ReplaceAllStringFunc(text, func(m string) string {
		id, err := strconv.ParseUint(regclassRef.FindStringSubmatch(m)[1], 10, 32)
		t, ok := r.lookup(ID(id)).(*Table)
		if err != nil || !ok {
			return m
		}
		return lex.EscapeSQLString(r.qualified(t)) + "::REGCLASS"
	})
	text = enumLiteral.ReplaceAllStringFunc(text, func(m string) string {
		g := enumLiteral.FindStringSubmatch(m)
		o, err := strconv.ParseUint(g[2], 10, 32)
		if err != nil {
			return m
		}
		e := r.enum(oid.Oid(o))
		phys, ok := physicalLiteral(m[0], g[1])
		if e == nil || !ok {
			return m
		}
		v := e.FromPhysical(phys)
		if v == nil {
			return m
		}
		return lex.EscapeSQLString(v.Contents) + ":::" + e.QualifiedName()
	})
	return enumRef.ReplaceAllStringFunc(text, func(m string) string {
		g := enumRef.FindStringSubmatch(m)
		o, err := strconv.ParseUint(g[1], 10, 32)
		if err != nil {
			return m
		}
		e := r.enum(oid.Oid(o))
		if e == nil {
			return m
		}
		return strings.TrimRight(m, "@0123456789") + e.QualifiedName()
	})
}

// physicalLiteral reads the inside of x'…' or b'…'.
func physicalLiteral(kind byte, s string) ([]byte, bool) {
	if kind == 'x' {
		out := make([]byte, 0, len(s)/2)
		for i := 0; i+1 < len(s); i += 2 {
			v, err := strconv.ParseUint(s[i:i+2], 16, 8)
			if err != nil {
				return nil, false
			}
			out = append(out, byte(v))
		}
		return out, len(s)%2 == 0
	}
	v, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	return []byte(v), err == nil
}
