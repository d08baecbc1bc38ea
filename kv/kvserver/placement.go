package kvserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/chance"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/allocator"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// placement keeps the ranges that this store is in charge of where they should be
// and as large as they may be. It looks at a range when something about it changed,
// at all of them when something about the stores did, and from time to time anyway;
// takes one step, and looks again. Two stores never take steps for the same range:
// who does needs its lease.
type placement struct {
	s    *Store
	wake chan struct{}

	urgent chan struct{} // slots of steps that mend
	merges chan struct{} // slots of merges

	mu struct {
		sync.Mutex
		due    map[kvpb.RangeID]time.Time // when to look
		busy   map[kvpb.RangeID]bool
		failed map[kvpb.RangeID]int // steps in a row

		stores []allocator.Store
		shifts []*shift
		// calm is how many steps may be taken before the next tick only to even out the
		// load; balancing says that one is under way.
		calm      int
		balancing bool
		asks      int // neighbours on other stores that may be asked about before the next tick
		report    PlacementReport
		wrong     map[kvpb.RangeID][]allocator.Violation

		starts     map[string]*Replica // see neighbour
		startsAsOf time.Time
	}
}

// shift is what a step of this store changes in another, from its beginning until
// that tells of it itself or long enough has passed.
type shift struct {
	store          kvpb.StoreID
	ranges, leases int
	was            int       // ranges or leases that were known before
	until          time.Time // zero: the step is under way
}

// PlacementReport says what was done, since the store was opened, and what is wrong
// now with the ranges that it is in charge of.
type PlacementReport struct {
	Splits, Merges, ReplicaChanges, LeaseTransfers, Failures int64
	// Numbers of ranges. Those without a leader have nobody in charge: every store
	// that has a replica counts them.
	Unavailable, UnderReplicated, OverReplicated, ConstraintViolations int
}

const (
	// placementTick is how often what is due is looked for.
	placementTick = time.Second
	// scanTicks is after how many ticks all ranges are looked at anyway.
	scanTicks = 10
	// shiftTicks is for how many ticks a step counts beside what stores say
	// themselves.
	shiftTicks = 15
	// urgentSteps is how many steps that mend something may be under way.
	urgentSteps = 4
	// stepTimeout bounds one step.
	stepTimeout = 5 * time.Minute
	// maxFailures bounds how long a range is left alone after failures: for two to
	// the power of that many ticks.
	maxFailures = 6
)

func newPlacement(s *Store) *placement {
	p := &placement{s: s, wake: make(chan struct{}, 1), urgent: make(chan struct{}, urgentSteps), merges: make(chan struct{}, 1)}
	p.mu.due, p.mu.busy, p.mu.failed = map[kvpb.RangeID]time.Time{}, map[kvpb.RangeID]bool{}, map[kvpb.RangeID]int{}
	p.mu.wrong = map[kvpb.RangeID][]allocator.Violation{}
	return p
}

func (p *placement) tick() time.Duration {
	if t := p.s.cfg.PlacementTick; t > 0 {
		return t
	}
	return placementTick
}

// look has a range looked at soon. p may be nil: then nobody looks after ranges.
func (p *placement) look(id kvpb.RangeID) {
	if p == nil {
		return
	}
	p.mu.Lock()
	if p.mu.failed[id] == 0 {
		p.mu.due[id] = time.Time{}
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// RecheckPlacement has all ranges looked at, because zone configurations changed.
func (s *Store) RecheckPlacement() {
	if s.placement != nil {
		s.placement.lookAtAll()
	}
}

// Placement returns what the store did to keep ranges where they should be.
func (s *Store) Placement() PlacementReport {
	p := s.placement
	if p == nil {
		return PlacementReport{}
	}
	p.mu.Lock()
	r := p.mu.report
	for id, vs := range p.mu.wrong {
		if s.replica(id) == nil {
			delete(p.mu.wrong, id)
			continue
		}
		seen := [4]int{}
		for _, v := range vs {
			seen[v.Kind] = 1
		}
		r.Unavailable += seen[allocator.Unavailable]
		r.UnderReplicated += seen[allocator.UnderReplicated]
		r.OverReplicated += seen[allocator.OverReplicated]
		r.ConstraintViolations += seen[allocator.Unmet]
	}
	p.mu.Unlock()
	for _, o := range *s.replicas.byID.Load() {
		if g := o.group.Load(); g != nil && g.Status().Leader == 0 {
			r.Unavailable++
		}
	}
	return r
}

// run works until ctx is done.
func (p *placement) run(ctx context.Context) {
	var steps sync.WaitGroup
	defer steps.Wait()
	tick := time.NewTicker(p.tick())
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-tick.C:
			if n++; p.refresh() || n%scanTicks == 0 {
				p.lookAtAll()
			}
		}
		for _, r := range p.takeDue() {
			steps.Go(func() { p.handle(ctx, r) })
		}
	}
}

