package server

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/backupccl"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/liveness"
	"github.com/holdfastdb/holdfast/sql"
)

// newBackups returns the part of the node that backs up and restores. Its job
// registry and its descriptor cache come later: both need it first.
func (n *Node) newBackups(set *settings.Registry, metrics prometheus.Registerer) *backupccl.Service {
	ext := extstore.DefaultConfig()
	if n.cfg.ExternalIODir != externalIODisabled {
		ext.ExternalIODir = n.cfg.ExternalIODir
	}
	id := int32(n.ident.NodeID)
	ext.NodeID = func() int32 { return id }
	ext.IsMember = func(node int32) bool { return n.sql != nil && n.sql.IsMember(node) }
	if n.cluster != nil {
		ext.Remote = peers{n.cluster}.remoteFiles
		ext.IsMember = func(node int32) bool {
			if r, ok := n.cluster.live.Record(kvpb.NodeID(node)); ok {
				return r.Membership != liveness.Decommissioned
			}
			_, heard := n.cluster.gossip.Node(node)
			return heard || n.sql != nil && n.sql.IsMember(node)
		}
	}
	ext.DisableHTTP = n.cfg.ExternalIODisableHTTP
	ext.DisableImplicitCredentials = n.cfg.ExternalIODisableImplicitCredential
	ext.Settings = extstore.RegisterSettings(set)
	ext.Metrics, ext.Logger = extstore.NewMetrics(metrics), n.log
	s := backupccl.NewService(backupccl.Config{
		DB: n.db, Stores: extstore.NewFactory(ext), Settings: backupccl.RegisterSettings(set),
		ClusterID: n.ident.ClusterID, NodeID: id, Locality: n.cfg.Locality.String(), Version: n.cfg.Version, Logger: n.log,
		TempDir:              n.storeTempDir(),
		CreateStatements:     sql.CreateStatements,
		SystemTablesRestored: func(ctx context.Context) error { return n.sql.SystemTablesRestored(ctx) },
		Testing:              backupccl.Testing{Hook: n.jobHook()},
	})
	metrics.MustRegister(s.Collectors()...)
	return s
}

// storeTempDir is where files go that do not outlive the process: beside the
// store, which has the room, and not where the system may keep files in memory.
// The engine has made the directory.
func (n *Node) storeTempDir() string {
	if n.cfg.Store.InMemory {
		return ""
	}
	return filepath.Join(n.cfg.Store.Path, "auxiliary")
}

func (n *Node) jobHook() func(context.Context, string) error {
	if fn := n.cfg.Testing.BackupHook; fn != nil {
		return fn
	}
	return crashHook(n.cfg.Testing.CrashAt)
}

// crashHook returns a hook that kills the process at a place, as kill -9 would;
// nil for no place.
func crashHook(at string) func(context.Context, string) error {
	if at == "" {
		return nil
	}
	place, count, _ := strings.Cut(at, ":")
	nth, err := strconv.Atoi(count)
	if err != nil {
		nth = 1
	}
	var seen atomic.Int64
	return func(_ context.Context, here string) error {
		if here == place && seen.Add(1) == int64(nth) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // The signal may take a moment to arrive.
		}
		return nil
	}
}

// backupHook lets statements about backups leave package sql.
type backupHook struct{ *backupccl.Service }

func (h backupHook) Columns(stmt sql.BackupStatement) ([]sql.ResultColumn, bool) {
	cols, ok := h.Service.Columns(stmt)
	out := make([]sql.ResultColumn, len(cols))
	for i, c := range cols {
		out[i] = sql.MakeResultColumn(c.Name, c.Type)
	}
	return out, ok
}

func (h backupHook) Run(
	ctx context.Context, env sql.BackupEnv, stmt sql.BackupStatement, row func(context.Context, sql.BackupRow) error,
) error {
	return h.Service.Run(ctx, &backupccl.Session{
		User: env.User, Database: env.Database, SearchPath: env.SearchPath, Txn: env.Txn, ExplicitTxn: env.ExplicitTxn, Uncommitted: env.Uncommitted,
		EvalString: env.EvalString, AsOf: env.AsOf, HasPrivilege: env.HasPrivilege, Notice: env.Notice,
	}, stmt, row)
}
