package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"github.com/cert-manager/cert-manager/pkg/util/pki"
	corev1 "k8s.io/api/core/v1"
)

const (
	commonName    = "kms-webhook-ca"
	authorityLife = 365 * 24 * time.Hour
	servingLife   = 7 * 24 * time.Hour

	// backdated is how long before now certificates begin to be valid, for API servers whose clocks are behind.
	backdated = time.Hour
)

// newAuthority is the data of a Secret with a new authority.
func newAuthority(now time.Time) (map[string][]byte, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: commonName}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLife), KeyUsage: x509.KeyUsageCertSign,
	}
	data, err := issue(template, nil)
	if err != nil {
		return nil, fmt.Errorf("make an authority: %w", err)
	}
	data["ca.crt"] = data[corev1.TLSCertKey]
	return data, nil
}

// sign is the data of a Secret with a new serving certificate for a name, which does not outlive the authority of the other data.
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
