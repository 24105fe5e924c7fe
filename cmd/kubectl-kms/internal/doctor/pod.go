package doctor

import (
	"cmp"
	"context"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

func (e *examination) annotations(ctx context.Context) error {
	v, err := e.Decide(ctx, e.subject.namespace, e.template)
	if err != nil {
		return err
	}
	e.verdict = v
	var mistakes config.Mistakes
	for _, m := range v.Mistakes {
		if e.pod != nil && (m.Where == "container "+agentconfig.InitContainerName || m.Where == "container "+agentconfig.ContainerName) {
			e.other = append(e.other, m)
		} else {
			mistakes = append(mistakes, m)
		}
	}
	switch {
	case len(mistakes) > 0:
		e.add(Annotations, Broken, mistakes.Error(), "change them in the manifest; kubectl kms explain shows what they may be")
	case !v.Asked:
		e.add(Annotations, Broken, "the pod does not ask to be injected",
			fmt.Sprintf(`annotate the pod template with %sinject: "true" and %ssecret.<file>: <KMS secret>`, podconfig.Prefix, podconfig.Prefix))
	case e.Blind != nil:
		e.add(Annotations, Good, "are right (the administrator's policy could not be read: "+e.Blind.Error()+")", "")
	default:
		e.add(Annotations, Good, "are right, and allowed by the administrator's policy", "")
	}
	return nil
}

func (e *examination) injection() {
	if e.pod == nil {
		says := "there is no pod yet"
		if e.refusal != "" {
			says = "no pod can be made: " + e.refusal
		}
		e.add(Injection, Broken, says, "the link that is broken above or below says why; once it is mended, pods come by themselves within "+
			"minutes")
		return
	}
	agent, ok, err := injected.Read(e.pod)
	switch {
	case !ok && e.verdict.Asked:
		e.add(Injection, Broken, "the pod has no agent: it was made while the webhook was not called for it",
			"once the links above are whole, delete the pod, so that it is made anew")
	case !ok:
		e.add(Injection, Unneeded, "the pod has no agent, and asks for none", "")
	case err == nil && len(e.other) > 0:
		e.agent = &agent
		e.add(Injection, Broken, e.other.Error(), "make the pod anew: its agent was injected under another configuration, or not by the webhook")
	case err != nil:
		e.add(Injection, Broken, err.Error(), "use the plugin of the webhook's version, and agent images of it too")
	default:
		e.agent = &agent
		e.add(Injection, Good, fmt.Sprintf("injected by version %s, mode %s", cmp.Or(agent.Version, "(unknown)"), agent.Mode), "")
	}
}
