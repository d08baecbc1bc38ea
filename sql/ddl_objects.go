package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// createDatabase runs CREATE DATABASE.
func (p *planner) createDatabase(ctx context.Context, n *parser.CreateDatabase) error {
	name := string(n.Name)
	if err := checkIdentifier(name); err != nil {
		return err
	}
	if ok, err := p.hasSystemPrivilege(ctx, p.user(), "CREATEDB"); err != nil {
		return err
	} else if !ok {
		return pgerr.New(pgerr.InsufficientPrivilege, "permission denied to create database")
	}
	if n.Encoding != "" && !slices.Contains([]string{"UTF8", "UTF-8", "UNICODE", "6"}, strings.ToUpper(n.Encoding)) {
		return pgerr.Newf(pgerr.FeatureNotSupported, "unsupported encoding: %s", n.Encoding)
	}
	if n.PrimaryRegion == "" && len(n.Regions) > 0 {
		return pgerr.New(pgerr.InvalidObjectDefinition, "PRIMARY REGION must be specified if REGIONS are specified")
	}
	if n.PrimaryRegion != "" {
		return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: multi-region databases")
	}
	if n.SurvivalGoal != "" {
		return pgerr.New(pgerr.InvalidObjectDefinition, "PRIMARY REGION must be specified when using SURVIVE")
	}
	if old, err := p.cat.Database(ctx, name); err != nil {
		return err
	} else if old != nil {
		if n.IfNotExists {
			p.notice("database \"%s\" already exists, skipping", name)
			return nil
		}
		return pgerr.Newf(pgerr.DuplicateDatabase, "database \"%s\" already exists", name)
	}
	owner := p.s.data.User
	if n.Owner != "" {
		owner = p.currentRole(n.Owner)
		if err := p.checkNewOwner(ctx, owner); err != nil {
			return err
		}
	}
	id, err := catalog.AllocateIDRange(ctx, p.srv.db, 2)
	if err != nil {
		return err
	}
	db, public := catalog.NewDatabaseDescriptors(name, id, id+1, owner)
	p.schemaChanged()
	if _, err := p.cat.Create(ctx, db); err != nil {
		return err
	}
	_, err = p.cat.Create(ctx, public)
	return err
}

// checkNewOwner requires that the role exists and that the user belongs to it.
func (p *planner) checkNewOwner(ctx context.Context, owner string) error {
	if _, err := p.mustRole(ctx, owner); err != nil {
		return err
	}
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	if !roles[catalog.AdminRole] && !roles[owner] {
		return pgerr.Newf(pgerr.InsufficientPrivilege, "must be member of role %q", owner)
	}
	return nil
}

// createSchema runs CREATE SCHEMA.
func (p *planner) createSchema(ctx context.Context, n *parser.CreateSchema) error {
	owner := p.s.data.User
	if n.AuthRole != "" {
		owner = p.currentRole(n.AuthRole)
		if err := p.checkNewOwner(ctx, owner); err != nil {
			return err
		}
	}
	name := string(n.Name.Schema)
	if name == "" {
		name = owner
	}
	if err := checkIdentifier(name); err != nil {
		return err
	}
	dbName := p.s.data.Database
	if n.Name.Database != "" {
		dbName = string(n.Name.Database)
	}
	if dbName == "" {
		return pgerr.New(pgerr.InvalidCatalogName, "no database specified")
	}
	db, err := p.cat.MustDatabase(ctx, dbName)
	if err != nil {
		return err
	}
	if db.ID() == catalog.SystemDatabaseID {
		return pgerr.New(pgerr.InsufficientPrivilege, "cannot create schema in the system database")
	}
	if err := p.checkPrivilege(ctx, db.Privileges(), catalog.Create, "database", db.Name()); err != nil {
		return err
	}
	if _, ok, err := p.cat.Schema(ctx, db, name); err != nil {
		return err
	} else if ok {
		if n.IfNotExists {
			p.notice("schema \"%s\" already exists, skipping", name)
			return nil
		}
		return pgerr.Newf(pgerr.DuplicateSchema, "schema \"%s\" already exists", name)
	}
	if strings.HasPrefix(name, "pg_") {
		return pgerr.Newf("42939", "unacceptable schema name \"%s\"", name).WithDetail("The prefix \"pg_\" is reserved for system schemas.")
	}
	id, err := p.newDescID(ctx)
	if err != nil {
		return err
	}
	privs := p.defaultPrivilegesFor(db, catalog.SchemaRef{}, catalog.SchemaObject)
	privs.Owner = owner
	p.schemaChanged()
	if _, err := p.cat.Create(ctx, &catalogpb.SchemaDescriptor{Id: id, ParentId: db.ID(), Name: name, Version: 1, Privileges: privs}); err != nil {
		return err
	}
	pb, err := p.cat.MutableDatabase(ctx, db.ID())
	if err != nil {
		return err
	}
	if pb.Schemas == nil {
		pb.Schemas = map[string]*catalogpb.DatabaseDescriptor_SchemaInfo{}
	}
	pb.Schemas[name] = &catalogpb.DatabaseDescriptor_SchemaInfo{Id: id}
	_, err = p.cat.Write(ctx, pb)
	return err
}

