package injector

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// What a patch adds is appended as JSON, in the order in which Kubernetes' own types have their members: text that is the same for
// every pod is a constant, or prepared once for the operator's document (fragments), or once for the containers of a pod (shared). A
// test reads all of it into those types, strictly, and holds it to how they are encoded.

// A value is what a patch adds.
type value interface {
	string | agent | variable | volume | Mount | Reference
}

func appendValue[V value](b []byte, v V) []byte {
	switch v := any(v).(type) {
	case string:
		return rawjson.AppendString(b, v)
	case agent:
		return appendAgent(b, v)
	case variable:
		return appendVariable(b, v)
	case volume:
		return appendVolume(b, v)
	case Mount:
		return appendMount(b, v)
	case Reference:
		return append(appendString(append(b, '{'), "name", v.Name), '}')
	}
	panic("unreachable: a value is one of the above")
}

// A variable is an environment variable: its name, and all of it as JSON.
type variable struct{ name, json string }

func valued(name, value string) variable {
	b := appendString(append(make([]byte, 0, 128), '{'), "name", name)
	return variable{name, string(append(appendText(b, "value", value), '}'))}
}

func appendVariable(b []byte, v variable) []byte { return append(b, v.json...) }

// A volume is a name and, as JSON, the member that says what the volume is.
type volume struct{ name, source string }

func appendVolume(b []byte, v volume) []byte {
	b = append(appendText(append(b, '{'), "name", v.name), ',')
	return append(append(b, v.source...), '}')
}

func appendMount(b []byte, m Mount) []byte {
	b = appendText(append(b, '{'), "name", m.Name)
	if m.ReadOnly {
		b = append(b, `,"readOnly":true`...)
	}
	return append(appendText(b, "mountPath", m.MountPath), '}')
}

func appendResources(b []byte, r corev1.ResourceRequirements) []byte {
	b = append(b, '{')
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		if len(list.of) == 0 {
			continue
		}
		b = append(rawjson.AppendName(b, list.name), '{')
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			amount := list.of[name]
			b = appendText(b, string(name), amount.String())
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// A member that is empty is left out.

func appendText[S ~string](b []byte, name string, s S) []byte {
	if s == "" {
		return b
	}
	return rawjson.AppendString(rawjson.AppendName(b, name), s)
}

func appendInt(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(rawjson.AppendName(b, name), n, 10)
}

func appendBool(b []byte, name string, v bool) []byte {
	if !v {
		return b
	}
	return append(rawjson.AppendName(b, name), "true"...)
}

func appendList[T any](b []byte, name string, list []T, appendItem func([]byte, T) []byte) []byte {
	if len(list) == 0 {
		return b
	}
	return append(appendItems(append(rawjson.AppendName(b, name), '['), list, appendItem), ']')
}

// appendItems appends to a list that is open and may have items already.
func appendItems[T any](b []byte, list []T, appendItem func([]byte, T) []byte) []byte {
	for _, item := range list {
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		b = appendItem(b, item)
	}
	return b
}
