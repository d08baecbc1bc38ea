package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvtest"
)

// funcResumer is a job made of two functions.
type funcResumer struct {
	resume, revert func(ctx context.Context, j *Job) error
}

func (f *funcResumer) Resume(ctx context.Context, j *Job) error { return f.resume(ctx, j) }

func (f *funcResumer) OnFailOrCancel(ctx context.Context, j *Job, _ error) error {
	if f.revert == nil {
		return nil
	}
	return f.revert(ctx, j)
}

// env is a database on which processes with registries come and go.
type env struct {
	t  *testing.T
	db *kv.DB
}

type process struct {
	*Registry
	settings *settings.Registry
	frozen   *atomic.Bool
	stop     func()
}

func (e *env) process(node int64, resumer *funcResumer) *process {
	e.t.Helper()
	reg := settings.NewRegistry()
	cfg := DefaultConfig()
	cfg.SessionTTL, cfg.Heartbeat, cfg.PollInterval = 400*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond
	cfg.DB, cfg.NodeID, cfg.Log = e.db, node, slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg.Settings = RegisterSettings(reg)
	cfg.Settings.retryInitial.SetForTest(10 * time.Millisecond)
	if resumer != nil {
		cfg.Constructors = map[string]func() Resumer{TypeBackup: func() Resumer { return resumer }}
	}
	frozen := &atomic.Bool{}
	cfg.Testing.Frozen = frozen.Load
	p := &process{Registry: NewRegistry(cfg), settings: reg, frozen: frozen}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	var once sync.Once
	p.stop = func() { once.Do(func() { cancel(); <-done }) }
	e.t.Cleanup(p.stop)
	e.await("the session", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.mu.session != nil
	})
	return p
}

func (e *env) await(what string, cond func() bool) {
	e.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.t.Fatalf("waited too long for %s", what)
		}
	}
}

func (e *env) create(r *Registry, n New) ID {
	e.t.Helper()
	n.Type, n.Username = TypeBackup, "root"
	var id ID
	if err := e.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) (err error) {
		id, err = r.CreateJob(ctx, txn, n)
		return err
	}); err != nil {
		e.t.Fatal(err)
	}
	return id
}

func (e *env) get(id ID) *Record {
	e.t.Helper()
	var rec *Record
	if err := e.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) (err error) {
		rec, err = load(ctx, txn, id)
		return err
	}); err != nil {
		e.t.Fatal(err)
	}
	return rec
}

func (e *env) control(f func(context.Context, *kv.Txn, ID) error, id ID) error {
	return e.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error { return f(ctx, txn, id) })
}

func pauseFor(r *Registry, reason string) func(context.Context, *kv.Txn, ID) error {
	return func(ctx context.Context, txn *kv.Txn, id ID) error { return r.Pause(ctx, txn, id, reason) }
}

