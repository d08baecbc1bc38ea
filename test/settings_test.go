package test

import (
	"strings"
	"testing"

	"github.com/holdfastdb/holdfast/test/node"
)

// documentedSettings are those that the documents of backups, restores, storage and
// jobs name, with a value to set.
var documentedSettings = map[string]string{
	"feature.backup.enabled": "true", "feature.restore.enabled": "true",
	"bulkio.backup.file_size": "'64MiB'", "bulkio.backup.checkpoint_interval": "'30s'",
	"bulkio.backup.read_with_priority_after": "'1m'", "bulkio.backup.read_timeout": "'5m'", "bulkio.backup.read_retry_delay": "'5s'",
	"bulkio.backup.merge_file_buffer_size": "'64MiB'", "bulkio.backup.balanced_distribution.enabled": "true",
	"bulkio.backup.deprecated_full_backup_with_subdir.enabled": "true", "bulkio.backup.presplit_request_spans.enabled": "false",
	"bulkio.backup.elastic_control.enabled": "false", "backup.write_metadata_with_external_ssts.enabled": "false",
	"backup.restore_span.target_size": "'384MiB'", "backup.restore_span.max_file_count": "100",
	"bulkio.restore.insert_stats_workers": "2", "bulkio.restore.replan_flow_frequency": "'1m'", "bulkio.restore.use_simple_import_spans": "true",
	"restore.retry_max_duration": "'24h'", "restore.wait_for_span_config_conformance.enabled": "true", "restore.compacted_backups.enabled": "false",
	"schedules.backup.gc_protection.enabled": "false",
	"jobs.registry.interval.base":            "2.0", "jobs.registry.interval.adopt": "'1m'", "jobs.registry.interval.cancel": "'1m'", "jobs.registry.interval.gc": "'2h'",
	"jobs.retention_time": "'24h'", "jobs.cancel_update_limit": "10", "jobs.registry.retry.initial_delay": "'1s'", "jobs.registry.retry.max_delay": "'1h'",
	"jobs.execution_errors.max_entries": "5", "jobs.execution_errors.max_entry_size": "'1KiB'", "jobs.debug.pausepoints": "'x'",
	"jobs.scheduler.enabled": "false", "jobs.scheduler.pace": "'1s'", "jobs.scheduler.max_jobs_per_iteration": "1", "jobs.scheduler.single_node_scheduler.enabled": "true",
	"kv.bulk_io_write.max_rate": "'1GiB'", "kv.bulk_io_write.concurrent_export_requests": "2", "kv.bulk_sst.target_size": "'8MiB'",
	"kv.bulk_sst.max_allowed_overage": "'8MiB'", "kv.protectedts.reconciliation.interval": "'1m'", "kv.protectedts.poll_interval": "'1m'",
	"cloudstorage.timeout": "'1m'", "cloudstorage.http.custom_ca": "''", "cloudstorage.write_chunk.size": "'16MiB'",
	"cloudstorage.azure.concurrent_upload_buffers": "2", "cloudstorage.s3.session_reuse.enabled": "false",
	"cloudstorage.s3.buffer_and_put_uploads.enabled": "true", "cloudstorage.gs.chunking.enabled": "false",
	"cloudstorage.gs.chunking.per_chunk_retry.timeout": "'10s'",
}

// TestDocumentedSettings: each setting that the documents name can be shown, set and
// reset, refuses nonsense, and outlives a restart.
func TestDocumentedSettings(t *testing.T) {
	n := node.Start(t)
	all := map[string]string{}
	for name, value := range documentedSettings {
		all[name] = value
	}
	for _, p := range []string{"s3", "gs", "azure", "http", "nodelocal", "nullsink", "userfile"} {
		for _, limit := range []string{"read.node_rate_limit", "read.node_burst_limit", "write.node_rate_limit", "write.node_burst_limit"} {
			all["cloudstorage."+p+"."+limit] = "'1GiB'"
		}
	}
	set := map[string]string{}
	conn := n.Conn("defaultdb")
	value := func(name string) string {
		var v string
		if err := conn.QueryRow(t.Context(), "SELECT value FROM [SHOW ALL CLUSTER SETTINGS] WHERE variable = $1", name).Scan(&v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return v
	}
	for name, v := range all {
		before := value(name)
		if _, err := conn.Exec(t.Context(), "SET CLUSTER SETTING "+name+" = 'nonsense of no kind'"); err == nil && !strings.HasSuffix(name, "pausepoints") {
			t.Errorf("%s takes nonsense", name)
		}
		if _, err := conn.Exec(t.Context(), "SET CLUSTER SETTING "+name+" = "+v); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		set[name] = value(name)
		if set[name] == before && v != "true" && v != "''" && v != "'5m'" && v != "'5s'" {
			t.Errorf("%s stays %s", name, before)
		}
	}
	conn.Close(t.Context())
	n.Kill()
	n.Restart()
	conn = n.Conn("defaultdb")
	for name, want := range set {
		if got := value(name); got != want {
			t.Errorf("%s was %s before the restart and is %s", name, want, got)
		}
	}
}
