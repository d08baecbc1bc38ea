package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfastdb/holdfast/server"
)

// startFlags are those of start and start-single-node that are not in server.Config.
type startFlags struct {
	cfg            server.Config
	stores         []string
	locality       string
	attrs          string
	background     bool
	pidFile        string
	urlFile        string
	log            logFlags
	certsDir       string
	hostDeprecated string
}

func newStartCommand() *cobra.Command {
	f := &startFlags{cfg: server.DefaultConfig()}
	f.cfg.Version, f.cfg.Cluster = buildVersion(), true
	cmd := &cobra.Command{
		Use:   "start",
		Short: "start a node of a cluster",
		Long: "Start a node of a cluster. A new node joins the cluster of any of the nodes at the --join addresses, " +
			"or waits until one of them has been initialized with: holdfast init.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStart(cmd, f) },
	}
	f.register(cmd.Flags())
	f.registerCluster(cmd.Flags())
	return cmd
}

func newStartSingleCommand() *cobra.Command {
	f := &startFlags{cfg: server.DefaultConfig()}
	f.cfg.Version = buildVersion()
	cmd := &cobra.Command{
		Use:   "start-single-node",
		Short: "start a node that is a cluster of its own",
		Long:  "Start a node that is a cluster of its own. A new store is initialized by itself.",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runStart(cmd, f) },
	}
	f.register(cmd.Flags())
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return flagError{fmt.Errorf("unknown argument %q", args[0])}
	}
	return nil
}

func (f *startFlags) register(fs *pflag.FlagSet) {
	c := &f.cfg
	fs.StringArrayVarP(&f.stores, "store", "s", []string{c.Store.Path}, "directory of the data, or fields as in path=DIR,attrs=ssd and type=mem,size=1GiB")
	fs.StringVar(&c.ListenAddr, "listen-addr", c.ListenAddr, "host:port that clients connect to")
	fs.StringVar(&c.SQLAddr, "sql-addr", "", "host:port for SQL clients, if not that of --listen-addr")
	fs.StringVar(&c.HTTPAddr, "http-addr", "", "host:port of health, metrics and profiles (default: port 8080 of --listen-addr's host)")
	fs.BoolVar(&c.Insecure, "insecure", false, "no encryption and no authentication: for networks that you trust")
	fs.StringVar(&f.certsDir, "certs-dir", "", "directory of certificates (not used yet: start with --insecure)")
	fs.StringVar(&c.ExternalIODir, "external-io-dir", "", "root of nodelocal storage, or disabled (default: extern below the store)")
	fs.BoolVar(&c.ExternalIODisableHTTP, "external-io-disable-http", false, "refuse http(s) as external storage")
	fs.BoolVar(&c.ExternalIODisableImplicitCredential, "external-io-disable-implicit-credentials", false, "refuse the machine's own credentials for external storage")
	fs.StringVar(&f.locality, "locality", "", "where this node is, from wide to narrow: region=eu,zone=a")
	fs.StringVar(&f.attrs, "attrs", "", "attributes of this node, colon-separated: ram:ssd")
	fs.Var(sizeFlag{&c.CacheBytes, physicalMemory()}, "cache", "block cache; a number of bytes or a share of memory")
	fs.Var(sizeFlag{&c.SQLMemoryBytes, physicalMemory()}, "max-sql-memory", "memory that a statement may use for sorting, hashing and buffering")
	fs.Var(sizeFlag{&c.GoMemoryBytes, physicalMemory()}, "max-go-memory", "soft limit of the Go heap; 0: none")
	fs.DurationVar(&c.MaxOffset, "max-offset", c.MaxOffset, "greatest difference between the clocks of nodes")
	fs.BoolVar(&f.background, "background", false, "return when the node is ready, and leave it running")
	fs.StringVar(&f.pidFile, "pid-file", "", "file to write the process id to when the node is ready")
	fs.StringVar(&f.urlFile, "listening-url-file", "", "file to write the SQL URL to when the node is ready")
	f.log.register(fs)
	fs.DurationVar(&c.DrainTransactions, "drain-wait", c.DrainTransactions, "how long a stopping node waits for open transactions")
	fs.StringVar(&f.hostDeprecated, "host", "", "host of --listen-addr")
	_ = fs.MarkDeprecated("host", "use --listen-addr") // errs only if the flag is missing
	fs.DurationVar(&c.Testing.GCInterval, "testing-gc-interval", 0, "collect garbage eagerly and this often")
	fs.StringVar(&c.Testing.CrashAt, "testing-crash-at", "", "place of a job at which the process kills itself, as in restore.before.piece:3")
	_ = errors.Join(fs.MarkHidden("testing-gc-interval"), fs.MarkHidden("testing-crash-at"))
}

