package sql

import (
	"context"
	"time"

	"github.com/holdfastdb/holdfast/sql/catalog"
)

// Join makes the server one of several over the same keyspace: from here on it
// learns of what others change before it matters, and they of what it changes. It
// comes before the first session; the caller runs Peers.Run and, in the end, calls
// Peers.Leave. change, which may be nil, is for tests.
func (s *Server) Join(ctx context.Context, change func(*catalog.PeersConfig)) (*catalog.Peers, error) {
	cfg := catalog.DefaultPeersConfig()
	cfg.DB, cfg.NodeID, cfg.Log = s.db, s.cfg.NodeID, s.log
	cfg.Begin, cfg.End = s.beginForeignChange, s.endForeignChange
	if change != nil {
		change(&cfg)
	}
	p, err := s.catalog.Join(ctx, cfg)
	s.peers = p
	return p, err
}

// beginForeignChange is called before another node changes something that this one
// remembers, or, of cluster settings, right after.
func (s *Server) beginForeignChange(ctx context.Context, what catalog.Signals) error {
	if what&(catalog.RolesChange|catalog.EverythingChange) != 0 {
		s.roles.suspend()
	}
	if what&catalog.JobsChange != 0 && s.cfg.Jobs != nil {
		s.cfg.Jobs.Wake()
	}
	if what&catalog.ZonesChange != 0 {
		s.forgetZones()
	}
	if what&(catalog.SettingsChange|catalog.EverythingChange) != 0 {
		return s.LoadSettings(ctx)
	}
	return nil
}

// JobsChanged lets the job registries of other nodes look for work.
func (s *Server) JobsChanged() {
	if s.peers != nil {
		s.peers.Poke(catalog.JobsChange)
	}
}

// IsMember says whether a node of this id serves SQL now.
func (s *Server) IsMember(node int32) bool {
	if s.peers == nil || node == s.cfg.NodeID {
		return node == s.cfg.NodeID
	}
	ctx, cancel := context.WithTimeout(context.Background(), memberTimeout)
	defer cancel()
	ok, err := s.peers.HasNode(ctx, node)
	if err != nil {
		s.log.WarnContext(ctx, "looking for a node", "node", node, "err", err)
	}
	return ok
}

// memberTimeout bounds a look that only decides how an error is worded.
const memberTimeout = 2 * time.Second

// endForeignChange is called after it.
func (s *Server) endForeignChange(ctx context.Context, what catalog.Signals) error {
	if what&(catalog.RolesChange|catalog.EverythingChange) != 0 {
		s.roles.resume()
	}
	if what&catalog.EverythingChange != 0 {
		s.forgetZones()
		return s.LoadSettings(ctx)
	}
	return nil
}

// tellTimeout bounds how long a statement waits for other nodes to hear of what it
// has changed already. It is more than a lease lasts: who has not heard of it then
// has lost its lease, and forgets everything when it gets another one.
const tellTimeout = 20 * time.Second

// tell lets the other nodes know of a change that is committed.
func (s *Server) tell(ctx context.Context, what catalog.Signals) {
	if s.peers == nil {
		return
	}
	if err := s.peers.Tell(ctx, what, tellTimeout); err != nil {
		s.log.WarnContext(ctx, "telling other nodes of a change", "err", err)
	}
}
