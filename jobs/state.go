package jobs

import "slices"

// State says where a job stands. Succeeded, Failed, Canceled and RevertFailed are final.
//
//	Pending ─► Running ─► Succeeded
//	Running, Reverting ─► PauseRequested ─► Paused ─► Running, Reverting
//	Pending, Running, Paused ─► CancelRequested ─► Reverting ─► Canceled
//	Running ─► Reverting ─► Failed | RevertFailed
type State string

// The states, as users see them.
const (
	Pending         State = "pending"
	Running         State = "running"
	PauseRequested  State = "pause-requested"
	Paused          State = "paused"
	CancelRequested State = "cancel-requested"
	Reverting       State = "reverting"
	Succeeded       State = "succeeded"
	Failed          State = "failed"
	Canceled        State = "canceled"
	RevertFailed    State = "revert-failed"
)

// successors holds every legal move; each change of a stored state goes through
// canMove. A move to the state itself is always legal.
var successors = map[State][]State{
	Pending:         {Running, PauseRequested, CancelRequested},
	Running:         {PauseRequested, CancelRequested, Reverting, Succeeded},
	PauseRequested:  {Paused, Succeeded, Failed, Canceled}, // the work may end before it notices
	Paused:          {Running, Reverting, CancelRequested},
	CancelRequested: {Reverting, Succeeded}, // likewise
	Reverting:       {PauseRequested, Failed, Canceled, RevertFailed},
}

func canMove(from, to State) bool {
	return from == to || slices.Contains(successors[from], to)
}

// Terminal says whether no move leads out of s.
func (s State) Terminal() bool { return len(successors[s]) == 0 }

// unclaimedWork lists the states in which a job without a live claim needs a
// process to do something for it.
var unclaimedWork = []State{Running, Reverting, Pending, PauseRequested, CancelRequested}

// allStates lists every state in the order of a job's life.
var allStates = []State{
	Pending, Running, PauseRequested, Paused, CancelRequested, Reverting, Succeeded, Failed, Canceled, RevertFailed,
}
