package openapi

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// The password of a proxy is in no error. The test runs in a process of its own: net/http reads the environment once.
func TestProxyThatIsNoURL(t *testing.T) {
	const variable = "HTTPS_PROXY=http://svc:S3cr%tPW@proxy.corp:3128"
	if !slices.Contains(os.Environ(), variable) {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$") //nolint:gosec // itself
		cmd.Env = append(os.Environ(), variable)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		return
	}
	client, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Call(t.Context(), nil, Action{Host: "kms.cn-hangzhou.aliyuncs.com"})
	if err == nil || !strings.Contains(err.Error(), "HTTPS_PROXY") || strings.Contains(err.Error(), "S3cr") {
		t.Error(err)
	}
}
