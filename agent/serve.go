package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// localSize is how many values the local API keeps, the KMS Agent's own limit.
const localSize = 1000

// localSecrets are the local API's settings: a value stays good until the second refresh after it, so that what the files are
// made of is not fetched for the API once more; without refreshes, for a day.
func localSecrets(doc config.Agent) SecretsConfig {
	return SecretsConfig{TTL: cmp.Or(2*interval(doc), 24*time.Hour), Size: localSize, Stale: true}
}

// keep hands what is held on to the local API and to the metrics.
func (a *Agent) keep(fetched time.Time, secrets map[kms.Ref]kms.Secret) {
	for ref, secret := range secrets {
		a.measures.Fetched(ref.Name, fetched)
		if a.local != nil && ref.RoleARN == "" { // the API reads as the pod itself
			a.local.Put(ref, secret)
		}
	}
}

// serve answers on the local API and on the metrics port until ctx ends.
func (a *Agent) serve(ctx context.Context, group *errgroup.Group) error {
	if a.doc.API != nil {
		serveAPI, err := a.listenAPI(ctx)
		if err != nil {
			return fmt.Errorf("the local API: %w", err)
		}
		group.Go(serveAPI)
	}
	if a.doc.MetricsPort == 0 {
		return nil
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", ":"+strconv.Itoa(max(0, a.doc.MetricsPort)))
	if err != nil {
		return fmt.Errorf("the metrics: %w", err)
	}
	a.log.Info("the metrics are there", "address", listener.Addr().String())
	if a.local != nil {
		a.measures.Cache(a.local.Counts)
	}
	handler := a.measures.Handler(func() error { return Ready(ctx, a.doc) })
	group.Go(func() error { return metrics.Serve(ctx, listener, handler) })
	return nil
}

func (a *Agent) listenAPI(ctx context.Context) (func() error, error) {
	api := a.doc.API
	token, err := httpapi.KeepToken(api.TokenFile)
	if err != nil {
		return nil, err
	}
	allow := append([]string(nil), api.Allow...)
	for _, f := range a.declared() {
		if f.RoleARN == "" {
			allow = append(allow, f.Secrets()...)
		}
	}
	server, err := httpapi.New(httpapi.Config{Source: a.local, Token: token, Allow: allow, Log: a.log})
	if err != nil {
		return nil, err
	}
	listener, err := httpapi.Listen(ctx, httpapi.Address(api.Port, api.Socket))
	if err != nil {
		return nil, err
	}
	a.log.Info("the local API is there", "address", listener.Addr().String())
	return func() error { return server.Serve(ctx, listener) }, nil
}

// router says who hears of which file's changes.
func (a *Agent) router() (notify.Router, error) {
	router := notify.Router{Notifier: a.notifier, Files: map[string]notify.Target{}}
	var err error
	if a.doc.OnChange != "" {
		if router.Pod, err = notify.Parse(a.doc.OnChange); err != nil {
			return router, fmt.Errorf("onChange: %w", err)
		}
	}
	for _, f := range a.doc.Files {
		if f.OnChange == "" {
			continue
		}
		if router.Files[f.Path], err = notify.Parse(f.OnChange); err != nil {
			return router, fmt.Errorf("file %s: onChange: %w", f.Path, err)
		}
	}
	return router, nil
}

// Ready returns nil once the files are there, if there are to be any, and the local API answers, if there is to be one.
func Ready(ctx context.Context, doc config.Agent) error {
	dirs, err := openViews(doc)
	if err != nil {
		return err
	}
	defer dirs.close()
	if doc.Writes() && !dirs.written() {
		return errors.New("no files yet")
	}
	if doc.API == nil {
		return nil
	}
	return httpapi.Client{Address: httpapi.Address(doc.API.Port, doc.API.Socket)}.Ping(ctx)
}
