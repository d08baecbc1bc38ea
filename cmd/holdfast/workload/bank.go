package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/pflag"
)

// bank moves money between accounts; the total never changes.
type bank struct {
	db                         string
	rows, payloadBytes, ranges int
	seed                       uint64
}

func newBank() *bank { return &bank{} }

func (b *bank) Name() string        { return "bank" }
func (b *bank) Database() string    { return b.db }
func (b *bank) AfterLoad() []string { return nil }

func (b *bank) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&b.db, "db", "bank", "database of the table")
	fs.IntVar(&b.rows, "rows", 1000, "accounts")
	fs.IntVar(&b.payloadBytes, "payload-bytes", 100, "bytes of payload per account")
	fs.IntVar(&b.ranges, "ranges", 10, "accepted for scripts that set it")
	fs.Uint64Var(&b.seed, "seed", 1, "seed of the random data")
}

func (b *bank) Check() error {
	if b.rows < 2 {
		return fmt.Errorf("--rows: at least 2 accounts are required")
	}
	return nil
}

func (b *bank) Tables() []Table {
	return []Table{{
		Name: "bank", Rows: b.rows, Columns: []string{"id", "balance", "payload"},
		Schema: "(id INT8 PRIMARY KEY, balance INT8, payload STRING)",
		Row: func(i int) []any {
			r := rowRand(b.seed, "bank", i)
			return []any{i, 0, "initial-" + randomText(r, max(b.payloadBytes-8, 0))}
		},
	}}
}

func randomText(r *rand.Rand, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	var s strings.Builder
	for range n {
		s.WriteByte(letters[r.IntN(len(letters))])
	}
	return s.String()
}

type bankWorker struct {
	b *bank
	r *rand.Rand
}

func (b *bank) Worker(id int, seed uint64) Worker {
	return &bankWorker{b, rand.New(rand.NewPCG(seed, uint64(id)))}
}

// Do transfers a random amount from one account to another.
func (w *bankWorker) Do(ctx context.Context, conn *pgx.Conn) (string, error) {
	from := w.r.IntN(w.b.rows)
	to := (from + 1 + w.r.IntN(w.b.rows-1)) % w.b.rows
	_, err := conn.Exec(ctx, "UPDATE bank SET balance = CASE id WHEN $1 THEN balance - $3 WHEN $2 THEN balance + $3 END WHERE id IN ($1, $2)",
		int64(from), int64(to), int64(w.r.IntN(1000)))
	return "transfer", err
}
