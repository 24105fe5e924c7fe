// Package agentconfig is what an injected agent is told: its configuration, and the names and paths that it shares with the webhook.
package agentconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// The environment variables of an injected agent's containers.
const (
	// Env has the agent's configuration. It holds no secret: it can be read in kubectl describe.
	Env = "KMS_AGENT_CONFIG"
	// PodNameEnv has the pod's name (downward API), which the webhook cannot know. It goes into the STS session's name; without it the
	// agent takes the host name.
	PodNameEnv = "KMS_AGENT_POD_NAME"
)

// The subcommands of kms-agent that the injector puts into containers: init and run, and ready --wait as the postStart hook of
// mode single and of an agent with API, which ends with 0 once SecretsDir has its first complete set of files, if there are any, and
// the API answers. Exec runs a container's own command with the variables in EnvFile.
const (
	CommandInit  = "init"
	CommandRun   = "run"
	CommandReady = "ready"
	CommandExec  = "exec"
	FlagWait     = "--wait" // of ready; without it, ready ends with 1 at once
)

// A Config is what an injected agent is told, as JSON. Of the identity it has the kind only: roles and keys travel in the
// ALIBABA_CLOUD_* environment variables, which ack-pod-identity-webhook may have set already, or in ClientKeyDir.
type Config struct {
	Namespace      string          `json:"namespace"`      // of the pod, for the STS session's name and for messages
	ServiceAccount string          `json:"serviceAccount"` // of the pod, likewise
	Identity       config.Identity `json:"identity,omitzero"`
	// narrow the STS sessions by SessionPolicies; the agent has none that are wider
	SessionPolicy   bool             `json:"sessionPolicy,omitempty"`
	SessionDuration config.Duration  `json:"sessionDuration,omitempty"` // of the STS sessions, but for second roles; 0: an hour
	KMS             Endpoint         `json:"kms"`
	STS             Endpoint         `json:"sts,omitzero"`         // without a host: ALIBABA_CLOUD_STS_ENDPOINT, else region and VPC flag
	SecretsDir      string           `json:"secretsDir,omitempty"` // the rendered files
	ViewDirs        []string         `json:"viewDirs,omitempty"`   // further directories, for containers that see other files
	StateDir        string           `json:"stateDir,omitempty"`   // private to the agent: hand-over from init to sidecar
	RefreshInterval config.Duration  `json:"refreshInterval"`
	OnChange        string           `json:"onChange,omitempty"` // what to notify when files changed, for ParseOnChange
	API             *config.LocalAPI `json:"api,omitempty"`      // nil: off
	// of /metrics and /readyz on all addresses; 0: off; below 0: a free one, which the log names
	MetricsPort int    `json:"metricsPort,omitempty"`
	LogLevel    string `json:"logLevel,omitempty"`  // debug, info, error
	LogFormat   string `json:"logFormat,omitempty"` // json, text
	Files       []File `json:"files"`               // may be empty with Env or API

	Env     []config.Variable `json:"env,omitempty"`     // written into EnvFile
	EnvMode FileMode          `json:"envMode,omitempty"` // of EnvFile
	// path to which the agent copies its own program before it writes the files; "": nowhere
	Program string `json:"program,omitempty"`
}

// An Endpoint is a host of Alibaba Cloud and the certificates it is trusted by.
type Endpoint struct {
	Host     string `json:"host,omitempty"`     // without scheme, usually without port
	CABundle string `json:"caBundle,omitempty"` // PEM, in addition to the system's roots
	// CAConfigMap is the ConfigMap, and its key after a slash, that KMSCAFile or STSCAFile is from: PEM in addition to the system's roots,
	// too, but read again when it changes. It may come after the agent's start.
	CAConfigMap string `json:"caConfigMap,omitempty"`
}

// A File is one rendered file.
type File struct {
	Path         string         `json:"path"` // below SecretsDir
	Mode         FileMode       `json:"mode"`
	Secret       string         `json:"secret,omitempty"` // name or ARN; "" with From
	From         config.Sources `json:"from,omitempty"`   // of Template: several secrets instead of one
	VersionID    string         `json:"versionId,omitempty"`
	VersionStage string         `json:"versionStage,omitempty"`
	Format       config.Format  `json:"format"`
	Keys         []config.Key   `json:"keys,omitempty"`
	Template     string         `json:"template,omitempty"` // the text of Template
	RoleARN      string         `json:"roleArn,omitempty"`  // a second role, assumed from the first, that reads the secrets of this file
	OnChange     string         `json:"onChange,omitempty"` // what to notify when this file changed
	Optional     bool           `json:"optional,omitempty"`
	Dirs         []string       `json:"dirs,omitempty"` // of ViewDirs, that have the file; empty: all, and SecretsDir
}

// Default returns the meaning of an empty configuration.
func Default() Config {
	return Config{SecretsDir: config.DefaultSecretsDir, StateDir: config.DefaultStateDir, LogLevel: config.DefaultLogLevel,
		LogFormat: config.DefaultLogFormat}
}

// Read decodes and checks an agent's configuration. A field it does not know is an error: an agent that silently did less than it
// was told would be worse than one that does not start.
func Read(document []byte) (Config, error) {
	if len(document) == 0 {
		return Config{}, fmt.Errorf("%s is empty; the webhook sets it in the containers that it injects", Env)
	}
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.DisallowUnknownFields()
	a := Default()
	if err := dec.Decode(&a); err != nil {
		return Config{}, fmt.Errorf("decode %s (are the agent's image and the webhook of one version?): %w", Env, err)
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("decode %s: something follows the document", Env)
	}
	return a, a.check()
}

