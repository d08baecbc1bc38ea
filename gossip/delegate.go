package gossip

import (
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/gossip/gossippb"
)

// Gossip is what memberlist calls; none of these methods waits for anything.
var (
	_ memberlist.Delegate      = (*Gossip)(nil)
	_ memberlist.EventDelegate = (*Gossip)(nil)
	_ memberlist.AliveDelegate = (*Gossip)(nil)
)

// NodeMeta implements memberlist.Delegate.
func (g *Gossip) NodeMeta(limit int) []byte {
	g.mu.Lock()
	m := &gossippb.Meta{NodeId: g.mu.self.NodeId, Started: g.mu.self.Started}
	g.mu.Unlock()
	b, err := proto.Marshal(m)
	if err != nil || len(b) > limit {
		return nil
	}
	return b
}

// NotifyMsg implements memberlist.Delegate.
func (g *Gossip) NotifyMsg(b []byte) { g.receive(b, "news") }

// GetBroadcasts implements memberlist.Delegate.
func (g *Gossip) GetBroadcasts(overhead, limit int) [][]byte {
	return g.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (g *Gossip) LocalState(bool) []byte {
	b, err := proto.Marshal(g.facts.all())
	if err != nil {
		g.log.Error("encoding gossip", "err", err)
	}
	return b
}

// MergeRemoteState implements memberlist.Delegate.
func (g *Gossip) MergeRemoteState(b []byte, _ bool) { g.receive(b, "state") }

func (g *Gossip) receive(b []byte, what string) {
	if g.deliver != nil {
		g.deliver(slices.Clone(b), func(b []byte) { g.decode(b, what) }) // memberlist uses b again.
		return
	}
	g.decode(b, what)
}

func (g *Gossip) decode(b []byte, what string) {
	f := &gossippb.Facts{}
	if err := proto.Unmarshal(b, f); err != nil {
		g.log.Warn("gossip that cannot be decoded", "what", what, "bytes", len(b), "err", err)
		return
	}
	g.learn(f)
}

// NotifyAlive implements memberlist.AliveDelegate: it keeps out members that do
// not say which node they are.
func (g *Gossip) NotifyAlive(n *memberlist.Node) error {
	id, started, ok := parseMemberName(n.Name)
	m := &gossippb.Meta{}
	if err := proto.Unmarshal(n.Meta, m); err != nil || !ok || m.NodeId != id || m.Started != started {
		return fmt.Errorf("member %q does not say which node it is", n.Name)
	}
	return nil
}

// NotifyJoin implements memberlist.EventDelegate.
func (g *Gossip) NotifyJoin(n *memberlist.Node) {
	g.mu.Lock()
	g.mu.alive[n.Name] = struct{}{}
	g.mu.Unlock()
	g.notify()
}

// NotifyLeave implements memberlist.EventDelegate.
func (g *Gossip) NotifyLeave(n *memberlist.Node) {
	g.mu.Lock()
	delete(g.mu.alive, n.Name)
	g.mu.Unlock()
	g.log.Info("node does not answer any more", "member", n.Name, "address", n.Address())
	g.notify()
}

// NotifyUpdate implements memberlist.EventDelegate.
func (g *Gossip) NotifyUpdate(*memberlist.Node) {}
