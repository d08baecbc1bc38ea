package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq/oid"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/holdfastdb/holdfast/server/adminpb"
)

// newNodeCommand looks at the nodes of a cluster and takes them out of it.
func newNodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "list, inspect, drain and remove the nodes of a cluster", Args: cobra.ArbitraryArgs}
	cmd.AddCommand(newNodeLsCommand(), newNodeStatusCommand(), newNodeDrainCommand(), newNodeRelocateCommand(),
		newMembershipCommand("decommission", "move a node's data elsewhere and take it out of the cluster"),
		newMembershipCommand("recommission", "take back a decommission that is not done"))
	return cmd
}

// formatFlags choose how rows are shown.
type formatFlags struct{ format string }

func (f *formatFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "format", "", "format of rows: "+strings.Join(formatNames, ", ")+" (default: table on a terminal, else tsv)")
}

func (f *formatFlags) printer(out io.Writer) (rowPrinter, error) {
	format := f.format
	if format == "" {
		format = "tsv"
		if out == os.Stdout && term.IsTerminal(int(os.Stdout.Fd())) {
			format = "table"
		}
	}
	p, err := newRowPrinter(format, bufio.NewWriter(out))
	if err != nil {
		return nil, flagError{fmt.Errorf("--format: %w", err)}
	}
	return p, nil
}

func newNodeLsCommand() *cobra.Command {
	client, format := &clientFlags{}, &formatFlags{}
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "ls", Short: "list the ids of the nodes", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printQuery(cmd, client, format, timeout,
				"SELECT node_id AS id FROM crdb_internal.gossip_liveness WHERE membership != 'decommissioned' ORDER BY 1")
		},
	}
	client.register(cmd.Flags())
	format.register(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for an answer")
	return cmd
}

func newNodeStatusCommand() *cobra.Command {
	client, format := &clientFlags{}, &formatFlags{}
	var want statusColumns
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status [id]", Short: "show the state of the nodes", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := 0
			if len(args) == 1 {
				var err error
				if id, err = parseNodeID(args[0]); err != nil {
					return err
				}
			}
			return printQuery(cmd, client, format, timeout, want.query(id))
		},
	}
	client.register(cmd.Flags())
	format.register(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&want.ranges, "ranges", false, "with counts of ranges")
	fs.BoolVar(&want.stats, "stats", false, "with sizes")
	fs.BoolVar(&want.decommission, "decommission", false, "with the state of decommissions")
	fs.BoolVar(&want.all, "all", false, "with everything")
	fs.DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for an answer")
	return cmd
}

func parseNodeID(arg string) (int, error) {
	id, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || id < 1 {
		return 0, flagError{fmt.Errorf("%q is no node id", arg)}
	}
	return int(id), nil
}

// statusColumns says which groups of columns node status shows.
type statusColumns struct{ ranges, stats, decommission, all bool }

// query returns the statement that shows one node, or all if id is 0.
func (w statusColumns) query(id int) string {
	cols := []string{
		"l.node_id AS id", "g.address", "g.sql_address", "g.server_version AS build", "g.started_at", "l.updated_at", "g.locality",
		"g.is_available", "g.is_live",
	}
	with, from := "", ""
	if w.ranges || w.all {
		cols = append(cols, "coalesce(r.leases, 0) AS replicas_leaders", "coalesce(r.leases, 0) AS replicas_leaseholders",
			"coalesce(r.ranges, 0) AS ranges", "coalesce(r.unavailable, 0) AS ranges_unavailable", "coalesce(r.under, 0) AS ranges_underreplicated")
	}
	if w.stats || w.all {
		cols = append(cols, "coalesce(r.bytes, 0) AS live_bytes", "0 AS key_bytes", "0 AS value_bytes", "0 AS intent_bytes", "0 AS system_bytes")
	}
	if w.decommission || w.all {
		cols = append(cols, "coalesce(r.replicas, 0) AS gossiped_replicas", "l.decommissioning AS is_decommissioning", "l.membership", "l.draining AS is_draining")
	}
	if w.ranges || w.stats || w.decommission || w.all {
		with = rangeCounts
		from = " LEFT JOIN counts AS r ON r.node_id = l.node_id"
	}
	q := with + "SELECT " + strings.Join(cols, ", ") + " FROM crdb_internal.gossip_liveness AS l" +
		" LEFT JOIN crdb_internal.gossip_nodes AS g ON g.node_id = l.node_id" + from
	if id != 0 {
		return q + fmt.Sprintf(" WHERE l.node_id = %d", id)
	}
	return q + " WHERE l.membership != 'decommissioned' ORDER BY l.node_id"
}

