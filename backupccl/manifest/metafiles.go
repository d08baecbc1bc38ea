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
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// metaFile is a file of a layer that is to be put.
type metaFile struct {
	store extstore.Store // at the layer's directory
	name  string
	body  []byte
	what  string // for errors
	// whatever says that the name tells the content, so it may be there already.
	whatever bool
}

// checksumFile holds the first four bytes of the manifest's SHA-256. A run that
// died between checksum and manifest may have left another one under the usual
// name; nothing is overwritten, so this one's name then tells its content.
func checksumFile(root extstore.Store, manifest []byte, again bool) metaFile {
	sum := sha256.Sum256(manifest)
	f := metaFile{store: root, name: manifestChecksum, body: sum[:4], what: "checksum"}
	if again {
		f.name, f.whatever = manifestChecksum+"-"+hex.EncodeToString(sum[:4]), true
	}
	return f
}

// putters is how many files of a layer are put at once.
const putters = 8

// putAll puts files. taken says that a name was in use, by an earlier run of this
// backup or a concurrent one.
func putAll(ctx context.Context, files []metaFile) (taken bool, err error) {
	var anyTaken atomic.Bool
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(putters)
	for _, f := range files {
		g.Go(func() error {
			err := f.store.Put(ctx, f.name, bytes.NewReader(f.body))
			switch {
			case errors.Is(err, extstore.ErrExists):
				if !f.whatever {
					anyTaken.Store(true)
				}
				return nil
			case err != nil:
				return fmt.Errorf("writing %s: %w", f.what, err)
			}
			return nil
		})
	}
	err = g.Wait()
	return anyTaken.Load(), err
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
		name = withSuffix(name, "-"+hex.EncodeToString(nonce[:]))
		err = s.Put(ctx, name, bytes.NewReader(b))
	}
	return name, err
}

// withSuffix puts suffix before the extension of a file of a layer.
func withSuffix(name, suffix string) string {
	ext := path.Ext(name)
	if strings.HasPrefix(name, partPrefix) && ext != ".sst" {
		ext = "" // A locality may hold a dot.
	}
	return strings.TrimSuffix(name, ext) + suffix + ext
}

// lists are the parts of a layer's metadata that do not name each other.
type lists struct {
	descriptors, statistics []byte
	parts                   []partList
}

// partList is the file list of one locality.
type partList struct {
	list    []byte
	files   int64
	counts  *backuppb.RowCount
	bytes   int64
	covered []keys.Span
}

func newLists(locs Locations, d Draft) (*lists, error) {
	l := &lists{}
	var err error
	if l.descriptors, err = descriptorList(d.Descriptors); err != nil {
		return nil, fmt.Errorf("writing descriptor list: %w", err)
	}
	if len(d.Statistics.GetStatistics()) > 0 {
		if l.statistics, err = seal(d.Statistics); err != nil {
			return nil, err
		}
	}
	for n, loc := range locs {
		p, err := newPartList(loc.Locality, d.Files, d.Covered[n])
		if err != nil {
			return nil, fmt.Errorf("writing file list: %w", err)
		}
		l.parts = append(l.parts, p)
	}
	return l, nil
}

// name gives all files their names and returns them with the manifest that
// refers to them.
func (l *lists) name(locs Locations, dir string, d Draft, suffix string) (*backuppb.Manifest, []metaFile, error) {
	m := proto.CloneOf(d.Header)
	m.FormatVersion = FormatVersion
	m.HasExternalManifestSsts = true
	m.EntryCounts = &backuppb.RowCount{}
	var files []metaFile
	add := func(s extstore.Store, name, what string, body []byte) (string, []byte) {
		name = withSuffix(name, suffix)
		files = append(files, metaFile{store: s, name: name, body: body, what: what})
		sum := sha256.Sum256(body)
		return name, sum[:]
	}
	root := at(locs.Default(), dir)
	m.Descriptors = int64(len(d.Descriptors))
	m.DescriptorList, m.DescriptorListSha256 = add(root, descriptorListName, "descriptor list", l.descriptors)
	if l.statistics != nil {
		m.StatisticsFile, m.StatisticsSha256 = add(root, statisticsName, "statistics", l.statistics)
	}
	for n, loc := range locs {
		p := l.parts[n]
		store := at(loc.Store, dir)
		pm := &backuppb.PartManifest{
			LocalityKv: loc.Locality, BackupId: m.Id, FormatVersion: FormatVersion,
			Files: p.files, EntryCounts: p.counts, Bytes: p.bytes, Covered: SpansPB(p.covered),
		}
		pm.FileList, pm.FileListSha256 = add(store, partName(n, loc.Locality)+fileListSuffix, "file list", p.list)
		b, err := seal(pm)
		if err != nil {
			return nil, nil, err
		}
		part := &backuppb.Part{LocalityKv: loc.Locality, Files: p.files, EntryCounts: p.counts, Bytes: p.bytes}
		part.Name, part.Sha256 = add(store, partName(n, loc.Locality), "part manifest", b)
		m.Parts = append(m.Parts, part)
		AddCounts(m.EntryCounts, p.counts)
		if n > 0 {
			m.LocalityKvs = append(m.LocalityKvs, loc.Locality)
			m.PartitionDescriptorFilenames = append(m.PartitionDescriptorFilenames, part.Name)
		}
	}
	return m, files, nil
}

func newPartList(locality string, all []*backuppb.File, covered []keys.Span) (partList, error) {
	p := partList{counts: &backuppb.RowCount{}, covered: covered}
	var files []*backuppb.File
	for _, f := range all {
		if sameLocality(f.LocalityKv, locality) {
			files = append(files, f)
			AddCounts(p.counts, f.EntryCounts)
			p.bytes += int64(f.BackingFileSize)
		}
	}
	p.files = int64(len(files))
	sort.Slice(files, func(i, j int) bool { return bytes.Compare(fileKey(files[i]), fileKey(files[j])) < 0 })
	var buf bytes.Buffer
	w := storage.NewListWriter(&buf)
	for _, f := range files {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(f)
		if err != nil {
			return partList{}, err
		}
		if err := w.Add(fileKey(f), b); err != nil {
			return partList{}, err
		}
	}
	err := w.Close()
	p.list = buf.Bytes()
	return p, err
}
