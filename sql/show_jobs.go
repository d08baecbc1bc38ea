package sql

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// whenCompleteLimit is how long SHOW JOB WHEN COMPLETE waits, and whenCompletePoll
// how often it looks.
const (
	whenCompleteLimit = 24 * time.Hour
	whenCompletePoll  = time.Second
)

// jobIDs runs the query that names the jobs of a statement.
func (p *planner) jobIDs(ctx context.Context, sel *tree.Select) ([]jobs.ID, error) {
	rows, cols, err := p.query(ctx, tree.AsString(sel))
	if err != nil {
		return nil, err
	}
	if len(cols) != 1 {
		return nil, pgerr.Newf(pgerr.SyntaxError, "too many columns returned, want 1, got %d", len(cols))
	}
	var out []jobs.ID
	for _, r := range rows {
		if r[0] == tree.DNull {
			continue
		}
		d, ok := tree.AsDInt(r[0])
		if !ok {
			// Nothing is rounded to a job that nobody meant.
			return nil, pgerr.Newf(pgerr.DatatypeMismatch, "job ids must be of type INT, not %s", typeName(r[0].ResolvedType()))
		}
		out = append(out, jobs.ID(d))
	}
	return out, nil
}

func (p *planner) jobRegistry() (*jobs.Registry, error) {
	if p.srv.cfg.Jobs == nil {
		return nil, pgerr.New(pgerr.FeatureNotSupported, "this process runs no jobs")
	}
	return p.srv.cfg.Jobs, nil
}

