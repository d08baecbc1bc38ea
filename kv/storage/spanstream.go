package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/golang/snappy"
	"github.com/zeebo/xxh3"

	"github.com/holdfastdb/holdfast/internal/keys"
)

// A stream carries the content of a SpanSet to another store: a mark with the
// version of the format, then frames. The first frame names the SpanSet, the
// following ones cut the sequence of entries (see spanContent) anywhere, the last
// one has counts and checksum of them all. docs/format/ranges.md has the bytes.
const (
	spanStreamMark    = "hfspans"
	spanStreamVersion = 1

	frameSpans   = 1
	frameContent = 2
	frameEnd     = 3

	frameHeaderBytes = 14 // kind, codec, raw length, length, CRC
	codecNone        = 0
	codecSnappy      = 1

	// spanChunkBytes is how much content a frame has; maxFrameBytes is what a
	// reader accepts.
	spanChunkBytes = 256 << 10
	maxFrameBytes  = 1 << 20
	// maxEntryPartBytes bounds a key or a value. Memory for it is taken as it
	// comes in.
	maxEntryPartBytes = 1 << 30
)

// WriteTo streams the content to w. It may be called again.
func (s *SpansSnapshot) WriteTo(w io.Writer) (int64, error) {
	fw := &frameWriter{w: w}
	err := s.stream(fw)
	if err != nil {
		err = fmt.Errorf("streaming the range at %s: %w", keys.Pretty(s.set.User.Key), err)
	}
	return fw.n, err
}

func (s *SpansSnapshot) stream(fw *frameWriter) error {
	if err := fw.raw(append([]byte(spanStreamMark), spanStreamVersion)); err != nil {
		return err
	}
	if err := fw.frame(frameSpans, s.set.append(nil)); err != nil {
		return err
	}
	c := newSpanContent(fw)
	if err := s.visit(context.Background(), c); err != nil { // Ended by w.
		return err
	}
	if err := fw.flush(); err != nil {
		return err
	}
	return fw.frame(frameEnd, spanEnd{counts: c.counts, checksum: c.checksum()}.append(nil))
}

// append encodes the spans for the head of a stream.
func (s SpanSet) append(dst []byte) []byte {
	dst = appendBytes(appendBytes(dst, s.User.Key), s.User.EndKey)
	dst = binary.AppendUvarint(dst, uint64(len(s.Local)))
	for _, l := range s.Local {
		dst = appendBytes(appendBytes(dst, l.Key), l.EndKey)
	}
	return dst
}

func decodeSpanSet(b []byte) (SpanSet, error) {
	d := recordDecoder{b: b}
	s := SpanSet{User: keys.Span{Key: d.bytes(), EndKey: d.bytes()}}
	n := d.uvarint()
	if n > maxLocalSpans || n > uint64(len(d.b)) {
		d.bad = true
	}
	for range n {
		if d.bad {
			break
		}
		s.Local = append(s.Local, keys.Span{Key: d.bytes(), EndKey: d.bytes()})
	}
	if d.bad || len(d.b) != 0 {
		return SpanSet{}, corruptionf("malformed spans in the head of the stream")
	}
	return s, nil
}

// spanEnd is the last frame.
type spanEnd struct {
	counts   SpanCounts
	checksum [16]byte
}

func (t spanEnd) append(dst []byte) []byte {
	for _, n := range []int64{t.counts.Points, t.counts.Locks, t.counts.RangeKeys, t.counts.Bytes} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return append(dst, t.checksum[:]...)
}

func decodeSpanEnd(b []byte) (spanEnd, error) {
	d := recordDecoder{b: b}
	t := spanEnd{counts: SpanCounts{Points: int64(d.uvarint()), Locks: int64(d.uvarint()), RangeKeys: int64(d.uvarint()), Bytes: int64(d.uvarint())}}
	if d.bad || len(d.b) != len(t.checksum) {
		return spanEnd{}, corruptionf("malformed end of the stream")
	}
	copy(t.checksum[:], d.b)
	return t, nil
}

// frameWriter collects content and writes frames.
type frameWriter struct {
	w    io.Writer
	n    int64
	buf  []byte // content not yet written
	comp []byte
}

