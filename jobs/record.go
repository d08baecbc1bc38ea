package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/systables"
	"github.com/holdfastdb/holdfast/jobs/jobspb"
	"github.com/holdfastdb/holdfast/kv"
)

// ID names a job. Ids grow with time and are never used again.
type ID int64

// Types of jobs. Users see them in the column job_type.
const (
	TypeBackup         = "BACKUP"
	TypeRestore        = "RESTORE"
	TypeSchemaChange   = "SCHEMA CHANGE"
	TypeSchemaChangeGC = "SCHEMA CHANGE GC"
)

// Automatic says whether jobs of a type are started by the system and not by a
// user; SHOW JOBS leaves them out.
func Automatic(jobType string) bool { return jobType == TypeSchemaChangeGC }

// Record is a job as its row holds it.
type Record struct {
	ID            ID
	Type          string
	State         State
	Created       time.Time
	CreatedByType string // "crdb_schedule", or "" when a user created it
	CreatedByID   int64
	Payload       *jobspb.Payload
	Progress      *jobspb.Progress

	claim   claim
	NumRuns int64
	LastRun time.Time // zero if it never ran
	NextRun time.Time // zero: at once

	stored systables.Row // what was read, to find index entries that go away
}

// claim says which session may run a job. Epoch grows with every claim.
type claim struct {
	session  string // "" when nobody holds it; then instance is who held it last, or 0
	instance int64
	epoch    int64
}

// Coordinator returns the id of the node that runs the job, or that ran it last
// when it has ended; 0 for none.
func (r *Record) Coordinator() int64 { return r.claim.instance }

// Finished returns when the job reached a final state, or the zero time.
func (r *Record) Finished() time.Time { return fromMicros(r.Payload.FinishedMicros) }

// Started returns when the job ran first, or the zero time.
func (r *Record) Started() time.Time { return fromMicros(r.Payload.StartedMicros) }

// Modified returns when progress was last written.
func (r *Record) Modified() time.Time { return fromMicros(r.Progress.ModifiedMicros) }

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// move changes the state through the table of legal moves.
func (r *Record) move(to State) error {
	if !canMove(r.State, to) {
		return fmt.Errorf("job %d: illegal move from %s to %s", r.ID, r.State, to)
	}
	r.State = to
	return nil
}

// Positions of the columns of system.jobs.
const (
	colID = iota
	colStatus
	colCreated
	colPayload
	colProgress
	colCreatedByType
	colCreatedByID
	colClaimSession
	colClaimInstance
	colNumRuns
	colLastRun
	colJobType
	colOwner
	colDescription
	colErrorMsg
	colFinished
	colClaimEpoch
	colNextRun
)

func (r *Record) row() (systables.Row, error) {
	payload, err := encode(r.Payload)
	if err != nil {
		return nil, fmt.Errorf("job %d: encoding payload: %w", r.ID, err)
	}
	progress, err := encode(r.Progress)
	if err != nil {
		return nil, fmt.Errorf("job %d: encoding progress: %w", r.ID, err)
	}
	row := make(systables.Row, len(systables.Jobs.Columns))
	row[colID], row[colStatus], row[colCreated] = int64(r.ID), string(r.State), r.Created
	row[colPayload], row[colProgress] = payload, progress
	if r.CreatedByType != "" {
		row[colCreatedByType], row[colCreatedByID] = r.CreatedByType, r.CreatedByID
	}
	if r.claim.session != "" {
		row[colClaimSession] = []byte(r.claim.session)
	}
	if r.claim.instance != 0 {
		row[colClaimInstance] = r.claim.instance
	}
	row[colClaimEpoch], row[colNumRuns] = r.claim.epoch, r.NumRuns
	if !r.LastRun.IsZero() {
		row[colLastRun] = r.LastRun
	}
	if !r.NextRun.IsZero() {
		row[colNextRun] = r.NextRun
	}
	row[colJobType], row[colOwner], row[colDescription] = r.Type, r.Payload.Username, r.Payload.Description
	if r.Payload.Error != nil {
		row[colErrorMsg] = r.Payload.Error.Message
	}
	if fin := r.Finished(); !fin.IsZero() {
		row[colFinished] = fin
	}
	return row, nil
}

func recordFromRow(row systables.Row) (*Record, error) {
	r := &Record{
		ID: ID(row[colID].(int64)), State: State(row[colStatus].(string)), Created: row[colCreated].(time.Time),
		Payload: &jobspb.Payload{}, Progress: &jobspb.Progress{}, stored: row,
	}
	if err := proto.Unmarshal(row[colPayload].([]byte), r.Payload); err != nil {
		return nil, pgerr.Newf(pgerr.DataCorrupted, "job %d: decoding payload: %w", r.ID, err)
	}
	if b, ok := row[colProgress].([]byte); ok {
		if err := proto.Unmarshal(b, r.Progress); err != nil {
			return nil, pgerr.Newf(pgerr.DataCorrupted, "job %d: decoding progress: %w", r.ID, err)
		}
	}
	r.Type, _ = row[colJobType].(string)
	r.CreatedByType, _ = row[colCreatedByType].(string)
	r.CreatedByID, _ = row[colCreatedByID].(int64)
	if s, ok := row[colClaimSession].([]byte); ok {
		r.claim.session = string(s)
	}
	r.claim.instance, _ = row[colClaimInstance].(int64)
	r.claim.epoch, _ = row[colClaimEpoch].(int64)
	r.NumRuns, _ = row[colNumRuns].(int64)
	r.LastRun, _ = row[colLastRun].(time.Time)
	r.NextRun, _ = row[colNextRun].(time.Time)
	return r, nil
}

// ErrNotFound is what errors about ids that no job has match.
var ErrNotFound = errors.New("no such job")

type notFoundError struct{ error }

func (e notFoundError) Unwrap() error        { return e.error }
func (e notFoundError) Is(target error) bool { return target == ErrNotFound }

func errUnknownJob(id ID) error {
	return notFoundError{pgerr.Newf(pgerr.UndefinedObject, "job with ID %d does not exist", id)}
}

// load reads a job inside txn.
func load(ctx context.Context, txn *kv.Txn, id ID) (*Record, error) {
	key, err := systables.Jobs.Key(int64(id))
	if err != nil {
		return nil, err
	}
	got, err := txn.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("reading job %d: %w", id, err)
	}
	if got.Value == nil {
		return nil, errUnknownJob(id)
	}
	row, err := systables.Jobs.Decode(key, got.Value)
	if err != nil {
		return nil, pgerr.Newf(pgerr.DataCorrupted, "job %d: %w", id, err)
	}
	return recordFromRow(row)
}

// store writes r inside txn, over what load had read.
func (r *Record) store(ctx context.Context, txn *kv.Txn) error {
	row, err := r.row()
	if err != nil {
		return err
	}
	put, del, err := systables.Jobs.Change(r.stored, row)
	if err != nil {
		return err
	}
	b := txn.NewBatch()
	for _, kv := range put {
		b.Put(kv.Key, kv.Value)
	}
	for _, k := range del {
		b.Del(k)
	}
	if err := txn.Run(ctx, b); err != nil {
		return fmt.Errorf("writing job %d: %w", r.ID, err)
	}
	r.stored = row
	return nil
}

// remove deletes the row of r inside txn.
func (r *Record) remove(ctx context.Context, txn *kv.Txn) error {
	_, del, err := systables.Jobs.Change(r.stored, nil)
	if err != nil {
		return err
	}
	b := txn.NewBatch()
	b.Del(del...)
	return txn.Run(ctx, b)
}
