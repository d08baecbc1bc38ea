package backupccl

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// COMMENT ON texts are rows of system.comments, a table that only backups of the
// whole cluster hold. Backups of databases and tables list them with the objects
// that have them: all as of the layer's end, and with revision history each change
// at its time. A restore writes them under the new ids when it publishes.

// commentRow is a comment with its object.
type commentRow struct {
	id uint32
	pb *backuppb.Comment
}

// decodeComment decodes a pair of system.comments; without a value it is a removal.
// ok is false for rows that are about no object that could be backed up.
func decodeComment(key keys.Key, value []byte) (c commentRow, ok bool, err error) {
	st := systables.Comments
	var row systables.Row
	if len(value) > 0 {
		row, err = st.Decode(key, value)
	} else {
		row, err = st.DecodeKey(key)
	}
	if err != nil {
		return c, false, pgerr.Newf(pgerr.DataCorrupted, "system.%s: %w", st.Name, err)
	}
	c.pb = &backuppb.Comment{Removed: len(value) == 0}
	c.pb.Type, _ = row[st.Col("type")].(int64)
	c.pb.SubId, _ = row[st.Col("sub_id")].(int64)
	object, _ := row[st.Col("object_id")].(int64)
	if !c.pb.Removed {
		text, _ := row[st.Col("comment")].(string)
		c.pb.Text = []byte(text)
	}
	c.id = uint32(object)
	return c, int64(c.id) == object, nil
}

// visitComments calls fn with all comments as they were at a time.
func (s *Service) visitComments(ctx context.Context, at hlc.Timestamp, fn func(c commentRow, written hlc.Timestamp)) error {
	sp := systables.Comments.Span()
	for {
		res, err := s.cfg.DB.Scan(ctx, sp.Key, sp.EndKey, at, kv.ScanOptions{MaxKeys: 1000})
		if err != nil {
			return fmt.Errorf("reading comments: %w", err)
		}
		for _, pair := range res.KVs {
			c, ok, err := decodeComment(pair.Key, pair.Value)
			if err != nil {
				return err
			}
			if ok {
				fn(c, pair.Timestamp)
			}
		}
		if res.Resume == nil {
			return nil
		}
		sp = *res.Resume
	}
}

// withComments adds the comments to the descriptor list of a layer.
func (s *Service) withComments(
	ctx context.Context, entries []*backuppb.DescriptorEntry, d *backuppb.BackupDetails, revs []revision,
) ([]*backuppb.DescriptorEntry, error) {
	if err := s.addComments(ctx, entries, manifest.Time(d.EndTime)); err != nil || !d.RevisionHistory {
		return entries, err
	}
	changes, err := s.commentChanges(ctx, relevantRevisions(revs, d), manifest.Time(d.StartTime), manifest.Time(d.EndTime))
	return append(entries, changes...), err
}

// addComments gives the entries of a layer the comments at its end. A comment may
// change without its descriptor, so every layer has all of them.
func (s *Service) addComments(ctx context.Context, entries []*backuppb.DescriptorEntry, end hlc.Timestamp) error {
	byID := map[uint32]*backuppb.DescriptorEntry{}
	for _, e := range entries {
		if e.Time == nil {
			byID[e.Id] = e
		}
	}
	return s.visitComments(ctx, end, func(c commentRow, _ hlc.Timestamp) {
		if e := byID[c.id]; e != nil {
			e.Comments = append(e.Comments, c.pb)
		}
	})
}

// commentChanges returns an entry for each time in (start, end] at which comments
// of a relevant object changed, and those that were there at start under the times
// they were written.
func (s *Service) commentChanges(ctx context.Context, relevant map[uint32]bool, start, end hlc.Timestamp) ([]*backuppb.DescriptorEntry, error) {
	type change struct {
		id   uint32
		time hlc.Timestamp
	}
	changes := map[change]*backuppb.DescriptorEntry{}
	add := func(c commentRow, t hlc.Timestamp) {
		if !relevant[c.id] {
			return
		}
		e := changes[change{c.id, t}]
		if e == nil {
			e = &backuppb.DescriptorEntry{Id: c.id, Time: manifest.TimePB(t)}
			changes[change{c.id, t}] = e
		}
		e.Comments = append(e.Comments, c.pb)
	}
	span := systables.Comments.Span()
	opts := kv.ExportOptions{StartTime: start, EndTime: end, AllRevisions: true, TargetBytes: 16 << 20}
	err := s.exportPages(ctx, span, opts, time.Time{}, func(p *kv.ExportPage) error {
		if len(p.SST) == 0 {
			return nil
		}
		return storage.VisitSST(ctx, storage.NewMemSST(p.SST), span.Key, span.EndKey, storage.SSTVisitor{
			Version: func(key storage.MVCCKey, value []byte) error {
				c, ok, err := decodeComment(key.Key, value)
				if ok {
					add(c, key.Timestamp)
				}
				return err
			},
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of comments: %w", err)
	}
	if !start.IsEmpty() {
		if err := s.visitComments(ctx, start, add); err != nil {
			return nil, err
		}
	}
	out := make([]*backuppb.DescriptorEntry, 0, len(changes))
	for _, e := range changes {
		sort.Slice(e.Comments, func(i, j int) bool {
			a, b := e.Comments[i], e.Comments[j]
			return a.Type < b.Type || a.Type == b.Type && a.SubId < b.SubId
		})
		out = append(out, e)
	}
	return out, nil
}

// restoredComments returns the rows of system.comments for the objects that a
// restore of databases or tables makes, in their new ids. Ids of columns, indexes
// and constraints do not change.
func restoredComments(ctx context.Context, src *restoreSource, d *backuppb.RestoreDetails) ([]systables.Row, error) {
	newID := map[uint32]uint32{}
	for _, rw := range d.Rewrites {
		if !rw.ToExisting {
			newID[rw.OldId] = rw.NewId
		}
	}
	var rows []systables.Row
	add := func(id uint32, c *backuppb.Comment) {
		if id, ok := newID[id]; ok {
			rows = append(rows, systables.Row{c.Type, int64(id), c.SubId, string(c.Text)})
		}
	}
	at := manifest.Time(d.EndTime)
	if !src.last.IsCluster() {
		err := src.last.CommentsAt(ctx, at, func(id uint32) bool { return newID[id] != 0 }, add)
		if err != nil {
			return nil, fmt.Errorf("reading comments of the backup: %w", err)
		}
		return rows, nil
	}
	err := visitRestored(ctx, src, systables.Comments.Span(), at, func(key keys.Key, value []byte) error {
		c, ok, err := decodeComment(key, value)
		if ok {
			add(c.id, c.pb)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading system.%s of the backup: %w", systables.Comments.Name, err)
	}
	return rows, nil
}
