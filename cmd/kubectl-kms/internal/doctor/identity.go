package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

func (e *examination) role() {
	if e.Blind != nil && e.agent != nil { // the account of a role that is named without one is the administrator's to say
		e.verdict.RoleARN = strings.Replace(e.verdict.RoleARN, e.Policy.AccountID, accountOf(e.agent.Role()), 1)
	}
	switch identity := e.verdict.Spec.Identity; {
	case e.verdict.NoRole != nil:
		e.add(Role, Broken, e.verdict.NoRole.Error(), "then make the pod anew")
	case identity.Kind != config.RRSA:
		e.add(Role, Unneeded, "the identity is "+identity.String(), "")
	case e.verdict.RoleARN == "":
		e.add(Role, Unneeded, "not looked for: the annotations come first", "")
	case e.agent != nil && e.agent.Role() != e.verdict.RoleARN:
		e.add(Role, Broken, fmt.Sprintf("the pod assumes %s, but would get %s today", e.agent.Role(), e.verdict.RoleARN), "make the pod anew")
	default:
		e.add(Role, Good, fmt.Sprintf("ServiceAccount %s/%s assumes %s", e.subject.namespace, e.account(), e.verdict.RoleARN), "")
	}
}

// rrsa reports whether there is a pod that shows a token to STS; if not it says so for a link.
func (e *examination) rrsa(link string) bool {
	switch {
	case e.verdict.Spec.Identity.Kind != config.RRSA:
		e.add(link, Unneeded, "the identity is "+e.verdict.Spec.Identity.String(), "")
	case e.agent == nil:
		e.add(link, Unneeded, "there is no injected pod", "")
	default:
		return true
	}
	return false
}

func (e *examination) token() {
	if !e.rrsa(Token) {
		return
	}
	if e.blame(Token) {
		return
	}
	var foreign *corev1.ServiceAccountTokenProjection // which does no harm beside a right one
	for _, v := range e.pod.Spec.Volumes {
		if v.Name != agentconfig.TokenVolume || v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			t := source.ServiceAccountToken
			switch {
			case t == nil:
			case t.Audience != audience:
				foreign = t
			default:
				says := "audience " + t.Audience
				if t.ExpirationSeconds != nil {
					says += fmt.Sprintf(", renewed within %s", time.Duration(*t.ExpirationSeconds)*time.Second)
				}
				e.add(Token, Good, says, "")
				return
			}
		}
	}
	if foreign != nil {
		e.add(Token, Broken, fmt.Sprintf("the volume %s projects a token for the audience %q; RAM takes %s", agentconfig.TokenVolume,
			foreign.Audience, audience),
			"remove that volume from the manifest: the webhook adds the right one")
		return
	}
	e.add(Token, Broken, "the pod has no projected token in a volume "+agentconfig.TokenVolume,
		"remove a volume of that name from the manifest: the webhook adds the right one")
}

// provider compares what the pod shows its token to with what the cluster is, and returns the cluster's issuer.
func (e *examination) provider(ctx context.Context) string {
	issuer, err := e.Client.Issuer(ctx)
	if !e.rrsa(Provider) || e.blame(Provider) {
		return issuer
	}
	arn, policy := e.agent.Provider(), e.Policy
	// ACK: https://oidc-ack-<region>.oss-<region>.aliyuncs.com/<cluster id>, and the provider ack-rrsa-<cluster id>
	cluster := issuer[strings.LastIndex(issuer, "/")+1:]
	switch {
	case e.Blind == nil && arn != policy.OIDCProviderARN:
		e.add(Provider, Broken, fmt.Sprintf("the pod shows its token to %s, but the webhook's configuration says %s", arn,
			policy.OIDCProviderARN),
			"make the pod anew")
	case strings.HasPrefix(issuer, "https://oidc-ack-") && strings.Contains(arn, "/ack-rrsa-") &&
		!strings.HasSuffix(arn, "/ack-rrsa-"+cluster):
		e.add(Provider, Broken, fmt.Sprintf("%s is another cluster's: this one issues tokens as %s", arn, issuer),
			"set clusterID of the webhook's configuration (Helm value) to "+cluster+", then make the pod anew")
	case err != nil:
		e.add(Provider, Unseen, fmt.Sprintf("%s; the cluster's issuer, which must be its, cannot be read: %v", arn, err), "")
	default:
		e.add(Provider, Good, fmt.Sprintf("%s; its issuer in RAM must be %s", arn, issuer), "")
	}
	return issuer
}
