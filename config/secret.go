package config

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Format says how a secret's value becomes a file's content.
type Format string

// The formats. Raw is the value byte for byte; the others need a value that is a JSON object.
const (
	Raw        Format = "raw"
	JSON       Format = "json"
	Env        Format = "env"
	Properties Format = "properties"
	YAML       Format = "yaml"
)

var formats = []Format{Raw, JSON, Env, Properties, YAML}

// A Secret is one file of a pod and the KMS secret that it is made of.
type Secret struct {
	File         string  // the <file> of secret.<file>
	Name         string  // the KMS secret: its name, or its ARN for another account's
	VersionID    string  // "" is the version at VersionStage
	VersionStage string  // "" is ACSCurrent
	Format       Format  // default Raw
	Keys         []Key   // in the order written; none means all keys of the value
	Path         string  // below the mount path; default File
	Mode         *uint32 // permission bits; nil leaves them to the injector, which knows who reads the file
	Optional     bool    // a secret that KMS does not have is left out instead of being an error
}

// A Key picks one value out of a secret and names it.
type Key struct {
	Name string `json:"name"`
	Path string `json:"path"` // JMESPath
}

// longSecret is the YAML mapping form. Fields of the contract that this version does not carry out are decoded so that they
// can be refused by name instead of as unknown.
type longSecret struct {
	Name         string    `yaml:"name"`
	VersionID    string    `yaml:"versionId"`
	VersionStage string    `yaml:"versionStage"`
	Format       Format    `yaml:"format"`
	Keys         yaml.Node `yaml:"keys"`
	Path         string    `yaml:"path"`
	Mode         string    `yaml:"mode"`
	Optional     bool      `yaml:"optional"`

	Template   yaml.Node `yaml:"template"`
	From       yaml.Node `yaml:"from"`
	Containers yaml.Node `yaml:"containers"`
	OnChange   yaml.Node `yaml:"onChange"`
	RoleARN    yaml.Node `yaml:"roleArn"`
}

var longSecretFields = []string{"name", "versionId", "versionStage", "format", "keys", "path", "mode", "optional"}

// parseSecret reads the value of secret.<file>: a bare name, or a YAML mapping.
func parseSecret(file, value string, checks Checks) (Secret, []error) {
	s := Secret{File: file, Format: Raw, Path: file}
	if plain := strings.TrimSpace(value); plainName(plain) { // nearly all are, and YAML costs more than all the rest
		s.Name = plain
		return s, append(errorsOf(checkSecretName(s.Name)), errorsOf(checkFilePath(file))...)
	}
	var node yaml.Node
	err := yaml.Unmarshal([]byte(value), &node)
	if err != nil && !strings.ContainsAny(value, "\n{") {
		err = nil // a name that only YAML finds odd, such as "@a": the name's own check says it better
	}
	switch {
	case err != nil:
		return s, []error{yamlError(err)}
	case len(node.Content) == 1 && node.Content[0].Kind == yaml.MappingNode:
		return parseLongSecret(s, value, checks)
	case len(node.Content) == 1 && node.Content[0].Kind == yaml.SequenceNode:
		return s, []error{errors.New("a list is not a secret; write a name, or a mapping with name: …")}
	}
	s.Name = strings.TrimSpace(value)
	return s, append(errorsOf(checkSecretName(s.Name)), errorsOf(checkFilePath(file))...)
}

// plainName reports whether a value is a name in the short form beyond doubt: YAML would read a single word too.
func plainName(s string) bool {
	if s == "" || s[len(s)-1] == ':' {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("/_+=.:-", c) >= 0) {
			return false
		}
	}
	return s[0] != '-' && s[0] != '='
}

func parseLongSecret(s Secret, value string, checks Checks) (Secret, []error) {
	var long longSecret
	if err := decodeStrict([]byte(value), &long, longSecretFields); err != nil {
		return s, []error{err}
	}
	s.Name, s.VersionID, s.VersionStage, s.Optional = long.Name, long.VersionID, long.VersionStage, long.Optional
	var errs []error
	for _, later := range []struct {
		field string
		node  yaml.Node
	}{{"template", long.Template}, {"from", long.From}, {"containers", long.Containers}, {"onChange", long.OnChange}, {"roleArn", long.RoleARN}} {
		if !later.node.IsZero() {
			errs = append(errs, fmt.Errorf("%s is %w", later.field, errNotAvailable))
		}
	}
	if long.From.IsZero() {
		errs = append(errs, errorsOf(checkSecretName(s.Name))...)
	}
	if long.Format != "" {
		s.Format = long.Format
		if err := checkFormat(s.Format); err != nil {
			errs = append(errs, err)
		}
	}
	if long.Path != "" {
		s.Path = long.Path
	}
	if err := checkFilePath(s.Path); err != nil {
		errs = append(errs, fmt.Errorf("path: %w", err))
	}
	if long.Mode != "" {
		mode, err := parseFileMode(long.Mode)
		if err != nil {
			errs = append(errs, fmt.Errorf("mode: %w", err))
		}
		s.Mode = &mode
	}
	var err error
	if s.Keys, err = parseKeys(&long.Keys, checks); err != nil {
		errs = append(errs, err)
	}
	if s.Format == Raw && len(s.Keys) > 1 {
		errs = append(errs, fmt.Errorf("format raw writes one value, but keys picks %d; pick one, or use format json, env, properties or yaml", len(s.Keys)))
	}
	return s, errs
}

func checkFormat(f Format) error {
	if f == "template" {
		return fmt.Errorf("format template is %w", errNotAvailable)
	}
	for _, known := range formats {
		if f == known {
			return nil
		}
	}
	return fmt.Errorf("format %q is not known; use raw, json, env, properties or yaml", f)
}

// parseKeys keeps the order in which the keys were written: it is the order of an env file's lines.
func parseKeys(node *yaml.Node, checks Checks) ([]Key, error) {
	if node.IsZero() {
		return nil, nil
	}
	if node.Kind != yaml.MappingNode || len(node.Content) == 0 {
		return nil, errors.New("keys must be a mapping of new names to JMESPath expressions, for example {DB_USER: AccountName}")
	}
	var keys []Key
	seen := map[string]bool{}
	for i := 0; i < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Value == "" || value.Kind != yaml.ScalarNode || value.Value == "" {
			return nil, fmt.Errorf("keys, line %d: write a name and a JMESPath expression, for example DB_USER: AccountName", name.Line)
		}
		if seen[name.Value] {
			return nil, fmt.Errorf("keys: %q is there twice", name.Value)
		}
		seen[name.Value] = true
		if checks.Key != nil {
			if err := checks.Key(value.Value); err != nil {
				return nil, fmt.Errorf("keys: %s: %q is not a JMESPath expression: %w", name.Value, value.Value, err)
			}
		}
		keys = append(keys, Key{Name: name.Value, Path: value.Value})
	}
	return keys, nil
}

// decodeStrict decodes one YAML document and refuses fields that out does not have, naming the nearest of fields.
func decodeStrict(data []byte, out any, fields []string) error {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	dec.KnownFields(true)
	if err := dec.Decode(out); err != nil && !errors.Is(err, io.EOF) {
		return yamlErrorNear(err, fields)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errors.New("more than one YAML document; remove the line ---")
	}
	return nil
}
