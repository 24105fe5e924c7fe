package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// shapes are manifests as people write them, and what each of them is for. Those of people are in TestPeople.
const shapes = "../../testdata/shapes/"

var purposes = map[string]string{
	"aliases.yaml":                "anchors, aliases and merge keys, of which what is added to one must not reach the other",
	"cloneset.yaml":               "a workload of OpenKruise, with claims",
	"comments-everywhere.yaml":    "comments before, beside and after everything",
	"crlf.yaml":                   "lines as Windows ends them",
	"cronjob.yaml":                "a template in a template",
	"daemonset-host-network.yaml": "the node's network, processes and directories; root",
	"deployment-flow-style.yaml":  "one line in flow style",
	"deployment-four-spaces.yaml": "another indentation, lists indented in mappings",
	"deployment-json.yaml":        "JSON in a file that is called YAML",
	"deployment.yaml":             "what most people have, as charts write it",
	"deploymentconfig.yaml":       "a workload of OpenShift, its image to come",
	"empty-lists.yaml":            "lists that are there and empty",
	"ephemeral.yaml":              "a pod as the API server shows it, with its status and an ephemeral container",
	"fields-of-tomorrow.yaml":     "unknown fields, at each level",
	"istio-init.yaml":             "a mesh that was injected before, by an init container",
	"job.yaml":                    "a Job of indices with a generated name, and a script",
	"knative-service.yaml":        "a container without a name",
	"linkerd-native.yaml":         "a mesh that was injected before, as a native sidecar",
	"list.yaml":                   "a List of several kinds",
	"many-environments.yaml":      "two hundred variables",
	"mounts-below.yaml":           "files inside a ConfigMap, volumes by CSI and of a claim of the pod's own",
	"no-newline-at-the-end.yaml":  "a file without a last line end",
	"null-lists.yaml":             "null where there could be lists, in all its spellings",
	"own-volumes-of-ours.yaml":    "volumes and mounts of ours that the author wrote",
	"pod-level-resources.yaml":    "resources of the pod as a whole, numbers without quotes",
	"podtemplate.yaml":            "a template at the top",
	"quoted-keys.yaml":            "keys in quotes of both kinds",
	"replicaset.yaml":             "a ReplicaSet of its own",
	"replicationcontroller.yaml":  "the oldest workload",
	"rollout.yaml":                "a workload of Argo",
	"scalars-of-every-kind.yaml":  "scalars whose text says more than their value",
	"several-documents.yaml":      "documents with and without pods, of which some ask",
	"statefulset-claims.yaml":     "claims, an fsGroup, and root that corrects a directory's owner",
	"twenty-init-containers.yaml": "init containers, every third of them a native sidecar",
	"views.yaml":                  "files for some containers, templates in other scripts",
	"windows-line-in-script.yaml": "a script with what looks like a separator of documents",
}

// An outcome is what becomes of a manifest.
type outcome struct {
	why              string   // it is here
	inject, validate int      // exit codes
	says             []string // parts of what inject says; nil: nothing
	has              []string // parts of what it prints
}

const injects, refuses, unreadable = 0, 1, 2

