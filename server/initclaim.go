package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvserver"
)

// Two nodes that are told to initialize at the same time must not make two clusters.
// A node that is told so claims it, asks all nodes it knows, and goes on only if
// nobody objects:
//
//	none ─► claimed (by this node) ─► settled: it makes the cluster
//	  │          └─► yielded: another one has claimed it, and goes first
//	  └─► yielded (to a node that has asked) ─► none (it was not heard of for a while)
//
// Of two that have claimed it, the lower address goes first. One that gives up tells
// those that have yielded to it. A node that has settled
// or that yields to a third objects. So of two nodes of which one knows the other, or
// that both know a third one, at most one settles. Two that hear nothing of each other
// cannot be told from two clusters.

// claimLasts is how long a node waits for one that it has yielded to: longer than
// that one takes to ask everybody.
const claimLasts = 4 * joinTimeout

// initClaim is one node's part in it.
type initClaim struct {
	mu      sync.Mutex
	self    string // the address that this node claims under
	by      string // who has claimed it; empty: nobody
	until   time.Time
	settled bool
	now     func() time.Time // nil: time.Now
}

func (c *initClaim) holderLocked() string {
	now := time.Now
	if c.now != nil {
		now = c.now
	}
	if c.by != "" && c.by != c.self && now().After(c.until) {
		c.by = ""
	}
	return c.by
}

// take claims the cluster for this node; false: somebody else has.
func (c *initClaim) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holderLocked() != "" {
		return false
	}
	c.by = c.self
	return true
}

// yield answers a node that has claimed it; false: this one objects.
func (c *initClaim) yield(to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch by := c.holderLocked(); {
	case c.settled:
		return false
	case by == "" || by == to, by == c.self && to < c.self:
		now := time.Now
		if c.now != nil {
			now = c.now
		}
		c.by, c.until = to, now().Add(claimLasts)
		return true
	}
	return false
}

// drop gives a claim of this node up.
func (c *initClaim) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == c.self && !c.settled {
		c.by = ""
	}
}

// withdrawn hears that a node has given up its claim.
func (c *initClaim) withdrawn(by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == by && by != c.self {
		c.by = ""
	}
}

// settle says whether this node has still claimed it, and nobody else can any more.
func (c *initClaim) settle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = c.settled || c.by == c.self
	return c.settled
}

// initialize makes a new cluster of this node, unless somebody else does: then the
// identity is zero, and there will be one to join.
func (c *cluster) initialize(ctx context.Context, peers []string) (kvserver.Ident, error) {
	if !c.claim.take() {
		return kvserver.Ident{}, nil
	}
	if c.nobodyObjects(ctx, peers) && c.claim.settle() {
		return c.bootstrap()
	}
	c.claim.drop()
	c.withdraw(ctx, peers)
	return kvserver.Ident{}, ctx.Err()
}

func (c *cluster) bootstrap() (kvserver.Ident, error) {
	ident := kvserver.Ident{ClusterID: newClusterID(), NodeID: singleNodeID, StoreID: singleStoreID}
	if err := kvserver.Bootstrap(c.n.engine, ident); err != nil {
		return ident, fmt.Errorf("--store: %w", err)
	}
	return ident, nil
}

// nobodyObjects asks all peers at once. Who cannot be reached has no say.
func (c *cluster) nobodyObjects(ctx context.Context, peers []string) bool {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	req := c.joinRequest(kvserver.Ident{})
	req.InitClaim = c.claim.self
	answers := make(chan bool, len(peers))
	for _, address := range peers {
		go func() { // Ends with ctx.
			_, err := c.dialer.Join(ctx, address, req)
			objects := err == nil || unavailable(err) && !isWaiting(err)
			if objects {
				c.n.log.Info("another node has a cluster, or makes one", "peer", address, "answer", err)
			}
			answers <- objects
		}()
	}
	objections := 0
	for range peers { // Of all of them, since none may hear of the claim after its end.
		if <-answers {
			objections++
		}
	}
	return objections == 0
}

// withdraw tells all peers that this node makes no cluster after all. Who does not
// hear of it waits until the claim has lapsed.
func (c *cluster) withdraw(ctx context.Context, peers []string) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	req := c.joinRequest(kvserver.Ident{})
	req.InitClaim, req.InitWithdrawn = c.claim.self, true
	var told sync.WaitGroup
	for _, address := range peers {
		told.Go(func() { _, _ = c.dialer.Join(ctx, address, req) })
	}
	told.Wait()
}

// codeClusterName is the SQLSTATE of refusals because of --cluster-name.
const codeClusterName = pgerr.InvalidParameterValue

// checkClusterName compares the name that a node gives with that of the one it asks.
func checkClusterName(theirs, ours string) error {
	switch {
	case theirs == ours:
		return nil
	case theirs == "":
		return pgerr.Newf(codeClusterName, "peer node expects cluster name %q, use --cluster-name to configure", ours)
	case ours == "":
		return pgerr.New(codeClusterName, "peer node does not have a cluster name configured, cannot use --cluster-name")
	}
	return pgerr.Newf(codeClusterName, "local cluster name %q does not match peer cluster name %q", theirs, ours)
}
