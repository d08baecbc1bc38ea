package backupccl

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
)

// Config is what backups and restores need of the node.
type Config struct {
	DB        *kv.DB
	Jobs      *jobs.Registry // see Service.Connect
	Stores    *extstore.Factory
	Settings  *Settings
	ClusterID [16]byte
	NodeID    int32
	Locality  string // "region=eu,zone=a"
	Version   string // of the program
	Logger    *slog.Logger

	// CreateStatements returns what renders each of descs as SQL. A nil function
	// leaves the text out of backups.
	CreateStatements func(descs []catalog.Descriptor) func(catalog.Descriptor) string

	// Catalog is the descriptor cache that the node's sessions share; see
	// Service.Connect.
	Catalog *catalog.Cache

	// SystemTablesRestored tells the node that system tables have new contents,
	// so that it reads settings and roles again; may be nil.
	SystemTablesRestored func(ctx context.Context) error

	Workers int    // concurrent pieces of a job on this node
	TempDir string // for what a restore cannot hold in memory; empty: the system's

	Testing Testing
}

// Testing are hooks for tests.
type Testing struct {
	// PageBytes bounds a page of an export.
	PageBytes int64
	// RowBytes is the history at which a row is cut.
	RowBytes int64
	// AfterExport sees every page that a backup job has exported.
	AfterExport func(job jobs.ID, span keys.Span)
	// Hook is called at named places of a job; an error ends its run there.
	Hook func(ctx context.Context, place string) error
	// DropSpan and ShiftStart plant the faults that verification must find.
	DropSpan   func(span keys.Span) bool
	ShiftStart time.Duration
	// EditDraft changes a layer just before its metadata is written, EditPlan the
	// files that a restore reads for an index, EditMerge how it merges them: more
	// faults that verification must find.
	EditDraft func(d *manifest.Draft)
	EditPlan  func(files []*manifest.DataFile) []*manifest.DataFile
	EditMerge func(o *storage.RestoreOptions)
}

// Settings are the cluster settings of this package.
type Settings struct {
	backupEnabled, restoreEnabled *settings.Bool
	fileSize                      *settings.ByteSize
	checkpointInterval            *settings.Duration
	fullWithSubdir                *settings.Bool
	chainFingerprints             *settings.Bool
	// How reads of a backup treat open transactions.
	priorityAfter, readTimeout, readRetryDelay *settings.Duration
	// How a restore cuts and paces its work, and how long it tries again.
	restoreSpanBytes, ingestRate *settings.ByteSize
	restoreSpanFiles             *settings.Int
	restoreRetryMax              *settings.Duration
}

// registerInert defines settings that scripts of the documented store set and that
// change nothing here: what they would tune is done otherwise or needs several
// nodes.
func registerInert(reg *settings.Registry) {
	const inert = "; has no effect"
	reg.ByteSize("bulkio.backup.merge_file_buffer_size", "buffer for small files; they are gathered in any case"+inert, 128<<20, settings.Positive)
	reg.Bool("bulkio.backup.balanced_distribution.enabled", "read from random replicas"+inert, false)
	reg.Bool("bulkio.backup.presplit_request_spans.enabled", "split requests by range, which is always done"+inert, true)
	reg.Bool("bulkio.backup.elastic_control.enabled", "let exports yield the CPU"+inert, true)
	reg.Bool("backup.write_metadata_with_external_ssts.enabled", "keep lists of files and descriptors beside the manifest, which is always done"+inert, true)
	reg.Int("bulkio.restore.insert_stats_workers", "workers that restore statistics, which come with the descriptors"+inert, 5, settings.Positive)
	reg.Duration("bulkio.restore.replan_flow_frequency", "time between looks at the nodes that work for a restore"+inert, 10*time.Minute, settings.PositiveDuration)
	reg.Bool("bulkio.restore.use_simple_import_spans", "another way to cut a restore into pieces"+inert, false)
	reg.Bool("restore.wait_for_span_config_conformance.enabled", "wait until replicas are where zones want them"+inert, false)
	reg.Bool("restore.compacted_backups.enabled", "read compacted layers where there are some"+inert, true)
	reg.Bool("schedules.backup.gc_protection.enabled", "let schedules keep what their next backup needs"+inert, true)
	reg.Int("kv.bulk_io_write.concurrent_export_requests", "exports that run at once"+inert, 3, settings.Positive)
	reg.ByteSize("kv.bulk_sst.target_size", "size of one page of an export"+inert, 16<<20, settings.Positive)
	reg.ByteSize("kv.bulk_sst.max_allowed_overage", "how far a page of an export may exceed its size"+inert, 64<<20, settings.NonNegative)
	reg.Duration("kv.protectedts.reconciliation.interval", "time between looks for protections of jobs that are gone"+inert, 5*time.Minute, settings.PositiveDuration)
	reg.Duration("kv.protectedts.poll_interval", "time between looks at protections, which are read when they count"+inert, 2*time.Minute, settings.PositiveDuration)
}

