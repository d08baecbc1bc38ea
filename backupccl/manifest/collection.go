package manifest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// maxPointerBytes bounds a LATEST file: a path.
const maxPointerBytes = 4096

// ListFulls returns the subdirectories of all complete full layers, oldest first.
func ListFulls(ctx context.Context, store extstore.Store) ([]string, error) {
	var subdirs []string
	err := store.List(ctx, "", dataDir, func(name string) error {
		if fullManifestRE.MatchString(name) && !strings.HasPrefix(name, incrementalsDir+"/") {
			subdirs = append(subdirs, CleanSubdir(path.Dir(name)))
		}
		return nil
	})
	return subdirs, err
}

// ReadLatest returns the subdirectory that the newest LATEST pointer names.
func ReadLatest(ctx context.Context, store extstore.Store) (string, error) {
	name := ""
	err := store.List(ctx, latestDir, "", func(n string) error {
		if !strings.HasPrefix(n, latestPrefix) {
			return nil
		}
		name = latestDir + n
		return extstore.ErrStopList
	})
	if err != nil {
		return "", fmt.Errorf("read LATEST path: %w", err)
	}
	if name == "" {
		name = latestLegacy
	}
	b, err := extstore.ReadAll(ctx, store, name, maxPointerBytes)
	if errors.Is(err, extstore.ErrNotExist) {
		return "", errNoLatest()
	}
	if err != nil {
		return "", fmt.Errorf("read LATEST path: %w", err)
	}
	s := strings.TrimRight(string(b), "\n")
	if s == "" || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\n") || !strings.HasPrefix(CleanSubdir(s), "/") || strings.Contains(s, "..") {
		return "", pgerr.New(pgerr.DataCorrupted, "malformed LATEST file")
	}
	return CleanSubdir(s), nil
}

func errNoLatest() error {
	inner := errors.New("LATEST file could not be read in base or metadata directory")
	return pgerr.Newf(pgerr.UndefinedFile, "path does not contain a completed latest backup: %w", inner).
		WithHint("Run SHOW BACKUPS IN to see what the collection holds, or take a full backup with BACKUP INTO.")
}

// WriteLatest points to subdir as a full layer that ends at end. The layer with
// the latest end is the newest, not the one that was written last: a long backup
// may be overtaken by a shorter one that began later, and one AS OF SYSTEM TIME of
// yesterday is not newer than that of today.
func WriteLatest(ctx context.Context, store extstore.Store, subdir string, end time.Time) error {
	for {
		name := latestDir + latestName(end)
		err := store.Put(ctx, name, strings.NewReader(subdir))
		if !errors.Is(err, extstore.ErrExists) {
			return err
		}
		if have, err := extstore.ReadAll(ctx, store, name, maxPointerBytes); err == nil && string(have) == subdir {
			return nil // An earlier run wrote it.
		}
		end = end.Add(time.Nanosecond) // Another layer that ends at the same instant.
	}
}

// ListIncrementals returns the directories of the complete incremental layers
// of a full, below root, oldest first.
func ListIncrementals(ctx context.Context, store extstore.Store, root string) ([]string, error) {
	var dirs []string
	root = strings.Trim(root, "/") + "/"
	err := store.List(ctx, root, dataDir, func(name string) error {
		if m := incrementalRE.FindStringSubmatch(name); m != nil {
			dirs = append(dirs, root+m[1])
		}
		return nil
	})
	return dirs, err
}

// FullExists says whether subdir holds a complete full layer.
func FullExists(ctx context.Context, store extstore.Store, subdir string) (bool, error) {
	return extstore.Exists(ctx, store, FullDir(subdir)+"/"+manifestName)
}

// IsCollectionRoot says whether dir looks like the root of a collection, for
// people who name it where a backup is wanted.
func IsCollectionRoot(ctx context.Context, store extstore.Store, dir string) bool {
	found := false
	prefix := strings.Trim(dir, "/")
	if prefix != "" {
		prefix += "/"
	}
	_ = store.List(ctx, prefix+latestDir, "", func(string) error { // Only a hint hangs on it.
		found = true
		return extstore.ErrStopList
	})
	return found
}
