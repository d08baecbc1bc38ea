package sql

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/auxten/postgresql-parser/pkg/sql/sem/tree"
	"github.com/auxten/postgresql-parser/pkg/sql/sessiondata"

	"github.com/holdfastdb/holdfast/internal/pgerr"
	"github.com/holdfastdb/holdfast/sql/catalog"
	"github.com/holdfastdb/holdfast/sql/parser"
	"github.com/holdfastdb/holdfast/sql/pgcodec"
)

// sessionVar is one session variable. Its value is kept as text in
// Session.vars.values; apply puts what it means into effect.
type sessionVar struct {
	name, def string
	// parse checks a value and returns its canonical text; nil takes any text.
	parse func(s *Session, in string) (string, error)
	// apply puts a value into effect; nil if nothing depends on it.
	apply func(s *Session, value string)
	// get computes the value where it is not simply what was set.
	get func(s *Session) string
	// fixed variables cannot be changed; those that clients set to the value
	// they have anyway are not an error.
	fixed bool
	// report variables are sent to the client as ParameterStatus.
	report string
	hidden bool
}

// ServerVersion is what clients see as the PostgreSQL version.
const (
	ServerVersion    = "15.0"
	serverVersionNum = "150000"
)

func boolVar(_ *Session, in string) (string, error) {
	switch strings.ToLower(in) {
	case "on", "true", "t", "yes", "y", "1", "tr", "tru", "ye":
		return "on", nil
	case "off", "false", "f", "no", "n", "0", "of", "fa", "fal", "fals":
		return "off", nil
	}
	return "", errVarBool
}

var errVarBool = fmt.Errorf("requires a Boolean value")

func wordVar(words ...string) func(*Session, string) (string, error) {
	return func(_ *Session, in string) (string, error) {
		for _, w := range words {
			if strings.EqualFold(in, w) {
				return w, nil
			}
		}
		return "", fmt.Errorf("Available values: %s.", strings.Join(words, ", "))
	}
}

func intVar(lo, hi int64) func(*Session, string) (string, error) {
	return func(_ *Session, in string) (string, error) {
		v, err := strconv.ParseInt(strings.TrimSpace(in), 10, 64)
		if err != nil {
			return "", errVarNumber
		}
		if v < lo || v > hi {
			return "", &varRangeError{v, lo, hi}
		}
		return strconv.FormatInt(v, 10), nil
	}
}

var errVarNumber = fmt.Errorf("not a number")

type varRangeError struct{ v, lo, hi int64 }

func (e *varRangeError) Error() string {
	return fmt.Sprintf("%d is outside the valid range (%d .. %d)", e.v, e.lo, e.hi)
}

// parseMillis reads a time setting: a bare number is in milliseconds.
func parseMillis(in string) (time.Duration, error) {
	in = strings.TrimSpace(in)
	if v, err := strconv.ParseFloat(in, 64); err == nil {
		if math.Abs(v) > math.MaxInt32 {
			return 0, &varRangeError{int64(v), 0, math.MaxInt32}
		}
		return time.Duration(v * float64(time.Millisecond)), nil
	}
	units := []struct {
		suffix string
		d      time.Duration
	}{{"ms", time.Millisecond}, {"us", time.Microsecond}, {"min", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}, {"s", time.Second}}
	for _, u := range units {
		if num, ok := strings.CutSuffix(in, u.suffix); ok {
			if v, err := strconv.ParseFloat(strings.TrimSpace(num), 64); err == nil {
				return time.Duration(v * float64(u.d)), nil
			}
		}
	}
	if iv, err := tree.ParseDInterval(in); err == nil {
		if us, ok := iv.Duration.AsInt64(); ok {
			return time.Duration(us) * time.Second, nil
		}
	}
	return 0, errVarNumber
}

func timeVar(_ *Session, in string) (string, error) {
	d, err := parseMillis(in)
	if err != nil {
		return "", err
	}
	if d < 0 {
		return "", &varRangeError{int64(d / time.Millisecond), 0, math.MaxInt32}
	}
	return formatMillis(d), nil
}

