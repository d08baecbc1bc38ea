package systables

// DatabaseID and PublicSchemaID are the descriptor ids of database system and of
// its schema public.
const (
	DatabaseID     = 1
	PublicSchemaID = 29
)

// cols numbers columns by their order.
func cols(cs ...Column) []Column {
	for i := range cs {
		cs[i].ID = uint32(i + 1)
	}
	return cs
}

func col(name string, typ Type) Column     { return Column{Name: name, Type: typ} }
func colNull(name string, typ Type) Column { return Column{Name: name, Type: typ, Nullable: true} }
func colDefault(name string, typ Type, def string) Column {
	return Column{Name: name, Type: typ, Default: def}
}

// The tables of database system. Ids are those that are publicly documented.
var (
	// Descriptor holds every schema object's descriptor, serialized.
	Descriptor = &Table{ID: 3, Name: "descriptor", PrimaryKey: []int{0}, Columns: cols(
		col("id", Int), colNull("descriptor", Bytes))}

	// Users holds users and roles.
	Users = &Table{ID: 4, Name: "users", PrimaryKey: []int{0}, Columns: cols(
		col("username", String), colNull("hashedPassword", Bytes),
		colDefault("isRole", Bool, "false"), col("user_id", OID))}

	// Zones holds zone configurations that differ from the built-in one, by
	// descriptor id or by the number of a named range.
	Zones = &Table{ID: 5, Name: "zones", PrimaryKey: []int{0}, Columns: cols(
		col("id", Int), colNull("config", Bytes))}

	// Settings holds cluster settings that differ from their defaults.
	Settings = &Table{ID: 6, Name: "settings", PrimaryKey: []int{0}, Columns: cols(
		col("name", String), col("value", String),
		colDefault("lastUpdated", Timestamp, "now()"), colNull("valueType", String))}

	// UI holds preferences of consoles.
	UI = &Table{ID: 14, Name: "ui", PrimaryKey: []int{0}, Columns: cols(
		col("key", String), colNull("value", Bytes), col("lastUpdated", Timestamp))}

	// Jobs holds durable jobs; package jobs owns it.
	Jobs = &Table{ID: 15, Name: "jobs", PrimaryKey: []int{0}, Columns: cols(
		colDefault("id", Int, "unique_rowid()"), col("status", String),
		colDefault("created", Timestamp, "now()"), col("payload", Bytes), colNull("progress", Bytes),
		colNull("created_by_type", String), colNull("created_by_id", Int),
		colNull("claim_session_id", Bytes), colNull("claim_instance_id", Int),
		colNull("num_runs", Int), colNull("last_run", Timestamp), colNull("job_type", String),
		colNull("owner", String), colNull("description", String), colNull("error_msg", String),
		colNull("finished", TimestampTZ), colNull("claim_epoch", Int), colNull("next_run", Timestamp)),
		Indexes: []Index{
			{ID: 2, Name: "jobs_status_created_idx", Columns: []int{1, 2}},
			{ID: 3, Name: "jobs_created_by_type_created_by_id_idx", Columns: []int{5, 6}, Storing: []int{1}},
		}}

	// TableStatistics holds what the planner knows about the rows of tables.
	TableStatistics = &Table{ID: 20, Name: "table_statistics", PrimaryKey: []int{0, 1}, Columns: cols(
		col("tableID", Int), colDefault("statisticID", Int, "unique_rowid()"), colNull("name", String),
		colNull("columnIDs", StringArray), colDefault("createdAt", Timestamp, "now()"),
		col("rowCount", Int), col("distinctCount", Int), col("nullCount", Int), colNull("histogram", Bytes))}

	// Locations maps locality tiers to places on a map.
	Locations = &Table{ID: 21, Name: "locations", PrimaryKey: []int{0, 1}, Columns: cols(
		col("localityKey", String), col("localityValue", String), colNull("latitude", Decimal), colNull("longitude", Decimal))}

	// RoleMembers says which user or role is a member of which role.
	RoleMembers = &Table{ID: 23, Name: "role_members", PrimaryKey: []int{0, 1}, Columns: cols(
		col("role", String), col("member", String), col("isAdmin", Bool),
		col("role_id", OID), col("member_id", OID))}

	// Comments holds COMMENT ON texts. type: 0 database, 1 table, 2 column, 3
	// index, 4 schema, 5 constraint, 6 type.
	Comments = &Table{ID: 24, Name: "comments", PrimaryKey: []int{0, 1, 2}, Columns: cols(
		col("type", Int), col("object_id", Int), col("sub_id", Int), col("comment", String))}

	// Namespace maps (parent database, parent schema, name) to a descriptor id.
	// Databases have parents (0, 0), schemas (database, 0).
	Namespace = &Table{ID: 30, Name: "namespace", PrimaryKey: []int{0, 1, 2}, Columns: cols(
		col("parentID", Int), col("parentSchemaID", Int), col("name", String), colNull("id", Int))}

	// ProtectedTimestamps holds records that keep old versions from being
	// collected.
	ProtectedTimestamps = &Table{ID: 32, Name: "protected_ts_records", PrimaryKey: []int{0}, Columns: cols(
		col("id", UUID), col("ts", Decimal), col("meta_type", String), colNull("meta", Bytes),
		col("num_spans", Int), colNull("spans", Bytes), colDefault("verified", Bool, "false"), colNull("target", Bytes))}

	// RoleOptions holds options such as CREATEDB and NOLOGIN.
	RoleOptions = &Table{ID: 33, Name: "role_options", PrimaryKey: []int{0, 1}, Columns: cols(
		col("username", String), col("option", String), colNull("value", String), col("user_id", OID))}

	// ScheduledJobs holds schedules.
	ScheduledJobs = &Table{ID: 37, Name: "scheduled_jobs", PrimaryKey: []int{0}, Columns: cols(
		colDefault("schedule_id", Int, "unique_rowid()"), col("schedule_name", String),
		colDefault("created", TimestampTZ, "now()"), col("owner", String), colNull("next_run", TimestampTZ),
		colNull("schedule_state", Bytes), colNull("schedule_expr", String), colNull("schedule_details", Bytes),
		col("executor_type", String), col("execution_args", Bytes)),
		Indexes: []Index{{ID: 2, Name: "next_run_idx", Columns: []int{4}}}}

	// Sessions holds one row per running process: its claim on jobs is good as
	// long as the row has not expired.
	Sessions = &Table{ID: 39, Name: "sqlliveness", PrimaryKey: []int{0}, Columns: cols(
		col("session_id", Bytes), col("expiration", Decimal), colNull("instance_id", Int))}

	// DatabaseRoleSettings holds ALTER ROLE … SET defaults.
	DatabaseRoleSettings = &Table{ID: 44, Name: "database_role_settings", PrimaryKey: []int{0, 1}, Columns: cols(
		col("database_id", OID), col("role_name", String), col("settings", StringArray), col("role_id", OID))}

	// Privileges holds grants on objects that have no descriptor.
	Privileges = &Table{ID: 52, Name: "privileges", PrimaryKey: []int{0, 1}, Columns: cols(
		col("username", String), col("path", String), col("privileges", StringArray),
		col("grant_options", StringArray), col("user_id", OID))}

	// ExternalConnections holds named storage and KMS URIs.
	ExternalConnections = &Table{ID: 53, Name: "external_connections", PrimaryKey: []int{0}, Columns: cols(
		col("connection_name", String), colDefault("created", Timestamp, "now()"),
		colDefault("updated", Timestamp, "now()"), col("connection_type", String),
		col("connection_details", Bytes), col("owner", String), colNull("owner_id", OID))}

	// JobInfo holds records that jobs keep beside their row, by key and time.
	JobInfo = &Table{ID: 54, Name: "job_info", PrimaryKey: []int{0, 1, 2}, Columns: cols(
		col("job_id", Int), col("info_key", Bytes), colDefault("written", TimestampTZ, "now()"), colNull("value", Bytes))}
)

// All lists every table in the order of ids.
func All() []*Table {
	return []*Table{
		Descriptor, Users, Zones, Settings, UI, Jobs, TableStatistics, Locations, RoleMembers, Comments,
		Namespace, ProtectedTimestamps, RoleOptions, ScheduledJobs, Sessions, DatabaseRoleSettings,
		Privileges, ExternalConnections, JobInfo,
	}
}

// ByName returns the table of a name, or nil.
func ByName(name string) *Table {
	for _, t := range All() {
		if t.Name == name {
			return t
		}
	}
	return nil
}
