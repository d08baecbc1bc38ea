package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

const metaHelp = `You are using the Holdfast SQL shell.

General
  \q, quit, exit    leave
  \! CMD            run a command and show its output
  \| CMD            run a command and run its output as SQL
  \h [NAME]         syntax of a statement
  \?                this text
Statements
  \p                show the statement that is being typed
  \r                forget it
  \i FILE           run a file
  \ir FILE          run a file beside the one that is being read
  \echo TEXT        show a text
Objects
  \l                databases
  \d [NAME]         tables, views and sequences; or one of them
  \dt \dv \ds \di   tables, views, sequences, indexes
  \dn \du \df \dT   schemas, users, functions, types
  \c [DB]           connect to another database
Display
  \x [on|off]       one value per line
  \set [NAME [VAL]] options: display_format, echo, errexit, show_times, prompt1, …
  \unset NAME       back to the default
`

// meta runs a backslash command. pending is the statement that is being typed.
func (sh *shell) meta(ctx context.Context, line string, pending *strings.Builder) error {
	name, rest, _ := strings.Cut(strings.TrimPrefix(line, `\`), " ")
	rest = strings.TrimSuffix(strings.TrimSpace(rest), ";")
	name = strings.TrimSuffix(name, ";")
	arg := strings.TrimSpace(rest)
	switch name {
	case "q", "quit", "exit":
		sh.quit = true
		return nil
	case "?", "help":
		_, err := sh.out.WriteString(metaHelp)
		return err
	case "!":
		return sh.system(arg)
	case "|":
		out, err := exec.CommandContext(ctx, "sh", "-c", arg).Output()
		if err != nil {
			return fmt.Errorf(`\|: %w`, err)
		}
		return sh.runText(ctx, string(out))
	case "p":
		text := pending.String()
		if text == "" {
			text = sh.last
		}
		_, err := fmt.Fprintln(sh.out, strings.TrimSpace(text))
		return err
	case "r":
		pending.Reset()
		return nil
	case "echo":
		_, err := fmt.Fprintln(sh.out, arg)
		return err
	case "i":
		return sh.runFile(ctx, arg)
	case "ir":
		if !filepath.IsAbs(arg) && sh.dir != "" {
			arg = filepath.Join(sh.dir, arg)
		}
		return sh.runFile(ctx, arg)
	case "x":
		switch strings.ToLower(arg) {
		case "":
			sh.expanded = !sh.expanded
		case "on", "true":
			sh.expanded = true
		default:
			sh.expanded = false
		}
		return nil
	case "set":
		if arg == "" {
			return sh.listOptions()
		}
		n, v, ok := strings.Cut(arg, "=")
		if !ok {
			n, v, _ = strings.Cut(arg, " ")
		}
		return sh.setOption(strings.TrimSpace(n), strings.TrimSpace(v))
	case "unset":
		return sh.unsetOption(arg)
	case "c", "connect":
		return sh.connectTo(ctx, arg)
	case "demo":
		if sh.demo == nil {
			return errors.New(`\demo: this is not a demonstration; holdfast demo starts one`)
		}
		return sh.demo(ctx, sh.out, strings.Fields(arg))
	case "h", "hf":
		return sh.syntaxHelp(arg)
	}
	if query, ok := describeQuery(name, arg); ok {
		return sh.show(ctx, query)
	}
	if (name == "d" || name == "d+") && arg != "" {
		return sh.describeRelation(ctx, arg)
	}
	return fmt.Errorf(`\%s: unknown command; \? lists them`, name)
}

func (sh *shell) system(command string) error {
	_ = sh.out.Flush()
	cmd := exec.Command("sh", "-c", command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf(`\!: %w`, err)
	}
	return nil
}

// connectTo opens a connection to another database as the same user.
func (sh *shell) connectTo(ctx context.Context, database string) error {
	if database == "" || database == "-" {
		_, err := fmt.Fprintf(sh.out, "Connection string: %s\n", sh.url)
		return err
	}
	before := sh.url
	cut, query, _ := strings.Cut(sh.url, "?")
	if i := strings.LastIndex(cut, "/"); i > len("postgresql://") {
		cut = cut[:i]
	}
	sh.url = cut + "/" + database + "?" + query
	old := sh.conn
	if err := sh.reconnectQuietly(ctx); err != nil {
		sh.url = before
		return err
	}
	_ = old.Close(ctx)
	_, err := fmt.Fprintf(sh.out, "using database %q\n", database)
	return err
}

func (sh *shell) reconnectQuietly(ctx context.Context) error {
	conn, err := connect(ctx, sh.url, "holdfast sql", sh.notice)
	if err == nil {
		sh.conn = conn
	}
	return err
}

// options of the shell: how each is read and written.
func (sh *shell) options() map[string]*bool {
	return map[string]*bool{"echo": &sh.echo, "errexit": &sh.errexit, "show_times": &sh.times}
}

func (sh *shell) setOption(name, value string) error {
	if b, ok := sh.options()[name]; ok {
		v, err := parseBool(value)
		if err != nil {
			return fmt.Errorf(`\set %s: %w`, name, err)
		}
		*b = v
		return nil
	}
	switch name {
	case "display_format":
		if _, err := newRowPrinter(value, sh.out); err != nil {
			return err
		}
		sh.format = value
	case "prompt1":
		sh.prompt1 = value
	case "auto_trace", "check_syntax", "border", "show_server_times", "smart_prompt":
		sh.vars[name] = value // Known elsewhere; nothing here depends on them.
	default:
		return fmt.Errorf(`\set: unknown option %q`, name)
	}
	return nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "", "on", "yes":
		return true, nil
	case "off", "no":
		return false, nil
	}
	return strconv.ParseBool(s)
}

func (sh *shell) unsetOption(name string) error {
	if b, ok := sh.options()[name]; ok {
		*b = false
		return nil
	}
	switch name {
	case "display_format":
		sh.format = "table"
		return nil
	case "prompt1":
		sh.prompt1 = "%n@%M/%/%x>"
		return nil
	}
	delete(sh.vars, name)
	return nil
}

func (sh *shell) listOptions() error {
	lines := []string{"display_format = " + sh.format, "prompt1 = " + sh.prompt1}
	for name, b := range sh.options() {
		lines = append(lines, fmt.Sprintf("%s = %t", name, *b))
	}
	for name, v := range sh.vars {
		lines = append(lines, name+" = "+v)
	}
	sort.Strings(lines)
	_, err := fmt.Fprintln(sh.out, strings.Join(lines, "\n"))
	return err
}

// syntax of the statements that differ from PostgreSQL's or have none there.
var syntax = map[string]string{
	"BACKUP":      "BACKUP [{DATABASE|TABLE} name, ...] INTO ['subdir' IN | LATEST IN] 'uri' [AS OF SYSTEM TIME t] [WITH revision_history, detached, ...]",
	"RESTORE":     "RESTORE [{DATABASE|TABLE} name, ...] FROM {LATEST | 'subdir'} IN 'uri' [AS OF SYSTEM TIME t] [WITH new_db_name = 'n', into_db = 'd', detached, ...]",
	"SHOW BACKUP": "SHOW BACKUPS IN 'uri'\nSHOW BACKUP [SCHEMAS|FILES|RANGES] FROM {LATEST | 'subdir'} IN 'uri' [WITH check_files, as_json]",
	"SHOW JOBS":   "SHOW JOBS\nSHOW JOB id\nSHOW JOB WHEN COMPLETE id",
	"PAUSE":       "PAUSE JOB id [WITH REASON = 'text']\nPAUSE JOBS (SELECT ...)",
	"RESUME":      "RESUME JOB id",
	"CANCEL":      "CANCEL JOB id\nCANCEL QUERY 'id'\nCANCEL SESSION 'id'",
}

func (sh *shell) syntaxHelp(name string) error {
	if text, ok := syntax[strings.ToUpper(name)]; ok {
		_, err := fmt.Fprintf(sh.out, "Syntax:\n%s\n", text)
		return err
	}
	var names []string
	for n := range syntax {
		names = append(names, n)
	}
	sort.Strings(names)
	_, err := fmt.Fprintf(sh.out, "Help is available for: %s.\nOther statements are those of PostgreSQL: https://www.postgresql.org/docs/15/sql-commands.html\n", strings.Join(names, ", "))
	return err
}

const visible = `n.nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension', 'pg_toast')`

// describeQuery returns the query behind a \d command that lists objects.
func describeQuery(name, arg string) (string, bool) {
	name = strings.TrimSuffix(name, "+")
	like := func(column string) string {
		if arg == "" {
			return ""
		}
		return " AND " + column + " LIKE " + quoteLiteral(strings.ReplaceAll(arg, "*", "%"))
	}
	relations := func(kinds string) string {
		return `SELECT n.nspname AS "Schema", c.relname AS "Name",
 CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' ELSE c.relkind::text END AS "Type",
 pg_catalog.pg_get_userbyid(c.relowner) AS "Owner"
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN (` + kinds + `) AND ` + visible + like("c.relname") + ` ORDER BY 1, 2`
	}
	switch name {
	case "l":
		return `SELECT d.datname AS "Name", pg_catalog.pg_get_userbyid(d.datdba) AS "Owner", pg_catalog.pg_encoding_to_char(d.encoding) AS "Encoding" FROM pg_catalog.pg_database d WHERE true` + like("d.datname") + ` ORDER BY 1`, true
	case "d":
		if arg != "" {
			return "", false
		}
		return relations("'r','v','m','S'"), true
	case "dt":
		return relations("'r'"), true
	case "dv":
		return relations("'v','m'"), true
	case "ds":
		return relations("'S'"), true
	case "di":
		return `SELECT n.nspname AS "Schema", c.relname AS "Name", t.relname AS "Table", i.indisunique AS "Unique"
 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE ` + visible + like("c.relname") + ` ORDER BY 1, 3, 2`, true
	case "dn":
		return `SELECT n.nspname AS "Name", pg_catalog.pg_get_userbyid(n.nspowner) AS "Owner" FROM pg_catalog.pg_namespace n WHERE ` + visible + like("n.nspname") + ` ORDER BY 1`, true
	case "du", "dg":
		return `SELECT r.rolname AS "Role", r.rolcanlogin AS "Login", r.rolsuper AS "Superuser" FROM pg_catalog.pg_roles r WHERE true` + like("r.rolname") + ` ORDER BY 1`, true
	case "df":
		return `SELECT n.nspname AS "Schema", p.proname AS "Name", pg_catalog.pg_get_function_result(p.oid) AS "Result"
 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE ` + visible + like("p.proname") + ` ORDER BY 1, 2`, true
	case "dT":
		return `SELECT n.nspname AS "Schema", t.typname AS "Name" FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typtype = 'e' AND ` + visible + like("t.typname") + ` ORDER BY 1, 2`, true
	}
	return "", false
}

func quoteLiteral(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// describeRelation shows columns, indexes and constraints of one relation.
func (sh *shell) describeRelation(ctx context.Context, name string) error {
	oid, err := sh.scalarAnywhere(ctx, "SELECT "+quoteLiteral(name)+"::regclass::oid")
	if err != nil {
		return sh.describeElsewhere(ctx, name, err)
	}
	// Names reach into other databases, the catalogs do not.
	if n, err := sh.scalarAnywhere(ctx, "SELECT count(*) FROM pg_catalog.pg_class WHERE oid = "+oid); err != nil || n == "0" {
		return sh.describeElsewhere(ctx, name, errors.Join(err, fmt.Errorf("%s is not in this database", name)))
	}
	for _, part := range []struct{ title, query string }{
		{"", `SELECT a.attname AS "Column", pg_catalog.format_type(a.atttypid, a.atttypmod) AS "Type",
 CASE WHEN a.attnotnull THEN 'not null' ELSE '' END AS "Nullable", coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') AS "Default"
 FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ` + oid + ` AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`},
		{"Indexes", `SELECT pg_catalog.pg_get_indexdef(i.indexrelid) AS "Definition" FROM pg_catalog.pg_index i WHERE i.indrelid = ` + oid + ` ORDER BY 1`},
		{"Constraints", `SELECT conname AS "Name", pg_catalog.pg_get_constraintdef(oid) AS "Definition" FROM pg_catalog.pg_constraint WHERE conrelid = ` + oid + ` ORDER BY 1`},
		{"Referenced by", `SELECT conrelid::regclass AS "Table", conname AS "Name", pg_catalog.pg_get_constraintdef(oid) AS "Definition" FROM pg_catalog.pg_constraint WHERE confrelid = ` + oid + ` AND contype = 'f' ORDER BY 1, 2`},
	} {
		if part.title != "" {
			n, err := sh.scalarAnywhere(ctx, "SELECT count(*) FROM ("+part.query+") AS q")
			if err != nil {
				return err
			}
			if n == "0" {
				continue
			}
			fmt.Fprintf(sh.out, "%s:\n", part.title)
		}
		if err := sh.show(ctx, part.query); err != nil {
			return err
		}
	}
	return nil
}

// describeElsewhere is describeRelation for db.table and db.schema.table of another
// database, whose catalogs answer only while it is the current one. notFound is the
// error if it is not that either.
func (sh *shell) describeElsewhere(ctx context.Context, name string, notFound error) error {
	db, rest, ok := strings.Cut(name, ".")
	if !ok || sh.conn.TxStatus() != 'I' {
		return notFound
	}
	db = strings.ToLower(db)
	if q, quoted := strings.CutPrefix(name, `"`); quoted {
		if db, rest, ok = strings.Cut(q, `".`); !ok {
			return notFound
		}
	}
	if n, err := sh.scalarAnywhere(ctx, "SELECT count(*) FROM pg_catalog.pg_database WHERE datname = "+quoteLiteral(db)); err != nil || n != "1" {
		return notFound
	}
	current, err := sh.scalarAnywhere(ctx, "SELECT current_database()")
	if err != nil {
		return err
	}
	if current == db {
		return sh.describeRelation(ctx, rest)
	}
	use := func(db string) error {
		_, err := sh.conn.Exec(ctx, "SET database = "+quoteLiteral(db)).ReadAll()
		return err
	}
	if err := use(db); err != nil {
		return err
	}
	err = sh.describeRelation(ctx, rest)
	if e := use(current); err == nil {
		err = e
	}
	return err
}

func (sh *shell) scalarAnywhere(ctx context.Context, query string) (string, error) {
	res, err := sh.conn.Exec(ctx, query).ReadAll()
	if err != nil {
		return "", err
	}
	if len(res) != 1 || len(res[0].Rows) != 1 {
		return "", errors.New("not found")
	}
	return string(res[0].Rows[0][0]), nil
}
