package content

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
)

// A document is a secret's value in the types of encoding/json, its numbers as json.Number: as they are written.
type document struct {
	root any
	yaml bool // it is YAML, and no JSON
	line bool // it is one line of YAML: a password with a colon in it is one, too, so that its key is in no error
}

// maxYAML bounds a document in YAML, in bytes: the parser takes up to two hundred times as much memory. KMS itself allows fewer.
const maxYAML = 128 << 10

// Limits of what is parsed for an object, in bytes. A document is kept for the entries that need it again, while few others come between:
// in memory it is many times as long.
const (
	maxJSONs = 32 << 20
	maxYAMLs = 2 << 20
	maxKept  = 512 << 10
)

// errParsing fails also what could do without the document.
var errParsing = errors.New("needs documents of the object's entries to be parsed too often; put the entries of each secret together, or " +
	"divide the object into several")

// A reader reads the documents of an object.
type reader struct {
	kept       map[use]parsed
	keptBytes  int
	json, yaml int // bytes that were parsed
}

// A use of a document is one in which it stays as it is: expressions change the notation of its numbers.
type use struct {
	ref      Ref
	searched bool
}

type parsed struct {
	doc document
	err error
}

func (r *reader) read(u use, secret kms.Secret) (document, error) {
	if p, ok := r.kept[u]; ok {
		return p.doc, p.err
	}
	doc, err := r.parse(secret)
	if r.keptBytes += len(secret.Data); r.kept == nil || r.keptBytes > maxKept {
		r.kept, r.keptBytes = map[use]parsed{}, len(secret.Data)
	}
	r.kept[u] = parsed{doc, err}
	return doc, err
}

// parse reads a value as JSON, and else as YAML.
func (r *reader) parse(secret kms.Secret) (document, error) {
	if secret.Binary {
		return document{}, errors.New("needs a text, and this secret is binary; take it whole, as an entry of data without jmesPath")
	}
	if r.json += len(secret.Data); r.json > maxJSONs {
		return document{}, errParsing
	}
	if root, err := render.Decode(secret.Data); err == nil {
		return document{root: root}, nil
	}
	if r.yaml += len(secret.Data); r.yaml > maxYAMLs {
		return document{}, errParsing
	}
	root, err := readYAML(secret.Data)
	if err != nil {
		return document{}, fmt.Errorf("needs JSON or YAML, and this secret's value is not JSON, and as YAML it %w; take it whole, as an entry "+
			"of data without jmesPath", err)
	}
	return document{root, true, !bytes.Contains(bytes.TrimSpace(secret.Data), []byte("\n"))}, nil
}

func readYAML(text []byte) (any, error) {
	if len(text) > maxYAML {
		return nil, fmt.Errorf("has %d bytes, and at most %d are read", len(text), maxYAML)
	}
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil { // the parser's error may quote the text
		return nil, errors.New("cannot be parsed")
	}
	w := yamlWalk{left: 1000 + 4*len(text)}
	return w.value(&root)
}

// yamlWalk makes a value of nodes. It counts them, since aliases multiply.
type yamlWalk struct{ left int }

var errAliases = errors.New("is too large once its aliases are followed")

func (w *yamlWalk) value(n *yaml.Node) (any, error) {
	if w.left--; w.left < 0 {
		return nil, errAliases
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return w.value(n.Content[0])
	case yaml.AliasNode:
		return w.value(n.Alias)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			value, err := w.value(item)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.MappingNode:
		return w.object(n)
	case yaml.ScalarNode:
		return scalar(n), nil
	}
	return nil, nil // nothing at all
}

func (w *yamlWalk) object(n *yaml.Node) (any, error) {
	object := make(map[string]any, len(n.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, item)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("has a key at line %d that is no text", key.Line)
		}
		if _, twice := object[key.Value]; twice {
			return nil, fmt.Errorf("has the key %s twice, at line %d", excerpt(key.Value), key.Line)
		}
		value, err := w.value(item)
		if err != nil {
			return nil, err
		}
		object[key.Value] = value
	}
	for _, from := range merged {
		if err := w.merge(object, from); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// merge adds the keys of an object that a << names, or of each of a list of objects.
func (w *yamlWalk) merge(object map[string]any, n *yaml.Node) error {
	value, err := w.value(n)
	if err != nil {
		return err
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, item := range list {
		from, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("has a << at line %d that names no object", n.Line)
		}
		for key, value := range from {
			if _, own := object[key]; !own {
				object[key] = value
			}
		}
	}
	return nil
}

// scalar keeps what is written: a number in another notation than JSON's, and a yes or no in another than true and false, are texts.
func scalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		if n.Value == "true" || n.Value == "false" {
			return n.Value == "true"
		}
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
	case "!!binary":
		if decoded, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), "")); err == nil {
			return string(decoded)
		}
	}
	return n.Value
}

// write returns a value as it stands in a Secret: a text as it is, all else in the notation that it was read in.
func write(v any, inYAML bool) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return []byte(v), nil
	case json.Number:
		return []byte(v), nil
	case map[string]any, []any:
		if inYAML {
			text, err := render.EncodeYAML(v)
			if !endsInLines(v) {
				text = bytes.TrimSuffix(text, []byte("\n"))
			}
			return text, err
		}
	}
	text, err := json.Marshal(v)
	if err != nil { // not a number
		return nil, errors.New("it has no notation in JSON")
	}
	return text, nil
}

// endsInLines reports whether the last text of a value has several lines: in YAML the last line end may then be its own.
func endsInLines(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "\n")
	case []any:
		return len(v) > 0 && endsInLines(v[len(v)-1])
	case map[string]any:
		return len(v) > 0 && endsInLines(v[slices.Max(slices.Collect(maps.Keys(v)))])
	}
	return false
}

// extracted and picked write the values of extract and of jmesPath.
func (c Compat) extracted(v any, inYAML bool) ([]byte, error) {
	if c.FloatForm {
		v = floats(v, inYAML)
		if f, ok := v.(float64); ok && inYAML {
			v = strconv.FormatFloat(f, 'g', -1, 64)
		}
	}
	text, err := write(v, inYAML)
	if _, isText := v.(string); c.TrailingNewline && inYAML && !isText {
		text = append(bytes.TrimSuffix(text, []byte("\n")), '\n')
	}
	return text, err
}

func (c Compat) picked(v any, inYAML bool) ([]byte, error) {
	if c.FloatForm {
		v = floats(v, true)
		if f, ok := v.(float64); ok {
			return fmt.Append(nil, f), nil
		}
	}
	text, err := write(v, inYAML)
	switch v.(type) {
	case map[string]any, []any:
		if c.TrailingNewline && inYAML {
			text = append(bytes.TrimSuffix(text, []byte("\n")), '\n')
		}
	}
	return text, err
}

// floats makes a float64 of each number, as ack-secret-manager does; of integers only if it read them by encoding/json.
func floats(v any, keepIntegers bool) any {
	switch v := v.(type) {
	case float64:
		if keepIntegers && v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return json.Number(strconv.FormatFloat(v, 'f', -1, 64))
		}
	case json.Number:
		if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil && keepIntegers {
			return v
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	case map[string]any:
		other := make(map[string]any, len(v))
		for key, item := range v {
			other[key] = floats(item, keepIntegers)
		}
		return other
	case []any:
		other := make([]any, 0, len(v))
		for _, item := range v {
			other = append(other, floats(item, keepIntegers))
		}
		return other
	}
	return v
}
