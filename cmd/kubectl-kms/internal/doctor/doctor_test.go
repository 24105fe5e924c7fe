package doctor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/decide"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

const (
	testdata  = "../../../../injector/testdata/"
	webhooks  = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector"
	endpoints = "/apis/discovery.k8s.io/v1/namespaces/kms-agent-injector/endpointslices"
	policies  = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/kms-agent-injector"
	bindings  = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/kms-agent-injector"
	account   = "/api/v1/namespaces/shop/serviceaccounts/"
)

// A kube is a cluster and the pod that is examined in it.
type kube struct {
	fakekube.Server
	pod  *corev1.Pod // nil: none was made
	made []byte      // what the pod was made of

	refusal string           // of another pod of its workload
	states  []check.PodState // of its workload's
}

// whole is a cluster in which a pod of mode init has got its secrets.
func whole(t *testing.T) *kube {
	t.Helper()
	file := func(name string) []byte {
		text, err := os.ReadFile(testdata + name)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	k := &kube{pod: &corev1.Pod{}}
	if err := yaml.Unmarshal(file("mode-init.golden.yaml"), k.pod); err != nil {
		t.Fatal(err)
	}
	k.pod.Namespace = "shop"
	k.pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: agentconfig.InitContainerName, Ready: true, State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Message: `{"fetched":"2026-01-01T00:00:00Z","secrets":[]}`},
		}}}
	fail, port := admissionv1.Fail, "https"
	ready := true
	k.Objects = map[string]any{
		"/version":                          map[string]any{"gitVersion": "v1.36.3"},
		"/.well-known/openid-configuration": map[string]any{"issuer": "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c0ffee"},
		"/api/v1/namespaces/shop": map[string]any{"metadata": map[string]any{"name": "shop",
			"labels": map[string]any{podconfig.NamespaceLabel: "enabled"}}},
		account + k.account(): map[string]any{"metadata": map[string]any{"annotations": map[string]any{
			"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"}}},
		webhooks: &admissionv1.MutatingWebhookConfiguration{Webhooks: []admissionv1.MutatingWebhook{{
			Name: "pods.kms.alibabacloud.com", FailurePolicy: &fail,
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: podconfig.NamespaceLabel, Operator: metav1.LabelSelectorOpIn, Values: []string{"enabled"}},
				{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system"}},
			}},
			ClientConfig: admissionv1.WebhookClientConfig{CABundle: bundle(t),
				Service: &admissionv1.ServiceReference{Namespace: "kms-agent-injector", Name: "kms-webhook"}},
		}}},
		endpoints: map[string]any{"items": []any{map[string]any{"ports": []any{map[string]any{"name": port}},
			"endpoints": []any{map[string]any{"addresses": []string{"10.0.0.1"}, "conditions": map[string]any{"ready": ready}}}}}},
		"/apis/apps/v1/namespaces/kms-agent-injector/deployments/kms-webhook": map[string]any{"spec": map[string]any{
			"template": map[string]any{"spec": map[string]any{"volumes": []any{
				map[string]any{"name": "config", "configMap": map[string]any{"name": "kms-webhook-7f"}}}}}}},
		"/api/v1/namespaces/kms-agent-injector/configmaps/kms-webhook-7f": map[string]any{
			"data": map[string]any{"config.yaml": string(file("operator.yaml"))}},
	}
	return k
}

func (k *kube) account() string {
	if k.pod.Spec.ServiceAccountName != "" {
		return k.pod.Spec.ServiceAccountName
	}
	return "default"
}

func bundle(t *testing.T) []byte {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	return pemOf(server.Certificate().Raw)
}

func expired(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(der)
}

func (k *kube) diagnose(t *testing.T) Report {
	t.Helper()
	settings := &rest.Config{Host: k.Start(t), QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}}
	clients, err := kubernetes.NewForConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	client := cluster.Client{Kube: clients}
	policy, version, err := client.Policy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	native, err := injector.NativeBeside(version)
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy, "v0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	text := k.made
	if text == nil {
		if text, err = json.Marshal(k.pod); err != nil {
			t.Fatal(err)
		}
	}
	world := decide.World{Injector: in, PlainSidecars: !native, Cluster: client}
	d := Doctor{Client: client, Asker: injected.Asker{Kube: clients, REST: settings}, Policy: in.Policy(),
		Decide: func(ctx context.Context, namespace string, pod []byte) (injector.Decision, error) {
			return world.Pod(ctx, namespace, pod)
		}}
	d.States = func(context.Context, []corev1.Pod) []check.PodState { return k.states }
	s := subject{title: "Pod shop/web", namespace: "shop", template: text, pod: k.pod, workload: k.states != nil,
		refusal: k.refusal, missing: 2}
	if k.pod == nil {
		s.refusal = "denied"
	}
	r, err := d.examine(t.Context(), s,
		time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// last is the termination message of the init container.
func last(k *kube, message string) {
	k.pod.Status.InitContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1,
		Message: message}}
}