// RegisterSettings defines the cluster settings of this package in reg.
func RegisterSettings(reg *settings.Registry) *Settings {
	registerInert(reg)
	positive := func(n int64) error {
		if n <= 0 {
			return fmt.Errorf("must be greater than 0, is %d", n)
		}
		return nil
	}
	return &Settings{
		backupEnabled:  reg.Bool("feature.backup.enabled", "set to true to enable backups, false to disable", true),
		restoreEnabled: reg.Bool("feature.restore.enabled", "set to true to enable restore, false to disable", true),
		fileSize: reg.ByteSize("bulkio.backup.file_size",
			"target size of data files, before compression", 128<<20, positive),
		checkpointInterval: reg.Duration("bulkio.backup.checkpoint_interval",
			"longest time between two checkpoints of a running backup", 10*time.Second, func(d time.Duration) error {
				if d <= 0 {
					return fmt.Errorf("must be greater than 0, is %s", d)
				}
				return nil
			}),
		chainFingerprints: reg.Bool("bulkio.backup.chain_fingerprints.enabled",
			"when true, incremental backups look up what each changed key was before, so that a restore of the chain "+
				"can be compared with a fingerprint of all of it", true),
		priorityAfter: reg.Duration("bulkio.backup.read_with_priority_after",
			"how long a running backup waits for open transactions before it reads past them; doing so moves their timestamps",
			0, settings.NonNegativeDuration),
		readTimeout: reg.Duration("bulkio.backup.read_timeout",
			"longest time that one read of a backup may take, 0 for no limit", 5*time.Minute, settings.NonNegativeDuration),
		readRetryDelay: reg.Duration("bulkio.backup.read_retry_delay",
			"time between two looks at a key that an open transaction has locked, until bulkio.backup.read_with_priority_after", 5*time.Second, settings.PositiveDuration),
		restoreSpanBytes: reg.ByteSize("backup.restore_span.target_size",
			"how much data one piece of a restore brings in, about", restorePieceBytes, settings.Positive),
		restoreSpanFiles: reg.Int("backup.restore_span.max_file_count",
			"number of files at which a piece of a restore is cut", 200, settings.Positive),
		ingestRate: reg.ByteSize("kv.bulk_io_write.max_rate",
			"bytes per second that restores write into the store", 1<<40, settings.Positive),
		restoreRetryMax: reg.Duration("restore.retry_max_duration",
			"how long a restore that cannot reach its backup tries again before it pauses", 72*time.Hour, settings.PositiveDuration),
		fullWithSubdir: reg.Bool("bulkio.backup.deprecated_full_backup_with_subdir.enabled",
			"when true, BACKUP INTO 'subdir' IN takes a full backup if there is none", false),
	}
}

// Service plans statements and runs their jobs on one node.
type Service struct {
	cfg Config
	// lastCompleted is when the last backup ended whose statement asked for
	// updates_cluster_monitoring_metrics. Its name is what alerts look for.
	lastCompleted prometheus.Gauge
	ingest        *extstore.Limiter // of what restores write into the store
}

// NewService returns a Service.
func NewService(cfg Config) *Service {
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	rate := func() int64 { return 0 }
	if cfg.Settings != nil {
		rate = cfg.Settings.ingestRate.Get
	}
	return &Service{cfg: cfg, ingest: extstore.LimiterOf(rate), lastCompleted: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "schedules_BACKUP_last_completed_time",
		Help: "Unix time of the last backup that succeeded and updates the monitoring metrics.",
	})}
}

