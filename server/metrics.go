package server

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/kv/kvpb"
)

// storeCollector reads figures of the process and its store when it is asked.
type storeCollector struct {
	n       *Node
	started time.Time
}

var (
	descUptime    = prometheus.NewDesc("sys_uptime", "seconds since the process started", nil, nil)
	descRSS       = prometheus.NewDesc("sys_rss", "resident memory of the process in bytes", nil, nil)
	descLiveNodes = prometheus.NewDesc("liveness_livenodes", "nodes that are alive", nil, nil)
	descCapacity  = prometheus.NewDesc("capacity_used", "bytes that the store uses on disk", nil, nil)
	descSize      = prometheus.NewDesc("capacity", "bytes of the file system that the store is on", nil, nil)
	descAvailable = prometheus.NewDesc("capacity_available", "bytes that are free there", nil, nil)
	descCache     = prometheus.NewDesc("storage_block_cache_usage", "bytes in the block cache", nil, nil)
	descMemtables = prometheus.NewDesc("storage_memtable_total_size", "bytes in memtables", nil, nil)
	descFlushes   = prometheus.NewDesc("storage_flushes_total", "memtables written to disk", nil, nil)
	descDiffer    = prometheus.NewDesc("ranges_inconsistent_total", "checks that found replicas of a range which differ", nil, nil)
	descCompacts  = prometheus.NewDesc("storage_compactions_total", "compactions", nil, nil)

	descReplicas        = prometheus.NewDesc("replicas", "ranges that the store has a replica of", nil, nil)
	descLeases          = prometheus.NewDesc("replicas_leaseholders", "replicas that hold the lease of their range", nil, nil)
	descUnavailable     = prometheus.NewDesc("ranges_unavailable", "ranges in the charge of the store without a live majority, or without anybody in charge", nil, nil)
	descUnderReplicated = prometheus.NewDesc("ranges_underreplicated", "ranges in the charge of the store with fewer live replicas than their zone wants", nil, nil)
	descOverReplicated  = prometheus.NewDesc("ranges_overreplicated", "ranges in the charge of the store with more replicas than their zone wants", nil, nil)
	descViolations      = prometheus.NewDesc("ranges_constraint_violations", "ranges in the charge of the store whose zone's constraints are not met", nil, nil)
	descRanges          = prometheus.NewDesc("ranges", "ranges that the store is in charge of", nil, nil)
)

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	m := c.n.engine.Metrics()
	gauge(descUptime, time.Since(c.started).Seconds())
	gauge(descRSS, float64(residentBytes()))
	gauge(descLiveNodes, float64(c.n.liveNodes()))
	gauge(descCapacity, float64(m.DiskSpaceUsage()))
	gauge(descCache, float64(m.BlockCache.Size))
	gauge(descMemtables, float64(m.MemTable.Size))
	at := c.n.capacity(kvpb.StoreID(c.n.ident.NodeID))
	gauge(descSize, float64(at.Capacity))
	gauge(descAvailable, float64(at.Available))
	gauge(descReplicas, float64(at.Ranges))
	gauge(descLeases, float64(at.Leases))
	gauge(descRanges, float64(at.Leases))
	r := c.n.store.Placement()
	gauge(descUnavailable, float64(r.Unavailable))
	gauge(descUnderReplicated, float64(r.UnderReplicated))
	gauge(descOverReplicated, float64(r.OverReplicated))
	gauge(descViolations, float64(r.ConstraintViolations))
	ch <- prometheus.MustNewConstMetric(descFlushes, prometheus.CounterValue, float64(m.Flush.Count))
	ch <- prometheus.MustNewConstMetric(descDiffer, prometheus.CounterValue, float64(c.n.store.Inconsistent()))
	ch <- prometheus.MustNewConstMetric(descCompacts, prometheus.CounterValue, float64(m.Compact.Count))
}

// residentBytes is 0 where /proc does not say.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
