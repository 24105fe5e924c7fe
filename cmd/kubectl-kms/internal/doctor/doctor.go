package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// audience is the audience of tokens that RAM's OIDC providers of ACK clusters accept.
const audience = "sts.aliyuncs.com"

// A Doctor examines what is in one cluster.
type Doctor struct {
	Client cluster.Client
	Asker  injected.Asker
	Flags  genericclioptions.RESTClientGetter
	Policy clusterconfig.Config // the webhook's configuration, or one that allows everything
	Blind  error                // why it is not the webhook's configuration; what only that says is in angle brackets then
	// Decide comes to the webhook's decision on a pod, or on a pod template. The error is an outage.
	Decide func(ctx context.Context, namespace string, pod []byte) (injector.Decision, error)
	// States says how the secrets of pods are.
	States func(ctx context.Context, pods []corev1.Pod) []check.PodState
}

// An examination is one subject and what is known about it so far.
type examination struct {
	Doctor
	subject
	Report

	labels  map[string]string // of the namespace
	verdict injector.Decision
	other   config.Mistakes // where the agent in the pod differs from the one that it would get
	agent   *injected.Pod   // nil: the pod has none
	asked   bool            // the agent has answered, or left last words
	silent  error           // why it has not
	held    status.Status
	wrong   []status.Problem // that the agent met
	stuck   bool             // the pod waits for something, so that its agent has not run
}

// Examine looks at every link. The error is that there is nothing to look at.
func (d Doctor) Examine(ctx context.Context, namespace, target string, now time.Time) (Report, error) {
	if synced := externalSecret.FindStringSubmatch(target); synced != nil {
		return d.externalSecret(ctx, namespace, synced[3], now)
	}
	found, err := d.find(ctx, namespace, target)
	if err != nil {
		return Report{}, err
	}
	return d.examine(ctx, found, now)
}

func (d Doctor) examine(ctx context.Context, found subject, now time.Time) (Report, error) {
	e := &examination{Doctor: d, subject: found, Report: Report{Subject: found.title}}
	e.namespaceLabel(ctx)
	e.webhookPath(ctx)
	e.guard(ctx)
	e.settings()
	if err := e.annotations(ctx); err != nil {
		return Report{}, err
	}
	e.injection()
	e.pods(ctx)
	e.ask(ctx)
	e.start(ctx, now)
	e.role()
	e.token()
	issuer := e.provider(ctx)
	e.sts()
	e.kms()
	e.files(now)
	e.onChange(now)
	e.policies(issuer)
	return e.Report, nil
}

// ask has the agent, if there is one that runs, ask STS and KMS now; else its last words count.
func (e *examination) ask(ctx context.Context) {
	if e.agent == nil {
		return
	}
	if failure := e.agent.Failure(); failure != "" {
		e.met(status.ReadText(failure))
		return
	}
	held, err := e.Asker.Ask(ctx, *e.agent, true)
	if errors.Is(err, injected.ErrSilent) { // and not when it could not be asked: what it said at the start may be long ago
		held, err = e.agent.Started()
	}
	if err != nil {
		e.silent = err
		return
	}
	e.held = held
	problems := held.Causes
	for i := len(problems); i < len(held.Problems); i++ { // without causes, it is an agent from before there were any
		problems = append(problems, status.ReadText(held.Problems[i])...)
	}
	e.met(problems)
}

// errUnnamed is of a problem without a link: the agent is older than this plugin, or could not read its configuration.
var errUnnamed = errors.New("the agent does not say which link its problem is with; it stands with the files")

// met notes what the agent met. If a problem has no link, it is shown with the files, and of the other links nothing is known.
func (e *examination) met(problems []status.Problem) {
	e.asked = true
	for _, p := range problems {
		if p.Link == "" {
			p.Link, e.asked, e.silent = status.Files, false, errUnnamed
		}
		e.wrong = append(e.wrong, p)
	}
}

func (e *examination) account() string {
	var pod corev1.Pod
	if json.Unmarshal(e.template, &pod) != nil {
		return "default"
	}
	return cmp.Or(pod.Spec.ServiceAccountName, "default")
}

func (e *examination) policies(issuer string) {
	if e.verdict.Spec.Identity.Kind != config.RRSA || len(e.verdict.Mistakes) > 0 && e.agent == nil {
		return
	}
	policy := e.Policy
	provider, region := policy.OIDCProviderARN, policy.Region
	if e.Blind != nil && e.agent != nil {
		provider, region = e.agent.Provider(), e.agent.Region()
	}
	e.RoleARN = cmp.Or(e.verdict.RoleARN, "the role")
	e.TrustPolicy = trustPolicy(provider, cmp.Or(issuer, "<the cluster's issuer>"), e.subject.namespace, e.account())
	e.PermissionPolicy = permissionPolicy(cmp.Or(e.verdict.Spec.Region, region), accountOf(cmp.Or(e.verdict.RoleARN, provider)), e.secrets())
}

// secrets returns the secrets that the pod declares.
func (e *examination) secrets() []string {
	if e.agent != nil {
		return e.agent.Secrets()
	}
	return injected.Declared(e.verdict.Spec)
}
