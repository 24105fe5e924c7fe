// Package config has the names, kinds and errors that three documents share: what a pod asks for (podconfig), what the administrator of
// the cluster allows (clusterconfig), and what an agent is told (agentconfig).
package config

import (
	"fmt"
	"path"
	"time"

	"go.yaml.in/yaml/v3"
)

// Resources are the resources of which the agent's containers have requests and limits.
var Resources = []string{"cpu", "memory", "ephemeral-storage"}

// Modes say how a pod gets its files and whether they are kept fresh; see podconfig.Mode. The first is the default.
var Modes = []string{"sidecar", "init", "single"}

// The defaults of an agent. An injected agent's volumes are at these places in its own containers whatever the mount path in the
// application's is, for which DefaultSecretsDir is the default too: that one may be a folder that the agent needs, such as
// /etc/ssl/certs.
const (
	DefaultSecretsDir = "/var/run/kms/secrets"
	DefaultStateDir   = "/var/run/kms/agent"
	DefaultLogLevel   = "info"
	DefaultLogFormat  = "json"
)

// The default and the shortest interval between fetches; the administrator may set a longer minimum.
const (
	DefaultRefreshInterval = 5 * time.Minute
	ShortestRefresh        = 10 * time.Second
)

// A Duration is a time.Duration that is written as in Go: "5m0s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler, with an error for YAMLError.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	if d.UnmarshalText([]byte(node.Value)) == nil {
		return nil
	}
	problem := fmt.Sprintf("line %d: %q is not a duration; write for example 90s, 5m or 4h", node.Line, node.Value)
	return &yaml.TypeError{Errors: []string{problem}}
}

// APITokenDir is where the volume of the local API's token is, in the agent's container and in those that use the API.
// Path and port are those of Alibaba Cloud's KMS Agent.
const (
	APITokenDir    = "/var/run/kmstoken"
	APITokenFile   = APITokenDir + "/token"
	DefaultAPIPort = 2025
)

// A LocalAPI is the HTTP API by which a pod's containers read secrets from the agent. It serves the secrets of the pod's files
// and those that Allow matches.
type LocalAPI struct {
	Port      int      `json:"port,omitempty"`   // on 127.0.0.1; 0 with Socket
	Socket    string   `json:"socket,omitempty"` // path of a Unix socket in APITokenDir, instead of Port
	Allow     []string `json:"allow,omitempty"`  // patterns of names and ARNs, in which * stands for any characters
	TokenFile string   `json:"tokenFile"`        // the agent makes it, without a newline at its end; only containers that may read it mount it
}

// Check adds what is wrong with it.
func (a LocalAPI) Check(m *Mistakes) {
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
