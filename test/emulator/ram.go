package emulator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/oidc"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// Bounds of a role's MaxSessionDuration in seconds, from RAM's CreateRole.
const (
	minMaxSession = 3600
	maxMaxSession = 43200
)

var entityName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// role is a checked Role with its policies parsed.
type role struct {
	Role
	arn         string
	trust       policy.Document
	permissions []policy.Document
}

// directory is what RAM knows, by ARN.
type directory struct {
	mu        sync.RWMutex
	roles     map[string]role
	providers map[string]oidc.Provider
	users     map[string]user
	keys      map[string]accessKey // by their IDs
}

func newDirectory() directory {
	return directory{roles: map[string]role{}, providers: map[string]oidc.Provider{}, users: map[string]user{}, keys: map[string]accessKey{}}
}

func (r *directory) role(arn string) (role, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found, ok := r.roles[arn]
	return found, ok
}

func (r *directory) provider(arn string) (oidc.Provider, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found, ok := r.providers[arn]
	return found, ok
}

func newRole(in Role, d defaults) (role, error) {
	in.Account = cmp.Or(in.Account, d.account)
	in.MaxSessionDuration = cmp.Or(in.MaxSessionDuration, minMaxSession)
	out := role{Role: in, arn: roleARN(in.Name, in.Account)}
	var errs []error
	if !entityName.MatchString(in.Name) {
		errs = append(errs, fmt.Errorf("name %q: want 1 to 128 letters, digits and ._-", in.Name))
	}
	if in.MaxSessionDuration < minMaxSession || in.MaxSessionDuration > maxMaxSession {
		errs = append(errs, fmt.Errorf("maxSessionDuration %d: want %d to %d seconds", in.MaxSessionDuration, minMaxSession, maxMaxSession))
	}
	var err error
	if out.trust, err = policy.ParseTrust(in.TrustPolicy); err != nil {
		errs = append(errs, fmt.Errorf("trust policy: %w", err))
	}
	for i, text := range in.Policies {
		doc, err := policy.ParsePermissions(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("policy %d: %w", i+1, err))
		}
		out.permissions = append(out.permissions, doc)
	}
	if err := errors.Join(errs...); err != nil {
		return role{}, fmt.Errorf("role %s: %w", in.Name, err)
	}
	return out, nil
}

func newProvider(in OIDCProvider, d defaults) (arn string, _ oidc.Provider, _ error) {
	out := oidc.Provider{Issuer: in.Issuer, ClientIDs: in.ClientIDs}
	if out.ClientIDs == nil {
		out.ClientIDs = []string{defaultAudience}
	}
	var err error
	switch {
	case !entityName.MatchString(in.Name):
		err = errors.New("want a name of 1 to 128 letters, digits and ._-")
	case !strings.HasPrefix(in.Issuer, "https://"):
		err = fmt.Errorf("issuer %q: want an https address", in.Issuer)
	default:
		out.Keys, err = newKeys(in)
	}
	if err != nil {
		return "", oidc.Provider{}, fmt.Errorf("OIDC provider %s: %w", in.Name, err)
	}
	return "acs:ram::" + cmp.Or(in.Account, d.account) + ":oidc-provider/" + in.Name, out, nil
}

func newKeys(in OIDCProvider) (oidc.KeySource, error) {
	given := 0
	for _, place := range []string{in.JWKS.Document, in.JWKS.File, in.JWKS.URL} {
		if place != "" {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, errors.New("jwks: want one of document, file and url")
	case in.JWKS.Document != "":
		return oidc.ParseKeys([]byte(in.JWKS.Document))
	case in.JWKS.File != "":
		document, err := os.ReadFile(in.JWKS.File)
		if err != nil {
			return nil, fmt.Errorf("jwks: %w", err)
		}
		return oidc.ParseKeys(document)
	}
	return oidc.NewRemote(oidc.RemoteConfig{
		Issuer: in.Issuer, URL: in.JWKS.URL, CAFile: in.JWKS.CAFile, TokenFile: in.JWKS.TokenFile,
	})
}

// PutRole creates the role or replaces it. Sessions of the role follow its new policies at once.
func (e *Emulator) PutRole(in Role) error {
	r, err := newRole(in, e.defaults)
	if err != nil {
		return err
	}
	e.ram.mu.Lock()
	defer e.ram.mu.Unlock()
	e.ram.roles[r.arn] = r
	return nil
}

// DeleteRole removes the role; its sessions may do nothing any more. Name is the role's name or ARN.
func (e *Emulator) DeleteRole(name string) error {
	e.ram.mu.Lock()
	defer e.ram.mu.Unlock()
	arn := roleARN(name, e.defaults.account)
	if _, ok := e.ram.roles[arn]; !ok {
		return fmt.Errorf("role %s: %w", arn, ErrNotFound)
	}
	delete(e.ram.roles, arn)
	return nil
}

// Roles lists the roles by ARN.
func (e *Emulator) Roles() []Role {
	e.ram.mu.RLock()
	defer e.ram.mu.RUnlock()
	var list []Role
	for _, arn := range slices.Sorted(maps.Keys(e.ram.roles)) {
		list = append(list, e.ram.roles[arn].Role)
	}
	return list
}

func roleARN(name, account string) string {
	if strings.HasPrefix(name, "acs:ram::") {
		return name
	}
	return "acs:ram::" + account + ":role/" + name
}

// user is a checked User with its policies parsed.
type user struct {
	name, account, arn string
	permissions        []policy.Document
}

type accessKey struct {
	secret string
	user   string // ARN
}

func (r *directory) addUser(in User, d defaults) error {
	account := cmp.Or(in.Account, d.account)
	out := user{name: in.Name, account: account, arn: "acs:ram::" + account + ":user/" + in.Name}
	errs := []error{unique("user", out.arn, r.users)}
	if !entityName.MatchString(in.Name) {
		errs = append(errs, errors.New("want a name of 1 to 128 letters, digits and ._-"))
	}
	for i, text := range in.Policies {
		doc, err := policy.ParsePermissions(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("policy %d: %w", i+1, err))
		}
		out.permissions = append(out.permissions, doc)
	}
	for _, key := range in.AccessKeys {
		if key.ID == "" || key.Secret == "" {
			errs = append(errs, errors.New("an access key needs id and secret"))
		}
		errs = append(errs, unique("access key", key.ID, r.keys))
		r.keys[key.ID] = accessKey{secret: key.Secret, user: out.arn}
	}
	r.users[out.arn] = out
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("user %s: %w", in.Name, err)
	}
	return nil
}

// accessKey returns the caller that signs with a RAM user's key.
func (r *directory) accessKey(id string) (session, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	key, ok := r.keys[id]
	if !ok {
		return session{}, false
	}
	u := r.users[key.user]
	return session{accessKeyID: id, secret: key.secret, user: u.arn, name: u.name, account: u.account}, true
}

// permissions returns the policies attached to the caller's user or role. A role deleted since has none left.
func (r *directory) permissions(caller session) []policy.Document {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if caller.user != "" {
		return r.users[caller.user].permissions
	}
	return r.roles[caller.role].permissions
}
