package sql

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/builtins"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/exec"
)

// ServerConfig is what a Server is built from.
type ServerConfig struct {
	DB    *kv.DB
	Clock *hlc.Clock
	Log   *slog.Logger

	NodeID    int32
	ClusterID [16]byte
	Locality  string // "region=eu,zone=a"
	Version   string // of the program, as version() prints it

	// StatementMemoryBytes bounds what one statement may hold in memory
	// (hash tables, sorts, buffered rows). 0 means 256 MiB.
	StatementMemoryBytes int64
	// SQLMemoryBytes bounds all statements of the node together. 0: no bound.
	SQLMemoryBytes int64
	// TempDir is where sorts and hash tables spill; it must exist. Empty means
	// the system's.
	TempDir string

	ExternalConfig
}

// Server makes sessions and owns what they share: the descriptor cache, the
// registry of sessions and the background work of the SQL layer.
type Server struct {
	cfg     ServerConfig
	db      *kv.DB
	clock   *hlc.Clock
	log     *slog.Logger
	catalog *catalog.Cache
	peers   *catalog.Peers // nil: the keyspace has no other server
	memPool *exec.Pool
	stats   tableStats
	rowIDs  rowIDs
	started time.Time

	nextSessionID atomic.Uint64

	mu struct {
		sync.Mutex
		sessions map[uint64]*Session
	}

	zoneMap zoneMap

	serverState // what schema changes, settings and sequences keep per node
}

// NewServer checks cfg and returns a server without background work; see Run.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StatementMemoryBytes == 0 {
		cfg.StatementMemoryBytes = 256 << 20
	}
	if cfg.Clock == nil {
		cfg.Clock = cfg.DB.Clock()
	}
	builtins.Register()
	s := &Server{
		cfg: cfg, db: cfg.DB, clock: cfg.Clock, log: cfg.Log,
		memPool: exec.NewPool(cfg.SQLMemoryBytes),
		started: time.Now(),
	}
	var err error
	if s.catalog, err = catalog.NewCache(); err != nil {
		return nil, err
	}
	s.mu.sessions = map[uint64]*Session{}
	if err := s.serverState.init(s); err != nil {
		return nil, err
	}
	return s, nil
}

// DB returns the keyspace below the server.
func (s *Server) DB() *kv.DB { return s.db }

// Catalog returns the descriptor cache that all sessions share.
func (s *Server) Catalog() *catalog.Cache { return s.catalog }

// Sessions returns the open sessions, in no order.
func (s *Server) Sessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Session, 0, len(s.mu.sessions))
	for _, sess := range s.mu.sessions {
		out = append(out, sess)
	}
	return out
}

// SessionByID finds an open session.
func (s *Server) SessionByID(id uint64) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sessions[id]
}

// Close ends every session. Their connections must have stopped using them.
func (s *Server) Close(ctx context.Context) {
	for _, sess := range s.Sessions() {
		sess.CancelQuery()
		sess.Close(ctx)
	}
}
