package sql

import (
	"context"
	"sync"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// roleCache remembers role memberships until roles change, here or elsewhere.
type roleCache struct {
	mu struct {
		sync.Mutex
		byUser map[string]map[string]bool
		epoch  uint64
		// suspended counts the changes under way on other nodes.
		suspended int
	}
}

// suspend makes everybody read memberships from the store: they are about to change.
func (c *roleCache) suspend() {
	c.clear()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.suspended++
}

// resume undoes suspend.
func (c *roleCache) resume() {
	c.clear()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.suspended--
}

func (c *roleCache) get(user string) (map[string]bool, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.byUser[user], c.mu.epoch
}

func (c *roleCache) put(user string, roles map[string]bool, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.epoch != epoch || c.mu.suspended > 0 {
		return
	}
	if c.mu.byUser == nil {
		c.mu.byUser = map[string]map[string]bool{}
	}
	c.mu.byUser[user] = roles
}

func (c *roleCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.byUser = nil
	c.mu.epoch++
}

// user is who privileges are checked for. Nested statements of foreign keys and
// schema changes run with all rights.
func (p *planner) user() string {
	if p.internal {
		return catalog.NodeUser
	}
	return p.s.data.User
}

// roles returns the user and all roles it is a member of, public included.
func (p *planner) roles(ctx context.Context) (map[string]bool, error) {
	return p.rolesOf(ctx, p.user())
}

var nodeRoles = map[string]bool{catalog.NodeUser: true, catalog.AdminRole: true, catalog.PublicRole: true}

func (p *planner) rolesOf(ctx context.Context, user string) (map[string]bool, error) {
	if user == catalog.NodeUser {
		return nodeRoles, nil
	}
	cached, epoch := p.srv.roles.get(user)
	if cached != nil && !p.s.tx.rolesChanged && p.srv.catalog.Leased(p.txn.ReadTimestamp()) {
		return cached, nil
	}
	members := map[string][]string{} // member → roles
	if err := p.scanSystem(ctx, systables.RoleMembers, func(row systables.Row) error {
		role, member := row[0].(string), row[1].(string)
		members[member] = append(members[member], role)
		return nil
	}); err != nil {
		return nil, err
	}
	out := map[string]bool{user: true, catalog.PublicRole: true}
	queue := []string{user}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for _, r := range members[next] {
			if !out[r] {
				out[r] = true
				queue = append(queue, r)
			}
		}
	}
	if user == catalog.RootUser {
		out[catalog.AdminRole] = true
	}
	if !p.s.tx.rolesChanged {
		p.srv.roles.put(user, out, epoch)
	}
	return out, nil
}

// isAdmin says whether the user may do everything.
func (p *planner) isAdmin(ctx context.Context) (bool, error) {
	roles, err := p.roles(ctx)
	return roles[catalog.AdminRole], err
}

func (p *planner) requireAdmin(ctx context.Context, what string) error {
	ok, err := p.isAdmin(ctx)
	if err == nil && !ok {
		err = pgerr.Newf(pgerr.InsufficientPrivilege, "only users with the admin role are allowed to %s", what)
	}
	return err
}

func errNoPrivilege(user string, priv catalog.Privilege, kind, name string) error {
	return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have %s privilege on %s %s", user, priv, kind, name)
}

// checkPrivilege requires one privilege on an object.
func (p *planner) checkPrivilege(ctx context.Context, privs *catalogpb.PrivilegeDescriptor, priv catalog.Privilege, kind, name string) error {
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	if catalog.HasPrivilege(privs, roles, priv) {
		return nil
	}
	return errNoPrivilege(p.user(), priv, kind, name)
}

// checkTablePrivilege requires any one of some privileges on a relation.
func (p *planner) checkTablePrivilege(ctx context.Context, t *catalog.Table, any ...catalog.Privilege) error {
	return p.checkTablePrivilegeOf(ctx, p.user(), t, any...)
}

func (p *planner) checkTablePrivilegeOf(ctx context.Context, user string, t *catalog.Table, any ...catalog.Privilege) error {
	roles, err := p.rolesOf(ctx, user)
	if err != nil {
		return err
	}
	for _, priv := range any {
		if catalog.HasPrivilege(t.Privileges(), roles, priv) {
			return p.checkSystemTable(ctx, t, priv)
		}
	}
	return errNoPrivilege(user, any[0], "relation", t.Name())
}

// ownedSystemTables are written by the program alone: a wrong row in them loses
// data.
var ownedSystemTables = map[catalog.ID]bool{
	systables.Descriptor.ID: true, systables.Namespace.ID: true, systables.ProtectedTimestamps.ID: true,
	systables.Sessions.ID: true, systables.Jobs.ID: true, systables.JobInfo.ID: true, systables.Zones.ID: true,
}

// checkSystemTable lets only internal statements write rows of system tables that
// other parts of the program own.
func (p *planner) checkSystemTable(_ context.Context, t *catalog.Table, priv catalog.Privilege) error {
	if p.internal || !ownedSystemTables[t.ID()] || priv == catalog.Select || priv == catalog.Backup {
		return nil
	}
	return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have %s privilege on relation %s", p.user(), priv, t.Name()).
		WithHint("System tables change through the statements made for them.")
}

