package backupccl

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// orderURIs checks the localities of a destination and puts the default URI
// first.
func orderURIs(uris []string) ([]string, error) {
	localities := make([]string, len(uris))
	for i, raw := range uris {
		u, err := extstore.ParseURI(raw)
		if err != nil {
			return nil, err
		}
		localities[i] = u.Locality
	}
	def, err := manifest.ParseLocalities(localities)
	if err != nil {
		return nil, err
	}
	out := []string{uris[def]}
	for i, u := range uris {
		if i != def {
			out = append(out, u)
		}
	}
	return out, nil
}

// openLocations opens the stores of a collection, the default one first. The
// caller closes them.
func (s *Service) openLocations(ctx context.Context, uris []string) (manifest.Locations, error) {
	var locs manifest.Locations
	for _, raw := range uris {
		u, err := extstore.ParseURI(raw)
		if err != nil {
			return nil, errors.Join(err, locs.Close())
		}
		store, err := s.cfg.Stores.OpenURI(ctx, u)
		if err != nil {
			_ = locs.Close()
			return nil, fmt.Errorf("failed to open backup storage location: %w", err)
		}
		locs = append(locs, manifest.Location{Store: store, Locality: u.Locality})
	}
	return locs, nil
}

// collection is an open destination: where fulls are, and where incrementals
// are if the user keeps them elsewhere.
type collection struct {
	locs manifest.Locations
	inc  manifest.Locations // nil: the default place
}

func (c *collection) close() {
	_ = c.locs.Close() // Everything written is durable already.
	_ = c.inc.Close()
}

func (s *Service) openCollection(ctx context.Context, uris, incremental []string) (*collection, error) {
	locs, err := s.openLocations(ctx, uris)
	if err != nil {
		return nil, err
	}
	c := &collection{locs: locs}
	if len(incremental) > 0 {
		if c.inc, err = s.openLocations(ctx, incremental); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func errIncrementalCount() error {
	return pgerr.New(pgerr.InvalidParameterValue,
		"the incremental_location option must contain the same number of locality aware URIs as the full backup destination")
}
