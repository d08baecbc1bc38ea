package allocator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// simulation is a cluster in which actions succeed at once.
type simulation struct {
	t      *testing.T
	rng    *rand.Rand
	stores []Store
	ranges []*Range
	zones  []*zones.Config // of ranges
	log    []string
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
	regions := 1 + s.rng.IntN(4)
	for i := range 3 + s.rng.IntN(9) {
		s.addStore(fmt.Sprint("r", i%regions))
	}
	choices := []string{
		"replicas=3", "replicas=3", "replicas=5", "replicas=1", "replicas=5;voters=3", "replicas=3;constraints=[+region=r0]", "replicas=3;constraints=[-region=r1]",
		"replicas=3;constraints={+region=r0: 1, +region=r1: 1}", "replicas=5;voters=3;constraints={+region=r0: 1, +region=r1: 1, +region=r2: 1};voter_constraints=[+region=r0];lease=[[+region=r0]]",
		"replicas=5;constraints={+region=r1: 2};lease=[[+region=r9], [+region=r1]]", "replicas=3;constraints=[+ssd]", "replicas=4",
		"replicas=6;voters=5;voter_constraints={+region=r0: 2}",
	}
	for range 5 + s.rng.IntN(60) {
		at := s.rng.IntN(len(s.stores))
		st := &s.stores[at]
		d := &kvpb.RangeDescriptor{RangeID: kvpb.RangeID(len(s.ranges) + 1), Replicas: []kvpb.ReplicaDescriptor{{NodeID: st.NodeID, StoreID: st.StoreID}}}
		s.ranges = append(s.ranges, &Range{Desc: d, Leaseholder: st.StoreID, Bytes: s.rng.Int64N(1 << 20)})
		s.zones = append(s.zones, parseZone(t, choices[s.rng.IntN(len(choices))]))
	}
	s.count()
	return s
}

func (s *simulation) addStore(region string) {
	id := len(s.stores) + 1
	st := Store{
		NodeID: kvpb.NodeID(id), StoreID: kvpb.StoreID(id), Capacity: 1 << 30, Available: 1 << 30,
		Locality: []Tier{{"region", region}, {"az", fmt.Sprint("z", s.rng.IntN(3))}},
	}
	if s.rng.IntN(2) == 0 {
		st.Attrs = []string{"ssd"}
	}
	s.stores = append(s.stores, st)
}

func (s *simulation) store(id kvpb.StoreID) *Store { return &s.stores[id-1] }

// count sets what stores say of themselves.
func (s *simulation) count() {
	for i := range s.stores {
		s.stores[i].Ranges, s.stores[i].Leases, s.stores[i].Available = 0, 0, s.stores[i].Capacity
	}
	for _, r := range s.ranges {
		for _, d := range r.Desc.Replicas {
			s.store(d.StoreID).Ranges++
			s.store(d.StoreID).Available -= r.Bytes
		}
		s.store(r.Leaseholder).Leases++
	}
}

func (s *simulation) live(r *Range) (live, voters int) {
	for _, d := range r.Desc.Replicas {
		if d.Type == kvpb.ReplicaVoter {
			voters++
			if s.store(d.StoreID).Liveness == Live {
				live++
			}
		}
	}
	return live, voters
}

func (s *simulation) fatalf(r *Range, format string, args ...any) {
	s.t.Helper()
	for _, l := range s.log[max(0, len(s.log)-40):] {
		s.t.Log(l)
	}
	for _, st := range s.stores {
		s.t.Logf("%+v", st)
	}
	s.t.Logf("%+v %+v, lease %d", r.Desc.Replicas, s.zones[r.Desc.RangeID-1], r.Leaseholder)
	s.t.Fatalf(format, args...)
}

