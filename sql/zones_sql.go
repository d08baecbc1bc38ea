package sql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/internal/zones"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/partition"
)

// zoneTarget is the object of a CONFIGURE ZONE statement.
type zoneTarget struct {
	id        catalog.ID
	index     uint32 // 0: the object itself
	partition string // of the index, or ""
	// parents are the ids to inherit from, nearest first.
	parents []catalog.ID
	// sql names the target, for instance "TABLE movr.public.users".
	sql   string
	table *catalog.Table
	db    *catalog.Database
}

// resolveZoneTarget finds the object of a zone specifier.
func (p *planner) resolveZoneTarget(ctx context.Context, z *tree.ZoneSpecifier) (zoneTarget, error) {
	switch {
	case z.NamedZone != "":
		name := strings.ToLower(string(z.NamedZone))
		id, ok := zones.NamedRanges[name]
		if !ok {
			return zoneTarget{}, pgerr.Newf(pgerr.InvalidParameterValue, "%q is not a built-in zone", name)
		}
		t := zoneTarget{id: id, sql: "RANGE " + name}
		if id != zones.DefaultID {
			t.parents = []catalog.ID{zones.DefaultID}
		}
		return t, nil
	case z.Database != "":
		db, err := p.cat.MustDatabase(ctx, string(z.Database))
		if err != nil {
			return zoneTarget{}, err
		}
		return zoneTarget{id: db.ID(), parents: []catalog.ID{zones.DefaultID}, sql: "DATABASE " + quoteIdent(db.Name()), db: db}, nil
	}
	var tbl *catalog.Table
	var x *catalog.Index
	var err error
	if z.TargetsIndex() {
		tbl, x, err = p.findIndex(ctx, &z.TableOrIndex)
	} else {
		tbl, err = p.resolveTable(ctx, &z.TableOrIndex.Table)
	}
	if err != nil {
		return zoneTarget{}, err
	}
	if z.Partition != "" {
		if x, err = indexOfPartition(tbl, x, string(z.Partition)); err != nil {
			return zoneTarget{}, err
		}
	}
	return p.subzoneTarget(ctx, tbl, x, string(z.Partition))
}

// subzoneTarget is a table, one of its indexes (nil: none) or a partition of that.
func (p *planner) subzoneTarget(ctx context.Context, tbl *catalog.Table, x *catalog.Index, part string) (zoneTarget, error) {
	name, err := p.qualifiedName(ctx, tbl)
	if err != nil {
		return zoneTarget{}, err
	}
	t := zoneTarget{id: tbl.ID(), parents: []catalog.ID{tbl.ParentID(), zones.DefaultID}, sql: "TABLE " + name, table: tbl}
	if x != nil {
		t.index, t.sql = x.ID, "INDEX "+name+"@"+quoteIdent(x.Name)
		t.parents = append([]catalog.ID{tbl.ID()}, t.parents...)
	}
	if part != "" {
		t.partition, t.sql = part, "PARTITION "+quoteIdent(part)+" OF "+t.sql
	}
	return t, nil
}

// indexOfPartition finds the index of a table that has a partition; only may be the
// one that was named.
func indexOfPartition(tbl *catalog.Table, only *catalog.Index, name string) (*catalog.Index, error) {
	var found *catalog.Index
	for _, x := range tbl.PublicIndexes() {
		if only != nil && x != only || !slices.Contains(partition.Names(x.PB.Partitioning), name) {
			continue
		}
		if found != nil {
			return nil, pgerr.Newf(pgerr.InvalidParameterValue, "partition %q exists on multiple indexes of table %q", name, tbl.Name()).
				WithHint("try ALTER PARTITION ... OF INDEX ...")
		}
		found = x
	}
	if found == nil {
		return nil, pgerr.Newf(pgerr.InvalidParameterValue, "partition %q does not exist on table %q", name, tbl.Name())
	}
	return found, nil
}

func (p *planner) zoneRow(ctx context.Context, id catalog.ID) (zones.Config, systables.Row, error) {
	row, err := p.systemRow(ctx, systables.Zones, int64(id))
	if err != nil || row == nil {
		return zones.Config{}, nil, err
	}
	b, _ := row[1].([]byte)
	c, err := zones.Unmarshal(b)
	return c, row, err
}

