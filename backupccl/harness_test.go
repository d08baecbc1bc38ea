package backupccl

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"google.golang.org/protobuf/proto"

	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/internal/settings"
	"github.com/holdfastdb/holdfast/jobs"
	"github.com/holdfastdb/holdfast/kv"
	"github.com/holdfastdb/holdfast/kv/kvtest"
	"github.com/holdfastdb/holdfast/kv/storage"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/rowenc"
)

// bucketPlaces are the buckets that nodes of one test share, by URI path.
type bucketPlaces struct {
	mu   sync.Mutex
	mems map[string]*extstore.Mem
	wrap func(extstore.Store) extstore.Store
}

func newPlaces() *bucketPlaces { return &bucketPlaces{mems: map[string]*extstore.Mem{}} }

func (p *bucketPlaces) open(u *extstore.URI) extstore.Store {
	if u.Scheme != "nodelocal" {
		return nil
	}
	s := extstore.Store(p.mem(u.Path))
	if p.wrap != nil {
		s = p.wrap(s)
	}
	return s
}

func (p *bucketPlaces) mem(path string) *extstore.Mem {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mems[path] == nil {
		p.mems[path] = extstore.NewMem()
	}
	return p.mems[path]
}

// testNode is a node without SQL: a store, the job registry and this package.
type testNode struct {
	t      testing.TB
	node   *kvtest.Node
	db     *kv.DB
	svc    *Service
	jobs   *jobs.Registry
	cache  *catalog.Cache
	reg    *settings.Registry
	fs     storage.FS
	places *bucketPlaces
	stop   func()

	notices []*pgerr.Error
}

type nodeOptions struct {
	clusterID byte
	fs        storage.FS // to live again on the same disk
	places    *bucketPlaces
	testing   Testing
	open      func() (*kvtest.Node, error) // instead of a store in memory
}

func startNode(t testing.TB, o nodeOptions) *testNode {
	t.Helper()
	fresh := o.fs == nil
	if fresh {
		o.fs = storage.NewMemFS()
	}
	if o.places == nil {
		o.places = newPlaces()
	}
	if o.clusterID == 0 {
		o.clusterID = 1
	}
	n := &testNode{t: t, fs: o.fs, places: o.places}
	var err error
	if o.open == nil {
		o.open = func() (*kvtest.Node, error) { return kvtest.Start(kvtest.Options{FS: o.fs}) }
	}
	if n.node, err = o.open(); err != nil {
		t.Fatal(err)
	}
	n.db = n.node.DB
	if n.cache, err = catalog.NewCache(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if fresh {
		if err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error { return catalog.Bootstrap(ctx, txn) }); err != nil {
			t.Fatal(err)
		}
	}
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("BACKUP_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ext := extstore.DefaultConfig()
	ext.ExternalIODir = "unused"
	ext.Retry = extstore.RetryPolicy{MaxAttempts: 2, InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond}
	ext.Testing.Open = o.places.open
	n.reg = settings.NewRegistry()
	n.svc = NewService(Config{
		DB: n.db, Stores: extstore.NewFactory(ext), Settings: RegisterSettings(n.reg), ClusterID: [16]byte{o.clusterID},
		NodeID: 1, Version: "test", Logger: logger, Catalog: n.cache, Testing: o.testing,
	})
	jc := jobs.DefaultConfig()
	jc.DB, jc.NodeID, jc.Log, jc.Settings, jc.Constructors = n.db, 1, logger, jobs.RegisterSettings(n.reg), n.svc.Constructors()
	jc.PollInterval = 100 * time.Millisecond
	n.jobs = jobs.NewRegistry(jc)
	n.svc.Connect(n.jobs, n.cache)
	runCtx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = n.jobs.Run(runCtx) }()
	var once sync.Once
	n.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			if err := n.node.Close(); err != nil {
				t.Errorf("closing node: %v", err)
			}
		})
	}
	t.Cleanup(n.stop)
	return n
}

