package identity

import (
	"errors"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// envNodeRole names the node's role, as the SDKs do.
const envNodeRole = "ALIBABA_CLOUD_ECS_METADATA"

// metadataHost is where an ECS instance finds its metadata, over plain HTTP that does not leave the node.
const metadataHost = "100.100.100.200"

const (
	// nodeSession is the longest life of the credentials that ECS gives a node. The SDK does not tell how much of it is
	// left, so they are kept until then at most, and until KMS rejects them if that is earlier.
	nodeSession = 6 * time.Hour
	// nodeRenewal is how often they are asked for again: ECS replaces them in time, and asking costs a packet or two
	// within the node.
	nodeRenewal = 15 * time.Minute
)

// NodeRole is the RAM role of the ECS instance that the pod runs on. Every pod of the node can have it, so it tells pods
// apart no more than the node does; and its sessions cannot be narrowed by a policy.
type NodeRole struct {
	Name  string // empty: the metadata service says
	Proxy string // URL of an HTTP proxy to the metadata service, for tests; the environment's proxy is never asked

	ConnectTimeout time.Duration // 0: 1s
	Timeout        time.Duration // of each request after the connection stands; 0: 1s
}

// NodeRoleFromEnv reads the variable by which the SDKs are told a role's name.
func NodeRoleFromEnv(getenv func(string) string) NodeRole {
	return NodeRole{Name: getenv(envNodeRole)}
}

// NewNodeRole returns a Source for the node's role. It takes the metadata service's second version only (IMDSv2), which
// asks for a token first, so that a request that somebody made the pod send does not get credentials.
func NewNodeRole(cfg NodeRole) (*Source, error) {
	if err := trust(nil); err != nil { // for the rest that it sets: there is no TLS
		return nil, err
	}
	return &Source{assume: cfg.fetch, renewAfter: nodeRenewal, identity: fingerprint("node-role", cfg.Name)}, nil
}

func (n *NodeRole) fetch() (creds Credentials, err error) {
	about := Error{Action: GetNodeRole, Host: metadataHost}
	defer func() {
		// The SDK dereferences a missing Code or Expiration.
		if r := recover(); r != nil {
			creds, err = Credentials{}, about.withNode(errors.New("incomplete answer"))
		}
	}()
	provider, err := providers.NewECSRAMRoleCredentialsProviderBuilder().
		WithRoleName(n.Name).
		WithDisableIMDSv1(true).
		WithHttpOptions(&providers.HttpOptions{
			Proxy:          n.Proxy,
			ConnectTimeout: int(n.ConnectTimeout / time.Millisecond), // the SDK's default is a second, for both
			ReadTimeout:    int(n.Timeout / time.Millisecond),
		}).
		Build()
	if err != nil {
		return Credentials{}, about.withNode(err)
	}
	start := time.Now()
	got, err := provider.GetCredentials()
	if err != nil {
		return Credentials{}, about.withNode(err)
	}
	return Credentials{
		AccessKeyID:     got.AccessKeyId,
		AccessKeySecret: got.AccessKeySecret,
		SecurityToken:   got.SecurityToken,
		Expires:         start.Add(nodeSession),
	}, nil
}
