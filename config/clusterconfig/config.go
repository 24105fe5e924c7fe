// Package clusterconfig reads the webhook's configuration: what the administrator of a cluster allows, and its defaults.
package clusterconfig

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Config is what the administrator of a cluster allows, and its defaults: the file of kms-webhook --config.
type Config struct {
	AccountID       string `yaml:"accountID"`       // of the Alibaba Cloud account that the cluster belongs to; required
	ClusterID       string `yaml:"clusterID"`       // of the ACK cluster; required unless oidcProviderARN is given
	Region          string `yaml:"region"`          // of the cluster, for example cn-hangzhou; required
	OIDCProviderARN string `yaml:"oidcProviderARN"` // default acs:ram::<accountID>:oidc-provider/ack-rrsa-<clusterID>
	Network         string `yaml:"network"`         // vpc (default) or public: which of Alibaba Cloud's hosts the agents call

	KMS Gateway `yaml:"kms"` // default host kms(-vpc).<region>.aliyuncs.com
	STS STS     `yaml:"sts"` // default host sts(-vpc).<region>.aliyuncs.com

	Agent      AgentDefaults `yaml:"agent"`
	Allow      Allow         `yaml:"allow"`
	Namespaces []Namespace   `yaml:"namespaces"` // the first that matches says what is different there

	// Unknown says that this stands for a document which could not be read: what only that decides is not held against a pod.
	Unknown bool `yaml:"-"`
}

// A Gateway is a host of Alibaba Cloud as the administrator sees it.
type Gateway struct {
	Endpoint string `yaml:"endpoint"` // host name; "" is the region's
	// CAFile is a PEM file on the webhook, for a host with a private certificate authority. A pod keeps the text that it was created
	// with, in its spec.
	CAFile string `yaml:"caFile"`
	// CAConfigMap is where pods take the host's private certificate authority from instead: a ConfigMap of their own namespace, such as
	// trust-manager writes. The agents follow changes of it.
	CAConfigMap ConfigMapKey `yaml:"caConfigMap"`

	CABundle string `yaml:"-"` // the text of CAFile, which Load reads
}

// A ConfigMapKey is a key of a ConfigMap in each namespace with injected pods.
type ConfigMapKey struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"` // default ca.crt
}

func (g Gateway) check(m *config.Mistakes, where string) {
	ca := g.CAConfigMap
	switch {
	case ca == ConfigMapKey{}:
	case g.CAFile != "":
		m.Add(where+".caConfigMap", "contradicts %s.caFile; remove one of them", where)
	case !config.IsHostName(ca.Name): // Kubernetes' names of objects have the same shape
		m.Add(where+".caConfigMap.name", "%q does not name a ConfigMap; write for example kms-ca", ca.Name)
	case !configMapKey(ca.Key):
		m.Add(where+".caConfigMap.key", "%q is not a key of a ConfigMap; write for example ca.crt", ca.Key)
	}
}

// STS is that of Alibaba Cloud as the administrator sees it.
type STS struct {
	Gateway `yaml:",inline"`
	// SessionDuration is how long the sessions of the agents' identities last, 15m to 12h, but no longer than MaxSessionDuration of each
	// role that pods have: STS refuses a longer one, and the pod does not start. A longer session needs fewer exchanges with STS, but
	// stolen credentials are valid for longer, too. Sessions of second roles last an hour. Default an hour.
	SessionDuration *config.Duration `yaml:"sessionDuration"`
}

// The bounds of a session's life, from STS's AssumeRoleWithOIDC and AssumeRole (DurationSeconds).
const (
	shortestSession = 15 * time.Minute
	longestSession  = 12 * time.Hour
)

func (s STS) check(m *config.Mistakes) {
	if s.SessionDuration == nil {
		return
	}
	if d := time.Duration(*s.SessionDuration); d < shortestSession || d > longestSession || d%time.Second != 0 {
		m.Add("sts.sessionDuration", "%s is not from 15m to 12h in whole seconds, which is what STS gives sessions for; write for example 4h, "+
			"and set MaxSessionDuration of the pods' roles to at least as much", d)
	}
}

// Read decodes and checks a YAML configuration and fills in its defaults. CA files are not read. The error is a
// Mistakes with all that is wrong at once, or says where the text is not YAML.
func Read(document []byte) (Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(document))
	dec.KnownFields(true)
	var in Config
	if err := dec.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, config.YAMLError(err, yamlFields(reflect.TypeFor[Config](), nil))
	}
	return in, in.Complete()
}

// Complete fills in the defaults of a document that was decoded elsewhere, and checks it. Its error is as that of Read.
func (in *Config) Complete() error {
	in.fill()
	return in.check()
}