// storedZone is the configuration an object has of its own: its row, or the
// built-in one of a named range.
func (p *planner) storedZone(ctx context.Context, id catalog.ID) (zones.Config, bool, error) {
	c, row, err := p.zoneRow(ctx, id)
	if err != nil {
		return c, false, err
	}
	if row != nil {
		return c, true, nil
	}
	b, ok := zones.BuiltIn(id)
	return b, ok, nil
}

// effectiveZone returns the merged configuration and what the nearest object that
// has one of its own is called, as in "TABLE movr.public.users".
func (p *planner) effectiveZone(ctx context.Context, t zoneTarget) (zones.Config, string, error) {
	var c zones.Config
	origin := zoneOrigin{}
	take := func(parent zones.Config, o zoneOrigin) {
		if parent.IsEmpty() {
			return
		}
		if !origin.found {
			origin = o
			origin.found = true
		}
		parent.Subzones = nil
		c.Inherit(parent)
	}
	if t.index != 0 {
		own, _, err := p.zoneRow(ctx, t.id)
		if err != nil {
			return c, "", err
		}
		// A subpartition does not inherit from its parent, so there are two steps.
		if t.partition != "" {
			if s := own.Subzone(t.index, t.partition); s != nil {
				take(s.Config, zoneOrigin{sub: true, partition: true})
			}
		}
		if s := own.Subzone(t.index, ""); s != nil {
			take(s.Config, zoneOrigin{sub: true})
		}
	}
	ids := t.parents
	if t.index == 0 {
		ids = append([]catalog.ID{t.id}, t.parents...)
	}
	for _, id := range ids {
		parent, ok, err := p.storedZone(ctx, id)
		if err != nil {
			return c, "", err
		}
		if ok {
			take(parent, zoneOrigin{id: id})
		}
	}
	c.Inherit(zones.Default())
	name, err := p.zoneOriginName(ctx, t, origin)
	return c, name, err
}

// zoneOrigin is an object that a configuration comes from: the partition of the
// target, its index, or a descriptor or named range.
type zoneOrigin struct {
	found, sub, partition bool
	id                    catalog.ID
}

func (p *planner) zoneOriginName(ctx context.Context, t zoneTarget, o zoneOrigin) (string, error) {
	_, index, _ := strings.Cut(t.sql, " OF ")
	switch {
	case o.sub && (o.partition || t.partition == ""), !o.sub && o.id == t.id && t.index == 0:
		return t.sql, nil
	case o.sub:
		return index, nil
	case t.table != nil && o.id == t.id:
		name, err := p.qualifiedName(ctx, t.table)
		return "TABLE " + name, err
	case t.table != nil && o.id == t.table.ParentID():
		db, err := p.cat.DatabaseByID(ctx, o.id)
		if err != nil || db == nil {
			return "", err
		}
		return "DATABASE " + quoteIdent(db.Name()), nil
	}
	name, _ := zones.RangeName(o.id)
	return "RANGE " + name, nil
}

// setZone runs ALTER … CONFIGURE ZONE.
func (p *planner) setZone(ctx context.Context, n *tree.SetZoneConfig) (string, error) {
	if n.AllIndexes { // ALTER PARTITION p OF INDEX t@*
		tbl, err := p.resolveTable(ctx, &n.TableOrIndex.Table)
		if err != nil {
			return "", err
		}
		tag := ""
		for _, x := range tbl.PublicIndexes() {
			if !slices.Contains(partition.Names(x.PB.Partitioning), string(n.Partition)) {
				continue
			}
			t, err := p.subzoneTarget(ctx, tbl, x, string(n.Partition))
			if err != nil {
				return "", err
			}
			if tag, err = p.setZoneOf(ctx, t, n); err != nil {
				return "", err
			}
			p.txn.Step(ctx)
		}
		if tag == "" {
			_, err = indexOfPartition(tbl, nil, string(n.Partition))
		}
		return tag, err
	}
	t, err := p.resolveZoneTarget(ctx, &n.ZoneSpecifier)
	if err != nil {
		return "", err
	}
	return p.setZoneOf(ctx, t, n)
}

