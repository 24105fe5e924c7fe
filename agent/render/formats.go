package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

func lines(format config.Format, picked []field) ([]byte, error) {
	line := envLine
	if format == config.Properties {
		line = propertiesLine
	}
	var out bytes.Buffer
	for _, f := range picked {
		if f.value == nil {
			return nil, fmt.Errorf("key %q is null, which format %s cannot say", f.name, format)
		}
		value, err := asText(f.value)
		if err != nil {
			return nil, err
		}
		written, err := line(f.name, value)
		if err != nil {
			return nil, err
		}
		out.WriteString(written)
	}
	return out.Bytes(), nil
}

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	envPlain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)
)

func envLine(name, value string) (string, error) {
	if !envName.MatchString(name) {
		return "", fmt.Errorf("key %q is not the name of an environment variable (letters, digits and _, no digit first); "+
			"rename it with keys: {NEW_NAME: '\"%s\"'}", name, name)
	}
	if strings.ContainsRune(value, 0) {
		return "", fmt.Errorf("key %q has a NUL character in its value, which an environment variable cannot hold", name)
	}
	return name + "=" + quoteEnv(value) + "\n", nil
}

// quoteEnv writes a value so that a POSIX shell (`. file`) reads it back exactly, in the simplest form that it allows,
// because other readers know fewer forms:
//
//	simple characters   as they are     also docker --env-file and systemd's EnvironmentFile
//	no single quote     'value'         also the dotenv libraries; line ends stay line ends
//	no " \ $ `          "value"         also the dotenv libraries
//	anything else       'it'\''s "so"'  a shell only
func quoteEnv(value string) string {
	switch {
	case envPlain.MatchString(value):
		return value
	case !strings.Contains(value, "'"):
		return "'" + value + "'"
	case !strings.ContainsAny(value, "\"\\$`"):
		return `"` + value + `"`
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// propertiesLine escapes as java.util.Properties.load reads: a file in ISO-8859-1, where everything outside printable
// ASCII is \uXXXX in UTF-16.
func propertiesLine(key, value string) (string, error) {
	var out strings.Builder
	for _, r := range key {
		if strings.ContainsRune(" :=#!", r) {
			out.WriteByte('\\')
		}
		propertiesRune(&out, r)
	}
	out.WriteByte('=')
	for i, r := range value {
		// Leading white space would be skipped. Other control characters are escaped anyway.
		if i == 0 && r == ' ' {
			out.WriteByte('\\')
		}
		propertiesRune(&out, r)
	}
	out.WriteByte('\n')
	return out.String(), nil
}

func propertiesRune(out *strings.Builder, r rune) {
	switch i := strings.IndexRune("\\\n\r\t\f", r); {
	case i >= 0:
		out.WriteString(`\` + `\nrtf`[i:i+1])
	case ' ' <= r && r <= '~':
		out.WriteRune(r)
	default:
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(out, `\u%04X`, unit)
		}
	}
}

// yamlWord is a text that no version of YAML takes for anything else, unless it is one of yamlWords. yamlBlock is one
// that readers agree on in a literal block.
var (
	yamlBlock = regexp.MustCompile(`^[!-~][ -~\n]*$`)
	yamlWord  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)
	yamlWords = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
)

// EncodeYAML writes a document of Decode, or one of its like. It stops when a document becomes too large: what is nested is indented, and
// so may be much longer than as JSON.
func EncodeYAML(v any) ([]byte, error) {
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
