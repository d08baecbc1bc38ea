package catalog

import (
	"math/bits"
	"sort"

	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
)

// Privilege is one privilege; in a descriptor it is the bit 1<<Privilege.
type Privilege uint

// The privileges that objects with descriptors have.
const (
	All          Privilege = 1
	Create       Privilege = 2
	Drop         Privilege = 3
	Select       Privilege = 5
	Insert       Privilege = 6
	Delete       Privilege = 7
	Update       Privilege = 8
	Usage        Privilege = 9
	ZoneConfig   Privilege = 10
	Connect      Privilege = 11
	Rule         Privilege = 12
	Execute      Privilege = 20
	Backup       Privilege = 23
	Restore      Privilege = 24
	Changefeed   Privilege = 26
	Trigger      Privilege = 32
	ReplSource   Privilege = 33
	ReplDest     Privilege = 34
	References   Privilege = 40 // PostgreSQL has it; nothing checks it
	TruncatePriv Privilege = 41
	Temporary    Privilege = 42
)

var privilegeNames = map[Privilege]string{
	All: "ALL", Create: "CREATE", Drop: "DROP", Select: "SELECT", Insert: "INSERT", Delete: "DELETE",
	Update: "UPDATE", Usage: "USAGE", ZoneConfig: "ZONECONFIG", Connect: "CONNECT", Rule: "RULE",
	Execute: "EXECUTE", Backup: "BACKUP", Restore: "RESTORE", Changefeed: "CHANGEFEED", Trigger: "TRIGGER",
	ReplSource: "REPLICATIONSOURCE", ReplDest: "REPLICATIONDEST", References: "REFERENCES",
	TruncatePriv: "TRUNCATE", Temporary: "TEMPORARY",
}

// String returns the privilege as SQL writes it.
func (p Privilege) String() string { return privilegeNames[p] }

// Mask returns the privilege's bit.
func (p Privilege) Mask() uint64 { return 1 << p }

// PrivilegeByName finds a privilege by its upper-case name.
func PrivilegeByName(name string) (Privilege, bool) {
	if name == "TEMP" {
		return Temporary, true
	}
	for p, n := range privilegeNames {
		if n == name {
			return p, true
		}
	}
	return 0, false
}

// ObjectKind distinguishes objects by which privileges apply.
type ObjectKind uint32

// The kinds of objects that privileges are granted on.
const (
	DatabaseObject ObjectKind = iota + 1
	SchemaObject
	TableObject
	SequenceObject
	TypeObject
	FunctionObject
)

func (k ObjectKind) String() string {
	return [...]string{"", "database", "schema", "table", "sequence", "type", "function"}[k]
}

var validPrivileges = map[ObjectKind][]Privilege{
	DatabaseObject: {All, Backup, Connect, Create, Drop, Restore, ZoneConfig, Temporary},
	SchemaObject:   {All, Create, Usage},
	TableObject: {All, Backup, Changefeed, Create, Drop, Select, Insert, Delete, Update, ZoneConfig, Trigger,
		ReplDest, ReplSource, References, TruncatePriv},
	SequenceObject: {All, Usage, Select, Update, Create, Drop, Insert, Delete, ZoneConfig, Changefeed},
	TypeObject:     {All, Usage},
	FunctionObject: {All, Execute},
}

// ValidPrivileges returns the privileges that can be granted on a kind of object.
func ValidPrivileges(k ObjectKind) []Privilege { return validPrivileges[k] }

// Names of built-in roles.
const (
	RootUser   = "root"
	AdminRole  = "admin"
	PublicRole = "public"
	NodeUser   = "node"
)

// currentPrivilegeVersion is what descriptors are written with.
const currentPrivilegeVersion = 2

// NewPrivileges returns what a new object starts with: admin and root have ALL
// with grant option.
func NewPrivileges(owner string) *catalogpb.PrivilegeDescriptor {
	p := &catalogpb.PrivilegeDescriptor{Owner: owner, Version: currentPrivilegeVersion}
	GrantPrivileges(p, AdminRole, All.Mask(), true)
	GrantPrivileges(p, RootUser, All.Mask(), true)
	return p
}

// NewDatabasePrivileges is NewPrivileges with CONNECT for public.
func NewDatabasePrivileges(owner string) *catalogpb.PrivilegeDescriptor {
	p := NewPrivileges(owner)
	GrantPrivileges(p, PublicRole, Connect.Mask()|Temporary.Mask(), false)
	return p
}

