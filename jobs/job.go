package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs/jobspb"
	"github.com/holdfastdb/holdfast/kv"
)

// Resumer does the work of one type of job.
//
// Resume starts or goes on with the work; it may be called many times, on
// different nodes, and finds in the job's progress where to go on. It stops soon
// after ctx is done and leaves what it did as it is. A nil error means the work
// is done; see the marks in errors.go for the others.
//
// OnFailOrCancel removes everything that Resume made, and nothing else. It may be
// called again after it failed.
type Resumer interface {
	Resume(ctx context.Context, job *Job) error
	OnFailOrCancel(ctx context.Context, job *Job, cause error) error
}

// Job is a claimed job in the hands of its resumer. Its methods are safe for
// concurrent use. Each write fails with ErrLostClaim once another process has
// claimed the job.
type Job struct {
	registry *Registry
	id       ID
	jobType  string
	claim    claim
	Log      *slog.Logger

	mu struct {
		sync.Mutex
		payload  *jobspb.Payload
		progress *jobspb.Progress
	}
}

// ID returns the job's id.
func (j *Job) ID() ID { return j.id }

// Type returns the job's type.
func (j *Job) Type() string { return j.jobType }

// Payload returns what was asked, as last read or written by this process. The
// caller must not change it.
func (j *Job) Payload() *jobspb.Payload {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.payload
}

// Progress returns how far the work got, as last read or written by this
// process. The caller must not change it.
func (j *Job) Progress() *jobspb.Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mu.progress
}

// Update changes payload or progress in a transaction that also checks the claim.
// fn may run several times; txn lets it write more in the same transaction.
func (j *Job) Update(ctx context.Context, fn func(ctx context.Context, txn *kv.Txn, rec *Record) error) error {
	var rec *Record
	err := j.registry.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		var err error
		if rec, err = j.UpdateIn(ctx, txn, fn); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.remember(rec)
	return nil
}

// UpdateIn is Update inside a transaction of the caller's, who calls Remember
// after it has committed.
func (j *Job) UpdateIn(
	ctx context.Context, txn *kv.Txn, fn func(ctx context.Context, txn *kv.Txn, rec *Record) error,
) (*Record, error) {
	rec, err := j.loadClaimed(ctx, txn)
	if err != nil {
		return nil, err
	}
	state := rec.State
	if err := fn(ctx, txn, rec); err != nil {
		return nil, err
	}
	if rec.State != state {
		return nil, fmt.Errorf("job %d: an update moved it from %s to %s", j.id, state, rec.State)
	}
	rec.Progress.ModifiedMicros = j.registry.nowMicros()
	return rec, rec.store(ctx, txn)
}

// loadClaimed reads the job and checks that this process still holds it.
func (j *Job) loadClaimed(ctx context.Context, txn *kv.Txn) (*Record, error) {
	rec, err := load(ctx, txn, j.id)
	if err != nil {
		return nil, err
	}
	if rec.claim != j.claim {
		return nil, fmt.Errorf("job %d: claimed by node %d, epoch %d: %w", j.id, rec.claim.instance, rec.claim.epoch, ErrLostClaim)
	}
	return rec, nil
}

func (j *Job) remember(rec *Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.payload, j.mu.progress = rec.Payload, rec.Progress
}

// SetFraction writes how much of the work is done, from 0 to 1. It never goes
// back.
func (j *Job) SetFraction(ctx context.Context, fraction float64, runningStatus string) error {
	if !(fraction >= 0 && fraction <= 1) {
		return fmt.Errorf("fraction completed %f is outside allowable range [0.0, 1.0]", fraction)
	}
	return j.Update(ctx, func(_ context.Context, _ *kv.Txn, rec *Record) error {
		rec.Progress.FractionCompleted = max(rec.Progress.FractionCompleted, fraction)
		rec.Progress.RunningStatus = runningStatus
		return nil
	})
}

// SetProgressDetails writes the checkpoint of the job's type.
func (j *Job) SetProgressDetails(ctx context.Context, details []byte) error {
	return j.Update(ctx, func(_ context.Context, _ *kv.Txn, rec *Record) error {
		rec.Progress.Details = details
		return nil
	})
}

// SetDetails replaces the details of the payload, and its description when it is
// not empty: what a job resolved once when it started to run.
func (j *Job) SetDetails(ctx context.Context, details []byte, description string) error {
	return j.Update(ctx, func(_ context.Context, _ *kv.Txn, rec *Record) error {
		rec.Payload.Details = details
		if description != "" {
			rec.Payload.Description = description
		}
		return nil
	})
}

// CheckPausepoint returns an error that pauses the job if its name is listed in
// setting jobs.debug.pausepoints.
func (j *Job) CheckPausepoint(name string) error {
	points := strings.FieldsFunc(j.registry.cfg.Settings.pausepoints.Get(), func(c rune) bool { return c == ',' || c == ' ' })
	if slices.Contains(points, name) {
		return PauseSelf(fmt.Sprintf("pause point %q hit", name))
	}
	return nil
}

// Wait blocks until every job has ended or was paused, and returns what the
// waiting client is told: nil if all succeeded.
func (r *Registry) Wait(ctx context.Context, ids ...ID) error {
	for _, id := range ids {
		if err := r.waitOne(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) waitOne(ctx context.Context, id ID) error {
	for {
		changed := r.changes() // Before the read: a change after it closes the channel.
		var rec *Record
		err := r.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
			rec, err = load(ctx, txn, id)
			return err
		})
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			return pgerr.Wrapf(err, pgerr.Internal, "job %d could not be loaded", id).
				WithHint("The job may not have succeeded.")
		}
		if done, err := outcome(rec); done {
			return err
		}
		if err := r.sleep(ctx, changed, r.cfg.PollInterval); err != nil {
			return err
		}
	}
}

// outcome says whether a waiting statement ends, and how.
func outcome(rec *Record) (done bool, err error) {
	switch rec.State {
	case Succeeded:
		return true, nil
	case Paused:
		if reason := rec.Payload.PauseReason; reason != "" {
			return true, pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
				"job %d was paused before it completed with reason: %s", rec.ID, reason).
				WithHint("RESUME JOB %d lets it go on.", rec.ID)
		}
		return true, pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "job %d was paused before it completed", rec.ID).
			WithHint("RESUME JOB %d lets it go on.", rec.ID)
	case Canceled, Failed, RevertFailed:
		if rec.Payload.Error != nil {
			return true, decodeError(rec.Payload.Error)
		}
		return true, pgerr.Newf(pgerr.Internal, "job %d failed with error: %s", rec.ID, "unknown")
	}
	return false, nil
}
