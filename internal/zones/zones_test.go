package zones

import (
	"reflect"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	constraints, err := ParseConstraints(`{+region=eu: 2, "+region=us,+ssd": 1}`)
	if err != nil {
		t.Fatal(err)
	}
	prefs, err := ParseLeasePreferences(`[[+region=eu], [+region=us, -hdd]]`)
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	c.NumVoters, c.GlobalReads = ptr(int32(3)), ptr(true)
	c.Constraints, c.LeasePreferences = constraints, prefs
	c.VoterConstraintsSet = true
	c.SetSubzone(Subzone{IndexID: 2, Partition: "west", Config: Config{GCTTLSeconds: ptr(int32(600))}})
	for _, want := range []Config{{}, Default(), c} {
		got, err := Unmarshal(want.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	const sql = "ALTER TABLE t CONFIGURE ZONE USING\n\trange_min_bytes = 134217728,\n\trange_max_bytes = 536870912,\n\tgc.ttlseconds = 14400,\n" +
		"\tglobal_reads = true,\n\tnum_replicas = 3,\n\tnum_voters = 3,\n\tconstraints = '{+region=eu: 2, \"+region=us,+ssd\": 1}',\n" +
		"\tvoter_constraints = '[]',\n\tlease_preferences = '[[+region=eu], [+region=us, -hdd]]'"
	if got := c.SQL("TABLE t"); got != sql {
		t.Errorf("got  %q\nwant %q", got, sql)
	}
}

func TestInherit(t *testing.T) {
	c := Config{NumReplicas: ptr(int32(5))}
	parent := Default()
	parent.NumVoters = ptr(int32(3))
	c.Inherit(parent)
	if *c.NumReplicas != 5 || c.NumVoters != nil || *c.GCTTLSeconds != 14400 || !c.ConstraintsSet {
		t.Errorf("got %+v", c)
	}
}

func TestValidate(t *testing.T) {
	parse := func(s string) []Conjunction {
		js, err := ParseConstraints(s)
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{NumReplicas: ptr(int32(0))}, "at least one replica is required"},
		{Config{NumReplicas: ptr(int32(2))}, "at least 3 replicas are required for multi-replica configurations"},
		{Config{NumReplicas: ptr(int32(3)), NumVoters: ptr(int32(5))}, "num_voters cannot be greater than num_replicas"},
		{Config{RangeMaxBytes: ptr(int64(5))}, "RangeMaxBytes 5 less than minimum allowed 65536"},
		{Config{RangeMinBytes: ptr(int64(-1))}, "RangeMinBytes -1 less than minimum allowed 0"},
		{Config{RangeMinBytes: ptr(int64(1 << 20)), RangeMaxBytes: ptr(int64(1 << 20))}, "RangeMinBytes 1048576 is greater than or equal to RangeMaxBytes 1048576"},
		{Config{GCTTLSeconds: ptr(int32(0))}, "GC.TTLSeconds 0 less than minimum allowed 1"},
		{Config{NumReplicas: ptr(int32(3)), Constraints: parse("{+a=b: 2, +a=c: 2}")},
			"the number of replicas specified in constraints (4) cannot be greater than the number of replicas configured for the zone (3)"},
		{Config{Constraints: parse("[+region=a, +region=b]")}, `incompatible zone constraints: "+region=a" and "+region=b"`},
		{Config{NumReplicas: ptr(int32(3)), Constraints: parse("{-ssd: 1}")}, "only required constraints (prefixed with a '+') can be applied to a subset of replicas"},
		{Config{VoterConstraints: parse("[-ssd]")}, "voter_constraints cannot contain prohibitive constraints"},
		{Default(), ""},
	} {
		got := ""
		if err := tc.c.Validate(); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	if err := (Config{RangeMinBytes: ptr(int64(1))}).ValidateTandem(); err == nil {
		t.Error("range_min_bytes alone passed")
	}
}

func TestParseErrors(t *testing.T) {
	for _, s := range []string{"[region=a]", "[+]", "[+a=b=c]", "{+a: x}", "[+a", "+a", `["+a]`, "[[[[[[[[[[[["} {
		if got, err := ParseConstraints(s); err == nil {
			t.Errorf("ParseConstraints(%q) = %v, want an error", s, got)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(Default().Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Unmarshal(b)
		if err != nil {
			return
		}
		if _, err := Unmarshal(c.Marshal()); err != nil {
			t.Fatalf("re-encoding %x: %v", b, err)
		}
	})
}

func FuzzParseConstraints(f *testing.F) {
	f.Add(`{+region=eu: 2, "+region=us,+ssd": 1}`)
	f.Fuzz(func(t *testing.T, s string) { _, _ = ParseConstraints(s) })
}
