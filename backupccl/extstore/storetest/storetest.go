// Package storetest checks that an implementation of extstore.Store keeps its
// promise: one suite for all of them.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/extstore/fault"
)

// Run runs the suite, each part on a store of its own.
func Run(t *testing.T, open func(t *testing.T) extstore.Store) {
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

// Put makes a file.
func Put(t *testing.T, s extstore.Store, name string, b []byte) {
	t.Helper()
	if err := s.Put(t.Context(), name, bytes.NewReader(b)); err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
}

// Get reads a part of a file, or all of it.
func Get(t *testing.T, s extstore.Store, name string, offset, length int64) []byte {
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

// List returns the names that a listing has.
func List(t *testing.T, s extstore.Store, prefix, delimiter string) []string {
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

// RandomBytes returns n bytes, always the same.
func RandomBytes(n int) []byte {
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
			want := RandomBytes(n)
			Put(t, s, name, want)
			if got := Get(t, s, name, 0, -1); !bytes.Equal(got, want) {
				t.Errorf("%s: got %d bytes back, want %d", name, len(got), n)
			}
			if size, err := s.Size(t.Context(), name); err != nil || size != int64(n) {
				t.Errorf("size of %s: got %d, %v", name, size, err)
			}
		}
	}},
	{"ranges", func(t *testing.T, s extstore.Store) {
		want := RandomBytes(1000)
		Put(t, s, "f", want)
		for _, r := range [][4]int64{{0, 10, 0, 10}, {500, 100, 500, 600}, {990, -1, 990, 1000}, {990, 100, 990, 1000}, {1000, -1, 1000, 1000}, {1500, 10, 1000, 1000}, {3, 0, 3, 3}} {
			if got := Get(t, s, "f", r[0], r[1]); !bytes.Equal(got, want[r[2]:r[3]]) {
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
		if got := List(t, s, "nope/", ""); len(got) != 0 {
			t.Errorf("list: got %v", got)
		}
	}},
	{"taken name", func(t *testing.T, s extstore.Store) {
		for _, n := range []int{5, 9 << 20} {
			name := fmt.Sprint("f", n)
			want := RandomBytes(n)
			Put(t, s, name, want)
			if err := s.Put(t.Context(), name, bytes.NewReader(RandomBytes(n+1))); !errors.Is(err, extstore.ErrExists) {
				t.Errorf("second put of %d bytes: got %v", n, err)
			}
			if got := Get(t, s, name, 0, -1); !bytes.Equal(got, want) {
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
		if got := string(Get(t, s, "d/winner", 0, -1)); got != fmt.Sprint("writer ", won) {
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
		if got := List(t, s, "", ""); len(got) != 0 {
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
		Put(t, s, "d/f", []byte("x"))
		for range 2 {
			if err := s.Delete(t.Context(), "d/f"); err != nil {
				t.Fatal(err)
			}
		}
		Put(t, s, "d/f", []byte("y"))
	}},
	{"list", func(t *testing.T, s extstore.Store) {
		var want []string
		for _, n := range []string{"c/2024/01/a/BACKUP_MANIFEST", "c/2024/01/a/data/1.sst", "c/2024/01/a/data/2.sst", "c/2024/01/a-b/x", "c/2024/02/z/y", "d", "c.txt"} {
			Put(t, s, n, []byte(n))
			want = append(want, n)
		}
		slices.Sort(want)
		if got := List(t, s, "", ""); !slices.Equal(got, want) {
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
			if got := List(t, s, c.prefix, c.delimiter); !slices.Equal(got, c.want) {
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
