package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The environment variables of RRSA, as ack-pod-identity-webhook and the SDKs name them.
const (
	envRoleARN     = "ALIBABA_CLOUD_ROLE_ARN"
	envProviderARN = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	envTokenFile   = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
	envRegion      = "ALIBABA_CLOUD_STS_REGION"
	envVPC         = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"
	envEndpoint    = "ALIBABA_CLOUD_STS_ENDPOINT"
)

// sessionDuration is the lifetime asked of STS: the longest that a role allows unless its owner raised the limit.
const sessionDuration = time.Hour

// Config says which role to assume, as whom, and where.
type Config struct {
	RoleARN     string // acs:ram::<uid>:role/<name>
	ProviderARN string // acs:ram::<uid>:oidc-provider/ack-rrsa-<clusterID>
	SessionName string // in ActionTrail, see SessionName; empty: kms-agent
	TokenFile   string // projected ServiceAccount token; read again for every exchange, because the kubelet rotates it
	Endpoint    string // host[:port] of STS, always over TLS; empty: by Region and VPC
	Region      string
	VPC         bool           // ask STS inside the VPC; needs Region
	Roots       *x509.CertPool // that STS may be certified by; nil: the system's

	ConnectTimeout time.Duration // 0: 3s
	Timeout        time.Duration // of the exchange after the connection stands; 0: 5s
}

// FromEnv reads the variables that the webhook sets in the agent's containers.
func FromEnv(getenv func(string) string) Config {
	return Config{
		RoleARN:     getenv(envRoleARN),
		ProviderARN: getenv(envProviderARN),
		TokenFile:   getenv(envTokenFile),
		Endpoint:    getenv(envEndpoint),
		Region:      getenv(envRegion),
		VPC:         strings.EqualFold(getenv(envVPC), "true"),
	}
}

func (c *Config) check() error {
	var errs []error
	for _, need := range []struct{ value, env string }{
		{c.RoleARN, envRoleARN}, {c.ProviderARN, envProviderARN}, {c.TokenFile, envTokenFile},
	} {
		if need.value == "" {
			errs = append(errs, fmt.Errorf("%s is not set: the webhook sets it in the agent's containers", need.env))
		}
	}
	if strings.ContainsAny(c.Endpoint, "/?#@ ") {
		errs = append(errs, fmt.Errorf("%s is %q: it must be a host name, with a port or without, and no scheme", envEndpoint, c.Endpoint))
	}
	if c.SessionName == "" {
		c.SessionName = SessionName()
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 3 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return errors.Join(errs...)
}

// host is the STS host to call.
func (c *Config) host() string {
	if c.Endpoint != "" {
		return c.Endpoint
	}
	region := c.Region
	if region == "cn-hangzhou-finance" { // has no STS of its own
		region = "cn-hangzhou"
	}
	switch {
	case region == "":
		return "sts.aliyuncs.com"
	case c.VPC:
		return "sts-vpc." + region + ".aliyuncs.com"
	default:
		return "sts." + region + ".aliyuncs.com"
	}
}

// trust makes the SDK accept certificates of these roots. The SDK clones http.DefaultTransport for every exchange and has
// no other setting; it never closes the clone either, so connections must not be kept alive, or each exchange would hold
// one for 90 seconds.
func trust(roots *x509.CertPool) error {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return fmt.Errorf("http.DefaultTransport is a %T: the SDK needs an *http.Transport", http.DefaultTransport)
	}
	transport = transport.Clone()
	transport.DisableKeepAlives = true
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	http.DefaultTransport = transport
	return nil
}
