package exec

import (
	"sync/atomic"
	"unsafe"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Pool is the memory that all statements of a node share (--max-sql-memory). A
// nil Pool has no limit.
type Pool struct {
	limit int64
	used  atomic.Int64
}

// NewPool returns a pool of limitBytes; zero or less means no limit.
func NewPool(limitBytes int64) *Pool { return &Pool{limit: limitBytes} }

// Used returns the bytes now reserved by all budgets.
func (p *Pool) Used() int64 { return p.used.Load() }

func (p *Pool) reserve(n int64) bool {
	if p.used.Add(n) > p.limit && p.limit > 0 {
		p.used.Add(-n)
		return false
	}
	return true
}

// poolChunk is how much a budget takes from the pool at once: statements must
// not meet on the pool's counter for each row.
const poolChunk = 64 << 10

// Budget is the memory of one statement. It is used by one goroutine at a time.
// A nil Budget has no limit.
//
// Invariant: used <= reserved, and reserved is counted in the pool.
type Budget struct {
	pool           *Pool
	limit          int64
	used, reserved int64
}

// NewBudget returns a statement's budget of at most limitBytes (zero or less:
// only the pool limits). pool may be nil.
func NewBudget(pool *Pool, limitBytes int64) *Budget {
	return &Budget{pool: pool, limit: limitBytes}
}

// TryGrow takes n bytes and says whether it could. Operators that can spill do
// so when it says no.
func (b *Budget) TryGrow(n int64) bool {
	if b == nil {
		return true
	}
	if b.limit > 0 && b.used+n > b.limit {
		return false
	}
	if b.used+n > b.reserved && b.pool != nil {
		want := max(b.used+n-b.reserved, poolChunk)
		if !b.pool.reserve(want) {
			want = b.used + n - b.reserved
			if !b.pool.reserve(want) {
				return false
			}
		}
		b.reserved += want
	}
	b.used += n
	return true
}

// Grow takes n bytes or says that the budget is exhausted (53200).
func (b *Budget) Grow(n int64) error {
	if b.TryGrow(n) {
		return nil
	}
	return ErrBudgetExceeded(n, b)
}

// ErrBudgetExceeded is what a statement that needs n more bytes is told.
func ErrBudgetExceeded(n int64, b *Budget) error {
	e := pgerr.Newf(pgerr.OutOfMemory, "memory budget exceeded: %d bytes requested, %d in use by this statement", n, b.used)
	return e.WithHint("Reduce the size of intermediate results, or start the node with a larger --max-sql-memory.")
}

// floor is how much an operator may take although the budget is exhausted.
func (b *Budget) floor() int64 {
	n := int64(64 << 10)
	if b.limit > 0 {
		n = min(n, b.limit/8)
	}
	if b.pool != nil && b.pool.limit > 0 {
		n = min(n, b.pool.limit/8)
	}
	return n
}

// force takes n bytes beyond all limits.
func (b *Budget) force(n int64) {
	b.used += n
	if b.pool != nil && b.used > b.reserved {
		b.pool.used.Add(b.used - b.reserved)
		b.reserved = b.used
	}
}

// Shrink gives n bytes back.
func (b *Budget) Shrink(n int64) {
	if b == nil {
		return
	}
	b.used -= n
	if b.pool != nil && b.reserved-b.used > 4*poolChunk {
		give := b.reserved - b.used - poolChunk
		b.reserved -= give
		b.pool.used.Add(-give)
	}
}

// Used returns the bytes in use.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used
}

// Close gives everything back to the pool.
func (b *Budget) Close() {
	if b == nil {
		return
	}
	if b.pool != nil {
		b.pool.used.Add(-b.reserved)
	}
	b.used, b.reserved = 0, 0
}

// account is one operator's part of the budget.
type account struct {
	b    *Budget
	used int64
}

func (a *account) tryGrow(n int64) bool {
	if !a.b.TryGrow(n) {
		return false
	}
	a.used += n
	return true
}

func (a *account) grow(n int64) error {
	if err := a.b.Grow(n); err != nil {
		return err
	}
	a.used += n
	return nil
}

// growFloor is grow, but always lets an operator that can spill have a little:
// what others of the same statement hold must not keep it from going on at all.
func (a *account) growFloor(n int64) bool {
	if a.tryGrow(n) {
		return true
	}
	if a.b == nil || a.used+n > a.b.floor() {
		return false
	}
	a.b.force(n)
	a.used += n
	return true
}

func (a *account) clear() {
	a.b.Shrink(a.used)
	a.used = 0
}

const (
	datumPtrSize = int64(unsafe.Sizeof(tree.Datum(nil)))
	sliceSize    = int64(unsafe.Sizeof(tree.Datums(nil)))
)

// rowSize estimates the memory a kept copy of row takes.
func rowSize(row tree.Datums) int64 {
	n := sliceSize + int64(len(row))*datumPtrSize
	for _, d := range row {
		n += int64(d.Size())
	}
	return n
}

// MaxRowBytes is the largest row an operator keeps: larger values could not be
// sent to a client either.
const MaxRowBytes = 1 << 30

func checkRowSize(n int64) error {
	if n > MaxRowBytes {
		return pgerr.Newf(pgerr.ProgramLimitExceeded, "row is too big: %d bytes, maximum size %d", n, int64(MaxRowBytes))
	}
	return nil
}
