package extstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/extstore/fault"
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

func TestStores(t *testing.T) {
	for name, open := range implementations {
		t.Run(name, func(t *testing.T) {
			for _, c := range suite {
				t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
			}
		})
	}
}

func put(t *testing.T, s extstore.Store, name string, b []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, bytes.NewReader(b)); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

func get(t *testing.T, s extstore.Store, name string, offset, length int64) []byte {
	t.Helper()
	r, err := s.Open(t.Context(), name, offset, length)
	if err != nil {
		t.Fatalf("open %s: %v", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return b
}

func list(t *testing.T, s extstore.Store, prefix, delimiter string) []string {
	t.Helper()
	var names []string
	if err := s.List(t.Context(), prefix, delimiter, func(n string) error {
		names = append(names, n)
		return nil
	}); err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	return names
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = rng.Read(b)
	return b
}

// producer gives n bytes and then fails.
type producer struct {
	left int
	err  error
}

func (p *producer) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, p.err
	}
	n := min(len(b), p.left, 4096)
	p.left -= n
	return n, nil
}

var suite = []struct {
	name string
	run  func(*testing.T, extstore.Store)
}{
	{"round trip", func(t *testing.T, s extstore.Store) {
		for _, n := range []int{0, 1, 1000, 1 << 20, 9 << 20} {
			name := fmt.Sprintf("dir/f%d", n)
			want := randomBytes(n)
			put(t, s, name, want)
			if got := get(t, s, name, 0, -1); !bytes.Equal(got, want) {
				t.Errorf("%s: got %d bytes back, want %d", name, len(got), n)
			}
			if size, err := s.Size(t.Context(), name); err != nil || size != int64(n) {
				t.Errorf("size of %s: got %d, %v", name, size, err)
			}
		}
	}},
	{"ranges", func(t *testing.T, s extstore.Store) {
		want := randomBytes(1000)
		put(t, s, "f", want)
		for _, r := range [][4]int64{{0, 10, 0, 10}, {500, 100, 500, 600}, {990, -1, 990, 1000}, {990, 100, 990, 1000}, {1000, -1, 1000, 1000}, {1500, 10, 1000, 1000}, {3, 0, 3, 3}} {
			if got := get(t, s, "f", r[0], r[1]); !bytes.Equal(got, want[r[2]:r[3]]) {
				t.Errorf("range %d+%d: got %d bytes", r[0], r[1], len(got))
			}
		}
	}},
	{"missing", func(t *testing.T, s extstore.Store) {
		if _, err := s.Open(t.Context(), "nope/x", 0, -1); !errors.Is(err, extstore.ErrNotExist) {
			t.Errorf("open: got %v", err)
		}
		if _, err := s.Size(t.Context(), "nope/x"); !errors.Is(err, extstore.ErrNotExist) {
			t.Errorf("size: got %v", err)
		}
		if err := s.Delete(t.Context(), "nope/x"); err != nil {
			t.Errorf("delete: got %v", err)
		}
		if got := list(t, s, "nope/", ""); len(got) != 0 {
			t.Errorf("list: got %v", got)
		}
	}},
	{"taken name", func(t *testing.T, s extstore.Store) {
		for _, n := range []int{5, 9 << 20} {
			name := fmt.Sprint("f", n)
			want := randomBytes(n)
			put(t, s, name, want)
			if err := s.Put(t.Context(), name, bytes.NewReader(randomBytes(n+1))); !errors.Is(err, extstore.ErrExists) {
				t.Errorf("second put of %d bytes: got %v", n, err)
			}
			if got := get(t, s, name, 0, -1); !bytes.Equal(got, want) {
				t.Errorf("the first file of %d bytes changed", n)
			}
		}
	}},
	{"racing writers", func(t *testing.T, s extstore.Store) {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = s.Put(t.Context(), "d/winner", strings.NewReader(fmt.Sprint("writer ", i))) })
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won < 0:
				won = i
			case err == nil:
				t.Errorf("writers %d and %d both won", won, i)
			case !errors.Is(err, extstore.ErrExists):
				t.Errorf("writer %d: %v", i, err)
			}
		}
		if got := string(get(t, s, "d/winner", 0, -1)); got != fmt.Sprint("writer ", won) {
			t.Errorf("writer %d won, file holds %q", won, got)
		}
	}},
	{"torn producer", func(t *testing.T, s extstore.Store) {
		boom := errors.New("boom")
		for _, n := range []int{0, 100, 9 << 20, 20 << 20} {
			name := fmt.Sprint("d/torn", n)
			if err := s.Put(t.Context(), name, &producer{n, boom}); !errors.Is(err, boom) && !errors.Is(err, fault.ErrInjected) {
				t.Errorf("%d bytes: got %v", n, err)
			}
			if _, err := s.Size(t.Context(), name); !errors.Is(err, extstore.ErrNotExist) {
				t.Errorf("%d bytes: a torn file is there: %v", n, err)
			}
		}
		if got := list(t, s, "", ""); len(got) != 0 {
			t.Errorf("listed %v", got)
		}
	}},
	{"cancelled write", func(t *testing.T, s extstore.Store) {
		for _, n := range []int{1000, 20 << 20} {
			ctx, cancel := context.WithCancel(t.Context())
			body := io.MultiReader(&producer{n, io.EOF}, readerFunc(func([]byte) (int, error) {
				cancel()
				return 0, io.EOF
			}))
			name := fmt.Sprint("d/cancelled", n)
			if err := s.Put(ctx, name, body); err == nil {
				t.Errorf("%d bytes: cancelled write succeeded", n)
			}
			if _, err := s.Size(t.Context(), name); !errors.Is(err, extstore.ErrNotExist) {
				t.Errorf("%d bytes: a cancelled file is there: %v", n, err)
			}
		}
	}},
	{"delete", func(t *testing.T, s extstore.Store) {
		put(t, s, "d/f", []byte("x"))
		for range 2 {
			if err := s.Delete(t.Context(), "d/f"); err != nil {
				t.Fatal(err)
			}
		}
		put(t, s, "d/f", []byte("y"))
	}},
	{"list", func(t *testing.T, s extstore.Store) {
		var want []string
		for _, n := range []string{"c/2024/01/a/BACKUP_MANIFEST", "c/2024/01/a/data/1.sst", "c/2024/01/a/data/2.sst", "c/2024/01/a-b/x", "c/2024/02/z/y", "d", "c.txt"} {
			put(t, s, n, []byte(n))
			want = append(want, n)
		}
		slices.Sort(want)
		if got := list(t, s, "", ""); !slices.Equal(got, want) {
			t.Errorf("all: got %q, want %q", got, want)
		}
		for _, c := range []struct {
			prefix, delimiter string
			want              []string
		}{
			{"c/", "/", []string{"2024/"}},
			{"c/2024/", "/", []string{"01/", "02/"}},
			{"c/2024/", "data/", []string{"01/a-b/x", "01/a/BACKUP_MANIFEST", "01/a/data/", "02/z/y"}},
			{"c/2024/01/a", "", []string{"-b/x", "/BACKUP_MANIFEST", "/data/1.sst", "/data/2.sst"}},
			{"c/2024/01/a/", "", []string{"BACKUP_MANIFEST", "data/1.sst", "data/2.sst"}},
			{"c", "/", []string{".txt", "/"}},
			{"zzz", "", nil},
		} {
			if got := list(t, s, c.prefix, c.delimiter); !slices.Equal(got, c.want) {
				t.Errorf("list(%q, %q): got %q, want %q", c.prefix, c.delimiter, got, c.want)
			}
		}
		n := 0
		if err := s.List(t.Context(), "", "", func(string) error { n++; return extstore.ErrStopList }); err != nil || n != 1 {
			t.Errorf("stopped list: %d names, %v", n, err)
		}
		boom := errors.New("boom")
		if err := s.List(t.Context(), "", "", func(string) error { return boom }); !errors.Is(err, boom) {
			t.Errorf("failing callback: got %v", err)
		}
	}},
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
