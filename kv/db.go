package kv

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/holdfastdb/holdfast/internal/chance"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// Sender takes a batch to where it can be evaluated. Errors are those of
// package kvpb. It keeps nothing of the request after it returned.
type Sender interface {
	Send(ctx context.Context, ba *kvpb.BatchRequest) (*kvpb.BatchResponse, error)
}

// Config is what a DB needs.
type Config struct {
	Sender Sender // usually a *Router
	Clock  *hlc.Clock
	Log    *slog.Logger
	// HeartbeatInterval is how often an open transaction with locks shows that
	// its client is alive. Zero: one second.
	HeartbeatInterval time.Duration
	// MaxTrackedBytes bounds the keys that a transaction remembers of its reads,
	// and again of its locks; beyond, they condense to covering spans. Zero:
	// 256 KiB.
	MaxTrackedBytes int
	// UncertaintyInterval is by how much the clock of another node may be ahead: a
	// value that is younger than a transaction by less may have been written before
	// it began. Zero: there are no other nodes.
	UncertaintyInterval time.Duration
}

// DB is the entry to the keyspace. It is safe for concurrent use.
type DB struct {
	cfg    Config
	sender Sender
	clock  *hlc.Clock
	log    *slog.Logger
}

// NewDB returns a DB over cfg.Sender.
func NewDB(cfg Config) *DB {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HeartbeatInterval == 0 {
		cfg.HeartbeatInterval = time.Second
	}
	if cfg.MaxTrackedBytes == 0 {
		cfg.MaxTrackedBytes = 256 << 10
	}
	return &DB{cfg: cfg, sender: cfg.Sender, clock: cfg.Clock, log: cfg.Log}
}

// Sender returns what the DB sends its batches through.
func (db *DB) Sender() Sender { return db.sender }

// Clock returns the node's clock.
func (db *DB) Clock() *hlc.Clock { return db.clock }

// NewTxn begins a transaction at the present. name is for people. The caller
// ends it with Commit, CommitInBatch or Rollback, and handles retry errors; see
// Txn.PrepareForRetry.
func (db *DB) NewTxn(_ context.Context, name string) *Txn {
	now := db.clock.Now()
	t := &Txn{db: db}
	t.proto = kvpb.Transaction{
		ID:             newTxnID(),
		Name:           name,
		Priority:       kvpb.PriorityNormal,
		MinTimestamp:   now,
		ReadTimestamp:  now,
		WriteTimestamp: now,
		// Every value that this node has served or written is at or below now, so
		// of this node nothing later can be from before the transaction.
		UncertaintyLimit: now.Add(db.cfg.UncertaintyInterval),
	}
	t.reads.maxBytes = db.cfg.MaxTrackedBytes
	t.locks.maxBytes = db.cfg.MaxTrackedBytes
	return t
}

func newTxnID() (id kvpb.TxnID) {
	binary.LittleEndian.PutUint64(id[:8], chance.Uint64())
	binary.LittleEndian.PutUint64(id[8:], chance.Uint64())
	id[6] = id[6]&0x0f | 0x40 // A UUID of version 4,
	id[8] = id[8]&0x3f | 0x80 // RFC 4122 variant.
	return id
}

// Txn runs fn in a transaction and commits it. Whenever the transaction has to
// be tried again, fn is called again; its effects outside the transaction must
// allow that. If fn returns another error, everything is rolled back and the
// error returned as it is.
func (db *DB) Txn(ctx context.Context, fn func(ctx context.Context, txn *Txn) error) error {
	txn := db.NewTxn(ctx, "kv txn")
	for attempt := 0; ; attempt++ {
		id := txn.ID()
		err := fn(ctx, txn)
		if err == nil && !txn.IsFinished() {
			err = txn.Commit(ctx)
		}
		if err == nil {
			return nil
		}
		if re, ok := kvpb.IsRetry(err); !ok || re.TxnID != id {
			txn.rollbackBestEffort(ctx)
			return err
		}
		if err := backoff(ctx, attempt); err != nil {
			txn.rollbackBestEffort(ctx)
			return err
		}
		if err := txn.PrepareForRetry(ctx); err != nil {
			txn.rollbackBestEffort(ctx)
			return err
		}
	}
}

