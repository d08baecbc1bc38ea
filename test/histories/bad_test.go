package histories

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// at is an interval in seconds.
func at(call, ret float64) interval {
	return interval{Call: int64(call * 1e9), Return: int64(ret * 1e9)}
}

// kinds are the words before the colon-separated rest of what a checker says.
func kinds(vs []violation) string {
	var out []string
	for _, v := range vs {
		out = append(out, v.kind)
	}
	return strings.Join(out, "; ")
}

// expect wants violations that have want in their kinds, or none if it is empty.
func expect(t *testing.T, got []violation, want string) {
	t.Helper()
	switch k := kinds(got); {
	case want == "" && k != "":
		t.Errorf("a good history: %s", got)
	case !strings.Contains(k, want):
		t.Errorf("got %q, want %q", k, want)
	}
	for _, v := range got {
		t.Log(v)
	}
}

func TestBadRegisters(t *testing.T) {
	write := func(call, ret float64, v int) registerOp {
		return registerOp{interval: at(call, ret), Kind: "write", New: v, Outcome: happened}
	}
	read := func(call, ret float64, v int) registerOp {
		return registerOp{interval: at(call, ret), Kind: "read", Got: v, Outcome: happened}
	}
	cas := func(call, ret float64, old, v, got int) registerOp {
		return registerOp{interval: at(call, ret), Kind: "cas", Old: old, New: v, Got: got, Outcome: happened}
	}
	with := func(op registerOp, o outcome) registerOp { op.Outcome = o; return op }
	const bad = "register is not linearizable"
	for _, c := range []struct {
		name string
		want string
		ops  []registerOp
	}{
		{"good", "", []registerOp{read(0, 1, 0), write(1, 3, 1), read(2, 3, 1), cas(4, 5, 1, 2, 1), read(6, 7, 2)}},
		{"stale read", bad, []registerOp{write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)}},
		{"a read goes back", bad, []registerOp{write(0, 1, 1), write(2, 9, 2), read(3, 4, 2), read(5, 6, 1)}},
		{"lost update", bad, []registerOp{write(0, 1, 1), cas(2, 3, 1, 2, 1), cas(4, 5, 1, 3, 1)}},
		{"the write is lost", bad, []registerOp{write(0, 1, 1), read(2, 3, 0)}},
		{"cas refused without reason", bad, []registerOp{write(0, 1, 1), cas(2, 3, 1, 2, 0)}},
		{"invented", bad, []registerOp{write(0, 1, 1), read(2, 3, 7)}},
		{"what failed is read", bad, []registerOp{write(0, 1, 1), with(write(2, 3, 2), failed), read(4, 5, 2)}},
		{"perhaps written, and seen", "", []registerOp{write(0, 1, 1), with(write(2, 3, 2), unknown), read(4, 5, 1), read(6, 7, 2)}},
		{"perhaps written, seen and gone", bad, []registerOp{write(0, 1, 1), with(write(2, 3, 2), unknown), read(4, 5, 2), read(6, 7, 1)}},
		{"perhaps written, twice", bad, []registerOp{write(0, 1, 1), with(write(2, 3, 2), unknown), read(4, 5, 2), write(6, 7, 3), read(8, 9, 2)}},
		{"perhaps written, and a cas met it", "", []registerOp{write(0, 1, 1), with(write(2, 3, 2), unknown), cas(4, 5, 1, 3, 0), write(6, 7, 4), read(8, 9, 4)}},
		{"perhaps compared, and seen", "", []registerOp{write(0, 1, 1), with(cas(2, 3, 1, 2, 0), unknown), read(4, 5, 2)}},
		{"perhaps compared with what it was not", bad, []registerOp{write(0, 1, 1), with(cas(2, 3, 5, 2, 0), unknown), read(4, 5, 2)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, undecided := checkRegisters(c.ops, 5*time.Second)
			if undecided > 0 {
				t.Error("undecided")
			}
			expect(t, got, c.want)
		})
	}
}

