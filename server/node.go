package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/server/pgwire"
	"github.com/holdfastdb/holdfast/sql"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// The identity of the only node of a cluster of one.
const (
	singleNodeID  = 1
	singleStoreID = 1
)

// Node is one running node. Start opens it, Drain lets clients finish, Stop
// closes it.
type Node struct {
	cfg   Config
	log   *slog.Logger
	ready readiness
	gc    gcPolicy

	settings      *settings.Registry
	snapshotRate  *settings.ByteSize // kv.snapshot_rebalance.max_rate
	checkInterval *settings.Duration // server.consistency_check.interval
	mergeQueue    *settings.Bool     // kv.range_merge.queue_enabled
	deadAfter     *settings.Duration // server.time_until_store_dead
	handOverBound *settings.Duration // server.shutdown.lease_transfer_iteration.timeout

	// failed is closed when the node must end, for the reason failure; quit when it is
	// asked to end in order.
	failed, quit       chan struct{}
	failure            error
	failOnce, quitOnce sync.Once

	// What Start opened, in that order; closers undoes it in reverse.
	closers []closer
	cluster *cluster // nil: the node is a cluster of its own
	ident   kvserver.Ident
	origin  origin
	engine  *storage.Engine
	store   *kvserver.Store
	db      *kv.DB
	jobs    *jobs.Registry
	sql     *sql.Server
	pg      *pgwire.Server

	sqlAddr, httpAddr net.Addr
	started           time.Time
	took              time.Duration
}

type closer struct {
	what string
	fn   func(context.Context) error
}

// New checks cfg and returns a node that has not been started.
func New(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, settings: settings.NewRegistry(), failed: make(chan struct{}), quit: make(chan struct{})}
	n.snapshotRate = n.settings.ByteSize("kv.snapshot_rebalance.max_rate",
		"how many bytes per second a node sends at most to bring replicas to other nodes", 32<<20, settings.Positive)
	n.checkInterval = n.settings.Duration("server.consistency_check.interval",
		"how often the replicas of each range are compared; 0 is never", 24*time.Hour, settings.NonNegativeDuration)
	n.mergeQueue = n.settings.Bool("kv.range_merge.queue_enabled", "whether small ranges are merged with their neighbours", true)
	n.deadAfter = n.settings.Duration("server.time_until_store_dead",
		"how long after a node was last heard of its replicas are brought elsewhere", 5*time.Minute, settings.PositiveDuration)
	n.handOverBound = n.settings.Duration("server.shutdown.lease_transfer_iteration.timeout",
		"how long a node that ends tries to give its leases away", 5*time.Second, settings.PositiveDuration)
	return n, nil
}

// FatalError says that a node has ended because it must not go on.
type FatalError struct{ Cause error }

func (e *FatalError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *FatalError) Unwrap() error { return e.Cause }

// fail ends the node as soon as Start or Run hears of it.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.log.Error("this node must not go on", "err", err)
		n.failure = &FatalError{err}
		close(n.failed)
	})
}

// stopItself makes Run end in order.
func (n *Node) stopItself() { n.quitOnce.Do(func() { close(n.quit) }) }

// Run starts a node, calls ready once clients are served, and serves until ctx is
// done. Then it lets clients finish, bounded by the drain timeouts or the end of
// hard, and stops. It returns nil after such an orderly end.
func Run(ctx, hard context.Context, cfg Config, ready func(*Node) error) error {
	n, err := New(cfg)
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	if ready != nil {
		err = ready(n)
	}
	if err == nil {
		select {
		case <-ctx.Done():
			n.Drain(hard)
		case <-n.quit:
			n.Drain(hard)
		case <-n.failed:
			err = n.failure
		}
	}
	return errors.Join(err, n.Stop(hard))
}

