package manifest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// JSON returns the object.
func (o Object) JSON() []byte {
	text, err := json.Marshal(o.json)
	if err != nil {
		return nil // it was made of JSON
	}
	return text
}

// Controller returns what made the object, as Deployments make ReplicaSets, without its Namespace, which is the object's.
func (o Object) Controller() (of Object, ok bool) {
	owners, _ := path{"metadata", "ownerReferences"}.in(o.json).([]any)
	for _, owner := range owners {
		reference, _ := owner.(map[string]any)
		if reference["controller"] == true {
			of.APIVersion, _ = reference["apiVersion"].(string)
			of.Kind, _ = reference["kind"].(string)
			of.Name, _ = reference["name"].(string)
			return of, true
		}
	}
	return of, false
}

// Line returns the line, in its file, of a field as kubectl shows it, such as spec.data[0].name, or of what the field would be in.
func (o Object) Line(field string) int {
	at := parseDotted(field)
	for n := len(at); n > 0; n-- {
		switch last := at[n-1].(type) {
		case string:
			if mapping := slices.Concat(o.place, at[:n-1]); mapping.has(o.Document.tree, last) {
				return o.Document.line(last, mapping)
			}
		case int:
			if item := slices.Concat(o.place, at[:n]).node(o.Document.tree); item != nil {
				return o.Document.begin + item.Line - 1
			}
		}
	}
	return o.Document.Line
}

// has reports whether the mapping at the path has a key.
func (p path) has(tree *yaml.Node, key string) bool {
	mapping := p.node(tree)
	return mapping != nil && member(mapping, key) >= 0
}

var dottedStep = regexp.MustCompile(`\[([0-9]+)\]|\["?(.*?)"?\]|([^.\[]+)`)

// parseDotted takes a path apart as people write it: spec.data[0].name, data["tls.crt"], annotations[example.com/a].
func parseDotted(dotted string) path {
	var p path
	for _, m := range dottedStep.FindAllStringSubmatch(dotted, -1) {
		if i, err := strconv.Atoi(m[1]); err == nil {
			p = append(p, i)
		} else {
			p = append(p, m[2]+m[3])
		}
	}
	return p
}
