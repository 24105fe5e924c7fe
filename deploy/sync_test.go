//go:build chart

package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	syncChart    = "chart/kms-sync"
	requiredSync = "command.region=cn-hangzhou,command.aliuid=1234567890123456,command.clusterId=c0ffee"
)

// renderSync renders kms-sync's chart, without the custom resource definitions, into the namespace kms-sync.
func renderSync(t *testing.T, args ...string) objects {
	t.Helper()
	text, err := helm(t, slices.Concat([]string{"template", "kms-sync", syncChart, "--namespace", "kms-sync",
		"--set", "crds.create=false", "--set", requiredSync}, args)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, "kms-sync", []byte(text))
}

// The golden file has all objects of the chart, with the options that add some, so that a reviewer sees each change.
func TestSyncRendering(t *testing.T) {
	text, err := helm(t, "template", "kms-sync", syncChart, "--namespace", "kms-sync", "--set", "crds.create=false,rrsa.enable=true",
		"--set", requiredSync, "--set", "monitoring.serviceMonitor.enabled=true",
		"--set", "monitoring.prometheusRule.enabled=true")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/kms-sync.yaml"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(read(t, golden), text); diff != "" {
		t.Errorf("%s is not what the chart gives now; run make manifests:\n%s", golden, diff)
	}
}

func TestSyncIsRestrictedAndAvailable(t *testing.T) {
	o := renderSync(t)
	for name, replicas := range map[string]int32{"kms-sync": 2, "kms-sync-admission": 1} {
		d := o.deployment(name)
		pod := d.Spec.Template
		restricted(t, &pod.ObjectMeta, &pod.Spec)
		container := pod.Spec.Containers[0]
		if !*container.SecurityContext.ReadOnlyRootFilesystem || container.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: the root file system can be written, or there is no memory limit: %+v", name, container)
		}
		if *d.Spec.Replicas != replicas || container.ReadinessProbe == nil || container.LivenessProbe == nil {
			t.Errorf("%s: %d replicas, probes %v, %v", name, *d.Spec.Replicas, container.ReadinessProbe, container.LivenessProbe)
		}
		selectors := map[string]*metav1.LabelSelector{"Deployment": d.Spec.Selector}
		for _, service := range every[*corev1.Service](o) {
			if service.Name == name {
				selectors["Service"] = &metav1.LabelSelector{MatchLabels: service.Spec.Selector}
			}
		}
		budget := only[*policyv1.PodDisruptionBudget](t, o).Spec.Selector
		if name == "kms-sync" {
			selectors["PodDisruptionBudget"] = budget
		} else if selects(t, budget, pod.Labels) {
			t.Error("the PodDisruptionBudget of the controller counts the webhook's pods")
		}
		for of, selector := range selectors {
			if !selects(t, selector, pod.Labels) {
				t.Errorf("%s: the selector of the %s does not select the pods", name, of)
			}
		}
	}
}

// The webhook warns of the objects that the controller looks at, and nothing that becomes of it refuses or delays them.
func TestSyncAdmission(t *testing.T) {
	for args, want := range map[string]*metav1.LabelSelector{
		"admission.enabled=true": nil,
		`command.watchNamespaces=shop\, team`: {MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: []string{"shop", "team"}}}},
		"command.excludeNamespaces=kube-system": {MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system"}}}},
	} {
		o := renderSync(t, "--set", args)
		w := only[*admissionv1.ValidatingWebhookConfiguration](t, o).Webhooks[0]
		if diff := cmp.Diff(want, w.NamespaceSelector); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
		if *w.FailurePolicy != admissionv1.Ignore || *w.SideEffects != admissionv1.SideEffectClassNone ||
			*w.MatchPolicy != admissionv1.Equivalent || *w.TimeoutSeconds > 3 || w.ClientConfig.CABundle != nil {
			t.Errorf("%s: %+v", args, w)
		}
		rights := []string{
			`cluster: [get list watch patch] [validatingwebhookconfigurations] ["admissionregistration.k8s.io"] [kms-sync]`,
			`kms-sync: [get list watch update] [secrets] [""] [kms-sync-admission-ca kms-sync-admission-tls]`,
		}
		if diff := cmp.Diff(rights, o.rules(t, "kms-sync-admission")); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
	}
	o := renderSync(t, "--set", "admission.enabled=false")
	if o.deployment("kms-sync-admission") != nil || len(every[*admissionv1.ValidatingWebhookConfiguration](o)) > 0 {
		t.Error("it is installed though it is switched off")
	}
}

