// Package agent keeps the files of a pod in step with its secrets: it fetches, renders, writes and notifies, once or periodically.
//
// Init and Run share one path: fetch everything, render everything, save the state, then switch the directory. If a step fails, the
// files stay as they were. Run starts from the saved state, in a directory private to the agent. The state has the values and the STS
// session, so that the start of a pod costs one STS call and one KMS call for up to 20 distinct secrets (one each without
// BatchGetSecretValue), and a restart costs none. It also has the pauses that STS and KMS asked for, so that a restart keeps them.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/agent/exec"
	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/localapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const (
	// startLimit bounds the time for the first files. After it the container fails, says why, and the kubelet tries again later.
	startLimit = time.Minute
	// pausedStartLimit is the limit for a start that STS or KMS has told to wait. It is below the ten minutes of the startup probe,
	// so that the pod's status shows the agent's own message.
	pausedStartLimit = 9 * time.Minute
	// sweepAfter is how long a replaced set of files stays for readers that have its directory open.
	sweepAfter = 5 * time.Second
)

// Agent serves one pod. One goroutine calls its methods.
type Agent struct {
	doc        agentconfig.Config
	source     *source.Source
	singly     singly
	local      *localapi.Source // what the local API serves; nil without one
	metrics    *metrics.Agent
	notifier   *notify.Notifier
	tell       func(context.Context, notify.Change)
	report     report
	startLimit time.Duration
	log        *slog.Logger
	failure.Adviser
}

// New returns the Agent that doc describes, which reads from src. It makes no call yet.
func New(doc agentconfig.Config, src *source.Source, m *metrics.Agent, log *slog.Logger) (*Agent, error) {
	a := &Agent{
		doc: doc, source: src, metrics: m, startLimit: startLimit, log: log,
		Adviser: failure.Adviser{Role: src.Role, Host: doc.KMS.Host, Authorities: &failure.Authorities{
			Namespace: doc.Namespace, KMS: doc.KMS.CAConfigMap, STS: doc.STS.CAConfigMap,
		}},
	}
	var err error
	if a.notifier, err = notify.New(log, doc, a.notified); err != nil {
		return nil, err
	}
	a.tell = a.notifier.Tell
	if len(a.notifier.Targets()) > 0 {
		m.Notified(a.notifier.Counts)
	}
	if doc.API != nil {
		a.local = a.localSource()
		m.Cache(a.local.Counts)
	}
	return a, nil
}

