package identity

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// The environment variables that say where STS is.
const (
	envRegion   = "ALIBABA_CLOUD_STS_REGION"
	envVPC      = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"
	envEndpoint = "ALIBABA_CLOUD_STS_ENDPOINT"
)

// sessionDuration is the lifetime asked of STS if nothing else is said: the longest that a role allows unless its owner raised the
// limit, and the longest of a session that was got with another one.
const sessionDuration = time.Hour

// LongestSession is the longest that any role's owner can allow.
const LongestSession = 12 * time.Hour

// STS says where to get sessions, and of which kind.
type STS struct {
	SessionName string // in ActionTrail, see SessionName; empty: kms-agent
	Policy      string // narrows the sessions to what the role and it both allow, see config.Agent.SessionPolicies; empty: not narrowed

	Duration time.Duration // of the sessions; 0: an hour, which is also the most that a second role's have

	Endpoint string // host[:port], always over TLS; empty: by Region and VPC
	Region   string
	VPC      bool           // ask STS inside the VPC; needs Region
	Roots    *x509.CertPool // that STS may be certified by; nil: the system's

	ConnectTimeout time.Duration // 0: 3s
	Timeout        time.Duration // of the exchange after the connection stands; 0: 5s
}

// STSFromEnv reads the variables that the webhook sets in the agent's containers.
func STSFromEnv(getenv func(string) string) STS {
	return STS{
		Endpoint: getenv(envEndpoint),
		Region:   getenv(envRegion),
		VPC:      strings.EqualFold(getenv(envVPC), "true"),
	}
}

func (s *STS) check() error {
	if strings.ContainsAny(s.Endpoint, "/?#@ ") {
		return fmt.Errorf("%s is %q: it must be a host name, with a port or without, and no scheme", envEndpoint, s.Endpoint)
	}
	if s.SessionName == "" {
		s.SessionName = SessionName()
	}
	if s.Duration == 0 {
		s.Duration = sessionDuration
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = 3 * time.Second
	}
	if s.Timeout == 0 {
		s.Timeout = 5 * time.Second
	}
	return nil
}

// host is the STS host to call.
func (s *STS) host() string {
	if s.Endpoint != "" {
		return s.Endpoint
	}
	region := s.Region
	if region == "cn-hangzhou-finance" { // has no STS of its own
		region = "cn-hangzhou"
	}
	switch {
	case region == "":
		return "sts.aliyuncs.com"
	case s.VPC:
		return "sts-vpc." + region + ".aliyuncs.com"
	default:
		return "sts." + region + ".aliyuncs.com"
	}
}

func (s *STS) httpOptions() *providers.HttpOptions {
	return &providers.HttpOptions{
		ConnectTimeout: int(s.ConnectTimeout / time.Millisecond),
		ReadTimeout:    int(s.Timeout / time.Millisecond),
	}
}
