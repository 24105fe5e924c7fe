package injector

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// How much of a document is decoded. Each element of a list takes more memory than the few bytes that it may be written in. More
// containers and volumes than are possible are still decoded, so that tooMany says it to the author of the pod.
const (
	maxList     = mostVolumes + 1 // elements of a list
	maxElements = 20_000          // of all lists of a document, but for metadata.managedFields
	maxMembers  = 5 * maxElements // of all its objects
)

// lists are the names of the fields of type list, and what is in them.
var lists = map[string]string{"containers": "containers", "initContainers": "init containers", "volumes": "volumes",
	"ownerReferences": "owners"}

// A list has at most maxList elements.
type list[T any] []T

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *list[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '[' { // null, or not a list
		return json.UnmarshalDecode(dec, (*[]T)(l))
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	*l = list[T]{}
	for dec.PeekKind() != ']' {
		if len(*l) == maxList {
			return tooLong(dec.StackPointer())
		}
		*l = append(*l, *new(T))
		if err := json.UnmarshalDecode(dec, &(*l)[len(*l)-1]); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// tooLong returns an error for the list of which a pointer names the last element, if it is of type list.
func tooLong(element jsontext.Pointer) error {
	if name := lists[element.Parent().LastToken()]; name != "" {
		return fmt.Errorf("there are more than %d %s", maxList, name)
	}
	return nil
}

// skipped is a value that is not decoded.
type skipped struct{}

// UnmarshalJSONFrom reads the value at once. It takes half the time in which the library skips a member that no field is for.
func (*skipped) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	_, err := dec.ReadValue()
	return err
}

// DecodePod decodes a pod, or a pod template.
func DecodePod(document []byte) (Pod, error) {
	var p Pod
	err := limit(document)
	if err == nil {
		err = kubejson.Unmarshal(document, &p)
	}
	if err != nil || !injected(&p.Spec) {
		return p, err
	}
	var texts struct {
		Spec struct {
			InitContainers []jsontext.Value `json:"initContainers"`
			Containers     []jsontext.Value `json:"containers"`
		} `json:"spec"`
	}
	if err := kubejson.Unmarshal(document, &texts); err != nil {
		return p, err
	}
	for _, list := range []struct {
		containers []Container
		texts      []jsontext.Value
	}{{p.Spec.InitContainers, texts.Spec.InitContainers}, {p.Spec.Containers, texts.Spec.Containers}} {
		for i := range list.containers {
			if c := &list.containers[i]; ours(c.Name) {
				c.text = list.texts[i]
			}
		}
	}
	return p, nil
}

// limit returns an error for a document of more than is decoded. Other errors are Unmarshal's to find.
func limit(document []byte) error {
	if bytes.Count(document, []byte{','}) < maxElements/2 { // nearly all: an element without a comma is alone in its list
		return nil
	}
	dec := kubejson.NewDecoder(document)
	for elements, members := 0, 0; ; {
		token, err := dec.ReadToken()
		if err != nil {
			return nil //nolint:nilerr // see above; or it is the end
		}
		kind, length := dec.StackIndex(dec.StackDepth())
		switch name := kind == '{' && length%2 == 1; {
		case name && dec.StackDepth() == 2 && token.Kind() == '"' && token.String() == "managedFields":
			if err := dec.SkipValue(); err != nil {
				return nil //nolint:nilerr // see above
			}
		case name:
			members++
		case kind == '[' && token.Kind() != '[':
			elements++
		}
		if kind == '[' && length == maxList+1 {
			if err := tooLong(dec.StackPointer()); err != nil {
				return err
			}
		}
		if elements > maxElements || members > maxMembers {
			return fmt.Errorf("there are more than %d containers, variables, mounts, annotations and the like", maxElements)
		}
	}
}