func TestJobRunsToTheEnd(t *testing.T) {
	e := newEnv(t)
	for _, startHere := range []bool{true, false} {
		p := e.process(1, &funcResumer{resume: func(ctx context.Context, j *Job) error {
			if err := j.SetFraction(ctx, 0.5, "half"); err != nil {
				return err
			}
			if err := j.SetFraction(ctx, 0.25, "never back"); err != nil {
				return err
			}
			if got := j.Progress().FractionCompleted; got != 0.5 {
				return fmt.Errorf("fraction went to %f", got)
			}
			return j.SetProgressDetails(ctx, append([]byte("did "), j.Payload().Details...))
		}})
		id := e.create(p.Registry, New{Details: []byte("it"), Description: "d", StartHere: startHere})
		if err := p.Wait(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		rec := e.get(id)
		if rec.State != Succeeded || rec.Progress.FractionCompleted != 1 || string(rec.Progress.Details) != "did it" ||
			rec.NumRuns != 1 || rec.Coordinator() != 1 || rec.Finished().IsZero() || rec.Started().IsZero() {
			t.Errorf("start here %t: got %+v", startHere, rec)
		}
		p.stop()
	}
}

func TestNothingRunsUnlessTheTransactionCommits(t *testing.T) {
	e := newEnv(t)
	var runs atomic.Int32
	p := e.process(1, &funcResumer{resume: func(context.Context, *Job) error { runs.Add(1); return nil }})
	boom := errors.New("boom")
	err := e.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error {
		if _, err := p.CreateJob(ctx, txn, New{Type: TypeBackup, StartHere: true}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background(), e.create(p.Registry, New{})); err != nil {
		t.Fatal(err)
	}
	if runs.Load() != 1 {
		t.Errorf("%d runs, want 1: a job whose transaction was rolled back ran", runs.Load())
	}
}

// TestFailureReverts checks what the waiting client is told and what the row says.
func TestFailureReverts(t *testing.T) {
	e := newEnv(t)
	var reverts atomic.Int32
	p := e.process(1, &funcResumer{
		resume: func(context.Context, *Job) error {
			return pgerr.New(pgerr.DiskFull, "no space left").WithHint("Free some.")
		},
		revert: func(context.Context, *Job) error {
			if reverts.Add(1) == 1 {
				return errors.New("not yet") // Retried.
			}
			return nil
		},
	})
	id := e.create(p.Registry, New{})
	err := p.Wait(context.Background(), id)
	var pe *pgerr.Error
	if !errors.As(err, &pe) || pe.Code != pgerr.DiskFull || pe.Message != "no space left" || pe.Hint != "Free some." {
		t.Errorf("waiting client got %#v", err)
	}
	rec := e.get(id)
	if rec.State != Failed || reverts.Load() != 2 || len(rec.ExecutionErrors()) != 1 ||
		!strings.Contains(rec.ExecutionErrors()[0], "reverting execution from") {
		t.Errorf("state %s, %d reverts, errors %v", rec.State, reverts.Load(), rec.ExecutionErrors())
	}
}

func TestRetryableErrorRunsAgain(t *testing.T) {
	e := newEnv(t)
	var runs atomic.Int32
	p := e.process(1, &funcResumer{resume: func(context.Context, *Job) error {
		if runs.Add(1) < 4 {
			return MarkRetryable(errors.New("bucket is busy"))
		}
		return nil
	}})
	id := e.create(p.Registry, New{})
	if err := p.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if rec := e.get(id); rec.NumRuns != 4 || len(rec.Payload.ExecutionErrors) != 3 {
		t.Errorf("%d runs, %d errors kept; want 4, 3", rec.NumRuns, len(rec.Payload.ExecutionErrors))
	}
}

// blocking returns a resumer that works until it is told to stop, and then until
// release is closed.
func blocking() (r *funcResumer, started chan ID, finish chan struct{}) {
	started, finish = make(chan ID, 10), make(chan struct{})
	return &funcResumer{resume: func(ctx context.Context, j *Job) error {
		started <- j.ID()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-finish:
			return nil
		}
	}}, started, finish
}

func TestPauseResumeCancel(t *testing.T) {
	e := newEnv(t)
	r, started, finish := blocking()
	p := e.process(1, r)
	id := e.create(p.Registry, New{StartHere: true})
	<-started
	if err := e.control(pauseFor(p.Registry, "tea"), id); err != nil {
		t.Fatal(err)
	}
	err := p.Wait(context.Background(), id)
	if want := fmt.Sprintf("job %d was paused before it completed with reason: tea", id); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if rec := e.get(id); rec.State != Paused || rec.Coordinator() != 0 {
		t.Errorf("state %s, coordinator %d", rec.State, rec.Coordinator())
	}
	if err := e.control(pauseFor(p.Registry, ""), id); err != nil {
		t.Errorf("pausing again: %v", err)
	}
	if err := e.control(p.Registry.Resume, id); err != nil {
		t.Fatal(err)
	}
	<-started
	if err := e.control(p.Cancel, id); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background(), id); err == nil || err.Error() != "job canceled by user" {
		t.Errorf("got %v", err)
	}
	for what, c := range map[string]struct {
		do   func(context.Context, *kv.Txn, ID) error
		want string
	}{
		"pause":  {pauseFor(p.Registry, ""), "job with state canceled cannot be requested to be paused"},
		"resume": {p.Registry.Resume, "job with state canceled cannot be resumed"},
	} {
		if err := e.control(c.do, id); err == nil || err.Error() != c.want {
			t.Errorf("%s of a canceled job: got %v, want %s", what, err, c.want)
		}
	}
	if err := e.control(p.Cancel, id); err != nil {
		t.Errorf("canceling again: %v", err)
	}
	err = e.control(p.Cancel, 1)
	if !errors.Is(err, ErrNotFound) || err.Error() != "job with ID 1 does not exist" {
		t.Errorf("unknown job: %v", err)
	}
	close(finish)
}

