package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// Location is one store of a collection.
type Location struct {
	Store extstore.Store
	// Locality is "" or "default" for the store of the root, else one tier such
	// as region=eu. When reading it may be unknown.
	Locality string
}

// Locations are the stores of a collection, the default one first.
type Locations []Location

// Default is the store that holds roots, locks, descriptors and pointers.
func (l Locations) Default() extstore.Store { return l[0].Store }

// Localities returns the non-default localities, sorted.
func (l Locations) Localities() []string {
	kvs := []string{}
	for _, loc := range l[1:] {
		kvs = append(kvs, loc.Locality)
	}
	sort.Strings(kvs)
	return kvs
}

// InLocation says whether files of a locality lie in the i-th location.
func (l Locations) InLocation(i int, locality string) bool {
	return sameLocality(l[i].Locality, locality)
}

// Close closes all stores.
func (l Locations) Close() error {
	var errs []error
	for _, loc := range l {
		errs = append(errs, loc.Store.Close())
	}
	return errors.Join(errs...)
}

// at returns a store's files below dir.
func at(s extstore.Store, dir string) extstore.Store {
	return &subStore{Store: s, dir: strings.Trim(dir, "/") + "/"}
}

// subStore is a directory of another store; closing it is left to the owner.
type subStore struct {
	extstore.Store
	dir string
}

func (s *subStore) Put(ctx context.Context, name string, body io.Reader) error {
	return s.Store.Put(ctx, s.dir+name, body)
}
func (s *subStore) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	return s.Store.Open(ctx, s.dir+name, offset, length)
}
func (s *subStore) List(ctx context.Context, prefix, delimiter string, fn func(string) error) error {
	return s.Store.List(ctx, s.dir+prefix, delimiter, fn)
}
func (s *subStore) Delete(ctx context.Context, name string) error {
	return s.Store.Delete(ctx, s.dir+name)
}
func (s *subStore) Size(ctx context.Context, name string) (int64, error) {
	return s.Store.Size(ctx, s.dir+name)
}
func (s *subStore) String() string { return s.Store.String() }
func (s *subStore) Close() error   { return nil }

// ParseLocalities checks the COCKROACH_LOCALITY values of the URIs of one
// destination and returns the index of the default one.
func ParseLocalities(values []string) (defaultIndex int, err error) {
	if len(values) == 1 {
		if v := values[0]; v != "" && v != DefaultLocality {
			return 0, pgerr.Newf(pgerr.InvalidParameterValue,
				"COCKROACH_LOCALITY %s is invalid for a single BACKUP location", v)
		}
		return 0, nil
	}
	defaultIndex = -1
	seen := map[string]bool{}
	for i, v := range values {
		switch {
		case v == "":
			return 0, pgerr.New(pgerr.InvalidParameterValue,
				"multiple URLs are provided for partitioned BACKUP, but COCKROACH_LOCALITY is not specified")
		case v == DefaultLocality:
			if defaultIndex >= 0 {
				return 0, pgerr.New(pgerr.InvalidParameterValue, "multiple default URLs provided for partition backup")
			}
			defaultIndex = i
		default:
			if k, val, ok := strings.Cut(v, "="); !ok || k == "" || val == "" || strings.ContainsAny(val, "=,") {
				return 0, pgerr.Newf(pgerr.InvalidParameterValue,
					"failed to parse backup locality: tier must be in the form \"key=value\" not %q", v)
			}
			if seen[v] {
				return 0, pgerr.Newf(pgerr.InvalidParameterValue, "duplicate URIs for locality %s", v)
			}
			seen[v] = true
		}
	}
	if defaultIndex < 0 {
		return 0, pgerr.New(pgerr.InvalidParameterValue, "no default URL provided for partitioned backup")
	}
	return defaultIndex, nil
}

// BucketFor returns the index of the location that suits a node best: the one
// whose tier matches the node's most specific tier, else the default.
func (l Locations) BucketFor(nodeLocality string) int {
	tiers := strings.Split(nodeLocality, ",")
	for i := len(tiers) - 1; i >= 0; i-- {
		for j, loc := range l {
			if j > 0 && loc.Locality == tiers[i] {
				return j
			}
		}
	}
	return 0
}

func wrapRead(store extstore.Store, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("failed to read backup from %q: %w", store.String(), err)
	switch e := pgerr.Flatten(err); {
	case e.Hint != "":
	case e.Code == pgerr.DataCorrupted, errors.Is(err, extstore.ErrNotExist):
		return e.WithHint("The backup is damaged. Restore from another copy of it, from another backup that SHOW BACKUPS IN lists, " +
			"or AS OF SYSTEM TIME the end of an earlier layer that is whole.")
	}
	return err
}
