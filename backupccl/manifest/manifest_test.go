package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

func id16(b byte) []byte { return bytes.Repeat([]byte{b}, 16) }

func sec(n int64) hlc.Timestamp { return hlc.Timestamp{WallTime: (1711033445 + n) * 1e9} }

// rowKey is a key of index 1 of a table.
func rowKey(table uint32, row string) []byte { return append(keys.IndexPrefix(table, 1), row...) }

// draft makes a layer of n data files of 100 rows each, for one location.
func draft(id byte, start, end hlc.Timestamp, n int) Draft {
	d := Draft{Header: &backuppb.Manifest{
		Id: id16(id), ClusterId: id16(0xc1), StartTime: TimePB(start), EndTime: TimePB(end),
		Spans: []*backuppb.Span{SpanPB(keys.IndexSpan(104, 1))},
	}, Covered: [][]keys.Span{{keys.IndexSpan(104, 1)}}}
	for i := range n {
		d.Files = append(d.Files, &backuppb.File{
			Path: DataName(fmt.Sprintf("%d-%d", id, i)), Span: SpanPB(keys.Span{Key: rowKey(104, fmt.Sprintf("%04d", i)), EndKey: rowKey(104, fmt.Sprintf("%04d", i+1))}),
			EntryCounts: &backuppb.RowCount{Rows: 100, DataSize: 1000}, BackingFileSize: 500,
		})
	}
	d.Descriptors = []*backuppb.DescriptorEntry{
		{Id: 105, Desc: []byte("table"), CreateStatement: "CREATE TABLE t ()"},
		{Id: 104, Desc: []byte("database")},
	}
	return d
}

func oneStore(t *testing.T) (*extstore.Mem, Locations) {
	m := extstore.NewMem()
	return m, Locations{{Store: m}}
}

func mustWrite(t *testing.T, locs Locations, dir string, d Draft) {
	t.Helper()
	if _, err := Write(t.Context(), locs, dir, d); err != nil {
		t.Fatalf("writing %s: %v", dir, err)
	}
}

