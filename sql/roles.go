package sql

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

var (
	roleName     = regexp.MustCompile(`^[\p{L}0-9_][-\p{L}0-9_.]{0,62}$`)
	reservedRole = map[string]bool{"none": true, catalog.PublicRole: true, catalog.NodeUser: true}
)

// normalRole folds and checks the name of a new role.
func normalRole(name string) (string, error) {
	n := strings.ToLower(name)
	if reservedRole[n] || strings.HasPrefix(n, "pg_") || strings.HasPrefix(n, "crdb_internal") {
		return "", pgerr.Newf("42939", "role name %q is reserved", n)
	}
	if !roleName.MatchString(n) {
		return "", pgerr.Newf("42602", "%q: username is invalid", n).
			WithHint("Usernames are case insensitive, must start with a letter, digit or underscore, may contain letters, digits, dashes, periods, or underscores, and must not exceed 63 characters.")
	}
	return n, nil
}

// currentRole resolves CURRENT_USER and its like.
func (p *planner) currentRole(name string) string {
	switch strings.ToUpper(name) {
	case "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE":
		return p.s.data.User
	}
	return strings.ToLower(name)
}

func (p *planner) roleRow(ctx context.Context, name string) (systables.Row, error) {
	return p.systemRow(ctx, systables.Users, name)
}

// mustRole requires that a role exists.
func (p *planner) mustRole(ctx context.Context, name string) (systables.Row, error) {
	row, err := p.roleRow(ctx, name)
	if err == nil && row == nil {
		err = pgerr.Newf(pgerr.UndefinedObject, "role/user \"%s\" does not exist", name)
	}
	return row, err
}

// rolesWillChange precedes a change of roles or memberships: until it is committed
// nobody, here or on another node, uses what is remembered of them.
func (p *planner) rolesWillChange(ctx context.Context) error {
	if !p.s.tx.rolesChanged {
		if err := p.cat.Announce(ctx, catalog.RolesChange); err != nil {
			return err
		}
	}
	p.s.tx.rolesChanged = true
	p.schemaChanged()
	roles := &p.srv.roles
	p.txn.OnCommit(roles.clear)
	return nil
}

func (p *planner) requireCreateRole(ctx context.Context) error {
	ok, err := p.hasSystemPrivilege(ctx, p.user(), "CREATEROLE")
	if err == nil && !ok {
		err = pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have CREATEROLE privilege", p.user())
	}
	return err
}

// createRole runs CREATE ROLE and CREATE USER.
func (p *planner) createRole(ctx context.Context, n *parser.CreateRole) error {
	if err := p.requireCreateRole(ctx); err != nil {
		return err
	}
	name, err := normalRole(n.Name)
	if err != nil {
		return err
	}
	if row, err := p.roleRow(ctx, name); err != nil {
		return err
	} else if row != nil {
		if n.IfNotExists {
			p.notice("role \"%s\" already exists, skipping", name)
			return nil
		}
		return pgerr.Newf(pgerr.DuplicateObject, "a role/user named %s already exists", name)
	}
	if err := p.rolesWillChange(ctx); err != nil {
		return err
	}
	id, err := p.srv.db.Inc(ctx, rowenc.SequenceKey(catalog.RoleIDSequenceID), 1)
	if err != nil {
		return err
	}
	if err := p.putSystemRow(ctx, systables.Users, nil, systables.Row{name, []byte{}, !n.IsUser, id}); err != nil {
		return err
	}
	options := n.Options
	if !n.IsUser && !slices.ContainsFunc(options, func(o parser.RoleOption) bool { return o.Name == "LOGIN" || o.Name == "NOLOGIN" }) {
		options = append(options[:len(options):len(options)], parser.RoleOption{Name: "NOLOGIN"})
	}
	if err := p.setRoleOptions(ctx, name, id, options); err != nil {
		return err
	}
	for _, r := range n.InRoles {
		if err := p.addMember(ctx, p.currentRole(r), name, false); err != nil {
			return err
		}
	}
	for _, m := range n.Members {
		if err := p.addMember(ctx, name, p.currentRole(m), false); err != nil {
			return err
		}
	}
	for _, m := range n.Admins {
		if err := p.addMember(ctx, name, p.currentRole(m), true); err != nil {
			return err
		}
	}
	return nil
}

