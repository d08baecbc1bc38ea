// Command holdfast is the Holdfast database: the node, its SQL shell and its
// tools. Each subcommand turns flags into a configuration and calls the package
// that does the work; this is the one place that ends the process.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	_ "time/tzdata" // zones exist on machines without a zone database

	"github.com/spf13/cobra"

	"github.com/holdfastdb/holdfast/internal/malloc"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/server"
)

// Exit codes that scripts may rely on.
const (
	exitError       = 1
	exitInterrupted = 3
	exitFlags       = 4
	exitFatal       = 7
	exitDiskFull    = 10
)

// flagError marks errors in how the program was called.
type flagError struct{ error }

func (e flagError) Unwrap() error { return e.error }

// silentError ends the process with a code after the message has been printed.
type silentError struct{ code int }

func (e silentError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func main() {
	malloc.Tune()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	var silent silentError
	var flags flagError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &silent):
		return silent.code
	case errors.As(err, &flags) || strings.HasPrefix(err.Error(), "unknown command "):
		fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
		return exitFlags
	}
	printError(os.Stderr, err)
	if errors.Is(err, storage.ErrDiskFull) {
		return exitDiskFull
	}
	var fatal *server.FatalError
	if errors.As(err, &fatal) {
		return exitFatal
	}
	if errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "holdfast",
		Short:         "Holdfast: a SQL store whose data can always be brought back",
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError{err} })
	root.AddCommand(newStartCommand(), newStartSingleCommand(), newInitCommand(), newNodeCommand(), newSQLCommand(), newDemoCommand(), newWorkloadCommand(),
		newNodelocalCommand(), newVersionCommand())
	usageErrors(root)
	return root
}

// usageErrors gives wrong arguments of all commands below cmd the exit code of
// wrong flags. A command that only has commands says which one it does not know.
func usageErrors(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		if check := c.Args; check != nil {
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return flagError{err}
				}
				return nil
			}
		}
		if !c.Runnable() {
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return flagError{fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())}
				}
				return cmd.Help()
			}
		}
		usageErrors(c)
	}
}

// interruptible returns a context that ends at the first SIGINT or SIGTERM.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
}