func names(t *testing.T, s extstore.Store) []string {
	t.Helper()
	var out []string
	if err := s.List(t.Context(), "", "", func(n string) error { out = append(out, n); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	_, locs := oneStore(t)
	d := draft(1, hlc.Timestamp{}, sec(0), 3)
	d.Descriptors = append(d.Descriptors,
		&backuppb.DescriptorEntry{Id: 105, Time: TimePB(sec(-10)), Desc: []byte("old")},
		&backuppb.DescriptorEntry{Id: 105, Time: TimePB(sec(-5)), Desc: []byte("new")},
		&backuppb.DescriptorEntry{Id: 106, Time: TimePB(sec(-8)), Desc: []byte("short-lived")},
		&backuppb.DescriptorEntry{Id: 106, Time: TimePB(sec(-6))})
	d.Statistics = &backuppb.TableStatistics{Statistics: []*backuppb.TableStatistic{{TableId: 105, RowCount: 7}}}
	dir := FullDir(Subdir(sec(0)))
	mustWrite(t, locs, dir, d)
	l, err := Open(t.Context(), locs, dir)
	if err != nil {
		t.Fatal(err)
	}
	if !l.IsFull() || l.End() != sec(0) || l.Manifest.EntryCounts.Rows != 300 {
		t.Errorf("read %v", l.Manifest)
	}
	var files []string
	if err := l.Files(t.Context(), func(f *DataFile) error { files = append(files, f.Path); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"data/1-0.sst", "data/1-1.sst", "data/1-2.sst"}; !slices.Equal(files, want) {
		t.Errorf("files %q, want %q", files, want)
	}
	for _, c := range []struct {
		at   hlc.Timestamp
		want string
	}{{sec(-20), ""}, {sec(-10), "105=old"}, {sec(-7), "105=old 106=short-lived"}, {sec(-5), "105=new"}, {sec(0), "104=database 105=table"}} {
		ds, err := l.DescriptorsAt(t.Context(), c.at)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range ds {
			got = append(got, fmt.Sprintf("%d=%s", e.Id, e.Desc))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("descriptors at %s: got %q, want %q", c.at, got, c.want)
		}
	}
	st, err := l.Statistics(t.Context())
	if err != nil || len(st.Statistics) != 1 {
		t.Errorf("statistics: %v, %v", st, err)
	}
}

// TestDamage: every way in which a file of a layer can be wrong is an error,
// never a different layer.
func TestDamage(t *testing.T) {
	base, locs := oneStore(t)
	dir := FullDir(Subdir(sec(0)))
	mustWrite(t, locs, dir, draft(1, hlc.Timestamp{}, sec(0), 2))
	mustWrite(t, locs, "other/full/layer", draft(2, hlc.Timestamp{}, sec(0), 2))
	readAll := func(locs Locations) error {
		l, err := Open(t.Context(), locs, dir)
		if err != nil {
			return err
		}
		if err := l.Descriptors(t.Context(), func(*backuppb.DescriptorEntry) error { return nil }); err != nil {
			return err
		}
		return l.Files(t.Context(), func(*DataFile) error { return nil })
	}
	if err := readAll(locs); err != nil {
		t.Fatal(err)
	}
	files := names(t, base)
	for _, name := range files {
		if !strings.HasPrefix(name, dir) {
			continue
		}
		r, err := base.Open(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		good, _ := io.ReadAll(r)
		other, err := extstore.ReadAll(t.Context(), base, strings.Replace(name, dir, "other/full/layer", 1), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		tampered := map[string][]byte{
			"missing": nil, "empty": {}, "truncated": good[:len(good)-1], "longer": append(slices.Clone(good), 0),
			"flipped start": flip(good, 0), "flipped middle": flip(good, len(good)/2), "flipped end": flip(good, len(good)-1),
		}
		if !bytes.Equal(other, good) {
			tampered["swapped"] = other
		}
		for how, b := range tampered {
			base.Tamper(name, b)
			if err := readAll(locs); err == nil {
				t.Errorf("%s %s: no error", name, how)
			} else if pgerr.GetCode(err) == "" {
				t.Errorf("%s %s: error without SQLSTATE: %v", name, how, err)
			}
		}
		base.Tamper(name, good)
	}
	if err := readAll(locs); err != nil {
		t.Fatalf("after mending: %v", err)
	}
}

func flip(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 0x10
	return b
}

// TestRacingWriters: the put of the manifest decides, a second run of the same
// backup succeeds, and another backup fails without a trace in the first.
func TestRacingWriters(t *testing.T) {
	s, locs := oneStore(t)
	mustWrite(t, locs, "d", draft(1, hlc.Timestamp{}, sec(0), 2))
	before, _ := extstore.ReadAll(t.Context(), s, "d/"+manifestName, 1<<20)
	mustWrite(t, locs, "d", draft(1, hlc.Timestamp{}, sec(0), 3)) // A resumed run that exported differently.
	_, err := Write(t.Context(), locs, "d", draft(2, hlc.Timestamp{}, sec(0), 2))
	if pgerr.GetCode(err) != pgerr.DuplicateFile || err.Error() != "d already contains a BACKUP_MANIFEST file" {
		t.Errorf("other backup: got %v", err)
	}
	after, _ := extstore.ReadAll(t.Context(), s, "d/"+manifestName, 1<<20)
	if !bytes.Equal(before, after) {
		t.Error("the manifest changed")
	}
	l, err := Open(t.Context(), locs, "d")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := l.Files(t.Context(), func(*DataFile) error { n++; return nil }); err != nil || n != 2 {
		t.Errorf("winner has %d files, %v", n, err)
	}
}

// TestCrashBetweenChecksumAndManifest: what a dead run left does not make the
// successor's layer unreadable.
func TestCrashBetweenChecksumAndManifest(t *testing.T) {
	s, locs := oneStore(t)
	mustWrite(t, locs, "d", draft(1, hlc.Timestamp{}, sec(0), 2))
	s.Tamper("d/"+manifestName, nil)
	if _, err := Open(t.Context(), locs, "d"); pgerr.GetCode(err) != pgerr.UndefinedFile {
		t.Errorf("incomplete layer: got %v", err)
	}
	mustWrite(t, locs, "d", draft(1, hlc.Timestamp{}, sec(0), 5))
	l, err := Open(t.Context(), locs, "d")
	if err != nil {
		t.Fatal(err)
	}
	if l.Manifest.EntryCounts.Rows != 500 {
		t.Errorf("got %d rows", l.Manifest.EntryCounts.Rows)
	}
}

// TestSomeNamesTaken: whichever file of a layer a dead run left, all that the
// manifest names is this run's.
func TestSomeNamesTaken(t *testing.T) {
	s, locs := oneStore(t)
	mustWrite(t, locs, "whole", draft(1, hlc.Timestamp{}, sec(0), 2))
	for _, n := range names(t, s) {
		n = strings.TrimPrefix(n, "whole/")
		if n == manifestName {
			continue
		}
		t.Run(n, func(t *testing.T) {
			s, locs := oneStore(t)
			if err := s.Put(t.Context(), "d/"+n, strings.NewReader("left")); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, locs, "d", draft(1, hlc.Timestamp{}, sec(0), 5))
			l, err := Open(t.Context(), locs, "d")
			if err != nil {
				t.Fatal(err)
			}
			files, descs := 0, 0
			if err := l.Files(t.Context(), func(*DataFile) error { files++; return nil }); err != nil || files != 5 {
				t.Errorf("%d files, %v", files, err)
			}
			if err := l.Descriptors(t.Context(), func(*backuppb.DescriptorEntry) error { descs++; return nil }); err != nil || descs != 2 {
				t.Errorf("%d descriptors, %v", descs, err)
			}
		})
	}
}

// slowStore counts the puts under way and fails one of them.
type slowStore struct {
	*extstore.Mem
	fail string

	mu      sync.Mutex
	pending int
	most    int
	early   bool // the manifest came while another put was under way
}

func (s *slowStore) Put(ctx context.Context, name string, body io.Reader) error {
	s.mu.Lock()
	s.pending++
	s.most = max(s.most, s.pending)
	s.early = s.early || strings.HasSuffix(name, "/"+manifestName) && s.pending > 1
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.pending--
		s.mu.Unlock()
	}()
	if strings.HasSuffix(name, "/"+s.fail) {
		return errors.New("no")
	}
	time.Sleep(time.Millisecond)
	return s.Mem.Put(ctx, name, body)
}

// TestManifestComesLast: the files of a layer are put side by side, the manifest
// when all of them are there, and not at all if one fails.
func TestManifestComesLast(t *testing.T) {
	s := &slowStore{Mem: extstore.NewMem(), fail: "none"}
	locs := Locations{{Store: s}}
	mustWrite(t, locs, "d", draft(1, hlc.Timestamp{}, sec(0), 2))
	if s.early || s.most < 3 {
		t.Errorf("the manifest was early: %t; at most %d puts at once", s.early, s.most)
	}
	for _, n := range names(t, s.Mem) {
		n = strings.TrimPrefix(n, "d/")
		s := &slowStore{Mem: extstore.NewMem(), fail: n}
		if _, err := Write(t.Context(), Locations{{Store: s}}, "d", draft(1, hlc.Timestamp{}, sec(0), 2)); err == nil {
			t.Errorf("%s cannot be put and nobody notices", n)
		}
		if exists, err := Exists(t.Context(), s, "d"); exists || err != nil {
			t.Errorf("without %s there is a manifest (%v)", n, err)
		}
	}
}

func TestLock(t *testing.T) {
	s, _ := oneStore(t)
	if err := Lock(t.Context(), s, "d", 7, false); err != nil {
		t.Fatal(err)
	}
	if err := Lock(t.Context(), s, "d", 7, false); err != nil {
		t.Errorf("same job again: %v", err)
	}
	err := Lock(t.Context(), s, "d", 8, false)
	want := "checking for BACKUP-LOCK file: d already contains a `BACKUP-LOCK` file written by job 7"
	if err == nil || err.Error() != want {
		t.Errorf("other job: got %v", err)
	}
}

// lateLock is a store in which another job's lock appears between this job's look
// for locks and its own.
type lateLock struct {
	extstore.Store
	other int64
}

func (s lateLock) Put(ctx context.Context, name string, body io.Reader) error {
	dir, _, _ := strings.Cut(name, "/")
	if err := s.Store.Put(ctx, dir+"/"+LockName(s.other), strings.NewReader("lock")); err != nil {
		return err
	}
	return s.Store.Put(ctx, name, body)
}

// TestLockRace: the other job may have looked around before this one's lock was
// there, and hold the place; who can go elsewhere does.
func TestLockRace(t *testing.T) {
	s, _ := oneStore(t)
	if err := Lock(t.Context(), lateLock{s, 8}, "d", 7, true); pgerr.GetCode(err) != pgerr.DuplicateFile {
		t.Errorf("a job that can move: got %v", err)
	}
	if err := Lock(t.Context(), lateLock{s, 8}, "e", 7, false); err != nil {
		t.Errorf("the older of two that cannot: got %v", err)
	}
	if err := Lock(t.Context(), lateLock{s, 6}, "f", 7, false); pgerr.GetCode(err) != pgerr.DuplicateFile {
		t.Errorf("the younger of two that cannot: got %v", err)
	}
}

// TestLocalities: rows of a region are named only in that region's store, parts
// may be moved together, and every part must be found.
func TestLocalities(t *testing.T) {
	def, eu := extstore.NewMem(), extstore.NewMem()
	locs := Locations{{Store: def, Locality: "default"}, {Store: eu, Locality: "region=eu"}}
	d := draft(1, hlc.Timestamp{}, sec(0), 4)
	d.Files[1].LocalityKv, d.Files[3].LocalityKv = "region=eu", "region=eu"
	d.Files[1].Span = &backuppb.Span{Key: rowKey(105, "a"), EndKey: rowKey(105, "b")}
	d.Files[3].Span = &backuppb.Span{Key: rowKey(105, "secret row key"), EndKey: rowKey(105, "secret row keyz")}
	d.Header.Spans = append(d.Header.Spans, SpanPB(keys.IndexSpan(105, 1)))
	d.Covered = append(d.Covered, []keys.Span{keys.IndexSpan(105, 1)})
	mustWrite(t, locs, "d", d)
	for _, n := range names(t, def) {
		b, _ := extstore.ReadAll(t.Context(), def, n, 1<<20)
		if bytes.Contains(b, []byte("secret row key")) {
			t.Errorf("%s in the default store holds a row key of eu", n)
		}
	}
	count := func(locs Locations) (n int, err error) {
		l, err := Open(t.Context(), locs, "d")
		if err != nil {
			return 0, err
		}
		err = l.Files(t.Context(), func(*DataFile) error { n++; return nil })
		return n, err
	}
	if n, err := count(locs); n != 4 || err != nil {
		t.Errorf("both stores: %d files, %v", n, err)
	}
	if _, err := count(locs[:1]); err == nil || err.Error() != "expected manifest BACKUP_PART_1_region=eu not found in backup locations" {
		t.Errorf("without eu: got %v", err)
	}
	for _, n := range names(t, eu) {
		b, _ := extstore.ReadAll(t.Context(), eu, n, 1<<20)
		if err := def.Put(t.Context(), n, bytes.NewReader(b)); err != nil {
			t.Errorf("name %s is not unique across stores: %v", n, err)
		}
	}
	if n, err := count(locs[:1]); n != 4 || err != nil {
		t.Errorf("moved together: %d files, %v", n, err)
	}
}

func TestParseLocalities(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{[]string{""}, "0"}, {[]string{"default"}, "0"},
		{[]string{"region=eu"}, "COCKROACH_LOCALITY region=eu is invalid for a single BACKUP location"},
		{[]string{"region=eu", "default"}, "1"},
		{[]string{"default", ""}, "multiple URLs are provided for partitioned BACKUP, but COCKROACH_LOCALITY is not specified"},
		{[]string{"default", "default"}, "multiple default URLs provided for partition backup"},
		{[]string{"region=eu", "region=us"}, "no default URL provided for partitioned backup"},
		{[]string{"default", "region=eu,az=1"}, `failed to parse backup locality: tier must be in the form "key=value" not "region=eu,az=1"`},
		{[]string{"default", "a=b", "a=b"}, "duplicate URIs for locality a=b"},
	} {
		i, err := ParseLocalities(c.in)
		got := fmt.Sprint(i)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q: got %s, want %s", c.in, got, c.want)
		}
	}
}

func TestLatest(t *testing.T) {
	s, _ := oneStore(t)
	if _, err := ReadLatest(t.Context(), s); err == nil || pgerr.GetCode(err) != pgerr.UndefinedFile ||
		!strings.HasPrefix(err.Error(), "path does not contain a completed latest backup") {
		t.Errorf("empty: got %v", err)
	}
	now := time.Unix(1711033445, 0)
	for i, sub := range []string{"/a/b/c", "/a/b/d", "/a/b/e"} {
		if err := WriteLatest(t.Context(), s, sub, now.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadLatest(t.Context(), s); got != sub || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, sub)
		}
	}
	if err := WriteLatest(t.Context(), s, "/a/b/f", now.Add(2*time.Hour)); err != nil {
		t.Errorf("second pointer of one instant: %v", err)
	}
	for _, garbage := range []string{"", "\x00", "../..", "a\nb"} {
		s, _ := oneStore(t)
		s.Tamper("LATEST", []byte(garbage))
		if _, err := ReadLatest(t.Context(), s); err == nil || err.Error() != "malformed LATEST file" {
			t.Errorf("%q: got %v", garbage, err)
		}
	}
}

