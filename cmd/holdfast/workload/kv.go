package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/pflag"
)

// kv reads and writes random keys.
type kv struct {
	db                           string
	inserts, readPercent         int
	minBlockBytes, maxBlockBytes int
	cycle                        int64
	seed                         uint64
}

func newKV() *kv { return &kv{} }

func (k *kv) Name() string        { return "kv" }
func (k *kv) Database() string    { return k.db }
func (k *kv) AfterLoad() []string { return nil }

func (k *kv) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&k.db, "db", "kv", "database of the table")
	fs.IntVar(&k.inserts, "insert-count", 0, "initial rows")
	fs.IntVar(&k.readPercent, "read-percent", 0, "share of reads among the operations")
	fs.IntVar(&k.minBlockBytes, "min-block-bytes", 1, "least bytes of a value")
	fs.IntVar(&k.maxBlockBytes, "max-block-bytes", 1, "most bytes of a value")
	fs.Int64Var(&k.cycle, "cycle-length", 1<<62, "number of keys that are written")
	fs.Uint64Var(&k.seed, "seed", 1, "seed of the random data")
}

func (k *kv) Check() error {
	switch {
	case k.readPercent < 0 || k.readPercent > 100:
		return errors.New("--read-percent: must be between 0 and 100")
	case k.minBlockBytes < 1 || k.maxBlockBytes < k.minBlockBytes:
		return fmt.Errorf("--max-block-bytes: %d is less than --min-block-bytes %d", k.maxBlockBytes, k.minBlockBytes)
	case k.cycle < 1:
		return errors.New("--cycle-length: must be at least 1")
	}
	return nil
}

func (k *kv) Tables() []Table {
	return []Table{{
		Name: "kv", Rows: k.inserts, Columns: []string{"k", "v"},
		Schema: "(k BIGINT NOT NULL PRIMARY KEY, v BYTES NOT NULL)",
		Row:    func(i int) []any { return []any{i, k.value(rowRand(k.seed, "kv", i))} },
	}}
}

func (k *kv) value(r *rand.Rand) []byte {
	b := make([]byte, k.minBlockBytes+r.IntN(k.maxBlockBytes-k.minBlockBytes+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

type kvWorker struct {
	k *kv
	r *rand.Rand
}

func (k *kv) Worker(id int, seed uint64) Worker {
	return &kvWorker{k, rand.New(rand.NewPCG(seed, uint64(id)))}
}

// Do reads or writes one key.
func (w *kvWorker) Do(ctx context.Context, conn *pgx.Conn) (string, error) {
	key := w.r.Int64N(w.k.cycle)
	if w.r.IntN(100) < w.k.readPercent {
		rows, err := conn.Query(ctx, "SELECT k, v FROM kv WHERE k = $1", key)
		if err != nil {
			return "read", err
		}
		rows.Close()
		return "read", rows.Err()
	}
	_, err := conn.Exec(ctx, "INSERT INTO kv (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v", key, w.k.value(w.r))
	return "write", err
}
