package zones

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// The ids under which system.zones stores named ranges.
const (
	DefaultID    uint32 = 0
	MetaID       uint32 = 16
	SystemID     uint32 = 17
	TimeseriesID uint32 = 18
	LivenessID   uint32 = 22
	TenantsID    uint32 = 45
)

// NamedRanges maps the names of ALTER RANGE to ids.
var NamedRanges = map[string]uint32{
	"default": DefaultID, "meta": MetaID, "system": SystemID, "timeseries": TimeseriesID,
	"liveness": LivenessID, "tenants": TenantsID,
}

// RangeName returns the name of a named range's id.
func RangeName(id uint32) (string, bool) {
	for n, i := range NamedRanges {
		if i == id {
			return n, true
		}
	}
	return "", false
}

// Config is a zone configuration. A nil field is inherited.
type Config struct {
	RangeMinBytes, RangeMaxBytes *int64
	GCTTLSeconds                 *int32
	GlobalReads                  *bool
	NumReplicas, NumVoters       *int32

	Constraints         []Conjunction
	ConstraintsSet      bool
	VoterConstraints    []Conjunction
	VoterConstraintsSet bool
	LeasePreferences    [][]Constraint
	LeasePreferencesSet bool
	Subzones            []Subzone
	SubzoneSpans        [][]byte // kept as they came
	unknown             []byte
}

// Conjunction is a set of constraints that NumReplicas replicas obey together;
// zero means all of them.
type Conjunction struct {
	NumReplicas int32
	Constraints []Constraint
}

// Constraint is one "+key=value" or "-value".
type Constraint struct {
	Prohibited bool
	Key, Value string
}

func (c Constraint) String() string {
	s := "+"
	if c.Prohibited {
		s = "-"
	}
	if c.Key != "" {
		s += c.Key + "="
	}
	return s + c.Value
}

// Subzone is the configuration of an index or a partition of a table.
type Subzone struct {
	IndexID   uint32
	Partition string
	Config    Config
}

// Default returns the built-in configuration of RANGE default.
func Default() Config {
	return Config{
		RangeMinBytes: ptr(int64(134217728)), RangeMaxBytes: ptr(int64(536870912)),
		GCTTLSeconds: ptr(int32(14400)), NumReplicas: ptr(int32(3)),
		ConstraintsSet: true, LeasePreferencesSet: true,
	}
}

// BuiltIn returns the built-in configuration of a named range. Such a range has
// no row in system.zones until someone changes it.
func BuiltIn(id uint32) (Config, bool) {
	switch id {
	case DefaultID:
		return Default(), true
	case MetaID:
		return Config{GCTTLSeconds: ptr(int32(3600)), NumReplicas: ptr(int32(5))}, true
	case LivenessID:
		return Config{GCTTLSeconds: ptr(int32(600)), NumReplicas: ptr(int32(5))}, true
	case SystemID:
		return Config{NumReplicas: ptr(int32(5))}, true
	case 1: // the system database
		return Config{NumReplicas: ptr(int32(5))}, true
	}
	return Config{}, false
}

func ptr[T any](v T) *T { return &v }

// IsEmpty says whether nothing is set on the object itself; subzones may exist.
func (c Config) IsEmpty() bool {
	return c.RangeMinBytes == nil && c.RangeMaxBytes == nil && c.GCTTLSeconds == nil && c.GlobalReads == nil &&
		c.NumReplicas == nil && c.NumVoters == nil && !c.ConstraintsSet && !c.VoterConstraintsSet && !c.LeasePreferencesSet
}

// Inherit fills the fields that c does not set from parent.
func (c *Config) Inherit(parent Config) {
	inherit(&c.RangeMinBytes, parent.RangeMinBytes)
	inherit(&c.RangeMaxBytes, parent.RangeMaxBytes)
	inherit(&c.GCTTLSeconds, parent.GCTTLSeconds)
	inherit(&c.GlobalReads, parent.GlobalReads)
	// Number of voters and of replicas go together: an object that sets only its
	// replicas does not take its parent's voters.
	if c.NumReplicas == nil {
		inherit(&c.NumVoters, parent.NumVoters)
	}
	inherit(&c.NumReplicas, parent.NumReplicas)
	if !c.ConstraintsSet && parent.ConstraintsSet {
		c.Constraints, c.ConstraintsSet = parent.Constraints, true
	}
	if !c.VoterConstraintsSet && parent.VoterConstraintsSet {
		c.VoterConstraints, c.VoterConstraintsSet = parent.VoterConstraints, true
	}
	if !c.LeasePreferencesSet && parent.LeasePreferencesSet {
		c.LeasePreferences, c.LeasePreferencesSet = parent.LeasePreferences, true
	}
}