func (in *Config) fill() {
	if in.OIDCProviderARN == "" && in.AccountID != "" && in.ClusterID != "" {
		in.OIDCProviderARN = "acs:ram::" + in.AccountID + ":oidc-provider/ack-rrsa-" + in.ClusterID
	}
	in.Network = cmp.Or(in.Network, "vpc")
	in.KMS.Endpoint = cmp.Or(in.KMS.Endpoint, in.KMSHost(in.Region))
	in.STS.Endpoint = cmp.Or(in.STS.Endpoint, in.host("sts", in.Region))
	for _, gateway := range []*Gateway{&in.KMS, &in.STS.Gateway} {
		if ca := &gateway.CAConfigMap; ca.Name != "" && ca.Key == "" {
			ca.Key = "ca.crt"
		}
	}
	in.Agent = inherit(in.Agent, initial())
	in.Allow = inherit(in.Allow, Allow{
		PodRoles: new(true), Roles: []string{"acs:ram::" + in.AccountID + ":role/*"}, Secrets: []string{"*"},
	})
}

// KMSHost returns the host of the shared KMS gateway of a region on the administrator's network.
func (in Config) KMSHost(region string) string { return in.host("kms", region) }

// VPC reports whether the agents call Alibaba Cloud from inside its network.
func (in Config) VPC() bool { return in.Network == "vpc" }

func (in Config) host(service, region string) string {
	if in.VPC() {
		service += "-vpc"
	}
	return service + "." + region + ".aliyuncs.com"
}

var (
	clusterID    = regexp.MustCompile(`^[a-z0-9-]+$`)
	configMapKey = regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`).MatchString
)

func (in Config) check() error {
	var m config.Mistakes
	must := func(where, value, example string, ok func(string) bool) {
		switch {
		case value == "":
			m.Add(where, "is missing; write for example %s", example)
		case !ok(value):
			m.Add(where, "%q is not right; write for example %s", value, example)
		}
	}
	must("accountID", in.AccountID, `"1234567890123456"`, config.IsAccount)
	must("region", in.Region, "cn-hangzhou", config.IsRegion)
	if in.ClusterID != "" {
		must("clusterID", in.ClusterID, "c0123456789abcdef", clusterID.MatchString)
	} else if in.OIDCProviderARN == "" && in.AccountID != "" {
		m.Add("clusterID", "is missing; write the ACK cluster's id, or oidcProviderARN")
	}
	if in.OIDCProviderARN != "" && !strings.HasPrefix(in.OIDCProviderARN, "acs:ram::") {
		m.Add("oidcProviderARN", "%q is not right; write acs:ram::<account>:oidc-provider/<name>", in.OIDCProviderARN)
	}
	if in.Network != "vpc" && in.Network != "public" {
		m.Add("network", "%s", config.NotOneOf(in.Network, []string{"vpc", "public"}))
	}
	if in.Region != "" { // else the defaults of the hosts are wrong for that reason alone
		must("kms.endpoint", in.KMS.Endpoint, "kms-vpc.cn-hangzhou.aliyuncs.com", config.IsHostName)
		must("sts.endpoint", in.STS.Endpoint, "sts-vpc.cn-hangzhou.aliyuncs.com", config.IsHostName)
	}
	in.KMS.check(&m, "kms")
	in.STS.Gateway.check(&m, "sts")
	in.STS.check(&m)
	if in.Agent.Image == "" {
		m.Add("agent.image", "is missing; write the kms-agent image of the webhook's own version")
	}
	in.Agent.check(&m, "agent")
	in.Allow.check(&m, "allow")
	for i, ns := range in.Namespaces {
		ns.check(&m, fmt.Sprintf("namespaces[%d]", i))
	}
	return m.Err()
}

// yamlFields collects the names of a struct's YAML fields at every depth, to suggest one for a name that is not among them.
func yamlFields(t reflect.Type, names []string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return names
	}
	for field := range t.Fields() {
		name, inline, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "-" || name == "" && inline == "" {
			continue
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
		names = yamlFields(field.Type, names)
	}
	return names
}

// Load is Read with the content of the CA files, which read returns by their names in the configuration.
func Load(document []byte, read func(name string) ([]byte, error)) (Config, error) {
	in, err := Read(document)
	if err != nil {
		return Config{}, err
	}
	for _, gateway := range []struct {
		field string
		*Gateway
	}{{"kms.caFile", &in.KMS}, {"sts.caFile", &in.STS.Gateway}} {
		if gateway.CAFile == "" {
			continue
		}
		text, err := read(gateway.CAFile)
		if err == nil {
			gateway.CABundle, err = certificates(text)
		}
		if err != nil {
			return Config{}, fmt.Errorf("%s: %s: %w", gateway.field, gateway.CAFile, err)
		}
	}
	return in, nil
}

// certificates returns the certificates of a PEM file and nothing else of it: they end up in pods, where a private key that lies
// beside them must not.
func certificates(text []byte) (string, error) {
	var out bytes.Buffer
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", err
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	if out.Len() == 0 {
		return "", errors.New("has no certificate in PEM form")
	}
	return out.String(), nil
}
