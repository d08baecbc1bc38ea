// Package histories shows what clients may rely on while a cluster is mistreated.
//
// A history is what many clients did and what they were told: when each operation
// began and ended, and whether it certainly happened, certainly did not, or perhaps
// did. Five real processes serve four workloads (registers, sets, lists and a bank)
// while a nemesis, whose schedule comes from a seed, kills and pauses and cuts them
// off, sets their clocks wrong, fills their disks, and splits, merges and moves their
// ranges. Afterwards checkers that know nothing of the product look for anything
// that no correct store could have answered.
//
// The promises, of DESIGN: transactions are serializable; on each single key they
// are linearizable, in the clients' own time; nothing acknowledged is lost; what was
// read at a timestamp of the past never changes, whoever is asked; the loss of a
// minority stops writes for ten seconds at most.
//
// Start reading at histories_test.go; the checkers are check_*_test.go, and
// bad_test.go shows them histories that are wrong.
package histories
