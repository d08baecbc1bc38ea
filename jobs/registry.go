package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/jobs/jobspb"
	"github.com/holdfastdb/holdfast/kv"
)

// Config is what a Registry needs.
type Config struct {
	DB           *kv.DB
	NodeID       int64 // of this process; claims and SHOW JOBS name it
	Log          *slog.Logger
	Settings     *Settings
	Constructors map[string]func() Resumer // by type; a job of another type stays unclaimed

	SessionTTL   time.Duration // a session without a heartbeat for this long is dead
	Heartbeat    time.Duration // between heartbeats of the session
	PollInterval time.Duration // between looks for work when nothing wakes the loop

	// Notify tells other nodes that jobs have changed here, so that they Wake; it
	// does not wait for them. nil leaves it to their polling.
	Notify  func()
	Testing Testing
}

// Testing are hooks for tests.
type Testing struct {
	// Frozen says that this process is as one that the system does not let run: it
	// sends no heartbeats and looks for no jobs. What runs goes on.
	Frozen func() bool
}

func (t *Testing) frozen() bool { return t.Frozen != nil && t.Frozen() }

// DefaultConfig returns a Config with all durations set.
func DefaultConfig() Config {
	return Config{SessionTTL: 9 * time.Second, Heartbeat: 3 * time.Second, PollInterval: 5 * time.Second}
}

// Settings are the cluster settings of this package.
type Settings struct {
	pausepoints  *settings.String
	retention    *settings.Duration
	gcInterval   *settings.Duration
	retryInitial *settings.Duration
	retryMax     *settings.Duration
	maxErrors    *settings.Int
	maxErrorSize *settings.ByteSize
}

// RegisterSettings defines the cluster settings of this package in reg.
func RegisterSettings(reg *settings.Registry) *Settings {
	positive := func(d time.Duration) error {
		if d <= 0 {
			return fmt.Errorf("must be greater than 0, is %s", d)
		}
		return nil
	}
	atLeastOne := func(n int64) error {
		if n < 1 {
			return fmt.Errorf("must be at least 1, is %d", n)
		}
		return nil
	}
	const inert = "; has no effect: requests are told at once"
	reg.Float("jobs.registry.interval.base", "factor of the registry's intervals"+inert, 1, nil)
	reg.Duration("jobs.registry.interval.adopt", "time between looks for jobs"+inert, 30*time.Second, positive)
	reg.Duration("jobs.registry.interval.cancel", "time between looks for jobs to stop"+inert, 10*time.Second, positive)
	reg.Int("jobs.cancel_update_limit", "number of jobs stopped by one look"+inert, 1000, atLeastOne)
	const noSchedules = "; has no effect in this version, which has no schedules"
	reg.Bool("jobs.scheduler.enabled", "run schedules"+noSchedules, true)
	reg.Duration("jobs.scheduler.pace", "time between looks for due schedules"+noSchedules, time.Minute, positive)
	reg.Int("jobs.scheduler.max_jobs_per_iteration", "number of jobs that one look starts"+noSchedules, 10, atLeastOne)
	reg.Bool("jobs.scheduler.single_node_scheduler.enabled", "let one node run all schedules"+noSchedules, false)
	return &Settings{
		pausepoints: reg.String("jobs.debug.pausepoints",
			"comma-separated list of places at which jobs pause themselves", "", nil),
		retention: reg.Duration("jobs.retention_time",
			"how long the rows of finished jobs are kept", 336*time.Hour, positive),
		gcInterval: reg.Duration("jobs.registry.interval.gc",
			"time between removals of old jobs", time.Hour, positive),
		retryInitial: reg.Duration("jobs.registry.retry.initial_delay",
			"delay before a job runs again after a retryable error; it doubles with each run", 30*time.Second, positive),
		retryMax: reg.Duration("jobs.registry.retry.max_delay",
			"upper bound of the delay before a job runs again", 24*time.Hour, positive),
		maxErrors: reg.Int("jobs.execution_errors.max_entries",
			"number of retryable errors kept for a job", 3, atLeastOne),
		maxErrorSize: reg.ByteSize("jobs.execution_errors.max_entry_size",
			"longest retryable error kept for a job", 64<<10, atLeastOne),
	}
}