// setZoneOf changes the configuration of one object.
func (p *planner) setZoneOf(ctx context.Context, t zoneTarget, n *tree.SetZoneConfig) (string, error) {
	if err := p.checkZonePrivilege(ctx, t); err != nil {
		return "", err
	}
	if t.table != nil {
		if t.table.ParentID() == catalog.SystemDatabaseID {
			return "", pgerr.New(pgerr.InvalidParameterValue, "cannot set zone configs for system config tables; try setting your config on the entire \"system\" database instead")
		}
		if t.table.IsView() && !t.table.IsMaterializedView() {
			return "", pgerr.Newf(pgerr.InvalidParameterValue, "cannot set a zone configuration on non-physical object %s", t.table.Name())
		}
	}
	whole, row, err := p.zoneRow(ctx, t.id)
	if err != nil {
		return "", err
	}
	if row == nil {
		whole, _ = zones.BuiltIn(t.id)
	}
	own := whole
	own.Subzones = nil
	if t.index != 0 {
		own = zones.Config{}
		if s := whole.Subzone(t.index, t.partition); s != nil {
			own = s.Config
		}
	}
	discard := false
	switch {
	case n.SetDefault:
		own = zones.Config{}
		if b, ok := zones.BuiltIn(t.id); ok && t.index == 0 {
			own = b
		}
	case n.YAMLConfig != nil:
		d, err := p.evalConst(ctx, n.YAMLConfig)
		if err != nil {
			return "", err
		}
		switch {
		case d == tree.DNull:
			if t.id == zones.DefaultID {
				return "", pgerr.New(pgerr.InvalidParameterValue, "cannot remove default zone")
			}
			discard = true
		case d.ResolvedType().Family() == types.StringFamily || d.ResolvedType().Family() == types.BytesFamily:
			if err := parseZoneYAML(p.plainText(d), &own); err != nil {
				return "", pgerr.Newf(pgerr.CheckViolation, "could not parse zone config: %v", err)
			}
		default:
			return "", pgerr.Newf(pgerr.InvalidParameterValue, "zone config must be of type string or bytes, not %s", typeName(d.ResolvedType()))
		}
	default:
		inherited, err := p.inheritedZone(ctx, t)
		if err != nil {
			return "", err
		}
		if err := p.applyZoneOptions(ctx, &own, inherited, n.Options); err != nil {
			return "", err
		}
	}
	if discard {
		own = zones.Config{}
	}
	if err := p.validateZone(ctx, t, own); err != nil {
		return "", err
	}
	if t.index != 0 {
		whole.SubzoneSpans = nil // They are computed where they are needed.
		whole.SetSubzone(zones.Subzone{IndexID: t.index, Partition: t.partition, Config: own})
	} else {
		own.Subzones, own.SubzoneSpans = whole.Subzones, whole.SubzoneSpans
		whole = own
	}
	if err := p.checkWritable("CONFIGURE ZONE"); err != nil {
		return "", err
	}
	p.schemaChanged()
	p.zonesChanged()
	var next systables.Row
	keep := !whole.IsEmpty() || len(whole.Subzones) > 0
	if n.SetDefault && t.index == 0 && !discard && t.id >= catalog.FirstUserID && !keep {
		keep = false
	}
	if keep {
		next = systables.Row{int64(t.id), whole.Marshal()}
	}
	if row == nil && next == nil {
		return "CONFIGURE ZONE 0", nil
	}
	if err := p.putSystemRow(ctx, systables.Zones, row, next); err != nil {
		return "", err
	}
	if discard {
		return "DISCARD ZONE 1", nil
	}
	return "CONFIGURE ZONE 1", nil
}

// zonesChanged has all nodes look at the placement of their ranges again, once the
// transaction is durable.
func (p *planner) zonesChanged() {
	p.afterCommit(func(context.Context) error {
		p.srv.forgetZones()
		if p.srv.peers != nil {
			p.srv.peers.Poke(catalog.ZonesChange)
		}
		return nil
	})
}

func (p *planner) checkZonePrivilege(ctx context.Context, t zoneTarget) error {
	switch {
	case t.table != nil:
		roles, err := p.roles(ctx)
		if err != nil {
			return err
		}
		if catalog.HasPrivilege(t.table.Privileges(), roles, catalog.ZoneConfig) || catalog.HasPrivilege(t.table.Privileges(), roles, catalog.Create) {
			return nil
		}
		return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have ZONECONFIG or CREATE privilege on relation %s", p.user(), t.table.Name())
	case t.db != nil && t.db.ID() != catalog.SystemDatabaseID:
		roles, err := p.roles(ctx)
		if err != nil {
			return err
		}
		if catalog.HasPrivilege(t.db.Privileges(), roles, catalog.ZoneConfig) || catalog.HasPrivilege(t.db.Privileges(), roles, catalog.Create) {
			return nil
		}
		return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have ZONECONFIG or CREATE privilege on database %s", p.user(), t.db.Name())
	}
	return p.requireAdmin(ctx, "alter system ranges")
}

