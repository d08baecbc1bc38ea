package sql

import (
	"context"

	"github.com/holdfastdb/holdfast/sql/catalog"
)

// hasBackupPrivilege says whether the session's user has a privilege on d, or on
// the system when d is nil.
func (p *planner) hasBackupPrivilege(ctx context.Context, d catalog.Descriptor, privilege string) (bool, error) {
	user := p.s.User()
	if user == catalog.RootUser || user == catalog.AdminRole {
		return true, nil
	}
	priv, ok := catalog.PrivilegeByName(privilege)
	if d == nil || !ok {
		return false, nil
	}
	return catalog.HasPrivilege(d.Privileges(), map[string]bool{user: true, catalog.PublicRole: true}, priv), nil
}
