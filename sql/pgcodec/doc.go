// Package pgcodec turns datums into PostgreSQL's text and binary formats and back.
//
// A Codec knows one column or parameter: its OID, type modifier and, for arrays,
// its element. AppendText and AppendBinary write what a PostgreSQL 15 server
// would write, byte for byte; DecodeText and DecodeBinary accept what it would
// accept. Nothing here allocates per value unless the value itself must be kept,
// because every row of every query passes through.
//
// It stands below sql, which decodes parameters and COPY data with it, and below
// server/pgwire, which encodes rows. Start reading at codec.go, then text.go and
// binary.go.
package pgcodec
