package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/chance"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver"
	"github.com/holdfastdb/holdfast/kv/liveness"
	"github.com/holdfastdb/holdfast/kv/noderpc"
)

// How a node becomes part of a cluster.
//
//	store has an identity ─► ask the others whether it still holds ─► rejoined
//	store is new ─► ask each of the others ─► one lets it in ─► joined
//	                    ▲        │ none is part of a cluster
//	                    └─ 1 s ◄─┴─► init ─► a new cluster

// origin says how this process became a node.
type origin int

const (
	restarted origin = iota
	bootstrapped
	joined
)

func (o origin) String() string {
	return [...]string{"restarted pre-existing node", "initialized new cluster", "initialized new node, joined pre-existing cluster"}[o]
}

const (
	joinInterval = time.Second
	joinTimeout  = 3 * time.Second
	// replacedPatience is how long a node waits for its former process, which may
	// have died without a word, to be forgotten: longer than a liveness record lasts.
	replacedPatience = 12 * time.Second
)

// What nodes answer to others that want to join, beside a place.
func errNotInitialized() error { return pgerr.New(pgerr.CannotConnectNow, waitingForInit) }

// waitingForInit is what a node answers that knows of no cluster, and that nobody
// but who asks, at most, makes one.
const waitingForInit = "node is waiting for cluster initialization"

func isWaiting(err error) bool { return strings.HasSuffix(pgerr.Flatten(err).Message, waitingForInit) }

func errFirstRangeUnknown() error {
	return pgerr.New(pgerr.CannotConnectNow, "nobody has said yet where the first range is")
}

func unavailable(err error) bool { return pgerr.GetCode(err) == pgerr.CannotConnectNow }

// checkJoinFlag refuses a new node that knows nobody, before it makes a store.
func (c *Config) checkJoinFlag() error {
	if !c.Cluster || len(c.Join) > 0 || c.Initialize {
		return nil
	}
	if entries, err := os.ReadDir(c.Store.Path); err == nil && len(entries) > 0 && !c.Store.InMemory {
		return nil // It may remember.
	}
	return errNoJoin()
}

func errNoJoin() error {
	return pgerr.New(pgerr.InvalidParameterValue, "no --join flags provided to 'holdfast start'").
		WithHint("Consider using 'holdfast init' or 'holdfast start-single-node' instead.")
}

// place returns the node's identity once it has one.
func (c *cluster) place(ctx context.Context) (kvserver.Ident, origin, error) {
	peers, err := c.peers()
	if err != nil {
		return kvserver.Ident{}, 0, err
	}
	ident, err := kvserver.ReadIdent(c.n.engine)
	if err == nil {
		return ident, restarted, c.rejoin(ctx, ident, peers)
	}
	if !errors.Is(err, kvserver.ErrNotBootstrapped) {
		return ident, 0, fmt.Errorf("--store: %w", err)
	}
	if c.n.cfg.Initialize {
		ident, err := c.bootstrap()
		return ident, bootstrapped, err
	}
	if len(c.n.cfg.Join) == 0 {
		return ident, 0, errNoJoin()
	}
	return c.awaitPlace(ctx, peers)
}

// awaitPlace waits until the store of a new node gets an identity: a place in the
// cluster of others, or one of its own once somebody calls init.
func (c *cluster) awaitPlace(ctx context.Context, peers []string) (kvserver.Ident, origin, error) {
	var wanted []initRequest
	for waiting := false; ; {
		how := joined
		ident, err := c.askForPlace(ctx, peers)
		if err == nil && ident.NodeID == 0 && len(wanted) > 0 {
			how = bootstrapped
			ident, err = c.initialize(ctx, peers)
		}
		if err != nil || ident.NodeID != 0 {
			answerInits(wanted, how, err)
			return ident, how, err
		}
		if !waiting {
			waiting = true
			c.n.ready.set(stateWaiting)
			c.n.log.Info("waiting for a cluster to join, or to be initialized", "peers", peers)
			if f := c.n.cfg.Waiting; f != nil {
				if err := f(); err != nil {
					return ident, 0, err
				}
			}
		}
		pause := joinInterval
		if len(wanted) > 0 { // Those that got into each other's way try at other times.
			pause = joinInterval/4 + chance.Duration(joinInterval)
		}
		select {
		case <-time.After(pause):
		case q := <-c.inits:
			wanted = append(wanted, q)
		case <-ctx.Done():
			err := fmt.Errorf("waiting for the cluster: %w", ctx.Err())
			answerInits(wanted, joined, err)
			return kvserver.Ident{}, 0, err
		}
	}
}

