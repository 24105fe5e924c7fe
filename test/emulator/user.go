package emulator

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

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

// accessKey is the caller that signs with a RAM user's key.
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

// permissions are the policies attached to the caller's user or role. A role deleted since has none left.
func (r *directory) permissions(caller session) []policy.Document {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if caller.user != "" {
		return r.users[caller.user].permissions
	}
	return r.roles[caller.role].permissions
}
