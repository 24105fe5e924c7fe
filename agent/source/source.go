// Package source reads secrets from KMS as the pod's one identity, or as a role that it assumes.
//
// A Source counts the calls, and makes none during a pause that STS or KMS asked for.
package source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// A Reader reads secrets. Its errors are *identity.Error, *identity.TokenError, *kms.Error, *kms.KeyError, or ctx's.
type Reader interface {
	Read(ctx context.Context, ref kms.Ref) (kms.Secret, error)
	// ReadAll reads several secrets of one role by one call, with a secret for each of refs. Secrets that KMS did not return have no
	// VersionID. The error is errors.ErrUnsupported if the Reader has no such call.
	ReadAll(ctx context.Context, refs []kms.Ref) ([]kms.Secret, error)
	// CloseIdleConnections closes the connections of the calls before.
	CloseIdleConnections()
}

// A Source is a Reader that pauses and counts. It is safe for concurrent use if its Reader is.
type Source struct {
	Role string // that KMS sees, in words, for messages

	reader   Reader
	sessions *identity.Sessions
	count    func(error)
	throttle
}

// New returns a Source that reads with reader. Count is called with the outcome of each call of KMS; nil: calls are not counted.
func New(reader Reader, sessions *identity.Sessions, count func(error)) *Source {
	if count == nil {
		count = func(error) {}
	}
	return &Source{reader: reader, sessions: sessions, count: count}
}

// Open returns the Source of the configured identity, whose parameters are in the environment. It makes no call yet.
func Open(doc agentconfig.Config, getenv func(string) string, m *metrics.Agent) (*Source, error) {
	kmsRoots, err := roots(doc.KMS.CABundle)
	if err != nil {
		return nil, fmt.Errorf("kms.caBundle: %w", err)
	}
	count := func(err error) { m.KMSRequest(failure.Code(err)) }
	settings := kms.Config{Endpoint: doc.KMS.Host, Roots: kmsRoots, CAFile: getenv("SSL_CERT_FILE")}
	if doc.KMS.CAConfigMap != "" {
		settings.CAFile, settings.CALate = agentconfig.KMSCAFile, true
	}
	if doc.Identity.Kind == config.ClientKey {
		client, err := kms.NewClientKey(settings, kms.ClientKeyFiles(
			filepath.Join(agentconfig.ClientKeyDir, agentconfig.ClientKeyFile),
			filepath.Join(agentconfig.ClientKeyDir, agentconfig.ClientKeyPassword)))
		if err != nil {
			return nil, err
		}
		s := New(instance{client}, &identity.Sessions{}, count)
		s.Role = "the client key's application access point"
		return s, nil
	}
	stsRoots := kmsRoots
	if doc.STS.CABundle != doc.KMS.CABundle {
		if stsRoots, err = roots(doc.STS.CABundle); err != nil {
			return nil, fmt.Errorf("sts.caBundle: %w", err)
		}
	}
	sts := identity.STSFromEnv(getenv)
	sts.SessionName = identity.SessionName(doc.Namespace, doc.ServiceAccount, podName(getenv))
	sts.Duration = time.Duration(doc.SessionDuration)
	if doc.STS.Host != "" {
		sts.Endpoint = doc.STS.Host
	}
	sts.Roots = stsRoots
	if doc.STS.CAConfigMap != "" {
		sts.CAFile = agentconfig.STSCAFile
	}
	policies := map[string]string{}
	if doc.SessionPolicy {
		if policies, err = doc.SessionPolicies(); err == nil {
			err = narrowable(doc.Identity.Kind, getenv)
		}
		if err != nil {
			return nil, fmt.Errorf("agent.narrowSessions of the webhook's configuration: %w", err)
		}
		sts.Policy = policies[""]
	}
	provider, err := identity.Open(doc.Identity.Kind, getenv, sts)
	if err != nil {
		return nil, err
	}
	sessions := &identity.Sessions{}
	first := identity.NewSource(provider, sessions, func(err error) { m.STSRequest(failure.Code(err)) })
	role := caller(doc.Identity.Kind, getenv)
	roles, err := identity.NewRoles(first, role, sts, policies)
	if err != nil {
		return nil, err
	}
	client, err := kms.New(settings)
	if err != nil {
		return nil, err
	}
	s := New(&gateway{first, roles, client}, sessions, count)
	s.Role = role
	return s, nil
}