// registerCluster registers what only a node of a cluster needs.
func (f *startFlags) registerCluster(fs *pflag.FlagSet) {
	c := &f.cfg
	fs.StringSliceVarP(&c.Join, "join", "j", nil, "addresses of other nodes, host:port; remembered in the store")
	fs.StringVar(&c.ClusterName, "cluster-name", "", "name of the cluster; nodes that give another one are refused")
	fs.BoolVar(&c.AnyClusterName, "disable-cluster-name-verification", false, "do not compare --cluster-name with that of other nodes")
	fs.StringVar(&c.AdvertiseAddr, "advertise-addr", "", "host:port that other nodes are told (default: that of --listen-addr, or the machine's name)")
	fs.StringVar(&c.AdvertiseSQLAddr, "advertise-sql-addr", "", "host:port of SQL that others are told")
	fs.StringVar(&c.AdvertiseHTTPAddr, "advertise-http-addr", "", "host:port of HTTP that others are told")
	fs.DurationVar(&c.Testing.ClockOffset, "testing-clock-offset", 0, "added to the machine's time")
	_ = fs.MarkHidden("testing-clock-offset")
}

// resolve turns texts into the configuration.
func (f *startFlags) resolve(fs *pflag.FlagSet) error {
	if len(f.stores) != 1 {
		return flagError{fmt.Errorf("--store: this version uses one store per node, %d are given", len(f.stores))}
	}
	var err error
	memory := physicalMemory()
	if f.cfg.Store, err = server.ParseStoreSpec(f.stores[0], func(s string) (int64, error) { return parseSize(s, memory) }); err != nil {
		return flagError{fmt.Errorf("--store: %w", err)}
	}
	if f.cfg.Locality, err = server.ParseLocality(f.locality); err != nil {
		return flagError{fmt.Errorf("--locality: %w", err)}
	}
	if f.attrs != "" {
		f.cfg.Attrs = strings.Split(f.attrs, ":")
	}
	if f.hostDeprecated != "" {
		_, port, _ := strings.Cut(f.cfg.ListenAddr, ":")
		f.cfg.ListenAddr = f.hostDeprecated + ":" + port
	}
	if err := f.log.resolve(fs, &f.cfg.Log); err != nil {
		return flagError{err}
	}
	if err := f.cfg.Validate(); err != nil {
		return flagError{err}
	}
	return nil
}

func runStart(cmd *cobra.Command, f *startFlags) error {
	if err := f.resolve(cmd.Flags()); err != nil {
		return err
	}
	if f.background {
		return startInBackground(f)
	}
	out := cmd.OutOrStdout()
	f.cfg.Waiting = func() error {
		if err := f.writePID(); err != nil {
			return err
		}
		return reportReady(out, waitingText)
	}
	fmt.Fprintln(os.Stderr, "WARNING: --insecure: there is neither encryption nor authentication. Whoever reaches the port may read and change all data.")

	ctx, hard, release := shutdownSignals(cmd.Context(), func() {
		fmt.Fprintln(out, "initiating graceful shutdown of server")
	})
	defer release()
	err := server.Run(ctx, hard, f.cfg, func(n *server.Node) error {
		if err := f.announce(n); err != nil {
			return err
		}
		var text strings.Builder
		n.Describe(&text)
		return reportReady(out, text.String())
	})
	if f.pidFile != "" {
		_ = os.Remove(f.pidFile) // It may have been removed already.
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "server drained and shutdown completed")
	return nil
}

// waitingText is what a new node says that has found no cluster yet.
const waitingText = "initial startup completed.\n" +
	"Node will now attempt to join a running cluster, or wait for `holdfast init`.\n" +
	"Client connections will be accepted after this completes successfully.\n" +
	"Check the log file(s) for progress.\n"

func (f *startFlags) writePID() error {
	if f.pidFile == "" {
		return nil
	}
	if err := os.WriteFile(f.pidFile, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644); err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	return nil
}

// announce writes the files that tell others about the node.
func (f *startFlags) announce(n *server.Node) error {
	if err := f.writePID(); err != nil {
		return err
	}
	if f.urlFile != "" {
		if err := os.WriteFile(f.urlFile, []byte(n.SQLURL()+"\n"), 0o644); err != nil {
			return fmt.Errorf("--listening-url-file: %w", err)
		}
	}
	return nil
}

// shutdownSignals returns a context that ends at the first SIGTERM or SIGINT and
// one that ends at the second. A third one ends the process.
func shutdownSignals(parent context.Context, first func()) (ctx, hard context.Context, release func()) {
	ctx, stop := context.WithCancelCause(parent)
	hard, stopHard := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGHUP)
	done := make(chan struct{})
	go func() { // release ends it.
		for n := 1; ; n++ {
			select {
			case <-signals:
			case <-done:
				return
			}
			switch n {
			case 1:
				first()
				stop(errors.New("signal received"))
			case 2:
				stopHard(errors.New("second signal received"))
			default:
				os.Exit(exitInterrupted)
			}
		}
	}()
	return ctx, hard, func() {
		signal.Stop(signals)
		close(done)
		stop(nil)
		stopHard(nil)
	}
}
