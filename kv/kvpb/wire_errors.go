package kvpb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// marks are the values that errors are compared with. They are the same value on
// the other side.
var marks = map[string]error{
	"disk full":         storage.ErrDiskFull,
	"corrupt":           storage.ErrCorrupt,
	"store locked":      storage.ErrStoreLocked,
	"store version":     storage.ErrStoreVersion,
	"closed":            storage.ErrClosed,
	"gc threshold":      storage.ErrGCThreshold,
	"canceled":          context.Canceled,
	"deadline exceeded": context.DeadlineExceeded,
}

var markNames = func() map[error]string {
	names := make(map[error]string, len(marks))
	for name, err := range marks {
		names[err] = name
	}
	return names
}()

// maxErrorDepth bounds how deep errors wrap each other on the wire. What is deeper
// is lost but for its text.
const maxErrorDepth = 32

// RemoteError is an error of another node that has no type of its own here. What
// it wraps is that of the original which has a meaning.
type RemoteError struct {
	Msg    string
	causes []error
}

func (e *RemoteError) Error() string { return e.Msg }

// Unwrap returns what the original wrapped.
func (e *RemoteError) Unwrap() []error { return e.causes }

// ErrorToWire converts an error for the way to another node. errors.Is and
// errors.As find in its copy what they find in err: typed errors of this package
// and of storage, marks, SQL errors. Of all others the text remains.
func ErrorToWire(err error) *wirepb.Error {
	if err == nil {
		return nil
	}
	m := &wirepb.Error{}
	appendError(m, err, 0)
	return m
}

// appendError appends err and what it wraps and says whether any of it is more
// than a text.
func appendError(m *wirepb.Error, err error, depth int) bool {
	at := len(m.Nodes)
	n := &wirepb.ErrorNode{}
	m.Nodes = append(m.Nodes, n)
	causes, typed := errorNode(n, err)
	if !typed {
		n.Kind, causes = &wirepb.ErrorNode_Message{Message: err.Error()}, unwrap(err)
	}
	meaning := typed
	for _, cause := range causes {
		if cause == nil || depth+1 == maxErrorDepth {
			continue
		}
		before := len(m.Nodes)
		if appendError(m, cause, depth+1) {
			meaning = true
		} else if !typed {
			m.Nodes = m.Nodes[:before] // Its text is in that of err.
			continue
		}
		m.Nodes[at].Causes++
	}
	return meaning
}

func unwrap(err error) []error {
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		return e.Unwrap()
	}
	return nil
}

