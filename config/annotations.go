package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Prefix is that of all annotations and labels.
const Prefix = "kms.alibabacloud.com/"

// What the webhook itself writes or is selected by.
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
			"environment variable `<NAME>` of the containers, set as they start; it is in no pod spec", "app/prod/db#AccountPassword",
			parseVariable},
		{"env", "YAML mapping of names to the same values", "none",
			"environment variables as by `env.<NAME>`, for names that no annotation's key can hold: longer than 59 characters, or with a `_` last",
			"\"{SPRING_SECURITY_OAUTH2_CLIENT_REGISTRATION_KEYCLOAK_CLIENT_SECRET: app/prod/login#secret}\"", parseVariables},
		{"role-arn", "`acs:ram::<account>:role/<name>`", "from the ServiceAccount", "RAM role to assume", "acs:ram::1234567890123456:role/web",
			parseRoleARN},
		{"role-name", "name of a RAM role", "from the ServiceAccount", "RAM role of the cluster's own account to assume", "web", parseRoleName},
		{"identity", "`rrsa`, `node-role`, `access-key:<Secret>`, `client-key:<Secret>`", "`rrsa`",
			"who the agent is to Alibaba Cloud; all but `rrsa` only if the operator allows it", "access-key:kms-credentials", parseIdentity},
		{"token-expiration", "seconds, 600–43200", "`3600`", "lifetime of the projected ServiceAccount token", "7200", parseTokenExpiration},
		{"mode", "`sidecar`, `init`, `single`", "`sidecar`",
			"`sidecar`: init container, then refresh sidecar; `init`: init container only; `single`: one native sidecar gated by its startup " +
				"probe; in a pod with `restartPolicy: Never`, which that could never fail, as `sidecar`", "init", parseMode},
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
		{"agent-requests", "`cpu=10m,memory=16Mi`", "the operator's", "resource requests of the injected containers", "cpu=20m,memory=32Mi",
			quantities(func(p *parser) *map[string]string { return &p.AgentRequests })},
		{"agent-limits", "`memory=64Mi`", "the operator's",
			"resource limits of the injected containers; where `agent-requests` has the same cpu and memory, a pod of QoS class Guaranteed stays " +
				"one", "memory=64Mi", quantities(func(p *parser) *map[string]string { return &p.AgentLimits })},
		{"log-level", "`debug`, `info`, `error`", "`info`", "of the agent", "debug",
			oneOf(func(p *parser) *string { return &p.LogLevel }, "debug", "info", "error")},
		{"log-format", "`json`, `text`", "`json`", "of the agent", "text",
			oneOf(func(p *parser) *string { return &p.LogFormat }, "json", "text")},
		{"region", "for example `cn-hangzhou`", "the cluster's", "region of KMS, if the operator allows it", "cn-shanghai", parseRegion},
		{"endpoint", "host name", "the operator's", "host of KMS, if the operator allows it", "kms-vpc.cn-shanghai.aliyuncs.com", parseEndpoint},
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

func parseInject(p *parser, _, value string) []error {
	return boolean(func(p *parser) *bool { return &p.Inject })(p, "", value)
}

func parseSecretRow(p *parser, file, value string) []error {
	s, errs := p.secret(file, value)
	if len(errs) > 0 {
		p.mistaken = append(p.mistaken, s)
	} else {
		p.Secrets = append(p.Secrets, s)
	}
	return errs
}

func parseRoleARN(p *parser, _, value string) []error {
	if !IsRoleARN(value) {
		return []error{fmt.Errorf("%q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", value)}
	}
	p.RoleARN = value
	return nil
}

func parseRoleName(p *parser, _, value string) []error {
	if !IsRoleName(value) {
		return []error{fmt.Errorf("%q is not the name of a RAM role; a name has letters, digits and . _ @ -, at most 64; for an ARN use role-arn",
			value)}
	}
	p.RoleName = value
	return nil
}

func parseTokenExpiration(p *parser, _, value string) []error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 600 || n > 43200 {
		return []error{fmt.Errorf("%q is not a number of seconds from 600 to 43200", value)}
	}
	p.TokenExpiration = n
	return nil
}

func parseMode(p *parser, _, value string) []error {
	modes := []string{string(ModeSidecar), string(ModeInit), string(ModeSingle)}
	if !slices.Contains(modes, value) {
		return []error{notOneOf(value, modes)}
	}
	p.Mode = Mode(value)
	return nil
}

