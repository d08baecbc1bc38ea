package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/holdfastdb/holdfast/kv/noderpc"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/server"
	"github.com/holdfastdb/holdfast/server/adminpb"
)

// demoNodes are the nodes of a demonstration, all in this process. Their stores are
// in memory and outlive them, so that a node can be ended and started again.
type demoNodes struct {
	common   server.Config
	extern   string // directory of what nodelocal means, by node
	cluster  bool   // there may be more than one
	database string
	faults   noderpc.Faults // what distance does to messages

	mu    sync.Mutex
	nodes []*demoNode // in the order of their first start: the i-th one is n(i+1)
}

// demoNode is one node, running or not.
type demoNode struct {
	cfg  server.Config
	stop context.CancelFunc // ends it in order
	kill context.CancelFunc // ends it at once
	done chan struct{}      // closed when it has ended; nil: it was never started
	err  error              // why it ended
}

func (n *demoNode) running() bool {
	if n.done == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// minDemoCacheBytes is the least that a node's block cache works well with.
const minDemoCacheBytes = 8 << 20

func newDemoNodes(f *demoFlags, extern string) *demoNodes {
	d := &demoNodes{common: f.cfg, extern: extern, cluster: len(f.localities) > 1}
	c := &d.common
	c.Version, c.DrainTransactions, c.Cluster = buildVersion(), 0, d.cluster
	c.Log.StderrLevel = slog.LevelError
	if d.cluster {
		c.Log.StderrLevel = server.LogNothing // Those that are left complain of one that is ended.
	}
	// The nodes share what one would have.
	c.CacheBytes = max(c.CacheBytes/int64(len(f.localities)), minDemoCacheBytes)
	for i, l := range f.localities {
		n := d.add(l)
		if f.sqlPort != 0 {
			n.cfg.ListenAddr = fmt.Sprintf("127.0.0.1:%d", f.sqlPort+i)
		}
		if f.httpPort != 0 {
			n.cfg.HTTPAddr = fmt.Sprintf("127.0.0.1:%d", f.httpPort+i)
		}
	}
	return d
}

// add adds a node that does not run yet.
func (d *demoNodes) add(l server.Locality) *demoNode {
	n := &demoNode{cfg: d.common}
	n.cfg.Locality = l
	n.cfg.Store = server.StoreSpec{InMemory: true, Memory: storage.NewMemFS()}
	n.cfg.ListenAddr, n.cfg.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0"
	n.cfg.Testing.Faults = &d.faults
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes = append(d.nodes, n)
	n.cfg.ExternalIODir = filepath.Join(d.extern, strconv.Itoa(len(d.nodes)))
	return n
}

// start starts all nodes, the first one as a cluster that the others join, one
// after the other so that their ids are in order.
func (d *demoNodes) start(ctx context.Context) error {
	for i, n := range d.all() {
		n.cfg.Initialize = i == 0 && d.cluster
		if err := d.startNode(ctx, n); err != nil {
			return err
		}
		n.cfg.Initialize = false
	}
	return nil
}

func (d *demoNodes) all() []*demoNode {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.nodes)
}

