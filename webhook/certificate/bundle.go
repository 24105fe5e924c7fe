package certificate

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// maxBundle is how many authorities a bundle holds at most: the current one and some that replicas may still be serving by.
const maxBundle = 4

// merge is a bundle with ca in it beside those authorities of ours in the old bundle that are still valid. Whoever merges, in
// whatever order, gets the same bytes, so that replicas do not overwrite each other for ever.
func merge(bundle, ca []byte, now time.Time) []byte {
	all := slices.DeleteFunc(slices.Concat(parse(ca), parse(bundle)), func(c *x509.Certificate) bool {
		return c.Subject.CommonName != commonName || now.After(c.NotAfter)
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

// trusts reports whether a client that has the bundle accepts a serving certificate.
func trusts(bundle []byte, leaf *x509.Certificate, name string, now time.Time) bool {
	roots := x509.NewCertPool()
	for _, c := range parse(bundle) {
		roots.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
	return err == nil
}
