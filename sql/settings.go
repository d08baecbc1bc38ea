package sql

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// sessionVars are the settings that this package reads often, next to those in
// sessiondata.SessionData. Setting any of them goes through the registry of
// variables (vars.go), which also bumps Session.planEpoch.
type sessionVars struct {
	idleSessionTimeout       time.Duration
	idleInTransactionTimeout time.Duration
	transactionTimeout       time.Duration
	lockTimeout              time.Duration
	defaultReadOnly          bool
	defaultIsolation         string // "serializable", "read committed", …
	clientMinMessages        string
	// searchPath lists schemas; nil is the default.
	searchPath []string

	// values holds what was set, as text; initial what RESET goes back to.
	values, initial map[string]string
	codec           *pgcodec.Settings
}

// sessionState is what sessions keep for sequences, temporary objects and the
// like.
type sessionState struct {
	seq       sequenceSession
	superuser bool
	// temporary are the ids of relations that end with the session.
	temporary []catalog.ID
	// advisoryXact and advisoryUsed say that advisory locks may be held for the
	// transaction, or at all.
	advisoryXact, advisoryUsed bool
}

// closeState drops what lives as long as the session: temporary relations.
func (s *Session) closeState(ctx context.Context) {
	s.dropTemporary(context.WithoutCancel(ctx))
	if s.advisoryUsed {
		s.srv.advisoryReleased(s.srv.advisory.releaseAll(s.id, true, true))
	}
}

// idText names the session in SHOW SESSIONS and CANCEL SESSION.
func (s *Session) idText() string { return sessionText(s.srv.cfg.NodeID, s.id) }

// serverState is what the node keeps for schema changes, settings, sequences.
type serverState struct {
	roles    roleCache
	advisory advisoryLocks
	// advisoryMu serializes what this node writes of a lock for others to see.
	advisoryMu [advisoryStripes]sync.Mutex
	settings   *settings.Registry
}

// ExternalConfig is the part of ServerConfig that schema changes, jobs and
// backups need.
type ExternalConfig struct {
	Jobs *jobs.Registry
	// Settings are the cluster settings of all packages. nil makes a registry
	// with those of sql alone.
	Settings *settings.Registry
	// Backup runs BACKUP, RESTORE and their like; nil refuses them.
	Backup BackupHook
	// ZonesChanged, if there is one, is called when zone configurations may be others.
	ZonesChanged func()
	// UploadFile keeps what a client sends as a file of this node's nodelocal
	// storage; nil refuses uploads.
	UploadFile func(ctx context.Context, name string, data io.Reader) error
	// Insecure says that the server runs without TLS and passwords.
	Insecure bool
	// HashPassword makes what system.users stores of a password.
	HashPassword func(password string, random io.Reader) ([]byte, error)
	// Nodes tells of the nodes of the cluster; nil: there is this one only.
	Nodes func(context.Context) ([]NodeStatus, error)
	// SessionPeers reaches sessions of other nodes; nil: there are none.
	SessionPeers SessionPeers
	ClusterName  string
	// Organization and the rest are shown in crdb_internal.
	HTTPAddr, SQLAddr string
}

// init makes the node's state.
func (s *serverState) init(srv *Server) error {
	s.settings = srv.cfg.Settings
	if s.settings == nil {
		s.settings = settings.NewRegistry()
	}
	registerSettings(s.settings)
	return nil
}

// Settings returns the cluster settings.
func (s *Server) Settings() *settings.Registry { return s.settings }

// registerSettings defines the cluster settings of this package, and those of the
// documented store that have no effect here but are set by scripts.
func registerSettings(r *settings.Registry) {
	str := func(name, def, desc string) {
		if _, ok := r.Lookup(name); !ok {
			r.String(name, desc, def, nil)
		}
	}
	boolean := func(name string, def bool, desc string) {
		if _, ok := r.Lookup(name); !ok {
			r.Bool(name, desc, def)
		}
	}
	if _, ok := r.Lookup("version"); !ok {
		r.String("version", "the layout version of the store", versionValue(bootstrapVersion), nil, settings.ReadOnly())
	}
	str("cluster.organization", "", "organization name")
	str("cluster.preserve_downgrade_option", "", "has no effect")
	str("server.host_based_authentication.configuration", "", "host-based authentication rules")
	str("sql.defaults.primary_region", "", "primary region of new databases; has no effect")
	boolean("sql.auth.public_schema_create_privilege.enabled", true, "whether everyone may create objects in schema public; has no effect")
	boolean("sql.stats.automatic_collection.enabled", true, "whether row counts are kept; has no effect")
	boolean("kv.rangefeed.enabled", false, "has no effect")
	boolean("diagnostics.reporting.enabled", false, "nothing is ever reported")
	boolean("kv.range_merge.queue_enabled", true, "whether small ranges are merged with their neighbours")
	boolean("kv.range_split.by_load_enabled", true, "has no effect on one node")
	boolean("server.auth_log.sql_connections.enabled", false, "log connections")
	boolean("server.auth_log.sql_sessions.enabled", false, "log sessions")
	boolean("sql.trace.log_statement_execute", false, "log every statement")
}

