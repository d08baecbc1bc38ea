package kvserver

import (
	"context"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvserver/raftgroup"
)

// An orphan is a replica that was taken out of its range without having heard of it:
// its store was down, or what it was told got lost. Raft does not speak with it any
// more.

const (
	// orphanTicks is how many publishIntervals lie between two looks for orphans.
	orphanTicks = 5
	// orphanTurns is how many looks it takes until each sleeping replica had its turn.
	orphanTurns = 60
)

// removeOrphans removes the replicas that are not in their range's descriptor any
// more. It asks about those that miss their leader and, since those of an idle range
// miss nobody, about the ones that sleep in turn.
func (s *Store) removeOrphans(ctx context.Context) {
	turn := s.orphanTurn.Add(1)
	s.forgetBlanks()
	_ = s.eachReplica(func(r *Replica) error {
		g := r.group.Load()
		// One that is frozen may lead others that were absorbed long ago.
		asleep := g != nil && g.Quiesced() && (int64(r.id)+turn)%orphanTurns == 0
		if g == nil || r.frozen.Load() == nil && (g.Status().IsLeader() || !missesLeader(g) && !asleep) {
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		mine := r.Desc()
		d, err := s.LookupRange(ctx, mine.StartKey, false)
		if err != nil || d.Generation <= mine.Generation || !d.ContainsKey(mine.StartKey) {
			return nil // Nothing newer is known.
		}
		if me, ok := d.ReplicaOn(s.ident.StoreID); d.RangeID == r.id && ok && me.ReplicaID == r.replicaID {
			return nil
		}
		if d.RangeID != r.id && s.willAbsorb(r) {
			return nil
		}
		s.removeReplica(ctx, r, r.replicaID+1)
		return nil
	})
}

// willAbsorb says whether r is frozen and the replica here of the range that froze it
// has not come as far as to absorb it: then that needs it.
func (s *Store) willAbsorb(r *Replica) bool {
	f := r.frozen.Load()
	if f == nil {
		return false
	}
	left := s.replica(f.by)
	return left != nil && left.Desc().Generation <= f.claim || s.blank(f.by) != nil
}

// missesLeader says whether nobody leads the group, as far as is known here. A replica
// without a vote never asks for another leader: it goes on believing in the one it had.
func missesLeader(g *raftgroup.Group) bool { return g.Status().Leader == 0 || g.Forsaken() }

// forgetBlanks stops the groups of blank replicas that nobody talks to. What they
// promised is on disk, and they come back if somebody does.
func (s *Store) forgetBlanks() {
	s.arriving.Lock()
	defer s.arriving.Unlock()
	s.replicas.Lock()
	var idle []*Replica
	for id, r := range s.replicas.blank {
		_, coming := s.replicas.reserved[id] // By a snapshot.
		if g := r.group.Load(); g != nil && !coming && g.Forsaken() {
			idle = append(idle, r)
		}
	}
	s.replicas.Unlock()
	for _, r := range idle {
		s.forget(r)
	}
}
