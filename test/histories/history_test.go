package histories

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// outcome is what a client knows of an operation.
type outcome int8

const (
	unknown  outcome = iota // it may have happened, or happen yet
	happened                // it was acknowledged
	failed                  // it certainly did not and will not happen
)

func (o outcome) String() string { return [...]string{"unknown", "happened", "failed"}[o] }

// MarshalText writes the outcome of a recorded operation as a word.
func (o outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (o *outcome) UnmarshalText(b []byte) error {
	for _, k := range []outcome{unknown, happened, failed} {
		if k.String() == string(b) {
			*o = k
			return nil
		}
	}
	return fmt.Errorf("no outcome %q", b)
}

// forever is when an operation ends whose outcome nobody learned.
const forever = math.MaxInt64

// interval is when an operation began and ended, in nanoseconds since the history's
// beginning, by one clock for all clients.
type interval struct {
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
}

func (i interval) String() string {
	if i.Return == forever {
		return fmt.Sprintf("[%.3fs …]", float64(i.Call)/1e9)
	}
	return fmt.Sprintf("[%.3fs %.3fs]", float64(i.Call)/1e9, float64(i.Return)/1e9)
}

// before says whether i had ended when o began.
func (i interval) before(o interval) bool { return i.Return < o.Call }

// log collects the operations of one kind.
type log[T any] struct {
	mu  sync.Mutex
	all []T
}

func (l *log[T]) add(op T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, op)
}

// write puts the operations into a file, one JSON object per line.
func (l *log[T]) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, op := range l.all {
		err = errors.Join(err, enc.Encode(op))
	}
	return errors.Join(err, f.Close())
}

// classify says what an error tells of a request that may have committed something.
// Only serialization failures promise that it did not: a lost connection, a timeout
// or any other code may hide a success. (pgconn.SafeToRetry is no help: it is true of
// a connection that broke while a COMMIT was under way, too.)
func classify(err error) outcome {
	var pe *pgconn.PgError
	switch {
	case err == nil:
		return happened
	case errors.As(err, &pe) && pe.Code == "40001":
		return failed
	}
	return unknown
}

// violation is something that no correct store could have answered.
type violation struct {
	kind string
	text string
}

func (v violation) String() string { return v.kind + ": " + v.text }

func violationf(kind, format string, args ...any) violation {
	return violation{kind: kind, text: fmt.Sprintf(format, args...)}
}

// stopwatch measures history time.
type stopwatch struct{ zero time.Time }

func (w stopwatch) now() int64 { return int64(time.Since(w.zero)) }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
