package injector

import (
	"slices"
	"strconv"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// fragments are what the operator's document alone decides, as JSON, prepared once.
type fragments struct {
	image     string                         // the agent's image and what runs of it
	ending    string                         // the last members of the agent's containers, but for the security context
	resources string                         // that a pod gets which does not say otherwise
	tmpfs     string                         // the source of volumes in memory: it counts against the memory limits of the containers that write to it
	program   string                         // the source of ProgramVolume
	sts       []variable                     // where the agent, or an application, finds STS
	rrsa      []variable                     // what they need with RRSA besides the role
	mounts    map[config.IdentityKind]string // of the agent's containers in any pod; without the closing bracket
}

func (in *Injector) prepare() {
	f, agent := &in.fragments, in.policy.Agent
	f.image = members(func(b []byte) []byte {
		return append(appendString(b, "image", agent.Image), `,"command":["`+agentBinary+`"]`...)
	})
	// The agent writes why it stopped; its log is the next best if it could not even do that.
	f.ending = members(func(b []byte) []byte {
		return appendText(appendText(b, "terminationMessagePolicy", "FallbackToLogsOnError"), "imagePullPolicy", agent.ImagePullPolicy)
	})
	f.resources = string(appendResources(nil, in.defaults))
	f.tmpfs = `"emptyDir":{"medium":"Memory","sizeLimit":"` + in.volumeSize.String() + `"}`
	f.program = `"emptyDir":{"sizeLimit":"` + programSize + `"}`
	if *in.policy.Agent.ImageVolume {
		f.program = `"image":{` + members(func(b []byte) []byte {
			return appendText(appendString(b, "reference", agent.Image), "pullPolicy", agent.ImagePullPolicy)
		}) + `}`
	}
	f.sts = []variable{
		valued("ALIBABA_CLOUD_STS_REGION", in.policy.Region),
		valued("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", strconv.FormatBool(in.policy.VPC())),
		valued("ALIBABA_CLOUD_STS_ENDPOINT", in.policy.STS.Endpoint),
	}
	f.rrsa = slices.Concat([]variable{
		valued("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", in.policy.OIDCProviderARN), valued("ALIBABA_CLOUD_OIDC_TOKEN_FILE", tokenDir+"/"+tokenFile),
	}, f.sts, []variable{noNodeRole})
	f.mounts = map[config.IdentityKind]string{}
	for _, kind := range config.IdentityKinds {
		mounts := append([]Mount{{Name: SecretsVolume, MountPath: config.DefaultSecretsDir}, {Name: StateVolume, MountPath: config.DefaultStateDir}}, identityMounts(kind)...)
		f.mounts[kind] = string(appendItems([]byte("["), mounts, appendMount))
	}
}

// members are what is appended to an object, without its braces.
func members(appendTo func([]byte) []byte) string { return string(appendTo([]byte("{"))[1:]) }

// An agent is one of the agent's containers: what it has alone, and what it shares with the pod's other one.
type agent struct {
	name, command string
	native        bool       // a native sidecar
	port          int        // of its metrics; 0: none
	gate          bool       // whether the containers after it wait until it is ready
	env           []variable // alone
	mounts        []Mount    // alone
	shared        *shared
}

// shared is what the agent's containers of a pod have in common, encoded once. The lists are without the closing bracket.
type shared struct {
	*fragments
	env, mounts []byte
	resources   string
	uid, gid    int64
}

const (
	// Ten minutes for the first set of files; an outage of KMS longer than that restarts the agent and goes on.
	startupProbe = `,"startupProbe":{"exec":{"command":["` + agentBinary + `","` + config.CommandReady + `"]},"timeoutSeconds":5,"periodSeconds":1,"failureThreshold":600}`

	// restricted is, after the agent's user and group, what Pod Security "restricted" asks of a container, stated on the container
	// so that it holds in any pod.
	restricted = `,"runAsNonRoot":true,"readOnlyRootFilesystem":true,"allowPrivilegeEscalation":false,"seccompProfile":{"type":"RuntimeDefault"}}`
)

func appendAgent(b []byte, a agent) []byte {
	b = append(appendText(append(b, '{'), "name", a.name), ',')
	b = append(append(b, a.shared.image...), `,"args":["`...)
	b = append(append(b, a.command...), `"]`...)
	if a.port != 0 {
		b = append(b, `,"ports":[{"name":"`+metricsPortName+`"`...)
		b = append(appendInt(b, "containerPort", int64(a.port)), `}]`...)
	}
	b = append(append(b, `,"env":`...), a.shared.env...)
	b = append(appendItems(b, a.env, appendVariable), ']')
	b = append(append(b, `,"resources":`...), a.shared.resources...)
	if a.native {
		b = append(b, `,"restartPolicy":"Always"`...)
	}
	b = append(append(b, `,"volumeMounts":`...), a.shared.mounts...)
	b = append(appendItems(b, a.mounts, appendMount), ']')
	if a.gate {
		b = append(b, startupProbe...)
	}
	b = append(append(b, ','), a.shared.ending...)
	b = append(b, `,"securityContext":{"capabilities":{"drop":["ALL"]},"runAsUser":`...)
	b = append(strconv.AppendInt(b, a.shared.uid, 10), `,"runAsGroup":`...)
	return append(append(strconv.AppendInt(b, a.shared.gid, 10), restricted...), '}')
}
