// Package render turns a secret's value into the content of a file.
//
// Formats, all of them deterministic:
//
//   - raw: the value, byte for byte. With one key, that key's value alone.
//   - json: one line of JSON, object keys sorted, numbers as they were written.
//   - env: NAME=value lines that a POSIX shell reads back exactly, see quoteEnv for what else can read them.
//   - properties: key=value lines as java.util.Properties.load reads them.
//   - template: a text/template over one secret or several, see renderTemplate and functions.
//   - yaml: a document whose strings stay strings in YAML 1.1 and 1.2 ("yes", "0123"), keys sorted, numbers as they were written.
//
// All but raw and template need a value that is JSON; without keys, a JSON object. Keys pick and rename by JMESPath. A key that is not
// there, or is null, is an error that names it and lists those that are there; values are in no error.
package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// An Input is a secret's value.
type Input struct {
	Alias  string // its key in the root of a template of several secrets
	Data   []byte
	Binary bool // Data is not text, which only raw and template can carry
}

// Render returns the content of a file, which has at most a megabyte, in a format. The order of the keys is that
// of env and properties files; without keys it is alphabetical. All formats but template are of one secret.
func Render(format config.Format, keys []config.Key, template string, inputs ...Input) ([]byte, error) {
	var out []byte
	var err error
	switch {
	case format == config.Template:
		out, err = renderTemplate(template, inputs)
	case len(inputs) != 1:
		err = fmt.Errorf("format %s is for one secret, not %d; use format template", format, len(inputs))
	default:
		out, err = renderOne(format, keys, inputs[0].Data, inputs[0].Binary)
	}
	if err == nil && len(out) > maxOutput {
		return nil, errLarge
	}
	return out, err
}

func renderOne(format config.Format, keys []config.Key, value []byte, binary bool) ([]byte, error) {
	if format == config.Raw && len(keys) == 0 {
		return value, nil
	}
	if binary {
		return nil, fmt.Errorf("format %s needs a text value, and this secret is binary; use format raw without keys", format)
	}
	doc, err := decode(value)
	if err != nil {
		return nil, fmt.Errorf("format %s %w", orKeys(format, keys), err)
	}
	var picked []field
	if len(keys) > 0 {
		if picked, err = pick(doc, keys); err != nil {
			return nil, err
		}
	}
	switch format {
	case config.Raw:
		if len(picked) != 1 {
			return nil, fmt.Errorf("format raw writes one value, but keys picks %d", len(picked))
		}
		content, err := asText(picked[0].value)
		return []byte(content), err
	case config.JSON:
		return encodeJSON(whole(doc, picked))
	case config.YAML:
		return EncodeYAML(whole(doc, picked))
	case config.Env, config.Properties:
		if picked == nil {
			if picked, err = fields(doc); err != nil {
				return nil, fmt.Errorf("format %s %w", format, err)
			}
		}
		return lines(format, picked)
	}
	return nil, fmt.Errorf("format %q is not known", format)
}

// orKeys names a format in the message about a value that is no JSON.
func orKeys(format config.Format, keys []config.Key) string {
	if format == config.Raw && len(keys) > 0 {
		return "raw with keys"
	}
	return string(format)
}

// whole returns the document to encode: what was picked, or everything.
func whole(doc any, picked []field) any {
	if picked == nil {
		return doc
	}
	object := make(map[string]any, len(picked))
	for _, f := range picked {
		object[f.name] = f.value
	}
	return object
}

// asText returns a value in a place that takes only text: a string as it is, anything else as JSON.
func asText(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	out, err := encodeJSON(v)
	return string(bytes.TrimSuffix(out, []byte("\n"))), err
}

func encodeJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, errors.New("the picked value cannot be written as JSON")
	}
	return out.Bytes(), nil
}
