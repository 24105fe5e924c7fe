package podconfig

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Prefix is the prefix of all annotations and labels.
const Prefix = "kms.alibabacloud.com/"

// Annotations and labels that the webhook writes, or that select it.
const (
	// InjectedAnnotation is written into an injected pod; its value is the injector's version.
	InjectedAnnotation = Prefix + injectedKey
	// NamespaceLabel with the value NamespaceLabelValue has the webhook called for a namespace's annotated pods.
	NamespaceLabel      = Prefix + "injection"
	NamespaceLabelValue = "enabled"
)

const (
	injectKey   = "inject"
	injectedKey = "injected"
)

// A row is one annotation: its documentation and its parser in one place, so that neither can be forgotten.
type row struct {
	key     string // after Prefix; "secret." and "env." take an argument that follows the dot
	value   string // what may be written, for the documentation
	initial string // the default, for the documentation
	doc     string
	example string // a value, for the documentation
	parse   func(p *parser, argument, value string) []error
}

var (
	rowsMade  sync.Once
	rowsTable []row
)

// rows has the annotations in the order of the documentation. It is no variable that is filled when a program starts: that would bring
// all that parses annotations, 270 kB, into the agent, which reads none.
func rows() []row {
	rowsMade.Do(func() { rowsTable = annotationRows() })
	return rowsTable
}