func TestCancelOfAPausedJobReverts(t *testing.T) {
	e := newEnv(t)
	r, started, _ := blocking()
	var reverted atomic.Bool
	r.revert = func(context.Context, *Job) error { reverted.Store(true); return nil }
	p := e.process(1, r)
	id := e.create(p.Registry, New{})
	<-started
	if err := e.control(pauseFor(p.Registry, ""), id); err != nil {
		t.Fatal(err)
	}
	e.await("pause", func() bool { return e.get(id).State == Paused })
	if err := e.control(p.Cancel, id); err != nil {
		t.Fatal(err)
	}
	e.await("cancel", func() bool { return e.get(id).State == Canceled })
	if !reverted.Load() {
		t.Error("canceled without reverting")
	}
}

func TestPausepointPausesUntilItIsTakenAway(t *testing.T) {
	e := newEnv(t)
	p := e.process(1, &funcResumer{resume: func(_ context.Context, j *Job) error { return j.CheckPausepoint("backup.before.flow") }})
	p.cfg.Settings.pausepoints.SetForTest("x, backup.before.flow")
	id := e.create(p.Registry, New{})
	err := p.Wait(context.Background(), id)
	if err == nil || !strings.HasSuffix(err.Error(), `with reason: pause point "backup.before.flow" hit`) {
		t.Fatalf("got %v", err)
	}
	p.cfg.Settings.pausepoints.SetForTest("")
	if err := e.control(p.Registry.Resume, id); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
}

// TestDeadProcessLosesItsJobs lets a process stop its heartbeats while its job
// believes that it runs. Another process takes the job over, and nothing that
// the first one still writes gets through.
func TestDeadProcessLosesItsJobs(t *testing.T) {
	e := newEnv(t)
	hold := make(chan struct{})
	zombie := make(chan error, 1)
	first := e.process(1, &funcResumer{resume: func(ctx context.Context, j *Job) error {
		<-hold // Deaf to its context, as a paused process is.
		err := j.SetProgressDetails(context.WithoutCancel(ctx), []byte("zombie"))
		zombie <- err
		return nil
	}})
	id := e.create(first.Registry, New{StartHere: true})
	e.await("claim", func() bool { return e.get(id).Coordinator() == 1 })

	// The session row goes away, as if it had expired unnoticed.
	first.mu.Lock()
	s := first.mu.session
	first.mu.Unlock()
	if err := s.end(context.Background()); err != nil {
		t.Fatal(err)
	}
	second := e.process(2, &funcResumer{resume: func(ctx context.Context, j *Job) error {
		return j.SetProgressDetails(ctx, []byte("second"))
	}})
	if err := second.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if err := <-zombie; !errors.Is(err, ErrLostClaim) {
		t.Errorf("the former holder's write: %v, want ErrLostClaim", err)
	}
	if rec := e.get(id); string(rec.Progress.Details) != "second" || rec.State != Succeeded || rec.NumRuns != 2 {
		t.Errorf("got %q in state %s after %d runs", rec.Progress.Details, rec.State, rec.NumRuns)
	}
}

