package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// ExportOptions says what one page of an export holds.
type ExportOptions struct {
	StartTime    hlc.Timestamp // exclusive; zero: from the beginning
	EndTime      hlc.Timestamp // inclusive; not in the future
	ResumeTS     hlc.Timestamp // continues inside the history of the first key
	ResumeMidRow bool          // the page before ended inside the row of the first key
	AllRevisions bool          // every version, not only the newest
	View         bool          // see storage.ExportOptions
	TargetBytes  int64         // a page ends at the row that reaches it; zero: no limit
	MaxBytes     int64         // a row whose history exceeds it is cut; zero: no limit
	NoWait       bool          // fail if a transaction has locked a key of the span, instead of pushing it
}

// ExportPage is one page: an sstable in the store's own format and what it
// holds. Summary.Span is what was covered.
type ExportPage struct {
	SST     []byte // empty if nothing was found
	Summary storage.ExportSummary
	// Resume is what remains of the span, nil after the last page; ResumeTS and
	// MidRow belong to it.
	Resume   *keys.Span
	ResumeTS hlc.Timestamp
	MidRow   bool
}

// Export reads one page of span's history. It sees everything that is committed
// at or below EndTime: locks in its way are pushed, never skipped, and no later
// write gets a timestamp at or below EndTime. It fails with a
// *kvpb.BatchTimestampBeforeGCError if what it needs may have been collected.
func (db *DB) Export(ctx context.Context, span keys.Span, opts ExportOptions) (ExportPage, error) {
	h := kvpb.Header{Timestamp: opts.EndTime, Priority: kvpb.PriorityMax}
	if opts.NoWait {
		h.Priority, h.WaitPolicy = kvpb.PriorityNormal, waitPolicy(false, true)
	}
	resp, err := db.sendOne(ctx, h, kvpb.Request{
		Op: kvpb.OpExport, Key: span.Key, EndKey: span.End(),
		Args: &kvpb.ExportArgs{
			StartTime: opts.StartTime, EndTime: opts.EndTime, ResumeTS: opts.ResumeTS, ResumeMidRow: opts.ResumeMidRow,
			AllRevisions: opts.AllRevisions, View: opts.View, TargetBytes: opts.TargetBytes, MaxBytes: opts.MaxBytes,
		},
	})
	if err != nil {
		return ExportPage{}, fmt.Errorf("exporting %s: %w", span, err)
	}
	reply, ok := resp.Reply.(*kvpb.ExportReply)
	if !ok {
		return ExportPage{}, errors.New("export got an answer of another kind")
	}
	p := ExportPage{SST: reply.SST, Summary: reply.Result.Summary, ResumeTS: reply.Result.ResumeTS, MidRow: reply.Result.MidRow}
	if reply.Result.ResumeKey != nil {
		p.Resume = &keys.Span{Key: reply.Result.ResumeKey, EndKey: span.End()}
	}
	return p, nil
}

// AddSSTableOptions says what may already be in the span.
type AddSSTableOptions struct {
	DisallowShadowing bool // fail if a key of the sstable is live in the span
	RequireEmpty      bool // fail if the span holds anything
	OnlyRepeat        bool // fail if the span has a key of the sstable in another state, deleted too
	NoWait            bool // fail if a transaction has locked a key of the span
}

// AddSSTable ingests an sstable whose keys are all in span and of which each has
// one version. The store gives all of them one new timestamp, above everything
// that was read there, and returns it. The data is durable and visible when
// AddSSTable returns. An sstable must not cross a range boundary: see SplitSpan.
func (db *DB) AddSSTable(ctx context.Context, span keys.Span, sst []byte, opts AddSSTableOptions) (hlc.Timestamp, error) {
	resp, err := db.sendOne(ctx, kvpb.Header{WaitPolicy: waitPolicy(false, opts.NoWait)}, kvpb.Request{
		Op: kvpb.OpAddSSTable, Key: span.Key, EndKey: span.End(),
		Args: &kvpb.AddSSTableArgs{SST: sst, DisallowShadowing: opts.DisallowShadowing, RequireEmpty: opts.RequireEmpty, OnlyRepeat: opts.OnlyRepeat},
	})
	if err != nil {
		return hlc.Timestamp{}, fmt.Errorf("ingesting %d bytes into %s: %w", len(sst), span, err)
	}
	reply, ok := resp.Reply.(*kvpb.AddSSTableReply)
	if !ok {
		return hlc.Timestamp{}, errors.New("ingestion got an answer of another kind")
	}
	return reply.Timestamp, nil
}

// DeleteRangeTombstone deletes everything in span at one timestamp of the
// present, in constant time. History below stays readable until it is collected.
func (db *DB) DeleteRangeTombstone(ctx context.Context, span keys.Span) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpDeleteRangeTombstone, Key: span.Key, EndKey: span.End()})
	return err
}

