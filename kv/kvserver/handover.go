package kvserver

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// handOverAtOnce is how many leases leave at the same time.
const handOverAtOnce = 16

// HandOver gives the leases of this store away, and the leadership of groups, so
// that nobody has to wait for it when it ends. to says which store is to have a
// range, false if there is none. It returns how many could have gone and did not.
func (s *Store) HandOver(ctx context.Context, to func(*kvpb.RangeDescriptor) (kvpb.StoreID, bool)) (left int, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, handOverAtOnce)
	_ = s.eachReplica(func(r *Replica) error {
		g := r.group.Load()
		if g == nil || !g.Status().IsLeader() && !r.holdsLease() {
			return ctx.Err()
		}
		target, ok := to(r.Desc())
		if !ok {
			return ctx.Err()
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			herr := r.handOver(ctx, target)
			if herr == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			left++
			err = herr
		})
		return nil
	})
	wg.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return left, err
}

func (r *Replica) handOver(ctx context.Context, to kvpb.StoreID) error {
	if l := r.lease.Load(); l.holder.StoreID != r.store.ident.StoreID && r.store.clock.Now().Less(l.expiration) {
		r.followLease()
		return nil
	}
	if err := r.transferLease(ctx, to); err != nil {
		return fmt.Errorf("handing %s over to s%d: %w", r.Desc(), to, err)
	}
	return nil
}

// Counts returns how many ranges have a replica here, and how many of them this
// store serves.
func (s *Store) Counts() (ranges, leases int) {
	for _, r := range *s.replicas.byID.Load() {
		ranges++
		if r.holdsLease() {
			leases++
		}
	}
	return ranges, leases
}

// FirstRange returns the descriptor of the first range if there is a replica of it
// here.
func (s *Store) FirstRange() (*kvpb.RangeDescriptor, bool) {
	r := s.replica(1)
	if r == nil {
		return nil, false
	}
	return r.Desc(), true
}

// SavePeers keeps the addresses of nodes that a later process can join the cluster
// through.
func SavePeers(eng *storage.Engine, addresses []string) error {
	b := eng.NewBatch()
	defer b.Close()
	if err := b.Put(storeKey(suffixPeers), []byte(strings.Join(addresses, "\n"))); err != nil {
		return err
	}
	return b.Commit(true)
}

// ReadPeers returns what SavePeers kept last.
func ReadPeers(eng *storage.Engine) ([]string, error) {
	b, ok, err := eng.Get(storeKey(suffixPeers))
	if err != nil || !ok || len(b) == 0 {
		return nil, err
	}
	return strings.Split(string(b), "\n"), nil
}