// The controller has exactly these rights; with watchNamespaces, those over Secrets and tokens are in the named namespaces only.
func TestSyncRights(t *testing.T) {
	inNamespaces := []string{
		`[get list watch patch] [externalsecrets secretstores] ["alibabacloud.com"] []`,
		`[patch] [externalsecrets/status secretstores/status] ["alibabacloud.com"] []`,
		`[get list watch create patch delete] [secrets] [""] []`,
		`[get list watch] [serviceaccounts] [""] []`,
		`[create] [serviceaccounts/token] [""] []`,
		`[create patch] [events] ["" "events.k8s.io"] []`,
	}
	cluster := []string{
		`cluster: [get list watch patch] [clustersecretstores] ["alibabacloud.com"] []`,
		`cluster: [patch] [clustersecretstores/status] ["alibabacloud.com"] []`,
		`cluster: [get list watch] [namespaces] [""] []`,
		`cluster: [get] [customresourcedefinitions] ["apiextensions.k8s.io"] [externalsecrets.alibabacloud.com]`,
	}
	finalizers := []string{`cluster: [patch] [externalsecrets secretstores] ["alibabacloud.com"] []`}
	lease := []string{
		`kms-sync: [get update] [leases] ["coordination.k8s.io"] [ack-secret-manager-lock]`,
		`kms-sync: [create] [leases] ["coordination.k8s.io"] []`,
		`kms-sync: [create patch] [events] ["" "events.k8s.io"] []`,
	}
	in := func(where string) (lines []string) {
		for _, rule := range inNamespaces {
			lines = append(lines, where+": "+rule)
		}
		return lines
	}
	for args, want := range map[string][]string{
		"rbac.create=true":                    slices.Concat(cluster, in("cluster"), lease),
		`command.watchNamespaces=shop\, team`: slices.Concat(cluster, finalizers, lease, in("shop"), in("team")),
		"rbac.create=false":                   nil,
	} {
		if got := renderSync(t, "--set", args).rules(t, "kms-sync"); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", args, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// Both policies deny for the controller's own ServiceAccount, whatever its name.
func TestSyncGuard(t *testing.T) {
	o := renderSync(t, "--set", "serviceAccount.name=ack-secret-manager")
	bindings := every[*admissionv1.ValidatingAdmissionPolicyBinding](o)
	policies := every[*admissionv1.ValidatingAdmissionPolicy](o)
	if len(policies) != 2 || len(bindings) != len(policies) {
		t.Fatalf("%d policies, %d bindings", len(policies), len(bindings))
	}
	for i, p := range policies {
		if got := p.Spec.MatchConditions[0].Expression; got !=
			`request.userInfo.username == "system:serviceaccount:kms-sync:ack-secret-manager"` {
			t.Errorf("%s is for %s", p.Name, got)
		}
		if b := bindings[i]; b.Spec.PolicyName != p.Name || *p.Spec.FailurePolicy != admissionv1.Fail ||
			!slices.Equal(b.Spec.ValidationActions, []admissionv1.ValidationAction{admissionv1.Deny}) {
			t.Errorf("%s: failure %s, %v", p.Name, *p.Spec.FailurePolicy, b.Spec)
		}
	}
}

// The values that seed 000 prints for its second and third authorization give the controller its environment and its token.
func TestSyncTakesValuesOfTheOriginal(t *testing.T) {
	o := renderSync(t, "--values", "testdata/ack-secret-manager-values.yaml")
	pod := o.deployment("kms-sync").Spec.Template.Spec
	env := map[string]string{}
	for _, e := range pod.Containers[0].Env {
		if e.ValueFrom.SecretKeyRef != nil {
			env[e.Name] = e.ValueFrom.SecretKeyRef.Name + "/" + e.ValueFrom.SecretKeyRef.Key
		}
	}
	if env["ALICLOUD_ROLE_ARN"] != "alibaba-credentials/rolearn" ||
		env["ALICLOUD_OIDC_PROVIDER_ARN"] != "alibaba-credentials/oidcproviderarn" {
		t.Errorf("the environment is %v", env)
	}
	token := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Projected != nil })
	if token < 0 || pod.Volumes[token].Projected.Sources[0].ServiceAccountToken.Audience != "sts.aliyuncs.com" {
		t.Errorf("there is no token for STS: %+v", pod.Volumes)
	}
}

