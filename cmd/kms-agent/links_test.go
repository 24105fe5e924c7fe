package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The agent is multiplied by every pod: what it links is paid for in each of them.
func TestLinksNothingOfKubernetes(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("go list -deps lists only %d packages", len(packages))
	}
	for _, name := range packages {
		for _, forbidden := range []string{"k8s.io/", "sigs.k8s.io/", "github.com/cert-manager/", "github.com/prometheus/", "go.uber.org/zap"} {
			if strings.HasPrefix(name, forbidden) {
				t.Errorf("links %s", name)
			}
		}
	}
}