// answerInits tells those who called init what became of it: of several, one has
// initialized the cluster.
func answerInits(wanted []initRequest, how origin, err error) {
	for i, q := range wanted {
		switch {
		case err != nil:
			q.done <- err
		case how == bootstrapped && i == 0:
			q.done <- nil
		default:
			q.done <- errAlreadyInitialized
		}
	}
}

// joinRequest is what this node says of itself.
func (c *cluster) joinRequest(ident kvserver.Ident) noderpc.JoinRequest {
	return noderpc.JoinRequest{
		ClusterID: ident.ClusterID, NodeID: ident.NodeID, StoreID: ident.StoreID, Address: c.advertise, SQLAddress: c.sqlAdvertise,
		Locality: c.n.cfg.Locality.String(), Attrs: c.n.cfg.Attrs, Version: c.n.cfg.Version,
		ClusterName: c.n.cfg.ClusterName, AnyClusterName: c.n.cfg.AnyClusterName,
	}
}

// askForPlace asks one peer after the other to let the node in, and returns the
// identity that its store then has. It is zero if nobody could.
func (c *cluster) askForPlace(ctx context.Context, peers []string) (kvserver.Ident, error) {
	for _, address := range peers {
		resp, err := c.ask(ctx, address, kvserver.Ident{})
		switch {
		case ctx.Err() != nil:
			return kvserver.Ident{}, ctx.Err()
		case errors.Is(err, noderpc.ErrClockOffset):
			return kvserver.Ident{}, fmt.Errorf("%w: %w", errClock(c.clock.MaxOffset()), err)
		case pgerr.GetCode(err) == codeClusterName:
			return kvserver.Ident{}, err
		case err != nil:
			c.noteUnanswered(address, err)
			continue
		}
		ident := kvserver.Ident{ClusterID: resp.ClusterID, NodeID: resp.NodeID, StoreID: resp.StoreID}
		if err := kvserver.Join(c.n.engine, ident); err != nil {
			return kvserver.Ident{}, fmt.Errorf("--store: %w", err)
		}
		c.setFirstRange(resp.FirstRange)
		return ident, nil
	}
	return kvserver.Ident{}, nil
}

// noteUnanswered logs, once for each, why nobody could be joined at an address: it
// may be the wrong one.
func (c *cluster) noteUnanswered(address string, err error) {
	if isWaiting(err) || c.unanswered[address] {
		c.n.log.Debug("asking for a place in the cluster", "peer", address, "err", err)
		return
	}
	if c.unanswered == nil {
		c.unanswered = map[string]bool{}
	}
	c.unanswered[address] = true
	c.n.log.Warn("nobody can be joined at one of the --join addresses; will go on trying", "peer", address, "err", err)
}

func (c *cluster) ask(ctx context.Context, address string, ident kvserver.Ident) (noderpc.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	return c.dialer.Join(ctx, address, c.joinRequest(ident))
}

