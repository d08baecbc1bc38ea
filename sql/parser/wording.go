package parser

import (
	"strings"

	"github.com/holdfastdb/holdfast/internal/pgerr"
)

// syntaxErrorSuffix ends the wording that statements of backups, jobs and zones
// have for a syntax error, and that the module has for all.
const syntaxErrorSuffix = `": syntax error`

// wordAsPostgres gives the syntax error of an ordinary statement PostgreSQL's
// words, which drivers and tools look for. Statements that PostgreSQL does not
// know keep theirs. The position of e counts bytes of the statement.
func wordAsPostgres(e *pgerr.Error, toks []token, src string) {
	if e.Code != pgerr.SyntaxError || !strings.HasSuffix(e.Message, syntaxErrorSuffix) || ownWording(toks) {
		return
	}
	e.Message, e.Detail = "syntax error at end of input", ""
	for _, t := range toks {
		if t.pos == e.Position-1 {
			e.Message = `syntax error at or near "` + src[t.pos:t.end] + `"`
			return
		}
	}
}

// ownWording says whether a statement is about backups, jobs or zones.
func ownWording(toks []token) bool {
	for i, t := range toks[:min(len(toks), 8)] {
		switch {
		case i == 0 && (t.is("backup") || t.is("restore") || t.is("pause") || t.is("resume") || t.is("cancel")):
			return true
		case i == 1 && toks[0].is("show") && (t.is("backup") || t.is("backups") || t.is("job") || t.is("jobs") ||
			t.is("zone") || t.is("ranges") || t.is("schedule") || t.is("schedules")):
			return true
		case t.is("zone") && i > 0 && toks[i-1].is("configure"):
			return true
		}
	}
	return false
}
