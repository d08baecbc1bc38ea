package sql

import "github.com/holdfastdb/holdfast/sql/pgcodec"

// Fail leaves the transaction as a failed statement leaves it. The wire protocol
// calls it for errors that it finds itself, before the session has seen anything,
// and sends the error that it returns.
func (s *Session) Fail(err error) error { return s.failBatch(err) }

// TextSettings are the settings that shape values on the wire. They change
// between statements only.
func (s *Session) TextSettings() *pgcodec.Settings { return s.codecSettings() }
