package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"
)

// A Document is a YAML document or a JSON object in a file.
type Document struct {
	File string
	Line int // in File, of the document's first line

	begin     int    // line of the text's first byte
	first     bool   // document of its file
	separator []byte // the line --- before it, if any
	text      []byte
	json      bool
	tree      *yaml.Node // of the text; nil if only kubectl's reader can parse it
	root      any        // the decoded text
	added     []addition
}

func (d *Document) read() error {
	if len(bytes.TrimSpace(d.text)) == 0 {
		return nil
	}
	d.Line = d.begin + bytes.Count(d.text[:len(d.text)-len(bytes.TrimLeft(d.text, "\r\n"))], []byte("\n"))
	err := d.parse()
	if err == nil {
		// decoded by kubectl's reader, so that the decision is about the object that kubectl would send
		d.root, err = d.meaning(d.text)
	}
	if err == nil {
		err = d.refused()
	}
	if err != nil {
		return fmt.Errorf("%s, document at line %d: %w", d.File, d.Line, err)
	}
	return nil
}

// meaning decodes a text of the document; errors name the file and the line.
func (d *Document) meaning(text []byte) (any, error) {
	if !d.json {
		var err error
		if text, err = k8syaml.YAMLToJSON(text); err != nil {
			return nil, err
		}
	}
	return decode(text)
}

// refused rejects what kubectl refuses: a document that is no object, an object without a kind, and a list in a list.
func (d *Document) refused() error {
	if d.root == nil { // only comments
		return nil
	}
	root, ok := d.root.(map[string]any)
	if !ok {
		return errors.New("it is no object, and kubectl refuses it; write objects, with --- between them, or leave the file out")
	}
	if kind, _ := root["kind"].(string); kind == "" && !strings.HasPrefix(filepath.Base(d.File), "kustomization.") { // which -R finds
		return errors.New("it has no kind, and kubectl refuses it; write kind: with a small k, or leave the file out")
	}
	items, _ := root["items"].([]any)
	objects := d.Objects()
	for i, item := range items {
		o, ok := item.(map[string]any)
		if _, list := o["items"].([]any); list {
			return fmt.Errorf("items[%d] is a list, and kubectl reads no list in a list; put its items into the outer one", i)
		}
		if !ok || objects[i].Kind == "" {
			return fmt.Errorf("items[%d] is no object with a kind, and kubectl refuses it; write kind: with a small k", i)
		}
	}
	return nil
}

// decode keeps numbers as text: float64 would change large ones.
func decode(document []byte) (value any, err error) {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	err = dec.Decode(&value)
	return value, err
}

// An Object is a Kubernetes object in a document.
type Object struct {
	Document        *Document
	APIVersion      string
	Kind            string
	Namespace, Name string // "" if the manifest has none; for generateName: cart-, cart-<generated>
	Labels          map[string]string
	Annotations     map[string]string

	place path // in the document
	json  map[string]any
}

// Objects returns the document's object, or the items if it is a List.
func (d *Document) Objects() []Object {
	root, ok := d.root.(map[string]any)
	if !ok {
		return nil
	}
	items, list := root["items"].([]any)
	if !list {
		return []Object{d.object(nil, root)}
	}
	var objects []Object
	for i, item := range items {
		if o, ok := item.(map[string]any); ok {
			one := d.object(path{"items", i}, o)
			if _, versioned := o["apiVersion"]; one.Kind == "" && !versioned { // the items of a PodList are Pods
				kind, _ := root["kind"].(string)
				one.Kind = strings.TrimSuffix(kind, "List")
			}
			objects = append(objects, one)
		}
	}
	return objects
}

func (d *Document) object(place path, o map[string]any) Object {
	out := Object{Document: d, place: place, json: o}
	out.APIVersion, _ = o["apiVersion"].(string)
	out.Kind, _ = o["kind"].(string)
	meta, _ := o["metadata"].(map[string]any)
	out.Namespace, _ = meta["namespace"].(string)
	out.Name, _ = meta["name"].(string)
	if prefix, _ := meta["generateName"].(string); out.Name == "" && prefix != "" {
		out.Name = prefix + "<generated>"
	}
	out.Labels, out.Annotations = words(meta["labels"]), words(meta["annotations"])
	return out
}

func words(of any) map[string]string {
	mapping, _ := of.(map[string]any)
	out := make(map[string]string, len(mapping))
	for key, value := range mapping {
		if s, ok := value.(string); ok {
			out[key] = s
		}
	}
	return out
}

// String returns the object as messages name it.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// A Pod is a pod or a pod template in an object.
type Pod struct {
	Object      Object
	JSON        []byte // with the container name that Knative would set
	Annotations map[string]string
	Above       []string // keys of the annotations of the object, or of a CronJob's Job template, which do not reach the pod
	Path        string   // in the object, such as spec.template; "" if it is the pod
	Claims      []string // names of a StatefulSet's volumeClaimTemplates, which replace the pod's volumes

	place   path   // in the document
	written []byte // as JSON, unchanged
}

// Pod finds the object's pod by its shape, which works for custom workloads, such as OpenKruise's CloneSet, too.
func (o Object) Pod() (Pod, bool) {
	at := path{"spec", "template"}
	switch o.Kind {
	case "Pod":
		at = nil
	case "PodTemplate":
		at = path{"template"}
	case "CronJob":
		at = path{"spec", "jobTemplate", "spec", "template"}
	}
	pod, _ := at.in(o.json).(map[string]any)
	spec, _ := pod["spec"].(map[string]any)
	if _, ok := spec["containers"].([]any); !ok {
		return Pod{}, false
	}
	written, err := json.Marshal(pod)
	if err != nil {
		return Pod{}, false // it was decoded from JSON
	}
	text := written
	if named, renamed := o.named(pod); renamed {
		if text, err = json.Marshal(named); err != nil {
			return Pod{}, false
		}
	}
	found := Pod{Object: o, JSON: text, Annotations: words(annotations.in(pod)), Path: at.dotted(), Claims: o.claims(),
		place: slices.Concat(o.place, at), written: written}
	for i := range at {
		found.Above = slices.AppendSeq(found.Above, maps.Keys(words(annotations.in(at[:i].in(o.json)))))
	}
	return found, true
}

