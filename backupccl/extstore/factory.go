package extstore

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Config says what storage a node may use.
type Config struct {
	// ExternalIODir holds all nodelocal files; empty turns nodelocal off.
	ExternalIODir string
	// NodeID is this node.
	NodeID func() int32
	// IsMember says whether the cluster has a node; nil: no other than this.
	IsMember func(node int32) bool
	// Remote returns the bare store of a directory below the nodelocal files of
	// another node; nil: nodelocal://<id> of another node is refused.
	Remote func(node int32, base, uri string) Store
	// DisableHTTP refuses custom endpoints.
	DisableHTTP bool
	// DisableImplicitCredentials refuses AUTH=implicit.
	DisableImplicitCredentials bool
	// OpTimeout bounds one request, and each wait for bytes of a body. Settings,
	// if there are any, decide instead.
	OpTimeout time.Duration
	Retry     RetryPolicy
	// ReadLimiter and WriteLimiter hold all stores of this node together to a
	// rate; nil means unlimited. Settings limit each kind of storage besides, and
	// may be nil.
	ReadLimiter, WriteLimiter *Limiter
	Settings                  *Settings
	Metrics                   *Metrics
	Logger                    *slog.Logger

	Testing struct {
		// Wrap is put around the bare store, below retries.
		Wrap func(Store) Store
		// Open gives the bare store of a URI, or nil for the usual one.
		Open func(u *URI) Store
	}
}

// DefaultConfig returns a Config without a directory.
func DefaultConfig() Config {
	return Config{
		NodeID:    func() int32 { return 1 },
		OpTimeout: defaultTimeout,
		Retry:     DefaultRetryPolicy,
		Logger:    slog.New(slog.DiscardHandler),
	}
}

// Factory opens stores. It is safe for concurrent use.
type Factory struct {
	cfg Config
}

// NewFactory returns a Factory for this node.
func NewFactory(cfg Config) *Factory { return &Factory{cfg: cfg} }

// ErrOtherNode is what an error is about a store that only another node can open.
var ErrOtherNode = errors.New("the store is on another node")

type otherNodeError struct{ cause *pgerr.Error }

func (e *otherNodeError) Error() string        { return e.cause.Error() }
func (e *otherNodeError) Unwrap() error        { return e.cause }
func (e *otherNodeError) Is(target error) bool { return target == ErrOtherNode }

func (f *Factory) explainOther(u *URI, id, self int32) *pgerr.Error {
	if f.cfg.IsMember != nil && f.cfg.IsMember(id) {
		return pgerr.Newf(pgerr.InvalidParameterValue, "%s is on the disk of node %d, and this is node %d", u.Redacted(), id, self).
			WithHint("Run the statement on node %d. Where all nodes see one directory, nodelocal://self names it on each.", id)
	}
	return pgerr.Newf(pgerr.InvalidParameterValue, "node %d of %s is not part of this cluster", id, u.Redacted()).
		WithHint("Use nodelocal://%d or nodelocal://self.", self)
}

// Open returns the store that a URI names, with retries, limits and metrics
// around it. It does not test that the place can be reached.
func (f *Factory) Open(ctx context.Context, uri string) (Store, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	return f.OpenURI(ctx, u)
}

// OpenURI is Open for a parsed URI.
func (f *Factory) OpenURI(ctx context.Context, u *URI) (Store, error) {
	if err := f.Check(u); err != nil {
		return nil, err
	}
	s, err := f.openBare(ctx, u)
	if err != nil {
		return nil, err
	}
	if f.cfg.Testing.Wrap != nil {
		s = f.cfg.Testing.Wrap(s)
	}
	s = WithMetrics(s, f.cfg.Metrics, u.Scheme)
	s = WithLimits(s, f.cfg.ReadLimiter, f.cfg.WriteLimiter)
	read, write := f.cfg.Settings.limiters(u.Scheme)
	s = WithLimits(s, read, write)
	s = WithRetries(s, f.cfg.Retry, f.cfg.Logger) // Outermost: it sees bodies that can be rewound.
	return s, nil
}

func (f *Factory) openBare(ctx context.Context, u *URI) (Store, error) {
	if f.cfg.Testing.Open != nil {
		if s := f.cfg.Testing.Open(u); s != nil {
			return s, nil
		}
	}
	switch u.Scheme {
	case "nodelocal":
		if id := f.remoteNode(u); id != 0 {
			return f.cfg.Remote(id, u.Path, u.Redacted()), nil
		}
		return openNodelocal(f.cfg.ExternalIODir, u.Path, u.Redacted())
	case "s3":
		return openS3(ctx, u, f.s3Options())
	default: // ParseURI let only the known schemes pass.
		return null{}, nil
	}
}

// ErrDisabled says that a node has no nodelocal files.
func ErrDisabled() error {
	return pgerr.New(pgerr.InsufficientPrivilege, "local file access is disabled").
		WithHint("The node was started with --external-io-dir=disabled.")
}

// remoteNode returns the other node whose files u names, 0 if they are this node's.
func (f *Factory) remoteNode(u *URI) int32 {
	id, err := u.NodeID()
	if err != nil || id == f.cfg.NodeID() {
		return 0
	}
	return id
}

// Check applies the node's access switches to u without opening anything.
func (f *Factory) Check(u *URI) error {
	switch u.Scheme {
	case "nodelocal":
		id, err := u.NodeID()
		if err != nil {
			return err
		}
		self := f.cfg.NodeID()
		switch other := id != 0 && id != self; {
		case !other && f.cfg.ExternalIODir == "":
			return ErrDisabled()
		case other && (f.cfg.Remote == nil || f.cfg.IsMember == nil || !f.cfg.IsMember(id)):
			return &otherNodeError{f.explainOther(u, id, self)}
		}
	case "s3":
		if f.cfg.DisableHTTP && u.Params.Get(s3Endpoint) != "" {
			return pgerr.New(pgerr.InsufficientPrivilege,
				"custom endpoints disallowed for s3 due to --external-io-disable-http flag")
		}
		if f.cfg.DisableImplicitCredentials && u.Params.Get(paramAuth) == authImplicit {
			return pgerr.New(pgerr.InsufficientPrivilege,
				"implicit credentials disallowed for s3 due to --external-io-disable-implicit-credentials flag")
		}
	}
	return nil
}

// s3Options are what settings say about uses of S3.
func (f *Factory) s3Options() s3Options {
	o := s3Options{opTimeout: f.cfg.OpTimeout, partBytes: uploadPartBytes}
	if set := f.cfg.Settings; set != nil {
		o.opTimeout, o.customCA = set.timeout.Get(), set.customCA.Get()
		o.partBytes = int(set.partBytes.Get())
	}
	return o
}