// Start opens all parts of the node. If it fails, what had been opened is closed.
func (n *Node) Start(ctx context.Context) (err error) {
	began := time.Now()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // Ends with Start.
		select {
		case <-n.failed:
			stop()
		case <-ctx.Done():
		}
	}()
	defer func() {
		if err != nil {
			select {
			case <-n.failed:
				err = n.failure
			default:
			}
			_ = n.Stop(context.WithoutCancel(ctx)) // The first error says more.
		}
	}()
	if err := n.cfg.checkJoinFlag(); err != nil {
		return err
	}
	if err := n.openLog(); err != nil {
		return err
	}
	if n.cfg.GoMemoryBytes > 0 {
		debug.SetMemoryLimit(n.cfg.GoMemoryBytes)
	}
	metrics := prometheus.NewRegistry()

	// Listen first: a taken port should not cost a recovery of the store, and
	// clients that come early wait instead of being refused.
	sqlListener, err := n.openPorts()
	if err != nil {
		return err
	}
	n.sqlAddr = sqlListener.Addr()
	if !n.cfg.Testing.NoHTTP {
		l, err := net.Listen("tcp", n.cfg.HTTPAddr)
		if err != nil {
			return fmt.Errorf("--http-addr: %w", err)
		}
		n.httpAddr = l.Addr()
		h := newHTTPServer(l, &n.ready, metrics, n.log)
		n.onStop("HTTP server", func(ctx context.Context) error { h.close(ctx); return nil })
	}

	if err := n.openEngine(); err != nil {
		return err
	}
	if err := n.findPlace(ctx); err != nil {
		return err
	}
	if err := n.openKeyspace(ctx); err != nil {
		return err
	}
	labeled := prometheus.WrapRegistererWith(prometheus.Labels{"node_id": fmt.Sprint(n.ident.NodeID)}, metrics)
	labeled.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	labeled.MustRegister(&storeCollector{n, began})
	if err := n.openSQL(ctx, labeled); err != nil {
		return err
	}
	if n.cluster != nil {
		if err := n.cluster.awaitBegun(ctx); err != nil {
			return err
		}
	}
	n.servePG(sqlListener, labeled)

	n.started, n.took = began, time.Since(began)
	n.ready.set(stateReady)
	if n.cluster != nil {
		close(n.cluster.served)
	}
	n.log.Info("node started", "sql", n.sqlAddr, "http", n.httpAddr, "store", n.cfg.Store, "took", n.took)
	return nil
}

func (n *Node) onStop(what string, fn func(context.Context) error) {
	n.closers = append(n.closers, closer{what, fn})
}

func (n *Node) openLog() error {
	if n.cfg.Testing.Log != nil {
		n.log = n.cfg.Testing.Log
		return nil
	}
	log, closeLog, err := openLog(n.cfg.Log, os.Stderr)
	if err != nil {
		return err
	}
	n.log = log
	if !n.cfg.Cluster {
		n.log = log.With("node", singleNodeID)
	}
	n.onStop("log", func(context.Context) error { closeLog(); return nil })
	return nil
}

// openPorts listens where clients and, in a cluster, other nodes come, and returns
// the listener of the clients.
func (n *Node) openPorts() (net.Listener, error) {
	if !n.cfg.Cluster {
		return n.listen("--sql-addr", "--listen-addr")
	}
	l, err := net.Listen("tcp", n.cfg.ListenAddr)
	if err != nil {
		return nil, fmt.Errorf("--listen-addr: %w", err)
	}
	n.onStop("node listener", func(context.Context) error { return ignoreClosed(l.Close()) })
	if n.cluster, err = n.newCluster(l); err != nil {
		return nil, err
	}
	sqlListener, sqlWanted := net.Listener(n.cluster.mux.SQL), cmp.Or(n.cfg.AdvertiseSQLAddr, n.cfg.AdvertiseAddr)
	if n.cfg.SQLAddr != "" {
		// Its port is that of --sql-addr, whatever the port of --advertise-addr.
		sqlWanted = n.cfg.AdvertiseSQLAddr
		_ = n.cluster.mux.SQL.Close()
		if sqlListener, err = n.listen("--sql-addr", "--listen-addr"); err != nil {
			return nil, err
		}
	}
	if n.cluster.sqlAdvertise, err = advertised(sqlWanted, sqlListener.Addr()); err != nil {
		return nil, fmt.Errorf("--advertise-sql-addr: %w", err)
	}
	return sqlListener, nil
}

// httpAdvertise is where others reach the HTTP server; empty if there is none.
func (n *Node) httpAdvertise() string {
	if n.httpAddr == nil {
		return ""
	}
	a, err := advertised(n.cfg.AdvertiseHTTPAddr, n.httpAddr)
	if err != nil {
		return n.httpAddr.String()
	}
	return a
}