func annotationRows() []row {
	return []row{
		{injectKey, "`\"true\"`, `\"false\"`", "–", "this pod is injected; `\"false\"` is an explicit no", "true",
			boolean(func(p *parser) *bool { return &p.Inject })},
		{"secret.", "name or ARN of a KMS secret, or a YAML mapping", "–", "the KMS secret that the file `<file>` is made of", "app/prod/db",
			parseSecretRow},
		{"env.", "`<secret>` or `<secret>#<key>`, the key in JMESPath", "–",
			"environment variable `<NAME>` of the containers, set as they start; it is in no pod spec; a container without `command` is refused",
			"app/prod/db#AccountPassword", parseVariable},
		{"env", "YAML mapping of names to the same values", "none",
			"environment variables as by `env.<NAME>`, for names that no annotation's key can hold: longer than 59 characters, or with a `_` last",
			"\"{SPRING_SECURITY_OAUTH2_CLIENT_REGISTRATION_KEYCLOAK_CLIENT_SECRET: app/prod/login#secret}\"", parseVariables},
		{"role-arn", "`acs:ram::<account>:role/<name>`", "from the ServiceAccount", "RAM role to assume", "acs:ram::1234567890123456:role/web",
			checked(func(p *parser) *string { return &p.RoleARN }, config.IsRoleARN,
				"the ARN of a RAM role; write acs:ram::<account>:role/<name>")},
		{"role-name", "name of a RAM role", "from the ServiceAccount", "RAM role of the cluster's own account to assume", "web",
			checked(func(p *parser) *string { return &p.RoleName }, config.IsRoleName,
				"the name of a RAM role; a name has letters, digits and . _ @ -, at most 64; for an ARN use role-arn")},
		{"identity", "`rrsa`, `node-role`, `access-key:<Secret>`, `client-key:<Secret>`", "`rrsa`",
			"identity of the agent towards Alibaba Cloud; the administrator must allow all but `rrsa`", "access-key:kms-credentials", parseIdentity},
		{"token-expiration", "seconds, 600–43200", "`3600`", "lifetime of the projected ServiceAccount token", "7200", parseTokenExpiration},
		{"mode", "`sidecar`, `init`, `single`", "the administrator's, `sidecar`",
			"`sidecar`: init container, then refresh sidecar; `init`: init container only; `single`: one native sidecar gated by its postStart " +
				"hook; with `restartPolicy: Never` it behaves as `sidecar`, because such a pod could otherwise never fail", "init",
			oneOf(func(p *parser) *Mode { return &p.Mode }, config.Modes...)},
		{"containers", "comma list", "all that the pod has when it is injected",
			"containers, init containers too, that get the files and variables; one that another webhook adds later gets them only if it is named " +
				"here", "web,worker", list("containers", func(p *parser) *[]string { return &p.Containers })},
		{"skip-containers", "comma list", "none", "containers that do not get the files and variables", "istio-proxy",
			list("skip-containers", func(p *parser) *[]string { return &p.SkipContainers })},
		{"mount-path", "absolute path", "`/var/run/kms/secrets`",
			"where the files are in the containers; inside another volume only if that can be written to, or is a whole configMap, secret, " +
				"downwardAPI or projected volume", "/etc/app/secrets", parseMountPath},
		{"refresh-interval", "Go duration, at least `10s`; `0`", "`5m`", "how often the values are fetched again; `0` never", "90s",
			parseRefreshInterval},
		{"on-change", "`http://127.0.0.1:<port>/<path>`, `signal:<SIG>:<process>`", "none",
			"what the agent notifies when files change; a signal needs `shareProcessNamespace: true` in the pod", "http://127.0.0.1:8080/-/reload",
			parseOnChange},
		{"api", "`\"true\"`, `\"false\"`", "`\"false\"`", "local HTTP API of the agent; its token is in `/var/run/kmstoken/token`", "true",
			boolean(func(p *parser) *bool { return &p.apiOn })},
		{"api-port", "1024–65535", "`2025`", "port of the API on 127.0.0.1", "2773", parseAPIPort},
		{"api-socket", "name of a file in `/var/run/kmstoken`", "none", "Unix socket of the API instead of the port; required with `hostNetwork`",
			"kms.sock", parseAPISocket},
		{"api-allow", "comma list of patterns, `*` for any characters", "none", "secrets that the API serves besides those of the pod's files",
			"app/prod/*,shared/ca", parseAPIAllow},
		{"app-identity", "`\"true\"`, `\"false\"`", "`\"false\"`", "RRSA environment variables and token in the application's containers too",
			"true", boolean(func(p *parser) *bool { return &p.AppIdentity })},
		{"init-position", "`first`, `last`", "`first`", "place among the pod's init containers; with `last` these run before there are files",
			"last",
			oneOf(func(p *parser) *string { return &p.initPosition }, "first", "last")},
		{"agent-requests", "`cpu=10m,memory=16Mi`", "the administrator's", "resource requests of the injected containers", "cpu=20m,memory=32Mi",
			quantities(func(p *parser) *map[string]string { return &p.AgentRequests })},
		{"agent-limits", "`memory=64Mi`", "the administrator's",
			"resource limits of the injected containers; where `agent-requests` has the same cpu and memory, a pod of QoS class Guaranteed stays " +
				"one", "memory=64Mi", quantities(func(p *parser) *map[string]string { return &p.AgentLimits })},
		{"log-level", "`debug`, `info`, `error`", "`info`", "of the agent", "debug",
			oneOf(func(p *parser) *string { return &p.LogLevel }, "debug", "info", "error")},
		{"log-format", "`json`, `text`", "`json`", "of the agent", "text",
			oneOf(func(p *parser) *string { return &p.LogFormat }, "json", "text")},
		{"region", "for example `cn-hangzhou`", "the cluster's", "region of KMS, if the administrator allows it", "cn-shanghai",
			checked(func(p *parser) *string { return &p.Region }, config.IsRegion, "a region; write for example cn-hangzhou")},
		{"endpoint", "host name", "the administrator's", "host of KMS, if the administrator allows it", "kms-vpc.cn-shanghai.aliyuncs.com",
			checked(func(p *parser) *string { return &p.Endpoint }, config.IsHostName,
				"a host name in small letters without scheme and port; write for example kms-vpc.cn-hangzhou.aliyuncs.com")},
	}
}

// argument stands for what follows the dot of a row's key, for the documentation.
func (r row) argument() string {
	switch r.key {
	case "secret.":
		return "<file>"
	case "env.":
		return "<NAME>"
	}
	return ""
}