// do carries out a as a range would, and checks that it is safe.
func (s *simulation) do(r *Range, a Action) {
	s.t.Helper()
	s.log = append(s.log, fmt.Sprintf("r%d: %s", r.Desc.RangeID, a))
	if a.Kind == TransferLease {
		d, ok := r.Desc.ReplicaOn(a.To)
		if !ok || d.Type != kvpb.ReplicaVoter || s.store(a.To).Liveness != Live || s.store(a.To).Draining {
			s.fatalf(r, "%s: not a place for a lease", a)
		}
		r.Leaseholder = a.To
		s.count()
		return
	}
	for _, add := range a.Add {
		st := s.store(add.StoreID)
		if i := slices.IndexFunc(r.Desc.Replicas, func(d kvpb.ReplicaDescriptor) bool { return d.StoreID == add.StoreID }); i >= 0 {
			if add.Type == kvpb.ReplicaNonVoter && r.Leaseholder == add.StoreID {
				s.fatalf(r, "%s: the leaseholder is to lose its vote", a)
			}
			r.Desc.Replicas[i].Type = add.Type
		} else {
			if st.Liveness != Live || st.Draining || st.Decommissioning {
				s.fatalf(r, "%s: not a place for a replica", a)
			}
			for _, d := range r.Desc.Replicas {
				if d.NodeID == add.NodeID {
					s.fatalf(r, "%s: a second replica on the node", a)
				}
			}
			for _, j := range s.zones[r.Desc.RangeID-1].Constraints {
				for _, c := range j.Constraints {
					if c.Prohibited && !st.matches(c) {
						s.fatalf(r, "%s: it is prohibited there", a)
					}
				}
			}
			r.Desc.Replicas = append(r.Desc.Replicas, add)
		}
		s.checkQuorum(r, a)
	}
	for _, id := range a.Remove {
		if id == r.Leaseholder {
			s.fatalf(r, "%s: the leaseholder is to be removed", a)
		}
		n := len(r.Desc.Replicas)
		r.Desc.Replicas = slices.DeleteFunc(r.Desc.Replicas, func(d kvpb.ReplicaDescriptor) bool { return d.StoreID == id })
		if len(r.Desc.Replicas) != n-1 {
			s.fatalf(r, "%s: there is no such replica", a)
		}
		s.checkQuorum(r, a)
	}
	s.count()
}

func (s *simulation) checkQuorum(r *Range, a Action) {
	s.t.Helper()
	if live, n := s.live(r); live < quorum(n) {
		s.fatalf(r, "%s: leaves %d of %d voters alive", a, live, n)
	}
}

// settle takes steps, for ranges in any order, until nobody has any.
func (s *simulation) settle() {
	s.t.Helper()
	for round := 0; ; round++ {
		busy := false
		for _, i := range s.rng.Perm(len(s.ranges)) {
			r := s.ranges[i]
			if live, n := s.live(r); live < quorum(n) {
				continue
			}
			if s.store(r.Leaseholder).Liveness != Live { // Somebody else took it.
				for _, d := range r.Desc.Replicas {
					if d.Type == kvpb.ReplicaVoter && s.store(d.StoreID).Liveness == Live {
						r.Leaseholder = d.StoreID
					}
				}
				s.count()
			}
			if a, _ := Decide(*r, s.zones[i], s.stores); a.Kind != None {
				busy = true
				s.do(r, a)
				if round == 100 {
					s.fatalf(r, "r%d still has something to do after %d rounds: %s", r.Desc.RangeID, round, a)
				}
			}
		}
		if !busy {
			return
		}
	}
}

// check compares where everything is with what the zones want.
func (s *simulation) check() {
	s.t.Helper()
	present, unsettled := 0, false
	for _, st := range s.stores {
		if st.Liveness != Dead && !st.Decommissioning && !st.Draining {
			present++
		}
		unsettled = unsettled || st.Liveness == Suspect || st.Draining
	}
	for i, r := range s.ranges {
		p := newProblem(*r, s.zones[i], s.stores)
		if p.live() < quorum(len(p.voters)) || unsettled {
			continue
		}
		prohibits := slices.ContainsFunc(p.demands, func(d demand) bool { return d.all && d.constraints[0].Prohibited })
		hard := slices.ContainsFunc(p.demands, func(d demand) bool { return d.hard })
		if present >= p.numReplicas && !prohibits {
			for _, v := range p.violations() {
				// Demands that can be met each by itself need not go together.
				if v.Kind == Unmet && (!hard || len(p.demands) > 1) || v.Kind == Unmet && !p.demands[0].hard {
					continue
				}
				if v.Kind == UnderReplicated && len(p.demands) > 1 {
					continue
				}
				s.fatalf(r, "r%d has %+v", r.Desc.RangeID, v)
			}
			for _, d := range r.Desc.Replicas {
				if st := s.store(d.StoreID); (st.Decommissioning || st.Liveness == Dead) && len(p.demands) < 2 {
					s.fatalf(r, "r%d is still on s%d", r.Desc.RangeID, d.StoreID)
				}
			}
		}
		if class := p.leaseStores(nil); len(class) > 0 && !slices.Contains(class, s.store(r.Leaseholder)) {
			s.fatalf(r, "r%d is served by s%d", r.Desc.RangeID, r.Leaseholder)
		}
	}
}

// TestConvergence lets random clusters settle, changes something, and again. Each
// step is safe, there is an end to them, and then all is as it should be.
func TestConvergence(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newSimulation(t, seed)
			s.settle()
			s.check()
			for range 6 {
				st := &s.stores[s.rng.IntN(len(s.stores))]
				switch s.rng.IntN(7) {
				case 0:
					st.Liveness = Dead
				case 1:
					st.Liveness = Suspect
				case 2:
					st.Decommissioning = true
				case 3:
					st.Draining = !st.Draining
				case 4:
					s.addStore(fmt.Sprint("r", s.rng.IntN(4)))
				default:
					st.Liveness, st.Decommissioning = Live, false
				}
				s.settle()
				s.check()
			}
		})
	}
}