// formatMillis prints a time setting in the largest unit that divides it.
func formatMillis(d time.Duration) string {
	ms := d.Milliseconds()
	switch {
	case ms == 0:
		return "0"
	case ms%86400000 == 0:
		return fmt.Sprintf("%dd", ms/86400000)
	case ms%3600000 == 0:
		return fmt.Sprintf("%dh", ms/3600000)
	case ms%60000 == 0:
		return fmt.Sprintf("%dmin", ms/60000)
	case ms%1000 == 0:
		return fmt.Sprintf("%ds", ms/1000)
	}
	return fmt.Sprintf("%dms", ms)
}

func durationOf(value string) time.Duration {
	d, err := parseMillis(value)
	if err != nil {
		return 0
	}
	return d
}

func timeZoneVar(_ *Session, in string) (string, error) {
	loc, name, err := parseTimeZone(in)
	if err != nil || loc == nil {
		return "", fmt.Errorf("unknown time zone")
	}
	return name, nil
}

// parseTimeZone reads the name of a zone, an abbreviation or an offset in hours.
func parseTimeZone(in string) (*time.Location, string, error) {
	s := strings.TrimSpace(strings.Trim(in, "'"))
	switch strings.ToLower(s) {
	case "utc", "z", "gmt", "default", "local", "zulu":
		name := "UTC"
		if strings.EqualFold(s, "gmt") {
			name = "GMT"
		}
		return time.UTC, name, nil
	}
	if hours, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(hours) < 168 {
		sec := int(hours * 3600)
		return time.FixedZone(offsetName(sec), sec), offsetName(sec), nil
	}
	if rest, ok := strings.CutPrefix(s, "<"); ok { // as offsetName prints it
		if i := strings.IndexByte(rest, '>'); i > 0 {
			return parseTimeZone(rest[:i])
		}
	}
	if iv, err := tree.ParseDInterval(s); err == nil {
		if sec, ok := iv.Duration.AsInt64(); ok {
			return time.FixedZone(offsetName(int(sec)), int(sec)), offsetName(int(sec)), nil
		}
	}
	if m := posixZone.FindStringSubmatch(s); m != nil {
		// POSIX counts hours to the west.
		sec := 0
		for i, unit := range []int{3600, 60, 1} {
			n, _ := strconv.Atoi(m[3+i]) // "" is 0
			sec += n * unit
		}
		if m[2] != "-" {
			sec = -sec
		}
		if -168*3600 < sec && sec < 168*3600 {
			return time.FixedZone(s, sec), s, nil
		}
	}
	loc, err := time.LoadLocation(s)
	if err != nil {
		// Zone names are not case-sensitive.
		for _, n := range timeZoneNames() {
			if strings.EqualFold(n, s) {
				if loc, err = time.LoadLocation(n); err == nil {
					return loc, n, nil
				}
			}
		}
		return nil, "", err
	}
	return loc, loc.String(), nil
}

// posixZone matches a zone without summer time in POSIX notation: GMT-05:30.
var posixZone = regexp.MustCompile(`^(<[^<>]+>|[A-Za-z]{3,})([+-]?)([0-9]{1,3})(?::([0-9]{2}))?(?::([0-9]{2}))?$`)

// offsetName is PostgreSQL's name of a zone given as an offset.
func offsetName(sec int) string {
	sign, abs := "+", sec
	if sec < 0 {
		sign, abs = "-", -sec
	}
	h, m := abs/3600, abs%3600/60
	text := fmt.Sprintf("%s%02d", sign, h)
	if m != 0 {
		text += fmt.Sprintf(":%02d", m)
	}
	posix := "-"
	if sec < 0 {
		posix = "+"
	}
	return fmt.Sprintf("<%s>%s%02d", text, posix, h)
}

