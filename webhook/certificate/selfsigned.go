package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"time"

	servertls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const commonName = "kms-webhook-ca"

// SelfSigned signs its own serving certificates with an authority that all replicas share through a Secret, and keeps the
// authority's certificate in the webhook configurations. No replica leads.
//
// cert-manager's library makes the authority, renews it after two thirds of its year and signs anew at once in every replica.
type SelfSigned struct {
	source         *servertls.DynamicSource
	configurations *configurations
	handover       *handover
	log            logr.Logger
}

// NewSelfSigned prepares a SelfSigned; nothing happens before Run.
func NewSelfSigned(o Options) (*SelfSigned, error) {
	c, err := newConfigurations(o)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificates: %w", err)
	}
	s := &SelfSigned{configurations: c, handover: newHandover(o, c), log: o.Log}
	s.source = &servertls.DynamicSource{
		DNSNames:      []string{s.handover.name},
		RetryInterval: 200 * time.Millisecond, // a replica that waits for the first authority is not ready
		Authority: &authority.DynamicAuthority{
			RESTConfig:      o.REST,
			SecretNamespace: o.Namespace,
			SecretName:      o.Secret,
			SecretLabels:    map[string]string{"app.kubernetes.io/name": o.Service},
			CommonName:      commonName,
		},
	}
	c.publish = s.publish
	return s, nil
}

// Run signs and keeps trust until ctx ends.
func (s *SelfSigned) Run(ctx context.Context) error {
	ctx = logr.NewContext(ctx, s.log)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.source.Start(ctx) })
	group.Go(func() error { return s.configurations.run(ctx) })
	return group.Wait()
}

// GetCertificate is for tls.Config.
func (s *SelfSigned) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	newest, err := s.source.GetCertificate(hello)
	if err != nil {
		return nil, err
	}
	return s.handover.serve(newest), nil
}

// Ready is nil while the API server could accept the certificate.
func (s *SelfSigned) Ready() error {
	c, err := s.GetCertificate(nil)
	if err != nil {
		return fmt.Errorf("there is no serving certificate yet: %w", err)
	}
	return s.handover.ready(c)
}

// publish adds the authority to the bundles that lack it.
func (s *SelfSigned) publish(ctx context.Context) error {
	c, o := s.configurations.client, s.configurations.options
	var secret corev1.Secret
	err := c.Get(ctx, types.NamespacedName{Namespace: o.Namespace, Name: o.Secret}, &secret)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the authority's Secret: %w", err)
	}
	ca := secret.Data["ca.crt"]
	if len(parse(ca)) == 0 {
		return nil // the authority has not been made yet, or, if somebody broke it, not again
	}
	return s.configurations.each(ctx, func(configuration client.Object, names []string, bundles [][]byte) error {
		patch, err := adding(ca, names, bundles)
		if patch == nil || err != nil {
			return err
		}
		if err := c.Patch(ctx, configuration, client.RawPatch(types.JSONPatchType, patch)); err != nil {
			return fmt.Errorf("patch the caBundle of %T %s: %w", configuration, o.Configuration, err)
		}
		s.log.Info("CA bundle written", "kind", fmt.Sprintf("%T", configuration), "name", o.Configuration)
		return nil
	})
}

// adding is a patch of nothing but the bundles that lack ca; nil if none does. A webhook is tested by name, in case somebody has
// reordered them since.
func adding(ca []byte, names []string, bundles [][]byte) ([]byte, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var operations []operation
	for i, bundle := range bundles {
		merged := merge(bundle, ca, commonName, time.Now())
		if bytes.Equal(merged, bundle) {
			continue
		}
		at := fmt.Sprintf("/webhooks/%d", i)
		operations = append(operations, operation{"test", at + "/name", names[i]}, operation{"add", at + "/clientConfig/caBundle", merged})
	}
	if len(operations) == 0 {
		return nil, nil
	}
	return json.Marshal(operations)
}
