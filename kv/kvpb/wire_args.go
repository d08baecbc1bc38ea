package kvpb

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

func argsToWire(a Args, w *wirepb.Request) error {
	switch a := a.(type) {
	case nil:
	case *EndTxnArgs:
		w.Args = &wirepb.Request_EndTxn{EndTxn: &wirepb.EndTxnArgs{
			Commit: a.Commit, LockSpans: spansToWire(a.LockSpans), Deadline: tsToWire(a.Deadline), OnePhase: a.OnePhase,
		}}
	case *PushTxnArgs:
		w.Args = &wirepb.Request_PushTxn{PushTxn: &wirepb.PushTxnArgs{
			Type: uint32(a.Type), Pushee: metaToWire(&a.Pushee), PusherPriority: int32(a.PusherPriority),
			PushTo: tsToWire(a.PushTo), Force: a.Force, Reason: string(a.Reason), Pusher: metaToWire(&a.Pusher),
		}}
	case *ResolveArgs:
		w.Args = &wirepb.Request_Resolve{Resolve: &wirepb.ResolveArgs{
			Txn: metaToWire(&a.Txn), Status: uint32(a.Status), IgnoredSeqnums: seqsToWire(a.IgnoredSeqNums), MaxKeys: a.MaxKeys,
		}}
	case *RemoveTxnRecordArgs:
		w.Args = &wirepb.Request_RemoveTxnRecord{RemoveTxnRecord: &wirepb.RemoveTxnRecordArgs{Id: a.ID[:]}}
	case *HeartbeatArgs:
		w.Args = &wirepb.Request_Heartbeat{Heartbeat: &wirepb.HeartbeatArgs{Now: tsToWire(a.Now)}}
	case *RefreshArgs:
		w.Args = &wirepb.Request_Refresh{Refresh: &wirepb.RefreshArgs{From: tsToWire(a.From)}}
	case *ExportArgs:
		w.Args = &wirepb.Request_Export{Export: &wirepb.ExportArgs{
			StartTime: tsToWire(a.StartTime), EndTime: tsToWire(a.EndTime), ResumeTs: tsToWire(a.ResumeTS), ResumeMidRow: a.ResumeMidRow,
			AllRevisions: a.AllRevisions, View: a.View, TargetBytes: a.TargetBytes, MaxBytes: a.MaxBytes,
		}}
	case *AddSSTableArgs:
		w.Args = &wirepb.Request_AddSstable{AddSstable: &wirepb.AddSSTableArgs{
			Sst: a.SST, DisallowShadowing: a.DisallowShadowing, RequireEmpty: a.RequireEmpty, OnlyRepeat: a.OnlyRepeat,
		}}
	case *RangeInfoArgs:
		w.Args = &wirepb.Request_RangeInfo{RangeInfo: &wirepb.RangeInfoArgs{EndKey: a.EndKey, SplitBytes: a.SplitBytes}}
	case *PutSortedArgs:
		w.Args = &wirepb.Request_PutSorted{PutSorted: &wirepb.PutSortedArgs{Pairs: pairsToWire(a.Pairs), MustBeNew: a.MustBeNew}}
	case *GCArgs:
		m := &wirepb.GCArgs{Threshold: tsToWire(a.Threshold), Bytes: a.Garbage.Bytes}
		for _, k := range a.Garbage.Keys {
			m.Keys = append(m.Keys, &wirepb.GCKey{Key: k.Key, Timestamp: tsToWire(k.Timestamp)})
		}
		for i := range a.Garbage.Ranges {
			r := &a.Garbage.Ranges[i]
			m.Ranges = append(m.Ranges, &wirepb.GCRange{Span: spanToWire(&r.Span), Timestamp: tsToWire(r.Timestamp)})
		}
		w.Args = &wirepb.Request_Gc{Gc: m}
	case *LookupRangeArgs:
		w.Args = &wirepb.Request_LookupRange{LookupRange: &wirepb.LookupRangeArgs{For: a.For, Before: a.Before}}
	case *UpdateAddressingArgs:
		w.Args = &wirepb.Request_UpdateAddressing{UpdateAddressing: &wirepb.UpdateAddressingArgs{Descriptor_: descToWire(&a.Descriptor)}}
	case *ChangeReplicasArgs:
		m := &wirepb.ChangeReplicasArgs{Generation: a.Generation}
		for _, r := range a.Add {
			m.Add = append(m.Add, replicaToWire(r))
		}
		for _, s := range a.Remove {
			m.Remove = append(m.Remove, int32(s))
		}
		w.Args = &wirepb.Request_ChangeReplicas{ChangeReplicas: m}
	case *TransferLeaseArgs:
		w.Args = &wirepb.Request_TransferLease{TransferLease: &wirepb.TransferLeaseArgs{To: int32(a.To)}}
	case *SplitArgs:
		w.Args = &wirepb.Request_Split{Split: &wirepb.SplitArgs{StickyUntil: tsToWire(a.StickyUntil)}}
	case *CheckArgs:
		w.Args = &wirepb.Request_Check{Check: &wirepb.CheckArgs{Collect: a.Collect}}
	case *MergeArgs:
		w.Args = &wirepb.Request_Merge{Merge: &wirepb.MergeArgs{
			Step: uint32(a.Step), RangeId: int64(a.RangeID), Generation: a.Generation, LeftId: int64(a.LeftID), LeftStart: a.LeftStart, Claim: a.Claim,
		}}
	default:
		return fmt.Errorf("%T do not travel", a)
	}
	return nil
}

