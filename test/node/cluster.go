package node

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// StartCluster runs n nodes of one cluster and waits until all of them answer. Node
// ids are in order, from 1.
func StartCluster(t testing.TB, n int, flags ...string) []*Node {
	t.Helper()
	return StartClusterAt(t, make([]Place, n), flags...)
}

// Place is where a member of a cluster runs. The zero Place is this machine's
// loopback interface and a directory of the test's own.
type Place struct {
	Host   string   // address to listen on
	Store  string   // directory of the store
	Log    string   // file that takes what the process prints, instead of Output
	Within []string // command that runs the program, as in ip netns exec NAME
	Flags  []string // of every start, before those of SetFlags
}

func (n *Node) host() string {
	if n.place.Host == "" {
		return "127.0.0.1"
	}
	return n.place.Host
}

// StartClusterAt is StartCluster with one node at each of the places.
func StartClusterAt(t testing.TB, places []Place, flags ...string) []*Node {
	t.Helper()
	extern := filepath.Join(t.TempDir(), "extern")
	first := newMemberAt(t, places[0], nil, extern, flags...)
	first.join = []string{first.Addr()}
	if err := first.launch(); err != nil {
		t.Fatal(err)
	}
	first.Init()
	nodes := []*Node{first}
	for _, place := range places[1:] {
		m := newMemberAt(t, place, nodes, extern, flags...)
		m.Restart()
		nodes = append(nodes, m)
	}
	// Each knows all others from its next start on.
	for _, m := range nodes {
		m.join = nil
		for _, o := range nodes {
			m.join = append(m.join, o.Addr())
		}
	}
	return nodes
}

// NewMember returns a node, not started, that is to join the cluster of peers.
func NewMember(t testing.TB, peers []*Node, extern string, flags ...string) *Node {
	t.Helper()
	return newMemberAt(t, Place{}, peers, extern, flags...)
}

func newMemberAt(t testing.TB, place Place, peers []*Node, extern string, flags ...string) *Node {
	t.Helper()
	n := &Node{t: t, binary: Binary(t), Store: place.Store, Extern: extern,
		port: freePort(t), http: freePort(t), flags: flags, out: &bytes.Buffer{}, place: place}
	if n.Store == "" {
		n.Store = filepath.Join(t.TempDir(), "store")
	}
	n.JoinThrough(peers...)
	n.cleanUp()
	return n
}

// JoinThrough changes which nodes the next start joins through.
func (n *Node) JoinThrough(peers ...*Node) {
	n.join = []string{}
	for _, p := range peers {
		n.join = append(n.join, p.Addr())
	}
}

// Move gives the next process other ports.
func (n *Node) Move() { n.port, n.http = freePort(n.t), freePort(n.t) }

// Launch starts the process and does not wait for it.
func (n *Node) Launch() {
	n.t.Helper()
	if err := n.launch(); err != nil {
		n.t.Fatal(err)
	}
}

// Await waits until the process answers.
func (n *Node) Await() {
	n.t.Helper()
	if err := n.await(60 * time.Second); err != nil {
		n.t.Fatal(err)
	}
}

// Addr is the node's port.
func (n *Node) Addr() string { return fmt.Sprintf("%s:%d", n.host(), n.port) }

// Init makes a cluster of the node, which has been launched, and waits for it.
func (n *Node) Init() {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := n.Run("init")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("init: %v\n%s", err, out)
		}
	}
	n.Await()
}

// Run runs a command of the program against the node and returns what it prints.
func (n *Node) Run(args ...string) (string, error) {
	out, err := exec.Command(n.binary, append(args, "--insecure", "--host="+n.Addr())...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Output is what the process has printed. It must have ended.
func (n *Node) Output() string { return n.out.String() }
