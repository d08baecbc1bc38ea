package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/peterh/liner"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// shell runs statements against one node and shows what comes back.
type shell struct {
	conn     *pgconn.PgConn
	url      string
	out      *bufio.Writer
	errOut   io.Writer
	format   string
	expanded bool // \x

	interactive bool
	echo        bool
	times       bool // print how long statements took
	errexit     bool

	vars      map[string]string // \set of names that are no options
	last      string            // the last statement, for \p and \watch
	dir       string            // of the file that is being read, for \ir
	prompt1   string
	quit      bool
	demo      func(ctx context.Context, out io.Writer, args []string) error // \demo; nil: there is none
	txnStatus byte
}

type sqlFlags struct {
	client  clientFlags
	execute []string
	file    string
	format  string
	set     []string
	echo    bool
	watch   time.Duration
	safe    bool
	ro      bool
}

func newSQLCommand() *cobra.Command {
	f := &sqlFlags{}
	cmd := &cobra.Command{
		Use: "sql", Short: "run SQL statements, or open a shell", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runSQL(cmd, f) },
	}
	f.client.register(cmd.Flags())
	f.register(cmd)
	cmd.Flags().StringVarP(&f.file, "file", "f", "", "read statements from this file")
	cmd.Flags().DurationVar(&f.watch, "watch", 0, "repeat the statements of -e at this interval")
	return cmd
}

// register adds the flags that demo has, too.
func (f *sqlFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVarP(&f.execute, "execute", "e", nil, "run these statements and end; may be repeated")
	fs.StringVar(&f.format, "format", "", "how to show rows: "+strings.Join(formatNames, ", ")+" (default: table on a terminal, else tsv)")
	fs.StringArrayVar(&f.set, "set", nil, "set an option of the shell, as \\set does: name=value")
	fs.BoolVar(&f.echo, "echo-sql", false, "show each statement before it runs")
	fs.BoolVar(&f.safe, "safe-updates", false, "refuse statements that could destroy much by mistake")
	fs.BoolVar(&f.ro, "read-only", false, "begin with default_transaction_read_only = on")
}

func runSQL(cmd *cobra.Command, f *sqlFlags) error {
	url, err := f.client.connString(cmd.Flags())
	if err != nil {
		return err
	}
	sh, err := newShell(cmd.Context(), url, f)
	if err != nil {
		return err
	}
	defer sh.close()
	return sh.runAll(cmd.Context(), f, "sql")
}

// newShell connects and applies the flags.
func newShell(ctx context.Context, url string, f *sqlFlags) (*shell, error) {
	sh := &shell{
		url: url, out: bufio.NewWriterSize(os.Stdout, 64<<10), errOut: os.Stderr, format: f.format, echo: f.echo,
		vars: map[string]string{}, errexit: true, prompt1: "%n@%M/%/%x>",
	}
	terminal := term.IsTerminal(int(os.Stdout.Fd()))
	sh.interactive = len(f.execute) == 0 && f.file == "" && term.IsTerminal(int(os.Stdin.Fd()))
	if sh.format == "" {
		sh.format = "tsv"
		if terminal {
			sh.format = "table"
		}
	}
	if !slices.Contains(formatNames, sh.format) && sh.format != "pretty" {
		return nil, flagError{fmt.Errorf("--format: invalid table display format: %q (possible values: %s)", sh.format, strings.Join(formatNames, ", "))}
	}
	if sh.interactive {
		sh.times, sh.errexit = true, false
	}
	var err error
	if sh.conn, err = connect(ctx, url, "holdfast sql", func(n *pgconn.Notice) { sh.notice(n) }); err != nil {
		return nil, err
	}
	if f.safe || sh.interactive {
		if err := sh.quiet(ctx, "SET sql_safe_updates = on"); err != nil && f.safe {
			return nil, err
		}
	}
	if f.ro {
		if err := sh.quiet(ctx, "SET default_transaction_read_only = on"); err != nil {
			return nil, err
		}
	}
	for _, s := range f.set {
		name, value, _ := strings.Cut(s, "=")
		if err := sh.setOption(name, value); err != nil {
			return nil, flagError{fmt.Errorf("--set: %w", err)}
		}
	}
	return sh, nil
}