// named returns the pod of a Knative Service with the name that Knative sets for its only container, if the manifest has none.
// https://github.com/knative/specs/blob/main/specs/serving/knative-api-specification-1.0.md
func (o Object) named(pod map[string]any) (named map[string]any, renamed bool) {
	spec, _ := pod["spec"].(map[string]any)
	containers, _ := spec["containers"].([]any)
	if version, _ := o.json["apiVersion"].(string); !strings.HasPrefix(version, "serving.knative.dev/") || len(containers) != 1 {
		return pod, false
	}
	container, ok := containers[0].(map[string]any)
	if name, _ := container["name"].(string); !ok || name != "" {
		return pod, false
	}
	pod, spec, container = maps.Clone(pod), maps.Clone(spec), maps.Clone(container)
	container["name"] = "user-container"
	pod["spec"], spec["containers"] = spec, []any{container}
	return pod, true
}

func (o Object) claims() (names []string) {
	claims, _ := path{"spec", "volumeClaimTemplates"}.in(o.json).([]any)
	for _, claim := range claims {
		if name, ok := (path{"metadata", "name"}).in(claim).(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// annotations is the path to the annotations of an object or a template.
var annotations = path{"metadata", "annotations"}

// A Stray is a map of annotations in an object without a pod.
type Stray struct {
	Path        string // in the object, such as spec.jobTargetRef.template.metadata.annotations
	Annotations map[string]string
	Line        int // in the file, of the first with the prefix
}

// Strays returns all maps of annotations in the object in which a key has the prefix.
func (o Object) Strays(prefix string) []Stray {
	var found []Stray
	var look func(value any, at path)
	look = func(value any, at path) {
		switch value := value.(type) {
		case []any:
			for i, item := range value {
				look(item, append(at, i))
			}
		case map[string]any:
			keys := slices.Sorted(maps.Keys(value))
			i, _ := slices.BinarySearch(keys, prefix)
			if len(at) > 0 && at[len(at)-1] == "annotations" && i < len(keys) && strings.HasPrefix(keys[i], prefix) {
				found = append(found, Stray{at.dotted(), words(value), o.Document.line(keys[i], slices.Concat(o.place, at))})
			}
			for _, key := range keys {
				look(value[key], append(at, key))
			}
		}
	}
	look(o.json, nil)
	return found
}

// AnnotationLine returns the line of one of the pod's annotations in the file, or of the document if it is not there.
func (p Pod) AnnotationLine(key string) int {
	return p.Object.Document.line(key, slices.Concat(p.place, annotations))
}

// AboveLine returns the line of an annotation of Above in the file, or of the document if it is not there.
func (p Pod) AboveLine(key string) int {
	var above []path
	for n := len(p.Object.place); n < len(p.place); n++ {
		above = append(above, slices.Concat(p.place[:n], annotations))
	}
	return p.Object.Document.line(key, above...)
}

// line returns the line of a key in the first of the mappings that has it.
func (d *Document) line(key string, mappings ...path) int {
	for _, place := range mappings {
		if mapping := place.node(d.tree); mapping != nil {
			if i := member(mapping, key); i >= 0 {
				return d.begin + mapping.Content[i].Line - 1
			}
		}
	}
	return d.Line
}

// strange matches texts that JSON allows and YAML does not: an escaped slash, half of a surrogate pair, and control characters.
var strange = regexp.MustCompile(`\\(?:u[dD][89a-fA-F]|.)|[\x7f-\x{84}\x{86}-\x{9f}\x{fffe}\x{ffff}]`)

// familiar returns JSON that the YAML reader accepts, with every value at its old position.
func familiar(text []byte) []byte {
	return strange.ReplaceAllFunc(text, func(s []byte) []byte {
		switch {
		case s[0] != '\\':
			return []byte("?")
		case s[1] == '/':
			return []byte("//")
		case len(s) > 2:
			return []byte{'\\', 'u', '0', s[3]}
		}
		return s
	})
}

// parse finds the positions of the text's nodes, and rejects what kubectl would drop.
func (d *Document) parse() error {
	text := d.text
	if d.json {
		text = familiar(text)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var tree, more yaml.Node
	if err := dec.Decode(&tree); err != nil {
		return nil //nolint:nilerr // meaning reports the error
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("another document follows without a separator, and kubectl ignores it; write a line --- between them")
	}
	d.tree = &tree
	return d.repeated(&tree)
}

// repeated rejects duplicate keys, of which kubectl takes the last. A key may override a merged one (<<).
func (d *Document) repeated(n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		lines := map[string]int{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i]
			if before := lines[key.Value]; before > 0 && key.Tag != "!!merge" {
				return fmt.Errorf("line %d: the key %q is written twice, first in line %d; remove one", d.begin+key.Line-1, key.Value, d.begin+before-1)
			}
			lines[key.Value] = key.Line
		}
	}
	for _, child := range n.Content {
		if err := d.repeated(child); err != nil {
			return err
		}
	}
	return nil
}

// Template returns the pod or the pod template in a decoded object.
func Template(object map[string]any) (pod []byte, ok bool) {
	p, ok := (&Document{}).object(nil, object).Pod()
	return p.JSON, ok
}