// Registry finds, claims and runs jobs on one node. It is safe for concurrent
// use.
type Registry struct {
	cfg     Config
	log     *slog.Logger
	Metrics *Metrics

	wakeup chan struct{} // one token: look for work now

	mu struct {
		sync.Mutex
		session *session
		running map[ID]*runningJob
		// starting holds jobs created here, claimed and about to start at commit.
		starting map[ID]time.Time
		changed  chan struct{} // closed and replaced whenever a job changes here
		base     context.Context
		lastID   int64
	}
	goroutines sync.WaitGroup // one for each running job
}

type runningJob struct {
	cancel context.CancelCauseFunc
}

// Causes of a canceled job context.
var (
	errRequested = errors.New("a user asked this job to pause or to be canceled")
	errShutdown  = errors.New("this node is shutting down")
)

// NewRegistry returns a registry that creates jobs; Run makes it run them.
func NewRegistry(cfg Config) *Registry {
	r := &Registry{cfg: cfg, log: cfg.Log, Metrics: newMetrics(), wakeup: make(chan struct{}, 1)}
	r.mu.running = make(map[ID]*runningJob)
	r.mu.starting = make(map[ID]time.Time)
	r.mu.changed = make(chan struct{})
	return r
}

// New says what a new job shall do.
type New struct {
	Type          string
	Description   string
	Statement     string
	Username      string
	Details       []byte // of the type
	Progress      []byte // of the type
	DescriptorIDs []uint32
	NonCancelable bool
	CreatedByType string
	CreatedByID   int64
	StartHere     bool // claim it for this node, which starts it at commit
}

// CreateJob writes a job inside txn; it exists and can run once txn commits.
func (r *Registry) CreateJob(ctx context.Context, txn *kv.Txn, n New) (ID, error) {
	rec := &Record{
		ID: r.newID(), Type: n.Type, State: Running, Created: r.now(),
		CreatedByType: n.CreatedByType, CreatedByID: n.CreatedByID,
		Payload: &jobspb.Payload{
			Description: n.Description, Statement: n.Statement, Username: n.Username,
			DescriptorIds: n.DescriptorIDs, Noncancelable: n.NonCancelable, Details: n.Details,
		},
		Progress: &jobspb.Progress{Details: n.Progress, ModifiedMicros: r.nowMicros()},
	}
	startHere := n.StartHere && r.reserve(rec)
	if err := rec.store(ctx, txn); err != nil {
		return 0, err
	}
	txn.OnCommit(func() {
		if startHere {
			r.start(rec)
		} else {
			r.wake()
			r.notify()
		}
	})
	return rec.ID, nil
}

// reserve claims a job that is about to be created, if this process runs jobs.
func (r *Registry) reserve(rec *Record) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.session == nil || r.cfg.Constructors[rec.Type] == nil {
		return false
	}
	rec.claim = claim{session: r.mu.session.id, instance: r.cfg.NodeID, epoch: 1}
	rec.NumRuns, rec.LastRun, rec.Payload.StartedMicros = 1, r.now(), r.nowMicros()
	r.mu.starting[rec.ID] = time.Now()
	return true
}

// newID returns an id that grows with time and is unique to this node.
func (r *Registry) newID() ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	const tick = 10 * time.Microsecond
	t := r.cfg.DB.Clock().PhysicalNow() / int64(tick)
	r.mu.lastID = max(r.mu.lastID+1, t)
	return ID(r.mu.lastID<<15 | r.cfg.NodeID&(1<<15-1))
}

func (r *Registry) now() time.Time { return r.cfg.DB.Clock().PhysicalTime().Truncate(time.Microsecond) }

func (r *Registry) nowMicros() int64 { return r.now().UnixMicro() }

// wake makes the loop look for work now and waiting statements look again.
func (r *Registry) wake() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
	r.broadcast()
}

// Wake makes the registry look for work now: jobs have changed on another node.
func (r *Registry) Wake() { r.wake() }

func (r *Registry) notify() {
	if r.cfg.Notify != nil {
		r.cfg.Notify()
	}
}