// bound is a binding of the guard with these validationActions.
func bound(actions ...admissionv1.ValidationAction) map[string]any {
	return map[string]any{"spec": map[string]any{"validationActions": actions}}
}

func TestChain(t *testing.T) {
	object := func(k *kube, path string) map[string]any { return k.Objects[path].(map[string]any) }
	for name, c := range map[string]struct {
		breakIt     func(*kube)
		links, says string
	}{
		"whole": {func(*kube) {}, "", "were fetched 5m0s ago, at the start"},
		"no label": {func(k *kube) { object(k, "/api/v1/namespaces/shop")["metadata"].(map[string]any)["labels"] = nil }, "namespace",
			"kubectl label namespace shop"},
		"no configuration": {func(k *kube) { delete(k.Objects, webhooks) }, "webhook", "there is no MutatingWebhookConfiguration"},
		"excluded": {func(k *kube) {
			selector := k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].NamespaceSelector
			selector.MatchExpressions[1].Values = []string{"shop"}
		}, "webhook", "excludedNamespaces"},
		"excluded, where no dry run shows the certificate": {func(k *kube) {
			selector := k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].NamespaceSelector
			selector.MatchExpressions[1].Values = []string{"shop"}
		}, "webhook", "the webhook is not called in this namespace"},
		"lenient": {func(k *kube) {
			ignore := admissionv1.Ignore
			k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].FailurePolicy = &ignore
		}, "webhook", "helm upgrade --install --force-conflicts"},
		"no bundle": {func(k *kube) {
			k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].ClientConfig.CABundle = nil
		}, "certificate", "is empty"},
		"two authorities": {func(k *kube) {
			config := &k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].ClientConfig
			config.CABundle = append(expired(t), config.CABundle...)
		}, "", "its authority is good until 20"},
		"expired": {func(k *kube) {
			k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration).Webhooks[0].ClientConfig.CABundle = expired(t)
		}, "certificate", "expired on 2020-01-02"},
		"cert-manager": {func(k *kube) {
			all := k.Objects[webhooks].(*admissionv1.MutatingWebhookConfiguration)
			all.Annotations, all.Webhooks[0].ClientConfig.CABundle = map[string]string{fromSecret: "kms-agent-injector/kms-webhook-ca-bundle"}, nil
		}, "certificate", "cainjector copies the caBundle from the Secret kms-agent-injector/kms-webhook-ca-bundle"},
		"no endpoints": {func(k *kube) { object(k, endpoints)["items"] = []any{} }, "endpoints", "scale deployment kms-webhook"},
		"certificate": {func(k *kube) {
			k.Refuses = `Internal error occurred: failed calling webhook "pods.kms.alibabacloud.com": Post "https://kms-webhook": ` +
				`tls: failed to verify certificate: x509: certificate signed by unknown authority`
		}, "certificate", "does not accept"},
		"no answer": {func(k *kube) {
			k.Refuses = `Internal error occurred: failed calling webhook "pods.kms.alibabacloud.com": Post "https://kms-webhook": ` +
				`context deadline exceeded`
		}, "certificate", "9443"},
		"another webhook": {func(k *kube) { k.Refuses = `failed calling webhook "other.example.com": x509` }, "", ""},
		"annotation": {func(k *kube) { k.pod.Annotations[podconfig.Prefix+"modee"] = "init" }, "annotations",
			"did you mean kms.alibabacloud.com/mode?"},
		"not asked": {func(k *kube) {
			delete(k.pod.Annotations, podconfig.Prefix+"inject")
			k.pod.Annotations[podconfig.Prefix+"inject"] = "false"
		}, "annotations", "does not ask"},
		"not injected": {func(k *kube) { k.pod.Spec.InitContainers = nil }, "injection", "while the webhook was not called"},
		"no pod": {func(k *kube) {
			k.made, _ = json.Marshal(k.pod)
			k.pod = nil
		}, "injection", "no pod can be made: denied"},
		"no role": {func(k *kube) { object(k, account+k.account())["metadata"] = map[string]any{} }, "role",
			"kubectl annotate serviceaccount"},
		"no account": {func(k *kube) { delete(k.Objects, account+k.account()) }, "role", "does not exist"},
		"audience": {func(k *kube) {
			for _, v := range k.pod.Spec.Volumes {
				if v.Name == agentconfig.TokenVolume {
					v.Projected.Sources[0].ServiceAccountToken.Audience = "other"
				}
			}
		}, "annotations token", "RAM takes sts.aliyuncs.com"},
		"another audience beside": {func(k *kube) {
			for _, v := range k.pod.Spec.Volumes {
				if v.Name == agentconfig.TokenVolume {
					v.Projected.Sources = append([]corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
						Audience: "other", Path: "other"}}}, v.Projected.Sources...)
				}
			}
		}, "", "audience sts.aliyuncs.com"},
		"another cluster": {func(k *kube) {
			object(k, "/.well-known/openid-configuration")["issuer"] = "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/cafe"
		}, "oidc-provider", "set clusterID"},
		"trust": {func(k *kube) {
			last(k, "assume acs:ram::1234567890123456:role/shop at sts-vpc.cn-hangzhou.aliyuncs.com: AuthenticationFail.NoPermission: There is no "+
				"permission (request R)\n  link: sts\n  why: trust\n  fix: mend it")
		}, "sts", "mend it"},
		"permission": {func(k *kube) {
			last(k, "get secret app/prod/db: Forbidden.NoPermission (HTTP 403): no (request R)\n  link: kms app/prod/db\n  why: policy\n  fix: "+
				"mend it")
		}, "kms", "Forbidden.NoPermission"},
		"an undeclared secret": {func(k *kube) { last(k, "get secret app/other: dial tcp: i/o timeout\n  link: kms app/other") }, "kms",
			"app/other: dial tcp"},
		"an agent that names no link": {func(k *kube) {
			last(k, "get secret app/prod/db: Forbidden.NoPermission (HTTP 403): no (request R)\n  why: policy\n  fix: mend it")
		}, "files", "? sts           the agent does not say which link"},
		"guarded": {func(k *kube) {
			k.Objects[policies], k.Objects[bindings] = map[string]any{}, bound(admissionv1.Deny, admissionv1.Audit)
		},
			"", "refuses pods that asked and were not injected"},
		"unguarded": {func(*kube) {}, "", "is off (guard.enabled of the chart)"},
		"unbound": {func(k *kube) { k.Objects[policies] = map[string]any{} }, "guard",
			"its ValidatingAdmissionPolicyBinding kms-agent-injector is missing"},
		"bound to nothing": {func(k *kube) { k.Objects[bindings] = bound(admissionv1.Deny) }, "guard",
			"its ValidatingAdmissionPolicy kms-agent-injector is missing"},
		"a guard that warns": {func(k *kube) { k.Objects[policies], k.Objects[bindings] = map[string]any{}, bound(admissionv1.Warn) }, "guard",
			"do not have Deny"},
		"a guard that may not be read": {func(k *kube) {
			k.Objects[bindings], k.Forbids = bound(admissionv1.Deny), map[string]string{policies: "it is forbidden"}
		}, "", "? guard         it is forbidden"},
		"missing Secret": {func(k *kube) {
			k.pod.Status.Phase = corev1.PodPending
			k.pod.Status.InitContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
				Reason: "CreateContainerConfigError", Message: `secret "keys" not found`}}
		}, "start", `kms-agent-init waits: CreateContainerConfigError: secret "keys" not found`},
		"out of memory": {func(k *kube) {
			k.pod.Status.InitContainerStatuses[0].RestartCount = 2
			k.pod.Status.InitContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
				Reason: "OOMKilled", ExitCode: 137, FinishedAt: metav1.Date(2026, 1, 1, 0, 4, 0, 0, time.UTC)}
		}, "start", "has restarted 2 times, last 60s ago after OOMKilled"},
		"out of memory again and again": {func(k *kube) {
			k.pod.Status.InitContainerStatuses[0].RestartCount = 2
			k.pod.Status.InitContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
			k.pod.Status.InitContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Message: "the log's end",
				Reason: "OOMKilled", ExitCode: 137, FinishedAt: metav1.Date(2026, 1, 1, 0, 4, 0, 0, time.UTC)}
		}, "start", "kms-agent-init waits: CrashLoopBackOff; kms-agent-init has restarted 2 times, last 60s ago after OOMKilled"},
		"refused besides": {func(k *kube) {
			k.refusal, k.states = "denied", []check.PodState{{Name: "a", State: "fresh"}, {Name: "b", State: "fresh"}}
		}, "injection pods", "pods          2 fresh; 2 cannot be made\n"},
		"volume": {func(k *kube) { last(k, "write db: no space left on device\n  link: files") }, "files", "no space left"},
	} {
		t.Run(name, func(t *testing.T) {
			k := whole(t)
			c.breakIt(k)
			r := k.diagnose(t)
			var broken []string
			var out bytes.Buffer
			r.Text(screen.New(&out, os.Getenv))
			for _, check := range r.Checks {
				if check.State == Broken {
					broken = append(broken, check.Link)
				}
			}
			if got := strings.Join(broken, " "); got != c.links || !strings.Contains(out.String(), c.says) || r.Broken() != (c.links != "") {
				t.Errorf("%q is broken, want %q and %q:\n%s", got, c.links, c.says, out.String())
			}
			if strings.Count(out.String(), "✗") != len(broken) {
				t.Errorf("not a ✗ each:\n%s", out.String())
			}
		})
	}
}

