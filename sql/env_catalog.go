package sql

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/lib/pq/oid"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// The part of evalEnv (env.go) that asks the catalog, and the settings.

// GetVar reads a session variable.
func (e *evalEnv) GetVar(_ context.Context, name string, missingOK bool) (string, bool, error) {
	v, ok := e.p.s.getVar(name)
	if !ok && !missingOK {
		return "", false, errUnknownVar(name)
	}
	return v, ok, nil
}

// SetVar sets a session variable.
func (e *evalEnv) SetVar(_ context.Context, name, value string, local bool) error {
	return e.p.s.setVar(name, value, local)
}

func (e *evalEnv) sequence(ctx context.Context, name string, priv ...catalog.Privilege) (*catalog.Table, error) {
	seq, err := e.p.resolveSequenceName(ctx, name)
	if err != nil {
		return nil, err
	}
	if seq.ID() < catalog.FirstUserID {
		return nil, errSystemCatalog(seq.Name())
	}
	return seq, e.p.checkTablePrivilege(ctx, seq, priv...)
}

// SequenceNextval takes the next number.
func (e *evalEnv) SequenceNextval(ctx context.Context, name string) (int64, error) {
	seq, err := e.sequence(ctx, name, catalog.Usage, catalog.Update)
	if err != nil {
		return 0, err
	}
	return e.p.nextval(ctx, seq)
}

// SequenceCurrval returns the session's last number of a sequence.
func (e *evalEnv) SequenceCurrval(ctx context.Context, name string) (int64, error) {
	seq, err := e.sequence(ctx, name, catalog.Usage, catalog.Select)
	if err != nil {
		return 0, err
	}
	return e.p.currval(seq)
}

// SequenceSetval sets the counter.
func (e *evalEnv) SequenceSetval(ctx context.Context, name string, value int64, isCalled bool) error {
	seq, err := e.sequence(ctx, name, catalog.Update)
	if err != nil {
		return err
	}
	return e.p.setval(ctx, seq, value, isCalled)
}

// SequenceLastval returns the session's last number of any sequence.
func (e *evalEnv) SequenceLastval(ctx context.Context) (int64, error) { return e.p.lastval(ctx) }

// SerialSequence returns the sequence owned by table.column.
func (e *evalEnv) SerialSequence(ctx context.Context, table, column string) (string, bool, error) {
	un, err := parseQualifiedName(table)
	if err != nil {
		return "", false, err
	}
	t, err := e.p.resolveTable(ctx, un)
	if err != nil {
		return "", false, err
	}
	c, err := t.MustColumn(column)
	if err != nil || len(c.PB.OwnsSequenceIds) == 0 {
		return "", false, err
	}
	seq, err := e.p.tableByID(ctx, c.PB.OwnsSequenceIds[0])
	if err != nil {
		return "", false, err
	}
	return quoteIdent(e.p.schemaNameOf(ctx, seq)) + "." + quoteIdent(seq.Name()), true, nil
}

// descs are all descriptors, for functions that go by OID.
func (e *evalEnv) descs(ctx context.Context) (*descSet, error) { return e.p.allDescs(ctx) }

// ResolveRegtype maps a name to an OID.
func (e *evalEnv) ResolveRegtype(ctx context.Context, typ oid.Oid, name string) (oid.Oid, error) {
	switch typ {
	case oid.T_regclass:
		return e.classOID(ctx, name)
	case oid.T_regtype:
		return e.typeOID(ctx, name)
	case oid.T_regnamespace:
		n := strings.Trim(name, `"`)
		if vs := virtualSchemas()[n]; vs != nil {
			return vs.oid, nil
		}
		ref, ok, err := e.p.resolver().FindSchema(ctx, "", n)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", n)
		}
		return oid.Oid(ref.ID), nil
	case oid.T_regproc, oid.T_regprocedure:
		return procOID(name)
	}
	// regrole has no name in the type library.
	n := strings.Trim(name, `"`)
	row, err := e.p.roleRow(ctx, n)
	if err != nil {
		return 0, err
	}
	if row == nil {
		return 0, pgerr.Newf(pgerr.UndefinedObject, "role \"%s\" does not exist", n)
	}
	return oid.Oid(row[3].(int64)), nil
}

