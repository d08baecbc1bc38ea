package pgerr

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestFlattenKeepsContextAndFields(t *testing.T) {
	inner := Newf(UniqueViolation, "duplicate key").WithDetail("Key (%s)=(%d) already exists.", "id", 1).WithHint("Use 100%.")
	got := Flatten(fmt.Errorf("copying row 7: %w", inner))
	want := Error{Code: UniqueViolation, Message: "copying row 7: duplicate key",
		Detail: "Key (id)=(1) already exists.", Hint: "Use 100%."}
	if got.Code != want.Code || got.Message != want.Message || got.Detail != want.Detail || got.Hint != want.Hint {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !errors.Is(got, inner) {
		t.Error("the cause is lost")
	}
	if inner.Message != "duplicate key" {
		t.Errorf("Flatten changed its argument: %q", inner.Message)
	}
}

func TestCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Code
	}{
		"unmarked": {errors.New("x"), Internal},
		"canceled": {fmt.Errorf("scanning: %w", context.Canceled), QueryCanceled},
		"timeout":  {context.DeadlineExceeded, QueryCanceled},
		"wrapped":  {Wrapf(New(DiskFull, "no space"), IOError, "writing %s", "a"), DiskFull},
		"unknown":  {Wrapf(errors.New("no space"), IOError, "writing %s", "a"), IOError},
	} {
		if got := Flatten(c.err).Code; got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	if got, want := Wrapf(errors.New("no space"), IOError, "writing %s", "a").Error(), "writing a: no space"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if GetCode(nil) != "" {
		t.Error("nil has a code")
	}
}
