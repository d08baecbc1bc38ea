package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the log directory.
const (
	maxLogFileBytes  = 10 << 20
	maxLogGroupBytes = 100 << 20
)

// openLog returns a logger that writes everything to files in dir and what is at
// least level to stderr. close flushes nothing: lines are written as they come.
func openLog(dir string, level slog.Level, stderr io.Writer) (log *slog.Logger, closeLog func(), err error) {
	sinks := []sink{{w: stderr, level: level}}
	closeLog = func() {}
	if dir != "" {
		f := &rotatingFile{dir: dir}
		if err := f.rotate(); err != nil {
			return nil, nil, fmt.Errorf("--log-dir: %w", err)
		}
		sinks = append(sinks, sink{w: f, level: slog.LevelInfo})
		closeLog = func() { _ = f.Close() }
	}
	return slog.New(&logHandler{shared: &logShared{sinks: sinks}}), closeLog, nil
}

type sink struct {
	w     io.Writer
	level slog.Level
}

type logShared struct {
	mu    sync.Mutex // serializes lines
	sinks []sink
	count atomic.Uint64
}

// logHandler writes one line per record:
//
//	I240321 15:04:05.123456 12 store.go:10 ⋮ [n1,job=123] 45  opened key=value
//
// Attributes that were added with Logger.With stand in brackets, those of the
// record at the end.
type logHandler struct {
	shared *logShared
	tags   string
	group  string
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool {
	for _, s := range h.shared.sinks {
		if l >= s.level {
			return true
		}
	}
	return false
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.tags)
	for _, a := range attrs {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if a.Key == "node" {
			b.WriteString("n" + a.Value.String())
			continue
		}
		b.WriteString(h.group + a.Key + "=" + a.Value.String())
	}
	return &logHandler{shared: h.shared, tags: b.String(), group: h.group}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{shared: h.shared, tags: h.tags, group: h.group + name + "."}
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	letter := byte('I')
	switch {
	case r.Level >= slog.LevelError:
		letter = 'E'
	case r.Level >= slog.LevelWarn:
		letter = 'W'
	case r.Level < slog.LevelInfo:
		letter = 'D'
	}
	b.WriteByte(letter)
	b.WriteString(r.Time.UTC().Format("060102 15:04:05.000000"))
	b.WriteString(" 1 ")
	frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
	fmt.Fprintf(&b, "%s:%d ⋮ [%s] %d  ", filepath.Base(frame.File), frame.Line, h.tags, h.shared.count.Add(1))
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteByte(' ')
		b.WriteString(h.group + a.Key)
		b.WriteByte('=')
		v := a.Value.Resolve().String()
		if v == "" || strings.ContainsAny(v, " \"\t") {
			v = strconv.Quote(v)
		}
		b.WriteString(v)
		return true
	})
	// Continuation lines are marked, so that each entry can be told apart.
	line := bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\n+"))
	line = append(line, '\n')
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	var errs []error
	for _, s := range h.shared.sinks {
		if r.Level >= s.level {
			if _, err := s.w.Write(line); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// rotatingFile writes log files of bounded size, removes the oldest ones, and
// keeps the link holdfast.log on the newest.
type rotatingFile struct {
	dir     string
	f       *os.File
	written int64
	serial  int
}

const logLink = "holdfast.log"

func (r *rotatingFile) rotate() error {
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = filepath.Base(u.Username)
	}
	var f *os.File
	for {
		name := fmt.Sprintf("holdfast.%s.%s.%s.%06d.log", hostname(), who,
			time.Now().UTC().Format("2006-01-02T15_04_05Z"), os.Getpid())
		if r.serial > 0 {
			name = strings.TrimSuffix(name, ".log") + fmt.Sprintf(".%d.log", r.serial)
		}
		r.serial++
		var err error
		if f, err = os.OpenFile(filepath.Join(r.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644); err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if r.f != nil {
		_ = r.f.Close()
	}
	r.f, r.written = f, 0
	link := filepath.Join(r.dir, logLink)
	_ = os.Remove(link)
	_ = os.Symlink(filepath.Base(f.Name()), link)
	r.removeOld()
	return nil
}

// removeOld keeps the newest files within the group's bound.
func (r *rotatingFile) removeOld() {
	names, err := filepath.Glob(filepath.Join(r.dir, "holdfast.*.log"))
	if err != nil {
		return
	}
	type file struct {
		name string
		info os.FileInfo
	}
	var files []file
	for _, n := range names {
		if info, err := os.Lstat(n); err == nil && info.Mode().IsRegular() && n != r.f.Name() {
			files = append(files, file{n, info})
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].info.ModTime().After(files[j].info.ModTime()) })
	total := int64(0)
	for _, f := range files {
		if total += f.info.Size(); total > maxLogGroupBytes-maxLogFileBytes {
			_ = os.Remove(f.name)
		}
	}
}

// Write is called under the handler's lock.
func (r *rotatingFile) Write(p []byte) (int, error) {
	if r.written+int64(len(p)) > maxLogFileBytes {
		if err := r.rotate(); err != nil && r.f == nil {
			return 0, err
		}
	}
	n, err := r.f.Write(p)
	r.written += int64(n)
	return n, err
}

func (r *rotatingFile) Close() error { return r.f.Close() }
