package backupccl

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/types"
	"github.com/auxten/postgresql-parser/pkg/util/json"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/holdfastdb/holdfast/backupccl/backuppb"
	"github.com/holdfastdb/holdfast/backupccl/extstore"
	"github.com/holdfastdb/holdfast/backupccl/manifest"
	"github.com/holdfastdb/holdfast/internal/hlc"
	"github.com/holdfastdb/holdfast/internal/keys"
	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/catalog/catalogpb"
	"github.com/holdfastdb/holdfast/sql/parser"
)

var showBackupsColumns = []Column{{"path", types.String}}

// showBackupColumns returns the columns of a SHOW BACKUP statement.
func showBackupColumns(n *parser.ShowBackup) []Column {
	switch {
	case n.Options.AsJSON:
		return []Column{{"manifest", types.Jsonb}}
	case n.Details == parser.ShowBackupRanges:
		return []Column{{"start_pretty", types.String}, {"end_pretty", types.String}, {"start_key", types.Bytes}, {"end_key", types.Bytes}}
	case n.Details == parser.ShowBackupFiles:
		return []Column{
			{"path", types.String}, {"backup_type", types.String}, {"start_pretty", types.String}, {"end_pretty", types.String},
			{"start_key", types.Bytes}, {"end_key", types.Bytes}, {"size_bytes", types.Int}, {"rows", types.Int},
			{"locality", types.String}, {"file_bytes", types.Int},
		}
	case n.Details == parser.ShowBackupValidate:
		return []Column{{"validation_status", types.String}}
	}
	cols := []Column{{"database_name", types.String}}
	if n.Options.DebugIDs {
		cols = append(cols, Column{"database_id", types.Int})
	}
	cols = append(cols, Column{"parent_schema_name", types.String})
	if n.Options.DebugIDs {
		cols = append(cols, Column{"parent_schema_id", types.Int})
	}
	cols = append(cols, Column{"object_name", types.String})
	if n.Options.DebugIDs {
		cols = append(cols, Column{"object_id", types.Int})
	}
	cols = append(cols,
		Column{"object_type", types.String}, Column{"backup_type", types.String}, Column{"start_time", types.TimestampTZ},
		Column{"end_time", types.TimestampTZ}, Column{"size_bytes", types.Int}, Column{"rows", types.Int},
		Column{"is_full_cluster", types.Bool}, Column{"regions", types.String})
	if n.Details == parser.ShowBackupSchemas {
		cols = append(cols, Column{"create_statement", types.String})
	}
	if n.Options.Privileges {
		cols = append(cols, Column{"privileges", types.String}, Column{"owner", types.String})
	}
	if n.Options.CheckFiles {
		cols = append(cols, Column{"file_bytes", types.Int})
	}
	return cols
}

// runShowBackups lists the complete full layers of a collection.
func (s *Service) runShowBackups(ctx context.Context, sess *Session, n *parser.ShowBackups, row func(context.Context, tree.Datums) error) error {
	uris, err := evalURIs(ctx, sess, n.In)
	if err != nil {
		return err
	}
	if err := s.checkURIs(ctx, sess, uris); err != nil {
		return err
	}
	locs, err := s.openLocations(ctx, uris[:1])
	if err != nil {
		return fmt.Errorf("connect to external storage: %w", err)
	}
	defer func() { _ = locs.Close() }()
	subdirs, err := manifest.ListFulls(ctx, locs.Default())
	if err != nil {
		return err
	}
	for _, sub := range subdirs {
		if err := row(ctx, tree.Datums{tree.NewDString(sub)}); err != nil {
			return err
		}
	}
	return nil
}

// hintAtRoot tells people who name the root of a collection where a backup is
// wanted what it is.
func hintAtRoot(ctx context.Context, store extstore.Store, subdir string, err error) error {
	if pgerr.GetCode(err) != pgerr.UndefinedFile || !manifest.IsCollectionRoot(ctx, store, subdir) {
		return err
	}
	return pgerr.Flatten(err).WithHint(hintCollectionRoot)
}

const hintCollectionRoot = "The specified path is the root of a backup collection. " +
	"Use SHOW BACKUPS IN with this path to list all the backup subdirectories in the collection. " +
	"SHOW BACKUP can be used with any of these subdirectories to inspect a backup."

// showRun is one SHOW BACKUP statement.
type showRun struct {
	n     *parser.ShowBackup
	chain *manifest.Chain
	row   func(context.Context, tree.Datums) error
}

