package extstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// uploadPartBytes is how much of a file is sent as one part; an upload holds
// uploadConcurrency parts in memory. A file that fits into one part is one
// request, which is what makes put-if-absent exact on every service.
const (
	uploadPartBytes   = 8 << 20
	uploadConcurrency = 2
	minPartBytes      = 5 << 20 // S3 refuses smaller ones
	maxPartBytes      = 64 << 20
)

// bucketStore keeps files in a bucket through gocloud.
type bucketStore struct {
	bucket *blob.Bucket
	base   string // "" or a path that ends with a slash
	uri    string // redacted
	close  func() error

	// opTimeout bounds a whole request, and each wait for bytes of a body being
	// read. Without it a service that accepts and never answers blocks a job.
	opTimeout   time.Duration
	beforeWrite func(asFunc func(any) bool) error
	partBytes   int
}

func newBucketStore(b *blob.Bucket, base, redactedURI string, opTimeout time.Duration) *bucketStore {
	base = strings.Trim(base, "/")
	if base != "" {
		base += "/"
	}
	return &bucketStore{bucket: b, base: base, uri: redactedURI, opTimeout: opTimeout, close: b.Close,
		partBytes: uploadPartBytes}
}

func (s *bucketStore) String() string { return s.uri }
func (s *bucketStore) Close() error   { return s.close() }

// concise cuts a provider's error down to what the service, or the network,
// said; which request of which SDK it was is of no use to a user.
func concise(err error) error {
	var api interface {
		ErrorCode() string
		ErrorMessage() string
	}
	var network *net.OpError
	switch {
	case errors.As(err, &network):
		return conciseError{err, network.Error()}
	case errors.As(err, &api) && api.ErrorMessage() != "" && api.ErrorMessage() != api.ErrorCode():
		return conciseError{err, api.ErrorCode() + ": " + api.ErrorMessage()}
	case errors.As(err, &api):
		return conciseError{err, api.ErrorCode()}
	}
	return err
}

// conciseError is an error with a shorter text.
type conciseError struct {
	error
	text string
}

func (e conciseError) Error() string { return e.text }
func (e conciseError) Unwrap() error { return e.error }

const (
	hintRefused     = "The service refused the request: check the credentials and the permissions that they give on the bucket."
	hintElsewhere   = "The bucket lies elsewhere: give its region as AWS_REGION, and its endpoint, unless it is the region's usual one, as AWS_ENDPOINT."
	hintUnable      = "The service cannot do what was asked of it: see which parts of the S3 protocol it has."
	hintUnreachable = "The service does not answer as it should: check the endpoint, the region and the network between node and service."
)

// wrap classifies a provider's error once, and keeps the provider's words.
func (s *bucketStore) wrap(op, name string, writing bool, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	what := op
	if name != "" {
		what += " " + name
	}
	msg := fmt.Errorf("%s in %s: %w", what, s.uri, concise(err))
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		// Only a missing bucket can be "not found" to a writer.
		if writing || strings.Contains(err.Error(), "NoSuchBucket") {
			return Permanent(pgerr.Newf(pgerr.UndefinedFile, "%w", msg).
				WithHint("Create the bucket, or correct its name in the URI."))
		}
		return pgerr.Newf(pgerr.UndefinedFile, "%w", errors.Join(ErrNotExist, msg))
	case gcerrors.FailedPrecondition:
		if writing {
			return fmt.Errorf("writing %s: %w", name, ErrExists)
		}
	case gcerrors.PermissionDenied, gcerrors.InvalidArgument, gcerrors.Unimplemented:
		return Permanent(pgerr.Newf(pgerr.IOError, "%w", msg).WithHint(hintRefused))
	case gcerrors.Unknown:
		// Most refusals arrive as "unknown".
		if hint := refusal(err); hint != "" {
			return Permanent(pgerr.Newf(pgerr.IOError, "%w", msg).WithHint("%s", hint))
		}
	}
	return pgerr.Newf(pgerr.IOError, "%w", msg).WithHint(hintUnreachable)
}

// refusal returns what to do about an answer that will be the same next time, ""
// about all others.
func refusal(err error) string {
	var resp interface {
		error
		HTTPStatusCode() int
	}
	if !errors.As(err, &resp) {
		return ""
	}
	var api interface{ ErrorCode() string }
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch status := resp.HTTPStatusCode(); {
	case code == "RequestTimeout", // A 400 that means the network.
		status == http.StatusRequestTimeout, status == http.StatusConflict, status == http.StatusTooManyRequests:
		return ""
	case status == http.StatusMovedPermanently, status == http.StatusPermanentRedirect,
		code == "AuthorizationHeaderMalformed", code == "IllegalLocationConstraintException":
		return hintElsewhere
	case status == http.StatusNotImplemented:
		return hintUnable
	case status >= 400 && status < 500:
		return hintRefused
	}
	return ""
}

// explain returns what the service says about a refused look at name. Such looks
// are answered without a body, so without a reason; a read of one byte is not.
func (s *bucketStore) explain(ctx context.Context, name string, err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound || refusal(err) == "" {
		return err
	}
	r, readErr := s.bucket.NewRangeReader(ctx, s.base+name, 0, 1, nil)
	if readErr == nil {
		_ = r.Close() // Only looks are refused, then.
		return err
	}
	if refusal(readErr) == "" {
		return err
	}
	return readErr
}