// createType runs CREATE TYPE … AS ENUM. Its array type comes with it.
func (p *planner) createType(ctx context.Context, n *parser.CreateType) error {
	db, schema, err := p.targetSchema(ctx, n.Name, false)
	if err != nil {
		return err
	}
	name := n.Name.Parts[0]
	if err := checkIdentifier(name); err != nil {
		return err
	}
	d, err := p.cat.ObjectByName(ctx, db.ID(), schema.ID, name)
	if err != nil {
		return err
	}
	if d != nil {
		if n.IfNotExists && d.Kind() == catalog.TypeKind {
			p.notice("type \"%s\" already exists, skipping", name)
			return nil
		}
		return pgerr.Newf(pgerr.DuplicateObject, "type \"%s\" already exists", name)
	}
	seen := map[string]bool{}
	for _, l := range n.Labels {
		if len(l) > maxIdentifierBytes {
			return pgerr.Newf("42602", "invalid enum label \"%s\"", l).WithDetail("Labels must be %d bytes or less.", maxIdentifierBytes)
		}
		if seen[l] {
			return pgerr.Newf(pgerr.UniqueViolation, "duplicate key value violates unique constraint \"pg_enum_typid_label_index\"").
				WithDetail("The label \"%s\" occurs twice.", l)
		}
		seen[l] = true
	}
	id, err := catalog.AllocateIDRange(ctx, p.srv.db, 2)
	if err != nil {
		return err
	}
	arrayName := "_" + name
	for {
		taken, err := p.cat.ObjectByName(ctx, db.ID(), schema.ID, arrayName)
		if err != nil {
			return err
		}
		if taken == nil {
			break
		}
		arrayName = "_" + arrayName
	}
	alias, err := catalog.MarshalType(catalog.ArrayOf(catalog.EnumType(catalog.OIDFromTypeID(id))))
	if err != nil {
		return err
	}
	privs := func() *catalogpb.PrivilegeDescriptor {
		pd := p.defaultPrivilegesFor(db, schema, catalog.TypeObject)
		catalog.GrantPrivileges(pd, catalog.PublicRole, catalog.Usage.Mask(), false)
		return pd
	}
	p.schemaChanged()
	if _, err := p.cat.Create(ctx, &catalogpb.TypeDescriptor{
		Id: id, ParentId: db.ID(), ParentSchemaId: schema.ID, Name: name, Kind: catalogpb.TypeDescriptor_ENUM, Version: 1,
		EnumMembers: catalog.NewEnumMembers(n.Labels), ArrayTypeId: id + 1, Privileges: privs(),
	}); err != nil {
		return err
	}
	_, err = p.cat.Create(ctx, &catalogpb.TypeDescriptor{
		Id: id + 1, ParentId: db.ID(), ParentSchemaId: schema.ID, Name: arrayName, Kind: catalogpb.TypeDescriptor_ALIAS, Version: 1,
		Alias: alias, Privileges: privs(),
	})
	return err
}

// mustType finds a user-defined type.
func (p *planner) mustType(ctx context.Context, name *tree.UnresolvedObjectName) (*catalog.Type, error) {
	t, _, err := p.resolver().FindType(ctx, name)
	if err != nil {
		return nil, err
	}
	if t == nil {
		if _, builtin := types.OidToType[typeOIDByName(name.Parts[0])]; builtin {
			return nil, pgerr.Newf(pgerr.InsufficientPrivilege, "must be owner of type %s", name.Parts[0])
		}
		return nil, pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", strings.Join(catalog.NameParts(name), "."))
	}
	return t, nil
}

