package kv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfastdb/holdfast/internal/chance"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Directory finds ranges by key, from the addressing records.
type Directory interface {
	// LookupRange returns the range that holds key or, if before is set, the one
	// that holds the keys directly before key.
	LookupRange(ctx context.Context, key keys.Key, before bool) (*kvpb.RangeDescriptor, error)
}

// Transport reaches replicas.
type Transport interface {
	// SendTo has the batch evaluated by the replica. A replica that does not hold
	// all its keys answers with a *kvpb.RangeKeyMismatchError, a store that does
	// not have the range with a *kvpb.RangeNotFoundError.
	SendTo(ctx context.Context, to kvpb.ReplicaDescriptor, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error)
}

// Router cuts batches along range boundaries and sends each part to the range
// that holds it. It implements Sender and is safe for concurrent use.
type Router struct {
	dir       Directory
	transport Transport
	cache     rangeCache
	// Distance says how far a node is; nearer is less. Nil: all are alike. It is set
	// before the router is used.
	Distance func(kvpb.NodeID) int
	// leaseholders has the replica that served a range last, by range id.
	leaseholders sync.Map
}

// NewRouter returns a Router.
func NewRouter(dir Directory, transport Transport) *Router {
	return &Router{dir: dir, transport: transport}
}

// Send implements Sender. A batch with a transaction is atomic by the
// transaction; without one each range applies its part on its own.
func (r *Router) Send(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	span := ba.Span()
	var tries attempts
	for {
		desc, err := r.lookup(ctx, span.Key, false)
		if err != nil {
			return nil, err
		}
		if !desc.ContainsSpan(span) {
			return r.sendSplit(ctx, ba)
		}
		if len(desc.Replicas) == 0 {
			return nil, fmt.Errorf("%s has no replicas", desc)
		}
		to := r.choose(desc, ba.Nearest, &tries)
		ba.RangeID = desc.RangeID
		resp, err := r.transport.SendTo(ctx, to, ba)
		if err == nil {
			if !ba.Nearest {
				r.served(desc, to)
			}
			return resp, nil
		}
		if again := r.repair(desc, to, err, &tries); !again {
			return nil, err
		}
		if mayHaveHappened(err) && !repeatable(ba) {
			return nil, &kvpb.AmbiguousResultError{Cause: err}
		}
		if err := tries.wait(ctx, err); err != nil {
			return nil, err
		}
	}
}

// served remembers who serves a range.
func (r *Router) served(desc *kvpb.RangeDescriptor, by kvpb.ReplicaDescriptor) {
	if len(desc.Replicas) == 1 {
		return
	}
	if l, ok := r.leaseholders.Load(desc.RangeID); !ok || l.(kvpb.ReplicaDescriptor) != by {
		r.leaseholders.Store(desc.RangeID, by)
	}
}

// attempts is what one batch has seen of the replicas of its range.
type attempts struct {
	asked map[kvpb.ReplicaDescriptor]bool // in this round
	n     int                             // rounds
	tries int
	since time.Time
}

// unavailableAfter is how long a batch is sent again and again to a range that
// nobody serves. Replicas that have lost their leaseholder take less than that to
// find another.
const unavailableAfter = 60 * time.Second

// choose returns the replica to ask next: the one that served last, else one that
// was not asked yet.
func (r *Router) choose(desc *kvpb.RangeDescriptor, nearest bool, t *attempts) kvpb.ReplicaDescriptor {
	if len(desc.Replicas) == 1 {
		return desc.Replicas[0]
	}
	if nearest && len(t.asked) == 0 && t.n == 0 && r.Distance != nil {
		return slices.MinFunc(desc.Replicas, func(a, b kvpb.ReplicaDescriptor) int {
			return cmp.Compare(r.Distance(a.NodeID), r.Distance(b.NodeID))
		})
	}
	if l, ok := r.leaseholders.Load(desc.RangeID); ok {
		// By store, since a replica can have left the range and come back.
		if d, ok := desc.ReplicaOn(l.(kvpb.ReplicaDescriptor).StoreID); ok && !t.asked[d] {
			return d
		}
	}
	for _, d := range desc.Replicas {
		if !t.asked[d] && d.Type.MayServe() {
			return d
		}
	}
	clear(t.asked)
	t.n++ // Everybody was asked.
	return desc.Replicas[0]
}