// ClearRange removes span with all its history. It is for data that was never
// published, such as that of a restore that failed: no backup or past read may
// want it.
func (db *DB) ClearRange(ctx context.Context, span keys.Span) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpClearRange, Key: span.Key, EndKey: span.End()})
	return err
}

// Ranges describes the ranges that overlap span, in order.
func (db *DB) Ranges(ctx context.Context, span keys.Span) ([]kvpb.RangeInfo, error) {
	var infos []kvpb.RangeInfo
	for rest := (keys.Span{Key: span.Key, EndKey: span.End()}); rest.Key.Less(rest.EndKey); {
		// A point request finds the range of the next key.
		resp, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{
			Op: kvpb.OpRangeInfo, Key: rest.Key, Args: &kvpb.RangeInfoArgs{EndKey: rest.EndKey},
		})
		if err != nil {
			return nil, err
		}
		reply, ok := resp.Reply.(*kvpb.RangeInfoReply)
		if !ok {
			return nil, errors.New("range info got an answer of another kind")
		}
		infos = append(infos, reply.Info)
		rest.Key = reply.Info.Descriptor.EndKey
	}
	return infos, nil
}

// RangeDescriptors returns the descriptors of the ranges that overlap span.
func (db *DB) RangeDescriptors(ctx context.Context, span keys.Span) ([]kvpb.RangeDescriptor, error) {
	infos, err := db.Ranges(ctx, span)
	if err != nil {
		return nil, err
	}
	descs := make([]kvpb.RangeDescriptor, len(infos))
	for i := range infos {
		descs[i] = infos[i].Descriptor
	}
	return descs, nil
}

// SplitSpan cuts span at the range boundaries inside it.
func (db *DB) SplitSpan(ctx context.Context, span keys.Span) ([]keys.Span, error) {
	descs, err := db.RangeDescriptors(ctx, span)
	if err != nil {
		return nil, err
	}
	spans := make([]keys.Span, len(descs))
	for i := range descs {
		spans[i] = keys.Span{Key: descs[i].StartKey, EndKey: descs[i].EndKey}
		if i == 0 {
			spans[i].Key = span.Key
		}
		if i == len(descs)-1 {
			spans[i].EndKey = span.End()
		}
	}
	return spans, nil
}

// SplitSpanBySize cuts span at the range boundaries inside it and, as far as the
// stores can tell without reading data, into parts of about diskBytes.
func (db *DB) SplitSpanBySize(ctx context.Context, span keys.Span, diskBytes int64) ([]keys.Span, error) {
	var parts []keys.Span
	for rest := (keys.Span{Key: span.Key, EndKey: span.End()}); rest.Key.Less(rest.EndKey); {
		resp, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{
			Op: kvpb.OpRangeInfo, Key: rest.Key, Args: &kvpb.RangeInfoArgs{EndKey: rest.EndKey, SplitBytes: diskBytes},
		})
		if err != nil {
			return nil, err
		}
		reply, ok := resp.Reply.(*kvpb.RangeInfoReply)
		if !ok {
			return nil, errors.New("range info got an answer of another kind")
		}
		end := reply.Info.Descriptor.EndKey
		if rest.EndKey.Less(end) {
			end = rest.EndKey
		}
		for _, k := range reply.Splits {
			if rest.Key.Less(k) && k.Less(end) {
				parts = append(parts, keys.Span{Key: rest.Key, EndKey: k})
				rest.Key = k
			}
		}
		parts = append(parts, keys.Span{Key: rest.Key, EndKey: end})
		rest.Key = end
	}
	return parts, nil
}

// GCThreshold returns the highest timestamp at or below which versions of span
// may have been collected.
func (db *DB) GCThreshold(ctx context.Context, span keys.Span) (hlc.Timestamp, error) {
	infos, err := db.Ranges(ctx, span)
	if err != nil {
		return hlc.Timestamp{}, err
	}
	var ts hlc.Timestamp
	for i := range infos {
		ts.Forward(infos[i].GCThreshold)
	}
	return ts, nil
}

// AdminSplit makes key the start of a range. It does nothing if it is one.
func (db *DB) AdminSplit(ctx context.Context, key keys.Key) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminSplit, Key: key})
	return err
}

// AdminSplitUntil is AdminSplit for somebody who wants the split to last until then:
// hlc.MaxTimestamp is for ever. A split that is to last longer already stays so.
func (db *DB) AdminSplitUntil(ctx context.Context, key keys.Key, until hlc.Timestamp) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminSplit, Key: key, Args: &kvpb.SplitArgs{StickyUntil: until}})
	return err
}

// AdminUnsplit says that nobody wants the split at key any more. The range that
// starts there stays until it is merged for other reasons.
func (db *DB) AdminUnsplit(ctx context.Context, key keys.Key) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminUnsplit, Key: key})
	return err
}

