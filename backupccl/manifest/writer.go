package manifest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/auxten/postgresql-parser/pkg/util/encoding"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Draft is a layer whose data files are written and whose metadata is not.
type Draft struct {
	// Header has everything that is known before the files: times, ids, spans.
	Header *backuppb.Manifest
	// Files are all data files; LocalityKV says in which location each lies.
	Files []*backuppb.File
	// Descriptors are the schema at the layer's end and, with revision history,
	// its changes within the layer. A change has a descriptor or comments.
	Descriptors []*backuppb.DescriptorEntry
	// Covered are the spans that each location is complete for; all together they
	// are the header's spans exactly.
	Covered    [][]keys.Span
	Statistics *backuppb.TableStatistics
}

// Write completes the layer in dir: lists, part manifests, checksum, and last
// the manifest, whose put decides whether the layer exists. An earlier run of
// the same backup that came that far counts as success; the layer of another
// one is an error, and nothing of it is touched.
//
// All files but the manifest are put at once, since their names are known
// before: each waits for a disk or a bucket. If an earlier run has taken a name,
// all are put again under names of their own, and the manifest says which.
func Write(ctx context.Context, locs Locations, dir string, d Draft) (*backuppb.Manifest, error) {
	if err := d.check(locs); err != nil {
		return nil, fmt.Errorf("before writing the manifest: %w", err)
	}
	return writeUnchecked(ctx, locs, dir, d)
}

func writeUnchecked(ctx context.Context, locs Locations, dir string, d Draft) (*backuppb.Manifest, error) {
	l, err := newLists(locs, d)
	if err != nil {
		return nil, err
	}
	root := at(locs.Default(), dir)
	for suffix := ""; ; {
		m, files, err := l.name(locs, dir, d, suffix)
		if err != nil {
			return nil, err
		}
		if err := checkManifest(m); err != nil {
			return nil, fmt.Errorf("before writing the manifest: %w", err)
		}
		b, err := seal(m)
		if err != nil {
			return nil, err
		}
		taken, err := putAll(ctx, append(files, checksumFile(root, b, suffix != "")))
		if err != nil {
			return nil, err
		}
		if !taken {
			return putManifest(ctx, root, dir, m, b)
		}
		var nonce [4]byte
		if _, err := rand.Read(nonce[:]); err != nil {
			return nil, err
		}
		suffix = "-" + hex.EncodeToString(nonce[:])
	}
}

// putManifest puts the manifest b of a layer, whose other files are all durable.
func putManifest(ctx context.Context, root extstore.Store, dir string, m *backuppb.Manifest, b []byte) (*backuppb.Manifest, error) {
	err := root.Put(ctx, manifestName, bytes.NewReader(b))
	if !errors.Is(err, extstore.ErrExists) {
		return m, err
	}
	winner, readErr := readManifest(ctx, root)
	if readErr != nil {
		return nil, fmt.Errorf("reading the manifest that was there first: %w", readErr)
	}
	if bytes.Equal(winner.Id, m.Id) {
		return winner, nil // An earlier run of this job, or one thought dead.
	}
	return nil, ErrManifestExists(dir)
}

// check demands that the files and what they cover make up the layer: no gap and
// nothing twice.
func (d *Draft) check(locs Locations) error {
	if len(d.Covered) != len(locs) {
		return fmt.Errorf("%d locations cover something, there are %d", len(d.Covered), len(locs))
	}
	var all []keys.Span
	for _, spans := range d.Covered {
		all = append(all, spans...)
	}
	if err := CheckExact(Spans(d.Header.Spans), all); err != nil {
		return err
	}
	sort.Slice(d.Files, func(i, j int) bool { return bytes.Compare(fileKey(d.Files[i]), fileKey(d.Files[j])) < 0 })
	paths := map[string]bool{}
	for i := range locs {
		coverage := fileCoverage{part: d.Covered[i]}
		for _, f := range d.Files {
			if !locs.InLocation(i, f.LocalityKv) {
				continue
			}
			if paths[f.Path] {
				return pgerr.Newf(pgerr.DataCorrupted, "file %s is there twice", f.Path)
			}
			paths[f.Path] = true
			if err := coverage.add(f); err != nil {
				return err
			}
		}
	}
	if len(paths) != len(d.Files) {
		return pgerr.Newf(pgerr.DataCorrupted, "%d of %d files are in no location", len(d.Files)-len(paths), len(d.Files))
	}
	return nil
}

// ErrManifestExists says that the place is taken by another backup.
func ErrManifestExists(dir string) error {
	return pgerr.Newf(pgerr.DuplicateFile, "%s already contains a BACKUP_MANIFEST file", dir)
}

func sameLocality(a, b string) bool {
	return a == b || (a == "" || a == DefaultLocality) && (b == "" || b == DefaultLocality)
}

// fileKey orders the file list by span.
func fileKey(f *backuppb.File) keys.Key {
	k := encoding.EncodeBytesAscending(nil, f.GetSpan().GetKey())
	return append(k, f.GetPath()...)
}

