package zones

import (
	"fmt"
	"strings"
)

// SQL prints the configuration as the body of a CONFIGURE ZONE statement on
// target, such as "RANGE default". Unset fields are left out.
func (c Config) SQL(target string) string {
	var vars []string
	add := func(name string, v any) { vars = append(vars, fmt.Sprintf("%s = %v", name, v)) }
	if c.RangeMinBytes != nil {
		add("range_min_bytes", *c.RangeMinBytes)
	}
	if c.RangeMaxBytes != nil {
		add("range_max_bytes", *c.RangeMaxBytes)
	}
	if c.GCTTLSeconds != nil {
		add("gc.ttlseconds", *c.GCTTLSeconds)
	}
	if c.GlobalReads != nil {
		add("global_reads", *c.GlobalReads)
	}
	if c.NumReplicas != nil {
		add("num_replicas", *c.NumReplicas)
	}
	if c.NumVoters != nil {
		add("num_voters", *c.NumVoters)
	}
	if c.ConstraintsSet {
		add("constraints", quote(FormatConstraints(c.Constraints)))
	}
	if c.VoterConstraintsSet {
		add("voter_constraints", quote(FormatConstraints(c.VoterConstraints)))
	}
	if c.LeasePreferencesSet {
		add("lease_preferences", quote(FormatLeasePreferences(c.LeasePreferences)))
	}
	if len(vars) == 0 {
		return ""
	}
	return "ALTER " + target + " CONFIGURE ZONE USING\n\t" + strings.Join(vars, ",\n\t")
}

// YAML prints the configuration as crdb_internal.zones shows it.
func (c Config) YAML() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	null := func(name string, set bool, v any) {
		if !set {
			v = "null"
		}
		line("%s: %v", name, v)
	}
	deref := func(p *int64) any {
		if p == nil {
			return nil
		}
		return *p
	}
	deref32 := func(p *int32) any {
		if p == nil {
			return nil
		}
		return *p
	}
	null("range_min_bytes", c.RangeMinBytes != nil, deref(c.RangeMinBytes))
	null("range_max_bytes", c.RangeMaxBytes != nil, deref(c.RangeMaxBytes))
	if c.GCTTLSeconds == nil {
		line("gc: null")
	} else {
		line("gc:\n  ttlseconds: %d", *c.GCTTLSeconds)
	}
	null("global_reads", c.GlobalReads != nil, c.GlobalReads != nil && *c.GlobalReads)
	null("num_replicas", c.NumReplicas != nil, deref32(c.NumReplicas))
	null("num_voters", c.NumVoters != nil, deref32(c.NumVoters))
	line("constraints: %s", FormatConstraints(c.Constraints))
	line("voter_constraints: %s", FormatConstraints(c.VoterConstraints))
	line("lease_preferences: %s", FormatLeasePreferences(c.LeasePreferences))
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// FormatConstraints prints the form that ParseConstraints reads.
func FormatConstraints(js []Conjunction) string {
	perReplica := false
	for _, j := range js {
		perReplica = perReplica || j.NumReplicas != 0
	}
	if !perReplica {
		var all []string
		for _, j := range js {
			for _, k := range j.Constraints {
				all = append(all, k.String())
			}
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	var all []string
	for _, j := range js {
		var ks []string
		for _, k := range j.Constraints {
			ks = append(ks, k.String())
		}
		key := strings.Join(ks, ",")
		if len(ks) > 1 {
			key = `"` + key + `"`
		}
		all = append(all, fmt.Sprintf("%s: %d", key, j.NumReplicas))
	}
	return "{" + strings.Join(all, ", ") + "}"
}

// FormatLeasePreferences prints the form that ParseLeasePreferences reads.
func FormatLeasePreferences(ps [][]Constraint) string {
	var all []string
	for _, p := range ps {
		var ks []string
		for _, k := range p {
			ks = append(ks, k.String())
		}
		all = append(all, "["+strings.Join(ks, ", ")+"]")
	}
	return "[" + strings.Join(all, ", ") + "]"
}
