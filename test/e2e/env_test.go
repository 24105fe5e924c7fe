//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// commanded is a container with a command of its own.
func commanded(name, command string) string {
	return strings.Replace(container(name), `[sleep, "100000"]`, command, 1)
}

// prints waits until the container app, which counts as ready before it has done anything, has printed this and nothing else.
func prints(t *testing.T, ns, pod, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		if got := kubectl(t, "-n", ns, "logs", pod, "-c", "app"); got != want {
			return fmt.Errorf("the container printed %q, want %q", got, want)
		}
		return nil
	})
}

// Environment variables reach the command and nothing else: not the pod's spec, and, as for all values, not etcd.
func TestEnv(t *testing.T) {
	t.Parallel()
	for name, annotations := range map[string][]string{
		"variables alone":     nil,
		"beside a file":       {"secret.f: %s"},
		"mode init":           {"mode: init"},
		"mode single":         {"mode: single"},
		"another mount path":  {"mount-path: /etc/app/$(secrets)"},
		"its own environment": {"api: true", "app-identity: true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			password, key := value()+` 'quoted' "twice"`, value()
			db, api := secretName("db"), secretName("api")
			put(t, db, fmt.Sprintf(`{"user": {"password": %q}}`, password))
			put(t, api, key)
			w := workload{
				name: "web", podSecurity: "runAsUser: 2000",
				annotations: []string{"inject: true", "env.DB_PASSWORD: " + db + "#user.password", "env.API_KEY: " + api},
				containers: commanded("app", `[sh, -c, 'echo "<$DB_PASSWORD|$API_KEY|$OWN|$(id -u)|$$$$>"; exec sleep 100000']`) +
					"  env: [{name: OWN, value: mine}]\n",
			}
			for _, a := range annotations {
				w.annotations = append(w.annotations, strings.ReplaceAll(a, "%s", api))
			}
			apply(t, w.pod(ns))
			ready(t, ns, "web")
			// Process 1: there is none beside the command. (The kubelet makes $$ of $$$$.)
			prints(t, ns, "web", "<"+password+"|"+key+"|mine|2000|1>\n")
			if pod := kubectl(t, "-n", ns, "get", "pod", "web", "-o", "json"); strings.Contains(pod, key) || strings.Contains(pod, password) {
				t.Error("a value is in the pod")
			}
			if out, err := tryKubectl(t.Context(), "", "-n", ns, "exec", "web", "-c", "app", "--", "touch", "/var/run/kms/bin/x"); err == nil {
				t.Errorf("the application can write beside the agent's program: %s", out)
			}
		})
	}
}

// Where the administrator wants it, the program comes from the agent's image, and nothing is copied. Kubernetes has that from 1.35 on.
func TestEnvFromImageVolume(t *testing.T) {
	t.Parallel()
	var version struct{ Minor string }
	if err := json.Unmarshal([]byte(kubectl(t, "get", "--raw", "/version")), &version); err != nil {
		t.Fatal(err)
	}
	if minor, err := strconv.Atoi(strings.TrimRight(version.Minor, "+")); err != nil || minor < 35 {
		t.Skipf("Kubernetes 1.%s has image volumes switched off, and agent.imageVolume is off by default (%v)", version.Minor, err)
	}
	ns := namespace(t, `image-volume: "true"`)
	name, want := secretName("volume"), value()
	put(t, name, want)
	apply(t, workload{
		name: "web", annotations: []string{"inject: true", "env.KEY: " + name},
		containers: commanded("app", `[sh, -c, 'echo "$KEY"; exec sleep 100000']`),
	}.pod(ns))
	ready(t, ns, "web")
	prints(t, ns, "web", want+"\n")
	if got := kubectl(t, "-n", ns, "get", "pod", "web", "-o", `jsonpath={.spec.volumes[?(@.name=="kms-agent-bin")]}`); !strings.Contains(got,
		`"image":{`) {
		t.Errorf("the volume with the program: %s", got)
	}
	if got := in(t, ns, "web", "app", "ls", "/var/run/kms/bin"); !strings.Contains(got, "kms-agent") {
		t.Errorf("the program's folder: %s", got)
	}
}