// TestNewSessionKeepsItsJobs: who looks for jobs may have read the sessions before
// the one began that holds the job by now.
func TestNewSessionKeepsItsJobs(t *testing.T) {
	e := newEnv(t)
	r, started, finish := blocking()
	first := e.process(1, r)
	second := e.process(2, &funcResumer{resume: func(context.Context, *Job) error { return errors.New("stolen") }})
	id := e.create(first.Registry, New{StartHere: true})
	<-started
	if err := second.adoptOne(context.Background(), id, map[string]bool{}); err != nil {
		t.Fatal(err)
	}
	if rec := e.get(id); rec.Coordinator() != 1 || rec.NumRuns != 1 {
		t.Errorf("the job is now on node %d, in run %d", rec.Coordinator(), rec.NumRuns)
	}
	close(finish)
	if err := first.Wait(context.Background(), id); err != nil {
		t.Error(err)
	}
}

// TestControlFromAnotherProcess: a process that does not run a job pauses, resumes
// and cancels it, and waits for it.
func TestControlFromAnotherProcess(t *testing.T) {
	e := newEnv(t)
	r, started, finish := blocking()
	runner := e.process(1, r)
	other := e.process(2, nil)
	id := e.create(runner.Registry, New{StartHere: true})
	<-started
	waited := make(chan error, 1)
	go func() { waited <- other.Wait(context.Background(), id) }()
	if err := e.control(pauseFor(other.Registry, "tea"), id); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err == nil || !strings.HasSuffix(err.Error(), "with reason: tea") {
		t.Errorf("who waits elsewhere got %v", err)
	}
	if err := e.control(other.Registry.Resume, id); err != nil {
		t.Fatal(err)
	}
	<-started
	// A third process that starts takes nothing from the first.
	e.process(3, r)
	if rec := e.get(id); rec.Coordinator() != 1 {
		t.Errorf("node %d has the job", rec.Coordinator())
	}
	if err := e.control(other.Cancel, id); err != nil {
		t.Fatal(err)
	}
	if err := other.Wait(context.Background(), id); err == nil || err.Error() != "job canceled by user" {
		t.Errorf("got %v", err)
	}
	close(finish)
}

// TestFrozenProcessLosesItsJobs lets a process miss its heartbeats. Another one
// takes its job over when the session has expired, and not before.
func TestFrozenProcessLosesItsJobs(t *testing.T) {
	e := newEnv(t)
	r, started, finish := blocking()
	defer close(finish)
	first := e.process(1, r)
	second := e.process(2, &funcResumer{resume: func(context.Context, *Job) error { return nil }})
	id := e.create(first.Registry, New{StartHere: true})
	<-started
	time.Sleep(2 * first.cfg.SessionTTL)
	if rec := e.get(id); rec.Coordinator() != 1 {
		t.Fatalf("node %d took the job of a living one", rec.Coordinator())
	}
	first.frozen.Store(true)
	if err := second.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if rec := e.get(id); rec.Coordinator() != 2 || rec.NumRuns != 2 {
		t.Errorf("node %d ended the job in run %d", rec.Coordinator(), rec.NumRuns)
	}
	first.frozen.Store(false)
	// The former holder wakes, begins another session and works again.
	if err := first.Wait(context.Background(), e.create(second.Registry, New{})); err != nil {
		t.Fatal(err)
	}
}

// TestWorkForAnotherNode: a job that cannot run here goes to one where it can.
func TestWorkForAnotherNode(t *testing.T) {
	e := newEnv(t)
	first := e.process(1, &funcResumer{resume: func(context.Context, *Job) error { return MarkElsewhere(errors.New("not my disk")) }})
	id := e.create(first.Registry, New{StartHere: true})
	e.await("a run", func() bool { return len(e.get(id).Payload.ExecutionErrors) > 0 })
	if rec := e.get(id); rec.State != Running {
		t.Fatalf("the job is %s", rec.State)
	}
	e.process(2, &funcResumer{resume: func(context.Context, *Job) error { return nil }})
	if err := first.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
}