// dateStyleVar keeps the order of fields; the output style is always ISO.
func dateStyleVar(s *Session, in string) (string, error) {
	order := "MDY"
	if cur := s.vars.values["datestyle"]; strings.HasSuffix(cur, "DMY") || strings.HasSuffix(cur, "YMD") {
		order = cur[len(cur)-3:]
	}
	for _, part := range strings.Split(in, ",") {
		switch strings.ToUpper(strings.TrimSpace(part)) {
		case "ISO", "":
		case "MDY", "US", "NONEURO", "NONEUROPEAN":
			order = "MDY"
		case "DMY", "EURO", "EUROPEAN":
			order = "DMY"
		case "YMD":
			order = "YMD"
		case "DEFAULT":
			order = "MDY"
		case "SQL", "POSTGRES", "GERMAN":
			return "", fmt.Errorf("only the ISO output style is supported")
		default:
			return "", fmt.Errorf("Unrecognized key word: \"%s\".", part)
		}
	}
	return "ISO, " + order, nil
}

func floatDigitsVar(_ *Session, in string) (string, error) { return intVar(-15, 3)(nil, in) }

var isolationLevels = wordVar("serializable", "repeatable read", "read committed", "read uncommitted", "snapshot")

// sessionVarList defines all variables.
func sessionVarList() []*sessionVar {
	vs := []*sessionVar{
		{name: "application_name", report: "application_name", apply: func(s *Session, v string) { s.data.ApplicationName = v },
			get: func(s *Session) string { return s.data.ApplicationName }},
		{name: "database", apply: func(s *Session, v string) { s.data.Database = v }, get: func(s *Session) string { return s.data.Database }},
		{name: "search_path", def: `"$user", public`, parse: searchPathVar, apply: func(s *Session, v string) { s.vars.searchPath = splitPath(v) }},
		{name: "timezone", def: "UTC", report: "TimeZone", parse: timeZoneVar, apply: func(s *Session, v string) {
			if loc, _, err := parseTimeZone(v); err == nil {
				s.data.DataConversion.Location = loc
			}
		}},
		{name: "default_transaction_isolation", def: "serializable", parse: isolationLevels, apply: func(s *Session, v string) { s.vars.defaultIsolation = v }},
		{name: "transaction_isolation", def: "serializable", parse: isolationLevels, get: func(s *Session) string {
			if s.tx.kind != noTxn && s.tx.isolation != "" {
				return s.tx.isolation
			}
			return s.vars.defaultIsolation
		}},
		{name: "default_transaction_read_only", def: "off", parse: boolVar, report: "default_transaction_read_only", apply: func(s *Session, v string) { s.vars.defaultReadOnly = v == "on" }},
		{name: "transaction_read_only", def: "off", parse: boolVar, apply: func(s *Session, v string) {
			if s.tx.kind != noTxn {
				s.tx.readOnly = v == "on"
			}
		}, get: func(s *Session) string {
			if s.tx.kind != noTxn && s.tx.readOnly {
				return "on"
			}
			return "off"
		}},
		{name: "default_transaction_priority", def: "normal", parse: wordVar("low", "normal", "high")},
		{name: "transaction_priority", def: "normal", parse: wordVar("low", "normal", "high")},
		{name: "default_transaction_deferrable", def: "off", parse: boolVar},
		{name: "transaction_deferrable", def: "off", parse: boolVar},
		{name: "transaction_status", fixed: true, get: func(s *Session) string {
			return map[txnKind]string{noTxn: "NoTxn", txnImplicit: "NoTxn", txnBlock: "Open", txnAborted: "Aborted", txnCommitWait: "CommitWait"}[s.tx.kind]
		}},
		{name: "statement_timeout", def: "0", parse: timeVar, apply: func(s *Session, v string) { s.data.StmtTimeout = durationOf(v) }},
		{name: "lock_timeout", def: "0", parse: timeVar, apply: func(s *Session, v string) { s.vars.lockTimeout = durationOf(v) }},
		{name: "deadlock_timeout", def: "1s", parse: timeVar},
		{name: "idle_in_session_timeout", def: "0", parse: timeVar, apply: func(s *Session, v string) { s.vars.idleSessionTimeout = durationOf(v) }},
		{name: "idle_session_timeout", def: "0", parse: timeVar, apply: func(s *Session, v string) { s.vars.idleSessionTimeout = durationOf(v) }},
		{name: "idle_in_transaction_session_timeout", def: "0", parse: timeVar, apply: func(s *Session, v string) { s.vars.idleInTransactionTimeout = durationOf(v) }},
		{name: "transaction_timeout", def: "0", parse: timeVar, apply: func(s *Session, v string) { s.vars.transactionTimeout = durationOf(v) }},
		{name: "sql_safe_updates", def: "off", parse: boolVar, apply: func(s *Session, v string) { s.data.SafeUpdates = v == "on" }},
		{name: "client_min_messages", def: "notice", parse: wordVar("debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "warning", "error", "fatal", "panic"),
			apply: func(s *Session, v string) { s.vars.clientMinMessages = v }},
		{name: "client_encoding", def: "UTF8", report: "client_encoding", parse: func(_ *Session, in string) (string, error) {
			// Only letters and digits of a name count: asyncpg sends 'utf-8' with its quotes.
			switch strings.ToUpper(strings.Map(func(r rune) rune {
				if unicode.IsLetter(r) || unicode.IsDigit(r) {
					return r
				}
				return -1
			}, in)) {
			case "UTF8", "UNICODE", "SQLASCII", "DEFAULT":
				return "UTF8", nil
			}
			return "", fmt.Errorf("only UTF8 is supported")
		}},
		{name: "server_encoding", def: "UTF8", fixed: true, report: "server_encoding"},
		{name: "datestyle", def: "ISO, MDY", report: "DateStyle", parse: dateStyleVar},
		{name: "intervalstyle", def: "postgres", report: "IntervalStyle", parse: wordVar("postgres", "postgres_verbose", "sql_standard", "iso_8601")},
		{name: "extra_float_digits", def: "1", parse: floatDigitsVar, apply: func(s *Session, v string) {
			n, err := strconv.Atoi(v)
			if err == nil {
				s.data.DataConversion.ExtraFloatDigits = n
			}
		}},
		{name: "bytea_output", def: "hex", parse: wordVar("hex", "escape"), apply: func(s *Session, v string) {
			s.data.DataConversion.BytesEncodeFormat = sessiondata.BytesEncodeHex
			if v == "escape" {
				s.data.DataConversion.BytesEncodeFormat = sessiondata.BytesEncodeEscape
			}
		}},
		{name: "default_int_size", def: "4", parse: wordVar("4", "8")},
		{name: "serial_normalization", def: "sql_sequence", parse: wordVar("sql_sequence", "sql_sequence_cached", "rowid", "virtual_sequence")},
		{name: "standard_conforming_strings", def: "on", report: "standard_conforming_strings", parse: func(_ *Session, in string) (string, error) {
			v, err := boolVar(nil, in)
			if err == nil && v != "on" {
				err = fmt.Errorf("only on is supported")
			}
			return v, err
		}},
		{name: "integer_datetimes", def: "on", fixed: true, report: "integer_datetimes"},
		{name: "server_version", def: ServerVersion, fixed: true, report: "server_version"},
		{name: "server_version_num", def: serverVersionNum, fixed: true},
		{name: "is_superuser", fixed: true, report: "is_superuser", get: func(s *Session) string {
			if s.superuser {
				return "on"
			}
			return "off"
		}},
		{name: "session_authorization", fixed: true, report: "session_authorization", get: func(s *Session) string { return s.args.User }},
		{name: "session_user", fixed: true, get: func(s *Session) string { return s.args.User }},
		{name: "role", def: "none", parse: roleVar, apply: setCurrentRole},
		{name: "session_id", fixed: true, get: func(s *Session) string { return s.idText() }},
		{name: "node_id", fixed: true, get: func(s *Session) string { return strconv.Itoa(int(s.srv.cfg.NodeID)) }},
		{name: "locality", fixed: true, get: func(s *Session) string { return s.srv.cfg.Locality }},
		{name: "crdb_version", fixed: true, get: func(s *Session) string { return s.srv.cfg.Version }},
		{name: "max_identifier_length", def: "63", fixed: true},
		{name: "max_index_keys", def: "32", fixed: true},
		{name: "max_prepared_transactions", def: "0", fixed: true},
		{name: "max_connections", def: "10000", fixed: true},
		{name: "block_size", def: "8192", fixed: true},
		{name: "wal_block_size", def: "8192", fixed: true},
		{name: "data_checksums", def: "on", fixed: true},
		{name: "lc_messages", def: "C.UTF-8"}, {name: "lc_monetary", def: "C.UTF-8"}, {name: "lc_numeric", def: "C.UTF-8"}, {name: "lc_time", def: "C.UTF-8"},
		{name: "lc_collate", def: "C.UTF-8", fixed: true}, {name: "lc_ctype", def: "C.UTF-8", fixed: true},
		{name: "ssl", fixed: true, get: func(s *Session) string {
			if s.srv.cfg.Insecure {
				return "off"
			}
			return "on"
		}},
		{name: "row_security", def: "on", parse: boolVar},
		{name: "check_function_bodies", def: "on", parse: boolVar},
		{name: "default_tablespace"}, {name: "temp_tablespaces"}, {name: "default_table_access_method", def: "heap"},
		{name: "default_with_oids", def: "off", parse: func(_ *Session, in string) (string, error) {
			v, err := boolVar(nil, in)
			if err == nil && v != "off" {
				err = fmt.Errorf("tables declared WITH OIDS are not supported")
			}
			return v, err
		}},
		{name: "default_toast_compression", def: "pglz"},
		{name: "xmloption", def: "content", parse: wordVar("content", "document")},
		{name: "xmlbinary", def: "base64", parse: wordVar("base64", "hex")},
		{name: "synchronous_commit", def: "on"}, {name: "synchronize_seqscans", def: "on", parse: boolVar},
		{name: "escape_string_warning", def: "on", parse: boolVar}, {name: "backslash_quote", def: "safe_encoding"},
		{name: "array_nulls", def: "on", parse: boolVar}, {name: "quote_all_identifiers", def: "off", parse: boolVar},
		{name: "transform_null_equals", def: "off", parse: boolVar}, {name: "session_replication_role", def: "origin", parse: wordVar("origin", "replica", "local")},
		{name: "password_encryption", def: "scram-sha-256"}, {name: "krb_server_keyfile", hidden: true},
		{name: "work_mem", def: "4MB"}, {name: "maintenance_work_mem", def: "64MB"}, {name: "temp_buffers", def: "8MB"}, {name: "shared_buffers", def: "128MB"},
		{name: "effective_cache_size", def: "4GB"}, {name: "random_page_cost", def: "4"}, {name: "seq_page_cost", def: "1"}, {name: "jit", def: "off", parse: boolVar},
		{name: "geqo", def: "on", parse: boolVar}, {name: "force_parallel_mode", def: "off"}, {name: "max_parallel_workers_per_gather", def: "0"},
		{name: "plan_cache_mode", def: "auto", parse: wordVar("auto", "force_generic_plan", "force_custom_plan")},
		{name: "from_collapse_limit", def: "8"}, {name: "join_collapse_limit", def: "8"}, {name: "cursor_tuple_fraction", def: "0.1"},
		{name: "log_statement", def: "none"}, {name: "log_min_messages", def: "warning"}, {name: "log_min_duration_statement", def: "-1"}, {name: "log_duration", def: "off"},
		{name: "wal_level", def: "replica", fixed: true}, {name: "fsync", def: "on", fixed: true}, {name: "autovacuum", def: "on", fixed: true},
		{name: "in_hot_standby", def: "off", fixed: true, report: "in_hot_standby"}, {name: "tcp_keepalives_idle", def: "0"}, {name: "tcp_keepalives_interval", def: "0"}, {name: "tcp_keepalives_count", def: "0"},
		{name: "vacuum_cost_delay", def: "0"}, {name: "statement_mem", hidden: true}, {name: "gin_fuzzy_search_limit", def: "0"}, {name: "debug_print_plan", def: "off"},
		// Of the documented distributed store: accepted, and without effect here.
		{name: "distsql", def: "auto"}, {name: "vectorize", def: "on"}, {name: "override_multi_region_zone_config", def: "off", parse: boolVar},
		{name: "enable_super_regions", def: "off", parse: boolVar}, {name: "autocommit_before_ddl", def: "off", parse: boolVar},
		{name: "enable_multiple_modifications_of_table", def: "off", parse: boolVar}, {name: "experimental_enable_temp_tables", def: "on", parse: boolVar},
		{name: "copy_from_atomic_enabled", def: "on", parse: boolVar}, {name: "use_backups_with_ids", def: "off", parse: boolVar},
		{name: "reorder_joins_limit", def: "8"}, {name: "tracing", def: "off"}, {name: "results_buffer_size", def: "16384"}, {name: "force_savepoint_restart", def: "off", parse: boolVar},
		{name: "inject_retry_errors_enabled", def: "off", parse: boolVar, hidden: true}, {name: "testing_optimizer_random_seed", def: "0", hidden: true},
	}
	for _, n := range []string{"bitmapscan", "hashagg", "hashjoin", "indexscan", "indexonlyscan", "material", "mergejoin", "nestloop", "seqscan", "sort",
		"tidscan", "parallel_append", "parallel_hash", "partition_pruning", "partitionwise_join", "partitionwise_aggregate", "gathermerge", "memoize", "incremental_sort"} {
		vs = append(vs, &sessionVar{name: "enable_" + n, def: "on", parse: boolVar})
	}
	sort.Slice(vs, func(i, j int) bool { return vs[i].name < vs[j].name })
	return vs
}

var allSessionVars = sync.OnceValue(func() map[string]*sessionVar {
	m := map[string]*sessionVar{}
	for _, v := range sessionVarList() {
		m[v.name] = v
	}
	return m
})

// aliasVars maps the spellings of PostgreSQL's grammar to names.
var aliasVars = map[string]string{
	"time zone": "timezone", "names": "client_encoding", "transaction isolation level": "transaction_isolation",
	"session authorization": "session_authorization", "session_authorization default": "session_authorization",
	"schema": "search_path", "xml option": "xmloption", "transaction_mode": "transaction_isolation",
}

func varByName(name string) (*sessionVar, string, bool) {
	n := strings.ToLower(name)
	if a, ok := aliasVars[n]; ok {
		n = a
	}
	if v, ok := allSessionVars()[n]; ok {
		return v, n, true
	}
	// Names with a dot are for anyone to use; optimizer_* belong to planners of
	// the past and future.
	if strings.Contains(n, ".") || strings.HasPrefix(n, "optimizer_") {
		return &sessionVar{name: n}, n, true
	}
	return nil, n, false
}

func errUnknownVar(name string) *pgerr.Error {
	return pgerr.Newf(pgerr.UndefinedObject, "unrecognized configuration parameter \"%s\"", name)
}

// parseVar checks a value for a variable.
func (s *Session) parseVar(v *sessionVar, value string) (string, error) {
	if v.parse == nil {
		return value, nil
	}
	out, err := v.parse(s, value)
	if err == nil {
		return out, nil
	}
	if pgerr.GetCode(err) != "" {
		return "", err
	}
	if err == errVarBool {
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "parameter \"%s\" requires a Boolean value", v.name)
	}
	var r *varRangeError
	if re, ok := err.(*varRangeError); ok {
		r = re
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "%d is outside the valid range for parameter \"%s\" (%d .. %d)", r.v, v.name, r.lo, r.hi)
	}
	e := pgerr.Newf(pgerr.InvalidParameterValue, "invalid value for parameter \"%s\": \"%s\"", v.name, value)
	if err != errVarNumber {
		e = e.WithHint("%s", err.Error())
	}
	return "", e
}