// runShowBackup shows what is in a chain of layers.
func (s *Service) runShowBackup(ctx context.Context, sess *Session, n *parser.ShowBackup, row func(context.Context, tree.Datums) error) error {
	o := &n.Options
	if o.EncryptionPassphrase != nil || len(o.KMS) > 0 || o.EncryptionInfoDir != nil {
		return errNoEncryption()
	}
	uris, err := evalURIs(ctx, sess, n.In)
	if err != nil {
		return err
	}
	inc, err := evalURIs(ctx, sess, o.IncrementalLocation)
	if err != nil {
		return err
	}
	if err := s.checkURIs(ctx, sess, append(append([]string(nil), uris...), inc...)); err != nil {
		return err
	}
	if len(inc) > 0 && len(inc) != len(uris) {
		return errIncrementalCount()
	}
	subdir, latest := "", n.Latest
	if n.Subdir != nil {
		if subdir, err = sess.EvalString(ctx, n.Subdir); err != nil {
			return err
		}
		if strings.EqualFold(subdir, "latest") {
			latest = true
		} else if subdir, err = cleanSubdir(subdir); err != nil {
			return err
		}
	}
	col, err := s.openCollection(ctx, uris, inc)
	if err != nil {
		return fmt.Errorf("make storage: %w", err)
	}
	defer col.close()
	if subdir, err = manifest.ResolveSubdir(ctx, col.locs.Default(), subdir, latest); err != nil {
		return err
	}
	chain, err := manifest.LoadChain(ctx, col.locs, col.inc, subdir)
	if err != nil {
		return hintAtRoot(ctx, col.locs.Default(), subdir, err)
	}
	if parts := len(chain.Full.Manifest.Parts); len(uris) < parts {
		sess.Notice(pgerr.Notice("The backup contains %d localities; however, the SHOW BACKUP command contains only %d URIs. "+
			"To capture all locality aware data, pass every locality aware URI from the backup", parts, len(uris)))
	}
	run := &showRun{n: n, chain: chain, row: row}
	if n.Details == parser.ShowBackupValidate {
		return run.validate(ctx)
	}
	if o.CheckFiles {
		if err := run.checkFiles(ctx); err != nil {
			return err
		}
	}
	for _, l := range chain.All() {
		if err := run.layer(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (r *showRun) layer(ctx context.Context, l *manifest.Layer) error {
	switch {
	case r.n.Options.AsJSON:
		return r.asJSON(ctx, l)
	case r.n.Details == parser.ShowBackupRanges:
		return r.ranges(ctx, l)
	case r.n.Details == parser.ShowBackupFiles:
		return r.files(ctx, l)
	}
	return r.objects(ctx, l)
}

func backupType(l *manifest.Layer) *tree.DString {
	if l.IsFull() {
		return tree.NewDString("full")
	}
	return tree.NewDString("incremental")
}

func timeDatum(t hlc.Timestamp) tree.Datum {
	if t.IsEmpty() {
		return tree.DNull
	}
	return tree.MakeDTimestampTZ(t.Time(), time.Microsecond)
}

func stringOrNull(s string) tree.Datum {
	if s == "" {
		return tree.DNull
	}
	return tree.NewDString(s)
}

func intDatum(n int64) tree.Datum { return tree.NewDInt(tree.DInt(n)) }

// idOrNull shows an id that an object may lack.
func idOrNull(id uint32) tree.Datum {
	if id == 0 {
		return tree.DNull
	}
	return intDatum(int64(id))
}

// objects lists the schema objects of a layer.
func (r *showRun) objects(ctx context.Context, l *manifest.Layer) error {
	var entries []*backuppb.DescriptorEntry
	if err := l.Descriptors(ctx, func(e *backuppb.DescriptorEntry) error {
		entries = append(entries, e)
		return nil
	}); err != nil {
		return err
	}
	sch, err := schemaOfEntries(l.End(), entries)
	if err != nil {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Id < entries[j].Id })
	o := &r.n.Options
	for _, e := range entries {
		d := sch.byID[e.Id]
		if d == nil {
			continue
		}
		kind := d.Kind()
		db, parentSchema := "", ""
		var dbID, schemaID uint32
		if kind != catalog.DatabaseKind {
			db, dbID = sch.dbName(d), d.ParentID()
		}
		if kind == catalog.TableKind || kind == catalog.TypeKind {
			parentSchema, schemaID = sch.schemaName(d), d.ParentSchemaID()
		}
		row := tree.Datums{stringOrNull(db)}
		if o.DebugIDs {
			row = append(row, idOrNull(dbID))
		}
		row = append(row, stringOrNull(parentSchema))
		if o.DebugIDs {
			row = append(row, idOrNull(schemaID))
		}
		row = append(row, tree.NewDString(d.Name()))
		if o.DebugIDs {
			row = append(row, intDatum(int64(e.Id)))
		}
		size, rows := tree.Datum(tree.DNull), tree.Datum(tree.DNull)
		if t, ok := d.(*catalog.Table); ok && !o.SkipSize {
			var nBytes, nRows int64
			for _, ix := range e.Indexes {
				nBytes += ix.KeyBytes + ix.ValueBytes
				if isPrimary(t, ix.IndexId) {
					nRows += ix.Rows
				}
			}
			size, rows = intDatum(nBytes), intDatum(nRows)
		}
		row = append(row, tree.NewDString(kind.String()), backupType(l), timeDatum(l.Start()), timeDatum(l.End()),
			size, rows, tree.MakeDBool(tree.DBool(l.IsCluster())), regionsOf(sch, d))
		if r.n.Details == parser.ShowBackupSchemas {
			text := ""
			if kind == catalog.TableKind {
				text = e.CreateStatement
			}
			row = append(row, stringOrNull(text))
		}
		if o.Privileges {
			row = append(row, tree.NewDString(grantsText(d)), tree.NewDString(d.Privileges().GetOwner()))
		}
		if o.CheckFiles {
			if kind == catalog.TableKind {
				row = append(row, intDatum(e.FileBytes))
			} else {
				row = append(row, tree.DNull)
			}
		}
		if err := r.row(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

// regionsOf renders the regions of a multi-region database as SQL.
func regionsOf(sch *schema, d catalog.Descriptor) tree.Datum {
	db, ok := d.(*catalog.Database)
	if !ok {
		return tree.DNull
	}
	rc := db.Proto().GetRegionConfig()
	if rc.GetPrimaryRegion() == "" {
		return tree.DNull
	}
	text := fmt.Sprintf("ALTER DATABASE %s SET PRIMARY REGION %q;", quoteName(db.Name()), rc.PrimaryRegion)
	if enum, ok := sch.byID[rc.RegionEnumId].(*catalog.Type); ok {
		for _, m := range enum.Proto().EnumMembers {
			if m.LogicalRepresentation != rc.PrimaryRegion {
				text += fmt.Sprintf(" ALTER DATABASE %s ADD REGION %q;", quoteName(db.Name()), m.LogicalRepresentation)
			}
		}
	}
	return tree.NewDString(text)
}

// grantsText renders the privileges of an object as GRANT statements, by
// grantee.
func grantsText(d catalog.Descriptor) string {
	kind := map[catalog.Kind]string{
		catalog.DatabaseKind: "DATABASE", catalog.SchemaKind: "SCHEMA", catalog.TableKind: "TABLE", catalog.TypeKind: "TYPE",
	}[d.Kind()]
	users := append([]*catalogpb.UserPrivileges(nil), d.Privileges().GetUsers()...)
	sort.Slice(users, func(i, j int) bool { return users[i].User < users[j].User })
	var b strings.Builder
	for _, u := range users {
		grant := func(mask uint64, suffix string) {
			if names := catalog.PrivilegeNames(mask); len(names) > 0 {
				fmt.Fprintf(&b, "GRANT %s ON %s %s TO %s%s; ", strings.Join(names, ", "), kind, quoteName(d.Name()), quoteName(u.User), suffix)
			}
		}
		grant(u.Privileges&^u.WithGrantOption, "")
		grant(u.Privileges&u.WithGrantOption, " WITH GRANT OPTION")
	}
	return b.String()
}

func (r *showRun) ranges(ctx context.Context, l *manifest.Layer) error {
	for _, sp := range manifest.Spans(l.Manifest.Spans) {
		if err := r.row(ctx, tree.Datums{
			tree.NewDString(keys.Pretty(sp.Key)), tree.NewDString(keys.Pretty(sp.EndKey)),
			tree.NewDBytes(tree.DBytes(sp.Key)), tree.NewDBytes(tree.DBytes(sp.EndKey)),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (r *showRun) files(ctx context.Context, l *manifest.Layer) error {
	return l.Files(ctx, func(f *manifest.DataFile) error {
		sp := manifest.Span(f.Span)
		locality, fileBytes := f.LocalityKv, int64(-1)
		switch {
		case locality != "":
		case len(l.Manifest.Parts) > 1:
			locality = manifest.DefaultLocality
		default:
			locality = "NULL" // A string, as it is documented.
		}
		if r.n.Options.CheckFiles {
			fileBytes = int64(f.BackingFileSize)
		}
		return r.row(ctx, tree.Datums{
			tree.NewDString(f.Path), backupType(l), tree.NewDString(keys.Pretty(sp.Key)), tree.NewDString(keys.Pretty(sp.EndKey)),
			tree.NewDBytes(tree.DBytes(sp.Key)), tree.NewDBytes(tree.DBytes(sp.EndKey)),
			intDatum(f.GetEntryCounts().GetDataSize()), intDatum(f.GetEntryCounts().GetRows()),
			tree.NewDString(locality), intDatum(fileBytes),
		})
	})
}

func (r *showRun) asJSON(ctx context.Context, l *manifest.Layer) error {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(l.Manifest)
	if err != nil {
		return err
	}
	j, err := json.ParseJSON(string(b))
	if err != nil {
		return err
	}
	return r.row(ctx, tree.Datums{tree.NewDJSON(j)})
}

// maxMissingFiles is how many missing files one check reports.
const maxMissingFiles = 10

// checkFiles looks for every file of every layer and compares sizes.
func (r *showRun) checkFiles(ctx context.Context) error {
	var missing []string
	for _, l := range r.chain.All() {
		root := l.Root()
		for _, name := range l.MetadataFiles() {
			if _, err := root.Size(ctx, name); err != nil {
				return fmt.Errorf("Error checking metadata file %s/%s: %w", l.Dir, name, err) //nolint:staticcheck // a documented text
			}
		}
		err := l.Files(ctx, func(f *manifest.DataFile) error {
			size, err := f.Store.Size(ctx, f.Path)
			switch {
			case errors.Is(err, extstore.ErrNotExist), err == nil && size != int64(f.BackingFileSize):
				missing = append(missing, l.Dir+"/"+f.Path)
			case err != nil:
				return err
			}
			if len(missing) >= maxMissingFiles {
				return errEnoughMissing
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnoughMissing) {
			return err
		}
		if len(missing) >= maxMissingFiles {
			break
		}
	}
	if len(missing) == 0 {
		return nil
	}
	text := "The following files are missing from the backup:"
	if len(missing) >= maxMissingFiles {
		text = "Multiple files cannot be read from the backup including:"
	}
	return pgerr.Newf(pgerr.DataCorrupted, "%s\n\t%s", text, strings.Join(missing, "\n\t"))
}

var errEnoughMissing = errors.New("enough files are missing")

// validate checks that the descriptors of each layer can be restored.
func (r *showRun) validate(ctx context.Context) error {
	var problems []string
	for _, l := range r.chain.All() {
		entries, err := l.DescriptorsAt(ctx, l.End())
		if err != nil {
			return err
		}
		sch, err := schemaOfEntries(l.End(), entries)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %s", l.Dir, err))
			continue
		}
		for _, id := range sch.ids() {
			d := sch.byID[id]
			if d.Kind() != catalog.DatabaseKind && sch.byID[d.ParentID()] == nil {
				problems = append(problems, fmt.Sprintf("%s: %s %q (%d): database %d is missing", l.Dir, d.Kind(), d.Name(), id, d.ParentID()))
			}
			if t, ok := d.(*catalog.Table); ok {
				for _, tid := range sch.typeIDs(t) {
					if sch.byID[tid] == nil {
						problems = append(problems, fmt.Sprintf("%s: table %q (%d): type %d is missing", l.Dir, d.Name(), id, tid))
					}
				}
				for _, sp := range dataSpans(t) {
					if !l.Covers(sp) {
						problems = append(problems, fmt.Sprintf("%s: table %q (%d): %s is not covered", l.Dir, d.Name(), id, pieceName(sp)))
					}
				}
			}
		}
	}
	if _, err := r.chain.Latest(); err != nil {
		problems = append(problems, err.Error())
	}
	text := "No problems found!\n"
	if len(problems) > 0 {
		text = "ERROR: validation failed\n" + strings.Join(problems, "\n") + "\n"
	}
	return r.row(ctx, tree.Datums{tree.NewDString(text)})
}
