package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv/noderpc"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
)

// ProductName is what the program calls itself.
const ProductName = "Holdfast"

// Config is what a node is built from. DefaultConfig fills it, cmd changes it by
// flags, Validate checks it.
type Config struct {
	Store StoreSpec // --store

	ListenAddr string // --listen-addr, host:port
	SQLAddr    string // --sql-addr; empty: SQL is served on ListenAddr
	HTTPAddr   string // --http-addr; empty: port 8080 of ListenAddr's host

	// Cluster makes the node one of several: holdfast start, and not
	// start-single-node.
	Cluster bool
	Join    []string // --join: addresses of other nodes
	// Initialize makes a new store the first one of a new cluster at once, as if
	// somebody had called init.
	Initialize bool
	// ClusterName is that of the cluster, and refused by nodes of another name;
	// AnyClusterName: it is not compared. --cluster-name,
	// --disable-cluster-name-verification
	ClusterName    string
	AnyClusterName bool
	// What others are told, if not what is listened on.
	AdvertiseAddr     string // --advertise-addr
	AdvertiseSQLAddr  string // --advertise-sql-addr
	AdvertiseHTTPAddr string // --advertise-http-addr
	// Waiting is called when a new node begins to wait for a cluster; may be nil.
	Waiting func() error

	Locality Locality // --locality
	Attrs    []string // --attrs

	Insecure bool // --insecure: no TLS, no authentication

	// ExternalIODir is the root of nodelocal storage; empty: extern below the
	// store. "disabled" turns nodelocal off. --external-io-dir
	ExternalIODir                       string
	ExternalIODisableHTTP               bool // --external-io-disable-http
	ExternalIODisableImplicitCredential bool // --external-io-disable-implicit-credentials

	CacheBytes     int64         // --cache, block cache
	SQLMemoryBytes int64         // --max-sql-memory, all statements together
	MaxOffset      time.Duration // --max-offset between the clocks of nodes
	GoMemoryBytes  int64         // --max-go-memory, soft limit of the Go heap; 0: none

	Log LogConfig // --log and --log-dir

	// DrainConnections, DrainTransactions bound the phases of a graceful stop:
	// waiting for clients to go, and for open transactions to end.
	DrainTransactions time.Duration

	Version string // of the program

	Testing TestingConfig
}

// TestingConfig is for tests of this and the layers above.
type TestingConfig struct {
	// NoHTTP starts no HTTP server.
	NoHTTP bool
	// Log replaces the log file.
	Log *slog.Logger
	// GCInterval collects garbage that often, and eagerly; 0: as usual.
	GCInterval time.Duration
	// CrashAt kills the process at a named place of a backup or restore job, the
	// n-th time it gets there: "restore.before.publish" or "restore.before.piece:3".
	CrashAt string
	// ClockOffset is added to the machine's time, in a cluster.
	ClockOffset time.Duration
	// Gossip is between what other nodes tell and what this one learns.
	Gossip func(msg []byte, learn func([]byte))
	// Faults befall what this node sends to others.
	Faults *noderpc.Faults
	// BackupHook is called at those places instead; an error ends the run there.
	BackupHook func(ctx context.Context, place string) error
	// Jobs are hooks of the job registry, JobSessionTTL the time after which another
	// node takes its jobs over; 0: as usual.
	Jobs          jobs.Testing
	JobSessionTTL time.Duration
	// Peers changes how the node takes part in the catalog; nil: as usual.
	Peers func(*catalog.PeersConfig)
}

// DefaultConfig returns the defaults of the flags.
func DefaultConfig() Config {
	return Config{
		Store: StoreSpec{Path: "holdfast-data"}, ListenAddr: ":26257",
		CacheBytes: 256 << 20, SQLMemoryBytes: 256 << 20, MaxOffset: 500 * time.Millisecond,
		Log: DefaultLogConfig(), DrainTransactions: 10 * time.Second, Version: "dev",
	}
}

// Validate checks c, fills addresses that follow from others, and names the flag
// that is wrong.
func (c *Config) Validate() error {
	if !c.Insecure {
		return errors.New("--insecure: a node without it needs certificates, which this version cannot use yet; " +
			"start it with --insecure on a network that you trust")
	}
	if err := c.Store.validate(); err != nil {
		return err
	}
	var err error
	if c.ListenAddr, err = withDefaultPort(c.ListenAddr, "26257"); err != nil {
		return fmt.Errorf("--listen-addr: %w", err)
	}
	if c.SQLAddr != "" {
		if c.SQLAddr, err = withDefaultPort(c.SQLAddr, "26257"); err != nil {
			return fmt.Errorf("--sql-addr: %w", err)
		}
	}
	if c.HTTPAddr == "" {
		host, _, _ := net.SplitHostPort(c.ListenAddr)
		c.HTTPAddr = net.JoinHostPort(host, "8080")
	}
	if c.HTTPAddr, err = withDefaultPort(c.HTTPAddr, "8080"); err != nil {
		return fmt.Errorf("--http-addr: %w", err)
	}
	for i, a := range c.Join {
		if c.Join[i], err = withDefaultPort(a, "26257"); err != nil {
			return fmt.Errorf("--join: %w", err)
		}
	}
	if c.ClusterName != "" && !clusterName.MatchString(c.ClusterName) {
		return fmt.Errorf("--cluster-name: %q is not a name: letters, digits, '.', '-' and '_', at most 256 of them, beginning and ending with a letter or digit", c.ClusterName)
	}
	if c.CacheBytes < 1<<20 {
		return fmt.Errorf("--cache: %d bytes are too few, at least 1MiB is needed", c.CacheBytes)
	}
	if c.SQLMemoryBytes < 1<<20 {
		return fmt.Errorf("--max-sql-memory: %d bytes are too few, at least 1MiB is needed", c.SQLMemoryBytes)
	}
	if c.MaxOffset <= 0 {
		return fmt.Errorf("--max-offset: must be greater than 0, is %s", c.MaxOffset)
	}
	if err := c.Locality.validate(); err != nil {
		return fmt.Errorf("--locality: %w", err)
	}
	if c.ExternalIODir == "" && c.Store.InMemory {
		c.ExternalIODir = externalIODisabled
	}
	if c.ExternalIODir == "" {
		c.ExternalIODir = filepath.Join(c.Store.Path, "extern")
	}
	if c.ExternalIODir != externalIODisabled {
		if c.ExternalIODir, err = filepath.Abs(c.ExternalIODir); err != nil {
			return fmt.Errorf("--external-io-dir: %w", err)
		}
	}
	if c.Log.Dir == "" && !c.Store.InMemory {
		c.Log.Dir = filepath.Join(c.Store.Path, "logs")
	}
	return nil
}