// CheckConsistency compares the replicas of each range that overlaps span.
func (db *DB) CheckConsistency(ctx context.Context, span keys.Span) ([]kvpb.CheckReply, error) {
	infos, err := db.Ranges(ctx, span)
	if err != nil {
		return nil, err
	}
	out := make([]kvpb.CheckReply, 0, len(infos))
	for i := range infos {
		key := infos[i].Descriptor.StartKey
		if key.Less(span.Key) {
			key = span.Key
		}
		resp, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminCheck, Key: key, Args: &kvpb.CheckArgs{}})
		if err != nil {
			return nil, fmt.Errorf("checking %s: %w", &infos[i].Descriptor, err)
		}
		reply, ok := resp.Reply.(*kvpb.CheckReply)
		if !ok {
			return nil, errors.New("a check got an answer of another kind")
		}
		out = append(out, *reply)
	}
	return out, nil
}

// AdminMerge has the range of key absorb the one to its right.
func (db *DB) AdminMerge(ctx context.Context, key keys.Key) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminMerge, Key: key, Args: &kvpb.MergeArgs{}})
	return err
}

// AdminScatter puts the replicas of the range of key, and its lease, at random
// where its zone configuration allows it.
func (db *DB) AdminScatter(ctx context.Context, key keys.Key) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminScatter, Key: key})
	return err
}

// AdminTransferLease makes the replica on a store the leaseholder of the range of
// key.
func (db *DB) AdminTransferLease(ctx context.Context, key keys.Key, to kvpb.StoreID) error {
	_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminTransferLease, Key: key, Args: &kvpb.TransferLeaseArgs{To: to}})
	return err
}

// AdminRelocate has the range of key have exactly these replicas, and with
// moveLease the first of the voters serve. The replicas have no ids. Whoever keeps
// ranges where they should be may move them again.
func (db *DB) AdminRelocate(ctx context.Context, key keys.Key, voters, nonVoters []kvpb.ReplicaDescriptor, moveLease bool) error {
	if len(voters) == 0 {
		return errors.New("a range needs a voter")
	}
	// What was found may be out of date: then look again.
	for attempt := 0; ; attempt++ {
		done, err := db.relocateStep(ctx, key, voters, nonVoters, moveLease)
		if done || err != nil && attempt >= 10 {
			return err
		}
		if attempt >= 100 {
			return fmt.Errorf("the range of %s does not come to rest", key)
		}
		if err != nil {
			if perr := pause(ctx, 20*time.Millisecond<<attempt); perr != nil {
				return errors.Join(err, perr)
			}
		}
	}
}

// relocateStep takes the next step of a relocation.
func (db *DB) relocateStep(ctx context.Context, key keys.Key, voters, nonVoters []kvpb.ReplicaDescriptor, moveLease bool) (done bool, err error) {
	infos, err := db.Ranges(ctx, keys.Span{Key: key})
	if err != nil {
		return false, err
	}
	d, holder := infos[0].Descriptor, infos[0].Leaseholder
	args := &kvpb.ChangeReplicasArgs{Generation: d.Generation}
	wanted := map[kvpb.StoreID]kvpb.ReplicaDescriptor{}
	for i, group := range [][]kvpb.ReplicaDescriptor{voters, nonVoters} {
		for _, r := range group {
			r.ReplicaID, r.Type = 0, []kvpb.ReplicaType{kvpb.ReplicaVoter, kvpb.ReplicaNonVoter}[i]
			if _, twice := wanted[r.StoreID]; twice {
				return true, fmt.Errorf("store %d is named twice", r.StoreID)
			}
			wanted[r.StoreID] = r
			if old, there := d.ReplicaOn(r.StoreID); !there || r.Type == kvpb.ReplicaVoter && old.Type != r.Type {
				args.Add = append(args.Add, r)
			}
		}
	}
	change := func() error {
		_, err := db.sendOne(ctx, kvpb.Header{}, kvpb.Request{Op: kvpb.OpAdminChangeReplicas, Key: key, Args: args})
		return err
	}
	added := len(args.Add)
	holderStays := false
	for _, r := range d.Replicas {
		w, ok := wanted[r.StoreID]
		switch {
		case !ok:
			args.Remove = append(args.Remove, r.StoreID)
		case w.Type != r.Type:
			args.Add = append(args.Add, w)
		}
		if r.NodeID == holder && ok && w.Type == kvpb.ReplicaVoter {
			holderStays = !moveLease || r.StoreID == voters[0].StoreID
		}
	}
	if first, there := d.ReplicaOn(voters[0].StoreID); !holderStays && there && first.Type == kvpb.ReplicaVoter {
		return false, db.AdminTransferLease(ctx, key, voters[0].StoreID)
	} else if !holderStays {
		// The leaseholder cannot go before another replica can serve.
		args.Add, args.Remove = args.Add[:added], nil
		return false, change()
	}
	if len(args.Add)+len(args.Remove) == 0 {
		return true, nil
	}
	return false, change()
}
