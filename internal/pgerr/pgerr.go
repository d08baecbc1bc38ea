// Package pgerr carries what a PostgreSQL client is told about an error: its
// SQLSTATE, message, detail and hint.
//
// The layer that knows the meaning of an error makes an *Error, or wraps one;
// the wire layer finds it once with Flatten. An error without a code reaches the
// client as XX000.
package pgerr

import (
	"context"
	"errors"
	"fmt"
)

// Code is a five-character SQLSTATE.
type Code string

// The codes that more than one package uses. Others may be written in place.
const (
	SuccessfulCompletion         Code = "00000"
	Warning                      Code = "01000"
	FeatureNotSupported          Code = "0A000"
	ProtocolViolation            Code = "08P01"
	InvalidParameterValue        Code = "22023"
	NumericValueOutOfRange       Code = "22003"
	DivisionByZero               Code = "22012"
	InvalidTextRepresentation    Code = "22P02"
	BadCopyFileFormat            Code = "22P04"
	NotNullViolation             Code = "23502"
	ForeignKeyViolation          Code = "23503"
	UniqueViolation              Code = "23505"
	CheckViolation               Code = "23514"
	ActiveSQLTransaction         Code = "25001"
	ReadOnlySQLTransaction       Code = "25006"
	NoActiveSQLTransaction       Code = "25P01"
	InFailedSQLTransaction       Code = "25P02"
	InvalidSQLStatementName      Code = "26000"
	DependentObjectsStillExist   Code = "2BP01"
	InvalidCursorName            Code = "34000"
	InvalidSavepoint             Code = "3B001"
	InvalidCatalogName           Code = "3D000"
	InvalidSchemaName            Code = "3F000"
	SerializationFailure         Code = "40001"
	DeadlockDetected             Code = "40P01"
	StatementCompletionUnknown   Code = "40003"
	InsufficientPrivilege        Code = "42501"
	SyntaxError                  Code = "42601"
	DuplicateColumn              Code = "42701"
	AmbiguousColumn              Code = "42702"
	UndefinedColumn              Code = "42703"
	UndefinedObject              Code = "42704"
	DuplicateObject              Code = "42710"
	DuplicateFile                Code = "42C01"
	GroupingError                Code = "42803"
	DatatypeMismatch             Code = "42804"
	WrongObjectType              Code = "42809"
	UndefinedFunction            Code = "42883"
	UndefinedTable               Code = "42P01"
	UndefinedParameter           Code = "42P02"
	DuplicateDatabase            Code = "42P04"
	DuplicatePreparedStatement   Code = "42P05"
	DuplicateSchema              Code = "42P06"
	DuplicateRelation            Code = "42P07"
	InvalidTableDefinition       Code = "42P16"
	InvalidObjectDefinition      Code = "42P17"
	OutOfMemory                  Code = "53200"
	DiskFull                     Code = "53100"
	ProgramLimitExceeded         Code = "54000"
	ObjectNotInPrerequisiteState Code = "55000"
	ObjectInUse                  Code = "55006"
	CannotChangeRuntimeParam     Code = "55P02"
	LockNotAvailable             Code = "55P03"
	OperatorIntervention         Code = "57000"
	QueryCanceled                Code = "57014"
	AdminShutdown                Code = "57P01"
	CannotConnectNow             Code = "57P03"
	IOError                      Code = "58030"
	UndefinedFile                Code = "58P01"
	DataCorrupted                Code = "XX001"
	Internal                     Code = "XX000"
	Uncategorized                Code = "XXUUU"
)

// Error is an error as a PostgreSQL client sees it. Empty fields are not sent.
type Error struct {
	Severity string // "ERROR" unless set; notices say NOTICE or WARNING
	Code     Code
	Message  string
	Detail   string
	Hint     string
	Position int    // 1-based, in characters of the query; 0 means none
	Where    string // CONTEXT: what was being processed, as "COPY t, line 3, column a"

	// Routine is the function of PostgreSQL that reports such an error, where
	// drivers look at it.
	Routine string

	SchemaName, TableName, ColumnName, DataTypeName, ConstraintName string

	cause error
}

// Newf returns an error with a code. A %w verb keeps its operand as the cause.
func Newf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// New is Newf without formatting.
func New(code Code, msg string) *Error { return &Error{Code: code, Message: msg} }

// Wrapf adds what was being done in front of err's message and keeps its code,
// detail and hint; an err without a code gets code.
func Wrapf(err error, code Code, format string, args ...any) *Error {
	e := *Flatten(err)
	if GetCode(err) == "" {
		e.Code = code
	}
	e.Message = fmt.Sprintf(format, args...) + ": " + err.Error()
	e.cause = err
	return &e
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// WithDetail sets the DETAIL line.
func (e *Error) WithDetail(format string, args ...any) *Error {
	e.Detail = sprintf(format, args)
	return e
}

// WithHint sets the HINT line: the way out.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = sprintf(format, args)
	return e
}

// WithWhere sets the CONTEXT line: what was being processed.
func (e *Error) WithWhere(format string, args ...any) *Error {
	e.Where = sprintf(format, args)
	return e
}

// WithPosition points into the query text, counted in characters from 1.
func (e *Error) WithPosition(pos int) *Error {
	e.Position = pos
	return e
}

// WithConstraint names the violated constraint and its table.
func (e *Error) WithConstraint(schema, table, constraint string) *Error {
	e.SchemaName, e.TableName, e.ConstraintName = schema, table, constraint
	return e
}

func sprintf(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

// Notice returns a message of severity NOTICE.
func Notice(format string, args ...any) *Error {
	return &Error{Severity: "NOTICE", Code: SuccessfulCompletion, Message: sprintf(format, args)}
}

// GetCode returns the code of the outermost *Error in err's chain, or "".
func GetCode(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// Flatten returns what the client is told about err. The outermost *Error gives
// code, detail and hint; context that was wrapped around it stays in the message.
func Flatten(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		out := *e
		out.Message = err.Error()
		out.cause = err
		return &out
	}
	code := Internal
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Code: QueryCanceled, Message: "query execution canceled", cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: QueryCanceled, Message: "query execution canceled due to statement timeout", cause: err}
	}
	return &Error{Code: code, Message: err.Error(), cause: err}
}
