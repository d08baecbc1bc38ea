package allocator

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// parseStores reads lines like "1 region=eu,az=a ssd dead ranges=5 leases=2 used=40".
func parseStores(t *testing.T, in string) []Store {
	t.Helper()
	var out []Store
	for _, line := range strings.Split(strings.TrimSpace(in), "\n") {
		s := Store{Capacity: 100, Available: 100}
		for i, w := range strings.Fields(line) {
			var n int
			switch {
			case i == 0:
				_, _ = fmt.Sscan(w, &n)
				s.NodeID, s.StoreID = kvpb.NodeID(n), kvpb.StoreID(n)
			case w == "dead":
				s.Liveness = Dead
			case w == "suspect":
				s.Liveness = Suspect
			case w == "draining":
				s.Draining = true
			case w == "leaving":
				s.Decommissioning = true
			case strings.HasPrefix(w, "ranges="):
				_, _ = fmt.Sscan(w[7:], &s.Ranges)
			case strings.HasPrefix(w, "leases="):
				_, _ = fmt.Sscan(w[7:], &s.Leases)
			case strings.HasPrefix(w, "used="):
				_, _ = fmt.Sscan(w[5:], &n)
				s.Available = int64(100 - n)
			case strings.Contains(w, "="):
				for _, tier := range strings.Split(w, ",") {
					k, v, _ := strings.Cut(tier, "=")
					s.Locality = append(s.Locality, Tier{k, v})
				}
			default:
				s.Attrs = append(s.Attrs, w)
			}
		}
		out = append(out, s)
	}
	return out
}

// parseRange reads "1* 2 3n 4l": the leaseholder, a voter, a non-voter, a learner.
func parseRange(t *testing.T, in string) Range {
	t.Helper()
	r := Range{Desc: &kvpb.RangeDescriptor{RangeID: 1}, Bytes: 1}
	for _, w := range strings.Fields(in) {
		var n int
		if _, err := fmt.Sscan(strings.TrimRight(w, "*nl"), &n); err != nil {
			t.Fatal(err)
		}
		d := kvpb.ReplicaDescriptor{NodeID: kvpb.NodeID(n), StoreID: kvpb.StoreID(n)}
		switch w[len(w)-1] {
		case '*':
			r.Leaseholder = d.StoreID
		case 'n':
			d.Type = kvpb.ReplicaNonVoter
		case 'l':
			d.Type = kvpb.ReplicaLearner
		}
		r.Desc.Replicas = append(r.Desc.Replicas, d)
	}
	return r
}

// parseZone reads "replicas=5 voters=3" and constraints in their own syntax, parted
// by semicolons.
func parseZone(t *testing.T, in string) *zones.Config {
	t.Helper()
	z := zones.Config{}
	for _, part := range strings.Split(in, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		var n int32
		var err error
		switch k {
		case "replicas":
			_, err = fmt.Sscan(v, &n)
			z.NumReplicas = &n
		case "voters":
			_, err = fmt.Sscan(v, &n)
			z.NumVoters = &n
		case "constraints":
			z.Constraints, err = zones.ParseConstraints(v)
			z.ConstraintsSet = true
		case "voter_constraints":
			z.VoterConstraints, err = zones.ParseConstraints(v)
			z.VoterConstraintsSet = true
		case "lease":
			z.LeasePreferences, err = zones.ParseLeasePreferences(v)
			z.LeasePreferencesSet = true
		}
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
	}
	z.Inherit(zones.Default())
	return &z
}

const threeRegions = `
1 region=a,az=1
2 region=a,az=2
3 region=b,az=1
4 region=b,az=2
5 region=c,az=1
6 region=c,az=2
`

