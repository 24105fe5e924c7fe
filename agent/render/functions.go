package render

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A function of templates. Names and the order of arguments are those of text/template and of Sprig, which charts use
// too. Where Sprig makes something up (an error's text as value, an empty string for null, quotes that do not escape)
// these fail.
type function struct {
	least, most int // arguments
	call        func([]any) (any, error)
}

const many = 1 << 20

// functions are all there are. A comment has the arguments and the result.
var functions = map[string]function{
	"quote":     {1, 1, text(quote)},  // VALUE: "VALUE", as JSON, TOML and YAML read it
	"squote":    {1, 1, text(squote)}, // VALUE: 'VALUE'; one with ' or a line end in it is refused, because formats escape them differently
	"toJson":    {1, 1, toJSON},       // VALUE: JSON on one line, keys sorted
	"json":      {1, 1, fromJSON},     // TEXT: what it is as JSON, for objects that are texts in others
	"fromJson":  {1, 1, fromJSON},     // as json, by Sprig's name
	"b64enc":    {1, 1, text(func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil })},
	"b64dec":    {1, 1, text(b64dec)},
	"indent":    {2, 2, indent("")},   // N TEXT: N spaces before every line
	"nindent":   {2, 2, indent("\n")}, // N TEXT: a line end, and as indent
	"trim":      {1, 1, text(plain(strings.TrimSpace))},
	"upper":     {1, 1, text(plain(strings.ToUpper))},
	"lower":     {1, 1, text(plain(strings.ToLower))},
	"replace":   {3, 3, onTexts(replace)},   // OLD NEW TEXT: all of them
	"split":     {2, 2, onTexts(split)},     // SEP TEXT: an object with the parts as _0, _1, …
	"splitList": {2, 2, onTexts(splitList)}, // SEP TEXT: a list of the parts
	"join":      {2, 2, join},               // SEP LIST: a text
	"printf":    {1, many, printf},          // FORMAT VALUE…: %s, %v and %d write a value, %q quotes it, %% is a percent sign
	"hasKey":    {2, 2, hasKey},             // OBJECT KEY: whether it exists
	"index":     {2, many, index},           // VALUE KEY…: a key or an item; for keys that are no identifiers: index .db "api-key"
	"len":       {1, 1, length},             // VALUE: bytes, items or keys
	"not":       {1, 1, func(a []any) (any, error) { return !truth(a[0]), nil }},
	"and":       {1, many, nil}, // evaluate their arguments themselves
	"or":        {1, many, nil},
	"eq":        {2, many, eq},
	"ne":        {2, 2, ne},
	"lt":        {2, 2, compare(func(order int) bool { return order < 0 })},
	"le":        {2, 2, compare(func(order int) bool { return order <= 0 })},
	"gt":        {2, 2, compare(func(order int) bool { return order > 0 })},
	"ge":        {2, 2, compare(func(order int) bool { return order >= 0 })},
}

// refusals say why functions that charts have are not here; a name that ends in * is a beginning.
var refusals = []struct{ names, reason string }{
	{"default coalesce empty ternary dig get", "a key that does not exist is an error here, never another value; ask for it with hasKey"},
	{"env expandenv", "the agent's environment is not the application's"},
	{"file readFile Files glob tpl include lookup getHostByName", "a file is made of secrets, of nothing else that is read"},
	{"now date* ago htmlDate* toDate mustToDate must_date unixEpoch duration* rand* uuidv4 shuffle", "equal secrets must make equal files"},
	{"sha* md5* adler32sum bcrypt htpasswd gen* derivePassword buildCustomCert encryptAES decryptAES",
		"templates arrange secrets, they do not make new ones"},
	{"html js urlquery call println print", "it is not one of the functions for files of secrets; use printf, quote or toJson"},
}

// checkCall reports whether a function exists and takes so many arguments.
func checkCall(name string, given int) error {
	f, ok := functions[name]
	switch {
	case ok && given >= f.least && given <= f.most:
		return nil
	case ok && f.most == many:
		return fmt.Errorf("function %s takes at least %d arguments, not %d", name, f.least, given)
	case ok:
		return fmt.Errorf("function %s takes %d arguments, not %d", name, f.least, given)
	}
	for _, refusal := range refusals {
		for refused := range strings.FieldsSeq(refusal.names) {
			if prefix, cut := strings.CutSuffix(refused, "*"); name == refused || cut && strings.HasPrefix(name, prefix) {
				return fmt.Errorf("function %s is not available: %s", name, refusal.reason)
			}
		}
	}
	return fmt.Errorf("function %s is not known; there are %s", name, strings.Join(slices.Sorted(maps.Keys(functions)), ", "))
}