// An Annotation is the documentation of one annotation: a row of the table that parses it.
type Annotation struct {
	Key     string  `json:"key"`     // with Prefix; <file> and <NAME> stand for what its author chooses
	Value   string  `json:"value"`   // what may be written, in Markdown
	Default string  `json:"default"` // in Markdown
	Effect  string  `json:"effect"`  // in Markdown
	Example string  `json:"example"` // the annotation as it is written in a manifest
	Fields  []Field `json:"fields,omitempty"`
}

// A Field is one of the YAML mapping that an annotation's value may be.
type Field struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Effect  string `json:"effect"`
}

// Annotations returns the documentation of all pod annotations, in its order.
func Annotations() []Annotation {
	all := make([]Annotation, 0, len(rows()))
	for _, r := range rows() {
		all = append(all, r.describe(r.argument()))
	}
	return all
}

// Describe returns the documentation of one annotation, named with or without Prefix, and with or without what follows its dot. The
// error suggests what was meant.
func Describe(name string) (Annotation, error) {
	key := strings.TrimPrefix(name, Prefix)
	if r, _ := rowOf(key); r == nil || r.key != key {
		key = strings.TrimSuffix(key, ".") + "."
	}
	if i := slices.IndexFunc(rows(), func(r row) bool { return r.key == key }); i >= 0 {
		return rows()[i].describe(rows()[i].argument()), nil
	}
	key = strings.TrimPrefix(name, Prefix)
	r, argument, err := find(key)
	if err != nil {
		return Annotation{}, err
	}
	return r.describe(argument), nil
}

func (r row) describe(argument string) Annotation {
	a := Annotation{Key: Prefix + r.key + argument, Value: r.value, Default: r.initial, Effect: r.doc}
	sample := map[string]string{"<file>": "db", "<NAME>": "DB_PASSWORD"}[argument]
	if sample == "" {
		sample = argument
	}
	value := r.example
	if _, err := strconv.Atoi(value); err == nil || value == "true" { // YAML would read something else than a string
		value = strconv.Quote(value)
	}
	a.Example = Prefix + r.key + sample + ": " + value
	if r.key == "secret." {
		a.Fields = secretFields
		a.Example += "\n" + Prefix + "secret.db.env: |\n  name: app/prod/db\n  format: env\n  keys: {DB_USER: AccountName, DB_PASSWORD: " +
			"AccountPassword}"
	}
	return a
}

// secretFields are the fields of the long form of secret.<file>.
var secretFields = []Field{
	{"name", "name or ARN of a KMS secret", "–", "the secret; required without `from`"},
	{"versionId", "id of a version", "–",
		"that version, which never changes; KMS ignores it for secrets of RDS, PolarDB, Redis/Tair, RAM and ECS"},
	{"versionStage", "for example `ACSPrevious`", "`ACSCurrent`", "the version that bears this label"},
	{"format", "`raw`, `json`, `env`, `properties`, `yaml`, `template`", "`raw`", "how the value becomes the file's content"},
	{"from", "mapping of names to secrets", "–", "several secrets in one `template`, in place of `name`"},
	{"keys", "mapping of names to JMESPath", "all keys", "picks and renames what is in the value"},
	{"template", "text of a Go template", "–", "with format `template`: the file's content"},
	{"path", "path below the mount path", "the name after `secret.`", "the file's place"},
	{"mode", "four octal digits, in quotes", "`0400`, or what the readers need", "the file's permission bits"},
	{"roleArn", "`acs:ram::<account>:role/<name>`", "none",
		"second role, assumed from the pod's, that reads the secret: for another account's"},
	{"onChange", "as `on-change`", "none", "what the agent notifies when this file changed"},
	{"containers", "list of the pod's containers", "the pod's", "the others do not see the file"},
	{"optional", "`true`, `false`", "`false`", "`true`: a secret that KMS does not have is left out"},
}