func inherit[T any](dst **T, src *T) {
	if *dst == nil && src != nil {
		v := *src
		*dst = &v
	}
}

// Subzone returns the subzone of an index (partition "") or partition.
func (c *Config) Subzone(indexID uint32, partition string) *Subzone {
	for i := range c.Subzones {
		if s := &c.Subzones[i]; s.IndexID == indexID && s.Partition == partition {
			return s
		}
	}
	return nil
}

// SetSubzone adds or replaces a subzone; an empty config removes it.
func (c *Config) SetSubzone(s Subzone) {
	for i := range c.Subzones {
		if c.Subzones[i].IndexID == s.IndexID && c.Subzones[i].Partition == s.Partition {
			if s.Config.IsEmpty() {
				c.Subzones = append(c.Subzones[:i], c.Subzones[i+1:]...)
			} else {
				c.Subzones[i] = s
			}
			return
		}
	}
	if !s.Config.IsEmpty() {
		c.Subzones = append(c.Subzones, s)
	}
}

// The message, by its public field numbers:
//
//	Config       2 range_min_bytes 3 range_max_bytes 4 gc{1 ttl_seconds} 5 num_replicas 6 constraints
//	             8 subzones 7 subzone_spans 9 lease_preferences 10 inherited_constraints
//	             11 inherited_lease_preferences 12 global_reads 13 num_voters 14 voter_constraints
//	             15 null_voter_constraints_is_empty
//	Conjunction  6 constraints 7 num_replicas
//	Constraint   1 type (0 deprecated positive, 1 required, 2 prohibited) 2 key 3 value
//	LeasePref    1 constraints
//	Subzone      1 index_id 2 partition_name 3 config

// Marshal encodes c for system.zones.
func (c Config) Marshal() []byte {
	var b []byte
	varint := func(n protowire.Number, v uint64) {
		b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
	}
	msg := func(n protowire.Number, m []byte) {
		b = protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), m)
	}
	if c.RangeMinBytes != nil {
		varint(2, uint64(*c.RangeMinBytes))
	}
	if c.RangeMaxBytes != nil {
		varint(3, uint64(*c.RangeMaxBytes))
	}
	if c.GCTTLSeconds != nil {
		m := protowire.AppendTag(nil, 1, protowire.VarintType)
		msg(4, protowire.AppendVarint(m, uint64(int64(*c.GCTTLSeconds))))
	}
	if c.NumReplicas != nil {
		varint(5, uint64(int64(*c.NumReplicas)))
	}
	for _, j := range c.Constraints {
		msg(6, j.marshal())
	}
	for _, s := range c.SubzoneSpans {
		msg(7, s)
	}
	for _, s := range c.Subzones {
		var m []byte
		m = protowire.AppendVarint(protowire.AppendTag(m, 1, protowire.VarintType), uint64(s.IndexID))
		m = protowire.AppendString(protowire.AppendTag(m, 2, protowire.BytesType), s.Partition)
		m = protowire.AppendBytes(protowire.AppendTag(m, 3, protowire.BytesType), s.Config.Marshal())
		msg(8, m)
	}
	for _, p := range c.LeasePreferences {
		var m []byte
		for _, k := range p {
			m = protowire.AppendBytes(protowire.AppendTag(m, 1, protowire.BytesType), k.marshal())
		}
		msg(9, m)
	}
	varint(10, b2u(!c.ConstraintsSet))
	varint(11, b2u(!c.LeasePreferencesSet))
	if c.GlobalReads != nil {
		varint(12, b2u(*c.GlobalReads))
	}
	if c.NumVoters != nil {
		varint(13, uint64(int64(*c.NumVoters)))
	}
	for _, j := range c.VoterConstraints {
		msg(14, j.marshal())
	}
	if c.VoterConstraintsSet && len(c.VoterConstraints) == 0 {
		varint(15, 1)
	}
	return append(b, c.unknown...)
}

func b2u(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

func (j Conjunction) marshal() []byte {
	var m []byte
	for _, k := range j.Constraints {
		m = protowire.AppendBytes(protowire.AppendTag(m, 6, protowire.BytesType), k.marshal())
	}
	return protowire.AppendVarint(protowire.AppendTag(m, 7, protowire.VarintType), uint64(int64(j.NumReplicas)))
}

func (k Constraint) marshal() []byte {
	t := uint64(1)
	if k.Prohibited {
		t = 2
	}
	m := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), t)
	m = protowire.AppendString(protowire.AppendTag(m, 2, protowire.BytesType), k.Key)
	return protowire.AppendString(protowire.AppendTag(m, 3, protowire.BytesType), k.Value)
}