// errorNode fills in n for an error that has a form of its own, and returns what
// it wraps that does not follow from its fields.
func errorNode(n *wirepb.ErrorNode, err error) (causes []error, ok bool) {
	switch e := err.(type) {
	case *pgerr.Error:
		n.Kind = &wirepb.ErrorNode_Pg{Pg: &wirepb.ErrorNode_PgError{
			Severity: e.Severity, Code: string(e.Code), Message: e.Message, Detail: e.Detail, Hint: e.Hint, Position: int32(e.Position),
			Where: e.Where, Routine: e.Routine, Schema: e.SchemaName, Table: e.TableName, Column: e.ColumnName, DataType: e.DataTypeName,
			Constraint: e.ConstraintName,
		}}
		return []error{e.Unwrap()}, true
	case *AmbiguousResultError:
		n.Kind = &wirepb.ErrorNode_Ambiguous{Ambiguous: true}
		return []error{e.Cause}, true
	case *PartialBatchError:
		n.Kind = &wirepb.ErrorNode_PartialBatch_{PartialBatch: &wirepb.ErrorNode_PartialBatch{WriteTimestamp: tsToWire(e.WriteTimestamp)}}
		return []error{e.Cause}, true
	case *ConditionFailedError:
		n.Kind = &wirepb.ErrorNode_ConditionFailed_{ConditionFailed: &wirepb.ErrorNode_ConditionFailed{
			Key: e.Key, Actual: e.Actual, ActualTimestamp: tsToWire(e.ActualTimestamp),
		}}
	case *WriteTooOldError:
		n.Kind = &wirepb.ErrorNode_WriteTooOld_{WriteTooOld: &wirepb.ErrorNode_WriteTooOld{
			Key: e.Key, Timestamp: tsToWire(e.Timestamp), ActualTimestamp: tsToWire(e.ActualTimestamp),
		}}
	case *ReadWithinUncertaintyError:
		n.Kind = &wirepb.ErrorNode_Uncertainty_{Uncertainty: &wirepb.ErrorNode_Uncertainty{
			Key: e.Key, ReadTimestamp: tsToWire(e.ReadTimestamp), ValueTimestamp: tsToWire(e.ValueTimestamp),
			GlobalUncertaintyLimit: tsToWire(e.GlobalUncertaintyLimit),
		}}
	case *RetryTxnError:
		n.Kind = &wirepb.ErrorNode_RetryTxn_{RetryTxn: &wirepb.ErrorNode_RetryTxn{
			Reason: string(e.Reason), RefreshTo: tsToWire(e.RefreshTo), Msg: e.Msg,
		}}
	case *TxnAbortedError:
		n.Kind = &wirepb.ErrorNode_TxnAborted{TxnAborted: string(e.Reason)}
	case *TransactionRetryError:
		n.Kind = &wirepb.ErrorNode_TxnRetry_{TxnRetry: &wirepb.ErrorNode_TxnRetry{
			TxnId: e.TxnID[:], Reason: string(e.Reason), Msg: e.Msg, Next: txnToWire(&e.Next),
		}}
	case *TransactionPushError:
		n.Kind = &wirepb.ErrorNode_PushFailed{PushFailed: metaToWire(&e.Pushee)}
	case *LockNotAvailableError:
		n.Kind = &wirepb.ErrorNode_LockNotAvailable_{LockNotAvailable: &wirepb.ErrorNode_LockNotAvailable{Key: e.Key, Timeout: int64(e.Timeout)}}
	case *BatchTimestampBeforeGCError:
		n.Kind = &wirepb.ErrorNode_BeforeGc{BeforeGc: &wirepb.ErrorNode_BeforeGC{
			Timestamp: tsToWire(e.Timestamp), Threshold: tsToWire(e.Threshold),
		}}
	case *RangeKeyMismatchError:
		n.Kind = &wirepb.ErrorNode_KeyMismatch_{KeyMismatch: &wirepb.ErrorNode_KeyMismatch{
			Requested: spanToWire(&e.Requested), Descriptor_: descToWire(&e.Descriptor),
		}}
	case *RangeNotFoundError:
		n.Kind = &wirepb.ErrorNode_RangeNotFound{RangeNotFound: int64(e.RangeID)}
	case *NotLeaseholderError:
		n.Kind = &wirepb.ErrorNode_NotLeaseholder_{NotLeaseholder: &wirepb.ErrorNode_NotLeaseholder{
			RangeId: int64(e.RangeID), Leaseholder: replicaToWire(e.Leaseholder), Descriptor_: descToWire(&e.Descriptor),
		}}
	case *storage.LockConflictError:
		m := &wirepb.ErrorNode_LockConflict{}
		for i := range e.Locks {
			l := &e.Locks[i]
			m.Locks = append(m.Locks, &wirepb.ErrorNode_Lock{Key: l.Key, Strength: uint32(l.Strength), Txn: metaToWire(&l.Txn)})
		}
		n.Kind = &wirepb.ErrorNode_LockConflict_{LockConflict: m}
	case *storage.TransactionStateError:
		n.Kind = &wirepb.ErrorNode_TxnState_{TxnState: &wirepb.ErrorNode_TxnState{Key: e.Key, Reason: e.Reason}}
	case *storage.ShadowingError:
		n.Kind = &wirepb.ErrorNode_Shadowing_{Shadowing: &wirepb.ErrorNode_Shadowing{Key: e.Key, Actual: e.Actual}}
	case *storage.NotEmptyError:
		n.Kind = &wirepb.ErrorNode_NotEmpty{NotEmpty: e.Key}
	default:
		// No map look-up: the type of err may not be comparable.
		for mark, name := range markNames {
			if err == mark {
				n.Kind = &wirepb.ErrorNode_Mark{Mark: name}
				return nil, true
			}
		}
		return nil, false
	}
	return nil, true
}

