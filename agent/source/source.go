// Package source reads secrets from KMS as the pod's one identity, or as a role that it assumes.
//
// A Source counts the calls, and makes none during a pause that STS or KMS asked for.
package source

import (
	"cmp"
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
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
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
	count := func(err error) { m.KMSRequest(failure.Code(err)) }
	settings := kms.Config{Endpoint: doc.KMS.Host, Settings: openapi.Settings{CAFile: getenv("SSL_CERT_FILE")}}
	var err error
	if settings.Roots, err = roots(doc.KMS.CABundle); err != nil {
		return nil, fmt.Errorf("kms.caBundle: %w", err)
	}
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
	host, _ := os.Hostname() // is the pod's name in most pods
	sts := identity.STSFromEnv(getenv)
	if sts.Roots, err = roots(doc.STS.CABundle); err != nil {
		return nil, fmt.Errorf("sts.caBundle: %w", err)
	}
	sts.SessionName = identity.SessionName(doc.Namespace, doc.ServiceAccount, cmp.Or(getenv(agentconfig.PodNameEnv), host))
	sts.Duration = time.Duration(doc.SessionDuration)
	if doc.STS.Host != "" {
		sts.Endpoint = doc.STS.Host
	}
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
	s := New(&gateway{roles, client}, sessions, count)
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
	return openapi.WithRoots(nil, []byte(bundle))
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
func (s *Source) Read(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	return call(s, ref, func() (kms.Secret, error) { return s.reader.Read(ctx, ref) })
}

// ReadAll implements Reader.
func (s *Source) ReadAll(ctx context.Context, refs []kms.Ref) ([]kms.Secret, error) {
	return call(s, refs[0], func() ([]kms.Secret, error) { return s.reader.ReadAll(ctx, refs) })
}

// CloseIdleConnections implements Reader.
func (s *Source) CloseIdleConnections() { s.reader.CloseIdleConnections() }

// call makes a call, unless there is a pause.
func call[T any](s *Source, ref kms.Ref, read func() (T, error)) (given T, err error) {
	if err := s.refuse(ref); err != nil {
		return given, err
	}
	given, err = read()
	if _, refused := errors.AsType[*kms.Error](err); err == nil || refused {
		s.count(err)
	}
	s.note(err)
	return given, err
}

// gateway reads from KMS as the pod's identity, or as a role that it assumes.
type gateway struct {
	roles *identity.Roles
	*kms.Client
}

func (g *gateway) Read(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	return identity.Use(ctx, g.roles.Source(ref.RoleARN), rejected, func(as identity.Credentials) (kms.Secret, error) {
		return g.GetSecretValue(ctx, as.Credentials, ref)
	})
}

func (g *gateway) ReadAll(ctx context.Context, refs []kms.Ref) ([]kms.Secret, error) {
	return identity.Use(ctx, g.roles.Source(refs[0].RoleARN), rejected, func(as identity.Credentials) ([]kms.Secret, error) {
		return g.BatchGetSecretValue(ctx, as.Credentials, refs)
	})
}

// rejected reports whether KMS does not accept the credentials of a call.
func rejected(err error) bool {
	refusal, ok := errors.AsType[*kms.Error](err)
	return ok && refusal.Class() == kms.CredentialsRejected
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
