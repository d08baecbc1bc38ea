package extstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/extstore/fault"
	"github.com/holdfastdb/holdfast/backupccl/extstore/storetest"
)

var quickRetry = extstore.RetryPolicy{MaxAttempts: 4, InitialBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond}

// fakeS3 starts an S3 service with one bucket and returns a URI below it.
func fakeS3(t *testing.T) string {
	be := s3mem.New()
	if err := be.CreateBucket("b1"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(be).Server())
	t.Cleanup(srv.Close)
	return "s3://b1/some/place?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=secret&AWS_ENDPOINT=" + url.QueryEscape(srv.URL)
}

func openFactory(t *testing.T, uri string, edit func(*extstore.Config)) extstore.Store {
	cfg := extstore.DefaultConfig()
	cfg.ExternalIODir = t.TempDir()
	cfg.Retry = quickRetry
	cfg.Metrics = extstore.NewMetrics(nil)
	cfg.OpTimeout = 20 * time.Second
	if edit != nil {
		edit(&cfg)
	}
	s, err := extstore.NewFactory(cfg).Open(context.Background(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// implementations are what the one suite runs against.
var implementations = map[string]func(t *testing.T) extstore.Store{
	"mem": func(t *testing.T) extstore.Store { return extstore.NewMem() },
	"nodelocal": func(t *testing.T) extstore.Store {
		return openFactory(t, "nodelocal://1/a/b", nil)
	},
	"s3": func(t *testing.T) extstore.Store { return openFactory(t, fakeS3(t), nil) },
	"limited": func(t *testing.T) extstore.Store {
		return openFactory(t, "nodelocal://self/a", func(c *extstore.Config) {
			c.ReadLimiter = extstore.NewLimiter(1<<30, 0)
			c.WriteLimiter = extstore.NewLimiter(1<<30, 0)
		})
	},
	// Every third operation fails in one of the ways that retries must hide.
	"flaky": func(t *testing.T) extstore.Store {
		return openFactory(t, "nodelocal://1/a", func(c *extstore.Config) {
			c.Testing.Wrap = func(s extstore.Store) extstore.Store {
				return fault.New(s, func(op fault.Op) fault.Action {
					if op.N%3 != 0 {
						return fault.Pass
					}
					return []fault.Action{fault.Refuse, fault.LoseAnswer, fault.Tear}[op.N/3%3]
				})
			}
		})
	},
}

// The helpers of the suite, by short names.
var (
	put, get, list = storetest.Put, storetest.Get, storetest.List
	randomBytes    = storetest.RandomBytes
)

func TestStores(t *testing.T) {
	for name, open := range implementations {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, open)
		})
	}
}

// TestRetryLostAnswer: a put whose answer was lost is recognised as ours, and
// the file of somebody else is not.
func TestRetryLostAnswer(t *testing.T) {
	mem := extstore.NewMem()
	f := fault.New(mem, func(op fault.Op) fault.Action {
		if op.N == 0 {
			return fault.LoseAnswer
		}
		return fault.Pass
	})
	s := extstore.WithRetries(f, quickRetry, slog.New(slog.DiscardHandler))
	if err := s.Put(t.Context(), "m", strings.NewReader("mine")); err != nil {
		t.Errorf("own file after a lost answer: %v", err)
	}
	f.SetPlan(func(op fault.Op) fault.Action {
		if op.Kind == "put" && f != nil {
			return fault.Pass
		}
		return fault.Pass
	})
	if err := s.Put(t.Context(), "m", strings.NewReader("other")); !errors.Is(err, extstore.ErrExists) {
		t.Errorf("other's file: got %v", err)
	}
}

// TestRetryGivesUp: a store that stays down is reported, not waited for.
func TestRetryGivesUp(t *testing.T) {
	f := fault.New(extstore.NewMem(), func(fault.Op) fault.Action { return fault.Refuse })
	s := extstore.WithRetries(f, quickRetry, slog.New(slog.DiscardHandler))
	if err := s.Put(t.Context(), "m", strings.NewReader("x")); !errors.Is(err, fault.ErrInjected) {
		t.Errorf("got %v", err)
	}
	if got := f.Count(); got != quickRetry.MaxAttempts {
		t.Errorf("%d attempts, want %d", got, quickRetry.MaxAttempts)
	}
}

func TestS3Errors(t *testing.T) {
	uri := strings.Replace(fakeS3(t), "s3://b1", "s3://nosuchbucket", 1)
	s := openFactory(t, uri, nil)
	start := time.Now()
	err := s.Put(t.Context(), "f", strings.NewReader("x"))
	if err == nil || extstore.IsRetryable(err) || errors.Is(err, extstore.ErrNotExist) {
		t.Errorf("missing bucket: got %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("missing bucket took %s to report", d)
	}
	if strings.Contains(fmt.Sprint(err), "secret&") || strings.Contains(s.String(), "=secret") {
		t.Errorf("secret shown: %v", err)
	}
}