// refresh asks what is known of the stores, and says whether more than their load
// is news.
func (p *placement) refresh() (news bool) {
	next := p.s.cfg.Stores()
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.mu.stores
	p.mu.stores = next
	p.mu.calm, p.mu.asks = 1, 1
	now := time.Now()
	p.mu.shifts = slices.DeleteFunc(p.mu.shifts, func(s *shift) bool { return !s.until.IsZero() && s.until.Before(now) || s.told(next) })
	return !slices.EqualFunc(old, next, func(a, b allocator.Store) bool {
		return a.StoreID == b.StoreID && a.Liveness == b.Liveness && a.Draining == b.Draining && a.Decommissioning == b.Decommissioning &&
			slices.Equal(a.Locality, b.Locality) && slices.Equal(a.Attrs, b.Attrs)
	})
}

// told says whether the store has said something new since.
func (sh *shift) told(stores []allocator.Store) bool {
	for i := range stores {
		if st := &stores[i]; st.StoreID == sh.store {
			return sh.ranges != 0 && st.Ranges != sh.was || sh.leases != 0 && st.Leases != sh.was
		}
	}
	return true
}

// stores is what is known of the stores, with what was done since.
func (p *placement) stores() []allocator.Store {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.mu.stores)
	for _, sh := range p.mu.shifts {
		for i := range out {
			if out[i].StoreID == sh.store {
				out[i].Ranges = max(0, out[i].Ranges+sh.ranges)
				out[i].Leases = max(0, out[i].Leases+sh.leases)
			}
		}
	}
	return out
}

