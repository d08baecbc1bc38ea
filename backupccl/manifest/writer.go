package manifest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
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
	// its changes within the layer.
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
func Write(ctx context.Context, locs Locations, dir string, d Draft) (*backuppb.Manifest, error) {
	if err := d.check(locs); err != nil {
		return nil, fmt.Errorf("before writing the manifest: %w", err)
	}
	return writeUnchecked(ctx, locs, dir, d)
}

func writeUnchecked(ctx context.Context, locs Locations, dir string, d Draft) (*backuppb.Manifest, error) {
	m := proto.CloneOf(d.Header)
	m.FormatVersion = FormatVersion
	m.HasExternalManifestSsts = true
	m.EntryCounts = &backuppb.RowCount{}
	root := at(locs.Default(), dir)
	if err := writeDescriptors(ctx, root, d, m); err != nil {
		return nil, err
	}
	if err := writeStatistics(ctx, root, d, m); err != nil {
		return nil, err
	}
	for n, loc := range locs {
		part, err := writePart(ctx, at(loc.Store, dir), n, loc.Locality, m.Id, d.Files, d.Covered[n])
		if err != nil {
			return nil, err
		}
		m.Parts = append(m.Parts, part)
		AddCounts(m.EntryCounts, part.EntryCounts)
		if n > 0 {
			m.LocalityKvs = append(m.LocalityKvs, loc.Locality)
			m.PartitionDescriptorFilenames = append(m.PartitionDescriptorFilenames, part.Name)
		}
	}
	if err := checkManifest(m); err != nil {
		return nil, fmt.Errorf("before writing the manifest: %w", err)
	}
	b, err := seal(m)
	if err != nil {
		return nil, err
	}
	if err := writeChecksum(ctx, root, b); err != nil {
		return nil, err
	}
	err = root.Put(ctx, manifestName, bytes.NewReader(b))
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

// writeChecksum writes the first four bytes of the manifest's SHA-256. A run
// that died between checksum and manifest may have left another one under the
// usual name; nothing is overwritten, so this one's name then tells its content.
func writeChecksum(ctx context.Context, root extstore.Store, manifest []byte) error {
	sum := sha256.Sum256(manifest)
	err := root.Put(ctx, manifestChecksum, bytes.NewReader(sum[:4]))
	if !errors.Is(err, extstore.ErrExists) {
		return err
	}
	err = root.Put(ctx, manifestChecksum+"-"+hex.EncodeToString(sum[:4]), bytes.NewReader(sum[:4]))
	if errors.Is(err, extstore.ErrExists) {
		return nil
	}
	return err
}

// putNew writes b under name, or under a name made from it when an earlier run
// took name, and returns the name used.
func putNew(ctx context.Context, s extstore.Store, name string, b []byte) (string, error) {
	err := s.Put(ctx, name, bytes.NewReader(b))
	for errors.Is(err, extstore.ErrExists) {
		var nonce [4]byte
		if _, err := rand.Read(nonce[:]); err != nil {
			return "", err
		}
		ext := path.Ext(name)
		if strings.HasPrefix(name, partPrefix) && ext != ".sst" {
			ext = "" // A locality may hold a dot.
		}
		name = strings.TrimSuffix(name, ext) + "-" + hex.EncodeToString(nonce[:]) + ext
		err = s.Put(ctx, name, bytes.NewReader(b))
	}
	return name, err
}

func writePart(
	ctx context.Context, s extstore.Store, n int, locality string, id []byte, all []*backuppb.File, covered []keys.Span,
) (*backuppb.Part, error) {
	var files []*backuppb.File
	counts := &backuppb.RowCount{}
	var size int64
	for _, f := range all {
		if sameLocality(f.LocalityKv, locality) {
			files = append(files, f)
			AddCounts(counts, f.EntryCounts)
			size += int64(f.BackingFileSize)
		}
	}
	sort.Slice(files, func(i, j int) bool { return bytes.Compare(fileKey(files[i]), fileKey(files[j])) < 0 })
	var buf bytes.Buffer
	w := storage.NewListWriter(&buf)
	for _, f := range files {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(f)
		if err != nil {
			return nil, err
		}
		if err := w.Add(fileKey(f), b); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing file list: %w", err)
	}
	name := partName(n, locality)
	list, err := putNew(ctx, s, name+fileListSuffix, buf.Bytes())
	if err != nil {
		return nil, fmt.Errorf("writing file list: %w", err)
	}
	listSum := sha256.Sum256(buf.Bytes())
	b, err := seal(&backuppb.PartManifest{
		LocalityKv: locality, BackupId: id, FormatVersion: FormatVersion,
		FileList: list, FileListSha256: listSum[:], Files: int64(len(files)), EntryCounts: counts, Bytes: size,
		Covered: SpansPB(covered),
	})
	if err != nil {
		return nil, err
	}
	if name, err = putNew(ctx, s, name, b); err != nil {
		return nil, fmt.Errorf("writing part manifest: %w", err)
	}
	sum := sha256.Sum256(b)
	return &backuppb.Part{
		Name: name, LocalityKv: locality, Sha256: sum[:], Files: int64(len(files)), EntryCounts: counts, Bytes: size,
	}, nil
}

func sameLocality(a, b string) bool {
	return a == b || (a == "" || a == DefaultLocality) && (b == "" || b == DefaultLocality)
}

// fileKey orders the file list by span.
func fileKey(f *backuppb.File) keys.Key {
	k := encoding.EncodeBytesAscending(nil, f.GetSpan().GetKey())
	return append(k, f.GetPath()...)
}

// Keys of the descriptor list: the state at the layer's end, then the changes in
// the order of id and time.
var (
	descriptorKeyPrefix = keys.Key("desc/")
	changeKeyPrefix     = keys.Key("rev/")
)

func descriptorKey(e *backuppb.DescriptorEntry) keys.Key {
	if t := Time(e.Time); !t.IsEmpty() {
		k := encoding.EncodeUvarintAscending(changeKeyPrefix.Clone(), uint64(e.Id))
		k = encoding.EncodeUint64Ascending(k, uint64(t.WallTime))
		return encoding.EncodeUint32Ascending(k, uint32(t.Logical))
	}
	return encoding.EncodeUvarintAscending(descriptorKeyPrefix.Clone(), uint64(e.Id))
}

func writeDescriptors(ctx context.Context, root extstore.Store, d Draft, m *backuppb.Manifest) error {
	entries := append([]*backuppb.DescriptorEntry(nil), d.Descriptors...)
	sort.Slice(entries, func(i, j int) bool {
		return bytes.Compare(descriptorKey(entries[i]), descriptorKey(entries[j])) < 0
	})
	var buf bytes.Buffer
	w := storage.NewListWriter(&buf)
	for _, e := range entries {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
		if err != nil {
			return err
		}
		if err := w.Add(descriptorKey(e), b); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("writing descriptor list: %w", err)
	}
	name, err := putNew(ctx, root, descriptorListName, buf.Bytes())
	if err != nil {
		return fmt.Errorf("writing descriptor list: %w", err)
	}
	sum := sha256.Sum256(buf.Bytes())
	m.DescriptorList, m.DescriptorListSha256, m.Descriptors = name, sum[:], int64(len(entries))
	return nil
}

func writeStatistics(ctx context.Context, root extstore.Store, d Draft, m *backuppb.Manifest) error {
	if len(d.Statistics.GetStatistics()) == 0 {
		return nil
	}
	b, err := seal(d.Statistics)
	if err != nil {
		return err
	}
	name, err := putNew(ctx, root, statisticsName, b)
	if err != nil {
		return fmt.Errorf("writing statistics: %w", err)
	}
	sum := sha256.Sum256(b)
	m.StatisticsFile, m.StatisticsSha256 = name, sum[:]
	return nil
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
func Lock(ctx context.Context, store extstore.Store, dir string, jobID int64) error {
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
	// Two jobs may both have found the place free; the older one stays.
	return checkLock(ctx, root, dir, jobID, true)
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