// booleanRoleOptions are stored as a row when they differ from the default. The
// value says which form is stored.
var booleanRoleOptions = map[string]string{
	"LOGIN": "NOLOGIN", "CREATEROLE": "CREATEROLE", "CREATELOGIN": "CREATELOGIN", "CREATEDB": "CREATEDB", "CONTROLJOB": "CONTROLJOB",
	"CANCELQUERY": "CANCELQUERY", "CONTROLCHANGEFEED": "CONTROLCHANGEFEED", "MODIFYCLUSTERSETTING": "MODIFYCLUSTERSETTING",
	"VIEWACTIVITY": "VIEWACTIVITY", "VIEWACTIVITYREDACTED": "VIEWACTIVITYREDACTED", "VIEWCLUSTERSETTING": "VIEWCLUSTERSETTING",
	"SQLLOGIN": "NOSQLLOGIN", "REPLICATION": "REPLICATION", "BYPASSRLS": "BYPASSRLS",
}

func (p *planner) setRoleOptions(ctx context.Context, role string, id int64, options []parser.RoleOption) error {
	set := func(option string, value any) error {
		old, err := p.systemRow(ctx, systables.RoleOptions, role, option)
		if err != nil {
			return err
		}
		return p.putSystemRow(ctx, systables.RoleOptions, old, systables.Row{role, option, value, id})
	}
	clear := func(option string) error {
		old, err := p.systemRow(ctx, systables.RoleOptions, role, option)
		if err != nil || old == nil {
			return err
		}
		return p.putSystemRow(ctx, systables.RoleOptions, old, nil)
	}
	seen := map[string]bool{}
	for _, o := range options {
		name := o.Name
		positive, negated := strings.CutPrefix(name, "NO")
		if _, ok := booleanRoleOptions[name]; ok {
			positive, negated = name, false
		}
		if seen[positive] {
			return pgerr.New(pgerr.SyntaxError, "conflicting role options")
		}
		seen[positive] = true
		stored, boolean := booleanRoleOptions[positive]
		switch {
		case boolean:
			// stored is the form that differs from the default.
			write := (stored == positive) != negated
			var err error
			if write {
				err = set(stored, nil)
			} else {
				err = clear(stored)
			}
			if err != nil {
				return err
			}
		case name == "PASSWORD" || name == "ENCRYPTED PASSWORD":
			if err := p.setPassword(ctx, role, o.Value); err != nil {
				return err
			}
		case name == "VALID UNTIL":
			if o.Value == nil || o.Value == tree.DNull {
				if err := clear("VALID UNTIL"); err != nil {
					return err
				}
				continue
			}
			text, err := p.evalString(ctx, o.Value)
			if err != nil {
				return err
			}
			if err := set("VALID UNTIL", text); err != nil {
				return err
			}
		case name == "SUBJECT":
			text, err := p.evalString(ctx, o.Value)
			if err != nil {
				return err
			}
			if err := set("SUBJECT", text); err != nil {
				return err
			}
		case positive == "SUPERUSER":
			if negated {
				continue
			}
			if err := p.requireAdmin(ctx, "create superusers"); err != nil {
				return err
			}
			if err := p.addMember(ctx, catalog.AdminRole, role, true); err != nil {
				return err
			}
		case positive == "INHERIT", name == "CONNECTION LIMIT", name == "SYSID":
			// PostgreSQL's, without meaning here.
		default:
			return pgerr.Newf(pgerr.SyntaxError, "unrecognized role option \"%s\"", strings.ToLower(name))
		}
	}
	return nil
}

// setPassword stores a password as SCRAM-SHA-256.
func (p *planner) setPassword(ctx context.Context, role string, value tree.Expr) error {
	if p.srv.cfg.Insecure {
		return pgerr.New("28P01", "setting or updating a password is not supported in insecure mode")
	}
	row, err := p.mustRole(ctx, role)
	if err != nil {
		return err
	}
	updated := slices.Clone(row)
	updated[1] = []byte{}
	if value != nil && value != tree.DNull {
		text, err := p.evalString(ctx, value)
		if err != nil {
			return err
		}
		if text == "" {
			return pgerr.New("28P01", "empty passwords are not permitted")
		}
		if p.srv.cfg.HashPassword == nil {
			return pgerr.New(pgerr.FeatureNotSupported, "this server stores no passwords")
		}
		hash, err := p.srv.cfg.HashPassword(text, rand.Reader)
		if err != nil {
			return err
		}
		updated[1] = hash
	}
	return p.putSystemRow(ctx, systables.Users, row, updated)
}

