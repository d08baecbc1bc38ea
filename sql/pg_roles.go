package sql

import (
	"context"
	"sort"
	"time"

	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/pgfacts"
)

func timeZoneNames() []string { return pgfacts.TimeZones() }

// roleInfo is a role with its options.
type roleInfo struct {
	name    string
	oid     int64
	isRole  bool
	options map[string]any
	admin   bool
}

// allRoles lists the roles by name.
func (p *planner) allRoles(ctx context.Context) ([]*roleInfo, error) {
	byName := map[string]*roleInfo{}
	if err := p.scanSystem(ctx, systables.Users, func(row systables.Row) error {
		r := &roleInfo{name: row[0].(string), isRole: row[2].(bool), options: map[string]any{}}
		r.oid, _ = row[3].(int64)
		byName[r.name] = r
		return nil
	}); err != nil {
		return nil, err
	}
	if err := p.scanSystem(ctx, systables.RoleOptions, func(row systables.Row) error {
		if r := byName[row[0].(string)]; r != nil {
			r.options[row[1].(string)] = row[2]
		}
		return nil
	}); err != nil {
		return nil, err
	}
	out := make([]*roleInfo, 0, len(byName))
	for _, r := range byName {
		roles, err := p.rolesOf(ctx, r.name)
		if err != nil {
			return nil, err
		}
		r.admin = roles[catalog.AdminRole]
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

func (r *roleInfo) has(option string) bool { _, ok := r.options[option]; return ok }

func (r *roleInfo) validUntil() any {
	s, _ := r.options["VALID UNTIL"].(string)
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05-07", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return nil
}

func vPgRoles(ctx context.Context, v *vctx, add func(vrow) error) error {
	roles, err := v.p.allRoles(ctx)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if err := add(vrow{"oid": r.oid, "rolname": r.name, "rolsuper": r.admin, "rolinherit": true, "rolcreaterole": r.admin || r.has("CREATEROLE"),
			"rolcreatedb": r.admin || r.has("CREATEDB"), "rolcanlogin": r.name != catalog.AdminRole && !r.has("NOLOGIN"), "rolreplication": r.has("REPLICATION"),
			"rolbypassrls": r.admin || r.has("BYPASSRLS"), "rolconnlimit": -1, "rolpassword": "********", "rolvaliduntil": r.validUntil()}); err != nil {
			return err
		}
	}
	return nil
}

// vPgAuthid is vPgRoles without passwords: nothing that pg_dumpall could write down.
func vPgAuthid(ctx context.Context, v *vctx, add func(vrow) error) error {
	return vPgRoles(ctx, v, func(r vrow) error {
		for _, shown := range []string{"rolconfig", "rolpassword"} {
			delete(r, shown)
		}
		return add(r)
	})
}

func vPgUser(ctx context.Context, v *vctx, add func(vrow) error) error {
	roles, err := v.p.allRoles(ctx)
	if err != nil {
		return err
	}
	for _, r := range roles {
		if r.isRole || r.has("NOLOGIN") {
			continue
		}
		if err := add(vrow{"usename": r.name, "usesysid": r.oid, "usecreatedb": r.admin || r.has("CREATEDB"), "usesuper": r.admin, "userepl": false,
			"usebypassrls": r.admin, "passwd": "********"}); err != nil {
			return err
		}
	}
	return nil
}

func vPgAuthMembers(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.p.scanSystem(ctx, systables.RoleMembers, func(row systables.Row) error {
		return add(vrow{"roleid": row[3].(int64), "member": row[4].(int64), "grantor": rootOID, "admin_option": row[2].(bool)})
	})
}

func vPgGroup(ctx context.Context, v *vctx, add func(vrow) error) error {
	roles, err := v.p.allRoles(ctx)
	if err != nil {
		return err
	}
	members := map[string][]int64{}
	if err := v.p.scanSystem(ctx, systables.RoleMembers, func(row systables.Row) error {
		members[row[0].(string)] = append(members[row[0].(string)], row[4].(int64))
		return nil
	}); err != nil {
		return err
	}
	for _, r := range roles {
		if r.isRole {
			if err := add(vrow{"groname": r.name, "grosysid": r.oid, "grolist": members[r.name]}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vPgSettings(_ context.Context, v *vctx, add func(vrow) error) error {
	names := make([]string, 0, len(allSessionVars()))
	for n, sv := range allSessionVars() {
		if !sv.hidden {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	for _, n := range names {
		val, _ := v.p.s.getVar(n)
		sv := allSessionVars()[n]
		context, source := "user", "default"
		if sv.fixed {
			context = "internal"
		}
		if _, set := v.p.s.vars.values[n]; set {
			source = "session"
		}
		if err := add(vrow{"name": n, "setting": val, "category": "Session", "short_desc": "", "context": context, "vartype": "string", "source": source,
			"boot_val": sv.def, "reset_val": sv.def, "pending_restart": false}); err != nil {
			return err
		}
	}
	return nil
}

func vPgStatActivity(ctx context.Context, v *vctx, add func(vrow) error) error {
	list, err := v.visibleSessions(ctx, true)
	if err != nil {
		return err
	}
	for _, i := range list {
		state, text := "idle", i.LastSQL
		switch {
		case i.SQL != "":
			state, text = "active", i.SQL
		case len(i.TxnID) > 0:
			state = "idle in transaction"
		}
		var datid any
		if d := v.dbByName[i.Database]; d != nil {
			datid = d.ID()
		}
		r := vrow{"datid": datid, "datname": i.Database, "pid": int64(i.ID), "usesysid": v.owners[i.User], "usename": i.User,
			"application_name": i.ApplicationName, "backend_start": i.Started, "state": state, "query": text, "backend_type": "client backend"}
		if !i.QueryStart.IsZero() {
			r["query_start"], r["state_change"] = i.QueryStart, i.QueryStart
		}
		if len(i.TxnID) > 0 {
			r["xact_start"] = i.TxnStarted
		}
		if err := add(r); err != nil {
			return err
		}
	}
	return nil
}

func vPgPreparedStatements(_ context.Context, v *vctx, add func(vrow) error) error {
	names := make([]string, 0, len(v.p.s.prepared))
	for n := range v.p.s.prepared {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if n == "" {
			continue
		}
		if err := add(vrow{"name": n, "statement": v.p.s.prepared[n].Stmt.SQL, "from_sql": true}); err != nil {
			return err
		}
	}
	return nil
}
