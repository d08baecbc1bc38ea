package raftgroup

import (
	"fmt"
	"io"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// snapshotHeader is what raft is told of a snapshot: where it begins. Raft only
// asks while the group runs, so the applied state does not move.
func (g *Group) snapshotHeader() *pb.Snapshot {
	return &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index: proto.Uint64(g.applied), Term: proto.Uint64(g.appliedT), ConfState: proto.CloneOf(g.conf),
	}}
}

// sendSnapshot streams the state as it is applied now, in a goroutine of the
// scheduler's, and tells raft how that went.
func (g *Group) sendSnapshot(m *pb.Message) {
	to := m.GetTo()
	failed := func() { g.call(func(rn *raft.RawNode) { rn.ReportSnapshot(to, raft.SnapshotFailure) }) }
	if m.GetSnapshot().GetMetadata().GetIndex() != g.applied {
		// Something was applied since raft asked; it will ask again.
		failed()
		return
	}
	snap, err := g.machine.OpenSnapshot()
	if err != nil {
		g.log.Warn("snapshot for another replica", "to", to, "err", err)
		failed()
		return
	}
	g.sending[to] = g.applied
	g.s.running.Go(func() {
		err := func() error {
			defer snap.Close()
			select {
			case g.s.snapshots <- struct{}{}:
				defer func() { <-g.s.snapshots }()
			case <-g.s.ctx.Done():
				return g.s.ctx.Err()
			}
			return g.s.cfg.Transport.SendSnapshot(g.s.ctx, g.rangeID, m, snap)
		}()
		g.call(func(rn *raft.RawNode) {
			delete(g.sending, to)
			status := raft.SnapshotFinish
			if err != nil {
				status = raft.SnapshotFailure
				g.log.Warn("snapshot for another replica", "to", to, "err", err)
			}
			rn.ReportSnapshot(to, status)
		})
	})
}

// StepSnapshot hands in a MsgSnap together with the state that came with it, which
// the machine's InstallSnapshot gets if raft wants it. What is not wanted is closed.
// StepSnapshot returns false if the group does not run any more.
func (g *Group) StepSnapshot(m *pb.Message, received any) bool {
	index := m.GetSnapshot().GetMetadata().GetIndex()
	ok := g.call(func(rn *raft.RawNode) {
		g.incoming[index] = received
		_ = rn.Step(m) // A stale one is refused.
		for g.failed == nil && rn.HasReady() {
			g.failed = g.ready()
		}
		if left, ok := g.incoming[index]; ok {
			drop(left)
			delete(g.incoming, index)
		}
	})
	if !ok {
		drop(received)
	}
	return ok
}

// drop lets go of a received snapshot that holds something.
func drop(received any) {
	if c, ok := received.(io.Closer); ok {
		_ = c.Close()
	}
}

// Sending says whether a snapshot is on its way to a replica.
func (g *Group) Sending(replica uint64) bool {
	g.running.Lock()
	defer g.running.Unlock()
	_, ok := g.sending[replica]
	return ok
}

// install replaces the state by a received snapshot: log, hard state, applied
// state and machine in one batch.
func (g *Group) install(rd raft.Ready) error {
	meta := rd.Snapshot.GetMetadata()
	received, ok := g.incoming[meta.GetIndex()]
	if !ok {
		return fmt.Errorf("r%d: raft installs a snapshot at %d that did not come", g.rangeID, meta.GetIndex())
	}
	defer drop(received)
	delete(g.incoming, meta.GetIndex())
	if len(rd.Entries) > 0 {
		return fmt.Errorf("r%d: raft appends entries together with a snapshot", g.rangeID)
	}
	b := g.s.cfg.Engine.NewBatch()
	defer b.Close()
	reset, err := g.raftLog.Reset(b, meta.GetIndex(), meta.GetTerm())
	if err != nil {
		return err
	}
	staged, err := g.raftLog.Stage(b, rd.HardState, nil)
	if err != nil {
		return err
	}
	if err := putApplied(b, g.prefix, meta.GetIndex(), meta.GetTerm(), meta.GetConfState()); err != nil {
		return err
	}
	if err := g.machine.InstallSnapshot(b, received); err != nil {
		return fmt.Errorf("r%d: installing the snapshot at %d: %w", g.rangeID, meta.GetIndex(), err)
	}
	reset()
	staged()
	g.applied, g.appliedT, g.conf = meta.GetIndex(), meta.GetTerm(), proto.CloneOf(meta.GetConfState())
	g.raftLog.SetConf(g.conf)
	g.logBytes = 0
	g.machine.Applied(g.applied)
	return nil
}