// NewLogger writes log lines of the level and format that doc asks for; by default info and above as JSON.
func NewLogger(w io.Writer, doc agentconfig.Config) *slog.Logger {
	var level slog.Level // info
	_ = level.UnmarshalText([]byte(doc.LogLevel))
	options := &slog.HandlerOptions{Level: level}
	if doc.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// Init writes the files once. It retries after transient errors for a minute, not counting the pauses that the cloud asks for.
func (a *Agent) Init(ctx context.Context) error {
	dirs, err := a.prepare()
	if err != nil {
		return err
	}
	defer dirs.close()
	r := a.loadRound()
	if before, err := loadSnapshot(a.doc.StateDir); err == nil && len(r.Values) == 0 {
		r = before // complete: whatever ended the container before, KMS need not be asked again so soon
	}
	_, _, err = a.start(ctx, dirs, r)
	return err
}

// Run keeps the files fresh until ctx ends, which is no error. It starts from the state that Init or an earlier Run saved; without
// one it does Init's work. Once there are files, no failure ends Run or changes them.
func (a *Agent) Run(ctx context.Context) error {
	dirs, err := a.prepare()
	if err != nil {
		return err
	}
	defer dirs.close()

	a.tellAgain(ctx)
	written := dirs.written()
	held, err := a.takeOver(ctx, dirs)
	if err != nil {
		var changed []string
		if held, changed, err = a.start(ctx, dirs, a.loadRound()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if written { // the application has read the files before
			a.changed(ctx, nil, held, changed)
		}
	}
	a.giveBack()
	group, ctx := errgroup.WithContext(ctx)
	if err := a.serve(ctx, group, dirs); err != nil {
		return err
	}
	group.Go(func() error {
		a.stayFresh(ctx, dirs, held)
		return nil
	})
	defer a.notifier.Wait()
	return group.Wait()
}

// prepare installs the program, loads the sessions, pauses and status of the process before, and opens the directories, which the caller
// closes.
func (a *Agent) prepare() (views, error) {
	if err := exec.Install(a.doc.Program); err != nil {
		return nil, err
	}
	a.source.Resume(a.doc.StateDir, a.log)
	a.loadReport()
	return openViews(a.doc)
}

// lateError says that the time for the first files is over, after transient errors only.
type lateError struct{ limit time.Duration }

func (e *lateError) Error() string {
	return fmt.Sprintf("no secrets within %s", e.limit.Round(time.Second/10))
}

// Passing reports whether a restart may succeed after err ended Init or Run, without any other change: STS or KMS was unreachable,
// failed or throttled until the time was over, or the agent was told to end.
func Passing(err error) bool {
	_, late := errors.AsType[*lateError](err)
	return late || errors.Is(err, context.Canceled)
}

// start writes the first files, and returns those that changed. It fetches the secrets that r lacks.
func (a *Agent) start(parent context.Context, dirs views, r snapshot) (snapshot, []string, error) {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	begun, limit := time.Now(), a.startLimit
	end := time.AfterFunc(limit, cancel)
	defer end.Stop()
	var last error
	for attempt := 0; ; attempt++ {
		held, changed, err := a.refresh(ctx, dirs, &r)
		if err == nil {
			a.saveReport()
			a.log.Info("secrets ready", logkey.Files, len(a.doc.Files), logkey.Secrets, len(held.Values), logkey.Took, time.Since(begun).String())
			return held, changed, nil
		}
		if ctx.Err() == nil {
			last = err
			if len(r.Values) > 0 {
				a.keep(r)
			}
			if !failure.Transient(err) {
				a.failed(err, 0)
				a.saveReport()
				return snapshot{}, nil, err
			}
			wait := a.source.Remaining() // which has jitter of its own
			if wait > 0 {
				limit = min(limit+wait, pausedStartLimit)
				end.Reset(time.Until(begun.Add(limit)))
				if time.Since(begun)+wait > limit { // the container that starts next goes on with the pause, and not late because of this one
					cancel()
				}
			} else {
				wait = pause.UpTo(pause.Doubled(250*time.Millisecond, attempt, 10*time.Second))
			}
			a.failed(err, wait)
			a.saveReport()
			a.log.Warn("no secrets yet, trying again", logkey.In, wait.String(), logkey.Error, a.Explain(err))
			pause.Sleep(ctx, wait)
		}
		switch {
		case parent.Err() != nil:
			return snapshot{}, nil, parent.Err()
		case ctx.Err() != nil:
			if last == nil { // the first attempt was still under way
				last = fmt.Errorf("STS and KMS are slow: they had given %d of %d by then", len(r.Values), len(a.refs()))
			}
			return snapshot{}, nil, errors.Join(&lateError{min(limit, time.Since(begun))}, last)
		}
	}
}

// takeOver writes the files from the saved state, without a call.
func (a *Agent) takeOver(ctx context.Context, dirs views) (snapshot, error) {
	held, err := loadSnapshot(a.doc.StateDir)
	if err == nil && len(a.missing(held.Values)) > 0 {
		err = errors.New("it is not about the secrets that this pod asks for")
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			a.log.Info("nothing remembered: fetching")
		} else {
			a.log.Warn("what is remembered cannot be used: fetching", logkey.Error, err)
		}
		return snapshot{}, err
	}
	files, err := a.render(held.Values)
	if err != nil {
		a.log.Warn("what is remembered cannot be rendered: fetching", logkey.Error, err)
		return snapshot{}, err
	}
	written := dirs.written()
	changed, err := a.write(dirs, files, held, false)
	if err != nil {
		a.failed(err, time.Until(a.report.Next))
		a.log.Error("files could not be restored", logkey.Error, a.Explain(err))
	}
	a.saveReport()
	if written {
		a.changed(ctx, nil, held, changed)
	}
	a.publish(held)
	a.log.Info("took over without a call", logkey.Fetched, held.At)
	return held, nil
}

// stayFresh refreshes until ctx ends, if there is anything that can change.
func (a *Agent) stayFresh(ctx context.Context, dirs views, held snapshot) {
	switch {
	case a.doc.RefreshInterval == 0:
		a.log.Info("refresh-interval is 0: the files stay as they are")
		<-ctx.Done()
	case len(held.Values.lasting()) == len(held.Values):
		a.log.Info("there is no secret that can change: the files stay as they are")
		<-ctx.Done()
	default:
		a.loop(ctx, dirs, held)
	}
}

func (a *Agent) loop(ctx context.Context, dirs views, held snapshot) {
	r := a.loadRound()
	if len(r.Values) == 0 {
		r.Values = held.Values.lasting()
	}
	s := newSchedule(a.doc, time.Duration(a.report.Interval))
	wait := s.first(held, a.report.Next, time.Now())
	a.plan(s.interval, wait)
	due := time.NewTimer(wait)
	defer due.Stop()
	var sweep <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep:
			if err := dirs.sweep(); err != nil {
				a.log.Warn("replaced files could not be removed yet", logkey.Error, err)
			}
			sweep = nil
			continue
		case <-due.C:
		}
		before := r.Got
		next, changed, err := a.refresh(ctx, dirs, &r)
		if len(changed) > 0 {
			sweep = time.After(sweepAfter)
		}
		switch {
		case ctx.Err() != nil:
			if err != nil { // the attempt was cut short
				a.keep(r)
			}
			a.saveReport()
			a.changed(ctx, held.Values, next, changed)
			return
		case err != nil:
			if r.Got.After(before) { // the rest may come soon
				s.failures = min(s.failures, 1)
			}
			wait = s.failed(a.source.Remaining(), failure.Throttled(err))
			a.failed(err, wait)
			a.keep(r)
			a.plan(s.interval, wait) // before the log, so that what the log says is in the status
			about := []any{logkey.Attempt, s.failures, logkey.In, wait.String(), logkey.Interval, s.interval.String(), logkey.Fetched, held.At,
				logkey.Error, a.Explain(err)}
			if len(changed) > 0 { // those of some directories have been written
				a.changed(ctx, held.Values, next, changed)
				a.log.Error("refresh failed, and not all files are new", about...)
			} else {
				a.log.Error("refresh failed, the files stay as they are", about...)
			}
		default:
			if s.failures > 0 {
				a.log.Info("refreshed again", logkey.Failures, s.failures, logkey.Interval, s.interval.String())
			} else {
				a.log.Debug("refreshed")
			}
			a.changed(ctx, held.Values, next, changed)
			held = next
			wait = s.succeeded(held, time.Now())
			a.plan(s.interval, wait)
		}
		due.Reset(wait)
		a.giveBack()
	}
}