// backoff waits before attempt+1, longer and more randomly each time: the
// first retries usually succeed at once, later ones mean contention.
func backoff(ctx context.Context, attempt int) error {
	if attempt < 2 {
		return ctx.Err()
	}
	d := min(time.Millisecond<<min(attempt-2, 10), 250*time.Millisecond)
	select {
	case <-time.After(d/2 + chance.Duration(d/2+1)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Get reads key at the present, outside any transaction.
func (db *DB) Get(ctx context.Context, key keys.Key) (KeyValue, error) {
	return db.GetAt(ctx, key, hlc.Timestamp{})
}

// GetAt reads key at ts; the zero timestamp means the present.
func (db *DB) GetAt(ctx context.Context, key keys.Key, ts hlc.Timestamp) (KeyValue, error) {
	resp, err := db.sendOne(ctx, kvpb.Header{Timestamp: ts}, kvpb.Request{Op: kvpb.OpGet, Key: key})
	if err != nil {
		return KeyValue{}, err
	}
	return firstKV(key, resp), nil
}

// Put writes value, outside any transaction. It is durable when Put returns.
func (db *DB) Put(ctx context.Context, key keys.Key, value []byte) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpPut, Key: key, Value: value})
	return err
}

// CPut writes value if the present one, without its checksum, equals expected;
// nil expects that the key does not exist. Otherwise the error is a
// *kvpb.ConditionFailedError.
func (db *DB) CPut(ctx context.Context, key keys.Key, value, expected []byte) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpCPut, Key: key, Value: value, Expected: expected})
	return err
}

// Del deletes keys, each on its own, outside any transaction.
func (db *DB) Del(ctx context.Context, ks ...keys.Key) error {
	ba := &kvpb.BatchRequest{}
	for _, k := range ks {
		ba.Add(kvpb.Request{Op: kvpb.OpDelete, Key: k})
	}
	if len(ks) == 0 {
		return nil
	}
	_, err := db.sender.Send(ctx, ba)
	return err
}

// Inc adds by to the integer at key, a missing key counting as zero, and returns
// the new value. The result is durable and no other Inc returns it.
func (db *DB) Inc(ctx context.Context, key keys.Key, by int64) (int64, error) {
	resp, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpInc, Key: key, Delta: by})
	if err != nil {
		return 0, err
	}
	return resp.Count, nil
}

// IncUnsynced is Inc whose result need not be durable yet: a crash may undo it,
// but then nothing that was committed after it is left either. What is handed out
// without a commit of its own must be made durable by a later Inc.
func (db *DB) IncUnsynced(ctx context.Context, key keys.Key, by int64) (int64, error) {
	resp, err := db.sendOne(ctx, kvpb.Header{Unsynced: true}, kvpb.Request{Op: kvpb.OpInc, Key: key, Delta: by})
	if err != nil {
		return 0, err
	}
	return resp.Count, nil
}

// Scan reads [start, end) at ts, outside any transaction; the zero timestamp
// means the present.
func (db *DB) Scan(ctx context.Context, start, end keys.Key, ts hlc.Timestamp, opts ScanOptions) (ScanResult, error) {
	h := kvpb.Header{Timestamp: ts, MaxKeys: opts.MaxKeys, TargetBytes: opts.TargetBytes}
	resp, err := db.sendOne(ctx, h, opts.request(start, end))
	if err != nil {
		return ScanResult{}, err
	}
	return ScanResult{KVs: resp.KVs, Resume: resp.Resume}, nil
}

func (db *DB) sendOne(ctx context.Context, h kvpb.Header, r kvpb.Request) (*kvpb.Response, error) {
	b := &struct {
		ba  kvpb.BatchRequest
		req [1]kvpb.Request
	}{}
	b.ba.Header = h
	b.req[0] = r
	b.ba.Requests = b.req[:]
	resp, err := db.sender.Send(ctx, &b.ba)
	if err != nil {
		return nil, err
	}
	return &resp.Responses[0], nil
}

func firstKV(key keys.Key, resp *kvpb.Response) KeyValue {
	if len(resp.KVs) == 0 {
		return KeyValue{Key: key}
	}
	return resp.KVs[0]
}
