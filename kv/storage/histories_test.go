package storage

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
)

// TestHistories runs the scripts in testdata/histories. A script is a list of
// lines "operation name=value…"; the golden output has one line for each that
// says what came back.
func TestHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/histories", func(t *testing.T, path string) {
		s := &script{t: t, e: openTest(t, testConfig(vfs.NewMem())), txns: map[string]*Txn{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "run" {
				t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
			}
			var out strings.Builder
			for _, line := range strings.Split(d.Input, "\n") {
				if line = strings.TrimSpace(line); line != "" {
					out.WriteString(s.line(line))
				}
			}
			return out.String()
		})
	})
}

type script struct {
	t    *testing.T
	e    *Engine
	txns map[string]*Txn
	args map[string]string
}

func (s *script) line(line string) string {
	op, rest, _ := strings.Cut(line, " ")
	s.args = map[string]string{}
	for _, f := range strings.Fields(rest) {
		k, v, _ := strings.Cut(f, "=")
		s.args[k] = v
	}
	out, err := s.do(op)
	if err != nil {
		return fmt.Sprintf("%s: error: %v\n", line, err)
	}
	if out == "" {
		out = "ok"
	}
	return fmt.Sprintf("%s: %s\n", line, out)
}

func (s *script) key(name string) keys.Key { return keys.Key(s.args[name]) }

// ts reads wall or wall,logical.
func (s *script) ts(name string) hlc.Timestamp {
	w, l, _ := strings.Cut(s.args[name], ",")
	wall, _ := strconv.ParseInt(w, 10, 64)
	logical, _ := strconv.ParseInt(l, 10, 32)
	return hlc.Timestamp{WallTime: wall, Logical: int32(logical)}
}

func (s *script) has(name string) bool { _, ok := s.args[name]; return ok }

func (s *script) int(name string) int64 {
	n, _ := strconv.ParseInt(s.args[name], 10, 64)
	return n
}

// txn returns a copy of the named transaction, at another sequence if asked.
func (s *script) txn() *Txn {
	tx := s.txns[s.args["t"]]
	if tx == nil {
		return nil
	}
	c := *tx
	if s.has("seq") {
		c.Sequence = int32(s.int("seq"))
	}
	return &c
}

func (s *script) write(fn func(b *Batch) error) error {
	b := s.e.NewBatch()
	defer b.Close()
	if err := fn(b); err != nil {
		return err
	}
	return b.Commit(true)
}

func (s *script) readAt() hlc.Timestamp {
	if tx := s.txn(); tx != nil && !s.has("ts") {
		return tx.ReadTimestamp
	}
	return s.ts("ts")
}

func (s *script) value(name string) []byte {
	if s.args[name] == "" {
		return nil
	}
	return val(s.args[name])
}

