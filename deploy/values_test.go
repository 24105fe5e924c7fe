//go:build chart

package deploy_test

import (
	"encoding/pem"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

func TestCertificates(t *testing.T) {
	// The webhook parses what tenants write, so it may only read, and write events.
	reads := []string{
		`cluster: [get list watch] [serviceaccounts] [""] []`,
		`cluster: [get list watch] [namespaces] [""] []`,
		`cluster: [create patch] [events] [""] []`,
		`cluster: [get list watch] [mutatingwebhookconfigurations validatingwebhookconfigurations validatingadmissionpolicies ` +
			`validatingadmissionpolicybindings] ["admissionregistration.k8s.io"] [kms-agent-injector]`,
		`kms: [get] [configmaps] [""] [kms-webhook]`,
	}
	bundles := []string{
		`kms: [get list watch] [secrets] [""] [kms-webhook-tls]`,
		`kms: [get list watch update] [secrets] [""] [kms-webhook-ca-bundle]`,
	}
	pemFile, pemText := authority(t)
	for _, tt := range []struct {
		mode      string
		args      []string
		reads     []string // of the webhook
		writes    []string // of the writer of certificates
		caBundle  string
		secret    string   // mounted
		requested int      // Certificates
		filled    []string // Secrets that kms-webhook-certificates and cert-manager fill
	}{{
		mode:  "self-signed",
		reads: append(slices.Clone(reads), `kms: [get list watch] [secrets] [""] [kms-webhook-tls]`),
		writes: []string{
			`cluster: [get list watch patch] [mutatingwebhookconfigurations validatingwebhookconfigurations] ` +
				`["admissionregistration.k8s.io"] [kms-agent-injector]`,
			`kms: [get list watch update] [secrets] [""] [kms-webhook-ca kms-webhook-tls]`,
			`kms: [create] [secrets] [""] []`,
		},
		filled: []string{"kms-webhook-ca", "kms-webhook-tls"},
	}, {
		mode: "cert-manager", reads: reads, writes: bundles, secret: "kms-webhook-tls", requested: 2,
		filled: []string{"kms-webhook-ca", "kms-webhook-tls", "kms-webhook-ca-bundle"},
	}, {
		mode: "cert-manager", args: []string{"--set",
			"certificates.certManager.issuerRef.name=corp,certificates.certManager.issuerRef.kind=ClusterIssuer"},
		reads: reads, writes: bundles, secret: "kms-webhook-tls", requested: 1,
		filled: []string{"kms-webhook-tls", "kms-webhook-ca-bundle"},
	}, {
		mode: "files", args: []string{"--set", "certificates.files.secretName=own", "--set-file", "certificates.files.caBundle=" + pemFile},
		reads: reads, secret: "own", caBundle: pemText,
	}} {
		t.Run(tt.mode, func(t *testing.T) {
			o, text := render(t, "kms", append(tt.args, "--set", "certificates.mode="+tt.mode)...)
			o.check(t)
			for account, want := range map[string][]string{listening: tt.reads, keeping: tt.writes} {
				if got := o.rules(t, account); !slices.Equal(got, want) {
					t.Errorf("%s may\n%s\nwant\n%s", account, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
			if got, want := o.deployment(keeping) != nil, len(tt.writes) > 0; got != want {
				t.Errorf("there is a Deployment %s: %t, want %t", keeping, got, want)
			}
			for _, got := range o.caBundles(t) {
				if string(got) != tt.caBundle {
					t.Errorf("caBundle is %q, want %q", got, tt.caBundle)
				}
			}
			// An empty caBundle would be worse than none: applying it would remove the one that was written in the cluster.
			if got, want := strings.Contains(text, "caBundle:"), tt.caBundle != ""; got != want {
				t.Errorf("the output sets a caBundle: %t, want %t", got, want)
			}
			pod := o.deployment(listening).Spec.Template.Spec
			if !slices.Contains(pod.Containers[0].Args, "--cert-mode="+tt.mode) {
				t.Errorf("arguments are %q", pod.Containers[0].Args)
			}
			var secret string
			for _, v := range pod.Volumes {
				if v.Secret != nil {
					secret = v.Secret.SecretName
				}
			}
			if secret != tt.secret {
				t.Errorf("mounted Secret is %q, want %q", secret, tt.secret)
			}

			certificates := every[*certmanagerv1.Certificate](o)
			if len(certificates) != tt.requested {
				t.Errorf("there are %d Certificates, want %d", len(certificates), tt.requested)
			}
			injected := only[*admissionv1.MutatingWebhookConfiguration](t, o).Annotations["cert-manager.io/inject-ca-from-secret"]
			if want := map[bool]string{true: "kms/kms-webhook-ca-bundle"}[tt.requested > 0]; injected != want {
				t.Errorf("the authority is injected from %q, want %q", injected, want)
			}
			// The chart's Secrets are removed with it. The chart must not have their data, because each upgrade would overwrite it.
			var filled []string
			for _, secret := range every[*corev1.Secret](o) {
				filled = append(filled, secret.Name)
				if len(secret.Data)+len(secret.StringData) > 0 || secret.Type != "" {
					t.Errorf("Secret %s has data, or the type %q", secret.Name, secret.Type)
				}
			}
			if !slices.Equal(filled, tt.filled) {
				t.Errorf("the Secrets are %v, want %v", filled, tt.filled)
			}
		})
	}
}

// authority returns a file with a certificate, for --set-file.
func authority(t *testing.T) (file, text string) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, string(encoded)
}

func TestPrivateAuthorityOfKMS(t *testing.T) {
	file, text := authority(t)
	o, _ := render(t, "kms", "--set-file", `caFiles.kms-ca\.pem=`+file, "--set", "kms.caFile=kms-ca.pem,sts.caFile=kms-ca.pem")
	o.check(t)
	if got := only[*corev1.ConfigMap](t, o).Data["kms-ca.pem"]; got != text {
		t.Errorf("the file is %q, want %q", got, text)
	}
	if in := readConfig(t, o); in.KMS.CAFile != "kms-ca.pem" || in.STS.CAFile != "kms-ca.pem" {
		t.Errorf("the document names %q and %q", in.KMS.CAFile, in.STS.CAFile)
	}
}

func TestValues(t *testing.T) {
	digest, agentDigest := "sha256:"+strings.Repeat("0a", 32), "sha256:"+strings.Repeat("0b", 32)
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, []byte(`
accountID: 1234567890123456 # without quotes: a number
network: public
allow: {podRoles: false, roles: ["acs:ram::1234567890123456:role/kms-*"]}
namespaces:
  - names: [team-a-*]
    allow: {secrets: [team-a/*], identities: [node-role, "access-key:kms-*"]}
  - selector: {matchLabels: {virtual: "true"}, matchExpressions: [{key: zone, operator: In, values: [a]}]}
    agent: {nativeSidecar: never}
agent: {narrowSessions: true, imageVolume: true, metricsPort: 9464}
image: {registry: registry.example.com, repository: team, tag: v1.2.3, digest: "`+digest+`", agentDigest: "`+agentDigest+`",
  pullSecrets: [pull]}
replicas: 3
podDisruptionBudget: {enabled: false}
priorityClassName: ""
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {
  nodeSelectorTerms: [{matchExpressions: [{key: b, operator: Exists}]}]}}}
podLabels: {team: platform}
podAnnotations: {note: x}
excludedNamespaces: [kube-system, cert-manager, istio-system]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	o, _ := render(t, "kms", "--values", values)
	o.check(t)

	in := readConfig(t, o)
	teamA, virtual := in.In(in.Namespaces[0]), in.In(in.Namespaces[1])
	if in.Agent.NativeSidecar != clusterconfig.NativeAuto || virtual.Agent.NativeSidecar != clusterconfig.NativeNever ||
		in.Namespaces[1].Selector.MatchLabels["virtual"] != "true" {
		t.Errorf("selector or sidecars did not arrive: %+v", in)
	}
	if in.AccountID != "1234567890123456" {
		t.Errorf("account is %q, want its digits", in.AccountID)
	}
	if got, want := in.Agent.Image, "registry.example.com/team/kms-agent:v1.2.3@"+agentDigest; got != want {
		t.Errorf("the agent's image is %q, want %q", got, want)
	}
	if in.VPC() || in.Allow.Role("acs:ram::1234567890123456:role/admin") || teamA.Allow.Secret("team-b/db") {
		t.Errorf("network, roles or namespaces did not arrive: %+v", in)
	}
	key := config.Identity{Kind: config.AccessKey, Secret: "kms-a"}
	if !in.Agent.NarrowSessions.Required() || !*in.Agent.ImageVolume || *in.Agent.MetricsPort != 9464 || !teamA.Allow.Identity(key) ||
		in.Allow.Identity(key) {
		t.Errorf("sessions, program, metrics or identities did not arrive: %+v", in)
	}
	pod := o.deployment(listening).Spec.Template
	if got, want := pod.Spec.Containers[0].Image, "registry.example.com/team/kms-webhook:v1.2.3@"+digest; got != want {
		t.Errorf("the webhook's image is %q, want %q", got, want)
	}
	if len(pod.Spec.ImagePullSecrets) != 1 || len(pod.Spec.Tolerations) != 1 || pod.Spec.Affinity == nil || pod.Labels["team"] != "platform" ||
		pod.Annotations["note"] != "x" || pod.Spec.PriorityClassName != "" {
		t.Errorf("the pod is %+v", pod)
	}
	if n := len(every[*policyv1.PodDisruptionBudget](o)); n != 0 {
		t.Errorf("there are %d PodDisruptionBudgets, want none", n)
	}
	if got := pods(t, o).NamespaceSelector.MatchExpressions[1].Values; !slices.Equal(got,
		[]string{"cert-manager", "istio-system", "kms", "kube-system"}) {
		t.Errorf("the excluded namespaces are %v", got)
	}

	// A quoted number keeps its digits.
	o, _ = render(t, "kms", "--set-string", "accountID=0123456789012345")
	if in := readConfig(t, o); in.AccountID != "0123456789012345" {
		t.Errorf("account is %q", in.AccountID)
	}

	o, _ = render(t, "kms", "--set", "excludedNamespaces=null")
	if got := pods(t, o).NamespaceSelector.MatchExpressions[1].Values; !slices.Equal(got, []string{"kms"}) {
		t.Errorf("without excludedNamespaces, the excluded namespaces are %v", got)
	}

	// A staged introduction has a port in some namespaces only.
	render(t, "kms", "--set", "monitoring.podMonitor.enabled=true", "--set-json",
		`namespaces=[{"names":["a"]},{"names":["b"],"agent":{"metricsPort":9464}}]`)

	o, _ = render(t, "kms", "--set", "guard.enabled=false")
	if n := len(every[*admissionv1.ValidatingAdmissionPolicy](o)) + len(every[*admissionv1.ValidatingAdmissionPolicyBinding](o)); n != 0 {
		t.Errorf("switched off, the guard has %d objects", n)
	}
}

// TestSpread: the chart does not change a labelSelector that the values have.
func TestSpread(t *testing.T) {
	const spread = `topologySpreadConstraints=[{"topologyKey":"a","maxSkew":1,"whenUnsatisfiable":"DoNotSchedule"},
		{"topologyKey":"b","maxSkew":1,"whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"tier":"infra"}}}]`
	injector, _ := render(t, "kms", "--set-json", spread)
	for name, o := range map[string]objects{listening: injector, "kms-sync": renderSync(t, "--set-json", spread)} {
		d := o.deployment(name)
		got := d.Spec.Template.Spec.TopologySpreadConstraints
		if len(got) != 2 || !maps.Equal(got[0].LabelSelector.MatchLabels, d.Spec.Selector.MatchLabels) ||
			!maps.Equal(got[1].LabelSelector.MatchLabels, map[string]string{"tier": "infra"}) {
			t.Errorf("%s: the constraints are %+v", name, got)
		}
	}
}

// TestGuardKnowsTheImages: the guard accepts each image that the webhook injects or has injected, with any registry, tag and digest.
func TestGuardKnowsTheImages(t *testing.T) {
	pattern := func(agent string) *regexp.Regexp {
		o, _ := render(t, "kms", "--set-json", "agent="+agent, "--set-json",
			`namespaces=[{"names":["a"],"agent":{"image":"other@sha256:`+strings.Repeat("0", 64)+`"}}]`)
		_, after, _ := strings.Cut(every[*admissionv1.ValidatingAdmissionPolicy](o)[0].Spec.Validations[2].Expression, "matches('")
		text, _, _ := strings.Cut(after, "'")
		return regexp.MustCompile(text)
	}
	named := pattern(`{"image":"registry.example.com:5000/team/agent.x:v1","earlierImages":["old.example.com/kms-agent:v1.*","*-agent:v2"]}`)
	for image, want := range map[string]bool{
		"agent.x":                              true,
		"mirror.example.com:5000/agent.x:next": true,
		"a/b/agent.x:v2@sha256:0":              true,
		"agentyx":                              false,
		"other":                                true,
		"kms-agent":                            true,
		"old/their-agent:v2":                   true,
		"docker.io/library/busybox":            false,
		"busybox:agent.x":                      false,
		"busybox@sha256:0/agent.x":             false,
		"agent.x/busybox":                      false,
	} {
		if got := named.MatchString(image); got != want {
			t.Errorf("%s: %s is taken: %v, want %v", named, image, got, want)
		}
	}
	// An asterisk matches slashes, too.
	if any := pattern(`{"earlierImages":["old.example.com:5000/kms-*"]}`); !any.MatchString("old.example.com:5000/kms-1/agent:v1") {
		t.Errorf("%s", any)
	}
}

// TestCallers: callers of the admission port, and of no other, can be restricted by a certificate and by address.
func TestCallers(t *testing.T) {
	pemFile, _ := authority(t)
	o, _ := render(t, "kms")
	if n := len(every[*networkingv1.NetworkPolicy](o)); n != 0 {
		t.Errorf("there are %d NetworkPolicies by default", n)
	}
	o, _ = render(t, "kms", "--set", "clientCAFile=client-ca.pem", "--set-file", `caFiles.client-ca\.pem=`+pemFile, "--set",
		"networkPolicy.enabled=true,networkPolicy.from={10.0.0.0/28,fd00::/64}")
	if args := o.deployment(listening).Spec.Template.Spec.Containers[0].Args; !slices.Contains(args,
		"--client-ca-file=/etc/kms-webhook/client-ca.pem") {
		t.Errorf("the webhook has the arguments %q", args)
	}
	policy := only[*networkingv1.NetworkPolicy](t, o)
	if selector, of := policy.Spec.PodSelector.MatchLabels,
		o.deployment(listening).Spec.Template.Labels; !labels.SelectorFromSet(selector).Matches(labels.Set(of)) {
		t.Errorf("the policy is for %v, and the webhook's pods have %v", selector, of)
	}
	admission, metrics := policy.Spec.Ingress[0], policy.Spec.Ingress[1]
	// The API server asks for /readyz, too, through its proxy of pods, as docs/runbooks.md does.
	if len(admission.Ports) != 2 || admission.Ports[0].Port.String() != "https" || admission.Ports[1].Port.String() != "health" ||
		len(admission.From) != 3 ||
		admission.From[0].IPBlock.CIDR != "10.0.0.0/28" || admission.From[1].IPBlock.CIDR != "fd00::/64" || admission.From[2].PodSelector == nil {
		t.Errorf("admission is open for %v", admission)
	}
	if len(metrics.Ports) != 1 || metrics.Ports[0].Port.String() != "metrics" || len(metrics.From) != 0 || len(policy.Spec.Ingress) != 2 {
		t.Errorf("further ports: %v", policy.Spec.Ingress[1:])
	}
	if text, err := helm(t, slices.Concat([]string{"template", "kms-agent-injector", chart, "--set", "clientCAFile=/x/ca.pem"},
		required)...); err != nil || strings.Contains(text, "kms-webhook-test") ||
		!strings.Contains(text, "--client-ca-file=/x/ca.pem") {
		t.Errorf("helm test, which has no client certificate, is part of %s, %v", text, err)
	}
}

// A mistake ends the installation with an error that names the value and what to write.
func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"nothing set": {[]string{"--set", "accountID=,clusterID=,region="},
			[]string{"accountID is missing", "clusterID is missing", "region is missing"}},
		"typing error":         {[]string{"--set", "acountID=1"}, []string{"acountID"}},
		"unknown network":      {[]string{"--set", "network=vcp"}, []string{"/network", "'vpc', 'public'"}},
		"scheme in a host":     {[]string{"--set", "kms.endpoint=https://kms.example.com"}, []string{"/kms/endpoint"}},
		"unknown identity":     {[]string{"--set", "allow.identities={node}"}, []string{"/allow/identities/0"}},
		"sidecars of old":      {[]string{"--set", "agent.nativeSidecar=false"}, []string{"/agent/nativeSidecar"}},
		"namespaces of none":   {[]string{"--set", "namespaces[0].allow.podRoles=false"}, []string{"/namespaces/0"}},
		"port of the API":      {[]string{"--set", "agent.metricsPort=2025"}, []string{"/agent/metricsPort"}},
		"unknown resource":     {[]string{"--set", "agent.requests.cpus=1"}, []string{"/agent/requests", "cpus"}},
		"file that is missing": {[]string{"--set", "kms.caFile=ca.pem"}, []string{"kms.caFile", `--set-file 'caFiles.ca\.pem=ca.pem'`}},
		"clients' authority":   {[]string{"--set", "clientCAFile=ca.pem"}, []string{"clientCAFile", `--set-file 'caFiles.ca\.pem=ca.pem'`}},
		"callers from nowhere": {[]string{"--set", "networkPolicy.enabled=true"}, []string{"networkPolicy.from is missing"}},
		"callers by name": {[]string{"--set", "networkPolicy.enabled=true,networkPolicy.from={kube-apiserver}"},
			[]string{"/networkPolicy/from/0"}},
		"files without any": {[]string{"--set", "certificates.mode=files"},
			[]string{"certificates.files.secretName is missing", "certificates.files.caBundle is not PEM"}},
		"files unused": {[]string{"--set", "certificates.files.secretName=own"}, []string{"has no effect"}},
		"monitor of nothing": {[]string{"--set", "monitoring.podMonitor.enabled=true"},
			[]string{"monitoring.podMonitor needs agent.metricsPort"}},
		"label of ours": {[]string{"--set", `podLabels.app\.kubernetes\.io/component=agent`},
			[]string{"podLabels has app.kubernetes.io/component", "remove it"}},
		"digest":        {[]string{"--set", "image.digest=abc,image.agentDigest=v1"}, []string{"/image/digest", "/image/agentDigest"}},
		"issuer unused": {[]string{"--set", "certificates.certManager.issuerRef.name=corp"}, []string{"has no effect"}},
		"issuer without a name": {[]string{"--set", "certificates.mode=cert-manager,certificates.certManager.issuerRef.kind=ClusterIssuer"},
			[]string{"/certificates/certManager/issuerRef", "'name' required"}},
		"days":         {[]string{"--set", "sts.sessionDuration=1d"}, []string{"/sts/sessionDuration"}},
		"half a point": {[]string{"--set-string", "agent.minRefreshInterval=5."}, []string{"/agent/minRefreshInterval"}},
		"no groups": {[]string{"--set", "networkPolicy=null,guard=null,podDisruptionBudget=null,monitoring=null"},
			[]string{"missing properties 'networkPolicy', 'guard', 'podDisruptionBudget', 'monitoring'"}},
		"no monitor": {[]string{"--set", "monitoring.podMonitor=null"}, []string{"at '/monitoring': missing property 'podMonitor'"}},
		"no files": {[]string{"--set", "caFiles=null,kms.caFile=ca.pem,clientCAFile=clients.pem"},
			[]string{`--set-file 'caFiles.ca\.pem=ca.pem'`, `--set-file 'caFiles.clients\.pem=clients.pem'`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := helm(t, slices.Concat([]string{"template", "kms-agent-injector", chart}, required, tt.args)...)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestNotesHaveTheTrustPolicy(t *testing.T) {
	notes, err := helm(t, slices.Concat([]string{"install", "kms-agent-injector", chart, "--dry-run=client", "--namespace", "kms"},
		required)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"`,
		`"https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c0ffee"`,
		"kms.alibabacloud.com/injection=enabled",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not have %s", want)
		}
	}
}
