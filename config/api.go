package config

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// APITokenDir is where the volume of the local API's token is, in the agent's container and in those that use the API.
// The path is that of Alibaba Cloud's KMS Agent.
const (
	APITokenDir  = "/var/run/kmstoken"
	APITokenFile = APITokenDir + "/token"
)

// DefaultAPIPort is that of Alibaba Cloud's KMS Agent.
const DefaultAPIPort = 2025

// A LocalAPI is the HTTP API by which a pod's containers read secrets from the agent. It serves the secrets of the pod's files
// and those that Allow matches.
type LocalAPI struct {
	Port      int      `json:"port,omitempty"`   // on 127.0.0.1; 0 with Socket
	Socket    string   `json:"socket,omitempty"` // path of a Unix socket in APITokenDir, instead of Port
	Allow     []string `json:"allow,omitempty"`  // patterns of names and ARNs, in which * stands for any characters
	TokenFile string   `json:"tokenFile"`        // the agent makes it, without a newline at its end; only containers that may read it mount it
}

func (a LocalAPI) check(m *Mistakes) {
	switch {
	case (a.Port == 0) == (a.Socket == ""):
		m.Add("api", "must have a port or a socket, and not both")
	case a.Socket != "" && !path.IsAbs(a.Socket):
		m.Add("api.socket", "%q is not an absolute path", a.Socket)
	case a.Port < 0 || a.Port > 65535:
		m.Add("api.port", "%d is not a port", a.Port)
	}
	if a.TokenFile == "" {
		m.Add("api.tokenFile", "is missing")
	}
}

func parseAPIPort(p *parser, _, value string) []error {
	port, err := strconv.Atoi(value)
	if err != nil || !unprivileged(port) {
		return []error{fmt.Errorf("%q is not a port from 1024 to 65535, all that the agent may listen on", value)}
	}
	p.localAPI.Port = port
	return nil
}

func unprivileged(port int) bool { return 1024 <= port && port <= 65535 }

func parseAPISocket(p *parser, _, value string) []error {
	name := strings.TrimPrefix(value, APITokenDir+"/")
	switch {
	case !fileName(name):
		return []error{fmt.Errorf("%q is not a file's name in %s; write for example api.sock, which is %s/api.sock in the containers", value,
			APITokenDir, APITokenDir)}
	case APITokenDir+"/"+name == APITokenFile:
		return []error{fmt.Errorf("%q is the token's own file; write for example api.sock", value)}
	}
	p.localAPI.Socket = APITokenDir + "/" + name
	return nil
}

func parseAPIAllow(p *parser, _, value string) []error {
	if n := 1 + strings.Count(value, ","); n > maxNames {
		return []error{tooManyNames(n)}
	}
	seen := map[string]bool{}
	for pattern := range strings.SplitSeq(value, ",") {
		pattern = strings.TrimSpace(pattern)
		if pattern == "" {
			return []error{errors.New("has an empty pattern in it; write patterns with commas between them, for example app/prod/*,shared/ca")}
		}
		if err := checkSecretPattern(pattern); err != nil {
			return []error{err}
		}
		if !seen[pattern] {
			seen[pattern] = true
			p.localAPI.Allow = append(p.localAPI.Allow, pattern)
		}
	}
	return nil
}
