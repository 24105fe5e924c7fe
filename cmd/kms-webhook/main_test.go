package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const cluster = `
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c}}]
current-context: c
`

func TestWrongFlags(t *testing.T) {
	missing, kubeconfig := filepath.Join(t.TempDir(), "missing"), filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(cluster), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POD_NAMESPACE", "")
	for name, c := range map[string]struct {
		args    []string
		message string
	}{
		"no config":    {nil, "--config is missing"},
		"unknown flag": {[]string{"--confg=x"}, "flag provided but not defined"},
		"no dashes":    {[]string{"--config=x", "cert-mode=files", "--drain=9s"}, `"cert-mode=files" is not a flag`},
		"log level":    {[]string{"--config=x", "--log-level=loud"}, "--log-level"},
		"kubeconfig":   {[]string{"--config=x", "--kubeconfig=" + missing}, missing},
		"mode":         {[]string{"--config=x", "--kubeconfig=" + kubeconfig, "--cert-mode=self"}, "self-signed, cert-manager, files"},
		"namespace":    {[]string{"--config=x", "--kubeconfig=" + kubeconfig}, "POD_NAMESPACE"},
		"certificate":  {[]string{"--config=x", "--kubeconfig=" + kubeconfig, "--cert-mode=files", "--cert-dir=" + missing}, missing},
		"config":       {[]string{"--config=" + missing, "--kubeconfig=" + kubeconfig, "--namespace=kms"}, missing},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(context.Background(), append([]string{"--port=0", "--metrics-bind-address=127.0.0.1:0",
				"--health-probe-bind-address=127.0.0.1:0"}, c.args...))
			if err == nil || errors.Is(err, flag.ErrHelp) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v, want it to say %q", err, c.message)
			}
		})
	}
}