// alterType runs ALTER TYPE.
func (p *planner) alterType(ctx context.Context, n *parser.AlterType) error {
	t, err := p.mustType(ctx, n.Name)
	if err != nil {
		return err
	}
	if err := p.requireOwner(ctx, t.Privileges(), "type", t.Name()); err != nil {
		return err
	}
	pb, err := p.cat.MutableType(ctx, t.ID())
	if err != nil {
		return err
	}
	p.schemaChanged()
	find := func(label string) int {
		return slices.IndexFunc(pb.EnumMembers, func(m *catalogpb.TypeDescriptor_EnumMember) bool { return m.LogicalRepresentation == label })
	}
	notLabel := func(label string) error {
		return pgerr.Newf(pgerr.InvalidParameterValue, "\"%s\" is not an existing enum label", label)
	}
	switch {
	case n.HasAddValue:
		if !t.IsEnum() {
			return pgerr.Newf(pgerr.WrongObjectType, "%s is not an enum", t.Name())
		}
		if find(n.AddValue) >= 0 {
			if n.IfNotExists {
				p.notice("enum label \"%s\" already exists, skipping", n.AddValue)
				return nil
			}
			return pgerr.Newf(pgerr.DuplicateObject, "enum label \"%s\" already exists", n.AddValue)
		}
		at := len(pb.EnumMembers)
		if n.HasPlace {
			ref := n.After
			if n.PlaceBefore {
				ref = n.Before
			}
			if at = find(ref); at < 0 {
				return notLabel(ref)
			}
			if !n.PlaceBefore {
				at++
			}
		}
		var lo, hi []byte
		if at > 0 {
			lo = pb.EnumMembers[at-1].PhysicalRepresentation
		}
		if at < len(pb.EnumMembers) {
			hi = pb.EnumMembers[at].PhysicalRepresentation
		}
		pb.EnumMembers = slices.Insert(pb.EnumMembers, at, &catalogpb.TypeDescriptor_EnumMember{
			LogicalRepresentation: n.AddValue, PhysicalRepresentation: catalog.EnumPhysicalBetween(lo, hi)})
	case n.HasRenameValue:
		i := find(n.RenameValue)
		if i < 0 {
			return notLabel(n.RenameValue)
		}
		if find(n.RenameValueTo) >= 0 {
			return pgerr.Newf(pgerr.DuplicateObject, "enum label \"%s\" already exists", n.RenameValueTo)
		}
		if err := p.refuseNamedLabel(ctx, t, n.RenameValue); err != nil {
			return err
		}
		pb.EnumMembers[i].LogicalRepresentation = n.RenameValueTo
	case n.HasDropValue:
		return pgerr.New(pgerr.FeatureNotSupported, "dropping an enum value is not implemented")
	case n.NewName != "":
		return p.renameType(ctx, pb, string(n.NewName))
	case n.Schema != "":
		return p.moveType(ctx, t, string(n.Schema))
	case n.Owner != "":
		owner := p.currentRole(n.Owner)
		if err := p.checkNewOwner(ctx, owner); err != nil {
			return err
		}
		pb.Privileges.Owner = owner
	}
	_, err = p.cat.Write(ctx, pb)
	return err
}

func (p *planner) renameType(ctx context.Context, pb *catalogpb.TypeDescriptor, to string) error {
	if d, err := p.cat.ObjectByName(ctx, pb.ParentId, pb.ParentSchemaId, to); err != nil {
		return err
	} else if d != nil {
		return pgerr.Newf(pgerr.DuplicateObject, "type \"%s\" already exists", to)
	}
	if err := p.cat.RemoveName(ctx, pb.ParentId, pb.ParentSchemaId, pb.Name); err != nil {
		return err
	}
	pb.Name = to
	if err := p.cat.SetName(ctx, pb.ParentId, pb.ParentSchemaId, to, pb.Id); err != nil {
		return err
	}
	_, err := p.cat.Write(ctx, pb)
	return err
}

func (p *planner) moveType(ctx context.Context, t *catalog.Type, schema string) error {
	db, err := p.cat.DatabaseByID(ctx, t.ParentID())
	if err != nil {
		return err
	}
	ref, ok, err := p.cat.Schema(ctx, db, schema)
	if err != nil {
		return err
	}
	if !ok || ref.Virtual {
		return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", schema)
	}
	for _, id := range []catalog.ID{t.ID(), t.Proto().ArrayTypeId} {
		if id == 0 {
			continue
		}
		pb, err := p.cat.MutableType(ctx, id)
		if err != nil {
			return err
		}
		if d, err := p.cat.ObjectByName(ctx, pb.ParentId, ref.ID, pb.Name); err != nil {
			return err
		} else if d != nil {
			return pgerr.Newf(pgerr.DuplicateObject, "type \"%s\" already exists in schema \"%s\"", pb.Name, schema)
		}
		if err := p.cat.RemoveName(ctx, pb.ParentId, pb.ParentSchemaId, pb.Name); err != nil {
			return err
		}
		pb.ParentSchemaId = ref.ID
		if err := p.cat.SetName(ctx, pb.ParentId, ref.ID, pb.Name, pb.Id); err != nil {
			return err
		}
		if _, err := p.cat.Write(ctx, pb); err != nil {
			return err
		}
	}
	return nil
}

