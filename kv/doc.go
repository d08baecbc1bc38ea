// Package kv is a client's view of one sorted keyspace: transactions, batches
// and bulk operations, without a thought of where the keys are.
//
// DB starts transactions and does single operations. Txn is a serializable
// transaction: it gives every request a timestamp and a sequence number,
// remembers what it read and locked, moves its snapshot forward when another
// transaction comes in between, and commits. Router cuts batches along range
// boundaries and sends each part to the replica that holds it, which is where
// package kvserver takes over.
//
// The promise: the committed transactions are equivalent to some serial order
// that respects real time, and a commit that was acknowledged survives a crash.
// A failure that a fresh attempt may cure is a *kvpb.TransactionRetryError;
// DB.Txn makes these attempts itself.
//
// Start reading at db.go, then txn.go, txn_send.go and router.go.
package kv
