package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// idleReadBufferBytes is what a connection keeps while nothing is going on.
const idleReadBufferBytes = 8 << 10

// errTooLarge reports a message beyond the limit. The header has been read, the
// body has not; discard skips it.
var errTooLarge = errors.New("message too large")

// reader buffers what arrives from a client. It is the ChunkReader below
// pgproto3, which asks for a header of five bytes and then for the body. Unlike
// pgproto3's own, it reuses its memory: what Next returns is valid until the next
// call.
type reader struct {
	r        io.Reader
	buf      []byte
	pos, end int // unread bytes are buf[pos:end]
	maxBytes int
	bodyLen  int  // announced by the last header that Next(5) returned
	msgType  byte // likewise
	err      error
}

func newReader(r io.Reader, maxMessageBytes int) *reader {
	return &reader{r: r, buf: make([]byte, idleReadBufferBytes), maxBytes: maxMessageBytes}
}

// Next returns the next n bytes. After an error of the connection it can be called
// again for the same bytes: none are lost.
//
// err holds the result: pgproto3 wraps it, and mixes it with errors of its own.
func (r *reader) Next(n int) ([]byte, error) {
	r.err = nil
	if r.end-r.pos < n {
		if n > r.maxBytes {
			r.err = errTooLarge
			return nil, r.err
		}
		if r.err = r.fill(n); r.err != nil {
			return nil, r.err
		}
	}
	b := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	if n == 5 {
		r.msgType, r.bodyLen = b[0], int(int32(binary.BigEndian.Uint32(b[1:])))-4
	}
	return b, nil
}

// shrinkBytes is the buffer size above which memory is returned after use.
const shrinkBytes = 256 << 10

// fill makes at least n unread bytes available.
func (r *reader) fill(n int) error {
	have := r.end - r.pos
	if len(r.buf) > shrinkBytes && max(n, have) <= idleReadBufferBytes {
		small := make([]byte, idleReadBufferBytes)
		copy(small, r.buf[r.pos:r.end])
		r.buf, r.pos, r.end = small, 0, have
	} else if len(r.buf)-r.pos < n || have == 0 {
		copy(r.buf, r.buf[r.pos:r.end])
		r.pos, r.end = 0, have
	}
	for len(r.buf) < n {
		// A header may announce more than will come: grow with what does come.
		if err := r.readAtLeast(len(r.buf)); err != nil {
			return err
		}
		grown := make([]byte, min(2*len(r.buf), n))
		copy(grown, r.buf)
		r.buf = grown
	}
	return r.readAtLeast(n)
}

func (r *reader) readAtLeast(n int) error {
	for r.end-r.pos < n {
		got, err := r.r.Read(r.buf[r.end:])
		r.end += got
		if err != nil && r.end-r.pos < n {
			if err == io.EOF && r.end > r.pos {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// discard skips n bytes without keeping them.
func (r *reader) discard(n int) error {
	for n > 0 {
		if r.pos == r.end {
			r.pos, r.end = 0, 0
			if err := r.readAtLeast(1); err != nil {
				return fmt.Errorf("skipping a message: %w", err)
			}
		}
		k := min(n, r.end-r.pos)
		r.pos += k
		n -= k
	}
	return nil
}

// syncNext reports that a Sync message is next, as far as bytes have arrived.
func (r *reader) syncNext() bool {
	b := r.buf[r.pos:r.end]
	return len(b) >= 5 && b[0] == 'S' && b[1] == 0 && b[2] == 0 && b[3] == 0 && b[4] == 4
}

// buffered reports that bytes have arrived which nobody has read yet.
func (r *reader) buffered() bool { return r.end > r.pos }