// What an agent met is said of the link that it names; of one that is older nothing is known but the problem.
func TestMet(t *testing.T) {
	e := &examination{}
	if e.met([]status.Problem{{Link: status.KMS, Secret: "a", Says: "no"}}); !e.asked || len(e.of(KMS)) != 1 {
		t.Errorf("%+v", e.wrong)
	}
	e = &examination{}
	if e.met(status.ReadText("get secret a: no\n  why: because\n  fix: mend it")); e.asked || e.silent == nil || len(e.of(Files)) != 1 ||
		cure(e.wrong[0]) != "mend it" {
		t.Errorf("%+v", e.wrong)
	}
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// What an agent that answers says is shown of what it has written, and of what it was asked for.
func TestAnswers(t *testing.T) {
	text, err := os.ReadFile(testdata + "api.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.Unmarshal(text, pod); err != nil {
		t.Fatal(err)
	}
	agent, _, err := injected.Read(pod)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	const secret = "app/prod/db"
	agent.Agent.OnChange = "signal:HUP:nginx"
	agent.Agent.Files = append(agent.Agent.Files, agentconfig.File{Path: "other", Secret: "app/other"})
	outage := status.Problem{Link: status.KMS, Secret: secret, Code: "ServiceUnavailableTemporary", Says: "get secret: no",
		Cause: "out of order", Cure: "wait"}
	held := func(change func(*status.Status)) status.Status {
		s := status.Status{Fetched: now.Add(-time.Second), Notifications: []status.Notification{{Target: "signal:HUP:nginx"}},
			Secrets: []status.Secret{{Name: secret, Version: "v1"}, {Name: "app/other", Version: "v3"}}, Asked: []string{secret, "app/other"}}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		held status.Status
		want map[string]string // by link and secret: the state and what it says
	}{
		"whole": {held(func(*status.Status) {}), map[string]string{
			"kms " + secret: "ok gives", "kms app/other": "ok gives", "files ": "ok were fetched 1s ago", "on-change ": "ok nothing has changed"}},
		"outage": {held(func(s *status.Status) { s.Causes = []status.Problem{outage} }), map[string]string{
			"kms " + secret: "broken get secret", "kms app/other": "ok gives"}},
		"outage, older agent": {held(func(s *status.Status) { s.Causes, s.Asked = []status.Problem{outage}, nil }), map[string]string{
			"kms " + secret: "broken", "kms app/other": "unknown app/other: not asked for, since app/prod/db failed (the files have v3)"}},
		"full": {held(func(s *status.Status) {
			s.LastError = &status.Failure{At: now, Attempts: 3, Causes: []status.Problem{{
				Link: status.Files, Says: "no space left", Cause: "full", Cure: "raise"}}}
		}), map[string]string{"files ": "broken cannot be written, and are 1s old: no space left", "kms app/other": "ok"}},
		"untold": {held(func(s *status.Status) {
			s.Notifications = []status.Notification{{Target: "signal:HUP:nginx", Changed: now, Attempts: 6, Failure: "no process nginx",
				Secrets: []status.Secret{{Name: secret, Version: "v1"}}}}
		}), map[string]string{
			"on-change ": "broken signal:HUP:nginx was not notified of app/prod/db@v1, which is written (6 attempts): no process"}},
		"older agent": {held(func(s *status.Status) { s.Notifications = nil }), map[string]string{
			"on-change ": "unknown the agent is older"}},
	} {
		e := &examination{agent: &agent, held: c.held}
		e.met(c.held.Causes)
		e.kms()
		e.files(now)
		e.onChange(now)
		got := map[string]string{}
		for _, c := range e.Checks {
			got[c.Link+" "+c.Secret] = string(c.State) + " " + c.Says
		}
		for link, want := range c.want {
			if !strings.HasPrefix(got[link], want) {
				t.Errorf("%s: %q is %q, want %q", name, link, got[link], want)
			}
		}
	}
}
