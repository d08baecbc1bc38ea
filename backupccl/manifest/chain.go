package manifest

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"sync"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Chain is a full layer and everything that was appended to it.
type Chain struct {
	Subdir string
	Full   *Layer
	// Incrementals are all complete incremental layers by end time. Two backups
	// that ran at once may both start at the same layer.
	Incrementals []*Layer
	// IncrementalRoot is where incrementals lie, relative to IncrementalLocations.
	IncrementalRoot      string
	IncrementalLocations Locations
}

// readers is how many manifests are fetched at once.
const readers = 8

// LoadChain reads the manifests of a full and its incrementals. inc is the
// separate place of incrementals, or nil for the default one.
func LoadChain(ctx context.Context, locs, inc Locations, subdir string) (*Chain, error) {
	c := &Chain{Subdir: CleanSubdir(subdir)}
	full, err := Open(ctx, locs, FullDir(subdir))
	if err != nil {
		return nil, err
	}
	c.Full = full
	if !full.IsFull() {
		return nil, pgerr.New(pgerr.InvalidParameterValue, "invalid base backup specified")
	}
	dirs, err := c.findIncrementals(ctx, locs, inc)
	if err != nil {
		return nil, err
	}
	layers := make([]*Layer, len(dirs))
	errs := make([]error, len(dirs))
	var wg sync.WaitGroup
	sem := make(chan struct{}, readers)
	for i, dir := range dirs {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			layers[i], errs[i] = Open(ctx, c.IncrementalLocations, dir)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, err
		}
		if l := layers[i]; !bytes.Equal(l.Manifest.ClusterId, full.Manifest.ClusterId) {
			return nil, errOtherCluster(l)
		} else if l.IsFull() {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "%s lies among incremental layers and is a full one", l.Dir)
		}
	}
	sort.SliceStable(layers, func(i, j int) bool { return layers[i].End().Less(layers[j].End()) })
	c.Incrementals = layers
	return c, nil
}

func errOtherCluster(l *Layer) error {
	return pgerr.Newf(pgerr.ObjectNotInPrerequisiteState,
		"previous BACKUP belongs to cluster %s", fmtID(l.Manifest.ClusterId))
}

// findIncrementals fixes where incrementals of the chain lie and lists them.
func (c *Chain) findIncrementals(ctx context.Context, locs, inc Locations) ([]string, error) {
	if inc != nil {
		c.IncrementalLocations, c.IncrementalRoot = inc, IncrementalsRoot(c.Subdir, true)
		return ListIncrementals(ctx, inc.Default(), c.IncrementalRoot)
	}
	c.IncrementalLocations, c.IncrementalRoot = locs, IncrementalsRoot(c.Subdir, false)
	dirs, err := ListIncrementals(ctx, locs.Default(), c.IncrementalRoot)
	if err != nil {
		return nil, err
	}
	old, err := ListIncrementals(ctx, locs.Default(), FullDir(c.Subdir))
	if err != nil {
		return nil, err
	}
	switch {
	case len(old) > 0 && len(dirs) > 0:
		return nil, pgerr.New(pgerr.ObjectNotInPrerequisiteState,
			"Incremental layers found in both old and new default locations. "+
				"Please choose a location manually with the `incremental_location` parameter.")
	case len(old) > 0:
		c.IncrementalRoot = FullDir(c.Subdir)
		return old, nil
	}
	return dirs, nil
}

// follows says whether l continues prev without a gap.
func follows(prev, l *Layer) bool {
	return l.Start() == prev.End() &&
		(len(l.Manifest.PreviousId) == 0 || bytes.Equal(l.Manifest.PreviousId, prev.Manifest.Id))
}

// paths returns for every reachable layer its predecessor on a path with fewest
// layers from the full.
func (c *Chain) paths() map[*Layer]*Layer {
	pred := map[*Layer]*Layer{c.Full: nil}
	frontier := []*Layer{c.Full}
	for len(frontier) > 0 {
		var next []*Layer
		for _, prev := range frontier {
			for _, l := range c.Incrementals {
				if _, seen := pred[l]; !seen && follows(prev, l) {
					pred[l] = prev
					next = append(next, l)
				}
			}
		}
		frontier = next
	}
	return pred
}

func pathTo(pred map[*Layer]*Layer, l *Layer) []*Layer {
	var path []*Layer
	for ; l != nil; l = pred[l] {
		path = append([]*Layer{l}, path...)
	}
	return path
}

