package noderpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
)

// Identity says who a node is. Before it has joined a cluster it is zero.
type Identity struct {
	ClusterID [16]byte
	NodeID    kvpb.NodeID
}

// Handler is what a node does with what it receives. All methods may be called at
// the same time; ctx ends when the sender does not wait any more.
type Handler interface {
	// HandleBatch evaluates a batch. The batch and its memory are the handler's.
	HandleBatch(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error)
	// HandleRaft takes a message for a replica. The messages of one sender come in
	// order, one at a time: the handler must not wait.
	HandleRaft(from kvpb.NodeID, rangeID int64, m *pb.Message)
	// HandleSnapshot takes the state that belongs to m, a MsgSnap. It must read
	// body to its end, which is only reached if everything came and is unharmed.
	HandleSnapshot(ctx context.Context, rangeID int64, m *pb.Message, body io.Reader) error
	// HandleJoin gives a node its place in the cluster.
	HandleJoin(ctx context.Context, req JoinRequest) (JoinResponse, error)
}

// JoinRequest is what a node says of itself when it wants to be part of a cluster.
type JoinRequest struct {
	ClusterID [16]byte // zero: any
	// NodeID and StoreID are those of a node that was part of it before; zero: it
	// is new.
	NodeID              kvpb.NodeID
	StoreID             kvpb.StoreID
	Address, SQLAddress string
	Locality            string
	Attrs               []string
	Version             string
	// InitClaim is the address of a node that is about to make a new cluster, and
	// asks whether anybody else is, or has.
	InitClaim string
	// InitWithdrawn says that the node of InitClaim has given that up.
	InitWithdrawn bool
	// ClusterName is that of --cluster-name; AnyClusterName: it is not compared.
	ClusterName    string
	AnyClusterName bool
}

// JoinResponse is the place that a node got.
type JoinResponse struct {
	ClusterID  [16]byte
	NodeID     kvpb.NodeID
	StoreID    kvpb.StoreID
	FirstRange []byte // the descriptor of the first range
}

// Config is what a Dialer or a Server needs. Zero durations and sizes get defaults.
type Config struct {
	// Identity returns who this node is by now.
	Identity func() Identity
	Clock    *hlc.Clock
	Log      *slog.Logger
	Faults   *Faults // for tests and simulated distances; may be nil

	// Address returns where a node is reached. A Dialer asks whenever it connects.
	Address func(kvpb.NodeID) (string, error)
	// DialContext opens connections; by default over TCP.
	DialContext func(ctx context.Context, address string) (net.Conn, error)

	// ConnectTimeout bounds an attempt to connect, MaxBackoff the pause after one
	// that failed. Requests during the pause fail at once.
	ConnectTimeout, MaxBackoff time.Duration
	// PingInterval is how often each connection is tried, PingTimeout how long an
	// answer may take before the peer counts as unreachable.
	PingInterval, PingTimeout time.Duration
	// RaftQueueMessages and RaftQueueBytes bound what waits for one peer.
	RaftQueueMessages, RaftQueueBytes int
}

func (c Config) withDefaults() Config {
	setDefault(&c.ConnectTimeout, 2*time.Second)
	setDefault(&c.MaxBackoff, time.Second)
	setDefault(&c.PingInterval, time.Second)
	setDefault(&c.PingTimeout, 3*time.Second)
	setDefault(&c.RaftQueueMessages, 16<<10)
	setDefault(&c.RaftQueueBytes, 64<<20)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DialContext == nil {
		c.DialContext = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	return c
}

func setDefault[T comparable](v *T, d T) {
	if *v == *new(T) {
		*v = d
	}
}

// MaxMessageBytes bounds a request or an answer. An sstable of 64 MiB with what
// goes with it is far below.
const MaxMessageBytes = 128 << 20

// SendError says that a node could not be reached, did not answer, or answered
// only that it is shutting down. No other answer is a SendError.
type SendError struct {
	NodeID kvpb.NodeID
	// MaybeApplied says that the request could have changed something and may
	// have reached the node. Otherwise it certainly did not, or only reads.
	MaybeApplied bool
	Cause        error
}

func (e *SendError) Error() string {
	if e.MaybeApplied {
		return fmt.Sprintf("n%d did not answer and may have done what it was asked: %v", e.NodeID, e.Cause)
	}
	return fmt.Sprintf("n%d is not available: %v", e.NodeID, e.Cause)
}

// MayHaveHappened makes a SendError what a kv.Router takes for an unreachable
// replica: it asks another one, or tells its client that the outcome is unknown.
func (e *SendError) MayHaveHappened() bool { return e.MaybeApplied }

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Cause }