// applyZoneOptions sets single variables.
func (p *planner) applyZoneOptions(ctx context.Context, c *zones.Config, parent zones.Config, options tree.KVOptions) error {
	seen := map[string]bool{}
	for _, o := range options {
		name := strings.ToLower(string(o.Key))
		if seen[name] {
			return pgerr.Newf(pgerr.InvalidParameterValue, "duplicate zone config parameter: %q", name)
		}
		seen[name] = true
		if o.Value == nil { // COPY FROM PARENT
			if !copyZoneField(c, parent, name) {
				return errZoneParameter(name)
			}
			continue
		}
		d, err := p.evalConst(ctx, o.Value)
		if err != nil {
			return err
		}
		if d == tree.DNull {
			return pgerr.Newf(pgerr.InvalidParameterValue, "unsupported NULL value for %q", name)
		}
		if err := setZoneField(c, name, p.plainText(d)); err != nil {
			return err
		}
	}
	return nil
}

func errZoneParameter(name string) error {
	return pgerr.Newf(pgerr.InvalidParameterValue, "unsupported zone config parameter: %q", name)
}

func copyZoneField(c *zones.Config, parent zones.Config, name string) bool {
	switch name {
	case "range_min_bytes":
		c.RangeMinBytes = parent.RangeMinBytes
	case "range_max_bytes":
		c.RangeMaxBytes = parent.RangeMaxBytes
	case "gc.ttlseconds":
		c.GCTTLSeconds = parent.GCTTLSeconds
	case "global_reads":
		c.GlobalReads = parent.GlobalReads
	case "num_replicas":
		c.NumReplicas = parent.NumReplicas
	case "num_voters":
		c.NumVoters = parent.NumVoters
	case "constraints":
		c.Constraints, c.ConstraintsSet = parent.Constraints, true
	case "voter_constraints":
		c.VoterConstraints, c.VoterConstraintsSet = parent.VoterConstraints, true
	case "lease_preferences":
		c.LeasePreferences, c.LeasePreferencesSet = parent.LeasePreferences, true
	default:
		return false
	}
	return true
}

func setZoneField(c *zones.Config, name, value string) error {
	num := func(bits int) (int64, error) {
		v, err := strconv.ParseInt(strings.TrimSpace(value), 10, bits)
		if err != nil {
			return 0, pgerr.Newf(pgerr.InvalidParameterValue, "could not parse %q as an integer for %s", value, name)
		}
		return v, nil
	}
	wrap := func(err error) error {
		if err == nil {
			return nil
		}
		what := "parse"
		if invalid := (*zones.InvalidError)(nil); errors.As(err, &invalid) {
			what = "validate"
		}
		return pgerr.Newf(pgerr.CheckViolation, "could not %s zone config: %w", what, err)
	}
	switch name {
	case "range_min_bytes", "range_max_bytes":
		v, err := num(64)
		if err != nil {
			return err
		}
		if name == "range_min_bytes" {
			c.RangeMinBytes = &v
		} else {
			c.RangeMaxBytes = &v
		}
	case "gc.ttlseconds", "num_replicas", "num_voters":
		v, err := num(32)
		if err != nil {
			return err
		}
		w := int32(v)
		switch name {
		case "gc.ttlseconds":
			c.GCTTLSeconds = &w
		case "num_replicas":
			c.NumReplicas = &w
		default:
			c.NumVoters = &w
		}
	case "global_reads":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return pgerr.Newf(pgerr.InvalidParameterValue, "could not parse %q as a bool for %s", value, name)
		}
		c.GlobalReads = &b
	case "constraints":
		js, err := zones.ParseConstraints(value)
		if err != nil {
			return wrap(err)
		}
		c.Constraints, c.ConstraintsSet = js, true
	case "voter_constraints":
		js, err := zones.ParseConstraints(value)
		if invalid := (*zones.InvalidError)(nil); errors.As(err, &invalid) && strings.HasPrefix(invalid.Error(), "constraints must either") {
			return pgerr.New(pgerr.CheckViolation, "could not validate zone config: voter_constraints must be of type 'required' (prefixed with a '+')")
		}
		if err != nil {
			return wrap(err)
		}
		c.VoterConstraints, c.VoterConstraintsSet = js, true
	case "lease_preferences":
		ps, err := zones.ParseLeasePreferences(value)
		if err != nil {
			return wrap(err)
		}
		c.LeasePreferences, c.LeasePreferencesSet = ps, true
	default:
		return errZoneParameter(name)
	}
	return nil
}