// LoadSettings applies the rows of system.settings, at start and after changes.
func (s *Server) LoadSettings(ctx context.Context) error {
	rows := map[string]string{}
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		clear(rows)
		sp := systables.Settings.Span()
		res, err := txn.Scan(ctx, sp.Key, sp.EndKey, kv.ScanOptions{})
		if err != nil {
			return err
		}
		for _, pair := range res.KVs {
			row, err := systables.Settings.Decode(pair.Key, pair.Value)
			if err != nil {
				return err
			}
			if name, _ := row[0].(string); name != versionSetting {
				rows[name], _ = row[1].(string)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading cluster settings: %w", err)
	}
	return s.settings.Apply(rows)
}

// settingsPoll is how often settings are read again, should another node have
// changed them and its word not have come here.
const settingsPoll = 5 * time.Second

// Run keeps the node's view of cluster settings fresh, and clears what other
// processes have left, until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	if err := s.LoadSettings(ctx); err != nil {
		return err
	}
	tick, sweep := time.NewTicker(settingsPoll), time.NewTicker(sweepInterval)
	defer tick.Stop()
	defer sweep.Stop()
	var w sweeper
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			if err := w.run(ctx, s); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "clearing what former processes have left; will retry", "err", err)
			}
		case <-tick.C:
			if err := s.LoadSettings(ctx); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "cluster settings stay as they are", "err", err)
			}
		}
	}
}

// roleDefaults returns what ALTER ROLE … SET and ALTER DATABASE … SET say for a
// new session, least specific first, and whether the user is an administrator.
func (s *Server) roleDefaults(ctx context.Context, user, database string) (out []string, superuser bool, _ error) {
	superuser = user == catalog.RootUser
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		out = nil
		sp := systables.DatabaseRoleSettings.Span()
		res, err := txn.Scan(ctx, sp.Key, sp.EndKey, kv.ScanOptions{})
		if err != nil {
			return err
		}
		if !superuser {
			key, err := systables.RoleMembers.Key(catalog.AdminRole, user)
			if err != nil {
				return err
			}
			m, err := txn.Get(ctx, key)
			if err != nil {
				return err
			}
			superuser = len(m.Value) > 0
		}
		c := s.catalog.NewCollection(txn)
		defer c.Release()
		db, err := c.Database(ctx, database)
		if err != nil {
			return err
		}
		if db == nil {
			return pgerr.Newf(pgerr.InvalidCatalogName, "database \"%s\" does not exist", database).
				WithHint("New clusters have \"defaultdb\"; \"system\" is always there. SHOW DATABASES lists them all.")
		}
		if len(res.KVs) == 0 {
			return nil
		}
		dbID := int64(db.ID())
		type hit struct {
			rank     int
			settings []string
		}
		var hits []hit
		for _, pair := range res.KVs {
			row, err := systables.DatabaseRoleSettings.Decode(pair.Key, pair.Value)
			if err != nil {
				return err
			}
			id, role := row[0].(int64), row[1].(string)
			if (id != 0 && id != dbID) || (role != "" && role != user) {
				continue
			}
			rank := 0
			if id != 0 {
				rank++
			}
			if role != "" {
				rank += 2
			}
			list, _ := row[2].([]string)
			hits = append(hits, hit{rank, list})
		}
		sort.SliceStable(hits, func(i, j int) bool { return hits[i].rank < hits[j].rank })
		for _, h := range hits {
			out = append(out, h.settings...)
		}
		return nil
	})
	return out, superuser, err
}

