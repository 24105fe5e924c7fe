package main

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // no credentials

	s := testSettings(t, "--push", "--registry="+strings.TrimPrefix(server.URL, "http://"), "--tag=v1")
	_, printed, _ := publish(t, s)
	ref, err := name.ParseReference(s.ref("kms-agent"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != len(s.platforms) {
		t.Errorf("the registry has %d platforms, want %d", len(manifest.Manifests), len(s.platforms))
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(printed, ref.Name()+"@"+digest.String()) {
		t.Errorf("the output does not name what was pushed:\n%s", printed)
	}
}