func procOID(name string) (oid.Oid, error) {
	base, args, hasArgs := strings.Cut(name, "(")
	if i := strings.LastIndexByte(base, '.'); i >= 0 {
		base = base[i+1:]
	}
	base = strings.ToLower(strings.TrimSpace(base))
	ids := procs().byName[base]
	if len(ids) == 0 {
		if o := builtinProcOID(base); o != 0 {
			return o, nil
		}
		return 0, pgerr.Newf(pgerr.UndefinedFunction, "function \"%s\" does not exist", name)
	}
	if hasArgs {
		args = strings.TrimSuffix(strings.TrimSpace(args), ")")
		n := 0
		if strings.TrimSpace(args) != "" {
			n = strings.Count(args, ",") + 1
		}
		for _, i := range ids {
			if len(procs().all[i].args) == n {
				return procs().all[i].oid, nil
			}
		}
		return 0, pgerr.Newf(pgerr.UndefinedFunction, "function \"%s\" does not exist", name)
	}
	if len(ids) > 1 {
		// PostgreSQL refuses an ambiguous name; tools that ask mean the first.
		return procs().all[ids[0]].oid, nil
	}
	return procs().all[ids[0]].oid, nil
}

// classOID finds a relation or index by name.
func (e *evalEnv) classOID(ctx context.Context, name string) (oid.Oid, error) {
	un, err := parseQualifiedName(name)
	if err != nil {
		return 0, err
	}
	ref, err := e.p.resolver().FindTable(ctx, un, catalog.Flags{})
	if err != nil {
		return 0, err
	}
	if ref != nil {
		if ref.Table != nil {
			return oid.Oid(ref.Table.ID()), nil
		}
		return oid.Oid(e.p.srv.virtualTableByName(ref.Schema.Name, ref.Name).id), nil
	}
	in := &tree.TableIndexName{Index: tree.UnrestrictedName(un.Parts[0])}
	if un.NumParts > 1 {
		in.Table.ExplicitSchema, in.Table.SchemaName = true, tree.Name(un.Parts[1])
	}
	if t, x, err := e.p.findIndex(ctx, in); err == nil {
		return indexOID(t.ID(), x.ID), nil
	}
	return 0, pgerr.Newf(pgerr.UndefinedTable, "relation \"%s\" does not exist", strings.Join(catalog.NameParts(un), "."))
}

func (e *evalEnv) typeOID(ctx context.Context, name string) (oid.Oid, error) {
	bare := strings.TrimPrefix(strings.TrimSpace(name), "pg_catalog.")
	if o := typeOIDByName(strings.Trim(bare, `"`)); o != 0 {
		return o, nil
	}
	header, rows := typeFactRows()
	for _, r := range rows {
		if strings.EqualFold(r[header["typname"]], strings.Trim(bare, `"`)) {
			return oid.Oid(vint(r[header["oid"]])), nil
		}
	}
	if t, err := e.ParseType(bare); err == nil {
		if resolved, err := e.p.columnType(ctx, t); err == nil {
			set, err := e.p.enumSet(ctx, catalog.UserTypeOIDs(resolved))
			if err != nil {
				return 0, err
			}
			return catalog.PGOid(resolved, set), nil
		}
	}
	return 0, pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", name)
}