// Collectors are the metrics of this package.
func (s *Service) Collectors() []prometheus.Collector { return []prometheus.Collector{s.lastCompleted} }

// Connect gives the service what itself needs the service first: the registry
// that runs its jobs, and the descriptor cache of the sessions that use it. It is
// called once, before either is in use.
func (s *Service) Connect(r *jobs.Registry, c *catalog.Cache) { s.cfg.Jobs, s.cfg.Catalog = r, c }

// Constructors are the job types of this package.
func (s *Service) Constructors() map[string]func() jobs.Resumer {
	return map[string]func() jobs.Resumer{
		jobs.TypeBackup:  func() jobs.Resumer { return &backupResumer{s: s} },
		jobs.TypeRestore: func() jobs.Resumer { return &restoreResumer{s: s} },
	}
}

// Session is what a statement sees of the session that runs it.
type Session struct {
	User       string
	Database   string
	SearchPath []string
	Txn        *kv.Txn // of the statement
	// ExplicitTxn says that Txn goes on after the statement.
	ExplicitTxn bool
	// Uncommitted says that other statements of Txn wrote before this one.
	Uncommitted bool
	Statement   string // as written, secrets removed

	// EvalString evaluates a string expression or placeholder.
	EvalString func(ctx context.Context, e tree.Expr) (string, error)
	// AsOf evaluates an AS OF SYSTEM TIME clause.
	AsOf func(ctx context.Context, c tree.AsOfClause) (hlc.Timestamp, error)
	// HasPrivilege says whether the user has a privilege, by its SQL name, on d,
	// or on the system when d is nil. Admins have all.
	HasPrivilege func(ctx context.Context, d catalog.Descriptor, privilege string) (bool, error)
	Notice       func(*pgerr.Error)
}

// Column is a column of a statement's result.
type Column struct {
	Name string
	Type *types.T
}

func jobColumns(detached bool) []Column {
	if detached {
		return []Column{{"job_id", types.Int}}
	}
	return []Column{
		{"job_id", types.Int}, {"status", types.String}, {"fraction_completed", types.Float},
		{"rows", types.Int}, {"index_entries", types.Int}, {"bytes", types.Int},
	}
}

// Columns returns what a statement of this package returns, without running
// it; ok is false for other statements.
func (s *Service) Columns(stmt tree.Statement) (cols []Column, ok bool) {
	switch n := stmt.(type) {
	case *parser.Backup:
		return jobColumns(isDetached(n.Options.Detached)), true
	case *parser.Restore:
		return jobColumns(isDetached(n.Options.Detached)), true
	case *parser.ShowBackups:
		return showBackupsColumns, true
	case *parser.ShowBackup:
		return showBackupColumns(n), true
	}
	return nil, false
}

// Run runs a statement of this package and gives its rows to row.
func (s *Service) Run(ctx context.Context, sess *Session, stmt tree.Statement, row func(context.Context, tree.Datums) error) error {
	err := s.run(ctx, sess, stmt, row)
	if pgerr.GetCode(err) == "" {
		return err
	}
	// What was being done when it failed is part of the message. Callers look
	// for the *pgerr.Error and would lose what is wrapped around it.
	return pgerr.Flatten(err)
}

func (s *Service) run(ctx context.Context, sess *Session, stmt tree.Statement, row func(context.Context, tree.Datums) error) error {
	switch n := stmt.(type) {
	case *parser.Backup:
		return s.runBackup(ctx, sess, n, row)
	case *parser.Restore:
		return s.runRestore(ctx, sess, n, row)
	case *parser.ShowBackups:
		return s.runShowBackups(ctx, sess, n, row)
	case *parser.ShowBackup:
		return s.runShowBackup(ctx, sess, n, row)
	}
	return pgerr.Newf(pgerr.Internal, "%T is no statement about backups", stmt)
}

// isDetached says whether a DETACHED option is on. The parser lets only TRUE and
// FALSE pass: what a statement returns is known before anything is evaluated.
func isDetached(e tree.Expr) bool {
	v, ok := e.(*tree.DBool)
	return ok && bool(*v)
}

