package kvserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Whether the replicas of a range are alike is checked by a command of its log: each
// replica sums up what it has at that place, and the leaseholder compares. What
// differs is told, and left as it is: nobody knows which of them is right.

// checksum is what a replica finds for one check.
type checksum struct {
	done  chan struct{} // closed when the rest is set
	sum   [16]byte
	stats string
	err   error
}

const (
	// checksumKept is how long a replica remembers what it found.
	checksumKept = time.Minute
	// checkTimeout bounds how long the leaseholder waits for others.
	checkTimeout = 45 * time.Second
	// checkPace is the least time between two checks in the background.
	checkPace = time.Second
)

// beginChecksum pins what the range holds as it is applied now, and sums it up in the
// background.
func (r *Replica) beginChecksum(id uint64, d *kvpb.RangeDescriptor, stats storage.Stats) {
	s := r.store
	c := &checksum{done: make(chan struct{}), stats: fmt.Sprintf("%+v", stats)}
	snap, err := s.eng.OpenSpans(replicatedSpans(d))
	if err != nil {
		c.err = err
		close(c.done)
	}
	r.checks.Store(id, c)
	time.AfterFunc(checksumKept, func() { r.checks.Delete(id) })
	if err != nil {
		return
	}
	begun := s.async(func(ctx context.Context) {
		defer close(c.done)
		ctx, cancel := context.WithTimeout(ctx, checksumKept)
		defer cancel()
		select {
		case s.summing <- struct{}{}: // One after the other, so that they do not fill the disk's queue.
			c.sum, _, c.err = snap.Checksum(ctx)
			<-s.summing
		case <-ctx.Done():
			c.err = ctx.Err()
		}
		c.err = errors.Join(c.err, snap.Close())
	})
	if !begun {
		c.err = errors.Join(ErrStopped, snap.Close())
		close(c.done)
	}
}

// adminCheck evaluates an OpAdminCheck.
func (r *Replica) adminCheck(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.CheckReply, error) {
	if args, ok := ba.Requests[0].Args.(*kvpb.CheckArgs); ok && args.Collect != 0 {
		return r.collectChecksum(ctx, args.Collect)
	}
	return r.checkConsistency(ctx)
}

// collectChecksum returns what this replica found, once it has come as far.
func (r *Replica) collectChecksum(ctx context.Context, id uint64) (*kvpb.CheckReply, error) {
	for {
		if v, ok := r.checks.Load(id); ok {
			c := v.(*checksum)
			select {
			case <-c.done:
				return &kvpb.CheckReply{RangeID: r.id, Checksum: c.sum[:], Stats: c.stats}, c.err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.store.stopping:
			return nil, ErrStopped
		}
	}
}

// checkConsistency compares the replicas of the range.
func (r *Replica) checkConsistency(ctx context.Context) (*kvpb.CheckReply, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	seq, err := r.serve(ctx, hlc.Timestamp{})
	if err != nil {
		return nil, err
	}
	d := r.Desc()
	out := &kvpb.CheckReply{RangeID: r.id, StartKey: d.StartKey, Status: kvpb.RangeConsistent}
	if r.group.Load() == nil {
		out.Detail = "there is one replica"
		return out, nil
	}
	id := rand.Uint64() | 1
	if err := r.replicate(ctx, &kvserverpb.Command{LeaseSequence: seq, Check: id}, nil); err != nil {
		return nil, err
	}
	answers := make([]*kvpb.CheckReply, len(d.Replicas))
	errs := make([]error, len(d.Replicas))
	done := make(chan struct{}, len(d.Replicas))
	for i, to := range d.Replicas {
		go func() {
			defer func() { done <- struct{}{} }()
			ba := &kvpb.BatchRequest{}
			ba.RangeID = r.id
			ba.Add(kvpb.Request{Op: kvpb.OpAdminCheck, Key: d.StartKey, Args: &kvpb.CheckArgs{Collect: id}})
			resp, err := r.store.SendTo(ctx, to, ba)
			if err != nil {
				errs[i] = err
				return
			}
			answers[i], _ = resp.Responses[0].Reply.(*kvpb.CheckReply)
		}()
	}
	for range d.Replicas {
		<-done
	}
	r.judge(ctx, d, answers, errs, out)
	return out, nil
}

// judge compares what the replicas of d found.
func (r *Replica) judge(ctx context.Context, d *kvpb.RangeDescriptor, answers []*kvpb.CheckReply, errs []error, out *kvpb.CheckReply) {
	var lines []string
	var first *kvpb.CheckReply
	for i, to := range d.Replicas {
		name := fmt.Sprintf("(n%d,s%d):%d", to.NodeID, to.StoreID, to.ReplicaID)
		a := answers[i]
		if a == nil {
			lines = append(lines, fmt.Sprintf("%s has not answered: %v", name, errs[i]))
			if out.Status == kvpb.RangeConsistent {
				out.Status = kvpb.RangeIndeterminate
			}
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: checksum %x, %s", name, a.Checksum, a.Stats))
		if first == nil {
			first = a
		}
		if !bytes.Equal(a.Checksum, first.Checksum) || a.Stats != first.Stats {
			out.Status = kvpb.RangeInconsistent
		}
	}
	if out.Status == kvpb.RangeConsistent {
		out.Detail = "stats: " + first.Stats
		return
	}
	out.Detail = strings.Join(lines, "\n")
	if out.Status == kvpb.RangeInconsistent {
		r.store.inconsistent.Add(1)
		r.log.ErrorContext(ctx, "the replicas of a range differ; none of them was changed", "desc", d.String(), "found", out.Detail)
	}
}

// Inconsistent returns how many checks have found replicas that differ.
func (s *Store) Inconsistent() int64 { return s.inconsistent.Load() }

// checkAgainAndAgain checks the ranges that this store is in charge of in turn, each
// once in an interval.
func (s *Store) checkAgainAndAgain(ctx context.Context) {
	var last kvpb.RangeID
	for {
		wait := checkPace
		interval := time.Duration(0)
		if f := s.cfg.CheckInterval; f != nil {
			interval = f()
		}
		if interval > 0 {
			var next, least *Replica
			mine := 0
			for _, r := range *s.replicas.byID.Load() {
				if r.group.Load() == nil || !r.inCharge() {
					continue
				}
				mine++
				if r.id > last && (next == nil || r.id < next.id) {
					next = r
				}
				if least == nil || r.id < least.id {
					least = r
				}
			}
			if next == nil {
				next = least
			}
			if next != nil {
				wait = max(wait, interval/time.Duration(mine))
				last = next.id
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			if next != nil {
				if _, err := next.checkConsistency(ctx); err != nil {
					next.log.DebugContext(ctx, "checking whether the replicas are alike", "err", err)
				}
			}
			continue
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}
