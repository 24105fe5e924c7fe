// Package agent fetches a pod's secrets from KMS, renders them into files, and keeps the files fresh.
//
// Init and Run are one path: fetch everything, render everything, remember it, then switch the directory. If anything
// fails on the way the files stay as they were. What is remembered, in a directory private to the agent, is where Run
// starts: the values and the STS session, so that a pod's start costs one STS call and one KMS call for up to 20 distinct
// secrets, or one for each where KMS has no other, and a restarted agent needs neither; and the pauses that STS and KMS asked
// for, so that a restart is no way around them.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	// startLimit is how long the first files may take. Then the container fails, says why, and the kubelet tries again later.
	startLimit = time.Minute
	// heldStartLimit is the same for a start that STS or KMS has told to wait. It is less than the ten minutes of the startup probe, so
	// that the agent's own words are what is left.
	heldStartLimit = 9 * time.Minute
)

// A reader reads one version of a secret. Its errors are *identity.Error, *identity.TokenError, *kms.Error, or ctx's.
type reader interface {
	read(ctx context.Context, ref kms.Ref) (kms.Secret, error)
}

// Agent serves one pod. One goroutine calls its methods.
type Agent struct {
	doc        config.Agent
	reader     *hold
	batches    batches
	rest       func()                   // closes the connections of the calls before; nil: there are none
	sessions   func(*identity.Sessions) // hands over those that are remembered; nil: the identity has none
	role       string                   // for messages
	startLimit time.Duration
	log        *slog.Logger
	hooks      []Hooks
	notifier   *notify.Notifier
	measures   *metrics.Agent
	local      *Secrets // what the local API serves; nil without one
}

// New returns the Agent that doc describes, with the identity that the environment gives. It calls nobody yet.
func New(doc config.Agent, getenv func(string) string, log *slog.Logger, options ...Option) (*Agent, error) {
	a := &Agent{doc: doc, startLimit: startLimit, log: log, notifier: notify.New(log), measures: metrics.New()}
	gateway, err := a.open(getenv)
	if err != nil {
		return nil, err
	}
	a.reader = &hold{reader: gateway}
	router, err := a.router()
	if err != nil {
		return nil, err
	}
	if router.Pod != (notify.Target{}) || len(router.Files) > 0 {
		a.measures.Notified(a.notifier.Counts)
	}
	a.hooks = append(a.hooks, Hooks{
		Attempted: func(written int, err error) {
			a.measures.FilesWritten(written)
			a.measures.Refreshed(result(err), code(err))
		},
		Holds: a.keep,
		Changed: func(ctx context.Context, r Refresh) {
			router.Tell(ctx, notify.Change{Files: r.Files, At: r.At})
		},
	})
	if doc.API != nil {
		a.local = a.Secrets(localSecrets(doc))
	}
	for _, option := range options {
		option(a)
	}
	return a, nil
}

// Init writes the files once. What may pass is tried again for a minute, besides the pauses that the cloud asks for.
func (a *Agent) Init(ctx context.Context) error {
	dirs, err := a.prepare()
	if err != nil {
		return err
	}
	defer dirs.close()
	begun := time.Now()
	r := a.loadRound()
	if before, err := loadSnapshot(a.doc.StateDir); err == nil && len(r.values) == 0 {
		r.snapshot = before // complete: whatever ended the container before, KMS need not be asked again so soon
	}
	held, err := a.start(ctx, dirs, r)
	if err != nil {
		return err
	}
	a.log.Info("the pod has its secrets", "files", len(a.doc.Files), "secrets", len(held.values), "took", time.Since(begun).String())
	return nil
}

// lateError is the end of the time for the first files, in which nothing failed that is somebody's mistake.
type lateError struct{ limit time.Duration }

func (e *lateError) Error() string {
	return fmt.Sprintf("no secrets within %s", e.limit.Round(time.Second/10))
}