func (n *testNode) session() *Session {
	return &Session{
		User: "root", Database: "d", SearchPath: []string{"public"},
		EvalString: func(_ context.Context, e tree.Expr) (string, error) {
			s, ok := e.(*tree.StrVal)
			if !ok {
				return "", fmt.Errorf("%T is no string", e)
			}
			return s.RawString(), nil
		},
		AsOf: func(_ context.Context, c tree.AsOfClause) (hlc.Timestamp, error) {
			return hlc.ParseAsOfSystemTime(c.Expr.(*tree.StrVal).RawString())
		},
		HasPrivilege: func(context.Context, catalog.Descriptor, string) (bool, error) { return true, nil },
		Notice:       func(e *pgerr.Error) { n.notices = append(n.notices, e) },
	}
}

// run runs a statement, given as a tree, and returns its rows as text.
func (n *testNode) run(stmt tree.Statement) ([][]string, error) { return n.runAs(n.session(), stmt) }

func (n *testNode) runAs(sess *Session, stmt tree.Statement) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var rows [][]string
	row := func(_ context.Context, r tree.Datums) error {
		var out []string
		for _, d := range r {
			s := d.String()
			if str, ok := d.(*tree.DString); ok {
				s = string(*str)
			}
			out = append(out, s)
		}
		rows = append(rows, out)
		return nil
	}
	if sess.Txn == nil {
		err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
			rows = nil
			sess.Txn = txn
			return n.svc.Run(ctx, sess, stmt, row)
		})
		sess.Txn = nil
		return rows, err
	}
	err := n.svc.Run(ctx, sess, stmt, row)
	return rows, err
}

func (n *testNode) mustRun(stmt tree.Statement) [][]string {
	n.t.Helper()
	rows, err := n.run(stmt)
	if err != nil {
		n.t.Fatalf("%s: %v", stmt, err)
	}
	return rows
}

// ---- Statements as trees.

func str(s string) tree.Expr { return tree.NewStrVal(s) }

func uris(us ...string) parser.URIs {
	var out parser.URIs
	for _, u := range us {
		out = append(out, str(u))
	}
	return out
}

func asOf(ts hlc.Timestamp) tree.AsOfClause {
	if ts.IsEmpty() {
		return tree.AsOfClause{}
	}
	return tree.AsOfClause{Expr: str(ts.AsOfSystemTime())}
}

func databases(names ...string) parser.Targets {
	var t parser.Targets
	for _, n := range names {
		t.Databases = append(t.Databases, tree.Name(n))
	}
	return t
}

func tables(names ...string) parser.Targets {
	var t parser.Targets
	for _, n := range names {
		parts := strings.Split(n, ".")
		u := &tree.UnresolvedName{NumParts: len(parts), Star: parts[len(parts)-1] == "*"}
		for i := range parts {
			u.Parts[i] = parts[len(parts)-1-i]
		}
		if u.Star {
			u.Parts[0] = ""
		}
		t.Tables = append(t.Tables, u)
	}
	return t
}

const place = "nodelocal://1/c"

func backupInto(t parser.Targets, edit ...func(*parser.Backup)) *parser.Backup {
	b := &parser.Backup{Targets: t, To: uris(place)}
	for _, e := range edit {
		e(b)
	}
	return b
}

func latest(b *parser.Backup)      { b.Latest = true }
func withHistory(b *parser.Backup) { b.Options.RevisionHistory = tree.DBoolTrue }
func endingAt(ts hlc.Timestamp) func(*parser.Backup) {
	return func(b *parser.Backup) { b.AsOf = asOf(ts) }
}

func restoreFrom(t parser.Targets, edit ...func(*parser.Restore)) *parser.Restore {
	r := &parser.Restore{Targets: t, Latest: true, From: uris(place)}
	for _, e := range edit {
		e(r)
	}
	return r
}

