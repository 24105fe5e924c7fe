package main

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // nobody's credentials

	s := testSettings(t, "--push", "--registry="+strings.TrimPrefix(server.URL, "http://"), "--tag=v1")
	spec := testSpec(s)
	var out bytes.Buffer
	if err := publish(t.Context(), progress{out: &out}, s, spec, filepath.Join(s.out, "kms-agent.tar")); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(spec.ref)
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
	if !strings.Contains(out.String(), spec.ref+"@"+digest.String()) {
		t.Errorf("the output does not name what was pushed:\n%s", out.String())
	}
}