// narrowable returns an error for an identity that does not sign with an STS session of its own.
func narrowable(kind config.IdentityKind, getenv func(string) string) error {
	switch {
	case kind == config.NodeRole:
		return errors.New("the session of the node's role is the node's, which no policy narrows; use another identity")
	case kind == config.AccessKey && getenv(config.AccessKeyRoleEnv) == "":
		return errors.New("an access key without a role has no session that a policy could narrow; " +
			"put a role's ARN into the Secret, under " + config.AccessKeyRole)
	}
	return nil
}

// caller describes the pod's identity for messages.
func caller(kind config.IdentityKind, getenv func(string) string) string {
	role := getenv(config.RoleARNEnv)
	switch {
	case kind == config.NodeRole:
		return "the node's role"
	case kind == config.AccessKey && role == "":
		return "the access key's RAM user"
	}
	return role
}

// roots returns the system's authorities and those of a PEM bundle. Without a bundle it returns nil, which means the system's, read
// when a connection needs them.
func roots(bundle string) (*x509.CertPool, error) {
	if bundle == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM([]byte(bundle)) {
		return nil, errors.New("there is no PEM certificate in it")
	}
	return pool, nil
}

func podName(getenv func(string) string) string {
	if name := getenv(agentconfig.PodNameEnv); name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// Resume loads the sessions and pauses of the process before from a directory, and saves those of this process there.
func (s *Source) Resume(directory string, log *slog.Logger) {
	s.throttle.resume(directory, log)
	s.sessions.Open(store(directory), log)
}

// store keeps the sessions in a directory.
type store string

func (s store) Read(what any) error  { return handover.Read(string(s), SessionsFile, what) }
func (s store) Write(what any) error { return handover.Write(string(s), SessionsFile, what) }

// Read implements Reader.
func (s *Source) Read(ctx context.Context, ref kms.Ref) (secret kms.Secret, err error) {
	err = s.call(ref, func() error {
		secret, err = s.reader.Read(ctx, ref)
		return err
	})
	return secret, err
}

// ReadAll implements Reader.
func (s *Source) ReadAll(ctx context.Context, refs []kms.Ref) (given []kms.Secret, err error) {
	err = s.call(refs[0], func() error {
		given, err = s.reader.ReadAll(ctx, refs)
		return err
	})
	return given, err
}

// CloseIdleConnections implements Reader.
func (s *Source) CloseIdleConnections() { s.reader.CloseIdleConnections() }

// call makes a call, unless there is a pause.
func (s *Source) call(ref kms.Ref, call func() error) error {
	if err := s.refuse(ref); err != nil {
		return err
	}
	err := call()
	if _, refused := errors.AsType[*kms.Error](err); err == nil || refused {
		s.count(err)
	}
	s.note(err)
	return err
}

// gateway reads from KMS as the pod's identity, or as a role that it assumes.
type gateway struct {
	identity *identity.Source
	roles    *identity.Roles
	*kms.Client
}

func (g *gateway) Read(ctx context.Context, ref kms.Ref) (secret kms.Secret, err error) {
	err = g.as(ctx, ref.RoleARN, func(creds kms.Credentials) error {
		secret, err = g.GetSecretValue(ctx, creds, ref)
		return err
	})
	return secret, err
}

func (g *gateway) ReadAll(ctx context.Context, refs []kms.Ref) (given []kms.Secret, err error) {
	err = g.as(ctx, refs[0].RoleARN, func(creds kms.Credentials) error {
		given, err = g.BatchGetSecretValue(ctx, creds, refs)
		return err
	})
	return given, err
}

// as makes a call as a role, or as the pod's identity without one. If KMS does not accept the credentials, it gets new ones once: STS
// may have ended their session early.
func (g *gateway) as(ctx context.Context, role string, call func(kms.Credentials) error) error {
	source := g.identity
	if role != "" {
		source = g.roles.Source(role)
	}
	for again := true; ; again = false {
		creds, err := source.Credentials(ctx)
		if err != nil {
			return err
		}
		err = call(creds.Signing())
		if refusal, ok := errors.AsType[*kms.Error](err); !again || !ok || refusal.Class() != kms.CredentialsRejected {
			return err
		}
		source.Invalidate(creds)
	}
}

// instance reads from a KMS instance with a client key, which has no role and can assume none.
type instance struct{ *kms.ClientKeyClient }

func (i instance) Read(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	if ref.RoleARN != "" {
		return kms.Secret{}, fmt.Errorf("secret %s: roleArn needs an identity that can assume roles, and a client key cannot", ref)
	}
	return i.GetSecretValue(ctx, ref)
}

func (i instance) ReadAll(context.Context, []kms.Ref) ([]kms.Secret, error) {
	return nil, errors.ErrUnsupported
}
