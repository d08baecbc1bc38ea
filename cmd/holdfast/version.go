package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases.
var version = "v0.1.0-dev"

// buildVersion is what the node says of itself: "Holdfast v0.1.0 (linux/amd64, …)".
func buildVersion() string {
	return fmt.Sprintf("Holdfast %s (%s/%s, %s)", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func newVersionCommand() *cobra.Command {
	var tagOnly bool
	cmd := &cobra.Command{
		Use: "version", Short: "print the version of this program", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := cmd.OutOrStdout()
			if tagOnly {
				fmt.Fprintln(w, version)
				return nil
			}
			revision, when := "unknown", "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						revision = s.Value
					case "vcs.time":
						when = s.Value
					}
				}
			}
			fmt.Fprintf(w, "Build Tag:     %s\nBuild Time:    %s\nBuild Commit:  %s\nDistribution:  Holdfast\nPlatform:      %s %s\nGo Version:    %s\n",
				version, when, revision, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return nil
		},
	}
	cmd.Flags().BoolVar(&tagOnly, "build-tag", false, "print only the version")
	return cmd
}