func argsFromWire(w *wirepb.Request) (Args, error) {
	switch a := w.GetArgs().(type) {
	case nil:
		return nil, nil
	case *wirepb.Request_EndTxn:
		m := a.EndTxn
		return &EndTxnArgs{
			Commit: m.GetCommit(), LockSpans: spansFromWire(m.GetLockSpans()), Deadline: tsFromWire(m.GetDeadline()), OnePhase: m.GetOnePhase(),
		}, nil
	case *wirepb.Request_PushTxn:
		m := a.PushTxn
		meta, err := metaFromWire(m.GetPushee())
		pusher, perr := metaFromWire(m.GetPusher())
		return &PushTxnArgs{
			Type: PushType(m.GetType()), Pushee: meta, PusherPriority: Priority(m.GetPusherPriority()),
			PushTo: tsFromWire(m.GetPushTo()), Force: m.GetForce(), Reason: RetryReason(m.GetReason()), Pusher: pusher,
		}, errors.Join(err, perr)
	case *wirepb.Request_Resolve:
		m := a.Resolve
		meta, err := metaFromWire(m.GetTxn())
		return &ResolveArgs{
			Txn: meta, Status: TxnStatus(m.GetStatus()), IgnoredSeqNums: seqsFromWire(m.GetIgnoredSeqnums()), MaxKeys: m.GetMaxKeys(),
		}, err
	case *wirepb.Request_RemoveTxnRecord:
		id, err := idFromWire(a.RemoveTxnRecord.GetId())
		return &RemoveTxnRecordArgs{ID: id}, err
	case *wirepb.Request_Heartbeat:
		return &HeartbeatArgs{Now: tsFromWire(a.Heartbeat.GetNow())}, nil
	case *wirepb.Request_Refresh:
		return &RefreshArgs{From: tsFromWire(a.Refresh.GetFrom())}, nil
	case *wirepb.Request_Export:
		m := a.Export
		return &ExportArgs{
			StartTime: tsFromWire(m.GetStartTime()), EndTime: tsFromWire(m.GetEndTime()), ResumeTS: tsFromWire(m.GetResumeTs()),
			ResumeMidRow: m.GetResumeMidRow(), AllRevisions: m.GetAllRevisions(), View: m.GetView(),
			TargetBytes: m.GetTargetBytes(), MaxBytes: m.GetMaxBytes(),
		}, nil
	case *wirepb.Request_AddSstable:
		m := a.AddSstable
		return &AddSSTableArgs{
			SST: slices.Clip(m.GetSst()), DisallowShadowing: m.GetDisallowShadowing(), RequireEmpty: m.GetRequireEmpty(),
			OnlyRepeat: m.GetOnlyRepeat(),
		}, nil
	case *wirepb.Request_RangeInfo:
		return &RangeInfoArgs{EndKey: slices.Clip(a.RangeInfo.GetEndKey()), SplitBytes: a.RangeInfo.GetSplitBytes()}, nil
	case *wirepb.Request_PutSorted:
		pairs, err := pairsFromWire(a.PutSorted.GetPairs())
		return &PutSortedArgs{Pairs: pairs, MustBeNew: a.PutSorted.GetMustBeNew()}, err
	case *wirepb.Request_Gc:
		m := a.Gc
		gc := &GCArgs{Threshold: tsFromWire(m.GetThreshold()), Garbage: storage.Garbage{Bytes: m.GetBytes()}}
		for _, k := range m.GetKeys() {
			gc.Garbage.Keys = append(gc.Garbage.Keys, storage.GCKey{Key: slices.Clip(k.GetKey()), Timestamp: tsFromWire(k.GetTimestamp())})
		}
		for _, r := range m.GetRanges() {
			gc.Garbage.Ranges = append(gc.Garbage.Ranges, storage.GCRange{Span: spanValue(r.GetSpan()), Timestamp: tsFromWire(r.GetTimestamp())})
		}
		return gc, nil
	case *wirepb.Request_LookupRange:
		return &LookupRangeArgs{For: slices.Clip(a.LookupRange.GetFor()), Before: a.LookupRange.GetBefore()}, nil
	case *wirepb.Request_UpdateAddressing:
		return &UpdateAddressingArgs{Descriptor: descFromWire(a.UpdateAddressing.GetDescriptor_())}, nil
	case *wirepb.Request_ChangeReplicas:
		c := &ChangeReplicasArgs{Generation: a.ChangeReplicas.GetGeneration()}
		for _, r := range a.ChangeReplicas.GetAdd() {
			c.Add = append(c.Add, replicaFromWire(r))
		}
		for _, s := range a.ChangeReplicas.GetRemove() {
			c.Remove = append(c.Remove, StoreID(s))
		}
		return c, nil
	case *wirepb.Request_TransferLease:
		return &TransferLeaseArgs{To: StoreID(a.TransferLease.GetTo())}, nil
	case *wirepb.Request_Split:
		return &SplitArgs{StickyUntil: tsFromWire(a.Split.GetStickyUntil())}, nil
	case *wirepb.Request_Check:
		return &CheckArgs{Collect: a.Check.GetCollect()}, nil
	case *wirepb.Request_Merge:
		m := a.Merge
		return &MergeArgs{
			Step: MergeStep(m.GetStep()), RangeID: RangeID(m.GetRangeId()), Generation: m.GetGeneration(), LeftID: RangeID(m.GetLeftId()),
			LeftStart: slices.Clip(m.GetLeftStart()), Claim: m.GetClaim(),
		}, nil
	}
	return nil, fmt.Errorf("arguments of unknown kind %T", w.GetArgs())
}

