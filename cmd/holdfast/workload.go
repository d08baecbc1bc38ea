package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/holdfastdb/holdfast/cmd/holdfast/workload"
)

func newWorkloadCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "workload", Short: "make example data and load"}
	initCmd := &cobra.Command{Use: "init", Short: "create and fill the tables of a workload"}
	runCmd := &cobra.Command{Use: "run", Short: "keep the operations of a workload going"}
	for _, name := range workload.Names() {
		initCmd.AddCommand(newWorkloadInit(name))
		runCmd.AddCommand(newWorkloadRun(name))
	}
	cmd.AddCommand(initCmd, runCmd)
	return cmd
}

const defaultWorkloadURL = "postgresql://root@localhost:26257?sslmode=disable"

func newWorkloadInit(name string) *cobra.Command {
	w := workload.ByName(name)
	var drop bool
	cmd := &cobra.Command{
		Use: name + " [url]", Short: "create and fill the tables of " + name, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			url := append(args, defaultWorkloadURL)[0]
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			cfg, err := pgx.ParseConfig(url)
			if err != nil {
				return flagError{fmt.Errorf("connection string: %w", err)}
			}
			if cfg.Database == "" || cfg.Database == w.Database() {
				cfg.Database = "defaultdb" // that of the workload may not exist yet
			}
			conn, err := pgx.ConnectConfig(ctx, cfg)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			err = workload.Init(ctx, conn, w, workload.InitOptions{Drop: drop, Progress: cmd.OutOrStdout()})
			var e *pgconn.PgError
			if errors.As(err, &e) && e.Code == "23505" && e.Hint == "" {
				e.Hint = "Its tables are filled already; --drop makes them anew."
			}
			return err
		},
	}
	w.Flags(cmd.Flags())
	cmd.Flags().BoolVar(&drop, "drop", false, "drop the database first")
	return cmd
}

func newWorkloadRun(name string) *cobra.Command {
	w := workload.ByName(name)
	opts := workload.RunOptions{}
	var method, histograms string
	cmd := &cobra.Command{
		Use: name + " [url]...", Short: "keep the operations of " + name + " going",
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Concurrency < 1 {
				return flagError{fmt.Errorf("--concurrency: must be at least 1")}
			}
			if opts.DisplayFormat != "simple" && opts.DisplayFormat != "incremental-json" {
				return flagError{fmt.Errorf("--display-format: %q is neither simple nor incremental-json", opts.DisplayFormat)}
			}
			if strings.ToLower(method) != "prepare" {
				return flagError{fmt.Errorf("--method: only prepare is supported")}
			}
			opts.URLs, opts.Out = args, cmd.OutOrStdout()
			if len(args) == 0 {
				opts.URLs = []string{defaultWorkloadURL}
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			opts.Seed = uint64(time.Now().UnixNano())
			return workload.Run(ctx, w, opts)
		},
	}
	w.Flags(cmd.Flags())
	fs := cmd.Flags()
	fs.DurationVar(&opts.Duration, "duration", 0, "how long to run; 0: until interrupted")
	fs.IntVar(&opts.Concurrency, "concurrency", 1, "number of connections")
	fs.Int64Var(&opts.MaxOps, "max-ops", 0, "operations to run; 0: no limit")
	fs.Float64Var(&opts.MaxRate, "max-rate", 0, "operations per second; 0: no limit")
	fs.DurationVar(&opts.Ramp, "ramp", 0, "time over which connections begin to work")
	fs.BoolVar(&opts.TolerateErrs, "tolerate-errors", false, "go on after errors")
	fs.DurationVar(&opts.DisplayEvery, "display-every", time.Second, "time between two reports")
	fs.StringVar(&opts.DisplayFormat, "display-format", "simple", "simple or incremental-json")
	fs.StringVar(&method, "method", "prepare", "how statements are sent")
	fs.StringVar(&histograms, "histograms", "", "accepted for scripts that set it")
	return cmd
}
