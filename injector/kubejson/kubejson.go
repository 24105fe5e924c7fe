// Package kubejson decodes JSON as the API server's own decoder does, https://github.com/kubernetes-sigs/json, and no more of it than
// memory allows.
package kubejson

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Names of members are compared in the case in which they are written, of members with the same name the last counts, and text that is
// not UTF-8 is made so.
var options = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// Unmarshal decodes text. The error says where it happened and quotes no value: it may be a secret.
func Unmarshal(text []byte, into any) error {
	err := json.Unmarshal(text, into, options)
	if semantic, found := errors.AsType[*json.SemanticError](err); found {
		semantic.JSONValue = nil
	}
	return err
}

// NewDecoder returns a decoder of text, which it does not copy.
func NewDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text), options)
}

// Limits on decoded elements: an element takes more memory than the few bytes that it may be written in.
const (
	MaxList     = 1001            // elements of a List
	maxElements = 20_000          // of all lists of a review, but for metadata.managedFields of its objects
	maxMembers  = 5 * maxElements // of all its objects
)

// lists are the members of type List, and what is in them.
var lists = map[string]string{
	"containers": "containers", "initContainers": "init containers", "volumes": "volumes", "ownerReferences": "owners",
}

// tooLong returns an error for the List of which a pointer names the last element; nil if it is none.
func tooLong(element jsontext.Pointer) error {
	if name := lists[element.Parent().LastToken()]; name != "" {
		return fmt.Errorf("there are more than %d %s", MaxList, name)
	}
	return nil
}

// A List has at most MaxList elements.
type List[T any] []T

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (l *List[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '[' { // null, or not a list
		return json.UnmarshalDecode(dec, (*[]T)(l))
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	*l = List[T]{}
	for dec.PeekKind() != ']' {
		if len(*l) == MaxList {
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

// Limit returns an error for an AdmissionReview of more than is decoded. Other errors are Unmarshal's to find.
func Limit(review []byte) error {
	if bytes.Count(review, []byte{','}) < maxElements/2 { // nearly all: an element without a comma is alone in its list
		return nil
	}
	dec := NewDecoder(review)
	for elements, members := 0, 0; ; {
		token, err := dec.ReadToken()
		if err != nil {
			return nil //nolint:nilerr // see above; or it is the end
		}
		kind, length := dec.StackIndex(dec.StackDepth())
		switch name := kind == '{' && length%2 == 1; {
		case name && dec.StackDepth() == 4 && token.Kind() == '"' && token.String() == "managedFields": // of request.object.metadata
			if err := dec.SkipValue(); err != nil {
				return nil //nolint:nilerr // see above
			}
		case name:
			members++
		case kind == '[' && token.Kind() != '[':
			elements++
		}
		if kind == '[' && length == MaxList+1 {
			if err := tooLong(dec.StackPointer()); err != nil {
				return err
			}
		}
		if elements > maxElements || members > maxMembers {
			return fmt.Errorf("there are more than %d containers, variables, mounts, annotations and the like", maxElements)
		}
	}
}
