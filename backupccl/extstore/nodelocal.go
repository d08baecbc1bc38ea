package extstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// tmpPrefix marks files that are being written. They have no name yet as far as
// readers are concerned; a crash may leave one behind and List never shows it.
const tmpPrefix = ".holdfast-tmp-"

// nodelocal keeps files below one directory of this machine.
//
// A file is written under a temporary name, synced, and given its name by
// link(2), which fails if the name is taken; then the directory is synced. So a
// reader sees whole files only, and an acknowledged file survives a power cut.
// os.Root keeps every path, symbolic links included, inside the directory.
type nodelocal struct {
	root *os.Root
	base string // below root, slash-separated, without slashes at its ends
	uri  string
}

// OpenLocal returns the bare store of a directory below externalIODir, which another
// node asks for. Without one the access is refused.
func OpenLocal(externalIODir, base, uri string) (Store, error) {
	if externalIODir == "" {
		return nil, ErrDisabled()
	}
	if escapes(base) {
		return nil, errOutsideDir(base)
	}
	return openNodelocal(externalIODir, base, uri)
}

// openNodelocal opens the directory that holds all local storage, making it when
// it is missing.
func openNodelocal(externalIODir, base, uri string) (*nodelocal, error) {
	if err := os.MkdirAll(externalIODir, 0o755); err != nil {
		return nil, fmt.Errorf("making external-io-dir: %w", err)
	}
	root, err := os.OpenRoot(externalIODir)
	if err != nil {
		return nil, fmt.Errorf("opening external-io-dir: %w", err)
	}
	return &nodelocal{root: root, base: strings.Trim(path.Clean("/"+base), "/"), uri: uri}, nil
}

func (s *nodelocal) String() string { return s.uri }
func (s *nodelocal) Close() error   { return s.root.Close() }

// path returns where name is kept, relative to the root.
func (s *nodelocal) path(name string) (string, error) {
	if escapes(s.base + "/" + name) {
		return "", errOutsideDir(s.base + "/" + name)
	}
	p := strings.Trim(path.Join(s.base, name), "/")
	if p == "" {
		p = "."
	}
	return p, nil
}

func (s *nodelocal) wrap(op, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return pgerr.Newf(pgerr.UndefinedFile, "nodelocal storage file does not exist: %s: %w",
			path.Join(s.base, name), ErrNotExist)
	case IsDiskFull(err):
		return pgerr.Newf(pgerr.DiskFull, "%s %s: %w", op, path.Join(s.base, name), err).
			WithHint("The disk that holds the external-io-dir is full.")
	}
	return pgerr.Newf(pgerr.IOError, "%s %s: %w", op, path.Join(s.base, name), err)
}

func (s *nodelocal) Put(ctx context.Context, name string, body io.Reader) (err error) {
	p, err := s.path(name)
	if err != nil {
		return err
	}
	if p == "." {
		return pgerr.New(pgerr.InvalidParameterValue, "local storage requested but path not provided")
	}
	if _, err := s.root.Lstat(p); err == nil {
		return fmt.Errorf("writing %s: %w", name, ErrExists)
	}
	dir := path.Dir(p)
	if err := s.mkdirAll(dir); err != nil {
		return s.wrap("making directory for", name, err)
	}
	var suffix [8]byte
	if _, err := rand.Read(suffix[:]); err != nil {
		return err
	}
	tmp := path.Join(dir, tmpPrefix+hex.EncodeToString(suffix[:]))
	f, err := s.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return s.wrap("creating", name, err)
	}
	defer func() {
		_ = f.Close()          // Reported below when it matters.
		_ = s.root.Remove(tmp) // Best effort: List hides what stays.
	}()
	var bodyErr error
	if _, err := io.Copy(f, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			bodyErr = err
			return 0, err
		}
		n, err := body.Read(b)
		if err != io.EOF {
			bodyErr = err
		}
		return n, err
	})); err != nil {
		if bodyErr != nil {
			return bodyErr // The producer's error, in its own words.
		}
		return s.wrap("writing", name, err)
	}
	if err := ctx.Err(); err != nil {
		return err // Cancelled while the body ended: the caller has given up.
	}
	if err := f.Sync(); err != nil {
		return s.wrap("syncing", name, err)
	}
	if err := f.Close(); err != nil {
		return s.wrap("closing", name, err)
	}
	if err := s.root.Link(tmp, p); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("writing %s: %w", name, ErrExists)
		}
		return s.wrap("naming", name, err)
	}
	return s.wrap("syncing directory of", name, s.syncDir(dir))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// mkdirAll makes dir and its missing parents, and makes their names durable.