// changes returns a channel that is closed when a job changes on this node.
func (r *Registry) changes() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.changed
}

func (r *Registry) broadcast() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.mu.changed)
	r.mu.changed = make(chan struct{})
}

// sleep waits for a token, a change or the end of d.
func (r *Registry) sleep(ctx context.Context, c <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c:
	case <-t.C:
	}
	return nil
}

// Run claims and runs jobs until ctx is done. It owns every goroutine of this
// package: when Run returns, none is left, and other processes may adopt what
// was not finished.
func (r *Registry) Run(ctx context.Context) error {
	base, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errShutdown)
	if err := r.beginSession(ctx, base); err != nil {
		return err
	}
	var loops sync.WaitGroup
	loops.Go(func() { r.heartbeatLoop(ctx) })
	loops.Go(func() { r.gcLoop(ctx) })
	for ctx.Err() == nil {
		if err := r.adopt(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "looking for jobs; will retry", "err", err)
		}
		_ = r.sleep(ctx, r.wakeup, r.cfg.PollInterval) // Its only error is that of ctx.
	}
	loops.Wait()
	return r.shutdown(ctx, stop)
}

func (r *Registry) beginSession(ctx, base context.Context) error {
	s := newSession(r.cfg.DB, r.cfg.NodeID, r.cfg.SessionTTL)
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("starting the job session: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.session, r.mu.base = s, base
	return nil
}

// shutdown stops the running jobs, which release their claims, and ends the
// session.
func (r *Registry) shutdown(ctx context.Context, stop context.CancelCauseFunc) error {
	r.mu.Lock()
	s := r.mu.session
	r.mu.session = nil // start refuses from here on, so the wait below ends.
	r.mu.Unlock()
	stop(errShutdown)
	r.goroutines.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.end(ctx); err != nil {
		r.log.WarnContext(ctx, "ending the job session; it will expire", "err", err)
	}
	r.notify()
	return nil
}

// heartbeatLoop keeps the session alive. A session that died (this process was
// paused for too long) takes its jobs with it; a new one begins.
func (r *Registry) heartbeatLoop(ctx context.Context) {
	for r.sleep(ctx, nil, r.cfg.Heartbeat) == nil {
		if r.cfg.Testing.frozen() {
			continue
		}
		r.mu.Lock()
		s, base := r.mu.session, r.mu.base
		r.mu.Unlock()
		hb, cancel := context.WithTimeout(ctx, r.cfg.SessionTTL)
		err := s.heartbeat(hb)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, errSessionDead):
			r.log.WarnContext(ctx, "the job session was declared dead; its jobs stop here")
			r.stopAll(ErrLostClaim)
			if err := r.beginSession(ctx, base); err != nil {
				r.log.WarnContext(ctx, "starting a new job session; will retry", "err", err)
			}
		default:
			r.log.WarnContext(ctx, "job session heartbeat; will retry", "err", err)
		}
	}
}

func (r *Registry) stopAll(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range r.mu.running {
		j.cancel(cause)
	}
}

// adopt looks at every job that is not at rest: it claims those that nobody
// holds, starts those that are ours, and tells running ones about requests.
func (r *Registry) adopt(ctx context.Context) error {
	if r.cfg.Testing.frozen() {
		return nil
	}
	r.Metrics.adoptIterations.Inc()
	var ids []ID
	var live map[string]bool
	paused := map[string]int{}
	err := r.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
		ids = nil
		clear(paused)
		if live, err = liveSessions(ctx, txn); err != nil {
			return err
		}
		for _, state := range unclaimedWork {
			some, err := idsInState(ctx, txn, state)
			if err != nil {
				return err
			}
			ids = append(ids, some...)
		}
		atRest, err := idsInState(ctx, txn, Paused)
		if err != nil {
			return err
		}
		for _, id := range atRest {
			rec, err := load(ctx, txn, id)
			if err != nil {
				return err
			}
			paused[rec.Type]++
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.Metrics.paused(paused)
	for _, id := range ids {
		if err := r.adoptOne(ctx, id, live); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("claiming job %d: %w", id, err)
		}
	}
	return nil
}