// checkVar checks a setting without changing it.
func (s *Session) checkVar(name, value string) error {
	v, n, ok := varByName(name)
	if !ok {
		return errUnknownVar(n)
	}
	if v.fixed {
		return pgerr.Newf(pgerr.CannotChangeRuntimeParam, "parameter \"%s\" cannot be changed", v.name)
	}
	_, err := s.parseVar(v, value)
	return err
}

// getVar returns the value of a variable as text.
func (s *Session) getVar(name string) (string, bool) {
	v, n, ok := varByName(name)
	if !ok {
		return "", false
	}
	if v.get != nil {
		return v.get(s), true
	}
	if val, ok := s.vars.values[n]; ok {
		return val, true
	}
	if _, known := allSessionVars()[n]; !known {
		return "", false
	}
	return v.def, true
}

// setVar changes a variable. In a transaction the change is undone with it, and
// at its end if local.
func (s *Session) setVar(name, value string, local bool) error {
	v, n, ok := varByName(name)
	if !ok {
		return errUnknownVar(n)
	}
	if v.fixed {
		if cur, _ := s.getVar(n); strings.EqualFold(cur, value) {
			return nil
		}
		return pgerr.Newf(pgerr.CannotChangeRuntimeParam, "parameter \"%s\" cannot be changed", v.name)
	}
	value, err := s.parseVar(v, value)
	if err != nil {
		return err
	}
	old, _ := s.getVar(n)
	_, had := s.vars.values[n]
	s.storeVar(v, n, value)
	if s.tx.kind != noTxn {
		s.tx.restoreVar = append(s.tx.restoreVar, varUndo{local: local, undo: func() {
			s.storeVar(v, n, old)
			if !had {
				delete(s.vars.values, n)
			}
		}})
	}
	return nil
}