func (f *frameWriter) raw(p []byte) error {
	n, err := f.w.Write(p)
	f.n += int64(n)
	return err
}

// Write adds content.
func (f *frameWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if f.buf == nil {
			f.buf = make([]byte, 0, spanChunkBytes)
		}
		n := min(len(p)-done, spanChunkBytes-len(f.buf))
		f.buf = append(f.buf, p[done:done+n]...)
		done += n
		if len(f.buf) == spanChunkBytes {
			if err := f.flush(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

func (f *frameWriter) flush() error {
	if len(f.buf) == 0 {
		return nil
	}
	b := f.buf
	f.buf = f.buf[:0]
	return f.frame(frameContent, b)
}

func (f *frameWriter) frame(kind byte, b []byte) error {
	if len(b) > maxFrameBytes {
		return fmt.Errorf("frame of %d bytes", len(b))
	}
	var h [frameHeaderBytes]byte
	h[0], h[1] = kind, codecNone
	binary.BigEndian.PutUint32(h[2:], uint32(len(b)))
	if kind == frameContent {
		if f.comp == nil {
			f.comp = make([]byte, snappy.MaxEncodedLen(spanChunkBytes))
		}
		if c := snappy.Encode(f.comp, b); len(c) < len(b)-len(b)/8 {
			h[1], b = codecSnappy, c
		}
	}
	binary.BigEndian.PutUint32(h[6:], uint32(len(b)))
	binary.BigEndian.PutUint32(h[10:], frameCRC(h[:10], b))
	if err := f.raw(h[:]); err != nil {
		return err
	}
	return f.raw(b)
}

func frameCRC(header, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, payload)
}

// frameReader reads frames, and content across them.
type frameReader struct {
	ctx     context.Context
	r       io.Reader
	payload []byte
	plain   []byte
	content []byte // not yet taken
	hash    *xxh3.Hasher
	end     spanEnd
	ended   bool
}

// next returns the next frame; its bytes are valid until the following call.
func (f *frameReader) next() (kind byte, b []byte, err error) {
	if err := f.ctx.Err(); err != nil {
		return 0, nil, err
	}
	var h [frameHeaderBytes]byte
	if err := f.full(h[:]); err != nil {
		return 0, nil, err
	}
	rawLen, n := binary.BigEndian.Uint32(h[2:]), binary.BigEndian.Uint32(h[6:])
	if rawLen > maxFrameBytes || n > maxFrameBytes {
		return 0, nil, corruptionf("frame of %d bytes, %d uncompressed", n, rawLen)
	}
	f.payload = sized(f.payload, int(n))
	if err := f.full(f.payload); err != nil {
		return 0, nil, err
	}
	if frameCRC(h[:10], f.payload) != binary.BigEndian.Uint32(h[10:]) {
		return 0, nil, corruptionf("checksum mismatch in a frame of %d bytes", n)
	}
	switch h[1] {
	case codecNone:
		b = f.payload
	case codecSnappy:
		if l, err := snappy.DecodedLen(f.payload); err != nil || l != int(rawLen) {
			return 0, nil, corruptionf("frame of %d bytes does not say %d uncompressed: %v", n, rawLen, err)
		}
		f.plain = sized(f.plain, int(rawLen))
		if b, err = snappy.Decode(f.plain, f.payload); err != nil {
			return 0, nil, corruptionf("frame of %d bytes: %v", n, err)
		}
	default:
		return 0, nil, corruptionf("frame with unknown compression %d", h[1])
	}
	if len(b) != int(rawLen) {
		return 0, nil, corruptionf("frame has %d bytes, not %d", len(b), rawLen)
	}
	return h[0], b, nil
}

func (f *frameReader) full(p []byte) error {
	if _, err := io.ReadFull(f.r, p); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // A whole stream says where it ends.
		}
		return fmt.Errorf("the stream breaks off: %w", err)
	}
	return nil
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// head reads up to the first content.
func (f *frameReader) head() (SpanSet, error) {
	var mark [len(spanStreamMark) + 1]byte
	if err := f.full(mark[:]); err != nil {
		return SpanSet{}, err
	}
	if string(mark[:len(spanStreamMark)]) != spanStreamMark {
		return SpanSet{}, corruptionf("this is no stream of a range: it begins with %x", mark)
	}
	if v := mark[len(spanStreamMark)]; v != spanStreamVersion {
		return SpanSet{}, fmt.Errorf("the stream has format version %d, this binary reads version %d", v, spanStreamVersion)
	}
	kind, b, err := f.next()
	if err != nil {
		return SpanSet{}, err
	}
	if kind != frameSpans {
		return SpanSet{}, corruptionf("the stream begins with a frame of kind %d", kind)
	}
	s, err := decodeSpanSet(append([]byte(nil), b...))
	f.hash = xxh3.New()
	return s, err
}

// fill makes sure that there is content; io.EOF after the last.
func (f *frameReader) fill() error {
	for len(f.content) == 0 {
		if f.ended {
			return io.EOF
		}
		kind, b, err := f.next()
		if err != nil {
			return err
		}
		switch kind {
		case frameContent:
			_, _ = f.hash.Write(b)
			f.content = b
		case frameEnd:
			if f.end, err = decodeSpanEnd(b); err != nil {
				return err
			}
			f.ended = true
		default:
			return corruptionf("frame of unknown kind %d", kind)
		}
	}
	return nil
}

// ReadByte implements io.ByteReader on the content.
func (f *frameReader) ReadByte() (byte, error) {
	if err := f.fill(); err != nil {
		return 0, err
	}
	c := f.content[0]
	f.content = f.content[1:]
	return c, nil
}

// part reads a byte string of an entry into buf.
func (f *frameReader) part(buf []byte) ([]byte, error) {
	n, err := binary.ReadUvarint(f)
	if err != nil {
		return nil, f.inEntry(err)
	}
	if n > maxEntryPartBytes {
		return nil, corruptionf("entry with a part of %d bytes", n)
	}
	buf = buf[:0]
	for left := int(n); left > 0; {
		if err := f.fill(); err != nil {
			return nil, f.inEntry(err)
		}
		k := min(left, len(f.content))
		buf = append(buf, f.content[:k]...)
		f.content, left = f.content[k:], left-k
	}
	return buf, nil
}

// inEntry says of the end of the content that it comes too early.
func (f *frameReader) inEntry(err error) error {
	if f.ended && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return corruptionf("the content ends within an entry")
	}
	return err
}

