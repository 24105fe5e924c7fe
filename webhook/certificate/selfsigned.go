package certificate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	servertls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
)

const (
	commonName = "kms-webhook-ca"
	// settleTime is how long after a webhook configuration's change every API server is taken to have seen it.
	settleTime = 10 * time.Second
)

// SelfSigned signs its own serving certificates with an authority that all replicas share through a Secret, and keeps the
// authority's certificate in the webhook configurations. No replica leads.
//
// cert-manager's library makes the authority, renews it after two thirds of its year and signs anew at once in every replica.
// A new certificate is handed out only when the configurations have trusted its authority for a while; until then it is the
// old one, whose authority they still trust. So no request meets a certificate that it cannot verify.
type SelfSigned struct {
	source *servertls.DynamicSource
	keeper *keeper
	name   string // DNS name by which the API server calls
	settle time.Duration
	log    logr.Logger

	mu     sync.Mutex
	served *tls.Certificate
}

// SelfSignedOptions are what a SelfSigned needs to know.
type SelfSignedOptions struct {
	REST          *rest.Config
	Namespace     string // of the webhook
	Service       string // by which the API server calls the webhook
	Secret        string // in Namespace, for the authority
	Configuration string // name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration
	Log           logr.Logger
}

// NewSelfSigned prepares a SelfSigned; nothing happens before Run.
func NewSelfSigned(o SelfSignedOptions) (*SelfSigned, error) {
	k, err := newKeeper(o)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificates: %w", err)
	}
	name := o.Service + "." + o.Namespace + ".svc"
	return &SelfSigned{
		source: &servertls.DynamicSource{
			DNSNames:      []string{name},
			RetryInterval: 200 * time.Millisecond, // a replica that waits for the first authority is not ready
			Authority: &authority.DynamicAuthority{
				RESTConfig:      o.REST,
				SecretNamespace: o.Namespace,
				SecretName:      o.Secret,
				SecretLabels:    map[string]string{"app.kubernetes.io/name": o.Service},
				CommonName:      commonName,
			},
		},
		keeper: k,
		name:   name,
		settle: settleTime,
		log:    o.Log,
	}, nil
}

// Run signs and keeps trust until ctx ends.
func (s *SelfSigned) Run(ctx context.Context) error {
	ctx = logr.NewContext(ctx, s.log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.source.Start(ctx) })
	group.Go(func() error { return s.keeper.run(ctx) })
	return group.Wait()
}

// GetCertificate is for tls.Config.
func (s *SelfSigned) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest, err := s.source.GetCertificate(hello)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if newest != s.served && (s.served == nil || current(s.served, now) != nil || s.keeper.trusts(newest.Leaf, s.name, now, s.settle)) {
		s.served = newest
		s.log.Info("Serving a new certificate", "expires", newest.Leaf.NotAfter)
	}
	return s.served, nil
}

// Ready is nil while the API server could accept the certificate.
func (s *SelfSigned) Ready() error {
	c, err := s.GetCertificate(nil)
	if err != nil {
		return fmt.Errorf("there is no serving certificate yet: %w", err)
	}
	now := time.Now()
	if err := current(c, now); err != nil {
		return err
	}
	if !s.keeper.trusts(c.Leaf, s.name, now, 0) {
		return errors.New("the webhook configurations do not trust the serving certificate yet")
	}
	return nil
}
