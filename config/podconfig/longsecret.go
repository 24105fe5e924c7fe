package podconfig

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// longSecret is the YAML mapping form: the Secret that it says, and what can only be looked at as a whole.
type longSecret struct {
	Secret
	format, path, mode     string
	templated              bool       // template is there
	from, keys, containers *yaml.Node // nil: not there
}

// longSecretFields are the names of secretFields.
var longSecretFields = sync.OnceValue(func() (names []string) {
	for _, f := range secretFields {
		names = append(names, f.Name)
	}
	return names
})

// read takes keys and values of a mapping. yaml.v3 would do it, for as much time again as it took to parse the text.
func (l *longSecret) read(pairs []*yaml.Node) (errs []error) {
	seen := make([]string, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs) && len(errs) < maxErrors; i += 2 {
		key, value := pairs[i], pairs[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if slices.Contains(seen, key.Value) {
			return append(errs, fmt.Errorf("line %d: the field %q is there twice", key.Line, key.Value)) // there may be thousands more
		}
		seen = append(seen, key.Value)
		if !slices.Contains(longSecretFields(), key.Value) {
			errs = append(errs, config.NoField(strconv.Itoa(key.Line), key.Value, longSecretFields()))
			continue
		}
		if err := l.field(key.Value, value); err != nil {
			errs = append(errs, fmt.Errorf("line %d: %s %w", key.Line, key.Value, err))
		}
	}
	return errs
}

func (l *longSecret) field(name string, value *yaml.Node) error {
	switch name {
	case "from":
		l.from = value
	case "keys":
		l.keys = value
	case "containers":
		l.containers = value
	case "optional":
		if value.ShortTag() != nullTag && value.Decode(&l.Optional) != nil {
			return errors.New("is neither true nor false")
		}
	case "template":
		l.templated = true
	}
	for _, t := range []struct {
		name string
		to   *string
	}{{"name", &l.Name}, {"versionId", &l.VersionID}, {"versionStage", &l.VersionStage}, {"roleArn", &l.RoleARN}, {"onChange", &l.OnChange},
		{"format", &l.format}, {"path", &l.path}, {"mode", &l.mode}, {"template", &l.Template}} {
		if t.name == name {
			return text(value, t.to)
		}
	}
	return nil
}

const nullTag = "!!null"

// text reads a scalar as it is written: the ID of a version may look like a number.
func text(value *yaml.Node, to *string) error {
	if value.Kind != yaml.ScalarNode {
		return errors.New("is text, not a list or mapping")
	}
	switch value.ShortTag() {
	case "!!binary":
		return errors.New("is text; write it as it is")
	case nullTag:
	default:
		*to = value.Value
	}
	return nil
}

func parseLongSecret(s Secret, pairs []*yaml.Node) (Secret, []error) {
	long := longSecret{Secret: s}
	if errs := long.read(pairs); len(errs) > 0 {
		return s, errs
	}
	s = long.Secret
	var errs []error
	mistake := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s%w", field, err))
		}
	}
	if long.from == nil {
		mistake("", config.CheckSecretName(s.Name))
	}
	if long.format != "" {
		s.Format = config.Format(long.format)
		mistake("", s.Format.Check())
	}
	s.Path = cmp.Or(long.path, s.Path)
	mistake("path: ", config.CheckFilePath(s.Path))
	if long.mode != "" {
		mode, err := parseFileMode(long.mode)
		mistake("mode: ", err)
		s.Mode = &mode
	}
	if s.RoleARN != "" && !config.IsRoleARN(s.RoleARN) {
		mistake("roleArn: ", fmt.Errorf("%q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", s.RoleARN))
	}
	if s.OnChange != "" {
		_, err := config.ParseOnChange(s.OnChange)
		mistake("onChange: ", err)
	}
	var err error
	s.Keys, err = parseKeys(long.keys)
	mistake("", err)
	s.From, err = parseFrom(long.from)
	mistake("", err)
	s.Containers, err = parseContainers(long.containers)
	mistake("", err)
	return s, append(errs, long.contradictions(s)...)
}

// contradictions are fields that do not go together.
func (l longSecret) contradictions(s Secret) (errs []error) {
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case s.Format == config.Template && s.Template == "":
		add("format template needs the text in the field template, for example template: \"password={{ .AccountPassword }}\"")
	case s.Format != config.Template && l.templated:
		add("template needs format: template")
	}
	if l.from != nil {
		if s.Format != config.Template {
			add("from, several secrets in one file, needs format: template")
		}
		if s.Name != "" {
			add("from contradicts name; put that secret into from, too, or remove one of the two")
		}
		if s.VersionID != "" || s.VersionStage != "" {
			add("versionId and versionStage do not say which of the secrets of from they are for; remove them, or make a file of that secret alone")
		}
	}
	if s.VersionID != "" && s.VersionStage != "" {
		add("versionStage contradicts versionId, which names one version for good; keep one of the two")
	}
	if s.Format == config.Template && len(s.Keys) > 0 {
		add("keys has no effect with format template, whose text names what it needs; remove it")
	}
	if s.Format == config.Raw && len(s.Keys) > 1 {
		add("format raw writes one value, but keys picks %d; pick one, or use format json, env, properties or yaml", len(s.Keys))
	}
	return errs
}

// parseKeys keeps the order in which the keys were written: it is the order of an env file's lines.
func parseKeys(node *yaml.Node) ([]config.Key, error) {
	const want = "keys must be a mapping of new names to JMESPath expressions, for example {DB_USER: AccountName}"
	var keys []config.Key
	err := pairs(node, "keys", want, func(name, expression string) error {
		keys = append(keys, config.Key{Name: name, Path: expression})
		return nil
	})
	return keys, err
}

// parseFrom keeps the order too, so that equal annotations make equal documents.
func parseFrom(node *yaml.Node) (config.Sources, error) {
	const want = "from must be a mapping of names for the template to KMS secrets, for example {db: app/prod/db}"
	var sources config.Sources
	err := pairs(node, "from", want, func(name, secret string) error {
		if !config.Identifier(name) {
			return fmt.Errorf("from: %q cannot be reached as .%s in a template; use letters, digits and _, for example db_admin", name, name)
		}
		if err := config.CheckSecretName(secret); err != nil {
			return fmt.Errorf("from: %s: %w", name, err)
		}
		sources = append(sources, config.Source{Name: name, Secret: secret})
		return nil
	})
	return sources, err
}

// parseContainers does not keep the order, which means nothing.
func parseContainers(node *yaml.Node) ([]string, error) {
	if node == nil {
		return nil, nil
	}
	if len(node.Content) > maxNames {
		return nil, fmt.Errorf("containers: %w", tooManyNames(len(node.Content)))
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
	if node == nil {
		return nil
	}
	if node.Kind != yaml.MappingNode || len(node.Content) == 0 {
		return errors.New(want)
	}
	if n := len(node.Content) / 2; n > maxNames {
		return fmt.Errorf("%s: %w", field, tooManyNames(n))
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

func parseFileMode(s string) (uint32, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m > 0o777 || m&0o400 == 0 {
		return 0, fmt.Errorf(`%q is not a mode of a file; write four octal digits that let the owner read, for example "0440"`, s)
	}
	return uint32(m), nil
}
