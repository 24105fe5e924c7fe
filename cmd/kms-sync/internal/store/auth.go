package store

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// The variables of the controller's environment with its own credentials.
const (
	envKeyID         = "ACCESS_KEY_ID"
	envKeySecret     = "SECRET_ACCESS_KEY"
	envRole          = "ALICLOUD_ROLE_ARN"
	envSession       = "ALICLOUD_ROLE_SESSION_NAME"
	envExpiration    = "ALICLOUD_ROLE_SESSION_EXPIRATION"
	envProvider      = "ALICLOUD_OIDC_PROVIDER_ARN"
	envTokenFile     = "ALICLOUD_OIDC_TOKEN_FILE"
	envRemote        = "ALICLOUD_REMOTE_ROLE_ARN"
	envRemoteSession = "ALICLOUD_REMOTE_ROLE_SESSION_NAME"
)

// origin is where an identity is configured.
type origin struct {
	where     string
	namespace string // of a SecretStore; empty for all else
	session   string // the name of sessions that are given none
	own       bool   // in the controller's environment
}

// borrowed returns the name of a session of the controller's own identities. The store of a namespace does not choose it: ActionTrail
// would say that another namespace read the secret.
func (o origin) borrowed(name string) string {
	if o.namespace != "" {
		return o.session
	}
	return cmp.Or(name, o.session)
}

// accessKey is one in Secrets or in the environment.
type accessKey struct {
	name string // of the Secrets; empty: the environment
	read func(context.Context) (id, secret string, err error)
}

// environment returns the identity of the controller's environment.
func (q *query) environment(ctx context.Context) (Asker, error) {
	env := func(name string) string { return strings.TrimSpace(q.Getenv(name)) }
	auth := &v1alpha1.Auth{
		RAMRoleARN: env(envRole), RAMRoleSessionName: env(envSession), RoleSessionExpiration: env(envExpiration),
		OIDCProviderARN: env(envProvider), OIDCTokenFilePath: env(envTokenFile),
		RemoteRAMRoleARN: env(envRemote), RemoteRAMRoleSessionName: env(envRemoteSession),
	}
	id, secret := env(envKeyID), env(envKeySecret)
	var key *accessKey
	switch {
	case id != "" && secret != "":
		key = &accessKey{read: func(context.Context) (string, string, error) { return id, secret, nil }}
	case id+secret != "":
		return Asker{}, refuse(NotReady, "kms-sync's environment has only one of %s and %s; the administrator must set both", envKeyID,
			envKeySecret)
	}
	if !q.policy.serves(q.in) {
		return Asker{}, q.notServed("the object names no ServiceAccount by the annotation " + v1alpha1.AnnotationServiceAccount +
			" and no store, so that kms-sync's own identity would read the secret")
	}
	return q.identity(ctx, auth, key, origin{session: identity.SessionName("kms-sync"), own: true})
}

// notServed is the refusal of the controller's own identities.
func (q *query) notServed(why string) error {
	return refuse(Forbidden, "%s, and the administrator of this cluster does not list namespace %s in controllerNamespaces; "+
		"use a ServiceAccount of the namespace: kubectl annotate serviceaccount --namespace %s <name> %s=acs:ram::<account>:role/<role>, "+
		"and name it in the store's serviceAccountRef, or in the annotation %s of the ExternalSecret",
		why, q.in.name, q.in.name, rrsa.RoleARNAnnotation, v1alpha1.AnnotationServiceAccount)
}

// keyOf returns the access key that a store names; nil: none.
func (q *query) keyOf(auth *v1alpha1.Auth, o origin) (*accessKey, error) {
	id, secret := auth.AccessKey, auth.AccessKeySecret
	if id == nil || secret == nil { // neither is there
		return nil, nil
	}
	first, err := q.secretOf("KMS.KMSAuth.accessKey", *id, o)
	if err != nil {
		return nil, err
	}
	second, err := q.secretOf("KMS.KMSAuth.accessKeySecret", *secret, o)
	if err != nil {
		return nil, err
	}
	r := q.Resolver // an identity outlives the resolution
	return &accessKey{name: first.String() + ", " + second.String(), read: func(ctx context.Context) (string, string, error) {
		values, err := r.read(ctx, first, second)
		if err != nil {
			return "", "", err // which names no store: all that have an equal identity share it
		}
		// Values in a Secret often end in the newline of an editor or of echo.
		return strings.TrimSpace(string(values[0])), strings.TrimSpace(string(values[1])), nil
	}}, nil
}

// identity returns the identity that is configured: one, by what is there, and no other if it fails.
func (q *query) identity(ctx context.Context, auth *v1alpha1.Auth, key *accessKey, o origin) (Asker, error) {
	duration, err := storespec.SessionDuration(auth.RoleSessionExpiration)
	if err != nil { // of the environment: stores were checked
		return Asker{}, refuse(NotReady, "roleSessionExpiration %v", err)
	}
	if auth.RemoteRAMRoleARN != "" && !o.own {
		if err := q.role("remoteRamRoleARN", auth.RemoteRAMRoleARN); err != nil {
			return Asker{}, err
		}
	}
	switch ref := auth.ServiceAccountRef; {
	case ref != nil:
		return q.referenced(ctx, ref, auth, duration, o)
	case auth.RAMRoleARN != "" && (key == nil || auth.OIDCProviderARN != ""):
		return q.controller(auth, duration, o)
	case key != nil:
		return q.accessKey(auth, key, duration, o)
	}
	return q.nodeRole(auth, o)
}