// optionBool evaluates an option that is a bool, or a string that reads as one.
func optionBool(ctx context.Context, sess *Session, name string, e tree.Expr) (bool, error) {
	switch v := e.(type) {
	case nil:
		return false, nil
	case *tree.DBool:
		return bool(*v), nil
	}
	invalid := func(value string) error {
		return pgerr.Newf(pgerr.InvalidParameterValue, "option %q requires a boolean, not %s", name, value).
			WithHint("Write %[1]s, %[1]s = true or %[1]s = false.", name)
	}
	str, err := sess.EvalString(ctx, e)
	if pgerr.GetCode(err) == pgerr.DatatypeMismatch {
		return false, invalid(tree.AsString(e))
	}
	if err != nil {
		return false, err
	}
	b, err := tree.ParseDBool(str)
	if err != nil {
		return false, invalid(quoteSQL(str))
	}
	return bool(*b), nil
}

func optionString(ctx context.Context, sess *Session, e tree.Expr) (string, error) {
	if e == nil {
		return "", nil
	}
	return sess.EvalString(ctx, e)
}

func evalURIs(ctx context.Context, sess *Session, exprs parser.URIs) ([]string, error) {
	var out []string
	for _, e := range exprs {
		u, err := sess.EvalString(ctx, e)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// checkURIs checks form and access of storage URIs, without reaching out.
func (s *Service) checkURIs(ctx context.Context, sess *Session, uris []string) error {
	for _, raw := range uris {
		u, err := extstore.ParseURI(raw)
		if err != nil {
			return err
		}
		if err := s.cfg.Stores.Check(u); err != nil {
			return err
		}
		if u.NeedsImplicitAccess() {
			ok, err := sess.HasPrivilege(ctx, nil, "EXTERNALIOIMPLICITACCESS")
			if err != nil {
				return err
			}
			if !ok {
				return pgerr.Newf(pgerr.InsufficientPrivilege,
					"only users with the admin role or the EXTERNALIOIMPLICITACCESS system privilege are allowed to access the specified %s URI", u.Scheme)
			}
		}
	}
	return nil
}

// runJob creates a job and, unless it is detached, waits for its end.
func (s *Service) runJob(
	ctx context.Context, sess *Session, n jobs.New, detached bool,
	counts func(progress []byte) (rows, indexEntries, bytes int64),
	row func(context.Context, tree.Datums) error,
) error {
	if detached {
		id, err := s.cfg.Jobs.CreateJob(ctx, sess.Txn, n)
		if err != nil {
			return err
		}
		return row(ctx, tree.Datums{tree.NewDInt(tree.DInt(id))})
	}
	n.StartHere = true
	var id jobs.ID
	err := s.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
		id, err = s.cfg.Jobs.CreateJob(ctx, txn, n)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.cfg.Jobs.Wait(ctx, id); err != nil {
		return err
	}
	var rec *jobs.Record
	err = s.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
		rec, err = s.cfg.Jobs.Get(ctx, txn, id)
		return err
	})
	if err != nil {
		return err
	}
	rows, entries, bytes := counts(rec.Progress.Details)
	return row(ctx, tree.Datums{
		tree.NewDInt(tree.DInt(id)), tree.NewDString(string(rec.State)), tree.NewDFloat(tree.DFloat(rec.Progress.FractionCompleted)),
		tree.NewDInt(tree.DInt(rows)), tree.NewDInt(tree.DInt(entries)), tree.NewDInt(tree.DInt(bytes)),
	})
}

// hook runs the test hook of a place.
func (s *Service) hook(ctx context.Context, place string) error {
	if s.cfg.Testing.Hook == nil {
		return nil
	}
	return s.cfg.Testing.Hook(ctx, place)
}

// errUnsupportedOption refuses an option whose meaning would be lost otherwise.
func errUnsupportedOption(name, hint string) error {
	return pgerr.Newf(pgerr.FeatureNotSupported, "option %s is not supported by this version", name).WithHint("%s", hint)
}

// errNoEncryption refuses options whose meaning would be lost otherwise.
func errNoEncryption() error {
	return pgerr.New(pgerr.FeatureNotSupported, "encrypted backups are not supported by this version").
		WithHint("Leave out encryption_passphrase and kms, and use the encryption of the bucket or disk.")
}
