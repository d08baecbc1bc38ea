// Package pgwire speaks the PostgreSQL protocol, version 3, to clients.
//
// A Server accepts connections and knows their cancel keys; a conn is one client:
// it reads messages, hands statements to a Session of package sql and writes
// results. A resultWriter encodes the rows of one statement straight into the
// connection's write buffer.
//
// Promises: whatever bytes a client sends, the node lives and other clients do not
// notice; memory per connection is bounded by the message limit and the write
// buffer, so a slow client stalls its own statement only; an idle connection
// costs one parked goroutine and a small read buffer.
//
// Start reading at conn.go (the message loop), then query.go (simple and extended
// protocol) and result.go.
package pgwire