// kind names the type of a value for messages.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// scalar returns a value as it is printed.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	case nil:
		return "", errors.New("it is null, which has no text; ask for it with if")
	}
	return "", fmt.Errorf("it is %s, not one value; pick a key, or use toJson", kind(v))
}

// truth reports whether if takes a value as true: not null, false, 0, or empty.
func truth(v any) bool {
	switch v := v.(type) {
	case string:
		return v != ""
	case bool:
		return v
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0 // an error is a number too large
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

func toJSON(a []any) (any, error) {
	if !validText(a[0]) {
		return nil, errNotText
	}
	out, err := encodeJSON(a[0])
	return strings.TrimSuffix(string(out), "\n"), err
}

func fromJSON(a []any) (any, error) {
	s, err := scalar(a[0])
	if err != nil {
		return nil, err
	}
	value, err := Decode([]byte(s))
	if err != nil {
		return nil, errors.New("the value is not JSON")
	}
	return value, nil
}

// validText is about a binary secret, or what b64dec made; JSON itself has only text.
func validText(v any) bool {
	s, ok := v.(string)
	return !ok || utf8.ValidString(s)
}

func hasKey(a []any) (any, error) {
	object, ok := a[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("hasKey needs an object, and this is %s", kind(a[0]))
	}
	key, ok := a[1].(string)
	if !ok {
		return nil, fmt.Errorf("a key is a text, and this is %s", kind(a[1]))
	}
	_, ok = object[key]
	return ok, nil
}

func index(a []any) (any, error) {
	value := a[0]
	for _, by := range a[1:] {
		switch in := value.(type) {
		case map[string]any:
			key, ok := by.(string)
			if ok {
				value, ok = in[key]
			}
			if !ok {
				return nil, fmt.Errorf("that key does not exist; the object has %s", Names(in))
			}
		case []any:
			i, err := count(by)
			if err != nil || i >= len(in) {
				return nil, fmt.Errorf("that item does not exist; it is %s, counted from 0", Names(in))
			}
			value = in[i]
		default:
			return nil, fmt.Errorf("index needs an object or a list, and this is %s", kind(value))
		}
	}
	return value, nil
}

func length(a []any) (any, error) {
	var n int
	switch v := a[0].(type) {
	case string:
		n = len(v)
	case []any:
		n = len(v)
	case map[string]any:
		n = len(v)
	default:
		return nil, fmt.Errorf("%s has no length", kind(a[0]))
	}
	return json.Number(fmt.Sprint(n)), nil
}

// eq reports whether the first argument equals one of the others.
func eq(a []any) (any, error) {
	for _, other := range a[1:] {
		if equal, err := equals(a[0], other); err != nil || equal {
			return equal, err
		}
	}
	return false, nil
}

func ne(a []any) (any, error) {
	equal, err := equals(a[0], a[1])
	return !equal, err
}

// equals compares values of one kind. Null equals only null, and may be compared with all.
func equals(a, b any) (bool, error) {
	if a == nil || b == nil {
		return a == nil && b == nil, nil
	}
	if x, ok := a.(bool); ok {
		if y, ok := b.(bool); ok {
			return x == y, nil
		}
	}
	order, err := ordered(a, b)
	return order == 0, err
}

func compare(holds func(order int) bool) func([]any) (any, error) {
	return func(a []any) (any, error) {
		order, err := ordered(a[0], a[1])
		return holds(order), err
	}
}

// ordered compares two texts or two numbers.
func ordered(a, b any) (int, error) {
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b), nil
		}
	case json.Number:
		if b, ok := b.(json.Number); ok {
			return orderedNumbers(a, b)
		}
	}
	return 0, fmt.Errorf("%s and %s cannot be compared", kind(a), kind(b))
}

func orderedNumbers(a, b json.Number) (int, error) {
	if a == b {
		return 0, nil
	}
	wholeA, errA := a.Int64()
	wholeB, errB := b.Int64()
	if errA == nil && errB == nil {
		return cmp.Compare(wholeA, wholeB), nil
	}
	floatA, errA := a.Float64()
	floatB, errB := b.Float64()
	const exact = 15 // digits that a float64 holds
	if errA != nil || errB != nil || floatA == floatB && max(len(a), len(b)) > exact {
		return 0, errors.New("numbers with so many digits cannot be compared")
	}
	return cmp.Compare(floatA, floatB), nil
}
