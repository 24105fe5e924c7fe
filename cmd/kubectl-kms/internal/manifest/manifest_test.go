package manifest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	k8syaml "sigs.k8s.io/yaml"
)

const patch = `[{"op":"add","path":"/spec/initContainers",
"value":[{"name":"first","env":[{"name":"A","value":"on"},{"name":"B","value":"{\"a\": 1}"}]}]},
{"op":"add","path":"/spec/containers/0/volumeMounts/-","value":{"name":"v"}},
{"op":"add","path":"/metadata/annotations/example.com~1done","value":"yes"}]`

func read(t *testing.T, text string) []*Document {
	t.Helper()
	documents, err := Source{Files: []string{Stdin}, In: strings.NewReader(text)}.Read()
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

// edited patches every pod and returns what is written.
func edited(t *testing.T, documents []*Document) string {
	t.Helper()
	for _, d := range documents {
		for _, o := range d.Objects() {
			if pod, ok := o.Pod(); ok {
				if err := pod.Add([]byte(patch)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := d.Save(); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := Write(&out, documents); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What is not touched stays byte for byte, what is keeps its comments, its quotes and its way of writing lists.
func TestAuthorsText(t *testing.T) {
	const before = `# the first
kind: Odd
a:   {odd:   spaces}

---
apiVersion: v1
kind: Pod # what it is
metadata: {name: web, annotations: {a: 'b'}}
spec:
  # the one that serves
  containers:
  - name: web
    args: ["0755", yes, 1_000]
    volumeMounts: [{name: old}] # for now
---
# nothing but this
`
	const after = `# the first
kind: Odd
a:   {odd:   spaces}

---
apiVersion: v1
kind: Pod # what it is
metadata: {name: web, annotations: {a: 'b', example.com/done: "yes"}}
spec:
  # the one that serves
  containers:
  - name: web
    args: ["0755", yes, 1_000]
    volumeMounts: [{name: old}, {name: v}] # for now
  initContainers:
  - name: first
    env:
    - name: A
      value: "on"
    - name: B
      value: '{"a": 1}'
---
# nothing but this
`
	if got := edited(t, read(t, before)); got != after {
		t.Errorf("got\n%s", got)
	}
}

// Whatever shape the text has, what comes out means what the patch says.
func TestMeaning(t *testing.T) {
	const pod = `{"metadata":{"annotations":{}},"spec":{"containers":[{"name":"c","volumeMounts":[]}]}}`
	for name, text := range map[string]string{
		"JSON": `{"kind":"Pod","metadata":{"annotations":{}},"spec":{"containers":[` +
			`{"name":"c","volumeMounts":[],"n":12345678901234567890}]}}`,
		"Deployment": `{"kind":"Deployment","spec":{"template":` + pod + `}}`,
		"CronJob":    `{"kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":` + pod + `}}}}`,
		"CloneSet":   `{"kind":"CloneSet","spec":{"template":` + pod + `}}`,
		"List":       `{"kind":"List","items":[{"kind":"ConfigMap"},{"kind":"DaemonSet","spec":{"template":` + pod + `}}]}`,
		"null":       `{"kind":"Pod","metadata":{"annotations":{}},"spec":{"initContainers":null,"containers":[{"volumeMounts":[]}]}}`,
		"alias": "kind: Pod\nmetadata: {annotations: {}}\nspec:\n  other: &m [{name: a}]\n  containers: [{name: c, volumeMounts: " +
			"*m}]\n",
		"merge key":       "kind: Pod\nmetadata: &m {annotations: {}}\nspec:\n  containers: [{name: c, volumeMounts: []}]\nmore: {<<: *m}\n",
		"alias elsewhere": "kind: Pod\nmetadata: {annotations: {}}\nspec:\n  x: &x 1\n  y: *x\n  containers: [{name: c, volumeMounts: []}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			documents := read(t, text)
			want := patched(t, documents[0])
			out := edited(t, documents)
			document, err := k8syaml.YAMLToJSON([]byte(out))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := decode(document); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v, got\n%s", err, out)
			}
		})
	}
}

// patched is what a document says with the patch in each of its pods.
func patched(t *testing.T, d *Document) any {
	t.Helper()
	document, err := json.Marshal(d.root)
	if err != nil {
		t.Fatal(err)
	}
	pods := 0
	for _, o := range d.Objects() {
		pod, ok := o.Pod()
		if !ok {
			continue
		}
		pods++
		var operations []operation
		if err := json.Unmarshal([]byte(patch), &operations); err != nil {
			t.Fatal(err)
		}
		for i := range operations {
			operations[i].Path = pod.place.pointer() + operations[i].Path
		}
		text, err := json.Marshal(operations)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := jsonpatch.DecodePatch(text)
		if err == nil {
			document, err = decoded.Apply(document)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if pods == 0 {
		t.Fatal("no pod was found")
	}
	want, err := decode(document)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

func TestSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: "
	write("a.yaml", configMap+"a\n---\n"+configMap+"b\n")
	write("b.json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}`)
	write("notes.txt", "no manifest")
	write("deep/d.yml", configMap+"d\n")
	write("k/kustomization.yaml", "resources: [c.yaml]\nnamePrefix: pre-\n")
	write("k/c.yaml", configMap+"e\n")
	write("empty/notes.txt", "no manifest")
	for name, c := range map[string]struct {
		source Source
		want   string
		err    string
	}{
		"file":          {Source{Files: []string{dir + "/a.yaml"}}, "a b", ""},
		"folder":        {Source{Files: []string{dir}}, "a b c", ""},
		"recursive":     {Source{Files: []string{dir}, Recursive: true}, "a b c d e", ""},
		"deep":          {Source{Files: []string{dir + "/deep"}, Recursive: true}, "d", ""},
		"kustomization": {Source{Kustomize: dir + "/k"}, "pre-e", ""},
		"stdin":         {Source{Files: []string{Stdin}, In: strings.NewReader(configMap + "s\n")}, "s", ""},
		"nothing":       {Source{}, "", "-f"},
		"both":          {Source{Files: []string{dir}, Kustomize: dir}, "", "-k"},
		"missing":       {Source{Files: []string{dir + "/none.yaml"}}, "", "none.yaml"},
		"no manifests":  {Source{Files: []string{dir + "/empty"}}, "", ".yaml"},
		"address":       {Source{Files: []string{"https://example.com/web.yaml"}}, "", "curl"},
		"not YAML":      {Source{Files: []string{Stdin}, In: strings.NewReader("kind: a\n---\na: [\n")}, "", "line 3"},
		"a key twice": {Source{Files: []string{Stdin}, In: strings.NewReader("a: b\na: c\n")}, "",
			`line 2: the key "a" is written twice, first in line 1`},
		"a list":      {Source{Files: []string{Stdin}, In: strings.NewReader("- kind: Pod\n")}, "", "-, document at line 1: it is no object"},
		"a JSON list": {Source{Files: []string{Stdin}, In: strings.NewReader(`[{"kind": "Pod"}]`)}, "", "it is no object"},
		"a word":      {Source{Files: []string{Stdin}, In: strings.NewReader("kind: A\n---\nPod\n")}, "", "document at line 3: it is no object"},
		"a large K":   {Source{Files: []string{Stdin}, In: strings.NewReader("Kind: Pod\n")}, "", "it has no kind"},
		"an item without a kind": {Source{Files: []string{Stdin}, In: strings.NewReader("kind: List\nitems: [{Kind: Pod}]\n")}, "",
			"items[0] is no object with a kind"},
		"a word among items": {Source{Files: []string{Stdin}, In: strings.NewReader("kind: List\nitems: [{kind: Pod}, Pod]\n")}, "",
			"items[1] is no object with a kind"},
		"items of a kind": {Source{Files: []string{Stdin}, In: strings.NewReader("kind: ConfigMapList\nitems: [{metadata: {name: a}}]\n")},
			"a", ""},
		"only comments": {Source{Files: []string{Stdin}, In: strings.NewReader("# a\n---\n# b\n")}, "", ""},
	} {
		documents, err := c.source.Read()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		for _, d := range documents {
			for _, o := range d.Objects() {
				if o.Kind == "ConfigMap" {
					names = append(names, o.Name)
				}
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// A mistake is found on its line of the file.
func TestAnnotationLine(t *testing.T) {
	documents := read(t, "# first\nkind: b\n---\n\n# second\nkind: Deployment\nspec:\n  template:\n    metadata:\n      annotations:\n"+
		"        x: 1\n        y: 2\n    spec:\n      containers: []\n")
	pod, ok := documents[1].Objects()[0].Pod()
	if !ok {
		t.Fatal("no pod")
	}
	for key, want := range map[string]int{"y": 12, "x": 11, "none": 5} {
		if got := pod.AnnotationLine(key); got != want {
			t.Errorf("%s: line %d, want %d", key, got, want)
		}
	}
	if !json.Valid(pod.JSON) {
		t.Error("the pod is no JSON")
	}
}

// pointer returns the path as a JSON pointer.
func (p path) pointer() string {
	var b strings.Builder
	for _, step := range p {
		switch step := step.(type) {
		case string:
			b.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(step, "~", "~0"), "/", "~1"))
		case int:
			b.WriteString("/" + strconv.Itoa(step))
		}
	}
	return b.String()
}
