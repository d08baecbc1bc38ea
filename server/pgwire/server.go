package pgwire

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql"
)

// Config is what a Server is built from.
type Config struct {
	// NewSession opens a session for a client that has been authenticated.
	NewSession func(context.Context, sql.SessionArgs) (Session, error)
	// Authenticate lets a client in by returning nil. It is the place where
	// passwords and certificates are asked for.
	Authenticate func(context.Context, ClientInfo) error

	// CancelElsewhere is told of cancel requests with keys that no client of this
	// server has: they may be of another node. It may be nil, and is to return soon.
	CancelElsewhere func(ctx context.Context, pid, secret uint32)

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: none

	MaxConnections  int           // more are refused with 53300
	MaxMessageBytes int           // the longest message a client may send
	LoginTimeout    time.Duration // until a client must have been let in
}

// DefaultConfig has all limits; NewSession and Authenticate are the caller's.
func DefaultConfig() Config {
	return Config{
		Log: slog.New(slog.DiscardHandler), MaxConnections: 10000, MaxMessageBytes: 64 << 20,
		LoginTimeout: 10 * time.Second,
	}
}

var (
	errNotAccepting = pgerr.New(pgerr.AdminShutdown, "server is not accepting clients")
	errShuttingDown = pgerr.New(pgerr.AdminShutdown, "server is shutting down")
	errTooMany      = pgerr.New("53300", "sorry, too many clients already")
	errTerminated   = pgerr.New(pgerr.AdminShutdown, "terminating connection due to administrator command")
)

// Server accepts clients and runs one goroutine for each.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	draining atomic.Bool
	conns    sync.WaitGroup
	drained  chan struct{} // closed by Drain's first call

	mu struct {
		sync.Mutex
		open map[*conn]struct{}
		keys map[cancelKey]*conn
	}
}

// cancelKey is what a client needs to cancel its statement from elsewhere.
type cancelKey struct{ pid, secret uint32 }

// NewServer returns a server that listens nowhere yet; see Serve.
func NewServer(cfg Config) *Server {
	if cfg.Authenticate == nil {
		cfg.Authenticate = func(context.Context, ClientInfo) error { return nil }
	}
	s := &Server{cfg: cfg, log: cfg.Log, metrics: newMetrics(cfg.Metrics), drained: make(chan struct{})}
	s.mu.open = map[*conn]struct{}{}
	s.mu.keys = map[cancelKey]*conn{}
	return s
}

// Serve accepts clients until the listener is closed or ctx is done, and then
// waits until the last one has gone. Canceling ctx ends them where they are;
// call Drain first for a gentle end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		s.closeAll()
	})
	defer stop()
	defer s.conns.Wait()
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of descriptors, most likely: others will close theirs.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.WarnContext(ctx, "accepting SQL clients; will retry", "err", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		pause = 0
		s.start(ctx, nc)
	}
}

// start gives a client its goroutine, which s.conns waits for.
func (s *Server) start(ctx context.Context, nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full := len(s.mu.open) >= s.cfg.MaxConnections
	s.mu.open[c] = struct{}{}
	s.mu.Unlock()
	s.metrics.conns.Inc()
	s.metrics.newConns.Inc()
	s.conns.Go(func() {
		defer func() {
			s.mu.Lock()
			delete(s.mu.open, c)
			delete(s.mu.keys, c.cancelKey)
			s.mu.Unlock()
			s.metrics.conns.Dec()
			_ = nc.Close()
		}()
		c.serve(ctx, full)
	})
}

// register gives c a cancel key.
func (s *Server) register(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var secret [4]byte
		_, _ = rand.Read(secret[:]) // never fails
		c.cancelKey = cancelKey{uint32(c.sess.ID()) & 0x7fffffff, binary.BigEndian.Uint32(secret[:])}
		if _, taken := s.mu.keys[c.cancelKey]; !taken {
			s.mu.keys[c.cancelKey] = c
			return
		}
	}
}

// CancelByKey stops what the owner of a cancel key is doing, and says whether there
// is one. Clients must not learn it.
func (s *Server) CancelByKey(pid, secret uint32) bool {
	s.mu.Lock()
	c := s.mu.keys[cancelKey{pid, secret}]
	s.mu.Unlock()
	if c != nil {
		c.cancelQuery()
	}
	return c != nil
}

// cancel carries out a client's request. A wrong key is ignored, as in PostgreSQL:
// the sender must not learn whether it exists.
func (s *Server) cancel(ctx context.Context, key cancelKey) {
	if !s.CancelByKey(key.pid, key.secret) && s.cfg.CancelElsewhere != nil {
		s.cfg.CancelElsewhere(ctx, key.pid, key.secret)
	}
}

func (s *Server) isDraining() bool { return s.draining.Load() }

// Drain refuses new clients and lets each present one go when it is outside of a
// transaction. What is still there when ctx is done stays; cancel the context of
// Serve to end it. It returns an error that names how many are left.
func (s *Server) Drain(ctx context.Context) error {
	if !s.draining.Swap(true) {
		close(s.drained)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		left := len(s.mu.open)
		for c := range s.mu.open {
			c.wakeIfIdle()
		}
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("draining SQL clients: %d left", left)
		}
	}
}

// Connections is the number of clients.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.open)
}

// closeAll cuts every connection, which ends its goroutine.
func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.mu.open {
		c.cancelQuery()
		_ = c.nc.Close()
	}
}

type metrics struct {
	conns    prometheus.Gauge
	newConns prometheus.Counter
	bytesIn  prometheus.Counter
	bytesOut prometheus.Counter
	cancels  prometheus.Counter
	failures prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		conns:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "sql_conns", Help: "open SQL connections"}),
		newConns: counter("sql_new_conns", "SQL connections opened"),
		bytesIn:  counter("sql_bytesin", "bytes received from SQL clients"),
		bytesOut: counter("sql_bytesout", "bytes sent to SQL clients"),
		cancels:  counter("sql_pgwire_cancel_total", "cancel requests carried out"),
		failures: counter("sql_failure_count", "statements that ended with an error"),
	}
	if reg != nil {
		reg.MustRegister(m.conns, m.newConns, m.bytesIn, m.bytesOut, m.cancels, m.failures)
	}
	return m
}
