// These functions stand in until the front has its own: delete this file then.

package parser

import (
	"github.com/auxten/postgresql-parser/pkg/sql/parser"
	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/cockroachdb/errors"
)

func ParseOne(sql string) (Statement, error) {
	s, err := Parse(sql)
	if err != nil {
		return Statement{}, err
	}
	if len(s) != 1 {
		return Statement{}, errors.New("want one statement")
	}
	return s[0], nil
}
func ParseExpr(text string) (tree.Expr, error) { return parser.ParseExpr(text) }
func ParseType(text string) (*types.T, error)  { return parser.ParseType(text) }
func ParseObjectName(text string) (*tree.UnresolvedObjectName, error) {
	tn, err := parser.ParseTableName(text)
	return tn, err
}
func ConflictConstraint(*tree.OnConflict) (string, bool) { return "", false }
