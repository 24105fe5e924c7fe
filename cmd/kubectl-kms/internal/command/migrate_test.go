package command

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/migrate"
)

// beforeMigration is the example of docs/migrate/ack-secret-manager.md.
func beforeMigration(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../../../docs/migrate/ack-secret-manager.md")
	if err != nil {
		t.Fatal(err)
	}
	_, before, _ := strings.Cut(string(page), "## Before\n\n```yaml\n")
	before, _, found := strings.Cut(before, "```")
	if !found {
		t.Fatal("the page has no example of before")
	}
	return before
}

// The page's example becomes what the page says, and each reason for which a Secret has to stay is found.
func TestMigrate(t *testing.T) {
	before := beforeMigration(t)
	with := func(document string) string { return before + "---\n" + document }
	admin := func(fields string) string { // a second container
		return strings.Replace(before, "      volumes:\n", "        - {name: admin, "+fields+"}\n      volumes:\n", 1)
	}
	made := func(kind, name, ownerVersion, owner, ownerName string) string { // an object whose pod needs the Secret
		spec := "{volumes: [{name: c, csi: {driver: x, nodePublishSecretRef: {name: shop-db}}}], containers: [{name: a}]}"
		if kind != "Pod" {
			spec = "{template: {spec: " + spec + "}}"
		}
		return fmt.Sprintf("kind: %s\nmetadata: {name: %s, namespace: shop, ownerReferences: [{apiVersion: %s, kind: %s, name: %s, "+
			"controller: true}]}\nspec: %s\n", kind, name, ownerVersion, owner, ownerName, spec)
	}
	edited := func(oldNew ...string) string { return strings.NewReplacer(oldNew...).Replace(before) }
	for name, c := range map[string]struct {
		manifest string
		says     []string
	}{
		"the page's example": {before, []string{
			"ExternalSecret shop/shop-db, Secret shop-db: the injector replaces it\n  Deployment web, spec.template.metadata:\n    annotations:\n",
			"      kms.alibabacloud.com/env.SMTP_PASSWORD: shop/prod/smtp\n      kms.alibabacloud.com/inject: \"true\"\n" +
				"      kms.alibabacloud.com/mount-path: /etc/web/db\n      kms.alibabacloud.com/secret.password: shop/prod/db\n",
			"    remove: volume db and its volumeMounts, env SMTP_PASSWORD of container web\n",
			"1 of 1 ExternalSecrets can be replaced\n",
		}},
		"fields, versions and modes": {edited("      name: smtp\n", "      jmesPath: [{path: a.b, objectAlias: smtp}]\n",
			"ACSCurrent", "ACSPrevious", "  provider: kms\n", "  rotationInterval: 90s\n",
			"secret: {secretName: shop-db}", "secret: {secretName: shop-db, items: [{key: password, path: db/pass, mode: 256}]}"), []string{
			"env.SMTP_PASSWORD: shop/prod/smtp#a.b\n", "refresh-interval: 90s\n",
			"secret.db-pass: |\n        name: shop/prod/db\n        versionStage: ACSPrevious\n        path: db/pass\n        mode: \"0400\"\n",
			"1 of 1",
		}},
		"envFrom": {edited("          env:\n            - name: SMTP_PASSWORD\n              valueFrom: {secretKeyRef: "+
			"{name: shop-db, key: smtp}}\n", "          envFrom: [{secretRef: {name: shop-db}, prefix: DB_}]\n"),
			[]string{"env.DB_password: shop/prod/db\n", "env.DB_smtp: shop/prod/smtp\n", "1 of 1"}},
		"an Ingress": {with("kind: Ingress\nmetadata: {name: web, namespace: shop}\nspec: {tls: [{secretName: shop-db}]}\n"),
			[]string{"Secret shop-db: stays\n  Ingress web: spec.tls[0].secretName\n", "0 of 1"}},
		"an Ingress elsewhere": {with("kind: Ingress\nmetadata: {name: web, namespace: other}\nspec: {tls: [{secretName: shop-db}]}\n"),
			[]string{"1 of 1"}},
		"an image pull": {edited("    spec:\n      containers", "    spec:\n      imagePullSecrets: [{name: shop-db}]\n      containers"),
			[]string{"stays\n  Deployment web: spec.imagePullSecrets[0].name\n"}},
		"a ServiceAccount": {with("kind: ServiceAccount\nmetadata: {name: a, namespace: shop}\nimagePullSecrets: [{name: shop-db}]\n"),
			[]string{"stays\n  ServiceAccount a: imagePullSecrets[0].name\n"}},
		"a projected volume": {edited("secret: {secretName: shop-db}", "projected: {sources: [{secret: {name: shop-db}}]}"),
			[]string{"stays\n  Deployment web: spec.volumes[0].projected.sources[0].secret.name\n"}},
		"no command beside variables": {admin("volumeMounts: [{name: db, mountPath: /etc/web/db}]"),
			[]string{"stays\n  Deployment web: container admin gets variables and has no command"}},
		"a variable of its own": {edited("          env:\n", "          envFrom: [{secretRef: {name: shop-db}}]\n          env:\n"+
			"            - {name: password, value: dev}\n"), []string{"stays\n  Deployment web: container web has a variable password of its own"}},
		"a variable of its own beside it": {admin("command: [a], env: [{name: SMTP_PASSWORD, value: dev}], volumeMounts: [{name: db, " +
			"mountPath: /etc/web/db}]"), []string{"stays\n  Deployment web: container admin has a variable SMTP_PASSWORD of its own"}},
		"envFrom that wins": {edited("          env:\n", "          envFrom: [{secretRef: {name: shop-db}}, {configMapRef: {name: cm}}]\n"+
			"          env:\n"), []string{"stays\n  Deployment web: container web may have the variable password of ConfigMap cm", "0 of 1"}},
		"envFrom that does not win": {edited("          env:\n", "          envFrom: [{configMapRef: {name: cm}}, {secretRef: "+
			"{name: shop-db}}]\n          env:\n"), []string{"env.password: shop/prod/db\n", "1 of 1"}},
		"a reference in the command": {edited("[/app/web]", "[/app/web, --password=$(SMTP_PASSWORD), --price=$$(SMTP_PASSWORD)]"),
			[]string{"stays\n  Deployment web: container web has $(SMTP_PASSWORD) in command, which Kubernetes would not replace"}},
		"a reference in a variable": {edited("          env:\n", "          env:\n            - {name: DSN, value: 'u:$(SMTP_PASSWORD)@db'}\n"),
			[]string{"stays\n  Deployment web: container web has $(SMTP_PASSWORD) in the variable DSN"}},
		"an exec probe": {edited("          env:\n", "          livenessProbe: {exec: {command: [check]}}\n          env:\n"),
			[]string{"stays\n  Deployment web: container web has livenessProbe.exec"}},
		"an exec hook": {edited("          env:\n", "          lifecycle: {preStop: {exec: {command: [bye]}}}\n          env:\n"),
			[]string{"stays\n  Deployment web: container web has lifecycle.preStop.exec"}},
		"a probe without exec": {edited("          env:\n", "          livenessProbe: {httpGet: {port: 80}}\n          env:\n"),
			[]string{"1 of 1"}},
		"subPath":     {edited("mountPath: /etc/web/db,", "mountPath: /etc/web/db, subPath: password,"), []string{"stays", "by subPath"}},
		"no command":  {edited("          command: [/app/web]\n", ""), []string{"stays", "has no command"}},
		"another key": {edited("key: smtp}", "key: other}"), []string{"stays\n  Deployment web: the variable SMTP_PASSWORD is of the key other"}},
		"dataProcess": {edited("  provider: kms\n", "  dataProcess: [{extract: {key: a}}]\n"), []string{"stays\n  it has dataProcess"}},
		"a template":  {edited("  provider: kms\n", "  target: {template: {data: {a: b}}}\n"), []string{"stays\n  it has target.template.data"}},
		"one variable of two keys": {admin("command: [a], env: [{name: SMTP_PASSWORD, valueFrom: {secretKeyRef: " +
			"{name: shop-db, key: password}}}]"), []string{"stays\n  Deployment web: kms.alibabacloud.com/env.SMTP_PASSWORD would be " +
			"shop/prod/smtp and shop/prod/db; give one of the two another name\n", "0 of 1"}},
		"two paths of one annotation": {edited("{secretName: shop-db}", "{secretName: shop-db, items: [{key: password, path: conf/db}, "+
			"{key: smtp, path: conf-db}]}"), []string{"stays\n  Deployment web: kms.alibabacloud.com/secret.conf-db would be ", "0 of 1"}},
		"one file of two volumes": {strings.NewReplacer("{secretName: shop-db}", "{secretName: shop-db, items: [{key: password, path: cred}]}\n"+
			"        - {name: other, secret: {secretName: shop-db, items: [{key: smtp, path: cred}]}}").Replace(
			admin("volumeMounts: [{name: other, mountPath: /etc/web/db}]")), []string{
			"stays\n  Deployment web: kms.alibabacloud.com/secret.cred would be shop/prod/db and shop/prod/smtp", "0 of 1"}},
		"two of one workload": {with(strings.NewReplacer("shop-db", "shop-other", "name: web\n  namespace", "name: web\n  namespace",
			"/etc/web/db", "/etc/other", "SMTP_PASSWORD", "OTHER").Replace(before)), []string{
			"stays\n  Deployment web: kms.alibabacloud.com/mount-path would be /etc/web/db for it and /etc/other for ExternalSecret shop-other\n",
			"0 of 2"}},
		"two of one workload, one of them for one container": {strings.Replace(admin("command: [a], env: [{name: B, valueFrom: "+
			"{secretKeyRef: {name: other, key: b}}}]"), "          env:\n", "          env:\n            - name: B\n"+
			"              valueFrom: {secretKeyRef: {name: other, key: b}}\n", 1) +
			"---\nkind: ExternalSecret\napiVersion: alibabacloud.com/v1alpha1\nmetadata: {name: other, namespace: shop}\n" +
			"spec: {data: [{key: shop/prod/b, name: b}]}\n", []string{
			"stays\n  Deployment web: kms.alibabacloud.com/containers would be web for it and absent for ExternalSecret other\n",
			"stays\n  Deployment web: kms.alibabacloud.com/containers would be absent for it and web for ExternalSecret shop-db\n", "0 of 2"}},
		"what a controller made": {with(made("Pod", "web-1", "apps/v1", "Deployment", "web")), []string{"1 of 1"}},
		"what a controller made that is not there": {with(made("Pod", "db-0", "apps.kruise.io/v1alpha1", "CloneSet", "db")),
			[]string{"stays\n  Pod db-0: spec.volumes[0].csi.nodePublishSecretRef.name\n", "0 of 1"}},
		"what a controller of another group made": {with(made("Pod", "web-1", "example.com/v1", "Deployment", "web")), []string{"0 of 1"}},
		"what a controller without a template made": {with("kind: Rollout\napiVersion: argoproj.io/v1alpha1\n" +
			"metadata: {name: web, namespace: shop}\nspec: {workloadRef: {kind: Deployment, name: web}}\n---\n" +
			made("ReplicaSet", "web-1", "argoproj.io/v1alpha1", "Rollout", "web")),
			[]string{"stays\n  ReplicaSet web-1: spec.volumes[0].csi", "0 of 1"}},
		"a workload that an operator made": {edited("  name: web\n  namespace: shop\n", "  name: web\n  namespace: shop\n  ownerReferences: "+
			"[{apiVersion: example.com/v1, kind: Shop, name: shop, controller: true}]\n"), []string{
			"stays\n  Deployment web: Shop shop makes it, and has no pod template among these manifests; add it, or", "0 of 1"}},
		"what another only owns": {with(strings.Replace(made("Pod", "web-1", "apps/v1", "Deployment", "web"), "true", "false", 1)),
			[]string{"0 of 1"}},
		"an optional volume": {edited("{secretName: shop-db}", "{secretName: shop-db, optional: true}"),
			[]string{"stays\n  Deployment web: volume db is optional"}},
		"an optional variable": {edited("key: smtp}", "key: smtp, optional: true}"),
			[]string{"stays\n  Deployment web: the variable SMTP_PASSWORD is optional"}},
		"an optional envFrom": {edited("          env:\n", "          envFrom: [{secretRef: {name: shop-db, optional: true}}]\n          env:\n"),
			[]string{"stays\n  Deployment web: envFrom shop-db is optional"}},
		"a key of the Secret's name": {edited("name: smtp\n", "name: shop-db\n", "key: smtp", "key: shop-db", "{secretName: shop-db}",
			"{secretName: shop-db, items: [{key: shop-db, path: shop-db}]}"), []string{"secret.shop-db: shop/prod/smtp\n", "1 of 1"}},
		"a key of the Secret's name, of another": {edited("{name: shop-db, key: smtp}", "{name: other, key: shop-db}"), []string{"1 of 1"}},
		"what YAML takes for a boolean": {strings.Replace(admin("command: [a]"), "- name: web\n", "- name: 'on'\n", 1),
			[]string{"containers: \"on\"\n", "1 of 1"}},
		"never again": {edited("  provider: kms\n", "  rotationInterval: '0'\n"), []string{"refresh-interval: \"0\"\n", "1 of 1"}},
		"the old name of serviceAccountName": {edited("      containers:\n", "      serviceAccount: legacy\n      containers:\n"),
			[]string{"ServiceAccount legacy needs"}},
		"unused": {"kind: ExternalSecret\napiVersion: alibabacloud.com/v1alpha1\nmetadata: {name: a}\nspec: {data: [{key: a}]}\n",
			[]string{"ExternalSecret default/a, Secret a: nothing among these manifests reads it\n0 of 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, c.manifest, "migrate", "-f", "-")
			for _, says := range c.says {
				if code != 0 || !strings.Contains(stdout, says) {
					t.Errorf("exit code %d; does not say\n%s\nbut\n%s%s", code, says, stdout, stderr)
				}
			}
		})
	}
	_, stdout, stderr := run(t, before, "migrate", "-f", "-", "-o", "json")
	var plans []migrate.Plan
	if err := json.Unmarshal([]byte(stdout), &plans); err != nil || len(plans) != 1 || len(plans[0].Workloads) != 1 {
		t.Errorf("%v\n%s%s", err, stdout, stderr)
	}
}
