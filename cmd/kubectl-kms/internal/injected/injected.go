// Package injected reads what an injected pod got and asks its agent what it holds.
package injected

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A Pod is a pod that has an agent.
type Pod struct {
	*corev1.Pod
	Agent   agentconfig.Config // what its agent was told
	Version string             // that injected it
	Mode    podconfig.Mode

	containers []corev1.Container // the agent's
}

// Read looks for the agent's containers. Without any, ok is false. The error is about what they were told.
func Read(pod *corev1.Pod) (p Pod, ok bool, err error) {
	p = Pod{Pod: pod, Version: pod.Annotations[podconfig.InjectedAnnotation]}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == agentconfig.InitContainerName || c.Name == agentconfig.ContainerName {
			p.containers = append(p.containers, c)
		}
	}
	if len(p.containers) == 0 {
		return p, false, nil
	}
	switch {
	case len(p.containers) == 2:
		p.Mode = podconfig.ModeSidecar
	case p.containers[0].Name == agentconfig.InitContainerName:
		p.Mode = podconfig.ModeInit
	default:
		p.Mode = podconfig.ModeSingle
	}
	p.Agent, err = agentconfig.Read([]byte(p.env(agentconfig.Env)))
	if err != nil {
		err = fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return p, true, err
}

func (p Pod) env(name string) string {
	for _, e := range p.containers[0].Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// Role returns the RAM role that the agent assumes; "" with other identities than RRSA.
func (p Pod) Role() string { return p.env(config.RoleARNEnv) }

// Provider is RAM's OIDC identity provider, to which the agent shows its token.
func (p Pod) Provider() string { return p.env(config.OIDCProviderARNEnv) }

// Region returns the region in the agent's configuration.
func (p Pod) Region() string { return p.env(config.STSRegionEnv) }

// Secrets returns the names or ARNs of what the agent fetches, each once.
func (p Pod) Secrets() []string {
	var names []string
	for _, f := range p.Agent.Files {
		names = append(names, f.Secrets()...)
	}
	for _, v := range p.Agent.Env {
		names = append(names, v.Secret)
	}
	return once(names)
}

func once(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// Fixed reports whether all that the agent fetches are versions that never change, so that it fetches them once.
func (p Pod) Fixed() bool {
	return len(p.Agent.Env) == 0 && !slices.ContainsFunc(p.Agent.Files, func(f agentconfig.File) bool { return f.VersionID == "" })
}

// Interval returns the time between two refreshes at present, by what the agent says: longer than the pod asks for while STS or KMS refuses
// calls because there are too many.
func (p Pod) Interval(held status.Status) time.Duration {
	return max(time.Duration(p.Agent.RefreshInterval), time.Duration(held.Interval))
}

// Slowed says in words that the pod is refreshed less often than it asks for; "" if it is not.
func (p Pod) Slowed(held status.Status) string {
	asked := time.Duration(p.Agent.RefreshInterval)
	if asked == 0 || p.Interval(held) == asked {
		return ""
	}
	return fmt.Sprintf("fetched every %s instead of every %s, because STS or KMS has refused calls of this account as too many",
		p.Interval(held).Round(time.Second), asked)
}

// Stale reports whether what is held should have been fetched again long since.
func (p Pod) Stale(held status.Status, now time.Time) bool {
	interval := p.Interval(held)
	return p.Sidecar() != "" && p.Agent.RefreshInterval > 0 && !p.Fixed() && now.Sub(held.Fetched) > 2*interval+10*time.Second
}

// Sidecar returns the container that keeps the files fresh; "" without one.
func (p Pod) Sidecar() string {
	if p.Mode == podconfig.ModeInit {
		return ""
	}
	return agentconfig.ContainerName
}

// Status returns the status of a container; false if the kubelet has not reported any yet.
func (p Pod) Status(container string) (corev1.ContainerStatus, bool) {
	all := slices.Concat(p.Pod.Status.InitContainerStatuses, p.Pod.Status.ContainerStatuses)
	i := slices.IndexFunc(all, func(s corev1.ContainerStatus) bool { return s.Name == container })
	if i < 0 {
		return corev1.ContainerStatus{}, false
	}
	return all[i], true
}

// signalled and more are the exit codes of what a signal has ended: of it the kubelet keeps the end of its log, which are no last words.
const signalled = 128

// Failure returns the last words of an agent that cannot start; "" if none has failed since the last that did start.
func (p Pod) Failure() string {
	for _, c := range p.containers {
		s, ok := p.Status(c.Name)
		if !ok || s.State.Running != nil && s.Ready {
			continue
		}
		for _, state := range []corev1.ContainerState{s.State, s.LastTerminationState} {
			t := state.Terminated
			if t == nil {
				continue
			}
			if t.ExitCode != 0 && t.ExitCode < signalled {
				return t.Message
			}
			break
		}
	}
	return ""
}

// ErrSilent says that the agent has not reported its files.
var ErrSilent = errors.New("the agent has not said what it holds")

// Started returns what the init container fetched, from its termination message.
func (p Pod) Started() (status.Status, error) {
	s, _ := p.Status(agentconfig.InitContainerName)
	var held status.Status
	if t := s.State.Terminated; t == nil || t.ExitCode != 0 || json.Unmarshal([]byte(t.Message), &held) != nil {
		return status.Status{}, ErrSilent
	}
	return held, nil
}

// Declared returns the names or ARNs of what a pod asks for, each once.
func Declared(spec podconfig.Spec) []string {
	var names []string
	for _, s := range spec.Secrets {
		names = append(names, s.Names()...)
	}
	for _, v := range spec.Env {
		names = append(names, v.Secret)
	}
	return once(names)
}