// alterRole runs ALTER ROLE … WITH options.
func (p *planner) alterRole(ctx context.Context, n *parser.AlterRole) error {
	name := p.currentRole(n.Name)
	self := name == p.s.data.User && !slices.ContainsFunc(n.Options, func(o parser.RoleOption) bool { return !strings.HasSuffix(o.Name, "PASSWORD") })
	if !self {
		if err := p.requireCreateRole(ctx); err != nil {
			return err
		}
	}
	row, err := p.roleRow(ctx, name)
	if err != nil {
		return err
	}
	if row == nil {
		if n.IfExists {
			p.notice("role \"%s\" does not exist, skipping", name)
			return nil
		}
		return pgerr.Newf(pgerr.UndefinedObject, "role/user \"%s\" does not exist", name)
	}
	if name == catalog.AdminRole {
		return pgerr.Newf(pgerr.InsufficientPrivilege, "cannot edit admin role")
	}
	if err := p.rolesWillChange(ctx); err != nil {
		return err
	}
	return p.setRoleOptions(ctx, name, row[3].(int64), n.Options)
}

// alterRoleSet runs ALTER ROLE … SET and RESET.
func (p *planner) alterRoleSet(ctx context.Context, n *parser.AlterRoleSet) error {
	role, roleID := "", int64(0)
	if n.Role != "" && !n.AllRoles {
		role = p.currentRole(n.Role)
		row, err := p.mustRole(ctx, role)
		if err != nil {
			return err
		}
		roleID = row[3].(int64)
	}
	if role != p.s.data.User || n.Database != "" {
		if err := p.requireCreateRole(ctx); err != nil {
			return err
		}
	}
	var dbID int64
	if n.Database != "" {
		db, err := p.cat.MustDatabase(ctx, string(n.Database))
		if err != nil {
			return err
		}
		dbID = int64(db.ID())
	}
	old, err := p.systemRow(ctx, systables.DatabaseRoleSettings, dbID, role)
	if err != nil {
		return err
	}
	var settings []string
	if old != nil {
		settings = slices.Clone(old[2].([]string))
	}
	name := strings.ToLower(n.Var)
	drop := func(s string) bool { k, _, _ := strings.Cut(s, "="); return n.Var == "" || k == name }
	settings = slices.DeleteFunc(settings, drop)
	if !n.Reset {
		value, err := p.evalVarValues(ctx, name, n.Values)
		if err != nil {
			return err
		}
		if err := p.s.checkVar(name, value); err != nil {
			return err
		}
		settings = append(settings, name+"="+value)
	}
	var row systables.Row
	if len(settings) > 0 {
		row = systables.Row{dbID, role, settings, roleID}
	}
	if old == nil && row == nil {
		return nil
	}
	return p.putSystemRow(ctx, systables.DatabaseRoleSettings, old, row)
}

// dropRoles runs DROP ROLE. A role that owns or may use something stays.
func (p *planner) dropRoles(ctx context.Context, n *parser.DropRole) error {
	if err := p.requireCreateRole(ctx); err != nil {
		return err
	}
	for _, raw := range n.Names {
		name := p.currentRole(raw)
		switch name {
		case catalog.AdminRole:
			return pgerr.New(pgerr.InvalidParameterValue, "cannot drop special role admin")
		case catalog.RootUser:
			return pgerr.New(pgerr.InvalidParameterValue, "cannot drop special user root")
		case catalog.PublicRole, catalog.NodeUser:
			return pgerr.Newf("42939", "role name %q is reserved", name)
		}
		row, err := p.roleRow(ctx, name)
		if err != nil {
			return err
		}
		if row == nil {
			if n.IfExists {
				p.notice("role \"%s\" does not exist, skipping", name)
				continue
			}
			return pgerr.Newf(pgerr.UndefinedObject, "role/user \"%s\" does not exist", name)
		}
		if err := p.roleIsUnused(ctx, name); err != nil {
			return err
		}
		if err := p.rolesWillChange(ctx); err != nil {
			return err
		}
		for _, t := range []struct {
			table *systables.Table
			cols  []int
		}{{systables.RoleMembers, []int{0, 1}}, {systables.RoleOptions, []int{0}}, {systables.DatabaseRoleSettings, []int{1}}, {systables.Privileges, []int{0}}} {
			var rows []systables.Row
			if err := p.scanSystem(ctx, t.table, func(r systables.Row) error {
				for _, c := range t.cols {
					if r[c] == name {
						rows = append(rows, slices.Clone(r))
						break
					}
				}
				return nil
			}); err != nil {
				return err
			}
			for _, r := range rows {
				if err := p.putSystemRow(ctx, t.table, r, nil); err != nil {
					return err
				}
			}
		}
		if err := p.putSystemRow(ctx, systables.Users, row, nil); err != nil {
			return err
		}
	}
	return nil
}

