package emulator

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// Config is what exists in the emulated cloud when it starts. The control API changes roles and secrets later.
type Config struct {
	Account string `yaml:"account"` // the default owner of everything below: 16 digits, in quotes in YAML
	// Region is the default of secrets, and of requests to a host that names none, such as 127.0.0.1.
	// Default: cn-hangzhou.
	Region        string         `yaml:"region"`
	OIDCProviders []OIDCProvider `yaml:"oidcProviders"` // the identity providers registered in RAM
	Roles         []Role         `yaml:"roles"`         // the RAM roles
	Users         []User         `yaml:"users"`         // the RAM users
	Node          Node           `yaml:"node"`          // the ECS instance whose metadata service is served
	Instances     []Instance     `yaml:"instances"`     // the KMS instances
	Secrets       []Secret       `yaml:"secrets"`       // the KMS secrets
}

// OIDCProvider is an identity provider whose tokens roles may trust.
// Its ARN is acs:ram::<account>:oidc-provider/<name>.
type OIDCProvider struct {
	Account   string   `yaml:"account"`
	Name      string   `yaml:"name"`      // ack-rrsa-<cluster ID> for an ACK cluster
	Issuer    string   `yaml:"issuer"`    // what the tokens' iss claim must be
	ClientIDs []string `yaml:"clientIDs"` // the audiences accepted. Default: sts.aliyuncs.com.
	JWKS      JWKS     `yaml:"jwks"`      // says where the issuer's public keys are. Default: where its discovery document says.
}

// JWKS is the place of an issuer's public keys: at most one of Document, File and URL.
type JWKS struct {
	Document  string `yaml:"document"`  // the key set itself
	File      string `yaml:"file"`      // holds the key set; it is read once
	URL       string `yaml:"url"`       // of the key set, fetched when needed and again when a token names an unknown key
	CAFile    string `yaml:"caFile"`    // a PEM file with the certificate authorities to trust when fetching. Default: the system's.
	TokenFile string `yaml:"tokenFile"` // holds a bearer token to send when fetching, such as the pod's own ServiceAccount token
}

// Role is a RAM role. Its ARN is acs:ram::<account>:role/<name>.
type Role struct {
	Account     string   `yaml:"account" json:"account,omitempty"`
	Name        string   `yaml:"name" json:"name"`
	TrustPolicy string   `yaml:"trustPolicy" json:"trustPolicy"`     // the JSON text that says who may assume the role
	Policies    []string `yaml:"policies" json:"policies,omitempty"` // the JSON texts of the permission policies attached to the role
	// MaxSessionDuration in seconds, 3600 to 43200. Default: 3600.
	MaxSessionDuration int `yaml:"maxSessionDuration" json:"maxSessionDuration,omitempty"`
}

// User is a RAM user. Its ARN is acs:ram::<account>:user/<name>.
type User struct {
	Account    string      `yaml:"account"`
	Name       string      `yaml:"name"`
	AccessKeys []AccessKey `yaml:"accessKeys"` // that sign for the user
	Policies   []string    `yaml:"policies"`   // the JSON texts of the permission policies attached to the user
}

// AccessKey is a long-lived pair that signs requests.
type AccessKey struct {
	ID     string `yaml:"id"`
	Secret string `yaml:"secret"`
}

// Node is an ECS instance.
type Node struct {
	// Role is the name or ARN of the RAM role attached to the instance; its trust policy must name the service
	// ecs.aliyuncs.com. Default: none is attached.
	Role string `yaml:"role"`
}

// Instance is a KMS instance. Its gateway, <id>.cryptoservice.kms.aliyuncs.com, gives out the secrets of the instance's
// account and region, to RAM identities (ACS3) as well as to client keys (protobuf).
type Instance struct {
	Account      string        `yaml:"account"`
	Region       string        `yaml:"region"`
	ID           string        `yaml:"id"`           // as in kst-hzz62ee817bvyyr5x
	AccessPoints []AccessPoint `yaml:"accessPoints"` // the application access points, the identities of programs without a RAM identity
}

// AccessPoint is an application access point of an instance.
type AccessPoint struct {
	Name       string      `yaml:"name"`
	Secrets    []string    `yaml:"secrets"`    // that it may read, by name; * stands for any characters
	ClientKeys []ClientKey `yaml:"clientKeys"` // that sign for it
}

// ClientKey is the part of a client key that KMS keeps. "kms-emulator client-key" makes both parts.
type ClientKey struct {
	ID          string `yaml:"id"`          // as in KAAP.1c2e…
	Certificate string `yaml:"certificate"` // PEM; the key is good for as long as it is valid
}

// LoadConfig reads a YAML file. A field that it does not know is an error.
func LoadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	config, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	return config, nil
}

// ParseConfig reads the text of a configuration file.
func ParseConfig(text []byte) (Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var config Config
	if err := dec.Decode(&config); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("want one YAML document")
	}
	return config, nil
}

const (
	defaultRegion   = "cn-hangzhou"
	defaultAudience = "sts.aliyuncs.com"
)

// defaults fill the account and region that an entry leaves open.
type defaults struct {
	account, region string
}

func (c Config) defaults() (defaults, error) {
	if !isAccount(c.Account) {
		return defaults{}, fmt.Errorf("account %q: want the digits of an Alibaba Cloud account ID, in quotes", c.Account)
	}
	return defaults{account: c.Account, region: cmp.Or(c.Region, defaultRegion)}, nil
}

func isAccount(id string) bool {
	for _, c := range id {
		if c < '0' || c > '9' {
			return false
		}
	}
	return id != ""
}
