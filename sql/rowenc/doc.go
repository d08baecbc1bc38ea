// Package rowenc turns rows and index entries into keys and values and back.
//
// The bytes are those of the publicly documented row encoding: keys in
// order-preserving form, one pair per row and column family, values as tuples of
// (column id delta, datum) behind a checksum. docs/format describes them.
//
// An Encoder makes the pairs of a row; a Fetcher reads pairs back into datums,
// decoding only the columns that are wanted. Spans for index constraints come
// from span.go. Nothing here trusts its input: bytes that cannot be a value of
// the column's type are an error with SQLSTATE XX001, never a panic.
//
// Start reading at key.go, then value.go, encoder.go and fetcher.go.
package rowenc
