package jobs

import (
	"errors"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/jobs/jobspb"
)

// Marks decide what becomes of a job whose run returned an error. An error
// without a mark is permanent for Resume and retryable for OnFailOrCancel, which
// must succeed in the end.
type mark int

const (
	markPermanent mark = iota + 1
	markRetryable
	markPause
	markElsewhere
)

type markedError struct {
	error
	mark   mark
	reason string // why the job pauses itself
}

func (e *markedError) Unwrap() error { return e.error }

// MarkPermanent says that running again cannot help.
func MarkPermanent(err error) error { return &markedError{error: err, mark: markPermanent} }

// MarkRetryable says that the job may be run again from its last checkpoint.
func MarkRetryable(err error) error { return &markedError{error: err, mark: markRetryable} }

// MarkElsewhere says that this node cannot do the work and another can: the job is
// left to whoever takes it, soon.
func MarkElsewhere(err error) error { return &markedError{error: err, mark: markElsewhere} }

// PauseSelf pauses the job that returns it, with a reason for people.
func PauseSelf(reason string) error {
	return &markedError{error: errors.New(reason), mark: markPause, reason: reason}
}

// Marked says whether somebody has decided already what becomes of a job that ends
// its run with err.
func Marked(err error) bool { return markOf(err).mark != 0 }

func markOf(err error) *markedError {
	var m *markedError
	if errors.As(err, &m) {
		return m
	}
	return &markedError{error: err}
}

// ErrLostClaim is returned by updates of a job that this process no longer holds.
// The resumer stops and changes nothing more.
var ErrLostClaim = errors.New("the claim on this job was lost")

// errCanceled is the final error of canceled jobs.
var errCanceled = pgerr.New(pgerr.QueryCanceled, "job canceled by user")

func encodeError(err error) *jobspb.Error {
	e := pgerr.Flatten(err)
	return &jobspb.Error{Code: string(e.Code), Message: e.Message, Detail: e.Detail, Hint: e.Hint}
}

func decodeError(e *jobspb.Error) error {
	return &pgerr.Error{Code: pgerr.Code(e.Code), Message: e.Message, Detail: e.Detail, Hint: e.Hint}
}