// storeVar puts a checked value into effect.
func (s *Session) storeVar(v *sessionVar, n, value string) {
	if s.vars.values == nil {
		s.vars.values = map[string]string{}
	}
	changed := s.vars.values[n] != value
	s.vars.values[n] = value
	if v.apply != nil {
		v.apply(s, value)
	}
	s.planEpoch++
	s.vars.codec = nil
	if v.report != "" && changed && s.args.Notify != nil {
		s.args.Notify(v.report, value)
	}
}

// resetVar gives a variable the value it had at the start of the session.
func (s *Session) resetVar(name string, local bool) error {
	v, n, ok := varByName(name)
	if !ok {
		return errUnknownVar(n)
	}
	if v.name == "session_authorization" {
		return s.resetVar("role", local) // The session's user is always who it was.
	}
	if v.fixed {
		return pgerr.Newf(pgerr.CannotChangeRuntimeParam, "parameter \"%s\" cannot be changed", v.name)
	}
	def, ok := s.vars.initial[n]
	if !ok {
		def = v.def
	}
	return s.setVar(n, def, local)
}

// ReportedParameters lists what a client is told at startup, by ParameterStatus
// name.
func (s *Session) ReportedParameters() map[string]string {
	out := map[string]string{}
	for n, v := range allSessionVars() {
		if v.report != "" {
			val, _ := s.getVar(n)
			out[v.report] = val
		}
	}
	return out
}