func newName(s string) func(*parser.Restore) {
	return func(r *parser.Restore) { r.Options.NewDBName = str(s) }
}
func at(ts hlc.Timestamp) func(*parser.Restore) {
	return func(r *parser.Restore) { r.AsOf = asOf(ts) }
}

// ---- Schema and rows.

func (n *testNode) txn(fn func(ctx context.Context, txn *kv.Txn, cat *catalog.Collection) error) {
	n.t.Helper()
	ctx := context.Background()
	release := func() {}
	defer func() { release() }()
	err := n.db.Txn(ctx, func(ctx context.Context, txn *kv.Txn) error {
		release()
		cat := n.cache.NewCollection(txn)
		release = cat.Release
		return fn(ctx, txn, cat)
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) newID() uint32 {
	id, err := catalog.AllocateID(context.Background(), n.db)
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

func (n *testNode) createDatabase(name string) {
	n.t.Helper()
	id, public := n.newID(), n.newID()
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		db, sc := catalog.NewDatabaseDescriptors(name, id, public, "root")
		if _, err := cat.Create(ctx, db); err != nil {
			return err
		}
		_, err := cat.Create(ctx, sc)
		return err
	})
}

func (n *testNode) database(name string) *catalog.Database {
	n.t.Helper()
	var db *catalog.Database
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) (err error) {
		db, err = cat.MustDatabase(ctx, name)
		return err
	})
	return db
}

func columnDesc(name string, typ *types.T, nullable bool) *catalogpb.ColumnDescriptor {
	b, err := catalog.MarshalType(typ)
	if err != nil {
		panic(err)
	}
	return &catalogpb.ColumnDescriptor{Name: name, Type: b, Nullable: nullable}
}

// createTable makes a table (id INT PRIMARY KEY, v STRING, n INT) with index
// t_v_idx on v.
func (n *testNode) createTable(db, name string, edit ...func(*catalogpb.TableDescriptor)) *catalog.Table {
	n.t.Helper()
	id := n.newID()
	d := n.database(db)
	public, _ := d.SchemaID("public")
	pb := &catalogpb.TableDescriptor{
		Name: name, Id: id, ParentId: d.ID(), UnexposedParentSchemaId: public, Privileges: catalog.NewPrivileges("root"),
		Columns: []*catalogpb.ColumnDescriptor{
			columnDesc("id", types.Int, false), columnDesc("v", types.String, true), columnDesc("n", types.Int, true),
		},
		PrimaryIndex: &catalogpb.IndexDescriptor{
			Name: name + "_pkey", Unique: true, KeyColumnNames: []string{"id"}, KeyColumnDirections: []catalogpb.Direction{0},
		},
		Indexes: []*catalogpb.IndexDescriptor{{
			Name: name + "_v_idx", KeyColumnNames: []string{"v"}, KeyColumnDirections: []catalogpb.Direction{0},
		}},
	}
	for _, e := range edit {
		e(pb)
	}
	if err := catalog.AllocateIDs(pb); err != nil {
		n.t.Fatal(err)
	}
	var out *catalog.Table
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		desc, err := cat.Create(ctx, proto.CloneOf(pb))
		if err == nil {
			out = desc.(*catalog.Table)
		}
		return err
	})
	return out
}

// table returns a table by name, or nil if there is none.
func (n *testNode) table(db, name string) *catalog.Table {
	n.t.Helper()
	var out *catalog.Table
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		out = nil
		d, err := cat.Database(ctx, db)
		if err != nil && strings.HasSuffix(err.Error(), "is offline: restoring") {
			return nil // As good as not there.
		}
		if err != nil || d == nil {
			return err
		}
		public, _ := d.SchemaID("public")
		out, err = cat.TableByName(ctx, d.ID(), public, name, catalog.Flags{})
		return err
	})
	return out
}

