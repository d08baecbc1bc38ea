package manifest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// Layer is one complete backup as it lies in its stores.
type Layer struct {
	Dir      string // relative to the locations
	Manifest *backuppb.Manifest

	locs Locations

	counted struct {
		sync.Mutex
		sums  map[indexID]*backuppb.IndexSummary // nil until read
		views *Views
	}
}

// Open reads the manifest of the layer in dir.
func Open(ctx context.Context, locs Locations, dir string) (*Layer, error) {
	m, err := readManifest(ctx, at(locs.Default(), dir))
	if err != nil {
		return nil, wrapRead(locs.Default(), fmt.Errorf("%s: %w", dir, err))
	}
	return &Layer{Dir: dir, Manifest: m, locs: locs}, nil
}

func readManifest(ctx context.Context, root extstore.Store) (*backuppb.Manifest, error) {
	b, err := extstore.ReadAll(ctx, root, manifestName, maxMessageBytes)
	if errors.Is(err, extstore.ErrNotExist) {
		return nil, pgerr.Newf(pgerr.UndefinedFile,
			"could not find BACKUP manifest file in any of the known locations: %s, %s, %s",
			foreignManifest, manifestName, oldestManifest).
			WithHint("A directory without a manifest is an incomplete backup. Run SHOW BACKUPS IN to see the complete ones.")
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	want, err := extstore.ReadAll(ctx, root, manifestChecksum, 4)
	switch {
	case errors.Is(err, extstore.ErrNotExist):
		return nil, pgerr.Newf(pgerr.DataCorrupted, "%s is missing", manifestChecksum)
	case err != nil:
		return nil, err
	case !bytes.Equal(want, sum[:4]):
		// A run that died may have left its checksum; ours then has another name.
		ok, err := extstore.Exists(ctx, root, manifestChecksum+"-"+hex.EncodeToString(sum[:4]))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errChecksum(manifestName, want, sum[:4])
		}
	}
	m := &backuppb.Manifest{}
	if err := unseal(manifestName, b, m); err != nil {
		return nil, err
	}
	if m.FormatVersion != FormatVersion {
		return nil, pgerr.Newf(pgerr.FeatureNotSupported,
			"the backup has format version %d, this version reads %d", m.FormatVersion, FormatVersion)
	}
	return m, checkManifest(m)
}

// Start is the exclusive start of what the layer covers; zero for a full.
func (l *Layer) Start() hlc.Timestamp { return Time(l.Manifest.StartTime) }

// End is the inclusive end of what the layer covers.
func (l *Layer) End() hlc.Timestamp { return Time(l.Manifest.EndTime) }

// IsFull says whether the layer stands alone.
func (l *Layer) IsFull() bool { return l.Start().IsEmpty() }

// HasHistory says whether the layer holds all revisions of its time.
func (l *Layer) HasHistory() bool { return l.Manifest.MvccFilter == backuppb.Manifest_ALL }

// IsCluster says whether the layer is a backup of the whole cluster.
func (l *Layer) IsCluster() bool {
	return l.Manifest.DescriptorCoverage == backuppb.Manifest_ALL_DESCRIPTORS
}

// Covers says whether sp lies within the layer's spans.
func (l *Layer) Covers(sp keys.Span) bool { return containedIn(sp, l.Manifest.Spans) }

// Introduces says whether the layer has sp from the beginning of time, so that
// older layers must not be used for it.
func (l *Layer) Introduces(sp keys.Span) bool {
	return l.IsFull() || containedIn(sp, l.Manifest.IntroducedSpans)
}

func containedIn(sp keys.Span, spans []*backuppb.Span) bool {
	for _, s := range spans {
		if Span(s).ContainsSpan(sp) {
			return true
		}
	}
	return false
}

// Part is the share of one locality and the store it was found in.
type Part struct {
	Manifest *backuppb.PartManifest
	Store    extstore.Store // at the layer's directory
	name     string
}

