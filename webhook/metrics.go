package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// outcomes are the results of pods and their reasons. Each is counted from zero: a series that appears with its first pod would
// hide that pod from increase().
var outcomes = map[string][]string{
	review.Injected: {reasonNew, reasonAgain},
	review.Skipped:  {reasonNotAsked, reasonMirror, reasonComplete, reasonNotLabelled},
	review.Denied:   {string(injector.WrongAnnotations), string(injector.NotAllowed), string(injector.WithoutRole), string(injector.Conflict)},
	review.Errored:  {reasonKube, review.BadReview, review.Busy, review.Panic},
}

// webhookMetrics are the webhook's own. Only pods are counted: workloads are in controller-runtime's metrics, by path.
type webhookMetrics struct {
	registry   *prometheus.Registry
	admissions *prometheus.CounterVec
	sessions   *prometheus.CounterVec
	duration   prometheus.Histogram
	configOK   prometheus.Gauge
	configTime prometheus.Gauge
}

func newMetrics(expiry func() time.Time) *webhookMetrics {
	m := &webhookMetrics{
		registry: prometheus.NewRegistry(),
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_webhook_admissions_total", Help: "Pods that were decided on, by what became of them and why.",
		}, []string{"result", "reason"}),
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_webhook_sessions_total", Help: "Pods that were injected, by whether their STS sessions are narrowed to their secrets.",
		}, []string{"session"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kms_webhook_admission_duration_seconds", Help: "Time from a pod's request to its answer.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		configOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kms_webhook_config_last_reload_successful",
			Help: "1 if the webhook's configuration is in force as it is; 0 if it has a mistake and the last good one is.",
		}),
		configTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kms_webhook_config_last_reload_success_timestamp_seconds",
			Help: "Since when the webhook's configuration that is in force is so, in Unix time.",
		}),
	}
	for result, reasons := range outcomes {
		for _, reason := range reasons {
			m.admissions.WithLabelValues(result, reason)
		}
	}
	for _, session := range []string{sessionNarrowed, sessionWide} {
		m.sessions.WithLabelValues(session)
	}
	m.reloaded(nil) // it does not start with a broken one
	m.registry.MustRegister(m.admissions, m.sessions, m.duration, m.configOK, m.configTime, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kms_webhook_certificate_expiry_timestamp_seconds", Help: "When the serving certificate expires, in Unix time; 0 without one.",
	}, func() float64 {
		if at := expiry(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	}))
	return m
}

// reloaded counts a change of the webhook's configuration, with what is wrong with it.
func (m *webhookMetrics) reloaded(wrong error) {
	if wrong != nil {
		m.configOK.Set(0)
		return
	}
	m.configOK.Set(1)
	m.configTime.SetToCurrentTime()
}

func (m *webhookMetrics) pod(v review.Verdict, took time.Duration) {
	m.admissions.WithLabelValues(v.Result, v.Reason).Inc()
	if v.Result == review.Injected {
		m.sessions.WithLabelValues(v.Audit[auditSession]).Inc()
	}
	m.duration.Observe(took.Seconds())
}
