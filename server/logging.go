package server

import (
	"bytes"
	"context"
	"encoding/json"
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

// LogConfig says what is logged where. DefaultLogConfig fills it.
type LogConfig struct {
	Dir         string     // of the files; empty: logs below the store
	NoFiles     bool       // log to stderr only
	FileLevel   slog.Level // least level that goes to files
	StderrLevel slog.Level // least level that goes to stderr
	FileJSON    bool       // one JSON object per line instead of text
	StderrJSON  bool
	FileBytes   int64 // of one file, until the next one is begun
	GroupBytes  int64 // of all files together; the oldest are removed
}

// LogNothing is above all levels.
const LogNothing = slog.LevelError + 100

// DefaultLogConfig returns the defaults of the flags.
func DefaultLogConfig() LogConfig {
	return LogConfig{FileLevel: slog.LevelInfo, StderrLevel: slog.LevelWarn, FileBytes: 10 << 20, GroupBytes: 100 << 20}
}

// openLog returns a logger that writes to stderr and to files. close flushes
// nothing: lines are written as they come.
func openLog(cfg LogConfig, stderr io.Writer) (log *slog.Logger, closeLog func(), err error) {
	sinks := []sink{{w: stderr, level: cfg.StderrLevel, json: cfg.StderrJSON}}
	closeLog = func() {}
	if cfg.Dir != "" && !cfg.NoFiles {
		f := &rotatingFile{dir: cfg.Dir, fileBytes: cfg.FileBytes, groupBytes: cfg.GroupBytes}
		if err := f.rotate(); err != nil {
			return nil, nil, fmt.Errorf("--log-dir: %w", err)
		}
		sinks = append(sinks, sink{w: f, level: cfg.FileLevel, json: cfg.FileJSON})
		closeLog = func() { _ = f.Close() }
	}
	return slog.New(&logHandler{shared: &logShared{sinks: sinks}}), closeLog, nil
}

type sink struct {
	w     io.Writer
	level slog.Level
	json  bool
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
	count := h.shared.count.Add(1)
	var asText, asJSON []byte
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	var errs []error
	for _, s := range h.shared.sinks {
		if r.Level < s.level {
			continue
		}
		line := &asText
		if s.json {
			line = &asJSON
		}
		if *line == nil {
			*line = h.format(r, count, s.json)
		}
		if _, err := s.w.Write(*line); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (h *logHandler) format(r slog.Record, count uint64, asJSON bool) []byte {
	frame, _ := runtime.CallersFrames([]uintptr{r.PC}).Next()
	if asJSON {
		return h.formatJSON(r, count, frame)
	}
	var b bytes.Buffer
	b.WriteByte(severity(r.Level)[0])
	b.WriteString(r.Time.UTC().Format("060102 15:04:05.000000"))
	b.WriteString(" 1 ")
	fmt.Fprintf(&b, "%s:%d ⋮ [%s] %d  ", filepath.Base(frame.File), frame.Line, h.tags, count)
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
	return append(bytes.ReplaceAll(b.Bytes(), []byte("\n"), []byte("\n+")), '\n')
}

func severity(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "ERROR"
	case l >= slog.LevelWarn:
		return "WARNING"
	case l < slog.LevelInfo:
		return "DEBUG"
	}
	return "INFO"
}

// formatJSON has the names that collectors of such logs know.
func (h *logHandler) formatJSON(r slog.Record, count uint64, frame runtime.Frame) []byte {
	entry := struct {
		ChannelNumeric int               `json:"channel_numeric"`
		Channel        string            `json:"channel"`
		Timestamp      string            `json:"timestamp"`
		Severity       string            `json:"severity"`
		Goroutine      int               `json:"goroutine"`
		File           string            `json:"file"`
		Line           int               `json:"line"`
		Counter        uint64            `json:"entry_counter"`
		Redactable     int               `json:"redactable"`
		Tags           map[string]string `json:"tags,omitempty"`
		Message        string            `json:"message"`
		Attrs          map[string]string `json:"attrs,omitempty"`
	}{
		Channel: "DEV", Timestamp: fmt.Sprintf("%d.%09d", r.Time.Unix(), r.Time.Nanosecond()), Severity: severity(r.Level), Goroutine: 1,
		File: filepath.Base(frame.File), Line: frame.Line, Counter: count, Message: r.Message,
	}
	for _, tag := range strings.Split(h.tags, ",") {
		key, value, ok := strings.Cut(tag, "=")
		if !ok { // as n1
			key = strings.TrimRight(tag, "0123456789")
			value = tag[len(key):]
		}
		if key != "" {
			if entry.Tags == nil {
				entry.Tags = map[string]string{}
			}
			entry.Tags[key] = value
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		if entry.Attrs == nil {
			entry.Attrs = map[string]string{}
		}
		entry.Attrs[h.group+a.Key] = a.Value.Resolve().String()
		return true
	})
	line, err := json.Marshal(entry)
	if err != nil { // of strings and numbers: it does not happen
		return nil
	}
	return append(line, '\n')
}

// rotatingFile writes log files of bounded size, removes the oldest ones, and
// keeps the link holdfast.log on the newest.
type rotatingFile struct {
	dir                   string
	fileBytes, groupBytes int64

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
		if total += f.info.Size(); total > r.groupBytes-r.fileBytes {
			_ = os.Remove(f.name)
		}
	}
}

// Write is called under the handler's lock.
func (r *rotatingFile) Write(p []byte) (int, error) {
	if r.written+int64(len(p)) > r.fileBytes {
		if err := r.rotate(); err != nil && r.f == nil {
			return 0, err
		}
	}
	n, err := r.f.Write(p)
	r.written += int64(n)
	return n, err
}

func (r *rotatingFile) Close() error { return r.f.Close() }