func TestBadSets(t *testing.T) {
	add := func(call, ret float64, e int, o outcome) setOp {
		return setOp{interval: at(call, ret), Added: e, Outcome: o}
	}
	read := func(call, ret float64, es ...int) setOp {
		return setOp{interval: at(call, ret), Read: es, Outcome: happened}
	}
	for _, c := range []struct {
		name string
		want string
		ops  []setOp
	}{
		{"good", "", []setOp{add(0, 1, 1, happened), add(0, 3, 2, happened), read(2, 3, 1), read(2, 4, 1, 2), add(4, 5, 3, unknown), add(4, 5, 4, failed), read(6, 7, 1, 2), read(6, 7, 1, 2, 3)}},
		{"lost", "set: an element is lost", []setOp{add(0, 1, 1, happened), add(0, 1, 2, happened), read(2, 3, 1)}},
		{"stale", "set: a read is stale", []setOp{add(0, 1, 1, happened), read(2, 3), read(4, 5, 1)}},
		{"seen and gone", "set: an element is lost", []setOp{add(0, 1, 1, unknown), read(2, 3, 1), read(4, 5)}},
		{"invented", "set: an element was invented", []setOp{add(0, 1, 1, happened), read(2, 3, 1, 9)}},
		{"before it was tried", "set: an element was invented", []setOp{read(0, 1, 1), add(2, 3, 1, happened)}},
		{"failed", "set: what failed is there", []setOp{add(0, 1, 1, failed), read(2, 3, 1)}},
		{"twice", "set: an element is there twice", []setOp{add(0, 1, 1, happened), read(2, 3, 1, 1)}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, checkSets(c.ops), c.want) })
	}
}

func TestBadBank(t *testing.T) {
	read := func(call float64, asOf string, bs ...int) bankRead {
		return bankRead{interval: at(call, call+1), AsOf: asOf, Balances: bs, Outcome: happened}
	}
	for _, c := range []struct {
		name string
		want string
		ops  []bankRead
	}{
		{"good", "", []bankRead{read(0, "", 10, 10), read(2, "", 5, 15), read(4, "7.0", 10, 10), read(4, "8.0", 5, 15), read(6, "7.0", 10, 10)}},
		{"torn", "bank: the total is wrong", []bankRead{read(0, "", 5, 10)}},
		{"torn in the past", "bank: the total is wrong", []bankRead{read(0, "3.0", 15, 10)}},
		{"an account is missing", "bank: the total is wrong", []bankRead{read(0, "", 20)}},
		{"overdrawn by write skew", "bank: an account is overdrawn", []bankRead{read(0, "", 25, -5)}},
		{"the past changes", "bank: the past has changed", []bankRead{read(0, "3.0", 10, 10), read(4, "3.0", 5, 15)}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, checkBank(c.ops, 2, 10), c.want) })
	}
}

func TestBadPast(t *testing.T) {
	now := func(v int, written stamp) pastRead { return pastRead{Value: v, At: written} }
	old := func(asOf stamp, v int, written stamp) pastRead { return pastRead{AsOf: asOf, Value: v, At: written} }
	for _, c := range []struct {
		name string
		want string
		ops  []pastRead
	}{
		{"good", "", []pastRead{now(1, "100.0000000001"), now(2, "200"), old("100.0000000001", 1, "100.0000000001"), old("100", 0, ""), old("150", 1, "100.0000000001"), old("99", 0, ""), old("1000", 2, "200"), old("170", 7, "")}},
		{"written below a read", "past: a version appeared in the past", []pastRead{old("150", 1, "100"), now(2, "140")}},
		{"written where there was nothing", "past: a version appeared in the past", []pastRead{old("150", 0, ""), now(2, "140")}},
		{"by the logical part", "past: a version appeared in the past", []pastRead{old("150.0000000007", 1, "100"), now(2, "150.0000000006")}},
		{"changed, without a stamp", "past: the past has changed", []pastRead{old("150", 5, ""), old("150", 6, "")}},
		{"the future", "past: a read shows the future", []pastRead{old("150", 1, "151")}},
		{"one instant twice", "past: two versions of one instant", []pastRead{now(1, "100"), now(2, "100")}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, checkPast(c.ops), c.want) })
	}
}

