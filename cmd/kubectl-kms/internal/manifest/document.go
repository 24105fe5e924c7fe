package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"
)

// A Document is one YAML document of a file.
type Document struct {
	File string
	Line int // in File, of the document's first line
	text []byte
	tree *yaml.Node // of the text; nil until somebody needs it
	root any        // what the text says, as JSON
}

func newDocument(file string, line int, text []byte) (*Document, error) {
	d := &Document{File: file, Line: line, text: bytes.TrimLeft(text, "\r\n")}
	d.Line += bytes.Count(text[:len(text)-len(d.text)], []byte("\n"))
	// By kubectl's own reader, so that what is decided on is what the cluster would be sent.
	document, err := k8syaml.YAMLToJSONStrict(d.text)
	if err == nil {
		d.root, err = decode(document)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, document at line %d: %w", file, d.Line, err)
	}
	return d, nil
}

// decode keeps numbers as they are written: as float64 a large one would become another.
func decode(document []byte) (value any, err error) {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	err = dec.Decode(&value)
	return value, err
}

// An Object is a Kubernetes object in a document.
type Object struct {
	Document        *Document
	Kind            string
	Namespace, Name string // "" if the manifest does not say
	Labels          map[string]string
	Annotations     map[string]string

	place path // in the document
	json  map[string]any
}

// Objects are those of the document: its own, or the items of its List.
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
			objects = append(objects, d.object(path{"items", i}, o))
		}
	}
	return objects
}

func (d *Document) object(place path, o map[string]any) Object {
	out := Object{Document: d, place: place, json: o}
	out.Kind, _ = o["kind"].(string)
	meta, _ := o["metadata"].(map[string]any)
	out.Namespace, _ = meta["namespace"].(string)
	out.Name, _ = meta["name"].(string)
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

// String is the object as messages name it.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// A Pod is a pod, or the template of pods, in an object.
type Pod struct {
	Object      Object
	JSON        []byte
	Annotations map[string]string
	Above       []string // keys of the annotations that the object has, or a CronJob's template of Jobs, instead of the pod
	Path        string   // in the object, such as spec.template; "" if it is the pod

	place path // in the document
}

// Pod finds the object's pod by its shape, so that workloads of others, such as OpenKruise's CloneSet, have one too.
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
	text, err := json.Marshal(pod)
	if err != nil {
		return Pod{}, false // it was made of JSON
	}
	found := Pod{Object: o, JSON: text, Annotations: words(annotations.in(pod)), Path: at.dotted(), place: append(append(path{}, o.place...), at...)}
	for i := range at {
		found.Above = slices.AppendSeq(found.Above, maps.Keys(words(annotations.in(at[:i].in(o.json)))))
	}
	return found, true
}

// annotations is the way to an object's, or a template's.
var annotations = path{"metadata", "annotations"}

// AnnotationLine is the line, in its file, of one of the pod's annotations, or of those above it, or of the document.
func (p Pod) AnnotationLine(key string) int {
	d := p.Object.Document
	tree, err := d.parse()
	if err != nil {
		return d.Line
	}
	for n := len(p.place); n >= len(p.Object.place); n-- {
		if mapping := append(append(path{}, p.place[:n]...), annotations...).node(tree); mapping != nil {
			if i := member(mapping, key); i >= 0 {
				return d.Line + mapping.Content[i].Line - 1
			}
		}
	}
	return d.Line
}

func (d *Document) parse() (*yaml.Node, error) {
	if d.tree != nil {
		return d.tree, nil
	}
	var tree yaml.Node
	if err := yaml.Unmarshal(d.text, &tree); err != nil {
		return nil, err
	}
	d.tree = &tree
	return d.tree, nil
}

// Template is the pod, or the template of pods, in a decoded object.
func Template(object map[string]any) (pod []byte, ok bool) {
	p, ok := (&Document{}).object(nil, object).Pod()
	return p.JSON, ok
}
