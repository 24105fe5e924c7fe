package podconfig

import (
	"sync"
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
		{injectKey, "`\"true\"`, `\"false\"`", "–", "this pod is injected; `\"false\"` is an explicit no", "true", parseInject},
		{"secret.", "name or ARN of a KMS secret, or a YAML mapping", "–", "the KMS secret that the file `<file>` is made of", "app/prod/db",
			parseSecretRow},
		{"env.", "`<secret>` or `<secret>#<key>`, the key in JMESPath", "–",
			"environment variable `<NAME>` of the containers, set as they start; it is in no pod spec; a container without `command` is refused",
			"app/prod/db#AccountPassword", parseVariable},
		{"env", "YAML mapping of names to the same values", "none",
			"environment variables as by `env.<NAME>`, for names that no annotation's key can hold: longer than 59 characters, or with a `_` last",
			"\"{SPRING_SECURITY_OAUTH2_CLIENT_REGISTRATION_KEYCLOAK_CLIENT_SECRET: app/prod/login#secret}\"", parseVariables},
		{"role-arn", "`acs:ram::<account>:role/<name>`", "from the ServiceAccount", "RAM role to assume", "acs:ram::1234567890123456:role/web",
			parseRoleARN},
		{"role-name", "name of a RAM role", "from the ServiceAccount", "RAM role of the cluster's own account to assume", "web", parseRoleName},
		{"identity", "`rrsa`, `node-role`, `access-key:<Secret>`, `client-key:<Secret>`", "`rrsa`",
			"identity of the agent towards Alibaba Cloud; the administrator must allow all but `rrsa`", "access-key:kms-credentials", parseIdentity},
		{"token-expiration", "seconds, 600–43200", "`3600`", "lifetime of the projected ServiceAccount token", "7200", parseTokenExpiration},
		{"mode", "`sidecar`, `init`, `single`", "the administrator's, `sidecar`",
			"`sidecar`: init container, then refresh sidecar; `init`: init container only; `single`: one native sidecar gated by its postStart " +
				"hook; with `restartPolicy: Never` it behaves as `sidecar`, because such a pod could otherwise never fail", "init", parseMode},
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
			"last", parseInitPosition},
		{"agent-requests", "`cpu=10m,memory=16Mi`", "the administrator's", "resource requests of the injected containers", "cpu=20m,memory=32Mi",
			quantities(func(p *parser) *map[string]string { return &p.AgentRequests })},
		{"agent-limits", "`memory=64Mi`", "the administrator's",
			"resource limits of the injected containers; where `agent-requests` has the same cpu and memory, a pod of QoS class Guaranteed stays " +
				"one", "memory=64Mi", quantities(func(p *parser) *map[string]string { return &p.AgentLimits })},
		{"log-level", "`debug`, `info`, `error`", "`info`", "of the agent", "debug",
			oneOf(func(p *parser) *string { return &p.LogLevel }, "debug", "info", "error")},
		{"log-format", "`json`, `text`", "`json`", "of the agent", "text",
			oneOf(func(p *parser) *string { return &p.LogFormat }, "json", "text")},
		{"region", "for example `cn-hangzhou`", "the cluster's", "region of KMS, if the administrator allows it", "cn-shanghai", parseRegion},
		{"endpoint", "host name", "the administrator's", "host of KMS, if the administrator allows it", "kms-vpc.cn-shanghai.aliyuncs.com",
			parseEndpoint},
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
