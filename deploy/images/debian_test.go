package main

import (
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func TestJoinPEM(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	bundle, err := joinPEM(fstest.MapFS{
		"mozilla/b.crt":  {Data: certificate},
		"mozilla/a.crt":  {Data: append([]byte("\n"), certificate...)},
		"mozilla/readme": {Data: []byte("not a certificate")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := string(certificate) + string(certificate); string(bundle) != want {
		t.Errorf("bundle is %q, want both certificates and nothing else", bundle)
	}

	for name, files := range map[string]fstest.MapFS{
		"no certificate":     {},
		"a damaged one":      {"a.crt": {Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("damaged")})}},
		"something else":     {"a.crt": {Data: []byte("<html>")}},
		"another PEM object": {"a.crt": {Data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("key")})}},
	} {
		if _, err := joinPEM(files); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: error is %v, want one that says so", name, err)
		}
	}
}
