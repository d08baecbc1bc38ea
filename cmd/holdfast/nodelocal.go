package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
)

func newNodelocalCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "nodelocal", Short: "files in a node's own storage"}
	var flags clientFlags
	upload := &cobra.Command{
		Use: "upload <source file> <destination>", Short: "put a file where nodelocal://N/<destination> finds it, N being the node",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runUpload(cmd, &flags, args[0], args[1]) },
	}
	flags.register(upload.Flags())
	cmd.AddCommand(upload)
	return cmd
}

// runUpload sends the file as the data of a COPY that the node turns into a file.
func runUpload(cmd *cobra.Command, flags *clientFlags, source, dest string) error {
	url, err := flags.connString(cmd.Flags())
	if err != nil {
		return err
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", source)
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	conn, err := connect(ctx, url, "holdfast nodelocal", func(*pgconn.Notice) {})
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	dest = strings.TrimPrefix(dest, "/")
	stmt := `COPY crdb_internal.nodelocal_file_upload ("` + strings.ReplaceAll(dest, `"`, `""`) + `") FROM STDIN`
	if _, err := conn.CopyFrom(ctx, f, stmt); err != nil {
		return err
	}
	node := "self"
	if res, err := conn.Exec(ctx, "SELECT DISTINCT node_id FROM crdb_internal.node_build_info").ReadAll(); err == nil && len(res) == 1 && len(res[0].Rows) == 1 {
		node = string(res[0].Rows[0][0])
	}
	fmt.Fprintf(cmd.OutOrStdout(), "successfully uploaded to nodelocal://%s/%s\n", node, dest)
	return nil
}
