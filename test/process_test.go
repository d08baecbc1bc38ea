package test

import (
	"context"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfastdb/holdfast/test/node"
)

func TestStopDrainsAndRestartKeepsRows(t *testing.T) {
	n := node.Start(t)
	n.Exec("defaultdb", "CREATE TABLE t (a INT PRIMARY KEY, b TEXT)", "INSERT INTO t SELECT i, 'x' || i FROM generate_series(1, 1000) AS g(i)")
	before := n.Content("defaultdb")
	if code := n.Stop(); code != 0 {
		t.Fatalf("exit code %d after SIGTERM, want 0", code)
	}
	n.Restart()
	if after := n.Content("defaultdb"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Fatalf("after restart: got %v, want %v", after, before)
	}
}

func TestSecondProcessOnOneStoreIsRefused(t *testing.T) {
	n := node.Start(t)
	cmd := n.Command()
	for i, a := range cmd.Args {
		if strings.HasPrefix(a, "--listen-addr") || strings.HasPrefix(a, "--http-addr") {
			cmd.Args[i] = a[:strings.Index(a, "=")] + "=127.0.0.1:0"
		}
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is another holdfast running on it?") {
		t.Fatalf("second process: %v\n%s", err, out)
	}
	if got := n.Value("defaultdb", "SELECT 1"); got != "1" {
		t.Fatalf("the first process answers %q", got)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	n := node.Start(t)
	for path, want := range map[string]string{"/health": "{}", "/health?ready=1": "{}", "/_status/vars": "go_goroutines"} {
		res, err := http.Get(n.HTTP() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: status %d, %v, body %.200s", path, res.StatusCode, err, body)
		}
	}
}

// TestKillLosesNothingAcknowledged moves money between accounts from several
// clients, kills the process at random moments, and checks that each transfer
// that was acknowledged is there, each that was not is there wholly or not at
// all, and the total is as at the start.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	const accounts, clients, kills = 20, 4, 4
	n := node.Start(t)
	n.Exec("defaultdb",
		"CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)",
		"CREATE TABLE transfer (id INT PRIMARY KEY, src INT, dst INT, amount INT)",
		fmt.Sprintf("INSERT INTO account SELECT i, 1000 FROM generate_series(0, %d) AS g(i)", accounts-1))

	var ids atomic.Int64
	var mu sync.Mutex
	acked := make(map[int64]bool)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewSource(int64(c)))
			var conn *pgx.Conn
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				var err error
				if conn == nil {
					if conn, err = pgx.Connect(ctx, n.URL("defaultdb")); err != nil {
						conn = nil
						cancel()
						time.Sleep(10 * time.Millisecond)
						continue
					}
				}
				id := ids.Add(1)
				err = transfer(ctx, conn, id, rng.Intn(accounts), rng.Intn(accounts), 1+rng.Intn(10))
				if err == nil {
					mu.Lock()
					acked[id] = true
					mu.Unlock()
				} else if conn.IsClosed() {
					conn = nil
				}
				cancel()
			}
		})
	}
	rng := rand.New(rand.NewSource(time.Now().UnixNano()))
	for range kills {
		time.Sleep(time.Duration(300+rng.Intn(700)) * time.Millisecond)
		n.Kill()
		n.Restart()
	}
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()

	if got, want := n.Value("defaultdb", "SELECT sum(balance) FROM account"), fmt.Sprint(accounts*1000); got != want {
		t.Errorf("total balance: got %s, want %s", got, want)
	}
	stored := make(map[string]bool)
	for _, row := range n.Rows("defaultdb", "SELECT id FROM transfer") {
		stored[row[0]] = true
	}
	for id := range acked {
		if !stored[fmt.Sprint(id)] {
			t.Errorf("transfer %d was acknowledged and is gone", id)
		}
	}
	// Each account's balance must be explained by the stored transfers.
	for _, row := range n.Rows("defaultdb", `SELECT a.id, a.balance, 1000
		+ coalesce((SELECT sum(amount) FROM transfer WHERE dst = a.id), 0)
		- coalesce((SELECT sum(amount) FROM transfer WHERE src = a.id), 0) FROM account a`) {
		if row[1] != row[2] {
			t.Errorf("account %s: balance %s, the transfers say %s", row[0], row[1], row[2])
		}
	}
	t.Logf("%d transfers tried, %d acknowledged, %d stored", ids.Load(), len(acked), len(stored))
	if len(acked) < 50 {
		t.Errorf("only %d transfers were acknowledged: the test did not test much", len(acked))
	}
}

func transfer(ctx context.Context, conn *pgx.Conn, id int64, src, dst, amount int) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, s := range []string{
			fmt.Sprintf("UPDATE account SET balance = balance - %d WHERE id = %d", amount, src),
			fmt.Sprintf("UPDATE account SET balance = balance + %d WHERE id = %d", amount, dst),
			fmt.Sprintf("INSERT INTO transfer VALUES (%d, %d, %d, %d)", id, src, dst, amount),
		} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}