func parseMountPath(p *parser, _, value string) []error {
	switch {
	case len(value) > maxMountPath:
		return []error{fmt.Errorf("the path has %d bytes; at most %d are allowed", len(value), maxMountPath)}
	case !path.IsAbs(value) || path.Clean(value) != value || value == "/" || strings.ContainsAny(value, ":\x00\n"):
		return []error{fmt.Errorf("%q is not a clean absolute path below /; write for example /etc/app/secrets", value)}
	}
	for _, taken := range takenPaths {
		if value == taken || strings.HasPrefix(value, taken+"/") {
			return []error{fmt.Errorf("%q is in %s, which the kernel or Kubernetes fills; write another path, for example /etc/app/secrets", value,
				taken)}
		}
	}
	p.MountPath = value
	return nil
}

// shortestRefresh is the shortest refresh-interval; the administrator's floor may be longer.
const shortestRefresh = 10 * time.Second

// takenPaths are where a container runtime mounts the kernel's own file systems, and where Kubernetes mounts the token of the pod's
// ServiceAccount. A container with another volume there does not start, or is without what it expects.
var takenPaths = []string{"/proc", "/sys", "/dev", "/var/run/secrets/kubernetes.io/serviceaccount",
	"/run/secrets/kubernetes.io/serviceaccount"}

// maxMountPath bounds what each of a pod's containers gets.
const maxMountPath = 255

func parseRefreshInterval(p *parser, _, value string) []error {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || (d != 0 && d < shortestRefresh) {
		return []error{fmt.Errorf("%q is not a duration of at least 10s, such as 90s, 5m or 1h, nor 0 for never", value)}
	}
	p.RefreshInterval = d
	return nil
}

func parseInitPosition(p *parser, _, value string) []error {
	switch value {
	case "first", "last":
		p.InitLast = value == "last"
		return nil
	}
	return []error{notOneOf(value, []string{"first", "last"})}
}

func parseRegion(p *parser, _, value string) []error {
	if !region(value) {
		return []error{fmt.Errorf("%q is not a region; write for example cn-hangzhou", value)}
	}
	p.Region = value
	return nil
}

func parseEndpoint(p *parser, _, value string) []error {
	if !hostName(value) {
		return []error{fmt.Errorf("%q is not a host name in small letters without scheme and port; write for example "+
			"kms-vpc.cn-hangzhou.aliyuncs.com", value)}
	}
	p.Endpoint = value
	return nil
}

func boolean(field func(*parser) *bool) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		switch value {
		case "true", "false":
			*field(p) = value == "true"
			return nil
		}
		return []error{fmt.Errorf(`%q is neither "true" nor "false" (with quotes, since an annotation's value is a string)`, value)}
	}
}

func oneOf(field func(*parser) *string, allowed ...string) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		if !slices.Contains(allowed, value) {
			return []error{notOneOf(value, allowed)}
		}
		*field(p) = value
		return nil
	}
}

func notOneOf(value string, allowed []string) error {
	err := fmt.Sprintf("%q is not one of %s", value, strings.Join(allowed, ", "))
	if near := nearest(value, allowed); near != "" {
		err += fmt.Sprintf("; did you mean %q?", near)
	}
	return errors.New(err)
}

// list does not keep the order, which means nothing.
func list(key string, field func(*parser) *[]string) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		if n := 1 + strings.Count(value, ","); n > maxNames {
			return []error{tooManyNames(n)}
		}
		names := strings.Split(value, ",")
		for i, name := range names {
			if names[i] = strings.TrimSpace(name); names[i] == "" {
				return []error{fmt.Errorf("%q has an empty name in it; write names with commas between them, for example %s: web,worker", value, key)}
			}
		}
		slices.Sort(names)
		*field(p) = slices.Compact(names)
		return nil
	}
}

var resources = []string{"cpu", "memory", "ephemeral-storage"}

func quantities(field func(*parser) *map[string]string) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		parsed := map[string]string{}
		for pair := range strings.SplitSeq(value, ",") {
			name, amount, found := strings.Cut(strings.TrimSpace(pair), "=")
			if !found {
				return []error{fmt.Errorf("%q is not a list of <resource>=<quantity>; write for example cpu=10m,memory=16Mi", value)}
			}
			if !slices.Contains(resources, name) {
				return []error{notOneOf(name, resources)}
			}
			if !quantity(amount) {
				return []error{fmt.Errorf("%q is not a quantity; write for example cpu=10m or memory=16Mi", pair)}
			}
			if before, twice := parsed[name]; twice && before != amount {
				return []error{fmt.Errorf("%s is there twice, as %s and as %s; keep one of the two", name, before, amount)}
			}
			parsed[name] = amount
		}
		*field(p) = parsed
		return nil
	}
}
