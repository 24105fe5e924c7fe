package config

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// longSecret is the YAML mapping form.
type longSecret struct {
	Name         string    `yaml:"name"`
	From         yaml.Node `yaml:"from"`
	VersionID    string    `yaml:"versionId"`
	VersionStage string    `yaml:"versionStage"`
	Format       Format    `yaml:"format"`
	Keys         yaml.Node `yaml:"keys"`
	Template     *string   `yaml:"template"`
	Path         string    `yaml:"path"`
	Mode         string    `yaml:"mode"`
	RoleARN      string    `yaml:"roleArn"`
	OnChange     string    `yaml:"onChange"`
	Containers   yaml.Node `yaml:"containers"`
	Optional     bool      `yaml:"optional"`
}

// longSecretFields are the names of secretFields.
var longSecretFields = sync.OnceValue(func() (names []string) {
	for _, f := range secretFields {
		names = append(names, f.Name)
	}
	return names
})

func parseLongSecret(s Secret, value string, checks Checks) (Secret, []error) {
	var long longSecret
	if err := decodeStrict([]byte(value), &long, longSecretFields()); err != nil {
		return s, []error{err}
	}
	s.Name, s.VersionID, s.VersionStage, s.Optional = long.Name, long.VersionID, long.VersionStage, long.Optional
	s.RoleARN, s.OnChange = long.RoleARN, long.OnChange
	var errs []error
	mistake := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s%w", field, err))
		}
	}
	if long.From.IsZero() {
		mistake("", checkSecretName(s.Name))
	}
	if long.Format != "" {
		s.Format = long.Format
		mistake("", checkFormat(s.Format))
	}
	if long.Path != "" {
		s.Path = long.Path
	}
	mistake("path: ", checkFilePath(s.Path))
	if long.Mode != "" {
		mode, err := parseFileMode(long.Mode)
		mistake("mode: ", err)
		s.Mode = &mode
	}
	if s.RoleARN != "" && !arnRole(s.RoleARN) {
		mistake("roleArn: ", fmt.Errorf("%q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", s.RoleARN))
	}
	if s.OnChange != "" {
		mistake("onChange: ", checkOnChange(s.OnChange))
	}
	var err error
	s.Keys, err = parseKeys(&long.Keys, checks)
	mistake("", err)
	s.From, err = parseFrom(&long.From)
	mistake("", err)
	s.Containers, err = parseContainers(&long.Containers)
	mistake("", err)
	if long.Template != nil {
		s.Template = *long.Template
		if checks.Template != nil {
			mistake("", checks.Template(s.Template))
		}
	}
	return s, append(errs, long.contradictions(s)...)
}

// contradictions are fields that do not go together.
func (l longSecret) contradictions(s Secret) (errs []error) {
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch template := l.Template != nil; {
	case s.Format == Template && (!template || s.Template == ""):
		add("format template needs the text in the field template, for example template: \"password={{ .AccountPassword }}\"")
	case s.Format != Template && template:
		add("template needs format: template")
	}
	if !l.From.IsZero() {
		if s.Format != Template {
			add("from, several secrets in one file, needs format: template")
		}
		if s.Name != "" {
			add("from contradicts name; put that secret into from, too, or remove one of the two")
		}
		if s.VersionID != "" || s.VersionStage != "" {
			add("versionId and versionStage do not say which of the secrets of from they are for; remove them, or make a file of that secret alone")
		}
	}
	if s.Format == Template && len(s.Keys) > 0 {
		add("keys has no effect with format template, whose text names what it needs; remove it")
	}
	if s.Format == Raw && len(s.Keys) > 1 {
		add("format raw writes one value, but keys picks %d; pick one, or use format json, env, properties or yaml", len(s.Keys))
	}
	return errs
}

// parseKeys keeps the order in which the keys were written: it is the order of an env file's lines.
func parseKeys(node *yaml.Node, checks Checks) ([]Key, error) {
	const want = "keys must be a mapping of new names to JMESPath expressions, for example {DB_USER: AccountName}"
	var keys []Key
	err := pairs(node, "keys", want, func(name, expression string) error {
		if checks.Key != nil {
			if err := checks.Key(expression); err != nil {
				return fmt.Errorf("keys: %s: %q is not a JMESPath expression: %w", name, expression, err)
			}
		}
		keys = append(keys, Key{Name: name, Path: expression})
		return nil
	})
	return keys, err
}

// parseFrom keeps the order too, so that equal annotations make equal documents.
func parseFrom(node *yaml.Node) ([]Source, error) {
	const want = "from must be a mapping of names for the template to KMS secrets, for example {db: app/prod/db}"
	var sources []Source
	err := pairs(node, "from", want, func(name, secret string) error {
		if !identifier(name) {
			return fmt.Errorf("from: %q cannot be reached as .%s in a template; use letters, digits and _, for example db_admin", name, name)
		}
		if err := checkSecretName(secret); err != nil {
			return fmt.Errorf("from: %s: %w", name, err)
		}
		sources = append(sources, Source{Name: name, Secret: secret})
		return nil
	})
	return sources, err
}

// parseContainers does not keep the order, which means nothing.
func parseContainers(node *yaml.Node) ([]string, error) {
	if node.IsZero() {
		return nil, nil
	}
	var names []string
	if node.Kind != yaml.SequenceNode || node.Decode(&names) != nil || len(names) == 0 || slices.Contains(names, "") {
		return nil, errors.New("containers must be a list of the pod's containers, for example [web, worker]")
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// pairs visits a mapping of words to words in the order in which it was written. Want says what the field is to be.
func pairs(node *yaml.Node, field, want string, visit func(name, value string) error) error {
	if node.IsZero() {
		return nil
	}
	if node.Kind != yaml.MappingNode || len(node.Content) == 0 {
		return errors.New(want)
	}
	seen := map[string]bool{}
	for i := 0; i < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Value == "" || value.Kind != yaml.ScalarNode || value.Value == "" {
			return fmt.Errorf("%s, line %d: %s", field, name.Line, want)
		}
		if seen[name.Value] {
			return fmt.Errorf("%s: %q is there twice", field, name.Value)
		}
		seen[name.Value] = true
		if err := visit(name.Value, value.Value); err != nil {
			return err
		}
	}
	return nil
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
