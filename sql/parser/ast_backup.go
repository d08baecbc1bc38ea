package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// URIs is a destination: one URI or a list. Its elements are string literals or
// placeholders.
type URIs tree.Exprs

// Format implements tree.NodeFormatter.
func (u URIs) Format(ctx *tree.FmtCtx) {
	if len(u) != 1 {
		ctx.WriteByte('(')
		defer ctx.WriteByte(')')
	}
	for i, e := range u {
		if i > 0 {
			ctx.WriteString(", ")
		}
		ctx.FormatNode(e)
	}
}

// Targets says what a BACKUP or RESTORE is about. None set: the whole cluster.
type Targets struct {
	Databases   tree.NameList
	Tables      tree.TablePatterns
	SystemUsers bool
	// Tenant is set for VIRTUAL CLUSTER n, which is refused later.
	Tenant string
}

// Cluster says whether the whole cluster is meant.
func (t *Targets) Cluster() bool {
	return len(t.Databases) == 0 && len(t.Tables) == 0 && !t.SystemUsers && t.Tenant == ""
}

// Format implements tree.NodeFormatter.
func (t *Targets) Format(ctx *tree.FmtCtx) {
	switch {
	case t.Databases != nil:
		ctx.WriteString("DATABASE ")
		ctx.FormatNode(&t.Databases)
	case t.Tables != nil:
		ctx.WriteString("TABLE ")
		ctx.FormatNode(&t.Tables)
	case t.SystemUsers:
		ctx.WriteString("SYSTEM USERS")
	case t.Tenant != "":
		ctx.WriteString("VIRTUAL CLUSTER ")
		ctx.WriteString(t.Tenant)
	}
}

// BackupOptions are the options of BACKUP. An absent option is nil.
type BackupOptions struct {
	RevisionHistory                 tree.Expr // tree.DBoolTrue when written bare
	EncryptionPassphrase            tree.Expr
	Detached                        tree.Expr // tree.DBoolTrue when written bare
	KMS                             URIs
	IncrementalLocation             URIs
	ExecutionLocality               tree.Expr
	IncludeAllVirtualClusters       tree.Expr
	UpdatesClusterMonitoringMetrics tree.Expr
	StrictStorageLocality           tree.Expr
}

// Backup is BACKUP.
type Backup struct {
	Targets Targets
	// Latest: INTO LATEST IN; Subdir: INTO 'subdir' IN; neither: a new full backup.
	Latest  bool
	Subdir  tree.Expr
	To      URIs
	AsOf    tree.AsOfClause
	Options BackupOptions
}

// StatementType implements tree.Statement.
func (*Backup) StatementType() tree.StatementType { return tree.Rows }

// StatementTag implements tree.Statement.
func (*Backup) StatementTag() string { return "BACKUP" }

func (n *Backup) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *Backup) Format(ctx *tree.FmtCtx) {
	ctx.WriteString("BACKUP ")
	if !n.Targets.Cluster() {
		n.Targets.Format(ctx)
		ctx.WriteByte(' ')
	}
	ctx.WriteString("INTO ")
	if n.Latest {
		ctx.WriteString("LATEST IN ")
	} else if n.Subdir != nil {
		ctx.FormatNode(n.Subdir)
		ctx.WriteString(" IN ")
	}
	n.To.Format(ctx)
	formatAsOf(ctx, n.AsOf)
	n.Options.Format(ctx)
}

func formatAsOf(ctx *tree.FmtCtx, a tree.AsOfClause) {
	if a.Expr != nil {
		ctx.WriteByte(' ')
		ctx.FormatNode(&a)
	}
}

// optionWriter prints " WITH OPTIONS (a, b)", or nothing.
type optionWriter struct {
	ctx *tree.FmtCtx
	n   int
}

func (w *optionWriter) next(name string) {
	if w.n == 0 {
		w.ctx.WriteString(" WITH OPTIONS (")
	} else {
		w.ctx.WriteString(", ")
	}
	w.n++
	w.ctx.WriteString(name)
}

func (w *optionWriter) expr(name string, e tree.Expr) {
	if e == nil {
		return
	}
	w.next(name)
	w.ctx.WriteString(" = ")
	w.ctx.FormatNode(e)
}

// flag prints an option that is on when written bare.
func (w *optionWriter) flag(name string, e tree.Expr) {
	if e == tree.DBoolTrue {
		w.next(name)
		return
	}
	w.expr(name, e)
}

func (w *optionWriter) on(name string, on bool) {
	if on {
		w.next(name)
	}
}

func (w *optionWriter) passphrase(e tree.Expr) {
	if e == nil {
		return
	}
	w.next("encryption_passphrase = ")
	if w.ctx.HasFlags(tree.FmtShowPasswords) {
		w.ctx.FormatNode(e)
	} else {
		w.ctx.WriteString("'*****'")
	}
}

func (w *optionWriter) uris(name string, u URIs) {
	if len(u) > 0 {
		w.next(name + " = ")
		u.Format(w.ctx)
	}
}

func (w *optionWriter) close() {
	if w.n > 0 {
		w.ctx.WriteByte(')')
	}
}

