package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readiness is what /health?ready=1 reports.
type readiness struct{ state atomic.Int32 }

const (
	stateStarting int32 = iota
	stateWaiting
	stateReady
	stateDraining
)

func (r *readiness) set(s int32) { r.state.Store(s) }

// problem is empty when the node accepts clients.
func (r *readiness) problem() string {
	switch r.state.Load() {
	case stateReady:
		return ""
	case stateDraining:
		return "node is shutting down"
	case stateWaiting:
		return "node is waiting for cluster initialization"
	}
	return "node is not healthy"
}

// httpServer answers probes, metrics and profiles.
type httpServer struct {
	srv  *http.Server
	done chan struct{}
}

func newHTTPServer(l net.Listener, ready *readiness, metrics prometheus.Gatherer, log *slog.Logger) *httpServer {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) { serveHealth(w, r, ready) })
	mux.HandleFunc("/_admin/v1/health", func(w http.ResponseWriter, r *http.Request) { serveHealth(w, r, ready) })
	vars := promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)})
	mux.Handle("/_status/vars", vars)
	mux.Handle("/metrics", vars)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	h := &httpServer{
		srv:  &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)},
		done: make(chan struct{}),
	}
	go func() { // close waits for it.
		defer close(h.done)
		if err := h.srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Warn("HTTP server ended", "err", err)
		}
	}()
	return h
}

func (h *httpServer) close(ctx context.Context) {
	if err := h.srv.Shutdown(ctx); err != nil {
		_ = h.srv.Close()
	}
	<-h.done
}

// serveHealth says that the process lives, and with ?ready=1 whether it wants clients.
func serveHealth(w http.ResponseWriter, r *http.Request, ready *readiness) {
	w.Header().Set("Content-Type", "application/json")
	if q := r.URL.Query().Get("ready"); q != "" && q != "0" && q != "false" {
		if msg := ready.problem(); msg != "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": msg, "code": 14, "message": msg, "details": []any{}})
			return
		}
	}
	_, _ = w.Write([]byte("{}\n"))
}