// spanSink takes what a stream holds, in order and checked. Slices are valid
// during the call.
type spanSink interface {
	// begin comes first.
	begin(set SpanSet, spans []engineSpan) error
	// point and rangeKey say in which of the spans they are; the fragments of
	// range keys do not overlap, and each comes before the points it covers.
	point(span int, key, value []byte) error
	rangeKey(span int, start, end, suffix, value []byte) error
}

// readSpanStream reads a whole stream and checks it. Only when it returns nil
// may the sink trust what it got.
func readSpanStream(ctx context.Context, r io.Reader, sink spanSink) (spanEnd, error) {
	f := &frameReader{ctx: ctx, r: r}
	set, err := f.head()
	if err != nil {
		return spanEnd{}, err
	}
	spans, err := set.engineSpans()
	if err != nil {
		return spanEnd{}, corruptionf("head of the stream: %w", err)
	}
	if err := sink.begin(set, spans); err != nil {
		return spanEnd{}, err
	}
	d := spanDecoder{f: f, spans: spans, sink: sink}
	for {
		kind, err := f.ReadByte()
		if errors.Is(err, io.EOF) && f.ended {
			break
		}
		if err != nil {
			return spanEnd{}, err
		}
		switch kind {
		case entryPoint:
			err = d.point()
		case entryRangeKey:
			err = d.rangeKey()
		default:
			err = corruptionf("entry of unknown kind %d", kind)
		}
		if err != nil {
			return spanEnd{}, err
		}
	}
	if got := (spanEnd{counts: d.counts, checksum: f.hash.Sum128().Bytes()}); got != f.end {
		return spanEnd{}, corruptionf("the stream held %+v with checksum %x, its end says %+v with %x",
			got.counts, got.checksum, f.end.counts, f.end.checksum)
	}
	return f.end, nil
}

