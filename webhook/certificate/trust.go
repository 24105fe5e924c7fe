package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxBundle is how many authorities a bundle holds at most: the current ones, even if they are more, and some that replicas may still be
// serving by.
const maxBundle = 4

// merge returns a bundle of ca and the newest valid authorities of the old bundle with the given common name, or with any if it is "".
// The result does not depend on the order of merges, so that replicas do not overwrite each other indefinitely.
func merge(bundle, ca []byte, commonName string, now time.Time) []byte {
	current, others := parse(ca), parse(bundle)
	others = slices.DeleteFunc(others, func(c *x509.Certificate) bool {
		return commonName != "" && c.Subject.CommonName != commonName || slices.ContainsFunc(current, c.Equal)
	})
	slices.SortFunc(others, newestFirst)
	all := slices.DeleteFunc(append(current, others...), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
	all = all[:min(len(all), max(maxBundle, len(current)))]
	slices.SortFunc(all, newestFirst)
	var out bytes.Buffer
	for _, c := range slices.CompactFunc(all, (*x509.Certificate).Equal) {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) //nolint:errcheck // a bytes.Buffer takes everything
	}
	return out.Bytes()
}

func newestFirst(a, b *x509.Certificate) int {
	if order := b.NotBefore.Compare(a.NotBefore); order != 0 {
		return order
	}
	return bytes.Compare(a.Raw, b.Raw)
}

func parse(bundle []byte) (found []*x509.Certificate) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, c)
		}
	}
	return found
}

// verify says why a client that has the bundle does not accept a serving certificate for a name; nil if it does.
func verify(bundle []byte, serving *tls.Certificate, name string, now time.Time) error {
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: name, CurrentTime: now}
	if !options.Roots.AppendCertsFromPEM(bundle) {
		return errors.New("its caBundle has no certificate")
	}
	for _, der := range serving.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(c)
		}
	}
	_, err := serving.Leaf.Verify(options)
	return err
}

// each calls do with both configurations, where they exist, and with the bundles of their webhooks.
func each(ctx context.Context, c client.Client, o Options, do func(configuration client.Object, bundles []*[]byte)) error {
	for _, configuration := range o.configurations() {
		err := c.Get(ctx, client.ObjectKeyFromObject(configuration), configuration)
		if apierrors.IsNotFound(err) {
			continue // not installed, or not yet
		}
		if err != nil {
			return fmt.Errorf("read %T %s: %w", configuration, o.Configuration, err)
		}
		do(configuration, bundlesOf(configuration))
	}
	return nil
}

func bundlesOf(configuration client.Object) (bundles []*[]byte) {
	switch c := configuration.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range c.Webhooks {
			bundles = append(bundles, &c.Webhooks[i].ClientConfig.CABundle)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range c.Webhooks {
			bundles = append(bundles, &c.Webhooks[i].ClientConfig.CABundle)
		}
	}
	return bundles
}