func (r *Registry) adoptOne(ctx context.Context, id ID, live map[string]bool) error {
	r.mu.Lock()
	// Taken before the row is read: if the job goes on to revert meanwhile, this
	// stops the run that the request was meant for, and not the revert.
	var stopLocal context.CancelCauseFunc
	if rj := r.mu.running[id]; rj != nil {
		stopLocal = rj.cancel
	}
	reserved, starting := r.mu.starting[id]
	self := r.mu.session
	r.mu.Unlock()
	if self == nil || starting && time.Since(reserved) < time.Minute {
		return nil
	}
	var rec *Record
	var start bool
	err := r.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
		start = false
		if rec, err = load(ctx, txn, id); err != nil {
			return err
		}
		if stopLocal != nil && rec.claim.session == self.id {
			return nil
		}
		if rec.claim.session != self.id && live[rec.claim.session] || rec.NextRun.After(r.now()) {
			return nil
		}
		if rec.claim.session != "" && rec.claim.session != self.id {
			// It may have begun since live was read.
			if alive, err := sessionAlive(ctx, txn, rec.claim.session); err != nil || alive {
				return err
			}
		}
		if start, err = r.claimRecord(rec, self); err != nil || !start && rec.claim.session != "" {
			return err
		}
		return rec.store(ctx, txn)
	})
	if err != nil {
		return err
	}
	if stopLocal != nil && (rec.State == PauseRequested || rec.State == CancelRequested) {
		stopLocal(errRequested)
	}
	if start {
		r.Metrics.claimed.Inc()
		r.Metrics.resumed.Inc()
		r.log.InfoContext(ctx, "claimed job", "job", id, "type", rec.Type, "state", rec.State, "epoch", rec.claim.epoch)
		r.start(rec)
	} else if rec.State == Paused {
		r.broadcast()
		r.notify()
	}
	return nil
}

// claimRecord changes rec so that this process holds it, and says whether there
// is work to start. A job that was asked to pause and has no runner is paused
// here and stays unclaimed.
func (r *Registry) claimRecord(rec *Record, self *session) (start bool, err error) {
	if rec.State == PauseRequested {
		rec.claim = claim{epoch: rec.claim.epoch}
		return false, rec.move(Paused)
	}
	if r.cfg.Constructors[rec.Type] == nil {
		return false, nil
	}
	switch rec.State {
	case Pending:
		err = rec.move(Running)
	case CancelRequested:
		rec.Payload.FinalResumeError = encodeError(errCanceled)
		err = rec.move(Reverting)
	case Running, Reverting:
	default: // It came to rest since the index was read.
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rec.claim = claim{session: self.id, instance: r.cfg.NodeID, epoch: rec.claim.epoch + 1}
	rec.NumRuns++
	rec.LastRun, rec.NextRun = r.now(), time.Time{}
	if rec.Payload.StartedMicros == 0 {
		rec.Payload.StartedMicros = r.nowMicros()
	}
	return true, nil
}

// start runs a job that this process has claimed, unless the registry stops or
// the session changed; then the claim dies with the session.
func (r *Registry) start(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.starting, rec.ID)
	if r.mu.session == nil || r.mu.session.id != rec.claim.session || r.mu.running[rec.ID] != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(r.mu.base)
	r.mu.running[rec.ID] = &runningJob{cancel: cancel}
	r.goroutines.Add(1)
	go func() { // shutdown waits for it.
		defer r.goroutines.Done()
		defer cancel(nil)
		r.runJob(ctx, rec)
		r.mu.Lock()
		delete(r.mu.running, rec.ID)
		r.mu.Unlock()
		r.wake() // A request may have arrived while the job came to rest.
	}()
}

