package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
)

// A field is a named value of a file.
type field struct {
	name  string
	value any
}

var errNotJSON = errors.New("needs a value that is a JSON object, and this secret's value is not JSON; use format raw")

// decode reads a JSON value for JMESPath. Its errors hold nothing of the value.
func decode(value []byte) (any, error) {
	doc, err := decodeExact(value)
	return numbers(doc), err
}

// decodeExact leaves all numbers as they are written.
func decodeExact(value []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	var doc any
	if dec.Decode(&doc) != nil {
		return nil, errNotJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	return doc, nil
}

// numbers makes a float64, which JMESPath calculates with, of every number that a float64 writes back as it was. The
// others, such as identifiers of 19 digits, stay json.Number: they can be picked, but not compared or added.
func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err == nil && strconv.FormatFloat(f, 'f', -1, 64) == v.String() {
			if written, err := json.Marshal(f); err == nil && string(written) == v.String() {
				return f
			}
		}
	case map[string]any:
		for key, value := range v {
			v[key] = numbers(value)
		}
	case []any:
		for i, value := range v {
			v[i] = numbers(value)
		}
	}
	return v
}

// fields are all keys of an object, sorted.
func fields(doc any) ([]field, error) {
	object, ok := doc.(map[string]any)
	if !ok {
		return nil, errors.New("needs a value that is a JSON object, and this secret's value is another kind of JSON; pick keys of it, or use format json or raw")
	}
	all := make([]field, 0, len(object))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		all = append(all, field{name, object[name]})
	}
	return all, nil
}
