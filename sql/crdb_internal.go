package sql

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/pgfacts"
)

// crdbInternalDDL are the tables of crdb_internal, with the columns of the
// documented ones.
var crdbInternalDDL = []string{
	`jobs(job_id int, job_type text, description text, statement text, user_name text, descriptor_ids int[], status text, running_status text, created timestamptz, started timestamptz, finished timestamptz, modified timestamptz, fraction_completed float, high_water_timestamp decimal, error text, coordinator_id int, trace_id int, execution_errors text[], execution_events jsonb, last_run timestamptz, next_run timestamptz, num_runs int)`,
	`tables(table_id int, parent_id int, name text, database_name text, version int, mod_time timestamptz, mod_time_logical decimal, format_version text, state text, sc_lease_node_id int, sc_lease_expiration_time timestamptz, drop_time timestamptz, audit_mode text, schema_name text, parent_schema_id int, locality text)`,
	`databases(id int, name text, owner text, primary_region text, secondary_region text, regions text[], survival_goal text, placement_policy text, create_statement text)`,
	`table_columns(descriptor_id int, descriptor_name text, column_id int, column_name text, column_type text, nullable boolean, default_expr text, hidden boolean)`,
	`table_indexes(descriptor_id int, descriptor_name text, index_id int, index_name text, index_type text, is_unique boolean, is_inverted boolean, is_sharded boolean, is_visible boolean, shard_bucket_count int, created_at timestamptz, create_statement text)`,
	`index_columns(descriptor_id int, descriptor_name text, index_id int, index_name text, column_type text, column_id int, column_name text, column_direction text, implicit boolean)`,
	`ranges_no_leases(range_id int, start_key bytea, start_pretty text, end_key bytea, end_pretty text, replicas int[], replica_localities text[], voting_replicas int[], non_voting_replicas int[], learner_replicas int[], split_enforced_until timestamp)`,
	`ranges(range_id int, start_key bytea, start_pretty text, end_key bytea, end_pretty text, replicas int[], replica_localities text[], voting_replicas int[], non_voting_replicas int[], learner_replicas int[], split_enforced_until timestamp, lease_holder int, range_size int)`,
	`cluster_settings(variable text, value text, type text, public boolean, description text, default_value text, origin text)`,
	`session_variables(variable text, value text, hidden boolean)`,
	`zones(zone_id int, subzone_id int, target text, range_name text, database_name text, schema_name text, table_name text, index_name text, partition_name text, raw_config_yaml text, raw_config_sql text, raw_config_protobuf bytea, full_config_yaml text, full_config_sql text)`,
	`node_build_info(node_id int, field text, value text)`,
	`schema_changes(table_id int, parent_id int, name text, type text, target_id int, target_name text, state text, direction text)`,
	`kv_node_status(node_id int, network text, address text, attrs jsonb, locality text, server_version text, go_version text, tag text, time text, revision text, cgo_compiler text, platform text, distribution text, type text, dependencies text, started_at timestamp, updated_at timestamp, metrics jsonb, args jsonb, env jsonb, activity jsonb)`,
	`kv_store_status(node_id int, store_id int, attrs jsonb, capacity int, available int, used int, logical_bytes int, range_count int, lease_count int)`,
	`gossip_nodes(node_id int, network text, address text, advertise_address text, sql_network text, sql_address text, advertise_sql_address text, attrs jsonb, locality text, cluster_name text, server_version text, build_tag text, started_at timestamp, is_live boolean, ranges int, leases int, is_available boolean)`,
	`gossip_liveness(node_id int, epoch int, expiration text, draining boolean, decommissioning boolean, membership text, updated_at timestamp)`,
	`partitions(table_id int, index_id int, parent_name text, name text, columns int, column_names text, list_value text, range_value text, zone_id int, subzone_id int)`,
	`node_sessions(node_id int, session_id text, status text, user_name text, client_address text, application_name text, active_queries text, last_active_query text, num_txns_executed int, session_start timestamptz, active_query_start timestamptz, kv_txn text, alloc_bytes int, max_alloc_bytes int, trace_id int, goroutine_id int, isolation_level text)`,
	`cluster_sessions(node_id int, session_id text, status text, user_name text, client_address text, application_name text, active_queries text, last_active_query text, num_txns_executed int, session_start timestamptz, active_query_start timestamptz, kv_txn text, alloc_bytes int, max_alloc_bytes int, trace_id int, goroutine_id int, isolation_level text)`,
	`node_queries(query_id text, txn_id text, node_id int, session_id text, user_name text, start timestamptz, query text, client_address text, application_name text, distributed boolean, phase text)`,
	`cluster_queries(query_id text, txn_id text, node_id int, session_id text, user_name text, start timestamptz, query text, client_address text, application_name text, distributed boolean, phase text)`,
	`node_transactions(id uuid, node_id int, session_id text, start timestamptz, txn_string text, application_name text, num_stmts int, num_retries int, num_auto_retries int, last_auto_retry_reason text)`,
	`cluster_transactions(id uuid, node_id int, session_id text, start timestamptz, txn_string text, application_name text, num_stmts int, num_retries int, num_auto_retries int, last_auto_retry_reason text)`,
	`create_statements(database_id int, database_name text, schema_name text, descriptor_id int, descriptor_type text, descriptor_name text, create_statement text, state text)`,
	`cluster_database_privileges(database_name text, grantee text, privilege_type text, is_grantable boolean)`,
	`leases_by_locality(locality text, node_ids int[], replicas int, leases int)`,
	`regions(region text, zones text[])`,
	`feature_usage(feature_name text, usage_count int)`,
	`node_runtime_info(node_id int, component text, field text, value text)`,
	`invalid_objects(id int, database_name text, schema_name text, obj_name text, error text)`,
	`leases(node_id int, table_id int, name text, parent_id int, expiration timestamp, deleted boolean)`,
	`builtin_functions(function text, signature text, category text, details text, schema text, oid int)`,
}

