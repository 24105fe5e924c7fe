package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// NewSelfSigned keeps an authority and a serving certificate in a Secret each, and the authority in the caBundles of the webhook
// configurations. Each is renewed when a third of its life is left, or when its Secret is deleted or broken.
func NewSelfSigned(o Options) (*Keeper, error) {
	w, err := watch(o, append(o.configurations(), o.authoritySecret(), o.servingSecret())...)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificates: %w", err)
	}
	k := &Keeper{options: o, watched: w}
	k.next = k.selfSigned
	return k, nil
}

// selfSigned is trusted first and signs then: a client that meets the new certificate trusts it already.
func (k *Keeper) selfSigned(ctx context.Context) (task, error) {
	authority, err := k.get(ctx, k.options.authoritySecret())
	if err != nil {
		return task{}, err
	}
	now := time.Now()
	if wrong := soundAuthority(authority.Data, now); wrong != nil {
		return task{fmt.Sprintf("make an authority in the Secret %s (%v)", authority.Name, wrong), func(ctx context.Context) error {
			data, err := newAuthority(authority.Name, now)
			if err != nil {
				return err
			}
			return k.put(ctx, authority, data)
		}}, nil
	}

	publish := task{}
	err = each(ctx, k.watched.client, k.options, func(configuration client.Object, bundles []*[]byte) {
		patch := client.StrategicMergeFrom(configuration.DeepCopyObject().(client.Object), client.MergeFromWithOptimisticLock{})
		for _, bundle := range bundles {
			merged := merge(*bundle, authority.Data["ca.crt"], authority.Name, now)
			if !bytes.Equal(merged, *bundle) {
				publish = task{fmt.Sprintf("add the authority to the caBundle of %T %s", configuration, k.options.Configuration),
					func(ctx context.Context) error { return k.watched.client.Patch(ctx, configuration, patch) }}
			}
			*bundle = merged
		}
	})
	if err != nil || publish.do != nil {
		return publish, err
	}

	serving, err := k.get(ctx, k.options.servingSecret())
	if err != nil {
		return task{}, err
	}
	if wrong := soundServing(serving.Data, authority.Data["ca.crt"], k.options.serverName(), now); wrong != nil {
		return task{fmt.Sprintf("sign a certificate in the Secret %s (%v)", serving.Name, wrong), func(ctx context.Context) error {
			data, err := sign(authority.Data, k.options.serverName(), now)
			if err != nil {
				return err
			}
			return k.put(ctx, serving, data)
		}}, nil
	}
	return task{}, nil
}

// soundAuthority says why an authority has to be made anew; nil if it can be used.
func soundAuthority(data map[string][]byte, now time.Time) error {
	pair, err := soundPair(data, now)
	switch {
	case err != nil:
		return err
	case !pair.Leaf.IsCA:
		return errors.New("it is not an authority")
	case !bytes.Equal(data["ca.crt"], data[corev1.TLSCertKey]):
		return errors.New("ca.crt is not tls.crt")
	}
	return nil
}

// soundServing says why a serving certificate has to be signed anew; nil if it can be used.
func soundServing(data map[string][]byte, ca []byte, name string, now time.Time) error {
	pair, err := soundPair(data, now)
	if err != nil {
		return err
	}
	return verify(ca, pair, name, now)
}

func soundPair(data map[string][]byte, now time.Time) (*tls.Certificate, error) {
	if len(data[corev1.TLSCertKey]) == 0 || len(data[corev1.TLSPrivateKeyKey]) == 0 {
		return nil, errors.New("there is none")
	}
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	if now.Before(pair.Leaf.NotBefore) { // made by a clock that was ahead
		return nil, fmt.Errorf("it begins at %s", pair.Leaf.NotBefore.Format(time.RFC3339))
	}
	if left, life := pair.Leaf.NotAfter.Sub(now), pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore); left < life/3 {
		return nil, fmt.Errorf("it ends at %s", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &pair, nil
}

const (
	authorityLife = 365 * 24 * time.Hour
	servingLife   = 7 * 24 * time.Hour

	// backdated is how long before now certificates begin to be valid, for API servers whose clocks are behind.
	backdated = time.Hour
)

// newAuthority returns the data of a Secret with a new authority of that name.
func newAuthority(name string, now time.Time) (map[string][]byte, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLife), KeyUsage: x509.KeyUsageCertSign,
	}
	data, err := issue(template, nil)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	data["ca.crt"] = data[corev1.TLSCertKey]
	return data, nil
}

// sign returns the data of a Secret with a new serving certificate for a name, which does not outlive the authority of the other data.
func sign(authority map[string][]byte, name string, now time.Time) (map[string][]byte, error) {
	by, err := tls.X509KeyPair(authority[corev1.TLSCertKey], authority[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	template := &x509.Certificate{
		DNSNames: []string{name}, NotBefore: now.Add(-backdated), NotAfter: now.Add(servingLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if by.Leaf.NotAfter.Before(template.NotAfter) {
		template.NotAfter = by.Leaf.NotAfter
	}
	data, err := issue(template, &by)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", name, err)
	}
	return data, nil
}

// issue makes a key and a certificate for it, signed by an authority or, without one, by itself.
func issue(template *x509.Certificate, by *tls.Certificate) (map[string][]byte, error) {
	key, err := pki.GenerateECPrivateKey(pki.ECCurve256)
	if err != nil {
		return nil, err
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	certificate, _, err := pki.SignCertificate(template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	encoded, err := pki.EncodePKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: encoded}, nil
}
