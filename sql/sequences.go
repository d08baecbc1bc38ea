package sql

import (
	"context"
	"math"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// A sequence's counter is one key whose value is the last number handed out.
// Numbers are taken outside of transactions: what a transaction took it does not
// give back, and nobody waits for another's commit.

// sequenceBlock is a run of numbers that a session took at once (CACHE n).
type sequenceBlock struct {
	next, step int64
	left       int64
	version    uint64
}

// sequenceSession is what a session remembers of sequences: the last number
// of each for currval, the last of all for lastval, and unused numbers.
type sequenceSession struct {
	last   map[catalog.ID]int64
	lastID catalog.ID
	blocks map[catalog.ID]*sequenceBlock
}

func (s *Session) forgetSequence(id catalog.ID) { delete(s.seq.blocks, id) }

// newInTxn says whether the sequence was made by the open transaction. Its key
// is then visible to this transaction only, and so are the numbers it takes.
func (p *planner) newInTxn(id catalog.ID) bool { return p.s.tx.created[id] }

func (p *planner) sequenceCounter(ctx context.Context, id catalog.ID) (int64, error) {
	if v, ok := p.s.tx.counters[id]; ok {
		return v, nil
	}
	var kv0 kv.KeyValue
	var err error
	switch {
	case p.newInTxn(id):
		kv0, err = p.txn.Get(ctx, rowenc.SequenceKey(id))
	case p.txn.IsFixed():
		kv0, err = p.srv.db.GetAt(ctx, rowenc.SequenceKey(id), p.txn.ReadTimestamp())
	default:
		kv0, err = p.srv.db.Get(ctx, rowenc.SequenceKey(id))
	}
	if err != nil {
		return 0, err
	}
	if kv0.Value == nil {
		return 0, nil
	}
	return rowenc.DecodeInt(rowenc.SequenceKey(id), kv0.Value)
}

func (p *planner) setSequenceCounter(ctx context.Context, pb *catalogpb.TableDescriptor, v int64) error {
	key := rowenc.SequenceKey(pb.Id)
	if p.newInTxn(pb.Id) {
		return p.putOwnCounter(ctx, pb.Id, v)
	}
	return p.srv.db.Put(ctx, key, rowenc.EncodeInt(key, v))
}

// putOwnCounter sets the counter of a sequence that the open transaction made. A
// statement does not read what it wrote itself, so the number is kept beside.
func (p *planner) putOwnCounter(ctx context.Context, id catalog.ID, v int64) error {
	key := rowenc.SequenceKey(id)
	if err := p.txn.Put(ctx, key, rowenc.EncodeInt(key, v)); err != nil {
		return err
	}
	if p.s.tx.counters == nil {
		p.s.tx.counters = map[catalog.ID]int64{}
	}
	p.s.tx.counters[id] = v
	return nil
}

// nextval takes the next number of a sequence.
func (p *planner) nextval(ctx context.Context, seq *catalog.Table) (int64, error) {
	if p.s.tx.readOnly {
		return 0, pgerr.New(pgerr.ReadOnlySQLTransaction, "cannot execute nextval() in a read-only transaction")
	}
	id := seq.ID()
	o := seq.Proto().SequenceOpts
	st := &p.s.seq
	if b := st.blocks[id]; b != nil && b.left > 0 && b.version == seq.Version() {
		v := b.next
		b.next, b.left = b.next+b.step, b.left-1
		st.note(id, v)
		return v, nil
	}
	v, left, err := p.takeNumbers(ctx, seq, o)
	if err != nil {
		return 0, err
	}
	if left > 0 {
		if st.blocks == nil {
			st.blocks = map[catalog.ID]*sequenceBlock{}
		}
		st.blocks[id] = &sequenceBlock{next: v + o.Increment, step: o.Increment, left: left, version: seq.Version()}
	}
	st.note(id, v)
	return v, nil
}

func (st *sequenceSession) note(id catalog.ID, v int64) {
	if st.last == nil {
		st.last = map[catalog.ID]int64{}
	}
	st.last[id], st.lastID = v, id
}

// takeNumbers advances the counter by CACHE steps and returns the first number
// and how many more the session now owns.
func (p *planner) takeNumbers(ctx context.Context, seq *catalog.Table, o *catalogpb.SequenceOpts) (first, left int64, err error) {
	cache := max(o.CacheSize, 1)
	inside := func(v int64) bool { return v >= o.MinValue && v <= o.MaxValue }
	if o.Cycle || p.newInTxn(seq.ID()) {
		return p.takeOne(ctx, seq, o)
	}
	if cache > math.MaxInt64/abs64(o.Increment) {
		cache = 1
	}
	// The number becomes durable with the first commit after it; see syncSequences.
	end, err := p.srv.db.IncUnsynced(ctx, rowenc.SequenceKey(seq.ID()), cache*o.Increment)
	p.s.tx.unsynced = seq.ID()
	if err != nil {
		return 0, 0, sequenceEnd(seq, o)
	}
	first = end - (cache-1)*o.Increment
	if !inside(first) {
		return 0, 0, sequenceEnd(seq, o)
	}
	for left = cache - 1; left > 0 && !inside(first+left*o.Increment); left-- {
	}
	return first, left, nil
}

// syncSequences makes numbers durable that a transaction without writes has
// taken: its commit alone would not.
func (t *txnState) syncSequences(ctx context.Context) error {
	if t.unsynced == 0 || t.txn.HasWrites() {
		return nil
	}
	_, err := t.s.srv.db.Inc(ctx, rowenc.SequenceKey(t.unsynced), 0)
	return err
}

// takeOne reads and replaces the counter, which lets it wrap around.
func (p *planner) takeOne(ctx context.Context, seq *catalog.Table, o *catalogpb.SequenceOpts) (int64, int64, error) {
	key := rowenc.SequenceKey(seq.ID())
	own := p.newInTxn(seq.ID())
	for {
		var old kv.KeyValue
		var err error
		known, isKnown := p.s.tx.counters[seq.ID()]
		switch {
		case isKnown:
		case own:
			old, err = p.txn.Get(ctx, key)
		default:
			old, err = p.srv.db.Get(ctx, key)
		}
		if err != nil {
			return 0, 0, err
		}
		cur := o.Start - o.Increment
		if isKnown {
			cur = known
		} else if old.Value != nil {
			if cur, err = rowenc.DecodeInt(key, old.Value); err != nil {
				return 0, 0, err
			}
		}
		v := cur + o.Increment
		wrapped := (o.Increment > 0 && (v > o.MaxValue || v < cur)) || (o.Increment < 0 && (v < o.MinValue || v > cur))
		if wrapped {
			if !o.Cycle {
				return 0, 0, sequenceEnd(seq, o)
			}
			if v = o.MinValue; o.Increment < 0 {
				v = o.MaxValue
			}
		}
		if own {
			return v, 0, p.putOwnCounter(ctx, seq.ID(), v)
		}
		err = p.srv.db.CPut(ctx, key, rowenc.EncodeInt(key, v), old.Value)
		if err == nil {
			return v, 0, nil
		}
		if !isConditionFailed(err) {
			return 0, 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
	}
}

func sequenceEnd(seq *catalog.Table, o *catalogpb.SequenceOpts) error {
	if o.Increment < 0 {
		return pgerr.Newf("2200H", "nextval: reached minimum value of sequence \"%s\" (%d)", seq.Name(), o.MinValue)
	}
	return pgerr.Newf("2200H", "nextval: reached maximum value of sequence \"%s\" (%d)", seq.Name(), o.MaxValue)
}

func abs64(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}

// currval is the last number this session took from the sequence.
func (p *planner) currval(seq *catalog.Table) (int64, error) {
	v, ok := p.s.seq.last[seq.ID()]
	if !ok {
		return 0, pgerr.Newf(pgerr.ObjectNotInPrerequisiteState, "currval of sequence \"%s\" is not yet defined in this session", seq.Name())
	}
	return v, nil
}

// lastval is the last number this session took from any sequence.
func (p *planner) lastval(ctx context.Context) (int64, error) {
	v, ok := p.s.seq.last[p.s.seq.lastID]
	if !ok {
		return 0, pgerr.New(pgerr.ObjectNotInPrerequisiteState, "lastval is not yet defined in this session")
	}
	return v, nil
}

// setval sets the counter. Without isCalled, v is the number nextval gives next.
func (p *planner) setval(ctx context.Context, seq *catalog.Table, v int64, isCalled bool) error {
	if p.s.tx.readOnly {
		return pgerr.New(pgerr.ReadOnlySQLTransaction, "cannot execute setval() in a read-only transaction")
	}
	pb := seq.Proto()
	o := pb.SequenceOpts
	if v < o.MinValue || v > o.MaxValue {
		return pgerr.Newf(pgerr.NumericValueOutOfRange, "setval: value %d is out of bounds for sequence \"%s\" (%d..%d)",
			v, seq.Name(), o.MinValue, o.MaxValue)
	}
	counter := v
	if !isCalled {
		counter -= o.Increment
	} else {
		p.s.seq.note(seq.ID(), v)
	}
	p.s.forgetSequence(seq.ID())
	return p.setSequenceCounter(ctx, pb, counter)
}

// sequenceRow is the one row of SELECT * FROM a sequence: last_value, log_cnt,
// is_called.
func (p *planner) sequenceRow(ctx context.Context, seq *catalog.Table) (lastValue int64, isCalled bool, err error) {
	o := seq.Proto().SequenceOpts
	v, err := p.sequenceCounter(ctx, seq.ID())
	if err != nil {
		return 0, false, err
	}
	if v == o.Start-o.Increment {
		return o.Start, false, nil
	}
	return min(max(v, o.MinValue), o.MaxValue), true, nil
}