// checkTablePrivileges requires all of the named privileges on a relation.
func (p *planner) checkTablePrivileges(ctx context.Context, t *catalog.Table, privs ...string) error {
	for _, name := range privs {
		priv, ok := catalog.PrivilegeByName(name)
		if !ok {
			return pgerr.Newf(pgerr.Internal, "unknown privilege %q", name)
		}
		if err := p.checkTablePrivilege(ctx, t, priv); err != nil {
			return err
		}
	}
	return nil
}

// checkAnyTablePrivilege requires some privilege, as SHOW CREATE and its like do.
func (p *planner) checkAnyTablePrivilege(ctx context.Context, t *catalog.Table) error {
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	if !catalog.HasAnyPrivilege(t.Privileges(), roles) {
		return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s has no privileges on relation %s", p.user(), t.Name())
	}
	return nil
}

// owns says whether the user owns an object, itself or through a role.
func (p *planner) owns(ctx context.Context, privs *catalogpb.PrivilegeDescriptor) (bool, error) {
	roles, err := p.roles(ctx)
	if err != nil {
		return false, err
	}
	return roles[catalog.AdminRole] || roles[privs.GetOwner()], nil
}

// checkOwner requires that the user owns a relation.
func (p *planner) checkOwner(ctx context.Context, t *catalog.Table) error {
	if t.ParentID() == catalog.SystemDatabaseID && !p.internal {
		return errSystemCatalog(t.Name())
	}
	ok, err := p.owns(ctx, t.Privileges())
	if err == nil && !ok {
		err = pgerr.Newf(pgerr.InsufficientPrivilege, "must be owner of %s %s", kindWord(t), t.Name())
	}
	return err
}

// checkOwnerOr requires ownership of a relation or a privilege on it.
func (p *planner) checkOwnerOr(ctx context.Context, t *catalog.Table, priv catalog.Privilege) error {
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	if t.ParentID() != catalog.SystemDatabaseID && catalog.HasPrivilege(t.Privileges(), roles, priv) {
		return nil
	}
	return p.checkOwner(ctx, t)
}

// checkOwnerOrPrivilege is checkOwnerOr for objects that are not relations.
func (p *planner) checkOwnerOrPrivilege(ctx context.Context, privs *catalogpb.PrivilegeDescriptor, priv catalog.Privilege, kind, name string) error {
	roles, err := p.roles(ctx)
	if err != nil {
		return err
	}
	if catalog.HasPrivilege(privs, roles, priv) {
		return nil
	}
	return pgerr.Newf(pgerr.InsufficientPrivilege, "must be owner of %s %s", kind, name)
}

// requireOwner is checkOwner for objects that are not relations.
func (p *planner) requireOwner(ctx context.Context, privs *catalogpb.PrivilegeDescriptor, kind, name string) error {
	ok, err := p.owns(ctx, privs)
	if err == nil && !ok {
		err = pgerr.Newf(pgerr.InsufficientPrivilege, "must be owner of %s %s", kind, name)
	}
	return err
}

// hasSystemPrivilege looks a system privilege up: the role option of the same
// name counts, and so does ALL.
func (p *planner) hasSystemPrivilege(ctx context.Context, user, priv string) (bool, error) {
	roles, err := p.rolesOf(ctx, user)
	if err != nil {
		return false, err
	}
	if roles[catalog.AdminRole] {
		return true, nil
	}
	found := false
	if err := p.scanSystem(ctx, systables.RoleOptions, func(row systables.Row) error {
		found = found || (row[0] == user && row[1] == priv)
		return nil
	}); err != nil || found {
		return found, err
	}
	err = p.scanSystem(ctx, systables.Privileges, func(row systables.Row) error {
		if row[1] != globalPrivilegePath || !roles[row[0].(string)] {
			return nil
		}
		have, _ := row[2].([]string)
		for _, h := range have {
			found = found || h == priv || h == "ALL"
		}
		return nil
	})
	return found, err
}

// globalPrivilegePath is where system.privileges keeps GRANT SYSTEM.
const globalPrivilegePath = "/global/"

// defaultPrivilegesFor returns the privileges of a new object of the user: the
// owner's, and what ALTER DEFAULT PRIVILEGES says for this database and schema.
func (p *planner) defaultPrivilegesFor(db *catalog.Database, schema catalog.SchemaRef, kind catalog.ObjectKind) *catalogpb.PrivilegeDescriptor {
	owner := p.s.data.User
	privs := catalog.NewPrivileges(owner)
	apply := func(d *catalogpb.DefaultPrivileges) {
		for _, e := range d.GetEntries() {
			if catalog.ObjectKind(e.ObjectKind) != kind || (e.Role != "" && e.Role != owner) {
				continue
			}
			for _, g := range e.Grants {
				catalog.GrantPrivileges(privs, g.User, g.Privileges, false)
				if g.WithGrantOption != 0 {
					catalog.GrantPrivileges(privs, g.User, g.WithGrantOption, true)
				}
			}
		}
	}
	if db != nil {
		apply(db.Proto().DefaultPrivileges)
	}
	if schema.Desc != nil {
		apply(schema.Desc.Proto().DefaultPrivileges)
	}
	return privs
}
