package zones

import (
	"errors"
	"fmt"
)

// minRangeMaxBytes is the smallest size at which ranges may split.
const minRangeMaxBytes = 64 << 10

// Validate checks the fields that are set, on their own and together. The full
// configuration, after inheritance, is what should be checked.
func (c Config) Validate() error {
	for _, s := range c.Subzones {
		if err := s.Config.Validate(); err != nil {
			return err
		}
	}
	if c.NumReplicas != nil {
		switch n := *c.NumReplicas; {
		case n <= 0:
			return errors.New("at least one replica is required")
		case n == 2 && (c.NumVoters == nil || *c.NumVoters == 2):
			return errors.New("at least 3 replicas are required for multi-replica configurations")
		}
	}
	if c.NumVoters != nil {
		switch n := *c.NumVoters; {
		case n <= 0:
			return errors.New("at least one voting replica is required")
		case n == 2:
			return errors.New("at least 3 voting replicas are required for multi-replica configurations")
		}
		if c.NumReplicas != nil && *c.NumVoters > *c.NumReplicas {
			return errors.New("num_voters cannot be greater than num_replicas")
		}
	}
	if c.RangeMaxBytes != nil && *c.RangeMaxBytes < minRangeMaxBytes {
		return fmt.Errorf("RangeMaxBytes %d less than minimum allowed %d", *c.RangeMaxBytes, minRangeMaxBytes)
	}
	if c.RangeMinBytes != nil {
		if *c.RangeMinBytes < 0 {
			return fmt.Errorf("RangeMinBytes %d less than minimum allowed 0", *c.RangeMinBytes)
		}
		if c.RangeMaxBytes != nil && *c.RangeMinBytes >= *c.RangeMaxBytes {
			return fmt.Errorf("RangeMinBytes %d is greater than or equal to RangeMaxBytes %d", *c.RangeMinBytes, *c.RangeMaxBytes)
		}
	}
	if c.GCTTLSeconds != nil && *c.GCTTLSeconds < 1 {
		return fmt.Errorf("GC.TTLSeconds %d less than minimum allowed 1", *c.GCTTLSeconds)
	}
	if err := validateConjunctions(c.Constraints, c.NumReplicas); err != nil {
		return err
	}
	for _, j := range c.VoterConstraints {
		for _, k := range j.Constraints {
			if k.Prohibited {
				return errors.New("voter_constraints cannot contain prohibitive constraints")
			}
		}
	}
	voters := c.NumVoters
	if voters == nil {
		voters = c.NumReplicas
	}
	return validateConjunctions(c.VoterConstraints, voters)
}

func validateConjunctions(js []Conjunction, numReplicas *int32) error {
	var sum int32
	for _, j := range js {
		if len(js) > 1 && j.NumReplicas <= 0 {
			return errors.New("constraints must apply to at least one replica")
		}
		if j.NumReplicas < 0 {
			return errors.New("constraints must apply to at least one replica")
		}
		sum += j.NumReplicas
		for _, k := range j.Constraints {
			if k.Prohibited && j.NumReplicas != 0 && (numReplicas == nil || j.NumReplicas != *numReplicas) {
				return errors.New("only required constraints (prefixed with a '+') can be applied to a subset of replicas")
			}
		}
		if err := compatible(j.Constraints); err != nil {
			return err
		}
	}
	if numReplicas != nil && sum > *numReplicas {
		return fmt.Errorf("the number of replicas specified in constraints (%d) cannot be greater than the number of replicas configured for the zone (%d)",
			sum, *numReplicas)
	}
	return nil
}

// compatible finds two constraints that no node can satisfy together.
func compatible(ks []Constraint) error {
	for i, a := range ks {
		for _, b := range ks[i+1:] {
			if a.Key != b.Key {
				continue
			}
			contradict := a.Value == b.Value && a.Prohibited != b.Prohibited
			twoHomes := a.Key != "" && a.Value != b.Value && !a.Prohibited && !b.Prohibited
			if contradict || twoHomes {
				return fmt.Errorf("incompatible zone constraints: %q and %q", a, b)
			}
		}
	}
	return nil
}

// ErrTandem says that a field needs another field beside it.
type ErrTandem struct{ msg string }

func (e *ErrTandem) Error() string { return e.msg }

// Hint is the way out.
func (*ErrTandem) Hint() string {
	return "try ALTER ... CONFIGURE ZONE USING <field_name> = COPY FROM PARENT [, ...] to populate the field"
}

// ValidateTandem checks, on the fields set on the object itself, that those
// that depend on each other are set together.
func (c Config) ValidateTandem() error {
	if (c.RangeMinBytes == nil) != (c.RangeMaxBytes == nil) {
		return &ErrTandem{"range_min_bytes and range_max_bytes must be set together"}
	}
	for _, j := range c.Constraints {
		if j.NumReplicas != 0 && c.NumReplicas == nil {
			return &ErrTandem{"when per-replica constraints are set, num_replicas must be set as well"}
		}
	}
	for _, j := range c.VoterConstraints {
		if j.NumReplicas != 0 && c.NumVoters == nil {
			return &ErrTandem{"when voter_constraints are set, num_voters must be set as well"}
		}
	}
	if len(c.LeasePreferences) > 0 && !c.ConstraintsSet && !c.VoterConstraintsSet {
		return &ErrTandem{"lease preferences can not be set unless the constraints are explicitly set as well"}
	}
	return nil
}
