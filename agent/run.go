package agent

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"
)

// sweepAfter is how long a replaced set of files stays for readers that are just walking through it.
const sweepAfter = 5 * time.Second

// Run keeps the files fresh until ctx ends, which is no error. It starts from what Init, or a Run before, remembered; if
// there is nothing it does Init's work. Once there are files, nothing that fails ends it or touches them.
func (a *Agent) Run(ctx context.Context) error {
	dirs, err := a.prepare()
	if err != nil {
		return err
	}
	defer dirs.close()

	held, err := a.takeOver(ctx, dirs)
	if err != nil {
		if held, err = a.start(ctx, dirs, a.loadRound()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	a.giveBack()
	group, ctx := errgroup.WithContext(ctx)
	if err := a.serve(ctx, group); err != nil {
		return err
	}
	group.Go(func() error {
		a.stayFresh(ctx, dirs, held)
		return nil
	})
	defer a.notifier.Wait()
	return group.Wait()
}

// stayFresh refreshes until ctx ends, if there is anything that can change.
func (a *Agent) stayFresh(ctx context.Context, dirs views, held snapshot) {
	switch {
	case a.doc.RefreshInterval == 0:
		a.log.Info("refresh-interval is 0: the files stay as they are")
		<-ctx.Done()
	case len(held.values.lasting()) == len(held.values):
		a.log.Info("there is no secret that can change: the files stay as they are")
		<-ctx.Done()
	default:
		a.loop(ctx, dirs, held)
	}
}

// takeOver makes the files of what is remembered, without a call to anybody.
func (a *Agent) takeOver(ctx context.Context, dirs views) (snapshot, error) {
	held, err := loadSnapshot(a.doc.StateDir)
	if err == nil && !held.covers(a.refs()) {
		err = errors.New("it is not about the secrets that this pod asks for")
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			a.log.Info("nothing remembered: fetching")
		} else {
			a.log.Warn("what is remembered cannot be used: fetching", "error", err)
		}
		return snapshot{}, err
	}
	files, err := a.render(held.values)
	if err != nil {
		a.log.Warn("what is remembered cannot be rendered: fetching", "error", err)
		return snapshot{}, err
	}
	written := dirs.written()
	changed, err := a.write(dirs, files)
	if err != nil {
		a.log.Error("files could not be restored", "error", a.Explain(err))
	}
	if written {
		a.changed(ctx, nil, held, changed)
	}
	a.holds(held)
	a.log.Info("took over without a call", "fetched", held.at)
	return held, nil
}

func (a *Agent) loop(ctx context.Context, dirs views, held snapshot) {
	r := a.loadRound()
	if len(r.values) == 0 {
		r.values = held.values.lasting()
	}
	s := newSchedule(a.doc, r)
	a.plan(&s, &r, s.first(held, r.next, time.Now()))
	due := time.NewTimer(time.Until(r.next))
	defer due.Stop()
	var sweep <-chan time.Time
	var paths []string // that changed since Changed was last called: an attempt may fail after it wrote
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep:
			if err := dirs.sweep(); err != nil {
				a.log.Warn("replaced files could not be removed yet", "error", err)
			}
			sweep = nil
			continue
		case <-due.C:
		}
		next, changed, err := a.refresh(ctx, dirs, &r)
		paths = append(paths, changed...)
		if len(changed) > 0 {
			sweep = time.After(sweepAfter)
		}
		switch {
		case ctx.Err() != nil:
			if err != nil { // the attempt was cut short
				a.save(r)
			}
			return
		case err != nil:
			wait := s.failed(a.reader.remaining(), throttled(err))
			a.plan(&s, &r, wait)
			a.log.Error("refresh failed, the files stay as they are", "attempt", s.failures, "in", wait.String(),
				"interval", s.interval.String(), "fetched", held.at, "error", a.Explain(err))
		default:
			if s.failures > 0 {
				a.log.Info("refreshed again", "failures", s.failures, "interval", s.interval.String())
			} else {
				a.log.Debug("refreshed")
			}
			a.changed(ctx, held.values, next, paths)
			held, paths = next, nil
			a.plan(&s, &r, s.succeeded(held, time.Now()))
		}
		due.Reset(time.Until(r.next))
		a.giveBack()
	}
}

// plan notes when the secrets are asked for next, and how often at present, for the process after this one and for people.
func (a *Agent) plan(s *schedule, r *round, wait time.Duration) {
	r.interval, r.next = s.interval, time.Now().Add(wait)
	a.measures.RefreshEvery(s.interval)
	a.save(*r)
}
