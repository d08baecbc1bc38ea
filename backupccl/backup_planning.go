package backupccl

import (
	"context"
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/lex"
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// runBackup plans a BACKUP statement, creates its job and waits for it unless it
// is detached. It looks at options, privileges and names, and at no storage: the
// gateway may have no way to the bucket.
func (s *Service) runBackup(ctx context.Context, sess *Session, n *parser.Backup, row func(context.Context, tree.Datums) error) error {
	details, err := s.planBackup(ctx, sess, n)
	if err != nil {
		return err
	}
	b, err := proto.Marshal(details)
	if err != nil {
		return err
	}
	ids := details.TargetIds
	if len(ids) > maxJobDescriptorIDs {
		ids = ids[:maxJobDescriptorIDs]
	}
	return s.runJob(ctx, sess, jobs.New{
		Type: jobs.TypeBackup, Description: describeBackup(details), Username: sess.User,
		Details: b, DescriptorIDs: ids,
	}, details.Detached, func(progress []byte) (rows, entries, bytes int64) {
		p := &backuppb.BackupProgress{}
		if proto.Unmarshal(progress, p) != nil || p.Counts == nil {
			return 0, 0, 0
		}
		for _, n := range p.Notices {
			sess.Notice(pgerr.Notice("%s", n))
		}
		return p.Counts.Rows, p.Counts.IndexEntries, p.Counts.DataSize
	}, row)
}

// maxJobDescriptorIDs bounds the column descriptor_ids, which is for people.
const maxJobDescriptorIDs = 1000

func (s *Service) planBackup(ctx context.Context, sess *Session, n *parser.Backup) (*backuppb.BackupDetails, error) {
	if !s.cfg.Settings.backupEnabled.Get() {
		return nil, pgerr.New(pgerr.OperatorIntervention, "feature BACKUP was disabled by the database administrator")
	}
	d, err := s.backupOptions(ctx, sess, n)
	if err != nil {
		return nil, err
	}
	if sess.ExplicitTxn && !d.Detached {
		return nil, pgerr.New(pgerr.ActiveSQLTransaction,
			"BACKUP cannot be used inside a multi-statement transaction without DETACHED option")
	}
	if sess.Uncommitted && !sess.ExplicitTxn {
		// Several statements in one message are one transaction. The backup would not
		// have what those before it wrote, and nobody would hear of it.
		return nil, pgerr.New(pgerr.ActiveSQLTransaction,
			"BACKUP cannot be used inside a multi-statement transaction without DETACHED option").
			WithHint("The statements before it in the same message are not committed yet. Send BACKUP in a message of its own.")
	}
	now := s.cfg.DB.Clock().Now()
	end := now
	if n.AsOf.Expr != nil {
		if end, err = sess.AsOf(ctx, n.AsOf); err != nil {
			return nil, err
		}
		if now.Less(end) {
			return nil, pgerr.Newf(pgerr.InvalidParameterValue,
				"AS OF SYSTEM TIME: cannot specify timestamp in the future (%s > %s)", end.AsOfSystemTime(), now.AsOfSystemTime())
		}
		d.AsOf = true
	}
	d.EndTime = manifest.TimePB(end)
	if d.Targets, err = targetsFromAST(&n.Targets); err != nil {
		return nil, err
	}
	d.CurrentDatabase, d.SearchPath = sess.Database, sess.SearchPath
	if !n.Targets.Cluster() {
		d.TargetsSql = tree.AsString(&n.Targets)
	}
	sch, sel, err := s.chooseTargets(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, what := range sel.skipped {
		sess.Notice(pgerr.Notice("%s", what))
	}
	if err := checkBackupPrivileges(ctx, sess, sch, sel, d.Targets.Cluster); err != nil {
		return nil, err
	}
	if err := s.checkURIs(ctx, sess, append(append([]string(nil), d.Uris...), d.IncrementalUris...)); err != nil {
		return nil, err
	}
	d.User, d.ClusterId = sess.User, s.cfg.ClusterID[:]
	d.AllowFullWithSubdir = s.cfg.Settings.fullWithSubdir.Get()
	return d, nil
}

// chooseTargets finds what d is about as of its end, and notes the ids in d.
func (s *Service) chooseTargets(ctx context.Context, d *backuppb.BackupDetails) (*schema, *selection, error) {
	sch, err := loadSchema(ctx, s.cfg.DB, manifest.Time(d.EndTime))
	if err != nil {
		return nil, nil, err
	}
	sel, err := sch.selectTargets(d.Targets, nameContext{database: d.CurrentDatabase, searchPath: d.SearchPath, timed: d.AsOf})
	if err != nil {
		return nil, nil, fmt.Errorf("failed to resolve targets specified in the BACKUP stmt: %w", err)
	}
	d.CompleteDbs = nil
	for _, db := range sel.dbs {
		d.CompleteDbs = append(d.CompleteDbs, db.ID())
	}
	d.TargetIds = sch.closure(sel)
	return sch, sel, nil
}

// backupOptions evaluates everything that stands literally in the statement.
func (s *Service) backupOptions(ctx context.Context, sess *Session, n *parser.Backup) (*backuppb.BackupDetails, error) {
	o := &n.Options
	d := &backuppb.BackupDetails{Latest: n.Latest, Detached: isDetached(o.Detached)}
	var err error
	if o.EncryptionPassphrase != nil && len(o.KMS) > 0 {
		return nil, pgerr.New(pgerr.InvalidParameterValue, "cannot have both encryption_passphrase and kms option set")
	}
	if o.EncryptionPassphrase != nil || len(o.KMS) > 0 {
		return nil, errNoEncryption()
	}
	if o.StrictStorageLocality != nil {
		return nil, errUnsupportedOption("strict storage locality",
			"Leave it out; each node writes to the bucket of its most specific locality.")
	}
	if d.RevisionHistory, err = optionBool(ctx, sess, "revision_history", o.RevisionHistory); err != nil {
		return nil, err
	}
	if all, err := optionBool(ctx, sess, "include_all_virtual_clusters", o.IncludeAllVirtualClusters); err != nil {
		return nil, err
	} else if all && !n.Targets.Cluster() {
		return nil, pgerr.New(pgerr.InvalidParameterValue,
			"the include_all_virtual_clusters option is only supported for full cluster backups")
	}
	if d.UpdatesClusterMonitoringMetrics, err = optionBool(ctx, sess, "updates_cluster_monitoring_metrics", o.UpdatesClusterMonitoringMetrics); err != nil {
		return nil, err
	}
	if d.ExecutionLocality, err = optionString(ctx, sess, o.ExecutionLocality); err != nil {
		return nil, err
	}
	if err := s.checkExecutionLocality(d.ExecutionLocality); err != nil {
		return nil, err
	}
	if n.Subdir != nil {
		if d.Subdir, err = sess.EvalString(ctx, n.Subdir); err != nil {
			return nil, err
		}
		if strings.EqualFold(d.Subdir, "LATEST") {
			d.Subdir, d.Latest = "", true
		} else if d.Subdir, err = cleanSubdir(d.Subdir); err != nil {
			return nil, err
		}
	}
	if d.Uris, err = evalURIs(ctx, sess, n.To); err != nil {
		return nil, err
	}
	if d.Uris, err = orderURIs(d.Uris); err != nil {
		return nil, err
	}
	if d.IncrementalUris, err = evalURIs(ctx, sess, o.IncrementalLocation); err != nil {
		return nil, err
	}
	if len(d.IncrementalUris) > 0 {
		if d.IncrementalUris, err = orderURIs(d.IncrementalUris); err != nil {
			return nil, err
		}
		if len(d.IncrementalUris) != len(d.Uris) {
			return nil, errIncrementalCount()
		}
	}
	return d, nil
}

// checkExecutionLocality refuses filters that this node, the only one, does not
// fulfil.
func (s *Service) checkExecutionLocality(filter string) error {
	if filter == "" {
		return nil
	}
	have := map[string]bool{}
	for _, tier := range strings.Split(s.cfg.Locality, ",") {
		have[tier] = true
	}
	for _, tier := range strings.Split(filter, ",") {
		if k, v, ok := strings.Cut(tier, "="); !ok || k == "" || v == "" || strings.Contains(v, "=") {
			return pgerr.Newf(pgerr.InvalidParameterValue, "tier must be in the form \"key=value\" not %q", tier).
				WithHint("Write EXECUTION LOCALITY = 'region=us-east,az=a'.")
		}
		if !have[tier] {
			here := s.cfg.Locality
			if here == "" {
				here = "none"
			}
			return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "no instances found matching locality filter %s", filter).
				WithHint("The only node of this cluster has the locality: %s.", here)
		}
	}
	return nil
}

// cleanSubdir checks a subdirectory as users write it, and gives it its one
// leading slash. It stays inside of its collection.
func cleanSubdir(subdir string) (string, error) {
	clean := manifest.CleanSubdir(subdir)
	switch {
	case clean == "/":
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "the subdirectory %q names no backup", subdir).WithHint(hintCollectionRoot)
	case strings.Contains(clean+"/", "/../"), strings.Contains(clean+"/", "/./"), strings.Contains(clean, "//"):
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "the subdirectory %q is not a plain path", subdir).
			WithHint("Name one that SHOW BACKUPS IN lists, or write LATEST.")
	}
	return clean, nil
}

