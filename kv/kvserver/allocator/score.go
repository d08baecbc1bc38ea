package allocator

import (
	"math"
	"slices"
)

// member is a replica of an arrangement.
type member struct {
	store *Store
	voter bool
}

// score says how good an arrangement is. Of two, the one is better that has the
// smaller unmet; then the one with the larger voterDiversity, then diversity; then
// the smaller load.
type score struct {
	unmet                     int
	voterDiversity, diversity float64
	load                      float64 // of its fullest stores, see relativeLoad
}

// epsilon is what floating point numbers may differ by and be the same.
const epsilon = 1e-9

// rank compares all but load: negative if a is better.
func (a score) rank(b score) int {
	switch {
	case a.unmet != b.unmet:
		return a.unmet - b.unmet
	case math.Abs(a.voterDiversity-b.voterDiversity) > epsilon:
		if a.voterDiversity > b.voterDiversity {
			return -1
		}
		return 1
	case math.Abs(a.diversity-b.diversity) > epsilon:
		if a.diversity > b.diversity {
			return -1
		}
		return 1
	}
	return 0
}

// better says whether a is better than b.
func (a score) better(b score) bool {
	if c := a.rank(b); c != 0 {
		return c < 0
	}
	return a.load < b.load-epsilon
}

func (p *problem) score(ms []member) score {
	voters := make([]*Store, 0, len(ms))
	all := make([]*Store, 0, len(ms))
	s := score{unmet: unmet(p.demands, ms)}
	for _, m := range ms {
		all = append(all, m.store)
		s.load += p.load(m.store)
		if m.voter {
			voters = append(voters, m.store)
		}
	}
	s.voterDiversity, s.diversity = diversity(voters), diversity(all)
	return s
}

// diversity is the mean over all pairs of how different two localities are: one if
// they differ in the first tier, zero if they are the same.
func diversity(stores []*Store) float64 {
	sum, n := 0.0, 0
	for i, a := range stores {
		for _, b := range stores[i+1:] {
			sum += distance(a.Locality, b.Locality)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / float64(n)
}

func distance(a, b []Tier) float64 {
	longest := max(len(a), len(b))
	if longest == 0 {
		return 0
	}
	shared := 0
	for shared < min(len(a), len(b)) && a[shared] == b[shared] {
		shared++
	}
	return 1 - float64(shared)/float64(longest)
}

// Limits of what a store can take, as fractions of it.
const (
	// fullest: nothing new comes to a store that is fuller.
	fullest = 0.95
	// settled: nothing moves to a store that is fuller, only to even out the load.
	settled = 0.85
	// bytesMatter: below that, on the average of all stores, bytes hardly count.
	bytesMatter = 0.05
	// loadThreshold is by how much the loads of two stores differ before anything
	// moves. The average load is one.
	loadThreshold = 0.10
)

// load is how much a store has in comparison with the average: half of it by
// ranges, half by bytes. The averages stay what they are when a replica moves, so
// that a move from a store with more to one that still has less afterwards makes the
// loads more even, and there is an end to such moves.
func (p *problem) load(s *Store) float64 {
	return 0.5*float64(s.Ranges)/p.meanRanges + 0.5*s.Used()/p.meanUsed
}

// weight is what a replica of the range adds to the load of a store.
func (p *problem) weight(s *Store) float64 {
	w := 0.5 / p.meanRanges
	if s.Capacity > 0 {
		w += 0.5 * float64(p.r.Bytes) / float64(s.Capacity) / p.meanUsed
	}
	return w
}

// setMeans finds what loads are compared with.
func (p *problem) setMeans() {
	n, ranges, leases := 0, 0, 0
	var capacity, available int64
	for _, s := range p.present {
		n++
		ranges += s.Ranges
		leases += s.Leases
		capacity += s.Capacity
		available += s.Available
	}
	p.meanRanges, p.meanLeases, p.meanUsed = 1, 1, bytesMatter
	if n > 0 {
		p.meanRanges = max(1, float64(ranges)/float64(n))
		p.meanLeases = max(1, float64(leases)/float64(n))
	}
	if capacity > 0 {
		p.meanUsed = max(bytesMatter, 1-float64(available)/float64(capacity))
	}
}

// with returns ms and one more.
func with(ms []member, s *Store, voter bool) []member {
	return append(slices.Clone(ms), member{s, voter})
}

// without returns ms but for the member on s.
func without(ms []member, s *Store) []member {
	return slices.DeleteFunc(slices.Clone(ms), func(m member) bool { return m.store == s })
}
