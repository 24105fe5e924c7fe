package injector

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A comparison finds where a JSON value differs from an expected one. Members with an empty value count as absent. Places are paths,
// env[NAME].value, and rules are about the same with the names of items left out, env[].value. It walks through the text and keeps
// nothing of it, whatever a stranger wrote there.
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
func (c *comparison) text(want any, text string) {
	r := rawjson.NewReader(text)
	c.value("", "", want, r)
	if r.End() != nil {
		c.add("")
	}
}

func (c *comparison) value(place, rule string, want any, r *rawjson.Reader) {
	switch want := want.(type) {
	case map[string]any:
		c.object(place, rule, want, r)
	case []any:
		if key := c.keys[rule]; key != "" {
			c.named(place, rule, key, want, r)
			return
		}
		n := 0
		for range r.Elements {
			if n < len(want) {
				c.value(place, rule+"[]", want[n], r)
			}
			n++
		}
		if n < len(want) || n > len(want) && !c.besides(rule+"[]", "", "") {
			c.add(place)
		}
	default:
		expected := scalar(want)
		if got := r.Scalar(); got != expected && (c.same == nil || !c.same(place, rule, expected, got)) {
			c.add(place)
		}
	}
}

func (c *comparison) object(place, rule string, want map[string]any, r *rawjson.Reader) {
	dot := func(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	seen := map[string]bool{}
	for name := range r.Members {
		if expected, found := want[name]; found {
			seen[name] = true
			c.value(dot(place, name), dot(rule, name), expected, r)
			continue
		}
		if value := r.Scalar(); !empty(value) && !c.besides(dot(rule, name), "", value) {
			c.addSurplus(dot(place, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if expected := want[name]; !seen[name] && (rule != "" || !reflect.DeepEqual(expected, c.defaults[name])) {
			c.add(dot(place, name))
		}
	}
}

// named compares a list whose items have names: their order is free. An item that is there twice has to be right twice.
func (c *comparison) named(place, rule, key string, want []any, r *rawjson.Reader) {
	expected := by(want, func(item any) string { return scalar(item.(map[string]any)[key]) })
	seen := map[string]bool{}
	for range r.Elements {
		if len(c.surplus) >= maxPlaces { // there is no place for more
			r.Skip()
			continue
		}
		text := r.Scalar()
		name := member(text, key)
		at := place + "[" + name + "]"
		if item, found := expected[name]; found {
			seen[name] = true
			of := rawjson.NewReader(text)
			c.value(at, rule+"[]", item, of)
			if of.End() != nil {
				c.add(at)
			}
		} else if !c.besides(rule+"[]", name, text) {
			c.addSurplus(at)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		if !seen[name] {
			c.add(place + "[" + name + "]")
		}
	}
}

// member is a member of an object.
func member(text, key string) (value string) {
	r := rawjson.NewReader(text)
	for name := range r.Members {
		if name == key {
			value = r.Scalar()
		}
	}
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

// tree is a JSON text of this program's own.
func tree(text []byte) (object map[string]any) {
	if err := json.Unmarshal(text, &object); err != nil {
		panic("this program wrote what is no JSON: " + err.Error())
	}
	return object
}

// documentTree is the agent's document with everything that it takes for granted.
func documentTree(doc config.Agent) map[string]any {
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err) // there is nothing in it that could not be written
	}
	full := tree(text)
	for name, value := range agentDefaults {
		if _, found := full[name]; !found {
			full[name] = value
		}
	}
	return full
}

// agentDefaults are what the members mean that a document leaves out.
var agentDefaults = func() map[string]any {
	text, err := json.Marshal(config.DefaultAgent())
	if err != nil {
		panic(err)
	}
	return tree(text)
}()