// referenced returns the identity of serviceAccountRef.
func (q *query) referenced(
	ctx context.Context, ref *v1alpha1.ServiceAccountRef, auth *v1alpha1.Auth, duration time.Duration, o origin,
) (Asker, error) {
	in := cmp.Or(ref.Namespace, o.namespace, q.in.name)
	if o.namespace == "" && in != q.in.name && !config.AnyMatches(q.Config.ClusterServiceAccounts, in+"/"+ref.Name) {
		return Asker{}, refuse(Forbidden, "the administrator of this cluster does not list ServiceAccount %s/%s in clusterServiceAccounts; "+
			"remove serviceAccountRef.namespace, so that each namespace has a ServiceAccount %s of its own", in, ref.Name, ref.Name)
	}
	a, err := q.serviceAccount(ctx, in, ref.Name, auth, duration)
	return a, at("serviceAccountRef", err)
}

// serviceAccount returns the identity of a ServiceAccount: the role of its annotation.
func (q *query) serviceAccount(
	ctx context.Context, in, name string, auth *v1alpha1.Auth, duration time.Duration,
) (Asker, error) {
	provider, err := q.provider(auth)
	if err != nil {
		return Asker{}, err
	}
	role, err := q.roleOf(ctx, types.NamespacedName{Namespace: in, Name: name})
	if err != nil {
		return Asker{}, err
	}
	who := Who{
		Kind: ServiceAccount, Namespace: in, Name: name, Role: role, Provider: provider, Duration: duration,
		Remote: auth.RemoteRAMRoleARN, RemoteSession: auth.RemoteRAMRoleSessionName,
	}
	token, open := q.Token, q.RRSA
	return q.opened(who, identity.SessionName(in, name, q.object.Name), func(sts identity.STS) (identity.Provider, error) {
		return open(identity.RRSA{RoleARN: role, ProviderARN: provider, STS: sts,
			Token: func(ctx context.Context) (string, error) { return token(ctx, in, name) }})
	}), nil
}

// roleOf returns the role of a ServiceAccount's annotation. Before it says that there is none it asks the API server itself.
func (q *query) roleOf(ctx context.Context, key types.NamespacedName) (role string, refusal error) {
	if err := q.watched("ServiceAccount "+key.String(), key.Namespace); err != nil {
		return "", err
	}
	account := rrsa.ServiceAccount{Namespace: key.Namespace, Name: key.Name, Use: "as which the secret is to be read"}
	for _, from := range []string{"cache", "server"} {
		reader := q.Cached
		if from == "server" {
			reader = q.Live
		}
		object, err := metadata(ctx, reader, "ServiceAccount", key)
		switch {
		case apierrors.IsNotFound(err):
			refusal = refuse(NotReady, "ServiceAccount %s does not exist; create it, with the annotation %s", key, rrsa.RoleARNAnnotation)
			continue
		case err != nil:
			return "", fmt.Errorf("read ServiceAccount %s: %w", key, err)
		}
		account.Annotations = object.Annotations
		if role, err = rrsa.Role(rrsa.Named{}, rrsa.Policy{AccountID: q.Config.AccountID, Roles: []string{"*"}}, account); err != nil {
			refusal = refuse(NotReady, "%v", err)
		} else if refusal = q.role("ServiceAccount "+key.String(), role); refusal == nil {
			return role, nil
		}
	}
	return "", refusal
}

// provider returns the OIDC provider.
func (q *query) provider(auth *v1alpha1.Auth) (string, error) {
	arn := cmp.Or(auth.OIDCProviderARN, q.Config.OIDCProviderARN)
	if !storespec.IsProviderARN(arn) {
		return "", refuse(NotReady, "oidcProviderARN is %q; write acs:ram::<account>:oidc-provider/ack-rrsa-<cluster ID>, or have the "+
			"administrator configure accountID and clusterID", arn)
	}
	return arn, nil
}

