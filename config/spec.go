package config

import (
	"errors"
	"slices"
	"sort"
	"strings"
	"time"
)

// A Mode is how a pod gets its files and whether they are kept fresh.
type Mode string

// The modes.
const (
	ModeSidecar Mode = "sidecar" // an init container, then a sidecar that refreshes
	ModeInit    Mode = "init"    // an init container only
	ModeSingle  Mode = "single"  // one native sidecar, gated by its startup probe; no init container
)

// Spec is what a pod's annotations ask for, with the contract's defaults filled in.
type Spec struct {
	Inject bool // false: the pod said no, or said nothing; the rest is empty

	Secrets         []Secret // sorted by File
	RoleARN         string   // at most one of RoleARN and RoleName
	RoleName        string
	TokenExpiration int64 // seconds
	Mode            Mode
	Containers      []string // empty: all
	SkipContainers  []string // excludes Containers
	MountPath       string
	RefreshInterval time.Duration // 0: never
	AppIdentity     bool
	InitLast        bool
	AgentRequests   map[string]string // resource name to quantity; what is missing is the operator's default
	AgentLimits     map[string]string
	LogLevel        string
	LogFormat       string
	Region          string // "": the cluster's
	Endpoint        string // "": the operator's
}

// Checks are the tests of a value that need a library this package does not import. A nil check accepts everything.
type Checks struct {
	Key func(expression string) error // the syntax of a JMESPath expression
}

// Parse reads a pod's annotations. Annotations outside Prefix are nobody's business here. The error is a Mistakes with all that
// is wrong at once.
func Parse(annotations map[string]string, checks Checks) (Spec, error) {
	keys := make([]string, 0, len(annotations))
	for key := range annotations {
		if rest, ours := strings.CutPrefix(key, Prefix); ours && rest != injectedKey {
			keys = append(keys, rest)
		}
	}
	if len(keys) == 0 {
		return Spec{}, nil
	}
	sort.Strings(keys)
	if inject := annotations[Prefix+injectKey]; inject == "false" {
		return Spec{}, nil
	}

	p := parser{Spec: Spec{
		Inject:          annotations[Prefix+injectKey] == "true",
		TokenExpiration: 3600,
		Mode:            ModeSidecar,
		MountPath:       "/var/run/kms/secrets",
		RefreshInterval: 5 * time.Minute,
		LogLevel:        "info",
		LogFormat:       "json",
	}, checks: checks, set: map[string]bool{}}
	for _, key := range keys {
		p.annotation(key, annotations[Prefix+key])
	}
	p.contradictions()
	if err := p.mistakes.err(); err != nil {
		return Spec{}, err
	}
	return p.Spec, nil
}

type parser struct {
	Spec
	checks   Checks
	set      map[string]bool
	mistakes Mistakes
}

func (p *parser) annotation(key, value string) {
	row, argument, err := find(key)
	if err != nil {
		p.mistakes.add(Prefix+key, "%s", err)
		return
	}
	p.set[row.key] = true
	for _, err := range row.parse(p, argument, value) {
		p.mistakes.add(Prefix+key, "%s", err)
	}
}

// contradictions are what no single annotation can be blamed for.
func (p *parser) contradictions() {
	if !p.set[injectKey] {
		p.mistakes.add(Prefix+injectKey, `is missing, so that the pod's other %s annotations would have no effect; add it with the value "true", or "false" to switch the injection off`, Prefix)
	}
	if p.Inject && len(p.Secrets) == 0 && !p.mistaken(Prefix+"secret.") {
		p.mistakes.add(Prefix+injectKey, `is "true", but no secret is asked for; add %ssecret.<file>: <name of a KMS secret>`, Prefix)
	}
	if p.RoleARN != "" && p.RoleName != "" {
		p.mistakes.add(Prefix+"role-name", "contradicts role-arn; keep one of the two")
	}
	if len(p.Containers) > 0 && len(p.SkipContainers) > 0 {
		p.mistakes.add(Prefix+"skip-containers", "contradicts containers, which already says which containers get the files; keep one of the two")
	}
	if p.Mode == ModeInit && p.set["refresh-interval"] {
		p.mistakes.add(Prefix+"refresh-interval", "contradicts mode: init, in which nothing refreshes; remove it, or use mode: sidecar")
	}
	if p.Mode == ModeSingle && p.set["init-position"] {
		p.mistakes.add(Prefix+"init-position", "contradicts mode: single, in which there is no init container; remove one of the two")
	}
	for i, a := range p.Secrets {
		for _, b := range p.Secrets[:i] {
			switch {
			case a.Path == b.Path:
				p.mistakes.add(Prefix+"secret."+a.File, "writes %s, which secret.%s writes too; give one of them another path", a.Path, b.File)
			case strings.HasPrefix(a.Path, b.Path+"/") || strings.HasPrefix(b.Path, a.Path+"/"):
				p.mistakes.add(Prefix+"secret."+a.File, "writes %s and secret.%s writes %s, so that one name would be a file and a folder; give one of them another path", a.Path, b.File, b.Path)
			}
		}
	}
}

func (p *parser) mistaken(prefix string) bool {
	return slices.ContainsFunc(p.mistakes, func(m Mistake) bool { return strings.HasPrefix(m.Where, prefix) })
}

// errNotAvailable refuses what the annotations' contract has but this version does not carry out: an annotation that is
// accepted and then ignored would be worse.
var errNotAvailable = errors.New("not available in this version of kms-agent-injector; remove it")