// parseZoneYAML reads the old form: "key: value" lines, and gc with ttlseconds
// below it or beside it in braces.
func parseZoneYAML(text string, c *zones.Config) error {
	section := ""
	for _, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		key, value, ok := strings.Cut(trimmed, ":")
		if !ok {
			return fmt.Errorf("%q is not key: value", trimmed)
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			section = ""
		}
		switch {
		case key == "gc" && value == "":
			section = "gc."
			continue
		case key == "gc":
			inner := strings.Trim(value, "{} ")
			k, v, _ := strings.Cut(inner, ":")
			key, value = "gc."+strings.TrimSpace(k), strings.TrimSpace(v)
		default:
			key = section + key
		}
		if value == "null" {
			continue
		}
		if err := setZoneField(c, key, value); err != nil {
			return err
		}
	}
	return nil
}

// inheritedZone is what would hold for an object without a configuration of its own.
func (p *planner) inheritedZone(ctx context.Context, t zoneTarget) (zones.Config, error) {
	var c zones.Config
	if t.partition != "" {
		whole, _, err := p.zoneRow(ctx, t.id)
		if err != nil {
			return c, err
		}
		if s := whole.Subzone(t.index, ""); s != nil {
			c.Inherit(s.Config)
		}
	}
	for _, id := range t.parents {
		parent, ok, err := p.storedZone(ctx, id)
		if err != nil {
			return c, err
		}
		if ok {
			parent.Subzones = nil
			c.Inherit(parent)
		}
	}
	c.Inherit(zones.Default())
	return c, nil
}

// validateZone checks the new fields together with what is inherited.
func (p *planner) validateZone(ctx context.Context, t zoneTarget, own zones.Config) error {
	fail := func(err error) error {
		e := pgerr.Newf(pgerr.CheckViolation, "could not validate zone config: %v", err)
		var tandem *zones.ErrTandem
		if errors.As(err, &tandem) {
			return e.WithHint("%s", tandem.Hint())
		}
		return e
	}
	if t.id != zones.DefaultID {
		if err := own.ValidateTandem(); err != nil {
			return fail(err)
		}
	}
	full := own
	parent, err := p.inheritedZone(ctx, t)
	if err != nil {
		return err
	}
	full.Inherit(parent)
	if err := full.Validate(); err != nil {
		var c interface{ Error() string } = err
		if strings.HasPrefix(c.Error(), "incompatible zone constraints") {
			return pgerr.Newf(pgerr.CheckViolation, "%v", err)
		}
		return fail(err)
	}
	return p.checkConstraintNodes(ctx, own)
}

// checkConstraintNodes requires that some node can satisfy each required
// constraint, by its locality, its attributes or those of a store.
func (p *planner) checkConstraintNodes(ctx context.Context, c zones.Config) error {
	nodes, err := p.srv.nodes(ctx)
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for i := range nodes {
		for _, tier := range strings.Split(nodes[i].Locality, ",") {
			has[tier] = true
		}
		for _, a := range nodes[i].Attrs {
			has[a] = true
		}
		for _, s := range nodes[i].Stores {
			for _, a := range s.Attrs {
				has[a] = true
			}
		}
	}
	matches := func(k zones.Constraint) bool {
		if k.Key == "" {
			return k.Prohibited || has[k.Value]
		}
		return k.Prohibited || has[k.Key+"="+k.Value]
	}
	var all []zones.Constraint
	for _, j := range append(append([]zones.Conjunction(nil), c.Constraints...), c.VoterConstraints...) {
		all = append(all, j.Constraints...)
	}
	for _, pref := range c.LeasePreferences {
		all = append(all, pref...)
	}
	for _, k := range all {
		if !matches(k) {
			return pgerr.Newf(pgerr.CheckViolation, "constraint %q matches no existing nodes within the cluster - did you enter it correctly?", k.String())
		}
	}
	return nil
}

