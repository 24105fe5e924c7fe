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

// An addition is an operation on a document.
type addition struct {
	at    path
	value json.RawMessage
}

// Add applies the additions of an RFC 6902 patch to the pod: the document says it from then on, and Save has its text say it.
func (p Pod) Add(patch []byte) error {
	d := p.Object.Document
	pod, err := p.patched(patch)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", d.File, p.Object, err)
	}
	var operations []operation
	if err := json.Unmarshal(patch, &operations); err != nil {
		return err
	}
	for _, o := range operations {
		d.added = append(d.added, addition{append(slices.Clone(p.place), parsePointer(o.Path)...), o.Value})
	}
	d.root = p.place.replace(d.root, pod)
	return nil
}

// patched applies the patch with an independent implementation, to which the edited text is compared.
func (p Pod) patched(patch []byte) (any, error) {
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, err
	}
	pod, err := decoded.Apply(p.written)
	if err != nil {
		return nil, err
	}
	return decode(pod)
}

// Save writes what was added into the document's text: between what the author wrote, all of which stays. Where what is added to is
// shared by aliases of YAML, or stands in a way that nothing can be put into, the document is written anew, and lost says what that
// costs.
func (d *Document) Save() (lost string, err error) {
	if len(d.added) == 0 {
		return "", nil
	}
	added := d.added
	d.added = nil
	if tree, replaced, ok := grown(d.tree, added); ok {
		for _, blank := range []bool{false, true} {
			if text := splice(d, tree, replaced, blank); d.says(text) {
				d.text = text
				return "", d.parse()
			}
		}
	}
	d.tree = nil // its nodes are no longer the text's
	if d.json {
		lost = "the order of its members and its indentation are not kept"
		d.text, err = json.MarshalIndent(d.root, "", "  ")
		d.text = append(d.text, '\n')
		return lost, err
	}
	if text, ok := d.anew(added); ok {
		d.text = text
		return "its aliases (*name) are written out, and its indentation and blank lines are not kept", nil
	}
	d.text, err = k8syaml.Marshal(d.root)
	return "its comments, order and indentation are not kept", err
}

// anew returns the document without aliases, with what is added, by the encoder.
func (d *Document) anew(added []addition) ([]byte, bool) {
	var tree yaml.Node
	if yaml.Unmarshal(d.text, &tree) != nil {
		return nil, false
	}
	tree = *expanded(&tree)
	if _, _, ok := grown(&tree, added); !ok {
		return nil, false
	}
	text, err := encode(&tree, 2, compact(&tree))
	return text, err == nil && d.says(text)
}

func encode(n *yaml.Node, indent int, compact bool) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(indent)
	if compact {
		enc.CompactSeqIndent()
	}
	if err := enc.Encode(n); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}

// grown adds to a tree. Nodes that are new have no line; replaced are those that others have taken the place of.
func grown(tree *yaml.Node, added []addition) (_ *yaml.Node, replaced map[*yaml.Node]*yaml.Node, ok bool) {
	replaced = map[*yaml.Node]*yaml.Node{}
	for _, a := range added {
		if !a.add(tree, replaced) {
			return nil, nil, false
		}
	}
	return tree, replaced, true
}

func (a addition) add(tree *yaml.Node, replaced map[*yaml.Node]*yaml.Node) bool {
	parent, last := a.at[:len(a.at)-1].node(tree), a.at[len(a.at)-1]
	var n yaml.Node
	if yaml.Unmarshal(a.value, &n) != nil {
		return false
	}
	fresh := n.Content[0]
	plain(fresh)
	switch {
	case parent == nil || parent.Kind == yaml.AliasNode:
		return false
	case parent.Kind == yaml.MappingNode:
		key, _ := last.(string)
		if i := member(parent, key); i >= 0 {
			replaced[fresh] = parent.Content[i+1]
			parent.Content[i+1] = fresh
		} else {
			parent.Content = append(parent.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, fresh)
		}
	case last == "-":
		parent.Content = append(parent.Content, fresh)
	default:
		i, _ := last.(int)
		if i > len(parent.Content) {
			return false
		}
		parent.Content = slices.Insert(parent.Content, i, fresh)
	}
	return true
}

// expanded returns a tree in which what aliases stand for, and what is merged (<<), is written out.
func expanded(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return expanded(n.Alias)
	}
	out := *n
	out.Anchor, out.Content = "", nil
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && child.Tag == "!!merge" || i%2 == 1 && n.Kind == yaml.MappingNode && n.Content[i-1].Tag == "!!merge" {
			continue
		}
		out.Content = append(out.Content, expanded(child))
	}
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		merged := expanded(n.Content[i+1])
		sources := []*yaml.Node{merged}
		if merged.Kind == yaml.SequenceNode {
			sources = merged.Content
		}
		for _, source := range sources {
			for j := 0; j+1 < len(source.Content); j += 2 {
				if member(&out, source.Content[j].Value) < 0 {
					out.Content = append(out.Content, source.Content[j], source.Content[j+1])
				}
			}
		}
	}
	return &out
}

// harmless are strings that no version of YAML takes for anything else.
var harmless = regexp.MustCompile(`^([A-Za-z/]([A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?|[0-9]+(m|Ki|Mi|Gi))$`)

var words11 = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// plain has JSON written as a person writes YAML.
func plain(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	n.Line = 0
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

// says reports whether a text means what the document says.
func (d *Document) says(text []byte) bool {
	got, err := d.meaning(text)
	return err == nil && reflect.DeepEqual(got, d.root)
}
