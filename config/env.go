package config

import (
	"fmt"
	"slices"
	"strings"
)

// CommandExec is the subcommand of kms-agent that runs a container's own command with the variables in EnvFile.
const CommandExec = "exec"

// EnvFile is where the agent writes the values of a pod's env.<NAME>, below SecretsDir: a JSON object of names and values. No
// secret.<file> can have that path.
const EnvFile = "..env"

// ProgramDir is where the volume with the agent's program is, in the agent's containers and in those that get variables, and
// Program is the program. Any container can run it, whatever its image has: it is linked statically.
const (
	ProgramDir = "/var/run/kms/bin"
	Program    = ProgramDir + "/kms-agent"
)

// A Variable is an environment variable and the KMS secret that is its value.
type Variable struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`        // name or ARN
	Key    string `json:"key,omitempty"` // JMESPath; "" is the whole value

	Annotation string `json:"-"` // that asks for it, without Prefix: env.<Name>, or env
}

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
		if len(errs) < maxShown {
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
	v := Variable{Name: name, Secret: secret, Key: key, Annotation: annotation}
	errs := v.check()
	if keyed && key == "" {
		errs = append(errs, fmt.Errorf("%q names no key after the #; write for example app/prod/db#AccountPassword", value))
	}
	p.Env = append(p.Env, v)
	return errs
}

// sortVariables puts together what both forms ask for.
func (p *parser) sortVariables() {
	slices.SortStableFunc(p.Env, func(a, b Variable) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(p.Env); i++ {
		if name := p.Env[i].Name; name == p.Env[i-1].Name {
			p.mistakes.Add(Prefix+"env", "the variable %s is there twice, here and in %senv.%s; keep one of the two", name, Prefix, name)
		}
	}
}

func (v Variable) check() []error {
	errs := errorsOf(checkSecretName(v.Secret))
	if !Identifier(v.Name) {
		errs = append(errs, fmt.Errorf("%q is not the name of an environment variable; use letters, digits and _, no digit first, for example "+
			"DB_PASSWORD", v.Name))
	}
	return errs
}