func TestCheckpoints(t *testing.T) {
	s, _ := oneStore(t)
	for i := range 3 {
		c := &backuppb.Checkpoint{BackupId: id16(1), Sequence: uint32(i), Finished: []*backuppb.Finished{{Files: []*backuppb.File{{Path: fmt.Sprint(i)}}}}}
		if i == 0 { // As an older version wrote it.
			c.Finished, c.Files, c.Done = nil, c.Finished[0].Files, []*backuppb.Span{SpanPB(keys.IndexSpan(104, 1))}
		}
		if i == 2 {
			c.BackupId = id16(9)
		}
		if err := WriteCheckpoint(t.Context(), s, "d", time.Unix(int64(i), 0), c); err != nil {
			t.Fatal(err)
		}
	}
	got, damaged, err := ReadCheckpoints(t.Context(), s, "d", id16(1))
	if err != nil || len(damaged) != 0 || len(got.Finished) != 2 || got.Finished[0].Files[0].Path == got.Finished[1].Files[0].Path || got.Sequence != 1 {
		t.Errorf("got %v, %v, %v", got, damaged, err)
	}
	first := names(t, s)[0]
	s.Tamper(first, []byte("half a fi"))
	if got, damaged, err := ReadCheckpoints(t.Context(), s, "d", id16(1)); err != nil || len(damaged) != 1 || len(got.Finished) > 2 {
		t.Errorf("with a damaged one: %v, %v, %v", got, damaged, err)
	}
	if err := DeleteCheckpoints(t.Context(), s, "d"); err != nil || len(names(t, s)) != 0 {
		t.Errorf("left %v, %v", names(t, s), err)
	}
}