// spanDecoder checks the order of entries.
type spanDecoder struct {
	f      *frameReader
	spans  []engineSpan
	sink   spanSink
	counts SpanCounts

	span       int
	last       []byte // the point before, empty if there is none in the span
	start, end []byte // the range key before
	suffix     []byte
	key, value []byte
	from, to   []byte
	suf        []byte
}

// enter moves on to the span of an engine key.
func (d *spanDecoder) enter(key []byte) error {
	if _, _, err := splitEngineKey(key); err != nil {
		return err
	}
	for ; d.span < len(d.spans); d.span++ {
		if compareEngineKeys(key, d.spans[d.span].end) < 0 {
			break
		}
		d.last, d.start, d.end, d.suffix = d.last[:0], d.start[:0], d.end[:0], d.suffix[:0]
	}
	if d.span == len(d.spans) || !d.spans[d.span].contains(key) {
		return corruptionf("engine key %x is in none of the spans to come", key)
	}
	return nil
}

func (d *spanDecoder) point() (err error) {
	if d.key, err = d.f.part(d.key); err != nil {
		return err
	}
	if d.value, err = d.f.part(d.value); err != nil {
		return err
	}
	if err := d.enter(d.key); err != nil {
		return err
	}
	s := &d.spans[d.span]
	_, suffix, err := splitEngineKey(d.key)
	if err != nil {
		return err
	}
	if s.locks {
		_, _, _, err = decodeLockKey(d.key)
	} else {
		_, err = decodeTimestampSuffix(suffix)
	}
	switch {
	case err != nil:
		return corruptionf("engine key %x: %v", d.key, err)
	case s.single && len(suffix) > 0:
		return corruptionf("engine key %x has a version", d.key)
	case len(d.last) > 0 && compareEngineKeys(d.last, d.key) >= 0:
		return corruptionf("engine key %x follows %x", d.key, d.last)
	case len(d.start) > 0 && compareEngineKeys(d.key, d.start) < 0:
		return corruptionf("engine key %x follows a range key from %x", d.key, d.start)
	}
	d.counts.addPoint(d.key, d.value, s.locks)
	d.last = append(d.last[:0], d.key...)
	return d.sink.point(d.span, d.key, d.value)
}

func (d *spanDecoder) rangeKey() (err error) {
	for _, p := range []*[]byte{&d.from, &d.to, &d.suf, &d.value} {
		if *p, err = d.f.part(*p); err != nil {
			return err
		}
	}
	if err := d.enter(d.from); err != nil {
		return err
	}
	s := &d.spans[d.span]
	_, v1, err := splitEngineKey(d.from)
	if err != nil {
		return err
	}
	_, v2, err := splitEngineKey(d.to)
	if err != nil {
		return err
	}
	if _, err := decodeTimestampSuffix(d.suf); err != nil || len(d.suf) == 0 {
		return corruptionf("range key with suffix %x", d.suf)
	}
	if !s.ranged() || len(v1)+len(v2) > 0 || compareEngineKeys(d.from, d.to) >= 0 || compareEngineKeys(d.to, s.end) > 0 {
		return corruptionf("range key over [%x, %x)", d.from, d.to)
	}
	again := len(d.start) > 0 && compareEngineKeys(d.start, d.from) == 0 && compareEngineKeys(d.end, d.to) == 0
	switch {
	case len(d.last) > 0 && compareEngineKeys(d.last, d.from) >= 0:
		return corruptionf("range key from %x follows %x", d.from, d.last)
	case again && cockroachkvs.CompareRangeSuffixes(d.suffix, d.suf) >= 0:
		return corruptionf("range key from %x with suffix %x follows %x", d.from, d.suf, d.suffix)
	case !again && len(d.start) > 0 && compareEngineKeys(d.end, d.from) > 0:
		return corruptionf("range key from %x follows one to %x", d.from, d.end)
	}
	d.counts.addRangeKey(d.from, d.to, d.suf, d.value)
	d.start, d.end = append(d.start[:0], d.from...), append(d.end[:0], d.to...)
	d.suffix = append(d.suffix[:0], d.suf...)
	return d.sink.rangeKey(d.span, d.from, d.to, d.suf, d.value)
}
