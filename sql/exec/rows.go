package exec

import (
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// arena cuts rows from larger slices to save allocations.
type arena struct{ free tree.Datums }

const arenaDatums = 512

func (a *arena) copy(row tree.Datums) tree.Datums {
	n := len(row)
	if n == 0 {
		return tree.Datums{}
	}
	if len(a.free) < n {
		a.free = make(tree.Datums, max(arenaDatums, n))
	}
	out := a.free[:n:n]
	a.free = a.free[n:]
	copy(out, row)
	return out
}

// rowBuffer keeps rows in memory up to the budget and the rest in a file.
type rowBuffer struct {
	flow  *Flow
	acc   account
	mem   []tree.Datums
	arena arena
	file  *rowFile
}

func newRowBuffer(f *Flow) *rowBuffer { return &rowBuffer{flow: f, acc: account{b: f.Mem}} }

// add keeps a copy of row.
func (b *rowBuffer) add(row tree.Datums) error {
	if b.file == nil {
		n := rowSize(row)
		if err := checkRowSize(n); err != nil {
			return err
		}
		if b.acc.tryGrow(n) {
			b.mem = append(b.mem, b.arena.copy(row))
			return nil
		}
		var err error
		if b.file, err = b.flow.newRowFile(); err != nil {
			return err
		}
	}
	return b.file.append(row)
}

func (b *rowBuffer) len() int64 {
	n := int64(len(b.mem))
	if b.file != nil {
		n += b.file.rows
	}
	return n
}

// rowIter walks over a rowBuffer from the start.
type rowIter struct {
	buf  *rowBuffer
	next int
	file *rowFileReader
}

func (b *rowBuffer) iter() *rowIter { return &rowIter{buf: b} }

func (it *rowIter) row() (tree.Datums, error) {
	if it.next < len(it.buf.mem) {
		it.next++
		return it.buf.mem[it.next-1], nil
	}
	if it.buf.file == nil {
		return nil, nil
	}
	if it.file == nil {
		var err error
		if it.file, err = it.buf.file.reader(); err != nil {
			return nil, err
		}
	}
	return it.file.next()
}

// clear drops all rows.
func (b *rowBuffer) clear() {
	b.mem, b.arena = nil, arena{}
	b.acc.clear()
	b.file.close()
	b.file = nil
}
