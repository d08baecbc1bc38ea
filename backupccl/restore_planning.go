package backupccl

import (
	"context"
	"fmt"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// runRestore plans a RESTORE statement, creates its job and waits for it unless
// it is detached. Like a backup it touches no storage: what depends on the
// backup is checked by the job, before it makes anything.
func (s *Service) runRestore(ctx context.Context, sess *Session, n *parser.Restore, row func(context.Context, tree.Datums) error) error {
	d, err := s.planRestore(ctx, sess, n)
	if err != nil {
		return err
	}
	b, err := proto.Marshal(d)
	if err != nil {
		return err
	}
	return s.runJob(ctx, sess, jobs.New{
		Type: jobs.TypeRestore, Description: describeRestore(d), Username: sess.User, Details: b,
	}, d.Detached, func(progress []byte) (rows, entries, bytes int64) {
		p := &backuppb.RestoreProgress{}
		if proto.Unmarshal(progress, p) != nil {
			return 0, 0, 0
		}
		for _, n := range p.Notices {
			sess.Notice(pgerr.Notice("%s", n))
		}
		if p.Counts == nil {
			return 0, 0, 0
		}
		return p.Counts.Rows, p.Counts.IndexEntries, p.Counts.DataSize
	}, row)
}

func (s *Service) planRestore(ctx context.Context, sess *Session, n *parser.Restore) (*backuppb.RestoreDetails, error) {
	if !s.cfg.Settings.restoreEnabled.Get() {
		return nil, pgerr.New(pgerr.OperatorIntervention, "feature RESTORE was disabled by the database administrator")
	}
	d, err := s.restoreOptions(ctx, sess, n)
	if err != nil {
		return nil, err
	}
	if sess.ExplicitTxn && !d.Detached {
		return nil, pgerr.New(pgerr.ActiveSQLTransaction,
			"RESTORE cannot be used inside a multi-statement transaction without DETACHED option")
	}
	if n.AsOf.Expr != nil {
		t, err := sess.AsOf(ctx, n.AsOf)
		if err != nil {
			return nil, err
		}
		if now := s.cfg.DB.Clock().Now(); now.Less(t) {
			return nil, pgerr.Newf(pgerr.InvalidParameterValue,
				"AS OF SYSTEM TIME: cannot specify timestamp in the future (%s > %s)", t.AsOfSystemTime(), now.AsOfSystemTime())
		}
		d.AsOf = manifest.TimePB(t)
	}
	d.CurrentDatabase, d.SearchPath, d.User = sess.Database, sess.SearchPath, sess.User
	if err := s.checkRestorePrivileges(ctx, sess, d); err != nil {
		return nil, err
	}
	return d, s.checkURIs(ctx, sess, append(append([]string(nil), d.Uris...), d.IncrementalUris...))
}

// restoreOptions evaluates what stands literally in the statement and refuses
// combinations without a meaning.
func (s *Service) restoreOptions(ctx context.Context, sess *Session, n *parser.Restore) (*backuppb.RestoreDetails, error) {
	o := &n.Options
	d := &backuppb.RestoreDetails{
		Latest: n.Latest, Detached: isDetached(o.Detached),
		SkipMissingForeignKeys: o.SkipMissingFKs, SkipMissingSequences: o.SkipMissingSequences,
		SkipMissingSequenceOwners: o.SkipMissingSequenceOwners, SkipMissingViews: o.SkipMissingViews,
		SkipMissingUdfs: o.SkipMissingUDFs, SkipLocalitiesCheck: o.SkipLocalitiesCheck, RemoveRegions: o.RemoveRegions,
		SchemaOnly: o.SchemaOnly, VerifyBackupTableData: o.VerifyData,
		UnsafeRestoreIncompatibleVersion: o.UnsafeRestoreIncompatibleVersion,
	}
	if o.EncryptionPassphrase != nil && len(o.KMS) > 0 {
		return nil, pgerr.New(pgerr.InvalidParameterValue, "cannot have both encryption_passphrase and kms option set")
	}
	if o.EncryptionPassphrase != nil || len(o.KMS) > 0 {
		return nil, errNoEncryption()
	}
	const online, tenants = "Leave it out; the data is copied before the objects become visible.", "Leave it out; there are no virtual clusters."
	for _, unsupported := range []struct {
		name string
		set  bool
		hint string
	}{
		{"experimental copy", o.ExperimentalCopy, online}, {"experimental deferred copy", o.ExperimentalDeferredCopy, online},
		{"virtual_cluster_name", o.VirtualClusterName != nil, tenants}, {"virtual_cluster", o.VirtualCluster != nil, tenants},
		{"dry_run", o.DryRun, "SHOW BACKUP says what a backup holds; schema_only with verify_backup_table_data reads all of it."},
	} {
		if unsupported.set {
			return nil, errUnsupportedOption(unsupported.name, unsupported.hint)
		}
	}
	var err error
	if n.Targets.Tenant != "" {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "only the system tenant can restore other tenants").
			WithHint("There are no virtual clusters: restore a cluster, databases or tables.")
	}
	if d.Targets, err = targetsFromAST(&n.Targets); err != nil {
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
	if d.IntoDb, err = optionString(ctx, sess, o.IntoDB); err != nil {
		return nil, err
	}
	if d.NewDbName, err = optionString(ctx, sess, o.NewDBName); err != nil {
		return nil, err
	}
	if d.ExecutionLocality, err = optionString(ctx, sess, o.ExecutionLocality); err != nil {
		return nil, err
	}
	if err := s.checkExecutionLocality(d.ExecutionLocality); err != nil {
		return nil, err
	}
	if d.Uris, err = evalURIs(ctx, sess, n.From); err != nil {
		return nil, err
	}
	if d.IncrementalUris, err = evalURIs(ctx, sess, o.IncrementalLocation); err != nil {
		return nil, err
	}
	if len(d.IncrementalUris) > 0 && len(d.IncrementalUris) != len(d.Uris) {
		return nil, errIncrementalCount()
	}
	invalid := func(msg string) error { return pgerr.New(pgerr.InvalidParameterValue, msg) }
	switch {
	case d.VerifyBackupTableData && !d.SchemaOnly:
		return nil, invalid("to set the verify_backup_table_data option, the schema_only option must be set")
	case d.IntoDb != "" && d.Targets.SystemUsers:
		return nil, invalid("cannot set into_db option when only restoring system users")
	case d.IntoDb != "" && (len(d.Targets.Databases) > 0 || d.Targets.Cluster):
		return nil, invalid(`cannot use "into_db" option when restoring database(s)`)
	case d.NewDbName != "" && d.Targets.SystemUsers:
		return nil, invalid("cannot set new_db_name option when only restoring system users")
	case d.NewDbName != "" && len(d.Targets.Databases) != 1:
		return nil, invalid("new_db_name can only be used for RESTORE DATABASE with a single target database")
	}
	return d, nil
}

func (s *Service) checkRestorePrivileges(ctx context.Context, sess *Session, d *backuppb.RestoreDetails) error {
	system, err := sess.HasPrivilege(ctx, nil, "RESTORE")
	if err != nil {
		return err
	}
	switch {
	case d.Targets.Cluster, d.Targets.SystemUsers:
		if !system {
			return pgerr.Newf(pgerr.InsufficientPrivilege,
				"only users with the admin role or the RESTORE system privilege are allowed to perform a cluster restore: "+
					"user %s does not have RESTORE system privilege", sess.User)
		}
		return nil
	case len(d.Targets.Databases) > 0:
		if system {
			return nil
		}
		ok, err := sess.HasPrivilege(ctx, nil, "CREATEDB")
		if err != nil || ok {
			return err
		}
		return pgerr.New(pgerr.InsufficientPrivilege, "only users with the CREATEDB privilege can restore databases").
			WithHint("The existing privileges are being deprecated in favour of a fine-grained privilege model. "+
				"In a future release, to run RESTORE DATABASE, user %s will exclusively require the RESTORE system privilege.", sess.User)
	}
	sch, err := loadSchema(ctx, s.cfg.DB, s.cfg.DB.Clock().Now())
	if err != nil {
		return err
	}
	for _, p := range d.Targets.Tables {
		name := d.IntoDb
		if name == "" {
			name = patternDatabase(p, sch, sess.Database)
		}
		db := sch.dbs[name]
		if db == nil {
			continue // The job knows more, and says which table needs it.
		}
		ok, err := sess.HasPrivilege(ctx, db, "RESTORE")
		if err == nil && !ok {
			ok, err = sess.HasPrivilege(ctx, db, "CREATE")
		}
		if err != nil {
			return err
		}
		if !ok {
			return errNoPrivilege(sess.User, "CREATE", "database", db.Name()).
				WithHint("The existing privileges are being deprecated in favour of a fine-grained privilege model. "+
					"In a future release, to run RESTORE TABLE, user %s will exclusively require the RESTORE privilege on database %s.",
					sess.User, db.Name())
		}
	}
	return nil
}

// patternDatabase guesses which database a pattern is about, for privileges.
func patternDatabase(p *backuppb.TablePattern, sch *schema, current string) string {
	n := len(p.Parts)
	if p.All {
		n++
	}
	switch n {
	case 3:
		return p.Parts[0]
	case 2:
		if db := sch.dbs[current]; db != nil {
			if _, ok := sch.schemas[db.ID()][p.Parts[0]]; ok {
				return current
			}
		}
		return p.Parts[0]
	}
	return current
}

// describeRestore renders the statement for SHOW JOBS.
func describeRestore(d *backuppb.RestoreDetails) string {
	var b strings.Builder
	b.WriteString("RESTORE ")
	switch {
	case d.Targets.SystemUsers:
		b.WriteString("SYSTEM USERS ")
	case len(d.Targets.Databases) > 0:
		names := make([]string, len(d.Targets.Databases))
		for i, n := range d.Targets.Databases {
			names[i] = quoteName(n)
		}
		b.WriteString("DATABASE " + strings.Join(names, ", ") + " ")
	case len(d.Targets.Tables) > 0:
		var names []string
		for _, p := range d.Targets.Tables {
			var parts []string
			for _, part := range p.Parts {
				parts = append(parts, quoteName(part))
			}
			if p.All {
				parts = append(parts, "*")
			}
			names = append(names, strings.Join(parts, "."))
		}
		b.WriteString("TABLE " + strings.Join(names, ", ") + " ")
	}
	b.WriteString("FROM ")
	switch {
	case d.ResolvedSubdir != "":
		b.WriteString(quoteSQL(d.ResolvedSubdir))
	case d.Latest:
		b.WriteString("LATEST")
	default:
		b.WriteString(quoteSQL(d.Subdir))
	}
	b.WriteString(" IN ")
	writeURIs(&b, d.Uris)
	if t := manifest.Time(d.AsOf); !t.IsEmpty() {
		b.WriteString(" AS OF SYSTEM TIME " + quoteSQL(t.AsOfSystemTime()))
	}
	var opts []string
	str := func(name, v string) {
		if v != "" {
			opts = append(opts, name+" = "+quoteSQL(v))
		}
	}
	flag := func(name string, on bool) {
		if on {
			opts = append(opts, name)
		}
	}
	str("into_db", d.IntoDb)
	flag("skip_missing_foreign_keys", d.SkipMissingForeignKeys)
	flag("skip_missing_sequence_owners", d.SkipMissingSequenceOwners)
	flag("skip_missing_sequences", d.SkipMissingSequences)
	flag("skip_missing_views", d.SkipMissingViews)
	flag("skip_missing_udfs", d.SkipMissingUdfs)
	flag("detached", d.Detached)
	flag("skip_localities_check", d.SkipLocalitiesCheck)
	str("new_db_name", d.NewDbName)
	if len(d.IncrementalUris) > 0 {
		var u strings.Builder
		writeURIs(&u, d.IncrementalUris)
		opts = append(opts, "incremental_location = "+u.String())
	}
	flag("schema_only", d.SchemaOnly)
	flag("verify_backup_table_data", d.VerifyBackupTableData)
	flag("unsafe_restore_incompatible_version", d.UnsafeRestoreIncompatibleVersion)
	str("execution locality", d.ExecutionLocality)
	flag("remove_regions", d.RemoveRegions)
	writeOptions(&b, opts)
	return b.String()
}

func quoteName(s string) string {
	n := tree.Name(s)
	return n.String()
}

// restoreSource is the chain a restore reads, cut at its time.
type restoreSource struct {
	layers []*manifest.Layer // full first
	sch    *schema           // at the time restored
	// entries are the descriptors of sch as the backup lists them.
	last *manifest.Layer
}

// loadSource reads manifests and descriptors.
func (s *Service) loadSource(ctx context.Context, col *collection, d *backuppb.RestoreDetails) (*restoreSource, error) {
	subdir := d.ResolvedSubdir
	if subdir == "" {
		var err error
		if subdir, err = manifest.ResolveSubdir(ctx, col.locs.Default(), d.Subdir, d.Latest); err != nil {
			return nil, err
		}
		d.ResolvedSubdir = subdir
	}
	chain, err := manifest.LoadChain(ctx, col.locs, col.inc, subdir)
	if err != nil {
		return nil, hintAtRoot(ctx, col.locs.Default(), subdir, err)
	}
	src := &restoreSource{}
	end := manifest.Time(d.EndTime)
	if end.IsEmpty() {
		end = manifest.Time(d.AsOf)
	}
	if end.IsEmpty() {
		src.layers, err = chain.Latest()
	} else {
		src.layers, err = chain.At(end)
		if shown := chain.EndShownAs(end); err != nil && shown != end {
			end = shown
			src.layers, err = chain.At(end)
		}
	}
	if err != nil {
		return nil, err
	}
	src.last = src.layers[len(src.layers)-1]
	if end.IsEmpty() {
		end = src.last.End()
	}
	d.EndTime = manifest.TimePB(end)
	if len(d.LayerDirs) == 0 {
		for _, l := range src.layers {
			d.LayerDirs = append(d.LayerDirs, l.Dir)
		}
	} else if err := src.check(d); err != nil {
		return nil, err
	}
	entries, err := src.last.DescriptorsAt(ctx, end)
	if err != nil {
		return nil, err
	}
	src.sch, err = schemaOfEntries(end, entries)
	return src, err
}

// check says whether the chain is still the one that the job began with.
func (src *restoreSource) check(d *backuppb.RestoreDetails) error {
	var dirs []string
	for _, l := range src.layers {
		dirs = append(dirs, l.Dir)
	}
	if strings.Join(dirs, "\n") != strings.Join(d.LayerDirs, "\n") {
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
			"the backup has changed since the restore began: it used %d layers and now there are %d others", len(d.LayerDirs), len(dirs))
	}
	return nil
}

