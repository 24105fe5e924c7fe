package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A path is a way into a document: names of members, and indices of elements.
type path []any

// in follows the path through decoded JSON; nil if it leads nowhere.
func (p path) in(value any) any {
	for _, step := range p {
		switch step := step.(type) {
		case string:
			mapping, _ := value.(map[string]any)
			value = mapping[step]
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil
			}
			value = list[step]
		}
	}
	return value
}

// replace puts something else in the path's place, and returns the whole.
func (p path) replace(whole, by any) any {
	if len(p) == 0 {
		return by
	}
	switch above, last := p[:len(p)-1].in(whole), p[len(p)-1]; above := above.(type) {
	case map[string]any:
		name, _ := last.(string)
		above[name] = by
	case []any:
		i, _ := last.(int)
		above[i] = by
	}
	return whole
}

// node follows the path through a YAML tree; nil if it leads nowhere.
func (p path) node(n *yaml.Node) *yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, step := range p {
		switch step := step.(type) {
		case string:
			i := member(n, step)
			if i < 0 {
				return nil
			}
			n = n.Content[i+1]
		case int:
			if n.Kind != yaml.SequenceNode || step >= len(n.Content) {
				return nil
			}
			n = n.Content[step]
		}
	}
	return n
}

// member returns the index of a key in a mapping's Content, or -1.
func member(mapping *yaml.Node, key string) int {
	if mapping.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// parsePointer takes a JSON pointer apart. Which of its numbers are indices depends on what they point into: pods have no member
// whose name is a number on the way to anything that is added.
func parsePointer(pointer string) path {
	var p path
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		step = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		if i, err := strconv.Atoi(step); err == nil {
			p = append(p, i)
		} else {
			p = append(p, step)
		}
	}
	return p
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

// dotted returns the path as people write it.
func (p path) dotted() string {
	var b strings.Builder
	for _, step := range p {
		switch step := step.(type) {
		case string:
			b.WriteString("." + step)
		case int:
			b.WriteString("[" + strconv.Itoa(step) + "]")
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}