// RegtypeName is the reverse of ResolveRegtype.
func (e *evalEnv) RegtypeName(ctx context.Context, typ, id oid.Oid) (string, bool, error) {
	switch typ {
	case oid.T_regclass:
		d, err := e.descs(ctx)
		if err != nil {
			return "", false, err
		}
		schema, name := "", ""
		if t := d.tableByID[catalog.ID(id)]; t != nil {
			schema, name = d.schemaOf(t), t.Name()
		} else if t, x := d.indexByOID(id); x != nil {
			schema, name = d.schemaOf(t), x.Name
		} else if vs, vt := virtualByOID(id); vt != nil {
			schema, name = vs.name, vt.name
		} else {
			return "", false, nil
		}
		path, err := e.SearchPath(ctx, true)
		if err != nil {
			return "", false, err
		}
		for _, s := range path {
			if s == schema {
				return quoteIdent(name), true, nil
			}
		}
		return quoteIdent(schema) + "." + quoteIdent(name), true, nil
	case oid.T_regtype:
		if t, name, ok, err := e.TypeByOID(ctx, id); ok || err != nil {
			_ = t
			return name, ok, err
		}
		if t, ok := types.OidToType[id]; ok {
			return catalog.PGTypeName(t, nil), true, nil
		}
		header, rows := typeFactRows()
		for _, r := range rows {
			if vint(r[header["oid"]]) == int64(id) {
				return r[header["typname"]], true, nil
			}
		}
		return "", false, nil
	case oid.T_regnamespace:
		for n, vs := range virtualSchemas() {
			if vs.oid == id {
				return n, true, nil
			}
		}
		d, err := e.descs(ctx)
		if err != nil {
			return "", false, err
		}
		if s := d.schemas[catalog.ID(id)]; s != nil {
			return quoteIdent(s.Name()), true, nil
		}
		return "", false, nil
	case oid.T_regproc, oid.T_regprocedure:
		if i, ok := procs().byOID[id]; ok {
			f := procs().all[i]
			if typ == oid.T_regproc {
				return f.name, true, nil
			}
			args := make([]string, len(f.args))
			for j, a := range f.args {
				args[j] = typeNameByOID(a)
			}
			return f.name + "(" + strings.Join(args, ",") + ")", true, nil
		}
		return "", false, nil
	}
	return e.UserByID(ctx, id)
}

func typeFactRows() (map[string]int, [][]string) {
	h, rows := factsOf("pg_type")
	return h, rows
}

func virtualByOID(id oid.Oid) (*virtualSchema, *virtualTable) {
	for _, vs := range virtualSchemas() {
		for _, t := range vs.order {
			if oid.Oid(t.id) == id {
				return vs, t
			}
		}
	}
	return nil, nil
}

// indexByOID finds an index.
func (s *descSet) indexByOID(id oid.Oid) (*catalog.Table, *catalog.Index) {
	if t := s.tableByID[catalog.ID(id&0x3fffffff)>>10]; t != nil {
		for _, x := range t.PublicIndexes() {
			if indexOID(t.ID(), x.ID) == id {
				return t, x
			}
		}
	}
	for _, t := range s.tables {
		for _, x := range t.PublicIndexes() {
			if indexOID(t.ID(), x.ID) == id {
				return t, x
			}
		}
	}
	return nil, nil
}

// TypeByOID finds enums and their arrays.
func (e *evalEnv) TypeByOID(ctx context.Context, id oid.Oid) (*types.T, string, bool, error) {
	tid, ok := catalog.TypeIDFromOID(id)
	if !ok {
		return nil, "", false, nil
	}
	t, err := e.p.cat.TypeByID(ctx, tid)
	if err != nil || t == nil {
		return nil, "", false, err
	}
	typ, err := e.p.cat.TypeOf(t)
	if err != nil {
		return nil, "", false, err
	}
	set, err := e.p.enumSet(ctx, catalog.UserTypeOIDs(typ))
	if err != nil {
		return nil, "", false, err
	}
	return typ, catalog.PGTypeName(typ, set), true, nil
}

// ConstraintDef is pg_get_constraintdef.
func (e *evalEnv) ConstraintDef(ctx context.Context, id oid.Oid) (string, bool, error) {
	d, err := e.descs(ctx)
	if err != nil {
		return "", false, err
	}
	for _, t := range d.tables {
		if t.IsSequence() || t.IsView() {
			continue
		}
		for _, x := range t.PublicIndexes() {
			if x.Unique && constraintOID(t.ID(), x.PB.ConstraintId, x.Name) == id {
				return uniqueDef(t, x), true, nil
			}
		}
		for _, c := range t.Checks() {
			if constraintOID(t.ID(), c.ConstraintId, c.Name) == id {
				return d.checkDef(c), true, nil
			}
		}
		for _, fk := range t.OutboundFKs() {
			if fkOID(fk) == id {
				return d.fkDef(t, fk, false), true, nil
			}
		}
	}
	return "", false, nil
}

