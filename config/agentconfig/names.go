package agentconfig

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
