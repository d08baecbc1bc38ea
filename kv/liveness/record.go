package liveness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/liveness/livenesspb"
)

// Membership is how a node belongs to the cluster.
//
//	Active ◄─► Decommissioning ─► Decommissioned
type Membership int32

// The memberships.
const (
	Active          = Membership(livenesspb.Membership_ACTIVE)
	Decommissioning = Membership(livenesspb.Membership_DECOMMISSIONING)
	Decommissioned  = Membership(livenesspb.Membership_DECOMMISSIONED)
)

var memberships = map[Membership]string{Active: "active", Decommissioning: "decommissioning", Decommissioned: "decommissioned"}

func (m Membership) String() string {
	if s, ok := memberships[m]; ok {
		return s
	}
	return strconv.Itoa(int(m))
}

var successors = map[Membership][]Membership{
	Active:          {Decommissioning},
	Decommissioning: {Active, Decommissioned},
}

// Record is what is known of a node.
type Record struct {
	NodeID     kvpb.NodeID
	Epoch      int64     // one more with each process
	Expiration time.Time // alive until then
	Started    int64     // when the process began, in nanoseconds since 1970
	Address    string    // where the process is reached
	Draining   bool
	Membership Membership

	// Written is when the record was, by the keyspace's clock: of two that somebody
	// has read, it says which one is newer.
	Written hlc.Timestamp
}

// ErrNoRecord says that a node is unknown.
var ErrNoRecord = errors.New("node has no liveness record")

// prefix is where the records are, by node.
var prefix = append(keys.SystemPrefix.Clone(), "liveness-"...)

func recordKey(id kvpb.NodeID) keys.Key {
	// Ten digits, so that they are in order.
	return append(prefix.Clone(), fmt.Sprintf("%010d", id)...)
}

func encode(r *Record) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&livenesspb.Record{
		NodeId: int32(r.NodeID), Epoch: r.Epoch, Expiration: r.Expiration.UnixNano(), Started: r.Started, Address: r.Address,
		Draining: r.Draining, Membership: livenesspb.Membership(r.Membership),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the liveness record of n%d: %w", r.NodeID, err)
	}
	return kvpb.EncodeBytes(recordKey(r.NodeID), b), nil
}

func decode(row kv.KeyValue) (*Record, error) {
	b, err := kvpb.DecodeBytes(row.Value)
	if err != nil {
		return nil, fmt.Errorf("decoding a liveness record: %w", err)
	}
	m := &livenesspb.Record{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("decoding a liveness record: %w", err)
	}
	return &Record{
		NodeID: kvpb.NodeID(m.GetNodeId()), Epoch: m.GetEpoch(), Expiration: time.Unix(0, m.GetExpiration()), Started: m.GetStarted(),
		Address: m.GetAddress(), Draining: m.GetDraining(), Membership: Membership(m.GetMembership()), Written: row.Timestamp,
	}, nil
}

// Read returns the record of a node. The error is ErrNoRecord if there is none.
func Read(ctx context.Context, db *kv.DB, id kvpb.NodeID) (*Record, error) {
	r, _, err := read(ctx, db, id)
	return r, err
}

// read returns the value of the record, too.
func read(ctx context.Context, db *kv.DB, id kvpb.NodeID) (*Record, []byte, error) {
	got, err := db.Get(ctx, recordKey(id))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the liveness record of n%d: %w", id, err)
	}
	if got.Value == nil {
		return nil, nil, fmt.Errorf("n%d: %w", id, ErrNoRecord)
	}
	r, err := decode(got)
	return r, got.Value, err
}

// readAll returns all records, by node.
func readAll(ctx context.Context, db *kv.DB) ([]Record, error) {
	// At the present of the replica that answers: this node's clock may be behind what
	// another one's has written.
	res, err := db.Scan(ctx, prefix, prefix.PrefixEnd(), hlc.Timestamp{}, kv.ScanOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading liveness records: %w", err)
	}
	var out []Record
	for _, row := range res.KVs {
		r, err := decode(row)
		if err != nil {
			return nil, err
		}
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.NodeID, b.NodeID) })
	return out, nil
}

// maxChangeAttempts is more than nodes ever change one record at the same time.
const maxChangeAttempts = 100

// change makes edit's change of a record, which it may look at several times, and
// returns the record. An error of edit's ends it.
func change(ctx context.Context, db *kv.DB, id kvpb.NodeID, edit func(*Record) error) (*Record, error) {
	for attempt := 1; ; attempt++ {
		r, old, err := read(ctx, db, id)
		if errors.Is(err, ErrNoRecord) {
			r, err = &Record{NodeID: id}, nil
		}
		if err != nil {
			return nil, err
		}
		if err := edit(r); err != nil {
			return r, err
		}
		next, err := encode(r)
		if err != nil {
			return nil, err
		}
		r.Written, err = put(ctx, db, id, next, old)
		var other *kvpb.ConditionFailedError
		if errors.As(err, &other) && attempt < maxChangeAttempts {
			continue // Somebody else changed it, perhaps this one's first try.
		}
		if err != nil {
			return nil, fmt.Errorf("writing the liveness record of n%d: %w", id, err)
		}
		return r, nil
	}
}

// put writes a record over the one it was made of, and returns when.
func put(ctx context.Context, db *kv.DB, id kvpb.NodeID, next, old []byte) (hlc.Timestamp, error) {
	ba := &kvpb.BatchRequest{}
	ba.Add(kvpb.Request{Op: kvpb.OpCPut, Key: recordKey(id), Value: next, Expected: old})
	resp, err := db.Sender().Send(ctx, ba)
	if err != nil {
		return hlc.Timestamp{}, err
	}
	return resp.Timestamp, nil
}

// setMembership changes how a node belongs to the cluster. What is so already is no
// error; a step that is not allowed is.
func setMembership(ctx context.Context, db *kv.DB, id kvpb.NodeID, to Membership) (*Record, error) {
	return change(ctx, db, id, func(r *Record) error {
		if r.Epoch == 0 {
			return fmt.Errorf("n%d: %w", id, ErrNoRecord)
		}
		if r.Membership != to && !slices.Contains(successors[r.Membership], to) {
			return fmt.Errorf("n%d is %s and cannot become %s", id, r.Membership, to)
		}
		r.Membership = to
		return nil
	})
}
