package injector

import (
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// A comparison finds where a JSON value differs from an expected one. Members with an empty value count as absent. Places are paths,
// env[NAME].value, and rules are places without the names of items, env[].value. It walks through the text and keeps none of it, however
// long it is.
type comparison struct {
	keys     map[string]string                        // by the rule of a list whose items have names: the member with the name
	besides  func(rule, name, value string) bool      // whether a further member, or a further item of that name, is allowed
	same     func(place, rule, want, got string) bool // whether a scalar other than the expected one is as good; nil: none is
	defaults map[string]any                           // what absent members mean

	differs []string // places, at most maxPlaces
	surplus []string // those of differs that are further members and items
}

const (
	maxPlaces = 50
	maxPlace  = 100 // bytes
)

func (c *comparison) add(place string) {
	if len(place) > maxPlace {
		place = strings.ToValidUTF8(place[:maxPlace], "") + "…"
	}
	if len(c.differs) < maxPlaces && !slices.Contains(c.differs, place) {
		c.differs = append(c.differs, place)
	}
}

func (c *comparison) addSurplus(place string) {
	c.add(place)
	if n := len(c.differs); n > 0 && len(c.surplus) < maxPlaces {
		c.surplus = append(c.surplus, c.differs[n-1])
	}
}

// text compares a whole text.
func (c *comparison) text(want any, text []byte) {
	dec := kubejson.NewDecoder(text)
	err := c.value("", "", want, dec)
	if _, end := dec.ReadToken(); err != nil || end != io.EOF { //nolint:errorlint // documented to be io.EOF itself
		c.add("")
	}
}

func (c *comparison) value(place, rule string, want any, dec *jsontext.Decoder) error {
	kind := dec.PeekKind()
	switch want := want.(type) {
	case map[string]any:
		if kind == '{' {
			return c.object(place, rule, want, dec)
		}
		if kind != 'n' || len(want) > 0 {
			c.add(place)
		}
	case []any:
		if kind == '[' {
			return c.list(place, rule, want, dec)
		}
		if kind != 'n' || len(want) > 0 {
			c.add(place)
		}
	default:
		got, err := text(dec)
		if expected := scalar(want); err == nil && got != expected && (c.same == nil || !c.same(place, rule, expected, got)) {
			c.add(place)
		}
		return err
	}
	return dec.SkipValue()
}

func (c *comparison) object(place, rule string, want map[string]any, dec *jsontext.Decoder) error {
	dot := func(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	seen := map[string]bool{}
	err := walk(dec, func(name string) error {
		if expected, found := want[name]; found {
			seen[name] = true
			return c.value(dot(place, name), dot(rule, name), expected, dec)
		}
		value, err := text(dec)
		if err == nil && !empty(value) && !c.besides(dot(rule, name), "", value) {
			c.addSurplus(dot(place, name))
		}
		return err
	})
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if expected := want[name]; !seen[name] && (rule != "" || !reflect.DeepEqual(expected, c.defaults[name])) {
			c.add(dot(place, name))
		}
	}
	return err
}

func (c *comparison) list(place, rule string, want []any, dec *jsontext.Decoder) error {
	if key := c.keys[rule]; key != "" {
		return c.named(place, rule, key, want, dec)
	}
	n := 0
	err := walk(dec, func(string) error {
		if n++; n > len(want) {
			return dec.SkipValue()
		}
		return c.value(place, rule+"[]", want[n-1], dec)
	})
	if n < len(want) || n > len(want) && !c.besides(rule+"[]", "", "") {
		c.add(place)
	}
	return err
}

// named compares a list whose items have names: their order is free. An item that is there twice has to be right twice.
func (c *comparison) named(place, rule, key string, want []any, dec *jsontext.Decoder) error {
	expected, seen := map[string]any{}, map[string]bool{}
	for _, item := range want {
		expected[scalar(item.(map[string]any)[key])] = item
	}
	err := walk(dec, func(string) error {
		if len(c.surplus) >= maxPlaces { // there is no place for more
			return dec.SkipValue()
		}
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		value = value.Clone() // the decoder's own is good until its next call
		name := member(value, key)
		at := place + "[" + name + "]"
		if item, found := expected[name]; found {
			seen[name] = true
			return c.value(at, rule+"[]", item, kubejson.NewDecoder(value))
		}
		if !c.besides(rule+"[]", name, string(value)) {
			c.addSurplus(at)
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		if !seen[name] {
			c.add(place + "[" + name + "]")
		}
	}
	return err
}

// walk calls visit before each value of an object, with its name, or before each element of an array. Visit reads the value.
func walk(dec *jsontext.Decoder, visit func(name string) error) error {
	opening, err := dec.ReadToken()
	if err != nil {
		return err
	}
	object := opening.Kind() == '{'
	for kind := dec.PeekKind(); kind != '}' && kind != ']'; kind = dec.PeekKind() {
		name := ""
		if object {
			key, err := dec.ReadToken()
			if err != nil {
				return err
			}
			name = key.String()
		}
		if err := visit(name); err != nil {
			return err
		}
	}
	_, err = dec.ReadToken()
	return err
}

// text reads a string, or any other value as it is written.
func text(dec *jsontext.Decoder) (string, error) {
	if dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return "", err
		}
		return token.String(), nil
	}
	value, err := dec.ReadValue()
	return string(value), err
}

// member returns a member of an object, "" for none.
func member(object jsontext.Value, key string) (value string) {
	dec := kubejson.NewDecoder(object)
	if dec.PeekKind() != '{' {
		return ""
	}
	_ = walk(dec, func(name string) error { // an error ends the search: invalid JSON has no such member
		if name != key {
			return dec.SkipValue()
		}
		found, err := text(dec)
		value = found
		return err
	})
	return value
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64: // of this program's own: a port, a number of seconds
		return strconv.FormatFloat(v, 'f', -1, 64)
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

func empty(text string) bool {
	return slices.Contains([]string{"", "null", "false", "0", "[]", "{}", `""`}, text)
}

// tree returns a value of this program's own as a tree of JSON.
func tree(v any) (object map[string]any) {
	if err := json.Unmarshal(encodeValue(v), &object); err != nil {
		panic(err) // it has been encoded just now
	}
	return object
}

// documentTree returns the agent's document with everything that it takes for granted.
func documentTree(doc agentconfig.Config) map[string]any {
	full := maps.Clone(agentDefaults)
	maps.Copy(full, tree(doc))
	return full
}

// agentDefaults are the values of members that a configuration leaves out.
var agentDefaults = tree(agentconfig.Default())