// IndexDef is pg_get_indexdef.
func (e *evalEnv) IndexDef(ctx context.Context, id oid.Oid, column int) (string, bool, error) {
	d, err := e.descs(ctx)
	if err != nil {
		return "", false, err
	}
	t, x := d.indexByOID(id)
	if x == nil {
		return "", false, nil
	}
	if column == 0 {
		return d.indexDef(t, x), true, nil
	}
	cols := append(x.KeyColumns[:len(x.KeyColumns):len(x.KeyColumns)], storedOf(x)...)
	if column > len(cols) || column < 0 {
		return "", true, nil
	}
	if c := cols[column-1]; c.Inaccessible {
		return pgCondition(c.ComputeExpr, d.enums), true, nil
	}
	return quoteIdent(cols[column-1].Name), true, nil
}

// ViewDef is pg_get_viewdef.
func (e *evalEnv) ViewDef(ctx context.Context, id oid.Oid) (string, bool, error) {
	t, err := e.p.cat.TableByID(ctx, catalog.ID(id), catalog.Flags{})
	if err != nil || t == nil || !t.IsView() {
		return "", false, err
	}
	return viewText(t), true, nil
}

// FunctionDef is pg_get_functiondef: there are no functions of users, and those
// there are have no other text than their name.
func (e *evalEnv) FunctionDef(ctx context.Context, id oid.Oid) (string, bool, error) {
	args, result, ok, err := e.FunctionSignature(ctx, id)
	if !ok || err != nil {
		return "", false, err
	}
	name := procs().all[procs().byOID[id]].name
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION pg_catalog.%[1]s(%[2]s)\n RETURNS %[3]s\n LANGUAGE internal\nAS $function$%[4]s$function$\n",
		quoteIdent(name), args, result, name), true, nil
}

// FunctionSignature names the types of a function.
func (e *evalEnv) FunctionSignature(_ context.Context, id oid.Oid) (args, result string, ok bool, _ error) {
	i, ok := procs().byOID[id]
	if !ok {
		return "", "", false, nil
	}
	f := procs().all[i]
	names := make([]string, len(f.args))
	for j, a := range f.args {
		names[j] = typeNameByOID(a)
	}
	if result = typeNameByOID(f.ret); f.set {
		result = "SETOF " + result
	}
	return strings.Join(names, ", "), result, true, nil
}

// typeNameByOID is the name of a built-in type.
func typeNameByOID(o oid.Oid) string {
	switch o {
	case oid.T_anyelement:
		return "anyelement"
	case oid.T_bpchar:
		return "character"
	}
	if t, ok := types.OidToType[o]; ok {
		return catalog.PGTypeName(t, nil)
	}
	header, rows := typeFactRows()
	for _, r := range rows {
		if vint(r[header["oid"]]) == int64(o) {
			return r[header["typname"]]
		}
	}
	return strconv.Itoa(int(o))
}

// UserByID is pg_get_userbyid.
func (e *evalEnv) UserByID(ctx context.Context, id oid.Oid) (string, bool, error) {
	switch id {
	case nodeOID:
		return catalog.NodeUser, true, nil
	case publicOID:
		return catalog.PublicRole, true, nil
	}
	found := ""
	err := e.p.scanSystem(ctx, systables.Users, func(row systables.Row) error {
		if n, _ := row[3].(int64); n == int64(id) {
			found = row[0].(string)
		}
		return nil
	})
	return found, found != "", err
}