// roleIsUnused requires that no object names the role.
func (p *planner) roleIsUnused(ctx context.Context, name string) error {
	descs, err := p.allDescs(ctx)
	if err != nil {
		return err
	}
	var owned, granted []string
	look := func(kind string, d catalog.Descriptor) {
		if d.Privileges().GetOwner() == name {
			owned = append(owned, fmt.Sprintf("owner of %s %s", kind, d.Name()))
		}
		for _, u := range d.Privileges().GetUsers() {
			if u.User == name && u.Privileges != 0 {
				granted = append(granted, kind+" "+d.Name())
			}
		}
	}
	for _, d := range descs.databases {
		look("database", d)
	}
	for _, d := range descs.schemas {
		look("schema", d)
	}
	for _, d := range descs.tables {
		look(kindWord(d), d)
	}
	for _, d := range descs.types {
		if d.IsEnum() {
			look("type", d)
		}
	}
	for _, d := range descs.offline {
		if d.Kind() != catalog.SchemaKind {
			look(d.Kind().String(), d)
		}
	}
	sort.Strings(owned)
	sort.Strings(granted)
	if len(owned) > 0 {
		return pgerr.Newf(pgerr.DependentObjectsStillExist, "role %s cannot be dropped because some objects depend on it", name).
			WithDetail("%s", strings.Join(owned, "\n"))
	}
	if len(granted) > 0 {
		return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop role/user %s: grants still exist on %s", name, strings.Join(granted, ", "))
	}
	schedules := 0
	if err := p.scanSystem(ctx, systables.ScheduledJobs, func(r systables.Row) error {
		if r[systables.ScheduledJobs.Col("owner")] == name {
			schedules++
		}
		return nil
	}); err != nil {
		return err
	}
	if schedules > 0 {
		return pgerr.Newf(pgerr.DependentObjectsStillExist, "cannot drop role/user %s; it owns %d scheduled jobs.", name, schedules)
	}
	return nil
}

// addMember makes member a member of role.
func (p *planner) addMember(ctx context.Context, role, member string, admin bool) error {
	r, err := p.mustRole(ctx, role)
	if err != nil {
		return err
	}
	m, err := p.mustRole(ctx, member)
	if err != nil {
		return err
	}
	if role == member {
		return pgerr.Newf("0LP01", "%s cannot be a member of itself", role)
	}
	if err := p.rolesWillChange(ctx); err != nil {
		return err
	}
	up, err := p.rolesOf(ctx, role)
	if err != nil {
		return err
	}
	if up[member] {
		return pgerr.Newf("0LP01", "making %s a member of %s would create a cycle", member, role)
	}
	old, err := p.systemRow(ctx, systables.RoleMembers, role, member)
	if err != nil {
		return err
	}
	if old != nil && old[2].(bool) {
		admin = true
	}
	return p.putSystemRow(ctx, systables.RoleMembers, old, systables.Row{role, member, admin, r[3], m[3]})
}