// showJobsWhenComplete waits until every job has finished, then shows them.
func (p *planner) showJobsWhenComplete(ctx context.Context, sel *tree.Select) (*rowSource, error) {
	_, cols, err := p.query(ctx, "SELECT "+jobColumns(true)+" FROM crdb_internal.jobs LIMIT 0")
	if err != nil {
		return nil, err
	}
	return &rowSource{columns: cols, run: func(ctx context.Context, p *planner, addRow func(...tree.Datum) error) error {
		reg, err := p.jobRegistry()
		if err != nil {
			return err
		}
		ids, err := p.jobIDs(ctx, sel)
		if err != nil {
			return err
		}
		deadline := time.Now().Add(whenCompleteLimit)
		var list []string
		for _, id := range ids {
			list = append(list, fmt.Sprint(int64(id)))
			for {
				done := false
				if err := p.srv.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
					rec, err := reg.Get(ctx, txn, id)
					if err != nil {
						if pgerr.GetCode(err) != "" { // A job that does not exist is not waited for.
							done = true
							return nil
						}
						return err
					}
					done = !rec.Finished().IsZero()
					return nil
				}); err != nil {
					return err
				}
				if done {
					break
				}
				if time.Now().After(deadline) {
					return pgerr.New(pgerr.ObjectNotInPrerequisiteState, "timed out waiting for jobs")
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(whenCompletePoll):
				}
			}
		}
		if len(list) == 0 {
			return nil
		}
		// What the jobs wrote is younger than this transaction, which may have read
		// already and cannot move.
		p.s.jobsNow = true
		defer func() { p.s.jobsNow = false }()
		rows, _, err := p.query(ctx, "SELECT "+jobColumns(true)+" FROM crdb_internal.jobs WHERE job_id IN ("+strings.Join(list, ", ")+") ORDER BY job_id")
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := addRow(r...); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// controlJobs is PAUSE, RESUME and CANCEL of jobs: all of them or none.
func (p *planner) controlJobs(_ context.Context, n *parser.ControlJobs) (*rowSource, error) {
	src := &rowSource{mutates: true, tag: string(n.Command) + " JOBS"}
	src.run = func(ctx context.Context, p *planner, _ func(...tree.Datum) error) error {
		reg, err := p.jobRegistry()
		if err != nil {
			return err
		}
		if err := p.checkWritable(string(n.Command) + " JOBS"); err != nil {
			return err
		}
		reason := ""
		if n.Reason != nil {
			if reason, err = p.evalString(ctx, n.Reason); err != nil {
				return err
			}
		}
		var ids []jobs.ID
		switch {
		case n.Type != "":
			if err := reg.Each(ctx, p.txn, func(rec *jobs.Record) error {
				if rec.Type == n.Type && controllable(string(n.Command), rec.State) {
					ids = append(ids, rec.ID)
				}
				return nil
			}); err != nil {
				return err
			}
		case n.Schedules != nil:
			rows, _, err := p.query(ctx, "SELECT id FROM system.jobs WHERE created_by_type = 'crdb_schedule' AND created_by_id IN ("+tree.AsString(n.Schedules)+")")
			if err != nil {
				return err
			}
			for _, r := range rows {
				ids = append(ids, jobs.ID(tree.MustBeDInt(r[0])))
			}
		default:
			if ids, err = p.jobIDs(ctx, n.Jobs); err != nil {
				return err
			}
		}
		for _, id := range ids {
			if err := p.checkJobControl(ctx, reg, id); err != nil {
				return err
			}
			switch n.Command {
			case parser.PauseCmd:
				err = reg.Pause(ctx, p.txn, id, reason)
			case parser.ResumeCmd:
				err = reg.Resume(ctx, p.txn, id)
			default:
				err = reg.Cancel(ctx, p.txn, id)
			}
			if err != nil {
				return err
			}
		}
		what := " JOBS"
		if n.Schedules != nil {
			what = " JOBS FOR SCHEDULES"
		}
		src.tag = fmt.Sprintf("%s%s %d", n.Command, what, len(ids))
		return nil
	}
	return src, nil
}

// alterJobOwner is ALTER JOB … OWNER TO.
func (p *planner) alterJobOwner(n *parser.AlterJobOwner) (*rowSource, error) {
	return &rowSource{mutates: true, tag: n.StatementTag(), run: func(ctx context.Context, p *planner, _ func(...tree.Datum) error) error {
		reg, err := p.jobRegistry()
		if err != nil {
			return err
		}
		if err := p.checkWritable(n.StatementTag()); err != nil {
			return err
		}
		ids, err := p.jobIDs(ctx, n.Job)
		if err != nil {
			return err
		}
		owner := p.currentRole(n.Owner)
		if err := p.checkNewOwner(ctx, owner); err != nil {
			return err
		}
		for _, id := range ids {
			if err := p.checkJobControl(ctx, reg, id); err != nil {
				return err
			}
			if err := reg.SetOwner(ctx, p.txn, id, owner); err != nil {
				return err
			}
		}
		return nil
	}}, nil
}

// controllable says whether ALL … JOBS means a job in this state.
func controllable(cmd string, s jobs.State) bool {
	switch s {
	case jobs.Pending, jobs.Running:
		return cmd != "RESUME"
	case jobs.Reverting:
		return cmd == "PAUSE"
	case jobs.Paused:
		return cmd != "PAUSE"
	}
	return false
}

// checkJobControl applies the rules of who controls a job.
func (p *planner) checkJobControl(ctx context.Context, reg *jobs.Registry, id jobs.ID) error {
	roles, err := p.roles(ctx)
	if err != nil || roles[catalog.AdminRole] {
		return err
	}
	rec, err := reg.Get(ctx, p.txn, id)
	if err != nil {
		return err
	}
	owner := rec.Payload.Username
	if roles[owner] {
		return nil
	}
	may, err := p.hasSystemPrivilege(ctx, p.user(), "CONTROLJOB")
	if err != nil {
		return err
	}
	if !may {
		return pgerr.Newf(pgerr.InsufficientPrivilege, "user %s does not have privileges for job %d", p.user(), id)
	}
	ownerRoles, err := p.rolesOf(ctx, owner)
	if err != nil {
		return err
	}
	if ownerRoles[catalog.AdminRole] {
		return pgerr.New(pgerr.InsufficientPrivilege, "only admins can control jobs owned by other admins")
	}
	return nil
}

// cancelQueries is CANCEL QUERY and CANCEL SESSION: ids name sessions here, each
// of which runs one statement at a time.
func (p *planner) cancelQueries(_ context.Context, sel *tree.Select, ifExists, terminate bool, tag string) (*rowSource, error) {
	src := &rowSource{mutates: true, tag: tag}
	src.run = func(ctx context.Context, p *planner, _ func(...tree.Datum) error) error {
		rows, _, err := p.query(ctx, tree.AsString(sel))
		if err != nil {
			return err
		}
		all, err := p.isAdmin(ctx)
		if err == nil && !all {
			all, err = p.hasSystemPrivilege(ctx, p.user(), "CANCELQUERY")
		}
		if err != nil {
			return err
		}
		what := "query"
		if terminate {
			what = "session"
		}
		n := 0
		for _, r := range rows {
			want := p.plainText(r[0])
			node, id, ok := parseSessionText(want)
			found := false
			if ok {
				req := StopRequest{SessionID: id, Terminate: terminate, User: p.s.data.User, MayAll: all}
				if found, err = p.stop(ctx, node, req); err != nil {
					return err
				}
			}
			switch {
			case found:
				n++
			case !ifExists:
				return pgerr.Newf(pgerr.InvalidParameterValue, "could not cancel %s %s: %s ID not found", what, want, what)
			}
		}
		src.tag = fmt.Sprintf("%s %d", tag, n)
		return nil
	}
	return src, nil
}

// showZone is SHOW ZONE CONFIGURATION(S).
func (p *planner) showZone(ctx context.Context, n *tree.ShowZoneConfig) (*rowSource, error) {
	const def = "target text, raw_config_sql text"
	z := n.ZoneSpecifier
	if z.NamedZone == "" && z.Database == "" && z.TableOrIndex.Table.Table() == "" && z.TableOrIndex.Index == "" {
		return source(def, func(ctx context.Context, p *planner, add func(...any) error) error {
			d, err := p.allDescs(ctx)
			if err != nil {
				return err
			}
			all, err := p.allZones(ctx, d)
			if err != nil {
				return err
			}
			for _, e := range all {
				if err := add(e.target, zoneSQL(e.own, e.target)); err != nil {
					return err
				}
			}
			return nil
		}), nil
	}
	t, err := p.resolveZoneTarget(ctx, &z)
	if err != nil {
		return nil, err
	}
	return source(def, func(ctx context.Context, p *planner, add func(...any) error) error {
		full, target, err := p.effectiveZone(ctx, t)
		if err != nil {
			return err
		}
		return add(target, zoneSQL(full, target))
	}), nil
}

// showRanges is SHOW RANGES. Replicas and leaseholder are this node while it is
// the only one.
func (p *planner) showRanges(ctx context.Context, n *parser.ShowRanges) (*rowSource, error) {
	type object struct {
		t *catalog.Table
		x *catalog.Index
	}
	var objects []object
	span := wholeKeyspace
	d, err := p.allDescs(ctx)
	if err != nil {
		return nil, err
	}
	fromTable := n.From == parser.RangesFromTable || n.From == parser.RangesFromIndex
	switch {
	case fromTable:
		t, err := p.resolveTable(ctx, n.Table)
		if err != nil {
			return nil, err
		}
		if err := p.checkTablePrivilege(ctx, t, catalog.ZoneConfig); err != nil {
			return nil, err
		}
		if !t.HasData() {
			return nil, pgerr.Newf(pgerr.WrongObjectType, "\"%s\" has no ranges", t.Name())
		}
		span = t.PrimaryIndex().Span()
		if n.From == parser.RangesFromIndex || n.Index != "" {
			x := t.IndexByName(string(n.Index))
			if x == nil {
				return nil, pgerr.Newf(pgerr.UndefinedObject, "index \"%s\" does not exist", string(n.Index))
			}
			span = x.Span()
			objects = append(objects, object{t, x})
		} else {
			span = t.Span()
			for _, x := range t.PublicIndexes() {
				objects = append(objects, object{t, x})
			}
		}
	default:
		if err := p.requireAdmin(ctx, "show ranges"); err != nil {
			return nil, err
		}
		var db *catalog.Database
		if n.From != parser.RangesFromCluster {
			name := p.s.data.Database
			if n.From == parser.RangesFromDatabase {
				name = string(n.Database)
			}
			if db, err = p.cat.MustDatabase(ctx, name); err != nil {
				return nil, err
			}
		}
		for _, t := range d.tables {
			if (db != nil && t.ParentID() != db.ID()) || !t.HasData() {
				continue
			}
			if n.Indexes {
				for _, x := range t.PublicIndexes() {
					objects = append(objects, object{t, x})
				}
			} else {
				objects = append(objects, object{t, nil})
			}
		}
		if db != nil && len(objects) > 0 {
			first, last := objects[0].t.Span(), objects[len(objects)-1].t.Span()
			span = keys.Span{Key: first.Key, EndKey: last.EndKey}
		} else if db != nil {
			span = keys.Span{}
		}
	}
	def := "start_key text, end_key text, "
	if n.Keys {
		def += "raw_start_key bytea, raw_end_key bytea, "
	}
	def += "range_id int, "
	perObject := n.Tables || n.Indexes
	if perObject {
		if !fromTable {
			def += "database_name text, schema_name text, table_name text, table_id int, "
		}
		switch {
		case n.Indexes:
			def += "index_name text, index_id int, index_start_key text, index_end_key text, "
			if n.Keys {
				def += "raw_index_start_key bytea, raw_index_end_key bytea, "
			}
		case !fromTable:
			def += "table_start_key text, table_end_key text, "
			if n.Keys {
				def += "raw_table_start_key bytea, raw_table_end_key bytea, "
			}
		}
	}
	if n.Details {
		def += "range_size_mb decimal, lease_holder int, lease_holder_locality text, "
	}
	def += "replicas int[], replica_localities text[], voting_replicas int[], non_voting_replicas int[], learner_replicas int[], split_enforced_until timestamp"
	if n.Details {
		def += ", range_size int, span_stats jsonb"
	}
	if !n.Details && fromTable {
		def = strings.Replace(def, "replicas int[], replica_localities", "lease_holder int, lease_holder_locality text, replicas int[], replica_localities", 1)
	}
	withLease := n.Details || fromTable
	return source(def, func(ctx context.Context, p *planner, add func(...any) error) error {
		if len(span.EndKey) == 0 {
			return nil
		}
		ranges, err := p.rangesOf(ctx, span)
		if err != nil {
			return err
		}
		row := func(r rangeRow, o *object) error {
			start, end := r.start, r.end
			vals := []any{showKey(start, span, true, fromTable), showKey(end, span, false, fromTable)}
			if n.Keys {
				vals = append(vals, []byte(start), []byte(end))
			}
			vals = append(vals, r.id)
			if perObject {
				var sp keys.Span
				if !fromTable {
					dbName, schema, table, id := any(nil), any(nil), any(nil), any(nil)
					if o != nil {
						sp = o.t.Span()
						schema, table, id = d.schemaOf(o.t), o.t.Name(), o.t.ID()
						if db := d.dbByID[o.t.ParentID()]; db != nil {
							dbName = db.Name()
						}
					}
					vals = append(vals, dbName, schema, table, id)
				}
				if n.Indexes {
					name, id := any(nil), any(nil)
					if o != nil && o.x != nil {
						sp = o.x.Span()
						name, id = o.x.Name, o.x.ID
					}
					vals = append(vals, name, id)
				}
				if n.Indexes || !fromTable {
					vals = append(vals, keys.Pretty(sp.Key), keys.Pretty(sp.EndKey))
					if n.Keys {
						vals = append(vals, []byte(sp.Key), []byte(sp.EndKey))
					}
				}
			}
			if n.Details {
				vals = append(vals, fmt.Sprintf("%.6f", float64(r.bytes)/(1<<20)))
			}
			if withLease {
				vals = append(vals, r.lease, r.leaseAt)
			}
			vals = append(vals, r.replicas, r.localities, r.voters, r.nonVoters, r.learners, r.sticky)
			if n.Details {
				vals = append(vals, r.bytes, fmt.Sprintf(`{"live_bytes": %d, "val_bytes": %d}`, r.bytes, r.bytes))
			}
			return add(vals...)
		}
		for _, r := range ranges {
			if !perObject {
				if err := row(r, nil); err != nil {
					return err
				}
				continue
			}
			for i := range objects {
				o := &objects[i]
				sp := o.t.Span()
				if o.x != nil {
					sp = o.x.Span()
				}
				if sp.Overlaps(keys.Span{Key: r.start, EndKey: r.end}) {
					if err := row(r, o); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}), nil
}

// showKey prints a range's bound as SHOW RANGES does: relative to the object
// shown.
func showKey(k keys.Key, span keys.Span, start, relative bool) string {
	if relative {
		if start && k.Compare(span.Key) <= 0 {
			if k.Equal(span.Key) {
				return "…/<TableMin>"
			}
			return "<before:" + keys.Pretty(k) + ">"
		}
		if !start && k.Compare(span.EndKey) >= 0 {
			if k.Equal(span.EndKey) {
				return "…/<TableMax>"
			}
			return "<after:" + keys.Pretty(k) + ">"
		}
		return strings.Replace(keys.Pretty(k), keys.Pretty(span.Key), "…", 1)
	}
	return keys.Pretty(k)
}

// showRangeForRow is SHOW RANGE … FOR ROW.
func (p *planner) showRangeForRow(ctx context.Context, n *parser.ShowRangeForRow) (*rowSource, error) {
	t, err := p.resolveTable(ctx, n.Table)
	if err != nil {
		return nil, err
	}
	if err := p.checkTablePrivilege(ctx, t, catalog.ZoneConfig); err != nil {
		return nil, err
	}
	x := t.PrimaryIndex()
	if n.Index != "" {
		if x = t.IndexByName(string(n.Index)); x == nil {
			return nil, pgerr.Newf(pgerr.UndefinedObject, "index \"%s\" does not exist", string(n.Index))
		}
	}
	if x == nil {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "\"%s\" has no ranges", t.Name())
	}
	if len(n.Row) != len(x.KeyColumns) {
		return nil, pgerr.Newf(pgerr.SyntaxError, "number of expressions does not match number of columns in index")
	}
	return source("start_key text, end_key text, range_id int, lease_holder int, lease_holder_locality text, replicas int[], replica_localities text[], voting_replicas int[], non_voting_replicas int[]",
		func(ctx context.Context, p *planner, add func(...any) error) error {
			vals := make(tree.Datums, len(n.Row))
			for i, e := range n.Row {
				te, err := p.bindStandalone(ctx, nil, e, "FOR ROW", x.KeyColumns[i].Type)
				if err != nil {
					return err
				}
				d, err := te.Eval(&p.evalCtx)
				if err != nil {
					return err
				}
				if vals[i], err = fitDatum(&p.evalCtx, d, x.KeyColumns[i].Type, x.KeyColumns[i].Name); err != nil {
					return err
				}
			}
			k, err := rowenc.IndexKey(x, vals)
			if err != nil {
				return err
			}
			ranges, err := p.rangesOf(ctx, keys.Span{Key: k, EndKey: k.Next()})
			if err != nil {
				return err
			}
			for _, r := range ranges {
				if err := add(showKey(r.start, x.Span(), true, true), showKey(r.end, x.Span(), false, true), r.id, r.lease, r.leaseAt, r.replicas,
					r.localities, r.voters, r.nonVoters); err != nil {
					return err
				}
			}
			return nil
		}), nil
}

// showFingerprints is SHOW EXPERIMENTAL_FINGERPRINTS FROM TABLE: one value per
// index that does not depend on the order of rows nor on ids and times.
func (p *planner) showFingerprints(ctx context.Context, n *tree.ShowFingerprints) (*rowSource, error) {
	t, err := p.resolveTable(ctx, n.Table)
	if err != nil {
		return nil, err
	}
	if err := p.checkTablePrivilege(ctx, t, catalog.Select); err != nil {
		return nil, err
	}
	if !t.HasData() || t.IsSequence() {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "\"%s\" is not a table", t.Name())
	}
	return source("index_name text, fingerprint text", func(ctx context.Context, p *planner, add func(...any) error) error {
		ts := p.txn.ReadTimestamp()
		if p.txn.HasWrites() || p.cat.HasChanges() {
			return pgerr.New(pgerr.ActiveSQLTransaction, "fingerprints are of committed rows: the transaction has written")
		}
		for _, x := range t.PublicIndexes() {
			fp, err := p.spanFingerprint(ctx, x.Span(), ts)
			if err != nil {
				return err
			}
			if err := add(x.Name, fp); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// spanFingerprint exports a span and keeps only the sum.
func (p *planner) spanFingerprint(ctx context.Context, span keys.Span, ts hlc.Timestamp) (string, error) {
	return fingerprintOf(ctx, p.srv.db, span, ts)
}
