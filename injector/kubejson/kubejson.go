// Package kubejson decodes JSON as the API server's own decoder does, https://github.com/kubernetes-sigs/json, and no more of it than
// memory allows.
package kubejson

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Names of members are compared in the case in which they are written, of members with the same name the last counts, and text that is
// not UTF-8 is made so.
var options = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// Unmarshal decodes text. The error says where it happened and quotes no value: it may be a secret.
func Unmarshal(text []byte, into any) error {
	err := json.Unmarshal(text, into, options)
	if semantic := new(json.SemanticError); errors.As(err, &semantic) {
		semantic.JSONValue = nil
	}
	return err
}

// NewDecoder returns a decoder of text, which it does not copy.
func NewDecoder(text []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(text), options)
}
