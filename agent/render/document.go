package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jmespath/go-jmespath"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// maxKey bounds an expression in bytes. The library's parser calls itself for each bracket: for 64 kB of them, which an annotation may
// have, it takes 256 MB, which is all that the webhook is given.
const maxKey = 4 << 10

// CheckKey reports what is wrong with a JMESPath expression, without a document to try it on.
func CheckKey(expression string) error {
	if len(expression) > maxKey {
		return fmt.Errorf("it has %d bytes; at most %d are allowed", len(expression), maxKey)
	}
	if config.Identifier(expression) {
		return nil
	}
	compiled, err := compile(expression)
	if err != nil {
		return fmt.Errorf("%w; a name with more than letters, digits and _ in it goes in double quotes: '\"api-key\"'", err)
	}
	_, err = affordable(compiled, 1, 0, StepsOfFile)
	return err
}

// compile parses a JMESPath expression. The library's lexer panics at U+0080 after a name.
func compile(expression string) (compiled *jmespath.JMESPath, err error) {
	defer func() {
		var syntax jmespath.SyntaxError
		switch {
		case recover() != nil:
			err = errors.New("a name has characters that are not allowed in it")
		case errors.As(err, &syntax):
			problem := strings.TrimPrefix(tokens.Replace(syntax.Error()), "SyntaxError: ")
			err = fmt.Errorf("%s, at byte %d", strings.ToLower(problem[:1])+problem[1:], syntax.Offset)
		}
	}()
	return jmespath.Compile(expression)
}

// tokens names the parser's token types for messages.
var tokens = strings.NewReplacer("received: ", "found ", "identifier, lbracket, or lbrace", "a name, [ or {",
	"tStar", "*", "tDot", ".", "tFilter", "[?", "tFlatten", "[]", "tLparen", "(", "tRparen", ")", "tLbracket", "[", "tRbracket", "]",
	"tLbrace", "{", "tRbrace", "}", "tOr", "||", "tPipe", "|", "tNumber", "a number", "tUnquotedIdentifier", "a name",
	"tQuotedIdentifier", "a quoted name", "tComma", "a comma", "tColon", ":", "tLTE", "<=", "tLT", "<", "tGTE", ">=", "tGT", ">",
	"tEQ", "==", "tNE", "!=", "tJSONLiteral", "a literal", "tStringLiteral", "a literal", "tCurrent", "@", "tExpref", "&",
	"tAnd", "&&", "tNot", "!", "tEOF", "the end")

// pick evaluates the keys' paths, and reports all that are missing at once.
func pick(doc any, keys []config.Key) ([]field, error) {
	paths := make([]string, 0, len(keys))
	for _, key := range keys {
		paths = append(paths, key.Path)
	}
	steps := float64(StepsOfFile)
	values, errs := Search(doc, paths, &steps)
	picked := make([]field, 0, len(keys))
	for i, key := range keys {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("key %s: %w", key.Name, errs[i])
		}
		if errors.Is(errs[i], errLarge) { // so would the others be
			return nil, errs[i]
		}
		picked = append(picked, field{key.Name, values[i]})
	}
	return picked, errors.Join(errs...)
}

// Search evaluates JMESPath expressions on a document of Decode, or one of its like. Together they pick as many bytes as a file may have,
// and take what they do off the steps. An expression that finds nothing, or null, is an error; errs[i] is about paths[i].
func Search(doc any, paths []string, steps *float64) (values []any, errs []error) {
	doc = numbers(doc)
	left := budget{bytes: maxOutput, steps: steps}
	left.values, left.text = measure(doc, math.MaxInt)
	values, errs = make([]any, len(paths)), make([]error, len(paths))
	var names string
	for i, path := range paths {
		value, err := search(path, doc, &left)
		switch {
		case err != nil:
			errs[i] = fmt.Errorf("path %q: %w", path, err)
		case value == nil:
			if names == "" {
				names = Names(doc)
			}
			errs[i] = absent{path, names}
		}
		values[i] = value
	}
	return values, errs
}

// absent is the error of an expression that finds nothing. It is made a text only where it is read: there can be thousands.
type absent struct{ path, names string }

func (a absent) Error() string {
	return fmt.Sprintf("path %q is not in the secret, or is null; the secret has %s", a.path, a.names)
}

// budget is the work that the expressions of a file may still do on its document.
type budget struct {
	values, text int // of the document
	bytes        int // of what they have picked
	steps        *float64
}

// search evaluates an expression, and takes what it needs off the budget. The library's messages about arguments may quote a
// value, so they are not passed on.
func search(expression string, doc any, left *budget) (value any, err error) {
	if left.bytes < 0 {
		return nil, errLarge
	}
	compiled, err := compile(expression)
	if err != nil {
		return nil, err
	}
	if *left.steps, err = affordable(compiled, left.values, left.text, *left.steps); err != nil {
		return nil, err
	}
	defer func() {
		// The library's functions assert types that they did not check.
		if recover() != nil {
			value, err = nil, errCannotApply
		}
	}()
	if value, err = compiled.Search(doc); err != nil {
		return nil, errCannotApply
	}
	values, text := measure(value, left.bytes) // as JSON it is longer
	if left.bytes -= values + text; left.bytes < 0 {
		return nil, errLarge
	}
	if _, err := encodeJSON(value); err != nil { // not a number: the average of none
		return nil, errCannotApply
	}
	return value, nil
}

var errCannotApply = errors.New("the expression cannot be applied to this secret: it expects another type, or has no result")

// Names lists the names, never the values, at the top of a document: the first of them, and the beginning of a long one.
func Names(doc any) string {
	switch doc := doc.(type) {
	case map[string]any:
		if len(doc) == 0 {
			return "no keys"
		}
		const most, mostOfName = 20, 80
		names := slices.Sorted(maps.Keys(doc))
		shown := names[:min(most, len(names))]
		for i, name := range shown {
			if len(name) > mostOfName {
				shown[i] = strings.ToValidUTF8(name[:mostOfName], "") + "…"
			}
		}
		if len(names) > most {
			return strings.Join(shown, ", ") + fmt.Sprintf(" and %d more", len(names)-most)
		}
		return strings.Join(shown, ", ")
	case []any:
		return fmt.Sprintf("a list of %d", len(doc))
	}
	return "no keys: it is a single value"
}

// A field is a named value of a file.
type field struct {
	name  string
	value any
}

var errNotJSON = errors.New("needs a value that is a JSON object, and this secret's value is not JSON; use format raw")

// decode reads a JSON value for JMESPath. Its errors hold nothing of the value.
func decode(value []byte) (any, error) {
	doc, err := Decode(value)
	return numbers(doc), err
}

// Decode reads a JSON value. Numbers are json.Number, as they are written; errors hold nothing of the value.
func Decode(value []byte) (any, error) {
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
		return nil, errors.New("needs a value that is a JSON object, and this secret's value is another kind of JSON; " +
			"pick keys of it, or use format json or raw")
	}
	all := make([]field, 0, len(object))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		all = append(all, field{name, object[name]})
	}
	return all, nil
}