var clusterName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,254}[A-Za-z0-9])?$`)

// externalIODisabled is the value of --external-io-dir that turns nodelocal off.
const externalIODisabled = "disabled"

func withDefaultPort(addr, port string) (string, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		if strings.Contains(err.Error(), "missing port") {
			return net.JoinHostPort(strings.Trim(addr, "[]"), port), nil
		}
		return "", err
	}
	if p == "" {
		p = port
	}
	return net.JoinHostPort(host, p), nil
}

// StoreSpec says where a node keeps its data.
type StoreSpec struct {
	Path     string
	InMemory bool
	// Memory is what a store in memory is in, for one that outlives its node; nil: it
	// does not.
	Memory *storage.MemFS
	// SizeBytes bounds an in-memory store; 0: no bound.
	SizeBytes int64
	Attrs     []string
}

func (s StoreSpec) validate() error {
	switch {
	case s.InMemory && s.Path != "":
		return errors.New("--store: an in-memory store has no path")
	case !s.InMemory && s.Path == "":
		return errors.New("--store: no path given")
	case strings.HasPrefix(s.Path, "~"):
		return fmt.Errorf("--store: path %s cannot start with '~': use the full path", s.Path)
	}
	return nil
}

func (s StoreSpec) String() string {
	if s.InMemory {
		return "type=mem"
	}
	return "path=" + s.Path
}

// ParseStoreSpec reads the value of --store: a path, or fields as in
// "path=/data,attrs=ssd:fast" and "type=mem,size=1GiB".
func ParseStoreSpec(value string, parseSize func(string) (int64, error)) (StoreSpec, error) {
	var s StoreSpec
	if value == "" {
		return s, errors.New("no value specified")
	}
	for i, part := range strings.Split(value, ",") {
		name, val, ok := strings.Cut(part, "=")
		if !ok {
			if i > 0 {
				return s, fmt.Errorf("field %q has no value; write name=value", part)
			}
			name, val = "path", part
		}
		if val == "" {
			return s, fmt.Errorf("no value specified for %s", name)
		}
		switch name {
		case "path":
			s.Path = val
		case "type":
			if val != "mem" {
				return s, fmt.Errorf("%s is not a valid store type", val)
			}
			s.InMemory = true
		case "size":
			n, err := parseSize(val)
			if err != nil {
				return s, fmt.Errorf("size: %w", err)
			}
			s.SizeBytes = n
		case "attrs":
			s.Attrs = strings.Split(val, ":")
		case "ballast-size", "provisioned-rate":
			// Accepted for scripts that set them; this engine keeps a reserve of its own.
		default:
			return s, fmt.Errorf("%s is not a valid store field", name)
		}
	}
	if s.InMemory && s.Path != "" {
		return s, errors.New("path specified for in memory store")
	}
	if s.InMemory && s.SizeBytes == 0 {
		return s, errors.New("size must be specified for an in memory store")
	}
	return s, nil
}

// Tier is one key=value pair of a locality.
type Tier struct{ Key, Value string }

// Locality says where a node is, from the widest tier to the narrowest.
type Locality []Tier

func (l Locality) String() string {
	parts := make([]string, len(l))
	for i, t := range l {
		parts[i] = t.Key + "=" + t.Value
	}
	return strings.Join(parts, ",")
}

// ParseLocality reads "region=eu,zone=a".
func ParseLocality(value string) (Locality, error) {
	if value == "" {
		return nil, nil
	}
	var l Locality
	for _, part := range strings.Split(value, ",") {
		k, v, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || k == "" || v == "" || strings.Contains(v, "=") {
			return nil, fmt.Errorf("tier must be in the form \"key=value\" not %q", part)
		}
		l = append(l, Tier{k, v})
	}
	return l, l.validate()
}

var tierPart = regexp.MustCompile(`^[^\s,=:/]+$`)

func (l Locality) validate() error {
	seen := map[string]bool{}
	for _, t := range l {
		if !tierPart.MatchString(t.Key) || !tierPart.MatchString(t.Value) {
			return fmt.Errorf("tier must be in the form \"key=value\" not %q", t.Key+"="+t.Value)
		}
		if seen[t.Key] {
			return fmt.Errorf("duplicate key %q", t.Key)
		}
		seen[t.Key] = true
	}
	return nil
}

// hostname is for log file names and startup text.
func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return h
}
