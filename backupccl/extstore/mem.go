package extstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Mem is a store in memory, for tests. Its zero value is not usable; see NewMem.
type Mem struct {
	mu struct {
		sync.Mutex
		files map[string][]byte
	}
}

// NewMem returns an empty store in memory.
func NewMem() *Mem {
	m := &Mem{}
	m.mu.files = map[string][]byte{}
	return m
}

func (m *Mem) String() string { return "mem:///" }
func (m *Mem) Close() error   { return nil }

func (m *Mem) Put(ctx context.Context, name string, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.mu.files[name]; ok {
		return fmt.Errorf("writing %s: %w", name, ErrExists)
	}
	m.mu.files[name] = b
	return nil
}

func (m *Mem) get(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.mu.files[name]
	if !ok {
		return nil, pgerr.Newf(pgerr.UndefinedFile, "reading %s: %w", name, ErrNotExist)
	}
	return b, nil
}

func (m *Mem) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	b, err := m.get(name)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	b = b[min(offset, int64(len(b))):]
	if length >= 0 && length < int64(len(b)) {
		b = b[:length]
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *Mem) List(_ context.Context, prefix, delimiter string, fn func(string) error) error {
	m.mu.Lock()
	var names []string
	for n := range m.mu.files {
		if rel, ok := strings.CutPrefix(n, prefix); ok {
			names = append(names, rel)
		}
	}
	m.mu.Unlock()
	sort.Strings(names)
	last := ""
	for _, n := range names {
		if delimiter != "" {
			if i := strings.Index(n, delimiter); i >= 0 {
				n = n[:i+len(delimiter)]
				if n == last {
					continue
				}
				last = n
			}
		}
		if err := fn(n); err != nil {
			if err == ErrStopList {
				return nil
			}
			return err
		}
	}
	return nil
}

func (m *Mem) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.files, name)
	return nil
}

func (m *Mem) Size(_ context.Context, name string) (int64, error) {
	b, err := m.get(name)
	return int64(len(b)), err
}

// Tamper replaces the bytes of name, or removes it when b is nil: tests play
// the bucket that lost or changed an object.
func (m *Mem) Tamper(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b == nil {
		delete(m.mu.files, name)
		return
	}
	m.mu.files[name] = b
}
