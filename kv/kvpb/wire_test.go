package kvpb

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/kv/kvpb/wirepb"
	"github.com/holdfastdb/holdfast/kv/storage"
)

// fill gives every exported field below v a value, so that a field which the wire
// forgets is noticed whenever it was added.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(rng, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Slice:
		n := 1 + rng.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rng, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(rng, k)
		fill(rng, e)
		v.SetMapIndex(k, e)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprint("s", rng.IntN(100)))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int:
		v.SetInt(1 + rng.Int64N(100))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		v.SetUint(1 + rng.Uint64N(100))
	case reflect.Interface: // Args, Reply and causes are set by the tests.
	default:
		panic(v.Type().String())
	}
}

// clipped finds a []byte below v with which an append would write into others.
func clipped(t *testing.T, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			clipped(t, v.Elem(), path)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			clipped(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.Cap() > v.Len() {
				t.Errorf("%s shares its spare capacity with the message", path)
			}
			return
		}
		for i := range v.Len() {
			clipped(t, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// methodsOf returns the types of a package's sources that have a method and that
// keep accepts.
func methodsOf(t *testing.T, dir, method string, keep func(string) bool) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != method {
				continue
			}
			if star, ok := fn.Recv.List[0].Type.(*ast.StarExpr); ok && keep(star.X.(*ast.Ident).Name) {
				names = append(names, star.X.(*ast.Ident).Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// complete fails if the sources have types that the test leaves out.
func complete[T any](t *testing.T, tested []T, names []string) {
	t.Helper()
	var have []string
	for _, v := range tested {
		have = append(have, reflect.TypeOf(v).Elem().Name())
	}
	slices.Sort(have)
	if !slices.Equal(have, names) {
		t.Errorf("tested are\n%v\nbut there are\n%v\nA new type needs a form in wire.proto and a place in this test.", have, names)
	}
}

func anyName(string) bool { return true }

func sendRequest(t *testing.T, ba *BatchRequest) *BatchRequest {
	t.Helper()
	m, err := RequestToWire(ba)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	back := &wirepb.BatchRequest{}
	if err := back.UnmarshalVTUnsafe(b); err != nil {
		t.Fatal(err)
	}
	got, err := RequestFromWire(back)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRequestsTravel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	all := []Args{
		&EndTxnArgs{}, &PushTxnArgs{}, &ResolveArgs{}, &RemoveTxnRecordArgs{}, &HeartbeatArgs{}, &RefreshArgs{}, &ExportArgs{},
		&AddSSTableArgs{}, &RangeInfoArgs{}, &PutSortedArgs{}, &GCArgs{},
		&LookupRangeArgs{}, &UpdateAddressingArgs{}, &ChangeReplicasArgs{}, &TransferLeaseArgs{}, &SplitArgs{}, &MergeArgs{}, &CheckArgs{},
	}
	complete(t, all, methodsOf(t, ".", "args", anyName))
	for _, args := range append(all, nil) {
		ba := &BatchRequest{}
		fill(rng, reflect.ValueOf(ba).Elem())
		for i := range ba.Requests {
			ba.Requests[i].Op = Op(1 + rng.IntN(len(opNames)-1))
			if args != nil {
				fill(rng, reflect.ValueOf(args).Elem())
				ba.Requests[i].Args = args
			}
		}
		got := sendRequest(t, ba)
		if !reflect.DeepEqual(got, ba) {
			t.Errorf("%T:\n got %+v\nwant %+v", args, got, ba)
		}
		clipped(t, reflect.ValueOf(got), "batch")
	}
}

// An expectation of the empty value is another one than that of no value.
func TestExpectedKeepsNilApart(t *testing.T) {
	for _, expected := range [][]byte{nil, {}, {1}} {
		got := sendRequest(t, &BatchRequest{Requests: []Request{{Op: OpCPut, Expected: expected}}})
		if e := got.Requests[0].Expected; (e == nil) != (expected == nil) || string(e) != string(expected) {
			t.Errorf("got %#v, want %#v", e, expected)
		}
	}
}

func sendResponse(t *testing.T, br *BatchResponse) *BatchResponse {
	t.Helper()
	m, err := ResponseToWire(br)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	back := &wirepb.BatchResponse{}
	if err := back.UnmarshalVTUnsafe(b); err != nil {
		t.Fatal(err)
	}
	got, err := ResponseFromWire(back)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestResponsesTravel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	all := []Reply{&PushTxnReply{}, &HeartbeatReply{}, &ExportReply{}, &AddSSTableReply{}, &RangeInfoReply{}, &LookupRangeReply{},
		&FreezeReply{}, &CheckReply{}}
	complete(t, all, methodsOf(t, ".", "reply", anyName))
	for _, reply := range append(all, nil) {
		br := &BatchResponse{}
		fill(rng, reflect.ValueOf(br).Elem())
		for i := range br.Responses {
			if reply != nil {
				fill(rng, reflect.ValueOf(reply).Elem())
				br.Responses[i].Reply = reply
			}
		}
		got := sendResponse(t, br)
		if !reflect.DeepEqual(got, br) {
			t.Errorf("%T:\n got %+v\nwant %+v", reply, got, br)
		}
		clipped(t, reflect.ValueOf(got), "response")
	}
}

// A pair without a value is not one with an empty value.
func TestPairsKeepNilApart(t *testing.T) {
	want := []KeyValue{{Key: []byte("a"), Value: nil}, {Key: []byte("b"), Value: []byte{}}}
	got := sendResponse(t, &BatchResponse{Responses: []Response{{KVs: want}}})
	if !reflect.DeepEqual(got.Responses[0].KVs, want) {
		t.Errorf("got %#v, want %#v", got.Responses[0].KVs, want)
	}
}

func sendError(t *testing.T, err error) error {
	t.Helper()
	m := ErrorToWire(err)
	if m == nil {
		return ErrorFromWire(nil)
	}
	b, merr := m.MarshalVT()
	if merr != nil {
		t.Fatal(merr)
	}
	back := &wirepb.Error{}
	if err := back.UnmarshalVTUnsafe(b); err != nil {
		t.Fatal(err)
	}
	return ErrorFromWire(back)
}

func TestErrorsTravel(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	ours := []error{
		&RetryTxnError{}, &TxnAbortedError{}, &TransactionRetryError{}, &TransactionPushError{}, &LockNotAvailableError{},
		&BatchTimestampBeforeGCError{}, &RangeKeyMismatchError{}, &RangeNotFoundError{}, &PartialBatchError{}, &AmbiguousResultError{},
		&NotLeaseholderError{},
	}
	complete(t, ours, methodsOf(t, ".", "Error", func(name string) bool { return name != "RemoteError" }))
	theirs := []error{
		&ConditionFailedError{}, &WriteTooOldError{}, &ReadWithinUncertaintyError{}, &storage.LockConflictError{},
		&storage.TransactionStateError{}, &storage.ShadowingError{}, &storage.NotEmptyError{},
	}
	complete(t, theirs, methodsOf(t, "../storage", "Error", ast.IsExported))
	for _, err := range slices.Concat(ours, theirs, []error{&pgerr.Error{}}) {
		fill(rng, reflect.ValueOf(err).Elem())
		switch e := err.(type) {
		case *PartialBatchError:
			e.Cause = &TxnAbortedError{Reason: RetryDeadlock}
		case *AmbiguousResultError:
			e.Cause = &PartialBatchError{Cause: &RangeNotFoundError{RangeID: 5}}
		}
		if got := sendError(t, err); !reflect.DeepEqual(got, err) {
			t.Errorf("got %#v, want %#v", got, err)
		} else {
			clipped(t, reflect.ValueOf(got), fmt.Sprintf("%T", err))
		}
		// What it is wrapped in does not hide it.
		wrapped := errors.Join(errors.New("other"), fmt.Errorf("sending: %w", pgerr.Newf(pgerr.IOError, "writing: %w", err).WithHint("h")))
		got := sendError(t, wrapped)
		as := reflect.New(reflect.TypeOf(err))
		if got.Error() != wrapped.Error() || !errors.As(got, as.Interface()) {
			t.Errorf("%T is lost in %v", err, got)
		}
		if _, ok := err.(*pgerr.Error); !ok && !reflect.DeepEqual(as.Elem().Interface(), err) {
			t.Errorf("got %#v, want %#v", as.Elem().Interface(), err)
		}
		if f := pgerr.Flatten(got); f.Code != pgerr.IOError || f.Hint != "h" {
			t.Errorf("got %#v", f)
		}
	}
	if sendError(t, nil) != nil {
		t.Error("no error became one")
	}
}

func TestMarksTravel(t *testing.T) {
	for name, mark := range marks {
		if got := sendError(t, mark); got != mark {
			t.Errorf("%s: got %#v", name, got)
		}
		err := storage.Mark(fmt.Errorf("reading: %w", pgerr.New(pgerr.DiskFull, "m").WithDetail("d")), mark)
		got := sendError(t, fmt.Errorf("n1: %w", err))
		if got.Error() != "n1: reading: m" || !errors.Is(got, mark) || pgerr.Flatten(got).Detail != "d" {
			t.Errorf("%s: got %#v", name, got)
		}
		for other, mark2 := range marks {
			if other != name && errors.Is(got, mark2) {
				t.Errorf("%s became %s", name, other)
			}
		}
	}
	if got := sendError(t, fmt.Errorf("waiting: %w", context.Canceled)); !errors.Is(got, context.Canceled) {
		t.Errorf("got %#v", got)
	}
	if got := sendError(t, fmt.Errorf("one: %w", errors.New("two"))); got.Error() != "one: two" || errors.Unwrap(got) != nil {
		t.Errorf("got %#v", got)
	}
}

// A chain that is too deep loses its end, not its text.
func TestDeepErrorsEnd(t *testing.T) {
	err := error(&RangeNotFoundError{RangeID: 3})
	for range 2 * maxErrorDepth {
		err = &AmbiguousResultError{Cause: err}
	}
	var a *AmbiguousResultError
	if got := sendError(t, err); !errors.As(got, &a) {
		t.Errorf("got %v", got)
	}
	m := &wirepb.Error{}
	for range 100000 {
		m.Nodes = append(m.Nodes, &wirepb.ErrorNode{Kind: &wirepb.ErrorNode_Ambiguous{}, Causes: 1})
	}
	if got := ErrorFromWire(m); got == nil || !strings.Contains(got.Error(), "too deep") {
		t.Errorf("got %v", got)
	}
}

func FuzzFromWire(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 8))
	ba, br := &BatchRequest{}, &BatchResponse{}
	fill(rng, reflect.ValueOf(ba).Elem())
	ba.Requests[0].Args = &PutSortedArgs{Pairs: []storage.Pair{{Key: []byte("k"), Value: []byte("v")}}}
	fill(rng, reflect.ValueOf(br).Elem())
	m, err := RequestToWire(ba)
	if err != nil {
		f.Fatal(err)
	}
	b, err := m.MarshalVT()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	r, err := ResponseToWire(br)
	if err != nil {
		f.Fatal(err)
	}
	r.Error = ErrorToWire(&AmbiguousResultError{Cause: storage.Mark(errors.New("x"), storage.ErrCorrupt)})
	if b, err = r.MarshalVT(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { // must not panic
		var m wirepb.BatchRequest
		if m.UnmarshalVTUnsafe(b) == nil {
			_, _ = RequestFromWire(&m)
		}
		var r wirepb.BatchResponse
		if r.UnmarshalVTUnsafe(b) == nil {
			_, _ = ResponseFromWire(&r)
			if err := ErrorFromWire(r.Error); err != nil {
				_ = err.Error()
			}
		}
	})
}
