package manifest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
)

// WriteCheckpoint records what a running backup has finished since its previous
// checkpoint. Each is a new file, so nothing is overwritten, and together they
// say what need not be done again.
func WriteCheckpoint(ctx context.Context, store extstore.Store, dir string, now time.Time, c *backuppb.Checkpoint) error {
	b, err := seal(c)
	if err != nil {
		return err
	}
	_, err = putNew(ctx, at(store, dir), checkpointDir+checkpointPrefix+descendingHex(now), b)
	if err != nil {
		return fmt.Errorf("writing checkpoint: %w", err)
	}
	return nil
}

// ReadCheckpoints returns everything that checkpoints of the backup say is
// finished. Checkpoints of other backups are passed over, and so is one that
// cannot be read: its work is done again.
func ReadCheckpoints(ctx context.Context, store extstore.Store, dir string, id []byte) (*backuppb.Checkpoint, []error, error) {
	root := at(store, dir)
	var names []string
	err := root.List(ctx, checkpointDir, "", func(n string) error {
		if strings.HasPrefix(n, checkpointPrefix) {
			names = append(names, checkpointDir+n)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listing checkpoints: %w", err)
	}
	all := &backuppb.Checkpoint{BackupId: id}
	var damaged []error
	for _, n := range names {
		b, err := extstore.ReadAll(ctx, root, n, maxMessageBytes)
		if err != nil {
			return nil, nil, err
		}
		c := &backuppb.Checkpoint{}
		if err := unseal(n, b, c); err != nil {
			damaged = append(damaged, err)
			continue
		}
		if !bytes.Equal(c.BackupId, id) {
			continue
		}
		all.Finished = append(all.Finished, c.Finished...)
		if len(c.Done) > 0 { // By an older version, which did not say what belongs together.
			f := &backuppb.Finished{Files: c.Files, Done: c.Done}
			for _, file := range c.Files {
				f.Indexes = append(f.Indexes, file.Indexes...)
			}
			all.Finished = append(all.Finished, f)
		}
		all.Sequence = max(all.Sequence, c.Sequence)
	}
	return all, damaged, nil
}

// DeleteCheckpoints removes them. Write-once buckets refuse, which does no harm.
func DeleteCheckpoints(ctx context.Context, store extstore.Store, dir string) error {
	root := at(store, dir)
	var names []string
	if err := root.List(ctx, checkpointDir, "", func(n string) error {
		names = append(names, checkpointDir+n)
		return nil
	}); err != nil {
		return err
	}
	for _, n := range names {
		if err := root.Delete(ctx, n); err != nil {
			return err
		}
	}
	return nil
}
