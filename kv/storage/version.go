package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// storeVersionFile names the file that says what the directory is. It is
// written before anything else, so a directory with Pebble files but without it
// is not ours.
const (
	storeVersionFile = "HOLDFAST_STORE"
	storeVersion     = "1"
	storeVersionLine = "holdfast store version "
)

// checkStoreVersion accepts a store of our version and makes an empty
// directory into one.
func checkStoreVersion(vf vfs.FS, dir string) error {
	name := filepath.Join(dir, storeVersionFile)
	f, err := vf.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return createStoreVersion(vf, dir)
	}
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	v, ok := strings.CutPrefix(strings.TrimSpace(string(text)), storeVersionLine)
	switch {
	case !ok:
		return Mark(fmt.Errorf("%s does not say a store version: %q", storeVersionFile, text), ErrCorrupt)
	case v != storeVersion:
		return Mark(fmt.Errorf("the store has version %s, this binary reads and writes version %s only; use the binary that wrote it",
			v, storeVersion), ErrStoreVersion)
	}
	return nil
}

func createStoreVersion(vf vfs.FS, dir string) error {
	names, err := vf.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		// Temporary files of an earlier try and what a file system puts into a
		// fresh mount are no obstacle.
		if n == "LOCK" || n == "lost+found" || strings.HasPrefix(n, storeVersionFile) || n == "auxiliary" || strings.HasSuffix(n, ".log.txt") || n == "logs" {
			continue
		}
		if strings.HasPrefix(n, "MANIFEST-") || n == "CURRENT" || strings.HasPrefix(n, "marker.") || strings.HasSuffix(n, ".sst") {
			return Mark(fmt.Errorf("the directory has store files but no %s: it was not written by Holdfast, or that file was lost", storeVersionFile), ErrStoreVersion)
		}
	}
	tmp := filepath.Join(dir, storeVersionFile+".tmp")
	f, err := vf.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(f, storeVersionLine+storeVersion+"\n"); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := vf.Rename(tmp, filepath.Join(dir, storeVersionFile)); err != nil {
		return err
	}
	d, err := vf.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
