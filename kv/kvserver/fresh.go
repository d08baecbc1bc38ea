package kvserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// minFreshKeys is from how many keys of one index on it pays to look whether
// their whole span is empty.
const minFreshKeys = 8

// freshWrites finds the writes of a batch that append to an index: their keys
// ascend and nothing is in the store between the first and the last. They need
// no look at what they replace. This is how bulk loads come.
type freshWrites struct {
	groups []freshGroup
	all    bool // the whole batch
}

// freshGroup is the writes of a batch to one index.
type freshGroup struct {
	prefix    keys.Key // of the index
	first     keys.Key
	last      keys.Key
	n         int
	ascending bool
}

// find returns the group of key.
func (f *freshWrites) find(key keys.Key) *freshGroup {
	for i := range f.groups {
		g := &f.groups[i]
		if len(key) >= len(g.prefix) && string(key[:len(g.prefix)]) == string(g.prefix) {
			return g
		}
	}
	return nil
}

// maxFreshGroups bounds the indexes that are looked at.
const maxFreshGroups = 16

func findFreshWrites(ctx context.Context, eng storage.Reader, reqs []kvpb.Request) (freshWrites, error) {
	var f freshWrites
	if len(reqs) < minFreshKeys {
		return f, nil
	}
	others := false
	for i := range reqs {
		q := &reqs[i]
		if !isSimpleInsert(q) {
			if q.Op != kvpb.OpEndTxn {
				return freshWrites{}, nil // It might touch the same keys.
			}
			others = true
			continue
		}
		g := f.find(q.Key)
		if g == nil {
			_, _, rest, ok := keys.DecodeIndexPrefix(q.Key)
			if !ok || len(f.groups) == maxFreshGroups {
				return freshWrites{}, nil
			}
			f.groups = append(f.groups, freshGroup{prefix: q.Key[:len(q.Key)-len(rest)], first: q.Key, ascending: true})
			g = &f.groups[len(f.groups)-1]
		} else if g.last.Compare(q.Key) >= 0 {
			g.ascending = false
		}
		g.last = q.Key
		g.n++
	}
	kept := f.groups[:0]
	total := 0
	for _, g := range f.groups {
		if !g.ascending || g.n < minFreshKeys {
			continue
		}
		fresh, err := storage.SpanIsFresh(ctx, eng, g.first, g.last.Next())
		if err != nil {
			return freshWrites{}, err
		}
		if fresh {
			kept = append(kept, g)
			total += g.n
		}
	}
	f.groups = kept
	f.all = total == len(reqs) && !others
	return f, nil
}

// isSimpleInsert says whether q would succeed on an empty span.
func isSimpleInsert(q *kvpb.Request) bool {
	return (q.Op == kvpb.OpPut || q.Op == kvpb.OpCPut && len(q.Expected) == 0) && len(q.Value) > 0
}

// ingestPairsBytes is from how much on sorted pairs come as files.
const ingestPairsBytes = 512 << 10

// putSorted writes many pairs of a transaction: as two ingested files if there
// are many and nothing stands against it, else one by one.
func (e *evaluation) putSorted(ctx context.Context, q *kvpb.Request) error {
	args, ok := q.Args.(*kvpb.PutSortedArgs)
	if !ok || e.txn == nil || len(e.ba.Requests) != 1 {
		return errors.New("sorted pairs are written alone, in a transaction, with arguments")
	}
	size := 0
	for i := range args.Pairs {
		key := args.Pairs[i].Key
		if !q.Span().Contains(key) {
			return fmt.Errorf("key %s is outside of the request's span %s", key, q.Span())
		}
		if c, ok := e.r.store.locks.conflict(e.w.txn.ID, e.w.list, key); ok {
			return &memoryLockError{c}
		}
		size += len(key) + len(args.Pairs[i].Value)
	}
	if size >= ingestPairsBytes && e.r.group.Load() == nil {
		files, err := storage.MVCCPutSorted(ctx, e.batch, args.Pairs, args.MustBeNew, e.txn)
		if err != nil {
			return err
		}
		if files != nil {
			e.proposal.batch, e.proposal.intents, e.proposal.stats = nil, files, files.Stats
			return nil
		}
	}
	for i := range args.Pairs {
		p := &args.Pairs[i]
		var err error
		if args.MustBeNew {
			err = storage.MVCCConditionalPut(ctx, e.batch, p.Key, e.writeTS, p.Value, nil, false, e.writeOptions())
		} else {
			err = storage.MVCCPut(ctx, e.batch, p.Key, e.writeTS, p.Value, e.writeOptions())
		}
		if err != nil {
			return err
		}
	}
	return nil
}
