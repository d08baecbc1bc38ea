package kvserver

import (
	"sync"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// txnMarks is what this store decided about transactions that have no record:
// that they are aborted, or that they must not commit below some timestamp. A
// commit looks here, so a pusher need not write anything.
//
// It is bounded. What it forgets is covered by floors: a transaction that began
// at or below floor, and has no record, can never get one. After a restart the
// floor is the clock's start: whoever was a client before is gone.
type txnMarks struct {
	mu        sync.Mutex
	floor     hlc.Timestamp // of MinTimestamp
	pushFloor hlc.Timestamp // commits without record are at or above
	cur, old  map[kvpb.TxnID]txnMark
}

type txnMark struct {
	aborted  bool
	reason   kvpb.RetryReason
	pushedTo hlc.Timestamp
	min      hlc.Timestamp // MinTimestamp of the transaction
}

const maxTxnMarks = 32 << 10

func newTxnMarks(floor hlc.Timestamp) *txnMarks {
	return &txnMarks{floor: floor, cur: map[kvpb.TxnID]txnMark{}}
}

func (m *txnMarks) abort(id kvpb.TxnID, min hlc.Timestamp, reason kvpb.RetryReason) {
	m.update(id, func(k *txnMark) { k.aborted, k.reason, k.min = true, reason, min })
}

func (m *txnMarks) push(id kvpb.TxnID, min, to hlc.Timestamp) {
	m.update(id, func(k *txnMark) { k.pushedTo.Forward(to); k.min = min })
}

func (m *txnMarks) update(id kvpb.TxnID, fn func(*txnMark)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.cur[id]
	if !ok {
		k = m.old[id]
		if len(m.cur) >= maxTxnMarks {
			for _, o := range m.old {
				if o.aborted {
					m.floor.Forward(o.min)
				} else {
					m.pushFloor.Forward(o.pushedTo)
				}
			}
			m.old, m.cur = m.cur, map[kvpb.TxnID]txnMark{}
		}
	}
	fn(&k)
	m.cur[id] = k
}

// known returns what is decided about a transaction whose record may be on
// another store: only what was decided here and is not forgotten.
func (m *txnMarks) known(id kvpb.TxnID) txnMark {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.cur[id]; ok {
		return k
	}
	return m.old[id]
}

// get returns what is decided about a transaction without record that began at
// min.
func (m *txnMarks) get(id kvpb.TxnID, min hlc.Timestamp) txnMark {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.cur[id]
	if !ok {
		k = m.old[id]
	}
	if !k.aborted && min.LessEq(m.floor) {
		k.aborted, k.reason = true, kvpb.RetryAborted
	}
	k.pushedTo.Forward(m.pushFloor)
	return k
}
