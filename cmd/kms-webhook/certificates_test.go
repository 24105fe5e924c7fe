package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrongFlagsOfCertificates(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(cluster), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POD_NAMESPACE", "")
	for name, c := range map[string]struct {
		args    []string
		message string
	}{
		"namespace":     {[]string{"--kubeconfig=" + kubeconfig}, "POD_NAMESPACE"},
		"files":         {[]string{"--namespace=kms", "--kubeconfig=" + kubeconfig, "--cert-mode=files"}, "self-signed, cert-manager"},
		"no dashes":     {[]string{"--namespace=kms", "check"}, `"check" is not a flag`},
		"no API server": {[]string{"--namespace=kms", "--kubeconfig=" + kubeconfig, "--check"}, "kms-webhook-ca"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(context.Background(), append([]string{"certificates"}, c.args...)); err == nil ||
				!strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v, want it to say %q", err, c.message)
			}
		})
	}
}