// select resolves what is to be restored against the backup.
func (src *restoreSource) selectTargets(d *backuppb.RestoreDetails) (*selection, error) {
	if d.Targets.Cluster && !src.last.IsCluster() {
		return nil, pgerr.New(pgerr.InvalidParameterValue, "full cluster RESTORE can only be used on full cluster BACKUP files")
	}
	if d.Targets.SystemUsers {
		return &selection{}, nil
	}
	sel, err := src.sch.selectTargets(d.Targets, nameContext{database: d.CurrentDatabase, searchPath: d.SearchPath, timed: true})
	if err != nil {
		return nil, fmt.Errorf("failed to resolve targets in the BACKUP location specified by the RESTORE statement, "+
			"use SHOW BACKUP to find correct targets: %w", err)
	}
	for _, db := range sel.dbs {
		if db.ID() == catalog.SystemDatabaseID && !d.Targets.Cluster {
			return nil, pgerr.Newf(pgerr.DuplicateDatabase, "database %q already exists", db.Name()).
				WithHint("It cannot be dropped or have another name. Restore single tables of it, " +
					"as in RESTORE TABLE system.users … WITH into_db = 'other'.")
		}
	}
	complete := map[uint32]bool{}
	for _, id := range src.last.Manifest.CompleteDbs {
		complete[id] = true
	}
	for _, db := range sel.dbs {
		if complete[db.ID()] || src.last.IsCluster() {
			continue
		}
		what := "DATABASE"
		if sel.patternDBs[db.ID()] {
			what = "<database>.*"
		}
		return nil, pgerr.Newf(pgerr.InvalidParameterValue,
			"cannot RESTORE %s from a backup of individual tables (use SHOW BACKUP to determine available tables)", what)
	}
	if !d.Targets.Cluster && len(d.Targets.Tables) > 0 {
		// db.* restores tables into a database that exists; it does not restore
		// the database.
		sel.dbs = nil
	}
	var kept []*catalog.Table
	for _, t := range sel.tables {
		if t.Proto().Temporary {
			continue // Nobody's session lives on in the restored cluster.
		}
		kept = append(kept, t)
	}
	sel.tables = kept
	return sel, nil
}