// NewPublicSchemaPrivileges is NewPrivileges with CREATE and USAGE for public.
func NewPublicSchemaPrivileges(owner string) *catalogpb.PrivilegeDescriptor {
	p := NewPrivileges(owner)
	GrantPrivileges(p, PublicRole, Create.Mask()|Usage.Mask(), false)
	return p
}

// NewTypePrivileges is NewPrivileges with USAGE for public.
func NewTypePrivileges(owner string) *catalogpb.PrivilegeDescriptor {
	p := NewPrivileges(owner)
	GrantPrivileges(p, PublicRole, Usage.Mask(), false)
	return p
}

func findUser(p *catalogpb.PrivilegeDescriptor, user string) (int, bool) {
	i := sort.Search(len(p.GetUsers()), func(i int) bool { return p.Users[i].User >= user })
	return i, i < len(p.GetUsers()) && p.Users[i].User == user
}

// GrantPrivileges adds the privileges in mask for user.
func GrantPrivileges(p *catalogpb.PrivilegeDescriptor, user string, mask uint64, grantOption bool) {
	i, ok := findUser(p, user)
	if !ok {
		p.Users = append(p.Users, nil)
		copy(p.Users[i+1:], p.Users[i:])
		p.Users[i] = &catalogpb.UserPrivileges{User: user}
	}
	u := p.Users[i]
	u.Privileges |= mask
	if grantOption {
		u.WithGrantOption |= mask
	}
	if u.Privileges&All.Mask() != 0 {
		u.Privileges = All.Mask() // ALL swallows the rest.
	}
	if u.WithGrantOption&All.Mask() != 0 {
		u.WithGrantOption = All.Mask()
	}
}

// RevokePrivileges removes the privileges in mask from user, or only the option
// to grant them. Revoking one privilege of ALL leaves the others that are valid
// for the kind of object.
func RevokePrivileges(p *catalogpb.PrivilegeDescriptor, user string, mask uint64, grantOptionOnly bool, kind ObjectKind) {
	i, ok := findUser(p, user)
	if !ok {
		return
	}
	u := p.Users[i]
	expand := func(m uint64) uint64 {
		if m&All.Mask() == 0 || mask&All.Mask() != 0 {
			return m
		}
		m = 0
		for _, v := range validPrivileges[kind] {
			if v != All {
				m |= v.Mask()
			}
		}
		return m
	}
	clear := func(m uint64) uint64 {
		if mask&All.Mask() != 0 {
			return 0
		}
		return expand(m) &^ mask
	}
	u.WithGrantOption = clear(u.WithGrantOption)
	if !grantOptionOnly {
		u.Privileges = clear(u.Privileges)
		if u.Privileges == 0 {
			p.Users = append(p.Users[:i], p.Users[i+1:]...)
		}
	}
}

// HasPrivilege says whether one of roles (the user, the roles it is a member of,
// public) has the privilege or owns the object.
func HasPrivilege(p *catalogpb.PrivilegeDescriptor, roles map[string]bool, priv Privilege) bool {
	if p == nil {
		return roles[AdminRole] || roles[RootUser] || roles[NodeUser]
	}
	if roles[p.Owner] || roles[NodeUser] || roles[AdminRole] || roles[RootUser] {
		return true
	}
	for _, u := range p.Users {
		if u.Privileges&(priv.Mask()|All.Mask()) != 0 && roles[u.User] {
			return true
		}
	}
	return false
}

// HasAnyPrivilege says whether one of roles has any privilege or owns the object.
func HasAnyPrivilege(p *catalogpb.PrivilegeDescriptor, roles map[string]bool) bool {
	if p == nil || roles[p.Owner] || roles[NodeUser] || roles[AdminRole] || roles[RootUser] {
		return HasPrivilege(p, roles, All)
	}
	for _, u := range p.Users {
		if u.Privileges != 0 && roles[u.User] {
			return true
		}
	}
	return false
}

// PrivilegeNames lists the privileges in mask in the order of SQL output.
func PrivilegeNames(mask uint64) []string {
	var out []string
	for ; mask != 0; mask &= mask - 1 {
		if n := Privilege(bits.TrailingZeros64(mask)).String(); n != "" {
			out = append(out, n)
		}
	}
	sort.Strings(out)
	return out
}
