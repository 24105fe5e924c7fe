package podconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// parseVariable reads env.<NAME>: <secret> or <secret>#<key>.
func parseVariable(p *parser, name, value string) []error {
	return p.variable("env."+name, name, value)
}

// parseVariables reads env: a YAML mapping of names to what env.<NAME> has.
func parseVariables(p *parser, _, value string) []error {
	const want = "env must be a mapping of names to KMS secrets, for example {DB_PASSWORD: app/prod/db#AccountPassword}"
	node, err := p.parseYAML(value)
	if err != nil {
		return []error{err}
	}
	var errs []error
	err = pairs(&node, "env", want, func(name, value string) error {
		if len(errs) < maxErrors {
			for _, err := range p.variable("env", name, value) {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		return nil
	})
	return append(errs, errorsOf(err)...)
}

func (p *parser) variable(annotation, name, value string) []error {
	secret, key, keyed := strings.Cut(strings.TrimSpace(value), "#")
	v := config.Variable{Name: name, Secret: secret, Key: key, Annotation: annotation}
	errs := v.Check()
	if keyed && key == "" {
		errs = append(errs, fmt.Errorf("%q names no key after the #; write for example app/prod/db#AccountPassword", value))
	}
	p.Env = append(p.Env, v)
	return errs
}

// sortVariables puts together what both forms ask for.
func (p *parser) sortVariables() {
	slices.SortStableFunc(p.Env, func(a, b config.Variable) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(p.Env); i++ {
		if name := p.Env[i].Name; name == p.Env[i-1].Name {
			p.mistakes.Add(Prefix+"env", "the variable %s is there twice, here and in %senv.%s; keep one of the two", name, Prefix, name)
		}
	}
}
