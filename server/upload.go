package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// uploadFile writes a file below --external-io-dir. It appears there when it is
// complete and on disk; one that exists is not replaced.
func (n *Node) uploadFile(_ context.Context, name string, data io.Reader) error {
	if !filepath.IsLocal(name) {
		return pgerr.Newf(pgerr.InvalidParameterValue, "invalid file name %q: it must lie below the external I/O directory", name)
	}
	dest := filepath.Join(n.cfg.ExternalIODir, name)
	exists := pgerr.Newf(pgerr.DuplicateFile, "destination file already exists for %s", name)
	if _, err := os.Lstat(dest); err == nil {
		return exists
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return fmt.Errorf("making the directory of %s: %w", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(dest), ".upload-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err // Of the client, whose words stay as they are, or of the disk.
	}
	// A link, unlike a rename, does not replace what came between.
	if err := os.Link(f.Name(), dest); errors.Is(err, os.ErrExist) {
		return exists
	} else if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	dir, err := os.Open(filepath.Dir(dest))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
