package agent

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// An agent without the webhook follows changes of the file that SSL_CERT_FILE names, without a restart.
func TestAuthorityOfOnesOwn(t *testing.T) {
	p := newPod(t)
	p.doc.KMS.CABundle = ""
	strange := httptest.NewTLSServer(nil)
	defer strange.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	p.env["SSL_CERT_FILE"] = file
	authority := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: strange.Certificate().Raw}))
	a := p.agent()
	_, err := a.source.Read(t.Context(), kms.Ref{Name: "app/key"})
	if unknown := new(x509.UnknownAuthorityError); !errors.As(err, unknown) {
		t.Fatalf("a stranger's authority certifies KMS: %v", err)
	}
	authority(emulatortest.CAPEM())
	if _, err := a.source.Read(t.Context(), kms.Ref{Name: "app/key"}); err != nil {
		t.Fatal(a.Explain(err))
	}
}