// Visible says whether an object is found without its schema.
func (e *evalEnv) Visible(ctx context.Context, kind string, id oid.Oid) (visible, ok bool, _ error) {
	switch kind {
	case "table", "class":
		d, err := e.descs(ctx)
		if err != nil {
			return false, false, err
		}
		schema, name, db := "", "", catalog.ID(0)
		if t := d.tableByID[catalog.ID(id)]; t != nil {
			schema, name, db = d.schemaOf(t), t.Name(), t.ParentID()
		} else if t, x := d.indexByOID(id); x != nil {
			schema, db = d.schemaOf(t), t.ParentID()
		} else if vs, _ := virtualByOID(id); vs != nil {
			schema = vs.name
		} else {
			return false, false, nil
		}
		if cur := d.dbByName[e.p.s.data.Database]; db != 0 && (cur == nil || cur.ID() != db) {
			return false, true, nil
		}
		path, err := e.SearchPath(ctx, true)
		if err != nil {
			return false, false, err
		}
		for _, s := range path {
			if s == schema {
				return true, true, nil
			}
			// An earlier schema hides it.
			if name != "" && e.hides(d, db, s, name) {
				return false, true, nil
			}
		}
		return false, true, nil
	case "type":
		if id <= catalog.UserTypeOIDBase {
			return true, true, nil
		}
		tid, _ := catalog.TypeIDFromOID(id)
		t, err := e.p.cat.TypeByID(ctx, tid)
		if err != nil || t == nil {
			return false, false, err
		}
		schema, err := e.p.schemaName(ctx, t.ParentSchemaID())
		if err != nil {
			return false, false, err
		}
		path, err := e.SearchPath(ctx, true)
		for _, s := range path {
			if s == schema {
				return true, true, err
			}
		}
		return false, true, err
	}
	return true, true, nil
}

func (e *evalEnv) hides(d *descSet, db catalog.ID, schema, name string) bool {
	if e.p.srv.virtualTableByName(schema, name) != nil {
		return true
	}
	for _, t := range d.tables {
		if t.ParentID() == db && t.Name() == name && d.schemaOf(t) == schema {
			return true
		}
	}
	return false
}

// Comment returns COMMENT ON text.
func (e *evalEnv) Comment(ctx context.Context, class string, id oid.Oid, column int) (string, bool, error) {
	d, err := e.descs(ctx)
	if err != nil {
		return "", false, err
	}
	try := func(typ, object, sub int64) (string, bool) {
		s, ok := d.comments[commentKey{typ, object, sub}]
		return s, ok
	}
	is := func(c string) bool { return class == "" || class == c }
	if is("pg_class") {
		if column > 0 {
			if t := d.tableByID[catalog.ID(id)]; t != nil {
				for _, c := range t.Columns() {
					if int(c.PGAttributeNum()) == column {
						s, ok := try(commentColumn, int64(id), int64(c.ID))
						return s, ok, nil
					}
				}
			}
			return "", false, nil
		}
		if s, ok := try(commentTable, int64(id), 0); ok {
			return s, true, nil
		}
		if id&oidIndexBase != 0 {
			if t, x := d.indexByOID(id); x != nil {
				s, ok := try(commentIndex, int64(t.ID()), int64(x.ID))
				return s, ok, nil
			}
		}
	}
	if is("pg_database") {
		if s, ok := try(commentDatabase, int64(id), 0); ok {
			return s, true, nil
		}
	}
	if is("pg_namespace") {
		if s, ok := try(commentSchema, int64(id), 0); ok {
			return s, true, nil
		}
	}
	if is("pg_type") && id > catalog.UserTypeOIDBase {
		if s, ok := try(commentType, int64(id)-catalog.UserTypeOIDBase, 0); ok {
			return s, true, nil
		}
	}
	if is("pg_constraint") {
		for k, s := range d.comments {
			if k.typ == commentConstraint && constraintOID(catalog.ID(k.object), uint32(k.sub), "") == id {
				return s, true, nil
			}
		}
	}
	return "", false, nil
}

// RelationSize returns the approximate bytes of a relation.
func (e *evalEnv) RelationSize(ctx context.Context, id oid.Oid, total bool) (int64, bool, error) {
	d, err := e.descs(ctx)
	if err != nil {
		return 0, false, err
	}
	if t := d.tableByID[catalog.ID(id)]; t != nil {
		if !t.HasData() {
			return 0, true, nil
		}
		span := t.PrimaryIndex().Span()
		if total {
			span = t.Span()
		}
		n, err := e.p.spanBytes(ctx, span)
		return n, true, err
	}
	if _, x := d.indexByOID(id); x != nil {
		n, err := e.p.spanBytes(ctx, x.Span())
		return n, true, err
	}
	if _, vt := virtualByOID(id); vt != nil {
		return 0, true, nil
	}
	return 0, false, nil
}