// repair mends what the router believed if err says that it is wrong, and says
// whether sending again makes sense.
func (r *Router) repair(desc *kvpb.RangeDescriptor, to kvpb.ReplicaDescriptor, err error, t *attempts) bool {
	if t.asked == nil {
		t.asked, t.since = map[kvpb.ReplicaDescriptor]bool{}, time.Now()
	}
	// A round ends when everybody was asked. Who is everybody may change with each
	// answer, so many tries are rounds, too.
	const triesPerRound = 8
	if t.tries++; t.tries%triesPerRound == 0 {
		t.n++
	}
	var mismatch *kvpb.RangeKeyMismatchError
	var notFound *kvpb.RangeNotFoundError
	var notHolder *kvpb.NotLeaseholderError
	var unreachable UnreachableError
	switch {
	case errors.As(err, &mismatch):
		r.cache.evict(desc)
		if mismatch.Descriptor.RangeID != 0 {
			d := mismatch.Descriptor
			r.cache.insert(&d)
		}
		t.n++
	case errors.As(err, &notFound):
		t.asked[to] = true
		r.leaseholders.CompareAndDelete(desc.RangeID, to)
		r.cache.evict(desc)
		t.n++
	case errors.As(err, &notHolder):
		t.asked[to] = true
		r.leaseholders.CompareAndDelete(desc.RangeID, to)
		if len(desc.Replicas) == 1 {
			t.n++
		}
		if d := notHolder.Descriptor; d.Generation > desc.Generation {
			r.cache.insert(&d)
		}
		if l := notHolder.Leaseholder; l.NodeID != 0 {
			r.leaseholders.Store(desc.RangeID, l)
			if t.asked[l] {
				t.n++ // They do not agree (yet).
				delete(t.asked, l)
			}
		}
	case errors.As(err, &unreachable):
		t.asked[to] = true
		r.leaseholders.CompareAndDelete(desc.RangeID, to)
		if len(desc.Replicas) == 1 || t.n > 0 {
			r.cache.evict(desc) // Perhaps it moved.
		}
		if len(desc.Replicas) == 1 {
			t.n++
		}
	default:
		return false
	}
	return true
}