func checkBackupPrivileges(ctx context.Context, sess *Session, sch *schema, sel *selection, cluster bool) error {
	if cluster {
		ok, err := sess.HasPrivilege(ctx, nil, "BACKUP")
		if err != nil || ok {
			return err
		}
		return pgerr.Newf(pgerr.InsufficientPrivilege,
			"only users with the admin role or the BACKUP system privilege are allowed to perform full cluster backups: "+
				"user %s does not have BACKUP system privilege", sess.User)
	}
	covered := map[uint32]bool{}
	for _, db := range sel.dbs {
		if sel.patternDBs[db.ID()] {
			continue // Its tables are checked one by one.
		}
		covered[db.ID()] = true
		ok, err := sess.HasPrivilege(ctx, db, "BACKUP")
		if err != nil {
			return err
		}
		if ok {
			continue
		}
		// The older way: CONNECT on the database and SELECT on all tables.
		if ok, err = sess.HasPrivilege(ctx, db, "CONNECT"); err != nil {
			return err
		} else if !ok {
			return errNoPrivilege(sess.User, "CONNECT", "database", db.Name()).
				WithHint(legacyBackupHint("BACKUP DATABASE", sess.User, "database "+db.Name()))
		}
		covered[db.ID()] = false
	}
	for _, t := range sel.tables {
		if covered[t.ParentID()] {
			continue
		}
		ok, err := sess.HasPrivilege(ctx, t, "BACKUP")
		if err == nil && !ok {
			ok, err = sess.HasPrivilege(ctx, t, "SELECT")
		}
		if err != nil {
			return err
		}
		if !ok {
			e := errNoPrivilege(sess.User, "SELECT", "relation", t.Name())
			for _, db := range sel.dbs {
				if _, whole := covered[db.ID()]; whole && db.ID() == t.ParentID() {
					return e.WithHint(legacyBackupHint("BACKUP DATABASE", sess.User, "database "+db.Name()))
				}
			}
			return e.WithHint(legacyBackupHint("BACKUP TABLE", sess.User, "tables: "+sch.qualified(t)))
		}
	}
	return nil
}

