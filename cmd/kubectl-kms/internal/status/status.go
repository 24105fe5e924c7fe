// Package status lists the injected pods: as whom they read which secrets, in which version, and how fresh.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// The states of a pod's secrets.
const (
	Fresh    = "fresh"    // fetched no longer ago than they should
	Slowed   = "slowed"   // fetched less often than asked for; Problem says why
	Stale    = "stale"    // not fetched again although they should have been
	AtStart  = "at start" // fetched once, and meant to stay as they are
	Starting = "starting" // not fetched yet
	Failing  = "failing"  // the agent cannot start; Problem says why
	Unknown  = "unknown"  // nobody says; Problem says why
)

// A Pod is what is known about one injected pod.
type Pod struct {
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Injected  string          `json:"injected"` // the injector's version
	Mode      string          `json:"mode"`
	Identity  string          `json:"identity"`
	RoleARN   string          `json:"roleArn,omitempty"`
	Refresh   string          `json:"refreshInterval"` // at present
	API       string          `json:"api,omitempty"`   // where the local API is
	State     string          `json:"state"`
	Problem   string          `json:"problem,omitempty"`
	Fetched   time.Time       `json:"fetched,omitzero"`
	Next      time.Time       `json:"next,omitzero"` // when the agent asks for them again
	Secrets   []status.Secret `json:"secrets"`       // without versions if the agent does not say which
}

// parallel is how many agents are asked at a time.
const parallel = 8

// Of asks the agents of those of the pods that are injected.
func Of(ctx context.Context, asker injected.Asker, pods []corev1.Pod, now time.Time) []Pod {
	found := make([]*Pod, len(pods))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range pods {
		p, ok, err := injected.Read(&pods[i])
		if !ok {
			continue
		}
		group.Go(func() error {
			found[i] = describe(p)
			found[i].ask(ctx, asker, p, err, now)
			return nil
		})
	}
	_ = group.Wait() // what fails is said of its pod
	out := []Pod{}
	for _, p := range found {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

func describe(p injected.Pod) *Pod {
	out := &Pod{Namespace: p.Namespace, Name: p.Name, Injected: p.Version, Mode: string(p.Mode), Identity: p.Agent.Identity.String(),
		RoleARN: p.Role(), Refresh: time.Duration(p.Agent.RefreshInterval).String(), Secrets: []status.Secret{}}
	for _, name := range p.Secrets() {
		out.Secrets = append(out.Secrets, status.Secret{Name: name})
	}
	if api := p.Agent.API; api != nil {
		out.API = cmp.Or(api.Socket, "127.0.0.1:"+strconv.Itoa(api.Port))
	}
	return out
}

// ask fills in what the agent says, unless it could not even be read what it was told.
func (o *Pod) ask(ctx context.Context, asker injected.Asker, p injected.Pod, unread error, now time.Time) {
	if unread != nil {
		o.State, o.Problem = Unknown, unread.Error()
		return
	}
	held, err := p.Started()
	if p.Sidecar() != "" {
		held, err = asker.Ask(ctx, p, false)
	}
	switch failure := p.Failure(); {
	case failure != "":
		o.State, o.Problem = Failing, failure
	case errors.Is(err, injected.ErrSilent) && p.Pod.Status.Phase == corev1.PodPending:
		o.State = Starting
	case err != nil:
		o.State, o.Problem = Unknown, err.Error()
	case held.Fetched.IsZero() && len(o.Secrets) == 0:
		o.State = Fresh // nothing but the API, which fetches what it is asked for
	case held.Fetched.IsZero():
		o.State, o.Problem = Starting, strings.Join(held.Problems, "\n")
	default:
		o.Fetched, o.Next, o.Secrets = held.Fetched, held.Next, held.Secrets
		o.Refresh, o.Problem = p.Interval(held).String(), p.Slowed(held)
		switch {
		case p.Stale(held, now):
			o.State = Stale
		case o.Problem != "":
			o.State = Slowed
		case p.Sidecar() == "" || p.Agent.RefreshInterval == 0 || p.Fixed():
			o.State = AtStart
		default:
			o.State = Fresh
		}
	}
}

// Table writes the pods for people; wide with everything.
func Table(s screen.Screen, pods []Pod, namespaces, wide bool, now time.Time) {
	if len(pods) == 0 {
		return
	}
	header := []string{"POD", "INJECTED", "MODE", "ROLE", "API", "STATE", "FETCHED", "SECRETS"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	if wide {
		header = slices.Insert(header, len(header)-1, "REFRESH")
	}
	t := screen.Table{Header: header}
	for _, p := range pods {
		row := []string{p.Name, p.Injected, p.Mode, role(p, wide), cmp.Or(p.API, "–"), p.State, age(p.Fetched, now), secrets(p)}
		if namespaces {
			row = append([]string{p.Namespace}, row...)
		}
		if wide {
			row = slices.Insert(row, len(row)-1, p.Refresh)
		}
		t.Add(row...)
	}
	s.Table(t)
	problems(s, pods)
}

// problems writes what is wrong, each once with all the pods that have it.
func problems(s screen.Screen, pods []Pod) {
	for i, p := range pods {
		alike := func(other Pod) bool { return other.State == p.State && other.Problem == p.Problem }
		if p.Problem == "" || slices.ContainsFunc(pods[:i], alike) {
			continue
		}
		title, more := p.Namespace+"/"+p.Name+" is "+p.State, -1
		for _, other := range pods[i:] {
			if alike(other) {
				more++
			}
		}
		if more > 0 {
			title += fmt.Sprintf(", and so are %d more", more)
		}
		s.Printf("\n%s\n", s.Strong(title+":"))
		s.Indented(2, screen.Escape(p.Problem))
	}
}

func role(p Pod, wide bool) string {
	switch _, name, found := strings.Cut(p.RoleARN, ":role/"); {
	case p.RoleARN == "":
		return p.Identity
	case wide || !found:
		return p.RoleARN
	default:
		return name
	}
}

func age(at, now time.Time) string {
	if at.IsZero() {
		return "–"
	}
	return duration.HumanDuration(now.Sub(at)) + " ago"
}

func secrets(p Pod) string {
	var out []string
	for _, s := range p.Secrets {
		switch {
		case s.Absent != "":
			out = append(out, s.Name+" (absent)")
		case s.Version != "":
			out = append(out, s.Name+"@"+s.Version)
		default:
			out = append(out, s.Name)
		}
	}
	return cmp.Or(strings.Join(out, " "), "–")
}