func (s *script) do(op string) (string, error) {
	ctx := context.Background()
	switch op {
	case "begin":
		tx := &Txn{TxnMeta: TxnMeta{ID: TxnID{byte(len(s.txns) + 1)}, Key: keys.Key("record"), WriteTimestamp: s.ts("ts")}, ReadTimestamp: s.ts("ts"), GlobalUncertaintyLimit: s.ts("limit")}
		s.txns[s.args["t"]] = tx
		return "", nil
	case "step": // Later writes are not seen by reads at the sequence before.
		s.txns[s.args["t"]].Sequence++
		return fmt.Sprintf("sequence %d", s.txns[s.args["t"]].Sequence), nil
	case "restart":
		tx := s.txns[s.args["t"]]
		tx.Epoch++
		tx.ReadTimestamp, tx.WriteTimestamp, tx.IgnoredSeqNums = s.ts("ts"), s.ts("ts"), nil
		return "", nil
	case "pushed":
		s.txns[s.args["t"]].WriteTimestamp = s.ts("ts")
		return "", nil
	case "rollback": // To a savepoint: sequences from..to never happened.
		tx := s.txns[s.args["t"]]
		tx.IgnoredSeqNums = ignoreFrom(tx.IgnoredSeqNums, int32(s.int("from")), tx.Sequence)
		return "", nil
	case "put", "del":
		return "", s.write(func(b *Batch) error {
			return MVCCPut(ctx, b, s.key("k"), s.ts("ts"), s.value("v"), WriteOptions{Txn: s.txn()})
		})
	case "cput":
		return "", s.write(func(b *Batch) error {
			return MVCCConditionalPut(ctx, b, s.key("k"), s.ts("ts"), s.value("v"), s.value("expect"), false, WriteOptions{Txn: s.txn()})
		})
	case "delrange":
		var res DeleteRangeResult
		err := s.write(func(b *Batch) (err error) {
			res, err = MVCCDeleteRange(ctx, b, s.key("from"), s.key("to"), s.ts("ts"), DeleteRangeOptions{WriteOptions: WriteOptions{Txn: s.txn()}})
			return err
		})
		return fmt.Sprintf("%d keys", res.NumKeys), err
	case "tombstone":
		return "", s.write(func(b *Batch) error {
			return MVCCDeleteRangeTombstone(ctx, b, s.key("from"), s.key("to"), s.ts("ts"), nil)
		})
	case "resolve":
		status := map[string]TxnStatus{"commit": Committed, "abort": Aborted, "push": Pending}[s.args["as"]]
		tx := s.txns[s.args["t"]]
		u := LockUpdate{Span: keys.Span{Key: keys.Key("a"), EndKey: keys.Key("zz")}, Txn: tx.TxnMeta, Status: status, IgnoredSeqNums: tx.IgnoredSeqNums}
		if s.has("ts") {
			u.Txn.WriteTimestamp = s.ts("ts")
		}
		var n int64
		err := s.write(func(b *Batch) (err error) {
			n, _, err = MVCCResolveIntentRange(ctx, b, u, 0, nil)
			return err
		})
		return fmt.Sprintf("%d locks", n), err
	case "get":
		res, err := MVCCGet(ctx, s.e, s.key("k"), s.readAt(), GetOptions{Txn: s.txn(), Inconsistent: s.has("inconsistent"), FailOnMoreRecent: s.has("locking"), SkipLocked: s.has("skip")})
		out := "nothing"
		if res.Exists() {
			out = fmt.Sprintf("%s @%s", res.Value[5:], shortTS(res.Timestamp))
		}
		if res.Intent != nil {
			out += fmt.Sprintf(", lock of txn %d at %s", res.Intent.Txn.ID[0], shortTS(res.Intent.Txn.WriteTimestamp))
		}
		return out, err
	case "scan":
		res, err := MVCCScan(ctx, s.e, s.key("from"), s.key("to"), s.readAt(), ScanOptions{Txn: s.txn(), Inconsistent: s.has("inconsistent"),
			FailOnMoreRecent: s.has("locking"), SkipLocked: s.has("skip"), Reverse: s.has("reverse"), MaxKeys: s.int("max"), Tombstones: s.has("tombstones")})
		var out []string
		for _, kv := range res.KVs {
			v := "(deleted)"
			if len(kv.Value) > 0 {
				v = string(kv.Value[5:])
			}
			out = append(out, fmt.Sprintf("%s=%s @%s", string(kv.Key), v, shortTS(kv.Timestamp)))
		}
		if res.ResumeSpan != nil {
			out = append(out, fmt.Sprintf("resume [%q, %q)", string(res.ResumeSpan.Key), string(res.ResumeSpan.EndKey)))
		}
		for _, l := range res.Intents {
			out = append(out, fmt.Sprintf("lock on %s", string(l.Key)))
		}
		if len(out) == 0 {
			out = []string{"nothing"}
		}
		return strings.Join(out, ", "), err
	case "gc":
		g, _, err := FindGarbage(ctx, s.e, keys.Key("a"), keys.Key("zz"), s.ts("below"), 0)
		if err != nil {
			return "", err
		}
		err = s.write(func(b *Batch) error { return MVCCGarbageCollect(ctx, b, g, s.ts("below"), nil) })
		return fmt.Sprintf("%d keys, %d range tombstones", len(g.Keys), len(g.Ranges)), err
	case "export":
		var file SSTBuffer
		res, err := MVCCExport(ctx, s.e, ExportOptions{Span: keys.Span{Key: keys.Key("a"), EndKey: keys.Key("zz")}, StartTime: s.ts("after"), EndTime: s.ts("upto"), AllRevisions: s.has("all")}, &file)
		if err != nil || res.Empty {
			return "nothing", err
		}
		var out []string
		err = VisitSST(ctx, file.File(), keys.MinKey, nil, SSTVisitor{
			Version: func(k MVCCKey, v []byte) error {
				text := "(deleted)"
				if len(v) > 0 {
					text = string(v[5:])
				}
				out = append(out, fmt.Sprintf("%s@%s=%s", string(k.Key), shortTS(k.Timestamp), text))
				return nil
			},
			RangeTombstone: func(sp keys.Span, ts hlc.Timestamp) error {
				out = append(out, fmt.Sprintf("[%s, %s)@%s", string(sp.Key), string(sp.EndKey), shortTS(ts)))
				return nil
			},
		})
		return strings.Join(out, ", "), err
	case "locks":
		locks, _, err := ScanLocks(ctx, s.e, keys.Key("a"), keys.Key("zz"), 0)
		var out []string
		for _, l := range locks {
			out = append(out, fmt.Sprintf("%s: txn %d epoch %d seq %d at %s", string(l.Key), l.Txn.ID[0], l.Txn.Epoch, l.Txn.Sequence, shortTS(l.Txn.WriteTimestamp)))
		}
		if len(out) == 0 {
			out = []string{"none"}
		}
		return strings.Join(out, ", "), err
	}
	return "", fmt.Errorf("unknown operation")
}

func shortTS(ts hlc.Timestamp) string {
	if ts.Logical == 0 {
		return strconv.FormatInt(ts.WallTime, 10)
	}
	return fmt.Sprintf("%d,%d", ts.WallTime, ts.Logical)
}
