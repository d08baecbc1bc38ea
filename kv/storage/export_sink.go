package storage

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// exportSink takes the versions that an export finds: it counts and hashes them,
// writes them to the file, and lets the look back see their keys.
//
// An incremental export does all that beside its iterator: what changed is often
// in one corner of one table, where only one worker finds something to do, while
// finding, writing and looking back cost about the same. A full export has work
// for all workers, so it is spared the copy in between.
type exportSink struct {
	sum         *Summarizer
	out         io.Writer // nil: only count
	compression Compression
	w           *SSTWriter // nil until there is something to write
	past        *lookBack  // nil: not asked for
	scratch     []byte

	beside     bool
	chunkBytes int // versions are passed on in such chunks
	cur        *versionChunk
	stages     []*chunkStage // none before the first full chunk
}

const (
	sinkChunkBytes = 64 << 10
	// sinkChunks bounds how far the iterator may be ahead.
	sinkChunks = 8
)

// versionChunk holds versions one after the other: engine key, value.
type versionChunk struct {
	buf   []byte
	vers  []chunkVersion
	users atomic.Int32 // stages that have not finished with it
}

type chunkVersion struct {
	end       int // of the value in buf
	engineKey int // length
	key       int // length, without sentinel and version
	ts        hlc.Timestamp
	newest    bool // of its key within the export's time
	appeared  bool // it is in the view at the end
}

// chunkPool keeps chunks for the next export.
var chunkPool = sync.Pool{New: func() any {
	return &versionChunk{buf: make([]byte, 0, 2*sinkChunkBytes), vers: make([]chunkVersion, 0, sinkChunkBytes/64)}
}}

// release says that one user has finished with c.
func (c *versionChunk) release() {
	if c.users.Add(-1) == 0 {
		c.buf, c.vers = c.buf[:0], c.vers[:0]
		chunkPool.Put(c)
	}
}

// add takes a version and copies what it keeps. value is the simple value with its
// checksum still in it. newest says that the version is the newest of key within
// the export's time, appeared that key has this value in the view at the end; both
// are false where no view is wanted.
func (s *exportSink) add(key keys.Key, engineKey, value []byte, ts hlc.Timestamp, newest, appeared bool) error {
	if !s.beside || len(value) > s.chunkBytes {
		// In the order of keys; and large values are not held many at a time.
		if err := s.drain(); err != nil {
			return err
		}
		s.scratch = append(s.scratch[:0], value...)
		if err := s.put(key, engineKey, s.scratch, ts, appeared); err != nil || !newest || s.past == nil {
			return err
		}
		return s.past.key(key, engineKey)
	}
	if s.cur == nil {
		s.cur = chunkPool.Get().(*versionChunk)
	}
	c := s.cur
	c.buf = append(append(c.buf, engineKey...), value...)
	c.vers = append(c.vers, chunkVersion{end: len(c.buf), engineKey: len(engineKey), key: len(key), ts: ts, newest: newest, appeared: appeared})
	if len(c.buf) < s.chunkBytes {
		return nil
	}
	return s.pass()
}

// put counts and writes a version whose value is ours to change.
func (s *exportSink) put(key keys.Key, engineKey, value []byte, ts hlc.Timestamp, appeared bool) error {
	if len(value) > 0 {
		clear(value[:valueChecksumLen])
	}
	s.sum.Add(key, value, ts)
	if appeared {
		s.sum.appeared()
	}
	if s.out == nil {
		return nil
	}
	return s.writer().putRaw(engineKey, value)
}

func (s *exportSink) putAll(c *versionChunk) error {
	from := 0
	for _, v := range c.vers {
		ek := c.buf[from : from+v.engineKey]
		if err := s.put(keys.Key(ek[:v.key:v.key]), ek, c.buf[from+v.engineKey:v.end], v.ts, v.appeared); err != nil {
			return err
		}
		from = v.end
	}
	return nil
}

// writer opens the output at the first thing to be written.
func (s *exportSink) writer() *SSTWriter {
	if s.w == nil {
		s.w = NewSSTWriter(s.out, s.compression)
	}
	return s.w
}

// chunkStage is a goroutine that works on chunks in their order.
type chunkStage struct {
	in   chan *versionChunk
	done chan struct{} // closed when the goroutine has ended
	err  error         // of its work; read after done
}

func startStage(work func(*versionChunk) error) *chunkStage {
	st := &chunkStage{in: make(chan *versionChunk, sinkChunks), done: make(chan struct{})}
	go func() { // stop waits for it.
		defer close(st.done)
		for c := range st.in {
			if st.err = work(c); st.err != nil {
				return
			}
			c.release()
		}
	}()
	return st
}

// pass gives the current chunk to the stages.
func (s *exportSink) pass() error {
	if s.stages == nil {
		s.stages = append(s.stages, startStage(s.putAll))
		if s.past != nil {
			s.stages = append(s.stages, startStage(s.past.keys))
		}
	}
	c := s.cur
	s.cur = nil
	c.users.Store(int32(len(s.stages)))
	for _, st := range s.stages {
		select {
		case st.in <- c:
		case <-st.done: // Before its time: it failed.
			return st.err
		}
	}
	return nil
}

// stop waits until the stages, if there are any, have done what they got.
func (s *exportSink) stop() (err error) {
	for _, st := range s.stages {
		close(st.in)
	}
	for _, st := range s.stages {
		if <-st.done; err == nil {
			err = st.err
		}
	}
	s.stages = nil
	return err
}

// drain returns when everything added is written and looked up.
func (s *exportSink) drain() error {
	if err := s.stop(); err != nil || s.cur == nil {
		return err
	}
	c := s.cur
	s.cur = nil
	c.users.Store(1)
	defer c.release()
	if err := s.putAll(c); err != nil || s.past == nil {
		return err
	}
	return s.past.keys(c)
}

// summary returns what was counted, after drain.
func (s *exportSink) summary() ExportSummary {
	sum := s.sum.Summary()
	if s.past != nil {
		for id, ix := range s.past.sum.Summary().Indexes {
			sum.Indexes[id].Add(ix) // Each key that was looked up is of a version that was counted.
		}
	}
	return sum
}

// finish completes the file, if there is one, and returns its size.
func (s *exportSink) finish() (int64, error) {
	if s.w == nil {
		return 0, nil
	}
	w := s.w
	s.w = nil
	return w.Finish()
}

// abort gives up whatever is under way.
func (s *exportSink) abort() {
	_ = s.stop() // The export has failed already, or there is nothing to stop.
	if s.w != nil {
		s.w.Abort()
		s.w = nil
	}
}
