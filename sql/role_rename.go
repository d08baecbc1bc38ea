package sql

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// renameRole runs ALTER ROLE … RENAME TO. Roles are known by name everywhere, so
// every place that names one is rewritten in this transaction. Jobs keep the name
// under which they were created.
func (p *planner) renameRole(ctx context.Context, n *parser.AlterRoleRename) error {
	if err := p.requireCreateRole(ctx); err != nil {
		return err
	}
	from := p.currentRole(n.Name)
	to, err := normalRole(n.NewName)
	if err != nil {
		return err
	}
	switch from {
	case catalog.AdminRole, catalog.RootUser, catalog.PublicRole, catalog.NodeUser:
		return pgerr.Newf("42939", "role name %q is reserved", from)
	case p.s.args.User:
		return pgerr.New(pgerr.FeatureNotSupported, "session user cannot be renamed")
	case p.s.data.User:
		return pgerr.New(pgerr.FeatureNotSupported, "current user cannot be renamed")
	}
	if _, err := p.mustRole(ctx, from); err != nil {
		return err
	}
	if row, err := p.roleRow(ctx, to); err != nil {
		return err
	} else if row != nil {
		return pgerr.Newf(pgerr.DuplicateObject, "role \"%s\" already exists", to)
	}
	if err := p.rolesWillChange(ctx); err != nil {
		return err
	}
	for _, t := range []struct {
		table *systables.Table
		cols  []int
	}{{systables.Users, []int{0}}, {systables.RoleMembers, []int{0, 1}}, {systables.RoleOptions, []int{0}}, {systables.DatabaseRoleSettings, []int{1}}, {systables.Privileges, []int{0}}} {
		var rows []systables.Row
		if err := p.scanSystem(ctx, t.table, func(r systables.Row) error {
			if slices.ContainsFunc(t.cols, func(c int) bool { return r[c] == from }) {
				rows = append(rows, slices.Clone(r))
			}
			return nil
		}); err != nil {
			return err
		}
		for _, r := range rows {
			next := slices.Clone(r)
			for _, c := range t.cols {
				if next[c] == from {
					next[c] = to
				}
			}
			if err := p.putSystemRow(ctx, t.table, r, next); err != nil {
				return err
			}
		}
	}
	return p.renameGrantee(ctx, from, to)
}

// renameGrantee rewrites the owners and grants of all objects.
func (p *planner) renameGrantee(ctx context.Context, from, to string) error {
	descs, err := p.allDescs(ctx)
	if err != nil {
		return err
	}
	var all []catalog.Descriptor
	for _, d := range descs.databases {
		all = append(all, d)
	}
	for _, d := range descs.schemas {
		all = append(all, d)
	}
	for _, d := range descs.types {
		all = append(all, d)
	}
	for _, d := range descs.tables {
		all = append(all, d)
	}
	for _, d := range all {
		privs := d.Privileges()
		names := privs.GetOwner() == from || slices.ContainsFunc(privs.GetUsers(), func(u *catalogpb.UserPrivileges) bool { return u.User == from })
		if names {
			if err := p.editPrivileges(ctx, d, func(pd *catalogpb.PrivilegeDescriptor) error {
				renameInPrivileges(pd, from, to)
				return nil
			}); err != nil {
				return err
			}
		}
		if err := p.renameInDefaults(ctx, d, from, to); err != nil {
			return err
		}
	}
	return nil
}

func renameInPrivileges(pd *catalogpb.PrivilegeDescriptor, from, to string) {
	if pd == nil {
		return
	}
	if pd.Owner == from {
		pd.Owner = to
	}
	for _, u := range pd.Users {
		if u.User == from {
			u.User = to
		}
	}
	// Invariant: sorted by name.
	slices.SortFunc(pd.Users, func(a, b *catalogpb.UserPrivileges) int { return strings.Compare(a.User, b.User) })
}

// renameInDefaults rewrites the default privileges of a database or schema.
func (p *planner) renameInDefaults(ctx context.Context, d catalog.Descriptor, from, to string) error {
	edit := func(dp *catalogpb.DefaultPrivileges) (changed bool) {
		for _, e := range dp.GetEntries() {
			if e.Role == from {
				e.Role, changed = to, true
			}
			for _, l := range [][]*catalogpb.UserPrivileges{e.Grants, e.Revokes} {
				for _, u := range l {
					if u.User == from {
						u.User, changed = to, true
					}
				}
				slices.SortFunc(l, func(a, b *catalogpb.UserPrivileges) int { return strings.Compare(a.User, b.User) })
			}
		}
		return changed
	}
	switch d.Kind() {
	case catalog.DatabaseKind:
		pb, err := p.cat.MutableDatabase(ctx, d.ID())
		if err != nil || !edit(pb.DefaultPrivileges) {
			return err
		}
		_, err = p.cat.Write(ctx, pb)
		return err
	case catalog.SchemaKind:
		pb, err := p.cat.MutableSchema(ctx, d.ID())
		if err != nil || !edit(pb.DefaultPrivileges) {
			return err
		}
		_, err = p.cat.Write(ctx, pb)
		return err
	}
	return nil
}
