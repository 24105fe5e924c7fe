// Package doctor goes through the chain from a namespace's label to a pod's files and names the links that are broken.
package doctor

import (
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// A State is what came of looking at a link.
type State string

// The states.
const (
	Good     State = "ok"
	Broken   State = "broken"
	Unseen   State = "unknown" // it could not be looked at
	Unneeded State = "skipped" // it has no part in this, or an earlier link is broken
)

// The links of the chain, in its order. That of KMS is there once for each secret.
const (
	Namespace   = "namespace"
	Webhook     = "webhook"
	Endpoints   = "endpoints"
	Certificate = "certificate"
	Guard       = "guard"
	Settings    = "configuration" // the webhook's
	Annotations = "annotations"
	Injection   = "injection"
	Pods        = "pods" // of a workload
	Start       = "start"
	Role        = "role"
	Token       = string(status.Token)
	Provider    = string(status.Provider)
	STS         = string(status.STS)
	KMS         = string(status.KMS)
	Files       = string(status.Files)
	OnChange    = "on-change"
)

// A Check is one link.
type Check struct {
	Link   string `json:"link"`
	Secret string `json:"secret,omitempty"` // of KMS
	State  State  `json:"state"`
	Says   string `json:"says"`
	Cure   string `json:"cure,omitempty"` // what to do, if it is broken
}

// A Report is all that was found.
type Report struct {
	Subject string  `json:"subject"`
	Checks  []Check `json:"checks"`
	// The policies that RAM needs for this pod, to paste; empty with identities other than RRSA.
	RoleARN          string `json:"roleArn,omitempty"`
	TrustPolicy      string `json:"trustPolicy,omitempty"`
	PermissionPolicy string `json:"permissionPolicy,omitempty"`
}

// Broken reports whether any link is.
func (r Report) Broken() bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool { return c.State == Broken })
}

// Unseen reports whether any link could not be looked at.
func (r Report) Unseen() bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool { return c.State == Unseen })
}

func (r *Report) add(link string, state State, says, cure string) {
	r.Checks = append(r.Checks, Check{Link: link, State: state, Says: says, Cure: cure})
}

// Text writes the report for people.
func (r Report) Text(s screen.Screen) {
	s.Printf("%s\n\n", s.Strong(r.Subject))
	for _, c := range r.Checks {
		s.Printf("%s %-14s", s.Mark(string(c.State)), c.Link)
		s.Beside(16, screen.Escape(c.Says))
		if c.State == Broken && c.Cure != "" {
			s.Indented(16, s.Strong("→ ")+screen.Escape(c.Cure))
		}
	}
	if r.TrustPolicy == "" {
		return
	}
	s.Printf("\n%s\n%s\n", s.Strong("Trust policy that "+r.RoleARN+" needs:"), r.TrustPolicy)
	s.Printf("\n%s\n%s\n", s.Strong("Permission policy that it needs:"), r.PermissionPolicy)
}