// TestPeople has the pods of bug reports of other injectors' users, and of charts.
func TestPeople(t *testing.T) {
	refused := func(why string, says ...string) outcome { return outcome{why, refuses, refuses, says, nil} }
	cases := map[string]outcome{
		"01-quota-cpu-limit.yaml": {why: "a quota of cpu limits, which the namespace's administrator has to know of",
			has: []string{"name: kms-agent-init"}},
		"03-autoscaler-disk-emptydir.yaml": {why: "a variable makes an emptyDir on disk", has: []string{"sizeLimit: 64Mi"}},
		"04-mount-path-under-configmap.yaml": {why: "the kubelet makes directories in the volumes that it writes",
			has: []string{"mountPath: /etc/cart/secrets"}},
		"05-mount-path-under-readonly-emptydir.yaml": refused("a mount that is read-only",
			"/etc/cart/secrets is inside the volume settings of container cart, at /etc/cart, which is read-only"),
		"06-mount-path-under-readonly-pvc.yaml": refused("a claim that is read-only",
			"/mnt/shared/kms is inside the volume shared of container cart, at /mnt/shared, which is read-only"),
		"07-bidirectional-hostpath-above.yaml": refused("mounts that propagate to the node",
			"inside the volume run of container snapshotter, at /var/run, from which mounts propagate to the node"),
		"08-knative-service-without-container-name.yaml": {why: "a container that Knative gives a name",
			says: []string{"no runAsUser is stated for user-container"}, has: []string{"mountPath: /var/run/kms/secrets"}},
		"09a-templates-elsewhere.yaml": {why: "pods where they are not found", validate: refuses,
			says: []string{"no pod was found in this ScaledJob", "no pod was found in this Workflow", "no pod was found in this AdvancedCronJob"}},
		"10a-podlist-without-kinds.yaml": refused("a list whose items have no kind",
			"did you mean kms.alibabacloud.com/secret.db?"),
		"10b-list-in-a-list.yaml": {why: "a list in a list", inject: refuses, validate: unreadable,
			says: []string{"kubectl reads no list in a list"}},
		"11-claim-template-named-as-our-volume.yaml": refused("a claim that would take the place of the tmpfs",
			"volumeClaimTemplates kms-secrets: ", "give the claim another name"),
		"11b-the-pod-it-becomes.yaml": refused("a claim in the place of the tmpfs",
			"volume kms-secrets: would hold secrets but is not in memory"),
		"12-references-to-injected-variables.yaml": {why: "Kubernetes does not know the agent's variables",
			says: []string{"$(DB_PASSWORD) stays as it is written in command of cart, args of cart, variable DSN of cart"}},
		"14-variables-without-command.yaml": refused("variables need a command", "container cart has no command",
			"container proxy has no command"),
		"15-init-container-needs-secret.yaml": {why: "init containers that need the secret, one of root",
			has: []string{`"mode":"0400"`}},
		"17-mesh-by-cni-without-native-sidecar.yaml": {why: "no init container has a network",
			says: []string{"the mesh redirects the traffic of this pod to istio-proxy, a plain container", "excludeOutboundPorts"}},
		"18a-other-volume-at-the-token-path.yaml": refused("another token in the place of ours",
			"container cart already has the volume other at /var/run/secrets/ack.alibabacloud.com/rrsa-tokens"),
		"18b-token-volume-name-taken.yaml": refused("another volume of the token's name",
			"volume rrsa-oidc-token: has the name of the RRSA token's volume but not that token"),
		"18c-app-identity-own-role-variable.yaml": {why: "an application's own role beside the agent's token",
			says: []string{"role/another in cart, but is not the role of the agent"}},
		"20-root-init-container-widens-files.yaml": {why: "root reads any file", has: []string{`"mode":"0400"`, "runAsUser: 1001"}},
		"21-shared-processes-and-chosen-containers.yaml": {why: "processes of one user see each other's files",
			has: []string{"shareProcessNamespace: true"}},
		"22-job-failure-policy.yaml": {why: "exit codes of init containers count for the Job",
			has: []string{"values: [1, 2]"}},
		"25-own-mount-by-subpathexpr.yaml": {why: "a part of the volume does not follow",
			says: []string{"by subPath or subPathExpr, which shows what was there at the container's start"}},
		"26-generate-name-no-namespace.yaml": refused("a name to come", "Pod cart-<generated>: ",
			"did you mean kms.alibabacloud.com/secret.db?"),
		"30-unicode-template.yaml": {why: "other scripts in a template",
			has: []string{"密码：{{ .AccountPassword }} – señor 🔑"}},
		"31-unicode-secret-name.yaml": refused("a name that KMS does not allow",
			"kms.alibabacloud.com/secret.db: its value is not the name of a KMS secret: it has U+5E94 in it"),
		"32-sixty-containers.yaml":        {why: "many containers", has: []string{"name: step-19", "name: app-39"}},
		"33-anchors-and-merges.yaml":      {why: "merge keys that are overridden", says: []string{"is reformatted"}},
		"33b-aliases-only.yaml":           {why: "aliases", says: []string{"is reformatted"}},
		"33c-merge-without-override.yaml": {why: "merge keys", says: []string{"is reformatted"}},
		"34-crlf-bom-and-document-markers.yaml": {why: "a directive, which kubectl does not read", inject: refuses, validate: unreadable,
			says: []string{"document at line 1: "}},
		"34b-crlf.yaml":       {why: "lines of Windows", has: []string{"# who it runs as", "name: kms-agent-init"}},
		"34c-bom.yaml":        {why: "a byte order mark"},
		"34d-end-marker.yaml": {why: "the end of a document", has: []string{"# end"}},
		"34e-end-marker-more.yaml": {why: "a document that kubectl passes over", inject: refuses, validate: unreadable,
			says: []string{"write a line --- between them"}},
		"35-json-stream.json": {why: "objects of JSON, one after the other",
			has: []string{"9007199254740993", `"name": "kms-agent-init"`}},
		"35b-json-one.json": {why: "one object of JSON",
			has: []string{"9007199254740993", `"name": "kms-agent-init"`}},
		"35c-json-stream-pod-first.json": {why: "a ServiceAccount that is elsewhere", inject: refuses,
			says: []string{"ServiceAccount shop/default, with which the pod runs, is not among the manifests"}},
		"36-value-before-name.yaml": refused("a container of the user's own with the agent's name",
			"container kms-agent: is not the one that this webhook makes"),
		"38-windows-options-on-container.yaml": refused("Windows by a container alone", "the pod is for Windows nodes"),
		"41-selinux-level-on-container.yaml":   {why: "a container with an SELinux level of its own", has: []string{`"s0:c10,c20"`}},
		"42-apparmor-localhost-for-pod.yaml": {why: "a profile for the application that the agent has too",
			says: []string{"the AppArmor profile cart is stated for the pod"}},
		"43-long-variable-name.yaml":               refused("a key that the API server refuses", "must have at most 63 characters"),
		"44-user-namespace-and-strict-groups.yaml": {why: "a user namespace", has: []string{"hostUsers: false", `"mode":"0400"`}},
		"45-restartable-init-with-probe-and-job.yaml": {why: "the user's own native sidecar needs the file",
			has: []string{"startupProbe: {tcpSocket: {port: 5432}}"}},
		"46-resize-and-pod-level-resources.yaml": {why: "resources of the pod", has: []string{"resources: {}"}},
		"47-private-registry-without-pull-secret.yaml": {why: "an image that needs credentials, which are the administrator's to name",
			has: []string{"name: kms-agent-init"}},
		"48-injected-manifest-and-newer-agent.yaml": {why: "a manifest with the agent in it",
			has: []string{"image: registry.example/kms-agent:v0.0.0"}},
		"49-proxy-moved-to-the-front.yaml": {why: "a container that came after the agent",
			says: []string{"container istio-proxy came after the agent was injected and gets no files"}},
		"50-private-key-and-fsgroup.yaml": {why: "key files that no group may read",
			has: []string{`{"path":"tls.key","mode":"0400"`}},
		"51-init-last-and-own-init-container.yaml": refused("an init container that ends before the agent starts",
			"container migrate runs before the agent has written the files"),
		"52-annotation-boolean-and-number.yaml": refused("values without quotes", "YAML takes this one for true",
			"YAML takes this one for 3600"),
		"53-volume-kms-agent-of-the-user.yaml": refused("an agent written by hand", "container agent listens on 2025 too",
			"volume kms-token: would hold secrets but is not in memory"),
		"54-empty-template-metadata-and-null-lists.yaml": {why: "null lists", says: []string{"no runAsUser is stated for cart"},
			has: []string{"schedulerName: volcano"}},
		"55-plain-duplicate-key.yaml": {why: "a key that is there twice", inject: refuses, validate: unreadable,
			says: []string{"is written twice"}},
		"56-unicode-and-odd-secret-names.yaml": refused("names that are none", "kms.alibabacloud.com/secret.c: ",
			"kms.alibabacloud.com/secret.e: ", "kms.alibabacloud.com/secret.g: "),
	}
	for file, want := range cases {
		t.Run(file, func(t *testing.T) {
			code, out, said := run(t, "", "inject", "-f", people+file, "--config", people+"operator.yaml")
			checked, _, _ := run(t, "", "validate", "-f", people+file, "--config", people+"operator.yaml")
			if code != want.inject || checked != want.validate {
				t.Errorf("%s: exit codes %d of inject, %d of validate; want %d and %d", want.why, code, checked, want.inject, want.validate)
			}
			if want.says == nil && said != "" {
				t.Errorf("%s: it says %s", want.why, said)
			}
			for _, part := range want.says {
				if !strings.Contains(said, part) {
					t.Errorf("%s: it does not say %q but %s", want.why, part, said)
				}
			}
			for _, part := range want.has {
				if !strings.Contains(out, part) {
					t.Errorf("%s: it prints no %q:\n%s", want.why, part, out)
				}
			}
		})
	}
}

