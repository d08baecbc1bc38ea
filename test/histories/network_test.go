package histories

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// network is a network namespace per node, joined by a bridge that the clients reach,
// too. Nodes are numbered from 1.
type network struct {
	t      *testing.T
	prefix string // of the names of all parts
	subnet string
	nodes  int
	cuts   map[[2]int]bool
}

// networks counts those of this process.
var networks atomic.Int64

// newNetwork returns nil if the machine does not allow namespaces.
func newNetwork(t *testing.T, nodes int) *network {
	if os.Geteuid() != 0 {
		return nil
	}
	for range 40 {
		i := int(networks.Add(1)) // The parts of a former one may take a while to vanish.
		n := &network{t: t, nodes: nodes, cuts: map[[2]int]bool{}}
		n.prefix = fmt.Sprintf("hf%d-%d", os.Getpid()%100000, i)
		n.subnet = fmt.Sprintf("10.213.%d", (os.Getpid()+i*37)%250)
		if out, _ := exec.Command("ip", "-o", "addr").Output(); strings.Contains(string(out), n.subnet+".") {
			continue
		}
		t.Cleanup(n.remove)
		if err := n.build(); err != nil {
			t.Logf("no network namespaces: %v", err)
			return nil
		}
		return n
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (n *network) namespace(node int) string { return fmt.Sprintf("%s-%d", n.prefix, node) }
func (n *network) host(node int) string      { return fmt.Sprintf("%s.%d", n.subnet, node) }
func (n *network) link(node int) string      { return fmt.Sprintf("%sv%d", n.prefix, node) }

func (n *network) build() error {
	steps := [][]string{
		{"link", "add", n.prefix, "type", "bridge"},
		{"addr", "add", n.host(254) + "/24", "dev", n.prefix},
		{"link", "set", n.prefix, "up"},
	}
	for i := 1; i <= n.nodes; i++ {
		ns := n.namespace(i)
		steps = append(steps,
			[]string{"netns", "add", ns},
			[]string{"link", "add", n.link(i), "type", "veth", "peer", "name", "eth0", "netns", ns},
			[]string{"link", "set", n.link(i), "master", n.prefix, "up"},
			[]string{"-n", ns, "addr", "add", n.host(i) + "/24", "dev", "eth0"},
			[]string{"-n", ns, "link", "set", "eth0", "up"},
			[]string{"-n", ns, "link", "set", "lo", "up"})
	}
	for _, s := range steps {
		if err := ip(s...); err != nil {
			return err
		}
	}
	return nil
}

func (n *network) remove() {
	for i := 1; i <= n.nodes; i++ {
		_ = ip("netns", "del", n.namespace(i)) // It may never have been made.
	}
	_ = ip("link", "del", n.prefix)
}

// nobody has this address, so what is sent to it is lost.
const nobody = "02:00:00:00:fe:fe"

// cut loses what from sends to to.
func (n *network) cut(from, to int) {
	if from == to || n.cuts[[2]int{from, to}] {
		return
	}
	n.cuts[[2]int{from, to}] = true
	if err := ip("-n", n.namespace(from), "neigh", "replace", n.host(to), "lladdr", nobody, "dev", "eth0", "nud", "permanent"); err != nil {
		n.t.Error(err)
	}
}

// heal ends all cuts.
func (n *network) heal() {
	for c := range n.cuts {
		if err := ip("-n", n.namespace(c[0]), "neigh", "del", n.host(c[1]), "dev", "eth0"); err != nil {
			n.t.Error(err)
		}
	}
	clear(n.cuts)
}

// disk is a small file system in memory.
type disk struct{ path string }

// newDisk returns nil if the machine does not allow it.
func newDisk(t *testing.T, path string) *disk {
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=640m", "tmpfs", path).CombinedOutput(); err != nil {
		t.Logf("no disks that can be filled: %v: %s", err, out)
		return nil
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", path).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return &disk{path: path}
}

func (d *disk) ballast() string { return filepath.Join(d.path, "ballast") }

// fill leaves at most a few pages.
func (d *disk) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 1<<10; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	return nil
}

func (d *disk) free() error { return os.Remove(d.ballast()) }
