package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// testSettings are the defaults, with an output folder of the test's own.
func testSettings(t *testing.T, args ...string) settings {
	t.Helper()
	s, err := parse(append([]string{"--out", t.TempDir()}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// testSpec is a product's image with short texts for the binaries and the certificate authorities.
func testSpec(s settings) imageSpec {
	binaries := map[binaryKey]binary{}
	for _, p := range s.platforms {
		binaries[binaryKey{"kms-agent", p}] = binary{data: []byte("binary for " + p.String()), commit: "c0ffee"}
	}
	base := append(userFiles(), entry{Path: caPath, Mode: 0o644, Data: []byte("roots\n")})
	return productSpec(products[1], s, base, binaries)
}

func write(t *testing.T, path string, spec imageSpec) {
	t.Helper()
	index, err := spec.index()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeArchive(path, spec, index); err != nil {
		t.Fatal(err)
	}
}

// unpack reads an archive back as the layout that a container runtime sees.
func unpack(t *testing.T, archive string) v1.ImageIndex {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// files are an image's files after all its layers.
func files(t *testing.T, image v1.Image) map[string]*tar.Header {
	t.Helper()
	rc := mutate.Extract(image)
	defer rc.Close()
	out := map[string]*tar.Header{}
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out["/"+strings.Trim(h.Name, "/")] = h
	}
}

func TestArchive(t *testing.T) {
	s := testSettings(t)
	spec := testSpec(s)
	path := filepath.Join(s.out, "kms-agent.tar")
	write(t, path, spec)

	outer, err := unpack(t, path).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(outer.Manifests) != 1 || outer.Manifests[0].MediaType != types.OCIImageIndex {
		t.Fatalf("the layout lists %+v, want one index over the platforms", outer.Manifests)
	}
	if got, want := outer.Manifests[0].Annotations[containerdName], "docker.io/kms-agent-injector/kms-agent:dev"; got != want {
		t.Errorf("containerd would call the image %q, want %q, which is what the kubelet asks it for", got, want)
	}
	index, err := unpack(t, path).ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("the index is not valid: %v", err)
	}
	inner, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range inner.Manifests {
		platforms = append(platforms, m.Platform.String())
		image, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkProduct(t, image, m.Platform)
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(platforms, want) {
		t.Errorf("platforms are %v, want %v", platforms, want)
	}
}

func checkProduct(t *testing.T, image v1.Image, platform *v1.Platform) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != platform.OS || config.Architecture != platform.Architecture {
		t.Errorf("the image listed for %s is for %s/%s", platform, config.OS, config.Architecture)
	}
	if got, want := config.Config.User, "65532:65532"; got != want {
		t.Errorf("user is %q, want %q", got, want)
	}
	if got, want := config.Config.Entrypoint, []string{"/kms-agent"}; !slices.Equal(got, want) {
		t.Errorf("entrypoint is %q, want %q", got, want)
	}
	for _, label := range []string{"title", "description", "version", "source", "licenses", "revision"} {
		if config.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("label %s is missing", label)
		}
	}
	// The exact list: neither a shell nor anything else can slip in.
	got := files(t, image)
	want := map[string]int64{
		"/etc": 0o755, "/etc/group": 0o644, "/etc/passwd": 0o644, "/etc/ssl": 0o755, "/etc/ssl/certs": 0o755, caPath: 0o644,
		"/kms-agent": 0o755, "/tmp": 0o1777,
	}
	for path, mode := range want {
		h, ok := got[path]
		switch {
		case !ok:
			t.Errorf("%s is missing", path)
		case h.Mode != mode:
			t.Errorf("%s has mode %o, want %o", path, h.Mode, mode)
		case h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(epoch):
			t.Errorf("%s belongs to %d:%d and is of %s, want root and the epoch", path, h.Uid, h.Gid, h.ModTime)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s does not belong there", path)
		}
	}
}

func TestArchivesOfEqualContentAreEqual(t *testing.T) {
	s := testSettings(t)
	spec := testSpec(s)
	one, two := filepath.Join(s.out, "one.tar"), filepath.Join(s.out, "two.tar")
	write(t, one, spec)
	write(t, two, spec)
	a, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(two)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("two archives of one content differ")
	}
}
