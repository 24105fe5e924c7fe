package openapi

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// An authority that is not there yet is no reason to give up; the answer to a call says that it is missing, and which file.
func TestAuthorityThatComesLater(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	file := filepath.Join(t.TempDir(), "kms.pem")
	if _, err := New(Settings{CAFile: file}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("without CALate: %v", err)
	}
	client, err := New(Settings{CAFile: file, CALate: true})
	if err != nil {
		t.Fatal(err)
	}
	send := func() error {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Send(req)
		return err
	}
	unusable := new(CAError)
	if err := send(); !errors.As(err, &unusable) || !errors.Is(unusable.CA, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"", "no PEM"} {
		write(text)
		unusable = new(CAError)
		if err := send(); !errors.As(err, &unusable) || errors.Is(unusable.CA, fs.ErrNotExist) {
			t.Errorf("a file of %q: %v", text, err)
		}
	}
	write(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	if err := send(); err != nil {
		t.Errorf("the right authority: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	if err := send(); err != nil {
		t.Errorf("the last authority does not stay in force: %v", err)
	}
}
