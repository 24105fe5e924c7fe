package emulatortest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/oidc"
)

// Issuer is an oidc.Issuer that fails tests instead of returning errors.
type Issuer struct{ *oidc.Issuer }

// NewIssuer makes an issuer with a fresh key.
func NewIssuer(t testing.TB, url string) *Issuer {
	t.Helper()
	issuer, err := oidc.NewIssuer(url)
	if err != nil {
		t.Fatal(err)
	}
	return &Issuer{issuer}
}

// Token signs a token as oidc.Issuer does.
func (i *Issuer) Token(t testing.TB, subject string, changes ...func(*jwt.Claims)) string {
	t.Helper()
	token, err := i.Issuer.Token(subject, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TokenFile writes a token as the kubelet does, without a newline, and returns the file's path.
func (i *Issuer) TokenFile(t testing.TB, subject string, changes ...func(*jwt.Claims)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(i.Token(t, subject, changes...)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