// wait returns when it makes sense to send again.
func (t *attempts) wait(ctx context.Context, cause error) error {
	if t.n <= 1 {
		return ctx.Err() // The first round is for free.
	}
	if time.Since(t.since) > unavailableAfter {
		return pgerr.Newf(pgerr.CannotConnectNow, "no replica of the range could serve the request for %s: %w", unavailableAfter, cause).
			WithHint("A range needs more than half of its voting replicas. Start the nodes that are down, or see which they are with: holdfast node status.")
	}
	d := min(time.Millisecond<<min(t.n, 8), 200*time.Millisecond)
	select {
	case <-time.After(d/2 + chance.Duration(d/2+1)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// UnreachableError is what a Transport returns when it could not get an answer
// from a replica's node.
type UnreachableError interface {
	error
	// MayHaveHappened says that the request may have reached the replica.
	MayHaveHappened() bool
}

// mayHaveHappened says whether a request that failed with err may have taken
// effect.
func mayHaveHappened(err error) bool {
	var u UnreachableError
	return errors.As(err, &u) && u.MayHaveHappened()
}

// repeatable says whether a batch can be evaluated twice without harm: reads; what
// a transaction writes before it commits, since a write that finds itself is told
// by its sequence number; and what finds out about transactions and cleans up.
// What removes whole spans is not: its first copy may have done so long ago, and
// the second would take what was written since.
func repeatable(ba *kvpb.BatchRequest) bool {
	for i := range ba.Requests {
		switch q := &ba.Requests[i]; {
		case q.Op == kvpb.OpEndTxn:
			if args, ok := q.Args.(*kvpb.EndTxnArgs); !ok || args.Commit {
				return false
			}
		case q.Op.IsTxnWrite() && ba.Txn == nil, q.Op == kvpb.OpAddSSTable,
			q.Op == kvpb.OpClearRange, q.Op == kvpb.OpDeleteRangeTombstone:
			return false
		}
	}
	return true
}

func (r *Router) lookup(ctx context.Context, key keys.Key, before bool) (*kvpb.RangeDescriptor, error) {
	for n := 0; ; n++ {
		if d := r.cache.get(key, before); d != nil {
			return d, nil
		}
		d, err := r.dir.LookupRange(ctx, key, before)
		if err != nil {
			return nil, fmt.Errorf("finding the range of %s: %w", key, err)
		}
		if d.ContainsKey(key) && !before || before && d.StartKey.Less(key) && key.Compare(d.EndKey) <= 0 {
			// If part of it is known better, the range itself can tell what is left.
			r.cache.insert(d)
			return d, nil
		}
		// The records do not have it yet.
		if n > 1000 {
			return nil, fmt.Errorf("finding the range of %s: the addressing records name %s", key, d)
		}
		if err := pause(ctx, time.Duration(min(1+n, 50))*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part is the share of a batch that one range evaluates.
type part struct {
	ba   kvpb.BatchRequest
	end  bool // has the EndTxn, goes last
	resp *kvpb.BatchResponse
	err  error
}

// splitBatch is a batch cut along range boundaries.
type splitBatch struct {
	parts []part
	// pieces are those of the requests, each request's in its own direction.
	pieces []piece
	// inOrder says that the parts must be sent one after the other, because what is
	// known of the ranges contradicts itself: two pieces of the same keys may be in
	// parts that are addressed differently.
	inOrder bool
}

// piece says where a piece of a request went.
type piece struct{ request, part, at int }

// maxParallelParts bounds how many parts of one batch are under way at once.
const maxParallelParts = 16

// sendSplit sends a batch that more than one range holds.
func (r *Router) sendSplit(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if ba.Requests[0].Op == kvpb.OpExport {
		return r.sendExport(ctx, ba)
	}
	out := &kvpb.BatchResponse{Responses: make([]kvpb.Response, len(ba.Requests))}
	if ba.MaxKeys > 0 || ba.TargetBytes > 0 {
		return out, r.sendLimited(ctx, ba, out)
	}
	b, err := r.split(ctx, ba)
	if err != nil {
		return nil, err
	}
	for _, last := range []bool{false, true} {
		if err := r.sendParts(ctx, b, last, ba, out); err != nil {
			return nil, err
		}
	}
	for _, p := range b.pieces {
		mergeResponse(&out.Responses[p.request], &b.parts[p.part].resp.Responses[p.at], ba.Requests[p.request].Op)
	}
	return out, nil
}

// sendParts sends those parts that have the end of the transaction, or those that
// do not, and merges the headers of the answers into out.
func (r *Router) sendParts(ctx context.Context, b *splitBatch, end bool, ba *kvpb.BatchRequest, out *kvpb.BatchResponse) error {
	var parts []*part
	for i := range b.parts {
		if b.parts[i].end == end {
			parts = append(parts, &b.parts[i])
		}
	}
	var first error
	merge := func(p *part) {
		switch {
		case p.err == nil:
			mergeHeader(out, p.resp)
		case first == nil:
			first = p.err
		}
		var partial *kvpb.PartialBatchError
		if errors.As(p.err, &partial) {
			out.Txn.WriteTimestamp.Forward(partial.WriteTimestamp)
		}
	}
	if b.inOrder || end || len(parts) == 1 {
		for _, p := range parts {
			p.ba.Txn = withTimestampOf(p.ba.Txn, out)
			p.resp, p.err = r.Send(ctx, &p.ba)
			if merge(p); first != nil {
				break
			}
		}
		return afterPart(first, ba, out)
	}
	// Of what leaves something behind the outcome must be known, whatever becomes of
	// the others, and the first request that fails is what the client hears of.
	// Reads are given up when one of them fails.
	sendCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	readOnly := !slices.ContainsFunc(ba.Requests, func(q kvpb.Request) bool { return q.Op.IsWrite() || q.Lock != kvpb.LockNone })
	var failed atomic.Pointer[part]
	var group errgroup.Group
	group.SetLimit(maxParallelParts)
	for _, p := range parts {
		group.Go(func() error {
			if p.resp, p.err = r.Send(sendCtx, &p.ba); p.err != nil && failed.CompareAndSwap(nil, p) && readOnly {
				cancel()
			}
			return nil
		})
	}
	_ = group.Wait()
	if p := failed.Load(); p != nil && readOnly {
		first = p.err // Other errors may only say that the rest was given up.
	}
	for _, p := range parts {
		merge(p)
	}
	return afterPart(first, ba, out)
}

// withTimestampOf returns txn with what the parts of its batch that were sent so
// far made of its write timestamp: the commit must not be below their intents.
func withTimestampOf(txn *kvpb.Transaction, sent *kvpb.BatchResponse) *kvpb.Transaction {
	if txn == nil || sent.Txn.WriteTimestamp.LessEq(txn.WriteTimestamp) {
		return txn
	}
	t := *txn
	t.WriteTimestamp = sent.Txn.WriteTimestamp
	return &t
}

// afterPart adds to err that parts of the batch were evaluated before it.
func afterPart(err error, ba *kvpb.BatchRequest, sent *kvpb.BatchResponse) error {
	if err == nil || ba.Txn == nil || sent.Txn.WriteTimestamp.LessEq(ba.Txn.WriteTimestamp) {
		return err
	}
	return &kvpb.PartialBatchError{WriteTimestamp: sent.Txn.WriteTimestamp, Cause: err}
}

func mergeHeader(out, resp *kvpb.BatchResponse) {
	out.Timestamp.Forward(resp.Timestamp)
	out.Txn.WriteTimestamp.Forward(resp.Txn.WriteTimestamp)
	out.Txn.ReadTimestamp.Forward(resp.Txn.ReadTimestamp)
	out.Txn.Status = max(out.Txn.Status, resp.Txn.Status)
}

// mergeResponse appends a piece of an answer. Pieces of a reverse scan come in
// reverse order, so appending is right for both directions.
func mergeResponse(out, piece *kvpb.Response, op kvpb.Op) {
	if out.KVs == nil {
		out.KVs = piece.KVs
	} else {
		out.KVs = append(out.KVs, piece.KVs...)
	}
	out.Count += piece.Count
	if piece.Reply != nil {
		out.Reply = piece.Reply
	}
	if piece.Resume != nil {
		if out.Resume == nil {
			out.Resume = piece.Resume
		} else if op == kvpb.OpReverseScan {
			out.Resume.Key = piece.Resume.Key
		} else {
			out.Resume.EndKey = piece.Resume.EndKey
		}
	}
}

// split cuts every request along range boundaries and groups the pieces by range.
// If the descriptors that it finds overlap, each piece becomes a part of its own, in
// the order of the requests.
func (r *Router) split(ctx context.Context, ba *kvpb.BatchRequest) (*splitBatch, error) {
	type found struct {
		desc  *kvpb.RangeDescriptor
		index int // in ba.Requests
		req   kvpb.Request
	}
	var all []found
	for i, req := range ba.Requests {
		if !req.Op.IsRange() {
			d, err := r.lookup(ctx, req.Key, false)
			if err != nil {
				return nil, err
			}
			all = append(all, found{d, i, req})
			continue
		}
		err := r.eachPiece(ctx, req, func(d *kvpb.RangeDescriptor, piece kvpb.Request) (bool, error) {
			all = append(all, found{d, i, piece})
			return true, nil
		})
		if err != nil {
			return nil, err
		}
	}
	// A generation of a range has one span.
	type version struct {
		id         kvpb.RangeID
		generation int64
	}
	byVersion := map[version]int{}
	var descs []*kvpb.RangeDescriptor
	for _, f := range all {
		v := version{f.desc.RangeID, f.desc.Generation}
		if _, ok := byVersion[v]; !ok {
			byVersion[v] = len(descs)
			descs = append(descs, f.desc)
		}
	}
	b := &splitBatch{pieces: make([]piece, 0, len(all)), inOrder: overlap(descs)}
	if !b.inOrder {
		b.parts = make([]part, len(descs))
	}
	for _, f := range all {
		n := byVersion[version{f.desc.RangeID, f.desc.Generation}]
		if b.inOrder {
			n = len(b.parts)
			b.parts = append(b.parts, part{})
		}
		p := &b.parts[n]
		if len(p.ba.Requests) == 0 {
			p.ba.Header = ba.Header
			// One range must not move the snapshot alone.
			p.ba.CanForwardReadTimestamp = false
		}
		if args, ok := f.req.Args.(*kvpb.EndTxnArgs); ok {
			p.end = true
			if args.OnePhase {
				a := *args
				a.OnePhase = false
				f.req.Args = &a
			}
		}
		b.pieces = append(b.pieces, piece{f.index, n, len(p.ba.Requests)})
		p.ba.Requests = append(p.ba.Requests, f.req)
	}
	return b, nil
}

// overlap says whether two of the descriptors have a key in common.
func overlap(descs []*kvpb.RangeDescriptor) bool {
	sorted := slices.SortedFunc(slices.Values(descs), func(a, b *kvpb.RangeDescriptor) int { return a.StartKey.Compare(b.StartKey) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].StartKey.Less(sorted[i-1].EndKey) {
			return true
		}
	}
	return false
}

// eachPiece calls fn for the piece of req in every range that it overlaps, in
// the direction of the request.
func (r *Router) eachPiece(ctx context.Context, req kvpb.Request, fn func(*kvpb.RangeDescriptor, kvpb.Request) (more bool, err error)) error {
	reverse := req.Op == kvpb.OpReverseScan
	rest := req.Span()
	for rest.Key.Less(rest.EndKey) {
		at := rest.Key
		if reverse {
			at = rest.EndKey
		}
		d, err := r.lookup(ctx, at, reverse)
		if err != nil {
			return err
		}
		piece := req
		piece.Key, piece.EndKey = rest.Key, rest.EndKey
		if piece.Key.Less(d.StartKey) {
			piece.Key = d.StartKey
		}
		if d.EndKey.Less(piece.EndKey) {
			piece.EndKey = d.EndKey
		}
		more := true
		if args, ok := req.Args.(*kvpb.PutSortedArgs); ok {
			args = args.Within(piece.Span())
			piece.Args = args
			more = len(args.Pairs) > 0
		}
		if more {
			if more, err = fn(d, piece); err != nil || !more {
				return err
			}
		}
		if reverse {
			rest.EndKey = piece.Key
		} else {
			rest.Key = piece.EndKey
		}
	}
	return nil
}

// sendLimited evaluates a batch with limits request by request and range by
// range, because each step decides how much the next may return.
func (r *Router) sendLimited(ctx context.Context, ba *kvpb.BatchRequest, out *kvpb.BatchResponse) error {
	maxKeys, targetBytes := ba.MaxKeys, ba.TargetBytes
	exhausted := false
	for i, req := range ba.Requests {
		res := &out.Responses[i]
		if exhausted {
			res.Resume = &keys.Span{Key: req.Key, EndKey: req.EndKey}
			if !req.Op.IsRange() {
				res.Resume.EndKey = req.Key.Next()
			}
			continue
		}
		send := func(_ *kvpb.RangeDescriptor, piece kvpb.Request) (bool, error) {
			sub := kvpb.BatchRequest{Header: ba.Header, Requests: []kvpb.Request{piece}}
			sub.CanForwardReadTimestamp = false
			sub.Txn = withTimestampOf(ba.Txn, out)
			sub.MaxKeys, sub.TargetBytes = maxKeys, targetBytes
			resp, err := r.Send(ctx, &sub)
			if err != nil {
				return false, afterPart(err, ba, out)
			}
			mergeHeader(out, resp)
			got := &resp.Responses[0]
			limited := got.Resume != nil
			mergeResponse(res, got, piece.Op)
			if ba.MaxKeys > 0 {
				maxKeys -= int64(len(got.KVs))
				exhausted = exhausted || maxKeys <= 0
			}
			if ba.TargetBytes > 0 {
				for _, kv := range got.KVs {
					targetBytes -= int64(len(kv.Key) + len(kv.Value))
				}
				exhausted = exhausted || targetBytes <= 0
			}
			exhausted = exhausted || limited
			if exhausted && piece.Op.IsRange() {
				res.Resume = resumeOf(req, piece, got.Resume)
			}
			return !exhausted, nil
		}
		if !req.Op.IsRange() {
			if _, err := send(nil, req); err != nil {
				return err
			}
			continue
		}
		if err := r.eachPiece(ctx, req, send); err != nil {
			return err
		}
	}
	return nil
}

// resumeOf says what of req is left after piece, of which rest is left.
func resumeOf(req, piece kvpb.Request, rest *keys.Span) *keys.Span {
	s := keys.Span{Key: req.Key, EndKey: req.EndKey}
	switch {
	case req.Op == kvpb.OpReverseScan && rest != nil:
		s.EndKey = rest.EndKey
	case req.Op == kvpb.OpReverseScan:
		s.EndKey = piece.Key
	case rest != nil:
		s.Key = rest.Key
	default:
		s.Key = piece.EndKey
	}
	if !s.Key.Less(s.EndKey) {
		return nil
	}
	return &s
}

// sendExport sends an export to the first range it overlaps. A page is of one
// range; the rest follows as the resume key.
func (r *Router) sendExport(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error) {
	if len(ba.Requests) != 1 {
		return nil, errors.New("an export must be alone in its batch")
	}
	req := ba.Requests[0]
	var out *kvpb.BatchResponse
	err := r.eachPiece(ctx, req, func(_ *kvpb.RangeDescriptor, piece kvpb.Request) (bool, error) {
		sub := kvpb.BatchRequest{Header: ba.Header, Requests: []kvpb.Request{piece}}
		var err error
		if out, err = r.Send(ctx, &sub); err != nil {
			return false, err
		}
		reply := out.Responses[0].Reply.(*kvpb.ExportReply)
		if reply.Result.ResumeKey == nil && piece.EndKey.Less(req.EndKey) {
			reply.Result.ResumeKey = piece.EndKey
		}
		return false, nil
	})
	return out, err
}
