// Package deploy_test checks what is installed into a cluster: the chart, and the manifests made from it.
package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	psapi "k8s.io/pod-security-admission/api"
	pspolicy "k8s.io/pod-security-admission/policy"
)

// objects are the objects of one installation.
type objects struct {
	namespace string
	all       []runtime.Object
}

// decode reads a stream of YAML documents as strictly as the API server: unknown and duplicate fields are errors.
func decode(t *testing.T, namespace string, stream []byte) objects {
	t.Helper()
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, certmanagerv1.AddToScheme, monitoringv1.AddToScheme} {
		if err := add(types); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	out := objects{namespace: namespace}
	for documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		out.all = append(out.all, object)
	}
}

// only returns the single object of a type.
func only[T runtime.Object](t *testing.T, in objects) T {
	t.Helper()
	found := every[T](in)
	if len(found) != 1 {
		t.Fatalf("there are %d objects of type %T, want 1", len(found), *new(T))
	}
	return found[0]
}

func every[T runtime.Object](in objects) []T {
	var found []T
	for _, o := range in.all {
		if o, ok := o.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// The names of the two Deployments and of their ServiceAccounts: the webhook, and the writer of its certificates.
const (
	listening = "kms-webhook"
	keeping   = "kms-webhook-certificates"
)

// deployment returns a Deployment by name; nil if there is none.
func (o objects) deployment(name string) *appsv1.Deployment {
	for _, d := range every[*appsv1.Deployment](o) {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// check asserts what holds for every installation.
func (o objects) check(t *testing.T) {
	t.Helper()
	o.checkNamespaces(t)
	o.checkDeployment(t)
	o.checkKeeper(t)
	o.checkSubjects(t)
	o.checkWebhooks(t)
	o.checkGuard(t)
}

// checkNamespaces refuses objects without a namespace: kubectl would create them in the current one.
func (o objects) checkNamespaces(t *testing.T) {
	t.Helper()
	for _, object := range o.all {
		meta := object.(metav1.Object)
		switch object.(type) {
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *corev1.Namespace,
			*admissionv1.MutatingWebhookConfiguration, *admissionv1.ValidatingWebhookConfiguration,
			*admissionv1.ValidatingAdmissionPolicy, *admissionv1.ValidatingAdmissionPolicyBinding:
		default:
			if meta.GetNamespace() != o.namespace {
				t.Errorf("%T %s is in namespace %q, want %q", object, meta.GetName(), meta.GetNamespace(), o.namespace)
			}
		}
	}
}

// restricted asserts that Pod Security admits a pod at the level restricted.
func restricted(t *testing.T, meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	t.Helper()
	evaluator, err := pspolicy.NewEvaluator(pspolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	if result := pspolicy.AggregateCheckResults(evaluator.EvaluatePod(level, meta, spec)); !result.Allowed {
		t.Errorf("Pod Security restricted refuses the pod: %s", result.ForbiddenDetail())
	}
}

func (o objects) checkDeployment(t *testing.T) {
	t.Helper()
	d := o.deployment(listening)
	pod := d.Spec.Template
	if got := d.Spec.Strategy.RollingUpdate; got.MaxUnavailable.IntValue() != 0 || got.MaxSurge.IntValue() != 1 {
		t.Errorf("the rolling update may take a replica away: %+v", got)
	}
	o.checkAccount(t, d)
	restricted(t, &pod.ObjectMeta, &pod.Spec)
	container := pod.Spec.Containers[0]
	if sc := container.SecurityContext; sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem {
		t.Error("the webhook's root file system can be written")
	}
	if container.Resources.Requests.Cpu().IsZero() || container.Resources.Limits.Memory().IsZero() {
		t.Error("the webhook has no CPU request or no memory limit")
	}
	for _, mount := range container.VolumeMounts {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
			t.Errorf("there is no volume %q", mount.Name)
		}
		if mount.SubPath != "" {
			t.Errorf("%s is mounted by subPath and would not follow a change", mount.MountPath)
		}
	}

	service := only[*corev1.Service](t, o)
	for _, port := range service.Spec.Ports {
		if !slices.ContainsFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.StrVal }) {
			t.Errorf("the Service's port %d leads to %q, which the container does not have", port.Port, port.TargetPort.StrVal)
		}
	}
	selectors := map[string]*metav1.LabelSelector{
		"Deployment": d.Spec.Selector,
		"Service":    {MatchLabels: service.Spec.Selector},
	}
	for _, budget := range every[*policyv1.PodDisruptionBudget](o) {
		selectors["PodDisruptionBudget"] = budget.Spec.Selector
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		selectors["topology spread "+pod.Spec.TopologySpreadConstraints[i].TopologyKey] = pod.Spec.TopologySpreadConstraints[i].LabelSelector
	}
	for of, selector := range selectors {
		if !selects(t, selector, pod.Labels) {
			t.Errorf("the selector of the %s does not select the webhook's pods", of)
		}
	}
}

func (o objects) checkAccount(t *testing.T, d *appsv1.Deployment) {
	t.Helper()
	account := d.Spec.Template.Spec.ServiceAccountName
	if account != d.Name || !slices.ContainsFunc(every[*corev1.ServiceAccount](o),
		func(a *corev1.ServiceAccount) bool { return a.Name == account }) {
		t.Errorf("the pods of %s use the ServiceAccount %q, want one of their own", d.Name, account)
	}
}

// checkKeeper asserts that the writer of certificates, if there is one, has no port and the webhook's image.
func (o objects) checkKeeper(t *testing.T) {
	t.Helper()
	d, webhook := o.deployment(keeping), o.deployment(listening).Spec.Template.Spec.Containers[0]
	if d == nil {
		return
	}
	o.checkAccount(t, d)
	pod, container := d.Spec.Template, d.Spec.Template.Spec.Containers[0]
	restricted(t, &pod.ObjectMeta, &pod.Spec)
	if container.Image != webhook.Image || container.Args[0] != "certificates" || !slices.Contains(webhook.Args, container.Args[1]) {
		t.Errorf("%s runs %s %q, the webhook %s %q", d.Name, container.Image, container.Args, webhook.Image, webhook.Args)
	}
	if len(container.Ports) > 0 || container.LivenessProbe.Exec == nil || container.StartupProbe.Exec == nil {
		t.Errorf("%s listens: %+v", d.Name, container)
	}
	if selects(t, &metav1.LabelSelector{MatchLabels: only[*corev1.Service](t, o).Spec.Selector}, pod.Labels) ||
		selects(t, o.deployment(listening).Spec.Selector, pod.Labels) {
		t.Errorf("the pods of %s are taken for the webhook's", d.Name)
	}
	if !selects(t, d.Spec.Selector, pod.Labels) {
		t.Errorf("the selector of %s does not select its pods", d.Name)
	}
}

// checkWebhooks checks both webhook configurations.
func (o objects) checkWebhooks(t *testing.T) {
	t.Helper()
	service := only[*corev1.Service](t, o)
	clients := map[string]admissionv1.WebhookClientConfig{}
	namespaces := map[string]*metav1.LabelSelector{}

	mutating := only[*admissionv1.MutatingWebhookConfiguration](t, o)
	if mutating.Name != "kms-agent-injector" || len(mutating.Webhooks) != 1 {
		t.Fatalf("mutating configuration %s has %d webhooks, want kms-agent-injector with 1", mutating.Name, len(mutating.Webhooks))
	}
	pods := pods(t, o)
	clients[pods.Name], namespaces[pods.Name] = pods.ClientConfig, pods.NamespaceSelector
	if *pods.FailurePolicy != admissionv1.Fail || *pods.MatchPolicy != admissionv1.Equivalent ||
		*pods.SideEffects != admissionv1.SideEffectClassNoneOnDryRun ||
		*pods.ReinvocationPolicy != admissionv1.IfNeededReinvocationPolicy || *pods.TimeoutSeconds != 5 {
		t.Errorf("webhook %s does not keep the contract: %+v", pods.Name, pods)
	}
	if len(pods.Rules) != 1 || !slices.Equal(pods.Rules[0].Operations, []admissionv1.OperationType{admissionv1.Create}) ||
		!slices.Equal(pods.Rules[0].Resources, []string{"pods"}) {
		t.Errorf("webhook %s is called for %+v, want the creation of pods only", pods.Name, pods.Rules)
	}
	if len(pods.MatchConditions) == 0 {
		t.Errorf("webhook %s has no matchConditions: every pod of the namespace would wait for it", pods.Name)
	}

	validating := only[*admissionv1.ValidatingWebhookConfiguration](t, o)
	var checked []string
	for _, w := range validating.Webhooks {
		clients[w.Name], namespaces[w.Name] = w.ClientConfig, w.NamespaceSelector
		for _, r := range w.Rules {
			checked = append(checked, r.Resources...)
		}
		if *w.FailurePolicy != admissionv1.Ignore || *w.SideEffects != admissionv1.SideEffectClassNone || *w.TimeoutSeconds != 5 ||
			len(w.MatchConditions) == 0 {
			t.Errorf("webhook %s: %+v, want one that only advises, without side effects, under conditions", w.Name, w)
		}
	}
	slices.Sort(checked)
	want := []string{"configmaps", "cronjobs", "daemonsets", "deployments", "jobs", "pods", "replicasets", "statefulsets"}
	if !slices.Equal(checked, want) {
		t.Errorf("workloads checked are %v, want %v", checked, want)
	}

	for name, client := range clients {
		if client.Service == nil || client.Service.Name != service.Name || client.Service.Namespace != o.namespace ||
			*client.Service.Port != 443 {
			t.Errorf("webhook %s is called at %+v, want the Service %s/%s, port 443", name, client.Service, o.namespace, service.Name)
		}
		// Warnings are for namespaces without the label too; about pods, only for these: in the others pods are injected.
		// The webhook's own configuration is in its own namespace.
		const barePods, own = "bare-pods.kms.alibabacloud.com", "configuration.kms.alibabacloud.com"
		for namespace, want := range map[string]bool{"shop": name != barePods && name != own, "kube-system": false, "cert-manager": false,
			o.namespace: name == own} {
			if got := selects(t, namespaces[name], labels.Set{corev1.LabelMetadataName: namespace,
				"kms.alibabacloud.com/injection": "enabled"}); got != want {
				t.Errorf("webhook %s in the labelled namespace %s: called is %t, want %t", name, namespace, got, want)
			}
		}
		for namespace, want := range map[string]bool{"shop": name != pods.Name && name != own, "kube-system": false, o.namespace: name == own} {
			if got := selects(t, namespaces[name], labels.Set{corev1.LabelMetadataName: namespace}); got != want {
				t.Errorf("webhook %s in the namespace %s, which has not opted in: called is %t, want %t", name, namespace, got, want)
			}
		}
	}
}

// pods returns the webhook that injects.
func pods(t *testing.T, o objects) admissionv1.MutatingWebhook {
	t.Helper()
	return only[*admissionv1.MutatingWebhookConfiguration](t, o).Webhooks[0]
}

// checkGuard asserts that the guard's policies deny in the webhook's namespaces, at the creation of pods and of ephemeral containers.
func (o objects) checkGuard(t *testing.T) {
	t.Helper()
	webhook, policies := pods(t, o), every[*admissionv1.ValidatingAdmissionPolicy](o)
	bindings := every[*admissionv1.ValidatingAdmissionPolicyBinding](o)
	if len(policies) != 2 || len(bindings) != len(policies) {
		t.Fatalf("the guard has %d policies and %d bindings", len(policies), len(bindings))
	}
	for i, policy := range policies {
		constraints, binding := policy.Spec.MatchConstraints, bindings[i]
		if constraints.NamespaceSelector.String() != webhook.NamespaceSelector.String() {
			t.Errorf("%s watches other namespaces than the webhook", policy.Name)
		}
		rule := webhook.Rules[0]
		if policy.Name == "kms-agent-injector-debug" {
			rule.Resources, rule.Operations = []string{"pods/ephemeralcontainers"}, []admissionv1.OperationType{admissionv1.Update}
		}
		if len(constraints.ResourceRules) != 1 || !reflect.DeepEqual(constraints.ResourceRules[0].RuleWithOperations, rule) {
			t.Errorf("%s is for %+v, want %+v", policy.Name, constraints.ResourceRules, rule)
		}
		if *policy.Spec.FailurePolicy != admissionv1.Fail || binding.Spec.PolicyName != policy.Name ||
			!slices.Equal(binding.Spec.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
			t.Errorf("%s does not refuse: %+v, %+v", policy.Name, policy.Spec.FailurePolicy, binding.Spec)
		}
		// The API server stops following parameters of built-in kinds once the last policy with one is removed (kubernetes/kubernetes#130887).
		if policy.Spec.ParamKind != nil {
			t.Errorf("%s has parameters of the kind %+v", policy.Name, policy.Spec.ParamKind)
		}
	}
}

// caBundles returns the certificate authorities in the webhook configurations.
func (o objects) caBundles(t *testing.T) [][]byte {
	t.Helper()
	var bundles [][]byte
	for _, w := range only[*admissionv1.MutatingWebhookConfiguration](t, o).Webhooks {
		bundles = append(bundles, w.ClientConfig.CABundle)
	}
	for _, w := range only[*admissionv1.ValidatingWebhookConfiguration](t, o).Webhooks {
		bundles = append(bundles, w.ClientConfig.CABundle)
	}
	return bundles
}

func selects(t *testing.T, selector *metav1.LabelSelector, of labels.Set) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return !s.Empty() && s.Matches(of)
}

// rules returns all rules of a ServiceAccount, one a line.
func (o objects) rules(t *testing.T, account string) []string {
	t.Helper()
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: o.namespace}}
	var lines []string
	add := func(where string, rules []rbacv1.PolicyRule) {
		for _, r := range rules {
			lines = append(lines, fmt.Sprintf("%s: %v %v %q %v", where, r.Verbs, r.Resources, r.APIGroups, r.ResourceNames))
		}
	}
	for _, b := range every[*rbacv1.ClusterRoleBinding](o) {
		for _, r := range every[*rbacv1.ClusterRole](o) {
			if r.Name == b.RoleRef.Name && slices.Equal(b.Subjects, subjects) {
				add("cluster", r.Rules)
			}
		}
	}
	for _, b := range every[*rbacv1.RoleBinding](o) {
		for _, r := range every[*rbacv1.Role](o) {
			if r.Name == b.RoleRef.Name && r.Namespace == b.Namespace && slices.Equal(b.Subjects, subjects) {
				add(r.Namespace, r.Rules)
			}
		}
	}
	return lines
}

// checkSubjects asserts that only the two ServiceAccounts get rights.
func (o objects) checkSubjects(t *testing.T) {
	t.Helper()
	var given []rbacv1.Subject
	for _, b := range every[*rbacv1.ClusterRoleBinding](o) {
		given = append(given, b.Subjects...)
	}
	for _, b := range every[*rbacv1.RoleBinding](o) {
		given = append(given, b.Subjects...)
	}
	for _, s := range given {
		if s.Kind != rbacv1.ServiceAccountKind || s.Namespace != o.namespace || s.Name != listening && s.Name != keeping {
			t.Errorf("rights are given to %+v", s)
		}
	}
}
