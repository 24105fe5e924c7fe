package injector

import (
	"strconv"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// The wiring of RRSA (RAM Roles for Service Accounts). Names, paths and the audience are those of ack-pod-identity-webhook:
// https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/ack-pod-identity-webhook
const (
	tokenDir      = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"
	tokenFile     = "token"
	tokenAudience = "sts.aliyuncs.com"
)

var noNodeRole = valued("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")

// identity is what Alibaba Cloud's SDKs and the agent read. The address of the nodes' metadata service is switched off, so that
// nothing falls back to the node's role, unless that role is the identity.
func (in *Injector) identity(r *Request) []variable {
	switch sts := in.fragments.sts; r.Spec.Identity.Kind {
	case config.NodeRole:
		return sts
	case config.AccessKey:
		return append(append(accessKey(r.Spec.Identity.Secret), sts...), noNodeRole)
	case config.ClientKey:
		return []variable{noNodeRole}
	}
	return append([]variable{valued("ALIBABA_CLOUD_ROLE_ARN", r.RoleARN)}, in.fragments.rrsa...)
}

// accessKey has the kubelet put the keys of a Secret into the agent's environment. A Secret without the first two keeps the
// container from starting, with an event that says so.
func accessKey(secret string) []variable {
	from := func(name, key string, optional bool) variable {
		return variable{name, `{"name":"` + name + `","valueFrom":{"secretKeyRef":{` + members(func(b []byte) []byte {
			return appendBool(appendString(appendString(b, "name", secret), "key", key), "optional", optional)
		}) + `}}}`}
	}
	return []variable{
		from(config.AccessKeyIDEnv, config.AccessKeyID, false),
		from(config.AccessKeySecretEnv, config.AccessKeySecret, false),
		from(config.AccessKeyRoleEnv, config.AccessKeyRole, true),
		from(config.AccessKeySessionNameEnv, config.AccessKeySessionName, true),
	}
}

// identityMounts are those of the agent's containers.
func identityMounts(kind config.IdentityKind) []Mount {
	switch kind {
	case config.RRSA:
		return []Mount{tokenMount(), noAPIToken(TokenVolume)}
	case config.ClientKey:
		return []Mount{{Name: ClientKeyVolume, MountPath: config.ClientKeyDir, ReadOnly: true}, noAPIToken(StateVolume)}
	}
	return []Mount{noAPIToken(StateVolume)}
}

func tokenMount() Mount {
	return Mount{Name: TokenVolume, MountPath: tokenDir, ReadOnly: true}
}

// noAPIToken takes the place at which the API server would mount a token for itself into the agent's containers: they have no use
// for one, and its mount would have the API server call every webhook a second time. What is there instead is a volume that they
// have anyway: a token that is good for STS only, or the agent's own state.
func noAPIToken(volume string) Mount {
	return Mount{Name: volume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
}

// tokenVolume projects a token of the pod's ServiceAccount. DefaultMode, 0644, is what the kubelet uses when neither fsGroup nor one
// user for all containers lets it narrow the file by itself; then it makes the file 0600 and that user's, or adds the group.
func tokenVolume(expirationSeconds int64) volume {
	return volume{TokenVolume, `"projected":{"sources":[{"serviceAccountToken":{"audience":"` + tokenAudience + `","expirationSeconds":` +
		strconv.FormatInt(expirationSeconds, 10) + `,"path":"` + tokenFile + `"}}],"defaultMode":420}`}
}

// clientKeyVolume has the two files of a client key. The kubelet makes them root's, and with fsGroup that group's: without one
// the agent is neither, and the files are open to whoever mounts the volume, which nobody else does.
func clientKeyVolume(secret string, a *access) volume {
	const items = `,"items":[{"key":"` + config.ClientKeyFile + `","path":"` + config.ClientKeyFile + `"},{"key":"` +
		config.ClientKeyPassword + `","path":"` + config.ClientKeyPassword + `"}],"defaultMode":`
	mode := int64(0o444)
	if a.fsGroup {
		mode = 0o440
	}
	name := members(func(b []byte) []byte { return appendString(b, "secretName", secret) })
	return volume{ClientKeyVolume, `"secret":{` + name + items + strconv.FormatInt(mode, 10) + `}`}
}
