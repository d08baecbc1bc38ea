// Package allocator decides where the replicas of a range belong. It does no I/O:
// what it is told of a range, its zone configuration and the stores of the cluster
// becomes one Action, the most urgent step that brings the range nearer to where it
// should be, and a list of Violations, what is not as it should be now.
//
// An arrangement of a range is judged by, in this order: how many constraints are
// not met, how different the localities of its replicas are, how full its stores
// are. Whoever carries out the actions one by one comes to an end, since each makes
// an arrangement that is better by that order: see score.
//
// The order of work is: finish or clean up what a former change left; replace what
// is dead; add what is missing; empty the stores that leave; remove what is too
// much; meet constraints; spread out over localities; even out the load; and last
// the lease. No step endangers a quorum.
//
// Start reading at Decide in allocator.go; constraints.go has what a zone
// configuration demands, score.go what is better than what, lease.go the lease.
package allocator