var (
	// ErrWrongPeer marks that the other side is of another cluster, another node
	// than was expected, or of no cluster yet.
	ErrWrongPeer = errors.New("wrong peer")
	// ErrClockOffset marks that the other side's clock, or this one's, is wrong.
	ErrClockOffset = errors.New("clocks are too far apart")
	// ErrClosed says that the Dialer is closed.
	ErrClosed = errors.New("the dialer is closed")
)

// peerError is what a node refuses another one with, before it does anything of
// what it was asked.
type peerError struct {
	msg  string
	mark error
}

func (e *peerError) Error() string { return e.msg }
func (e *peerError) Unwrap() error { return e.mark }

func wrongPeer(format string, args ...any) error {
	return &peerError{msg: fmt.Sprintf(format, args...), mark: ErrWrongPeer}
}

// Refusals travel as these codes, which gRPC itself does not use.
const (
	codeWrongPeer = codes.PermissionDenied
	codeClock     = codes.FailedPrecondition
)

// refusalToStatus converts what a Server refuses streams with.
func refusalToStatus(err error) error {
	switch {
	case errors.Is(err, ErrWrongPeer):
		return status.Error(codeWrongPeer, err.Error())
	case errors.Is(err, ErrClockOffset):
		return status.Error(codeClock, err.Error())
	}
	return err
}

// refusal returns the refusal that err is, or nil.
func refusal(err error) error {
	switch s := status.Convert(err); s.Code() {
	case codeWrongPeer:
		return &peerError{msg: s.Message(), mark: ErrWrongPeer}
	case codeClock:
		return &peerError{msg: s.Message(), mark: ErrClockOffset}
	}
	return nil
}

func tsToWire(t hlc.Timestamp) *wirepb.Timestamp {
	return &wirepb.Timestamp{Wall: t.WallTime, Logical: t.Logical}
}

func tsFromWire(t *wirepb.Timestamp) hlc.Timestamp {
	return hlc.Timestamp{WallTime: t.GetWall(), Logical: t.GetLogical()}
}

// receive moves the clock to that of the node from.
func (c *Config) receive(from kvpb.NodeID, now *wirepb.Timestamp) error {
	if err := c.Clock.Receive(tsFromWire(now)); err != nil {
		return &peerError{msg: fmt.Sprintf("n%d hears from n%d: %v", c.Identity().NodeID, from, err), mark: ErrClockOffset}
	}
	return nil
}

// check compares who a peer is, or whom it means, with who it should be.
func (id Identity) check(what string, cluster []byte, node kvpb.NodeID) error {
	switch {
	case id.NodeID == 0:
		return wrongPeer("this node is not part of a cluster yet")
	case !bytes.Equal(cluster, id.ClusterID[:]):
		return wrongPeer("this is n%d of cluster %s; %s is of cluster %s", id.NodeID, formatID(id.ClusterID[:]), what, formatID(cluster))
	case node != id.NodeID:
		return wrongPeer("this is n%d of cluster %s; %s wants n%d", id.NodeID, formatID(id.ClusterID[:]), what, node)
	}
	return nil
}

// stopping says whether a node answered that it is shutting down. What it was
// asked it may have begun.
func stopping(err error) bool {
	if e, ok := err.(*pgerr.Error); ok && e.Code == pgerr.AdminShutdown {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return stopping(e.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), stopping)
	}
	return false
}

// formatID prints a cluster's id as a UUID.
func formatID(id []byte) string {
	if len(id) != 16 {
		return "unknown"
	}
	s := hex.EncodeToString(id)
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// changesState says whether a batch can have changed something when no answer
// came. Locks are a change: their transaction must know of them.
func changesState(ba *kvpb.BatchRequest) bool {
	for i := range ba.Requests {
		r := &ba.Requests[i]
		switch r.Op {
		case kvpb.OpGet, kvpb.OpScan, kvpb.OpReverseScan:
			if r.Lock != kvpb.LockNone {
				return true
			}
		case kvpb.OpRefresh, kvpb.OpRefreshRange, kvpb.OpExport, kvpb.OpRangeInfo, kvpb.OpLookupRange:
		default:
			return true
		}
	}
	return false
}