// DatabaseSize returns the approximate bytes of a database's tables.
func (e *evalEnv) DatabaseSize(ctx context.Context, name string) (int64, error) {
	d, err := e.descs(ctx)
	if err != nil {
		return 0, err
	}
	db := d.dbByName[name]
	if db == nil {
		if n, convErr := strconv.ParseUint(name, 10, 32); convErr == nil {
			db = d.dbByID[catalog.ID(n)]
		}
	}
	if db == nil {
		return 0, pgerr.Newf(pgerr.InvalidCatalogName, "database \"%s\" does not exist", name)
	}
	var sum int64
	for _, t := range d.inDB(db) {
		if t.HasData() {
			n, err := e.p.spanBytes(ctx, t.Span())
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// HasPrivilege answers has_*_privilege.
func (e *evalEnv) HasPrivilege(ctx context.Context, user, kind, object, _, privilege string) (has, ok bool, _ error) {
	if user == "" {
		user = e.p.s.data.User
	}
	roles, err := e.p.rolesOf(ctx, user)
	if err != nil {
		return false, false, err
	}
	privs, virtual, found, err := e.privilegesOf(ctx, kind, object)
	if err != nil || !found {
		return false, false, err
	}
	for _, item := range strings.Split(privilege, ",") {
		name := strings.ToUpper(strings.TrimSpace(item))
		name, grantable := strings.CutSuffix(name, " WITH GRANT OPTION")
		p, known := catalog.PrivilegeByName(name)
		switch {
		case !known && (name == "MAINTAIN" || name == "SET" || name == "MEMBER" || name == "RULE"):
			continue
		case !known:
			return false, false, pgerr.Newf(pgerr.InvalidParameterValue, "unrecognized privilege type: \"%s\"", strings.TrimSpace(item))
		}
		if virtual {
			if p == catalog.Select || p == catalog.Usage || p == catalog.Execute {
				return true, true, nil
			}
			continue
		}
		if !catalog.HasPrivilege(privs, roles, p) {
			continue
		}
		if !grantable || roles[catalog.AdminRole] || roles[privs.GetOwner()] {
			return true, true, nil
		}
		for _, u := range privs.GetUsers() {
			if roles[u.User] && u.WithGrantOption&(p.Mask()|catalog.All.Mask()) != 0 {
				return true, true, nil
			}
		}
	}
	return false, true, nil
}

// privilegesOf finds the privileges of an object given by name or OID.
func (e *evalEnv) privilegesOf(ctx context.Context, kind, object string) (_ *catalogpb.PrivilegeDescriptor, virtual, found bool, _ error) {
	d, err := e.descs(ctx)
	if err != nil {
		return nil, false, false, err
	}
	num, numErr := strconv.ParseUint(object, 10, 32)
	byOID := numErr == nil
	switch kind {
	case "table", "column", "sequence", "any_column":
		if byOID {
			if t := d.tableByID[catalog.ID(num)]; t != nil {
				return t.Privileges(), false, true, nil
			}
			_, vt := virtualByOID(oid.Oid(num))
			return nil, true, vt != nil, nil
		}
		un, err := parseQualifiedName(object)
		if err != nil {
			return nil, false, false, err
		}
		ref, err := e.p.resolver().Table(ctx, un, catalog.Flags{})
		if err != nil {
			return nil, false, false, err
		}
		if ref.Table == nil {
			return nil, true, true, nil
		}
		return ref.Table.Privileges(), false, true, nil
	case "schema":
		for n, vs := range virtualSchemas() {
			if n == object || byOID && vs.oid == oid.Oid(num) {
				return nil, true, true, nil
			}
		}
		if byOID {
			if s := d.schemas[catalog.ID(num)]; s != nil {
				return s.Privileges(), false, true, nil
			}
			return nil, false, false, nil
		}
		ref, ok, err := e.p.resolver().FindSchema(ctx, "", strings.Trim(object, `"`))
		if err != nil {
			return nil, false, false, err
		}
		if !ok {
			return nil, false, false, pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", object)
		}
		if ref.Desc == nil {
			return nil, true, true, nil
		}
		return ref.Desc.Privileges(), false, true, nil
	case "database":
		if byOID {
			if db := d.dbByID[catalog.ID(num)]; db != nil {
				return db.Privileges(), false, true, nil
			}
			return nil, false, false, nil
		}
		db := d.dbByName[strings.Trim(object, `"`)]
		if db == nil {
			return nil, false, false, pgerr.Newf(pgerr.InvalidCatalogName, "database \"%s\" does not exist", object)
		}
		return db.Privileges(), false, true, nil
	}
	return nil, true, true, nil // types, functions, languages, tablespaces: everyone's
}

// HasRole answers pg_has_role.
func (e *evalEnv) HasRole(ctx context.Context, user, role, _ string) (bool, error) {
	if user == "" {
		user = e.p.s.data.User
	}
	if n, err := strconv.ParseUint(role, 10, 32); err == nil {
		name, ok, err := e.UserByID(ctx, oid.Oid(n))
		if err != nil || !ok {
			return false, err
		}
		role = name
	}
	roles, err := e.p.rolesOf(ctx, user)
	return roles[role] || roles[catalog.AdminRole], err
}

// EnumValue returns the value of an enum with a label.
func (e *evalEnv) EnumValue(ctx context.Context, id oid.Oid, label string) (tree.Datum, error) {
	en, err := e.p.cat.EnumByOID(ctx, id)
	if err != nil {
		return nil, err
	}
	if en == nil {
		return nil, pgerr.Newf(pgerr.UndefinedObject, "type with OID %d does not exist", id)
	}
	return en.FromLabel(label)
}

// EnumValues lists the values of an enum in order.
func (e *evalEnv) EnumValues(ctx context.Context, id oid.Oid) ([]tree.Datum, bool, error) {
	en, err := e.p.cat.EnumByOID(ctx, id)
	if err != nil || en == nil {
		return nil, false, err
	}
	var out []tree.Datum
	for _, v := range en.Values() {
		out = append(out, v)
	}
	return out, true, nil
}

// CancelBackend stops the running statement of another session, or the session.
func (e *evalEnv) CancelBackend(ctx context.Context, pid int32, terminate bool) (bool, error) {
	all, err := e.p.isAdmin(ctx)
	if err != nil {
		return false, err
	}
	req := StopRequest{SessionID: uint64(pid), Terminate: terminate, User: e.p.s.data.User, MayAll: all}
	node := NodeOfSession(req.SessionID)
	var found bool
	if node == e.p.srv.cfg.NodeID {
		found, err = e.p.srv.StopSession(req)
	} else {
		found, err = e.p.stop(ctx, node, req)
	}
	switch {
	case pgerr.GetCode(err) == pgerr.InsufficientPrivilege:
		return false, pgerr.New(pgerr.InsufficientPrivilege, "must be a member of the role whose query is being canceled or member of pg_signal_backend")
	case err != nil:
		e.p.warn("01000", "%s", err)
		return false, nil
	case !found:
		e.p.warn("01000", "PID %d is not a PostgreSQL backend process", pid)
	}
	return found, nil
}

// PBToJSON renders a stored message.
func (e *evalEnv) PBToJSON(_ context.Context, message string, data []byte) (string, error) {
	return pbToJSON(message, data)
}

func (p *planner) checkSelect(ctx context.Context, desc *catalog.Table, user string) error {
	return p.checkTablePrivilegeOf(ctx, user, desc, catalog.Select)
}

// discardState is DISCARD SEQUENCES and DISCARD TEMP.
func (p *planner) discardState(ctx context.Context, mode string) error {
	if mode == "SEQUENCES" || mode == "ALL" {
		p.s.seq = sequenceSession{}
	}
	if mode == "TEMP" || mode == "ALL" {
		p.s.dropTemporary(ctx)
	}
	return nil
}

// sequenceRows are the rows of SELECT … FROM a sequence.
func (p *planner) sequenceRows(desc *catalog.Table) *rowSource {
	return &rowSource{
		columns: []ResultColumn{
			MakeResultColumn("last_value", types.Int), MakeResultColumn("log_cnt", types.Int), MakeResultColumn("is_called", types.Bool),
		},
		run: func(ctx context.Context, p *planner, addRow func(...tree.Datum) error) error {
			v, called, err := p.sequenceRow(ctx, desc)
			if err != nil {
				return err
			}
			return addRow(tree.NewDInt(tree.DInt(v)), tree.NewDInt(0), tree.MakeDBool(tree.DBool(called)))
		},
	}
}