// dropTypes runs DROP TYPE.
func (p *planner) dropTypes(ctx context.Context, n *parser.DropType) error {
	for _, name := range n.Names {
		t, _, err := p.resolver().FindType(ctx, name)
		if err != nil {
			return err
		}
		if t == nil {
			if n.IfExists {
				p.notice("type \"%s\" does not exist, skipping", strings.Join(catalog.NameParts(name), "."))
				continue
			}
			return pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", strings.Join(catalog.NameParts(name), "."))
		}
		if err := p.requireOwner(ctx, t.Privileges(), "type", t.Name()); err != nil {
			return err
		}
		if !t.IsEnum() {
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop type %s because its element type requires it", t.Name())
		}
		if err := p.dropType(ctx, t, n.DropBehavior); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) dropType(ctx context.Context, t *catalog.Type, behavior tree.DropBehavior) error {
	for _, id := range t.Proto().ReferencingDescriptorIds {
		tbl, err := p.cat.TableByID(ctx, id, catalog.Flags{})
		if err != nil {
			return err
		}
		if tbl == nil {
			continue
		}
		for _, c := range tbl.Columns() {
			uses := false
			for _, o := range catalog.UserTypeOIDs(c.Type) {
				uses = uses || o == catalog.OIDFromTypeID(t.ID())
			}
			if !uses {
				continue
			}
			if behavior != tree.DropCascade {
				return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop type %s because other objects depend on it", t.Name()).
					WithDetail("column %s of table %s depends on type %s", c.Name, tbl.Name(), t.Name()).
					WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
			}
			p.notice("drop cascades to column %s of table %s", c.Name, tbl.Name())
			if err := p.exec(ctx, "ALTER TABLE "+p.mustQualify(ctx, tbl)+" DROP COLUMN "+quoteIdent(c.Name)+" CASCADE"); err != nil {
				return err
			}
		}
	}
	if err := p.deleteComments(ctx, commentType, t.ID(), 0); err != nil {
		return err
	}
	if id := t.Proto().ArrayTypeId; id != 0 {
		arr, err := p.cat.TypeByID(ctx, id)
		if err != nil {
			return err
		}
		if arr != nil {
			if err := p.removeObject(ctx, arr); err != nil {
				return err
			}
		}
	}
	return p.removeObject(ctx, t)
}

// mustQualify is qualifiedName for a relation that was just found.
func (p *planner) mustQualify(ctx context.Context, t *catalog.Table) string {
	n, err := p.qualifiedName(ctx, t)
	if err != nil {
		return quoteIdent(t.Name())
	}
	return n
}

// renameRelation gives a table, view or sequence a new name. Defaults that call a
// renamed sequence and views of a renamed relation are rewritten.
func (p *planner) renameRelation(ctx context.Context, t *catalog.Table, to string) error {
	if err := checkIdentifier(to); err != nil {
		return err
	}
	return p.relocate(ctx, t, t.ParentSchemaID(), to)
}

// relocate moves a relation to a schema and name.
func (p *planner) relocate(ctx context.Context, t *catalog.Table, schema catalog.ID, name string) error {
	if d, err := p.cat.ObjectByName(ctx, t.ParentID(), schema, name); err != nil {
		return err
	} else if d != nil {
		return pgerr.Newf(pgerr.DuplicateRelation, "relation \"%s\" already exists", name)
	}
	for _, ref := range t.Proto().DependedOnBy {
		v, err := p.cat.TableByID(ctx, ref.Id, catalog.Flags{})
		if err != nil {
			return err
		}
		if v != nil && v.IsView() {
			if err := p.rewriteView(ctx, v, t, schema, name); err != nil {
				return err
			}
		}
	}
	pb, err := p.mutableTable(ctx, t.ID())
	if err != nil {
		return err
	}
	if err := p.cat.RemoveName(ctx, pb.ParentId, pb.UnexposedParentSchemaId, pb.Name); err != nil {
		return err
	}
	pb.Name, pb.UnexposedParentSchemaId = name, schema
	if err := p.cat.SetName(ctx, pb.ParentId, schema, name, pb.Id); err != nil {
		return err
	}
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	if !t.IsSequence() {
		return nil
	}
	schemaName, err := p.schemaName(ctx, schema)
	if err != nil {
		return err
	}
	oldSchema, err := p.schemaName(ctx, t.ParentSchemaID())
	if err != nil {
		return err
	}
	oldCall, newCall := nextvalExpr(oldSchema, t.Name()), nextvalExpr(schemaName, name)
	arg := func(call string) string { return strings.TrimSuffix(strings.TrimPrefix(call, "nextval("), ")") }
	for _, ref := range t.Proto().DependedOnBy {
		for _, col := range ref.ColumnIds {
			if err := p.editColumn(ctx, ref.Id, col, func(c *catalogpb.ColumnDescriptor) {
				s := strings.ReplaceAll(c.GetDefaultExpr(), arg(oldCall), arg(newCall))
				c.DefaultExpr = &s
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// setSchema runs ALTER … SET SCHEMA. Sequences owned by a table's columns follow.
func (p *planner) setSchema(ctx context.Context, t *catalog.Table, schema string) error {
	db, _, err := p.parents(ctx, t)
	if err != nil {
		return err
	}
	ref, ok, err := p.cat.Schema(ctx, db, schema)
	if err != nil {
		return err
	}
	if !ok {
		return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", schema)
	}
	if ref.Virtual {
		return pgerr.Newf(pgerr.InsufficientPrivilege, "permission denied for schema %s", schema)
	}
	if ref.ID == t.ParentSchemaID() {
		return nil
	}
	if ref.Desc != nil {
		if err := p.checkPrivilege(ctx, ref.Desc.Privileges(), catalog.Create, "schema", schema); err != nil {
			return err
		}
	}
	if err := p.relocate(ctx, t, ref.ID, t.Name()); err != nil {
		return err
	}
	for _, c := range t.Columns() {
		for _, s := range c.PB.OwnsSequenceIds {
			seq, err := p.tableByID(ctx, s)
			if err != nil {
				return err
			}
			if err := p.relocate(ctx, seq, ref.ID, seq.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// setOwner gives a relation to another role, and the sequences of its columns.
func (p *planner) setOwner(ctx context.Context, t *catalog.Table, owner string) error {
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	if err := p.checkNewOwner(ctx, owner); err != nil {
		return err
	}
	pb, err := p.mutableTable(ctx, t.ID())
	if err != nil {
		return err
	}
	pb.Privileges.Owner = owner
	if err := p.writeTable(ctx, pb); err != nil {
		return err
	}
	for _, c := range pb.Columns {
		for _, s := range c.OwnsSequenceIds {
			seq, err := p.mutableTable(ctx, s)
			if err != nil {
				return err
			}
			seq.Privileges.Owner = owner
			if err := p.writeTable(ctx, seq); err != nil {
				return err
			}
		}
	}
	return nil
}

// alterOwner runs ALTER kind name OWNER TO.
func (p *planner) alterOwner(ctx context.Context, n *parser.AlterOwner) error {
	owner := p.currentRole(n.Owner)
	switch n.Kind {
	case parser.KindDatabase:
		db, err := p.cat.MustDatabase(ctx, n.Name.Parts[0])
		if err != nil {
			return err
		}
		if err := p.requireOwner(ctx, db.Privileges(), "database", db.Name()); err != nil {
			return err
		}
		if err := p.checkNewOwner(ctx, owner); err != nil {
			return err
		}
		return p.editPrivileges(ctx, db, func(pd *catalogpb.PrivilegeDescriptor) error { pd.Owner = owner; return nil })
	case parser.KindSchema:
		ref, ok, err := p.resolver().FindSchema(ctx, n.Name.Parts[1], n.Name.Parts[0])
		if err != nil {
			return err
		}
		if !ok || ref.Desc == nil {
			return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", n.Name.Parts[0])
		}
		if err := p.requireOwner(ctx, ref.Desc.Privileges(), "schema", ref.Name); err != nil {
			return err
		}
		if err := p.checkNewOwner(ctx, owner); err != nil {
			return err
		}
		return p.editPrivileges(ctx, ref.Desc, func(pd *catalogpb.PrivilegeDescriptor) error { pd.Owner = owner; return nil })
	case parser.KindType:
		return p.alterType(ctx, &parser.AlterType{Name: n.Name, Owner: n.Owner})
	case parser.KindFunction, parser.KindProcedure:
		return pgerr.Newf(pgerr.UndefinedFunction, "function %s does not exist", n.Name.String())
	}
	t, err := p.resolveRelation(ctx, n.Name, kindAny, n.IfExists)
	if err != nil || t == nil {
		return err
	}
	return p.setOwner(ctx, t, owner)
}

// alterSetSchema runs ALTER kind name SET SCHEMA.
func (p *planner) alterSetSchema(ctx context.Context, n *parser.AlterSetSchema) error {
	if n.Kind == parser.KindType {
		return p.alterType(ctx, &parser.AlterType{Name: n.Name, Schema: n.Schema})
	}
	t, err := p.resolveRelation(ctx, n.Name, kindAny, n.IfExists)
	if err != nil || t == nil {
		return err
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	return p.setSchema(ctx, t, string(n.Schema))
}

// renameDatabase runs ALTER DATABASE … RENAME TO.
func (p *planner) renameDatabase(ctx context.Context, n *tree.RenameDatabase) error {
	from, to := string(n.Name), string(n.NewName)
	if err := checkIdentifier(to); err != nil {
		return err
	}
	db, err := p.cat.MustDatabase(ctx, from)
	if err != nil {
		return err
	}
	if db.ID() == catalog.SystemDatabaseID {
		return pgerr.New(pgerr.InsufficientPrivilege, "cannot rename the system database")
	}
	if from == p.s.data.Database {
		if p.s.data.SafeUpdates {
			return errSafeUpdates("RENAME DATABASE on current database")
		}
	}
	if err := p.requireOwner(ctx, db.Privileges(), "database", from); err != nil {
		return err
	}
	if other, err := p.cat.Database(ctx, to); err != nil {
		return err
	} else if other != nil {
		return pgerr.Newf(pgerr.DuplicateDatabase, "database \"%s\" already exists", to)
	}
	pb, err := p.cat.MutableDatabase(ctx, db.ID())
	if err != nil {
		return err
	}
	p.schemaChanged()
	if err := p.cat.RemoveName(ctx, 0, 0, from); err != nil {
		return err
	}
	pb.Name = to
	if err := p.cat.SetName(ctx, 0, 0, to, pb.Id); err != nil {
		return err
	}
	_, err = p.cat.Write(ctx, pb)
	return err
}

// alterSchema runs ALTER SCHEMA.
func (p *planner) alterSchema(ctx context.Context, n *parser.AlterSchema) error {
	if n.Owner != "" {
		name, err := tree.NewUnresolvedObjectName(1, [3]string{string(n.Name.Schema), string(n.Name.Database)}, tree.NoAnnotation)
		if err != nil {
			return err
		}
		name.Parts[1] = string(n.Name.Database)
		return p.alterOwner(ctx, &parser.AlterOwner{Kind: parser.KindSchema, Name: name, Owner: n.Owner})
	}
	ref, ok, err := p.resolver().FindSchema(ctx, string(n.Name.Database), string(n.Name.Schema))
	if err != nil {
		return err
	}
	if !ok {
		return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", string(n.Name.Schema))
	}
	if ref.Desc == nil || ref.Name == catalog.PublicSchemaName {
		return pgerr.Newf("42939", "cannot rename schema \"%s\"", ref.Name)
	}
	if err := p.requireOwner(ctx, ref.Desc.Privileges(), "schema", ref.Name); err != nil {
		return err
	}
	to := string(n.NewName)
	if err := checkIdentifier(to); err != nil {
		return err
	}
	if _, ok, err := p.cat.Schema(ctx, ref.Database, to); err != nil {
		return err
	} else if ok {
		return pgerr.Newf(pgerr.DuplicateSchema, "schema \"%s\" already exists", to)
	}
	all, err := p.cat.AllInDatabase(ctx, ref.Database.ID())
	if err != nil {
		return err
	}
	for _, d := range all {
		t, ok := d.(*catalog.Table)
		if ok && t.ParentSchemaID() == ref.ID && len(t.Proto().DependedOnBy) > 0 && t.State() == catalogpb.State_PUBLIC {
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot rename schema \"%s\" because other objects depend on the names in it", ref.Name).
				WithDetail("%s \"%s\" is used by a view or a column default.", kindWord(t), t.Name())
		}
	}
	pb, err := p.cat.MutableSchema(ctx, ref.ID)
	if err != nil {
		return err
	}
	p.schemaChanged()
	if err := p.cat.RemoveName(ctx, pb.ParentId, 0, pb.Name); err != nil {
		return err
	}
	old := pb.Name
	pb.Name = to
	if err := p.cat.SetName(ctx, pb.ParentId, 0, to, pb.Id); err != nil {
		return err
	}
	if _, err := p.cat.Write(ctx, pb); err != nil {
		return err
	}
	db, err := p.cat.MutableDatabase(ctx, ref.Database.ID())
	if err != nil {
		return err
	}
	db.Schemas[to] = db.Schemas[old]
	delete(db.Schemas, old)
	_, err = p.cat.Write(ctx, db)
	return err
}

// createIndex runs CREATE INDEX.
func (p *planner) createIndex(ctx context.Context, n *tree.CreateIndex) error {
	return p.createIndexExt(ctx, &parser.CreateIndex{CreateIndex: n})
}

// createIndexExt is CREATE INDEX, also with a predicate or on expressions.
func (p *planner) createIndexExt(ctx context.Context, n *parser.CreateIndex) error {
	if n.Inverted {
		return errNoInverted()
	}
	if n.Interleave != nil || n.Sharded != nil {
		return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: interleaved or hash-sharded indexes")
	}
	tbl, err := p.resolveTable(ctx, &n.Table)
	if err != nil {
		return err
	}
	if !tbl.IsTable() {
		return pgerr.Newf(pgerr.WrongObjectType, "cannot create index on %s \"%s\"", kindWord(tbl), tbl.Name())
	}
	if err := p.checkOwnerOr(ctx, tbl, catalog.Create); err != nil {
		return err
	}
	if tbl, err = p.lockForChange(ctx, tbl.ID()); err != nil {
		return err
	}
	a := &tableAlter{p: p, old: tbl, pb: tbl.Mutable(), values: map[uint32]string{}}
	if name := string(n.Name); name != "" {
		if err := checkIdentifier(name); err != nil {
			return err
		}
		if constraintNames(a.pb)[name] && n.IfNotExists {
			p.notice("relation \"%s\" already exists, skipping", name)
			return nil
		}
	}
	x, err := p.makeIndex(ctx, a.pb, string(n.Name), n.Unique, n)
	if err != nil {
		return err
	}
	p.noticeUnpartitioned(a.pb, x)
	a.pb.Indexes = append(a.pb.Indexes, x)
	a.build = append(a.build, x.Id)
	return a.apply(ctx)
}

// renameIndex runs ALTER INDEX … RENAME TO.
func (p *planner) renameIndex(ctx context.Context, n *tree.RenameIndex) error {
	tbl, x, err := p.findIndex(ctx, n.Index)
	if err != nil {
		if n.IfExists && pgerr.GetCode(err) == pgerr.UndefinedObject {
			p.notice("relation \"%s\" does not exist, skipping", string(n.Index.Index))
			return nil
		}
		return err
	}
	if err := p.checkOwner(ctx, tbl); err != nil {
		return err
	}
	pb, err := p.mutableTable(ctx, tbl.ID())
	if err != nil {
		return err
	}
	to := string(n.NewName)
	if err := checkIdentifier(to); err != nil {
		return err
	}
	if constraintNames(pb)[to] {
		return errConstraintExists(pb, to)
	}
	findIndex(pb, x.Name).Name = to
	return p.writeTable(ctx, pb)
}

// commentOn writes the comment of an object.
func (p *planner) commentOnTable(ctx context.Context, name any, kind relKind, text *string) error {
	t, err := p.resolveRelation(ctx, name, kind, false)
	if err != nil {
		return err
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	return p.setComment(ctx, commentTable, int64(t.ID()), 0, text)
}

func (p *planner) commentOnColumn(ctx context.Context, item *tree.ColumnItem, text *string) error {
	if item.TableName == nil {
		return pgerr.New(pgerr.SyntaxError, "column name must be qualified")
	}
	t, err := p.resolveTable(ctx, item.TableName)
	if err != nil {
		return err
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	c, err := t.MustColumn(string(item.ColumnName))
	if err != nil {
		return err
	}
	return p.setComment(ctx, commentColumn, int64(t.ID()), int64(c.ID), text)
}

func (p *planner) commentOnIndex(ctx context.Context, name *tree.TableIndexName, text *string) error {
	t, x, err := p.findIndex(ctx, name)
	if err != nil {
		return err
	}
	if err := p.checkOwner(ctx, t); err != nil {
		return err
	}
	return p.setComment(ctx, commentIndex, int64(t.ID()), int64(x.ID), text)
}

func (p *planner) commentOnDatabase(ctx context.Context, name string, text *string) error {
	db, err := p.cat.MustDatabase(ctx, name)
	if err != nil {
		return err
	}
	if err := p.requireOwner(ctx, db.Privileges(), "database", name); err != nil {
		return err
	}
	return p.setComment(ctx, commentDatabase, int64(db.ID()), 0, text)
}

// commentOnOther is COMMENT ON for the rest.
func (p *planner) commentOnOther(ctx context.Context, n *parser.CommentOn) error {
	switch n.Kind {
	case parser.KindSchema:
		ref, ok, err := p.resolver().FindSchema(ctx, n.Name.Parts[1], n.Name.Parts[0])
		if err != nil {
			return err
		}
		if !ok || ref.Desc == nil {
			return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", n.Name.Parts[0])
		}
		if err := p.requireOwner(ctx, ref.Desc.Privileges(), "schema", ref.Name); err != nil {
			return err
		}
		return p.setComment(ctx, commentSchema, int64(ref.ID), 0, n.Comment)
	case parser.KindType:
		t, err := p.mustType(ctx, n.Name)
		if err != nil {
			return err
		}
		return p.setComment(ctx, commentType, int64(t.ID()), 0, n.Comment)
	case parser.KindView:
		return p.commentOnTable(ctx, n.Name, kindView, n.Comment)
	case parser.KindMaterializedView:
		return p.commentOnTable(ctx, n.Name, kindMatView, n.Comment)
	case parser.KindSequence:
		return p.commentOnTable(ctx, n.Name, kindSequence, n.Comment)
	case parser.KindTable:
		return p.commentOnTable(ctx, n.Name, kindAny, n.Comment)
	case parser.KindConstraint:
		t, err := p.resolveTable(ctx, n.Table)
		if err != nil {
			return err
		}
		if err := p.checkOwner(ctx, t); err != nil {
			return err
		}
		id, ok := constraintIDByName(t, n.Name.Parts[0])
		if !ok {
			return pgerr.Newf(pgerr.UndefinedObject, "constraint \"%s\" for table \"%s\" does not exist", n.Name.Parts[0], t.Name())
		}
		return p.setComment(ctx, commentConstraint, int64(t.ID()), int64(id), n.Comment)
	case parser.KindRole, parser.KindFunction, parser.KindExtension, parser.KindLanguage, parser.KindOther:
		p.notice("comments on this kind of object are not kept")
		return nil
	}
	return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: COMMENT ON %s", n.Kind)
}

func constraintIDByName(t *catalog.Table, name string) (uint32, bool) {
	for _, x := range t.PublicIndexes() {
		if x.Name == name && x.Unique {
			return x.PB.ConstraintId, true
		}
	}
	for _, c := range t.Checks() {
		if c.Name == name {
			return c.ConstraintId, true
		}
	}
	for _, f := range t.OutboundFKs() {
		if f.Name == name {
			return f.ConstraintId, true
		}
	}
	return 0, false
}

// reassignOwned runs REASSIGN OWNED BY … TO.
func (p *planner) reassignOwned(ctx context.Context, n *parser.ReassignOwned) error {
	to := p.currentRole(n.To)
	if err := p.checkNewOwner(ctx, to); err != nil {
		return err
	}
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	from := map[string]bool{}
	for _, r := range n.From {
		name := p.currentRole(r)
		if _, err := p.mustRole(ctx, name); err != nil {
			return err
		}
		if !roles[catalog.AdminRole] && !roles[name] {
			return pgerr.New(pgerr.InsufficientPrivilege, "permission denied to reassign objects")
		}
		from[name] = true
	}
	return p.eachInDatabase(ctx, func(d catalog.Descriptor) error {
		if !from[d.Privileges().GetOwner()] {
			return nil
		}
		return p.editPrivileges(ctx, d, func(pd *catalogpb.PrivilegeDescriptor) error { pd.Owner = to; return nil })
	})
}

// eachInDatabase visits the current database and what is in it.
func (p *planner) eachInDatabase(ctx context.Context, fn func(catalog.Descriptor) error) error {
	db, err := p.cat.MustDatabase(ctx, p.s.data.Database)
	if err != nil {
		return err
	}
	all, err := p.cat.AllInDatabase(ctx, db.ID())
	if err != nil {
		return err
	}
	for _, d := range append([]catalog.Descriptor{db}, all...) {
		if d.State() == catalogpb.State_PUBLIC {
			if err := fn(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropOwned runs DROP OWNED BY: what the roles own is dropped, what they were
// granted is revoked.
func (p *planner) dropOwned(ctx context.Context, n *parser.DropOwned) error {
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	who := map[string]bool{}
	for _, r := range n.Roles {
		name := p.currentRole(r)
		if name == catalog.RootUser || name == catalog.AdminRole {
			return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop objects owned by role \"%s\" because they are required by the database system", name)
		}
		if _, err := p.mustRole(ctx, name); err != nil {
			return err
		}
		if !roles[catalog.AdminRole] && !roles[name] {
			return pgerr.New(pgerr.InsufficientPrivilege, "permission denied to drop objects")
		}
		who[name] = true
	}
	d := p.newDropper(n.DropBehavior)
	var owned []catalog.Descriptor
	if err := p.eachInDatabase(ctx, func(o catalog.Descriptor) error {
		if who[o.Privileges().GetOwner()] {
			owned = append(owned, o)
			if o.Kind() == catalog.TableKind {
				d.going[o.ID()] = true
			}
			return nil
		}
		for g := range who {
			if slices.ContainsFunc(o.Privileges().GetUsers(), func(u *catalogpb.UserPrivileges) bool { return u.User == g }) {
				if err := p.editPrivileges(ctx, o, func(pd *catalogpb.PrivilegeDescriptor) error {
					catalog.RevokePrivileges(pd, g, catalog.All.Mask(), false, catalog.TableObject)
					return nil
				}); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, o := range owned {
		if o.Kind() == catalog.TableKind {
			if err := d.relation(ctx, o.ID()); err != nil {
				return err
			}
		}
	}
	for _, o := range owned {
		switch t := o.(type) {
		case *catalog.Type:
			if t.IsEnum() {
				if err := p.dropType(ctx, t, n.DropBehavior); err != nil {
					return err
				}
			}
		case *catalog.Schema:
			if t.Name() != catalog.PublicSchemaName {
				db, err := p.cat.DatabaseByID(ctx, t.ParentID())
				if err != nil {
					return err
				}
				ref, ok, err := p.cat.Schema(ctx, db, t.Name())
				if err != nil {
					return err
				}
				if ok {
					if err := p.dropSchema(ctx, ref, n.DropBehavior); err != nil {
						return err
					}
				}
			}
		}
	}
	return d.finish(ctx)
}