// lookAtAll makes all ranges due that this store is in charge of. Groups that sleep
// while their leader is gone wake up, so that somebody is.
func (p *placement) lookAtAll() {
	gone := map[kvpb.StoreID]bool{}
	p.mu.Lock()
	for i := range p.mu.stores {
		gone[p.mu.stores[i].StoreID] = p.mu.stores[i].Liveness != allocator.Live
	}
	p.mu.Unlock()
	var mine []kvpb.RangeID
	for id, r := range *p.s.replicas.byID.Load() {
		if r.inCharge() {
			mine = append(mine, id)
		} else if g := r.group.Load(); g != nil {
			if leads, leader := r.leads(); !leads && (leader.StoreID == 0 || gone[leader.StoreID]) {
				g.Wake()
			}
		}
	}
	p.mu.Lock()
	now := time.Now()
	for _, id := range mine {
		if at, ok := p.mu.due[id]; !ok || at.After(now) && p.mu.failed[id] == 0 {
			p.mu.due[id] = now
		}
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// inCharge says whether this replica acts for its range: it has the lease, or would
// get it if it asked.
func (r *Replica) inCharge() bool {
	if r.holdsLease() {
		return true
	}
	g := r.group.Load()
	return g != nil && g.Status().IsLeader() && !r.store.clock.Now().Less(r.lease.Load().expiration)
}

// maxLooking bounds how many ranges are being looked at.
const maxLooking = 64

// takeDue returns ranges to look at now.
func (p *placement) takeDue() []*Replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*Replica
	now := time.Now()
	for id, at := range p.mu.due {
		if len(p.mu.busy) >= maxLooking {
			break
		}
		if at.After(now) || p.mu.busy[id] {
			continue
		}
		delete(p.mu.due, id)
		r := p.s.replica(id)
		if r == nil || !r.inCharge() {
			delete(p.mu.failed, id)
			delete(p.mu.wrong, id)
			continue
		}
		p.mu.busy[id] = true
		out = append(out, r)
	}
	return out
}

// handle looks at a range once.
func (p *placement) handle(ctx context.Context, r *Replica) {
	next, err := p.step(ctx, r)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.busy, r.id)
	var notHolder *kvpb.NotLeaseholderError
	switch {
	case ctx.Err() != nil, errors.As(err, &notHolder):
		delete(p.mu.failed, r.id)
	case err != nil:
		n := p.mu.failed[r.id]
		p.mu.failed[r.id] = min(n+1, maxFailures)
		p.mu.due[r.id] = time.Now().Add(p.tick()<<n + chance.Duration(p.tick()))
		p.mu.report.Failures++
		r.log.InfoContext(ctx, "placing the range; will retry", "err", err)
	default:
		delete(p.mu.failed, r.id)
		if _, ok := p.mu.due[r.id]; !ok && next == lookAgain {
			p.mu.due[r.id] = time.Time{}
		} else if !ok && next == lookLater {
			p.mu.due[r.id] = time.Now().Add(p.tick())
		}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// next says when to look at a range again.
type next int8

const (
	lookSometime next = iota // when something happens
	lookLater                // with the next tick
	lookAgain                // now
)

// step does what a range needs most.
func (p *placement) step(ctx context.Context, r *Replica) (next, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	d := r.Desc()
	if d.Joint() {
		return lookLater, nil // Somebody is at work, or settleUnsettled will be.
	}
	zone, cuts, err := p.s.cfg.ZoneConfig(ctx, d.Span())
	if err != nil {
		return lookSometime, fmt.Errorf("finding the zone of %s: %w", d, err)
	}
	cuts = slices.DeleteFunc(cuts, func(k keys.Key) bool { return !d.StartKey.Less(k) || !k.Less(d.EndKey) || k.Less(keys.TableDataMin) })
	if len(cuts) > 0 {
		return lookAgain, p.split(ctx, r, cuts[len(cuts)/2]) // Both sides have less left to do.
	}
	if zone.RangeMaxBytes != nil {
		r.noticeAbove.Store(*zone.RangeMaxBytes) // Before looking, so that nothing is missed.
		if st := r.Stats(); st.Total() > *zone.RangeMaxBytes {
			key, err := r.middleAbove(ctx, *zone.RangeMaxBytes)
			if err != nil {
				return lookSometime, err
			}
			if key != nil {
				return lookAgain, p.split(ctx, r, key)
			}
		}
	}
	st := r.Stats()
	known := p.stores()
	if len(known) == 0 {
		return lookSometime, nil // Nobody was heard of yet.
	}
	at := allocator.Range{Desc: d, Leaseholder: p.s.ident.StoreID, Bytes: st.Total()}
	a, wrong := allocator.Decide(at, &zone, known)
	p.mu.Lock()
	if len(wrong) > 0 {
		p.mu.wrong[r.id] = wrong
	} else {
		delete(p.mu.wrong, r.id)
	}
	p.mu.Unlock()
	switch {
	case a.Kind == allocator.None:
		return p.maybeMerge(ctx, r, &zone)
	case a.Purpose.Urgent():
		select {
		case p.urgent <- struct{}{}:
			defer func() { <-p.urgent }()
		case <-ctx.Done():
			return lookSometime, ctx.Err()
		}
	case !p.beginBalancing(&a, known):
		return lookLater, nil // By then, what others do may be enough.
	default:
		defer p.endBalancing()
	}
	if r.Desc().Generation != d.Generation {
		return lookAgain, nil // It was decided on what is not so any more.
	}
	r.log.DebugContext(ctx, "placing", "step", a.String())
	if err := p.do(ctx, r, d, a); err != nil {
		return lookSometime, fmt.Errorf("%s: %w", a, err)
	}
	return lookAgain, nil
}

// beginBalancing says whether another step may be taken only to even out the load. All
// stores see the same loads, which are never quite new and know nothing of what is
// under way: so each takes one step at a time, few between two looks, and when little
// is left to do only perhaps.
func (p *placement) beginBalancing(a *allocator.Action, known []allocator.Store) bool {
	deciders := 0
	for i := range known {
		if known[i].Liveness == allocator.Live {
			deciders++
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.calm == 0 || p.mu.balancing {
		return false
	}
	p.mu.calm--
	p.mu.balancing = rand.Float64() < a.Chance(deciders)
	return p.mu.balancing
}

func (p *placement) endBalancing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.balancing = false
}

func (p *placement) split(ctx context.Context, r *Replica, at keys.Key) error {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpAdminSplit, Key: at})
	if err := r.adminSplit(ctx, ba, hlc.Timestamp{}); err != nil {
		return fmt.Errorf("splitting at %s: %w", at, err)
	}
	p.mu.Lock()
	p.mu.report.Splits++
	p.mu.Unlock()
	return nil
}

// do carries out a step that was decided on d.
func (p *placement) do(ctx context.Context, r *Replica, d *kvpb.RangeDescriptor, a allocator.Action) error {
	if a.Kind == allocator.TransferLease {
		end := p.expect(&shift{store: a.To, leases: 1}, &shift{store: p.s.ident.StoreID, leases: -1})
		err := r.transferLease(ctx, a.To)
		end(err, func(rep *PlacementReport) { rep.LeaseTransfers++ })
		return err
	}
	var moved []*shift
	for _, add := range a.Add {
		if _, there := d.ReplicaOn(add.StoreID); !there {
			moved = append(moved, &shift{store: add.StoreID, ranges: 1})
		}
	}
	for _, id := range a.Remove {
		moved = append(moved, &shift{store: id, ranges: -1})
	}
	end := p.expect(moved...)
	err := r.changeReplicas(ctx, &kvpb.ChangeReplicasArgs{Generation: d.Generation, Add: a.Add, Remove: a.Remove})
	end(err, func(rep *PlacementReport) { rep.ReplicaChanges++ })
	return err
}

// note counts a step that shifts nothing.
func (p *placement) note(count func(*PlacementReport)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count(&p.mu.report)
}

// expect remembers what a step is about to shift. Its end counts it if it succeeded,
// and forgets what it was to shift if not.
func (p *placement) expect(moved ...*shift) (end func(err error, count func(*PlacementReport))) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range moved {
		for i := range p.mu.stores {
			if st := &p.mu.stores[i]; st.StoreID == m.store && m.ranges != 0 {
				m.was = st.Ranges
			} else if st.StoreID == m.store {
				m.was = st.Leases
			}
		}
	}
	p.mu.shifts = append(p.mu.shifts, moved...)
	return func(err error, count func(*PlacementReport)) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			p.mu.shifts = slices.DeleteFunc(p.mu.shifts, func(m *shift) bool { return slices.Contains(moved, m) })
			return
		}
		for _, m := range moved {
			m.until = time.Now().Add(shiftTicks * p.tick())
		}
		count(&p.mu.report)
	}
}

