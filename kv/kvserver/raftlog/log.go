package raftlog

import (
	"encoding/binary"
	"fmt"
	"sync"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Keys below the prefix of a replica.
//
//	<prefix> "rhst"             raftpb.HardState
//	<prefix> "rtrn"             index and term of the last truncated entry, 8 bytes each
//	<prefix> "rlog" <index>     raftpb.Entry; the index has 8 bytes, big endian
const (
	suffixHardState = "rhst"
	suffixTruncated = "rtrn"
	suffixEntry     = "rlog"
)

// Log is the raft log of one replica. Reads are safe for concurrent use; Stage and
// Truncate, and the functions they return, belong to the replica's raft loop.
type Log struct {
	eng    *storage.Engine
	prefix keys.Key

	// Invariant: entries (truncated, last] are on disk, without a gap, and no
	// others are.
	mu        sync.Mutex
	hard      *pb.HardState
	conf      *pb.ConfState
	truncated position
	last      position
	cache     cache
}

var _ raft.Storage = (*Log)(nil)

// position is an index in the log and the term of its entry.
type position struct{ index, term uint64 }

// Open reads the state of a log. conf is the group's configuration as of the
// applied state, which the caller keeps. The cache holds up to cacheBytes.
func Open(eng *storage.Engine, prefix keys.Key, conf *pb.ConfState, cacheBytes int64) (*Log, error) {
	l := &Log{eng: eng, prefix: prefix, hard: &pb.HardState{}, conf: pb.EnsureConfState(conf), cache: cache{maxBytes: cacheBytes}}
	b, ok, err := eng.Get(l.key(suffixTruncated))
	if err != nil {
		return nil, err
	}
	if ok {
		if len(b) != 16 {
			return nil, l.corrupt("truncated state of %d bytes", len(b))
		}
		l.truncated = position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
	}
	if b, ok, err = eng.Get(l.key(suffixHardState)); err != nil {
		return nil, err
	} else if ok {
		if err := proto.Unmarshal(b, l.hard); err != nil {
			return nil, l.corrupt("hard state: %v", err)
		}
	}
	l.last = l.truncated
	err = eng.Scan(l.entryKey(0), l.key(suffixEntry).PrefixEnd(), func(k keys.Key, v []byte) (bool, error) {
		e, err := l.decode(k, v)
		if err != nil {
			return false, err
		}
		if e.GetIndex() != l.last.index+1 {
			return false, l.corrupt("entry %d follows entry %d", e.GetIndex(), l.last.index)
		}
		l.last = position{e.GetIndex(), e.GetTerm()}
		l.cache.replace([]*pb.Entry{e})
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	if c := l.hard.GetCommit(); c > l.last.index {
		return nil, l.corrupt("entries up to %d are committed, the log ends at %d", c, l.last.index)
	}
	return l, nil
}

// Empty returns the log of a replica that has nothing on disk yet. It is for
// staging how the replica begins; Open it once that is committed.
func Empty(prefix keys.Key) *Log {
	return &Log{prefix: prefix, hard: &pb.HardState{}, conf: &pb.ConfState{}}
}

func (l *Log) key(suffix string) keys.Key {
	return append(append(make(keys.Key, 0, len(l.prefix)+12), l.prefix...), suffix...)
}

func (l *Log) entryKey(index uint64) keys.Key {
	return binary.BigEndian.AppendUint64(l.key(suffixEntry), index)
}

func (l *Log) decode(k keys.Key, v []byte) (*pb.Entry, error) {
	e := &pb.Entry{}
	if err := proto.Unmarshal(v, e); err != nil {
		return nil, l.corrupt("entry: %v", err)
	}
	if at := binary.BigEndian.Uint64(k[len(k)-8:]); e.GetIndex() != at {
		return nil, l.corrupt("entry %d stands at %d", e.GetIndex(), at)
	}
	return e, nil
}

func (l *Log) corrupt(format string, args ...any) error {
	return storage.Mark(fmt.Errorf("raft log %x: "+format, append([]any{[]byte(l.prefix)}, args...)...), storage.ErrCorrupt)
}

// Stage adds to b what makes hard and ents durable. Entries that are there with
// the same or a higher index are replaced: they were never committed. The
// function that it returns must be called once b is committed, and not if it was
// not.
func (l *Log) Stage(b *storage.Batch, hard *pb.HardState, ents []*pb.Entry) (committed func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.last
	if len(ents) > 0 {
		first := ents[0].GetIndex()
		if first <= l.truncated.index || first > l.last.index+1 {
			return nil, fmt.Errorf("raft log (%d, %d] cannot take entry %d", l.truncated.index, l.last.index, first)
		}
		for i, e := range ents {
			if e.GetIndex() != first+uint64(i) {
				return nil, fmt.Errorf("raft log is given entry %d where %d is expected", e.GetIndex(), first+uint64(i))
			}
			v, err := proto.Marshal(e)
			if err != nil {
				return nil, err
			}
			if err := b.Put(l.entryKey(e.GetIndex()), v); err != nil {
				return nil, err
			}
			last = position{e.GetIndex(), e.GetTerm()}
		}
		for i := last.index + 1; i <= l.last.index; i++ {
			if err := b.Clear(l.entryKey(i)); err != nil {
				return nil, err
			}
		}
	}
	if !raft.IsEmptyHardState(hard) {
		v, err := proto.Marshal(hard)
		if err != nil {
			return nil, err
		}
		if err := b.Put(l.key(suffixHardState), v); err != nil {
			return nil, err
		}
		hard = proto.CloneOf(hard)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(ents) > 0 {
			l.last = last
			l.cache.replace(ents)
		}
		if !raft.IsEmptyHardState(hard) {
			l.hard = hard
		}
	}, nil
}

// Truncate adds to b what removes the entries up to index. They must be applied,
// and what they made must be durable with b at the latest.
func (l *Log) Truncate(b *storage.Batch, index uint64) (committed func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if index <= l.truncated.index {
		return func() {}, nil
	}
	if index > l.last.index {
		return nil, fmt.Errorf("raft log that ends at %d cannot be truncated to %d", l.last.index, index)
	}
	term, err := l.termLocked(index)
	if err != nil {
		return nil, err
	}
	for i := l.truncated.index + 1; i <= index; i++ {
		if err := b.Clear(l.entryKey(i)); err != nil {
			return nil, err
		}
	}
	return l.moveTruncated(b, position{index, term}, false)
}

// Reset adds to b what makes the log empty and begin after index: a snapshot of
// the state at index takes its place. Entries cannot be staged in the same batch.
func (l *Log) Reset(b *storage.Batch, index, term uint64) (committed func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := l.truncated.index + 1; i <= l.last.index; i++ {
		if err := b.Clear(l.entryKey(i)); err != nil {
			return nil, err
		}
	}
	return l.moveTruncated(b, position{index, term}, true)
}

func (l *Log) moveTruncated(b *storage.Batch, to position, empty bool) (committed func(), err error) {
	v := binary.BigEndian.AppendUint64(nil, to.index)
	v = binary.BigEndian.AppendUint64(v, to.term)
	if err := b.Put(l.key(suffixTruncated), v); err != nil {
		return nil, err
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.truncated = to
		if empty {
			l.last = to
			l.cache.clear()
		}
		l.cache.truncate(to.index)
	}, nil
}

// SetConf notes the group's configuration, which the applied state has.
func (l *Log) SetConf(c *pb.ConfState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conf = proto.CloneOf(c)
}

// InitialState implements raft.Storage.
func (l *Log) InitialState() (*pb.HardState, *pb.ConfState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return proto.CloneOf(l.hard), proto.CloneOf(l.conf), nil
}

// FirstIndex implements raft.Storage.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.truncated.index + 1, nil
}

// LastIndex implements raft.Storage.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.index, nil
}

// Term implements raft.Storage.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.termLocked(i)
}

