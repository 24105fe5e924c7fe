package injector

import (
	"path"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// free are the members of a container that may have any value.
var free = map[string]bool{
	"resources": true, "resizePolicy": true, "imagePullPolicy": true, "terminationMessagePath": true,
	"securityContext.runAsUser": true, "securityContext.runAsGroup": true, "securityContext.seLinuxOptions": true,
	"securityContext.appArmorProfile":     true,
	"securityContext.capabilities.drop[]": true,
	"ports[].protocol":                    true, "env[].valueFrom.fieldRef.apiVersion": true,
}

// mayAdd reports whether something that the webhook does not write may be in a container of the agent's. Variables and mounts may,
// unless they change what program runs, or which certificates it trusts.
func mayAdd(rule, name, value string, mounts []any) bool {
	switch rule {
	case "securityContext.procMount":
		return value == "Default"
	case "env[]":
		return !misleads(name)
	case "volumeMounts[]":
		return !hides(path.Clean(name), mounts)
	}
	return free[rule]
}

// misleads reports whether a variable changes the code that the agent loads, the certificates it trusts, its output, or its identity.
func misleads(variable string) bool {
	return strings.HasPrefix(variable, "LD_") || strings.HasPrefix(variable, "SSL_CERT_") || strings.HasPrefix(variable, "KMS_AGENT_") ||
		slices.Contains([]string{"GODEBUG", "GOTRACEBACK", "GOCOVERDIR", config.NodeRoleEnv}, variable)
}

// proxies reports whether a variable sends connections through another host. Administrators give all containers of a cluster such
// variables on purpose, and KMS and STS are recognized by their certificates through any proxy.
func proxies(variable string) bool { return strings.HasSuffix(strings.ToUpper(variable), "_PROXY") }

// hides reports whether a mount takes the place of the agent's program, of the certificates that it trusts, or of something in its
// own mounts.
func hides(at string, mounts []any) bool {
	inside := func(mount any) bool { return below(at, scalar(mount.(map[string]any)["mountPath"])) }
	return below(agentBinary, at) || at == "/etc" || below(at, "/etc/ssl") || below(at, "/etc/pki") || slices.ContainsFunc(mounts, inside)
}
