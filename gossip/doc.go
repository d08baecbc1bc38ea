// Package gossip spreads what nodes say about themselves and about who holds
// which lease: cheap to ask, quick to arrive, and never to be relied on.
//
// A Node is what a process says about itself: addresses, locality tiers,
// attributes, capacities, whether it drains. A Lease is a hint: who held the
// lease of a range when somebody last looked. Facts are merged by version, so
// the order in which they arrive, how often, and over whom does not matter.
//
// The promise is small on purpose. What is read here may be old or wrong; whoever
// acts on it must get a refusal from the one who knows better, and pay a retry.
// A node that is not heard of is Suspected: whether it is dead is for its
// liveness record to say, never for this package.
//
// Membership and failure detection are memberlist's, on connections of the node
// port. Start reading at gossip.go; facts.go merges, transport.go carries.
package gossip
