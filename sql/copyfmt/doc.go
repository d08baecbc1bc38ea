// Package copyfmt reads and writes the data formats of COPY: text, csv and binary,
// as PostgreSQL 15 defines them.
//
// A Reader cuts the stream of a COPY FROM into rows of raw fields; a Writer
// builds the rows of a COPY TO. Neither knows types: pgcodec turns fields into
// datums. A row that lies within one chunk of input is never copied.
//
// Start reading at reader.go.
package copyfmt