// Passing reports whether what ended Init or Run may pass without a change by anybody, so that it makes sense to start again: STS
// or KMS could not be reached, was ill or throttled until the time was over, or the agent was told to end.
func Passing(err error) bool {
	var late *lateError
	return errors.As(err, &late) || errors.Is(err, context.Canceled)
}

// prepare makes ready what both commands need on disk; its caller closes the directories.
func (a *Agent) prepare() (views, error) {
	if err := install(a.doc.Program); err != nil {
		return nil, err
	}
	a.resume()
	return openViews(a.doc)
}

// resume takes over how a process before stood with STS and KMS: its sessions, and the pauses that it was told to make.
func (a *Agent) resume() {
	a.reader.resume(a.doc.StateDir, a.log)
	if a.sessions != nil {
		a.sessions(identity.OpenSessions(a.doc.StateDir, a.log))
	}
}

// start gets the first files, of what r has and what it lacks.
func (a *Agent) start(parent context.Context, dirs views, r round) (snapshot, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	begun, limit := time.Now(), a.startLimit
	end := time.AfterFunc(limit, cancel)
	defer end.Stop()
	var last error
	for attempt := 0; ; attempt++ {
		held, _, err := a.refresh(ctx, dirs, &r)
		if err == nil {
			return held, nil
		}
		if ctx.Err() == nil {
			last = err
			if len(r.values) > 0 {
				a.save(r)
			}
			if !transient(err) {
				return snapshot{}, err
			}
			wait := a.reader.remaining() // which has jitter of its own
			if wait > 0 {
				limit = min(limit+wait, heldStartLimit)
				end.Reset(time.Until(begun.Add(limit)))
				if time.Since(begun)+wait > limit { // the container that starts next goes on with the pause, and not late because of this one
					cancel()
				}
			} else {
				wait = backoff(attempt, 250*time.Millisecond, 10*time.Second)
			}
			a.log.Warn("no secrets yet, trying again", "in", wait.String(), "error", err)
			sleep(ctx, wait)
		}
		switch {
		case parent.Err() != nil:
			return snapshot{}, parent.Err()
		case ctx.Err() != nil:
			if last == nil { // the first attempt was still under way
				last = fmt.Errorf("STS and KMS are slow: they had given %d of %d by then", len(r.values), len(a.refs()))
			}
			return snapshot{}, errors.Join(&lateError{min(limit, time.Since(begun))}, last)
		}
	}
}

// refresh brings the files up to date and returns what they are made of, and the paths that changed. What the round has is not
// fetched again, so that an attempt after a throttled one asks only for the rest.
func (a *Agent) refresh(ctx context.Context, dirs views, r *round) (snapshot, []string, error) {
	held, changed, err := a.attempt(ctx, dirs, r)
	a.attempted(held, len(changed), err)
	return held, changed, err
}

func (a *Agent) attempt(ctx context.Context, dirs views, r *round) (snapshot, []string, error) {
	r.begin(max(r.interval, interval(a.doc)))
	if err := a.fetch(ctx, r.values); err != nil {
		return snapshot{}, nil, err
	}
	held := r.snapshot
	// Complete: whatever comes of it, the next attempt asks anew for all that can be another.
	r.values = held.values.lasting()
	files, err := a.render(held.values)
	if err != nil {
		return snapshot{}, nil, err
	}
	handover.Remove(a.doc.StateDir, roundFile) // for its room
	// First the state: what is remembered is never older than the files.
	if err := held.save(a.doc.StateDir); err != nil {
		return snapshot{}, nil, fmt.Errorf("remember the secrets: %w", err)
	}
	changed, err := a.write(dirs, files)
	return held, changed, err
}

func (a *Agent) write(dirs views, files []volume.File) ([]string, error) {
	changed, err := dirs.write(a.doc, files)
	if err != nil {
		return changed, err
	}
	if len(changed) > 0 {
		a.log.Info("files changed", "files", changed)
	} else {
		a.log.Debug("no file changed")
	}
	return changed, nil
}
