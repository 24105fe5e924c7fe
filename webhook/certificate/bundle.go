package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"
)

// maxBundle is how many authorities a bundle holds at most: the current one and some that replicas may still be serving by.
const maxBundle = 4

// merge is a bundle with ca in it beside those authorities in the old bundle that are still valid, all of them of one common
// name, or of any if it is "". Whoever merges, in whatever order, gets the same bytes, so that replicas do not overwrite each
// other for ever.
func merge(bundle, ca []byte, commonName string, now time.Time) []byte {
	all := slices.DeleteFunc(slices.Concat(parse(ca), parse(bundle)), func(c *x509.Certificate) bool {
		return commonName != "" && c.Subject.CommonName != commonName || now.After(c.NotAfter)
	})
	slices.SortFunc(all, func(a, b *x509.Certificate) int {
		if order := b.NotBefore.Compare(a.NotBefore); order != 0 {
			return order
		}
		return bytes.Compare(a.Raw, b.Raw)
	})
	all = slices.CompactFunc(all, (*x509.Certificate).Equal)
	var out bytes.Buffer
	for _, c := range all[:min(len(all), maxBundle)] {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) //nolint:errcheck // a bytes.Buffer takes everything
	}
	return out.Bytes()
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
	authorities := parse(bundle)
	if len(authorities) == 0 {
		return errors.New("its caBundle is empty")
	}
	for _, c := range authorities {
		options.Roots.AddCert(c)
	}
	for _, der := range serving.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(c)
		}
	}
	_, err := serving.Leaf.Verify(options)
	return err
}
