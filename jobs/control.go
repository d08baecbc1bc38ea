package jobs

import (
	"context"
	"fmt"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
)

// Pause asks for job id to stop. It takes effect when txn commits and the process
// that runs the job has noticed. Pausing a paused job does nothing.
func (r *Registry) Pause(ctx context.Context, txn *kv.Txn, id ID, reason string) error {
	return r.control(ctx, txn, id, func(rec *Record) error {
		switch rec.State {
		case PauseRequested, Paused:
			return nil
		case Pending, Running, Reverting:
			rec.Payload.PauseReason = reason
			return rec.move(PauseRequested)
		}
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
			"job with state %s cannot be requested to be paused", rec.State)
	})
}

// Resume lets a paused job go on. Resuming a running job does nothing.
func (r *Registry) Resume(ctx context.Context, txn *kv.Txn, id ID) error {
	return r.control(ctx, txn, id, func(rec *Record) error {
		switch rec.State {
		case Running, Reverting:
			return nil
		case Paused:
			rec.Payload.PauseReason = ""
			rec.NextRun = fromMicros(0)
			if rec.Payload.FinalResumeError != nil {
				return rec.move(Reverting)
			}
			return rec.move(Running)
		}
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
			"job with state %s cannot be resumed", rec.State)
	})
}

// Cancel asks for job id to stop and to undo what it did.
func (r *Registry) Cancel(ctx context.Context, txn *kv.Txn, id ID) error {
	return r.control(ctx, txn, id, func(rec *Record) error {
		if rec.Payload.Noncancelable {
			return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "job %d: not cancelable", id)
		}
		switch rec.State {
		case CancelRequested, Canceled:
			return nil
		case Paused:
			if rec.Payload.FinalResumeError != nil {
				return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
					"job %d is paused and has non-nil FinalResumeError hence cannot be canceled and should be reverted", id).
					WithHint("RESUME JOB %d lets it finish reverting.", id)
			}
			return rec.move(CancelRequested)
		case Pending, Running:
			return rec.move(CancelRequested)
		}
		return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
			"job with state %s cannot be requested to be canceled", rec.State)
	})
}

// SetOwner gives job id to another role.
func (r *Registry) SetOwner(ctx context.Context, txn *kv.Txn, id ID, owner string) error {
	rec, err := load(ctx, txn, id)
	if err != nil {
		return err
	}
	rec.Payload.Username = owner
	return rec.store(ctx, txn)
}

func (r *Registry) control(ctx context.Context, txn *kv.Txn, id ID, change func(*Record) error) error {
	rec, err := load(ctx, txn, id)
	if err != nil {
		return err
	}
	before := rec.State
	if err := change(rec); err != nil {
		return err
	}
	if rec.State == before {
		return nil
	}
	rec.Progress.ModifiedMicros = r.nowMicros()
	if err := rec.store(ctx, txn); err != nil {
		return err
	}
	txn.OnCommit(func() {
		r.wake()
		r.notify()
	})
	return nil
}

// Get returns one job.
func (r *Registry) Get(ctx context.Context, txn *kv.Txn, id ID) (*Record, error) {
	return load(ctx, txn, id)
}

// Each calls fn for every job in the order of ids.
func (r *Registry) Each(ctx context.Context, txn *kv.Txn, fn func(*Record) error) error {
	span := systables.Jobs.Span()
	for start := span.Key; ; {
		res, err := txn.Scan(ctx, start, span.EndKey, kv.ScanOptions{MaxKeys: 1000})
		if err != nil {
			return fmt.Errorf("reading jobs: %w", err)
		}
		for _, kv := range res.KVs {
			row, err := systables.Jobs.Decode(kv.Key, kv.Value)
			if err != nil {
				return pgerr.Newf(pgerr.DataCorrupted, "reading jobs: %w", err)
			}
			rec, err := recordFromRow(row)
			if err != nil {
				return err
			}
			if err := fn(rec); err != nil {
				return err
			}
		}
		if res.Resume == nil {
			return nil
		}
		start = res.Resume.Key
	}
}

// idsInState reads the status index.
func idsInState(ctx context.Context, txn *kv.Txn, state State) ([]ID, error) {
	ix := &systables.Jobs.Indexes[0]
	prefix, err := systables.Jobs.IndexKeyPrefix(ix, string(state))
	if err != nil {
		return nil, err
	}
	res, err := txn.Scan(ctx, prefix, prefix.PrefixEnd(), kv.ScanOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading jobs in state %s: %w", state, err)
	}
	ids := make([]ID, 0, len(res.KVs))
	for _, kv := range res.KVs {
		row, err := systables.Jobs.DecodeIndex(ix, kv.Key, kv.Value)
		if err != nil {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "reading jobs in state %s: %w", state, err)
		}
		ids = append(ids, ID(row[colID].(int64)))
	}
	return ids, nil
}