// Format implements tree.NodeFormatter.
func (o *BackupOptions) Format(ctx *tree.FmtCtx) {
	w := optionWriter{ctx: ctx}
	w.expr("revision_history", o.RevisionHistory)
	w.passphrase(o.EncryptionPassphrase)
	w.flag("detached", o.Detached)
	w.uris("kms", o.KMS)
	w.uris("incremental_location", o.IncrementalLocation)
	w.expr("execution locality", o.ExecutionLocality)
	w.flag("include_all_virtual_clusters", o.IncludeAllVirtualClusters)
	w.flag("updates_cluster_monitoring_metrics", o.UpdatesClusterMonitoringMetrics)
	w.flag("strict storage locality", o.StrictStorageLocality)
	w.close()
}

// RestoreOptions are the options of RESTORE.
type RestoreOptions struct {
	EncryptionPassphrase             tree.Expr
	KMS                              URIs
	IntoDB                           tree.Expr
	NewDBName                        tree.Expr
	SkipMissingFKs                   bool
	SkipMissingSequences             bool
	SkipMissingSequenceOwners        bool
	SkipMissingViews                 bool
	SkipMissingUDFs                  bool
	SkipLocalitiesCheck              bool
	RemoveRegions                    bool
	SchemaOnly                       bool
	VerifyData                       bool
	Detached                         tree.Expr // tree.DBoolTrue when written bare
	IncrementalLocation              URIs
	ExecutionLocality                tree.Expr
	UnsafeRestoreIncompatibleVersion bool
	VirtualClusterName               tree.Expr
	VirtualCluster                   tree.Expr
	ExperimentalCopy                 bool
	ExperimentalDeferredCopy         bool
	DryRun                           bool
}

// Format implements tree.NodeFormatter.
func (o *RestoreOptions) Format(ctx *tree.FmtCtx) {
	w := optionWriter{ctx: ctx}
	w.passphrase(o.EncryptionPassphrase)
	w.uris("kms", o.KMS)
	w.expr("into_db", o.IntoDB)
	w.on("skip_missing_foreign_keys", o.SkipMissingFKs)
	w.on("skip_missing_sequence_owners", o.SkipMissingSequenceOwners)
	w.on("skip_missing_sequences", o.SkipMissingSequences)
	w.on("skip_missing_views", o.SkipMissingViews)
	w.on("skip_missing_udfs", o.SkipMissingUDFs)
	w.flag("detached", o.Detached)
	w.on("skip_localities_check", o.SkipLocalitiesCheck)
	w.expr("new_db_name", o.NewDBName)
	w.uris("incremental_location", o.IncrementalLocation)
	w.on("schema_only", o.SchemaOnly)
	w.on("verify_backup_table_data", o.VerifyData)
	w.on("unsafe_restore_incompatible_version", o.UnsafeRestoreIncompatibleVersion)
	w.expr("execution locality", o.ExecutionLocality)
	w.on("experimental deferred copy", o.ExperimentalDeferredCopy)
	w.on("experimental copy", o.ExperimentalCopy)
	w.on("remove_regions", o.RemoveRegions)
	w.expr("virtual_cluster_name", o.VirtualClusterName)
	w.expr("virtual_cluster", o.VirtualCluster)
	w.on("dry_run", o.DryRun)
	w.close()
}

// Restore is RESTORE.
type Restore struct {
	Targets Targets
	// Latest: FROM LATEST IN; else Subdir is set.
	Latest  bool
	Subdir  tree.Expr
	From    URIs
	AsOf    tree.AsOfClause
	Options RestoreOptions
}

// StatementType implements tree.Statement.
func (*Restore) StatementType() tree.StatementType { return tree.Rows }

// StatementTag implements tree.Statement.
func (*Restore) StatementTag() string { return "RESTORE" }

func (n *Restore) String() string { return tree.AsString(n) }

// Format implements tree.NodeFormatter.
func (n *Restore) Format(ctx *tree.FmtCtx) {
	ctx.WriteString("RESTORE ")
	if !n.Targets.Cluster() {
		n.Targets.Format(ctx)
		ctx.WriteByte(' ')
	}
	ctx.WriteString("FROM ")
	formatSubdir(ctx, n.Latest, n.Subdir)
	ctx.WriteString(" IN ")
	n.From.Format(ctx)
	formatAsOf(ctx, n.AsOf)
	n.Options.Format(ctx)
}

func formatSubdir(ctx *tree.FmtCtx, latest bool, subdir tree.Expr) {
	if latest {
		ctx.WriteString("LATEST")
	} else {
		ctx.FormatNode(subdir)
	}
}

// ShowBackups is SHOW BACKUPS IN.
type ShowBackups struct {
	node
	In URIs
}

// ShowBackupDetails says which variant of SHOW BACKUP is asked for.
type ShowBackupDetails string

// The variants of SHOW BACKUP.
const (
	ShowBackupDefault  ShowBackupDetails = ""
	ShowBackupSchemas  ShowBackupDetails = "SCHEMAS"
	ShowBackupRanges   ShowBackupDetails = "RANGES"
	ShowBackupFiles    ShowBackupDetails = "FILES"
	ShowBackupValidate ShowBackupDetails = "VALIDATE"
)

