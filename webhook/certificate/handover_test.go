package certificate

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/testr"
)

// TestHandover says what is served, second by second, after there is a newer certificate.
func TestHandover(t *testing.T) {
	for name, c := range map[string]struct {
		before, after []string // authorities in the caBundle before and after the newer certificate came
		newest        string   // its authority
		turns         time.Duration
	}{
		// An API server whose clock is behind takes a certificate that was signed just now for one of the future.
		"the same authority":                    {before: []string{"a"}, after: []string{"a"}, newest: "a", turns: settleTime},
		"another, trusted from now on":          {before: []string{"a"}, after: []string{"a", "b"}, newest: "b", turns: settleTime},
		"another, not trusted":                  {before: []string{"a"}, after: []string{"a"}, newest: "b", turns: time.Hour},
		"another, trusted in the first's place": {before: []string{"a"}, after: []string{"b"}, newest: "b", turns: 0},
		"neither is trusted":                    {before: []string{"a"}, after: nil, newest: "b", turns: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				authorities := map[string]authorityPair{"a": newAuthorityPair(t), "b": newAuthorityPair(t)}
				s := &Source{options: Options{Namespace: "kms", Service: "kms-webhook", Log: testr.New(t)}, settle: settleTime}
				served := func() *tls.Certificate { c, _ := s.GetCertificate(nil); return c }
				trust := func(names []string) {
					var bundle []byte
					for _, name := range names {
						bundle = append(bundle, authorities[name].ca...)
					}
					s.remember([][]byte{bundle}, time.Now())
				}
				trust(c.before)
				s.newest = authorities["a"].serving(t)
				served()
				<-time.After(time.Minute)

				s.newest = authorities[c.newest].serving(t)
				trust(c.after)
				for began := time.Now(); time.Since(began) < 2*settleTime; <-time.After(time.Second) {
					if since := time.Since(began); (served() == s.newest) != (since >= c.turns) {
						t.Fatalf("%s after it came, the newer certificate is served: %v", since, s.served == s.newest)
					}
				}
				<-time.After(2 * time.Hour)
				if served() != s.newest {
					t.Error("the first certificate has expired and is still served")
				}
			})
		})
	}
}

// serving is a certificate that is valid from now on.
func (a authorityPair) serving(t *testing.T) *tls.Certificate {
	t.Helper()
	certificate, key := a.issue(t, serverName, time.Now())
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}
