package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

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
	if slices.Contains(formats, f) {
		return nil
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

const onChangeForms = "http://127.0.0.1:<port>/<path> or signal:<SIG>:<process>, for example signal:HUP:nginx"

// signals are the signals that ask a program to reload its files or to end gracefully.
var signals = []string{"HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"}

// A Target is what an on-change names: a URL, or the processes of a name and the signal for them. Targets can be compared.
type Target struct {
	URL     string
	Signal  string // without SIG: "HUP"
	Process string
}

// String returns the form that ParseOnChange reads.
func (t Target) String() string {
	if t.URL != "" {
		return t.URL
	}
	return "signal:" + t.Signal + ":" + t.Process
}

// ParseOnChange reads http://127.0.0.1:<port>/<path> or signal:<SIG>:<process>.
func ParseOnChange(s string) (Target, error) {
	if rest, ok := strings.CutPrefix(s, "signal:"); ok {
		name, process, _ := strings.Cut(rest, ":")
		target := Target{Signal: strings.TrimPrefix(name, "SIG"), Process: process}
		return target, checkSignal(target.Signal, process)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" {
		return Target{}, fmt.Errorf("%q is not a notification; write %s", s, onChangeForms)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http":
		return Target{}, fmt.Errorf("%q: %s is not possible; write %s", s, u.Scheme, onChangeForms)
	case u.Hostname() != "127.0.0.1":
		return Target{}, fmt.Errorf("%q leaves the pod; the host must be 127.0.0.1, by which the pod's containers reach each other", s)
	case err != nil || port == 0:
		return Target{}, fmt.Errorf("%q names no port; write for example http://127.0.0.1:8080/-/reload", s)
	case u.User != nil || u.Fragment != "" || u.Path == "":
		return Target{}, fmt.Errorf("%q is not of the form http://127.0.0.1:<port>/<path>; write for example http://127.0.0.1:8080/-/reload", s)
	}
	return Target{URL: u.String()}, nil
}

func checkSignal(name, process string) error {
	if !slices.Contains(signals, name) {
		return NotOneOf(name, signals)
	}
	if process == "" {
		return errors.New("the process is missing; write for example signal:HUP:nginx")
	}
	if len(process) > 64 || strings.ContainsFunc(process, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == 0x7f }) {
		return fmt.Errorf("%q is not the name of a process; write its program's name without a path, for example signal:HUP:nginx", process)
	}
	return nil
}
