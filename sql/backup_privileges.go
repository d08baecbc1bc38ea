package sql

import (
	"context"

	"github.com/holdfastdb/holdfast/sql/catalog"
)

// hasBackupPrivilege says whether the session's user has a privilege on d, or on
// the system when d is nil.
func (p *planner) hasBackupPrivilege(ctx context.Context, d catalog.Descriptor, privilege string) (bool, error) {
	if d == nil {
		return p.hasSystemPrivilege(ctx, p.user(), privilege)
	}
	roles, err := p.roles(ctx)
	if err != nil {
		return false, err
	}
	if roles[catalog.AdminRole] {
		return true, nil
	}
	priv, ok := catalog.PrivilegeByName(privilege)
	return ok && catalog.HasPrivilege(d.Privileges(), roles, priv), nil
}

// SystemTablesRestored forgets what this and the other nodes remember of system
// tables, which a restore has replaced.
func (s *Server) SystemTablesRestored(ctx context.Context) error {
	s.roles.clear()
	s.forgetZones()
	s.tell(ctx, catalog.EverythingChange)
	return s.LoadSettings(ctx)
}
