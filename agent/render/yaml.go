package render

import (
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlWord is a text that no version of YAML takes for anything else, unless it is one of yamlWords. yamlBlock is one
// that readers agree on in a literal block.
var (
	yamlBlock = regexp.MustCompile(`^[!-~][ -~\n]*$`)
	yamlWord  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)
	yamlWords = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
)

// encodeYAML stops when a document becomes too large: what is nested is indented, and so may be much longer than as JSON.
func encodeYAML(v any) ([]byte, error) {
	var out bounded
	encoder := yaml.NewEncoder(&out)
	if err := errors.Join(encoder.Encode(yamlNode(v)), encoder.Close()); err != nil {
		return nil, errLarge // or nothing else: memory takes what is written
	}
	return out.text, nil
}

// bounded takes no more than a file may have.
type bounded struct{ text []byte }

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.text)+len(p) > maxOutput {
		return 0, errLarge
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

// yamlNode says how each value is written, because the encoder left alone would make strings of json.Numbers, change the
// notation of large ones, and write blocks that begin with white space, which no reader understands.
func yamlNode(v any) *yaml.Node {
	switch v := v.(type) {
	case string:
		return yamlText(v)
	case float64:
		return yamlScalar(strconv.FormatFloat(v, 'f', -1, 64))
	case json.Number:
		return yamlScalar(v.String())
	case bool:
		return yamlScalar(strconv.FormatBool(v))
	case []any:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, value := range v {
			list.Content = append(list.Content, yamlNode(value))
		}
		return list
	case map[string]any:
		object := &yaml.Node{Kind: yaml.MappingNode}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			name := yamlText(key)
			if name.Style == yaml.LiteralStyle {
				name.Style = yaml.DoubleQuotedStyle
			}
			object.Content = append(object.Content, name, yamlNode(v[key]))
		}
		return object
	}
	return yamlScalar("null")
}

// yamlText writes words as they are, texts of several lines (keys, certificates) as blocks, and all else in quotes.
func yamlText(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s, Style: yaml.DoubleQuotedStyle}
	switch {
	case yamlWord.MatchString(s) && !slices.Contains(yamlWords, strings.ToLower(s)):
		n.Style = 0
	case strings.Contains(s, "\n") && yamlBlock.MatchString(s):
		n.Style = yaml.LiteralStyle
	}
	return n
}

func yamlScalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: text}
}
