package allocator

import (
	"strings"

	"github.com/holdfastdb/holdfast/internal/zones"
)

// demand is what a conjunction of a zone configuration wants of some replicas.
type demand struct {
	constraints []zones.Constraint
	count       int  // how many replicas; all: ignored
	all         bool // every replica
	voters      bool // only voters count
	// hard: no new replica is brought to where it would break the demand. A demand
	// for which there are not enough stores in the cluster is not: it is met as far
	// as it can be, and never keeps a range from having enough replicas. What is
	// prohibited always is.
	hard bool
	text string
}

// demandsOf lists what a zone wants. present are the stores that are part of the
// cluster and stay so.
func demandsOf(z *zones.Config, numVoters, numReplicas int, present []*Store) []demand {
	var out []demand
	add := func(js []zones.Conjunction, voters bool, total int) {
		for _, j := range js {
			if j.NumReplicas > 0 {
				d := demand{constraints: j.Constraints, count: int(j.NumReplicas), voters: voters, text: formatConjunction(j)}
				d.hard = enough(present, j.Constraints, d.count)
				out = append(out, d)
				continue
			}
			// What is prohibited and what is required are demands apart.
			var required, prohibited []zones.Constraint
			for _, c := range j.Constraints {
				if c.Prohibited {
					prohibited = append(prohibited, c)
				} else {
					required = append(required, c)
				}
			}
			if len(required) > 0 {
				out = append(out, demand{
					constraints: required, all: true, voters: voters, hard: enough(present, required, total),
					text: formatConjunction(zones.Conjunction{Constraints: required}),
				})
			}
			if len(prohibited) > 0 {
				out = append(out, demand{
					constraints: prohibited, all: true, voters: voters, hard: true,
					text: formatConjunction(zones.Conjunction{Constraints: prohibited}),
				})
			}
		}
	}
	add(z.Constraints, false, numReplicas)
	add(z.VoterConstraints, true, numVoters)
	return out
}

// enough says whether n nodes satisfy cs.
func enough(present []*Store, cs []zones.Constraint, n int) bool {
	nodes := map[int32]bool{}
	for _, s := range present {
		if s.Matches(cs) {
			nodes[int32(s.NodeID)] = true
		}
	}
	return len(nodes) >= n
}

func formatConjunction(j zones.Conjunction) string {
	return strings.Trim(zones.FormatConstraints([]zones.Conjunction{j}), "[]{}")
}

// missing is by how many replicas an arrangement does not meet d.
func (d *demand) missing(ms []member) int {
	n, of := 0, 0
	for i := range ms {
		if d.voters && !ms[i].voter {
			continue
		}
		of++
		if ms[i].store.Matches(d.constraints) {
			n++
		}
	}
	if d.all {
		return of - n
	}
	return max(0, d.count-n)
}

// unmet sums up what an arrangement does not meet.
func unmet(ds []demand, ms []member) int {
	sum := 0
	for i := range ds {
		sum += ds[i].missing(ms)
	}
	return sum
}

// allows says whether s may become part of an arrangement that has ms and is to
// have free more members like it, voters or not, before it comes.
func allows(ds []demand, ms []member, s *Store, voter bool, free int) bool {
	for i := range ds {
		d := &ds[i]
		if !d.hard || d.voters && !voter || s.Matches(d.constraints) {
			continue
		}
		// The places left for others must do for what d still needs.
		if d.all || d.missing(ms) > free-1 {
			return false
		}
	}
	return true
}
