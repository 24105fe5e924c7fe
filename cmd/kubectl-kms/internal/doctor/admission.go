package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// reinstall restores what was deleted, and, by the flag that Helm 4 needs for it, what was changed by another than Helm.
const reinstall = "install it anew, as it was installed: helm upgrade --install --force-conflicts (Helm 3 has no such flag, and does not " +
	"need it), or kubectl apply -k"

func (e *examination) namespaceLabel(ctx context.Context) {
	name := e.subject.namespace
	var err error
	e.labels, err = e.Client.NamespaceLabels(ctx, name)
	switch {
	case err != nil:
		e.add(Namespace, Unseen, fmt.Sprintf("the labels of namespace %s cannot be read: %v", name, err), "")
	case e.labels[podconfig.NamespaceLabel] != "enabled":
		e.add(Namespace, Broken, fmt.Sprintf("%s does not have the label %s=enabled: the webhook is not called for its pods", name,
			podconfig.NamespaceLabel),
			fmt.Sprintf("kubectl label namespace %s %s=enabled, then make the pods anew", name, podconfig.NamespaceLabel))
	default:
		e.add(Namespace, Good, fmt.Sprintf("%s has the label %s=enabled", name, podconfig.NamespaceLabel), "")
	}
}

// webhookPath checks the way from the API server to the webhook.
func (e *examination) webhookPath(ctx context.Context) {
	skip := func(because string, links ...string) {
		for _, link := range links {
			e.add(link, Unneeded, because, "")
		}
	}
	all, err := e.Client.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, cluster.Configuration, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		e.add(Webhook, Broken, "there is no MutatingWebhookConfiguration "+cluster.Configuration+": nothing is injected anywhere", reinstall)
		skip("the API server does not call the webhook", Endpoints, Certificate)
		return
	case err != nil:
		e.add(Webhook, Unseen, fmt.Sprintf("the MutatingWebhookConfiguration %s cannot be read: %v", cluster.Configuration, err), "")
	case len(all.Webhooks) == 0 || all.Webhooks[0].ClientConfig.Service == nil:
		e.add(Webhook, Broken, "the MutatingWebhookConfiguration "+cluster.Configuration+" does not point to a Service", reinstall)
		skip("the API server does not call the webhook", Endpoints, Certificate)
		return
	}
	var webhook *admissionv1.MutatingWebhook
	if err == nil {
		webhook = &all.Webhooks[0]
		e.configuration(webhook)
	}
	ready := e.endpoints(ctx, e.Client.Release(ctx))
	if !ready {
		skip("no pod of the webhook is ready", Certificate)
		return
	}
	e.certificate(ctx, webhook, all)
}

func (e *examination) configuration(w *admissionv1.MutatingWebhook) {
	switch {
	case w.FailurePolicy == nil || *w.FailurePolicy != admissionv1.Fail:
		e.add(Webhook, Broken, "its failurePolicy is not Fail: while the webhook is away, pods start without their secrets", reinstall)
	case !cluster.Selects(w, e.subject.namespace, e.labels):
		e.add(Webhook, Broken, fmt.Sprintf("its namespaceSelector leaves namespace %s out, whatever its label says", e.subject.namespace),
			"move the pods to another namespace, or have the administrator take it out of excludedNamespaces")
	default:
		e.add(Webhook, Good, fmt.Sprintf("%s is called for annotated pods of labelled namespaces (failurePolicy Fail)", w.Name), "")
	}
}

// settings checks the webhook's configuration.
func (e *examination) settings() {
	switch invalid, ok := errors.AsType[*cluster.InvalidError](e.Blind); {
	case ok:
		e.add(Settings, Broken, fmt.Sprintf("the webhook does not take its configuration, %v; replicas that run keep the last one that was "+
			"right, and one that starts ends with this error", invalid),
			fmt.Sprintf("correct config.yaml in ConfigMap %s, or have the release correct it", invalid.ConfigMap))
	case e.Blind != nil:
		e.add(Settings, Unseen, "the webhook's configuration could not be read: "+e.Blind.Error(), "")
	default:
		e.add(Settings, Good, "the webhook's configuration is right", "")
	}
}

// endpoints checks that a pod of the webhook is ready.
func (e *examination) endpoints(ctx context.Context, namespace string) bool {
	slices, err := e.Client.Kube.DiscoveryV1().EndpointSlices(namespace).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + cluster.Service})
	if err != nil {
		e.add(Endpoints, Unseen, fmt.Sprintf("the endpoints of Service %s/%s cannot be read: %v", namespace, cluster.Service, err), "")
		return true
	}
	ready := 0
	for _, s := range slices.Items {
		for _, endpoint := range s.Endpoints {
			if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
				ready += len(endpoint.Addresses)
			}
		}
	}
	if ready == 0 {
		e.add(Endpoints, Broken, fmt.Sprintf("the Service %s/%s has no ready endpoint: annotated pods are refused", namespace, cluster.Service),
			fmt.Sprintf("kubectl -n %[1]s get deployment %[2]s; if it is scaled to 0: kubectl -n %[1]s scale deployment %[2]s --replicas=2; if "+
				"its pods are not ready: kubectl -n %[1]s logs deployment/%[2]s; if there is none: %[3]s", namespace, cluster.Deployment, reinstall))
		return false
	}
	e.add(Endpoints, Good, fmt.Sprintf("Service %s/%s has %d ready", namespace, cluster.Service, ready), "")
	return true
}

// guard checks the policy and its binding, of which neither refuses a pod without the other.
func (e *examination) guard(ctx context.Context) {
	admission := e.Client.Kube.AdmissionregistrationV1()
	binding, err := admission.ValidatingAdmissionPolicyBindings().Get(ctx, cluster.Configuration, metav1.GetOptions{})
	_, policyErr := admission.ValidatingAdmissionPolicies().Get(ctx, cluster.Configuration, metav1.GetOptions{})
	unbound, undefined := apierrors.IsNotFound(err), apierrors.IsNotFound(policyErr)
	switch {
	case unbound && undefined:
		e.add(Guard, Unneeded, "is off (guard.enabled of the chart): it would refuse pods that asked and were not injected", "")
	case unbound && policyErr == nil:
		e.add(Guard, Broken, fmt.Sprintf("the ValidatingAdmissionPolicy %[1]s is there, and its ValidatingAdmissionPolicyBinding %[1]s is "+
			"missing: pods that asked and were not injected are let in", cluster.Configuration), reinstall)
	case err == nil && undefined:
		e.add(Guard, Broken, fmt.Sprintf("the ValidatingAdmissionPolicyBinding %[1]s is there, and its ValidatingAdmissionPolicy %[1]s is "+
			"missing: pods that asked and were not injected are let in", cluster.Configuration), reinstall)
	case err == nil && !slices.Contains(binding.Spec.ValidationActions, admissionv1.Deny):
		e.add(Guard, Broken, fmt.Sprintf("the validationActions of the ValidatingAdmissionPolicyBinding %s do not have Deny: pods that asked "+
			"and were not injected are let in", cluster.Configuration), reinstall)
	case err != nil && !unbound:
		e.add(Guard, Unseen, err.Error(), "")
	case policyErr != nil:
		e.add(Guard, Unseen, policyErr.Error(), "")
	default:
		e.add(Guard, Good, "refuses pods that asked and were not injected", "")
	}
}