// initVars sets the defaults, those of the role and database, and those of the
// startup message.
func (s *Session) initVars(ctx context.Context) error {
	s.vars.values, s.vars.initial = map[string]string{}, map[string]string{}
	for n, v := range allSessionVars() {
		if v.apply != nil && v.get == nil && v.def != "" {
			v.apply(s, v.def)
			_ = n
		}
	}
	s.vars.defaultIsolation = "serializable"
	s.vars.clientMinMessages = "notice"
	s.vars.initial["application_name"], s.vars.initial["database"] = s.args.ApplicationName, s.args.Database
	stored, superuser, err := s.srv.roleDefaults(ctx, s.args.User, s.args.Database)
	if err != nil {
		return err
	}
	s.superuser = superuser
	for _, kv := range stored {
		name, value, _ := strings.Cut(kv, "=")
		if err := s.setVar(name, value, false); err != nil {
			s.srv.log.WarnContext(ctx, "a default of the role or database does not hold", "setting", name, "err", err)
		}
	}
	for name, value := range s.args.Options {
		switch strings.ToLower(name) {
		case "user", "database", "replication", "options", "cluster":
			continue
		}
		if v, n, ok := varByName(name); ok && v.fixed && n != "" {
			continue
		}
		if err := s.setVar(name, value, false); err != nil {
			return err
		}
	}
	for n, v := range s.vars.values {
		s.vars.initial[n] = v
	}
	return nil
}