// execSettings runs SET, RESET, SET CLUSTER SETTING and their like. Changes in a
// transaction are undone with it: t.restoreVar.
func (p *planner) execSettings(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	tag := "SET"
	var err error
	switch n := stmt.(type) {
	case *tree.SetVar:
		tag, err = p.setVar(ctx, n, false)
	case *parser.SetLocal:
		if !p.s.tx.explicit() {
			p.warn("25P01", "SET LOCAL can only be used in transaction blocks")
		}
		tag, err = p.setVar(ctx, n.SetVar, true)
	case *parser.ResetAll:
		tag, err = "RESET", p.resetAllVars(ctx)
	case *tree.SetSessionAuthorizationDefault:
	case *tree.SetClusterSetting:
		tag = "SET CLUSTER SETTING"
		if n.Value == nil || n.Value == (tree.DefaultVal{}) {
			tag = "RESET CLUSTER SETTING"
		}
		err = p.setClusterSetting(ctx, n)
	default:
		return false, nil
	}
	if err != nil {
		return true, err
	}
	res.Complete(tag)
	return true, nil
}

func (p *planner) setVar(ctx context.Context, n *tree.SetVar, local bool) (tag string, err error) {
	name := n.Name
	if name == "" { // SET ROW (…) = …; or RESET ALL from some grammars
		return "", pgerr.New(pgerr.SyntaxError, "invalid statement: SET ROW")
	}
	isDefault := len(n.Values) == 1 && n.Values[0] == (tree.DefaultVal{})
	if len(n.Values) == 0 || isDefault {
		tag = "SET"
		if strings.HasPrefix(strings.ToUpper(strings.TrimSpace(p.stmt.SQL)), "RESET") {
			tag = "RESET"
		}
		if strings.EqualFold(name, "all") {
			return tag, p.resetAllVars(ctx)
		}
		if _, known := p.s.getVar(name); !known {
			return "", errUnknownVar(strings.ToLower(name))
		}
		return tag, p.s.resetVar(name, local)
	}
	value, err := p.evalVarValues(ctx, strings.ToLower(name), n.Values)
	if err != nil {
		return "", err
	}
	if strings.EqualFold(name, "database") {
		if value != "" {
			if _, err := p.cat.MustDatabase(ctx, value); err != nil {
				return "", err
			}
		}
	}
	return "SET", p.s.setVar(name, value, local)
}

// evalVarValues turns the right side of SET into text. Bare words stand for
// themselves.
func (p *planner) evalVarValues(ctx context.Context, name string, values tree.Exprs) (string, error) {
	parts := make([]string, len(values))
	for i, e := range values {
		switch t := e.(type) {
		case *tree.UnresolvedName:
			parts[i] = t.Parts[0]
			for j := 1; j < t.NumParts; j++ {
				parts[i] = t.Parts[j] + "." + parts[i]
			}
		case *tree.StrVal:
			parts[i] = t.RawString()
		case *tree.NumVal:
			parts[i] = t.String()
		case tree.DefaultVal:
			parts[i] = "default"
		default:
			s, err := p.evalString(ctx, e)
			if err != nil {
				return "", err
			}
			parts[i] = s
		}
	}
	if name == "search_path" || name == "schema" {
		for i, s := range parts {
			if len(parts) > 1 || !strings.ContainsAny(s, `",`) {
				if s == "$user" {
					parts[i] = `"$user"`
				} else {
					parts[i] = quoteIdent(s)
				}
			}
		}
	}
	return strings.Join(parts, ", "), nil
}

// resetAllVars is RESET ALL.
func (p *planner) resetAllVars(context.Context) error {
	for n := range p.s.vars.values {
		v, _, ok := varByName(n)
		if !ok || v.fixed {
			continue
		}
		if err := p.s.resetVar(n, false); err != nil {
			return err
		}
	}
	return nil
}