// Unmarshal decodes what Marshal made. Fields that it does not know survive a
// round trip.
func Unmarshal(b []byte) (Config, error) {
	var c Config
	// An absent flag means "not inherited": old configurations held everything.
	c.ConstraintsSet, c.LeasePreferencesSet = true, true
	err := fields(b, func(n protowire.Number, v uint64, m, raw []byte) error {
		switch n {
		case 2:
			c.RangeMinBytes = ptr(int64(v))
		case 3:
			c.RangeMaxBytes = ptr(int64(v))
		case 4:
			return fields(m, func(n protowire.Number, v uint64, _, _ []byte) error {
				if n == 1 {
					c.GCTTLSeconds = ptr(int32(v))
				}
				return nil
			})
		case 5:
			c.NumReplicas = ptr(int32(v))
		case 6, 14:
			j, err := unmarshalConjunction(m)
			if err != nil {
				return err
			}
			if n == 6 {
				c.Constraints = append(c.Constraints, j)
			} else {
				c.VoterConstraints, c.VoterConstraintsSet = append(c.VoterConstraints, j), true
			}
		case 7:
			c.SubzoneSpans = append(c.SubzoneSpans, append([]byte(nil), m...))
		case 8:
			var s Subzone
			if err := fields(m, func(n protowire.Number, v uint64, m, _ []byte) (err error) {
				switch n {
				case 1:
					s.IndexID = uint32(v)
				case 2:
					s.Partition = string(m)
				case 3:
					s.Config, err = Unmarshal(m)
				}
				return err
			}); err != nil {
				return err
			}
			c.Subzones = append(c.Subzones, s)
		case 9:
			var p []Constraint
			if err := fields(m, func(n protowire.Number, _ uint64, m, _ []byte) error {
				if n != 1 {
					return nil
				}
				k, err := unmarshalConstraint(m)
				p = append(p, k)
				return err
			}); err != nil {
				return err
			}
			c.LeasePreferences = append(c.LeasePreferences, p)
		case 10:
			c.ConstraintsSet = v == 0
		case 11:
			c.LeasePreferencesSet = v == 0
		case 12:
			c.GlobalReads = ptr(v != 0)
		case 13:
			c.NumVoters = ptr(int32(v))
		case 15:
			c.VoterConstraintsSet = c.VoterConstraintsSet || v != 0
		default:
			c.unknown = append(c.unknown, raw...)
		}
		return nil
	})
	return c, err
}

func unmarshalConjunction(b []byte) (j Conjunction, err error) {
	err = fields(b, func(n protowire.Number, v uint64, m, _ []byte) error {
		switch n {
		case 6:
			k, err := unmarshalConstraint(m)
			if err != nil {
				return err
			}
			j.Constraints = append(j.Constraints, k)
		case 7:
			j.NumReplicas = int32(v)
		}
		return nil
	})
	return j, err
}

func unmarshalConstraint(b []byte) (k Constraint, err error) {
	err = fields(b, func(n protowire.Number, v uint64, m, _ []byte) error {
		switch n {
		case 1:
			k.Prohibited = v == 2
		case 2:
			k.Key = string(m)
		case 3:
			k.Value = string(m)
		}
		return nil
	})
	return k, err
}

// fields calls fn for each field of a message: v for varints, m for bytes, raw
// for the whole field.
func fields(b []byte, fn func(n protowire.Number, v uint64, m, raw []byte) error) error {
	for len(b) > 0 {
		n, typ, tagLen := protowire.ConsumeTag(b)
		if tagLen < 0 {
			return fmt.Errorf("decoding zone configuration: %w", protowire.ParseError(tagLen))
		}
		size := protowire.ConsumeFieldValue(n, typ, b[tagLen:])
		if size < 0 {
			return fmt.Errorf("decoding zone configuration: %w", protowire.ParseError(size))
		}
		raw, body := b[:tagLen+size], b[tagLen:tagLen+size]
		b = b[tagLen+size:]
		var v uint64
		var m []byte
		switch typ {
		case protowire.VarintType:
			v, _ = protowire.ConsumeVarint(body)
		case protowire.BytesType:
			m, _ = protowire.ConsumeBytes(body)
		}
		if err := fn(n, v, m, raw); err != nil {
			return err
		}
	}
	return nil
}
