package sync

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/target"
)

// counters count events; the present state is in objects.
type counters struct {
	refreshes *prometheus.CounterVec
	writes    *prometheus.CounterVec
	requests  *prometheus.CounterVec
	waits     *prometheus.HistogramVec
}

// newCounters registers the counters. Each begins at zero: a series that appears with its first event would hide it from increase().
func newCounters(registry prometheus.Registerer) *counters {
	c := &counters{
		refreshes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_sync_refreshes_total", Help: "Refreshes of ExternalSecrets that were due, by the reason of their condition Ready.",
		}, []string{"result"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_sync_secret_writes_total", Help: "Secrets that were written, by what was done.",
		}, []string{"action"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_sync_cloud_requests_total", Help: "Calls of KMS and STS, by the error code of the answer; OK is a success.",
		}, []string{"service", "code"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kms_sync_budget_wait_seconds", Help: "How long calls waited for the budget of their service.",
			Buckets: []float64{.1, .5, 1, 5, 15, 60, 300, 900},
		}, []string{"service"}),
	}
	for _, action := range []target.Action{target.Created, target.Updated, target.Adopted, target.Deleted} {
		c.writes.WithLabelValues(string(action))
	}
	for _, service := range []string{"kms", "sts"} {
		c.requests.WithLabelValues(service, metrics.OK)
		c.waits.WithLabelValues(service)
	}
	for _, result := range append([]string{reasonSynced}, urgency...) {
		c.refreshes.WithLabelValues(result)
	}
	registry.MustRegister(c.refreshes, c.writes, c.requests, c.waits)
	return c
}

var (
	readyMetric = prometheus.NewDesc("kms_sync_ready",
		"1 if an ExternalSecret's Secret is as its spec asks, 0 if not.", []string{"namespace", "name"}, nil)
	staleMetric = prometheus.NewDesc("kms_sync_stale",
		"1 if the last good refresh of an ExternalSecret is older than two intervals, 0 if not.", []string{"namespace", "name"}, nil)
	successMetric = prometheus.NewDesc("kms_sync_last_success_timestamp_seconds",
		"When everything that an ExternalSecret names was last read with success, in Unix time.", []string{"namespace", "name"}, nil)
)

// objects are the metrics of the ExternalSecrets themselves, read from the cache at each scrape, by the replica that works.
type objects struct {
	Options
	reader  client.Reader
	elected <-chan struct{}
}

func (o objects) Describe(to chan<- *prometheus.Desc) {
	to <- readyMetric
	to <- staleMetric
	to <- successMetric
}

func (o objects) Collect(to chan<- prometheus.Metric) {
	select {
	case <-o.elected:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // a cache that has synced answers at once
	defer cancel()
	var list v1alpha1.ExternalSecretList
	if err := o.reader.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		to <- prometheus.NewInvalidMetric(readyMetric, err)
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, es *v1alpha1.ExternalSecret) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, es.Namespace, es.Name)
	}
	flag := func(es *v1alpha1.ExternalSecret, condition string) float64 {
		if meta.IsStatusConditionTrue(es.Status.Conditions, condition) {
			return 1
		}
		return 0
	}
	for i := range list.Items {
		es := &list.Items[i]
		if o.excludes(es.Namespace) { // this controller does not look at it: it would never be ready
			continue
		}
		gauge(readyMetric, flag(es, v1alpha1.ConditionReady), es)
		gauge(staleMetric, flag(es, v1alpha1.ConditionStale), es)
		if es.Status.RefreshTime != nil {
			gauge(successMetric, float64(es.Status.RefreshTime.Unix()), es)
		}
	}
}

// Describe sends what metrics there are.
func Describe(to chan<- *prometheus.Desc) {
	objects{}.Describe(to)
	c := newCounters(prometheus.NewRegistry())
	for _, collector := range []prometheus.Collector{c.refreshes, c.writes, c.requests, c.waits} {
		collector.Describe(to)
	}
}
