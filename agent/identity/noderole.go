package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// This file has what is defended against in credentials-go v1.4.14, whose provider asks the metadata service of an ECS instance.
// Its chain of fall-backs and its exchanges with STS are not used: they have no lock, no context, no HTTP client of one's own and
// no CA.
//
//   - It sends what it asks the metadata service through the environment's proxy, which would answer with the role of the node that
//     it runs on; and it never closes its connections. Both are settings of http.DefaultTransport only (direct).
//   - It panics on an answer without Code or Expiration.
//   - It does not tell when the credentials expire.
//   - Its errors are texts that quote the answer (withNode).

// metadataHost is where an ECS instance finds its metadata, over plain HTTP that does not leave the node.
const metadataHost = "100.100.100.200"

const (
	// nodeSession is the longest life of the credentials that ECS gives a node. They are kept until then at most, and until KMS
	// rejects them if that is earlier.
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

// NewNodeRole returns the Provider for the node's role. It takes the metadata service's second version only (IMDSv2), which
// asks for a token first, so that a request that the pod was tricked into sending does not get credentials.
func NewNodeRole(cfg NodeRole) Provider {
	return Provider{ID: fingerprint("node-role", cfg.Name), Get: cfg.fetch, RenewAfter: nodeRenewal}
}

// direct has http.DefaultTransport, which the SDK clones for each request, connect to the metadata service without a proxy and
// close its connections. Nothing else of the agent uses it.
var direct = sync.OnceValue(func() error {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return fmt.Errorf("http.DefaultTransport is a %T: the SDK needs an *http.Transport", http.DefaultTransport)
	}
	transport.DisableKeepAlives = true
	transport.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Hostname() == metadataHost {
			return nil, nil
		}
		return http.ProxyFromEnvironment(r)
	}
	return nil
})

func (n *NodeRole) fetch(context.Context) (creds Credentials, err error) {
	about := Error{Action: GetNodeRole, Host: metadataHost}
	defer func() {
		if r := recover(); r != nil {
			creds, err = Credentials{}, about.withNode(errors.New("incomplete answer"))
		}
	}()
	if err := direct(); err != nil {
		return Credentials{}, err
	}
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
	return Credentials{openapi.Credentials{
		AccessKeyID: got.AccessKeyId, AccessKeySecret: got.AccessKeySecret, SecurityToken: got.SecurityToken,
	}, start.Add(nodeSession)}, nil
}

// metadataStatus finds the status in what the SDK says when the metadata service answered with another than 200. The body follows.
var metadataStatus = regexp.MustCompile(`(?:httpStatus: |^get role name failed: \S+ \S+ )([0-9]{3})`)

// withNode returns the Error for what the SDK's provider returned.
func (e Error) withNode(cause error) *Error {
	text := cause.Error()
	if transport, ok := errors.AsType[*url.Error](cause); ok {
		text = transport.Err.Error()
	}
	status := metadataStatus.FindStringSubmatch(text)
	switch {
	case strings.Contains(text, "IMDS credentials is disabled"):
		e.Code, e.Message = CodeMetadataDisabled, config.MetadataDisabledEnv+" is true"
	case status != nil:
		e.Code, e.Message = "HTTP "+status[1], "the metadata service refused"
	case strings.Contains(text, "http://"+metadataHost): // as the errors of package net/http do
		e.Err = errors.New("no connection, or no answer in time")
	default:
		e.Err = errors.New("the answer is not one of the metadata service")
	}
	return &e
}