func TestShutdownHandsJobsOver(t *testing.T) {
	e := newEnv(t)
	r, started, _ := blocking()
	first := e.process(1, r)
	id := e.create(first.Registry, New{StartHere: true})
	<-started
	first.stop()
	if rec := e.get(id); rec.State != Running || rec.Coordinator() != 0 {
		t.Fatalf("after shutdown: state %s, coordinator %d; want running, none", rec.State, rec.Coordinator())
	}
	second := e.process(1, &funcResumer{resume: func(context.Context, *Job) error { return nil }})
	if err := second.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
}

// An error may quote anything, bytes of a damaged file for one.
func TestErrorsNeedNotBeText(t *testing.T) {
	e := newEnv(t)
	p := e.process(1, &funcResumer{
		resume: func(_ context.Context, j *Job) error {
			return pgerr.New(pgerr.UndefinedFile, "no \xa5 file").WithHint("Look at \xff.")
		},
		revert: func() func(context.Context, *Job) error {
			var runs atomic.Int32
			return func(context.Context, *Job) error {
				if runs.Add(1) == 1 {
					return errors.New("\xfe") // Retried.
				}
				return nil
			}
		}(),
	})
	id := e.create(p.Registry, New{Description: "from \xa5"})
	var pe *pgerr.Error
	if err := p.Wait(context.Background(), id); !errors.As(err, &pe) || pe.Message != "no \uFFFD file" || pe.Hint != "Look at \uFFFD." {
		t.Errorf("waiting client got %#v", err)
	}
	rec := e.get(id)
	if rec.State != Failed || len(rec.ExecutionErrors()) != 1 || rec.Payload.Description != "from \uFFFD" {
		t.Errorf("state %s, errors %q, description %q", rec.State, rec.ExecutionErrors(), rec.Payload.Description)
	}
}

func TestPanicIsTheJobsError(t *testing.T) {
	e := newEnv(t)
	p := e.process(1, &funcResumer{resume: func(context.Context, *Job) error { panic("oops") }})
	id := e.create(p.Registry, New{})
	if err := p.Wait(context.Background(), id); err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("got %v", err)
	}
}

func TestOldJobsAreRemoved(t *testing.T) {
	e := newEnv(t)
	p := e.process(1, &funcResumer{resume: func(context.Context, *Job) error { return nil }})
	id := e.create(p.Registry, New{})
	if err := p.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if n, err := p.removeOld(context.Background()); n != 0 || err != nil {
		t.Fatalf("removed %d young jobs, %v", n, err)
	}
	p.cfg.Settings.retention.SetForTest(time.Nanosecond)
	if n, err := p.removeOld(context.Background()); n != 1 || err != nil {
		t.Fatalf("removed %d jobs, %v; want 1", n, err)
	}
	seen := 0
	if err := e.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error {
		return p.Each(ctx, txn, func(*Record) error { seen++; return nil })
	}); err != nil || seen != 0 {
		t.Errorf("%d jobs left, %v", seen, err)
	}
}

func TestEveryStateHasAPlaceInTheTable(t *testing.T) {
	for _, from := range allStates {
		for _, to := range successors[from] {
			if !canMove(from, to) {
				t.Errorf("%s to %s", from, to)
			}
		}
		for _, final := range []State{Succeeded, Failed, Canceled, RevertFailed} {
			if from.Terminal() && from != final && canMove(from, final) {
				t.Errorf("final state %s can move to %s", from, final)
			}
		}
	}
}

func newEnv(t *testing.T) *env {
	t.Helper()
	return &env{t: t, db: kvtest.NewDB(t)}
}