func TestSyncChecksValues(t *testing.T) {
	for args, want := range map[string]string{
		"command.region=":          "command.region is missing",
		"config.kms.caFile=ca.pem": "caFiles",
		"command.watchNamespaces=a,command.excludeNamespaces=b": "both set",
		"command.pollingIntervall=5m":                           "pollingIntervall",
		`podLabels.app\.kubernetes\.io/name=other`:              "podLabels",
		"envVarsFromSecret.ACCESS_KEY_ID.secretKeyRef=a":        "key",
		"config.agent.image=registry.example.com/kms-agent:v1":  "agent",
		"image.digest=latest,image.tag=v1":                      "digest",
		"config.kms.caConfigMap.name=kms-ca":                    "caConfigMap",
		"config.sts.caConfigMap.name=kms-ca":                    "caConfigMap",
		"config.sts.sessionDuration=1d":                         "sessionDuration",
		"config.allow.podRoles=true":                            "podRoles",
		"config.allow.identities={node-role}":                   "identities",
		"config.namespaces[0].allow.regions={cn-beijing}":       "regions",
		"config.controllerNamespaces[0].name=shop":              "name",
		"compat={floatform}":                                    "/compat/0",
		"command=null,budget=null,rbac=null":                    "missing properties 'command', 'budget', 'rbac'",
		"config=null,crds=null,rrsa=null":                       "missing properties 'config', 'rrsa', 'crds'",
		"command.pollingInterval=null":                          "at '/command': missing property 'pollingInterval'",
		"monitoring.dashboard=null":                             "at '/monitoring': missing property 'dashboard'",
		"caFiles=null,config.sts.caFile=ca.pem":                 "which is not in caFiles",
	} {
		_, err := helm(t, "template", "kms-sync", syncChart, "--set", requiredSync, "--set", args)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: %v, want an error with %q", args, err, want)
		}
	}
}

// Lists, maps and names without a value are empty.
func TestSyncEmptyValues(t *testing.T) {
	o := renderSync(t, "--set", "podLabels=null,caFiles=null,command.watchNamespaces=null,command.excludeNamespaces=null")
	if w := only[*admissionv1.ValidatingWebhookConfiguration](t, o).Webhooks[0]; w.NamespaceSelector != nil {
		t.Errorf("the webhook is for %v", w.NamespaceSelector)
	}
}

// The schema has what the program takes: these fields of config, and each switch of compat.
func TestSyncSchemaHasTheConfiguration(t *testing.T) {
	switches := regexp.MustCompile("`compat\\.(\\w+)`").FindAllStringSubmatch(read(t, "../docs/secret-sync.md"), -1)
	compat := make([]string, len(switches))
	for i, found := range switches {
		compat[i] = found[1]
	}
	if len(compat) == 0 {
		t.Error("docs/secret-sync.md has no switches")
	}
	renderSync(t, "--set", "compat={"+strings.Join(compat, ",")+"}", "--set-json", `config={"network":"public",
		"kms":{"endpoint":"kms.example.com","caFile":"/ca.pem"},"sts":{"sessionDuration":"1h30m"},
		"allow":{"roles":["*"],"secrets":["a/*"],"endpoints":["*.example.com"]},
		"namespaces":[{"names":["a"],"selector":{"matchExpressions":[{"key":"a","operator":"Exists"}]},"allow":{"secrets":["*"]}}],
		"controllerNamespaces":[{"selector":{"matchLabels":{"a":"b"}}}],"clusterServiceAccounts":["a/b"],"sharedSecrets":["a/b"]}`)
}

// The custom resource definitions are those of the Go types, and are kept by helm uninstall.
func TestSyncDefinitions(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "./crds.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, err := filepath.Glob(dir + "/*.yaml")
	if err != nil || len(made) != 3 {
		t.Fatalf("%d definitions: %v", len(made), err)
	}
	for _, file := range made {
		text := read(t, file)
		if read(t, filepath.Join(syncChart, "resources", filepath.Base(file))) != text {
			t.Errorf("%s is not what the types give now; run make manifests", filepath.Base(file))
		}
		var crd struct{ Metadata metav1.ObjectMeta }
		if err := yaml.Unmarshal([]byte(text), &crd); err != nil || crd.Metadata.Annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("helm uninstall would remove %s (%v)", filepath.Base(file), err)
		}
	}
	text, err := helm(t, "template", "kms-sync", syncChart, "--set", requiredSync, "--show-only", "templates/crds.yaml")
	if err != nil || strings.Count(text, "kind: CustomResourceDefinition\n") != len(made) {
		t.Errorf("the chart does not bring all definitions: %v", err)
	}
}
