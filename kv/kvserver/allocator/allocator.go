package allocator

import (
	"cmp"
	"slices"

	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// problem is a range, what is wanted of it, and where it could be.
type problem struct {
	r                      Range
	z                      *zones.Config
	numVoters, numReplicas int

	stores  map[kvpb.StoreID]*Store
	present []*Store // neither dead nor about to leave
	demands []demand

	voters, nonVoters, learners []*Store

	meanRanges, meanLeases, meanUsed float64
}

// newProblem takes in what Decide is told. z has all its fields set.
func newProblem(r Range, z *zones.Config, stores []Store) *problem {
	p := &problem{r: r, z: z, stores: map[kvpb.StoreID]*Store{}, numVoters: 1, numReplicas: 1}
	if z.NumReplicas != nil {
		p.numReplicas = int(*z.NumReplicas)
	}
	p.numVoters = p.numReplicas
	if z.NumVoters != nil {
		p.numVoters = min(int(*z.NumVoters), p.numReplicas)
	}
	for i := range stores {
		s := &stores[i]
		p.stores[s.StoreID] = s
		if s.Liveness != Dead && !s.Decommissioning {
			p.present = append(p.present, s)
		}
	}
	slices.SortFunc(p.present, func(a, b *Store) int { return cmp.Compare(a.StoreID, b.StoreID) })
	for _, d := range r.Desc.Replicas {
		s := p.stores[d.StoreID]
		if s == nil {
			s = &Store{NodeID: d.NodeID, StoreID: d.StoreID, Liveness: Suspect}
			p.stores[d.StoreID] = s
		}
		switch d.Type {
		case kvpb.ReplicaVoter:
			p.voters = append(p.voters, s)
		case kvpb.ReplicaNonVoter:
			p.nonVoters = append(p.nonVoters, s)
		default:
			p.learners = append(p.learners, s)
		}
	}
	p.demands = demandsOf(z, p.numVoters, p.numReplicas, p.present)
	p.setMeans()
	return p
}

// Decide returns the step that a range needs most, None if it is well placed, and
// what is wrong with it, which need not be something that can be helped.
func Decide(r Range, z *zones.Config, stores []Store) (Action, []Violation) {
	p := newProblem(r, z, stores)
	v := p.violations()
	if p.live() < quorum(len(p.voters)) {
		return Action{}, v
	}
	for _, step := range []func() Action{
		p.cleanUp, p.replaceDead, p.upReplicate, p.decommission, p.removeSurplus, p.improve, p.rebalance, p.moveLease,
	} {
		if a := step(); a.Kind != None {
			return a, v
		}
	}
	return Action{}, v
}

func quorum(n int) int { return n/2 + 1 }

// live counts the voters that answer.
func (p *problem) live() int {
	return count(p.voters, func(s *Store) bool { return s.Liveness == Live })
}

func count(ss []*Store, fn func(*Store) bool) (n int) {
	for _, s := range ss {
		if fn(s) {
			n++
		}
	}
	return n
}

func isDead(s *Store) bool    { return s.Liveness == Dead }
func isLeaving(s *Store) bool { return s.Decommissioning && s.Liveness != Dead }

// kept is the arrangement without what is dead or leaves.
func (p *problem) kept() []member {
	var ms []member
	for _, s := range p.voters {
		if !isDead(s) && !isLeaving(s) {
			ms = append(ms, member{s, true})
		}
	}
	for _, s := range p.nonVoters {
		if !isDead(s) && !isLeaving(s) {
			ms = append(ms, member{s, false})
		}
	}
	return ms
}

func (p *problem) nonVotersWanted() int { return p.numReplicas - p.numVoters }

func votersIn(ms []member) (n int) {
	for _, m := range ms {
		if m.voter {
			n++
		}
	}
	return n
}

func (p *problem) violations() []Violation {
	var out []Violation
	if p.live() < quorum(len(p.voters)) {
		out = append(out, Violation{Kind: Unavailable, Missing: quorum(len(p.voters)) - p.live()})
	}
	alive := len(p.voters) - count(p.voters, isDead)
	others := len(p.nonVoters) - count(p.nonVoters, isDead)
	if missing := max(0, p.numVoters-alive) + max(0, p.nonVotersWanted()-others); missing > 0 {
		out = append(out, Violation{Kind: UnderReplicated, Missing: missing})
	}
	if over := max(0, len(p.voters)-p.numVoters) + max(0, len(p.nonVoters)-p.nonVotersWanted()); over > 0 {
		out = append(out, Violation{Kind: OverReplicated, Missing: over})
	}
	ms := p.kept()
	for i := range p.demands {
		if n := p.demands[i].missing(ms); n > 0 {
			out = append(out, Violation{Kind: Unmet, Constraint: p.demands[i].text, Missing: n})
		}
	}
	return out
}

// candidates are the stores that could get a new replica: each on a node that has
// none. With promote, also those that have a non-voter, which would become a voter.
func (p *problem) candidates(promote bool) []*Store {
	taken := map[kvpb.NodeID]bool{}
	for _, s := range slices.Concat(p.voters, p.nonVoters, p.learners) {
		taken[s.NodeID] = true
	}
	var out []*Store
	for _, s := range p.present {
		if s.Liveness != Live || s.Draining {
			continue
		}
		if promote && slices.Contains(p.nonVoters, s) || !taken[s.NodeID] && s.Used() < fullest {
			out = append(out, s)
		}
	}
	return out
}

// bestNew returns the store for one more replica, nil if there is none.
func (p *problem) bestNew(voter bool) *Store {
	kept := p.kept()
	freeVoters, free := p.numVoters-votersIn(kept), p.numReplicas-len(kept)
	var best *Store
	var bestScore score
	for _, s := range p.candidates(voter) {
		ms, isNew := without(kept, s), !slices.Contains(p.nonVoters, s)
		if !p.allowsNew(ms, s, voter, isNew, freeVoters, free) {
			continue
		}
		if sc := p.score(with(ms, s, voter)); best == nil || sc.better(bestScore) {
			best, bestScore = s, sc
		}
	}
	return best
}

func (p *problem) allowsNew(ms []member, s *Store, voter, isNew bool, freeVoters, free int) bool {
	for i := range p.demands {
		d := &p.demands[i]
		if d.voters && voter && !allows([]demand{*d}, ms, s, voter, max(1, freeVoters)) {
			return false
		}
		if !d.voters && isNew && !allows([]demand{*d}, ms, s, voter, max(1, free)) {
			return false
		}
	}
	return true
}

func replicaOn(s *Store, t kvpb.ReplicaType) kvpb.ReplicaDescriptor {
	return kvpb.ReplicaDescriptor{NodeID: s.NodeID, StoreID: s.StoreID, Type: t}
}

func typeOf(voter bool) kvpb.ReplicaType {
	if voter {
		return kvpb.ReplicaVoter
	}
	return kvpb.ReplicaNonVoter
}

func addAction(why Purpose, s *Store, voter bool) Action {
	return Action{Kind: ChangeReplicas, Purpose: why, Add: []kvpb.ReplicaDescriptor{replicaOn(s, typeOf(voter))}}
}

// remove takes the replica on x away, if it is safe. The leaseholder first hands
// over the lease.
func (p *problem) remove(why Purpose, x *Store) Action {
	if slices.Contains(p.voters, x) && !p.safeWithout(x) {
		return Action{}
	}
	if x.StoreID == p.r.Leaseholder {
		return p.handOver(why, x)
	}
	return Action{Kind: ChangeReplicas, Purpose: why, Remove: []kvpb.StoreID{x.StoreID}}
}

// replace brings a replica to s, and takes the one on x away behind it. If x has the
// lease that is for later: then there is one replica too many.
func (p *problem) replace(why Purpose, x, s *Store, voter bool) Action {
	a := addAction(why, s, voter)
	if x.StoreID != p.r.Leaseholder {
		a.Remove = []kvpb.StoreID{x.StoreID}
	}
	return a
}

// safeWithout says whether the voters that answer are a quorum also without the
// one on x.
func (p *problem) safeWithout(x *Store) bool {
	live := p.live()
	if x.Liveness == Live {
		live--
	}
	return live >= quorum(len(p.voters)-1)
}

// cleanUp finishes a voter that is on its way, or takes it away.
func (p *problem) cleanUp() Action {
	for _, l := range p.learners {
		ok := l.Liveness == Live && !l.Decommissioning && !l.Draining
		if kept := p.kept(); ok && votersIn(kept) < p.numVoters &&
			p.allowsNew(kept, l, true, true, p.numVoters-votersIn(kept), p.numReplicas-len(kept)) {
			return addAction(CleanUp, l, true)
		}
		if l.Liveness != Suspect {
			return Action{Kind: ChangeReplicas, Purpose: CleanUp, Remove: []kvpb.StoreID{l.StoreID}}
		}
	}
	return Action{}
}

// replaceDead deals with replicas that will not come back. Without a place for
// another one they stay, unless the range needs fewer of its voters without them:
// of three voters two must answer, and of two both.
func (p *problem) replaceDead() Action {
	for _, d := range p.voters {
		if !isDead(d) {
			continue
		}
		ok := len(p.voters) - count(p.voters, isDead)
		if ok >= p.numVoters {
			return p.remove(ReplaceDead, d)
		}
		if s := p.bestNew(true); s != nil {
			return p.replace(ReplaceDead, d, s, true)
		}
		if len(p.voters) > ok|1 {
			return p.remove(ReplaceDead, d)
		}
		break
	}
	for _, d := range p.nonVoters {
		if !isDead(d) {
			continue
		}
		if len(p.nonVoters)-count(p.nonVoters, isDead) >= p.nonVotersWanted() {
			return p.remove(ReplaceDead, d)
		}
		if s := p.bestNew(false); s != nil {
			return p.replace(ReplaceDead, d, s, false)
		}
	}
	return Action{}
}

// upReplicate adds what is missing. An even number of voters tolerates no more
// failures than one fewer does, so that is not grown to on the way, unless the next
// one can follow.
func (p *problem) upReplicate() Action {
	if n := len(p.voters); n < p.numVoters {
		if s := p.bestNew(true); s != nil && (n%2 == 0 || n+1 == p.numVoters || nodesOf(p.candidates(true)) >= 2) {
			return addAction(UpReplicate, s, true)
		}
	}
	if len(p.nonVoters) < p.nonVotersWanted() {
		if s := p.bestNew(false); s != nil {
			return addAction(UpReplicate, s, false)
		}
	}
	return Action{}
}

// decommission takes replicas from stores that leave, as far as there are others to
// have them.
func (p *problem) decommission() Action {
	for _, x := range p.voters {
		if !isLeaving(x) {
			continue
		}
		if len(p.voters) > p.numVoters {
			if a := p.remove(Decommission, x); a.Kind != None {
				return a
			}
			continue
		}
		if s := p.bestNew(true); s != nil {
			return p.replace(Decommission, x, s, true)
		}
		if len(p.voters) > 3 {
			if a := p.remove(Decommission, x); a.Kind != None {
				return a
			}
		}
	}
	for _, x := range p.nonVoters {
		if !isLeaving(x) {
			continue
		}
		if len(p.nonVoters) > p.nonVotersWanted() {
			return p.remove(Decommission, x)
		}
		if s := p.bestNew(false); s != nil {
			return p.replace(Decommission, x, s, false)
		}
		return p.remove(Decommission, x) // It tolerates no failure.
	}
	return Action{}
}

// removeSurplus takes away what is too much, the worst first.
func (p *problem) removeSurplus() Action {
	n := len(p.voters)
	// Too few nodes for all voters, and an even number of them.
	uneven := n >= 4 && n%2 == 0 && n < p.numVoters && nodesOf(p.present) < p.numVoters
	if n > p.numVoters || uneven {
		if x := p.worst(p.voters, true); x != nil {
			if x.StoreID != p.r.Leaseholder && !isDead(x) && !isLeaving(x) && len(p.nonVoters) < p.nonVotersWanted() && p.safeWithout(x) {
				return addAction(RemoveSurplus, x, false)
			}
			if a := p.remove(RemoveSurplus, x); a.Kind != None {
				return a
			}
		}
	}
	if len(p.nonVoters) > p.nonVotersWanted() {
		if x := p.worst(p.nonVoters, false); x != nil {
			return p.remove(RemoveSurplus, x)
		}
	}
	return Action{}
}

func nodesOf(ss []*Store) int {
	nodes := map[kvpb.NodeID]bool{}
	for _, s := range ss {
		nodes[s.NodeID] = true
	}
	return len(nodes)
}

// worst returns the store of from that the range is best without.
func (p *problem) worst(from []*Store, voters bool) *Store {
	var worst *Store
	var best score
	all := p.kept()
	for _, x := range from {
		if voters && !p.safeWithout(x) {
			continue
		}
		sc := p.score(without(all, x))
		// One that does not answer is no loss.
		gone := x.Liveness != Live
		switch wasGone := worst != nil && worst.Liveness != Live; {
		case worst == nil, gone && !wasGone, gone == wasGone && sc.better(best):
			worst, best = x, sc
		case gone == wasGone && !best.better(sc) && worst.StoreID == p.r.Leaseholder:
			worst, best = x, sc // No better and no worse, and the lease need not move.
		}
	}
	return worst
}

// move is an arrangement that one step leads to.
type move struct {
	from, to *Store
	voter    bool
	swap     bool // to has a non-voter, and from gets one
	after    score
}

// moves lists what could be where else, as far as no demand suffers.
func (p *problem) moves() (now score, out []move) {
	kept := p.kept()
	now = p.score(kept)
	try := func(m move, ms []member) {
		for i := range p.demands {
			d := &p.demands[i]
			switch {
			case !d.hard:
			case d.all && (!d.voters || m.voter) && !m.to.Matches(d.constraints):
				return
			case d.missing(ms) > d.missing(kept):
				return
			}
		}
		m.after = p.score(ms)
		out = append(out, m)
	}
	fresh := p.candidates(false)
	for _, x := range kept {
		rest := without(kept, x.store)
		for _, s := range fresh {
			try(move{from: x.store, to: s, voter: x.voter}, with(rest, s, x.voter))
		}
		if !x.voter {
			continue
		}
		for _, y := range kept {
			if !y.voter && y.store.Liveness == Live && !y.store.Draining {
				ms := with(with(without(rest, y.store), y.store, true), x.store, false)
				try(move{from: x.store, to: y.store, voter: true, swap: true}, ms)
			}
		}
	}
	return now, out
}

// improve makes the move that betters the arrangement most, not counting load.
func (p *problem) improve() Action {
	if p.unwell() {
		return Action{}
	}
	now, moves := p.moves()
	var best *move
	for i := range moves {
		m := &moves[i]
		if m.after.rank(now) >= 0 {
			continue
		}
		// Of two that are as good the one is better that leaves the lease where it is.
		if best == nil || m.after.better(best.after) ||
			best.from.StoreID == p.r.Leaseholder && m.from != best.from && m.after.rank(best.after) == 0 {
			best = m
		}
	}
	if best == nil {
		return Action{}
	}
	why := Diversify
	if best.after.unmet < now.unmet {
		why = MeetConstraints
	}
	return p.make(why, best)
}

// unwell says that something is wrong that no step could mend for now. Then the
// range is left in peace.
func (p *problem) unwell() bool {
	return slices.ContainsFunc(p.voters, func(s *Store) bool { return s.Liveness != Live })
}

func (p *problem) make(why Purpose, m *move) Action {
	if !m.swap {
		return p.replace(why, m.from, m.to, m.voter)
	}
	if m.from.StoreID == p.r.Leaseholder {
		if a := p.handOver(why, m.from); a.Kind != None {
			return a
		}
		return addAction(why, m.to, true)
	}
	return Action{Kind: ChangeReplicas, Purpose: why, Add: []kvpb.ReplicaDescriptor{
		replicaOn(m.to, kvpb.ReplicaVoter), replicaOn(m.from, kvpb.ReplicaNonVoter),
	}}
}

// rebalance moves a replica from a store that has more to one that has less, if
// that is all the difference.
func (p *problem) rebalance() Action {
	if p.unwell() {
		return Action{}
	}
	now, moves := p.moves()
	var best *move
	most := loadThreshold
	for i := range moves {
		m := &moves[i]
		// Who has the lease sheds that first, if it has too many.
		if m.swap || m.from.StoreID == p.r.Leaseholder || m.after.rank(now) > 0 || m.to.Used() > settled {
			continue
		}
		from, to := p.load(m.from), p.load(m.to)
		if to+p.weight(m.to) >= from-p.weight(m.from) {
			continue
		}
		if from-to > most {
			best, most = m, from-to
		}
	}
	if best == nil {
		return Action{}
	}
	a := p.make(Rebalance, best)
	a.Moves = most / (2 * p.weight(best.to))
	return a
}
