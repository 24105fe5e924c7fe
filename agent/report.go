package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// reportFile has the agent's status, for people and for the process after this one, which goes on with its schedule. There is no value
// in it.
const reportFile = "report.json"

// report is the agent's status as it goes. What notifies changes its notifications at the same time as what refreshes changes the rest.
type report struct {
	sync.Mutex
	status.Status
	unsaid bool // it could not be saved, and that was logged
}

// loadReport goes on with the report of the process before.
func (a *Agent) loadReport() {
	before, _ := Status(a.doc)
	before.Problems = nil
	for i, n := range before.Notifications {
		if !n.Changed.IsZero() && n.Told.IsZero() && n.Failure == "" {
			before.Notifications[i].Failure = "the agent ended before it told the target"
		}
	}
	for _, target := range a.notifier.Targets() {
		if !slices.ContainsFunc(before.Notifications, func(n status.Notification) bool { return n.Target == target }) {
			before.Notifications = append(before.Notifications, status.Notification{Target: target})
		}
	}
	a.report.Status = before
}

// tellAgain notifies the targets that the process before was to notify, and has not. What their files were before is not known any more.
func (a *Agent) tellAgain(ctx context.Context) {
	for _, n := range slices.Clone(a.report.Notifications) {
		if n.Changed.IsZero() || !n.Told.IsZero() {
			continue
		}
		change := notify.Change{At: n.Changed}
		for _, f := range a.doc.Files {
			for _, ref := range refsOf(f) {
				i := slices.IndexFunc(n.Secrets, func(s status.Secret) bool { return s.Name == ref.Name })
				if i >= 0 && a.notifier.Target(f.Path).String() == n.Target {
					change.Files = append(change.Files, notify.File{Path: f.Path, Secret: ref.Name, Version: n.Secrets[i].Version})
				}
			}
		}
		a.tell(ctx, change)
	}
}

// note changes the report, for the next save.
func (r *report) note(change func(*status.Status)) {
	r.Lock()
	defer r.Unlock()
	change(&r.Status)
}

func (a *Agent) saveReport() {
	a.report.Lock()
	defer a.report.Unlock()
	err := handover.Write(a.doc.StateDir, reportFile, a.report.Status)
	if err != nil && !a.report.unsaid {
		a.log.Warn("the agent's status cannot be saved: kms-agent status says what was", logkey.Error, err)
	}
	a.report.unsaid = err != nil
}

// wrote notes that the files are made of held, and that the last attempt to ask for it succeeded if it was asked for.
func (a *Agent) wrote(held snapshot, warnings []string, asked bool) {
	a.report.note(func(s *status.Status) {
		s.Fetched, s.Secrets = time.Time{}, held.secrets(s.Secrets)
		if len(s.Secrets) > 0 { // else there is only the API, which fetches what it is asked for
			s.Fetched = held.At.UTC()
		}
		if len(warnings) > 0 && !slices.Equal(s.Warnings, warnings) {
			a.log.Warn("the next change may fail", logkey.Error, warnings[0])
		}
		if s.Warnings = warnings; asked {
			s.LastError, s.Next = nil, time.Time{}
		}
	})
}

// failed notes an attempt that failed, and when the next is; 0: that is not this process's to say.
func (a *Agent) failed(err error, wait time.Duration) {
	a.report.note(func(s *status.Status) {
		failure := status.Failure{At: time.Now().UTC(), Attempts: 1, Causes: a.Problems(err)}
		if s.LastError != nil {
			failure.Attempts += s.LastError.Attempts
		}
		s.LastError, s.Next = &failure, time.Time{}
		if wait > 0 {
			s.Next = time.Now().Add(wait).UTC()
		}
	})
}

// notified records the result of a notification in the status, or, before the first attempt, that it is due.
func (a *Agent) notified(target config.Target, change notify.Change, attempts int, err error) {
	n := status.Notification{Target: target.String(), Changed: change.At.UTC(), Attempts: attempts}
	for _, f := range change.Files {
		secret := status.Secret{Name: f.Secret, Version: f.Version}
		if !slices.ContainsFunc(n.Secrets, func(s status.Secret) bool { return s.Name == f.Secret && s.Version == f.Version }) {
			n.Secrets = append(n.Secrets, secret)
		}
	}
	switch {
	case err != nil:
		n.Failure = err.Error()
	case attempts > 0:
		n.Told = time.Now().UTC()
	}
	a.report.note(func(s *status.Status) {
		for i := range s.Notifications {
			if s.Notifications[i].Target == n.Target {
				s.Notifications[i] = n
			}
		}
	})
	a.saveReport()
}

// Status reads the status of the pod's agent. The error says that there is none yet, or that it is lost.
func Status(doc agentconfig.Config) (status.Status, error) {
	s := status.Status{Secrets: []status.Secret{}}
	switch err := handover.Read(doc.StateDir, reportFile, &s); {
	case errors.Is(err, fs.ErrNotExist):
		return s, errors.New("no secrets yet: the first attempt is under way")
	case err != nil:
		return status.Status{Secrets: []status.Secret{}}, fmt.Errorf("the agent's status is lost until the next refresh: %w", err)
	}
	return s, nil
}

// secrets are those of the snapshot. What the files had before keeps the time at which they got it.
func (s snapshot) secrets(before []status.Secret) []status.Secret {
	out := []status.Secret{}
	for ref, v := range s.Values {
		secret := status.Secret{Name: ref.Name, RoleARN: ref.RoleARN, Written: time.Now().UTC()}
		if v.absent != nil {
			secret.Version, secret.Absent, secret.Written = ref.VersionID, v.absent.Code, time.Time{}
		} else {
			secret.Version, secret.Stages = v.secret.VersionID, v.secret.Stages
		}
		for _, old := range before {
			if old.Name == secret.Name && old.RoleARN == secret.RoleARN && old.Version == secret.Version && old.Absent == secret.Absent {
				secret.Written = old.Written
			}
		}
		out = append(out, secret)
	}
	// Not slices.SortFunc, which is 15 kB of program for each type that it sorts.
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.RoleARN, b.RoleARN), cmp.Compare(a.Version, b.Version)) < 0
	})
	return out
}

// Probe asks STS and KMS for every secret that the pod declares, and discards the values. It returns the problems, and the names of the
// secrets that it asked KMS for.
func (a *Agent) Probe(ctx context.Context) (problems []status.Problem, asked []string) {
	got, refs := values{}, a.refs()
	problems = a.Problems(a.fetch(ctx, got))
	// A failure of KMS ends a refresh at its first secret; that of the others is what a person wants to know.
	session := !slices.ContainsFunc(problems, func(p status.Problem) bool { return p.Link != status.KMS })
	for _, ref := range refs {
		_, given := got[ref]
		met := slices.ContainsFunc(problems, func(p status.Problem) bool { return p.Secret == ref.Name })
		if !given && !met && session && ctx.Err() == nil {
			v, err := a.ask(ctx, ref)
			if err == nil {
				got[ref] = v
			}
			problems = append(problems, a.Problems(err)...)
			given, met = err == nil, err != nil
		}
		if given || met {
			asked = append(asked, ref.Name)
		}
	}
	if len(problems) == 0 {
		_, err := a.render(got) // says which absent secret the pod cannot do without
		problems = a.Problems(err)
	}
	return problems, asked
}
