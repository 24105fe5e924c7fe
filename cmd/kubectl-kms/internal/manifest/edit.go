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

// An operation is an RFC 6902 add, the only operation in the injector's patches.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// An addition is an operation with its path in the document.
type addition struct {
	at    path
	value json.RawMessage
}

// Add applies an RFC 6902 patch of additions to the pod in the decoded document. Save writes them into the text.
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

// patched applies the patch with an independent library; the edited text must decode to its result.
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

// Save inserts the additions into the document's text and keeps everything that the author wrote. If a YAML alias shares the value that is
// added to, or the text has no place for an insertion, Save encodes the whole document, and lost says what the text loses by that.
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
	d.tree = nil // its positions are no longer those of the text
	if d.json {
		lost = "the order of its members and its indentation are lost"
		d.text, err = json.MarshalIndent(d.root, "", "  ")
		d.text = append(d.text, '\n')
		return lost, err
	}
	if text, ok := d.anew(added); ok {
		d.text = text
		return "its aliases (*name) are replaced by their values, and its indentation and blank lines are lost", nil
	}
	d.text, err = k8syaml.Marshal(d.root)
	return "its comments, order and indentation are lost", err
}

// anew encodes the document with the additions, and without aliases.
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

// grown applies an addition to a tree. New nodes have no line; replaced collects the nodes that new ones replace.
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

// expanded returns the tree with aliases and merge keys (<<) replaced by their values.
func expanded(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return expanded(n.Alias)
	}
	out := *n
	out.Anchor, out.Content = "", nil
	var merged []*yaml.Node
	for i, child := range n.Content {
		switch key := n.Content[i&^1]; {
		case n.Kind != yaml.MappingNode || key.Tag != "!!merge":
			out.Content = append(out.Content, expanded(child))
		case child == key:
		case child.Kind == yaml.SequenceNode:
			merged = append(merged, expanded(child).Content...)
		default:
			merged = append(merged, expanded(child))
		}
	}
	for _, source := range merged {
		for i := 0; i < len(source.Content); i += 2 {
			if key := source.Content[i]; member(&out, key.Value) < 0 {
				out.Content = append(out.Content, key, source.Content[i+1])
			}
		}
	}
	return &out
}

// harmless matches strings that are strings without quotes in every version of YAML.
var harmless = regexp.MustCompile(`^([A-Za-z/]([A-Za-z0-9_./:-]*[A-Za-z0-9_./-])?|[0-9]+(m|Ki|Mi|Gi))$`)

var words11 = []string{"y", "n", "yes", "no", "on", "off", "true", "false", "null"}

// plain changes the style of nodes from JSON to that of hand-written YAML.
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

// compact reports whether the author puts a list's dashes into the column of its key, as kubectl does.
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

// says reports whether a text decodes to the document's content.
func (d *Document) says(text []byte) bool {
	got, err := d.meaning(text)
	return err == nil && reflect.DeepEqual(got, d.root)
}