// rangeCounts counts per node. A range is unavailable if not more than half of its
// voters are alive, and has too few replicas if not all are.
const rangeCounts = `WITH replicas AS (
  SELECT r.range_id, r.lease_holder, r.range_size, unnest(r.voting_replicas) AS node_id FROM crdb_internal.ranges AS r
), health AS (
  SELECT p.range_id, count(*) AS voters, sum(CASE WHEN g.is_live THEN 1 ELSE 0 END) AS alive
  FROM replicas AS p LEFT JOIN crdb_internal.gossip_nodes AS g ON g.node_id = p.node_id GROUP BY p.range_id
), counts AS (
  SELECT p.node_id, count(*) AS replicas, sum(CASE WHEN p.lease_holder = p.node_id THEN 1 ELSE 0 END) AS leases,
    sum(CASE WHEN p.lease_holder = p.node_id THEN 1 ELSE 0 END) AS ranges,
    sum(CASE WHEN p.lease_holder = p.node_id AND h.alive * 2 <= h.voters THEN 1 ELSE 0 END) AS unavailable,
    sum(CASE WHEN p.lease_holder = p.node_id AND h.alive < h.voters THEN 1 ELSE 0 END) AS under,
    sum(p.range_size) AS bytes
  FROM replicas AS p JOIN health AS h ON h.range_id = p.range_id GROUP BY p.node_id
) `

// printQuery shows the rows of a query.
func printQuery(cmd *cobra.Command, client *clientFlags, format *formatFlags, timeout time.Duration, query string) error {
	url, err := client.connString(cmd.Flags())
	if err != nil {
		return err
	}
	p, err := format.printer(cmd.OutOrStdout())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	conn, err := connect(ctx, url, "holdfast node", nil)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows := conn.ExecParams(ctx, query, nil, nil, nil, nil)
	n := 0
	for header := false; rows.NextRow(); n++ {
		if !header {
			p.header(rows.FieldDescriptions())
			header = true
		}
		p.row(rows.Values())
	}
	if _, err := rows.Close(); err != nil {
		return err
	}
	if n == 0 {
		return errors.New("no such node")
	}
	return p.footer(n)
}

func newNodeDrainCommand() *cobra.Command {
	client := &clientFlags{}
	var wait time.Duration
	var shutdown, self bool
	cmd := &cobra.Command{
		Use: "drain [id]", Short: "let a node finish what its clients do and hand its leases over", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := &adminpb.DrainRequest{Shutdown: shutdown}
			switch {
			case len(args) == 1 && self:
				return flagError{errors.New("--self: name a node or say --self, not both")}
			case len(args) == 1:
				id, err := parseNodeID(args[0])
				if err != nil {
					return err
				}
				q.NodeId = int32(id)
			}
			return client.admin(cmd, wait, func(ctx context.Context, c adminpb.AdminClient) error {
				return drain(ctx, c, q, cmd.OutOrStdout())
			})
		},
	}
	client.register(cmd.Flags())
	fs := cmd.Flags()
	fs.DurationVar(&wait, "drain-wait", 10*time.Minute, "how long to wait; 0: for ever")
	fs.BoolVar(&shutdown, "shutdown", false, "end the node afterwards")
	fs.BoolVar(&self, "self", false, "drain the node that is connected to")
	return cmd
}

func drain(ctx context.Context, c adminpb.AdminClient, q *adminpb.DrainRequest, out io.Writer) error {
	stream, err := c.Drain(ctx, q)
	if err != nil {
		return err
	}
	for {
		p, err := stream.Recv()
		if err != nil {
			return err
		}
		if p.GetDrained() {
			fmt.Fprintln(out, "ok")
			return nil
		}
		fmt.Fprintf(out, "node is draining... remaining: %d\n", p.GetRemaining())
	}
}

// memberColumns are what decommission and recommission show.
var memberColumns = []pgconn.FieldDescription{
	{Name: "id", DataTypeOID: uint32(oid.T_int8)}, {Name: "is_live", DataTypeOID: uint32(oid.T_bool)},
	{Name: "replicas", DataTypeOID: uint32(oid.T_int8)}, {Name: "is_decommissioning", DataTypeOID: uint32(oid.T_bool)},
	{Name: "membership", DataTypeOID: uint32(oid.T_text)}, {Name: "is_draining", DataTypeOID: uint32(oid.T_bool)},
}

// membershipFlags are those of decommission and recommission.
type membershipFlags struct {
	client       clientFlags
	format       formatFlags
	wait, checks string
	dryRun, self bool
}