// rejoin asks the others whether the identity that the store has still holds. If
// none of them answers, it does: they may be about to start, too.
func (c *cluster) rejoin(ctx context.Context, ident kvserver.Ident, peers []string) error {
	for deadline := time.Now().Add(replacedPatience); ; {
		err := c.confirm(ctx, ident, peers)
		if pgerr.GetCode(err) != pgerr.ObjectInUse || time.Now().After(deadline) {
			return err
		}
		c.n.log.Info("waiting for this node's former process to be forgotten", "err", err)
		select {
		case <-time.After(joinInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirm asks all peers at once. A refusal is more than an approval: of several
// peers one may know better.
func (c *cluster) confirm(ctx context.Context, ident kvserver.Ident, peers []string) error {
	var mu sync.Mutex
	var refused error
	var asking sync.WaitGroup
	for _, address := range peers {
		asking.Go(func() {
			resp, err := c.ask(ctx, address, ident)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				c.setFirstRange(resp.FirstRange)
			case errors.Is(err, noderpc.ErrWrongPeer):
				refused = err
			case errors.Is(err, noderpc.ErrClockOffset):
				refused = fmt.Errorf("%w: %w", errClock(c.clock.MaxOffset()), err)
			case pgerr.GetCode(err) == codeClusterName:
				refused = err
			case pgerr.GetCode(err) == pgerr.ObjectInUse || pgerr.GetCode(err) == pgerr.ObjectNotInPrerequisiteState:
				refused = err
			default:
				c.n.log.Info("a node to join through does not answer", "peer", address, "err", err)
			}
		})
	}
	asking.Wait()
	if refused == nil {
		return ctx.Err()
	}
	return refused
}

// admit answers another node that wants to be part of the cluster.
func (c *cluster) admit(ctx context.Context, req noderpc.JoinRequest) (noderpc.JoinResponse, error) {
	if !req.AnyClusterName && !c.n.cfg.AnyClusterName {
		if err := checkClusterName(req.ClusterName, c.n.cfg.ClusterName); err != nil {
			return noderpc.JoinResponse{}, err
		}
	}
	select {
	case <-c.opened:
	default:
		if req.InitWithdrawn {
			c.claim.withdrawn(req.InitClaim)
			return noderpc.JoinResponse{}, errNotInitialized()
		}
		if c.ident.Load().NodeID == 0 && (req.InitClaim == "" || c.claim.yield(req.InitClaim)) {
			return noderpc.JoinResponse{}, errNotInitialized()
		}
		return noderpc.JoinResponse{}, pgerr.New(pgerr.CannotConnectNow, "the node is starting")
	}
	resp := noderpc.JoinResponse{ClusterID: c.n.ident.ClusterID, NodeID: req.NodeID, StoreID: req.StoreID}
	if req.NodeID != 0 {
		if err := c.confirmNode(ctx, req); err != nil {
			return resp, err
		}
	} else {
		node, err := c.allocate(ctx, nodeIDGenerator)
		if err != nil {
			return resp, err
		}
		store, err := c.allocate(ctx, storeIDGenerator)
		if err != nil {
			return resp, err
		}
		resp.NodeID, resp.StoreID = kvpb.NodeID(node), kvpb.StoreID(store)
	}
	d, err := c.n.store.LookupRange(ctx, nil, false)
	if err != nil {
		return resp, err
	}
	resp.FirstRange, err = kvpb.EncodeDescriptor(d)
	if err == nil && req.NodeID == 0 {
		c.n.log.Info("a new node joins", "node_id", resp.NodeID, "address", req.Address)
	}
	return resp, err
}

// confirmNode says whether a process may be a node that was part of the cluster
// before.
func (c *cluster) confirmNode(ctx context.Context, req noderpc.JoinRequest) error {
	if req.NodeID == c.n.ident.NodeID {
		return pgerr.Newf(pgerr.ObjectInUse, "n%d runs already, at %s", req.NodeID, c.advertise).WithHint("%s", hintCopy)
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout/3)
	defer cancel()
	r, err := liveness.Read(ctx, c.n.db, req.NodeID)
	if errors.Is(err, liveness.ErrNoRecord) {
		return nil
	}
	if err != nil {
		// Without the records nobody knows; the process will find out by itself.
		c.n.log.Warn("reading the liveness record of a node that joins", "node_id", req.NodeID, "err", err)
		return nil
	}
	err = liveness.CheckStart(r, req.Address, c.clock.PhysicalTime())
	switch {
	case errors.Is(err, liveness.ErrReplaced):
		return pgerr.Newf(pgerr.ObjectInUse, "%w", err).WithHint("%s", hintCopy)
	case errors.Is(err, liveness.ErrDecommissioned):
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "%w", err).WithHint("Start a new node with an empty store.")
	}
	return err
}

const hintCopy = "Was the store's directory copied? Each node needs a store of its own."
