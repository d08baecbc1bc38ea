package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/holdfastdb/holdfast/cmd/holdfast/workload"
	"github.com/holdfastdb/holdfast/server"
)

// demoFlags are those of demo.
type demoFlags struct {
	sql               sqlFlags
	cfg               server.Config // what all nodes have in common
	nodes             int
	localities        []server.Locality // one per node
	global            bool
	sqlPort, httpPort int
	withLoad          bool
	data              workload.Workload // nil: none
}

// newDemoCommand starts nodes in memory with example data and opens a shell on one.
func newDemoCommand() *cobra.Command {
	f := &demoFlags{cfg: server.DefaultConfig()}
	f.cfg.CacheBytes, f.cfg.SQLMemoryBytes, f.cfg.Insecure = 64<<20, 128<<20, true
	var empty, noExample, insecure bool
	var localities string
	cmd := &cobra.Command{
		Use: "demo [movr|bank|kv]", Short: "try it: nodes in memory, example data and a shell", Args: cobra.MaximumNArgs(1),
		Long: "Start a node, or a cluster of nodes in this process, with example data in memory, and open a shell. " +
			"All of it is gone at the end.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if f.localities, err = demoLocalities(cmd.Flags(), f.nodes, f.global, localities); err != nil {
				return flagError{err}
			}
			name := append(args, "movr")[0]
			if f.data = workload.ByName(name); f.data == nil {
				return flagError{fmt.Errorf("unknown dataset %q; there are movr, bank and kv", name)}
			}
			// The flags of the workload are not the demo's: defaults.
			f.data.Flags(pflag.NewFlagSet("", pflag.ContinueOnError))
			if empty || noExample {
				f.data = nil
			}
			return runDemo(cmd.Context(), f, cmd.OutOrStdout())
		},
	}
	f.sql.register(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&empty, "empty", false, "without example data")
	fs.BoolVar(&noExample, "no-example-database", false, "without example data")
	fs.BoolVar(&f.withLoad, "with-load", false, "keep the operations of the example going")
	fs.BoolVar(&insecure, "insecure", true, "no encryption and no authentication (the only mode yet)")
	fs.IntVar(&f.nodes, "nodes", 1, "number of nodes")
	fs.BoolVar(&f.global, "global", false, "nine nodes in three regions, with the time that messages take between them")
	fs.IntVar(&f.sqlPort, "sql-port", 0, "port of SQL of the first node, the others follow; 0: any free ones")
	fs.IntVar(&f.httpPort, "http-port", 0, "port of HTTP of the first node, the others follow; 0: any free ones")
	fs.StringVar(&localities, "demo-locality", "", "localities of the nodes: region=eu,zone=a:region=us,zone=b")
	fs.Var(sizeFlag{&f.cfg.CacheBytes, physicalMemory()}, "cache", "block cache of all nodes together")
	fs.Var(sizeFlag{&f.cfg.SQLMemoryBytes, physicalMemory()}, "max-sql-memory", "memory of one statement")
	return cmd
}

// globalNodes is how many nodes a simulated world has.
const globalNodes = 9

// demoLocalities says where each node is.
func demoLocalities(fs *pflag.FlagSet, nodes int, global bool, given string) ([]server.Locality, error) {
	switch {
	case global && given != "":
		return nil, errors.New("--demo-locality: --global has localities of its own")
	case global && fs.Changed("nodes") && nodes != globalNodes:
		return nil, fmt.Errorf("--nodes: --global has %d nodes", globalNodes)
	case global:
		nodes = globalNodes
	case nodes < 1:
		return nil, fmt.Errorf("--nodes: must be at least 1, is %d", nodes)
	}
	if given == "" {
		out := make([]server.Locality, nodes)
		for i := range out {
			out[i] = defaultDemoLocality(i, nodes)
		}
		return out, nil
	}
	texts := strings.Split(given, ":")
	if fs.Changed("nodes") && nodes != len(texts) {
		return nil, fmt.Errorf("--demo-locality: %d localities for %d nodes", len(texts), nodes)
	}
	out := make([]server.Locality, len(texts))
	for i, text := range texts {
		var err error
		if out[i], err = server.ParseLocality(text); err != nil {
			return nil, fmt.Errorf("--demo-locality: %w", err)
		}
	}
	return out, nil
}

// defaultDemoLocality fills one region after the other, three nodes in each.
func defaultDemoLocality(i, nodes int) server.Locality {
	if nodes == 1 {
		return nil
	}
	regions := [...]struct{ name, zones string }{{"us-east1", "bcd"}, {"us-west1", "abc"}, {"europe-west1", "bcd"}}
	r := regions[i/3%len(regions)]
	return server.Locality{{Key: "region", Value: r.name}, {Key: "az", Value: r.zones[i%3 : i%3+1]}}
}

func runDemo(parent context.Context, f *demoFlags, out io.Writer) error {
	ctx, stop := interruptible(parent)
	defer stop()
	extern, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(extern)
	nodes := newDemoNodes(f, extern)
	defer nodes.close()
	if err := nodes.start(ctx); err != nil {
		return err
	}
	if f.data != nil {
		if err := loadDemo(ctx, nodes.url(0), f.data); err != nil {
			return err
		}
		nodes.database = f.data.Database()
		if f.withLoad {
			background := keepBusy(parent, nodes.url(0), f.data)
			defer background()
		}
	}
	if f.global {
		nodes.spread()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}

	sh, err := newShell(ctx, nodes.url(0), &f.sql)
	if err != nil {
		return err
	}
	defer sh.close()
	sh.demo = nodes.command
	switch {
	case sh.interactive:
		nodes.describe(out)
	case len(f.localities) > 1 && len(f.sql.execute) == 0:
		nodes.describe(os.Stderr) // What the statements print is for whoever sent them.
	}
	return runDemoShell(parent, sh, &f.sql)
}

// runDemoShell runs the shell until its input or somebody ends it.
func runDemoShell(parent context.Context, sh *shell, f *sqlFlags) error {
	signals := []os.Signal{syscall.SIGTERM, syscall.SIGHUP}
	if !sh.interactive { // There it ends statements.
		signals = append(signals, os.Interrupt)
	}
	ctx, stop := signal.NotifyContext(parent, signals...)
	defer stop()
	if state, err := term.GetState(int(os.Stdin.Fd())); err == nil {
		defer func() { _ = term.Restore(int(os.Stdin.Fd()), state) }()
	}
	done := make(chan error, 1)
	// It may wait for input that never comes; then it ends with the process.
	go func() { done <- sh.runAll(ctx, f, "demo") }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return nil
	}
}

// loadDemo fills the example database through the node at url.
func loadDemo(ctx context.Context, url string, w workload.Workload) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return workload.Init(ctx, conn, w, workload.InitOptions{})
}

// keepBusy runs the workload until the returned function is called, which waits
// for its end.
func keepBusy(ctx context.Context, url string, w workload.Workload) context.CancelFunc {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Errors of the load are not the user's business here.
		_ = workload.Run(ctx, w, workload.RunOptions{URLs: []string{url}, Concurrency: 1, MaxRate: 25, TolerateErrs: true, Out: io.Discard})
	}()
	return func() {
		cancel()
		<-done
	}
}
