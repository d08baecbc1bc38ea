package main

import (
	"context"
	"fmt"
	"log"
	"path/filepath"
	"strconv"
)

// memoryFactor is how much larger the second database is.
const memoryFactor = 10

// memory measures the peak of a server that does nothing but one backup, and of one
// that does nothing but one restore, for a database of the scale and one ten times as
// large. Each has a process of its own: what a process once had of memory stays with
// it for a while.
func (b *bench) memory(ctx context.Context) error {
	small, err := b.peaks(ctx, b.scale)
	if err != nil {
		return err
	}
	large, err := b.peaks(ctx, b.scale*memoryFactor)
	if err != nil {
		return err
	}
	b.value(fmt.Sprintf("peak memory of a backup, scale %d", b.scale), small.backup, "MiB", 600)
	b.value(fmt.Sprintf("peak memory of a restore, scale %d", b.scale), small.restore, "MiB", 600)
	large10 := func(what string, large, small float64) {
		name := fmt.Sprintf("peak memory of a %s, scale %d against %d, MiB", what, b.scale*memoryFactor, b.scale)
		// What the garbage collector and the allocator hold differs from run to run.
		b.ratio(name, large, small, "", true, 1.1)
	}
	large10("backup", large.backup, small.backup)
	large10("restore", large.restore, small.restore)
	return nil
}

type memoryPeaks struct{ backup, restore float64 }

// peaks loads a database of its own and starts the server anew for each figure.
func (b *bench) peaks(ctx context.Context, scale int) (memoryPeaks, error) {
	var p memoryPeaks
	dir := filepath.Join(b.dir, fmt.Sprintf("memory%d", scale))
	in := func(what string, fn func(s *server) error) (float64, error) {
		s, err := startHoldfast(ctx, b.binary, dir)
		if err != nil {
			return 0, err
		}
		defer s.stop()
		t, err := seconds(func() error { return fn(s) })
		if err != nil {
			return 0, fmt.Errorf("%s at scale %d: %w", what, scale, err)
		}
		peak, err := s.peakRSS()
		log.Printf("scale %d, %s: %.1f s, peak %.0f MiB", scale, what, t, peak)
		return peak, err
	}
	statement := func(st string) func(s *server) error {
		return func(s *server) error {
			_, err := s.psql(ctx, st)
			return err
		}
	}
	_, err := in("load", func(s *server) error {
		_, err := s.tool(ctx, "pgbench", "-i", "-I", "dtGvp", "-s", strconv.Itoa(scale))
		return err
	})
	if err != nil {
		return p, err
	}
	if p.backup, err = in("backup", statement("BACKUP DATABASE defaultdb INTO 'nodelocal://1/memory'")); err != nil {
		return p, err
	}
	p.restore, err = in("restore", statement("RESTORE DATABASE defaultdb FROM LATEST IN 'nodelocal://1/memory' WITH new_db_name = 'restored'"))
	return p, err
}
