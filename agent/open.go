package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// open makes the gateway of the document's identity. There is one identity, and no other takes its place.
func (a *Agent) open(getenv func(string) string) (reader, error) {
	gatewayRoots, err := roots(a.doc.KMS.CABundle)
	if err != nil {
		return nil, fmt.Errorf("kms.caBundle: %w", err)
	}
	settings := kms.Config{Endpoint: a.doc.KMS.Host, Roots: gatewayRoots, CAFile: getenv("SSL_CERT_FILE")}
	if a.doc.Identity.Kind == config.ClientKey {
		a.role = "the client key's application access point"
		client, err := kms.NewClientKey(kms.ClientKeyConfig{
			Config:       settings,
			KeyFile:      filepath.Join(config.ClientKeyDir, config.ClientKeyFile),
			PasswordFile: filepath.Join(config.ClientKeyDir, config.ClientKeyPassword),
		})
		if err != nil {
			return nil, err
		}
		a.rest = client.Rest
		return &measured{signed{client}, a.measures}, nil
	}

	sts := identity.STSFromEnv(getenv)
	sts.SessionName = identity.SessionName(a.doc.Namespace, a.doc.ServiceAccount, podName(getenv))
	sts.Duration = time.Duration(a.doc.SessionDuration)
	if a.doc.STS.Host != "" {
		sts.Endpoint = a.doc.STS.Host
	}
	sts.Roots = gatewayRoots
	if a.doc.STS.CABundle != a.doc.KMS.CABundle {
		if sts.Roots, err = roots(a.doc.STS.CABundle); err != nil {
			return nil, fmt.Errorf("sts.caBundle: %w", err)
		}
	}
	policies := map[string]string{}
	if a.doc.SessionPolicy {
		if policies, err = a.doc.SessionPolicies(); err == nil {
			err = narrowable(a.doc.Identity.Kind, getenv)
		}
		if err != nil {
			return nil, fmt.Errorf("agent.narrowSessions of the webhook's configuration: %w", err)
		}
		sts.Policy = policies[""]
	}
	source, err := identity.Open(string(a.doc.Identity.Kind), getenv, sts)
	if err != nil {
		return nil, err
	}
	a.role = caller(a.doc.Identity.Kind, getenv)
	roles, err := identity.NewRoles(source, a.role, sts, policies)
	if err != nil {
		return nil, err
	}
	count := func(err error) { a.measures.STSRequest(code(err)) }
	source.Observe(count)
	roles.Observe(count)
	a.sessions = func(kept *identity.Sessions) {
		source.Keep(kept)
		roles.Keep(kept)
	}
	client, err := kms.New(settings)
	if err != nil {
		return nil, err
	}
	a.rest = client.Rest
	return &measured{&gateway{source, roles, client}, a.measures}, nil
}

// narrowable returns an error for an identity that signs with something else than an STS session of its own.
func narrowable(kind config.IdentityKind, getenv func(string) string) error {
	switch {
	case kind == config.NodeRole:
		return errors.New("the session of the node's role is the node's, which no policy narrows; use another identity")
	case kind == config.AccessKey && getenv(config.AccessKeyRoleEnv) == "":
		return errors.New("an access key without a role has no session that a policy could narrow; put a role's ARN into the Secret, under " + config.AccessKeyRole)
	}
	return nil
}

// caller says in words who the pod is, for messages.
func caller(kind config.IdentityKind, getenv func(string) string) string {
	switch kind {
	case config.NodeRole:
		return "the node's role"
	case config.AccessKey:
		if role := getenv(config.AccessKeyRoleEnv); role != "" {
			return role
		}
		return "the access key's RAM user"
	}
	return identity.FromEnv(getenv).RoleARN
}

// signed reads from a KMS instance as a client key, which has no role and can assume none.
type signed struct{ client *kms.ClientKeyClient }

func (s signed) read(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	if ref.RoleARN != "" {
		return kms.Secret{}, fmt.Errorf("secret %s: roleArn needs an identity that can assume roles, and a client key cannot", ref)
	}
	return s.client.GetSecretValue(ctx, ref)
}

// measured counts the calls of a reader.
type measured struct {
	reader
	measures *metrics.Agent
}

func (m *measured) read(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	secret, err := m.reader.read(ctx, ref)
	m.count(err)
	return secret, err
}

func (m *measured) count(err error) {
	var refusal *kms.Error
	if err == nil || errors.As(err, &refusal) {
		m.measures.KMSRequest(code(err))
	}
}

// result is what metrics count an attempt by.
func result(err error) string {
	if err != nil {
		return "failure"
	}
	return "success"
}

// code is what metrics count an outcome by: the cloud's own code, where it said one.
func code(err error) string {
	var gateway *kms.Error
	var sts *identity.Error
	switch {
	case err == nil:
		return metrics.OK
	case errors.As(err, &gateway) && gateway.Code != "":
		return gateway.Code
	case errors.As(err, &sts) && sts.Code != "":
		return sts.Code
	case timedOut(err):
		return "Timeout"
	}
	return "Error"
}

// roots are the system's and those of a PEM bundle. Without a bundle they are nil, which means the system's too, but
// read only when a connection needs them.
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
	if name := getenv(config.PodNameEnv); name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}
