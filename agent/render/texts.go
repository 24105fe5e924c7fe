package render

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// errLarge stops functions that can make much of little before they do.
var errLarge = fmt.Errorf("the result would have more than %d bytes", maxOutput)

func indent(begin string) func([]any) (any, error) {
	return func(a []any) (any, error) {
		width, err := count(a[0])
		if err != nil {
			return nil, err
		}
		s, err := scalar(a[1])
		if err != nil {
			return nil, err
		}
		if width > maxOutput || (strings.Count(s, "\n")+1)*width+len(s) > maxOutput {
			return nil, errLarge
		}
		pad := strings.Repeat(" ", width)
		return begin + pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
	}
}

func count(v any) (int, error) {
	number, ok := v.(json.Number)
	n, err := number.Int64()
	if !ok || err != nil || n < 0 || n > maxOutput {
		return 0, errors.New("a whole number, 0 or more, must say how many")
	}
	return int(n), nil
}

func replace(s []string) (any, error) {
	if strings.Count(s[2], s[0])*len(s[1])+len(s[2]) > maxOutput {
		return nil, errLarge
	}
	return strings.ReplaceAll(s[2], s[0], s[1]), nil
}

func splitList(s []string) (any, error) {
	const most = 10_000 // parts take more memory than the text
	if strings.Count(s[1], s[0]) >= most {
		return nil, fmt.Errorf("there are more than %d parts", most)
	}
	list := []any{}
	for part := range strings.SplitSeq(s[1], s[0]) {
		list = append(list, part)
	}
	return list, nil
}

func split(s []string) (any, error) {
	list, err := splitList(s)
	if err != nil {
		return nil, err
	}
	object := map[string]any{}
	for i, part := range list.([]any) {
		object[fmt.Sprint("_", i)] = part
	}
	return object, nil
}

func join(a []any) (any, error) {
	separator, err := scalar(a[0])
	if err != nil {
		return nil, err
	}
	list, ok := a[1].([]any)
	if !ok {
		return nil, fmt.Errorf("join needs a list, and this is %s", kind(a[1]))
	}
	parts, err := texts(list)
	if err != nil {
		return nil, err
	}
	size := len(parts) * len(separator)
	for _, part := range parts {
		size += len(part)
	}
	if size > maxOutput {
		return nil, errLarge
	}
	return strings.Join(parts, separator), nil
}

// printf supports no flags or widths: fmt reports a bad verb by writing an error into its output, which here is the user's file.
func printf(a []any) (any, error) {
	format, ok := a[0].(string)
	if !ok {
		return nil, errors.New("printf begins with a text")
	}
	var out strings.Builder
	rest := a[1:]
	for {
		before, after, found := strings.Cut(format, "%")
		out.WriteString(before)
		if !found {
			break
		}
		if after == "" || strings.IndexByte("svdq%", after[0]) < 0 {
			return nil, errors.New("printf knows %s, %v, %d, %q and %%, without widths")
		}
		verb := after[0]
		format = after[1:]
		if verb == '%' {
			out.WriteByte('%')
			continue
		}
		if len(rest) == 0 {
			return nil, errors.New("printf has fewer values than its text has places")
		}
		s, err := verbText(verb, rest[0])
		if err != nil {
			return nil, err
		}
		rest = rest[1:]
		if out.Len()+len(s)+len(format) > maxOutput {
			return nil, errLarge
		}
		out.WriteString(s)
	}
	if len(rest) > 0 {
		return nil, errors.New("printf has more values than its text has places")
	}
	return out.String(), nil
}

func verbText(verb byte, v any) (string, error) {
	s, err := scalar(v)
	if err != nil {
		return "", err
	}
	if _, number := v.(json.Number); verb == 'd' && !number {
		return "", fmt.Errorf("%%d writes a number, and this is %s", kind(v))
	}
	if verb == 'q' {
		return quote(s)
	}
	return s, nil
}

// onTexts returns a function of its arguments' texts.
func onTexts(f func([]string) (any, error)) func([]any) (any, error) {
	return func(a []any) (any, error) {
		s, err := texts(a)
		if err != nil {
			return nil, err
		}
		return f(s)
	}
}

// text returns a function of one value's text.
func text(f func(string) (string, error)) func([]any) (any, error) {
	return onTexts(func(s []string) (any, error) { return f(s[0]) })
}

func plain(f func(string) string) func(string) (string, error) {
	return func(s string) (string, error) { return f(s), nil }
}

// texts returns the arguments of a function as texts.
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

func b64dec(s string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", errors.New("the value is not base64")
	}
	return string(data), nil
}