// controller returns a role that the controller's own token assumes.
func (q *query) controller(auth *v1alpha1.Auth, duration time.Duration, o origin) (Asker, error) {
	if !q.policy.serves(q.in) {
		return Asker{}, q.notServed("ramRoleARN without serviceAccountRef means that kms-sync's own ServiceAccount assumes the role")
	}
	if !o.own {
		if err := q.role("ramRoleARN", auth.RAMRoleARN); err != nil {
			return Asker{}, err
		}
	}
	provider, err := q.provider(auth)
	if err != nil {
		return Asker{}, err
	}
	session, file := o.borrowed(auth.RAMRoleSessionName), q.TokenFile
	if o.own {
		file = cmp.Or(auth.OIDCTokenFilePath, file)
	}
	who := Who{
		Kind: Controller, Role: auth.RAMRoleARN, Provider: provider, Session: session, Duration: duration,
		Remote: auth.RemoteRAMRoleARN, RemoteSession: o.borrowed(cmp.Or(auth.RemoteRAMRoleSessionName, session)),
	}
	return q.opened(who, session, func(sts identity.STS) (identity.Provider, error) {
		return identity.NewRRSA(identity.RRSA{RoleARN: who.Role, ProviderARN: provider, STS: sts, Token: identity.TokenFile(file)})
	}), nil
}

// accessKeyLife is how long an access key in Secrets is used before it is read again: a changed or deleted one counts soon, and
// kms-sync reads no Secret for each call.
const accessKeyLife = time.Minute

// accessKey returns an access key, or a role that it assumes.
func (q *query) accessKey(auth *v1alpha1.Auth, key *accessKey, duration time.Duration, o origin) (Asker, error) {
	if auth.RAMRoleARN != "" && !o.own {
		if err := q.role("ramRoleARN", auth.RAMRoleARN); err != nil {
			return Asker{}, err
		}
	}
	session := cmp.Or(auth.RAMRoleSessionName, o.session)
	who := Who{
		Kind: AccessKey, Secrets: key.name, Role: auth.RAMRoleARN, Session: session, Duration: duration,
		Remote: auth.RemoteRAMRoleARN, RemoteSession: cmp.Or(auth.RemoteRAMRoleSessionName, session),
	}
	if o.own {
		who.Kind = Environment
	}
	return q.opened(who, session, func(sts identity.STS) (identity.Provider, error) {
		get := func(ctx context.Context) (identity.Credentials, error) {
			id, secret, err := key.read(ctx)
			if err != nil {
				return identity.Credentials{}, err
			}
			p, err := identity.NewAccessKey(identity.AccessKey{ID: id, Secret: secret, RoleARN: who.Role, STS: sts})
			if err != nil {
				return identity.Credentials{}, err
			}
			c, err := p.Get(ctx)
			if who.Role == "" {
				c.Expires = time.Now().Add(2 * accessKeyLife) // if the Secrets can no longer be read
			}
			return c, err
		}
		if who.Role == "" {
			return identity.Provider{ID: who.String(), Get: get, RenewAfter: accessKeyLife}, nil
		}
		return identity.Provider{ID: who.String(), Get: get}, nil
	}), nil
}

// nodeRole returns the role of the controller's node, which a store has that configures nothing.
func (q *query) nodeRole(auth *v1alpha1.Auth, o origin) (Asker, error) {
	switch {
	case !q.Config.NodeRole:
		where := "serviceAccountRef, or an access key"
		if o.own {
			where = "the annotation " + v1alpha1.AnnotationServiceAccount + ", or a store"
		}
		return Asker{}, refuse(NotReady, "no identity is configured; name a ServiceAccount of the namespace in %s (the role of kms-sync's node "+
			"is used only if the administrator sets nodeRole)", where)
	case !q.policy.serves(q.in):
		return Asker{}, q.notServed("a store without credentials means the role of kms-sync's node")
	}
	who := Who{Kind: NodeRole, Remote: auth.RemoteRAMRoleARN, RemoteSession: o.borrowed(auth.RemoteRAMRoleSessionName)}
	return q.opened(who, o.session, func(identity.STS) (identity.Provider, error) { return identity.NewNodeRole(q.Metadata), nil }), nil
}

// opened returns the Asker of an identity whose first credentials first gives.
func (q *query) opened(who Who, session string, first func(identity.STS) (identity.Provider, error)) Asker {
	sts := q.STS
	sts.SessionName, sts.Duration = session, who.Duration
	if d := q.Config.STS.SessionDuration; d != nil && sts.Duration == 0 {
		sts.Duration = time.Duration(*d)
	}
	return Asker{Who: who, Open: func(paced func(identity.Provider) identity.Provider) (*identity.Source, error) {
		p, err := first(sts)
		if err != nil {
			return nil, err
		}
		if who.Role != "" {
			p = paced(p)
		}
		source := identity.NewSource(p, nil, nil)
		if who.Remote == "" {
			return source, nil
		}
		caller := who
		caller.Remote = ""
		remote := sts
		remote.SessionName = cmp.Or(who.RemoteSession, session)
		second, err := identity.NewRole(source, caller.String(), remote, who.Remote)
		if err != nil {
			return nil, err
		}
		return identity.NewSource(After(source, paced(second)), nil, nil), nil
	}}
}

// After returns a Provider that waits for the turn of its own exchange only when first has its credentials.
func After(first *identity.Source, second identity.Provider) identity.Provider {
	get := second.Get
	second.Get = func(ctx context.Context) (identity.Credentials, error) {
		if _, err := first.Credentials(ctx); err != nil {
			return identity.Credentials{}, err
		}
		return get(ctx)
	}
	return second
}
