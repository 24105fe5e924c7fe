// Package emulatortest runs the emulator inside a Go test.
package emulatortest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
)

// What the cloud of Config consists of.
const (
	Account     = "1234567890123456"
	Region      = "cn-hangzhou"
	ProviderARN = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"
	// RoleARN may be assumed by Subject alone, and may read the secrets that are tagged env=dev.
	RoleARN = "acs:ram::1234567890123456:role/dev-role-for-rrsa"
	Subject = "system:serviceaccount:rrsa-dev:dev-sa"
	// Issuer signs the tokens of Subject; nothing listens at its address.
	IssuerURL = "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c0ffee"
)

// Server is a running emulator. Its methods control it; see emulator.Emulator.
type Server struct {
	*emulator.Emulator
	Addr   string  // host:port, the endpoint of STS and KMS, over TLS
	Issuer *Issuer // signs tokens for the provider of Config
}

// Config returns a cloud with one OIDC provider, of the issuer, and one role, with the policies of Alibaba Cloud's own
// example; it has no secrets. Tests change it before Start as they need.
func Config(issuer *Issuer) emulator.Config {
	return emulator.Config{
		Account: Account,
		Region:  Region,
		OIDCProviders: []emulator.OIDCProvider{{
			Name: "ack-rrsa-c0ffee", Issuer: issuer.URL, JWKS: emulator.JWKS{Document: string(issuer.JWKS())},
		}},
		Roles: []emulator.Role{{
			Name: "dev-role-for-rrsa",
			TrustPolicy: `{ "Statement": [ { "Action": "sts:AssumeRole", "Condition": { "StringEquals": {
				"oidc:aud": [ "sts.aliyuncs.com" ], "oidc:iss": [ "` + issuer.URL + `" ],
				"oidc:sub": [ "` + Subject + `" ] } },
				"Effect": "Allow", "Principal": { "Federated": [ "` + ProviderARN + `" ] } } ], "Version": "1" }`,
			Policies: []string{`{ "Version": "1", "Statement": [ { "Effect": "Allow",
				"Action": [ "kms:Decrypt", "kms:GetSecretValue" ], "Resource": "*",
				"Condition": { "StringEqualsIgnoreCase": { "kms:tag/env": [ "dev" ] } } } ] }`},
		}},
	}
}

// Start runs an emulator with Config on 127.0.0.1 until the test ends.
func Start(t testing.TB, options ...emulator.Option) *Server {
	t.Helper()
	issuer := NewIssuer(t, IssuerURL)
	return StartConfig(t, issuer, Config(issuer), options...)
}

// StartConfig runs an emulator with the given configuration.
func StartConfig(t testing.TB, issuer *Issuer, config emulator.Config, options ...emulator.Option) *Server {
	t.Helper()
	cloud, err := emulator.New(config, options...)
	if err != nil {
		t.Fatal(err)
	}
	ca := sharedAuthority()
	addr := serve(t, cloud, cloud, ca, &tls.Config{GetCertificate: ca.GetCertificate})
	return &Server{Emulator: cloud, Addr: addr, Issuer: issuer}
}

// serve serves a handler of the cloud over TLS until the test ends, with a certificate for 127.0.0.1, and returns its host:port.
func serve(t testing.TB, cloud *emulator.Emulator, handler http.Handler, ca *authority.Authority, config *tls.Config) (addr string) {
	t.Helper()
	leaf, err := ca.Leaf("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{*leaf}
	server := httptest.NewUnstartedServer(handler)
	server.TLS, server.EnableHTTP2 = config, true
	// Refused handshakes are what some tests are about.
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	stop(t, cloud, server)
	return server.Listener.Addr().String()
}

// stop ends a server with the test, also one that hangs.
func stop(t testing.TB, cloud *emulator.Emulator, server *httptest.Server) {
	t.Cleanup(func() {
		cloud.ClearFaults()
		server.CloseClientConnections()
		server.Close()
	})
}

// The authorities are the same for all servers of a test process, so that what trusts one for the whole process, as
// http.DefaultTransport under the STS SDK, can do so once in TestMain. The second signs for the gateways of KMS instances.
var sharedAuthority, sharedInstanceAuthority = sync.OnceValue(newAuthority), sync.OnceValue(newAuthority)

func newAuthority() *authority.Authority {
	ca, err := authority.New()
	if err != nil {
		panic(err) // only without a source of random numbers
	}
	return ca
}

// CAPEM returns the certificate authority of every server in this process.
func CAPEM() []byte { return sharedAuthority().PEM() }

// Roots returns the pool with CAPEM alone.
func Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(CAPEM())
	return roots
}

// InstanceID is the KMS instance of WithInstance.
const InstanceID = "kst-hzz0123456789"

// WithInstance adds a KMS instance with one application access point that may read the secrets given, and returns the
// client key of that access point.
func WithInstance(t testing.TB, config *emulator.Config, secrets ...string) clientkey.Key {
	t.Helper()
	key, err := clientkey.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	config.Instances = append(config.Instances, emulator.Instance{ID: InstanceID, AccessPoints: []emulator.AccessPoint{{
		Name: "shop", Secrets: secrets,
		ClientKeys: []emulator.ClientKey{{ID: key.ID, Certificate: string(key.Certificate)}},
	}}})
	return key
}

// StartInstance serves the gateway of the instance of WithInstance until the test ends, certified by the private
// authority of InstanceCAPEM, and returns its host:port.
func (s *Server) StartInstance(t testing.TB) (addr string) {
	t.Helper()
	return serve(t, s.Emulator, s.Instance(InstanceID), sharedInstanceAuthority(), &tls.Config{})
}

// StartMetadata serves the node's metadata service until the test ends, and returns its address for a client's HTTP
// proxy option.
func (s *Server) StartMetadata(t testing.TB) (url string) {
	t.Helper()
	server := httptest.NewServer(s.Metadata())
	stop(t, s.Emulator, server)
	return server.URL
}

// InstanceCAPEM returns the private certificate authority of every instance's gateway in this process.
func InstanceCAPEM() []byte { return sharedInstanceAuthority().PEM() }

// Put creates secrets or fails the test.
func (s *Server) Put(t testing.TB, secrets ...emulator.Secret) {
	t.Helper()
	for _, secret := range secrets {
		if err := s.PutSecret(secret); err != nil {
			t.Fatal(err)
		}
	}
}

// Fault sets a fault or fails the test, and returns its ID.
func (s *Server) Fault(t testing.TB, f emulator.Fault) string {
	t.Helper()
	id, err := s.AddFault(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