// TestChain runs scripts of layers and wanted times.
func TestChain(t *testing.T) {
	datadriven.RunTest(t, "testdata/chain", func(t *testing.T, td *datadriven.TestData) string {
		switch td.Cmd {
		case "chain":
			// Lines: name start end [history[=from]] [prev=name] [missing]
			_, locs := oneStore(t)
			var out strings.Builder
			ids := map[string]byte{}
			for n, line := range strings.Split(strings.TrimSpace(td.Input), "\n") {
				if strings.HasPrefix(line, "at ") || line == "latest" {
					out.WriteString(chainQuery(t, locs, line, ids))
					continue
				}
				f := strings.Fields(line)
				ids[f[0]] = byte(n + 1)
				var start, end int64
				fmt.Sscan(f[1], &start)
				fmt.Sscan(f[2], &end)
				st := hlc.Timestamp{}
				if start != 0 {
					st = sec(start)
				}
				d := draft(byte(n+1), st, sec(end), 1)
				missing := false
				for _, o := range f[3:] {
					k, v, _ := strings.Cut(o, "=")
					switch k {
					case "history":
						d.Header.MvccFilter = backuppb.Manifest_ALL
						d.Header.RevisionStartTime = TimePB(st)
						if v != "" {
							var from int64
							fmt.Sscan(v, &from)
							d.Header.RevisionStartTime = TimePB(sec(from))
						}
					case "prev":
						d.Header.PreviousId = id16(ids[v])
					case "missing":
						missing = true
					case "cluster":
						d.Header.ClusterId = id16(9)
					}
				}
				dir := FullDir("/full/x/y")
				if start != 0 {
					dir = IncrementalDir(IncrementalsRoot("/full/x/y", false), sec(start), sec(end))
				}
				if !missing {
					mustWrite(t, locs, dir, d)
				}
			}
			return out.String()
		}
		return "unknown command"
	})
}

