package injector

import (
	"encoding/json"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// A comparison finds where a JSON value differs from an expected one. Further members with an empty value count as absent, unless it is
// exact: the agent takes a member in another case for its own. Places are paths, env[NAME].value, and rules are places without the names
// of items, env[].value.
type comparison struct {
	keys     map[string]string                        // by the rule of a list whose items have names: the member with the name
	besides  func(rule, name, value string) bool      // whether a further member, or a further item of that name, is allowed
	same     func(place, rule, want, got string) bool // whether a scalar other than the expected one is as good; nil: none is
	defaults map[string]any                           // what absent members mean
	exact    bool

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

// value compares a value, with "" as its place and rule a whole text. Of got only what is expected to have parts is decoded, a level at a
// time: it may be long.
func (c *comparison) value(place, rule string, want any, got jsontext.Value) {
	switch want := want.(type) {
	case map[string]any:
		var members map[string]jsontext.Value
		if kubejson.Unmarshal(got, &members) != nil || members == nil && len(want) > 0 {
			c.add(place)
			return
		}
		c.object(place, rule, want, members)
	case []any:
		switch kind := got.Kind(); {
		case kind == '[':
			c.list(place, rule, want, items(got))
		case kind != 'n' || len(want) > 0:
			c.add(place)
		}
	default:
		if want, got := scalar(want), written(got); got != want && (c.same == nil || !c.same(place, rule, want, got)) {
			c.add(place)
		}
	}
}

func (c *comparison) object(place, rule string, want map[string]any, got map[string]jsontext.Value) {
	dot := func(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if expected, found := want[name]; found {
			c.value(dot(place, name), dot(rule, name), expected, got[name])
		} else if value := written(got[name]); (c.exact || !empty(value)) && !c.besides(dot(rule, name), "", value) {
			c.addSurplus(dot(place, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, found := got[name]; !found && (rule != "" || !reflect.DeepEqual(want[name], c.defaults[name])) {
			c.add(dot(place, name))
		}
	}
}

func (c *comparison) list(place, rule string, want []any, got iter.Seq[jsontext.Value]) {
	if key := c.keys[rule]; key != "" {
		c.named(place, rule, key, want, got)
		return
	}
	n := 0
	for item := range got {
		if n < len(want) {
			c.value(place, rule+"[]", want[n], item)
		}
		n++
	}
	if n < len(want) || n > len(want) && !c.besides(rule+"[]", "", "") {
		c.add(place)
	}
}

// named compares a list whose items have names: their order is free. An item that is there twice has to be right twice.
func (c *comparison) named(place, rule, key string, want []any, got iter.Seq[jsontext.Value]) {
	expected, seen := map[string]any{}, map[string]bool{}
	for _, item := range want {
		expected[scalar(item.(map[string]any)[key])] = item
	}
	for item := range got {
		if len(c.surplus) >= maxPlaces { // there is no place for more
			break
		}
		var members map[string]jsontext.Value
		_ = kubejson.Unmarshal(item, &members) // what is no object has no name
		name := written(members[key])
		at := place + "[" + name + "]"
		if right, found := expected[name]; found {
			seen[name] = true
			c.value(at, rule+"[]", right, item)
		} else if !c.besides(rule+"[]", name, string(item)) {
			c.addSurplus(at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		if !seen[name] {
			c.add(place + "[" + name + "]")
		}
	}
}

// items is for range, over the items of an array that has been decoded as a part of a text.
func items(array jsontext.Value) iter.Seq[jsontext.Value] {
	return func(yield func(jsontext.Value) bool) {
		dec := kubejson.NewDecoder(array)
		for _, err := dec.ReadToken(); err == nil && dec.PeekKind() != ']'; {
			var item jsontext.Value
			if item, err = dec.ReadValue(); err == nil && !yield(item) {
				return
			}
		}
	}
}

// written returns a string, or any other value as it is written.
func written(value jsontext.Value) string {
	if value.Kind() != '"' {
		return string(value)
	}
	var text string
	_ = kubejson.Unmarshal(value, &text) // it is a part of what has been decoded
	return text
}

// scalar is written, of an expected value.
func scalar(v any) string { return written(encodeValue(v)) }

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
