//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

const dir = "/var/run/kms/secrets"

// The main path: what a container finds, where, and whose it is.
func TestFiles(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	user, password, key := value(), value(), value()
	db, api := secretName("db"), secretName("api-key")
	put(t, db, fmt.Sprintf(`{"AccountName": %q, "AccountPassword": %q, "port": 3306}`, user, password))
	put(t, api, key)
	apply(t, workload{
		name:        "web",
		podSecurity: "runAsUser: 12345\nrunAsGroup: 12345",
		annotations: []string{
			"inject: true",
			"secret.api-key: " + api,
			"secret.db.json: name: " + db + "\nformat: json",
			"secret.db.env: name: " + db + "\nformat: env\nkeys: {DB_USER: AccountName, DB_PASSWORD: AccountPassword}\npath: conf/db.env",
			"secret.db.properties: {name: " + db + ", format: properties, mode: \"0440\"}",
			"secret.db.yaml: {name: " + db + ", format: yaml}",
		},
		containers: container("app") + container("other"),
	}.pod(ns))
	ready(t, ns, "web")

	read := func(path string) string { return in(t, ns, "web", "app", "cat", dir+"/"+path) }
	if got := read("api-key"); got != key {
		t.Errorf("api-key: got %d bytes, want the value byte for byte", len(got))
	}
	for path, wants := range map[string][]string{
		"db.json":       {`"AccountName":`, user, password, "3306"},
		"conf/db.env":   {"DB_USER=", user, "DB_PASSWORD=", password},
		"db.properties": {"AccountName=" + user, "port=3306"},
		"db.yaml":       {"AccountName: " + user, "port: 3306"},
	} {
		got := read(path)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s lacks %q:\n%s", path, want, got)
			}
		}
	}
	for path, want := range map[string]string{"api-key": "400 12345 12345", "db.properties": "440 12345 12345"} {
		if got := strings.TrimSpace(in(t, ns, "web", "app", "stat", "-L", "-c", "%a %u %g", dir+"/"+path)); got != want {
			t.Errorf("%s: mode and owner %q, want %q", path, got, want)
		}
	}
	if mounts := in(t, ns, "web", "app", "cat", "/proc/mounts"); !strings.Contains(mounts, "tmpfs "+dir+" tmpfs ro") {
		t.Errorf("%s is not a read-only tmpfs:\n%s", dir, mounts)
	}
	if got := in(t, ns, "web", "other", "cat", dir+"/api-key"); got != key {
		t.Error("the other container does not see the file")
	}
	// The identity is the agent's alone.
	if env := in(t, ns, "web", "app", "env"); strings.Contains(env, "ALIBABA_CLOUD") {
		t.Errorf("the application has the agent's environment:\n%s", env)
	}
	if out, err := tryKubectl(t.Context(), "", "-n", ns, "exec", "web", "-c", "app", "--", "ls",
		"/var/run/secrets/ack.alibabacloud.com"); err == nil {
		t.Errorf("the application has the agent's token: %s", out)
	}
	// One call for each distinct secret, however many files are made of it, and the sidecar made none.
	for _, name := range []string{db, api} {
		if got := calls(t, "*GetSecretValue", name); got != 1 {
			t.Errorf("%d calls of KMS for %s, want 1", got, name)
		}
	}
}

// Which version a file is of, a value that is not text, and one that KMS itself makes.
func TestVersionsAndKinds(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	kubectl(t, "-n", ns, "annotate", "serviceaccount", "app", "ack.alibabacloud.com/role-arn-") // the pod names its role
	versions, binary, managed := secretName("versions"), secretName("binary"), secretName("managed")
	first, second, third, password := value(), value(), value(), value()
	put(t, versions, first)
	rotate(t, versions, second)
	rotate(t, versions, third)
	put(t, binary, "\xff\x00"+password+"\n")
	cloud(t, `{"AccountName": "web", "AccountPassword": "`+password+`"}`, "put-secret", managed, "--type", "Rds", "--tag", "env=prod",
		"--value-stdin")
	apply(t, workload{name: "web", annotations: []string{
		"inject: true", "role-arn: " + role, "secret.now: " + versions, "secret.before: {name: " + versions + ", versionStage: ACSPrevious}",
		"secret.first: {name: " + versions + ", versionId: v1}", "secret.binary: " + binary, "secret.managed: {name: " + managed +
			", keys: {p: AccountPassword}}",
	}}.pod(ns))
	ready(t, ns, "web")
	for file, want := range map[string]string{"now": third, "before": second, "first": first, "binary": "\xff\x00" + password + "\n",
		"managed": password} {
		if got := in(t, ns, "web", "app", "cat", dir+"/"+file); got != want {
			t.Errorf("%s does not hold its secret's value", file)
		}
	}
}

func TestContainers(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("only")
	put(t, name, value())
	apply(t, workload{
		name:        "some",
		annotations: []string{"inject: true", "secret.only: " + name, "containers: app", "mount-path: /etc/app/secrets"},
		containers:  container("app") + container("other"),
	}.pod(ns))
	ready(t, ns, "some")
	in(t, ns, "some", "app", "test", "-s", "/etc/app/secrets/only")
	if out, err := tryKubectl(t.Context(), "", "-n", ns, "exec", "some", "-c", "other", "--", "ls", "/etc/app"); err == nil {
		t.Errorf("a container that was not chosen has the files: %s", out)
	}
}