// grantRole runs GRANT and REVOKE of membership.
func (p *planner) grantRole(ctx context.Context, n *parser.GrantRole) error {
	admin, err := p.isAdmin(ctx)
	if err != nil {
		return err
	}
	for _, rawRole := range n.Roles {
		role := p.currentRole(rawRole)
		if _, err := p.mustRole(ctx, role); err != nil {
			return err
		}
		if !admin {
			own, err := p.systemRow(ctx, systables.RoleMembers, role, p.s.data.User)
			if err != nil {
				return err
			}
			if own == nil || !own[2].(bool) {
				if role == catalog.AdminRole {
					return pgerr.Newf(pgerr.InsufficientPrivilege, "%s is not a role admin for role %s", p.s.data.User, role)
				}
				return pgerr.Newf(pgerr.InsufficientPrivilege, "%s is not a superuser or role admin for role %s", p.s.data.User, role)
			}
		}
		for _, rawMember := range n.Members {
			member := p.currentRole(rawMember)
			if !n.Revoke {
				if err := p.addMember(ctx, role, member, n.AdminOption); err != nil {
					return err
				}
				continue
			}
			if _, err := p.mustRole(ctx, member); err != nil {
				return err
			}
			if role == catalog.AdminRole && member == catalog.RootUser {
				return pgerr.New(pgerr.ObjectInUse, "role/user root cannot be removed from role admin or lose the ADMIN OPTION")
			}
			old, err := p.systemRow(ctx, systables.RoleMembers, role, member)
			if err != nil {
				return err
			}
			if old == nil {
				continue
			}
			if err := p.rolesWillChange(ctx); err != nil {
				return err
			}
			var row systables.Row
			if n.AdminOption {
				row = slices.Clone(old)
				row[2] = false
			}
			if err := p.putSystemRow(ctx, systables.RoleMembers, old, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// evalString evaluates a constant expression to text.
func (p *planner) evalString(ctx context.Context, e tree.Expr) (string, error) {
	te, err := p.bindStandalone(ctx, nil, e, "value", types.String)
	if err != nil {
		return "", err
	}
	d, err := te.Eval(&p.evalCtx)
	if err != nil {
		return "", err
	}
	if d == tree.DNull {
		return "", nil
	}
	return p.plainText(d), nil
}

// privs parses the names of privileges for a kind of object.
func parsePrivileges(names []string, kind catalog.ObjectKind) (mask uint64, list []catalog.Privilege, err error) {
	for _, n := range names {
		priv, ok := catalog.PrivilegeByName(strings.ToUpper(n))
		if !ok {
			if slices.Contains(systemPrivilegeNames, strings.ToUpper(n)) {
				return 0, nil, pgerr.Newf("0LP01", "invalid privilege type %s for %s", strings.ToUpper(n), kind)
			}
			return 0, nil, pgerr.Newf(pgerr.SyntaxError, "not a valid privilege: %q", strings.ToLower(n))
		}
		if !slices.Contains(catalog.ValidPrivileges(kind), priv) {
			return 0, nil, pgerr.Newf("0LP01", "invalid privilege type %s for %s", priv, kind)
		}
		mask |= priv.Mask()
		list = append(list, priv)
	}
	return mask, list, nil
}

// systemPrivilegeNames are what GRANT SYSTEM knows.
var systemPrivilegeNames = []string{"ALL", "BACKUP", "RESTORE", "MODIFYCLUSTERSETTING", "MODIFYSQLCLUSTERSETTING", "VIEWCLUSTERSETTING",
	"EXTERNALCONNECTION", "EXTERNALIOIMPLICITACCESS", "VIEWACTIVITY", "VIEWACTIVITYREDACTED", "CANCELQUERY", "NOSQLLOGIN",
	"VIEWCLUSTERMETADATA", "VIEWDEBUG", "VIEWJOB", "CONTROLJOB", "VIEWSYSTEMTABLE", "CREATEROLE", "CREATELOGIN", "CREATEDB",
	"REPAIRCLUSTER", "REPLICATION", "MANAGEVIRTUALCLUSTER", "BYPASSRLS"}

// grant runs GRANT and REVOKE on objects.
func (p *planner) grant(ctx context.Context, n *parser.Grant) error {
	if n.ColumnPrivileges {
		return pgerr.New(pgerr.FeatureNotSupported, "unimplemented: privileges on columns")
	}
	grantees := make([]string, len(n.Grantees))
	for i, g := range n.Grantees {
		grantees[i] = p.currentRole(g)
		if grantees[i] == catalog.PublicRole {
			continue
		}
		if _, err := p.mustRole(ctx, grantees[i]); err != nil {
			return err
		}
	}
	switch n.On.Kind {
	case parser.KindSystem:
		return p.grantSystem(ctx, n, globalPrivilegePath, grantees, systemPrivilegeNames)
	case parser.KindExternalConnection:
		return errNoExternalConnections()
	}
	targets, err := p.grantTargets(ctx, n)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := p.grantOn(ctx, n, t, grantees); err != nil {
			return err
		}
	}
	return nil
}

// grantTarget is an object of a GRANT.
type grantTarget struct {
	desc catalog.Descriptor
	kind catalog.ObjectKind
}

func (p *planner) grantTargets(ctx context.Context, n *parser.Grant) ([]grantTarget, error) {
	var out []grantTarget
	addTable := func(t *catalog.Table) {
		kind := catalog.TableObject
		if t.IsSequence() {
			kind = catalog.SequenceObject
		}
		out = append(out, grantTarget{t, kind})
	}
	if len(n.On.AllInSchemas) > 0 {
		for _, s := range n.On.AllInSchemas {
			ref, ok, err := p.resolver().FindSchema(ctx, string(s.Database), string(s.Schema))
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", string(s.Schema))
			}
			all, err := p.cat.AllInDatabase(ctx, ref.Database.ID())
			if err != nil {
				return nil, err
			}
			for _, d := range all {
				t, ok := d.(*catalog.Table)
				if ok && t.ParentSchemaID() == ref.ID && t.State() == catalogpb.State_PUBLIC && t.IsSequence() == (n.On.Kind == parser.KindSequence) {
					addTable(t)
				}
			}
		}
		return out, nil
	}
	for _, pat := range n.On.Tables {
		tables, err := p.expandTablePattern(ctx, pat)
		if err != nil {
			return nil, err
		}
		for _, t := range tables {
			addTable(t)
		}
	}
	for _, name := range n.On.Names {
		switch n.On.Kind {
		case parser.KindDatabase:
			db, err := p.cat.MustDatabase(ctx, name.Parts[0])
			if err != nil {
				return nil, err
			}
			out = append(out, grantTarget{db, catalog.DatabaseObject})
		case parser.KindSchema:
			ref, ok, err := p.resolver().FindSchema(ctx, name.Parts[1], name.Parts[0])
			if err != nil {
				return nil, err
			}
			if !ok || ref.Desc == nil {
				return nil, pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", name.Parts[0])
			}
			out = append(out, grantTarget{ref.Desc, catalog.SchemaObject})
		case parser.KindType:
			t, _, err := p.resolver().FindType(ctx, name)
			if err != nil {
				return nil, err
			}
			if t == nil {
				return nil, pgerr.Newf(pgerr.UndefinedObject, "type \"%s\" does not exist", name.String())
			}
			out = append(out, grantTarget{t, catalog.TypeObject})
		case parser.KindSequence, parser.KindTable:
			t, err := p.resolveTable(ctx, name)
			if err != nil {
				return nil, err
			}
			addTable(t)
		case parser.KindFunction, parser.KindProcedure, parser.KindLanguage:
			// Functions belong to everyone.
		default:
			return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: GRANT ON %s", n.On.Kind)
		}
	}
	return out, nil
}

// expandTablePattern resolves t, s.t, db.s.* and their like.
func (p *planner) expandTablePattern(ctx context.Context, pat tree.TablePattern) ([]*catalog.Table, error) {
	pat, err := pat.NormalizeTablePattern()
	if err != nil {
		return nil, err
	}
	switch t := pat.(type) {
	case *tree.TableName:
		tbl, err := p.resolveTable(ctx, t)
		if err != nil {
			return nil, err
		}
		return []*catalog.Table{tbl}, nil
	case *tree.AllTablesSelector:
		var ref catalog.SchemaRef
		var ok bool
		switch {
		case t.ExplicitCatalog:
			ref, ok, err = p.resolver().FindSchema(ctx, string(t.CatalogName), string(t.SchemaName))
		case t.ExplicitSchema:
			ref, ok, err = p.resolver().FindSchema(ctx, "", string(t.SchemaName))
			if err == nil && !ok {
				ref, ok, err = p.resolver().FindSchema(ctx, string(t.SchemaName), catalog.PublicSchemaName)
			}
		default:
			ref, ok, err = p.resolver().CurrentSchema(ctx)
		}
		if err != nil {
			return nil, err
		}
		if !ok || ref.Virtual {
			return nil, pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", string(t.SchemaName))
		}
		all, err := p.cat.AllInDatabase(ctx, ref.Database.ID())
		if err != nil {
			return nil, err
		}
		var out []*catalog.Table
		for _, d := range all {
			if tbl, ok := d.(*catalog.Table); ok && tbl.ParentSchemaID() == ref.ID && tbl.State() == catalogpb.State_PUBLIC {
				out = append(out, tbl)
			}
		}
		return out, nil
	}
	return nil, pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: table pattern %s", tree.AsString(pat))
}

func (p *planner) grantOn(ctx context.Context, n *parser.Grant, t grantTarget, grantees []string) error {
	mask, list, err := parsePrivileges(n.Privileges, t.kind)
	if err != nil {
		return err
	}
	if t.desc.ID() < catalog.FirstUserID {
		return errSystemCatalog(t.desc.Name())
	}
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	privs := t.desc.Privileges()
	if !roles[catalog.AdminRole] && !roles[privs.GetOwner()] {
		var missing []string
		for _, priv := range list {
			ok := false
			for _, u := range privs.GetUsers() {
				ok = ok || roles[u.User] && u.WithGrantOption&(priv.Mask()|catalog.All.Mask()) != 0
			}
			if !ok {
				missing = append(missing, priv.String())
			}
		}
		if len(missing) > 0 {
			return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s missing WITH GRANT OPTION privilege on %s", p.user(), strings.Join(missing, ", "))
		}
	}
	return p.editPrivileges(ctx, t.desc, func(pd *catalogpb.PrivilegeDescriptor) error {
		for _, g := range grantees {
			if !n.Revoke {
				catalog.GrantPrivileges(pd, g, mask, n.GrantOption)
				continue
			}
			if (g == catalog.RootUser || g == catalog.AdminRole) && !n.GrantOption {
				return pgerr.Newf(pgerr.InvalidParameterValue, "user %s must have exactly ALL privileges on %s \"%s\"", g, t.kind, t.desc.Name())
			}
			catalog.RevokePrivileges(pd, g, mask, n.GrantOption, t.kind)
		}
		return nil
	})
}

// editPrivileges changes the privileges of an object of any kind.
func (p *planner) editPrivileges(ctx context.Context, d catalog.Descriptor, edit func(*catalogpb.PrivilegeDescriptor) error) error {
	p.schemaChanged()
	var err error
	switch d.Kind() {
	case catalog.DatabaseKind:
		pb, e := p.cat.MutableDatabase(ctx, d.ID())
		if e != nil {
			return e
		}
		if err = edit(pb.Privileges); err == nil {
			_, err = p.cat.Write(ctx, pb)
		}
	case catalog.SchemaKind:
		pb, e := p.cat.MutableSchema(ctx, d.ID())
		if e != nil {
			return e
		}
		if err = edit(pb.Privileges); err == nil {
			_, err = p.cat.Write(ctx, pb)
		}
	case catalog.TypeKind:
		pb, e := p.cat.MutableType(ctx, d.ID())
		if e != nil {
			return e
		}
		if err = edit(pb.Privileges); err == nil {
			_, err = p.cat.Write(ctx, pb)
		}
	default:
		pb, e := p.cat.MutableTable(ctx, d.ID())
		if e != nil {
			return e
		}
		if err = edit(pb.Privileges); err == nil {
			_, err = p.cat.Write(ctx, pb)
		}
	}
	return err
}

// grantSystem changes rows of system.privileges.
func (p *planner) grantSystem(ctx context.Context, n *parser.Grant, path string, grantees, valid []string) error {
	if err := p.requireAdmin(ctx, "change these privileges"); err != nil {
		return err
	}
	names := make([]string, len(n.Privileges))
	for i, pr := range n.Privileges {
		if names[i] = strings.ToUpper(pr); !slices.Contains(valid, names[i]) {
			if _, ok := catalog.PrivilegeByName(names[i]); ok || slices.Contains(systemPrivilegeNames, names[i]) {
				kind := "system"
				if path != globalPrivilegePath {
					kind = "external_connection"
				}
				return pgerr.Newf("0LP01", "invalid privilege type %s for %s", names[i], kind)
			}
			return pgerr.Newf(pgerr.SyntaxError, "not a valid privilege: %q", pr)
		}
	}
	for _, g := range grantees {
		user, err := p.mustRole(ctx, g)
		if err != nil {
			return err
		}
		old, err := p.systemRow(ctx, systables.Privileges, g, path)
		if err != nil {
			return err
		}
		var have, options []string
		if old != nil {
			have, options = slices.Clone(old[2].([]string)), slices.Clone(old[3].([]string))
		}
		if slices.Contains(names, "ALL") {
			if n.Revoke {
				options = nil
				if !n.GrantOption {
					have = nil
				}
			} else {
				have = []string{"ALL"}
				if n.GrantOption {
					options = []string{"ALL"}
				}
			}
		} else {
			for _, pr := range names {
				keep := func(s string) bool { return s == pr }
				switch {
				case n.Revoke:
					options = slices.DeleteFunc(options, keep)
					if !n.GrantOption {
						if slices.Contains(have, "ALL") {
							have = slices.DeleteFunc(slices.Clone(valid), func(s string) bool { return s == "ALL" })
						}
						have = slices.DeleteFunc(have, keep)
					}
				default:
					if !slices.Contains(have, pr) && !slices.Contains(have, "ALL") {
						have = append(have, pr)
					}
					if n.GrantOption && !slices.Contains(options, pr) {
						options = append(options, pr)
					}
				}
			}
		}
		sort.Strings(have)
		sort.Strings(options)
		if options == nil {
			options = []string{}
		}
		var row systables.Row
		if len(have) > 0 {
			row = systables.Row{g, path, have, options, user[3]}
		}
		if old == nil && row == nil {
			continue
		}
		if err := p.putSystemRow(ctx, systables.Privileges, old, row); err != nil {
			return err
		}
	}
	return nil
}

// alterDefaultPrivileges runs ALTER DEFAULT PRIVILEGES.
func (p *planner) alterDefaultPrivileges(ctx context.Context, n *parser.AlterDefaultPrivileges) error {
	kind, ok := map[parser.ObjectKind]catalog.ObjectKind{
		parser.KindTable: catalog.TableObject, parser.KindSequence: catalog.SequenceObject, parser.KindSchema: catalog.SchemaObject,
		parser.KindType: catalog.TypeObject, parser.KindFunction: catalog.FunctionObject,
	}[n.Kind]
	if !ok {
		return pgerr.Newf(pgerr.FeatureNotSupported, "unimplemented: default privileges on %s", n.Kind)
	}
	mask, _, err := parsePrivileges(n.Privileges, kind)
	if err != nil {
		return err
	}
	var owners []string
	switch {
	case n.AllRoles:
		if err := p.requireAdmin(ctx, "ALTER DEFAULT PRIVILEGES FOR ALL ROLES"); err != nil {
			return err
		}
		owners = []string{""}
	case len(n.Roles) == 0:
		owners = []string{p.s.data.User}
	default:
		roles, err := p.roles(ctx)
		if err != nil {
			return err
		}
		for _, r := range n.Roles {
			name := p.currentRole(r)
			if _, err := p.mustRole(ctx, name); err != nil {
				return err
			}
			if !roles[catalog.AdminRole] && !roles[name] {
				return pgerr.Newf(pgerr.InsufficientPrivilege, "must be a member of %s", name)
			}
			owners = append(owners, name)
		}
	}
	var grantees []string
	for _, g := range n.Grantees {
		name := p.currentRole(g)
		if name != catalog.PublicRole {
			if _, err := p.mustRole(ctx, name); err != nil {
				return err
			}
		}
		grantees = append(grantees, name)
	}
	edit := func(d *catalogpb.DefaultPrivileges) *catalogpb.DefaultPrivileges {
		if d == nil {
			d = &catalogpb.DefaultPrivileges{}
		}
		for _, owner := range owners {
			i := slices.IndexFunc(d.Entries, func(e *catalogpb.DefaultPrivileges_Entry) bool {
				return e.Role == owner && catalog.ObjectKind(e.ObjectKind) == kind
			})
			if i < 0 {
				d.Entries = append(d.Entries, &catalogpb.DefaultPrivileges_Entry{Role: owner, ObjectKind: uint32(kind)})
				i = len(d.Entries) - 1
			}
			pd := &catalogpb.PrivilegeDescriptor{Users: d.Entries[i].Grants}
			for _, g := range grantees {
				if n.Revoke {
					catalog.RevokePrivileges(pd, g, mask, n.GrantOption, kind)
				} else {
					catalog.GrantPrivileges(pd, g, mask, n.GrantOption)
				}
			}
			d.Entries[i].Grants = pd.Users
		}
		return d
	}
	if len(n.Schemas) == 0 {
		db, err := p.cat.MustDatabase(ctx, p.s.data.Database)
		if err != nil {
			return err
		}
		pb, err := p.cat.MutableDatabase(ctx, db.ID())
		if err != nil {
			return err
		}
		pb.DefaultPrivileges = edit(pb.DefaultPrivileges)
		_, err = p.cat.Write(ctx, pb)
		return err
	}
	for _, s := range n.Schemas {
		ref, ok, err := p.resolver().FindSchema(ctx, string(s.Database), string(s.Schema))
		if err != nil {
			return err
		}
		if !ok || ref.Desc == nil {
			return pgerr.Newf(pgerr.InvalidSchemaName, "schema \"%s\" does not exist", string(s.Schema))
		}
		pb, err := p.cat.MutableSchema(ctx, ref.ID)
		if err != nil {
			return err
		}
		pb.DefaultPrivileges = edit(pb.DefaultPrivileges)
		if _, err := p.cat.Write(ctx, pb); err != nil {
			return err
		}
	}
	return nil
}
