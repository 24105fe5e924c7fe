package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

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