// Latest returns the layers that lead to the chain's newest state. A layer that
// nothing leads to means that one is missing, and is an error.
func (c *Chain) Latest() ([]*Layer, error) {
	pred := c.paths()
	last := c.Full
	for _, l := range c.Incrementals {
		if _, ok := pred[l]; ok && last.End().Less(l.End()) {
			last = l
		}
	}
	for _, l := range c.Incrementals {
		if _, ok := pred[l]; !ok && last.End().Less(l.End()) {
			return nil, c.errGap(last.End(), l)
		}
	}
	return pathTo(pred, last), nil
}

// All returns all layers that can be reached, in order of time, for listing.
// When one is missing, what comes after it is listed too.
func (c *Chain) All() []*Layer {
	return append([]*Layer{c.Full}, c.Incrementals...)
}

func (c *Chain) errGap(have hlc.Timestamp, next *Layer) error {
	return pgerr.Newf(pgerr.UndefinedFile,
		"backup chain %s in %s has a gap: nothing covers the time between %s and %s, where layer %s begins",
		c.Subdir, c.Full.locs.Default(), have.Time(), next.Start().Time(), next.Dir).
		WithHint("A layer is missing. Give its place with incremental_location, or restore AS OF SYSTEM TIME '%s'.", have.AsOfSystemTime())
}

// EndShownAs returns the end of the layer that people see as t: SHOW BACKUP
// prints microseconds, and a layer may end between two of them. Without such a
// layer it returns t.
func (c *Chain) EndShownAs(t hlc.Timestamp) hlc.Timestamp {
	const micro = 1000
	if t.Logical != 0 || t.WallTime%micro != 0 {
		return t
	}
	for _, l := range c.All() {
		if d := l.End().WallTime - t.WallTime; -micro < d && d < micro {
			return l.End()
		}
	}
	return t
}

// At returns the layers that lead to the state at t. Inside a layer without
// revision history only its end can be had.
func (c *Chain) At(t hlc.Timestamp) ([]*Layer, error) {
	pred := c.paths()
	var best []*Layer
	var inside *Layer // covers t but has no history
	consider := func(l *Layer) {
		if !l.Start().Less(t) || l.End().Less(t) {
			return
		}
		if l.End() == t || l.HasHistory() && Time(l.Manifest.RevisionStartTime).Less(t) {
			if p := pathTo(pred, l); best == nil || len(p) < len(best) {
				best = p
			}
			return
		}
		inside = l
	}
	for l := range pred {
		consider(l)
	}
	if best != nil {
		return best, nil
	}
	if inside == nil {
		// Behind a gap, or behind everything.
		for _, l := range c.Incrementals {
			if _, ok := pred[l]; !ok && l.Start().Less(t) && t.LessEq(l.End()) {
				have := c.Full.End()
				for r := range pred {
					if r.End().Less(t) && have.Less(r.End()) {
						have = r.End()
					}
				}
				return nil, c.errGap(have, l)
			}
		}
		return nil, ErrNotCovered()
	}
	if inside.HasHistory() {
		return nil, pgerr.Newf(pgerr.InvalidParameterValue,
			"invalid RESTORE timestamp: BACKUP for requested time only has revision history from %v",
			Time(inside.Manifest.RevisionStartTime).Time())
	}
	nearest := fmt.Sprintf("nearest backup time is %s", inside.End().Time())
	if !inside.IsFull() {
		nearest = fmt.Sprintf("nearest BACKUP times are %s or %s", inside.Start().Time(), inside.End().Time())
	}
	return nil, pgerr.Newf(pgerr.InvalidParameterValue,
		"invalid RESTORE timestamp: restoring to arbitrary time requires that BACKUP for requested time be created "+
			"with 'revision_history' option. %s", nearest)
}

// ErrNotCovered says that no layer of the chain reaches the wanted time.
func ErrNotCovered() error {
	return pgerr.New(pgerr.InvalidParameterValue,
		"invalid RESTORE timestamp: supplied backups do not cover requested time")
}

// ResolveSubdir turns LATEST or a user's subdirectory into a clean one.
func ResolveSubdir(ctx context.Context, store extstore.Store, subdir string, latest bool) (string, error) {
	if latest {
		return ReadLatest(ctx, store)
	}
	return CleanSubdir(subdir), nil
}
