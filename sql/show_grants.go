package sql

import (
	"context"
	"sort"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// showRoles is SHOW USERS and SHOW ROLES.
func showRoles() *rowSource {
	return source("username text, options text[], member_of text[]", func(ctx context.Context, p *planner, add func(...any) error) error {
		roles, err := p.allRoles(ctx)
		if err != nil {
			return err
		}
		memberOf := map[string][]string{}
		if err := p.scanSystem(ctx, systables.RoleMembers, func(row systables.Row) error {
			memberOf[row[1].(string)] = append(memberOf[row[1].(string)], row[0].(string))
			return nil
		}); err != nil {
			return err
		}
		for _, r := range roles {
			options := []string{}
			for o, v := range r.options {
				if s, ok := v.(string); ok && s != "" {
					o += "=" + s
				}
				options = append(options, o)
			}
			sort.Strings(options)
			member := memberOf[r.name]
			if member == nil {
				member = []string{}
			}
			sort.Strings(member)
			if err := add(r.name, options, member); err != nil {
				return err
			}
		}
		return nil
	})
}

func showRoleGrants(roles, members []string) *rowSource {
	return source("role_name text, member text, is_admin boolean", func(ctx context.Context, p *planner, add func(...any) error) error {
		return p.scanSystem(ctx, systables.RoleMembers, func(row systables.Row) error {
			if !listed(roles, row[0].(string)) || !listed(members, row[1].(string)) {
				return nil
			}
			return add(row[0], row[1], row[2])
		})
	})
}

// listed says whether a filter lets a name through; no filter lets all.
func listed(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return len(names) == 0
}

// showGrants is SHOW GRANTS in all its forms. Columns depend on what is asked.
func (p *planner) showGrants(ctx context.Context, n *parser.ShowGrants) (*rowSource, error) {
	grantees := make([]string, len(n.Grantees))
	for i, g := range n.Grantees {
		grantees[i] = p.currentRole(g)
		if grantees[i] != catalog.PublicRole {
			if _, err := p.mustRole(ctx, grantees[i]); err != nil {
				return nil, err
			}
		}
	}
	each := func(pd *catalogpb.PrivilegeDescriptor, fn func(grantRow) error) error {
		return eachGrant(pd, func(g grantRow) error {
			if !listed(grantees, g.grantee) {
				return nil
			}
			return fn(g)
		})
	}
	const tail = "grantee text, privilege_type text, is_grantable boolean"
	switch n.Kind {
	case parser.KindRole:
		var roles []string
		for _, r := range n.Names {
			roles = append(roles, p.currentRole(r.Parts[0]))
		}
		return showRoleGrants(roles, grantees), nil
	case parser.KindSystem:
		return source(tail, func(ctx context.Context, p *planner, add func(...any) error) error {
			return p.eachSystemGrant(ctx, globalPrivilegePath, grantees, add)
		}), nil
	case parser.KindExternalConnection:
		return nil, errNoExternalConnections()
	case parser.KindDatabase:
		return source("database_name text, "+tail, func(ctx context.Context, p *planner, add func(...any) error) error {
			for _, name := range n.Names {
				db, err := p.cat.MustDatabase(ctx, name.Parts[0])
				if err != nil {
					return err
				}
				if err := each(db.Privileges(), func(g grantRow) error { return add(db.Name(), g.grantee, g.privilege, g.grantable) }); err != nil {
					return err
				}
			}
			return nil
		}), nil
	case parser.KindSchema:
		return source("database_name text, schema_name text, "+tail, func(ctx context.Context, p *planner, add func(...any) error) error {
			for _, name := range n.Names {
				ref, ok, err := p.resolver().FindSchema(ctx, name.Parts[1], name.Parts[0])
				if err != nil {
					return err
				}
				if !ok {
					return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", name.Parts[0])
				}
				if ref.Desc == nil {
					continue
				}
				if err := each(ref.Desc.Privileges(), func(g grantRow) error {
					return add(ref.Database.Name(), ref.Name, g.grantee, g.privilege, g.grantable)
				}); err != nil {
					return err
				}
			}
			return nil
		}), nil
	case parser.KindType:
		return source("database_name text, schema_name text, type_name text, "+tail, func(ctx context.Context, p *planner, add func(...any) error) error {
			for _, name := range n.Names {
				t, ref, err := p.resolver().FindType(ctx, name)
				if err != nil {
					return err
				}
				if t == nil {
					return pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", name.String())
				}
				if err := each(t.Privileges(), func(g grantRow) error {
					return add(ref.Database.Name(), ref.Name, t.Name(), g.grantee, g.privilege, g.grantable)
				}); err != nil {
					return err
				}
			}
			return nil
		}), nil
	case parser.KindFunction, parser.KindProcedure:
		return source("database_name text, schema_name text, routine_id int, routine_signature text, "+tail,
			func(context.Context, *planner, func(...any) error) error { return nil }), nil
	case parser.KindTable, parser.KindSequence:
		return source("database_name text, schema_name text, table_name text, "+tail, func(ctx context.Context, p *planner, add func(...any) error) error {
			targets, err := p.grantTargets(ctx, &parser.Grant{On: parser.GrantTarget{Kind: n.Kind, Tables: n.Tables, Names: n.Names}})
			if err != nil {
				return err
			}
			for _, t := range targets {
				tbl, ok := t.desc.(*catalog.Table)
				if !ok {
					continue
				}
				db, schema, err := p.parents(ctx, tbl)
				if err != nil {
					return err
				}
				if err := each(tbl.Privileges(), func(g grantRow) error {
					return add(db.Name(), schema.Name, tbl.Name(), g.grantee, g.privilege, g.grantable)
				}); err != nil {
					return err
				}
			}
			return nil
		}), nil
	}
	return source("database_name text, schema_name text, object_name text, object_type text, "+tail, func(ctx context.Context, p *planner, add func(...any) error) error {
		d, err := p.allDescs(ctx)
		if err != nil {
			return err
		}
		db := d.dbByName[p.s.data.Database]
		if db == nil {
			return nil
		}
		if err := each(db.Privileges(), func(g grantRow) error {
			return add(db.Name(), nil, nil, "database", g.grantee, g.privilege, g.grantable)
		}); err != nil {
			return err
		}
		for _, s := range d.schemasIn(db) {
			if err := each(s.Privileges(), func(g grantRow) error {
				return add(db.Name(), s.Name(), nil, "schema", g.grantee, g.privilege, g.grantable)
			}); err != nil {
				return err
			}
		}
		for _, t := range d.inDB(db) {
			kind := "table"
			if t.IsSequence() {
				kind = "sequence"
			}
			if err := each(t.Privileges(), func(g grantRow) error {
				return add(db.Name(), d.schemaOf(t), t.Name(), kind, g.grantee, g.privilege, g.grantable)
			}); err != nil {
				return err
			}
		}
		for _, t := range d.types {
			if t.ParentID() != db.ID() || !t.IsEnum() {
				continue
			}
			schema := ""
			if s := d.schemas[t.ParentSchemaID()]; s != nil {
				schema = s.Name()
			}
			if err := each(t.Privileges(), func(g grantRow) error {
				return add(db.Name(), schema, t.Name(), "type", g.grantee, g.privilege, g.grantable)
			}); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// eachSystemGrant lists rows of system.privileges under a path.
func (p *planner) eachSystemGrant(ctx context.Context, path string, grantees []string, add func(...any) error) error {
	return p.scanSystem(ctx, systables.Privileges, func(row systables.Row) error {
		user := row[0].(string)
		if row[1] != path || !listed(grantees, user) {
			return nil
		}
		options, _ := row[3].([]string)
		privs, _ := row[2].([]string)
		for _, pr := range privs {
			if err := add(user, pr, len(options) > 0 && (listed(options, pr) || listed(options, "ALL"))); err != nil {
				return err
			}
		}
		return nil
	})
}

// showDefaultPrivileges is SHOW DEFAULT PRIVILEGES.
func (p *planner) showDefaultPrivileges(_ context.Context, n *parser.ShowDefaultPrivileges) (*rowSource, error) {
	return source("role text, for_all_roles boolean, object_type text, grantee text, privilege_type text, is_grantable boolean",
		func(ctx context.Context, p *planner, add func(...any) error) error {
			var d *catalogpb.DefaultPrivileges
			if n.Schema != nil {
				ref, ok, err := p.resolver().FindSchema(ctx, string(n.Schema.Database), string(n.Schema.Schema))
				if err != nil {
					return err
				}
				if !ok || ref.Desc == nil {
					return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", string(n.Schema.Schema))
				}
				d = ref.Desc.Proto().DefaultPrivileges
			} else {
				db, err := p.cat.MustDatabase(ctx, p.s.data.Database)
				if err != nil {
					return err
				}
				d = db.Proto().DefaultPrivileges
			}
			roles := n.Roles
			if len(roles) == 0 && !n.AllRoles && len(n.Grantees) == 0 {
				roles = []string{p.s.data.User}
			}
			for _, e := range d.GetEntries() {
				if (e.Role == "") != n.AllRoles && len(n.Grantees) == 0 || e.Role != "" && !listed(roles, e.Role) {
					continue
				}
				var role any
				if e.Role != "" {
					role = e.Role
				}
				if err := eachGrant(&catalogpb.PrivilegeDescriptor{Users: e.Grants}, func(g grantRow) error {
					if !listed(n.Grantees, g.grantee) {
						return nil
					}
					return add(role, e.Role == "", catalog.ObjectKind(e.ObjectKind).String()+"s", g.grantee, g.privilege, g.grantable)
				}); err != nil {
					return err
				}
			}
			return nil
		}), nil
}
