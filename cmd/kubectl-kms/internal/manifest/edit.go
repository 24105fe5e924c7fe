package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"go.yaml.in/yaml/v3"
	k8syaml "sigs.k8s.io/yaml"
)

// An operation is an RFC 6902 add, the only one that the injector knows.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// Add applies the additions of an RFC 6902 patch to the pod in its document. The document keeps its comments, its order and its
// scalars as they were written; where YAML does not let it, as with aliases of what is changed, it keeps what it means.
func (p Pod) Add(patch []byte) error {
	d := p.Object.Document
	root, err := p.applied(patch)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", d.File, p.Object, err)
	}
	var operations []operation
	if err := json.Unmarshal(patch, &operations); err != nil {
		return err
	}
	text, err := p.edit(operations)
	if err != nil || !says(text, root) {
		if text, err = rewrite(root); err != nil {
			return err
		}
	}
	d.text, d.root, d.tree = text, root, nil
	return nil
}

// applied is what the document says with the patch: by another's implementation, so that the edited text is held to it.
func (p Pod) applied(patch []byte) (any, error) {
	document, err := json.Marshal(p.Object.Document.root)
	if err != nil {
		return nil, err
	}
	var operations []operation
	if err := json.Unmarshal(patch, &operations); err != nil {
		return nil, err
	}
	for i := range operations {
		operations[i].Path = p.place.pointer() + operations[i].Path
	}
	if patch, err = json.Marshal(operations); err != nil {
		return nil, err
	}
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	if document, err = decoded.Apply(document); err != nil {
		return nil, err
	}
	return decode(document)
}

func (p Pod) edit(operations []operation) ([]byte, error) {
	tree, err := p.Object.Document.parse()
	if err != nil {
		return nil, err
	}
	for _, o := range operations {
		if err := add(tree, append(append(path{}, p.place...), parsePointer(o.Path)...), o.Value); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if compact(tree) {
		enc.CompactSeqIndent()
	}
	if err := enc.Encode(tree); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// add adds a value to a tree. What it adds to is written in block style from then on.
func add(tree *yaml.Node, at path, value json.RawMessage) error {
	for i := range at {
		at[:i].block(tree)
	}
	parent, last := at[:len(at)-1].node(tree), at[len(at)-1]
	var n yaml.Node
	if err := yaml.Unmarshal(value, &n); err != nil {
		return err
	}
	added := n.Content[0]
	plain(added)
	switch {
	case parent == nil || parent.Kind == yaml.AliasNode:
		return fmt.Errorf("there is nothing at %s", at[:len(at)-1].pointer())
	case parent.Kind == yaml.MappingNode:
		key, _ := last.(string)
		if i := member(parent, key); i >= 0 {
			parent.Content[i+1] = added
		} else {
			parent.Content = append(parent.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, added)
		}
	case last == "-":
		parent.Content = append(parent.Content, added)
	default:
		i, _ := last.(int)
		if i > len(parent.Content) {
			return fmt.Errorf("there is nothing at %s", at.pointer())
		}
		parent.Content = slices.Insert(parent.Content, i, added)
	}
	return nil
}

// block has what is at a path written in block style. A comment after it stays on its key's line.
func (p path) block(tree *yaml.Node) {
	n := p.node(tree)
	if n == nil || n.Style&yaml.FlowStyle == 0 {
		return
	}
	n.Style &^= yaml.FlowStyle
	if n.LineComment == "" || len(p) == 0 {
		return
	}
	if name, ok := p[len(p)-1].(string); ok {
		mapping := p[:len(p)-1].node(tree)
		mapping.Content[member(mapping, name)].LineComment, n.LineComment = n.LineComment, ""
	}
}

// harmless are strings that no version of YAML takes for anything else.
var harmless = regexp.MustCompile(`^([A-Za-z/]([A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?|[0-9]+(m|Ki|Mi|Gi))$`)

var words11 = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// plain has JSON written as a person writes YAML.
func plain(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		switch {
		case harmless.MatchString(n.Value) && !slices.Contains(words11, strings.ToLower(n.Value)):
			n.Style = 0
		case strings.Contains(n.Value, `"`) && !strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' }):
			n.Style = yaml.SingleQuotedStyle
		}
	}
	for _, child := range n.Content {
		plain(child)
	}
}

// compact reports whether the author writes the dash of a list below its key's first letter, as kubectl does.
func compact(n *yaml.Node) bool {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if list := n.Content[i+1]; list.Kind == yaml.SequenceNode && list.Style&yaml.FlowStyle == 0 && list.Line > n.Content[i].Line {
				return list.Column == n.Content[i].Column
			}
		}
	}
	return slices.ContainsFunc(n.Content, compact)
}

// says reports whether a text means the same as decoded JSON.
func says(text []byte, root any) bool {
	document, err := k8syaml.YAMLToJSON(text)
	if err != nil {
		return false
	}
	got, err := decode(document)
	return err == nil && reflect.DeepEqual(got, root)
}

// rewrite is what a document says in YAML of its own.
func rewrite(root any) ([]byte, error) { return k8syaml.Marshal(root) }