func TestBadLists(t *testing.T) {
	ap := func(key, v int) listStep { return listStep{Key: key, Append: v} }
	rd := func(key int, vs ...int) listStep { return listStep{Key: key, Read: vs} }
	txn := func(call, ret float64, o outcome, steps ...listStep) listTxn {
		return listTxn{interval: at(call, ret), Outcome: o, Steps: steps}
	}
	const x, y = 1, 2
	for _, c := range []struct {
		name string
		want string
		ops  []listTxn
	}{
		{"good", "", []listTxn{
			txn(0, 1, happened, ap(x, 1), rd(x, 1), ap(y, 1)), txn(2, 3, happened, rd(x, 1), ap(x, 2), rd(x, 1, 2)),
			txn(2, 3, failed, ap(x, 9)), txn(2, 3, unknown, ap(y, 8)), txn(4, 5, happened, rd(x, 1, 2), rd(y, 1)), txn(6, 7, happened, rd(y, 1, 8)),
		}},
		{"dirty read of what was aborted", "G1a", []listTxn{txn(0, 1, failed, ap(x, 1)), txn(2, 3, happened, rd(x, 1))}},
		{"intermediate read", "G1b", []listTxn{txn(0, 3, happened, ap(x, 1), ap(x, 2)), txn(1, 2, happened, rd(x, 1)), txn(4, 5, happened, rd(x, 1, 2))}},
		{"dirty write", "G0", []listTxn{
			txn(0, 9, happened, ap(x, 1), ap(y, 1)), txn(0, 9, happened, ap(x, 2), ap(y, 2)), txn(10, 11, happened, rd(x, 1, 2), rd(y, 2, 1)),
		}},
		{"circular information flow", "G1c", []listTxn{
			txn(0, 9, happened, ap(x, 1), rd(y, 1)), txn(0, 9, happened, ap(y, 1), rd(x, 1)),
		}},
		{"lost update", "G-single", []listTxn{
			txn(0, 9, happened, rd(x), ap(x, 1)), txn(0, 9, happened, rd(x), ap(x, 2)), txn(10, 11, happened, rd(x, 1, 2)),
		}},
		{"read skew", "G-single", []listTxn{
			txn(0, 9, happened, rd(x), rd(y, 1)), txn(0, 9, happened, ap(x, 1), ap(y, 1)), txn(10, 11, happened, rd(x, 1)),
		}},
		{"write skew", "G2", []listTxn{
			txn(0, 9, happened, rd(x), ap(y, 1)), txn(0, 9, happened, rd(y), ap(x, 1)), txn(10, 11, happened, rd(x, 1), rd(y, 1)),
		}},
		{"stale read", "G-single-rt", []listTxn{txn(0, 1, happened, ap(x, 1)), txn(2, 3, happened, rd(x)), txn(4, 5, happened, rd(x, 1))}},
		{"written before what was there", "G0-rt", []listTxn{txn(0, 1, happened, ap(x, 1)), txn(2, 3, happened, ap(x, 2)), txn(4, 5, happened, rd(x, 2, 1))}},
		{"lost append", "lost append", []listTxn{txn(0, 1, happened, ap(x, 1)), txn(0, 1, happened, ap(x, 2)), txn(4, 5, happened, rd(x, 2))}},
		{"applied twice", "duplicate", []listTxn{txn(0, 1, happened, ap(x, 1)), txn(4, 5, happened, rd(x, 1, 1))}},
		{"two orders", "incompatible order", []listTxn{
			txn(0, 9, happened, ap(x, 1)), txn(0, 9, happened, ap(x, 2)), txn(0, 9, happened, rd(x, 1, 2)), txn(0, 9, happened, rd(x, 2)),
		}},
		{"invented", "invented", []listTxn{txn(0, 9, happened, rd(x, 7))}},
		{"own append is not seen", "internal", []listTxn{txn(0, 9, happened, ap(x, 1), rd(x))}},
		{"a list changes within", "internal", []listTxn{txn(0, 9, happened, rd(x), rd(x, 1)), txn(0, 9, happened, ap(x, 1))}},
	} {
		t.Run(c.name, func(t *testing.T) { expect(t, checkLists(c.ops), c.want) })
	}
}

// Only serialization failures, and what was never sent, certainly did not happen.
func TestClassify(t *testing.T) {
	if got := classify(nil); got != happened {
		t.Errorf("no error: %s", got)
	}
	for code, want := range map[string]outcome{"40001": failed, "40003": unknown, "XX000": unknown, "57P01": unknown, "53100": unknown, "08006": unknown} {
		if got := classify(pgError(code)); got != want {
			t.Errorf("%s: got %s, want %s", code, got, want)
		}
	}
	if got := classify(errLost); got != unknown {
		t.Errorf("a lost connection: %s", got)
	}
}

func pgError(code string) error { return &pgconn.PgError{Code: code} }

var errLost = errors.New("connection reset by peer")
