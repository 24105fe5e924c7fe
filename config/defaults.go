package config

import "time"

// Resources are the resources of which the agent's containers have requests and limits.
var Resources = []string{"cpu", "memory", "ephemeral-storage"}

// Modes say how a pod gets its files and whether they are kept fresh; see podconfig.Mode. The first is the default.
var Modes = []string{"sidecar", "init", "single"}

// LeastMemory is the lowest memory limit of an agent: it needs some 10 MB, and kubectl kms status runs a second process beside it.
const LeastMemory = "16Mi"

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