// variants are further annotations with which each manifest is injected again.
var variants = map[string][]string{
	"as it is":      nil,
	"more":          {"api: \"true\"", "app-identity: \"true\"", "init-position: last"},
	"variables":     {"env.DB_PASSWORD: app/prod/db#password", "mount-path: /etc/kms-secrets"},
	"one container": {"mode: single", "refresh-interval: 0s"},
	"once":          {"mode: init", "agent-limits: memory=96Mi"},
}

// TestShapes injects manifests of many shapes. What comes out has all that went in, in its order and with its types; what came in between
// is what an injection may add; no comment is lost; and injected again it stays as it is.
func TestShapes(t *testing.T) {
	files := yamls(t, shapes, people)
	if len(files) < 80 {
		t.Fatalf("only %d manifests", len(files))
	}
	for _, file := range yamls(t, shapes) {
		if purposes[filepath.Base(file)] == "" {
			t.Errorf("%s has no purpose", file)
		}
	}
	for variant, annotations := range variants {
		injected := 0
		for _, file := range files {
			t.Run(variant+"/"+filepath.Base(file), func(t *testing.T) {
				if added(t, annotate(readFile(t, file), annotations)) {
					injected++
				}
			})
		}
		if injected < 30 {
			t.Errorf("%s: only %d manifests are injected", variant, injected)
		}
	}
}

