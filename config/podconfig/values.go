package podconfig

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

func parseSecretRow(p *parser, file, value string) []error {
	s, errs := p.secret(file, value)
	if len(errs) > 0 {
		p.mistaken = append(p.mistaken, s)
	} else {
		p.Secrets = append(p.Secrets, s)
	}
	return errs
}

func parseTokenExpiration(p *parser, _, value string) []error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 600 || n > 43200 {
		return []error{fmt.Errorf("%q is not a number of seconds from 600 to 43200", value)}
	}
	p.TokenExpiration = n
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
	if slices.Contains(systemPaths, value) {
		return []error{fmt.Errorf("%q is a directory of the container's system, which would be hidden by the files; write a directory of "+
			"their own, for example /etc/app/secrets", value)}
	}
	p.MountPath = value
	return nil
}

// systemPaths are directories that hold programs, libraries and settings in most images, or that programs write to. A volume in the
// place of one of them, and read-only, keeps nearly every container from starting; directories below them do not.
var systemPaths = []string{"/bin", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/root", "/run", "/sbin", "/tmp", "/usr",
	"/usr/bin", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share",
	"/var", "/var/lib", "/var/log", "/var/run", "/var/tmp"}

// takenPaths are where a container runtime mounts the kernel's own file systems, and where Kubernetes mounts the token of the pod's
// ServiceAccount. A container with another volume there does not start, or is without what it expects.
var takenPaths = []string{"/proc", "/sys", "/dev", "/var/run/secrets/kubernetes.io/serviceaccount",
	"/run/secrets/kubernetes.io/serviceaccount"}

// maxMountPath bounds what each of a pod's containers gets.
const maxMountPath = 255

func parseRefreshInterval(p *parser, _, value string) []error {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || (d != 0 && d < config.ShortestRefresh) {
		return []error{fmt.Errorf("%q is not a duration of at least 10s, such as 90s, 5m or 1h, nor 0 for never", value)}
	}
	p.RefreshInterval = d
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

func oneOf[T ~string](field func(*parser) *T, allowed ...string) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		if !slices.Contains(allowed, value) {
			return []error{config.NotOneOf(value, allowed)}
		}
		*field(p) = T(value)
		return nil
	}
}

// checked takes what a check accepts; otherwise says what to write.
func checked(field func(*parser) *string, accepts func(string) bool, otherwise string) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		if !accepts(value) {
			return []error{fmt.Errorf("%q is not %s", value, otherwise)}
		}
		*field(p) = value
		return nil
	}
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

func quantities(field func(*parser) *map[string]string) func(*parser, string, string) []error {
	return func(p *parser, _, value string) []error {
		parsed := map[string]string{}
		for pair := range strings.SplitSeq(value, ",") {
			name, amount, found := strings.Cut(strings.TrimSpace(pair), "=")
			if !found {
				return []error{fmt.Errorf("%q is not a list of <resource>=<quantity>; write for example cpu=10m,memory=16Mi", value)}
			}
			if !slices.Contains(config.Resources, name) {
				return []error{config.NotOneOf(name, config.Resources)}
			}
			if !config.IsQuantity(amount) {
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

func parseIdentity(p *parser, _, value string) []error {
	kind, secret, named := strings.Cut(value, ":")
	identity := config.Identity{Kind: config.IdentityKind(kind), Secret: secret}
	kinds := []string{"rrsa", string(config.NodeRole), string(config.AccessKey), string(config.ClientKey)}
	switch {
	case !slices.Contains(kinds, kind):
		return []error{config.NotOneOf(value, []string{"rrsa", "node-role", "access-key:<Secret>", "client-key:<Secret>"})}
	case identity.Kind.NeedsSecret() && !config.IsHostName(secret):
		return []error{fmt.Errorf("%q does not name a Kubernetes Secret of the pod's namespace; write for example %s:kms-credentials", value,
			kind)}
	case !identity.Kind.NeedsSecret() && named:
		return []error{fmt.Errorf("%q: %s has no Secret; write %s", value, kind, kind)}
	case kind == "rrsa":
		identity.Kind = config.RRSA
	}
	p.Identity = identity
	return nil
}

func parseOnChange(p *parser, _, value string) []error {
	p.OnChange = value
	_, err := config.ParseOnChange(value)
	return errorsOf(err)
}

func parseAPIPort(p *parser, _, value string) []error {
	port, err := strconv.Atoi(value)
	if err != nil || port < 1024 || port > 65535 {
		return []error{fmt.Errorf("%q is not a port from 1024 to 65535, all that the agent may listen on", value)}
	}
	p.localAPI.Port = port
	return nil
}

// A file's name that a Unix socket's address has room for.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)

func parseAPISocket(p *parser, _, value string) []error {
	name := strings.TrimPrefix(value, config.APITokenDir+"/")
	switch {
	case !fileName.MatchString(name):
		return []error{fmt.Errorf("%q is not a file's name in %s; write for example api.sock, which is %s/api.sock in the containers", value,
			config.APITokenDir, config.APITokenDir)}
	case config.APITokenDir+"/"+name == config.APITokenFile:
		return []error{fmt.Errorf("%q is the token's own file; write for example api.sock", value)}
	}
	p.localAPI.Socket = config.APITokenDir + "/" + name
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
		if err := config.CheckSecretPattern(pattern); err != nil {
			return []error{err}
		}
		if !seen[pattern] {
			seen[pattern] = true
			p.localAPI.Allow = append(p.localAPI.Allow, pattern)
		}
	}
	return nil
}

// parseVariable reads env.<NAME>: <secret> or <secret>#<key>.
func parseVariable(p *parser, name, value string) []error {
	return p.variable("env."+name, name, value)
}

// parseVariables reads env: a YAML mapping of names to what env.<NAME> has.
func parseVariables(p *parser, _, value string) []error {
	const want = "env must be a mapping of names to KMS secrets, for example {DB_PASSWORD: app/prod/db#AccountPassword}"
	node, err := p.parseYAML(value)
	if err != nil {
		return []error{err}
	}
	var errs []error
	err = pairs(&node, "env", want, func(name, value string) error {
		if len(errs) < maxErrors {
			for _, err := range p.variable("env", name, value) {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		return nil
	})
	return append(errs, errorsOf(err)...)
}

func (p *parser) variable(annotation, name, value string) []error {
	secret, key, keyed := strings.Cut(strings.TrimSpace(value), "#")
	v := config.Variable{Name: name, Secret: secret, Key: key, Annotation: annotation}
	errs := v.Check()
	if keyed && key == "" {
		errs = append(errs, fmt.Errorf("%q names no key after the #; write for example app/prod/db#AccountPassword", value))
	}
	p.Env = append(p.Env, v)
	return errs
}

// sortVariables puts together what both forms ask for.
func (p *parser) sortVariables() {
	slices.SortStableFunc(p.Env, func(a, b config.Variable) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(p.Env); i++ {
		if name := p.Env[i].Name; name == p.Env[i-1].Name {
			p.mistakes.Add(Prefix+"env", "the variable %s is there twice, here and in %senv.%s; keep one of the two", name, Prefix, name)
		}
	}
}
