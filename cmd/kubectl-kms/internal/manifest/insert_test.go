package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// additions are a patch as the injector makes it: lists grow, at their end or at an index, and those that are absent or null come.
func additions(t *testing.T, pod Pod) []byte {
	t.Helper()
	value, err := decode(pod.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var operations []operation
	add := func(pointer, value string) {
		operations = append(operations, operation{"add", pointer, json.RawMessage(value)})
	}
	grow := func(of any, pointer, name, index, value string) {
		mapping, _ := of.(map[string]any)
		if list, exists := mapping[name].([]any); !exists {
			add(pointer+"/"+name, "["+value+"]")
		} else if index == "0" || len(list) > 0 {
			add(pointer+"/"+name+"/"+index, value)
		} else {
			add(pointer+"/"+name+"/-", value)
		}
	}
	spec := path{"spec"}.in(value)
	grow(spec, "/spec", "volumes", "-", `{"name":"v","emptyDir":{"medium":"Memory"}}`)
	containers, _ := path{"spec", "containers"}.in(value).([]any)
	for i, c := range containers {
		pointer := fmt.Sprintf("/spec/containers/%d", i)
		if c, _ := c.(map[string]any); c["command"] != nil {
			grow(c, pointer, "command", "0", `"/wrap"`)
		}
		grow(c, pointer, "volumeMounts", "-", `{"name":"v","mountPath":"/v","readOnly":true}`)
		grow(c, pointer, "env", "-", `{"name":"A","value":"{\"a\": [1, \"é\"]}"}`)
	}
	grow(spec, "/spec", "initContainers", "0", `{"name":"first","image":"a:1","args":["init"],"n":1000000}`)
	if annotations.in(value) != nil {
		add("/metadata/annotations/example.com~1done", `"yes"`)
	}
	text, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// grownText has every pod of a text injected, and returns it with what was said to be lost.
func grownText(t *testing.T, text string) (after, lost string) {
	t.Helper()
	documents := read(t, text)
	for _, d := range documents {
		for _, o := range d.Objects() {
			if pod, ok := o.Pod(); ok {
				if err := pod.Add(additions(t, pod)); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := d.root
		said, err := d.Save()
		if err != nil {
			t.Fatal(err)
		}
		if said != "" {
			lost += said + "\n"
		}
		if got, err := d.meaning(d.text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, it means something else:\n%s", err, d.text)
		}
	}
	var out bytes.Buffer
	if err := Write(&out, documents); err != nil {
		t.Fatal(err)
	}
	return out.String(), lost
}

// A list on one line takes about as long as one with a line for each pod, and means the same.
func TestOneLine(t *testing.T) {
	spliced := func(separator string) (meaning any, took time.Duration) {
		const pod, pods = `{"kind": "Pod", "metadata": {"name": "名字"}}`, 2000
		d := read(t, `{"kind": "List", "items": [`+strings.Repeat(pod+","+separator, pods-1)+pod+"]}")[0]
		var added []addition
		for i := range pods {
			added = append(added, addition{path{"items", i, "metadata", "labels"}, []byte(`{"a": "b"}`)},
				addition{path{"items", i, "spec"}, []byte(`{"volumes": []}`)})
		}
		tree, replaced, _ := grown(d.tree, added)
		start := time.Now()
		text := splice(d, tree, replaced, false)
		took = time.Since(start)
		meaning, err := d.meaning(text)
		if err != nil {
			t.Fatal(err)
		}
		return meaning, took
	}
	one, soon := spliced(" ")
	many, usual := spliced("\n")
	if !reflect.DeepEqual(one, many) || soon > 10*usual+time.Second {
		t.Errorf("on one line it takes %v, and on many %v, or means something else", soon, usual)
	}
}

// missing are the parts of a text, in its order, that another does not have in the same order.
func missing(before, after []string) (gone []string) {
	for _, part := range before {
		i := 0
		for i < len(after) && after[i] != part {
			i++
		}
		if i == len(after) {
			gone = append(gone, part)
			continue
		}
		after = after[i+1:]
	}
	return gone
}

func lines(text string) []string      { return strings.SplitAfter(text, "\n") }
func characters(text string) []string { return strings.Split(text, "") }

const head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:\n    a: b\n"

// blocks are pods in block style, as people indent them: nothing of them may change, line by line.
var blocks = map[string]string{
	"dashes below the key": head + "spec:\n  containers:\n  - name: a\n    image: b\n  - name: c\n    volumeMounts:\n" +
		"    - name: x\n      mountPath: /x\n    env:\n    - name: E\n      value: e\n  volumes:\n  - name: x\n" +
		"    emptyDir: {}\n",
	"dashes indented": head + "spec:\n  containers:\n    - name: a\n      volumeMounts:\n        - name: x\n" +
		"          mountPath: /x\n      command:\n        - /bin/a\n        - b\n  volumes:\n    - name: x\n" +
		"      emptyDir: {}\n  initContainers:\n    - name: mine\n",
	"four columns": "apiVersion: v1\nkind: Pod\nmetadata:\n    name: web\n    annotations:\n        a: b\nspec:\n" +
		"    containers:\n        - name: a\n          env:\n              - name: E\n                value: e\n" +
		"    volumes:\n        - name: x\n",
	"four columns, dashes below the key": "kind: Pod\nmetadata:\n    annotations:\n        a: b\nspec:\n    containers:\n" +
		"    -   name: a\n        env:\n        -   name: E\n            value: e\n    volumes:\n    -   name: x\n",
	"indents differ": "kind: Pod\nmetadata:\n   annotations:\n        a: b\nspec:\n containers:\n    - name: a\n" +
		"      volumeMounts:\n      - name: x\n        mountPath: /x\n volumes:\n - name: x\n",
	"comments": "# the pod\n\nkind: Pod # a pod\nmetadata:\n  # notes\n  annotations: # of\n    # one\n    a: b # end\n" +
		"    # c: d\n  # labels\n  labels: {a: b}\n\n# what runs\nspec:\n  # all\n  containers: # here\n  # the first\n" +
		"  - name: a # a\n    # its mounts\n    volumeMounts:\n    # one\n    - name: x # x\n      # where\n" +
		"      mountPath: /x\n      # - name: y\n    # - name: z\n\n  # the second\n  - name: c\n  # volumes\n  volumes:\n" +
		"  - name: x\n  # - name: y\n# the end\n",
	"blank lines": head + "\nspec:\n\n  containers:\n\n  - name: a\n\n    command:\n\n    - /bin/a\n\n\n  - name: b\n\n" +
		"  volumes:\n\n  - name: x\n\n\n",
	"spaces at ends": head + "spec: \n  containers:  \n  - name: a   \n    volumeMounts: \n    - name: x \n   \n" +
		"  volumes:\n  - name: x\n  \n",
	"script": head + "spec:\n  containers:\n  - name: a\n    command:\n    - sh\n    - -c\n    - |\n" +
		"      # not a comment\n      - name: no list\n\n      exec a\n    volumeMounts:\n    - name: x\n  - name: b\n" +
		"    args:\n    - >-\n      folded\n       text\n\n      more\n  volumes:\n  - name: x\n    configMap: {name: x}\n",
	"script last": head + "spec:\n  volumes:\n  - name: x\n  containers:\n  - name: a\n    args:\n    - |\n      one\n" +
		"      # two\n\n    # three\n",
	"script that keeps": head + "spec:\n  containers:\n  - name: a\n    args:\n    - |+\n      one\n\n\n  volumes:\n" +
		"  - name: x\n",
	"script that strips": head + "spec:\n  containers:\n  - name: a\n    args:\n    - |2-\n        one\n      two\n",
	"long scalars": head + "spec:\n  containers:\n  - name: a\n    args:\n    - one\n      two\n      three\n" +
		"    - 'it''s\n\n      long'\n    - \"a \\\n      b\"\n",
	"windows":              strings.ReplaceAll(head+"spec:\n  # all\n  containers:\n  - name: a\n\n  volumes:\n  - name: x\n", "\n", "\r\n"),
	"byte order mark":      "\ufeff" + head + "spec:\n  containers:\n  - name: a\n",
	"no end of line":       head + "spec:\n  containers:\n  - name: a\n    image: b",
	"no end of line, null": head + "spec:\n  containers:\n  - name: a\n  volumes:",
	"separators": "# nothing\n---\n---\n" + head + "spec:\n  containers:\n  - name: a\n--- # next\n\n# a comment\n" + head + "spec:\n" +
		"  containers:\n  - name: a\n---\nkind:   ConfigMap\ndata: {a:   b}\n",
	"end of document": "---\n" + head + "spec:\n  containers:\n  - name: a\n...\n# end\n---\n" + head + "spec:\n" +
		"  containers:\n  - name: a\n... # end\n",
	"nothing written": head + "spec:\n  initContainers:\n  containers:\n  - name: a\n    env: # none\n    volumeMounts:\n" +
		"    # none either\n  volumes:\n",
	"dash alone": head + "spec:\n  containers:\n  -\n    name: a\n    env:\n    -\n      name: E\n  - # the second\n" +
		"    name: b\n  volumes:\n  -\n    name: x\n",
	"keys in quotes": "\"kind\": Pod\n'metadata':\n  \"annotations\":\n    'a': b\nspec:\n  'containers':\n" +
		"  - 'name': a\n    \"env\":\n    - name: E\n",
	"other scripts": head + "spec:\n  containers:\n  - name: a # 名字 é 😀\n    args: [名, \"é 😀\"]\n    env:\n" +
		"    - name: 名\n      value: \"é # 😀\"\n",
	"line breaks of YAML": head + "spec:\n  containers:\n  - name: a\n    args:\n    - \"a\u2028  b\u0085  c\"\n" +
		"    env:\n    - name: E\n",
	"anchors elsewhere": "kind: Pod\nmetadata:\n  labels: &l\n    a: b\n  annotations:\n    a: b\nmore: *l\nspec:\n" +
		"  containers:\n  - name: a\n    resources: &r\n      limits: {cpu: 1}\n  - name: b\n    resources:\n      <<: *r\n" +
		"    env:\n    - name: E\n",
	"anchor on the way": "kind: Pod\nmetadata:\n  annotations: &a\n    a: b\nspec: &s\n  containers: &c\n  - &one\n" +
		"    name: a\n    env: &e\n    - name: E\n  volumes: &v\n  - name: x\n",
	"tags": "kind: Pod\nmetadata: !!map\n  annotations:\n    a: !!str b\nspec:\n  containers: !!seq\n  - !!map\n" +
		"    name: a\n",
	"list": "kind: List\nitems:\n- kind: Pod\n  spec:\n    containers:\n    - name: a\n- kind: ConfigMap\n  data:\n" +
		"    a:   b\n# last\n- kind: Pod\n  spec:\n    containers:\n    - name: a\n    volumes:\n    - name: x\n",
	"list, indented": "kind: List\nitems:\n  - kind: Deployment\n    spec:\n      template:\n        spec:\n" +
		"          containers:\n            - name: a\n  - kind: Pod\n    spec:\n      containers:\n        - name: a\n",
	"spec first": "spec:\n  volumes:\n  - name: x\n  containers:\n  - image: a\n    env:\n    - name: E\n    name: a\n" +
		"metadata:\n  annotations:\n    a: b\n  name: web\nkind: Pod\n",
}

// brackets are pods, or what is in them, in flow style, and JSON: their lines grow, and no character is lost.
var brackets = map[string]string{
	"lists": head + "spec:\n" +
		"  containers: [{name: a, image: b}, {name: c, env: [{name: E}], volumeMounts: [ {name: x} ]}] # all\n" +
		"  volumes: [{name: x, emptyDir: {}}]\n",
	"in lines": head + "spec:\n  containers:\n  - name: a\n    command: [\n      \"/bin/a\", # first\n      'b',\n    ]\n" +
		"    env: [\n      {name: E},\n      {name: \"]\", value: '}'}\n    ]\n    volumeMounts: [{name: x,\n" +
		"      mountPath: /x}]\n",
	"comma at the end": head + "spec:\n  containers:\n  - {name: a, env: [{name: E}, ], }\n  volumes: [\n    {name: x},\n" +
		"  ]\n",
	"comment at the end": head + "spec:\n  containers:\n  - name: a\n    env: [\n      {name: E} # ] }\n    ]\n",
	"quotes": head + "spec:\n  containers:\n" +
		"  - {name: a, args: [don't, \"a]\\\"\", 'it''s }', b\"c], env: [{name: E, value: a#b}]}\n",
	"JSON": `{"kind":"Pod","metadata":{"annotations":{"a":"b"}},"spec":{"containers":[{"name":"a","command":["a"],` +
		`"n":12345678901234567890,"s":"\ud83d\ude00\u2028</script>\u0000\/"},{"name":"b","env":[],"volumeMounts":[{"name":"x"}]}]}}`,
	"JSON in lines": "{\n  \"kind\": \"Pod\",\n  \"metadata\": {\n    \"annotations\": {\n      \"a\": \"b\"\n    }\n" +
		"  },\n  \"spec\": {\n    \"containers\": [\n      {\n        \"name\": \"a\",\n        \"env\": [\n          {\n" +
		"            \"name\": \"E\"\n          }\n        ]\n      }\n    ]\n  }\n}\n",
	"JSON with tabs": "{\n\t\"kind\": \"Pod\",\n\t\"spec\": {\n\t\t\"containers\": [\n\t\t\t{\"name\": \"a\"}\n\t\t]\n" +
		"\t}\n}",
	"JSON by Python": `{"kind": "Pod", "spec": {"containers": [{"name": "a", "env": [{"name": "E", "value": "\u00e9 [{"}]}], ` +
		`"volumes": [{"name": "x"}]}}`,
	"JSON after JSON": "{\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}]}}\n\n" +
		"{\"kind\":\"ConfigMap\"} {\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}]}}{\"kind\":\"Secret\"}\n",
	"JSON between YAML": "kind: ConfigMap\n---\n{\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}]}}\n" +
		"{\"kind\":\"ConfigMap\"}\n---\n" + head + "spec:\n  containers:\n  - name: a\n",
	"JSON, then YAML": "{\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}]}}\n# a comment\n---\n" +
		"kind: ConfigMap\n",
	"JSON with CRLF": "{\r\n  \"kind\": \"Pod\",\r\n  \"spec\": {\r\n    \"containers\": [\r\n      {\"name\": \"a\"}\r\n" +
		"    ]\r\n  }\r\n}\r\n",
	"YAML in braces":     "{kind: Pod, spec: {containers: [{name: a}], volumes: [{name: x}]}}\n",
	"braces with a mark": "\ufeff{kind: Pod, spec: {containers: [{name: a}], volumes: [{name: x}]}}\n",
}

// What the author wrote stays as it is, and what is added comes in between.
func TestTextStays(t *testing.T) {
	for name, text := range blocks {
		t.Run(name, func(t *testing.T) {
			after, lost := grownText(t, text)
			if gone := missing(lines(strings.TrimSuffix(text, "\n")+"\n"), lines(after+"\n")); len(gone) > 0 &&
				!strings.HasPrefix(name, "no end") || lost != "" {
				t.Errorf("%s is lost (%s):\n%s", gone, lost, after)
			}
			if crlf := strings.Count(after, "\r\n"); crlf > 0 && crlf != strings.Count(after, "\n") {
				t.Errorf("not every line ends as the author's do:\n%q", after)
			}
		})
	}
	for name, text := range brackets {
		t.Run(name, func(t *testing.T) {
			after, lost := grownText(t, text)
			if gone := missing(characters(text), characters(after)); len(gone) > 0 || lost != "" {
				t.Errorf("%q is lost (%s):\n%s", gone, lost, after)
			}
			if !strings.HasPrefix(name, "JSON") || strings.Contains(name, "YAML") {
				return
			}
			for dec := json.NewDecoder(strings.NewReader(after)); ; {
				if err := dec.Decode(new(any)); errors.Is(err, io.EOF) {
					return
				} else if err != nil {
					t.Fatalf("%v: it is no JSON any more:\n%s", err, after)
				}
			}
		})
	}
}

// What is shared by aliases cannot be added to where it is written: the document is written anew, in its order and with its comments.
func TestAliasesAreWrittenOut(t *testing.T) {
	const before = `kind: Deployment # a shop
spec:
  template:
    spec:
      containers:
      - &base
        name: web   # the storefront
        env: &env
        - {name: MODE, value: prod}   # same for all

        volumeMounts: [{name: x}]
      - <<: *base
        name: worker
      - name: cron
        env: *env
---
# untouched:   stays
kind:   ConfigMap
`
	after, lost := grownText(t, before)
	if !strings.Contains(lost, "aliases") || strings.ContainsAny(after, "&*") {
		t.Errorf("%s\n%s", lost, after)
	}
	for _, want := range []string{"kind: Deployment # a shop\n", "- name: web # the storefront\n", "# same for all\n",
		"---\n# untouched:   stays\nkind:   ConfigMap\n"} {
		if !strings.Contains(after, want) {
			t.Errorf("it is without %q:\n%s", want, after)
		}
	}
}

// Null is what lists take the place of.
func TestNullInBrackets(t *testing.T) {
	for before, want := range map[string]string{
		`{"kind":"Pod","spec":{"containers":[{"env":null}]}}`:                   `"env":[{"name":"A"`,
		"{kind: Pod, spec: {containers: [{env: null}]}}":                        `{env: [{name: A`,
		"{kind: Pod, spec: {containers: [{env: , name: a}]}}":                   `{env: [{name: A`,
		"kind: Pod\nspec:\n  volumes: ~ # none\n  containers:\n  - env: null\n": "  volumes: # none\n  - name: v\n",
	} {
		if after, lost := grownText(t, before); lost != "" || !strings.Contains(after, want) {
			t.Errorf("%s: it is without %s (%s):\n%s", before, want, lost, after)
		}
	}
}

// Pods as people have them keep their text. What kubectl refuses, or would read a part of, is refused.
func TestCorpusStays(t *testing.T) {
	refused := map[string]string{
		"10b-list-in-a-list.yaml":               "items[0] is a list, and kubectl reads no list in a list",
		"34-crlf-bom-and-document-markers.yaml": "document at line 1",
		"34e-end-marker-more.yaml":              "another document follows without a separator",
		"operator.yaml":                         "it has no kind",
		"55-plain-duplicate-key.yaml":           `line 6: the key "serviceAccountName" is written twice, first in line 5`,
	}
	aliases := []string{"33-anchors-and-merges.yaml", "33b-aliases-only.yaml", "33c-merge-without-override.yaml"}
	files, err := filepath.Glob("../../testdata/people/*")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if problem := refused[filepath.Base(file)]; problem != "" {
				if _, err := (Source{Files: []string{file}}).Read(); err == nil || !strings.Contains(err.Error(), problem) {
					t.Error(err)
				}
				return
			}
			after, lost := grownText(t, string(text))
			text = regexp.MustCompile(`s: null\n`).ReplaceAll(text, []byte("s:\n")) // lists take its place
			if slices.Contains(aliases, filepath.Base(file)) {
				if !strings.Contains(lost, "aliases") {
					t.Error(lost)
				}
				return
			}
			if gone := missing(characters(string(text)), characters(after)); len(gone) > 0 || lost != "" {
				t.Errorf("%q is lost (%s):\n%s", gone, lost, after)
			}
		})
	}
}
