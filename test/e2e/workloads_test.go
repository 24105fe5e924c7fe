//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Each mode in each kind of workload: the application has the file, and Jobs complete although a sidecar would refresh indefinitely.
// A pod that never restarts and whose secret does not exist fails, too, and says why.
func TestModesInWorkloads(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name, want := secretName("modes"), value()
	put(t, name, want)
	var manifests strings.Builder
	modes := []string{"sidecar", "init", "single"}
	for _, mode := range modes {
		template := func(kind, then, restarts, indent string) string {
			secret := name
			if kind == "missing" {
				secret = secretName("nowhere")
			}
			body := workload{
				name: mode + "-" + kind, spec: "restartPolicy: " + restarts,
				annotations: []string{"inject: true", "mode: " + mode, "secret.f: " + secret},
				containers:  commanded("app", fmt.Sprintf("[sh, -c, 'cat %s/f && echo && %s']", dir, then)),
			}.body(ns, indent)
			return strings.Replace(body, "labels: {", "labels: {kind: "+kind+", ", 1)
		}
		object := func(apiVersion, kind, spec string) {
			fmt.Fprintf(&manifests, "---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec:\n%s", apiVersion, kind, mode, ns,
				spec)
		}
		const stay, end = "exec sleep 100000", "exit 0"
		for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
			object("apps/v1", kind, fmt.Sprintf("  selector: {matchLabels: {app: %s-%s}}\n  template:\n%s", mode, strings.ToLower(kind),
				template(strings.ToLower(kind), stay, "Always", "    ")))
		}
		object("batch/v1", "Job", "  template:\n"+template("job", end, "OnFailure", "    "))
		object("batch/v1", "CronJob", "  schedule: '* * * * *'\n  suspend: true\n  jobTemplate:\n    spec:\n      template:\n"+template("cronjob",
			end, "Never", "        "))
		fmt.Fprintf(&manifests, "---\napiVersion: v1\nkind: Pod\n%s---\napiVersion: v1\nkind: Pod\n%s", template("pod", end, "Never", ""),
			template("missing", end, "Never", ""))
	}
	apply(t, manifests.String())
	for _, mode := range modes {
		kubectl(t, "-n", ns, "create", "job", mode+"-cron", "--from=cronjob/"+mode) // by its schedule there would be one now and then
	}
	kubectl(t, "-n", ns, "wait", "--for=condition=Complete", "job", "--all", "--timeout=5m")
	kubectl(t, "-n", ns, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod", "-l", "kind=pod", "--timeout=5m")
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod", "-l", "kind in (deployment,statefulset,daemonset)", "--timeout=5m")
	kubectl(t, "-n", ns, "wait", "--for=jsonpath={.status.phase}=Failed", "pod", "-l", "kind=missing", "--timeout=5m")
	logs := kubectl(t, "-n", ns, "logs", "-l", "kind,kind!=missing", "-c", "app", "--prefix", "--tail=-1", "--max-log-requests=50")
	apps := kubectl(t, "-n", ns, "get", "pods", "-l", "kind,kind!=missing", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.app}{"\n"}{end}`)
	have := map[string]bool{}
	for line := range strings.Lines(apps) {
		pod, app, _ := strings.Cut(strings.TrimSpace(line), " ")
		have[app] = have[app] || strings.Contains(logs, "[pod/"+pod+"/app] "+want+"\n")
	}
	if len(have) != 18 {
		t.Errorf("there are pods of %d of 18 workloads:\n%s", len(have), apps)
	}
	for app, has := range have {
		if !has {
			t.Errorf("%s: no pod has the secret's value in the file", app)
		}
	}
	for _, mode := range modes {
		if why := whyNot(t, ns, mode+"-missing"); !strings.Contains(why, "Forbidden.ResourceNotFound") {
			t.Errorf("%s: the pod failed, but the termination message does not say why: %q", mode, why)
		}
		single := status(t, ns, kubectl(t, "-n", ns, "get", "pod", "-l", "app="+mode+"-deployment", "-o", "jsonpath={.items[0].metadata.name}"))
		if init := single.container("kms-agent-init").Name != ""; init != (mode != "single") {
			t.Errorf("%s: init container: %v", mode, init)
		}
	}
}

// Where the administrator says that the nodes know no native sidecars, as virtual nodes, the sidecar is a container beside the application,
// and Jobs complete all the same.
func TestPlainSidecars(t *testing.T) {
	t.Parallel()
	ns := namespace(t, `plain-sidecar: "true"`)
	name, want := secretName("plain"), value()
	put(t, name, want)
	manifests := workload{name: "web", annotations: []string{"inject: true", "secret.f: " + name}}.pod(ns)
	for job, annotations := range map[string][]string{"sidecar": nil, "init": {"mode: init"}} {
		manifests += fmt.Sprintf("---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: %s, namespace: %s}\nspec:\n  template:\n%s", job, ns,
			workload{
				name: job, spec: "restartPolicy: Never", annotations: append(annotations, "inject: true", "secret.f: "+name),
				containers: commanded("app", fmt.Sprintf("[cat, %s/f]", dir)),
			}.body(ns, "    "))
	}
	apply(t, manifests)
	ready(t, ns, "web")
	kubectl(t, "-n", ns, "wait", "--for=condition=Complete", "job", "--all", "--timeout=5m")
	for _, job := range []string{"sidecar", "init"} {
		if got := kubectl(t, "-n", ns, "logs", "job/"+job, "-c", "app"); got != want {
			t.Errorf("job %s: the file does not hold the secret's value", job)
		}
	}
	if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
		t.Error("the file does not hold the secret's value")
	}
	if got := kubectl(t, "-n", ns, "get", "pod", "web", "-o",
		"jsonpath={.spec.initContainers[*].name} {.spec.containers[*].name}"); got != "kms-agent-init app kms-agent" {
		t.Errorf("the containers are %s", got)
	}
}

// A container reads the files as whatever user it runs, and their modes are as narrow as possible.
func TestWhoReads(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	kubectl(t, "label", "namespace", ns, "--overwrite", "pod-security.kubernetes.io/enforce=baseline")
	name, want := secretName("readers"), value()
	put(t, name, want)
	as := func(container string, user int) string {
		return strings.Replace(container, "securityContext: {", fmt.Sprintf("securityContext: {runAsUser: %d, ", user), 1)
	}
	cases := map[string]struct {
		workload
		want string // mode, user and group of the file
	}{
		"nothing-stated":  {workload{}, "444 65532 65532"},
		"arbitrary-user":  {workload{podSecurity: "runAsUser: 1000680000"}, "400 1000680000 65532"},
		"user-and-group":  {workload{podSecurity: "runAsUser: 1000\nrunAsGroup: 3000"}, "400 1000 3000"},
		"fsgroup":         {workload{podSecurity: "fsGroup: 2000"}, "440 65532 2000"},
		"user-fsgroup":    {workload{podSecurity: "runAsUser: 1000\nfsGroup: 2000"}, "400 1000 2000"},
		"different-users": {workload{containers: as(container("app"), 1000) + as(container("other"), 1001)}, "444 65532 65532"},
		"root": {workload{containers: strings.Replace(as(container("app"), 0), "{runAsUser", "{runAsNonRoot: false, runAsUser", 1)},
			"444 65532 65532"},
	}
	var pods strings.Builder
	for pod, c := range cases {
		c.name, c.annotations = pod, []string{"inject: true", "secret.f: " + name, "mode: init"}
		pods.WriteString("---\n" + c.pod(ns))
	}
	apply(t, pods.String())
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=5m")
	for name, c := range cases {
		containers := []string{"app"}
		if name == "different-users" {
			containers = append(containers, "other")
		}
		for _, container := range containers {
			out := in(t, ns, name, container, "sh", "-c", "stat -L -c '%a %u %g' "+dir+"/f && cat "+dir+"/f")
			if out != c.want+"\n"+want {
				t.Errorf("%s: container %s: want %s and the value, got %s", name, container, c.want, strings.ReplaceAll(out, want, "(the value)"))
			}
		}
	}
}

// The kubelet makes the directory for the files in a ConfigMap's volume, also where its mount is read-only.
func TestInsideConfigMap(t *testing.T) {
	ns := namespace(t)
	name, want := secretName("inside"), value()
	put(t, name, want)
	apply(t, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: %s}\ndata: {app.yaml: \"a: b\"}\n", ns))
	apply(t, workload{
		name: "web", annotations: []string{"inject: true", "secret.f: " + name, "mount-path: /etc/app/secrets"},
		containers: container("app", "volumeMounts: [{name: settings, mountPath: /etc/app, readOnly: true}]") +
			container("other", "volumeMounts: [{name: settings, mountPath: /etc/app}]"),
		spec: "volumes: [{name: settings, configMap: {name: settings}}]",
	}.pod(ns))
	ready(t, ns, "web")
	for _, c := range []string{"app", "other"} {
		if got := in(t, ns, "web", c, "sh", "-c", "cat /etc/app/app.yaml /etc/app/secrets/f"); got != "a: b"+want {
			t.Errorf("container %s does not see the settings and the value", c)
		}
	}
}
