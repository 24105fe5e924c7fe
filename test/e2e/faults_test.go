//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// One pod start costs one call of STS, and one of KMS for all secrets; the sidecar's start and restart cost none. In every mode the call
// of STS is the only one until after the second refresh, and after a restart of the agent then.
func TestCallsOfAPodStart(t *testing.T) {
	t.Parallel()
	t.Run("start", func(t *testing.T) {
		t.Parallel()
		callsOfAStart(t)
	})
	for _, mode := range []string{"init", "sidecar", "single"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			exchangesIn(t, mode)
		})
	}
}

// counted is a pod with a role of its own, and a check that it has been assumed exactly once.
func counted(t *testing.T, what string, annotations ...string) (w workload, once func(when string)) {
	arn := "acs:ram::" + account + ":role/counted-" + what
	before := callsLike(t, emulator.Call{Action: "AssumeRoleWithOIDC", Role: arn})
	return killable("web", append(annotations, "role-arn: "+arn)...), func(when string) {
		t.Helper()
		if got := callsLike(t, emulator.Call{Action: "AssumeRoleWithOIDC", Role: arn}) - before; got != 1 {
			t.Errorf("%s: %d calls of STS, want 1", when, got)
		}
	}
}

func exchangesIn(t *testing.T, mode string) {
	ns := namespace(t)
	one, two := secretName("one"), secretName("two")
	put(t, one, value())
	put(t, two, value())
	annotations := []string{"mode: " + mode, "secret.one: " + one, "secret.two: " + two, "log-level: debug"}
	if mode != "init" {
		annotations = append(annotations, "refresh-interval: 10s")
	}
	web, once := counted(t, mode, annotations...)
	apply(t, web.pod(ns))
	ready(t, ns, "web")
	once("after the start")
	if mode == "init" {
		return
	}
	refreshedTwice := func() error {
		if strings.Count(kubectl(t, "-n", ns, "logs", "web", "-c", "kms-agent"), `"msg":"refreshed"`) < 2 {
			return errNotYet
		}
		return nil
	}
	eventually(t, patience, refreshedTwice)
	once("after the second refresh")
	killSidecar(t, ns, "web")
	eventually(t, patience, refreshedTwice)
	once("after a restart and two refreshes more")
}

func callsOfAStart(t *testing.T) {
	ns := namespace(t)
	one, two := secretName("one"), secretName("two")
	put(t, one, `{"a": "`+value()+`", "b": "`+value()+`"}`)
	put(t, two, value())
	web, once := counted(t, "start", "secret.one: "+one, "secret.one.json: {name: "+one+", format: json}", "secret.two: "+two)
	apply(t, web.pod(ns))
	ready(t, ns, "web")
	check := func(when string) {
		t.Helper()
		once(when)
		for _, name := range []string{one, two} {
			// Both are in one call.
			if together, singly := calls(t, "BatchGetSecretValue", name), calls(t, "GetSecretValue", name); together != 1 || singly != 0 {
				t.Errorf("%s: %d calls of KMS for %s with others and %d for it alone, want 1 and 0", when, together, name, singly)
			}
		}
	}
	check("after the start")
	killSidecar(t, ns, "web")
	check("after a restart of the sidecar")
}

// An outage of both STS and KMS leaves the files as they were, also when the sidecar dies in the middle of it. Not
// parallel: it strikes STS and KMS for everybody.
func TestOutage(t *testing.T) {
	ns := namespace(t)
	name := secretName("outage")
	first, second := value(), value()
	put(t, name, first)
	apply(t, killable("web", "secret.f: "+name, "refresh-interval: 10s").pod(ns))
	ready(t, ns, "web")
	fault := strings.Fields(cloud(t, "", "fault", "--status", "503"))[1]
	var over bool
	end := func() {
		if !over {
			cloud(t, "", "remove-fault", fault)
		}
		over = true
	}
	defer end()
	rotate(t, name, second)

	holds := func(when, want string) {
		t.Helper()
		if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
			t.Errorf("%s: the file does not hold the value that it should", when)
		}
	}
	eventually(t, patience, func() error {
		if !strings.Contains(kubectl(t, "-n", ns, "logs", "web", "-c", "kms-agent"), "ServiceUnavailableTemporary") {
			return errNotYet
		}
		return nil
	})
	holds("during the outage", first)
	killSidecar(t, ns, "web")
	holds("after the sidecar's death", first)
	if s := status(t, ns, "web"); !s.container("app").Ready {
		t.Error("the outage made the application unready")
	}
	end()
	eventually(t, patience, func() error {
		if in(t, ns, "web", "app", "cat", dir+"/f") != second {
			return errNotYet
		}
		return nil
	})
}

// killable is a pod whose application can kill the agent: one process namespace, one user.
func killable(name string, annotations ...string) workload {
	return workload{
		name: name, annotations: append([]string{"inject: true"}, annotations...),
		podSecurity: "runAsUser: 2000", spec: "shareProcessNamespace: true",
	}
}

// killSidecar ends the sidecar as the kernel's out-of-memory killer would, and waits until it runs again.
func killSidecar(t *testing.T, namespace, pod string) {
	t.Helper()
	before := status(t, namespace, pod).container("kms-agent").RestartCount
	in(t, namespace, pod, "app", "sh", "-c", "kill -9 $(pidof kms-agent)")
	eventually(t, patience, func() error {
		if c := status(t, namespace, pod).container("kms-agent"); c.RestartCount == before || c.State.Running == nil {
			return errNotYet
		}
		return nil
	})
}