// listen opens the port that SQL is served on.
func (n *Node) listen(sqlFlag, listenFlag string) (net.Listener, error) {
	flag, addr := listenFlag, n.cfg.ListenAddr
	if n.cfg.SQLAddr != "" {
		flag, addr = sqlFlag, n.cfg.SQLAddr
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	n.onStop("SQL listener", func(context.Context) error { return ignoreClosed(l.Close()) })
	return l, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// openEngine opens the store's directory.
func (n *Node) openEngine() error {
	cfg := storage.DefaultConfig(n.cfg.Store.Path)
	cfg.CacheBytes, cfg.Logger = n.cfg.CacheBytes, n.log
	if n.cfg.Store.InMemory {
		if n.cfg.Store.Memory == nil {
			n.cfg.Store.Memory = storage.NewMemFS()
		}
		cfg.Dir, cfg.FS, cfg.ReserveBytes = "/mem", n.cfg.Store.Memory, 0
	}
	engine, err := storage.Open(cfg)
	if err != nil {
		return err
	}
	n.engine = engine
	n.onStop("storage", func(context.Context) error { return engine.Close() })
	return nil
}

// findPlace finds out which node of which cluster this is. A new node of a cluster
// waits until it has a place in one; otherwise it makes a cluster of itself.
func (n *Node) findPlace(ctx context.Context) (err error) {
	if c := n.cluster; c != nil {
		c.openRoad()
		if n.ident, n.origin, err = c.place(ctx); err != nil {
			return err
		}
		n.ready.set(stateStarting)
		return c.identify(n.ident)
	}
	n.ident, err = kvserver.ReadIdent(n.engine)
	if errors.Is(err, kvserver.ErrNotBootstrapped) {
		n.origin = bootstrapped
		n.ident = kvserver.Ident{ClusterID: newClusterID(), NodeID: singleNodeID, StoreID: singleStoreID}
		err = kvserver.Bootstrap(n.engine, n.ident)
	}
	if err == nil && n.ident.NodeID != singleNodeID {
		err = fmt.Errorf("this is node %d of a cluster; start it with: holdfast start --join=ADDRESS", n.ident.NodeID)
	}
	if err != nil {
		return fmt.Errorf("--store: %w", err)
	}
	return nil
}

// openKeyspace opens the store's ranges, and the way to those of other stores.
func (n *Node) openKeyspace(ctx context.Context) error {
	clock := hlc.NewSystemClock(n.cfg.MaxOffset)
	kvConfig := kv.Config{Log: n.log}
	cfg := kvserver.Config{Engine: n.engine, Log: n.log, NodeID: n.ident.NodeID, GC: n.gc.config(n.cfg.Testing.GCInterval)}
	cfg.ZoneConfig = n.zoneConfig
	cfg.CheckInterval, cfg.SnapshotRate = n.checkInterval.Get, n.snapshotRate.Get
	// Until zones can be read nobody knows which splits are wanted.
	cfg.MergeQueue = func() bool { return n.mergeQueue.Get() && n.gc.srv.Load() != nil }
	if n.cluster != nil {
		clock = n.cluster.clock
		kvConfig.UncertaintyInterval = n.cfg.MaxOffset
		n.cluster.storeConfig(&cfg)
	}
	cfg.Clock, kvConfig.Clock = clock, clock
	store, err := kvserver.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("opening the keyspace of %s: %w", n.cfg.Store, err)
	}
	n.store = store
	n.onStop("keyspace", func(context.Context) error { return store.Close() })
	if err := awaitClock(ctx, clock); err != nil {
		return err
	}
	if n.cluster != nil {
		kvConfig.Sender = store.Sender()
	} else {
		kvConfig.Sender = kv.NewRouter(store, store)
	}
	n.db = kv.NewDB(kvConfig)
	n.gc.db.Store(n.db)
	if n.cluster != nil {
		n.cluster.storeOpened()
	}
	return nil
}

// maxClockWait bounds how long a start waits for the machine's time. A clock that
// was set back by more is not waited for: timestamps then differ only in their
// logical part until it has caught up.
const maxClockWait = 2 * time.Second

// awaitClock returns when the machine's time has passed the timestamps that a
// former process of this store may have used. After a crash they reach about a
// second ahead; without the wait, everything would seem to happen at one instant
// until then.
func awaitClock(ctx context.Context, clock *hlc.Clock) error {
	ahead := time.Duration(clock.Now().WallTime - clock.PhysicalNow())
	if ahead <= 0 || ahead > maxClockWait {
		return nil
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// newClusterID returns a random UUID.
func newClusterID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// openSQL opens what knows of tables: settings, jobs, sessions and backups.
func (n *Node) openSQL(ctx context.Context, metrics prometheus.Registerer) error {
	if err := n.whenAvailable(ctx, "the system tables", func(ctx context.Context) error { return sql.Bootstrap(ctx, n.db) }); err != nil {
		return fmt.Errorf("preparing the system tables: %w", err)
	}
	set := n.settings
	jobsConfig := jobs.DefaultConfig()
	jobsConfig.DB, jobsConfig.NodeID, jobsConfig.Log = n.db, int64(n.ident.NodeID), n.log
	jobsConfig.Settings = jobs.RegisterSettings(set)
	backups := n.newBackups(set, metrics)
	jobsConfig.Constructors = backups.Constructors()
	jobsConfig.Constructors[jobs.TypeSchemaChangeGC] = func() jobs.Resumer { return &sql.GCResumer{Server: n.sql} }
	jobsConfig.Notify = func() { n.sql.JobsChanged() }
	jobsConfig.Testing = n.cfg.Testing.Jobs
	if ttl := n.cfg.Testing.JobSessionTTL; ttl > 0 {
		jobsConfig.SessionTTL, jobsConfig.Heartbeat, jobsConfig.PollInterval = ttl, ttl/4, ttl/4
	}
	n.jobs = jobs.NewRegistry(jobsConfig)
	metrics.MustRegister(n.jobs.Metrics)

	sqlConfig := sql.ServerConfig{
		DB: n.db, Log: n.log, NodeID: int32(n.ident.NodeID), ClusterID: n.ident.ClusterID,
		Locality: n.cfg.Locality.String(), Version: n.cfg.Version, StatementMemoryBytes: n.cfg.SQLMemoryBytes,
	}
	sqlConfig.Backup = backupHook{backups}
	sqlConfig.Jobs, sqlConfig.Settings, sqlConfig.Insecure = n.jobs, set, n.cfg.Insecure
	sqlConfig.SQLAddr = n.sqlAddr.String()
	if n.cluster != nil {
		sqlConfig.SQLAddr, sqlConfig.Nodes = n.cluster.sqlAdvertise, n.cluster.nodes
		sqlConfig.ClusterName = n.cfg.ClusterName
		sqlConfig.SessionPeers = peers{n.cluster}
	}
	if n.cfg.ExternalIODir != externalIODisabled {
		sqlConfig.UploadFile = n.uploadFile
	}
	if n.httpAddr != nil {
		sqlConfig.HTTPAddr = n.httpAddr.String()
	}
	if n.store != nil {
		sqlConfig.ZonesChanged = n.store.RecheckPlacement
	}
	srv, err := sql.NewServer(sqlConfig)
	if err != nil {
		return fmt.Errorf("opening SQL: %w", err)
	}
	backups.Connect(n.jobs, srv.Catalog())
	n.sql = srv
	var peers *catalog.Peers
	if err := n.whenAvailable(ctx, "the lease on the catalog", func(ctx context.Context) (err error) {
		peers, err = srv.Join(ctx, n.cfg.Testing.Peers)
		return err
	}); err != nil {
		return err
	}
	// Sessions that end drop their temporary tables, which takes the lease.
	n.onStop("lease on the catalog", peers.Leave)
	n.background("catalog", peers.Run)
	n.onStop("SQL", func(ctx context.Context) error { srv.Close(ctx); return nil })
	if err := n.whenAvailable(ctx, "the cluster settings", srv.LoadSettings); err != nil {
		return err
	}
	n.gc.srv.Store(srv)
	if n.cluster == nil { // Otherwise nobody waits for it: srv.Run does it, on some node.
		if err := srv.SweepAfterRestart(ctx); err != nil {
			// Whoever needs the place clears it, and the next start tries again.
			n.log.Warn("something of the former process stays behind", "err", err)
		}
	}

	n.background("SQL settings", srv.Run)
	n.background("jobs", n.jobs.Run)
	return nil
}

// whenAvailable runs fn; in a cluster it waits for nodes that must be there for it.
func (n *Node) whenAvailable(ctx context.Context, what string, fn func(context.Context) error) error {
	if n.cluster == nil {
		return fn(ctx)
	}
	return n.cluster.retry(ctx, what, fn)
}

// liveNodes is how many nodes are alive, as far as this one knows.
func (n *Node) liveNodes() int {
	if n.cluster == nil {
		return 1
	}
	live := 0
	for _, r := range n.cluster.live.Records() {
		if n.cluster.live.IsLive(r.NodeID) {
			live++
		}
	}
	return live
}

// background runs fn until Stop reaches it.
func (n *Node) background(what string, fn func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = fn(ctx) })
	n.onStop(what, func(context.Context) error {
		cancel()
		wg.Wait()
		if errors.Is(err, context.Canceled) {
			return nil // It was stopped while it began.
		}
		return err
	})
}

// servePG begins to serve clients. They go before anything else does.
func (n *Node) servePG(l net.Listener, metrics prometheus.Registerer) {
	cfg := pgwire.DefaultConfig()
	cfg.Log, cfg.Metrics = n.log, metrics
	cfg.Authenticate = n.authenticate
	cfg.NewSession = func(ctx context.Context, args sql.SessionArgs) (pgwire.Session, error) {
		return n.sql.NewSession(ctx, args)
	}
	if n.cluster != nil {
		cfg.CancelElsewhere = peers{n.cluster}.cancelElsewhere
	}
	n.pg = pgwire.NewServer(cfg)
	n.background("SQL clients", func(ctx context.Context) error { return n.pg.Serve(ctx, l) })
}

// Drain makes the node refuse new clients and lets the present ones finish their
// transactions, for a while or until ctx is done. A node of a cluster then gives
// its leases to others.
func (n *Node) Drain(ctx context.Context) { n.drain(ctx, func(int) {}) }

// drain is Drain that says how many clients and leases are left.
func (n *Node) drain(ctx context.Context, progress func(left int)) {
	n.ready.set(stateDraining)
	n.log.Info("initiating graceful shutdown of server", "clients", n.pg.Connections())
	if n.cluster != nil {
		n.cluster.beginDrain(ctx)
		_, leases := n.store.Counts()
		progress(n.pg.Connections() + leases)
	}
	clients, cancel := context.WithTimeout(ctx, n.cfg.DrainTransactions)
	err := n.pg.Drain(clients)
	cancel()
	if err != nil {
		n.log.Warn("some clients did not finish in time", "err", err)
	}
	if n.cluster != nil {
		leases, cancel := context.WithTimeout(ctx, n.handOverBound.Get())
		defer cancel()
		n.cluster.handOver(leases, progress)
	}
}

// Stop closes everything that Start opened, in reverse. Clients are cut off;
// committed data is safe whenever the process ends.
func (n *Node) Stop(ctx context.Context) error {
	n.ready.set(stateDraining)
	var errs []error
	for len(n.closers) > 0 {
		c := n.closers[len(n.closers)-1]
		n.closers = n.closers[:len(n.closers)-1]
		if err := c.fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("closing %s: %w", c.what, err))
		}
	}
	return errors.Join(errs...)
}

