package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	for ref, want := range map[string]string{
		"kms-agent-injector/kms-agent:dev":    "docker.io/kms-agent-injector/kms-agent:dev",
		"registry.example.com/team/agent:v1":  "registry.example.com/team/agent:v1",
		"registry.example.com:5000/agent:1.0": "registry.example.com:5000/agent:1.0",
	} {
		if got, err := canonical(ref); err != nil || got != want {
			t.Errorf("canonical(%q) = %q, %v, want %q", ref, got, err, want)
		}
	}
	if _, err := canonical("Team/agent:dev"); err == nil {
		t.Error("a reference with a capital letter was accepted")
	}
}

func TestParse(t *testing.T) {
	s := testSettings(t)
	if want := []string{"kms-agent", "kms-emulator", "kms-sync", "kms-webhook"}; !slices.Equal(s.images, want) {
		t.Errorf("without names: %v, want %v", s.images, want)
	}
	s = testSettings(t, "--registry=registry.example.com", "--repository=team", "--tag=v1", "kms-agent")
	if got, want := s.ref(s.images[0]), "registry.example.com/team/kms-agent:v1"; got != want {
		t.Errorf("the reference is %q, want %q", got, want)
	}
	for _, args := range [][]string{{"--platforms=windows/amd64"}, {"--platforms=linux"}, {"kms-agnet"}, {"--push"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestLayerRefusesAPathTwice(t *testing.T) {
	_, err := layerTar([]file{{path: "/a"}, {path: "/a"}})
	if err == nil || !strings.Contains(err.Error(), "/a") {
		t.Errorf("error is %v, want one that names /a", err)
	}
}
