package backupccl

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// TestRestoreHoldsABudgetOfFiles: what a piece reads beyond the budget lies on
// disk and reads the same, and what no later piece needs is given up.
func TestRestoreHoldsABudgetOfFiles(t *testing.T) {
	ctx := t.Context()
	store := extstore.NewMem()
	layer := &manifest.Layer{Dir: "d"}
	file := func(i int, end string) *manifest.DataFile {
		b := bytes.Repeat([]byte{byte(i)}, 1000+i)
		name := fmt.Sprintf("%d.sst", i)
		if err := store.Put(ctx, name, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		return &manifest.DataFile{Store: store, Layer: layer, File: &backuppb.File{
			Path: name, BackingFileSize: uint64(len(b)), Sha256: sum[:],
			Span: manifest.SpanPB(keys.Span{Key: keys.Key("a"), EndKey: keys.Key(end)}),
		}}
	}
	dir := t.TempDir()
	c := newFileCache(4000, dir)
	var files []*manifest.DataFile
	for i := range 20 {
		files = append(files, file(i, []string{"c", "k"}[i%2]))
	}
	readAll := func(which []*manifest.DataFile) {
		t.Helper()
		for range 2 {
			for _, f := range which {
				got, err := c.get(ctx, f)
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, got.Size())
				if _, err := got.ReadAt(b, 0); err != nil {
					t.Fatal(err)
				}
				if sum := sha256.Sum256(b); !bytes.Equal(sum[:], f.Sha256) {
					t.Fatalf("%s reads differently", f.Path)
				}
			}
		}
	}
	onDisk := func() (n int) {
		for _, e := range c.files {
			if e.disk != nil {
				n++
			}
		}
		return n
	}
	readAll(files)
	if c.bytes > 4000 || onDisk() != 17 {
		t.Errorf("%d bytes in memory, %d files on disk", c.bytes, onDisk())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files with names: %v %v", left, err)
	}
	c.passed(keys.Key("c"))
	if len(c.files) != 10 {
		t.Errorf("%d files kept, 10 reach beyond", len(c.files))
	}
	var rest []*manifest.DataFile
	for i := 1; i < 20; i += 2 {
		rest = append(rest, files[i])
	}
	readAll(rest)
	// A damaged file is refused, whatever memory it was read into.
	bad := file(30, "k")
	bad.Sha256 = files[0].Sha256
	if _, err := c.get(ctx, bad); pgerr.GetCode(err) != pgerr.DataCorrupted {
		t.Errorf("damaged file: %v", err)
	}
	c.passed(keys.Key("k"))
	if len(c.files) != 0 || c.bytes != 0 {
		t.Errorf("%d files and %d bytes kept after the end", len(c.files), c.bytes)
	}
	c.close()
}

// TestRestoreMemoryDoesNotGrowWithFiles: however many files a worker reads, of
// whatever sizes and however they overlap, it holds its budget, or what one file needs
// beyond that, and the memory of files that it is done with serves the next ones.
func TestRestoreMemoryDoesNotGrowWithFiles(t *testing.T) {
	ctx := t.Context()
	store := extstore.NewMem()
	layer := &manifest.Layer{Dir: "d"}
	const budget, largest = 64_000, 20_000
	c := newFileCache(budget, t.TempDir())
	defer c.close()
	sizes := rand.New(rand.NewPCG(1, 2))
	key := func(i int) keys.Key { return keys.Key(fmt.Sprintf("%06d", i)) }
	most, made := 0, map[*byte]bool{}
	const pieces = 1000
	for piece := range pieces {
		c.passed(key(piece))
		for i := range 3 {
			size := 15_000 + sizes.IntN(largest-15_000)
			if piece >= pieces/2 { // Larger and larger: no buffer of before will do.
				size = 1000 + (piece-pieces/2)*(largest-1000)/(pieces/2)
			}
			b := bytes.Repeat([]byte{byte(piece + i)}, size)
			name := fmt.Sprintf("%d-%d.sst", piece, i)
			if err := store.Put(ctx, name, bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b)
			f, err := c.get(ctx, &manifest.DataFile{Store: store, Layer: layer, File: &backuppb.File{
				Path: name, BackingFileSize: uint64(size), Sha256: sum[:],
				Span: manifest.SpanPB(keys.Span{Key: key(piece), EndKey: key(piece + 1 + i/2)}),
			}})
			if err != nil {
				t.Fatal(err)
			}
			if e := c.files[fileName{layer, name}]; e.b != nil {
				made[&e.b[0]] = true
			}
			if f.Size() != int64(size) {
				t.Fatalf("%s has %d bytes, want %d", name, f.Size(), size)
			}
			most = max(most, c.held())
			if err := store.Delete(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
		c.passed(key(piece + 1))
	}
	if limit := budget + largest + largest/4; most > limit {
		t.Errorf("%d bytes held, the bound is %d", most, limit)
	}
	if len(made) > pieces {
		t.Errorf("%d buffers made for %d files", len(made), 3*pieces)
	}
}

// TestRestoreForgetsTheLargestPiece: one piece that needs many files at once leaves no
// memory behind that the pieces after it do not need.
func TestRestoreForgetsTheLargestPiece(t *testing.T) {
	ctx := t.Context()
	store := extstore.NewMem()
	layer := &manifest.Layer{Dir: "d"}
	const size = 10_000
	c := newFileCache(8*size, t.TempDir())
	defer c.close()
	b := bytes.Repeat([]byte{1}, size)
	sum := sha256.Sum256(b)
	key := func(i int) keys.Key { return keys.Key(fmt.Sprintf("%06d", i)) }
	held := 0
	for piece := range 20 {
		c.passed(key(piece))
		files := 1
		if piece == 10 {
			files = 6
		}
		for i := range files {
			name := fmt.Sprintf("%d-%d.sst", piece, i)
			if err := store.Put(ctx, name, bytes.NewReader(b)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.get(ctx, &manifest.DataFile{Store: store, Layer: layer, File: &backuppb.File{
				Path: name, BackingFileSize: size, Sha256: sum[:],
				Span: manifest.SpanPB(keys.Span{Key: key(piece), EndKey: key(piece + 1)}),
			}}); err != nil {
				t.Fatal(err)
			}
		}
		if piece == 10 && c.held() < 6*size {
			t.Fatalf("six files in %d bytes", c.held())
		}
		c.passed(key(piece + 1))
		if piece == 5 {
			held = c.held()
			if held < size {
				t.Fatalf("%d bytes kept for the next file", held)
			}
		}
	}
	if got := c.held(); got != held {
		t.Errorf("%d bytes held, %d before the large piece", got, held)
	}
}