// Parts finds and checks the part manifests. Parts may have been moved to
// another of the given stores.
func (l *Layer) Parts(ctx context.Context) ([]Part, error) {
	parts := make([]Part, 0, len(l.Manifest.Parts))
	for i, p := range l.Manifest.Parts {
		part, err := l.findPart(ctx, i, p)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (l *Layer) findPart(ctx context.Context, i int, p *backuppb.Part) (Part, error) {
	// The i-th store is the likeliest.
	order := make([]int, 0, len(l.locs))
	if i < len(l.locs) {
		order = append(order, i)
	}
	for j := range l.locs {
		if j != i {
			order = append(order, j)
		}
	}
	for _, j := range order {
		s := at(l.locs[j].Store, l.Dir)
		b, err := extstore.ReadAll(ctx, s, p.Name, maxMessageBytes)
		if errors.Is(err, extstore.ErrNotExist) {
			continue
		}
		if err != nil {
			return Part{}, wrapRead(s, err)
		}
		pm := &backuppb.PartManifest{}
		if err := checkSHA256(p.Name, p.Sha256, b); err != nil {
			// Its own words first: a part of another backup says so.
			if unseal(p.Name, b, pm) == nil && !bytes.Equal(pm.BackupId, l.Manifest.Id) {
				return Part{}, pgerr.Newf(pgerr.DataCorrupted,
					"expected backup part to have backup ID %s, found %s", fmtID(l.Manifest.Id), fmtID(pm.BackupId))
			}
			return Part{}, wrapRead(s, err)
		}
		if err := unseal(p.Name, b, pm); err != nil {
			return Part{}, wrapRead(s, err)
		}
		return Part{Manifest: pm, Store: s, name: p.Name}, nil
	}
	return Part{}, pgerr.Newf(pgerr.UndefinedFile, "expected manifest %s not found in backup locations", p.Name).
		WithHint("Pass the URI of every locality that the backup was written to, the default one first.")
}

// DataFile is a data file and the store that holds it.
type DataFile struct {
	*backuppb.File
	Store extstore.Store // at the layer's directory
	Layer *Layer
}

// Read fetches the whole file and checks it against its SHA-256.
func (f *DataFile) Read(ctx context.Context) ([]byte, error) { return f.ReadInto(ctx, nil) }

// ReadInto is Read into the memory of buf, if it is large enough.
func (f *DataFile) ReadInto(ctx context.Context, buf []byte) ([]byte, error) {
	r, err := f.Store.Open(ctx, f.Path, 0, -1)
	if err != nil {
		return nil, wrapRead(f.Store, fmt.Errorf("%s/%s: %w", f.Layer.Dir, f.Path, err))
	}
	defer r.Close()
	b := buf
	if uint64(cap(b)) < f.BackingFileSize {
		b = make([]byte, f.BackingFileSize)
	}
	b = b[:f.BackingFileSize]
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = pgerr.Newf(pgerr.DataCorrupted, "file is shorter than its %d bytes", f.BackingFileSize)
		}
		return nil, wrapRead(f.Store, fmt.Errorf("%s/%s: %w", f.Layer.Dir, f.Path, err))
	}
	if n, _ := r.Read(make([]byte, 1)); n > 0 {
		return nil, wrapRead(f.Store, pgerr.Newf(pgerr.DataCorrupted,
			"%s/%s: file is longer than its %d bytes", f.Layer.Dir, f.Path, f.BackingFileSize))
	}
	if err := checkSHA256(f.name(), f.Sha256, b); err != nil {
		return nil, wrapRead(f.Store, err)
	}
	return b, nil
}

func (f *DataFile) name() string { return f.Layer.Dir + "/" + f.Path }

// Files calls fn with every data file of the layer, part by part, in the order
// of spans within a part.
func (l *Layer) Files(ctx context.Context, fn func(*DataFile) error) error {
	parts, err := l.Parts(ctx)
	if err != nil {
		return err
	}
	covered, err := l.checkParts(parts)
	if err != nil {
		return err
	}
	paths := map[string]bool{}
	for _, p := range parts {
		list, err := readList(ctx, p.Store, p.Manifest.FileList, p.Manifest.FileListSha256)
		if err != nil {
			return err
		}
		var n int64
		counts := &backuppb.RowCount{}
		coverage := fileCoverage{part: Spans(p.Manifest.Covered)}
		err = storage.ReadList(ctx, list, keys.Span{}, func(_ keys.Key, v []byte) error {
			f := &backuppb.File{}
			if err := proto.Unmarshal(v, f); err != nil {
				return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: %w", p.Manifest.FileList, err)
			}
			n++
			AddCounts(counts, f.EntryCounts)
			if paths[f.Path] {
				return pgerr.Newf(pgerr.DataCorrupted, "%s lists file %s twice", p.Manifest.FileList, f.Path)
			}
			paths[f.Path] = true
			if len(f.ElidedPrefix) > 0 {
				return pgerr.Newf(pgerr.FeatureNotSupported, "file %s leaves out a prefix of its keys, which this version does not read", f.Path)
			}
			if covered {
				if err := coverage.add(f); err != nil {
					return err
				}
			}
			return fn(&DataFile{File: f, Store: p.Store, Layer: l})
		})
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.Dir, err)
		}
		if n != p.Manifest.Files || !proto.Equal(counts, p.Manifest.EntryCounts) {
			return pgerr.Newf(pgerr.DataCorrupted, "%s lists %d files with %d rows, %s counts %d with %d", p.Manifest.FileList, n, counts.Rows,
				p.name, p.Manifest.Files, p.Manifest.EntryCounts.GetRows())
		}
	}
	return nil
}

