// Package webhook answers the API server's admission requests: pods get what package injector plans for them, and workloads
// whose pods would be refused are refused where a person sees it.
//
// A request ends in one of three ways: the author's mistake is a denial that says what to change, an outage of ours is error
// 500, and so is a bug of ours, whose panic ends the request and nothing else. No pod, patch or token is logged.
package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// The paths at which the API server calls.
const (
	MutatePath   = "/mutate-pods"
	ValidatePath = "/validate-workloads"
	BarePodsPath = "/validate-pods" // where MutatePath is not called
	ConfigPath   = "/validate-configuration"
)

// GCPercent is the GOGC of a process that does nothing but serve webhooks: it keeps little, and throws a little away with each
// admission. Collecting that four times less often saves an eighth of its CPU time. Its memory can become five times what it keeps,
// but does not pass GOMEMLIMIT for that, which the chart sets to the container's limit.
const GCPercent = 400

// Options configure a webhook.
type Options struct {
	ConfigFile string        // the webhook's configuration (clusterconfig.Config)
	Drain      time.Duration // how long it goes on answering after SIGTERM, until no more calls come
	Version    string        // for the annotation config.InjectedAnnotation

	Admission net.Listener // of the paths of this package, by TLS; Run closes all three
	Metrics   net.Listener // of /metrics
	Health    net.Listener // of /healthz and /readyz

	// ClientCA is a PEM file of the authorities that sign the certificates of clients; callers without one are refused. Without the
	// file there is no such condition. It is read again when it changes.
	ClientCA string

	// Configuration is the name of the MutatingWebhookConfiguration whose namespaceSelector says which namespaces are injected;
	// without it, or while it does not exist, all that have the label are.
	Configuration string

	// Guard says that there is to be a ValidatingAdmissionPolicy of the name Configuration, with a binding.
	Guard bool

	// ConfigMap is what ConfigFile is mounted from. A change is checked before it is made, and it gets an event when it has changed;
	// without a name neither happens.
	ConfigMap types.NamespacedName

	REST        *rest.Config
	Certificate Certificate
	Log         logr.Logger
}

// A Certificate is the admission server's. Run keeps it until its context ends; Ready is nil while the API server could accept
// what GetCertificate returns.
type Certificate interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Run(context.Context) error
	Ready() error
}

// Run serves until ctx ends or a part fails. At the end it stops being ready, answers on for Options.Drain, finishes what it is
// answering, and only then lets go of what the answers need.
func Run(ctx context.Context, o Options) error {
	defer func() {
		for _, l := range []net.Listener{o.Admission, o.Metrics, o.Health} {
			_ = l.Close()
		}
	}()
	policy, err := loadPolicy(o.ConfigFile, o.Version, o.Log)
	if err != nil {
		return err
	}
	registration := newRegistration(o.Configuration, o.Guard, o.Log)
	informers, metadata, err := watch(o.REST, registration)
	if err != nil {
		return err
	}
	var draining, synced atomic.Bool
	metrics := newMetrics(func() time.Time { return expiry(o.Certificate) })
	metrics.registry.MustRegister(registration)

	group, running := errgroup.WithContext(context.WithoutCancel(ctx))
	running, stop := context.WithCancel(running)
	defer stop()
	events, err := newEvents(running, o.REST, metadata, o.ConfigMap, o.Log)
	if err != nil {
		return err
	}
	policy.reloaded = func(ctx context.Context, wrong error) {
		metrics.reloaded(wrong)
		events.reloaded(ctx, wrong)
	}
	server, err := admissionServer(o, &admission{policy: policy, metadata: metadata, events: events, own: o.ConfigMap}, metrics, &draining)
	if err != nil {
		return err
	}
	server.BaseContext = func(net.Listener) context.Context { return running }

	group.Go(func() error { return informers.Start(running) })
	group.Go(func() error { synced.Store(metadata.wait(running)); return nil })
	group.Go(func() error { return policy.watch(running) })
	group.Go(func() error { return policy.skew.watch(running, o.REST, o.Log) })
	group.Go(func() error { return o.Certificate.Run(running) })
	group.Go(func() error { return share.Serve(running, o.Metrics, metricsHandler(metrics.registry), o.Log) })
	group.Go(func() error {
		return share.Serve(running, o.Health, healthHandler(map[string]healthz.Checker{
			"stopping":    flag(func() bool { return !draining.Load() }, "the webhook was told to stop"),
			"cache":       flag(synced.Load, "the ServiceAccounts, Namespaces and the MutatingWebhookConfiguration have not been read yet"),
			"version":     flag(policy.skew.known.Load, "the API server has not said its version yet"),
			"certificate": explained(o.Log, o.Certificate.Ready),
		}), o.Log)
	})
	serving, stopServing := context.WithCancel(running)
	defer stopServing()
	group.Go(func() error {
		defer stop()
		return share.ServeTLS(serving, server, o.Admission)
	})
	group.Go(func() error {
		defer stopServing()
		drain(ctx, running, &draining, o)
		return nil
	})
	return group.Wait()
}

// drain returns when ctx has ended and no more calls should come, or when running has ended.
func drain(ctx, running context.Context, draining *atomic.Bool, o Options) {
	select {
	case <-running.Done():
		return
	case <-ctx.Done():
	}
	draining.Store(true)
	o.Log.Info("Stopping", "drain", o.Drain)
	select {
	case <-running.Done():
	case <-time.After(o.Drain):
	}
}

func expiry(c Certificate) time.Time {
	current, err := c.GetCertificate(nil)
	if err != nil || current == nil {
		return time.Time{}
	}
	return current.Leaf.NotAfter
}

func metricsHandler(own *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(prometheus.Gatherers{crmetrics.Registry, own}, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return mux
}

func healthHandler(ready map[string]healthz.Checker) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", http.StripPrefix("/healthz", &healthz.Handler{})) // that it answers is all that it says
	mux.Handle("/readyz", http.StripPrefix("/readyz", &healthz.Handler{Checks: ready}))
	return mux
}

func flag(ok func() bool, otherwise string) healthz.Checker {
	return func(*http.Request) error {
		if ok() {
			return nil
		}
		return errors.New(otherwise)
	}
}

// explained logs why a check fails, each time that the reason changes: the answer to a probe withholds it.
func explained(log logr.Logger, check func() error) healthz.Checker {
	var mu sync.Mutex
	last := ""
	return func(*http.Request) error {
		err := check()
		reason := ""
		if err != nil {
			reason = err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		if reason != last && err != nil {
			log.Info("Not ready", "reason", reason)
		}
		last = reason
		return err
	}
}