// setClusterSetting runs SET CLUSTER SETTING. The change is durable when the
// statement returns, and in effect on all nodes that answer.
func (p *planner) setClusterSetting(ctx context.Context, n *tree.SetClusterSetting) error {
	if p.s.tx.explicit() {
		return pgerr.New(pgerr.ActiveSQLTransaction, "SET CLUSTER SETTING cannot be used inside a multi-statement transaction")
	}
	name := strings.ToLower(n.Name)
	if err := p.checkSettingPrivilege(ctx, name, "set"); err != nil {
		return err
	}
	s, ok := p.srv.settings.Lookup(name)
	if !ok {
		return pgerr.Newf(pgerr.UndefinedObject, "unknown cluster setting '%s'", name)
	}
	if err := p.checkWritable("SET CLUSTER SETTING"); err != nil {
		return err
	}
	old, err := p.systemRow(ctx, systables.Settings, name)
	if err != nil {
		return err
	}
	var row systables.Row
	if n.Value != nil && n.Value != (tree.DefaultVal{}) {
		text, err := p.evalVarValues(ctx, name, tree.Exprs{n.Value})
		if err != nil {
			return err
		}
		enc, err := s.Parse(text)
		if err != nil {
			return pgerr.Newf(pgerr.InvalidParameterValue, "could not set cluster setting %s: %v", name, err)
		}
		row = systables.Row{name, enc, p.srv.clock.PhysicalTime().UTC(), string(s.Kind())}
	} else if _, err := s.Parse(s.DefaultString()); err != nil && strings.Contains(err.Error(), "read-only") {
		return pgerr.Newf(pgerr.InvalidParameterValue, "%v", err)
	}
	if old == nil && row == nil {
		return nil
	}
	if err := p.putSystemRow(ctx, systables.Settings, old, row); err != nil {
		return err
	}
	p.afterCommit(func(ctx context.Context) error {
		if err := p.srv.LoadSettings(ctx); err != nil {
			return err
		}
		p.srv.tell(ctx, catalog.SettingsChange)
		return nil
	})
	return nil
}

// checkSettingPrivilege: settings of sql.defaults need less than others.
func (p *planner) checkSettingPrivilege(ctx context.Context, name, verb string) error {
	names := []string{"MODIFYCLUSTERSETTING"}
	if strings.HasPrefix(name, "sql.defaults.") {
		names = append(names, "MODIFYSQLCLUSTERSETTING")
	}
	if verb == "show" {
		names = append(names, "VIEWCLUSTERSETTING")
	}
	for _, n := range names {
		ok, err := p.hasSystemPrivilege(ctx, p.user(), n)
		if err != nil || ok {
			return err
		}
	}
	return pgerr.Newf(pgerr.InsufficientPrivilege, "only users with the %s privilege are allowed to %s cluster setting '%s'",
		strings.Join(names, " or "), verb, name)
}

// checkAnySettingPrivilege is for the lists of settings.
func (p *planner) checkAnySettingPrivilege(ctx context.Context) error {
	for _, n := range []string{"VIEWCLUSTERSETTING", "MODIFYCLUSTERSETTING", "MODIFYSQLCLUSTERSETTING"} {
		ok, err := p.hasSystemPrivilege(ctx, p.user(), n)
		if err != nil || ok {
			return err
		}
	}
	return pgerr.New(pgerr.InsufficientPrivilege, "only users with VIEWCLUSTERSETTING or MODIFYCLUSTERSETTING privileges are allowed to view cluster settings")
}

// dropTemporary drops the temporary relations that the session made.
func (s *Session) dropTemporary(ctx context.Context) {
	if len(s.temporary) == 0 {
		return
	}
	for _, id := range s.temporary {
		if err := s.dropTemporaryTable(ctx, id); err != nil {
			s.srv.log.WarnContext(ctx, "a temporary relation stays behind", "id", id, "err", err)
		}
	}
	s.temporary = nil
}

// dropTemporaryTable drops one relation in a transaction of its own.
func (s *Session) dropTemporaryTable(ctx context.Context, id catalog.ID) error {
	if s.tx.kind != noTxn {
		return pgerr.New(pgerr.ActiveSQLTransaction, "temporary relations are dropped between transactions")
	}
	if err := s.tx.begin(txnImplicit, txnModes{}); err != nil {
		return err
	}
	stmt := parser.Statement{SQL: "DROP TABLE"}
	var res bufferedResult
	p := s.newPlanner(ctx, stmt, &res)
	p.internal = true
	t, err := p.cat.TableByID(ctx, id, catalog.Flags{})
	if err == nil && t != nil && t.Proto().Temporary {
		d := p.newDropper(tree.DropCascade)
		if err = d.relation(ctx, id); err == nil {
			err = d.finish(ctx)
		}
	}
	p.release()
	if err != nil {
		s.tx.rollback(ctx)
		return err
	}
	return s.tx.commit(ctx)
}
