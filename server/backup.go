package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/backupccl"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/settings"
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
	ext.DisableHTTP = n.cfg.ExternalIODisableHTTP
	ext.DisableImplicitCredentials = n.cfg.ExternalIODisableImplicitCredential
	ext.Metrics, ext.Logger = extstore.NewMetrics(metrics), n.log
	return backupccl.NewService(backupccl.Config{
		DB: n.db, Stores: extstore.NewFactory(ext), Settings: backupccl.RegisterSettings(set),
		ClusterID: n.ident.ClusterID, NodeID: id, Locality: n.cfg.Locality.String(), Version: n.cfg.Version, Logger: n.log,
		CreateStatements:     sql.CreateStatements,
		SystemTablesRestored: func(ctx context.Context) error { return n.sql.SystemTablesRestored(ctx) },
	})
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
		User: env.User, Database: env.Database, SearchPath: env.SearchPath, Txn: env.Txn, ExplicitTxn: env.ExplicitTxn,
		EvalString: env.EvalString, AsOf: env.AsOf, HasPrivilege: env.HasPrivilege, Notice: env.Notice,
	}, stmt, row)
}