func yamls(t *testing.T, folders ...string) (files []string) {
	t.Helper()
	for _, folder := range folders {
		found, err := filepath.Glob(folder + "*.yaml")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return slices.DeleteFunc(files, func(file string) bool { return path.Base(file) == "operator.yaml" })
}

var asks = regexp.MustCompile(`(?m)^( *)kms\.alibabacloud\.com/inject: ["']true["']\r?\n`)

// annotate puts further annotations behind the one that asks.
func annotate(manifest string, annotations []string) string {
	return asks.ReplaceAllStringFunc(manifest, func(line string) string {
		indent, _, _ := strings.Cut(line, "kms.")
		for _, a := range annotations {
			line += indent + "kms.alibabacloud.com/" + a + "\n"
		}
		return line
	})
}

// added injects a manifest and reports whether there was something to add.
func added(t *testing.T, manifest string) bool {
	t.Helper()
	inject := func(manifest string) (int, string, string) {
		return run(t, manifest, "inject", "-f", "-", "--config", people+"operator.yaml", "--role-arn", "acs:ram::1234567890123456:role/shop")
	}
	code, out, said := inject(manifest)
	if code != 0 {
		if out != "" || said == "" {
			t.Errorf("refused with exit code %d, the message %q and the output\n%s", code, said, out)
		}
		return false
	}
	if again, twice, said := inject(out); again != 0 || twice != out {
		t.Errorf("injected again it is another, exit code %d: %s\n%s", again, said, twice)
	}
	anew := strings.Contains(said, "is reformatted")
	before, after := documents(t, manifest, anew), documents(t, out, anew)
	if len(before) != len(after) {
		t.Fatalf("%d documents became %d:\n%s", len(before), len(after), out)
	}
	for i := range before {
		if err := grew(before[i], after[i], ""); err != nil {
			t.Errorf("document %d: %v:\n%s", i, err, out)
		}
		for _, comment := range comments(before[i]) {
			if !anew && !strings.Contains(out, comment) {
				t.Errorf("the comment %q is lost:\n%s", comment, out)
			}
		}
	}
	return out != manifest
}

// documents are the trees of a stream of YAML, without its empty documents; with their meaning alone if nothing else is kept.
func documents(t *testing.T, stream string, meaning bool) (all []*yaml.Node) {
	t.Helper()
	for dec := yaml.NewDecoder(strings.NewReader(strings.TrimPrefix(stream, "\ufeff"))); ; {
		var document yaml.Node
		if err := dec.Decode(&document); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v:\n%s", err, stream)
		}
		if len(document.Content) == 0 || document.Content[0].Tag == "!!null" {
			continue
		}
		if meaning {
			var value any
			var b bytes.Buffer
			if err := errors.Join(document.Decode(&value), yaml.NewEncoder(&b).Encode(value)); err != nil {
				t.Fatal(err)
			}
			document = yaml.Node{}
			if err := yaml.Unmarshal(b.Bytes(), &document); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, &document)
	}
}