// makeCodecSettings are the settings that shape text, for pgcodec.
func (s *Session) makeCodecSettings() *pgcodec.Settings {
	c := pgcodec.DefaultSettings()
	c.Location = s.data.DataConversion.Location
	c.ExtraFloatDigits = s.data.DataConversion.ExtraFloatDigits
	c.ByteaEscape = s.data.DataConversion.BytesEncodeFormat == sessiondata.BytesEncodeEscape
	c.IntervalStyle, _ = s.getVar("intervalstyle")
	style, _ := s.getVar("datestyle")
	c.MonthFirst, c.DayFirst = strings.HasSuffix(style, "MDY"), strings.HasSuffix(style, "DMY")
	return c
}

// searchPathVar normalizes a list of schemas.
func searchPathVar(_ *Session, in string) (string, error) {
	var out []string
	for _, s := range splitPath(in) {
		if s == "$user" {
			out = append(out, `"$user"`)
			continue
		}
		out = append(out, quoteIdent(s))
	}
	if len(out) == 0 {
		return `""`, nil
	}
	return strings.Join(out, ", "), nil
}

// splitPath splits a list of names, quoted or not.
func splitPath(in string) []string {
	out := []string{}
	var cur strings.Builder
	quoted, wasQuoted := false, false
	flush := func() {
		name := cur.String()
		if !wasQuoted {
			name = strings.ToLower(strings.TrimSpace(name))
		}
		if name != "" {
			out = append(out, name)
		}
		cur.Reset()
		wasQuoted = false
	}
	for _, r := range in {
		switch {
		case r == '"':
			quoted = !quoted
			if quoted {
				cur.Reset()
			}
			wasQuoted = true
		case r == ',' && !quoted:
			flush()
		case wasQuoted && !quoted && r == ' ':
		default:
			cur.WriteRune(r)
		}
	}
	flush()
	return out
}

