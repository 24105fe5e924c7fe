// Package admission warns, when ExternalSecrets and stores are applied, of what the controller will refuse: it is the controller's own
// check. It refuses nothing, and asks neither the cluster nor the cloud.
//
// It is a process of its own, without the controller's rights: every pod of the network can call what listens.
package admission

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	"github.com/kms-agent-injector/kms-agent-injector/webhook/certificate"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// Names in the chart: of the Service by which the API server calls, with which the names of the certificates' Secrets begin, of the
// ValidatingWebhookConfiguration, and the path in it.
const (
	service       = "kms-sync-admission"
	configuration = "kms-sync"
	path          = "/warn"
)

// Options are the settings of the process.
type Options struct {
	Namespace         string
	Admission, Health net.Listener  // of the webhook, and of /healthz and /readyz; Run closes both
	Drain             time.Duration // how long it goes on answering when it is told to stop, until no more calls come
	REST              *rest.Config
	Log               logr.Logger
}

// Run answers, and keeps the certificate and the API server's trust in it, until ctx ends.
func Run(ctx context.Context, o Options) error {
	defer o.Admission.Close()
	defer o.Health.Close()
	where := certificate.Options{
		REST: o.REST, Namespace: o.Namespace, Service: service, Configuration: configuration, ValidatingOnly: true, Log: o.Log,
	}
	keeper, err := certificate.NewSelfSigned(where)
	if err != nil {
		return err
	}
	source, err := certificate.NewSecret(where)
	if err != nil {
		return err
	}
	var draining atomic.Bool
	server := share.NewServer(handler(o.Log, &draining), o.Log)
	server.TLSConfig = &tls.Config{GetCertificate: source.GetCertificate, MinVersion: tls.VersionTLS12}

	last, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		draining.Store(true)
		time.AfterFunc(o.Drain, stop)
	})()
	group, running := errgroup.WithContext(last)
	for _, run := range []func() error{
		func() error { return keeper.Run(running) },
		func() error { return source.Run(running) },
		func() error { return share.ServeTLS(running, server, o.Admission) },
		func() error { return share.Serve(running, o.Health, health(&draining, source.Ready), o.Log) },
	} {
		group.Go(run)
	}
	return group.Wait()
}

// health is ready while the API server trusts the certificate.
func health(draining *atomic.Bool, ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", http.StripPrefix("/healthz", &healthz.Handler{}))
	mux.Handle("/readyz", http.StripPrefix("/readyz", &healthz.Handler{Checks: map[string]healthz.Checker{
		"certificate": func(*http.Request) error { return ready() },
		"stopping": func(*http.Request) error {
			if draining.Load() {
				return fmt.Errorf("the process was told to stop")
			}
			return nil
		},
	}}))
	return mux
}
