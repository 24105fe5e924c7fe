package notify

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
)

// A Target is who wants to know. Targets can be compared.
type Target struct {
	url     string // or
	signal  syscall.Signal
	process string
}

// signals are those that programs take as a request. KILL and STOP are none.
var signals = []struct {
	name   string
	signal syscall.Signal
}{
	{"HUP", syscall.SIGHUP}, {"INT", syscall.SIGINT}, {"QUIT", syscall.SIGQUIT}, {"TERM", syscall.SIGTERM},
	{"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2}, {"WINCH", syscall.SIGWINCH},
}

// Parse reads http://127.0.0.1:PORT/PATH or signal:SIG:PROCESS.
func Parse(text string) (Target, error) {
	if rest, ok := strings.CutPrefix(text, "signal:"); ok {
		return parseSignal(rest)
	}
	if !strings.HasPrefix(text, "http://") {
		return Target{}, fmt.Errorf("%q: write http://127.0.0.1:8080/path, or signal:HUP:process", text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, fmt.Errorf("%q is not a URL", text)
	}
	host, err := netip.ParseAddr(u.Hostname())
	switch {
	case err != nil || !host.IsLoopback():
		return Target{}, fmt.Errorf("%q: the host must be 127.0.0.1 or [::1], so that nobody outside of the pod is called", text)
	case u.Port() == "" || u.Port() == "0":
		return Target{}, fmt.Errorf("%q: the port is missing, for example http://127.0.0.1:8080/", text)
	case u.User != nil || u.Fragment != "":
		return Target{}, errors.New("a URL with a user or a fragment is not called; write http://127.0.0.1:PORT/PATH")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return Target{url: u.String()}, nil
}

func parseSignal(text string) (Target, error) {
	name, process, ok := strings.Cut(text, ":")
	if !ok || process == "" || strings.ContainsAny(process, "/ \t\n") {
		return Target{}, fmt.Errorf("%q: write signal:HUP:PROCESS, with the name of the program without its directory", "signal:"+text)
	}
	known := make([]string, 0, len(signals))
	for _, s := range signals {
		if strings.TrimPrefix(name, "SIG") == s.name {
			return Target{signal: s.signal, process: process}, nil
		}
		known = append(known, s.name)
	}
	slices.Sort(known)
	return Target{}, fmt.Errorf("%q: the signal %q is not one of %s", "signal:"+text, name, strings.Join(known, ", "))
}

// String is the form that Parse reads.
func (t Target) String() string {
	if t.url != "" {
		return t.url
	}
	for _, s := range signals {
		if s.signal == t.signal {
			return "signal:" + s.name + ":" + t.process
		}
	}
	return "nobody"
}