// runJob lets the resumer work until the job comes to rest here.
func (r *Registry) runJob(ctx context.Context, rec *Record) {
	j := &Job{
		registry: r, id: rec.ID, jobType: rec.Type, claim: rec.claim,
		Log: r.log.With("job", int64(rec.ID), "type", rec.Type),
	}
	j.remember(rec)
	resumer := r.cfg.Constructors[rec.Type]()
	for state := rec.State; ; {
		began := r.now()
		r.Metrics.running(rec.Type, 1)
		err := r.call(ctx, resumer, j, state)
		r.Metrics.running(rec.Type, -1)
		next, goOn, settleErr := r.settle(ctx, j, state, began, err)
		if settleErr != nil {
			j.Log.WarnContext(ctx, "recording the outcome of a run; the job will be adopted again",
				"outcome", err, "err", settleErr)
			// If it cannot be recorded now, it hardly can in a moment.
			select {
			case <-time.After(settlePause):
			case <-ctx.Done():
			}
			return
		}
		j.Log.InfoContext(ctx, "job run ended", "from", state, "state", next, "duration", r.now().Sub(began), "err", err)
		r.broadcast()
		r.notify()
		if !goOn {
			return
		}
		// Reverting must not be stopped by the request that led to it.
		r.mu.Lock()
		base := r.mu.base
		cancel := context.CancelCauseFunc(nil)
		ctx, cancel = context.WithCancelCause(base)
		if rj := r.mu.running[j.id]; rj != nil {
			rj.cancel = cancel
		}
		r.mu.Unlock()
		defer cancel(nil)
		state = next
	}
}

// call runs the resumer once. A panic is a bug of ours that must not take the
// node down: it becomes an error of the job.
func (r *Registry) call(ctx context.Context, resumer Resumer, j *Job, state State) (err error) {
	defer func() {
		if p := recover(); p != nil {
			j.Log.ErrorContext(ctx, "job panicked", "panic", p, "stack", string(debug.Stack()))
			err = pgerr.Newf(pgerr.Internal, "internal error in job %d: %v", j.id, p)
		}
	}()
	if state == Reverting {
		return resumer.OnFailOrCancel(ctx, j, decodeError(j.Payload().FinalResumeError))
	}
	return resumer.Resume(ctx, j)
}

// settlePause is how long a job whose outcome could not be recorded waits before it
// is adopted again.
const settlePause = time.Second

// settle writes what a run's end means for the job's row. goOn says that this
// process continues with the new state.
func (r *Registry) settle(
	runCtx context.Context, j *Job, ran State, began time.Time, runErr error,
) (next State, goOn bool, err error) {
	// The run's context may be done; the outcome must be written all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(runCtx), r.cfg.SessionTTL)
	defer cancel()
	shutdown := errors.Is(context.Cause(runCtx), errShutdown)
	if errors.Is(runErr, ErrLostClaim) || errors.Is(context.Cause(runCtx), ErrLostClaim) {
		return ran, false, nil
	}
	var rec *Record
	err = r.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
		if rec, err = j.loadClaimed(ctx, txn); err != nil {
			return err
		}
		if goOn, err = r.decide(rec, ran, began, runErr, shutdown); err != nil {
			return err
		}
		if !goOn {
			// Nobody holds it from here on. Of a job that ended it stays known who
			// ran it.
			held := rec.claim
			rec.claim = claim{epoch: held.epoch}
			if rec.State.Terminal() {
				rec.claim.instance = held.instance
			}
		}
		rec.Progress.ModifiedMicros = r.nowMicros()
		return rec.store(ctx, txn)
	})
	if err != nil {
		return ran, false, err
	}
	j.remember(rec)
	r.Metrics.ended(rec.Type, ran, rec.State, runErr)
	return rec.State, goOn, nil
}