// startNode starts a node that does not run, and returns when it serves clients.
func (d *demoNodes) startNode(ctx context.Context, n *demoNode) error {
	if err := os.MkdirAll(n.cfg.ExternalIODir, 0o755); err != nil {
		return err
	}
	cfg := n.cfg
	cfg.Join = nil
	if d.cluster {
		for _, o := range d.all() {
			if o.running() {
				cfg.Join = append(cfg.Join, o.cfg.ListenAddr)
			}
		}
	}
	ready, done := make(chan *server.Node, 1), make(chan struct{})
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	hard, kill := context.WithCancel(context.WithoutCancel(ctx))
	n.stop, n.kill, n.done = stop, kill, done
	go func() { // close ends it and waits for it.
		defer close(done)
		n.err = server.Run(run, hard, cfg, func(node *server.Node) error { ready <- node; return nil })
	}()
	select {
	case node := <-ready:
		// The next process of the node is where this one was.
		n.cfg.ListenAddr, n.cfg.HTTPAddr = node.SQLAddr().String(), node.HTTPAddr().String()
		return nil
	case <-done:
		return n.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeTimeout is how long nodes may take to stop what they do.
const closeTimeout = 2 * time.Second

// close ends all nodes at once. Those of a cluster would wait for each other; they
// have nothing that anybody needs, and what they still do then ends with the process.
func (d *demoNodes) close() {
	for _, n := range d.all() {
		if n.done != nil {
			n.kill()
			n.stop()
		}
	}
	deadline := time.After(closeTimeout)
	for _, n := range d.all() {
		if n.done == nil {
			continue
		}
		select {
		case <-n.done:
		case <-deadline:
			return
		}
	}
}

// roundTrips are how long a message between regions and its answer take.
var roundTrips = map[[2]string]time.Duration{
	{"us-east1", "us-west1"}:     66 * time.Millisecond,
	{"us-east1", "europe-west1"}: 64 * time.Millisecond,
	{"us-west1", "europe-west1"}: 146 * time.Millisecond,
}

// between is the time for one way between two localities.
func between(a, b server.Locality) time.Duration {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	x, y := a[0].Value, b[0].Value
	return (roundTrips[[2]string{x, y}] + roundTrips[[2]string{y, x}]) / 2
}

// spread puts the nodes where they say that they are: from now on messages between
// regions take their time.
func (d *demoNodes) spread() {
	d.faults.Set(func(m noderpc.Message) noderpc.Fault {
		d.mu.Lock()
		defer d.mu.Unlock()
		from, to := int(m.From)-1, int(m.To)-1
		if from < 0 || to < 0 || from >= len(d.nodes) || to >= len(d.nodes) {
			return noderpc.Fault{} // It has no number yet.
		}
		return noderpc.Fault{Delay: between(d.nodes[from].cfg.Locality, d.nodes[to].cfg.Locality)}
	})
}

// url is how to connect to the i-th node.
func (d *demoNodes) url(i int) string {
	database := d.database
	if database == "" {
		database = "defaultdb"
	}
	return fmt.Sprintf("postgresql://root@%s/%s?sslmode=disable", d.all()[i].cfg.ListenAddr, database)
}

// describe says what there is.
func (d *demoNodes) describe(w io.Writer) {
	var b strings.Builder
	b.WriteString("#\n# This is a demonstration: the data is in memory and is gone when you leave.\n#\n")
	if d.database != "" {
		fmt.Fprintf(&b, "# data:    database %s\n", d.database)
	}
	if !d.cluster {
		n := d.all()[0]
		fmt.Fprintf(&b, "# sql:     %s\n# webui:   http://%s\n# extern:  nodelocal://1/ is %s\n", d.url(0), n.cfg.HTTPAddr, n.cfg.ExternalIODir)
	} else {
		fmt.Fprintf(&b, "# extern:  nodelocal://1/ is %s, and so on\n# nodes:\n", filepath.Join(d.extern, "1"))
		var list strings.Builder
		_ = d.list(&list)
		for line := range strings.Lines(list.String()) {
			b.WriteString("#   " + line)
		}
		b.WriteString("#\n# \\demo ls lists them again; \\demo shutdown N, restart N, add LOCALITY, decommission N, recommission N change them.\n")
	}
	_, _ = io.WriteString(w, b.String())
}

// list writes one line for each node.
func (d *demoNodes) list(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, n := range d.all() {
		state := "http://" + n.cfg.HTTPAddr
		if !n.running() {
			state = "not running"
		}
		fmt.Fprintf(t, "n%d\t%s\t%s\t%s\n", i+1, n.cfg.Locality, d.url(i), state)
	}
	return t.Flush()
}

const demoUsage = `\demo ls | add LOCALITY | shutdown N | restart N | decommission N | recommission N`

// command is \demo of the shell.
func (d *demoNodes) command(ctx context.Context, out io.Writer, args []string) error {
	usage := errors.New("write " + demoUsage)
	if len(args) == 0 {
		return usage
	}
	if args[0] == "ls" {
		return d.list(out)
	}
	if len(args) != 2 {
		return usage
	}
	if !d.cluster {
		return errors.New("this demonstration has one node; start it with --nodes=3 or more")
	}
	if args[0] == "add" {
		l, err := server.ParseLocality(args[1])
		if err != nil {
			return err
		}
		if err := d.startNode(ctx, d.add(l)); err != nil {
			return fmt.Errorf("starting a node: %w", err)
		}
		return d.list(out)
	}
	i, err := strconv.Atoi(strings.TrimPrefix(args[1], "n"))
	nodes := d.all()
	if err != nil || i < 1 || i > len(nodes) {
		return fmt.Errorf("%q is not one of the nodes 1 to %d", args[1], len(nodes))
	}
	n := nodes[i-1]
	switch args[0] {
	case "shutdown":
		if i == 1 {
			return errors.New("the shell is connected to n1; shut down another one")
		}
		if !n.running() {
			return fmt.Errorf("n%d does not run", i)
		}
		n.stop()
		<-n.done
		if n.err != nil {
			return n.err
		}
		_, err = fmt.Fprintf(out, "node %d has been shut down\n", i)
	case "restart":
		if n.running() {
			return fmt.Errorf("n%d runs", i)
		}
		if err = d.startNode(ctx, n); err == nil {
			_, err = fmt.Fprintf(out, "node %d has been restarted\n", i)
		}
	case "decommission":
		err = d.decommission(ctx, out, int32(i))
	case "recommission":
		_, err = d.members(ctx, &adminpb.MembersRequest{NodeIds: []int32{int32(i)}, Change: adminpb.MembershipChange_RECOMMISSION})
		if err == nil {
			_, err = fmt.Fprintf(out, "node %d has been recommissioned\n", i)
		}
	default:
		return usage
	}
	return err
}

// decommission takes a node out of the cluster when its replicas are elsewhere.
func (d *demoNodes) decommission(ctx context.Context, out io.Writer, id int32) error {
	q := &adminpb.MembersRequest{NodeIds: []int32{id}, Change: adminpb.MembershipChange_DECOMMISSION, Check: true}
	for shown := int64(-1); ; {
		resp, err := d.members(ctx, q)
		if err != nil {
			return err
		}
		if resp.GetProblem() != "" {
			return errors.New(resp.GetProblem())
		}
		left := resp.GetMembers()[0].GetReplicas()
		if left == 0 {
			break
		}
		if left != shown {
			fmt.Fprintf(out, "node %d: %d replicas are left\n", id, left)
			shown = left
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if _, err := d.members(ctx, &adminpb.MembersRequest{NodeIds: []int32{id}, Change: adminpb.MembershipChange_FINISH}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "node %d has been decommissioned\n", id)
	return err
}

func (d *demoNodes) members(ctx context.Context, q *adminpb.MembersRequest) (*adminpb.MembersResponse, error) {
	address := d.all()[0].cfg.ListenAddr
	client, closeClient, err := server.DialAdmin(address)
	if err != nil {
		return nil, err
	}
	defer closeClient()
	resp, err := client.Members(ctx, q)
	return resp, adminError(address, err)
}
