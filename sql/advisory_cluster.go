package sql

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/sql/builtins"
)

// Between nodes, an advisory lock is held by processes: one exclusively or several
// together, as the sessions of each need it. Its row in the keyspace names them. A
// process that is no more holds nothing.

// advisoryHolder is a process in such a row.
type advisoryHolder struct {
	Process   []byte
	Exclusive bool
}

// advisoryNeed is what the sessions of this node need of a lock together.
type advisoryNeed int

const (
	needNothing advisoryNeed = iota
	needShared
	needExclusive
)

func (a *advisoryLocks) need(key advisoryKey) advisoryNeed {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.locks[key]
	if l == nil {
		return needNothing
	}
	for _, h := range l.holders {
		if h.exclusive() {
			return needExclusive
		}
	}
	return needShared
}

var advisoryPrefix = append(append(keys.Key(nil), keys.SystemPrefix...), "advisory/"...)

func (k advisoryKey) row() keys.Key {
	b := encoding.EncodeStringAscending(advisoryPrefix.Clone(), k.database)
	pair := int64(0)
	if k.key.Pair {
		pair = 1
	}
	for _, n := range []int64{pair, k.key.A, k.key.B} {
		b = encoding.EncodeVarintAscending(b, n)
	}
	return b
}

// advisoryStripes is over how many mutexes the locks are spread.
const advisoryStripes = 64

func (k advisoryKey) stripe() int {
	h := fnv.New32a()
	h.Write(k.row()) // never fails
	return int(h.Sum32() % advisoryStripes)
}

// claimAdvisory gets a lock from other nodes for a session that has it on this one.
func (s *Server) claimAdvisory(ctx context.Context, key advisoryKey, mode builtins.AdvisoryMode) (bool, error) {
	if s.peers == nil {
		return true, nil
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		ok, err := s.syncAdvisory(ctx, key)
		if ok || err != nil || mode.Try {
			return ok, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return false, ctx.Err()
		case <-t.C:
		}
	}
}

// syncAdvisory makes the row of a lock say what this node needs. It says whether the
// node has it then.
func (s *Server) syncAdvisory(ctx context.Context, key advisoryKey) (granted bool, _ error) {
	// One at a time: the last to write must be the last to look at what is needed.
	mu := &s.advisoryMu[key.stripe()]
	mu.Lock()
	defer mu.Unlock()
	need, self, row := s.advisory.need(key), []byte(s.process()), key.row()
	err := s.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		granted = false
		got, err := txn.GetWith(ctx, row, kv.GetOptions{ForUpdate: true})
		if err != nil {
			return err
		}
		holders, err := decodeAdvisory(got.Value)
		if err != nil {
			return err
		}
		others := slices.DeleteFunc(slices.Clone(holders), func(h advisoryHolder) bool { return string(h.Process) == string(self) })
		conflict := func(h advisoryHolder) bool { return need == needExclusive || need == needShared && h.Exclusive }
		if slices.ContainsFunc(others, conflict) {
			others = slices.DeleteFunc(others, func(h advisoryHolder) bool {
				alive, err2 := s.peers.Alive(ctx, string(h.Process))
				if err2 != nil {
					err = err2
				}
				return !alive && err2 == nil
			})
			if err != nil {
				return err
			}
			if slices.ContainsFunc(others, conflict) {
				return nil
			}
		}
		if need != needNothing {
			others = append(others, advisoryHolder{self, need == needExclusive})
		}
		granted = true
		if len(others) == 0 {
			if len(got.Value) == 0 {
				return nil
			}
			return txn.Del(ctx, row)
		}
		value, err := encodeAdvisory(row, others)
		if err != nil {
			return err
		}
		return txn.Put(ctx, row, value)
	})
	if err != nil {
		return false, fmt.Errorf("advisory lock: %w", err)
	}
	return granted, nil
}

const tagJSONBytes = 3

func encodeAdvisory(key keys.Key, holders []advisoryHolder) ([]byte, error) {
	b, err := json.Marshal(holders)
	if err != nil {
		return nil, err
	}
	v := append([]byte{0, 0, 0, 0, tagJSONBytes}, b...)
	kvpb.SetChecksum(key, v)
	return v, nil
}

func decodeAdvisory(value []byte) (holders []advisoryHolder, _ error) {
	if len(value) == 0 {
		return nil, nil
	}
	if len(value) < 5 || value[4] != tagJSONBytes {
		return nil, fmt.Errorf("value %x is no advisory lock", value)
	}
	return holders, json.Unmarshal(value[5:], &holders)
}

// advisoryReleased tells other nodes of locks that sessions have given back.
func (s *Server) advisoryReleased(released []advisoryKey) {
	if s.peers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), advisoryTimeout)
	defer cancel()
	for _, key := range released {
		for wait := 10 * time.Millisecond; ; wait *= 2 {
			_, err := s.syncAdvisory(ctx, key)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				s.log.Warn("an advisory lock that was given back stays with this node until it is used here again", "err", err)
				break
			}
			time.Sleep(wait)
		}
	}
}

// advisoryTimeout bounds how long a session tries to give locks back.
const advisoryTimeout = 10 * time.Second
