package kvpb

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
)

// RequestToWire converts a batch for the way to another node. The message shares
// the batch's bytes, which must not change while it is in use.
func RequestToWire(ba *BatchRequest) (*wirepb.BatchRequest, error) {
	m := &wirepb.BatchRequest{
		Header: &wirepb.Header{
			RangeId: int64(ba.RangeID), Timestamp: tsToWire(ba.Timestamp), Txn: txnToWire(ba.Txn), Priority: int32(ba.Priority),
			MaxKeys: ba.MaxKeys, TargetBytes: ba.TargetBytes, CanForwardReadTimestamp: ba.CanForwardReadTimestamp,
			WaitPolicy: uint32(ba.WaitPolicy), LockTimeout: int64(ba.LockTimeout), Unsynced: ba.Unsynced, Nearest: ba.Nearest,
		},
		Requests: make([]*wirepb.Request, len(ba.Requests)),
	}
	all := make([]wirepb.Request, len(ba.Requests)) // One allocation for all.
	for i := range ba.Requests {
		r, w := &ba.Requests[i], &all[i]
		w.Op, w.Lock, w.Sequence, w.Delta = uint32(r.Op), uint32(r.Lock), r.Sequence, r.Delta
		w.Key, w.EndKey, w.Value, w.Expected = r.Key, r.EndKey, r.Value, r.Expected
		if err := argsToWire(r.Args, w); err != nil {
			return nil, err
		}
		m.Requests[i] = w
	}
	return m, nil
}

// RequestFromWire converts back. What it returns shares the message's bytes, but
// appending to a part of it does not run into the next.
func RequestFromWire(m *wirepb.BatchRequest) (*BatchRequest, error) {
	h := m.GetHeader()
	txn, err := txnFromWire(h.GetTxn())
	if err != nil {
		return nil, err
	}
	ba := &BatchRequest{
		Header: Header{
			RangeID: RangeID(h.GetRangeId()), Timestamp: tsFromWire(h.GetTimestamp()), Txn: txn, Priority: Priority(h.GetPriority()),
			MaxKeys: h.GetMaxKeys(), TargetBytes: h.GetTargetBytes(), CanForwardReadTimestamp: h.GetCanForwardReadTimestamp(),
			WaitPolicy: WaitPolicy(h.GetWaitPolicy()), LockTimeout: time.Duration(h.GetLockTimeout()), Unsynced: h.GetUnsynced(), Nearest: h.GetNearest(),
		},
		Requests: make([]Request, len(m.GetRequests())),
	}
	for i, w := range m.GetRequests() {
		if w.GetOp() == uint32(OpInvalid) || w.GetOp() >= uint32(len(opNames)) {
			return nil, fmt.Errorf("request of unknown kind %d", w.GetOp())
		}
		r := &ba.Requests[i]
		*r = Request{
			Op: Op(w.Op), Lock: LockStrength(w.Lock), Sequence: w.Sequence, Key: slices.Clip(w.Key), EndKey: slices.Clip(w.EndKey),
			Value: slices.Clip(w.Value), Expected: slices.Clip(w.Expected), Delta: w.Delta,
		}
		if r.Args, err = argsFromWire(w); err != nil {
			return nil, err
		}
	}
	return ba, nil
}

// ResponseToWire converts an answer.
func ResponseToWire(br *BatchResponse) (*wirepb.BatchResponse, error) {
	m := &wirepb.BatchResponse{
		Responses: make([]*wirepb.Response, len(br.Responses)), Timestamp: tsToWire(br.Timestamp),
		Txn: &wirepb.TxnUpdate{
			Status: uint32(br.Txn.Status), ReadTimestamp: tsToWire(br.Txn.ReadTimestamp), WriteTimestamp: tsToWire(br.Txn.WriteTimestamp),
		},
	}
	all := make([]wirepb.Response, len(br.Responses))
	for i := range br.Responses {
		r, w := &br.Responses[i], &all[i]
		w.Count, w.Resume = r.Count, spanToWire(r.Resume)
		w.Kvs = kvsToWire(r.KVs)
		if err := replyToWire(r.Reply, w); err != nil {
			return nil, err
		}
		m.Responses[i] = w
	}
	return m, nil
}

// ResponseFromWire converts back; m holds no error.
func ResponseFromWire(m *wirepb.BatchResponse) (*BatchResponse, error) {
	br := &BatchResponse{
		Responses: make([]Response, len(m.GetResponses())), Timestamp: tsFromWire(m.GetTimestamp()),
		Txn: TxnUpdate{
			Status: TxnStatus(m.GetTxn().GetStatus()), ReadTimestamp: tsFromWire(m.GetTxn().GetReadTimestamp()),
			WriteTimestamp: tsFromWire(m.GetTxn().GetWriteTimestamp()),
		},
	}
	for i, w := range m.GetResponses() {
		r := &br.Responses[i]
		r.Count, r.Resume = w.GetCount(), spanFromWire(w.GetResume())
		var err error
		if r.KVs, err = kvsFromWire(w.GetKvs()); err != nil {
			return nil, err
		}
		if r.Reply, err = replyFromWire(w); err != nil {
			return nil, err
		}
	}
	return br, nil
}
