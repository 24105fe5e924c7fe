package render

import (
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
	"replace":   {3, 3, replace},   // OLD NEW TEXT: all of them
	"split":     {2, 2, split},     // SEP TEXT: an object with the parts as _0, _1, …
	"splitList": {2, 2, splitList}, // SEP TEXT: a list of the parts
	"join":      {2, 2, join},      // SEP LIST: a text
	"printf":    {1, many, printf}, // FORMAT VALUE…: %s, %v and %d write a value, %q quotes it, %% is a percent sign
	"hasKey":    {2, 2, hasKey},    // OBJECT KEY: whether it exists
	"index":     {2, many, index},  // VALUE KEY…: a key or an item; for keys that are no identifiers: index .db "api-key"
	"len":       {1, 1, length},    // VALUE: bytes, items or keys
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

// kind is what a value is, for messages.
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

// scalar is a value as it is printed.
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

// truth is what if sees: not null, false, 0, or empty.
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

// text is a function of one value's text.
func text(f func(string) (string, error)) func([]any) (any, error) {
	return func(a []any) (any, error) {
		s, err := scalar(a[0])
		if err != nil {
			return nil, err
		}
		return f(s)
	}
}

func plain(f func(string) string) func(string) (string, error) {
	return func(s string) (string, error) { return f(s), nil }
}

// texts are what functions of several values work on.
func texts(a []any) ([]string, error) {
	all := make([]string, len(a))
	for i := range a {
		var err error
		if all[i], err = scalar(a[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// quote writes a JSON string that TOML and YAML read too, which want more characters escaped than JSON.
func quote(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errNotText
	}
	out, err := encodeJSON(s)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(string(out), "\n") {
		if r >= 0x7f && r <= 0x9f || r == 0xfeff {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String(), nil
}

var errNotText = errors.New("the value is not text (UTF-8); use b64enc")

func squote(s string) (string, error) {
	if strings.ContainsAny(s, "'\n\r") {
		return "", errors.New("the value has a ' or a line end in it, which formats escape differently in single quotes; use quote")
	}
	return "'" + s + "'", nil
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
	value, err := decodeExact([]byte(s))
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

func b64dec(s string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", errors.New("the value is not base64")
	}
	return string(data), nil
}