func chainQuery(t *testing.T, locs Locations, line string, ids map[string]byte) string {
	c, err := LoadChain(context.Background(), locs, nil, "full/x/y")
	var layers []*Layer
	if err == nil {
		if line == "latest" {
			layers, err = c.Latest()
		} else {
			var n int64
			fmt.Sscan(strings.TrimPrefix(line, "at "), &n)
			layers, err = c.At(sec(n))
		}
	}
	if err != nil {
		s := line + ": " + err.Error()
		var pe *pgerr.Error
		if errors.As(err, &pe) && pe.Hint != "" {
			s += "\n  hint: " + pe.Hint
		}
		return s + "\n"
	}
	s := line + ":"
	for _, l := range layers {
		for name, id := range ids {
			if id == l.Manifest.Id[0] {
				s += " " + name
			}
		}
	}
	return s + "\n"
}

func FuzzUnseal(f *testing.F) {
	good, err := seal(draft(1, hlc.Timestamp{}, sec(0), 1).Header)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("encrypt..."))
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &backuppb.Manifest{}
		if err := unseal("file", b, m); err == nil {
			_ = checkManifest(m)
			again, err := seal(m)
			if err != nil {
				t.Fatal(err)
			}
			n := &backuppb.Manifest{}
			if err := unseal("file", again, n); err != nil || !proto.Equal(m, n) {
				t.Errorf("not the same after another round: %v", err)
			}
		}
	})
}