func TestDecide(t *testing.T) {
	plain := "1\n2\n3\n4\n5"
	for _, c := range []struct {
		name, stores, at, zone, want, violations string
	}{
		{"one node", "1", "1*", "replicas=3", "none", "[{1  2}]"},
		{"two nodes: an even number is no use", "1\n2", "1*", "replicas=3", "none", "[{1  2}]"},
		{"three nodes", "1\n2\n3", "1*", "replicas=3", "add missing: VOTER on s2", "[{1  2}]"},
		{"third of three", "1\n2\n3", "1* 2", "replicas=3", "add missing: VOTER on s3", "[{1  1}]"},
		{"four of five with four nodes", "1\n2\n3\n4", "1* 2 3", "replicas=5", "none", "[{1  2}]"},
		{"well placed", plain, "1* 2 3", "replicas=3", "none", "[]"},
		{"another region first", threeRegions, "1*", "replicas=3", "add missing: VOTER on s3", "[{1  2}]"},
		{"third region", threeRegions, "1* 3", "replicas=3", "add missing: VOTER on s5", "[{1  1}]"},
		{"the emptiest", "1 ranges=9\n2 ranges=9\n3 ranges=2\n4 ranges=9", "1*", "replicas=3", "add missing: VOTER on s3", "[{1  2}]"},
		{"not the full one", "1\n2 used=96\n3\n4", "1* 3", "replicas=3", "add missing: VOTER on s4", "[{1  1}]"},
		{"not the suspect", "1\n2 suspect\n3\n4", "1* 3", "replicas=3", "add missing: VOTER on s4", "[{1  1}]"},

		{"dead", "1\n2\n3 dead\n4", "1* 2 3", "replicas=3", "replace dead: VOTER on s4, none on s3", "[{1  1}]"},
		{"dead, nowhere to go", "1\n2\n3 dead", "1* 2 3", "replicas=3", "none", "[{1  1}]"},
		{"two of five dead, nowhere to go", "1\n2\n3\n4 dead\n5 dead", "1* 2 3 4 5", "replicas=5", "replace dead: none on s4", "[{1  2}]"},
		{"no quorum", "1\n2 dead\n3 dead\n4\n5", "1* 2 3", "replicas=3", "none", "[{0  1} {1  2}]"},
		{"suspects stay", "1\n2\n3 suspect\n4", "1* 2 3", "replicas=3", "none", "[]"},
		{"dead surplus", "1\n2\n3\n4 dead", "1* 2 3 4", "replicas=3", "replace dead: none on s4", "[{2  1}]"},
		{"dead non-voter", "1\n2\n3\n4 dead\n5", "1* 2 3 4n", "replicas=4;voters=3", "replace dead: NON_VOTER on s5, none on s4", "[{1  1}]"},
		{"unknown store", "1\n2\n4", "1* 2 3", "replicas=3", "none", "[]"},

		{"leaving", "1\n2\n3 leaving\n4", "1* 2 3", "replicas=3", "decommission: VOTER on s4, none on s3", "[]"},
		{"leaving leaseholder", "1 leaving\n2\n3\n4", "1* 2 3", "replicas=3", "decommission: VOTER on s4", "[]"},
		{"leaving leaseholder, other in place", "1 leaving\n2\n3\n4", "1* 2 3 4", "replicas=3", "decommission: lease to s2", "[{2  1}]"},
		{"lease handed over", "1 leaving\n2\n3\n4", "1 2* 3 4", "replicas=3", "decommission: none on s1", "[{2  1}]"},
		{"leaving, nowhere to go", "1\n2\n3 leaving", "1* 2 3", "replicas=3", "none", "[]"},
		{"leaving five, four left", "1\n2\n3\n4\n5 leaving", "1* 2 3 4 5", "replicas=5", "decommission: none on s5", "[]"},
		{"four of five", "1\n2\n3\n4", "1* 2 3 4", "replicas=5", "remove surplus: none on s2", "[{1  1}]"},

		{"surplus", threeRegions, "1* 2 3 5", "replicas=3", "remove surplus: none on s2", "[{2  1}]"},
		{"surplus becomes a non-voter", "1\n2\n3\n4", "1* 2 3 4", "replicas=4;voters=3", "remove surplus: NON_VOTER on s2", "[{1  1} {2  1}]"},
		{"surplus would break the quorum", "1\n2\n3 suspect\n4 suspect", "1* 2 3 4", "replicas=3", "none", "[{0  1} {2  1}]"},
		{"surplus that does not answer", "1\n2\n3\n4 suspect", "1* 2 3 4", "replicas=3", "remove surplus: none on s4", "[{2  1}]"},

		{"constraint", threeRegions, "1* 3 5", "replicas=3;constraints=[-region=c]", "meet constraints: VOTER on s2, none on s5", "[{3 -region=c 1}]"},
		{"constraint on the leaseholder", threeRegions, "1* 3 5", "replicas=3;constraints=[-region=a]", "meet constraints: VOTER on s4", "[{3 -region=a 1}]"},
		{"per replica", threeRegions, "1* 3 5", "replicas=3;constraints={+region=a: 2}", "meet constraints: VOTER on s2, none on s3", "[{3 +region=a: 2 1}]"},
		{"attribute", "1 ssd\n2\n3 ssd\n4 ssd", "1* 2 3", "replicas=3;constraints=[+ssd]", "meet constraints: VOTER on s4, none on s2", "[{3 +ssd 1}]"},
		{"what cannot be met does not block repair", "1 region=a\n2 region=a\n3 region=b\n4 region=b", "1*", "replicas=3;constraints=[+region=a]",
			"add missing: VOTER on s2", "[{1  2}]"},
		{"what cannot be met does not block repair, outside", "1 region=a\n2 region=a\n3 region=b\n4 region=b", "1* 2", "replicas=3;constraints=[+region=a]",
			"add missing: VOTER on s3", "[{1  1}]"},
		{"what can be met is waited for", "1 region=a\n2 region=a\n3 region=b\n4 region=a suspect", "1* 2", "replicas=3;constraints=[+region=a]",
			"none", "[{1  1}]"},
		{"what is prohibited always is", "1 region=a\n2 region=a\n3 region=b\n4 region=b", "1* 2", "replicas=3;constraints=[-region=b]", "none", "[{1  1}]"},
		{"places kept for others", threeRegions, "1* 2", "replicas=3;constraints={+region=c: 1}", "add missing: VOTER on s5", "[{1  1} {3 +region=c: 1 1}]"},
		{"voter constraints swap", "1 region=a\n2 region=b\n3 region=a", "1* 2 3n", "replicas=3;voters=2;voter_constraints=[+region=a]",
			"meet constraints: VOTER on s3, NON_VOTER on s2", "[{3 +region=a 1}]"},
		{"diversity", threeRegions, "1* 2 5", "replicas=3", "diversify: VOTER on s3, none on s2", "[]"},
		{"non-voters", threeRegions, "1* 3 5", "replicas=4;voters=3", "add missing: NON_VOTER on s2", "[{1  1}]"},

		{"learner finished", "1\n2\n3", "1* 2 3l", "replicas=3", "clean up: VOTER on s3", "[{1  1}]"},
		{"learner left over", "1\n2\n3\n4", "1* 2 3 4l", "replicas=3", "clean up: none on s4", "[]"},

		{"load", "1 ranges=50\n2 ranges=50\n3 ranges=50\n4 ranges=10", "1* 2 3", "replicas=3", "rebalance: VOTER on s4, none on s2", "[]"},
		{"even enough", "1 ranges=50\n2 ranges=51\n3 ranges=50\n4 ranges=47", "1* 2 3", "replicas=3", "none", "[]"},
		{"full stores shed", "1 used=10\n2 used=80\n3 used=10\n4 used=10", "1* 2 3", "replicas=3", "rebalance: VOTER on s4, none on s2", "[]"},
		{"not while one is away", "1 ranges=50\n2 ranges=50\n3 ranges=50 suspect\n4 ranges=10", "1* 2 3", "replicas=3", "none", "[]"},

		{"lease preference", threeRegions, "1* 3 5", "replicas=3;lease=[[+region=b]]", "move lease: lease to s3", "[]"},
		{"second preference", threeRegions, "1* 3 5", "replicas=3;lease=[[+region=z], [+region=c]]", "move lease: lease to s5", "[]"},
		{"lease load", "1 leases=50\n2 leases=20\n3 leases=10", "1* 2 3", "replicas=3", "rebalance lease: lease to s3", "[]"},
		{"lease load within preference", threeRegions + " leases=9", "1* 3 5", "replicas=3;lease=[[+region=a]]", "none", "[]"},
		{"draining", "1 draining\n2\n3", "1* 2 3", "replicas=3", "move lease: lease to s2", "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, v := Decide(parseRange(t, c.at), parseZone(t, c.zone), parseStores(t, c.stores))
			if got := a.String(); got != c.want {
				t.Errorf("decided %q, want %q", got, c.want)
			}
			if got := fmt.Sprint(v); got != c.violations {
				t.Errorf("violations %s, want %s", got, c.violations)
			}
		})
	}
}

func TestDiversity(t *testing.T) {
	stores := parseStores(t, threeRegions)
	at := func(ids ...int) float64 {
		var ss []*Store
		for _, id := range ids {
			ss = append(ss, &stores[id-1])
		}
		return diversity(ss)
	}
	if got := at(1, 3, 5); got != 1 {
		t.Errorf("three regions: %v", got)
	}
	if got := at(1, 2); got != 0.5 {
		t.Errorf("two zones of a region: %v", got)
	}
	if a, b := at(1, 2, 3), at(1, 3, 5); !(a < b) {
		t.Errorf("%v is not less than %v", a, b)
	}
	if !slices.Equal([]float64{at(1), at()}, []float64{0, 0}) {
		t.Error("one store has a diversity")
	}
}
