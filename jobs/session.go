package jobs

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/cockroachdb/apd"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
)

// session is this process's row in system.sqlliveness. Claims name its id, and
// they hold for as long as the row has not expired.
type session struct {
	db       *kv.DB
	id       string
	instance int64
	ttl      time.Duration
}

func newSession(db *kv.DB, instance int64, ttl time.Duration) *session {
	id := make([]byte, 16)
	rand.Read(id) // Never fails.
	return &session{db: db, id: string(id), instance: instance, ttl: ttl}
}

// begin writes the session's row and removes those of former processes of this
// node: they are dead, since the store's lock is ours. Their jobs can be adopted
// at once.
func (s *session) begin(ctx context.Context) error {
	return s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		rows, err := scanSessions(ctx, txn)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if instance, ok := row[2].(int64); ok && instance == s.instance {
				if err := deleteSession(ctx, txn, row); err != nil {
					return err
				}
			}
		}
		return s.write(ctx, txn)
	})
}

// heartbeat moves the expiration. A session whose row is gone was declared dead,
// and its claims with it: that error is final.
func (s *session) heartbeat(ctx context.Context) error {
	return s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		key, err := systables.Sessions.Key([]byte(s.id))
		if err != nil {
			return err
		}
		got, err := txn.Get(ctx, key)
		if err != nil {
			return err
		}
		if got.Value == nil {
			return errSessionDead
		}
		return s.write(ctx, txn)
	})
}

var errSessionDead = fmt.Errorf("this process's session has expired and was removed: %w", ErrLostClaim)

func (s *session) write(ctx context.Context, txn *kv.Txn) error {
	expires := txn.ReadTimestamp().Add(s.ttl)
	kvs, err := systables.Sessions.Encode(systables.Row{[]byte(s.id), decimalFrom(expires), s.instance})
	if err != nil {
		return err
	}
	return txn.Put(ctx, kvs[0].Key, kvs[0].Value)
}

// end removes the row, so that others adopt what this process left.
func (s *session) end(ctx context.Context) error {
	return s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		return deleteSession(ctx, txn, systables.Row{[]byte(s.id), nil, nil})
	})
}

func deleteSession(ctx context.Context, txn *kv.Txn, row systables.Row) error {
	key, err := systables.Sessions.Key(row[0])
	if err != nil {
		return err
	}
	return txn.Del(ctx, key)
}

func scanSessions(ctx context.Context, txn *kv.Txn) ([]systables.Row, error) {
	span := systables.Sessions.Span()
	res, err := txn.Scan(ctx, span.Key, span.EndKey, kv.ScanOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading sessions: %w", err)
	}
	rows := make([]systables.Row, 0, len(res.KVs))
	for _, kv := range res.KVs {
		row, err := systables.Sessions.Decode(kv.Key, kv.Value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// liveSessions returns the ids of sessions that have not expired at the
// transaction's time and removes the rows of those that have.
func liveSessions(ctx context.Context, txn *kv.Txn) (map[string]bool, error) {
	rows, err := scanSessions(ctx, txn)
	if err != nil {
		return nil, err
	}
	live := make(map[string]bool, len(rows))
	now := txn.ReadTimestamp()
	for _, row := range rows {
		expires, err := timestampFrom(row[1].(*apd.Decimal))
		if err != nil {
			return nil, err
		}
		if expires.Less(now) {
			if err := deleteSession(ctx, txn, row); err != nil {
				return nil, err
			}
			continue
		}
		live[string(row[0].([]byte))] = true
	}
	return live, nil
}

// sessionAlive says whether a session has a row that has not expired.
func sessionAlive(ctx context.Context, txn *kv.Txn, id string) (bool, error) {
	key, err := systables.Sessions.Key([]byte(id))
	if err != nil {
		return false, err
	}
	got, err := txn.Get(ctx, key)
	if err != nil || got.Value == nil {
		return false, err
	}
	row, err := systables.Sessions.Decode(key, got.Value)
	if err != nil {
		return false, err
	}
	expires, err := timestampFrom(row[1].(*apd.Decimal))
	return !expires.Less(txn.ReadTimestamp()), err
}

// decimalFrom writes a timestamp as the decimal that AS OF SYSTEM TIME takes.
func decimalFrom(t hlc.Timestamp) *apd.Decimal {
	d, _, err := apd.NewFromString(t.AsOfSystemTime())
	if err != nil {
		panic(fmt.Sprintf("%s is no decimal: %v", t.AsOfSystemTime(), err)) // Cannot happen: digits and a point.
	}
	return d
}

func timestampFrom(d *apd.Decimal) (hlc.Timestamp, error) {
	return hlc.ParseAsOfSystemTime(d.Text('f'))
}
