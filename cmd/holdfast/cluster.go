package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/server"
	"github.com/holdfastdb/holdfast/server/adminpb"
)

// newInitCommand makes a cluster of nodes that wait for it.
func newInitCommand() *cobra.Command {
	f := &clientFlags{}
	req := &adminpb.InitRequest{}
	cmd := &cobra.Command{
		Use: "init", Short: "initialize a cluster, once, through any of its nodes", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.admin(cmd, time.Minute, func(ctx context.Context, c adminpb.AdminClient) error {
				if _, err := c.Init(ctx, req); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "Cluster successfully initialized")
				return nil
			})
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&req.ClusterName, "cluster-name", "", "name of the cluster, as given to its nodes")
	cmd.Flags().BoolVar(&req.AnyClusterName, "disable-cluster-name-verification", false, "do not compare --cluster-name with that of the node")
	return cmd
}

// admin calls fn with a client of the node that the flags name.
func (f *clientFlags) admin(cmd *cobra.Command, timeout time.Duration, fn func(context.Context, adminpb.AdminClient) error) error {
	address, err := f.nodeAddress(cmd.Flags())
	if err != nil {
		return err
	}
	client, closeClient, err := server.DialAdmin(address)
	if err != nil {
		return err
	}
	defer closeClient()
	ctx, cancel := interruptible(cmd.Context())
	defer cancel()
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return adminError(address, fn(ctx, client))
}

// nodeAddress is the port of the node, where SQL is served, too, unless that has
// one of its own.
func (f *clientFlags) nodeAddress(fs *pflag.FlagSet) (string, error) {
	if f.url == "" {
		return f.address(f.host, fs), nil
	}
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" {
		return "", flagError{errors.New("--url: write postgresql://user@host:port/database")}
	}
	return f.address(u.Host, fs), nil
}

// adminError says what a node answered, or that it did not.
func adminError(address string, err error) error {
	s, ok := status.FromError(err)
	switch {
	case err == nil || !ok:
		return err
	case s.Code() == codes.Unimplemented:
		return fmt.Errorf("the node at %s is not part of a cluster of several nodes", address)
	case s.Code() == codes.DeadlineExceeded:
		return fmt.Errorf("the node at %s has not answered in time", address)
	case s.Code() == codes.Canceled:
		return context.Canceled
	case s.Code() == codes.Unavailable && strings.Contains(s.Message(), "server preface"):
		return fmt.Errorf("the node at %s does not take commands there: it was started with start-single-node, or this is its --sql-addr", address)
	case s.Code() == codes.Unavailable:
		return fmt.Errorf("the node at %s is not available: %s", address, s.Message())
	}
	return errors.New(s.Message())
}
