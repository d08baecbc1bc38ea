package test

import (
	"errors"
	"fmt"
	"math/rand"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfastdb/holdfast/test/node"
)

// allowed are the errors that commands on a job may meet when others change it at
// the same time.
var allowed = regexp.MustCompile(`^(job with state [a-z-]+ (cannot be requested to be paused|cannot be resumed|cannot be requested to be canceled)` +
	`|job \d+ is paused and has non-nil FinalResumeError hence cannot be canceled and should be reverted)$`)

// TestCommandStorm lets several sessions pause, resume and cancel one running
// backup or restore at random moments. Every command works or says which state is
// in its way; the job ends in a legal state; a backup that succeeded restores, a
// restore that succeeded is whole, and of a canceled one nothing is left.
func TestCommandStorm(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 6
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	n := node.Start(t)
	fill(n, 3000)
	want := n.Content("shop")
	n.Exec("defaultdb", "BACKUP DATABASE shop INTO 'nodelocal://1/base'")
	ended := map[string]int{}
	for round := range rounds {
		stmt := fmt.Sprintf("BACKUP DATABASE shop INTO 'nodelocal://1/storm%d' WITH detached", round)
		restore := round%2 == 1
		if restore {
			stmt = "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/base' WITH detached, new_db_name = 'copy'"
		}
		id := n.Value("defaultdb", stmt)
		cancel := rng.Intn(2) == 0
		var wg sync.WaitGroup
		for range 4 {
			r := rand.New(rand.NewSource(rng.Int63()))
			conn := n.Conn("defaultdb")
			wg.Go(func() {
				defer conn.Close(t.Context())
				for range 6 {
					time.Sleep(time.Duration(r.Intn(12)) * time.Millisecond)
					verbs := []string{"PAUSE", "RESUME", "RESUME"}
					if cancel && r.Intn(4) == 0 {
						verbs = []string{"CANCEL"}
					}
					verb := verbs[r.Intn(len(verbs))]
					_, err := conn.Exec(t.Context(), verb+" JOB "+id)
					var e *pgconn.PgError
					if err != nil && (!errors.As(err, &e) || !allowed.MatchString(e.Message) || e.Code == "XX000") {
						t.Errorf("round %d, %s: %v", round, verb, err)
					}
				}
			})
		}
		wg.Wait()
		state := endOf(t, n, id)
		ended[state]++
		rows := n.Rows("defaultdb", "SELECT error, fraction_completed FROM crdb_internal.jobs WHERE job_id = "+id)
		switch {
		case state == "succeeded" && restore:
			same(t, fmt.Sprintf("round %d", round), n.Content("copy"), want)
			n.Exec("defaultdb", "DROP DATABASE copy CASCADE")
		case state == "succeeded":
			if rows[0][1] != "1" {
				t.Errorf("round %d: a backup that succeeded is %s done", round, rows[0][1])
			}
			n.Exec("defaultdb", fmt.Sprintf("RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/storm%d' WITH new_db_name = 'copy'", round))
			same(t, fmt.Sprintf("round %d", round), n.Content("copy"), want)
			n.Exec("defaultdb", "DROP DATABASE copy CASCADE")
		case state == "canceled":
			if rows[0][0] != "job canceled by user" {
				t.Errorf("round %d: error %q of a canceled job", round, rows[0][0])
			}
			if !restore {
				if err := n.TryExec("defaultdb", fmt.Sprintf("RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/storm%d' WITH new_db_name = 'copy'", round)); err == nil {
					// The backup was complete when it was canceled; then it must be whole.
					same(t, fmt.Sprintf("round %d, canceled backup", round), n.Content("copy"), want)
					n.Exec("defaultdb", "DROP DATABASE copy CASCADE")
				}
			} else if got := n.Value("defaultdb", "SELECT count(*) FROM pg_database WHERE datname = 'copy'"); got != "0" {
				t.Errorf("round %d: a canceled restore left its database", round)
			}
		default:
			t.Errorf("round %d: job %s ended as %s: %s", round, id, state, rows[0][0])
		}
	}
	t.Logf("ended: %v", ended)
	if !testing.Short() && (ended["succeeded"] < 5 || ended["canceled"] < 5) {
		t.Errorf("the storm shows little: %v", ended)
	}
	checkLeftovers(t, n)
}

// endOf resumes a job that somebody paused until it has ended, and returns its
// last state. Every state on the way must be one that there is.
func endOf(t *testing.T, n *node.Node, id string) string {
	t.Helper()
	state := ""
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		state = n.Value("system", "SELECT status FROM crdb_internal.jobs WHERE job_id = "+id)
		switch state {
		case "succeeded", "failed", "canceled", "revert-failed":
			return state
		case "paused":
			if err := n.TryExec("system", "RESUME JOB "+id); err != nil && !strings.Contains(err.Error(), "cannot be resumed") {
				t.Fatal(err)
			}
		case "running", "reverting", "pause-requested", "cancel-requested", "retry-running", "retry-reverting":
		default:
			t.Fatalf("job %s is %q", id, state)
		}
	}
	t.Fatalf("job %s does not end: %s", id, state)
	return ""
}