func crdbInternalDefs() []pgfacts.Table {
	var out []pgfacts.Table
	for _, ddl := range crdbInternalDDL {
		t, err := pgfacts.ParseTable(ddl)
		if err != nil {
			panic(err) // Part of the program; a test reads every table.
		}
		out = append(out, t)
	}
	return out
}

func crdbInternalTables() map[string]vpopulate {
	return map[string]vpopulate{
		"jobs": vcJobs, "tables": vcTables, "databases": vcDatabases, "table_columns": vcTableColumns, "table_indexes": vcTableIndexes,
		"index_columns": vcIndexColumns, "ranges": vcRanges, "ranges_no_leases": vcRangesNoLeases, "cluster_settings": vcClusterSettings,
		"session_variables": vcSessionVariables, "zones": vcZones, "partitions": vcPartitions, "node_build_info": vcNodeBuildInfo, "schema_changes": vcSchemaChanges,
		"kv_node_status": vcNodeStatus, "gossip_nodes": vcGossipNodes, "gossip_liveness": vcLiveness, "node_sessions": vcSessions(false),
		"cluster_sessions": vcSessions(true), "node_queries": vcQueries(false), "cluster_queries": vcQueries(true),
		"node_transactions": vcTransactions(false), "cluster_transactions": vcTransactions(true), "create_statements": vcCreateStatements,
		"cluster_database_privileges": vcDatabasePrivileges, "node_runtime_info": vcRuntimeInfo, "builtin_functions": vcBuiltins, "regions": vcRegions,
		"kv_store_status": vcStoreStatus, "leases_by_locality": vcLeasesByLocality,
	}
}

// jobVisible applies the rules of who sees a job.
func (p *planner) jobVisible(ctx context.Context) (func(owner string) bool, error) {
	user := p.user()
	roles, err := p.rolesOf(ctx, user)
	if err != nil {
		return nil, err
	}
	all := roles[catalog.AdminRole]
	for _, priv := range []string{"CONTROLJOB", "VIEWJOB"} {
		if !all {
			if all, err = p.hasSystemPrivilege(ctx, user, priv); err != nil {
				return nil, err
			}
		}
	}
	return func(owner string) bool { return all || roles[owner] }, nil
}

