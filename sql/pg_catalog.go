package sql

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/pgfacts"
)

// Object classes of pg_depend and pg_description.
const (
	classPgClass      = 1259
	classPgType       = 1247
	classPgConstraint = 2606
	classPgDatabase   = 1262
	classPgNamespace  = 2615
	classPgAttrdef    = 2604
	classPgRewrite    = 2618
	classPgExtension  = 3079
)

// defaultCollation is the OID of collation "default".
const defaultCollation = 100

// extraPgCatalog are tables of pg_catalog that are not in pgfacts.
func extraPgCatalog() []pgfacts.Table { return nil }

func pgCatalogTables() map[string]vpopulate {
	m := map[string]vpopulate{
		"pg_class": vPgClass, "pg_namespace": vPgNamespace, "pg_attribute": vPgAttribute, "pg_attrdef": vPgAttrdef,
		"pg_type": vPgType, "pg_enum": vPgEnum, "pg_index": vPgIndex, "pg_constraint": vPgConstraint,
		"pg_description": vPgDescription, "pg_shdescription": vPgShdescription, "pg_database": vPgDatabase,
		"pg_roles": vPgRoles, "pg_authid": vPgAuthid, "pg_user": vPgUser, "pg_shadow": vPgUser, "pg_auth_members": vPgAuthMembers,
		"pg_group": vPgGroup, "pg_proc": vPgProc, "pg_sequence": vPgSequence, "pg_sequences": vPgSequences, "pg_views": vPgViews,
		"pg_tables": vPgTables, "pg_indexes": vPgIndexes, "pg_matviews": vPgMatviews, "pg_settings": vPgSettings,
		"pg_stat_activity": vPgStatActivity, "pg_stat_user_tables": vPgStatTables, "pg_stat_all_tables": vPgStatTables,
		"pg_statio_user_tables": vPgStatioTables, "pg_tablespace": vPgTablespace, "pg_depend": vPgDepend,
		"pg_timezone_names": vPgTimezoneNames, "pg_rewrite": vPgRewrite, "pg_stat_database": vPgStatDatabase,
		"pg_extension": vPgExtension, "pg_init_privs": vPgInitPrivs, "pg_prepared_statements": vPgPreparedStatements, "pg_cursors": nil,
	}
	for _, t := range []string{"pg_am", "pg_collation", "pg_language", "pg_operator", "pg_cast", "pg_opclass", "pg_opfamily"} {
		m[t] = vFacts(t)
	}
	return m
}

// vFacts yields constant rows.
func vFacts(table string) vpopulate {
	return func(_ context.Context, _ *vctx, add func(vrow) error) error {
		header, rows := pgfacts.Rows(table)
		var namespace, owner bool
		for _, c := range tableColumnNames(table) {
			namespace = namespace || strings.HasSuffix(c, "namespace")
			owner = owner || strings.HasSuffix(c, "owner")
		}
		for _, r := range rows {
			row := vrow{}
			for i, h := range header {
				if strings.HasSuffix(h, "owner") { // PostgreSQL's bootstrap superuser
					row[h] = rootOID
					continue
				}
				if r[i] == "" && !strings.HasSuffix(h, "name") {
					continue
				}
				row[h] = r[i]
			}
			for _, c := range tableColumnNames(table) {
				if _, ok := row[c]; ok {
					continue
				}
				switch {
				case strings.HasSuffix(c, "namespace"):
					row[c] = oidPgCatalog
				case strings.HasSuffix(c, "owner"):
					row[c] = rootOID
				}
			}
			if err := add(row); err != nil {
				return err
			}
		}
		return nil
	}
}

func tableColumnNames(table string) []string {
	for _, t := range pgfacts.PgCatalog() {
		if t.Name == table {
			out := make([]string, len(t.Columns))
			for i, c := range t.Columns {
				out[i] = c.Name
			}
			return out
		}
	}
	return nil
}

// ownerOID returns the OID of an object's owner.
func (s *descSet) ownerOID(d catalog.Descriptor) int64 {
	if o, ok := s.owners[d.Privileges().GetOwner()]; ok {
		return o
	}
	return rootOID
}

// acl renders privileges as PostgreSQL's aclitem[].
func acl(pr *catalogpb.PrivilegeDescriptor, letters map[catalog.Privilege]string) any {
	if pr == nil {
		return nil
	}
	var out []string
	for _, u := range pr.Users {
		if u.User == catalog.AdminRole || u.User == catalog.RootUser {
			continue
		}
		var b strings.Builder
		if u.User != catalog.PublicRole {
			b.WriteString(u.User)
		}
		b.WriteByte('=')
		for _, p := range []catalog.Privilege{catalog.Insert, catalog.Select, catalog.Update, catalog.Delete, catalog.TruncatePriv,
			catalog.References, catalog.Trigger, catalog.Execute, catalog.Usage, catalog.Create, catalog.Temporary, catalog.Connect} {
			l, ok := letters[p]
			if !ok || u.Privileges&(p.Mask()|catalog.All.Mask()) == 0 {
				continue
			}
			b.WriteString(l)
			if u.WithGrantOption&(p.Mask()|catalog.All.Mask()) != 0 {
				b.WriteByte('*')
			}
		}
		owner := pr.Owner
		b.WriteString("/" + owner)
		out = append(out, b.String())
	}
	if len(out) == 0 {
		return nil
	}
	var all strings.Builder
	all.WriteString(pr.Owner + "=")
	for _, p := range []catalog.Privilege{catalog.Insert, catalog.Select, catalog.Update, catalog.Delete, catalog.TruncatePriv,
		catalog.References, catalog.Trigger, catalog.Execute, catalog.Usage, catalog.Create, catalog.Temporary, catalog.Connect} {
		all.WriteString(letters[p])
	}
	return append([]string{all.String() + "/" + pr.Owner}, out...)
}

