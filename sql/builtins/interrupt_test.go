package builtins

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
)

// TestLeave cancels calls that do not look at their context themselves.
func TestLeave(t *testing.T) {
	stop := make(chan struct{})
	canceled := errors.New("canceled")
	ctx, cancel := context.WithCancelCause(context.Background())
	ec := &tree.EvalContext{Context: ctx}
	blocks := func(*tree.EvalContext) (int, error) { <-stop; return 1, nil }
	time.AfterFunc(10*time.Millisecond, func() { cancel(canceled) })
	// More than may run beside their statements.
	for range cap(leftCalls) + 1 {
		if _, err := leave(ec, blocks); !errors.Is(err, canceled) {
			t.Fatalf("%v, want %v", err, canceled)
		}
	}
	// Calls that were left hold up no other statement.
	ec.Context, cancel = context.WithCancelCause(context.Background())
	defer cancel(nil)
	if got, err := leave(ec, func(*tree.EvalContext) (int, error) { return 7, nil }); got != 7 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	close(stop)
	defer func() {
		if r := recover(); r != "out" {
			t.Errorf("recovered %v", r)
		}
	}()
	_, _ = leave(ec, func(*tree.EvalContext) (int, error) { panic("out") })
}

// TestLongCalls says which calls run beside their statement.
func TestLongCalls(t *testing.T) {
	for _, tc := range []struct {
		name string
		arg  tree.Datum
		want bool
	}{
		{"replace", tree.NewDString("x"), false},
		{"replace", tree.NewDString(strings.Repeat("x", longText+1)), true},
		{"lpad", tree.NewDInt(100), false},
		{"lpad", tree.NewDInt(longText + 1), true},
		{"exp", &tree.DDecimal{}, true},
		{"mod", &tree.DDecimal{}, false},
	} {
		if got := longCall(tc.name, tree.Datums{tc.arg}); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	for name := range longCalls {
		if tree.FunDefs[name] == nil {
			t.Errorf("there is no function %s", name)
		}
	}
}
