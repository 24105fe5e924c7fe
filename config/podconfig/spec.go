// Package podconfig reads what a pod asks for in its annotations, and documents them.
package podconfig

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Mode is how a pod gets its files and whether they are kept fresh.
type Mode string

// The modes.
const (
	ModeSidecar Mode = "sidecar" // an init container, then a sidecar that refreshes
	ModeInit    Mode = "init"    // an init container only
	ModeSingle  Mode = "single"  // one native sidecar, gated by its postStart hook; no init container
)

// Spec is what a pod's annotations ask for, with the contract's defaults filled in.
type Spec struct {
	Inject bool // false: the pod said no, or said nothing; the rest is empty

	Secrets         []Secret          // sorted by File; may be empty with Env or API
	Env             []config.Variable // sorted by Name
	Identity        config.Identity
	RoleARN         string // at most one of RoleARN and RoleName, and only with RRSA
	RoleName        string
	TokenExpiration int64 // seconds
	Mode            Mode
	Containers      []string // sorted; empty: all
	SkipContainers  []string // sorted; excludes Containers
	MountPath       string
	RefreshInterval time.Duration    // 0: never
	OnChange        string           // what to notify when files changed, for ParseOnChange
	API             *config.LocalAPI // nil: off
	AppIdentity     bool
	InitLast        bool
	AgentRequests   map[string]string // resource name to quantity; what is missing is the administrator's default
	AgentLimits     map[string]string
	LogLevel        string
	LogFormat       string
	Region          string // "": the cluster's
	Endpoint        string // "": the administrator's
}

// Role returns the ARN of the RAM role that the pod itself names, and the annotation by which it does; "" if it names none.
func (s *Spec) Role(accountID string) (arn, annotation string) {
	switch {
	case s.RoleARN != "":
		return s.RoleARN, Prefix + "role-arn"
	case s.RoleName != "":
		return "acs:ram::" + accountID + ":role/" + s.RoleName, Prefix + "role-name"
	}
	return "", ""
}

// Parse reads a pod's annotations; those outside Prefix are ignored. It returns all that is wrong at once, with a Spec of what could be
// read. JMESPath expressions and templates are not looked into.
func Parse(annotations map[string]string) (Spec, config.Mistakes) {
	keys, size, files := make([]string, 0, len(annotations)), 0, 0
	for key, value := range annotations {
		if rest, ours := strings.CutPrefix(key, Prefix); ours && rest != injectedKey {
			keys = append(keys, rest)
			size += len(key) + min(len(value), maxValue) // what is longer is refused by itself
			if strings.HasPrefix(rest, "secret.") {
				files++
			}
		}
	}
	if len(keys) == 0 {
		return Spec{}, nil
	}
	sort.Strings(keys)
	if inject := annotations[Prefix+injectKey]; inject == "false" {
		return Spec{}, nil
	}
	if size > maxAnnotations {
		return Spec{}, config.Mistakes{{Where: Prefix + "*",
			Problem: fmt.Sprintf("these annotations have %d bytes together; Kubernetes allows %d for all annotations of an object", size,
				maxAnnotations)}}
	}

	p := parser{Spec: Spec{
		Inject:          annotations[Prefix+injectKey] == "true",
		TokenExpiration: 3600,
		Mode:            ModeSidecar,
		MountPath:       config.DefaultSecretsDir,
		RefreshInterval: config.DefaultRefreshInterval,
		LogLevel:        config.DefaultLogLevel,
		LogFormat:       config.DefaultLogFormat,
	}, localAPI: config.LocalAPI{TokenFile: config.APITokenFile}}
	p.Secrets = slices.Grow(p.Secrets, files)
	for _, key := range keys {
		p.annotation(key, annotations[Prefix+key])
	}
	p.InitLast = p.initPosition == "last"
	p.sortVariables()
	p.contradictions()
	if p.apiOn {
		if p.localAPI.Port == 0 && p.localAPI.Socket == "" {
			p.localAPI.Port = config.DefaultAPIPort
		}
		p.API = &p.localAPI
	}
	p.Secrets = append(p.Secrets, p.mistaken...)
	return p.Spec, p.mistakes
}

type parser struct {
	Spec
	mistaken []Secret // what could be read of secrets with a mistake
	set      []string // the keys of rows that the pod has
	wrong    []string // the keys of rows of which an annotation has a mistake
	meant    []string // the keys of rows that mistyped ones were meant to be
	apiOn    bool
	localAPI config.LocalAPI // is API if apiOn
	mistakes config.Mistakes
	yaml     int // tokens so far, which are expensive to parse

	initPosition string // is InitLast
}

// maxValue is how long an annotation may be, and maxAnnotations how long all of them together: that is Kubernetes' own limit, but it
// looks only after everybody has read them.
const (
	maxValue       = 64 << 10
	maxAnnotations = 256 << 10
)

// maxNames is the most names that a list may have: of containers, patterns, keys, secrets of one file, variables.
const maxNames = 1000

// maxErrors is the most errors that are reported of one annotation.
const maxErrors = 50

func tooManyNames(n int) error {
	return fmt.Errorf("has %d names in it; at most %d are allowed", n, maxNames)
}

func errorsOf(err error) []error {
	if err == nil {
		return nil
	}
	return []error{err}
}

func (p *parser) has(key string) bool { return slices.Contains(p.set, key) }

func (p *parser) annotation(key, value string) {
	row, argument := rowOf(key)
	if err := checkKey(row, argument, key); err != nil {
		p.mistake(row, key, err)
		return
	}
	if row == nil {
		u := &unknownKey{}
		if !p.mistakes.Full() { // to look for what was meant takes longer than all the rest
			u = unknown(key)
			p.meant = append(p.meant, u.meant)
		}
		p.mistake(nil, key, u)
		return
	}
	if !p.has(row.key) {
		p.set = append(p.set, row.key)
	}
	if len(value) > maxValue {
		p.mistake(row, key, fmt.Errorf("has %d bytes; at most %d are allowed", len(value), maxValue))
		return
	}
	for _, err := range row.parse(p, argument, value) {
		p.mistake(row, key, err)
	}
}

func (p *parser) mistake(row *row, key string, err error) {
	if row != nil && !slices.Contains(p.wrong, row.key) {
		p.wrong = append(p.wrong, row.key)
	}
	p.mistakes.Add(Prefix+key, "%s", err)
}
