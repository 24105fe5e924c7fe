package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/localapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

var errNoFiles = errors.New("no files yet")

// localSource returns what the local API serves. A value stays good until the second refresh after it, so that what the files are
// made of is not fetched for the API once more; without refreshes, for a day.
func (a *Agent) localSource() *localapi.Source {
	return localapi.New(localapi.Config{
		Read: a.source.Read, Who: a.Adviser, TTL: cmp.Or(2*interval(a.doc), 24*time.Hour), Size: localapi.MostValues, Stale: true, Log: a.log,
	})
}

// serve answers on the local API and on the metrics port until ctx ends.
func (a *Agent) serve(ctx context.Context, group *errgroup.Group, dirs views) error {
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
	a.log.Info("metrics listening", logkey.Address, listener.Addr().String())
	handler := a.metrics.Handler(func() error { // the local API is listening already
		if a.doc.Writes() && !dirs.written() {
			return errNoFiles
		}
		return nil
	})
	group.Go(func() error { return metrics.Serve(ctx, listener, handler) })
	return nil
}

func (a *Agent) listenAPI(ctx context.Context) (func() error, error) {
	api := a.doc.API
	token, err := httpapi.KeepToken(api.TokenFile)
	if err != nil {
		return nil, err
	}
	allow := slices.Clone(api.Allow)
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
	a.log.Info("local API listening", logkey.Address, listener.Addr().String())
	return func() error { return server.Serve(ctx, listener) }, nil
}

// readyInterval is short beside the start of a container, which waits for it, and long beside a look at the files.
const readyInterval = 25 * time.Millisecond

// Ready returns nil once the files are there, if there are to be any, and the local API answers, if there is to be one. It is for
// another process than the agent's.
func Ready(ctx context.Context, doc agentconfig.Config) error {
	dirs, err := openViews(doc)
	if err != nil {
		return err
	}
	defer dirs.close()
	if doc.Writes() && !dirs.written() {
		return errNoFiles
	}
	if doc.API == nil {
		return nil
	}
	return httpapi.Client{Address: httpapi.Address(doc.API.Port, doc.API.Socket)}.Ping(ctx)
}

// WaitReady returns when Ready does, or when ctx ends, with what was not ready then.
func WaitReady(ctx context.Context, doc agentconfig.Config) error {
	for {
		err := Ready(ctx, doc)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause.Sleep(ctx, readyInterval)
	}
}

// publish hands what is held on to the local API and to the metrics.
func (a *Agent) publish(held snapshot) {
	for ref, v := range held.Values {
		if v.absent != nil {
			continue
		}
		a.metrics.Fetched(ref.Name, held.At)
		if a.local != nil && ref.RoleARN == "" { // the API reads as the pod itself
			a.local.Put(ref, v.secret, held.At)
		}
	}
}

// changed logs and tells which secrets have another version and which files another content; paths are those of the files. Without
// before it is not known what there was.
func (a *Agent) changed(ctx context.Context, before values, now snapshot, paths []string) {
	var others []kms.Ref
	for ref, v := range now.Values {
		if old, known := before[ref]; known && old.secret.VersionID != v.secret.VersionID {
			others = append(others, ref)
		}
	}
	sort.Slice(others, func(i, j int) bool { return others[i].String() < others[j].String() })
	for _, ref := range others {
		a.log.Info("secret has another version", logkey.Secret, ref.String(),
			logkey.Version, now.Values[ref].secret.VersionID, logkey.Before, before[ref].secret.VersionID)
	}
	if files := a.filesChanged(before, now.Values, paths); len(files) > 0 {
		a.tell(ctx, notify.Change{Files: files, At: now.At})
	}
}

// filesChanged adds to paths which of their secrets changed them.
func (a *Agent) filesChanged(before, now values, paths []string) []notify.File {
	var all []notify.File
	for _, f := range a.doc.Files {
		if !slices.Contains(paths, f.Path) {
			continue
		}
		first := len(all)
		for _, ref := range refsOf(f) {
			file := notify.File{
				Path: f.Path, Secret: ref.Name, Version: now[ref].secret.VersionID, PreviousVersion: before[ref].secret.VersionID,
			}
			if file.Version != file.PreviousVersion {
				all = append(all, file)
			}
		}
		if len(all) == first { // the versions are the same, but the file was another, or gone
			ref := refsOf(f)[0]
			version := now[ref].secret.VersionID
			all = append(all, notify.File{Path: f.Path, Secret: ref.Name, Version: version, PreviousVersion: version})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return all
}
