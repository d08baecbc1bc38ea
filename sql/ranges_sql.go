package sql

import (
	"context"
	"fmt"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// The statements here change ranges and no data. They take effect at once, also in
// a transaction that is rolled back later.

// rangesIndex finds the index that a statement about ranges names: of a table the
// primary one.
func (p *planner) rangesIndex(ctx context.Context, n *tree.TableIndexName, what string) (*catalog.Index, error) {
	var t *catalog.Table
	var x *catalog.Index
	var err error
	if n.Index != "" {
		t, x, err = p.findIndex(ctx, n)
	} else {
		t, err = p.resolveTable(ctx, &n.Table)
	}
	if err != nil {
		return nil, err
	}
	if err := p.checkTablePrivilege(ctx, t, catalog.Insert); err != nil {
		return nil, err
	}
	if !t.HasData() || t.IsSequence() {
		return nil, pgerr.Newf(pgerr.WrongObjectType, "cannot %s \"%s\": it is not a table", what, t.Name())
	}
	if x == nil {
		x = t.PrimaryIndex()
	}
	return x, nil
}

// indexPrefixKey returns the key of the entries of x whose first columns have these
// values.
func (p *planner) indexPrefixKey(x *catalog.Index, vals tree.Datums, what string) (keys.Key, error) {
	if len(vals) == 0 || len(vals) > len(x.KeyColumns) {
		return nil, pgerr.Newf(pgerr.SyntaxError, "too many columns in %s data: %d, and the index has %d", what, len(vals), len(x.KeyColumns))
	}
	fit := make(tree.Datums, len(vals))
	for i, d := range vals {
		c := x.KeyColumns[i]
		var err error
		if fit[i], err = fitDatum(&p.evalCtx, d, c.Type, c.Name); err != nil {
			return nil, err
		}
	}
	return rowenc.SplitKey(x, fit)
}

// splitRows runs fn for the key of each row of a query.
func (p *planner) splitRows(ctx context.Context, x *catalog.Index, rows *tree.Select, what string, fn func(keys.Key) error) error {
	vals, _, err := p.query(ctx, tree.AsString(rows))
	if err != nil {
		return err
	}
	for _, row := range vals {
		key, err := p.indexPrefixKey(x, row, what)
		if err != nil {
			return err
		}
		if err := fn(key); err != nil {
			return err
		}
	}
	return nil
}

// splitAt is ALTER TABLE|INDEX … SPLIT AT.
func (p *planner) splitAt(ctx context.Context, n *tree.Split) (*rowSource, error) {
	x, err := p.rangesIndex(ctx, &n.TableOrIndex, "split")
	if err != nil {
		return nil, err
	}
	return source("key bytea, pretty text, split_enforced_until timestamp", func(ctx context.Context, p *planner, add func(...any) error) error {
		if err := p.checkWritable("SPLIT"); err != nil {
			return err
		}
		until := hlc.MaxTimestamp
		if n.ExpireExpr != nil {
			if until, err = p.splitExpiration(ctx, n.ExpireExpr); err != nil {
				return err
			}
		}
		return p.splitRows(ctx, x, n.Rows, "SPLIT AT", func(k keys.Key) error {
			if err := p.srv.db.AdminSplitUntil(ctx, k, until); err != nil {
				return err
			}
			return add([]byte(k), keys.Pretty(k), splitEnforcedUntil(until))
		})
	}), nil
}

// splitExpiration reads WITH EXPIRATION: a time.
func (p *planner) splitExpiration(ctx context.Context, e tree.Expr) (hlc.Timestamp, error) {
	d, err := p.evalConst(ctx, e)
	if err != nil {
		return hlc.Timestamp{}, err
	}
	var at time.Time
	switch d := d.(type) {
	case *tree.DTimestamp:
		at = d.Time
	case *tree.DTimestampTZ:
		at = d.Time
	case *tree.DInterval:
		at = p.evalCtx.StmtTimestamp.Add(time.Duration(d.Nanos()) + time.Duration(d.Days)*24*time.Hour + time.Duration(d.Months)*30*24*time.Hour)
	case *tree.DString:
		ts, err := tree.ParseDTimestamp(&p.evalCtx, string(*d), time.Microsecond)
		if err != nil {
			return hlc.Timestamp{}, pgerr.Newf(pgerr.InvalidParameterValue, "SPLIT AT: value is neither timestamp, decimal, nor interval")
		}
		at = ts.Time
	default:
		return hlc.Timestamp{}, pgerr.Newf(pgerr.DatatypeMismatch, "SPLIT AT: expected timestamp, decimal, or interval, got %s", typeName(d.ResolvedType()))
	}
	if !at.After(p.evalCtx.StmtTimestamp) {
		return hlc.Timestamp{}, pgerr.New(pgerr.InvalidParameterValue, "SPLIT AT: expiration time should be greater than or equal to current time")
	}
	return hlc.Timestamp{WallTime: at.UnixNano()}, nil
}

// splitEnforcedUntil shows until when a split is to last, nil if nobody asked for
// it.
func splitEnforcedUntil(ts hlc.Timestamp) any {
	if ts.IsEmpty() {
		return nil
	}
	return time.Unix(0, ts.WallTime).UTC().Round(time.Microsecond)
}

// unsplitAt is ALTER TABLE|INDEX … UNSPLIT AT and UNSPLIT ALL.
func (p *planner) unsplitAt(ctx context.Context, n *tree.Unsplit) (*rowSource, error) {
	x, err := p.rangesIndex(ctx, &n.TableOrIndex, "unsplit")
	if err != nil {
		return nil, err
	}
	return source("key bytea, pretty text", func(ctx context.Context, p *planner, add func(...any) error) error {
		if err := p.checkWritable("UNSPLIT"); err != nil {
			return err
		}
		unsplit := func(k keys.Key) error {
			if err := p.srv.db.AdminUnsplit(ctx, k); err != nil {
				return err
			}
			return add([]byte(k), keys.Pretty(k))
		}
		if !n.All {
			return p.splitRows(ctx, x, n.Rows, "UNSPLIT AT", unsplit)
		}
		descs, err := p.srv.db.RangeDescriptors(ctx, x.Span())
		if err != nil {
			return err
		}
		for i := range descs {
			if d := &descs[i]; !d.StickyUntil.IsEmpty() && x.Span().Contains(d.StartKey) {
				if err := unsplit(d.StartKey); err != nil {
					return err
				}
			}
		}
		return nil
	}), nil
}

// scatterRanges is ALTER TABLE|INDEX … SCATTER.
func (p *planner) scatterRanges(ctx context.Context, n *tree.Scatter) (*rowSource, error) {
	x, err := p.rangesIndex(ctx, &n.TableOrIndex, "scatter")
	if err != nil {
		return nil, err
	}
	return source("key bytea, pretty text", func(ctx context.Context, p *planner, add func(...any) error) error {
		if err := p.checkWritable("SCATTER"); err != nil {
			return err
		}
		span := x.Span()
		if n.TableOrIndex.Index == "" && n.From == nil {
			span = x.Table().Span()
		}
		if n.From != nil {
			bound := func(exprs tree.Exprs) (keys.Key, error) {
				var vals tree.Datums
				for _, e := range exprs {
					d, err := p.evalConst(ctx, e)
					if err != nil {
						return nil, err
					}
					vals = append(vals, d)
				}
				return p.indexPrefixKey(x, vals, "SCATTER")
			}
			from, err := bound(n.From)
			if err != nil {
				return err
			}
			to, err := bound(n.To)
			if err != nil {
				return err
			}
			if to.Less(from) {
				from, to = to, from
			}
			span = keys.Span{Key: from, EndKey: to.PrefixEnd()}
		}
		descs, err := p.srv.db.RangeDescriptors(ctx, span)
		if err != nil {
			return err
		}
		for i := range descs {
			k := descs[i].StartKey
			if k.Less(span.Key) {
				k = span.Key
			}
			if err := p.srv.db.AdminScatter(ctx, k); err != nil {
				return err
			}
			if err := add([]byte(k), keys.Pretty(k)); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// replicasOn finds the stores that a RELOCATE names.
func (p *planner) replicasOn(ctx context.Context, ids []kvpb.StoreID) ([]kvpb.ReplicaDescriptor, error) {
	nodes, err := p.srv.nodes(ctx)
	if err != nil {
		return nil, err
	}
	var out []kvpb.ReplicaDescriptor
	for _, id := range ids {
		node := kvpb.NodeID(0)
		for i := range nodes {
			for _, s := range nodes[i].Stores {
				if s.StoreID == int32(id) {
					node = kvpb.NodeID(nodes[i].NodeID)
				}
			}
			if len(nodes[i].Stores) == 0 && nodes[i].NodeID == int32(id) {
				node = kvpb.NodeID(id) // It has not said yet what it has; a node's first store has its id.
			}
		}
		if node == 0 {
			return nil, pgerr.Newf(pgerr.InvalidParameterValue, "store %d is not part of the cluster", id).
				WithHint("The column replicas of SHOW RANGES, and holdfast node status, show which there are.")
		}
		out = append(out, kvpb.ReplicaDescriptor{NodeID: node, StoreID: id})
	}
	return out, nil
}

// relocate is ALTER TABLE|INDEX … RELOCATE: each row names stores and a key.
func (p *planner) relocateRows(ctx context.Context, n *parser.Relocate) (*rowSource, error) {
	x, err := p.rangesIndex(ctx, &n.TableOrIndex, "relocate")
	if err != nil {
		return nil, err
	}
	return source("key bytea, pretty text", func(ctx context.Context, p *planner, add func(...any) error) error {
		if err := p.checkWritable("RELOCATE"); err != nil {
			return err
		}
		rows, _, err := p.query(ctx, tree.AsString(n.Rows))
		if err != nil {
			return err
		}
		for _, row := range rows {
			if len(row) < 2 {
				return pgerr.Newf(pgerr.SyntaxError, "less than two columns in %s data", "RELOCATE")
			}
			stores, err := storeIDs(row[0], n.Subject)
			if err != nil {
				return err
			}
			key, err := p.indexPrefixKey(x, row[1:], "RELOCATE")
			if err != nil {
				return err
			}
			if err := p.relocateRange(ctx, key, n.Subject, stores); err != nil {
				return err
			}
			if err := add([]byte(key), keys.Pretty(key)); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// storeIDs reads the first column of a RELOCATE: an array of stores, or for a lease
// one.
func storeIDs(d tree.Datum, subject parser.RelocateSubject) ([]kvpb.StoreID, error) {
	one := func(d tree.Datum) (kvpb.StoreID, error) {
		i, ok := tree.AsDInt(d)
		if !ok || i < 1 || i > 1<<31-1 {
			return 0, pgerr.Newf(pgerr.InvalidParameterValue, "%s is not the id of a store", d)
		}
		return kvpb.StoreID(i), nil
	}
	if subject == parser.RelocateLease {
		id, err := one(d)
		return []kvpb.StoreID{id}, err
	}
	list, ok := tree.AsDArray(d)
	if !ok {
		return nil, pgerr.Newf(pgerr.DatatypeMismatch, "expected int array in the first column of RELOCATE, got %s", typeName(d.ResolvedType()))
	}
	var out []kvpb.StoreID
	for _, e := range list.Array {
		id, err := one(e)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, nil
}

// relocateRange gives the range of key new replicas of one kind, or another
// leaseholder.
func (p *planner) relocateRange(ctx context.Context, key keys.Key, subject parser.RelocateSubject, stores []kvpb.StoreID) error {
	named, err := p.replicasOn(ctx, stores)
	if err != nil {
		return err
	}
	if subject == parser.RelocateLease {
		return p.srv.db.AdminTransferLease(ctx, key, stores[0])
	}
	infos, err := p.srv.db.Ranges(ctx, keys.Span{Key: key})
	if err != nil {
		return err
	}
	voters, nonVoters := replicasByKind(&infos[0].Descriptor)
	if subject == parser.RelocateNonVoters {
		return p.srv.db.AdminRelocate(ctx, key, voters, named, false)
	}
	if len(named) == 0 {
		return pgerr.New(pgerr.InvalidParameterValue, "list of voter replicas to relocate to is empty")
	}
	return p.srv.db.AdminRelocate(ctx, key, named, withoutStores(nonVoters, named), true)
}

func replicasByKind(d *kvpb.RangeDescriptor) (voters, nonVoters []kvpb.ReplicaDescriptor) {
	for _, r := range d.Replicas {
		switch r.Type {
		case kvpb.ReplicaVoter, kvpb.ReplicaVoterIncoming:
			voters = append(voters, r)
		case kvpb.ReplicaNonVoter, kvpb.ReplicaVoterDemotingNonVoter:
			nonVoters = append(nonVoters, r)
		}
	}
	return voters, nonVoters
}

func withoutStores(all, gone []kvpb.ReplicaDescriptor) (out []kvpb.ReplicaDescriptor) {
	for _, r := range all {
		keep := true
		for _, g := range gone {
			keep = keep && g.StoreID != r.StoreID
		}
		if keep {
			out = append(out, r)
		}
	}
	return out
}

// alterRangeRelocate is ALTER RANGE … RELOCATE. What becomes of each range is a
// column of the result: one that fails does not keep others from moving.
func (p *planner) alterRangeRelocate(ctx context.Context, n *parser.AlterRangeRelocate) (*rowSource, error) {
	if err := p.requireAdmin(ctx, "relocate ranges"); err != nil {
		return nil, err
	}
	return source("range_id int, pretty text, result text", func(ctx context.Context, p *planner, add func(...any) error) error {
		if err := p.checkWritable("RELOCATE"); err != nil {
			return err
		}
		store := func(e tree.Expr) (kvpb.StoreID, error) {
			if e == nil {
				return 0, nil
			}
			d, err := p.evalConst(ctx, e)
			if err != nil {
				return 0, err
			}
			ids, err := storeIDs(d, parser.RelocateLease)
			if err != nil {
				return 0, err
			}
			return ids[0], nil
		}
		from, err := store(n.From)
		if err != nil {
			return err
		}
		to, err := store(n.To)
		if err != nil {
			return err
		}
		rows, _, err := p.query(ctx, tree.AsString(n.Ranges))
		if err != nil {
			return err
		}
		wanted := map[kvpb.RangeID]bool{}
		for _, row := range rows {
			id, ok := tree.AsDInt(row[0])
			if !ok {
				return pgerr.Newf(pgerr.DatatypeMismatch, "%s is not the id of a range", row[0])
			}
			wanted[kvpb.RangeID(id)] = true
		}
		descs, err := p.srv.db.RangeDescriptors(ctx, wholeKeyspace)
		if err != nil {
			return err
		}
		for i := range descs {
			d := &descs[i]
			if !wanted[d.RangeID] {
				continue
			}
			delete(wanted, d.RangeID)
			result := "ok"
			if err := p.relocateOne(ctx, d, n.Subject, from, to); err != nil {
				result = err.Error()
			}
			if err := add(int64(d.RangeID), keys.Pretty(d.StartKey), result); err != nil {
				return err
			}
		}
		for id := range wanted {
			if err := add(int64(id), "", fmt.Sprintf("range %d does not exist", id)); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// relocateOne moves one replica of a range, or its lease.
func (p *planner) relocateOne(ctx context.Context, d *kvpb.RangeDescriptor, subject parser.RelocateSubject, from, to kvpb.StoreID) error {
	named, err := p.replicasOn(ctx, []kvpb.StoreID{to})
	if err != nil {
		return err
	}
	if subject == parser.RelocateLease {
		return p.srv.db.AdminTransferLease(ctx, d.StartKey, to)
	}
	voters, nonVoters := replicasByKind(d)
	group := &voters
	if subject == parser.RelocateNonVoters {
		group = &nonVoters
	}
	rest := withoutStores(*group, []kvpb.ReplicaDescriptor{{StoreID: from}})
	if len(rest) == len(*group) {
		return pgerr.Newf(pgerr.InvalidParameterValue, "the range has no such replica on store %d", from)
	}
	*group = append(rest, named...)
	return p.srv.db.AdminRelocate(ctx, d.StartKey, voters, withoutStores(nonVoters, voters), false)
}
