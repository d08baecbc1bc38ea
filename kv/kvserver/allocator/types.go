package allocator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Tier is one "key=value" of a node's locality.
type Tier struct{ Key, Value string }

// Liveness says what is known of a store's node.
type Liveness int8

// A store that is not heard of is a suspect for a while and dead then.
const (
	// Live stores answer.
	Live Liveness = iota
	// Suspect stores keep their replicas and get nothing new.
	Suspect
	// Dead stores are believed never to come back: their replicas are replaced.
	Dead
)

// Store is what is known of one store. Stores that hold replicas should be listed
// for as long as they do, also when they are dead: one that is not is a Suspect.
type Store struct {
	NodeID   kvpb.NodeID
	StoreID  kvpb.StoreID
	Locality []Tier   // the most inclusive first
	Attrs    []string // of the node and the store

	Liveness Liveness
	// Draining stores give leases away and get nothing new.
	Draining bool
	// Decommissioning stores give everything away.
	Decommissioning bool

	Capacity, Available int64 // bytes; zero capacity: not known
	Ranges, Leases      int   // replicas in it; how many of them serve
}

// Used is the fraction of the store that is used.
func (s *Store) Used() float64 {
	if s.Capacity <= 0 {
		return 0
	}
	return 1 - float64(s.Available)/float64(s.Capacity)
}

// Range is a range whose leaseholder asks.
type Range struct {
	Desc        *kvpb.RangeDescriptor
	Leaseholder kvpb.StoreID
	Bytes       int64
}

// Kind says what an Action does.
type Kind int8

// The kinds of actions.
const (
	None Kind = iota
	// ChangeReplicas brings the replicas of Add, and then takes those on Remove away.
	// A replica that is there with another type changes it.
	ChangeReplicas
	// TransferLease makes the replica on To the leaseholder.
	TransferLease
)

// Purpose says why an Action is done. The first ones are the most urgent.
type Purpose int8

// The purposes, in the order of work.
const (
	CleanUp Purpose = iota
	ReplaceDead
	UpReplicate
	Decommission
	RemoveSurplus
	MeetConstraints
	Diversify
	Rebalance
	MoveLease // for preferences, or because the store drains
	RebalanceLease
)

var purposes = [...]string{
	"clean up", "replace dead", "add missing", "decommission", "remove surplus", "meet constraints", "diversify", "rebalance",
	"move lease", "rebalance lease",
}

func (p Purpose) String() string {
	if int(p) < len(purposes) {
		return purposes[p]
	}
	return "unknown"
}

// Urgent says whether p is more than a matter of even load.
func (p Purpose) Urgent() bool { return p != Rebalance && p != RebalanceLease }

// Action is one step.
type Action struct {
	Kind    Kind
	Purpose Purpose
	Add     []kvpb.ReplicaDescriptor // without ReplicaID
	Remove  []kvpb.StoreID
	To      kvpb.StoreID

	// Moves is how many such steps would make the loads of the two stores even, for
	// steps that are not urgent.
	Moves float64
}

// Chance is how likely somebody should take the step who is one of so many that see
// the same loads and decide for themselves. Together they are to do about as much as
// would make the loads even: if all of them did what is good for one to do, what was
// too much here would be too much there, and back again, for ever.
func (a *Action) Chance(deciders int) float64 {
	if a.Purpose.Urgent() || deciders <= 1 {
		return 1
	}
	return min(1, a.Moves/float64(deciders))
}

func (a Action) String() string {
	switch a.Kind {
	case ChangeReplicas:
		var parts []string
		for _, r := range a.Add {
			parts = append(parts, fmt.Sprintf("%s on s%d", r.Type, r.StoreID))
		}
		for _, s := range a.Remove {
			parts = append(parts, fmt.Sprintf("none on s%d", s))
		}
		return fmt.Sprintf("%s: %s", a.Purpose, strings.Join(parts, ", "))
	case TransferLease:
		return fmt.Sprintf("%s: lease to s%d", a.Purpose, a.To)
	}
	return "none"
}

// ViolationKind says what is not as it should be.
type ViolationKind int8

// The kinds of violations.
const (
	// Unavailable ranges have no quorum: nothing can be done about them.
	Unavailable ViolationKind = iota
	// UnderReplicated ranges have too few live replicas.
	UnderReplicated
	// OverReplicated ranges have too many.
	OverReplicated
	// Unmet constraints have too few replicas, or some where none must be.
	Unmet
)

// Violation is something about a range that is not as its zone wants it.
type Violation struct {
	Kind       ViolationKind
	Constraint string // of Unmet
	Missing    int    // how many replicas too few, or too many
}

// matches says whether a store satisfies one constraint.
func (s *Store) matches(c zones.Constraint) bool {
	has := false
	if c.Key == "" {
		has = slices.Contains(s.Attrs, c.Value)
	} else {
		has = slices.Contains(s.Locality, Tier{c.Key, c.Value})
	}
	return has != c.Prohibited
}

// Matches says whether a store satisfies all constraints of cs.
func (s *Store) Matches(cs []zones.Constraint) bool {
	for _, c := range cs {
		if !s.matches(c) {
			return false
		}
	}
	return true
}