func newMembershipCommand(name, short string) *cobra.Command {
	f := &membershipFlags{}
	cmd := &cobra.Command{
		Use: name + " <id>...", Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := f.ids(args)
			if err != nil {
				return err
			}
			return f.client.admin(cmd, 0, func(ctx context.Context, c adminpb.AdminClient) error {
				if name == "recommission" {
					return f.show(ctx, c, ids, adminpb.MembershipChange_RECOMMISSION, cmd.OutOrStdout())
				}
				return f.decommission(ctx, c, ids, cmd.OutOrStdout())
			})
		},
	}
	f.client.register(cmd.Flags())
	f.format.register(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&f.self, "self", false, "the node that is connected to")
	if name == "decommission" {
		fs.StringVar(&f.wait, "wait", "all", "all: until no replicas are left; none: do not wait")
		fs.StringVar(&f.checks, "checks", "enabled", "enabled or strict: only if others can take the replicas; skip: in any case")
		fs.BoolVar(&f.dryRun, "dry-run", false, "only show what would be decommissioned")
	}
	return cmd
}

func (f *membershipFlags) ids(args []string) ([]int32, error) {
	switch {
	case len(args) == 0 && !f.self:
		return nil, flagError{errors.New("name the nodes by their ids, or say --self")}
	case len(args) > 0 && f.self:
		return nil, flagError{errors.New("--self: name nodes or say --self, not both")}
	case f.wait != "" && f.wait != "all" && f.wait != "none":
		return nil, flagError{fmt.Errorf("--wait: %q is neither all nor none", f.wait)}
	case f.checks != "" && f.checks != "enabled" && f.checks != "strict" && f.checks != "skip":
		return nil, flagError{fmt.Errorf("--checks: %q is none of enabled, strict and skip", f.checks)}
	}
	var ids []int32
	for _, a := range args {
		id, err := parseNodeID(a)
		if err != nil {
			return nil, err
		}
		ids = append(ids, int32(id))
	}
	return ids, nil
}

func (f *membershipFlags) show(ctx context.Context, c adminpb.AdminClient, ids []int32, change adminpb.MembershipChange, out io.Writer) error {
	resp, err := c.Members(ctx, &adminpb.MembersRequest{NodeIds: ids, Change: change})
	if err != nil {
		return err
	}
	return f.print(resp.GetMembers(), out)
}

func (f *membershipFlags) print(members []*adminpb.Member, out io.Writer) error {
	p, err := f.format.printer(out)
	if err != nil {
		return err
	}
	p.header(memberColumns)
	for _, m := range members {
		p.row([][]byte{
			strconv.AppendInt(nil, int64(m.GetNodeId()), 10), strconv.AppendBool(nil, m.GetIsLive()), strconv.AppendInt(nil, m.GetReplicas(), 10),
			strconv.AppendBool(nil, m.GetMembership() != "active"), []byte(m.GetMembership()), strconv.AppendBool(nil, m.GetIsDraining()),
		})
	}
	return p.footer(len(members))
}

// decommission marks nodes and waits until they have no replicas left.
func (f *membershipFlags) decommission(ctx context.Context, c adminpb.AdminClient, ids []int32, out io.Writer) error {
	if f.dryRun {
		return f.show(ctx, c, ids, adminpb.MembershipChange_NONE, out)
	}
	resp, err := c.Members(ctx, &adminpb.MembersRequest{NodeIds: ids, Change: adminpb.MembershipChange_DECOMMISSION, Check: f.checks != "skip"})
	if err != nil {
		return err
	}
	if resp.GetProblem() != "" {
		fmt.Fprintln(out, resp.GetProblem())
		return errors.New("Cannot decommission nodes.")
	}
	for last := ""; ; {
		if now := fmt.Sprint(resp.GetMembers()); now != last {
			if err := f.print(resp.GetMembers(), out); err != nil {
				return err
			}
			last = now
		}
		left := int64(0)
		for _, m := range resp.GetMembers() {
			left += m.GetReplicas()
		}
		if left == 0 {
			break
		}
		if f.wait == "none" {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		if resp, err = c.Members(ctx, &adminpb.MembersRequest{NodeIds: ids}); err != nil {
			return err
		}
	}
	if err := f.show(ctx, c, ids, adminpb.MembershipChange_FINISH, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "No more data reported on target nodes. Please verify cluster health before removing the nodes.")
	return nil
}

// newNodeRelocateCommand is for those who look into how ranges move.
func newNodeRelocateCommand() *cobra.Command {
	client := &clientFlags{}
	var to []int32
	var rangeID int64
	cmd := &cobra.Command{
		Use: "relocate", Short: "give ranges replicas on certain nodes and on no others", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return client.admin(cmd, 0, func(ctx context.Context, c adminpb.AdminClient) error {
				resp, err := c.Relocate(ctx, &adminpb.RelocateRequest{NodeIds: to, RangeId: rangeID})
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "ranges changed: %d\n", resp.GetRanges())
				}
				return err
			})
		},
	}
	client.register(cmd.Flags())
	cmd.Flags().Int32SliceVar(&to, "to", nil, "ids of the nodes; the first one gets the leases")
	cmd.Flags().Int64Var(&rangeID, "range", 0, "id of one range; 0: all")
	return cmd
}