// Keys of the descriptor list: the state at the layer's end, the changes in the
// order of id and time, and in the same order the changes of comments.
var (
	descriptorKeyPrefix = keys.Key("desc/")
	changeKeyPrefix     = keys.Key("rev/")
	commentKeyPrefix    = keys.Key("comment/")
)

func descriptorKey(e *backuppb.DescriptorEntry) keys.Key {
	if t := Time(e.Time); !t.IsEmpty() {
		prefix := changeKeyPrefix
		if len(e.Comments) > 0 {
			prefix = commentKeyPrefix
		}
		k := encoding.EncodeUvarintAscending(prefix.Clone(), uint64(e.Id))
		k = encoding.EncodeUint64Ascending(k, uint64(t.WallTime))
		return encoding.EncodeUint32Ascending(k, uint32(t.Logical))
	}
	return encoding.EncodeUvarintAscending(descriptorKeyPrefix.Clone(), uint64(e.Id))
}

func descriptorList(all []*backuppb.DescriptorEntry) ([]byte, error) {
	entries := append([]*backuppb.DescriptorEntry(nil), all...)
	sort.Slice(entries, func(i, j int) bool {
		return bytes.Compare(descriptorKey(entries[i]), descriptorKey(entries[j])) < 0
	})
	var buf bytes.Buffer
	w := storage.NewListWriter(&buf)
	for _, e := range entries {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
		if err != nil {
			return nil, err
		}
		if err := w.Add(descriptorKey(e), b); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// checkManifest is what every manifest fulfils, before it is written and after
// it is read.
func checkManifest(m *backuppb.Manifest) error {
	bad := func(format string, args ...any) error {
		return pgerr.Newf(pgerr.DataCorrupted, "manifest contradicts itself: "+format, args...)
	}
	if len(m.Id) != 16 || len(m.ClusterId) != 16 {
		return bad("ids of %d and %d bytes", len(m.Id), len(m.ClusterId))
	}
	if Time(m.EndTime).IsEmpty() || !Time(m.StartTime).Less(Time(m.EndTime)) {
		return bad("it covers (%s, %s]", Time(m.StartTime), Time(m.EndTime))
	}
	if len(m.Parts) == 0 {
		return bad("it has no parts")
	}
	sum := &backuppb.RowCount{}
	seen := map[string]bool{}
	for _, p := range m.Parts {
		if seen[p.LocalityKv] {
			return pgerr.Newf(pgerr.DataCorrupted, "duplicate locality %s found in backup", p.LocalityKv)
		}
		seen[p.LocalityKv] = true
		AddCounts(sum, p.EntryCounts)
	}
	if !proto.Equal(sum, m.EntryCounts) {
		return bad("its parts count %v, it counts %v", sum, m.EntryCounts)
	}
	for _, s := range append(append([]*backuppb.Span(nil), m.Spans...), m.IntroducedSpans...) {
		if bytes.Compare(s.Key, s.EndKey) >= 0 {
			return bad("span %s", Span(s))
		}
	}
	return nil
}

// ---- Locks.

// Lock claims dir for a job. The claim is advisory: it keeps honest jobs from
// doing work that the put of the manifest would throw away.
//
// Two jobs that both found the place free both write a lock. One of them may
// have looked for others before the other's lock was there, so a job that can go
// elsewhere gives way to every other one. Of two that cannot, the younger does.
func Lock(ctx context.Context, store extstore.Store, dir string, jobID int64, canMove bool) error {
	root := at(store, dir)
	for _, check := range []func() error{
		func() error { return CheckFree(ctx, store, dir, jobID) },
		func() error {
			err := root.Put(ctx, LockName(jobID), strings.NewReader("lock"))
			if errors.Is(err, extstore.ErrExists) {
				return nil
			}
			return err
		},
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return checkLock(ctx, root, dir, jobID, !canMove)
}

// CheckFree says whether dir can take a layer of this job.
func CheckFree(ctx context.Context, store extstore.Store, dir string, jobID int64) error {
	root := at(store, dir)
	exists, err := extstore.Exists(ctx, root, manifestName)
	if err != nil {
		return err
	}
	if exists {
		return ErrManifestExists(dir)
	}
	return checkLock(ctx, root, dir, jobID, false)
}

func checkLock(ctx context.Context, root extstore.Store, dir string, jobID int64, yieldOnly bool) error {
	var other string
	err := root.List(ctx, lockPrefix, "", func(id string) error {
		mine := fmt.Sprint(jobID)
		if id == mine {
			return nil
		}
		if yieldOnly && (len(id) > len(mine) || len(id) == len(mine) && id > mine) {
			return nil // Younger: it will see our lock and give way.
		}
		other = id
		return extstore.ErrStopList
	})
	if err != nil {
		return fmt.Errorf("checking for BACKUP-LOCK file: %w", err)
	}
	if other != "" {
		return pgerr.Newf(pgerr.DuplicateFile, "checking for BACKUP-LOCK file: %s already contains a `BACKUP-LOCK` file written by job %s", dir, other)
	}
	return nil
}

// WriteDataFile writes a data file below dir.
func WriteDataFile(ctx context.Context, store extstore.Store, dir, name string, b []byte) error {
	return at(store, dir).Put(ctx, name, bytes.NewReader(b))
}