// noticeSize has the range looked at once it has grown above its limit.
func (r *Replica) noticeSize(st *storage.Stats) {
	if limit := r.noticeAbove.Load(); limit > 0 && st.Total() > limit && r.noticeAbove.CompareAndSwap(limit, 0) {
		r.store.placement.look(r.id)
	}
}

// middleAbove returns where to split a range that has more than limit bytes, nil if
// it has not or there is no place.
func (r *Replica) middleAbove(ctx context.Context, limit int64) (keys.Key, error) {
	actual, err := r.recount(ctx)
	if err != nil || actual.Total() <= limit {
		return nil, err
	}
	d := r.Desc()
	start := d.StartKey
	if start.Less(keys.TableDataMin) {
		start = keys.TableDataMin
	}
	key, err := storage.FindSplitKey(ctx, r.store.eng, start, d.EndKey)
	if err != nil {
		return nil, fmt.Errorf("finding the middle of %s: %w", d, err)
	}
	return key, nil
}

// recount returns what the range holds, and has that be what is known of it. A split
// counts before it keeps writers out, so that both sides know little more than about
// how much they hold.
func (r *Replica) recount(ctx context.Context) (storage.Stats, error) {
	d, before := r.Desc(), r.Stats()
	start := d.StartKey
	if start.Less(keys.SystemPrefix) {
		start = keys.SystemPrefix // Keys before it have no versions.
	}
	actual, err := storage.ComputeStats(ctx, r.store.eng, start, d.EndKey)
	if err != nil {
		return actual, fmt.Errorf("counting what %s holds: %w", d, err)
	}
	if !before.Estimates || r.Desc() != d {
		return actual, nil
	}
	delta := subtractStats(actual, before)
	delta.RangeKeys, delta.Estimates = actual.RangeKeys-before.RangeKeys, false
	if delta == (storage.Stats{}) {
		return actual, nil
	}
	if r.group.Load() == nil {
		r.addStats(delta)
		return actual, nil
	}
	seq, err := r.serve(ctx, hlc.Timestamp{})
	if err != nil {
		return actual, err
	}
	return actual, r.replicate(ctx, &kvserverpb.Command{LeaseSequence: seq, Stats: statsToProto(delta)}, nil)
}

// scatter puts the replicas of a range, and its lease, anywhere they may be.
func (r *Replica) scatter(ctx context.Context) error {
	p := r.store.placement
	if p == nil {
		return nil // There is only one place.
	}
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		return err
	}
	d := r.Desc()
	zone, _, err := p.s.cfg.ZoneConfig(ctx, d.Span())
	if err != nil {
		return fmt.Errorf("finding the zone of %s: %w", d, err)
	}
	st := r.Stats()
	at := allocator.Range{Desc: d, Leaseholder: p.s.ident.StoreID, Bytes: st.Total()}
	rng := rand.New(rand.NewPCG(chance.Uint64(), chance.Uint64()))
	for _, a := range allocator.Scatter(at, &zone, p.stores(), rng) {
		if err := p.do(ctx, r, r.Desc(), a); err != nil {
			return fmt.Errorf("scattering %s: %w", d, err)
		}
	}
	return nil
}

// ZoneFunc says which zone configuration holds at the beginning of a span, and the
// keys inside it where another one begins, or a table that has one of its own.
type ZoneFunc func(ctx context.Context, span keys.Span) (zones.Config, []keys.Key, error)
