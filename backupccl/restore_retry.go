package backupccl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
)

const (
	restoreFirstBackoff = 50 * time.Millisecond
	restoreMaxBackoff   = 5 * time.Minute
	// fruitlessRetries is how often a restore that has brought nothing in yet is
	// tried.
	fruitlessRetries = 5
)

// restoreDataPatiently is restoreData that is tried again while it gets on, or may
// get on. What can be lost decides: a restore without progress fails soon, one that
// has some waits long and then pauses, for its operator to mend what is in the way.
func (r *restoreResumer) restoreDataPatiently(ctx context.Context, job *jobs.Job, src *restoreSource, d *backuppb.RestoreDetails) error {
	backoff, since, fruitless := restoreFirstBackoff, time.Now(), 0
	had := restoredSpans(job)
	for {
		err := r.restoreData(ctx, job, src, d)
		if err == nil || ctx.Err() != nil || !mayPass(err) {
			return err
		}
		have := restoredSpans(job)
		if left := manifest.Subtract(have, had); len(left) > 0 {
			had, backoff, since = have, restoreFirstBackoff, time.Now()
		}
		if fruitless++; len(have) == 0 && fruitless >= fruitlessRetries {
			return fmt.Errorf("restore job exhausted max retries without making progress: %w", err)
		}
		if time.Since(since)+backoff > r.s.cfg.Settings.restoreRetryMax.Get() {
			if len(have) > 0 {
				return jobs.PauseSelf(fmt.Sprintf("exhausted retries: %s", err))
			}
			return fmt.Errorf("exhausted retries: %w", err)
		}
		job.Log.WarnContext(ctx, "restoring data failed; will retry", "wait", backoff, "err", err)
		if err := job.Update(ctx, func(_ context.Context, _ *kv.Txn, rec *jobs.Record) error {
			rec.Progress.RunningStatus = fmt.Sprintf("will try again in %s: %s", backoff, err)
			return nil
		}); err != nil {
			return err
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return ctx.Err()
		}
		backoff = min(2*backoff, restoreMaxBackoff)
	}
}

// mayPass says whether err is of a kind that time can mend: the network's, the
// service's, the store's. What is wrong with the backup stays wrong.
func mayPass(err error) bool {
	if errors.Is(err, storage.ErrDiskFull) || !extstore.IsRetryable(err) || errors.Is(err, jobs.ErrLostClaim) {
		return false
	}
	switch pgerr.GetCode(err) {
	case "", pgerr.IOError, pgerr.Internal, pgerr.SerializationFailure,
		pgerr.StatementCompletionUnknown, pgerr.CannotConnectNow: // A replica went away; what it had done already is found there.
		return !jobs.Marked(err)
	}
	return false
}

// refused says whether err is of a kind that the operator can mend: a credential
// that has expired, a bucket that was taken away.
func refused(err error) bool {
	switch pgerr.GetCode(err) {
	case pgerr.IOError:
		return true
	case pgerr.UndefinedFile:
		return !errors.Is(err, extstore.ErrNotExist) // Then it is the bucket.
	}
	return false
}

// pauseInstead turns an error that ends a run into a pause, where failing would
// throw away what was restored and whoever mends the cause can have it go on.
func (r *restoreResumer) pauseInstead(job *jobs.Job, err error) error {
	switch {
	case err == nil || jobs.Marked(err) || errors.Is(err, context.Canceled) || errors.Is(err, jobs.ErrLostClaim):
		return err
	case pgerr.GetCode(err) == pgerr.DiskFull || errors.Is(err, storage.ErrDiskFull):
		return jobs.PauseSelf(fmt.Sprintf("the disk is full: %s", err))
	case refused(err) && len(restoredSpans(job)) > 0:
		return jobs.PauseSelf(fmt.Sprintf("exhausted retries: %s", err))
	}
	return err
}

// restoredSpans returns what the job has brought in, according to its row.
func restoredSpans(job *jobs.Job) []keys.Span {
	p := &backuppb.RestoreProgress{}
	if err := proto.Unmarshal(job.Progress().Details, p); err != nil {
		return nil // Whoever needs it says so.
	}
	return manifest.Spans(p.Done)
}
