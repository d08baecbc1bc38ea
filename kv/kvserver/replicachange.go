package kvserver

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/kv/kvpb"
	"github.com/holdfastdb/holdfast/kv/kvserver/kvserverpb"
)

// changeReplicas brings replicas to stores and takes them away. A new voter is a
// learner until it has all data. Then all that changes about the voters changes at
// once: if that is more than one of them, by way of a joint configuration, in which
// both the voters from before and those from after have to agree. So no
// configuration on the way tolerates less than the worse of the two.
func (r *Replica) changeReplicas(ctx context.Context, args *kvpb.ChangeReplicasArgs) error {
	if err := r.changing.lock(ctx); err != nil {
		return err
	}
	defer r.changing.unlock()
	if _, err := r.serve(ctx, hlc.Timestamp{}); err != nil {
		return err
	}
	if g := r.Desc().Generation; args.Generation != 0 && args.Generation != g {
		return fmt.Errorf("%s has changed since it was of generation %d", r.Desc(), args.Generation)
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	if err := r.startGroup(ctx); err != nil {
		return err
	}
	p := replicaPlan{r: r}
	err := p.change(ctx, args)
	if err != nil {
		p.takeBack(ctx)
	}
	return err
}

// replicaPlan is a change of replicas under way.
type replicaPlan struct {
	r     *Replica
	fresh []kvpb.ReplicaDescriptor // learners that came with it and are to be voters
	// Replicas whose vote begins or ends.
	promote, demote, drop []kvpb.ReplicaDescriptor
}

func (p *replicaPlan) change(ctx context.Context, args *kvpb.ChangeReplicasArgs) error {
	r := p.r
	for _, add := range args.Add {
		if err := p.add(ctx, add); err != nil {
			return fmt.Errorf("adding a replica of %s on s%d: %w", r.Desc(), add.StoreID, err)
		}
	}
	var others []kvpb.ReplicaDescriptor
	for _, store := range args.Remove {
		old, there := r.Desc().ReplicaOn(store)
		switch {
		case !there:
		case store == r.store.ident.StoreID:
			return fmt.Errorf("removing the replica of %s on s%d: %w", r.Desc(), store, errHoldsLease)
		case old.Type == kvpb.ReplicaVoter:
			p.drop = append(p.drop, old)
		default:
			others = append(others, old)
		}
	}
	if err := p.changeVoters(ctx); err != nil {
		return fmt.Errorf("changing the voters of %s: %w", r.Desc(), err)
	}
	for _, old := range others {
		if err := r.dropOne(ctx, old); err != nil {
			return fmt.Errorf("removing the replica of %s on s%d: %w", r.Desc(), old.StoreID, err)
		}
	}
	return nil
}

var errHoldsLease = errors.New("it holds the lease, which has to be transferred first")

// add does what a new replica needs before it can vote, and notes that it is to.
func (p *replicaPlan) add(ctx context.Context, add kvpb.ReplicaDescriptor) error {
	r := p.r
	old, there := r.Desc().ReplicaOn(add.StoreID)
	switch {
	case there && old.Type == add.Type:
		return nil
	case there && add.Type != kvpb.ReplicaVoter && old.Type == kvpb.ReplicaVoter:
		if add.StoreID == r.store.ident.StoreID {
			return errHoldsLease
		}
		p.demote = append(p.demote, old) // It keeps its data and loses its vote.
		return nil
	case there && add.Type != kvpb.ReplicaVoter:
		return r.changeOne(ctx, "type", old, pb.ConfChangeAddLearnerNode, func(d *kvpb.RangeDescriptor) { setType(d, old.ReplicaID, add.Type) })
	case !there:
		add.ReplicaID = r.Desc().NextReplicaID
		first := add
		if add.Type == kvpb.ReplicaVoter {
			first.Type = kvpb.ReplicaLearner
			p.fresh = append(p.fresh, first)
		}
		if err := r.changeOne(ctx, "add", first, pb.ConfChangeAddLearnerNode, func(d *kvpb.RangeDescriptor) {
			d.Replicas = append(d.Replicas, first)
			d.NextReplicaID++
		}); err != nil {
			return err
		}
	default:
		add.ReplicaID = old.ReplicaID
	}
	if add.Type != kvpb.ReplicaVoter {
		return nil
	}
	p.promote = append(p.promote, add)
	return r.awaitCaughtUp(ctx, add.ReplicaID)
}

// takeBack removes the learners that came with a plan which failed: they would count
// as replicas that are not there.
func (p *replicaPlan) takeBack(ctx context.Context) {
	r := p.r
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseDuration)
	defer cancel()
	for _, f := range p.fresh {
		now, ok := r.Desc().Replica(f.ReplicaID)
		if !ok || now.Type != kvpb.ReplicaLearner {
			continue
		}
		if err := r.dropOne(ctx, now); err != nil {
			r.log.WarnContext(ctx, "taking back a replica that could not be brought", "store", f.StoreID, "err", err)
		}
	}
}