func (s *nodelocal) mkdirAll(dir string) error {
	if dir == "." {
		return nil
	}
	if fi, err := s.root.Stat(dir); err == nil {
		if !fi.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	}
	parent := path.Dir(dir)
	if err := s.mkdirAll(parent); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.syncDir(parent)
}

func (s *nodelocal) syncDir(dir string) error {
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s *nodelocal) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	p, err := s.path(name)
	if err != nil {
		return nil, err
	}
	f, err := s.root.Open(p)
	if err != nil {
		return nil, s.wrap("opening", name, err)
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		_ = f.Close()
		return nil, s.wrap("opening", name, err)
	}
	if offset > fi.Size() {
		offset = fi.Size()
	}
	n := fi.Size() - offset
	if length >= 0 && length < n {
		n = length
	}
	return &localReader{f: f, r: io.NewSectionReader(f, offset, n), ctx: ctx}, nil
}

// localReader keeps a context because reads of a network mount can be slow and
// io.Reader has no parameter for it.
type localReader struct {
	f   *os.File
	r   *io.SectionReader
	ctx context.Context
}

func (r *localReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
func (r *localReader) Close() error { return r.f.Close() }

func (s *nodelocal) Size(_ context.Context, name string) (int64, error) {
	p, err := s.path(name)
	if err != nil {
		return 0, err
	}
	fi, err := s.root.Stat(p)
	if err == nil && fi.IsDir() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, s.wrap("looking at", name, err)
	}
	return fi.Size(), nil
}

func (s *nodelocal) Delete(_ context.Context, name string) error {
	p, err := s.path(name)
	if err != nil {
		return err
	}
	if err := s.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return s.wrap("deleting", name, err)
	}
	return nil
}

func (s *nodelocal) List(ctx context.Context, prefix, delimiter string, fn func(string) error) error {
	// Names with the prefix lie below its last slash.
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i+1]
	}
	l := lister{store: s, ctx: ctx, prefix: prefix, delimiter: delimiter, fn: fn}
	if err := l.walk(dir); err != nil && !errors.Is(err, ErrStopList) {
		return err
	}
	return nil
}

type lister struct {
	store     *nodelocal
	ctx       context.Context
	prefix    string
	delimiter string
	fn        func(string) error
	lastGroup string
}

// walk lists the directory dir, whose name ends with a slash unless it is the
// store's own, in the order of full names.
func (l *lister) walk(dir string) error {
	p, err := l.store.path(dir)
	if err != nil {
		return err
	}
	d, err := l.store.root.Open(p)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		return l.store.wrap("listing", dir, err)
	}
	entries, err := d.ReadDir(-1)
	_ = d.Close()
	if err != nil {
		if errors.Is(err, syscall.ENOTDIR) {
			return nil
		}
		return l.store.wrap("listing", dir, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, tmpPrefix) {
			continue
		}
		isDir := e.IsDir()
		if e.Type()&fs.ModeSymlink != 0 {
			if fi, err := l.store.root.Stat(path.Join(p, name)); err == nil {
				isDir = fi.IsDir()
			}
		}
		if isDir {
			name += "/"
		}
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		full := dir + name
		if !strings.HasPrefix(full, l.prefix) {
			// A directory on the way to the prefix is never met here: walk began
			// below the prefix's last slash.
			continue
		}
		rel := full[len(l.prefix):]
		if l.delimiter != "" {
			if i := strings.Index(rel, l.delimiter); i >= 0 {
				group := rel[:i+len(l.delimiter)]
				if group == l.lastGroup {
					continue
				}
				empty := false
				if strings.HasSuffix(full, "/") {
					// An object store has no empty directories.
					if empty, err = l.store.emptyDir(l.ctx, full); err != nil {
						return err
					}
				}
				if !empty {
					l.lastGroup = group
					if err := l.fn(group); err != nil {
						return err
					}
				}
				continue
			}
		}
		if strings.HasSuffix(full, "/") {
			if err := l.walk(full); err != nil {
				return err
			}
			continue
		}
		if err := l.fn(rel); err != nil {
			return err
		}
	}
	return nil
}

// emptyDir says whether no file lies below dir.
func (s *nodelocal) emptyDir(ctx context.Context, dir string) (bool, error) {
	empty := true
	err := s.List(ctx, dir, "", func(string) error {
		empty = false
		return ErrStopList
	})
	return empty, err
}