// TestGoldenNames: what lies in a collection after a full and an incremental is
// part of the format.
func TestGoldenNames(t *testing.T) {
	s, locs := oneStore(t)
	sub := Subdir(sec(0))
	mustWrite(t, locs, FullDir(sub), draft(1, hlc.Timestamp{}, sec(0), 1))
	if err := WriteLatest(t.Context(), s, sub, sec(1).Time()); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, locs, IncrementalDir(IncrementalsRoot(sub, false), sec(0), sec(60)), draft(2, sec(0), sec(60), 1))
	datadriven.RunTest(t, "testdata/names", func(*testing.T, *datadriven.TestData) string {
		return strings.Join(names(t, s), "\n") + "\n"
	})
	fulls, err := ListFulls(t.Context(), s)
	if err != nil || !slices.Equal(fulls, []string{sub}) {
		t.Errorf("fulls %q, %v", fulls, err)
	}
}

// TestCoverage: no layer comes into being, or is read, whose files and parts leave
// a gap or have something twice.
func TestCoverage(t *testing.T) {
	index := keys.IndexSpan(104, 1)
	half := keys.Span{Key: index.Key, EndKey: rowKey(104, "0002")}
	rest := keys.Span{Key: half.EndKey, EndKey: index.EndKey}
	for _, c := range []struct {
		name string
		edit func(d *Draft)
		want string
	}{
		{"as it should be", func(d *Draft) { d.Covered = [][]keys.Span{{half, rest}} }, ""},
		{"gap", func(d *Draft) { d.Covered = [][]keys.Span{{rest}} }, "before writing the manifest: index 1 of table 104 is not covered in 1 places"},
		{"overlap", func(d *Draft) { d.Covered = [][]keys.Span{{index, rest}} }, "before writing the manifest: index 1 of table 104 is covered twice in part"},
		{"more", func(d *Draft) { d.Covered[0] = append(d.Covered[0], keys.IndexSpan(105, 1)) },
			"before writing the manifest: index 1 of table 105 is covered and does not belong to the backup"},
		{"asked for twice", func(d *Draft) { d.Header.Spans = append(d.Header.Spans, SpanPB(rest)) },
			"before writing the manifest: index 1 of table 104 is to be covered twice"},
		{"one file twice", func(d *Draft) { d.Files = append(d.Files, d.Files[1]) }, "before writing the manifest: file data/1-1.sst is there twice"},
		{"two files of the same", func(d *Draft) { d.Files[2].Span = proto.CloneOf(d.Files[1].Span) },
			"before writing the manifest: file data/1-2.sst covers a part of index 1 of table 104 that another file has too"},
		{"two files of one row", func(d *Draft) {
			d.Files[2].Span = proto.CloneOf(d.Files[1].Span)
			d.Files[1].Unit, d.Files[2].Unit = 5, 5
		}, ""},
		{"two gathered files", func(d *Draft) {
			// Each has every other row: their spans overlap, what they have does not.
			d.Files = d.Files[:2]
			d.Files[0].Span = &backuppb.Span{Key: rowKey(104, "0"), EndKey: rowKey(104, "3")}
			d.Files[0].Covered = []*backuppb.Span{{Key: rowKey(104, "0"), EndKey: rowKey(104, "1")}, {Key: rowKey(104, "2"), EndKey: rowKey(104, "3")}}
			d.Files[1].Span = &backuppb.Span{Key: rowKey(104, "1"), EndKey: rowKey(104, "2")}
		}, ""},
		{"two gathered files of the same", func(d *Draft) {
			d.Files = d.Files[:2]
			d.Files[0].Span = &backuppb.Span{Key: rowKey(104, "0"), EndKey: rowKey(104, "3")}
			d.Files[0].Covered = []*backuppb.Span{{Key: rowKey(104, "0"), EndKey: rowKey(104, "1")}, {Key: rowKey(104, "2"), EndKey: rowKey(104, "3")}}
			d.Files[1].Span = &backuppb.Span{Key: rowKey(104, "1"), EndKey: rowKey(104, "21")}
		}, "before writing the manifest: file data/1-1.sst covers a part of index 1 of table 104 that another file has too"},
		{"file of another index", func(d *Draft) { d.Files[2].Span = &backuppb.Span{Key: rowKey(105, "0"), EndKey: rowKey(105, "1")} },
			"before writing the manifest: file data/1-2.sst covers a part of index 1 of table 105 that is not among what was finished"},
		{"file of nowhere", func(d *Draft) { d.Files[2].LocalityKv = "region=mars" }, "before writing the manifest: 1 of 3 files are in no location"},
	} {
		_, locs := oneStore(t)
		d := draft(1, hlc.Timestamp{}, sec(0), 3)
		c.edit(&d)
		_, err := Write(t.Context(), locs, "d", d)
		if err == nil && c.want == "" {
			l, err := Open(t.Context(), locs, "d")
			if err == nil {
				err = l.Files(t.Context(), func(*DataFile) error { return nil })
			}
			if err != nil {
				t.Errorf("%s: reading: %v", c.name, err)
			}
			continue
		}
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v", c.name, err)
		}
		if exists, _ := Exists(t.Context(), locs.Default(), "d"); exists {
			t.Errorf("%s: the layer exists", c.name)
		}
		if c.want == "" {
			continue
		}
		// A reader refuses it too: written by one that does not check.
		if _, err := writeUnchecked(t.Context(), locs, "d", d); err != nil {
			continue // It cannot even be written.
		}
		l, err := Open(t.Context(), locs, "d")
		if err == nil {
			err = l.Files(t.Context(), func(*DataFile) error { return nil })
		}
		if err == nil && c.name != "file of nowhere" {
			t.Errorf("%s: the layer is read without complaint", c.name)
		}
	}
}