// ZoneForTable returns the configuration that holds for a table, dropped ones
// included: what decides when its old versions may be collected.
func (s *Server) ZoneForTable(ctx context.Context, id catalog.ID) (zones.Config, error) {
	var c zones.Config
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		c = zones.Config{}
		get := func(id catalog.ID) error {
			key, err := systables.Zones.Key(int64(id))
			if err != nil {
				return err
			}
			res, err := txn.Get(ctx, key)
			if err != nil {
				return err
			}
			if len(res.Value) == 0 {
				if b, ok := zones.BuiltIn(id); ok {
					c.Inherit(b)
				}
				return nil
			}
			row, err := systables.Zones.Decode(key, res.Value)
			if err != nil {
				return err
			}
			b, _ := row[1].([]byte)
			parent, err := zones.Unmarshal(b)
			if err != nil {
				return err
			}
			parent.Subzones = nil
			c.Inherit(parent)
			return nil
		}
		if err := get(id); err != nil {
			return err
		}
		coll := s.catalog.NewCollection(txn)
		defer coll.Release()
		// As it is stored: of a dropped table the types of its columns may be gone.
		t, err := coll.ByID(ctx, id)
		if err != nil {
			return err
		}
		if t != nil {
			if err := get(t.ParentID()); err != nil {
				return err
			}
		}
		return get(zones.DefaultID)
	})
	return c, err
}

// zoneSQL prints a configuration for SHOW.
func zoneSQL(c zones.Config, target string) string { return c.SQL(target) }

// allZones lists the objects that have a configuration of their own.
type zoneEntry struct {
	id        catalog.ID
	index     uint32
	partition string
	subzone   int // number among those of the table, from 1
	target    string
	own       zones.Config
	table     *catalog.Table
	x         *catalog.Index
}

func (p *planner) allZones(ctx context.Context, v *descSet) ([]zoneEntry, error) {
	stored := map[catalog.ID]zones.Config{}
	if err := p.scanSystem(ctx, systables.Zones, func(row systables.Row) error {
		b, _ := row[1].([]byte)
		c, err := zones.Unmarshal(b)
		stored[catalog.ID(row[0].(int64))] = c
		return err
	}); err != nil {
		return nil, err
	}
	for _, id := range zones.NamedRanges {
		if _, ok := stored[id]; !ok {
			if b, ok := zones.BuiltIn(id); ok {
				stored[id] = b
			}
		}
	}
	if _, ok := stored[catalog.SystemDatabaseID]; !ok {
		stored[catalog.SystemDatabaseID], _ = zones.BuiltIn(catalog.SystemDatabaseID)
	}
	var out []zoneEntry
	for id, c := range stored {
		e := zoneEntry{id: id, own: c}
		if name, ok := zones.RangeName(id); ok && (id < catalog.FirstUserID && v.dbByID[id] == nil) {
			e.target = "RANGE " + name
		} else if db := v.dbByID[id]; db != nil {
			e.target = "DATABASE " + quoteIdent(db.Name())
		} else if t := v.tableByID[id]; t != nil {
			db := v.dbByID[t.ParentID()]
			if db == nil {
				continue
			}
			name := quoteIdent(db.Name()) + "." + quoteIdent(v.schemaOf(t)) + "." + quoteIdent(t.Name())
			e.target, e.table = "TABLE "+name, t
			for i, s := range c.Subzones {
				x := t.IndexByID(s.IndexID)
				if x == nil {
					continue
				}
				target := "INDEX " + name + "@" + quoteIdent(x.Name)
				if s.Partition != "" {
					target = "PARTITION " + quoteIdent(s.Partition) + " OF " + target
				}
				out = append(out, zoneEntry{id: id, index: s.IndexID, partition: s.Partition, subzone: i + 1, target: target, own: s.Config, table: t, x: x})
			}
		} else {
			continue
		}
		if !c.IsEmpty() {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].id != out[j].id {
			return out[i].id < out[j].id
		}
		if out[i].index != out[j].index {
			return out[i].index < out[j].index
		}
		return out[i].partition < out[j].partition
	})
	return out, nil
}
