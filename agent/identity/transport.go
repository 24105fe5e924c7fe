package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
)

// trust makes the SDK accept certificates of these roots. The SDK clones http.DefaultTransport for every exchange and has
// no other setting; it never closes the clone either, so connections must not be kept alive, or each exchange would hold
// one for 90 seconds.
func trust(roots *x509.CertPool) error {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return fmt.Errorf("http.DefaultTransport is a %T: the SDK needs an *http.Transport", http.DefaultTransport)
	}
	transport = transport.Clone()
	transport.DisableKeepAlives = true
	transport.Proxy = proxy
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	http.DefaultTransport = transport
	return nil
}

// proxy is the environment's, but never for the node's metadata: a proxy would answer with the role of the node that it
// runs on.
func proxy(r *http.Request) (*url.URL, error) {
	if r.URL.Hostname() == metadataHost {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}