// checkParts demands that the parts together cover the layer's spans exactly.
// Layers of before the parts said what they cover are taken as they are; covered
// is false then.
func (l *Layer) checkParts(parts []Part) (covered bool, err error) {
	var all []keys.Span
	for _, p := range parts {
		all = append(all, Spans(p.Manifest.Covered)...)
	}
	if len(all) == 0 {
		return false, nil
	}
	if err := CheckExact(Spans(l.Manifest.Spans), all); err != nil {
		return false, fmt.Errorf("layer %s: %w", l.Dir, err)
	}
	return true, nil
}

type indexID struct{ table, index uint32 }

// Views are the merged views of a chain at the end of a layer.
type Views struct {
	byIndex map[indexID]*backuppb.IndexSummary
	// whole are the tables of which byIndex names every index that is not empty.
	whole map[uint32]bool
}

// Of returns the merged view of an index; known is false if the layer does not
// say it.
func (v *Views) Of(table, index uint32) (view *backuppb.IndexSummary, known bool) {
	if view = v.byIndex[indexID{table, index}]; view == nil && v.whole[table] {
		view = &backuppb.IndexSummary{TableId: table, IndexId: index, ViewKnown: true}
	}
	return view, view != nil
}

// Views returns what the layer says about the merged view at its end. A full
// without history from before layers said it says it all the same: it is itself
// the view.
func (l *Layer) Views(ctx context.Context) (*Views, error) {
	if err := l.readCounts(ctx); err != nil {
		return nil, err
	}
	return l.counted.views, nil
}

// Counted returns what the layer has of an index, all files together. known is
// false if the layer does not list the table.
func (l *Layer) Counted(ctx context.Context, table, index uint32) (sum *backuppb.IndexSummary, known bool, err error) {
	if err := l.readCounts(ctx); err != nil {
		return nil, false, err
	}
	_, known = l.counted.sums[indexID{table, 0}]
	return l.counted.sums[indexID{table, index}], known, nil
}