// The value is in the environment of the command, and of no other process that the pod's containers can see: not the agent's, nor
// that of a container without the variable.
func TestEnvIsNobodyElses(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name, want := secretName("alone"), value()
	put(t, name, want)
	apply(t, workload{
		name: "web", spec: "shareProcessNamespace: true", annotations: []string{"inject: true", "env.KEY: " + name, "skip-containers: other"},
		containers: strings.Replace(container("app"), "{allow", "{runAsUser: 2000, allow", 1) +
			strings.Replace(container("other"), "{allow", "{runAsUser: 3000, allow", 1),
	}.pod(ns))
	ready(t, ns, "web")
	const look = `for p in /proc/[0-9]*; do if tr '\0' '\n' <$p/environ | grep -q "$1"; then cat $p/comm; fi; done 2>/dev/null; true`
	eventually(t, patience, func() error { // before it is the command, the process is the agent's program
		if got := in(t, ns, "web", "app", "sh", "-c", look, "sh", want); got != "sleep\n" {
			return fmt.Errorf("in app the value is in the environment of %q, want that of its command alone", got)
		}
		return nil
	})
	if got := in(t, ns, "web", "other", "sh", "-c", look, "sh", want); got != "" {
		t.Errorf("in other the value is in the environment of %q", got)
	}
}

// The command's exit code is the container's, and that of a command that does not exist is the shell's.
func TestEnvExitCode(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("exit")
	put(t, name, value())
	job := func(job, command string) string {
		w := workload{name: job, annotations: []string{"inject: true", "env.KEY: " + name}, spec: "restartPolicy: Never",
			containers: commanded("app", command)}
		return "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + job + "\n  namespace: " + ns +
			"\nspec:\n  backoffLimit: 0\n  template:\n" + w.body(ns, "    ")
	}
	for name, c := range map[string]struct {
		command, condition, code string
	}{
		"done":    {`[sh, -c, 'test -n "$KEY"']`, "Complete", "0"},
		"failed":  {`[sh, -c, 'exit 42']`, "Failed", "42"},
		"missing": {`[no-such-command]`, "Failed", "127"},
	} {
		apply(t, job(name, c.command))
		kubectl(t, "-n", ns, "wait", "--for=condition="+c.condition, "job/"+name, "--timeout=5m")
		if got := kubectl(t, "-n", ns, "get", "pods", "-l", "app="+name, "-o",
			"jsonpath={.items[*].status.containerStatuses[?(@.name=='app')].state.terminated.exitCode}"); got != c.code {
			t.Errorf("%s: exit code %s, want %s", name, got, c.code)
		}
	}
}

// A running command keeps what it started with; a container that starts again has the present value. SIGTERM is the command's.
func TestEnvAfterRestart(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("restart")
	first, second := value(), value()
	put(t, name, first)
	apply(t, workload{
		name: "web", annotations: []string{"inject: true", "env.KEY: " + name, "refresh-interval: 10s"},
		containers: commanded("app", `[sh, -c, 'trap "exit 7" TERM; echo "$KEY"; while true; do sleep 1; done']`),
	}.pod(ns))
	ready(t, ns, "web")
	rotate(t, name, second)
	eventually(t, patience, func() error {
		if !strings.Contains(in(t, ns, "web", "app", "cat", dir+"/..env"), second) {
			return errNotYet
		}
		return nil
	})
	if got := kubectl(t, "-n", ns, "logs", "web", "-c", "app"); got != first+"\n" {
		t.Errorf("the container printed %q before its restart", got)
	}
	in(t, ns, "web", "app", "sh", "-c", "kill -TERM 1")
	eventually(t, patience, func() error {
		c := status(t, ns, "web").container("app")
		if c.RestartCount == 0 || c.State.Running == nil {
			return errNotYet
		}
		if c.LastState.Terminated == nil || c.LastState.Terminated.ExitCode != 7 {
			t.Errorf("after SIGTERM: %+v, want the trap's exit code 7", c.LastState.Terminated)
		}
		return nil
	})
	prints(t, ns, "web", second+"\n")
}

// What cannot be carried out is refused, with the cure.
func TestEnvRefused(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	without := strings.Replace(container("app"), "  command: [sleep, \"100000\"]\n", "", 1)
	message := refused(t, workload{name: "web", annotations: []string{"inject: true", "env.KEY: e2e/x"}, containers: without}.pod(ns))
	for _, want := range []string{"kms.alibabacloud.com/env.KEY", "container app has no command", "ENTRYPOINT"} {
		if !strings.Contains(message, want) {
			t.Errorf("the message lacks %q: %s", want, message)
		}
	}
	name := secretName("keys")
	put(t, name, `{"AccountName": "x"}`)
	apply(t, workload{name: "web", annotations: []string{"inject: true", "env.KEY: " + name + "#Accountname"}}.pod(ns))
	if why := whyNot(t, ns, "web"); !strings.Contains(why, "env.KEY") || !strings.Contains(why, "AccountName") {
		t.Errorf("the termination message does not name the variable and the keys that there are: %s", why)
	}
}