// TestBalance begins with everything in one store of several that are alike.
func TestBalance(t *testing.T) {
	s := &simulation{t: t, rng: rand.New(rand.NewPCG(7, 7))}
	for range 5 {
		s.addStore("r")
		s.stores[len(s.stores)-1].Locality = nil
	}
	for i := range 200 {
		d := &kvpb.RangeDescriptor{RangeID: kvpb.RangeID(i + 1), Replicas: []kvpb.ReplicaDescriptor{{NodeID: 1, StoreID: 1}}}
		s.ranges = append(s.ranges, &Range{Desc: d, Leaseholder: 1, Bytes: 1 << 10})
		s.zones = append(s.zones, parseZone(t, "replicas=3"))
	}
	s.count()
	s.settle()
	even := func(n int) {
		t.Helper()
		for _, st := range s.stores {
			if want := 600 / n; st.Ranges < want*85/100 || st.Ranges > want*115/100 {
				t.Errorf("s%d has %d ranges of 600", st.StoreID, st.Ranges)
			}
			if want := 200 / n; st.Leases < want*80/100 || st.Leases > want*120/100 {
				t.Errorf("s%d has %d leases of 200", st.StoreID, st.Leases)
			}
		}
	}
	even(5)
	s.addStore("r")
	s.stores[5].Locality = nil
	s.log = nil
	s.settle()
	even(6)
	if n := len(s.log); n > 250 {
		t.Errorf("%d steps to fill a new store with 100 ranges", n)
	}
}

// TestHerdSettles has all stores decide at once, each by what was known before the
// others' steps: what one would do for all of them must not be done by each.
func TestHerdSettles(t *testing.T) {
	for seed := range uint64(20) {
		s := &simulation{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
		for range 6 {
			s.addStore("r")
			s.stores[len(s.stores)-1].Locality = nil
		}
		for i := range 20 { // Leases stay on the first three, one replica moves among the others.
			d := &kvpb.RangeDescriptor{RangeID: kvpb.RangeID(i + 1)}
			for _, id := range []int{1 + i%3, 4} {
				d.Replicas = append(d.Replicas, kvpb.ReplicaDescriptor{NodeID: kvpb.NodeID(id), StoreID: kvpb.StoreID(id)})
			}
			s.ranges = append(s.ranges, &Range{Desc: d, Leaseholder: kvpb.StoreID(1 + i%3), Bytes: 1 << 10})
			s.zones = append(s.zones, parseZone(t, "replicas=2"))
		}
		s.count()
		const rounds = 200
		for round := 0; s.herdStep(); round++ {
			if round == rounds {
				for _, l := range s.log[len(s.log)-20:] {
					t.Log(l)
				}
				t.Fatalf("seed %d: no end after %d rounds and %d steps", seed, rounds, len(s.log))
			}
		}
		if len(s.log) > 60 {
			t.Errorf("seed %d: %d steps", seed, len(s.log))
		}
	}
}

// herdStep lets each store take one step for load, and says whether any wanted to.
func (s *simulation) herdStep() (busy bool) {
	seen := slices.Clone(s.stores)
	type step struct {
		r *Range
		a Action
	}
	var steps []step
	for _, st := range seen {
		for _, i := range s.rng.Perm(len(s.ranges)) {
			r := s.ranges[i]
			if r.Leaseholder != st.StoreID {
				continue
			}
			a, _ := Decide(*r, s.zones[i], seen)
			if a.Kind == None {
				continue
			}
			busy = true
			if s.rng.Float64() < a.Chance(len(seen)) {
				steps = append(steps, step{r, a})
			}
			break
		}
	}
	for _, st := range steps {
		s.do(st.r, st.a)
	}
	return busy
}

// TestScatter puts ranges anywhere, but nowhere where they must not be.
func TestScatter(t *testing.T) {
	s := newSimulation(t, 3)
	s.settle()
	s.check()
	moved := 0
	for i, r := range s.ranges {
		before := newProblem(*r, s.zones[i], s.stores).violations()
		for _, a := range Scatter(*r, s.zones[i], s.stores, s.rng) {
			s.do(r, a)
			moved++
		}
		if after := newProblem(*r, s.zones[i], s.stores).violations(); len(after) > len(before) {
			s.fatalf(r, "scattered r%d has %+v, and had %+v", r.Desc.RangeID, after, before)
		}
	}
	if moved == 0 {
		t.Error("nothing was scattered")
	}
}