func (s *bucketStore) Put(ctx context.Context, name string, body io.Reader) (err error) {
	// A driver's panic must fail this upload, not the node: some drivers
	// dereference nil when a write is refused.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("writing %s in %s: storage driver panicked: %v", name, s.uri, p)
		}
	}()
	head := make([]byte, 0, 64<<10)
	head, bodyErr := readUpTo(body, head, s.partBytes)
	if bodyErr != nil && bodyErr != io.EOF {
		return bodyErr // Nothing has been sent.
	}
	if bodyErr == nil {
		// More than one part. Some services ignore the condition on multipart
		// uploads, so the taken name is looked for as well; data files, the only
		// large ones, have random names.
		if exists, err := s.exists(ctx, name); err != nil {
			return err
		} else if exists {
			return fmt.Errorf("writing %s: %w", name, ErrExists)
		}
		body = io.MultiReader(bytes.NewReader(head), body)
	} else {
		body = bytes.NewReader(head)
	}

	ctx, cancelCause := context.WithCancelCause(ctx)
	defer cancelCause(nil)
	ctx, cancel := context.WithTimeout(ctx, s.opTimeout)
	defer cancel()
	r := &abortingReader{ctx: ctx, body: body, cancel: cancelCause}
	err = s.bucket.Upload(ctx, s.base+name, r, &blob.WriterOptions{
		BufferSize:     s.partBytes,
		MaxConcurrency: uploadConcurrency,
		ContentType:    "application/octet-stream",
		IfNotExist:     true,
		BeforeWrite:    s.beforeWrite,
	})
	if r.err != nil && !errors.Is(r.err, context.DeadlineExceeded) {
		return r.err
	}
	return s.wrap("writing", name, true, err)
}

// readUpTo appends up to max bytes of r to b. It returns nil when more may
// follow, io.EOF when r ended, or r's error.
func readUpTo(r io.Reader, b []byte, max int) ([]byte, error) {
	for len(b) < max {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(2*cap(b), max))
			copy(grown, b)
			b = grown
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

func (s *bucketStore) exists(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opTimeout)
	defer cancel()
	ok, err := s.bucket.Exists(ctx, s.base+name)
	if err != nil {
		err = s.wrap("looking for", name, false, s.explain(ctx, name, err))
	}
	return ok, err
}

func (s *bucketStore) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		if _, err := s.Size(ctx, name); err != nil {
			return nil, err
		}
		return io.NopCloser(strings.NewReader("")), nil
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(parent)
	idle := time.AfterFunc(s.opTimeout, func() { cancel(context.DeadlineExceeded) })
	r, err := s.bucket.NewRangeReader(ctx, s.base+name, offset, length, nil)
	if err != nil {
		idle.Stop()
		if cause := context.Cause(ctx); cause == context.DeadlineExceeded {
			err = cause
		}
		cancel(nil)
		if offset > 0 {
			// Services answer a range behind the end with an error of their own.
			if size, sizeErr := s.Size(parent, name); sizeErr == nil && offset >= size {
				return io.NopCloser(strings.NewReader("")), nil
			}
		}
		return nil, s.wrap("reading", name, false, err)
	}
	return &bucketReader{s: s, name: name, r: r, ctx: ctx, cancel: cancel, idle: idle}, nil
}

// bucketReader gives up when no byte arrives for opTimeout.
type bucketReader struct {
	s      *bucketStore
	name   string
	r      *blob.Reader
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   *time.Timer
}

func (r *bucketReader) Read(p []byte) (int, error) {
	r.idle.Reset(r.s.opTimeout)
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		if cause := context.Cause(r.ctx); cause == context.DeadlineExceeded {
			err = cause
		}
		return n, r.s.wrap("reading", r.name, false, err)
	}
	return n, err
}

func (r *bucketReader) Close() error {
	r.idle.Stop()
	err := r.r.Close()
	r.cancel(nil)
	return err
}

func (s *bucketStore) Size(ctx context.Context, name string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opTimeout)
	defer cancel()
	a, err := s.bucket.Attributes(ctx, s.base+name)
	if err != nil {
		return 0, s.wrap("looking at", name, false, s.explain(ctx, name, err))
	}
	return a.Size, nil
}

func (s *bucketStore) Delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, s.opTimeout)
	defer cancel()
	err := s.bucket.Delete(ctx, s.base+name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	if err != nil {
		err = s.wrap("deleting", name, false, s.explain(ctx, name, err)) // The driver looks first.
	}
	return err
}

func (s *bucketStore) List(ctx context.Context, prefix, delimiter string, fn func(string) error) error {
	it := s.bucket.List(&blob.ListOptions{Prefix: s.base + prefix, Delimiter: delimiter})
	last := ""
	for {
		obj, err := s.next(ctx, it)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return s.wrap("listing", prefix, false, err)
		}
		name := strings.TrimPrefix(obj.Key, s.base+prefix)
		if obj.IsDir {
			if name == last {
				continue
			}
			last = name
		}
		if err := fn(name); err != nil {
			if errors.Is(err, ErrStopList) {
				return nil
			}
			return err
		}
	}
}

func (s *bucketStore) next(ctx context.Context, it *blob.ListIterator) (*blob.ListObject, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opTimeout)
	defer cancel()
	return it.Next(ctx)
}