// ShowBackupOptions are the options of SHOW BACKUP.
type ShowBackupOptions struct {
	AsJSON, CheckFiles, SkipSize, NoWait, DebugIDs, Privileges bool

	EncryptionPassphrase tree.Expr
	KMS                  URIs
	IncrementalLocation  URIs
	EncryptionInfoDir    tree.Expr
}

// ShowBackup is SHOW BACKUP … FROM … IN.
type ShowBackup struct {
	node
	Details ShowBackupDetails
	Latest  bool
	Subdir  tree.Expr
	In      URIs
	Options ShowBackupOptions
}

// JobCommand is what a job control statement does.
type JobCommand string

// The job and schedule commands.
const (
	PauseCmd  JobCommand = "PAUSE"
	ResumeCmd JobCommand = "RESUME"
	CancelCmd JobCommand = "CANCEL"
	DropCmd   JobCommand = "DROP"
)

// ControlJobs is PAUSE, RESUME or CANCEL of jobs. One of Jobs, Schedules and Type
// is set.
type ControlJobs struct {
	node
	Command JobCommand
	// Jobs gives job ids in one column; a single JOB id is VALUES (id).
	Jobs *tree.Select
	// Schedules: … JOBS FOR SCHEDULE(S).
	Schedules *tree.Select
	// Type: … ALL type JOBS, upper case.
	Type   string
	Reason tree.Expr // PAUSE … WITH REASON
}

// ShowJobs is SHOW JOB and SHOW JOBS. Without Jobs and Schedules, all recent ones.
type ShowJobs struct {
	node
	// Single: SHOW JOB id, which shows full descriptions.
	Single           bool
	Automatic        bool
	WhenComplete     bool
	Jobs             *tree.Select
	Schedules        *tree.Select
	ExecutionDetails bool
}

// AlterJobOwner is ALTER JOB id OWNER TO role.
type AlterJobOwner struct {
	node
	Job   *tree.Select // VALUES (id)
	Owner string
}

// ScheduleOption is one of WITH SCHEDULE OPTIONS.
type ScheduleOption struct {
	Name  string
	Value tree.Expr // nil when bare
}

// CreateSchedule is CREATE SCHEDULE FOR BACKUP. Backup.To and its options are
// what each run does.
type CreateSchedule struct {
	node
	IfNotExists bool
	Label       tree.Expr // nil: not given
	Backup      *Backup
	Recurrence  tree.Expr
	// FullBackup is the cadence of full backups; nil with FullAlways or when not given.
	FullBackup tree.Expr
	FullAlways bool
	Options    []ScheduleOption
}

// ControlSchedules is PAUSE, RESUME or DROP of schedules.
type ControlSchedules struct {
	node
	Command   JobCommand
	Schedules *tree.Select
}

// ShowSchedules is SHOW SCHEDULES and SHOW SCHEDULE id.
type ShowSchedules struct {
	node
	Which string // "", "RUNNING", "PAUSED"
	For   string // "", "BACKUP", "SQL STATISTICS", "CHANGEFEED"
	ID    tree.Expr
}

// ShowCreateSchedules is SHOW CREATE SCHEDULE id and SHOW CREATE ALL SCHEDULES.
type ShowCreateSchedules struct {
	node
	ID tree.Expr // nil: all
}

// AlterBackupSchedule is ALTER BACKUP SCHEDULE.
type AlterBackupSchedule struct {
	node
	ID   tree.Expr
	Cmds []AlterScheduleCmd
}

// AlterScheduleCmd is one command of ALTER BACKUP SCHEDULE. Name says which
// fields hold: LABEL, INTO, WITH, RECURRING, FULL BACKUP, SCHEDULE OPTION, EXECUTE.
type AlterScheduleCmd struct {
	Name           string
	Value          tree.Expr // LABEL, RECURRING, FULL BACKUP
	Into           URIs
	With           *BackupOptions
	FullAlways     bool
	ScheduleOption *ScheduleOption
	ExecuteFull    bool
}

// CreateExternalConnection is CREATE EXTERNAL CONNECTION n AS 'uri'.
type CreateExternalConnection struct {
	node
	IfNotExists bool
	Name        tree.Expr
	As          tree.Expr
}

// DropExternalConnection is DROP EXTERNAL CONNECTION n.
type DropExternalConnection struct {
	node
	Name tree.Expr
}

// ShowExternalConnections is SHOW EXTERNAL CONNECTION(S) and, with Create, SHOW
// CREATE EXTERNAL CONNECTION n and SHOW CREATE ALL EXTERNAL CONNECTIONS.
type ShowExternalConnections struct {
	node
	Name   tree.Expr // nil: all
	Create bool
}

// CheckExternalConnection is CHECK EXTERNAL CONNECTION 'uri' [WITH …].
type CheckExternalConnection struct {
	node
	URI     tree.Expr
	Options []ScheduleOption
}