// changeVoters changes who votes.
func (p *replicaPlan) changeVoters(ctx context.Context) error {
	r := p.r
	var changes []*pb.ConfChangeSingle
	types := map[int32]kvpb.ReplicaType{}
	note := func(rs []kvpb.ReplicaDescriptor, how pb.ConfChangeType, t kvpb.ReplicaType) {
		for _, o := range rs {
			changes = append(changes, &pb.ConfChangeSingle{Type: how.Enum(), NodeId: proto.Uint64(uint64(o.ReplicaID))})
			types[o.ReplicaID] = t
		}
	}
	note(p.promote, pb.ConfChangeAddNode, kvpb.ReplicaVoterIncoming)
	note(p.demote, pb.ConfChangeAddLearnerNode, kvpb.ReplicaVoterDemotingNonVoter)
	note(p.drop, pb.ConfChangeRemoveNode, kvpb.ReplicaVoterOutgoing)
	if len(changes) == 0 {
		return nil
	}
	edit := func(d *kvpb.RangeDescriptor) {
		for id, t := range types {
			setType(d, id, t)
		}
	}
	conf := &pb.ConfChangeV2{Changes: changes}
	if len(changes) == 1 {
		return r.changeConf(ctx, "voter", conf, func(d *kvpb.RangeDescriptor) {
			edit(d)
			leaveJoint(d)
		})
	}
	conf.Transition = pb.ConfChangeTransitionJointExplicit.Enum()
	if err := r.changeConf(ctx, "voters", conf, edit); err != nil {
		return err
	}
	if hook := r.store.testJoint; hook != nil && !hook() {
		return errors.New("stopped by a test")
	}
	return r.leaveJoint(ctx)
}

// leaveJoint has only those vote who are to vote from now on. Who finds a joint
// configuration and nobody at work calls it, too: see settle.
func (r *Replica) leaveJoint(ctx context.Context) error {
	return r.changeConf(ctx, "leave joint", &pb.ConfChangeV2{}, leaveJoint)
}

// leaveJoint gives the replicas of d the types that they have after the joint
// configuration.
func leaveJoint(d *kvpb.RangeDescriptor) {
	kept := d.Replicas[:0]
	for _, o := range d.Replicas {
		switch o.Type {
		case kvpb.ReplicaVoterOutgoing:
			continue
		case kvpb.ReplicaVoterIncoming:
			o.Type = kvpb.ReplicaVoter
		case kvpb.ReplicaVoterDemotingNonVoter:
			o.Type = kvpb.ReplicaNonVoter
		}
		kept = append(kept, o)
	}
	d.Replicas = kept
}

func setType(d *kvpb.RangeDescriptor, replica int32, t kvpb.ReplicaType) {
	for i := range d.Replicas {
		if d.Replicas[i].ReplicaID == replica {
			d.Replicas[i].Type = t
		}
	}
}

// dropOne removes one replica.
func (r *Replica) dropOne(ctx context.Context, old kvpb.ReplicaDescriptor) error {
	return r.changeOne(ctx, "remove", old, pb.ConfChangeRemoveNode, func(d *kvpb.RangeDescriptor) {
		setType(d, old.ReplicaID, kvpb.ReplicaVoterOutgoing)
		leaveJoint(d)
	})
}

// changeOne changes one replica.
func (r *Replica) changeOne(ctx context.Context, what string, target kvpb.ReplicaDescriptor, how pb.ConfChangeType, edit func(*kvpb.RangeDescriptor)) error {
	conf := &pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{{Type: how.Enum(), NodeId: proto.Uint64(uint64(target.ReplicaID))}}}
	return r.changeConf(ctx, what, conf, edit)
}

// changeConf makes one change of the configuration and the descriptor, in one
// command.
func (r *Replica) changeConf(ctx context.Context, what string, conf *pb.ConfChangeV2, edit func(*kvpb.RangeDescriptor)) error {
	seq, err := r.serve(ctx, hlc.Timestamp{})
	if err != nil {
		return err
	}
	next := *r.Desc()
	next.Replicas = append([]kvpb.ReplicaDescriptor(nil), next.Replicas...)
	next.Generation++
	edit(&next)
	if err := r.replicate(ctx, &kvserverpb.Command{LeaseSequence: seq, Range: descriptorToProto(&next)}, conf); err != nil {
		return err
	}
	if r.Desc().Generation < next.Generation {
		return errors.New("raft takes one change at a time and was busy with another")
	}
	r.log.InfoContext(ctx, "replicas changed", "what", what, "now", next.String(), "replicas", next.Replicas)
	return nil
}

// settleUnsettled has the ranges of this store that are in the middle of a change go
// on, if whoever was at work is gone.
func (s *Store) settleUnsettled(ctx context.Context) {
	_ = s.eachReplica(func(r *Replica) error {
		if d := r.Desc(); d.Absorbing == 0 && !d.Joint() || !r.inCharge() {
			return ctx.Err()
		}
		select {
		case r.changing <- struct{}{}:
		default:
			return ctx.Err() // Somebody is at work.
		}
		defer r.changing.unlock()
		ctx, cancel := context.WithTimeout(ctx, settleTimeout)
		defer cancel()
		if err := r.settle(ctx); err != nil {
			r.log.DebugContext(ctx, "settling what was left half-way", "err", err)
		}
		return nil
	})
}
