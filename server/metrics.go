package server

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfastdb/holdfast/kv/storage"
)

// storeCollector reads figures of the process and its store when it is asked.
type storeCollector struct {
	engine  *storage.Engine
	started time.Time
	live    func() int
}

func newStoreCollector(e *storage.Engine, started time.Time, live func() int) prometheus.Collector {
	return &storeCollector{e, started, live}
}

var (
	descUptime    = prometheus.NewDesc("sys_uptime", "seconds since the process started", nil, nil)
	descRSS       = prometheus.NewDesc("sys_rss", "resident memory of the process in bytes", nil, nil)
	descLiveNodes = prometheus.NewDesc("liveness_livenodes", "nodes that are alive", nil, nil)
	descCapacity  = prometheus.NewDesc("capacity_used", "bytes that the store uses on disk", nil, nil)
	descCache     = prometheus.NewDesc("storage_block_cache_usage", "bytes in the block cache", nil, nil)
	descMemtables = prometheus.NewDesc("storage_memtable_total_size", "bytes in memtables", nil, nil)
	descFlushes   = prometheus.NewDesc("storage_flushes_total", "memtables written to disk", nil, nil)
	descCompacts  = prometheus.NewDesc("storage_compactions_total", "compactions", nil, nil)
)

func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	m := c.engine.Metrics()
	gauge(descUptime, time.Since(c.started).Seconds())
	gauge(descRSS, float64(residentBytes()))
	gauge(descLiveNodes, float64(c.live()))
	gauge(descCapacity, float64(m.DiskSpaceUsage()))
	gauge(descCache, float64(m.BlockCache.Size))
	gauge(descMemtables, float64(m.MemTable.Size))
	ch <- prometheus.MustNewConstMetric(descFlushes, prometheus.CounterValue, float64(m.Flush.Count))
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