func (l *Log) termLocked(i uint64) (uint64, error) {
	switch {
	case i < l.truncated.index:
		return 0, raft.ErrCompacted
	case i == l.truncated.index:
		return l.truncated.term, nil
	case i == l.last.index:
		return l.last.term, nil
	case i > l.last.index:
		return 0, raft.ErrUnavailable
	}
	if e := l.cache.from(i, i+1); e != nil {
		return e[0].GetTerm(), nil
	}
	e, err := l.read(i)
	if err != nil {
		return 0, err
	}
	return e.GetTerm(), nil
}

func (l *Log) read(i uint64) (*pb.Entry, error) {
	k := l.entryKey(i)
	v, ok, err := l.eng.Get(k)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, l.corrupt("entry %d is missing", i)
	}
	return l.decode(k, v)
}

// Entries implements raft.Storage.
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case lo <= l.truncated.index:
		return nil, raft.ErrCompacted
	case hi > l.last.index+1:
		return nil, raft.ErrUnavailable
	}
	var out []*pb.Entry
	var size uint64
	for i := lo; i < hi; {
		batch := l.cache.from(i, hi)
		if batch == nil {
			e, err := l.read(i)
			if err != nil {
				return nil, err
			}
			batch = []*pb.Entry{e}
		}
		for _, e := range batch {
			size += uint64(entryBytes(e))
			if size > maxSize && len(out) > 0 {
				return out, nil
			}
			out = append(out, e)
			i++
		}
	}
	return out, nil
}

// Snapshot implements raft.Storage. A log has no snapshots; the replica that owns
// the applied state makes and streams them.
func (l *Log) Snapshot() (*pb.Snapshot, error) { return nil, raft.ErrSnapshotTemporarilyUnavailable }

// ReadHardState returns the hard state of a log, nil if there is none.
func ReadHardState(r storage.Reader, prefix keys.Key) (*pb.HardState, error) {
	v, ok, err := r.Get(Empty(prefix).key(suffixHardState))
	if err != nil || !ok {
		return nil, err
	}
	h := &pb.HardState{}
	if err := proto.Unmarshal(v, h); err != nil {
		return nil, Empty(prefix).corrupt("hard state: %v", err)
	}
	return h, nil
}

// KeepVote raises the hard state that b holds to the term and vote of old.
func KeepVote(b *storage.Batch, prefix keys.Key, old *pb.HardState) error {
	now, err := ReadHardState(b, prefix)
	if err != nil {
		return err
	}
	if now == nil || old.GetTerm() < now.GetTerm() {
		return nil
	}
	now.Term, now.Vote = proto.Uint64(old.GetTerm()), proto.Uint64(old.GetVote())
	v, err := proto.Marshal(now)
	if err != nil {
		return err
	}
	return b.Put(Empty(prefix).key(suffixHardState), v)
}