// ID is the node's number in its cluster.
func (n *Node) ID() int32 { return int32(n.ident.NodeID) }

// SQLAddr is the address that SQL clients connect to.
func (n *Node) SQLAddr() net.Addr { return n.sqlAddr }

// HTTPAddr is the address of the HTTP server; nil if there is none.
func (n *Node) HTTPAddr() net.Addr { return n.httpAddr }

// SQLURL is a connection string for tools on this machine.
func (n *Node) SQLURL() string {
	return "postgresql://root@" + clientAddr(n.sqlAddr) + "/defaultdb?sslmode=disable"
}

// clientAddr replaces an address that stands for all interfaces.
func clientAddr(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("localhost", fmt.Sprint(t.Port))
}

// Describe writes what a person who starts a node wants to know.
func (n *Node) Describe(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-20s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "%s node starting at %s (took %.1fs)\n", ProductName, n.started.UTC().Format("2006-01-02 15:04:05.000000 -0700 MST"), n.took.Seconds())
	line("build", "%s", n.cfg.Version)
	if n.httpAddr != nil {
		line("webui", "http://%s", clientAddr(n.httpAddr))
	}
	line("sql", "%s", n.SQLURL())
	line("sql (JDBC)", "jdbc:postgresql://%s/defaultdb?sslmode=disable&user=root", clientAddr(n.sqlAddr))
	line("client flags", "holdfast <client cmd> --host=%s --insecure", clientAddr(n.sqlAddr))
	if n.cfg.Log.Dir != "" && !n.cfg.Log.NoFiles {
		line("logs", "%s", abs(n.cfg.Log.Dir))
	}
	line("external I/O path", "%s", n.cfg.ExternalIODir)
	if len(n.cfg.Attrs) > 0 {
		line("attrs", "%s", joinAttrs(n.cfg.Attrs))
	}
	if len(n.cfg.Locality) > 0 {
		line("locality", "%s", n.cfg.Locality)
	}
	line("store[0]", "%s", n.cfg.Store)
	line("status", "%s", n.origin)
	line("clusterID", "%s", formatUUID(n.ident.ClusterID))
	line("nodeID", "%d", n.ident.NodeID)
}

func abs(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

func joinAttrs(attrs []string) string {
	s := ""
	for i, a := range attrs {
		if i > 0 {
			s += ":"
		}
		s += a
	}
	return s
}

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