func replyToWire(a Reply, w *wirepb.Response) error {
	switch a := a.(type) {
	case nil:
	case *PushTxnReply:
		m := &wirepb.PushTxnReply{
			Status: uint32(a.Status), WriteTimestamp: tsToWire(a.WriteTimestamp), Epoch: a.Epoch, IgnoredSeqnums: seqsToWire(a.IgnoredSeqNums),
		}
		for i := range a.Waiters {
			m.Waiters = append(m.Waiters, metaToWire(&a.Waiters[i]))
		}
		w.Reply = &wirepb.Response_PushTxn{PushTxn: m}
	case *HeartbeatReply:
		w.Reply = &wirepb.Response_Heartbeat{Heartbeat: &wirepb.HeartbeatReply{Status: uint32(a.Status)}}
	case *ExportReply:
		res := &a.Result
		m := &wirepb.ExportReply{
			Sst: a.SST, DataBytes: res.Summary.DataBytes, ResumeKey: res.ResumeKey, ResumeTs: tsToWire(res.ResumeTS),
			MidRow: res.MidRow, Empty: res.Empty, FileBytes: res.FileBytes, BlockBytes: res.BlockBytes,
		}
		for id, s := range res.Summary.Indexes {
			m.Indexes = append(m.Indexes, &wirepb.IndexSummary{
				TableId: id.TableID, IndexId: id.IndexID, Rows: s.Rows, Kvs: s.KVs, Tombstones: s.Tombstones,
				RangeTombstones: s.RangeTombstones, KeyBytes: s.KeyBytes, ValueBytes: s.ValueBytes,
				FingerprintHi: s.Fingerprint.Hi, FingerprintLo: s.Fingerprint.Lo,
				TimedFingerprintHi: s.TimedFingerprint.Hi, TimedFingerprintLo: s.TimedFingerprint.Lo,
				ViewKvs: s.ViewKVs, ViewHi: s.View.Hi, ViewLo: s.View.Lo, ViewUnknown: s.ViewUnknown,
			})
		}
		w.Reply = &wirepb.Response_Export{Export: m}
	case *AddSSTableReply:
		w.Reply = &wirepb.Response_AddSstable{AddSstable: &wirepb.AddSSTableReply{Timestamp: tsToWire(a.Timestamp)}}
	case *RangeInfoReply:
		m := &wirepb.RangeInfoReply{
			Descriptor_: descToWire(&a.Info.Descriptor), Leaseholder: int32(a.Info.Leaseholder), Bytes: a.Info.Bytes,
			LiveBytes: a.Info.LiveBytes, LiveKeys: a.Info.LiveKeys, GcThreshold: tsToWire(a.Info.GCThreshold),
		}
		for _, k := range a.Splits {
			m.Splits = append(m.Splits, k)
		}
		w.Reply = &wirepb.Response_RangeInfo{RangeInfo: m}
	case *LookupRangeReply:
		w.Reply = &wirepb.Response_LookupRange{LookupRange: &wirepb.LookupRangeReply{Descriptor_: descToWire(&a.Descriptor)}}
	case *CheckReply:
		w.Reply = &wirepb.Response_Check{Check: &wirepb.CheckReply{
			RangeId: int64(a.RangeID), StartKey: a.StartKey, Status: a.Status, Detail: a.Detail, Checksum: a.Checksum, Stats: a.Stats,
		}}
	case *FreezeReply:
		w.Reply = &wirepb.Response_Freeze{Freeze: &wirepb.FreezeReply{Descriptor_: descToWire(&a.Descriptor), At: tsToWire(a.At)}}
	default:
		return fmt.Errorf("%T does not travel", a)
	}
	return nil
}