// plan saves the report, with the time of the next fetch and the present interval.
func (a *Agent) plan(interval, wait time.Duration) {
	a.metrics.RefreshEvery(interval)
	a.report.note(func(s *status.Status) { s.Interval, s.Next = config.Duration(interval), time.Now().Add(wait).UTC() })
	a.saveReport()
}

// giveBack returns the memory of a refresh to the system: the next one is minutes away, and an agent is in every pod.
func (a *Agent) giveBack() {
	a.source.CloseIdleConnections() // a connection has 50 kB of buffers and stacks
	debug.FreeOSMemory()
}

// refresh brings the files up to date. It returns the values in them and the paths that changed. It does not fetch again what the
// round already has, so that an attempt after a throttled one asks only for the rest.
func (a *Agent) refresh(ctx context.Context, dirs views, r *snapshot) (snapshot, []string, error) {
	held, changed, err := a.attempt(ctx, dirs, r)
	a.metrics.FilesWritten(len(changed))
	a.metrics.Refreshed(err == nil, failure.Code(err))
	if err == nil {
		a.publish(held)
	}
	return held, changed, err
}

func (a *Agent) attempt(ctx context.Context, dirs views, r *snapshot) (snapshot, []string, error) {
	r.begin(max(time.Duration(a.report.Interval), interval(a.doc)))
	had := len(r.Values)
	err := a.fetch(ctx, r.Values)
	if len(r.Values) > had {
		r.Got = time.Now()
	}
	if err != nil {
		return snapshot{}, nil, err
	}
	held := snapshot{At: r.At, Values: r.Values}
	// The round is complete: the next attempt fetches again every secret that can change, even if a later step fails.
	r.Values = held.Values.lasting()
	files, err := a.render(held.Values)
	if err != nil {
		return snapshot{}, nil, err
	}
	handover.Remove(a.doc.StateDir, roundFile) // for its room
	// The state goes first, so that it is never older than the files.
	if err := held.save(a.doc.StateDir); err != nil {
		return snapshot{}, nil, fmt.Errorf("remember the secrets: %w", err)
	}
	changed, err := a.write(dirs, files, held, true)
	return held, changed, err
}

// write renders held and writes the files. Asked says whether held was just fetched from KMS.
func (a *Agent) write(dirs views, files []volume.File, held snapshot, asked bool) ([]string, error) {
	changed, crowded, err := dirs.write(a.doc, files)
	if err != nil {
		return changed, err
	}
	a.wrote(held, crowded, asked)
	if len(changed) > 0 {
		a.log.Info("files changed", logkey.Files, changed)
	} else {
		a.log.Debug("no file changed")
	}
	return changed, nil
}
