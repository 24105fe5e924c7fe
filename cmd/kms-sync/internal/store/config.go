package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

// Config is what the administrator allows: the fields of the webhook's configuration that are not about pods, and what only kms-sync
// has. In allow, for all and for some namespaces, these are roles, secrets and endpoints; the default of endpoints is Alibaba Cloud's
// hosts of KMS.
type Config struct {
	clusterconfig.Config `yaml:",inline"`
	// ControllerNamespaces are those that the controller's own identities serve: its ServiceAccount's role, the access key in its
	// environment, its node's role. Default none.
	ControllerNamespaces []Namespaces `yaml:"controllerNamespaces"`
	// NodeRole is whether its node's role is among them. Default false.
	NodeRole bool `yaml:"nodeRole"`
	// ClusterServiceAccounts are ServiceAccounts that a ClusterSecretStore may name for all namespaces that may use it, as patterns
	// of namespace/name. Default none: it names ServiceAccounts of the ExternalSecret's namespace.
	ClusterServiceAccounts []string `yaml:"clusterServiceAccounts"`
	// SharedSecrets are Secrets with access keys or client keys that stores may name from other namespaces, as patterns of
	// namespace/name. Default none.
	SharedSecrets []string `yaml:"sharedSecrets"`
	// CrossNamespaceStores is whether an ExternalSecret may name a SecretStore of another namespace. Default false.
	CrossNamespaceStores bool `yaml:"crossNamespaceStores"`
	// Compat are the differences from ack-secret-manager that are switched off.
	Compat Compat `yaml:"-"`
}

// Compat has what ack-secret-manager does otherwise.
type Compat struct {
	// UnanchoredRegexes has namespaceRegexes match parts of names, so that prod admits preprod.
	UnanchoredRegexes bool
}

// Namespaces are those that match both, of which one may be left out.
type Namespaces struct {
	Names    []string                `yaml:"names"` // patterns
	Selector *clusterconfig.Selector `yaml:"selector"`
}

// The hosts that ack-secret-manager takes as kmsEndpoint.
var gateways = []string{"kms.*.aliyuncs.com", "kms-vpc.*.aliyuncs.com", "*.cryptoservice.kms.aliyuncs.com"}

// Read decodes and checks a YAML configuration, and fills in its defaults. CA files are not read.
func Read(document []byte) (Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(document))
	dec.KnownFields(true)
	var c Config
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("the configuration of kms-sync: %w", config.YAMLError(err, nil))
	}
	if err := c.aboutPods(); err != nil {
		return Config{}, err
	}
	if c.Allow.Endpoints == nil {
		c.Allow.Endpoints = gateways
	}
	c.Agent.Image = "none" // which the webhook's configuration must have
	if err := c.Complete(); err != nil {
		return Config{}, err
	}
	_, err := c.compile()
	return c, err
}

// aboutPods returns an error for each field that only the webhook has.
func (c Config) aboutPods() error {
	var m config.Mistakes
	check := func(where string, allow clusterconfig.Allow, agent clusterconfig.AgentDefaults) {
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"agent", !reflect.ValueOf(agent).IsZero()}, {"allow.podRoles", allow.PodRoles != nil},
			{"allow.regions", allow.Regions != nil}, {"allow.identities", allow.Identities != nil},
		} {
			if f.set {
				m.Add(where+f.name, "is about pods; remove it from the configuration of kms-sync")
			}
		}
	}
	check("", c.Allow, c.Agent)
	for i, n := range c.Namespaces {
		check(fmt.Sprintf("namespaces[%d].", i), n.Allow, n.Agent)
	}
	for _, g := range []struct {
		name string
		clusterconfig.Gateway
	}{{"kms", c.KMS}, {"sts", c.STS.Gateway}} {
		if g.CAConfigMap != (clusterconfig.ConfigMapKey{}) {
			m.Add(g.name+".caConfigMap", "is in the namespaces of pods; write the certificates into the chart's value caFiles, and the "+
				"name of their file there into %s.caFile", g.name)
		}
	}
	return m.Err()
}

// policy is a Config with its selectors parsed.
type policy struct {
	Config
	controller []chosen
	namespaces []differently
}

type chosen struct {
	names    []string
	selector labels.Selector // nil: by name alone
}

type differently struct {
	chosen
	allow clusterconfig.Allow
}

func (c Config) compile() (policy, error) {
	p := policy{Config: c}
	var errs []error
	choose := func(where string, names []string, s *clusterconfig.Selector) (of chosen) {
		of.names = names
		if len(names) == 0 && s == nil {
			errs = append(errs, fmt.Errorf("%s matches no namespace; write names: [prod, team-a-*], or selector: {matchLabels: {team: a}}", where))
		}
		if s != nil {
			var err error
			if of.selector, err = selector(*s); err != nil {
				errs = append(errs, fmt.Errorf("%s.selector: %w", where, err))
			}
		}
		return of
	}
	for i, n := range c.ControllerNamespaces {
		p.controller = append(p.controller, choose(fmt.Sprintf("controllerNamespaces[%d]", i), n.Names, n.Selector))
	}
	for i, n := range c.Namespaces {
		p.namespaces = append(p.namespaces, differently{
			choose(fmt.Sprintf("namespaces[%d]", i), n.Names, n.Selector), c.In(n).Allow,
		})
	}
	return p, errors.Join(errs...)
}

func selector(of clusterconfig.Selector) (labels.Selector, error) {
	same := metav1.LabelSelector{MatchLabels: of.MatchLabels}
	for _, e := range of.MatchExpressions {
		same.MatchExpressions = append(same.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values,
		})
	}
	return metav1.LabelSelectorAsSelector(&same)
}

func (c chosen) has(ns namespace) bool {
	return (len(c.names) == 0 || config.AnyMatches(c.names, ns.name)) && (c.selector == nil || c.selector.Matches(ns.labels))
}

// serves reports whether the controller's own identities serve a namespace.
func (p policy) serves(ns namespace) bool {
	return slices.ContainsFunc(p.controller, func(c chosen) bool { return c.has(ns) })
}

// allow is what is allowed in a namespace: the first of the document's entries that matches it says what is different there.
func (p policy) allow(ns namespace) clusterconfig.Allow {
	for _, d := range p.namespaces {
		if d.has(ns) {
			return d.allow
		}
	}
	return p.Allow
}
