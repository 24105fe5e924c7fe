package emulator

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	stageCurrent  = "ACSCurrent"
	stagePrevious = "ACSPrevious"
	typeGeneric   = "Generic"

	maxSecretBytes = 30720
	maxTags        = 20
	maxTag         = 128 // characters of a tag's key, and of its value
)

// secretTypes are those of the API's documentation. Generic secrets are written by people, the others are managed:
// KMS itself rotates them.
var secretTypes = []string{typeGeneric, "Rds", "RAMCredentials", "ECS", "PolarDB", "Redis"}

var secretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,192}$`)

// Secret is a KMS secret. Its ARN is acs:kms:<region>:<account>:secret/<name>.
type Secret struct {
	Account string            `yaml:"account" json:"account,omitempty"`
	Region  string            `yaml:"region" json:"region,omitempty"`
	Name    string            `yaml:"name" json:"name"`
	Type    string            `yaml:"type" json:"type,omitempty"` // Generic (default), Rds, RAMCredentials, ECS, PolarDB or Redis
	Tags    map[string]string `yaml:"tags" json:"tags,omitempty"` // what conditions on kms:tag/<key> look at; at most 20
	// Key is the ID of the key that encrypts it, on which an instance's gateway asks for kms:Decrypt. Its tags are those of the secret.
	// Default: key-secrets.
	Key      string           `yaml:"key" json:"key,omitempty"`
	Value    `yaml:",inline"` // of the only version, v1, for a secret that lists none
	Versions []Version        `yaml:"versions" json:"versions,omitempty"` // in the order of their creation
	// ExtendedConfig is JSON text, answered for managed secrets when FetchExtendedConfig is set.
	ExtendedConfig string `yaml:"extendedConfig" json:"extendedConfig,omitempty"`
	// AutomaticRotation of a managed secret: Enabled, Disabled (default) or Invalid.
	AutomaticRotation string `yaml:"automaticRotation" json:"automaticRotation,omitempty"`
	// RotationInterval of a managed secret in seconds with their unit, as in 604800s.
	RotationInterval string `yaml:"rotationInterval" json:"rotationInterval,omitempty"`
	// NextRotation of a managed secret. Default: an interval from now, if rotation is enabled.
	NextRotation time.Time `yaml:"nextRotation" json:"nextRotation,omitzero"`

	created, lastRotation time.Time
}

// Version is one value of a secret.
type Version struct {
	ID string `yaml:"id" json:"id,omitempty"` // unique within the secret. Default: v1, v2 and so on.
	// Stages are labels of which each sits on one version. Default: ACSCurrent for the last version and
	// ACSPrevious for the one before.
	Stages []string `yaml:"stages" json:"stages,omitempty"`
	Value  `yaml:",inline"`
}

// Value is the secret itself, at most 30720 bytes: either text or base64 of anything.
type Value struct {
	Text   string `yaml:"text" json:"text,omitempty"`
	Binary string `yaml:"binary" json:"binary,omitempty"`
}

func (v Value) check() error {
	switch {
	case v.Text == "" && v.Binary == "":
		return errors.New("value is missing: want text or binary")
	case v.Text != "" && v.Binary != "":
		return errors.New("want either text or binary")
	case !utf8.ValidString(v.Text):
		return errors.New("text is not UTF-8: use binary")
	}
	size := len(v.Text)
	if v.Binary != "" {
		raw, err := base64.StdEncoding.DecodeString(v.Binary)
		if err != nil {
			// The decoder's error is not wrapped: it reveals a part of the value.
			return errors.New("binary is not base64")
		}
		size = len(raw)
	}
	if size > maxSecretBytes {
		return fmt.Errorf("value has %d bytes: at most %d", size, maxSecretBytes)
	}
	return nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("%d tags: at most %d", len(tags), maxTags)
	}
	for key, value := range tags {
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxTag || utf8.RuneCountInString(value) > maxTag:
			return fmt.Errorf("tag %q: key and value have at most %d characters, the key at least one", key, maxTag)
		case strings.HasPrefix(key, "aliyun") || strings.HasPrefix(key, "acs:"):
			return fmt.Errorf("tag %q: keys that begin with aliyun or acs: are the cloud's own", key)
		}
	}
	return nil
}

func (s *Secret) arn() string {
	return "acs:kms:" + s.Region + ":" + s.Account + ":secret/" + s.Name
}

// resource is what an action on the secret is asked for: kms:Decrypt is a right on keys.
func (s *Secret) resource(action string) string {
	if action == actionDecrypt {
		return "acs:kms:" + s.Region + ":" + s.Account + ":key/" + cmp.Or(s.Key, "key-secrets")
	}
	return s.arn()
}

func (s *Secret) managed() bool { return s.Type != typeGeneric }

// complete fills what the secret leaves open and reports every mistake.
func (s *Secret) complete(d defaults, now time.Time) error {
	s.Account, s.Region = cmp.Or(s.Account, d.account), cmp.Or(s.Region, d.region)
	s.Type = cmp.Or(s.Type, typeGeneric)
	s.created = now
	var errs []error
	if !secretName.MatchString(s.Name) {
		errs = append(errs, fmt.Errorf("name %q: want 1 to 192 letters, digits and /_+=.@-", s.Name))
	}
	if !slices.Contains(secretTypes, s.Type) {
		errs = append(errs, fmt.Errorf("type %q: want one of %q", s.Type, secretTypes))
	}
	errs = append(errs, checkTags(s.Tags), s.completeRotation(now), s.completeVersions())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("secret %s: %w", s.Name, err)
	}
	return nil
}

func (s *Secret) completeRotation(now time.Time) error {
	if !s.managed() {
		if s.AutomaticRotation != "" || s.RotationInterval != "" || s.ExtendedConfig != "" || !s.NextRotation.IsZero() {
			return errors.New("only managed secrets have rotation and extended configuration")
		}
		return nil
	}
	s.AutomaticRotation = cmp.Or(s.AutomaticRotation, "Disabled")
	if !slices.Contains([]string{"Enabled", "Disabled", "Invalid"}, s.AutomaticRotation) {
		return fmt.Errorf("automaticRotation %q: want Enabled, Disabled or Invalid", s.AutomaticRotation)
	}
	if s.AutomaticRotation != "Enabled" {
		return nil
	}
	if s.interval() <= 0 {
		return fmt.Errorf("rotationInterval %q: want seconds, as in 604800s", s.RotationInterval)
	}
	if s.NextRotation.IsZero() {
		s.NextRotation = now.Add(s.interval())
	}
	return nil
}

func (s *Secret) interval() time.Duration {
	if d, err := time.ParseDuration(s.RotationInterval); err == nil {
		return d
	}
	return 0
}

func (s *Secret) completeVersions() error {
	if len(s.Versions) == 0 {
		s.Versions = []Version{{Value: s.Value}}
	} else if s.Value != (Value{}) {
		return errors.New("want either a value or versions")
	}
	s.Value = Value{}
	labelled := slices.ContainsFunc(s.Versions, func(v Version) bool { return v.Stages != nil })
	ids, stages := map[string]bool{}, map[string]bool{}
	for i := range s.Versions {
		v := &s.Versions[i]
		v.ID = cmp.Or(v.ID, "v"+strconv.Itoa(i+1))
		switch {
		case labelled:
		case i == len(s.Versions)-1:
			v.Stages = []string{stageCurrent}
		case i == len(s.Versions)-2:
			v.Stages = []string{stagePrevious}
		}
		if err := v.check(); err != nil {
			return fmt.Errorf("version %s: %w", v.ID, err)
		}
		if ids[v.ID] {
			return fmt.Errorf("version %s is listed twice", v.ID)
		}
		ids[v.ID] = true
		for _, stage := range v.Stages {
			if stages[stage] {
				return fmt.Errorf("stage %s is on two versions", stage)
			}
			stages[stage] = true
		}
	}
	if !stages[stageCurrent] {
		return errors.New("no version has the stage " + stageCurrent)
	}
	return nil
}

// rotate adds the version as the current one, as PutSecretValue and the rotation of managed secrets do.
func (s *Secret) rotate(v Version, now time.Time) error {
	if err := v.check(); err != nil {
		return fmt.Errorf("secret %s: %w", s.Name, err)
	}
	used := func(id string) bool {
		return slices.ContainsFunc(s.Versions, func(v Version) bool { return v.ID == id })
	}
	if used(v.ID) {
		return fmt.Errorf("secret %s: version %s exists", s.Name, v.ID)
	}
	for i := len(s.Versions) + 1; v.ID == "" || used(v.ID); i++ {
		v.ID = "v" + strconv.Itoa(i)
	}
	v.Stages = append(slices.Clone(v.Stages), stageCurrent)
	slices.Sort(v.Stages)
	v.Stages = slices.Compact(v.Stages)
	// Readers hold the old slices without a lock, so versions are replaced, not changed.
	versions := make([]Version, 0, len(s.Versions)+1)
	for _, old := range s.Versions {
		wasCurrent := slices.Contains(old.Stages, stageCurrent)
		var kept []string
		for _, stage := range old.Stages {
			if stage != stagePrevious && !slices.Contains(v.Stages, stage) {
				kept = append(kept, stage)
			}
		}
		if wasCurrent {
			kept = append(kept, stagePrevious)
		}
		old.Stages = kept
		versions = append(versions, old)
	}
	s.Versions = append(versions, v)
	if s.managed() {
		s.lastRotation = now
		if s.AutomaticRotation == "Enabled" {
			s.NextRotation = now.Add(s.interval())
		}
	}
	return nil
}
