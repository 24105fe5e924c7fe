package config

import "path"

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
