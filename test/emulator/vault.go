package emulator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// ErrNotFound is wrapped by errors of control methods that speak of a secret, role or fault that does not exist.
var ErrNotFound = errors.New("not found")

// vault holds the secrets by ARN.
type vault struct {
	mu      sync.RWMutex
	secrets map[string]Secret
}

// get returns a copy; what it refers to is never changed in place.
func (v *vault) get(arn string) (Secret, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s, ok := v.secrets[arn]
	return s, ok
}

func (v *vault) change(arn string, f func(*Secret) error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.secrets[arn]
	if !ok {
		return fmt.Errorf("secret %s: %w", arn, ErrNotFound)
	}
	if err := f(&s); err != nil {
		return err
	}
	v.secrets[arn] = s
	return nil
}

// PutSecret creates the secret or replaces it with all its versions.
func (e *Emulator) PutSecret(s Secret) error {
	s.Tags, s.Versions = maps.Clone(s.Tags), slices.Clone(s.Versions)
	if err := s.complete(e.defaults, e.clock()); err != nil {
		return err
	}
	e.vault.mu.Lock()
	defer e.vault.mu.Unlock()
	e.vault.secrets[s.arn()] = s
	return nil
}

// Rotate adds a version, makes it the current one and the current one the previous. Here and below, name is the
// secret's name or ARN.
func (e *Emulator) Rotate(name string, v Version) error {
	return e.vault.change(secretARN(name, e.defaults), func(s *Secret) error { return s.rotate(v, e.clock()) })
}

// TagSecret replaces the secret's tags.
func (e *Emulator) TagSecret(name string, tags map[string]string) error {
	return e.vault.change(secretARN(name, e.defaults), func(s *Secret) error {
		if err := checkTags(tags); err != nil {
			return fmt.Errorf("secret %s: %w", s.Name, err)
		}
		s.Tags = maps.Clone(tags)
		return nil
	})
}

// DeleteSecret removes the secret at once; KMS's recovery window does not exist here.
func (e *Emulator) DeleteSecret(name string) error {
	e.vault.mu.Lock()
	defer e.vault.mu.Unlock()
	arn := secretARN(name, e.defaults)
	if _, ok := e.vault.secrets[arn]; !ok {
		return fmt.Errorf("secret %s: %w", arn, ErrNotFound)
	}
	delete(e.vault.secrets, arn)
	return nil
}

// Secrets lists the secrets by ARN, without any value.
func (e *Emulator) Secrets() []Secret {
	e.vault.mu.RLock()
	defer e.vault.mu.RUnlock()
	var list []Secret
	for _, arn := range slices.Sorted(maps.Keys(e.vault.secrets)) {
		s := e.vault.secrets[arn]
		s.Tags, s.Versions = maps.Clone(s.Tags), slices.Clone(s.Versions)
		for i := range s.Versions {
			s.Versions[i].Value = Value{}
			s.Versions[i].Stages = slices.Clone(s.Versions[i].Stages)
		}
		list = append(list, s)
	}
	return list
}

// secretARN gives the ARN of a secret that is named by its ARN or, within the account and region, by its name.
func secretARN(name string, d defaults) string {
	if strings.HasPrefix(name, "acs:kms:") {
		return name
	}
	return (&Secret{Account: d.account, Region: d.region, Name: name}).arn()
}

// shortName returns the name in a secret's ARN, or the name itself.
func shortName(name string) string {
	if _, after, ok := strings.Cut(name, ":secret/"); ok && strings.HasPrefix(name, "acs:kms:") {
		return after
	}
	return name
}
