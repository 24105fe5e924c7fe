package config

import (
	"fmt"
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
}

// parseVariable reads env.<NAME>: <secret> or <secret>#<key>.
func parseVariable(p *parser, name, value string) []error {
	secret, key, keyed := strings.Cut(strings.TrimSpace(value), "#")
	v := Variable{Name: name, Secret: secret, Key: key}
	errs := v.check()
	switch {
	case !keyed:
	case key == "":
		errs = append(errs, fmt.Errorf("%q names no key after the #; write for example app/prod/db#AccountPassword", value))
	case p.checks.Key != nil:
		if err := p.checks.Key(key); err != nil {
			errs = append(errs, fmt.Errorf("%q is not a JMESPath expression: %w", key, err))
		}
	}
	if len(errs) == 0 {
		p.Env = append(p.Env, v)
	}
	return errs
}

func (v Variable) check() []error {
	errs := errorsOf(checkSecretName(v.Secret))
	if !identifier(v.Name) {
		errs = append(errs, fmt.Errorf("%q is not the name of an environment variable; use letters, digits and _, no digit first, for example DB_PASSWORD", v.Name))
	}
	return errs
}
