package config

import "fmt"

// A Format says how a secret's value becomes a file's content.
type Format string

// The formats. Raw is the value byte for byte; Template takes any value; the others need one that is a JSON object.
const (
	Raw        Format = "raw"
	JSON       Format = "json"
	Env        Format = "env"
	Properties Format = "properties"
	YAML       Format = "yaml"
	Template   Format = "template"
)

var formats = []Format{Raw, JSON, Env, Properties, YAML, Template}

// A Source is a KMS secret and the name that a template has for it.
type Source struct {
	Name   string `json:"name"`
	Secret string `json:"secret"` // name or ARN
}

// Sources are the sources of a template, in the order written.
type Sources []Source

// Or returns the names or ARNs of their secrets, or that of the one secret which there is without sources.
func (s Sources) Or(secret string) []string {
	if len(s) == 0 {
		return []string{secret}
	}
	var all []string
	for _, source := range s {
		all = append(all, source.Secret)
	}
	return all
}

// A Key picks one value out of a secret and names it.
type Key struct {
	Name string `json:"name"`
	Path string `json:"path"` // JMESPath
}

// Check returns an error for a format that does not exist.
func (f Format) Check() error {
	for _, known := range formats {
		if f == known {
			return nil
		}
	}
	return fmt.Errorf("format %q is not known; use raw, json, env, properties, yaml or template", f)
}

// A Variable is an environment variable and the KMS secret that is its value.
type Variable struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`        // name or ARN
	Key    string `json:"key,omitempty"` // JMESPath; "" is the whole value

	Annotation string `json:"-"` // that asks for it, without the prefix of all: env.<Name>, or env
}

// Check returns what is wrong with it.
func (v Variable) Check() (errs []error) {
	if err := CheckSecretName(v.Secret); err != nil {
		errs = append(errs, err)
	}
	if !Identifier(v.Name) {
		errs = append(errs, fmt.Errorf("%q is not the name of an environment variable; use letters, digits and _, no digit first, for example "+
			"DB_PASSWORD", v.Name))
	}
	return errs
}
