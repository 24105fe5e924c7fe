package podconfig

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Secret is one file of a pod and the KMS secret, or with From secrets, that it is made of.
type Secret struct {
	File         string         // the <file> of secret.<file>
	Name         string         // the KMS secret: its name, or its ARN for another account's; "" with From
	From         config.Sources // of Template: several secrets, in the order written
	VersionID    string         // "" is the version at VersionStage
	VersionStage string         // "" is ACSCurrent
	Format       config.Format  // default Raw
	Keys         []config.Key   // in the order written; none means all keys of the value
	Template     string         // the text of format Template
	Path         string         // below the mount path; default File
	Mode         *uint32        // permission bits; nil leaves them to the injector, which knows who reads the file
	RoleARN      string         // a second RAM role, assumed from the pod's, that reads the secrets of this file
	OnChange     string         // what to notify when this file changed, for ParseOnChange
	Containers   []string       // that get the file, of those that the pod's annotations choose, sorted; empty: all of them
	Optional     bool           // a secret that KMS does not have is left out instead of being an error
}

// Shows reports whether a container that gets files gets this one.
func (s Secret) Shows(container string) bool {
	_, named := slices.BinarySearch(s.Containers, container)
	return named || len(s.Containers) == 0
}

// Names returns the names or ARNs of all KMS secrets that the file is made of.
func (s Secret) Names() []string { return s.From.Or(s.Name) }

// secret reads the value of secret.<file>: a bare name, or a YAML mapping.
func (p *parser) secret(file, value string) (Secret, []error) {
	s := Secret{File: file, Format: config.Raw, Path: file}
	if plain := strings.TrimSpace(value); plainName(plain) { // nearly all are, and YAML costs more than all the rest
		s.Name = plain
		return s, append(errorsOf(config.CheckSecretName(s.Name)), errorsOf(config.CheckFilePath(file))...)
	}
	if fields, plain := plainFields(value); plain {
		return parseLongSecret(s, fields)
	}
	node, err := p.parseYAML(value)
	if err != nil && !strings.ContainsAny(value, "\n{") {
		err = nil // a name that only YAML finds odd, such as "@a": the name's own check says it better
	}
	switch {
	case err != nil:
		return s, []error{err}
	case node.Kind == yaml.MappingNode:
		return parseLongSecret(s, node.Content)
	case node.Kind == yaml.SequenceNode:
		return s, []error{errors.New("a list is not a secret; write a name, or a mapping with name: …")}
	}
	s.Name = strings.TrimSpace(value)
	return s, append(errorsOf(config.CheckSecretName(s.Name)), errorsOf(config.CheckFilePath(file))...)
}

// maxTokens bounds the YAML of all annotations of a pod: a list's comma, for which the author writes two bytes, takes the decoder 600.
const maxTokens = 3000

// parseYAML is parseYAML within the pod's maxTokens.
func (p *parser) parseYAML(text string) (yaml.Node, error) {
	if p.yaml += tokens(text); p.yaml > maxTokens {
		return yaml.Node{}, fmt.Errorf("is too much YAML: the pod's annotations have %d commas, brackets, list items and lines in them up to "+
			"here, and at most %d are allowed; write a long template with a line template: | and indented lines, which do not "+
			"count if the fields before it are without quotes and comments", p.yaml, maxTokens)
	}
	return parseYAML(text)
}

// tokens is about how many nodes, or lines, a YAML decoder makes of a text, and not less.
func tokens(text string) int {
	text = withoutLiteral(text)
	n := 1
	for i := range len(text) {
		switch text[i] {
		case ',', '[', ']', '{', '}', '\n', '\r', '#', '&', '*', '!':
			n++
		case '-', '?', ':':
			if i+1 == len(text) || text[i+1] <= ' ' {
				n++
			}
		}
	}
	return n
}

// parseYAML returns the one document of a text, the zero Node for none.
func parseYAML(text string) (yaml.Node, error) {
	dec := yaml.NewDecoder(strings.NewReader(text))
	var document yaml.Node
	if err := dec.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return yaml.Node{}, config.YAMLError(err, nil)
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return yaml.Node{}, errors.New("more than one YAML document; remove the line ---")
	}
	if len(document.Content) == 0 {
		return yaml.Node{}, nil
	}
	return *document.Content[0], nil
}