// displayState shows jobs that wait for their next attempt as such.
func displayState(rec *jobs.Record, now time.Time) string {
	if rec.NextRun.After(now) && rec.NumRuns > 0 {
		switch rec.State {
		case jobs.Running:
			return "retry-running"
		case jobs.Reverting:
			return "retry-reverting"
		}
	}
	return string(rec.State)
}

func vcJobs(ctx context.Context, v *vctx, add func(vrow) error) error {
	reg := v.p.srv.cfg.Jobs
	if reg == nil {
		return nil
	}
	visible, err := v.p.jobVisible(ctx)
	if err != nil {
		return err
	}
	now := v.p.srv.clock.PhysicalTime()
	each := func(fn func(*jobs.Record) error) error { return reg.Each(ctx, v.p.txn, fn) }
	if v.p.s.jobsNow {
		each = func(fn func(*jobs.Record) error) error {
			var all []*jobs.Record
			if err := v.p.srv.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
				all = nil // The transaction may run again.
				return reg.Each(ctx, txn, func(rec *jobs.Record) error {
					all = append(all, rec)
					return nil
				})
			}); err != nil {
				return err
			}
			for _, rec := range all {
				if err := fn(rec); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return each(func(rec *jobs.Record) error {
		if !visible(rec.Payload.Username) {
			return nil
		}
		ids := make([]any, len(rec.Payload.DescriptorIds))
		for i, id := range rec.Payload.DescriptorIds {
			ids[i] = id
		}
		errText := ""
		if rec.Payload.Error != nil {
			errText = rec.Payload.Error.Message
		}
		r := vrow{"job_id": int64(rec.ID), "job_type": rec.Type, "description": rec.Payload.Description, "statement": rec.Payload.Statement,
			"user_name": rec.Payload.Username, "descriptor_ids": ids, "status": displayState(rec, now), "running_status": nil,
			"created": rec.Created, "started": rec.Started(), "finished": rec.Finished(), "modified": rec.Modified(),
			"fraction_completed": float64(rec.Progress.FractionCompleted), "error": errText, "trace_id": 0,
			"execution_errors": rec.ExecutionErrors(), "last_run": rec.LastRun, "next_run": rec.NextRun, "num_runs": rec.NumRuns}
		if rec.Progress.RunningStatus != "" {
			r["running_status"] = rec.Progress.RunningStatus
		}
		if c := rec.Coordinator(); c != 0 {
			r["coordinator_id"] = c
		}
		return add(r)
	})
}

func hlcDec(wall int64, logical int32) *apd.Decimal {
	d, _, err := apd.NewFromString(fmt.Sprintf("%d.%010d", wall, logical))
	if err != nil {
		return apd.New(wall, 0)
	}
	return d
}

func vcTables(_ context.Context, v *vctx, add func(vrow) error) error {
	all := append(append([]*catalog.Table(nil), v.tables...), v.dropped...)
	for _, d := range v.offline {
		if t, ok := d.(*catalog.Table); ok {
			all = append(all, t)
		}
	}
	for _, t := range all {
		db := v.dbByID[t.ParentID()]
		dbName := any(nil)
		if db != nil {
			dbName = db.Name()
		}
		mod := t.ModificationTime()
		r := vrow{"table_id": t.ID(), "parent_id": t.ParentID(), "name": t.Name(), "database_name": dbName, "version": int64(t.Version()),
			"mod_time": time.Unix(0, mod.WallTime), "mod_time_logical": hlcDec(mod.WallTime, mod.Logical), "format_version": "InterleavedFormatVersion",
			"state": t.State().String(), "audit_mode": "DISABLED", "schema_name": v.schemaOf(t), "parent_schema_id": t.ParentSchemaID()}
		if d := t.Proto().DropTime; d != 0 {
			r["drop_time"] = time.Unix(0, d)
		}
		if err := add(r); err != nil {
			return err
		}
	}
	for _, vs := range virtualSchemas() {
		for _, t := range vs.order {
			if err := add(vrow{"table_id": t.id, "parent_id": 0, "name": t.name, "version": 1, "state": "PUBLIC", "schema_name": vs.name, "parent_schema_id": int64(vs.oid)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vcDatabases(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, d := range v.databases {
		if err := add(vrow{"id": d.ID(), "name": d.Name(), "owner": d.Privileges().GetOwner(), "regions": []string{},
			"create_statement": "CREATE DATABASE " + quoteIdent(d.Name())}); err != nil {
			return err
		}
	}
	return nil
}

func vcTableColumns(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		for _, c := range t.Columns() {
			var def any
			if c.DefaultExpr != "" {
				def = c.DefaultExpr
			}
			if err := add(vrow{"descriptor_id": t.ID(), "descriptor_name": t.Name(), "column_id": c.ID, "column_name": c.Name,
				"column_type": catalog.SQLTypeName(c.Type, v.enums), "nullable": c.Nullable, "default_expr": def, "hidden": c.Hidden}); err != nil {
				return err
			}
		}
	}
	return nil
}

func vcTableIndexes(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() {
			continue
		}
		for _, x := range t.PublicIndexes() {
			typ := "secondary"
			if x.Primary {
				typ = "primary"
			}
			r := vrow{"descriptor_id": t.ID(), "descriptor_name": t.Name(), "index_id": x.ID, "index_name": x.Name, "index_type": typ,
				"is_unique": x.Unique, "is_inverted": x.Inverted, "is_sharded": false, "is_visible": true, "create_statement": v.indexDef(t, x)}
			if n := x.PB.CreatedAtNanos; n != 0 {
				r["created_at"] = time.Unix(0, n)
			}
			if err := add(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func vcIndexColumns(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if t.IsSequence() {
			continue
		}
		for _, x := range t.PublicIndexes() {
			row := func(kind string, c *catalog.Column, dir any, implicit bool) error {
				return add(vrow{"descriptor_id": t.ID(), "descriptor_name": t.Name(), "index_id": x.ID, "index_name": x.Name, "column_type": kind,
					"column_id": c.ID, "column_name": c.Name, "column_direction": dir, "implicit": implicit})
			}
			for i, c := range x.KeyColumns {
				if err := row("key", c, x.KeyDirections[i].String(), false); err != nil {
					return err
				}
			}
			for _, c := range storedOf(x) {
				if err := row("storing", c, nil, false); err != nil {
					return err
				}
			}
			for _, c := range x.SuffixColumns {
				if err := row("extra", c, nil, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// rangeRow describes a range.
type rangeRow struct {
	id         int64
	start, end keys.Key
	replicas   []int64 // nodes; of all kinds, in order, then by kind
	voters     []int64
	nonVoters  []int64
	learners   []int64
	localities []string // of replicas
	lease      int64
	leaseAt    string // locality
	bytes      int64
	sticky     any // until when the split at start is to last, a time or nil
}

// rangesOf lists the ranges that overlap a span.
func (p *planner) rangesOf(ctx context.Context, span keys.Span) ([]rangeRow, error) {
	infos, err := p.srv.db.Ranges(ctx, span)
	if err != nil {
		return nil, err
	}
	nodes, err := p.srv.nodes(ctx)
	if err != nil {
		return nil, err
	}
	localities := make(map[int64]string, len(nodes))
	for i := range nodes {
		localities[int64(nodes[i].NodeID)] = nodes[i].Locality
	}
	var out []rangeRow
	for i := range infos {
		d := &infos[i].Descriptor
		r := rangeRow{id: int64(d.RangeID), start: d.StartKey, end: d.EndKey, lease: int64(infos[i].Leaseholder), bytes: infos[i].LiveBytes, sticky: splitEnforcedUntil(d.StickyUntil),
			voters: []int64{}, nonVoters: []int64{}, learners: []int64{}}
		for _, rep := range d.Replicas {
			switch rep.Type {
			case kvpb.ReplicaNonVoter:
				r.nonVoters = append(r.nonVoters, int64(rep.NodeID))
			case kvpb.ReplicaLearner:
				r.learners = append(r.learners, int64(rep.NodeID))
			default:
				r.voters = append(r.voters, int64(rep.NodeID))
			}
			r.replicas = append(r.replicas, int64(rep.NodeID))
		}
		for _, nodes := range [][]int64{r.replicas, r.voters, r.nonVoters, r.learners} {
			slices.Sort(nodes)
		}
		for _, id := range r.replicas {
			r.localities = append(r.localities, localities[id])
		}
		r.leaseAt = localities[r.lease]
		out = append(out, r)
	}
	return out, nil
}

func (p *planner) rangeValues(r rangeRow) vrow {
	return vrow{"range_id": r.id, "start_key": []byte(r.start), "start_pretty": keys.Pretty(r.start), "end_key": []byte(r.end), "end_pretty": keys.Pretty(r.end),
		"replicas": r.replicas, "replica_localities": r.localities, "voting_replicas": r.voters, "non_voting_replicas": r.nonVoters, "learner_replicas": r.learners,
		"split_enforced_until": r.sticky}
}

var wholeKeyspace = keys.Span{Key: keys.MinKey, EndKey: keys.MaxKey}

func vcRangesNoLeases(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.p.eachRange(ctx, func(r rangeRow) error { return add(v.p.rangeValues(r)) })
}

func vcRanges(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.p.eachRange(ctx, func(r rangeRow) error {
		row := v.p.rangeValues(r)
		row["lease_holder"], row["range_size"] = r.lease, r.bytes
		return add(row)
	})
}

func (p *planner) eachRange(ctx context.Context, fn func(rangeRow) error) error {
	if ok, err := p.hasSystemPrivilege(ctx, p.user(), "VIEWCLUSTERMETADATA"); err != nil {
		return err
	} else if !ok {
		return p.requireAdmin(ctx, "read crdb_internal.ranges_no_leases")
	}
	rs, err := p.rangesOf(ctx, wholeKeyspace)
	if err != nil {
		return err
	}
	for _, r := range rs {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func vcClusterSettings(ctx context.Context, v *vctx, add func(vrow) error) error {
	if err := v.p.checkAnySettingPrivilege(ctx); err != nil {
		return err
	}
	for _, s := range v.p.srv.settings.All() {
		origin := "default"
		if s.Overridden() {
			origin = "override"
		}
		if err := add(vrow{"variable": s.Name(), "value": s.String(), "type": string(s.Kind()), "public": s.Public(), "description": s.Description(),
			"default_value": s.DefaultString(), "origin": origin}); err != nil {
			return err
		}
	}
	return nil
}

func vcSessionVariables(_ context.Context, v *vctx, add func(vrow) error) error {
	names := make([]string, 0, len(allSessionVars()))
	for n := range allSessionVars() {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		val, _ := v.p.s.getVar(n)
		if err := add(vrow{"variable": n, "value": val, "hidden": allSessionVars()[n].hidden}); err != nil {
			return err
		}
	}
	return nil
}

func vcZones(ctx context.Context, v *vctx, add func(vrow) error) error {
	all, err := v.p.allZones(ctx, v.descSet)
	if err != nil {
		return err
	}
	for _, z := range all {
		t := zoneTarget{id: z.id, index: z.index, partition: z.partition, parents: []catalog.ID{0}, sql: z.target}
		r := vrow{"zone_id": z.id, "subzone_id": z.subzone, "target": z.target, "raw_config_yaml": z.own.YAML(), "raw_config_sql": zoneSQL(z.own, z.target),
			"raw_config_protobuf": z.own.Marshal()}
		switch {
		case z.table != nil:
			t.parents, t.table = []catalog.ID{z.table.ParentID(), 0}, z.table
			if z.index != 0 {
				t.parents = append([]catalog.ID{z.id}, t.parents...)
			}
			if db := v.dbByID[z.table.ParentID()]; db != nil {
				r["database_name"] = db.Name()
			}
			r["schema_name"], r["table_name"] = v.schemaOf(z.table), z.table.Name()
			if z.x != nil {
				r["index_name"] = z.x.Name
			}
			if z.partition != "" {
				r["partition_name"] = z.partition
			}
		case v.dbByID[z.id] != nil && strings.HasPrefix(z.target, "DATABASE"):
			r["database_name"] = v.dbByID[z.id].Name()
		default:
			r["range_name"] = strings.TrimPrefix(z.target, "RANGE ")
		}
		full, _, err := v.p.effectiveZone(ctx, t)
		if err != nil {
			return err
		}
		r["full_config_yaml"], r["full_config_sql"] = full.YAML(), zoneSQL(full, z.target)
		if err := add(r); err != nil {
			return err
		}
	}
	return nil
}

func vcNodeBuildInfo(_ context.Context, v *vctx, add func(vrow) error) error {
	cfg := v.p.srv.cfg
	for _, kv := range [][2]string{{"Name", "Holdfast"}, {"ClusterID", formatUUID(cfg.ClusterID)}, {"Organization", ""}, {"Build", cfg.Version},
		{"Version", cfg.Version}, {"GoVersion", runtime.Version()}, {"Platform", runtime.GOOS + "/" + runtime.GOARCH}} {
		if err := add(vrow{"node_id": cfg.NodeID, "field": kv[0], "value": kv[1]}); err != nil {
			return err
		}
	}
	return nil
}

func vcSchemaChanges(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.tables {
		for _, m := range t.Proto().Mutations {
			r := vrow{"table_id": t.ID(), "parent_id": t.ParentID(), "name": t.Name(), "state": m.State.String(), "direction": m.Direction.String()}
			switch {
			case m.Column != nil:
				r["type"], r["target_id"], r["target_name"] = "COLUMN", m.Column.Id, m.Column.Name
			case m.Index != nil:
				r["type"], r["target_id"], r["target_name"] = "INDEX", m.Index.Id, m.Index.Name
			default:
				r["type"] = "CONSTRAINT"
			}
			if err := add(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func vcNodeStatus(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachNode(ctx, func(n *NodeStatus) error {
		return add(vrow{"node_id": n.NodeID, "network": "tcp", "address": n.Address, "attrs": jsonList(n.Attrs), "locality": n.Locality,
			"server_version": n.Version, "go_version": runtime.Version(), "tag": n.Version, "platform": runtime.GOOS + "/" + runtime.GOARCH,
			"started_at": n.Started, "updated_at": n.Updated, "metrics": "{}", "args": "[]", "env": "[]", "activity": "{}"})
	})
}

func vcGossipNodes(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachNode(ctx, func(n *NodeStatus) error {
		r := vrow{"node_id": n.NodeID, "network": "tcp", "address": n.Address, "advertise_address": n.Address, "sql_network": "tcp",
			"sql_address": n.SQLAddress, "advertise_sql_address": n.SQLAddress, "attrs": jsonList(n.Attrs), "locality": n.Locality, "cluster_name": v.p.srv.cfg.ClusterName,
			"server_version": n.Version, "build_tag": n.Version, "started_at": n.Started, "is_live": n.Live,
			"is_available": n.Available}
		if len(n.Stores) > 0 {
			ranges, leases := n.counts()
			r["ranges"], r["leases"] = ranges, leases
		}
		return add(r)
	})
}

func vcLiveness(ctx context.Context, v *vctx, add func(vrow) error) error {
	return v.eachNode(ctx, func(n *NodeStatus) error {
		if n.Epoch == 0 {
			return nil // It has no record yet.
		}
		r := vrow{"node_id": n.NodeID, "epoch": n.Epoch, "draining": n.Draining, "decommissioning": n.Membership != "active",
			"membership": n.Membership, "updated_at": n.Updated}
		if !n.Expiration.IsZero() {
			r["expiration"] = fmt.Sprintf("%d.%09d,0", n.Expiration.Unix(), n.Expiration.Nanosecond())
		}
		return add(r)
	})
}

// secrets are the parts of a statement that nobody else may see: of storage URIs
// the keys, and passwords.
var secrets = regexp.MustCompile(`(?i)((?:AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN|AZURE_ACCOUNT_KEY|AZURE_CLIENT_SECRET|CREDENTIALS|BEARER_TOKEN)=)[^&'"\s]+` +
	`|((?:encryption_passphrase\s*=|\bpassword)\s*)e?'(?:[^']|'')*'`)

// withoutSecrets returns a statement as others may see it.
func withoutSecrets(sql string) string {
	return secrets.ReplaceAllStringFunc(sql, func(s string) string {
		m := secrets.FindStringSubmatch(s)
		if m[1] != "" {
			return m[1] + "redacted"
		}
		return m[2] + "'redacted'"
	})
}

func vcCreateStatements(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, t := range v.inDB(v.db) {
		if err := add(vrow{"database_id": v.db.ID(), "database_name": v.db.Name(), "schema_name": v.schemaOf(t), "descriptor_id": t.ID(),
			"descriptor_type": kindWord(t), "descriptor_name": t.Name(), "create_statement": v.showCreate(t, true), "state": t.State().String()}); err != nil {
			return err
		}
	}
	return nil
}

func vcDatabasePrivileges(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, d := range v.databases {
		if err := eachGrant(d.Privileges(), func(g grantRow) error {
			return add(vrow{"database_name": d.Name(), "grantee": g.grantee, "privilege_type": g.privilege, "is_grantable": g.grantable})
		}); err != nil {
			return err
		}
	}
	return nil
}

func vcRuntimeInfo(_ context.Context, v *vctx, add func(vrow) error) error {
	for _, kv := range [][3]string{{"DB", "Address", v.p.srv.cfg.SQLAddr}, {"UI", "Address", v.p.srv.cfg.HTTPAddr}} {
		if err := add(vrow{"node_id": v.p.srv.cfg.NodeID, "component": kv[0], "field": kv[1], "value": kv[2]}); err != nil {
			return err
		}
	}
	return nil
}

func vcBuiltins(_ context.Context, _ *vctx, add func(vrow) error) error {
	for _, f := range procs().all {
		if err := add(vrow{"function": f.name, "signature": f.name, "category": "", "details": "", "schema": catalog.PgCatalogName, "oid": int64(f.oid)}); err != nil {
			return err
		}
	}
	return nil
}

func vcRegions(_ context.Context, v *vctx, add func(vrow) error) error {
	region, zonesOf := "", []string{}
	for _, tier := range strings.Split(v.p.srv.cfg.Locality, ",") {
		k, val, _ := strings.Cut(tier, "=")
		switch k {
		case "region":
			region = val
		case "zone", "az", "availability-zone":
			zonesOf = append(zonesOf, val)
		}
	}
	if region == "" {
		return nil
	}
	return add(vrow{"region": region, "zones": zonesOf})
}

// grantRow is one privilege of one user.
type grantRow struct {
	grantee, privilege string
	grantable          bool
}

func eachGrant(pd *catalogpb.PrivilegeDescriptor, fn func(grantRow) error) error {
	for _, u := range pd.GetUsers() {
		for _, n := range catalog.PrivilegeNames(u.Privileges) {
			priv, _ := catalog.PrivilegeByName(n)
			if err := fn(grantRow{u.User, n, u.WithGrantOption&(priv.Mask()|catalog.All.Mask()) != 0}); err != nil {
				return err
			}
		}
	}
	return nil
}
