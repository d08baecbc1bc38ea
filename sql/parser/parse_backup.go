package parser

import (
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func upper(s string) string { return strings.ToUpper(s) }
func lower(s string) string { return strings.ToLower(s) }

// uris takes one URI or a list in parentheses.
func (f *front) uris() URIs {
	if !f.acceptOp("(") {
		return URIs{f.strOrParam()}
	}
	out := URIs{f.strOrParam()}
	for f.acceptOp(",") {
		out = append(out, f.strOrParam())
	}
	f.expectOp(")")
	return out
}

// targets takes what a BACKUP or RESTORE is about, before INTO or FROM.
func (f *front) targets() Targets {
	var t Targets
	switch {
	case f.looking("into"), f.looking("from"), f.looking("to"):
	case f.looking("system", "users"):
		f.i += 2
		t.SystemUsers = true
	case f.looking("virtual", "cluster"), f.looking("tenant") && !f.at(1).is("into") && !f.at(1).is("from") && !f.at(1).op(",") && !f.at(1).op("."):
		if !f.accept("virtual", "cluster") {
			f.next()
		}
		t.Tenant = f.next().str
	case f.looking("database") && f.at(1).isName() && !f.at(1).is("into") && !f.at(1).is("from"):
		f.next()
		t.Databases = f.nameList()
	default:
		if f.looking("table") {
			f.next()
		}
		t.Tables = f.patterns()
	}
	return t
}

// patterns takes table patterns: t, s.t, d.s.t, *, s.*, d.s.*.
func (f *front) patterns() tree.TablePatterns {
	out := tree.TablePatterns{f.pattern()}
	for f.acceptOp(",") {
		out = append(out, f.pattern())
	}
	return out
}

func (f *front) pattern() tree.TablePattern {
	var parts []string
	star := false
	for {
		if f.acceptOp("*") {
			star = true
			parts = append(parts, "")
			break
		}
		if len(parts) == 0 {
			parts = append(parts, f.name())
		} else {
			parts = append(parts, f.anyName())
		}
		if len(parts) == 3 || !f.acceptOp(".") {
			break
		}
	}
	n := &tree.UnresolvedName{NumParts: len(parts), Star: star}
	for i, p := range parts {
		n.Parts[len(parts)-1-i] = p
	}
	return n
}

// asOf takes AS OF SYSTEM TIME expr, up to WITH or one of the words.
func (f *front) asOf(words ...string) (a tree.AsOfClause) {
	if f.accept("as", "of", "system", "time") {
		a.Expr = f.exprUntil(append(words, "with")...)
	}
	return a
}

// withOptions takes WITH a, b or WITH OPTIONS (a, b) and calls opt at each.
func (f *front) withOptions(opt func()) {
	if !f.accept("with") {
		return
	}
	paren := false
	if f.looking("options") && f.at(1).op("(") {
		f.i += 2
		paren = true
	} else if f.acceptOp("(") {
		paren = true
	}
	for {
		opt()
		if !f.acceptOp(",") {
			break
		}
	}
	if paren {
		f.expectOp(")")
	}
}

// twice reports an option that was given before.
func (f *front) twice(t token, was bool, text string) {
	if was {
		bail(locate(pgerr.New(pgerr.SyntaxError, text), f.src, t.pos))
	}
}

// flagValue takes an optional "= value"; bare means true.
func (f *front) flagValue() tree.Expr {
	if f.acceptOp("=") {
		if t := f.peek(); t.is("true") || t.is("false") {
			f.i++
			if t.str == "true" {
				return tree.DBoolTrue
			}
			return tree.DBoolFalse
		}
		return f.exprUntil()
	}
	return tree.DBoolTrue
}

// constantFlag takes an optional "= TRUE" or "= FALSE".
func (f *front) constantFlag() tree.Expr {
	if f.acceptOp("=") {
		on, ok := f.boolean()
		if !ok {
			f.fail("expected TRUE or FALSE")
		}
		if !on {
			return tree.DBoolFalse
		}
	}
	return tree.DBoolTrue
}

func (f *front) backup() tree.Statement {
	f.expect("backup")
	b := &Backup{Targets: f.targets()}
	if f.looking("to") {
		bail(locate(pgerr.New(pgerr.SyntaxError, "The `BACKUP TO` syntax is no longer supported. Please use `BACKUP INTO` to create a backup collection."), f.src, f.peek().pos).
			WithHint("try \\h BACKUP"))
	}
	if !f.accept("into") {
		f.fail("try \\h BACKUP")
	}
	f.backupInto(b)
	b.AsOf = f.asOf()
	f.withOptions(func() { f.backupOption(&b.Options) })
	if !f.eof() {
		f.fail("try \\h BACKUP")
	}
	return b
}

// backupInto takes [{LATEST|subdir} IN] dest.
func (f *front) backupInto(b *Backup) {
	switch {
	case f.looking("latest", "in"):
		f.i += 2
		b.Latest = true
	case f.at(1).is("in"):
		t := f.peek()
		b.Subdir = f.strOrParam()
		f.expect("in")
		if t.kind == tokString && strings.EqualFold(t.str, "latest") {
			b.Latest, b.Subdir = true, nil
		}
	}
	b.To = f.uris()
}

func (f *front) backupOption(o *BackupOptions) {
	t := f.peek()
	switch {
	case f.accept("revision_history"):
		f.twice(t, o.RevisionHistory != nil, "revision_history option specified multiple times")
		o.RevisionHistory = f.flagValue()
	case f.accept("encryption_passphrase"):
		f.twice(t, o.EncryptionPassphrase != nil, "encryption_passphrase specified multiple times")
		f.expectOp("=")
		o.EncryptionPassphrase = f.strOrParam()
	case f.accept("detached"):
		f.twice(t, o.Detached != nil, "detached option specified multiple times")
		o.Detached = f.constantFlag()
	case f.accept("kms"):
		f.twice(t, o.KMS != nil, "kms specified multiple times")
		f.expectOp("=")
		o.KMS = f.uris()
	case f.accept("incremental_location"):
		f.twice(t, o.IncrementalLocation != nil, "incremental_location option specified multiple times")
		f.expectOp("=")
		o.IncrementalLocation = f.uris()
	case f.accept("execution", "locality"):
		f.twice(t, o.ExecutionLocality != nil, "execution locality option specified multiple times")
		f.expectOp("=")
		o.ExecutionLocality = f.strOrParam()
	case f.accept("include_all_virtual_clusters"), f.accept("include_all_secondary_tenants"):
		f.twice(t, o.IncludeAllVirtualClusters != nil, "include_all_virtual_clusters specified multiple times")
		o.IncludeAllVirtualClusters = f.flagValue()
	case f.accept("updates_cluster_monitoring_metrics"):
		f.twice(t, o.UpdatesClusterMonitoringMetrics != nil, "updates_cluster_monitoring_metrics option specified multiple times")
		o.UpdatesClusterMonitoringMetrics = f.flagValue()
	case f.accept("strict", "storage", "locality"):
		f.twice(t, o.StrictStorageLocality != nil, "strict storage locality option specified multiple times")
		o.StrictStorageLocality = f.flagValue()
	default:
		f.fail("try \\h BACKUP")
	}
}

func (f *front) restore() tree.Statement {
	f.expect("restore")
	r := &Restore{Targets: f.targets()}
	if !f.accept("from") {
		f.fail("try \\h RESTORE")
	}
	at := f.peek()
	if !f.subdirIn(&r.Latest, &r.Subdir) {
		text := "The `RESTORE FROM <backupURI>` syntax is no longer supported. Please use `RESTORE FROM <subdirectory> IN <collectionURI>`."
		if !r.Targets.Cluster() {
			text = "The `RESTORE <targets> FROM <backupURI>` syntax is no longer supported. Please use `RESTORE <targets> FROM <subdirectory> IN <collectionURI>`."
		}
		bail(locate(pgerr.New(pgerr.SyntaxError, text), f.src, at.pos).WithHint("try \\h RESTORE"))
	}
	r.From = f.uris()
	r.AsOf = f.asOf()
	f.withOptions(func() { f.restoreOption(&r.Options) })
	if !f.eof() {
		f.fail("try \\h RESTORE")
	}
	return r
}

// subdirIn takes {LATEST|subdir} IN. It returns false when a URI stands there
// without IN.
func (f *front) subdirIn(latest *bool, subdir *tree.Expr) bool {
	if f.accept("latest") {
		f.expect("in")
		*latest = true
		return true
	}
	t := f.peek()
	if t.op("(") {
		return false
	}
	*subdir = f.strOrParam()
	if t.kind == tokString && strings.EqualFold(t.str, "latest") {
		*latest, *subdir = true, nil
	}
	return f.accept("in")
}

func (f *front) restoreOption(o *RestoreOptions) {
	t := f.peek()
	flag := func(v *bool, text string) {
		f.twice(t, *v, text)
		*v = true
		if f.acceptOp("=") {
			on, ok := f.boolean()
			if !ok {
				f.fail("expected TRUE or FALSE")
			}
			*v = on
		}
	}
	expr := func(e *tree.Expr, text string) {
		f.twice(t, *e != nil, text)
		f.expectOp("=")
		*e = f.strOrParam()
	}
	uris := func(u *URIs, text string) {
		f.twice(t, *u != nil, text)
		f.expectOp("=")
		*u = f.uris()
	}
	const times = " specified multiple times"
	const optTimes = " option specified multiple times"
	switch {
	case f.accept("encryption_passphrase"):
		expr(&o.EncryptionPassphrase, t.str+times)
	case f.accept("kms"):
		uris(&o.KMS, t.str+times)
	case f.accept("into_db"):
		expr(&o.IntoDB, t.str+times)
	case f.accept("new_db_name"):
		expr(&o.NewDBName, t.str+times)
	case f.accept("skip_missing_foreign_keys"):
		flag(&o.SkipMissingFKs, t.str+times)
	case f.accept("skip_missing_sequences"):
		flag(&o.SkipMissingSequences, t.str+times)
	case f.accept("skip_missing_sequence_owners"):
		flag(&o.SkipMissingSequenceOwners, t.str+times)
	case f.accept("skip_missing_views"):
		flag(&o.SkipMissingViews, t.str+times)
	case f.accept("skip_missing_udfs"):
		flag(&o.SkipMissingUDFs, t.str+times)
	case f.accept("skip_localities_check"):
		flag(&o.SkipLocalitiesCheck, t.str+times)
	case f.accept("remove_regions"):
		flag(&o.RemoveRegions, t.str+times)
	case f.accept("schema_only"):
		flag(&o.SchemaOnly, t.str+optTimes)
	case f.accept("verify_backup_table_data"):
		flag(&o.VerifyData, t.str+optTimes)
	case f.accept("dry_run"):
		flag(&o.DryRun, t.str+optTimes)
	case f.accept("detached"):
		f.twice(t, o.Detached != nil, "detached option specified multiple times")
		o.Detached = f.constantFlag()
	case f.accept("incremental_location"):
		uris(&o.IncrementalLocation, t.str+optTimes)
	case f.accept("execution", "locality"):
		expr(&o.ExecutionLocality, "execution locality option specified multiple times")
	case f.accept("unsafe_restore_incompatible_version"):
		flag(&o.UnsafeRestoreIncompatibleVersion, t.str+times)
	case f.accept("virtual_cluster_name"), f.accept("tenant_name"):
		expr(&o.VirtualClusterName, "tenant_name option specified multiple times")
	case f.accept("virtual_cluster"), f.accept("tenant"):
		expr(&o.VirtualCluster, "virtual_cluster option specified multiple times")
	case f.accept("experimental", "deferred", "copy"):
		flag(&o.ExperimentalDeferredCopy, "experimental deferred copy option specified multiple times")
	case f.accept("experimental", "copy"):
		flag(&o.ExperimentalCopy, "experimental copy option specified multiple times")
	default:
		f.fail("try \\h RESTORE")
	}
}

// showBackup takes SHOW BACKUP …; the first two words are taken.
func (f *front) showBackup() tree.Statement {
	const removed = "The `SHOW BACKUP` syntax without the `IN` keyword is no longer supported. Please use `SHOW BACKUP %sFROM <subdirectory> IN <collectionURI>`."
	s := &ShowBackup{}
	if f.looking("connection") {
		bail(locate(pgerr.New(pgerr.SyntaxError, "The `SHOW BACKUP CONNECTION` syntax is no longer supported. Please use `CHECK EXTERNAL CONNECTION`."), f.src, f.peek().pos))
	}
	word := ""
	for _, d := range []ShowBackupDetails{ShowBackupSchemas, ShowBackupRanges, ShowBackupFiles, ShowBackupValidate} {
		if f.accept(lower(string(d))) {
			s.Details, word = d, string(d)+" "
			break
		}
	}
	at := f.peek()
	f.accept("from")
	if !f.subdirIn(&s.Latest, &s.Subdir) {
		bail(locate(pgerr.Newf(pgerr.SyntaxError, removed, word), f.src, at.pos).WithHint("try \\h SHOW BACKUP"))
	}
	s.In = f.uris()
	f.withOptions(func() { f.showBackupOption(&s.Options) })
	f.done()
	s.node = f.node(tree.Rows, "SHOW BACKUP")
	return s
}

func (f *front) showBackupOption(o *ShowBackupOptions) {
	t := f.peek()
	flag := func(v *bool) {
		f.twice(t, *v, t.str+" option specified multiple times")
		*v = true
	}
	switch {
	case f.accept("as_json"):
		flag(&o.AsJSON)
	case f.accept("check_files"):
		flag(&o.CheckFiles)
	case f.accept("skip", "size"):
		flag(&o.SkipSize)
	case f.accept("nowait"):
		flag(&o.NoWait)
	case f.accept("debug_ids"):
		flag(&o.DebugIDs)
	case f.accept("privileges"):
		flag(&o.Privileges)
	case f.accept("encryption_passphrase"):
		f.twice(t, o.EncryptionPassphrase != nil, "encryption_passphrase specified multiple times")
		f.expectOp("=")
		o.EncryptionPassphrase = f.strOrParam()
	case f.accept("kms"):
		f.twice(t, o.KMS != nil, "kms specified multiple times")
		f.expectOp("=")
		o.KMS = f.uris()
	case f.accept("incremental_location"):
		f.twice(t, o.IncrementalLocation != nil, "incremental_location option specified multiple times")
		f.expectOp("=")
		o.IncrementalLocation = f.uris()
	case f.accept("encryption_info_dir"):
		f.twice(t, o.EncryptionInfoDir != nil, "encryption_info_dir specified multiple times")
		f.expectOp("=")
		o.EncryptionInfoDir = f.strOrParam()
	default:
		f.fail("try \\h SHOW BACKUP")
	}
}
