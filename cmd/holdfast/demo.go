package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfastdb/holdfast/cmd/holdfast/workload"
	"github.com/holdfastdb/holdfast/server"
)

// newDemoCommand starts a node in memory with example data and opens a shell on it.
func newDemoCommand() *cobra.Command {
	f := &sqlFlags{}
	cfg := server.DefaultConfig()
	cfg.CacheBytes, cfg.SQLMemoryBytes = 64<<20, 128<<20
	cfg.Insecure = true
	var empty, noExample, withLoad, insecure bool
	var nodes, sqlPort, httpPort int
	var locality string
	cmd := &cobra.Command{
		Use: "demo [movr|bank|kv]", Short: "try it: a node in memory, example data and a shell", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if nodes != 1 {
				return flagError{fmt.Errorf("--nodes: this version starts one node")}
			}
			var err error
			if cfg.Locality, err = server.ParseLocality(locality); err != nil {
				return flagError{fmt.Errorf("--demo-locality: %w", err)}
			}
			name := append(args, "movr")[0]
			w := workload.ByName(name)
			if w == nil {
				return flagError{fmt.Errorf("unknown dataset %q; there are movr, bank and kv", name)}
			}
			if empty || noExample {
				w = nil
			}
			cfg.ListenAddr, cfg.HTTPAddr = fmt.Sprintf("127.0.0.1:%d", sqlPort), fmt.Sprintf("127.0.0.1:%d", httpPort)
			return runDemo(cmd.Context(), f, cfg, w, withLoad, cmd.OutOrStdout())
		},
	}
	f.register(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&empty, "empty", false, "without example data")
	fs.BoolVar(&noExample, "no-example-database", false, "without example data")
	fs.BoolVar(&withLoad, "with-load", false, "keep the operations of the example going")
	fs.BoolVar(&insecure, "insecure", true, "no encryption and no authentication (the only mode yet)")
	fs.IntVar(&nodes, "nodes", 1, "number of nodes")
	fs.IntVar(&sqlPort, "sql-port", 0, "port of SQL; 0: any free one")
	fs.IntVar(&httpPort, "http-port", 0, "port of HTTP; 0: any free one")
	fs.StringVar(&locality, "demo-locality", "", "locality of the node: region=eu,zone=a")
	fs.Var(sizeFlag{&cfg.CacheBytes, physicalMemory()}, "cache", "block cache")
	fs.Var(sizeFlag{&cfg.SQLMemoryBytes, physicalMemory()}, "max-sql-memory", "memory of one statement")
	return cmd
}

func runDemo(ctx context.Context, f *sqlFlags, cfg server.Config, w workload.Workload, withLoad bool, out io.Writer) error {
	extern, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(extern)
	cfg.Store = server.StoreSpec{InMemory: true}
	cfg.ExternalIODir, cfg.Version = extern, buildVersion()
	cfg.Log.StderrLevel = slog.LevelError
	cfg.DrainTransactions = 0

	node, err := server.New(cfg)
	if err != nil {
		return err
	}
	if err := node.Start(ctx); err != nil {
		return err
	}
	defer node.Stop(context.WithoutCancel(ctx))

	url := node.SQLURL()
	background := context.CancelFunc(func() {})
	if w != nil {
		// The flags of the workload are not the demo's: defaults.
		w.Flags(pflag.NewFlagSet("", pflag.ContinueOnError))
		if url, err = loadDemo(ctx, node, w); err != nil {
			return err
		}
		if withLoad {
			background = keepBusy(ctx, url, w)
		}
	}
	defer background()

	sh, err := newShell(ctx, url, f)
	if err != nil {
		return err
	}
	defer sh.close()
	if sh.interactive {
		fmt.Fprintf(out, "#\n# This is a demonstration: the data is in memory and is gone when you leave.\n#\n# sql:     %s\n# webui:   http://%s\n# extern:  nodelocal://1/ is %s\n", url, node.HTTPAddr(), extern)
		if w != nil {
			fmt.Fprintf(out, "# data:    database %s\n", w.Database())
		}
	}
	return sh.runAll(ctx, f, "demo")
}

// loadDemo fills the example database and returns a URL that uses it.
func loadDemo(ctx context.Context, node *server.Node, w workload.Workload) (string, error) {
	conn, err := pgx.Connect(ctx, node.SQLURL())
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if err := workload.Init(ctx, conn, w, workload.InitOptions{}); err != nil {
		return "", err
	}
	return fmt.Sprintf("postgresql://root@%s/%s?sslmode=disable", node.SQLAddr(), w.Database()), nil
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