// A secret may be for some containers only; the other files are everybody's, and a rotation reaches all.
func TestContainersOfASecret(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	shared, narrow := secretName("shared"), secretName("narrow")
	first, second, only := value(), value(), value()
	put(t, shared, first)
	put(t, narrow, only)
	once := secretName("once")
	put(t, once, value())
	apply(t, workload{
		name:        "once", // without refreshes that could be counted, too
		annotations: []string{"inject: true", "secret.once: " + once, "secret.narrow: {name: " + narrow + ", containers: [app]}", "mode: init"},
		containers:  container("app") + container("other"),
	}.pod(ns))
	apply(t, workload{
		name: "some",
		annotations: []string{"inject: true", "secret.shared: " + shared, "secret.narrow: {name: " + narrow + ", containers: [app]}",
			"refresh-interval: 10s"},
		containers: container("app") + container("other"),
	}.pod(ns))
	ready(t, ns, "some")
	for c, want := range map[string]string{"app": "narrow shared", "other": "shared"} {
		if got := strings.Join(strings.Fields(in(t, ns, "some", c, "ls", dir)), " "); got != want {
			t.Errorf("container %s has %s, want %s", c, got, want)
		}
	}
	if in(t, ns, "some", "app", "cat", dir+"/narrow") != only {
		t.Error("the file does not hold the secret's value")
	}
	ready(t, ns, "once")
	if got := calls(t, "*GetSecretValue", once); got != 1 {
		t.Errorf("%d calls of KMS for a secret in two views, want 1", got)
	}
	rotate(t, shared, second)
	eventually(t, patience, func() error {
		for _, c := range []string{"app", "other"} {
			if in(t, ns, "some", c, "cat", dir+"/shared") != second {
				return errNotYet
			}
		}
		return nil
	})
}

func TestModes(t *testing.T) {
	t.Parallel()
	for mode, sidecar := range map[string]bool{"init": false, "single": true, "sidecar": true} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			name, want := secretName("mode"), value()
			put(t, name, want)
			apply(t, workload{name: "p", annotations: []string{"inject: true", "secret.f: " + name, "mode: " + mode}}.pod(ns))
			ready(t, ns, "p")
			if got := in(t, ns, "p", "app", "cat", dir+"/f"); got != want {
				t.Errorf("got %d bytes, want the value", len(got))
			}
			s := status(t, ns, "p")
			if running := s.container("kms-agent").State.Running != nil; running != sidecar {
				t.Errorf("sidecar running: %v, want %v", running, sidecar)
			}
			if init := s.container("kms-agent-init").Name != ""; init != (mode != "single") {
				t.Errorf("init container: %v", init)
			}
			if got := calls(t, "*GetSecretValue", name); got != 1 {
				t.Errorf("%d calls of KMS, want 1", got)
			}
		})
	}
}

// A Job completes although the sidecar would refresh indefinitely.
func TestJobCompletes(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("job")
	put(t, name, value())
	w := workload{
		name: "once", annotations: []string{"inject: true", "secret.f: " + name}, spec: "restartPolicy: Never",
		containers: strings.Replace(container("app"), `[sleep, "100000"]`, "[test, -s, "+dir+"/f]", 1),
	}
	apply(t, "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: once\n  namespace: "+ns+"\nspec:\n  template:\n"+w.body(ns, "    "))
	kubectl(t, "-n", ns, "wait", "--for=condition=Complete", "job/once", "--timeout=5m")
}

// A rotated secret reaches the file; a file whose secret did not change is not touched.
func TestRotation(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	moving, still := secretName("moving"), secretName("still")
	first, second := value(), value()
	put(t, moving, first)
	put(t, still, value())
	apply(t, workload{name: "web", annotations: []string{"inject: true", "secret.moving: " + moving, "secret.still: " + still,
		"refresh-interval: 10s"}}.pod(ns))
	ready(t, ns, "web")
	inode := func(file string) string { return in(t, ns, "web", "app", "stat", "-L", "-c", "%i %Y", dir+"/"+file) }
	before := inode("still")
	rotate(t, moving, second)
	eventually(t, patience, func() error {
		switch got := in(t, ns, "web", "app", "cat", dir+"/moving"); got {
		case second:
			return nil
		case first:
			return errNotYet
		default:
			t.Fatal("the file holds neither the old nor the new value")
			return nil
		}
	})
	if after := inode("still"); after != before {
		t.Errorf("the unchanged file was touched: inode and time were %s, are %s", before, after)
	}
}

func TestOptional(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("there")
	put(t, name, value())
	apply(t, workload{name: "web", annotations: []string{"inject: true", "secret.there: " + name, "secret.missing: {name: " +
		secretName("nowhere") + ", optional: true}"}}.pod(ns))
	ready(t, ns, "web")
	if got := strings.Fields(in(t, ns, "web", "app", "ls", dir)); len(got) != 1 || got[0] != "there" {
		t.Errorf("files: %v, want only the one that exists", got)
	}
}