var (
	tableACL = map[catalog.Privilege]string{catalog.Insert: "a", catalog.Select: "r", catalog.Update: "w", catalog.Delete: "d",
		catalog.TruncatePriv: "D", catalog.References: "x", catalog.Trigger: "t"}
	sequenceACL = map[catalog.Privilege]string{catalog.Select: "r", catalog.Update: "w", catalog.Usage: "U"}
	schemaACL   = map[catalog.Privilege]string{catalog.Usage: "U", catalog.Create: "C"}
	databaseACL = map[catalog.Privilege]string{catalog.Create: "C", catalog.Temporary: "T", catalog.Connect: "c"}
	typeACL     = map[catalog.Privilege]string{catalog.Usage: "U"}
)

// Privileges on what is the same in every database. They are no grants of a user's.
var (
	virtualTableACL  = []string{"root=r/root", "=r/root"}
	virtualSchemaACL = []string{"root=UC/root", "=U/root"}
)

func vPgInitPrivs(_ context.Context, _ *vctx, add func(vrow) error) error {
	for _, vs := range virtualSchemas() {
		if err := add(vrow{"objoid": vs.oid, "classoid": classPgNamespace, "objsubid": 0, "privtype": "i", "initprivs": virtualSchemaACL}); err != nil {
			return err
		}
		for _, t := range vs.order {
			if err := add(vrow{"objoid": t.id, "classoid": classPgClass, "objsubid": 0, "privtype": "i", "initprivs": virtualTableACL}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Access methods.
const (
	amHeap  = 2
	amBtree = 403
	amGin   = 2742
)

func relkind(t *catalog.Table) string {
	switch {
	case t.IsSequence():
		return "S"
	case t.IsMaterializedView():
		return "m"
	case t.IsView():
		return "v"
	}
	return "r"
}

// pgNamespace is the OID of a relation's schema.
func pgNamespace(t interface{ ParentSchemaID() catalog.ID }) catalog.ID { return t.ParentSchemaID() }

func vPgClass(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		pb := t.Proto()
		var am any = amHeap
		letters := tableACL
		if t.IsView() && !t.IsMaterializedView() || t.IsSequence() {
			am = 0
		}
		if t.IsSequence() {
			letters = sequenceACL
		}
		persistence := "p"
		if pb.Temporary {
			persistence = "t"
		}
		var opts any
		var params []string
		for _, sp := range pb.StorageParams {
			params = append(params, sp.Name+"="+sp.Value)
		}
		if pb.ExcludeDataFromBackup {
			params = append(params, "exclude_data_from_backup=true")
		}
		if params != nil {
			opts = params
		}
		natts := 0
		for _, c := range t.Columns() {
			natts = max(natts, int(c.PGAttributeNum()))
		}
		var hasIndex bool
		if t.IsTable() {
			hasIndex = len(t.SecondaryIndexes()) > 0 || !t.HasImplicitPrimaryKey()
		}
		if t.IsSequence() {
			natts = 3
		}
		filenode := t.ID()
		if t.IsView() && !t.IsMaterializedView() {
			filenode = 0
		}
		if err := add(vrow{
			"oid": t.ID(), "relname": t.Name(), "relnamespace": pgNamespace(t), "reltype": 0, "reloftype": 0, "relowner": v.ownerOID(t),
			"relam": am, "relfilenode": filenode, "reltuples": v.p.rowEstimate(ctx, t), "relpages": 0, "relhasindex": hasIndex,
			"relpersistence": persistence, "relkind": relkind(t), "relnatts": natts, "relchecks": len(t.Checks()),
			"relhasrules": t.IsView(), "relhastriggers": len(t.OutboundFKs())+len(t.InboundFKs()) > 0, "relispopulated": true,
			"relreplident": "d", "relacl": acl(t.Privileges(), letters), "reloptions": opts,
		}); err != nil {
			return err
		}
		for _, x := range visibleIndexes(t) {
			iam := amBtree
			if x.Inverted {
				iam = amGin
			}
			if err := add(vrow{
				"oid": indexOID(t.ID(), x.ID), "relname": x.Name, "relnamespace": pgNamespace(t), "relowner": v.ownerOID(t), "relam": iam,
				"relfilenode": indexOID(t.ID(), x.ID), "reltuples": -1.0, "relpersistence": persistence, "relkind": "i",
				"relnatts": len(x.KeyColumns) + len(storedOf(x)), "relispopulated": true, "relreplident": "n",
			}); err != nil {
				return err
			}
		}
	}
	for _, vs := range virtualSchemas() {
		for _, t := range vs.order {
			if err := add(vrow{
				"oid": t.id, "relname": t.name, "relnamespace": vs.oid, "relowner": rootOID, "reltuples": -1.0, "relpersistence": "p",
				"relkind": vkind(vs, t), "relnatts": len(t.visible()), "relispopulated": true, "relreplident": "n",
				"relacl": virtualTableACL,
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// vkind says how a virtual table is listed: PostgreSQL's catalogs are tables,
// its views views.
func vkind(vs *virtualSchema, t *virtualTable) string {
	if _, ok := wellKnownClassOIDs[t.name]; ok && vs.name == catalog.PgCatalogName {
		return "r"
	}
	return "v"
}

// visibleIndexes are the indexes that users see: not the hidden primary key.
func visibleIndexes(t *catalog.Table) []*catalog.Index {
	if t.IsSequence() || (t.IsView() && !t.IsMaterializedView()) {
		return nil
	}
	if t.HasImplicitPrimaryKey() {
		return t.SecondaryIndexes()
	}
	return t.PublicIndexes()
}

// indexColumnName is the name of an index's own column: that of the table's, or one
// that tells of the expression.
func indexColumnName(x *catalog.Index, i int, c *catalog.Column) string {
	if !c.Inaccessible {
		return c.Name
	}
	e, err := parseExpr(c.ComputeExpr)
	if err != nil {
		return "expr"
	}
	name := exprName(e)
	n := 0
	for _, o := range x.KeyColumns[:i] {
		if o.Inaccessible {
			if oe, err := parseExpr(o.ComputeExpr); err == nil && exprName(oe) == name {
				n++
			}
		}
	}
	if n > 0 {
		return fmt.Sprintf("%s%d", name, n)
	}
	return name
}

// storedOf are the INCLUDE columns of an index as users know them.
func storedOf(x *catalog.Index) []*catalog.Column {
	if x.Primary || x.PrimaryEncoding() {
		return nil
	}
	return x.StoredColumns
}

func vPgNamespace(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, sc := range v.schemasIn(v.db) {
		if err := add(vrow{"oid": sc.ID(), "nspname": sc.Name(), "nspowner": v.ownerOID(sc), "nspacl": acl(sc.Privileges(), schemaACL)}); err != nil {
			return err
		}
	}
	for _, name := range catalog.VirtualSchemas {
		if err := add(vrow{"oid": virtualSchemas()[name].oid, "nspname": name, "nspowner": rootOID, "nspacl": virtualSchemaACL}); err != nil {
			return err
		}
	}
	return nil
}

func (s *descSet) pgTypeOID(t *types.T) oid.Oid { return catalog.PGOid(t, s.enums) }

// sequenceColumns are what SELECT * FROM a sequence shows.
var sequenceColumns = []virtualColumn{{name: "last_value", typ: types.Int}, {name: "log_cnt", typ: types.Int}, {name: "is_called", typ: types.Bool}}

func vPgAttribute(_ context.Context, v *vctx, add func(vrow) error) error {
	row := func(rel any, name string, typ *types.T, num int, notNull bool) vrow {
		f := typeFacts(v.pgTypeOID(typ))
		if typ.Family() == types.ArrayFamily && v.pgTypeOID(typ) > catalog.UserTypeOIDBase {
			f = typeFact{len: -1, align: "i", storage: "x"}
		}
		coll := 0
		if c := typ.Family(); c == types.StringFamily || c == types.CollatedStringFamily {
			if _, enum := catalog.EnumOID(typ); !enum {
				coll = defaultCollation
			}
		}
		dims := 0
		if typ.Family() == types.ArrayFamily && typ.Oid() != oid.T_int2vector && typ.Oid() != oid.T_oidvector {
			dims = 1
		}
		return vrow{
			"attrelid": rel, "attname": name, "atttypid": v.pgTypeOID(typ), "attlen": f.len, "attnum": num, "attndims": dims,
			"attcacheoff": -1, "atttypmod": typeModifier(typ), "attbyval": f.byVal, "attalign": f.align, "attstorage": f.storage,
			"attcompression": "", "attnotnull": notNull, "attidentity": "", "attgenerated": "", "attislocal": true, "attcollation": coll,
			"attstattarget": -1,
		}
	}
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() {
			for i, c := range sequenceColumns {
				if err := add(row(t.ID(), c.name, c.typ, i+1, true)); err != nil {
					return err
				}
			}
			continue
		}
		for _, c := range t.Columns() {
			if c.Hidden || c.Inaccessible {
				continue
			}
			r := row(t.ID(), c.Name, c.Type, int(c.PGAttributeNum()), !c.Nullable)
			r["atthasdef"] = c.HasDefault() && c.Identity == catalogpb.IdentityType_NOT_IDENTITY || c.IsComputed()
			switch c.Identity {
			case catalogpb.IdentityType_GENERATED_ALWAYS:
				r["attidentity"] = "a"
			case catalogpb.IdentityType_GENERATED_BY_DEFAULT:
				r["attidentity"] = "d"
			}
			if c.IsComputed() {
				r["attgenerated"] = "s"
			}
			if err := add(r); err != nil {
				return err
			}
		}
		for _, x := range visibleIndexes(t) {
			for i, c := range append(x.KeyColumns[:len(x.KeyColumns):len(x.KeyColumns)], storedOf(x)...) {
				if err := add(row(indexOID(t.ID(), x.ID), indexColumnName(x, i, c), c.Type, i+1, false)); err != nil {
					return err
				}
			}
		}
	}
	for _, vs := range virtualSchemas() {
		for _, t := range vs.order {
			for i, c := range t.visible() {
				if err := add(row(t.id, c.name, c.typ, i+1, false)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func vPgAttrdef(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		for _, c := range t.Columns() {
			text := v.columnDefaultText(c)
			if text == "" || c.Hidden || c.Inaccessible || t.IsSequence() {
				continue
			}
			if err := add(vrow{"oid": defaultOID(t.ID(), c.ID), "adrelid": t.ID(), "adnum": int(c.PGAttributeNum()), "adbin": text}); err != nil {
				return err
			}
		}
	}
	return nil
}

// columnDefaultText is the default or generation expression as pg_get_expr shows
// it.
func (s *descSet) columnDefaultText(c *catalog.Column) string {
	switch {
	case c.IsComputed():
		return s.typesInPath(pgExpr(c.ComputeExpr, nil, s.enums))
	case c.HasDefault() && c.Identity == catalogpb.IdentityType_NOT_IDENTITY:
		text := pgExpr(c.DefaultExpr, c.Type, s.enums)
		if name, ok := strings.CutPrefix(text, "nextval('"); ok {
			// Sequences in the search path show without their schema.
			if schema, rest, ok := strings.Cut(name, "."); ok && s.inPath(schema) {
				return "nextval('" + rest
			}
		}
		return s.typesInPath(text)
	}
	return ""
}

// typesInPath shows types of schema public without it, if it is in the search path.
func (s *descSet) typesInPath(text string) string {
	if !s.inPath(catalog.PublicSchemaName) {
		return text
	}
	return strings.ReplaceAll(text, "::public.", "::")
}

// typeFact is how PostgreSQL stores a type.
type typeFact struct {
	len            int
	byVal          bool
	align, storage string
	category       string
}

var typeFactsByOID = sync.OnceValue(func() map[oid.Oid]typeFact {
	header, rows := pgfacts.Rows("pg_type")
	at := map[string]int{}
	for i, h := range header {
		at[h] = i
	}
	m := map[oid.Oid]typeFact{}
	for _, r := range rows {
		m[oid.Oid(vint(r[at["oid"]]))] = typeFact{
			len: int(vint(r[at["typlen"]])), byVal: r[at["typbyval"]] == "t", align: r[at["typalign"]], storage: r[at["typstorage"]],
			category: r[at["typcategory"]],
		}
	}
	return m
})

func typeFacts(o oid.Oid) typeFact {
	if f, ok := typeFactsByOID()[o]; ok {
		return f
	}
	if o > catalog.UserTypeOIDBase {
		return typeFact{len: 4, byVal: true, align: "i", storage: "p", category: "E"}
	}
	return typeFact{len: -1, align: "i", storage: "x", category: "U"}
}

func vPgType(ctx context.Context, v *vctx, add func(vrow) error) error {
	header, rows := pgfacts.Rows("pg_type")
	for _, r := range rows {
		row := vrow{"typnamespace": oidPgCatalog, "typowner": rootOID, "typisdefined": true}
		for i, h := range header {
			row[h] = r[i]
		}
		if err := add(row); err != nil {
			return err
		}
	}
	if v.db == nil {
		return nil
	}
	for _, t := range v.types {
		if t.ParentID() != v.db.ID() {
			continue
		}
		o := catalog.OIDFromTypeID(t.ID())
		row := vrow{"oid": o, "typname": t.Name(), "typnamespace": t.ParentSchemaID(), "typowner": v.ownerOID(t), "typisdefined": true,
			"typdelim": ",", "typrelid": 0, "typnotnull": false, "typbasetype": 0, "typtypmod": -1, "typndims": 0, "typcollation": 0,
			"typispreferred": false, "typmodin": "-", "typmodout": "-", "typanalyze": "-", "typacl": v.typeACL(t)}
		if t.IsEnum() {
			for k, val := range (vrow{"typlen": 4, "typbyval": true, "typtype": "e", "typcategory": "E", "typsubscript": "-", "typelem": 0,
				"typarray": catalog.OIDFromTypeID(t.Proto().ArrayTypeId), "typinput": "enum_in", "typoutput": "enum_out",
				"typreceive": "enum_recv", "typsend": "enum_send", "typalign": "i", "typstorage": "p"}) {
				row[k] = val
			}
		} else {
			elem := oid.Oid(0)
			for _, e := range v.types {
				if e.Proto().ArrayTypeId == t.ID() {
					elem = catalog.OIDFromTypeID(e.ID())
				}
			}
			for k, val := range (vrow{"typlen": -1, "typbyval": false, "typtype": "b", "typcategory": "A", "typsubscript": "array_subscript_handler",
				"typelem": elem, "typarray": 0, "typinput": "array_in", "typoutput": "array_out", "typreceive": "array_recv",
				"typsend": "array_send", "typalign": "i", "typstorage": "x"}) {
				row[k] = val
			}
		}
		if err := add(row); err != nil {
			return err
		}
	}
	return nil
}

// typeACL is NULL for a type that has only its default privileges: its owner's, and
// USAGE for all.
func (s *descSet) typeACL(t *catalog.Type) any {
	users := t.Privileges().GetUsers()
	for _, u := range users {
		byDefault := u.User == catalog.AdminRole || u.User == catalog.RootUser || u.User == catalog.PublicRole && u.Privileges == catalog.Usage.Mask()
		if !byDefault {
			return acl(t.Privileges(), typeACL)
		}
	}
	return nil
}

func vPgEnum(_ context.Context, v *vctx, add func(vrow) error) error {
	if v.db == nil {
		return nil
	}
	for _, t := range v.types {
		if t.ParentID() != v.db.ID() || !t.IsEnum() {
			continue
		}
		for i, m := range v.enums[catalog.OIDFromTypeID(t.ID())].Members {
			if err := add(vrow{"oid": scopedOID(oidDefaultBase, t.ID(), uint32(i)), "enumtypid": catalog.OIDFromTypeID(t.ID()),
				"enumsortorder": float64(i + 1), "enumlabel": m.Label}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgIndex(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		for _, x := range visibleIndexes(t) {
			var keyAtts, opts, colls, classes []int
			cols := append(x.KeyColumns[:len(x.KeyColumns):len(x.KeyColumns)], storedOf(x)...)
			var texts []string
			for i, c := range cols {
				att := int(c.PGAttributeNum())
				if c.Inaccessible {
					att = 0
					texts = append(texts, pgCondition(c.ComputeExpr, v.enums))
				}
				keyAtts = append(keyAtts, att)
				if i >= len(x.KeyColumns) {
					continue
				}
				opt := 0
				if x.KeyDirections[i] == catalogpb.Direction_DESC {
					opt = 3 // DESC NULLS FIRST
				}
				coll := 0
				if c.Type.Family() == types.StringFamily {
					coll = defaultCollation
				}
				opts, colls, classes = append(opts, opt), append(colls, coll), append(classes, 0)
			}
			var pred, exprs any
			if x.Predicate != "" {
				pred = pgCondition(x.Predicate, v.enums)
			}
			if len(texts) > 0 {
				exprs = strings.Join(texts, ", ")
			}
			if err := add(vrow{"indexrelid": indexOID(t.ID(), x.ID), "indrelid": t.ID(), "indnatts": len(cols), "indnkeyatts": len(x.KeyColumns),
				"indisunique": x.Unique, "indisprimary": x.Primary, "indimmediate": true, "indisvalid": true, "indisready": true, "indislive": true,
				"indkey": keyAtts, "indcollation": colls, "indclass": classes, "indoption": opts, "indpred": pred, "indexprs": exprs}); err != nil {
				return err
			}
		}
	}
	return nil
}

// fkMatch and fkAction are PostgreSQL's letters.
func fkMatch(m catalogpb.Match) string { return [...]string{"s", "f", "p"}[m] }

func fkAction(a catalogpb.ReferenceAction) string {
	return map[catalogpb.ReferenceAction]string{
		catalogpb.ReferenceAction_NO_ACTION: "a", catalogpb.ReferenceAction_RESTRICT: "r", catalogpb.ReferenceAction_CASCADE: "c",
		catalogpb.ReferenceAction_SET_NULL: "n", catalogpb.ReferenceAction_SET_DEFAULT: "d",
	}[a]
}

func attNums(t *catalog.Table, ids []uint32) []int {
	out := make([]int, len(ids))
	for i, id := range ids {
		if c := t.ColumnByID(id); c != nil {
			out[i] = int(c.PGAttributeNum())
		}
	}
	return out
}

func vPgConstraint(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		base := func(o oid.Oid, name, typ string, validated bool) vrow {
			return vrow{"oid": o, "conname": name, "connamespace": pgNamespace(t), "contype": typ, "convalidated": validated, "conrelid": t.ID(),
				"conislocal": true, "connoinherit": typ != "c"}
		}
		for _, x := range visibleIndexes(t) {
			if !isUniqueConstraint(x.PB) {
				continue
			}
			typ := "u"
			if x.Primary {
				typ = "p"
			}
			r := base(constraintOID(t.ID(), x.PB.ConstraintId, x.Name), x.Name, typ, true)
			r["conindid"], r["conkey"] = indexOID(t.ID(), x.ID), attNums(t, x.PB.KeyColumnIds)
			if err := add(r); err != nil {
				return err
			}
		}
		for _, c := range t.Checks() {
			r := base(constraintOID(t.ID(), c.ConstraintId, c.Name), c.Name, "c", c.Validity == catalogpb.ConstraintValidity_VALIDATED)
			r["conkey"], r["conbin"] = attNums(t, c.ColumnIds), pgExpr(c.Expr, nil, v.enums)
			if err := add(r); err != nil {
				return err
			}
		}
		for _, fk := range t.OutboundFKs() {
			r := base(fkOID(fk), fk.Name, "f", fk.Validity == catalogpb.ConstraintValidity_VALIDATED)
			r["confrelid"], r["confupdtype"], r["confdeltype"] = fk.ReferencedTableId, fkAction(fk.OnUpdate), fkAction(fk.OnDelete)
			r["confmatchtype"], r["conkey"] = fkMatch(fk.Match), attNums(t, fk.OriginColumnIds)
			if p := v.tableByID[fk.ReferencedTableId]; p != nil {
				r["confkey"] = attNums(p, fk.ReferencedColumnIds)
				if x, _ := referencedIndex(p, fk.ReferencedColumnIds); x != nil {
					r["conindid"] = indexOID(p.ID(), x.ID)
				}
			}
			if err := add(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgDescription(_ context.Context, v *vctx, add func(vrow) error) error {
	here := map[int64]bool{} // The objects of this database.
	note := func(d catalog.Descriptor) {
		if v.db != nil && d.ParentID() == v.db.ID() {
			here[int64(d.ID())] = true
		}
	}
	for _, t := range v.tables {
		note(t)
	}
	for _, sc := range v.schemas {
		note(sc)
	}
	for _, t := range v.types {
		note(t)
	}
	for k, text := range v.comments {
		if !here[k.object] {
			continue
		}
		var r vrow
		switch k.typ {
		case commentTable:
			r = vrow{"objoid": k.object, "classoid": classPgClass, "objsubid": 0}
		case commentColumn:
			sub := k.sub
			if t := v.tableByID[catalog.ID(k.object)]; t != nil {
				if c := t.ColumnByID(uint32(k.sub)); c != nil {
					sub = int64(c.PGAttributeNum())
				}
			}
			r = vrow{"objoid": k.object, "classoid": classPgClass, "objsubid": sub}
		case commentIndex:
			r = vrow{"objoid": indexOID(catalog.ID(k.object), uint32(k.sub)), "classoid": classPgClass, "objsubid": 0}
		case commentSchema:
			r = vrow{"objoid": k.object, "classoid": classPgNamespace, "objsubid": 0}
		case commentConstraint:
			r = vrow{"objoid": constraintOID(catalog.ID(k.object), uint32(k.sub), ""), "classoid": classPgConstraint, "objsubid": 0}
		case commentType:
			r = vrow{"objoid": k.object + catalog.UserTypeOIDBase, "classoid": classPgType, "objsubid": 0}
		default:
			continue
		}
		r["description"] = text
		if err := add(r); err != nil {
			return err
		}
	}
	return nil
}

func vPgShdescription(_ context.Context, v *vctx, add func(vrow) error) error {
	for k, text := range v.comments {
		if k.typ == commentDatabase {
			if err := add(vrow{"objoid": k.object, "classoid": classPgDatabase, "description": text}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgDatabase(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, d := range v.databases {
		if err := add(vrow{"oid": d.ID(), "datname": d.Name(), "datdba": v.ownerOID(d), "encoding": 6, "datlocprovider": "c",
			"datcollate": "C.UTF-8", "datctype": "C.UTF-8", "datistemplate": false, "datallowconn": true, "datconnlimit": -1,
			"dattablespace": 1663, "datacl": acl(d.Privileges(), databaseACL)}); err != nil {
			return err
		}
	}
	return nil
}

func vPgTablespace(_ context.Context, _ *vctx, add func(vrow) error) error {
	if err := add(vrow{"oid": 1663, "spcname": "pg_default", "spcowner": rootOID}); err != nil {
		return err
	}
	return add(vrow{"oid": 1664, "spcname": "pg_global", "spcowner": rootOID})
}

// extensionOID is the OID of extension holdfast, which stands for what Holdfast
// adds to PostgreSQL's catalogs: pg_dump leaves out what belongs to it.
const extensionOID = 13001

func vPgExtension(_ context.Context, _ *vctx, add func(vrow) error) error {
	if err := add(vrow{"oid": extensionOID, "extname": "holdfast", "extowner": rootOID, "extnamespace": oidPgCatalog, "extversion": "1.0"}); err != nil {
		return err
	}
	return add(vrow{"oid": 13000, "extname": "plpgsql", "extowner": rootOID, "extnamespace": oidPgCatalog, "extversion": "1.0"})
}

func vPgSequence(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if !t.IsSequence() {
			continue
		}
		o := t.Proto().SequenceOpts
		if err := add(vrow{"seqrelid": t.ID(), "seqtypid": sequenceTypeOID(o), "seqstart": o.Start, "seqincrement": o.Increment, "seqmax": o.MaxValue,
			"seqmin": o.MinValue, "seqcache": max(o.CacheSize, 1), "seqcycle": o.Cycle}); err != nil {
			return err
		}
	}
	return nil
}

func sequenceTypeOID(o *catalogpb.SequenceOpts) oid.Oid {
	return map[int64]oid.Oid{16: oid.T_int2, 32: oid.T_int4, 64: oid.T_int8}[sequenceBits(o)]
}

func vPgSequences(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if !t.IsSequence() {
			continue
		}
		o := t.Proto().SequenceOpts
		var last any
		if n, called, err := v.p.sequenceRow(ctx, t); err != nil {
			return err
		} else if called {
			last = n
		}
		if err := add(vrow{"schemaname": v.schemaOf(t), "sequencename": t.Name(), "sequenceowner": t.Privileges().GetOwner(),
			"data_type": sequenceTypeOID(o), "start_value": o.Start, "min_value": o.MinValue, "max_value": o.MaxValue, "increment_by": o.Increment,
			"cycle": o.Cycle, "cache_size": max(o.CacheSize, 1), "last_value": last}); err != nil {
			return err
		}
	}
	return nil
}

func vPgViews(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsView() && !t.IsMaterializedView() {
			if err := add(vrow{"schemaname": v.schemaOf(t), "viewname": t.Name(), "viewowner": t.Privileges().GetOwner(), "definition": viewText(t)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgMatviews(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsMaterializedView() {
			if err := add(vrow{"schemaname": v.schemaOf(t), "matviewname": t.Name(), "matviewowner": t.Privileges().GetOwner(),
				"hasindexes": len(visibleIndexes(t)) > 0, "ispopulated": true, "definition": viewText(t)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgTables(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsTable() {
			if err := add(vrow{"schemaname": v.schemaOf(t), "tablename": t.Name(), "tableowner": t.Privileges().GetOwner(),
				"hasindexes": len(visibleIndexes(t)) > 0, "hasrules": false, "hastriggers": len(t.OutboundFKs())+len(t.InboundFKs()) > 0,
				"rowsecurity": false}); err != nil {
				return err
			}
		}
	}
	for _, t := range virtualSchemas()[catalog.PgCatalogName].order {
		if vkind(virtualSchemas()[catalog.PgCatalogName], t) == "r" {
			if err := add(vrow{"schemaname": catalog.PgCatalogName, "tablename": t.name, "tableowner": catalog.NodeUser, "hasindexes": false,
				"hasrules": false, "hastriggers": false, "rowsecurity": false}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgIndexes(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		for _, x := range visibleIndexes(t) {
			if err := add(vrow{"schemaname": v.schemaOf(t), "tablename": t.Name(), "indexname": x.Name, "indexdef": v.indexDef(t, x)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgStatTables(ctx context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsTable() {
			n := v.p.rowEstimate(ctx, t)
			live := int64(max(n, 0))
			if err := add(vrow{"relid": t.ID(), "schemaname": v.schemaOf(t), "relname": t.Name(), "seq_scan": 0, "seq_tup_read": 0, "n_live_tup": live, "n_dead_tup": 0}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgStatioTables(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsTable() {
			if err := add(vrow{"relid": t.ID(), "schemaname": v.schemaOf(t), "relname": t.Name()}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgStatDatabase(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, d := range v.databases {
		if err := add(vrow{"datid": d.ID(), "datname": d.Name()}); err != nil {
			return err
		}
	}
	return nil
}

func vPgRewrite(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsView() {
			if err := add(vrow{"oid": defaultOID(t.ID(), 1023), "rulename": "_RETURN", "ev_class": t.ID(), "ev_type": "1", "ev_enabled": "O", "is_instead": true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// vPgDepend lists what tools ask for: sequences of columns, and what views read.
func vPgDepend(_ context.Context, v *vctx, add func(vrow) error) error {
	extension := virtualSchemas()[catalog.CrdbInternalName]
	member := func(class, object any) error {
		return add(vrow{"classid": class, "objid": object, "objsubid": 0, "refclassid": classPgExtension, "refobjid": extensionOID, "refobjsubid": 0, "deptype": "e"})
	}
	if err := member(classPgNamespace, extension.oid); err != nil {
		return err
	}
	for _, t := range extension.order {
		if err := member(classPgClass, t.id); err != nil {
			return err
		}
	}
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() {
			o := t.Proto().SequenceOpts.GetOwner()
			if tab := v.tableByID[o.GetTableId()]; tab != nil {
				if c := tab.ColumnByID(o.ColumnId); c != nil {
					kind := "a"
					if c.Identity != catalogpb.IdentityType_NOT_IDENTITY {
						kind = "i"
					}
					if err := add(vrow{"classid": classPgClass, "objid": t.ID(), "objsubid": 0, "refclassid": classPgClass, "refobjid": tab.ID(),
						"refobjsubid": int(c.PGAttributeNum()), "deptype": kind}); err != nil {
						return err
					}
				}
			}
		}
		for _, ref := range t.Proto().DependedOnBy {
			view := v.tableByID[ref.Id]
			if view == nil || !view.IsView() {
				continue
			}
			cols := attNums(t, ref.ColumnIds)
			if len(cols) == 0 {
				cols = []int{0}
			}
			for _, n := range cols {
				if err := add(vrow{"classid": classPgRewrite, "objid": defaultOID(view.ID(), 1023), "objsubid": 0, "refclassid": classPgClass,
					"refobjid": t.ID(), "refobjsubid": n, "deptype": "n"}); err != nil {
					return err
				}
			}
		}
		for _, c := range t.Columns() {
			for _, id := range c.PB.UsesSequenceIds {
				if v.tableByID[id] == nil {
					continue
				}
				if err := add(vrow{"classid": classPgAttrdef, "objid": defaultOID(t.ID(), c.ID), "objsubid": 0, "refclassid": classPgClass,
					"refobjid": id, "refobjsubid": 0, "deptype": "n"}); err != nil {
					return err
				}
			}
		}
		// A foreign key needs its parent's index, which is there with its constraint:
		// pg_restore waits for it.
		for _, x := range visibleIndexes(t) {
			if !isUniqueConstraint(x.PB) {
				continue
			}
			constraint := constraintOID(t.ID(), x.PB.ConstraintId, x.Name)
			if err := add(vrow{"classid": classPgClass, "objid": indexOID(t.ID(), x.ID), "objsubid": 0, "refclassid": classPgConstraint,
				"refobjid": constraint, "refobjsubid": 0, "deptype": "i"}); err != nil {
				return err
			}
			for _, n := range attNums(t, x.PB.KeyColumnIds) {
				if err := add(vrow{"classid": classPgConstraint, "objid": constraint, "objsubid": 0, "refclassid": classPgClass,
					"refobjid": t.ID(), "refobjsubid": n, "deptype": "a"}); err != nil {
					return err
				}
			}
		}
		for _, fk := range t.OutboundFKs() {
			if p := v.tableByID[fk.ReferencedTableId]; p != nil {
				if x, _ := referencedIndex(p, fk.ReferencedColumnIds); x != nil {
					if err := add(vrow{"classid": classPgConstraint, "objid": fkOID(fk), "objsubid": 0, "refclassid": classPgClass,
						"refobjid": indexOID(p.ID(), x.ID), "refobjsubid": 0, "deptype": "n"}); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func vPgTimezoneNames(_ context.Context, v *vctx, add func(vrow) error) error {
	now := v.p.evalCtx.GetStmtTimestamp()
	for _, name := range pgfacts.TimeZones() {
		loc, err := time.LoadLocation(name)
		if err != nil {
			continue // The system's time zone data lacks it.
		}
		abbrev, off := now.In(loc).Zone()
		if err := add(vrow{"name": name, "abbrev": abbrev, "utc_offset": time.Duration(off) * time.Second, "is_dst": now.In(loc).IsDST()}); err != nil {
			return err
		}
	}
	return nil
}

// procFact is a function as pg_proc shows it.
type procFact struct {
	oid, ret oid.Oid
	name     string
	args     []oid.Oid
	kind     string
	set      bool
}

type procIndex struct {
	all    []procFact
	byName map[string][]int
	byOID  map[oid.Oid]int
}

// procs are the functions that exist here, with PostgreSQL's numbers where it has
// the same function. It is made when first asked for, after the functions have
// been registered.
var procs = sync.OnceValue(func() *procIndex {
	header, rows := pgfacts.Rows("pg_proc")
	at := map[string]int{}
	for i, h := range header {
		at[h] = i
	}
	known := map[string]oid.Oid{}
	for _, r := range rows {
		known[r[at["proname"]]+"("+r[at["proargtypes"]]+")"] = oid.Oid(vint(r[at["oid"]]))
	}
	ix := &procIndex{byName: map[string][]int{}, byOID: map[oid.Oid]int{}}
	names := make([]string, 0, len(tree.FunDefs))
	for n := range tree.FunDefs {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		def := tree.FunDefs[n]
		if strings.Contains(n, ".") || def.Private {
			continue
		}
		for _, o := range def.Definition {
			f := procFact{name: n, kind: "f"}
			switch def.Class {
			case tree.AggregateClass:
				f.kind = "a"
			case tree.WindowClass:
				f.kind = "w"
			case tree.GeneratorClass:
				f.set = true
			}
			sig, ok := overloadTypes(o, &f)
			if !ok {
				continue
			}
			if o, ok := known[n+"("+sig+")"]; ok {
				f.oid = o
			} else {
				f.oid = nameOID(oidFunctionBase, n+"("+sig+")")
			}
			if _, dup := ix.byOID[f.oid]; dup {
				continue
			}
			ix.byOID[f.oid] = len(ix.all)
			ix.byName[n] = append(ix.byName[n], len(ix.all))
			ix.all = append(ix.all, f)
		}
	}
	return ix
})

// overloadTypes fills in the types of an overload. Some depend on the call.
func overloadTypes(o any, f *procFact) (sig string, ok bool) {
	ov, isOverload := o.(*tree.Overload)
	if !isOverload {
		return "", false
	}
	defer func() {
		if recover() != nil { // A return type that needs arguments.
			f.ret = oid.T_anyelement
		}
	}()
	var parts []string
	for _, t := range ov.Types.Types() {
		f.args = append(f.args, t.Oid())
		parts = append(parts, vtext(uint32(t.Oid())))
	}
	sig, ok = strings.Join(parts, " "), true
	f.ret = oid.T_anyelement
	if t := ov.ReturnType(nil); t != nil {
		f.ret = t.Oid()
	}
	return sig, ok
}

// builtinProcOID is the number of a function known by name only.
func builtinProcOID(name string) oid.Oid {
	return procOIDsByName()[name]
}

var procOIDsByName = sync.OnceValue(func() map[string]oid.Oid {
	header, rows := pgfacts.Rows("pg_proc")
	at := map[string]int{}
	for i, h := range header {
		at[h] = i
	}
	m := map[string]oid.Oid{}
	for _, r := range rows {
		if n := r[at["proname"]]; m[n] == 0 {
			m[n] = oid.Oid(vint(r[at["oid"]]))
		}
	}
	return m
})

func vPgProc(_ context.Context, _ *vctx, add func(vrow) error) error {
	for _, f := range procs().all {
		if err := add(vrow{"oid": f.oid, "proname": f.name, "pronamespace": oidPgCatalog, "proowner": rootOID, "prolang": 12, "procost": 1.0,
			"prokind": f.kind, "proretset": f.set, "provolatile": "s", "proparallel": "s", "pronargs": len(f.args), "prorettype": f.ret,
			"proargtypes": f.args, "prosrc": f.name, "provariadic": 0}); err != nil {
			return err
		}
	}
	return nil
}