// roleVar is SET ROLE: to none, to oneself, or to a role of which the session's user
// is a member.
func roleVar(s *Session, in string) (string, error) {
	role := strings.ToLower(in)
	if role == "none" || role == s.args.User {
		return role, nil
	}
	// SET comes from statements, but also from stored defaults and the startup packet,
	// outside of any transaction.
	ctx := context.Background()
	if s.tx.txn == nil {
		if s.tx.kind != noTxn {
			return "", pgerr.New(pgerr.InFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
		}
		if err := s.tx.begin(txnImplicit, txnModes{}); err != nil {
			return "", err
		}
		defer s.tx.rollback(ctx)
	}
	p := &planner{s: s, srv: s.srv}
	p.reset(ctx, parser.Statement{}, nil)
	defer p.mem.Close()
	if row, err := p.roleRow(ctx, role); err != nil {
		return "", err
	} else if row == nil {
		return "", pgerr.Newf(pgerr.InvalidParameterValue, "role \"%s\" does not exist", role)
	}
	roles, err := p.rolesOf(ctx, s.args.User)
	if err != nil {
		return "", err
	}
	if !roles[role] && !roles[catalog.AdminRole] {
		return "", pgerr.Newf(pgerr.InsufficientPrivilege, "permission denied to set role \"%s\"", role)
	}
	return role, nil
}

// setCurrentRole makes SET ROLE effective: whose rights hold from now on.
func setCurrentRole(s *Session, role string) {
	s.data.User = role
	if role == "none" {
		s.data.User = s.args.User
	}
}
