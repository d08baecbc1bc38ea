package allocator

import (
	"math/rand/v2"
	"slices"

	"github.com/holdfastdb/holdfast/internal/zones"
)

// leaseThreshold is by how much the numbers of leases of two stores differ before
// one moves, as a fraction of the average; and it is never less than leaseStep.
const (
	leaseThreshold = 0.10
	leaseStep      = 2
)

// leaseStores are the stores that may serve the range and are equally good at it:
// those of the first preference that any of them satisfies. except is not one of them.
func (p *problem) leaseStores(except *Store) []*Store {
	eligible := slices.DeleteFunc(slices.Clone(p.voters), func(s *Store) bool {
		return s == except || s.Liveness != Live || s.Draining || s.Decommissioning
	})
	for _, pref := range p.z.LeasePreferences {
		var out []*Store
		for _, s := range eligible {
			if s.Matches(pref) {
				out = append(out, s)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return eligible
}

func fewestLeases(ss []*Store) *Store {
	var best *Store
	for _, s := range ss {
		if best == nil || s.Leases < best.Leases {
			best = s
		}
	}
	return best
}

// handOver gives the lease to any other store than from.
func (p *problem) handOver(why Purpose, from *Store) Action {
	if to := fewestLeases(p.leaseStores(from)); to != nil {
		return Action{Kind: TransferLease, Purpose: why, To: to.StoreID}
	}
	return Action{}
}

// moveLease brings the lease to where it is preferred, and away from stores that
// drain; then it evens out how many each store has.
func (p *problem) moveLease() Action {
	holder := p.stores[p.r.Leaseholder]
	class := p.leaseStores(nil)
	best := fewestLeases(class)
	if holder == nil || best == nil {
		return Action{}
	}
	if !slices.Contains(class, holder) {
		return Action{Kind: TransferLease, Purpose: MoveLease, To: best.StoreID}
	}
	if more := float64(holder.Leases - best.Leases); more > max(leaseStep, leaseThreshold*p.meanLeases) {
		return Action{Kind: TransferLease, Purpose: RebalanceLease, To: best.StoreID, Moves: more / 2}
	}
	return Action{}
}

// Scatter returns steps that put the replicas of a range and its lease at random
// where they may be, without making anything worse but the load.
func Scatter(r Range, z *zones.Config, stores []Store, rng *rand.Rand) []Action {
	var out []Action
	d := *r.Desc
	d.Replicas = slices.Clone(d.Replicas)
	r.Desc = &d
	p := newProblem(r, z, stores)
	if p.unwell() {
		return nil
	}
	for _, x := range slices.Clone(d.Replicas) {
		now, moves := p.moves()
		var may []*move
		for i := range moves {
			if m := &moves[i]; m.from.StoreID == x.StoreID && !m.swap && m.after.rank(now) <= 0 && m.from.StoreID != r.Leaseholder {
				may = append(may, m)
			}
		}
		n := rng.IntN(len(may) + 1)
		if n == len(may) {
			continue // It stays.
		}
		m := may[n]
		out = append(out, p.make(Rebalance, m))
		for i := range d.Replicas {
			if d.Replicas[i].StoreID == m.from.StoreID {
				d.Replicas[i] = replicaOn(m.to, typeOf(m.voter))
			}
		}
		p = newProblem(r, z, stores)
	}
	if class := p.leaseStores(nil); len(class) > 0 {
		if to := class[rng.IntN(len(class))]; to.StoreID != r.Leaseholder {
			out = append(out, Action{Kind: TransferLease, Purpose: RebalanceLease, To: to.StoreID})
		}
	}
	return out
}