func (sh *shell) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = sh.conn.Close(ctx) // The node forgets the session either way.
}

// quiet runs a statement whose result nobody wants to see.
func (sh *shell) quiet(ctx context.Context, sql string) error {
	_, err := sh.conn.Exec(ctx, sql).ReadAll()
	return err
}

// runAll runs what the flags say: -e, -f, the terminal or standard input. A
// statement that failed has been shown; the command then ends with code 1.
func (sh *shell) runAll(ctx context.Context, f *sqlFlags, command string) error {
	var err error
	switch {
	case len(f.execute) > 0:
		for {
			for _, e := range f.execute {
				if err = sh.runText(ctx, e); err != nil {
					break
				}
			}
			if err != nil || f.watch <= 0 {
				break
			}
			select {
			case <-time.After(f.watch):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	case f.file != "":
		err = sh.runFile(ctx, f.file)
	case sh.interactive:
		return sh.interact(ctx)
	default:
		err = sh.runReader(ctx, os.Stdin)
	}
	if ferr := sh.out.Flush(); err == nil {
		err = ferr
	}
	if err == nil {
		return nil
	}
	sh.showError(err)
	fmt.Fprintf(sh.errOut, "ERROR: \nFailed running %q\n", command)
	return silentError{exitError}
}

func (sh *shell) notice(n *pgconn.Notice) {
	_ = sh.out.Flush() // Keep the order of what is shown.
	printNotice(sh.errOut, n)
}

func (sh *shell) showError(err error) {
	_ = sh.out.Flush()
	var shown shownError
	if errors.As(err, &shown) {
		return
	}
	printError(sh.errOut, err)
}

// shownError has been printed already.
type shownError struct{ error }

func (e shownError) Unwrap() error { return e.error }

func (sh *shell) runText(ctx context.Context, text string) error {
	return sh.runReader(ctx, strings.NewReader(text))
}

func (sh *shell) runFile(ctx context.Context, name string) error {
	if name == "-" {
		return sh.runReader(ctx, os.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	before := sh.dir
	sh.dir = filepath.Dir(name)
	defer func() { sh.dir = before }()
	return sh.runReader(ctx, f)
}

// runReader runs statements as they are read, so that a file may be larger than
// memory. What follows COPY … FROM STDIN is its data, up to a line with \. alone.
func (sh *shell) runReader(ctx context.Context, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var pending strings.Builder
	for !sh.quit {
		if in.Buffered() == 0 { // Whoever writes the rest may wait for what there is.
			if err := sh.out.Flush(); err != nil {
				return err
			}
		}
		line, rerr := in.ReadString('\n')
		if rerr != nil && rerr != io.EOF {
			return rerr
		}
		if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, `\`) && isBlank(pending.String()) {
			pending.Reset()
			if err := sh.failed(sh.meta(ctx, trimmed, &pending)); err != nil {
				return err
			}
		} else {
			pending.WriteString(line)
			// Only a line with a semicolon or a quote can end a statement.
			if strings.ContainsAny(line, ";'\"$/") {
				if err := sh.runPending(ctx, &pending, in); err != nil {
					return err
				}
			}
		}
		if rerr == io.EOF {
			break
		}
	}
	if rest := pending.String(); !sh.quit && !isBlank(rest) {
		return sh.failed(sh.runStatement(ctx, rest, in))
	}
	return nil
}

// runPending runs the whole statements in pending and leaves the rest there.
func (sh *shell) runPending(ctx context.Context, pending *strings.Builder, in *bufio.Reader) error {
	text := pending.String()
	for {
		end, ok, _ := splitStatement(text)
		if !ok {
			break
		}
		stmt := text[:end]
		text = text[end:]
		if isBlank(stmt) {
			continue
		}
		if err := sh.failed(sh.runStatement(ctx, strings.TrimSpace(stmt), in)); err != nil {
			return err
		}
	}
	pending.Reset()
	pending.WriteString(text)
	return nil
}

// failed shows an error and forgets it if the shell goes on after errors.
func (sh *shell) failed(err error) error {
	if err == nil || sh.errexit {
		return err
	}
	if sh.conn.IsClosed() && !sh.interactive {
		return err
	}
	sh.showError(err)
	return nil
}

// runStatement sends one statement and shows its results.
func (sh *shell) runStatement(ctx context.Context, stmt string, data *bufio.Reader) error {
	sh.last = stmt
	if sh.echo {
		fmt.Fprintf(sh.errOut, "> %s\n", stmt)
	}
	if sh.conn.IsClosed() {
		if err := sh.reconnect(ctx); err != nil {
			return err
		}
	}
	start := time.Now()
	var err error
	if isCopyFromStdin(stmt) {
		err = sh.copyIn(ctx, stmt, data)
	} else if isCopyToStdout(stmt) {
		_, err = sh.conn.CopyTo(ctx, sh.out, stmt)
	} else {
		err = sh.show(ctx, stmt)
	}
	sh.txnStatus = sh.conn.TxStatus()
	if err != nil {
		return err
	}
	if sh.times {
		fmt.Fprintf(sh.out, "\nTime: %s total\n\n", formatDuration(time.Since(start)))
	}
	if sh.interactive {
		return sh.out.Flush()
	}
	return nil
}

func (sh *shell) show(ctx context.Context, stmt string) error {
	results := sh.conn.Exec(ctx, stmt)
	for results.NextResult() {
		if err := sh.showResult(results.ResultReader()); err != nil {
			_ = results.Close()
			return err
		}
	}
	return results.Close()
}

func (sh *shell) showResult(r *pgconn.ResultReader) error {
	format := sh.format
	if sh.expanded {
		format = "records"
	}
	printer, err := newRowPrinter(format, sh.out)
	if err != nil {
		return err
	}
	cols := slices.Clone(r.FieldDescriptions())
	rows := 0
	if len(cols) > 0 {
		printer.header(cols)
	}
	for r.NextRow() {
		rows++
		printer.row(r.Values())
	}
	tag, err := r.Close()
	if err != nil {
		return err
	}
	if len(cols) > 0 {
		return printer.footer(rows)
	}
	if s := tag.String(); s != "" && (sh.interactive || sh.format != "raw") {
		fmt.Fprintln(sh.out, s)
	}
	return nil
}

func isCopyFromStdin(stmt string) bool { return isCopy(stmt, "from", "stdin") }
func isCopyToStdout(stmt string) bool  { return isCopy(stmt, "to", "stdout") }

func isCopy(stmt, direction, where string) bool {
	if w := firstWords(stmt, 1); len(w) == 0 || w[0] != "copy" {
		return false
	}
	words := firstWords(stmt, 1000)
	for i, w := range words {
		if w == direction && i+1 < len(words) && words[i+1] == where {
			return true
		}
	}
	return false
}

// copyIn sends the lines that follow the statement.
func (sh *shell) copyIn(ctx context.Context, stmt string, in *bufio.Reader) error {
	if in == nil {
		return errors.New("COPY FROM STDIN needs its data after the statement: use -f, or standard input")
	}
	tag, err := sh.conn.CopyFrom(ctx, &copyLines{in: in}, stmt)
	if err != nil {
		return err
	}
	fmt.Fprintln(sh.out, tag.String())
	return nil
}

// copyLines reads to the line that ends COPY data.
type copyLines struct {
	in   *bufio.Reader
	rest []byte
	done bool
}

func (c *copyLines) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if c.done {
			return 0, io.EOF
		}
		line, err := c.in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			c.done = true
			if err != io.EOF {
				return 0, err
			}
		}
		if s := strings.TrimRight(string(line), "\r\n"); s == `\.` {
			c.done = true
			return 0, io.EOF
		}
		c.rest = append(c.rest[:0], line...)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	if n == 0 && c.done {
		return 0, io.EOF
	}
	return n, nil
}

func (sh *shell) reconnect(ctx context.Context) error {
	conn, err := connect(ctx, sh.url, "holdfast sql", func(n *pgconn.Notice) { sh.notice(n) })
	if err != nil {
		return err
	}
	fmt.Fprintln(sh.errOut, "warning: the connection was lost; a new one has been opened, with settings at their defaults")
	sh.conn = conn
	return nil
}

// interact is the shell on a terminal.
func (sh *shell) interact(ctx context.Context) error {
	fmt.Fprintf(sh.out, "#\n# Welcome to the Holdfast SQL shell.\n# All statements must be terminated by a semicolon.\n# To exit, type: \\q.\n#\n")
	if v, err := sh.scalar(ctx, "SELECT version()"); err == nil {
		fmt.Fprintf(sh.out, "# Server: %s\n", v)
	}
	fmt.Fprintf(sh.out, "#\n# Enter \\? for a brief introduction.\n#\n")
	_ = sh.out.Flush()
	line := liner.NewLiner()
	defer line.Close()
	line.SetCtrlCAborts(true)
	line.SetMultiLineMode(true)
	history := historyFile()
	if f, err := os.Open(history); err == nil {
		_, _ = line.ReadHistory(f) // A damaged history is not worth an error.
		_ = f.Close()
	}
	defer func() {
		if f, err := os.OpenFile(history, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err == nil {
			_, _ = line.WriteHistory(f)
			_ = f.Close()
		}
	}()
	var pending strings.Builder
	for !sh.quit {
		prompt := sh.prompt()
		if pending.Len() > 0 {
			prompt = strings.Repeat(" ", max(len(prompt)-3, 0)) + "-> "
		}
		text, err := line.Prompt(prompt)
		if errors.Is(err, liner.ErrPromptAborted) {
			pending.Reset()
			continue
		}
		if err == io.EOF {
			fmt.Fprintln(sh.out)
			return sh.out.Flush()
		}
		if err != nil {
			return err
		}
		trimmed := strings.TrimSpace(text)
		if strings.HasPrefix(trimmed, `\`) {
			line.AppendHistory(text)
			_ = sh.failed(sh.meta(ctx, trimmed, &pending))
			_ = sh.out.Flush()
			continue
		}
		if pending.Len() == 0 && (trimmed == "quit" || trimmed == "exit" || trimmed == "help") {
			if trimmed == "help" {
				_ = sh.failed(sh.meta(ctx, `\?`, &pending))
				continue
			}
			return nil
		}
		pending.WriteString(text)
		pending.WriteByte('\n')
		if _, ok, _ := splitStatement(pending.String()); ok {
			line.AppendHistory(strings.Join(strings.Fields(pending.String()), " "))
			stmtCtx, stop := signal.NotifyContext(ctx, os.Interrupt)
			_ = sh.failed(sh.runPending(stmtCtx, &pending, nil))
			stop()
			_ = sh.out.Flush()
		}
		if isBlank(pending.String()) {
			pending.Reset()
		}
	}
	return nil
}

func historyFile() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return os.DevNull
	}
	return filepath.Join(home, ".holdfastsql_history")
}

// prompt fills in prompt1: %n user, %M host and port, %/ database, %x transaction.
func (sh *shell) prompt() string {
	cfg, err := pgconn.ParseConfig(sh.url)
	if err != nil {
		return "> "
	}
	db := cfg.Database
	if v, err := sh.scalar(context.Background(), "SELECT current_database()"); err == nil && sh.conn.TxStatus() == 'I' {
		db = v
	}
	state := ""
	switch sh.conn.TxStatus() {
	case 'T':
		state = " OPEN"
	case 'E':
		state = " ERROR"
	}
	return strings.NewReplacer("%n", cfg.User, "%M", fmt.Sprintf("%s:%d", cfg.Host, cfg.Port), "%/", db, "%x", state).Replace(sh.prompt1) + " "
}

// scalar returns the only value of a query, outside of failed transactions.
func (sh *shell) scalar(ctx context.Context, query string) (string, error) {
	if sh.conn.TxStatus() != 'I' {
		return "", errors.New("in a transaction")
	}
	res, err := sh.conn.Exec(ctx, query).ReadAll()
	if err != nil {
		return "", err
	}
	if len(res) != 1 || len(res[0].Rows) != 1 || len(res[0].Rows[0]) != 1 {
		return "", errors.New("not one value")
	}
	return string(res[0].Rows[0][0]), nil
}