func replyFromWire(w *wirepb.Response) (Reply, error) {
	switch a := w.GetReply().(type) {
	case nil:
		return nil, nil
	case *wirepb.Response_PushTxn:
		m := a.PushTxn
		r := &PushTxnReply{
			Status: TxnStatus(m.GetStatus()), WriteTimestamp: tsFromWire(m.GetWriteTimestamp()), Epoch: m.GetEpoch(),
			IgnoredSeqNums: seqsFromWire(m.GetIgnoredSeqnums()),
		}
		for _, x := range m.GetWaiters() {
			meta, err := metaFromWire(x)
			if err != nil {
				return nil, err
			}
			r.Waiters = append(r.Waiters, meta)
		}
		return r, nil
	case *wirepb.Response_Heartbeat:
		return &HeartbeatReply{Status: TxnStatus(a.Heartbeat.GetStatus())}, nil
	case *wirepb.Response_Export:
		m := a.Export
		r := &ExportReply{SST: slices.Clip(m.GetSst()), Result: storage.ExportResult{
			ResumeKey: slices.Clip(keys.Key(m.GetResumeKey())), ResumeTS: tsFromWire(m.GetResumeTs()), MidRow: m.GetMidRow(), Empty: m.GetEmpty(),
			FileBytes: m.GetFileBytes(), BlockBytes: m.GetBlockBytes(),
		}}
		r.Result.Summary.DataBytes = m.GetDataBytes()
		for _, s := range m.GetIndexes() {
			if r.Result.Summary.Indexes == nil {
				r.Result.Summary.Indexes = map[storage.IndexID]*storage.IndexSummary{}
			}
			r.Result.Summary.Indexes[storage.IndexID{TableID: s.GetTableId(), IndexID: s.GetIndexId()}] = &storage.IndexSummary{
				Rows: s.GetRows(), KVs: s.GetKvs(), Tombstones: s.GetTombstones(), RangeTombstones: s.GetRangeTombstones(),
				KeyBytes: s.GetKeyBytes(), ValueBytes: s.GetValueBytes(),
				Fingerprint:      storage.Fingerprint{Hi: s.GetFingerprintHi(), Lo: s.GetFingerprintLo()},
				TimedFingerprint: storage.Fingerprint{Hi: s.GetTimedFingerprintHi(), Lo: s.GetTimedFingerprintLo()},
				ViewKVs:          s.GetViewKvs(), View: storage.Fingerprint{Hi: s.GetViewHi(), Lo: s.GetViewLo()}, ViewUnknown: s.GetViewUnknown(),
			}
		}
		return r, nil
	case *wirepb.Response_AddSstable:
		return &AddSSTableReply{Timestamp: tsFromWire(a.AddSstable.GetTimestamp())}, nil
	case *wirepb.Response_RangeInfo:
		m := a.RangeInfo
		r := &RangeInfoReply{Info: RangeInfo{
			Descriptor: descFromWire(m.GetDescriptor_()), Leaseholder: NodeID(m.GetLeaseholder()), Bytes: m.GetBytes(),
			LiveBytes: m.GetLiveBytes(), LiveKeys: m.GetLiveKeys(), GCThreshold: tsFromWire(m.GetGcThreshold()),
		}}
		for _, k := range m.GetSplits() {
			r.Splits = append(r.Splits, slices.Clip(k))
		}
		return r, nil
	case *wirepb.Response_LookupRange:
		return &LookupRangeReply{Descriptor: descFromWire(a.LookupRange.GetDescriptor_())}, nil
	case *wirepb.Response_Check:
		m := a.Check
		return &CheckReply{
			RangeID: RangeID(m.GetRangeId()), StartKey: slices.Clip(m.GetStartKey()), Status: m.GetStatus(), Detail: m.GetDetail(),
			Checksum: slices.Clip(m.GetChecksum()), Stats: m.GetStats(),
		}, nil
	case *wirepb.Response_Freeze:
		return &FreezeReply{Descriptor: descFromWire(a.Freeze.GetDescriptor_()), At: tsFromWire(a.Freeze.GetAt())}, nil
	}
	return nil, fmt.Errorf("reply of unknown kind %T", w.GetReply())
}