// decide moves rec according to how its run ended.
func (r *Registry) decide(rec *Record, ran State, began time.Time, runErr error, shutdown bool) (goOn bool, err error) {
	m := markOf(runErr)
	switch {
	case runErr == nil && ran == Running:
		rec.Progress.FractionCompleted, rec.Progress.RunningStatus = 1, ""
		return false, r.finish(rec, Succeeded, nil)
	case runErr == nil:
		cause := rec.Payload.FinalResumeError
		if cause.Message == errCanceled.Message {
			return false, r.finish(rec, Canceled, cause)
		}
		return false, r.finish(rec, Failed, cause)
	case rec.State == PauseRequested:
		return false, rec.move(Paused)
	case rec.State == CancelRequested:
		rec.Payload.FinalResumeError = encodeError(errCanceled)
		return true, rec.move(Reverting)
	case shutdown:
		return false, nil // Another process, or this one after its restart, goes on.
	case m.mark == markPause:
		rec.Payload.PauseReason = m.reason
		if err := rec.move(PauseRequested); err != nil {
			return false, err
		}
		return false, rec.move(Paused)
	case m.mark == markElsewhere:
		r.addExecutionError(rec, ran, began, runErr)
		rec.NextRun = r.now().Add(r.cfg.PollInterval)
		return false, nil
	case ran == Running && m.mark != markRetryable:
		rec.Payload.FinalResumeError = encodeError(runErr)
		return true, rec.move(Reverting)
	case ran == Reverting && m.mark == markPermanent:
		return false, r.finish(rec, RevertFailed, encodeError(runErr))
	}
	r.addExecutionError(rec, ran, began, runErr)
	rec.NextRun = r.now().Add(r.backoff(rec.NumRuns))
	return false, nil
}

func (r *Registry) finish(rec *Record, to State, cause *jobspb.Error) error {
	rec.Payload.Error = cause
	rec.Payload.FinishedMicros = r.nowMicros()
	return rec.move(to)
}

func (r *Registry) addExecutionError(rec *Record, ran State, began time.Time, err error) {
	text := err.Error()
	if limit := r.cfg.Settings.maxErrorSize.Get(); int64(len(text)) > limit {
		text = text[:limit]
	}
	all := append(rec.Payload.ExecutionErrors, &jobspb.ExecutionError{
		StartedMicros: began.UnixMicro(), FailedMicros: r.nowMicros(), InstanceId: r.cfg.NodeID,
		Reverting: ran == Reverting, Error: text,
	})
	if limit := int(r.cfg.Settings.maxErrors.Get()); len(all) > limit {
		all = all[len(all)-limit:]
	}
	rec.Payload.ExecutionErrors = all
}

// backoff returns the delay before run number runs+1.
func (r *Registry) backoff(runs int64) time.Duration {
	d, limit := r.cfg.Settings.retryInitial.Get(), r.cfg.Settings.retryMax.Get()
	for ; runs > 1 && d < limit; runs-- {
		d *= 2
	}
	return min(d, limit)
}

// ExecutionErrors prints the retryable errors of a job as SHOW JOBS lists them.
func (rec *Record) ExecutionErrors() []string {
	const layout = "2006-01-02 15:04:05.000000"
	var out []string
	for _, e := range rec.Payload.ExecutionErrors {
		what := "running"
		if e.Reverting {
			what = "reverting"
		}
		out = append(out, fmt.Sprintf("%s execution from '%s' to '%s' on %d failed: %s", what,
			fromMicros(e.StartedMicros).Format(layout), fromMicros(e.FailedMicros).Format(layout), e.InstanceId, e.Error))
	}
	return out
}

// gcLoop removes jobs that ended long ago.
func (r *Registry) gcLoop(ctx context.Context) {
	for r.sleep(ctx, nil, r.cfg.Settings.gcInterval.Get()) == nil {
		if n, err := r.removeOld(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "removing old jobs; will retry", "err", err)
		} else if n > 0 {
			r.log.InfoContext(ctx, "removed old jobs", "count", n)
		}
	}
}

func (r *Registry) removeOld(ctx context.Context) (n int, err error) {
	oldest := r.now().Add(-r.cfg.Settings.retention.Get())
	for _, state := range allStates {
		if !state.Terminal() {
			continue
		}
		var ids []ID
		err := r.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) (err error) {
			ids, err = idsInState(ctx, txn, state)
			return err
		})
		if err != nil {
			return n, err
		}
		for _, id := range ids {
			removed := false
			err := r.cfg.DB.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
				rec, err := load(ctx, txn, id)
				if err != nil {
					return err
				}
				if removed = rec.Finished().Before(oldest); !removed {
					return nil
				}
				return rec.remove(ctx, txn)
			})
			if err != nil && !errors.Is(err, ErrNotFound) {
				return n, err
			}
			if removed {
				n++
			}
		}
	}
	return n, nil
}
