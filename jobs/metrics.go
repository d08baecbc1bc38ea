package jobs

import (
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what jobs of this node did, by type: jobs_backup_… and so on.
// It is a prometheus.Collector; types appear when their first job runs.
type Metrics struct {
	adoptIterations prometheus.Counter
	claimed         prometheus.Counter
	resumed         prometheus.Counter

	mu struct {
		sync.Mutex
		byType map[string]*typeMetrics
	}
}

type typeMetrics struct {
	currentlyRunning, currentlyPaused          prometheus.Gauge
	currentlyIdle                              prometheus.Gauge // a job never idles here, but alerts name it
	resumeCompleted, resumeFailed, resumeRetry prometheus.Counter
	revertCompleted, revertFailed, revertRetry prometheus.Counter
}

func newMetrics() *Metrics {
	m := &Metrics{
		adoptIterations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "jobs_adopt_iterations", Help: "Number of looks for jobs to claim."}),
		claimed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "jobs_claimed_jobs", Help: "Number of jobs claimed by this node."}),
		resumed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "jobs_resumed_claimed_jobs", Help: "Number of jobs that this node started to run."}),
	}
	m.mu.byType = make(map[string]*typeMetrics)
	for _, t := range []string{TypeBackup, TypeRestore, TypeSchemaChange, TypeSchemaChangeGC} {
		m.of(t)
	}
	return m
}

func (m *Metrics) of(jobType string) *typeMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.mu.byType[jobType]; t != nil {
		return t
	}
	prefix := "jobs_" + strings.ReplaceAll(strings.ToLower(jobType), " ", "_") + "_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	t := &typeMetrics{
		currentlyRunning: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "currently_running", Help: "Number of jobs of this type that run on this node."}),
		currentlyPaused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "currently_paused", Help: "Number of jobs of this type that are paused."}),
		currentlyIdle: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "currently_idle", Help: "Number of jobs of this type that run and have nothing to do."}),
		resumeCompleted: counter("resume_completed", "Runs that completed their job."),
		resumeFailed:    counter("resume_failed", "Runs that failed for good."),
		resumeRetry:     counter("resume_retry_error", "Runs that ended with an error that may pass."),
		revertCompleted: counter("fail_or_cancel_completed", "Reverts that completed."),
		revertFailed:    counter("fail_or_cancel_failed", "Reverts that failed for good."),
		revertRetry:     counter("fail_or_cancel_retry_error", "Reverts that ended with an error that may pass."),
	}
	m.mu.byType[jobType] = t
	return t
}

func (m *Metrics) running(jobType string, by float64) { m.of(jobType).currentlyRunning.Add(by) }

// paused takes how many jobs of each type are paused in the cluster.
func (m *Metrics) paused(byType map[string]int) {
	for t := range byType {
		m.of(t)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, t := range m.mu.byType {
		t.currentlyPaused.Set(float64(byType[name]))
	}
}

func (m *Metrics) ended(jobType string, ran, now State, err error) {
	t := m.of(jobType)
	switch {
	case ran == Running && err == nil:
		t.resumeCompleted.Inc()
	case ran == Running && now == Reverting:
		t.resumeFailed.Inc()
	case ran == Running && now == Running:
		t.resumeRetry.Inc()
	case ran == Reverting && err == nil:
		t.revertCompleted.Inc()
	case ran == Reverting && now == RevertFailed:
		t.revertFailed.Inc()
	case ran == Reverting && now == Reverting:
		t.revertRetry.Inc()
	}
}

// Describe sends nothing: types are not known in advance.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect sends every metric.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	ch <- m.adoptIterations
	ch <- m.claimed
	ch <- m.resumed
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.mu.byType {
		for _, c := range []prometheus.Metric{
			t.currentlyRunning, t.currentlyPaused, t.currentlyIdle, t.resumeCompleted, t.resumeFailed, t.resumeRetry,
			t.revertCompleted, t.revertFailed, t.revertRetry,
		} {
			ch <- c
		}
	}
}
