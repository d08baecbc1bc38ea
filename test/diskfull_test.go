package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfastdb/holdfast/test/node"
)

// smallDisk mounts a file system of that size at dir, or skips the test where that
// is not allowed.
func smallDisk(t *testing.T, dir string, size int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		for range 50 { // The process on it is about to end.
			if err := syscall.Unmount(dir, 0); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("%s stays mounted", dir)
	})
}

// TestBackupToFullDisk: a destination that is full fails the backup with its
// SQLSTATE, the node goes on, and when there is room the next backup is whole.
func TestBackupToFullDisk(t *testing.T) {
	extern := filepath.Join(t.TempDir(), "extern")
	smallDisk(t, extern, 8<<20)
	n := node.StartOn(t, filepath.Join(t.TempDir(), "store"), extern)
	fill(n, 5000)
	want := n.Content("shop")
	ballast := filepath.Join(extern, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20-200<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := n.TryExec("shop", "BACKUP DATABASE shop INTO 'nodelocal://1/c'")
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "53100" || !strings.Contains(e.Message, "no space left") {
			t.Fatalf("got %v", err)
		}
		if got := n.Rows("shop", "SHOW BACKUPS IN 'nodelocal://1/c'"); len(got) != 0 {
			t.Errorf("half a backup is listed: %v", got)
		}
	}
	same(t, "the database", n.Content("shop"), want)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.Exec("shop", "BACKUP DATABASE shop INTO 'nodelocal://1/c'", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c' WITH new_db_name = 'copy'")
	same(t, "restored", n.Content("copy"), want)
	checkLeftovers(t, n)
}

// TestRestoreOntoFullDisk: a store that is full pauses a restore; the node answers
// meanwhile, and when there is room RESUME ends it with the right rows. Another
// that is canceled gives its room back.
func TestRestoreOntoFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a small disk full")
	}
	store := filepath.Join(t.TempDir(), "store")
	smallDisk(t, store, 700<<20)
	src := node.Start(t)
	fill(src, 10000)
	src.Exec("shop", "CREATE TABLE noise (a INT PRIMARY KEY, b TEXT, c TEXT)",
		"INSERT INTO noise SELECT i, md5(i::TEXT) || md5('x' || i), md5('y' || i) || md5('z' || i) FROM generate_series(1, 100000) AS g(i)")
	want := src.Content("shop")
	src.Exec("shop", "BACKUP DATABASE shop INTO 'nodelocal://1/c'")
	n := node.StartOn(t, store, src.Extern)
	n.Exec("defaultdb", "SET CLUSTER SETTING backup.restore_span.target_size = '1'")
	ballast := filepath.Join(store, "ballast")
	for _, then := range []string{"succeeded", "canceled"} {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(store, &fs); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(ballast, make([]byte, int(fs.Bavail)*int(fs.Bsize)-64<<20-6<<20), 0o644); err != nil {
			t.Fatal(err)
		}
		// The engine looks at its disk now and then.
		time.Sleep(1500 * time.Millisecond)
		err := n.TryExec("defaultdb", "RESTORE DATABASE shop FROM LATEST IN 'nodelocal://1/c' WITH new_db_name = 'copy'")
		var e *pgconn.PgError
		if !errors.As(err, &e) {
			t.Fatalf("restored onto a full disk: %v", err)
		}
		t.Logf("%s %s", e.Code, e.Message)
		if e.Code == "53100" && strings.HasPrefix(e.Message, "writing job") {
			t.Fatal("there was no room for the job itself, so the test shows nothing")
		}
		rows := n.Rows("system", "SELECT job_id, status FROM crdb_internal.jobs WHERE job_type = 'RESTORE' ORDER BY created DESC LIMIT 1")
		if rows[0][1] == "failed" && e.Code != "53100" || rows[0][1] != "failed" && rows[0][1] != "paused" {
			t.Fatalf("the restore is %s", rows[0][1])
		}
		if got := n.Value("defaultdb", "SELECT count(*) FROM pg_database WHERE datname = 'copy'"); got != "0" {
			t.Error("half a restore is visible")
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond)
		if rows[0][1] != "paused" {
			t.Errorf("the restore is %s, want paused", rows[0][1])
			continue
		}
		if then == "canceled" {
			n.Exec("defaultdb", "CANCEL JOB "+rows[0][0])
		} else {
			n.Exec("defaultdb", "RESUME JOB "+rows[0][0])
		}
		waitJob(t, n, rows[0][0], then)
		if then == "succeeded" {
			same(t, "restored", n.Content("copy"), want)
			n.Exec("defaultdb", "DROP DATABASE copy CASCADE")
		}
	}
	checkLeftovers(t, n)
}