// ErrorFromWire converts back. A message that makes no sense gives an error that
// says so.
func ErrorFromWire(m *wirepb.Error) error {
	if m == nil {
		return nil
	}
	nodes := m.GetNodes()
	err, bad := takeError(&nodes, 0)
	if bad == nil && len(nodes) > 0 {
		bad = fmt.Errorf("%d nodes too many", len(nodes))
	}
	if bad != nil {
		return fmt.Errorf("reading an error of another node: %w", bad)
	}
	return err
}

// takeError reads one error with its causes off the front of nodes.
func takeError(nodes *[]*wirepb.ErrorNode, depth int) (_, bad error) {
	if len(*nodes) == 0 || depth > maxErrorDepth {
		return nil, errors.New("it ends early or is too deep")
	}
	n := (*nodes)[0]
	*nodes = (*nodes)[1:]
	var causes []error
	for range n.GetCauses() {
		cause, bad := takeError(nodes, depth+1)
		if bad != nil {
			return nil, bad
		}
		causes = append(causes, cause)
	}
	return nodeToError(n, causes)
}

func nodeToError(n *wirepb.ErrorNode, causes []error) (_, bad error) {
	var cause error
	if len(causes) > 0 {
		cause = causes[0]
	}
	switch k := n.GetKind().(type) {
	case *wirepb.ErrorNode_Message:
		return &RemoteError{Msg: k.Message, causes: causes}, nil
	case *wirepb.ErrorNode_Mark:
		if err := marks[k.Mark]; err != nil {
			return err, nil
		}
		return &RemoteError{Msg: k.Mark}, nil // of a newer version
	case *wirepb.ErrorNode_Pg:
		p := k.Pg
		e := pgerr.New(pgerr.Code(p.GetCode()), "")
		if cause != nil {
			e = pgerr.Newf(pgerr.Code(p.GetCode()), "%w", cause)
		}
		e.Severity, e.Message, e.Detail, e.Hint, e.Position = p.GetSeverity(), p.GetMessage(), p.GetDetail(), p.GetHint(), int(p.GetPosition())
		e.Where, e.Routine = p.GetWhere(), p.GetRoutine()
		e.SchemaName, e.TableName, e.ColumnName, e.DataTypeName = p.GetSchema(), p.GetTable(), p.GetColumn(), p.GetDataType()
		e.ConstraintName = p.GetConstraint()
		return e, nil
	case *wirepb.ErrorNode_Ambiguous:
		return &AmbiguousResultError{Cause: cause}, nil
	case *wirepb.ErrorNode_PartialBatch_:
		if cause == nil {
			return nil, errors.New("a batch failed in part for no reason")
		}
		return &PartialBatchError{WriteTimestamp: tsFromWire(k.PartialBatch.GetWriteTimestamp()), Cause: cause}, nil
	case *wirepb.ErrorNode_ConditionFailed_:
		c := k.ConditionFailed
		return &ConditionFailedError{
			Key: slices.Clip(c.GetKey()), Actual: slices.Clip(c.GetActual()), ActualTimestamp: tsFromWire(c.GetActualTimestamp()),
		}, nil
	case *wirepb.ErrorNode_WriteTooOld_:
		w := k.WriteTooOld
		return &WriteTooOldError{
			Key: slices.Clip(w.GetKey()), Timestamp: tsFromWire(w.GetTimestamp()), ActualTimestamp: tsFromWire(w.GetActualTimestamp()),
		}, nil
	case *wirepb.ErrorNode_Uncertainty_:
		u := k.Uncertainty
		return &ReadWithinUncertaintyError{
			Key: slices.Clip(u.GetKey()), ReadTimestamp: tsFromWire(u.GetReadTimestamp()), ValueTimestamp: tsFromWire(u.GetValueTimestamp()),
			GlobalUncertaintyLimit: tsFromWire(u.GetGlobalUncertaintyLimit()),
		}, nil
	case *wirepb.ErrorNode_RetryTxn_:
		r := k.RetryTxn
		return &RetryTxnError{Reason: RetryReason(r.GetReason()), RefreshTo: tsFromWire(r.GetRefreshTo()), Msg: r.GetMsg()}, nil
	case *wirepb.ErrorNode_TxnAborted:
		return &TxnAbortedError{Reason: RetryReason(k.TxnAborted)}, nil
	case *wirepb.ErrorNode_TxnRetry_:
		id, bad := idFromWire(k.TxnRetry.GetTxnId())
		if bad != nil {
			return nil, bad
		}
		next, bad := txnFromWire(k.TxnRetry.GetNext())
		if bad != nil || next == nil {
			return nil, errors.Join(errors.New("a retry without a transaction"), bad)
		}
		return &TransactionRetryError{TxnID: id, Reason: RetryReason(k.TxnRetry.GetReason()), Msg: k.TxnRetry.GetMsg(), Next: *next}, nil
	case *wirepb.ErrorNode_PushFailed:
		meta, bad := metaFromWire(k.PushFailed)
		return &TransactionPushError{Pushee: meta}, bad
	case *wirepb.ErrorNode_LockNotAvailable_:
		l := k.LockNotAvailable
		return &LockNotAvailableError{Key: slices.Clip(l.GetKey()), Timeout: time.Duration(l.GetTimeout())}, nil
	case *wirepb.ErrorNode_BeforeGc:
		return &BatchTimestampBeforeGCError{Timestamp: tsFromWire(k.BeforeGc.GetTimestamp()), Threshold: tsFromWire(k.BeforeGc.GetThreshold())}, nil
	case *wirepb.ErrorNode_KeyMismatch_:
		m := k.KeyMismatch
		return &RangeKeyMismatchError{Requested: spanValue(m.GetRequested()), Descriptor: descFromWire(m.GetDescriptor_())}, nil
	case *wirepb.ErrorNode_RangeNotFound:
		return &RangeNotFoundError{RangeID: RangeID(k.RangeNotFound)}, nil
	case *wirepb.ErrorNode_NotLeaseholder_:
		l := k.NotLeaseholder
		return &NotLeaseholderError{
			RangeID: RangeID(l.GetRangeId()), Leaseholder: replicaFromWire(l.GetLeaseholder()), Descriptor: descFromWire(l.GetDescriptor_()),
		}, nil
	case *wirepb.ErrorNode_LockConflict_:
		e := &storage.LockConflictError{}
		for _, l := range k.LockConflict.GetLocks() {
			meta, bad := metaFromWire(l.GetTxn())
			if bad != nil {
				return nil, bad
			}
			e.Locks = append(e.Locks, storage.Lock{Key: slices.Clip(l.GetKey()), Strength: storage.LockStrength(l.GetStrength()), Txn: meta})
		}
		return e, nil
	case *wirepb.ErrorNode_TxnState_:
		return &storage.TransactionStateError{Key: slices.Clip(k.TxnState.GetKey()), Reason: k.TxnState.GetReason()}, nil
	case *wirepb.ErrorNode_Shadowing_:
		return &storage.ShadowingError{Key: slices.Clip(k.Shadowing.GetKey()), Actual: slices.Clip(k.Shadowing.GetActual())}, nil
	case *wirepb.ErrorNode_NotEmpty:
		return &storage.NotEmptyError{Key: slices.Clip(k.NotEmpty)}, nil
	}
	return nil, fmt.Errorf("an error of unknown kind %T", n.GetKind())
}