// additions are the members of objects, and the lists, that an injection may add or add to.
var additions = []string{"volumes", "initContainers", "containers", "volumeMounts", "env", "command", "kms.alibabacloud.com/injected"}

// grew returns an error unless after has all of before, in its order and with its types, and besides only additions.
func grew(before, after *yaml.Node, at string) error {
	if before.Kind == yaml.AliasNode {
		before = before.Alias
	}
	if after.Kind == yaml.AliasNode {
		after = after.Alias
	}
	if before.ShortTag() == "!!null" && after.Kind == yaml.SequenceNode && slices.Contains(additions, path.Base(at)) {
		return nil
	}
	if before.Kind != after.Kind || before.ShortTag() != after.ShortTag() {
		return fmt.Errorf("%s is of another type, %s", at, after.ShortTag())
	}
	step, members := 1, before.Kind == yaml.MappingNode
	if members {
		step = 2
	}
	rest := after.Content
	for i := 0; i < len(before.Content); i += step {
		var why error
		for ; len(rest) > 0; rest = rest[step:] {
			name := at
			if members {
				name += "/" + strings.ReplaceAll(rest[0].Value, "/", "~1")
			}
			if !members || rest[0].Value == before.Content[i].Value {
				if why = grew(before.Content[i+step-1], rest[step-1], name); why == nil {
					break
				}
			}
			if err := mayAdd(name); err != nil {
				return errors.Join(why, err)
			}
		}
		if len(rest) == 0 {
			return errors.Join(why, fmt.Errorf("%s lost %s", at, before.Content[i].Value))
		}
		rest = rest[step:]
	}
	for ; len(rest) > 0; rest = rest[step:] {
		name := at
		if members {
			name += "/" + strings.ReplaceAll(rest[0].Value, "/", "~1")
		}
		if err := mayAdd(name); err != nil {
			return err
		}
	}
	if before.Value != after.Value {
		return fmt.Errorf("%s was %q and is %q", at, before.Value, after.Value)
	}
	return nil
}

func mayAdd(name string) error {
	if !slices.Contains(additions, strings.ReplaceAll(path.Base(name), "~1", "/")) {
		return fmt.Errorf("%s was added", name)
	}
	return nil
}

// comments are the lines of those of a tree.
func comments(n *yaml.Node) (found []string) {
	for _, text := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				found = append(found, line)
			}
		}
	}
	for _, child := range n.Content {
		found = append(found, comments(child)...)
	}
	return found
}
