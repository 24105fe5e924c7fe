package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"maps"
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

// testSettings are the defaults, with a temporary output folder that has short texts as binaries.
func testSettings(t *testing.T, args ...string) settings {
	t.Helper()
	s, err := parse(append([]string{"--out", t.TempDir()}, args...), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.platforms {
		for _, name := range s.images {
			path := s.binary(p, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("binary for "+p.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// publish publishes the agent's image and returns the archive's path and the output.
func publish(t *testing.T, s settings) (archive, printed string, index v1.ImageIndex) {
	t.Helper()
	index, err := s.index("kms-agent", baseFiles([]byte("ours"), []byte("theirs")))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := s.publish(t.Context(), &out, "kms-agent", index); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(s.out, "kms-agent.tar"), out.String(), index
}

// unpack reads an archive as a container runtime does.
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

// files returns an image's files, all layers applied.
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
	path, _, _ := publish(t, s)
	outer, err := unpack(t, path).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(outer.Manifests) != 1 || outer.Manifests[0].MediaType != types.OCIImageIndex {
		t.Fatalf("the layout lists %+v, want one index over the platforms", outer.Manifests)
	}
	if digest, err := os.ReadFile(path + ".digest"); err != nil || string(digest) != outer.Manifests[0].Digest.String() {
		t.Errorf("the file beside the archive says %q, %v; the archive has %s", digest, err, outer.Manifests[0].Digest)
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
	for _, label := range []string{"title", "description", "version", "source", "licenses"} {
		if config.Config.Labels["org.opencontainers.image."+label] == "" {
			t.Errorf("label %s is missing", label)
		}
	}
	// The list is exact, so that no shell or other file can be added unnoticed.
	got := files(t, image)
	want := map[string]int64{
		"/etc": 0o755, "/etc/group": 0o644, "/etc/passwd": 0o644, "/etc/ssl": 0o755, "/etc/ssl/certs": 0o755, caPath: 0o644,
		"/kms-agent": 0o755, "/licenses": 0o755, "/licenses/LICENSE": 0o644, "/licenses/THIRD_PARTY_LICENSES": 0o644, "/tmp": 0o1777,
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
	var archives [2][]byte
	for i := range archives {
		path, _, _ := publish(t, s)
		var err error
		if archives[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of one content differ")
	}
	if left, _ := filepath.Glob(filepath.Join(s.out, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The bundle has only valid certificates, among them the roots of the cloud's endpoints.
func TestRoots(t *testing.T) {
	var roots []byte
	for _, f := range baseFiles(nil, nil) {
		if f.path == caPath {
			roots = f.data
		}
	}
	names := map[string]bool{}
	for block, rest := pem.Decode(roots); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names[certificate.Subject.CommonName] = true
	}
	if len(names) < 100 || !names["GlobalSign"] || !names["GlobalSign Root R46"] || !names["DigiCert Global Root G2"] {
		t.Errorf("there are %d public certificate authorities: %v", len(names), slices.Sorted(maps.Keys(names)))
	}
}
