package server

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// holdUp stops a job of one node at a place, once, and the node's job registry with
// it, as if the system did not let the process run.
type holdUp struct {
	place   string
	armed   atomic.Bool
	frozen  atomic.Bool
	reached chan struct{}
	release chan struct{}
	left    chan struct{}
}

func newHoldUp(place string) *holdUp {
	return &holdUp{place: place, reached: make(chan struct{}), release: make(chan struct{}), left: make(chan struct{})}
}

func (h *holdUp) hook(_ context.Context, place string) error {
	if place == h.place && h.armed.CompareAndSwap(true, false) {
		h.frozen.Store(true)
		close(h.reached)
		<-h.release // Deaf to its context, as a process is that does not run.
		h.frozen.Store(false)
		close(h.left)
	}
	return nil
}

// layersWithHoldUp opens two layers of which the first can be held up.
func layersWithHoldUp(t *testing.T, h *holdUp) *layers {
	return openLayers(t, 2, func(id int, cfg *Config) {
		cfg.Testing.JobSessionTTL = time.Second
		if id == 1 {
			cfg.Testing.BackupHook, cfg.Testing.Jobs.Frozen = h.hook, h.frozen.Load
		}
	})
}

const jobRows = 5000

func fillJobTable(t *testing.T, l *layers) {
	c := l.conn(0)
	exec1(t, c, "CREATE DATABASE d")
	exec1(t, c, "CREATE TABLE d.t (id INT PRIMARY KEY, s TEXT, INDEX t_s (s))")
	exec1(t, c, fmt.Sprintf("INSERT INTO d.t SELECT i, md5(i::text) FROM generate_series(1, %d) AS g(i)", jobRows))
}

// contents is what a table holds, as text that is short.
func contents(t *testing.T, l *layers, table string) string {
	return queryOne(t, l.conn(1), "SELECT count(*) || ' ' || sum(id) || ' ' || min(s) || ' ' || max(s) || ' ' || sum(length(s)) FROM "+table)
}

// TestLayersBackupNodeDies stops a node in the middle of a BACKUP. The other one
// takes the job over and finishes it; the statement, which waits on the first node,
// hears of it. What the first one does when it wakes changes nothing.
func TestLayersBackupNodeDies(t *testing.T) {
	for _, place := range []string{"backup.before.resolve", "backup.after.protect", "backup.before.metadata", "backup.after.manifest"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			h := newHoldUp(place)
			l := layersWithHoldUp(t, h)
			fillJobTable(t, l)
			want := contents(t, l, "d.t")
			h.armed.Store(true)
			done := make(chan error, 1)
			a, b := l.conn(0), l.conn(1)
			go func() {
				_, err := a.Exec(context.Background(), "BACKUP DATABASE d INTO 'nodelocal://self/c'")
				done <- err
			}()
			<-h.reached
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got := queryOne(t, b, "SELECT coordinator_id FROM [SHOW JOBS] WHERE job_type = 'BACKUP'"); got != "2" {
				t.Errorf("node %s ended the job", got)
			}
			close(h.release)
			<-h.left
			time.Sleep(300 * time.Millisecond) // What it still does, it does now.
			if got := queryOne(t, b, "SELECT count(*) FROM [SHOW BACKUPS IN 'nodelocal://self/c']"); got != "1" {
				t.Errorf("%s backups", got)
			}
			exec1(t, b, "RESTORE DATABASE d FROM LATEST IN 'nodelocal://self/c' WITH new_db_name = 'e'")
			if got := contents(t, l, "e.t"); got != want {
				t.Errorf("restored %s, want %s", got, want)
			}
			if got := queryOne(t, b, "SELECT count(*) FROM system.protected_ts_records"); got != "0" {
				t.Errorf("%s protection records are left", got)
			}
			if got := queryOne(t, b, "SELECT string_agg(status, ',') FROM [SHOW JOBS] WHERE job_type = 'BACKUP'"); got != "succeeded" {
				t.Errorf("the job is %s", got)
			}
		})
	}
}

// TestLayersRestoreNodeDies is the same with a RESTORE, whose table users change
// before the first node wakes.
func TestLayersRestoreNodeDies(t *testing.T) {
	for _, place := range []string{"restore.after.descriptors", "restore.before.piece", "restore.before.publish", "restore.after.publish"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			h := newHoldUp(place)
			l := layersWithHoldUp(t, h)
			fillJobTable(t, l)
			a, b := l.conn(0), l.conn(1)
			exec1(t, a, "BACKUP DATABASE d INTO 'nodelocal://self/c'")
			h.armed.Store(true)
			done := make(chan error, 1)
			go func() {
				_, err := a.Exec(context.Background(), "RESTORE DATABASE d FROM LATEST IN 'nodelocal://self/c' WITH new_db_name = 'e'")
				done <- err
			}()
			<-h.reached
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if got, want := contents(t, l, "e.t"), contents(t, l, "d.t"); got != want {
				t.Errorf("restored %s, want %s", got, want)
			}
			for _, db := range []string{"d", "e"} {
				exec1(t, b, "DELETE FROM "+db+".t WHERE id % 3 = 0")
				exec1(t, b, "UPDATE "+db+".t SET s = 'new' || id WHERE id % 3 = 1")
				exec1(t, b, "INSERT INTO "+db+".t VALUES (-1, 'more')")
			}
			want := contents(t, l, "d.t")
			close(h.release)
			<-h.left
			time.Sleep(500 * time.Millisecond)
			if got := contents(t, l, "e.t"); got != want {
				t.Errorf("after the first node woke the table has %s, want %s", got, want)
			}
			if got := queryOne(t, b, "SELECT count(*) FROM e.t@t_s WHERE s >= ''"); got != strings.Fields(want)[0] {
				t.Errorf("the index has %s entries, the table %s", got, want)
			}
			if got := queryOne(t, b, "SELECT string_agg(status, ',') FROM [SHOW JOBS] WHERE job_type = 'RESTORE'"); got != "succeeded" {
				t.Errorf("the job is %s", got)
			}
		})
	}
}

// TestLayersJobControl: PAUSE, RESUME and CANCEL work from the node that does not run
// the job, soon, and who waits on the other node hears of it.
func TestLayersJobControl(t *testing.T) {
	l := openLayers(t, 2, nil)
	fillJobTable(t, l)
	a, b := l.conn(0), l.conn(1)
	began := time.Now()
	exec1(t, b, "SET CLUSTER SETTING jobs.debug.pausepoints = 'backup.before.flow'")
	if _, err := a.Exec(context.Background(), "BACKUP DATABASE d INTO 'nodelocal://self/c'"); err == nil || !strings.Contains(err.Error(), "was paused") {
		t.Fatalf("the backup did not pause: %v", err)
	}
	id := queryOne(t, b, "SELECT job_id FROM [SHOW JOBS] WHERE job_type = 'BACKUP'")
	exec1(t, a, "SET CLUSTER SETTING jobs.debug.pausepoints = ''")
	done := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "SHOW JOB WHEN COMPLETE "+id)
		done <- err
	}()
	exec1(t, b, "RESUME JOB "+id)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the job", func() bool {
		return queryOne(t, b, "SELECT status FROM [SHOW JOBS] WHERE job_id = "+id) == "succeeded"
	})
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("pausing and resuming took %v: nobody was told", took)
	}
}