func errNoPrivilege(user, privilege, kind, name string) *pgerr.Error {
	return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have %s privilege on %s %s", user, privilege, kind, name)
}

func legacyBackupHint(stmt, user, on string) string {
	return fmt.Sprintf("The existing privileges are being deprecated in favour of a fine-grained privilege model. "+
		"In a future release, to run %s, user %s will exclusively require the BACKUP privilege on %s.", stmt, user, on)
}

// describeBackup renders the statement for SHOW JOBS: canonical, without
// secrets, and with the subdirectory once it is known.
func describeBackup(d *backuppb.BackupDetails) string {
	var b strings.Builder
	b.WriteString("BACKUP ")
	if d.TargetsSql != "" {
		b.WriteString(d.TargetsSql + " ")
	}
	b.WriteString("INTO ")
	switch {
	case d.ResolvedSubdir != "":
		b.WriteString(quoteSQL(d.ResolvedSubdir) + " IN ")
	case d.Latest:
		b.WriteString("LATEST IN ")
	case d.Subdir != "":
		b.WriteString(quoteSQL(d.Subdir) + " IN ")
	}
	writeURIs(&b, d.Uris)
	if d.AsOf {
		b.WriteString(" AS OF SYSTEM TIME " + quoteSQL(manifest.Time(d.EndTime).AsOfSystemTime()))
	}
	var opts []string
	if d.RevisionHistory {
		opts = append(opts, "revision_history = true")
	}
	if d.Detached {
		opts = append(opts, "detached")
	}
	if len(d.IncrementalUris) > 0 {
		var u strings.Builder
		writeURIs(&u, d.IncrementalUris)
		opts = append(opts, "incremental_location = "+u.String())
	}
	if d.ExecutionLocality != "" {
		opts = append(opts, "execution locality = "+quoteSQL(d.ExecutionLocality))
	}
	if d.UpdatesClusterMonitoringMetrics {
		opts = append(opts, "updates_cluster_monitoring_metrics = true")
	}
	writeOptions(&b, opts)
	return b.String()
}

func writeOptions(b *strings.Builder, opts []string) {
	if len(opts) > 0 {
		b.WriteString(" WITH OPTIONS (" + strings.Join(opts, ", ") + ")")
	}
}

func writeURIs(b *strings.Builder, uris []string) {
	if len(uris) > 1 {
		b.WriteByte('(')
	}
	for i, u := range uris {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quoteSQL(extstore.Redact(u)))
	}
	if len(uris) > 1 {
		b.WriteByte(')')
	}
}

func quoteSQL(s string) string { return lex.EscapeSQLString(s) }

// systemDatabase says whether d belongs to the system database.
func systemDatabase(d catalog.Descriptor) bool {
	return d.ParentID() == catalog.SystemDatabaseID || d.ID() == catalog.SystemDatabaseID
}