func (n *testNode) dropTable(db, name string) {
	n.t.Helper()
	t := n.table(db, name)
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		if err := cat.RemoveName(ctx, t.ParentID(), t.ParentSchemaID(), name); err != nil {
			return err
		}
		return cat.Delete(ctx, t.ID())
	})
	if err := n.db.DeleteRangeTombstone(context.Background(), t.Span()); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) dropDatabase(name string) {
	n.t.Helper()
	db := n.database(name)
	var spans []keys.Span
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		all, err := cat.All(ctx)
		if err != nil {
			return err
		}
		for _, d := range all {
			if d.ParentID() != db.ID() && d.ID() != db.ID() {
				continue
			}
			if t, ok := d.(*catalog.Table); ok {
				spans = append(spans, t.Span())
			}
			if err := cat.RemoveName(ctx, d.ParentID(), d.ParentSchemaID(), d.Name()); err != nil {
				return err
			}
			if err := cat.Delete(ctx, d.ID()); err != nil {
				return err
			}
		}
		return nil
	})
	for _, sp := range spans {
		if err := n.db.DeleteRangeTombstone(context.Background(), sp); err != nil {
			n.t.Fatal(err)
		}
	}
}

// rows is the contents of a table by id.
type rows map[int64]string

// pairs encodes a row of a table made by createTable.
func pairs(t *catalog.Table, id int64, v string) ([]rowenc.KV, error) {
	enc, err := rowenc.NewEncoder(t, t.Columns())
	if err != nil {
		return nil, err
	}
	row := tree.Datums{tree.NewDInt(tree.DInt(id)), tree.NewDString(v), tree.NewDInt(tree.DInt(len(v)))}
	out, err := enc.EncodeRow(nil, row)
	if err != nil {
		return nil, err
	}
	for _, x := range t.SecondaryIndexes() {
		if out, err = enc.EncodeIndexEntries(out, x, row); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// write changes rows of a table in one transaction: "" deletes. have is the
// model, which is changed too. It returns when the change happened.
func (n *testNode) write(t *catalog.Table, have rows, changes rows) hlc.Timestamp {
	n.t.Helper()
	var ts hlc.Timestamp
	err := n.db.Txn(context.Background(), func(ctx context.Context, txn *kv.Txn) error {
		b := txn.NewBatch()
		for id := range changes {
			if old, ok := have[id]; ok {
				ps, err := pairs(t, id, old)
				if err != nil {
					return err
				}
				for _, p := range ps {
					b.Del(p.Key)
				}
			}
		}
		if err := txn.Run(ctx, b); err != nil {
			return err
		}
		b = txn.NewBatch()
		for id, v := range changes {
			if v == "" {
				continue
			}
			ps, err := pairs(t, id, v)
			if err != nil {
				return err
			}
			for _, p := range ps {
				b.Put(p.Key, p.Value)
			}
		}
		if err := txn.Run(ctx, b); err != nil {
			return err
		}
		ts = txn.CommitTimestamp()
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	for id, v := range changes {
		if v == "" {
			delete(have, id)
		} else {
			have[id] = v
		}
	}
	return ts
}

// read returns what a table holds, by scanning its primary index, and checks
// that its secondary indexes agree.
func (n *testNode) read(t *catalog.Table) rows {
	n.t.Helper()
	out := rows{}
	want := map[string]string{}
	ctx := context.Background()
	now := n.db.Clock().Now()
	res, err := n.db.Scan(ctx, t.PrimaryIndex().Span().Key, t.PrimaryIndex().Span().EndKey, now, kv.ScanOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	f := rowenc.NewFetcher(t, t.PrimaryIndex(), t.Columns())
	src := &scanned{kvs: res.KVs}
	row := make(tree.Datums, len(t.Columns()))
	for {
		ok, err := f.Next(ctx, src, row)
		if err != nil {
			n.t.Fatal(err)
		}
		if !ok {
			break
		}
		id, v := int64(*row[0].(*tree.DInt)), string(*row[1].(*tree.DString))
		out[id] = v
		ps, err := pairs(t, id, v)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, p := range ps {
			want[string(p.Key)] = string(p.Value[4:])
		}
	}
	res, err = n.db.Scan(ctx, t.Span().Key, t.Span().EndKey, now, kv.ScanOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range res.KVs {
		got[string(p.Key)] = string(p.Value[4:])
	}
	if !maps.Equal(got, want) {
		n.t.Errorf("table %s has %d pairs in its indexes, its rows make %d", t.Name(), len(got), len(want))
	}
	return out
}

type scanned struct{ kvs []kv.KeyValue }

func (s *scanned) Next(context.Context) (keys.Key, []byte, bool, error) {
	if len(s.kvs) == 0 {
		return nil, nil, false, nil
	}
	p := s.kvs[0]
	s.kvs = s.kvs[1:]
	return p.Key, p.Value, true, nil
}

// readQuietly is read for tables that are expected to be wrong.
func (n *testNode) readQuietly(t *catalog.Table) rows {
	quiet := *n
	quiet.t = quietTB{n.t}
	return quiet.read(t)
}

type quietTB struct{ testing.TB }

func (quietTB) Errorf(string, ...any) {}

// denyAll is for sessions without any privilege.
func denyAll(context.Context, catalog.Descriptor, string) (bool, error) { return false, nil }

// expect compares a table with a model.
func (n *testNode) expect(db, name string, want rows) {
	n.t.Helper()
	t := n.table(db, name)
	if t == nil {
		if want != nil {
			n.t.Errorf("%s.%s is not there", db, name)
		}
		return
	}
	if want == nil {
		n.t.Errorf("%s.%s is there", db, name)
		return
	}
	if got := n.read(t); !maps.Equal(got, want) {
		n.t.Errorf("%s.%s holds %d rows, want %d: %s", db, name, len(got), len(want), difference(got, want))
	}
}

func difference(got, want rows) string {
	var out []string
	for id := range want {
		if got[id] != want[id] {
			out = append(out, fmt.Sprintf("%d is %q, want %q", id, got[id], want[id]))
		}
	}
	for id := range got {
		if _, ok := want[id]; !ok {
			out = append(out, fmt.Sprintf("%d is %q, want none", id, got[id]))
		}
	}
	slices.Sort(out)
	if len(out) > 5 {
		out = out[:5]
	}
	return strings.Join(out, "; ")
}

// someRows returns n rows with ids from first on.
func someRows(first, n int64, tag string) rows {
	out := rows{}
	for i := range n {
		out[first+i] = fmt.Sprintf("%s-%d", tag, (first+i)*7%n)
	}
	return out
}

// randomChanges changes, deletes and adds some rows.
func randomChanges(rng *rand.Rand, have rows, n int) rows {
	out := rows{}
	ids := slices.Sorted(maps.Keys(have))
	for range n {
		switch {
		case rng.IntN(3) == 0 || len(ids) == 0:
			out[rng.Int64N(1000)] = fmt.Sprintf("v%d", rng.IntN(100))
		case rng.IntN(2) == 0:
			out[ids[rng.IntN(len(ids))]] = ""
		default:
			out[ids[rng.IntN(len(ids))]] = fmt.Sprintf("u%d", rng.IntN(100))
		}
	}
	return out
}

// offlineObjects returns what is offline or half made.
func (n *testNode) offlineObjects() []string {
	n.t.Helper()
	var out []string
	n.txn(func(ctx context.Context, _ *kv.Txn, cat *catalog.Collection) error {
		out = nil
		all, err := cat.All(ctx)
		for _, d := range all {
			if d.State() != catalogpb.State_PUBLIC {
				out = append(out, fmt.Sprintf("%s %s is %s", d.Kind(), d.Name(), d.State()))
			}
		}
		return err
	})
	return out
}
