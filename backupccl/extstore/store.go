package extstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Store holds the files of one backup collection.
//
// A file is written once and never changed. Names are slash-separated paths
// relative to the store's URI. All methods are safe for concurrent use, and each
// returns soon after ctx is done.
type Store interface {
	// Put creates name from body. Readers see the whole file or none of it: when
	// body or the transfer fails, nothing is left under name. If name is taken,
	// Put returns ErrExists and leaves the old file as it was: of two
	// coordinators racing for one manifest, the later learns here that it lost.
	// A Put that returns nil is durable.
	Put(ctx context.Context, name string, body io.Reader) error

	// Open reads length bytes of name from offset on; a length below zero reads
	// to the end. The caller closes the reader. A missing name is ErrNotExist.
	Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)

	// List calls fn with every name that starts with prefix, relative to prefix
	// and in lexical order. With a delimiter, names that hold it are shortened to
	// end with its first occurrence, and each such group is reported once.
	// ErrStopList from fn ends the listing without an error.
	List(ctx context.Context, prefix, delimiter string, fn func(name string) error) error

	// Delete succeeds when name is already gone, so cleanup can be repeated.
	Delete(ctx context.Context, name string) error

	// Size returns the length of name in bytes.
	Size(ctx context.Context, name string) (int64, error)

	// String is the redacted URI, for messages.
	String() string

	// Close releases connections. The Store must not be used afterwards.
	Close() error
}

// ErrExists says that Put found its name taken.
var ErrExists = errors.New("file already exists")

// ErrNotExist says that a file is not there.
var ErrNotExist = errors.New("external_storage: file doesn't exist")

// ErrStopList ends a List early.
var ErrStopList = errors.New("stop listing")

// permanentError marks an error that trying again cannot mend.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks err as one that a retry cannot mend: wrong credentials, a
// missing bucket, a malformed request.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsRetryable says whether the same operation may succeed when tried again.
func IsRetryable(err error) bool {
	var p permanentError
	switch {
	case err == nil,
		errors.As(err, &p),
		errors.Is(err, ErrExists),
		errors.Is(err, ErrNotExist),
		errors.Is(err, fs.ErrPermission),
		errors.Is(err, context.Canceled),
		IsDiskFull(err):
		return false
	}
	return true
}

// IsDiskFull says whether err means that a local destination has no room left.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// ReadAll reads the whole of name, refusing files longer than maxBytes.
func ReadAll(ctx context.Context, s Store, name string, maxBytes int64) ([]byte, error) {
	r, err := s.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(b)) > maxBytes {
		return nil, pgerr.Newf(pgerr.DataCorrupted, "%s is longer than the %d bytes allowed for it", name, maxBytes)
	}
	return b, nil
}

// Exists says whether name is there.
func Exists(ctx context.Context, s Store, name string) (bool, error) {
	_, err := s.Size(ctx, name)
	if errors.Is(err, ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// abortingReader cancels an upload when its producer fails. Without it gocloud
// drivers commit what they got so far, and a truncated object looks complete.
type abortingReader struct {
	ctx    context.Context
	body   io.Reader
	cancel context.CancelCauseFunc
	err    error // what ended the body, unless io.EOF
}

func (r *abortingReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if err := context.Cause(r.ctx); err != nil {
		r.err = err
		return 0, err
	}
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
		r.cancel(err) // Before the driver can see the error and close the object.
	}
	return n, err
}
