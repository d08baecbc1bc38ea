package exec

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// fileBufBytes is the buffer of an open spill file. It is not charged to the
// budget: without it an operator at its limit could not go on.
const fileBufBytes = 32 << 10

// rowFile is a temporary file of rows: written, then read, any number of times.
// The file has no name: it goes away with the process.
type rowFile struct {
	f     *os.File
	codec codec
	w     *bufio.Writer
	buf   []byte
	rows  int64
	bytes int64
}

func (f *Flow) newRowFile() (*rowFile, error) {
	file, err := os.CreateTemp(f.TempDir, "holdfast-spill-*")
	if err != nil {
		return nil, spillError(err)
	}
	// Unlinked at once: a crash leaves nothing behind.
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, spillError(err)
	}
	return &rowFile{f: file, w: bufio.NewWriterSize(file, fileBufBytes)}, nil
}

func spillError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return pgerr.Newf(pgerr.DiskFull, "could not write to temporary file: %w", err).
			WithHint("Free space in the store's temporary directory, or raise --max-sql-memory.")
	}
	return pgerr.Newf(pgerr.IOError, "spilling rows to disk: %w", err)
}

func (rf *rowFile) append(row tree.Datums) error {
	var err error
	if rf.buf, err = rf.codec.encodeRow(rf.buf[:0], row); err != nil {
		return fmt.Errorf("spilling a row: %w", err)
	}
	var head [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(head[:], uint64(len(rf.buf)))
	if _, err := rf.w.Write(head[:n]); err != nil {
		return spillError(err)
	}
	if _, err := rf.w.Write(rf.buf); err != nil {
		return spillError(err)
	}
	rf.rows++
	rf.bytes += int64(n + len(rf.buf))
	return nil
}

// reader returns an iterator over all rows written so far. More rows may be
// appended while it is in use; it does not see them.
func (rf *rowFile) reader() (*rowFileReader, error) {
	if err := rf.w.Flush(); err != nil {
		return nil, spillError(err)
	}
	return &rowFileReader{
		file: rf,
		left: rf.rows,
		r:    bufio.NewReaderSize(io.NewSectionReader(rf.f, 0, rf.bytes), fileBufBytes),
	}, nil
}

func (rf *rowFile) close() {
	if rf != nil && rf.f != nil {
		rf.f.Close()
		rf.f = nil
	}
}

type rowFileReader struct {
	file *rowFile
	left int64
	r    *bufio.Reader
	buf  []byte
	row  tree.Datums
}

// next returns the next row, valid until the call after, or nil at the end.
func (r *rowFileReader) next() (tree.Datums, error) {
	if r.left == 0 {
		return nil, nil
	}
	r.left--
	n, err := binary.ReadUvarint(r.r)
	if err != nil {
		return nil, spillError(err)
	}
	if uint64(cap(r.buf)) < n {
		r.buf = make([]byte, n+n/2)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return nil, spillError(err)
	}
	dec := reader{b: r.buf}
	r.row = r.file.codec.decodeRow(&dec, r.row)
	if dec.err != nil {
		return nil, spillError(dec.err)
	}
	if r.row == nil {
		r.row = tree.Datums{} // A row of no columns is not the end.
	}
	return r.row, nil
}
