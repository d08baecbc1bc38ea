package histories

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// registerOp is an operation on one register. Values are unique among the writes to
// a register; 0 is that of one that nobody has written.
type registerOp struct {
	interval
	Client  int     `json:"client"`
	Node    int     `json:"node"`
	Key     int     `json:"key"`
	Kind    string  `json:"kind"` // read, write, cas
	Old     int     `json:"old"`  // cas: what the register must have
	New     int     `json:"new"`  // write, cas
	Got     int     `json:"got"`  // read: the value; cas: 1 if it was the old one
	Outcome outcome `json:"outcome"`
	Error   string  `json:"error,omitempty"`
}

func (op registerOp) String() string {
	what := ""
	switch op.Kind {
	case "read":
		what = fmt.Sprintf("reads %d", op.Got)
	case "write":
		what = fmt.Sprintf("writes %d", op.New)
	case "cas":
		what = fmt.Sprintf("compares with %d and sets %d: %v", op.Old, op.New, op.Got == 1)
		if op.Outcome == unknown {
			what = fmt.Sprintf("compares with %d and sets %d", op.Old, op.New)
		}
	}
	return fmt.Sprintf("%s client %d through n%d %s (%s)", op.interval, op.Client, op.Node, what, op.Outcome)
}

// registerModel is one register. A cas that perhaps happened is one step like any
// other; what it found nobody knows.
var registerModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		op := output.(registerOp)
		v := state.(int)
		switch op.Kind {
		case "read":
			return v == op.Got, v
		case "write":
			return true, op.New
		}
		equal := v == op.Old
		if op.Outcome == happened && equal != (op.Got == 1) {
			return false, v
		}
		if equal {
			v = op.New
		}
		return true, v
	},
}

// checkRegisters says which registers were not linearizable, and of how many nobody
// could tell in time.
func checkRegisters(ops []registerOp, timeout time.Duration) (bad []violation, undecided int) {
	byKey := map[int][]registerOp{}
	for _, op := range ops {
		if op.Outcome == failed || op.Outcome == unknown && op.Kind == "read" {
			continue
		}
		if op.Outcome == unknown {
			op.Return = forever
		}
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	for _, key := range sortedKeys(byKey) {
		ops := withoutUnseen(byKey[key])
		result, _ := checkRegister(ops, timeout)
		switch result {
		case porcupine.Illegal:
			bad = append(bad, violationf("register is not linearizable", "key %d\n%s", key, explainRegister(ops, timeout)))
		case porcupine.Unknown:
			undecided++
		}
	}
	return bad, undecided
}

func checkRegister(ops []registerOp, timeout time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var history []porcupine.Operation
	for i, op := range ops {
		history = append(history, porcupine.Operation{ClientId: i, Input: nil, Output: op, Call: op.Call, Return: op.Return})
	}
	return porcupine.CheckOperationsVerbose(registerModel, history, timeout)
}

// withoutUnseen leaves out what perhaps happened, and of which nobody has seen
// anything: it can be the last of all. Only a comparison that failed may have seen it.
func withoutUnseen(ops []registerOp) []registerOp {
	seen := map[int]bool{}
	var lastRefused int64 // when the last comparison ended that failed
	for _, op := range ops {
		switch {
		case op.Kind == "read":
			seen[op.Got] = true
		case op.Kind == "cas":
			seen[op.Old] = true
			if op.Outcome == happened && op.Got == 0 {
				lastRefused = max(lastRefused, op.Return)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(ops), func(op registerOp) bool {
		return op.Outcome == unknown && op.Kind != "read" && !seen[op.New] && lastRefused < op.Call
	})
}

// until is what was known of a history at an instant: what had not ended by then may
// have happened or not.
func until(ops []registerOp, instant int64) (out []registerOp) {
	for _, op := range ops {
		switch {
		case op.Call > instant:
		case op.Return <= instant:
			out = append(out, op)
		case op.Kind != "read":
			op.Outcome, op.Return = unknown, forever
			out = append(out, op)
		}
	}
	return out
}

// explainRegister finds the first instant at which the history was wrong, and shows
// what ended then and before.
func explainRegister(ops []registerOp, timeout time.Duration) string {
	slices.SortFunc(ops, func(a, b registerOp) int { return cmp.Compare(a.Return, b.Return) })
	ended := slices.DeleteFunc(slices.Clone(ops), func(op registerOp) bool { return op.Return == forever })
	i, _ := slices.BinarySearchFunc(ended, true, func(op registerOp, _ bool) int {
		if r, _ := checkRegister(until(ops, op.Return), timeout); r == porcupine.Illegal {
			return 1
		}
		return -1
	})
	if i == len(ended) {
		return "  (no instant can be told from which on it was wrong)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  wrong as of the last of these lines; what ended before it, and what perhaps happened:\n")
	var open []registerOp
	for _, op := range until(ops, ended[i].Return) {
		if op.Return == forever {
			open = append(open, op)
		}
	}
	for _, op := range open[max(0, len(open)-15):] {
		fmt.Fprintf(&b, "  %s\n", op)
	}
	for _, op := range ended[max(0, i-25) : i+1] {
		fmt.Fprintf(&b, "  %s\n", op)
	}
	return b.String()
}