func (a Config) check() error {
	var m config.Mistakes
	for _, required := range []struct{ field, value string }{
		{"kms.host", a.KMS.Host}, {"secretsDir", a.SecretsDir}, {"stateDir", a.StateDir},
	} {
		if required.value == "" {
			m.Add(required.field, "is missing")
		}
	}
	if a.RefreshInterval < 0 {
		m.Add("refreshInterval", "is negative; 0 never refreshes")
	}
	if !slices.Contains([]config.IdentityKind{config.RRSA, config.NodeRole, config.AccessKey, config.ClientKey}, a.Identity.Kind) {
		m.Add("identity.kind", "%q is not known", a.Identity.Kind)
	}
	if a.OnChange != "" {
		if _, err := config.ParseOnChange(a.OnChange); err != nil {
			m.Add("onChange", "%s", err)
		}
	}
	if a.API != nil {
		a.API.Check(&m)
	} else if !a.Writes() {
		m.Add("files", "is empty: there is nothing to do")
	}
	seen := map[string]bool{}
	for i, f := range a.Files {
		at := func(field string) string { return fmt.Sprintf("files[%d].%s", i, field) }
		if err := config.CheckFilePath(f.Path); err != nil {
			m.Add(at("path"), "%s", err)
		}
		if seen[f.Path] {
			m.Add(at("path"), "%q is there twice", f.Path)
		}
		seen[f.Path] = true
		for _, name := range f.Secrets() {
			if err := config.CheckSecretName(name); err != nil {
				m.Add(at("secret"), "%s", err)
			}
		}
		if err := f.Format.Check(); err != nil {
			m.Add(at("format"), "%s", err)
		}
		if (f.Format == config.Template) != (f.Template != "") {
			m.Add(at("template"), "goes with format template, and only with it")
		}
		if f.Secret != "" && len(f.From) > 0 {
			m.Add(at("from"), "takes the place of secret")
		}
		if f.RoleARN != "" && !config.IsRoleARN(f.RoleARN) {
			m.Add(at("roleArn"), "%q is not the ARN of a RAM role; want acs:ram::<account>:role/<name>", f.RoleARN)
		}
		for _, dir := range f.Dirs {
			if !slices.Contains(a.ViewDirs, dir) {
				m.Add(at("dirs"), "%q is not among viewDirs", dir)
			}
		}
		if f.OnChange != "" {
			if _, err := config.ParseOnChange(f.OnChange); err != nil {
				m.Add(at("onChange"), "%s", err)
			}
		}
	}
	for i, v := range a.Env {
		for _, err := range v.Check() {
			m.Add(fmt.Sprintf("env[%d]", i), "%s", err)
		}
	}
	return m.Err()
}

// Writes reports whether there is anything to fetch and write: with API there may be not.
func (a Config) Writes() bool { return len(a.Files) > 0 || len(a.Env) > 0 }

// Secrets returns the names or ARNs of all secrets that the file is made of.
func (f File) Secrets() []string { return f.From.Or(f.Secret) }

// A FileMode is a file's permission bits, written in octal: "0440".
type FileMode uint32

// MarshalText implements encoding.TextMarshaler.
func (m FileMode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *FileMode) UnmarshalText(text []byte) error {
	parsed, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || parsed > 0o777 {
		return fmt.Errorf("%q is not a file's mode in octal", text)
	}
	*m = FileMode(parsed)
	return nil
}

// The names of what a pod gets. They are the contract with users' own manifests and with other webhooks: what exists under one
// of them is used.
const (
	InitContainerName = "kms-agent-init"
	ContainerName     = "kms-agent"
	SecretsVolume     = "kms-secrets"
	StateVolume       = "kms-agent"
	TokenVolume       = "rrsa-oidc-token" // shared with ack-pod-identity-webhook
	APIVolume         = "kms-token"       // of the local API's token
	ClientKeyVolume   = "kms-client-key"
	ProgramVolume     = "kms-agent-bin" // of the program that starts containers with variables
	CAVolume          = "kms-agent-ca"  // of KMSCAFile and STSCAFile
)

// CADir is where the certificate authorities are that an agent takes from ConfigMaps of its namespace.
const (
	CADir      = "/var/run/kms/ca"
	KMSCAFile  = CADir + "/kms.pem"
	STSCAFile  = CADir + "/sts.pem"
	CAFileMode = 0o444 // the agents' users differ, and nothing in it is secret
)

// The keys of the Kubernetes Secret of a ClientKey identity are files of these names in ClientKeyDir: the JSON document that
// KMS gives out when a client key is made, and its password.
const (
	ClientKeyDir      = "/var/run/kms/client-key"
	ClientKeyFile     = "clientKey"
	ClientKeyPassword = "password"
)

// EnvFile is where the agent writes the values of a pod's env.<NAME>, below SecretsDir: a JSON object of names and values. No
// secret.<file> can have that path.
const EnvFile = "..env"

// ProgramDir is where the volume with the agent's program is, in the agent's containers and in those that get variables, and
// Program is the program. Any container can run it, whatever its image has: it is linked statically.
const (
	ProgramDir = "/var/run/kms/bin"
	Program    = ProgramDir + "/kms-agent"
)