// readCounts reads, once, what the descriptor list says about indexes.
func (l *Layer) readCounts(ctx context.Context) error {
	l.counted.Lock()
	defer l.counted.Unlock()
	if l.counted.sums != nil {
		return nil
	}
	sums := map[indexID]*backuppb.IndexSummary{}
	views := &Views{byIndex: map[indexID]*backuppb.IndexSummary{}, whole: map[uint32]bool{}}
	merged := false
	err := l.readDescriptors(ctx, keys.Span{}, func(e *backuppb.DescriptorEntry) error {
		if e.Time != nil && len(e.Indexes) == 0 {
			return nil // One of many states; the counts stand with one of them.
		}
		sums[indexID{e.Id, 0}] = nil // The table is known.
		for _, ix := range e.Indexes {
			sums[indexID{ix.TableId, ix.IndexId}] = ix
		}
		for _, ix := range e.Merged {
			merged = true
			views.byIndex[indexID{ix.TableId, ix.IndexId}] = ix
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !merged && l.IsFull() && !l.HasHistory() {
		for id, ix := range sums {
			if ix == nil {
				views.whole[id.table] = true
			} else {
				views.byIndex[id] = &backuppb.IndexSummary{
					TableId: ix.TableId, IndexId: ix.IndexId,
					ViewKvs: ix.Kvs, ViewHi: ix.FingerprintHi, ViewLo: ix.FingerprintLo, ViewKnown: true,
				}
			}
		}
	}
	l.counted.sums, l.counted.views = sums, views
	return nil
}

func readList(ctx context.Context, s extstore.Store, name string, sum []byte) ([]byte, error) {
	b, err := extstore.ReadAll(ctx, s, name, maxMessageBytes)
	if err == nil {
		err = checkSHA256(name, sum, b)
	}
	return b, wrapRead(s, err)
}

// Descriptors calls fn with the schema objects at the layer's end, by id.
func (l *Layer) Descriptors(ctx context.Context, fn func(*backuppb.DescriptorEntry) error) error {
	return l.readDescriptors(ctx, keys.Prefix(descriptorKeyPrefix), fn)
}

// DescriptorChanges calls fn with the schema changes within the layer, by id and
// time; a layer without history has none.
func (l *Layer) DescriptorChanges(ctx context.Context, fn func(*backuppb.DescriptorEntry) error) error {
	return l.readDescriptors(ctx, keys.Prefix(changeKeyPrefix), fn)
}

func (l *Layer) readDescriptors(ctx context.Context, sp keys.Span, fn func(*backuppb.DescriptorEntry) error) error {
	list, err := readList(ctx, at(l.locs.Default(), l.Dir), l.Manifest.DescriptorList, l.Manifest.DescriptorListSha256)
	if err != nil {
		return err
	}
	return storage.ReadList(ctx, list, sp, func(_ keys.Key, v []byte) error {
		e := &backuppb.DescriptorEntry{}
		if err := proto.Unmarshal(v, e); err != nil {
			return pgerr.Newf(pgerr.DataCorrupted, "%s is damaged: %w", l.Manifest.DescriptorList, err)
		}
		return fn(e)
	})
}

// DescriptorsAt returns the schema objects as they were at t, which lies within
// the layer. Entries of dropped objects are left out.
func (l *Layer) DescriptorsAt(ctx context.Context, t hlc.Timestamp) ([]*backuppb.DescriptorEntry, error) {
	byID := map[uint32]*backuppb.DescriptorEntry{}
	var order []uint32
	take := func(e *backuppb.DescriptorEntry) error {
		if _, ok := byID[e.Id]; !ok {
			order = append(order, e.Id)
		}
		byID[e.Id] = e
		return nil
	}
	var err error
	if t == l.End() {
		err = l.Descriptors(ctx, take)
	} else {
		err = l.DescriptorChanges(ctx, func(e *backuppb.DescriptorEntry) error {
			if Time(e.Time).LessEq(t) {
				return take(e) // Changes come by time: the last one stays.
			}
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	var out []*backuppb.DescriptorEntry
	for _, id := range order {
		if len(byID[id].Desc) > 0 {
			out = append(out, byID[id])
		}
	}
	return out, nil
}

// CommentsAt calls fn with the comments that the objects of want had at t, which
// lies within the layer. Those of one object come together.
func (l *Layer) CommentsAt(
	ctx context.Context, t hlc.Timestamp, want func(id uint32) bool, fn func(id uint32, c *backuppb.Comment),
) error {
	if t == l.End() {
		return l.Descriptors(ctx, func(e *backuppb.DescriptorEntry) error {
			if want(e.Id) {
				for _, c := range e.Comments {
					fn(e.Id, c)
				}
			}
			return nil
		})
	}
	type part struct{ typ, sub int64 }
	var id uint32
	state := map[part]*backuppb.Comment{} // of id
	flush := func() {
		for _, c := range state {
			fn(id, c)
		}
		clear(state)
	}
	err := l.readDescriptors(ctx, keys.Prefix(commentKeyPrefix), func(e *backuppb.DescriptorEntry) error {
		if e.Id != id {
			flush()
			id = e.Id
		}
		if !want(id) || t.Less(Time(e.Time)) {
			return nil
		}
		for _, c := range e.Comments { // Changes come by time: the last one stays.
			if c.Removed {
				delete(state, part{c.Type, c.SubId})
			} else {
				state[part{c.Type, c.SubId}] = c
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	flush()
	return nil
}

// Statistics returns the table statistics of the layer.
func (l *Layer) Statistics(ctx context.Context) (*backuppb.TableStatistics, error) {
	st := &backuppb.TableStatistics{}
	if l.Manifest.StatisticsFile == "" {
		return st, nil
	}
	b, err := readList(ctx, at(l.locs.Default(), l.Dir), l.Manifest.StatisticsFile, l.Manifest.StatisticsSha256)
	if err != nil {
		return nil, err
	}
	return st, unseal(l.Manifest.StatisticsFile, b, st)
}

// MetadataFiles returns the names of the files in the default store that the
// layer needs besides its manifest and data.
func (l *Layer) MetadataFiles() []string {
	names := []string{manifestName, manifestChecksum, l.Manifest.DescriptorList}
	if l.Manifest.StatisticsFile != "" {
		names = append(names, l.Manifest.StatisticsFile)
	}
	return names
}

// Root returns the default store at the layer's directory.
func (l *Layer) Root() extstore.Store { return at(l.locs.Default(), l.Dir) }

// Locations returns where the layer was opened.
func (l *Layer) Locations() Locations { return l.locs }

// Localities returns the layer's non-default localities, sorted.
func (l *Layer) Localities() []string {
	kvs := append([]string{}, l.Manifest.LocalityKvs...)
	sort.Strings(kvs)
	return kvs
}

// FormatID prints a cluster or backup id.
func FormatID(id []byte) string { return fmtID(id) }

// Exists says whether dir holds a complete layer.
func Exists(ctx context.Context, store extstore.Store, dir string) (bool, error) {
	return extstore.Exists(ctx, at(store, dir), manifestName)
}
