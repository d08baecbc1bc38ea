package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/parser"
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
)

// Statement is one statement of a query text.
type Statement struct {
	AST tree.Statement
	// SQL is the text of this statement alone. It may hold secrets.
	SQL string
	// NumPlaceholders is the highest $n that occurs.
	NumPlaceholders int
	NumAnnotations  tree.AnnotationIdx
	// Offset is where SQL begins in the text given to Parse, in bytes.
	Offset int
}

// Parse splits sql into statements and parses each. INT means INT4, as in
// PostgreSQL.
func Parse(sql string) ([]Statement, error) {
	var p parser.Parser
	stmts, err := p.ParseWithInt(sql, types.Int4)
	if err != nil {
		return nil, err
	}
	out := make([]Statement, len(stmts))
	for i, s := range stmts {
		out[i] = Statement{AST: s.AST, SQL: s.SQL, NumPlaceholders: s.NumPlaceholders, NumAnnotations: s.NumAnnotations}
	}
	return out, nil
}
