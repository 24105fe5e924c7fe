package command

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/decide"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const operator = "../../../../injector/testdata/operator.yaml"

const account = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
  namespace: shop
  annotations: {ack.alibabacloud.com/role-arn: "acs:ram::1234567890123456:role/shop"}
---
`

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata:
      annotations:
        kms.alibabacloud.com/inject: "true"
        kms.alibabacloud.com/secret.db: app/prod/db
    spec:
      serviceAccountName: web
      securityContext: {runAsUser: 1000}
      containers: [{name: web, image: web}]
`

// run calls the plugin as kubectl does, away from any cluster.
func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("HOME", t.TempDir())
	var out, err bytes.Buffer
	code = Execute(t.Context(), args, Streams{In: strings.NewReader(stdin), Out: &out, Err: &err, Getenv: os.Getenv}, "v1.2.3")
	return code, out.String(), err.String()
}

func TestValidate(t *testing.T) {
	policy, err := os.ReadFile(operator)
	if err != nil {
		t.Fatal(err)
	}
	byLabel := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(byLabel, append(policy, "namespaces:\n- selector: {matchLabels: {kubernetes.io/metadata.name: shop}}\n"+
		"  allow: {secrets: [shop/*]}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		manifest string
		args     []string
		code     int
		says     string
	}{
		"right": {account + deployment, []string{"--config", operator}, 0, "1 pod looked at, 1 asking for injection (policy: " +
			operator + "): 0 mistakes, 0 warnings"},
		"no request": {"kind: Pod\nspec: {containers: [{name: a}]}\n", []string{"--config", operator}, 0, "1 pod looked at, 0 asking"},
		"no pods":    {account, []string{"--config", operator}, 0, "0 pods"},
		"typing error": {strings.ReplaceAll(deployment, "secret.db", "secrt.db"), []string{"--offline"}, 1,
			"-:9: mistake: Deployment shop/web: kms.alibabacloud.com/secrt.db: unknown annotation; did you mean kms.alibabacloud.com/secret.db?"},
		"JMESPath": {strings.ReplaceAll(deployment, "app/prod/db", "\"{name: a, format: env, keys: {A: 'b['}}\""),
			[]string{"--offline"}, 1, "-:9: mistake: Deployment shop/web: kms.alibabacloud.com/secret.db: keys: A: \"b[\" is not a JMESPath " +
				"expression"},
		"not a string": {strings.ReplaceAll(deployment, `"true"`, "true"), []string{"--offline"}, 1,
			"-:8: mistake: Deployment shop/web: kms.alibabacloud.com/inject: values of annotations are strings, and YAML takes this one for true; " +
				"write it in quotes\n"},
		"not text": {strings.ReplaceAll(deployment, "app/prod/db", "{name: app/prod/db, format: env}"), []string{"--offline"}, 1,
			"-:9: mistake: Deployment shop/web: kms.alibabacloud.com/secret.db: values of annotations are strings; write | after the colon"},
		"not a pod": {strings.ReplaceAll(deployment, "[{name: web, image: web}]", "[5]"), []string{"--offline"}, 1,
			"Deployment shop/web: pod: Kubernetes would not read it: "},
		"template": {strings.ReplaceAll(deployment, "app/prod/db", "\"{name: a, format: template, template: '{{ .a'}\""),
			[]string{"--offline"}, 1, "template"},
		"policy": {account + strings.ReplaceAll(deployment, "app/prod", "other"), []string{"--config", operator}, 1,
			"does not allow the secret"},
		"no policy": {account + strings.ReplaceAll(deployment, "app/prod", "other"), []string{"--offline"}, 0, "(policy: none)"},
		"the pod's content": {account + strings.ReplaceAll(deployment, "secret.db:",
			"containers: wbe\n        kms.alibabacloud.com/secret.db:"), []string{"--config", operator}, 1, "there is no container wbe in the pod"},
		"account without role": {strings.ReplaceAll(account, "ack.alibabacloud.com/role-arn", "x") + deployment, []string{"--config", operator},
			0, "warning: Deployment shop/web: its pods will be refused"},
		"account unknown": {deployment, []string{"--config", operator}, 0, "warning: Deployment shop/web: its role was not checked"},
		"not opted in": {"kind: Namespace\nmetadata: {name: shop}\n---\n" + account + deployment, []string{"--config", operator}, 0,
			"kubectl label namespace shop kms.alibabacloud.com/injection=enabled"},
		"a namespace by the label that it has from the API server": {"kind: Namespace\nmetadata: {name: shop}\n---\n" + account + deployment,
			[]string{"--config", byLabel}, 1, "does not allow the secret"},
		"not on the pod": {strings.ReplaceAll(deployment, "shop}",
			"shop, annotations: {kms.alibabacloud.com/mode: init, kms.alibabacloud.com/inject: \"true\"}}"), []string{"--offline"}, 0,
			"-:3: warning: Deployment shop/web: kms.alibabacloud.com/mode: has no effect here, only on pods; move it to " +
				"spec.template.metadata.annotations\n"},
		"of the Jobs": {"kind: CronJob\nspec:\n  jobTemplate:\n    metadata:\n      annotations:\n        " +
			"kms.alibabacloud.com/inject: \"true\"\n    spec: {template: {spec: {containers: [{name: a}]}}}\n", []string{"--offline"}, 0,
			"-:6: warning: CronJob default/: kms.alibabacloud.com/inject: has no effect here, only on pods; move it to " +
				"spec.jobTemplate.spec.template.metadata.annotations\n"},
		"another prefix": {strings.ReplaceAll(deployment, "kms.alibabacloud.com/", "kms.alibabacloud/"), []string{"--offline"}, 0,
			"-:8: warning: Deployment shop/web: kms.alibabacloud/inject: has no effect; did you mean kms.alibabacloud.com/inject?\n"},
		"not YAML":        {"a: [", []string{"--offline"}, 2, "not checked"},
		"no policy there": {deployment, []string{"--config", "none.yaml"}, 2, "none.yaml"},
		"odd output":      {deployment, []string{"-o", "xml"}, 2, "xml"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, c.manifest, append([]string{"validate", "-f", "-"}, c.args...)...)
			if code != c.code || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
}

const externalSecret = `apiVersion: alibabacloud.com/v1alpha1
kind: ExternalSecret
metadata:
  name: db
  namespace: shop
  annotations:
    kms.alibabacloud.com/service-account: shop
spec:
  data:
  - key: app/db
    name: db
    jmesPath:
    - {path: "a[", objectAlias: user}
  - key: app/prod/token
  target:
    template:
      data:
        tls.crt: '{{ env "HOME" }}'
`

// ExternalSecrets are held to what kms-sync holds them to.
func TestValidateExternalSecret(t *testing.T) {
	for name, c := range map[string]struct {
		manifest string
		code     int
		says     []string
	}{
		"right": {strings.NewReplacer("a[", "a", "/token", "/token\n    name: token", "env \"HOME\"", ".user").Replace(externalSecret), 0,
			[]string{"0 pods looked at, 0 asking for injection, 1 ExternalSecret (policy: none): 0 mistakes, 0 warnings\n"}},
		"all mistakes, with their lines": {externalSecret, 1, []string{
			"-:13: mistake: ExternalSecret shop/db: spec.data[0].jmesPath[0].path: expected *",
			"-:14: mistake: ExternalSecret shop/db: spec.data[1].name: is missing",
			`-:18: mistake: ExternalSecret shop/db: spec.target.template.data["tls.crt"]: line 1: function env is not available`,
			"3 mistakes",
		}},
		"unknown fields": {strings.NewReplacer("key: app/db", "key: app/db\n    versionid: v1").Replace(externalSecret), 1, []string{
			"-:11: mistake: ExternalSecret shop/db: spec.data[0].versionid: is no field of the kind ExternalSecret; the API server removes it",
			"-:14: mistake: ExternalSecret shop/db: spec.data[0].jmesPath[0].path: expected *",
		}},
		"another type": {strings.ReplaceAll(externalSecret, "name: db\n    jmes", "name: 5\n    jmes"), 1,
			[]string{"-:1: mistake: ExternalSecret shop/db: Kubernetes would not read it: "}},
		"stores": {`apiVersion: alibabacloud.com/v1alpha1
kind: SecretStore
metadata: {name: prod, namespace: shop}
spec:
  KMS:
    dedicatedKMSAuth:
      endpoint: kst-1
      ignoreSSL: true
      clientKeyContent: {name: a, key: b}
      password: {name: a, key: b}
---
apiVersion: alibabacloud.com/v1alpha1
kind: ClusterSecretStore
metadata: {name: all}
spec:
  KMS: {KMSAuth: {serviceAccountRef: {name: web}, ramRoleArn: x}}
  conditions:
  - namespaceRegexes: ["pro(d"]
`, 1, []string{
			"-:8: mistake: SecretStore shop/prod: spec.KMS.dedicatedKMSAuth.ignoreSSL: is true",
			"-:16: mistake: ClusterSecretStore all: spec.KMS.KMSAuth.ramRoleArn: is no field of the kind ClusterSecretStore",
			"-:18: mistake: ClusterSecretStore all: spec.conditions[0].namespaceRegexes[0]: the regular expression cannot be parsed",
			"2 stores (policy: none): 3 mistakes",
		}},
		"External Secrets Operator's": {strings.ReplaceAll(externalSecret, "alibabacloud.com/v1alpha1", "external-secrets.io/v1"), 1,
			[]string{"0 pods looked at, 0 asking for injection (policy: none)"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, c.manifest, "validate", "-f", "-", "--offline")
			for _, says := range c.says {
				if !strings.Contains(stdout, says) {
					t.Errorf("does not say %q:\n%s%s", says, stdout, stderr)
				}
			}
			if code != c.code {
				t.Errorf("exit code %d, want %d:\n%s%s", code, c.code, stdout, stderr)
			}
		})
	}
}

func TestValidateJSON(t *testing.T) {
	code, stdout, _ := run(t, account+strings.ReplaceAll(deployment, "secret.db: app/prod/db", "mode: sidecr"), "validate", "-f", "-",
		"--offline", "-o", "json")
	var r decide.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	if code != 1 || len(r.Findings) == 0 {
		t.Fatalf("%d %+v", code, r)
	}
	f := r.Findings[0]
	if f.Severity != decide.Mistake || f.File != "-" || f.Line != 16 || f.Kind != "Deployment" || f.Namespace != "shop" || f.Name != "web" ||
		f.Where != podconfig.Prefix+"mode" || !strings.Contains(f.Problem, `did you mean "sidecar"?`) {
		t.Errorf("%+v", f)
	}
}

// The webhook's configuration is checked by itself, as the webhook checks it.
func TestValidateConfiguration(t *testing.T) {
	good, err := os.ReadFile("../../testdata/people/operator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		document string
		args     []string
		code     int
		says     string
	}{
		"right":              {string(good), nil, 0, ": no mistakes\n"},
		"a typing error":     {string(good) + "regoin: x\n", nil, 1, `there is no field "regoin"; did you mean "region"?`},
		"several":            {"region: x\nnetwork: vcp\n", []string{"-o", "json"}, 1, `"where": "network"`},
		"a typing, for jq":   {string(good) + "regoin: x\n", []string{"-o", "json"}, 1, `did you mean \"region\"?`},
		"right, for jq":      {string(good), []string{"-o", "json"}, 0, `"findings": []`},
		"a file that lies":   {string(good) + "kms: {caFile: config.yaml}\n", nil, 1, "has no certificate in PEM form"},
		"a file not there":   {string(good) + "kms: {caFile: ca.pem}\n", nil, 1, "kms.caFile: ca.pem: "},
		"no quantity at all": {strings.Replace(string(good), "v0.0.0", "v0.0.0\n  limits: {memory: 6Mi}", 1), nil, 1, "write 16Mi or more"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(c.document), 0o600); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := run(t, "", append([]string{"validate", "--config", file}, c.args...)...)
			if code != c.code || !strings.Contains(stdout, c.says) {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

func TestInject(t *testing.T) {
	code, stdout, stderr := run(t, account+deployment, "inject", "-f", "-", "--config", operator)
	if code != 0 || !strings.HasPrefix(stdout, account) || !strings.Contains(stdout, "- name: kms-agent-init\n") ||
		!strings.Contains(stdout, "kms.alibabacloud.com/injected: v1.2.3") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	again, twice, _ := run(t, stdout, "inject", "-f", "-", "--config", operator)
	if again != 0 || twice != stdout {
		t.Errorf("injected twice it is\n%s", twice)
	}
	code, stdout, stderr = run(t, account+strings.ReplaceAll(deployment, "app/prod", "other"), "inject", "-f", "-", "--config", operator)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "Deployment shop/web: kms.alibabacloud.com/secret.db: the administrator") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	code, _, stderr = run(t, deployment, "inject", "-f", "-", "--config", operator)
	if code != 1 || !strings.Contains(stderr, "ServiceAccount shop/web, with which the pod runs, is not among the manifests") {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestExplain(t *testing.T) {
	code, stdout, _ := run(t, "", "explain")
	for _, a := range podconfig.Annotations() {
		if !strings.Contains(stdout, "\n"+strings.TrimPrefix(a.Key, podconfig.Prefix)+"  ") {
			t.Errorf("%d: the overview is without %s:\n%s", code, a.Key, stdout)
		}
	}
	if code, stdout, _ = run(t, "", "explain", "secret"); code != 0 || !strings.Contains(stdout, "versionStage   for example ACSPrevious") {
		t.Errorf("%d\n%s", code, stdout)
	}
	if code, _, stderr := run(t, "", "explain", "refresh-intervall"); code != 1 ||
		!strings.Contains(stderr, "did you mean kms.alibabacloud.com/refresh-interval?") {
		t.Errorf("%d\n%s", code, stderr)
	}
	var a podconfig.Annotation
	if _, stdout, _ = run(t, "", "explain", "mode", "-o", "json"); json.Unmarshal([]byte(stdout), &a) != nil ||
		a.Key != podconfig.Prefix+"mode" {
		t.Error(stdout)
	}
}

// Each command has examples in its help, and a shell can complete what it takes.
func TestHelpAndCompletion(t *testing.T) {
	root := (&shell{kube: genericclioptions.NewConfigFlags(true)}).root()
	atRest, _, err := root.Find([]string{"at-rest"})
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range append(root.Commands(), atRest.Commands()...) {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s has no example", cmd.Name())
		}
		if !cmd.HasParent() || cmd.ValidArgsFunction == nil {
			t.Errorf("%s completes to file names", cmd.Name())
		}
	}
	for typed, want := range map[string]string{
		"explain refresh":        "refresh-interval\t",
		"at-rest ":               "migrate\t",
		"at-rest status -o ":     "table\njson\nyaml\n:4\n",
		"at-rest migrate --via ": "auto\nupdates\nstorageversionmigration\n:4\n",
		"status -o ":             "table\nwide\njson\nyaml\n:4\n",
		"validate -o ":           "text\njson\n:4\n",
		"status -n ":             ":4\n", // without a cluster there is nothing to offer, and files are not offered either
	} {
		if _, stdout, _ := run(t, "", append([]string{"__complete"}, strings.Split(typed, " ")...)...); !strings.Contains("\n"+stdout,
			"\n"+want) {
			t.Errorf("kubectl kms %s completes to\n%s\nwant\n%s", typed, stdout, want)
		}
	}
	for _, version := range []string{"version --client", "--version"} {
		if code, stdout, stderr := run(t, "", strings.Fields(version)...); code != 0 || stdout != "kubectl-kms v1.2.3\n" {
			t.Error(version, code, stdout, stderr)
		}
	}
}

// What is typed wrongly is no verdict: continuous integration must not take it for one.
func TestTypedWrongly(t *testing.T) {
	for typed, c := range map[string]struct {
		code int
		says string
	}{
		"nonsense":           {1, "unknown command"},
		"-v":                 {1, "kubectl kms --help shows the flags"},
		"status --nonsense":  {2, "not looked at: unknown flag: --nonsense; kubectl kms status --help shows the flags"},
		"validate --files x": {2, "not checked: unknown flag: --files; kubectl kms validate --help"},
		"validate web.yaml": {2, "not checked: \"web.yaml\" is no flag; manifests are named by one: " +
			"kubectl kms validate -f web.yaml"},
		"inject web.yaml":                      {1, "kubectl kms inject -f web.yaml"},
		"doctor":                               {2, "not examined: name one pod"},
		"doctor a b":                           {2, "not examined: name one pod"},
		"doctor a --depth 3":                   {2, "not examined: unknown flag"},
		"at-rest stauts":                       {1, "unknown command"},
		"at-rest status x":                     {2, "not examined: unknown command"},
		"at-rest status -o xml":                {2, "not examined: -o xml: this command knows"},
		"at-rest status --resources a --qps 0": {2, "not examined: --qps 0"},
		"at-rest migrate --via patches":        {2, "not migrated: --via patches: this command knows"},
		"at-rest migrate --via storageversionmigration --annotate": {2, "not migrated: --annotate changes objects"},
	} {
		if code, stdout, stderr := run(t, "", strings.Fields(typed)...); code != c.code || stdout != "" || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit code %d, want %d and %q: %s%s", typed, code, c.code, c.says, stdout, stderr)
		}
	}
}
