package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
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

func TestPublishSkipsWhatIsUnchanged(t *testing.T) {
	s := testSettings(t, "--platforms=linux/amd64")
	spec := testSpec(s)
	path := filepath.Join(s.out, "kms-agent.tar")
	step := func(spec imageSpec) string {
		t.Helper()
		var out bytes.Buffer
		if err := publish(t.Context(), progress{out: &out}, s, spec, path); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := step(spec); !strings.Contains(got, "wrote") {
		t.Errorf("the first time: %q, want it written", got)
	}
	if got := step(spec); !strings.Contains(got, "unchanged") {
		t.Errorf("the second time: %q, want it unchanged", got)
	}
	spec.platforms[0].layers[1][0].Data = append([]byte(nil), "another binary"...)
	if got := step(spec); !strings.Contains(got, "wrote") {
		t.Errorf("with another binary: %q, want it written", got)
	}
	if err := os.WriteFile(path, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := step(spec); !strings.Contains(got, "wrote") {
		t.Errorf("over a broken archive: %q, want it written", got)
	}
	if left, _ := filepath.Glob(filepath.Join(s.out, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKey(t *testing.T) {
	spec := func(change func(*imageSpec)) string {
		s := imageSpec{ref: "team/app:dev", platforms: []platformSpec{{hostPlatform, [][]entry{{{Path: "/a", Mode: 0o644, Data: []byte("1")}}}}}}
		change(&s)
		return s.key()
	}
	keys := map[string]string{}
	for what, change := range map[string]func(*imageSpec){
		"nothing":  func(*imageSpec) {},
		"ref":      func(s *imageSpec) { s.ref = "team/app:v1" },
		"user":     func(s *imageSpec) { s.config.User = "1" },
		"platform": func(s *imageSpec) { s.platforms[0].platform.arch = "riscv64" },
		"path":     func(s *imageSpec) { s.platforms[0].layers[0][0].Path = "/b" },
		"mode":     func(s *imageSpec) { s.platforms[0].layers[0][0].Mode = fs.ModeSymlink | 0o644 },
		"content":  func(s *imageSpec) { s.platforms[0].layers[0][0].Data = []byte("2") },
	} {
		key := spec(change)
		if other, same := keys[key]; same {
			t.Errorf("a change of %s gives the key of a change of %s", what, other)
		}
		keys[key] = what
	}
}

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
	if got, want := names(s.images), []string{"kms-webhook", "kms-agent", "kms-emulator"}; !slices.Equal(got, want) {
		t.Errorf("without names: %v, want %v", got, want)
	}
	s = testSettings(t, "--platforms=linux/arm64", "demo-app", "kms-agent")
	if got, want := names(s.images), []string{"kms-agent", "demo-app"}; !slices.Equal(got, want) {
		t.Errorf("with names: %v, want %v", got, want)
	}
	s = testSettings(t, "--registry=registry.example.com", "--repository=team", "--tag=v1", "kms-agent")
	if got, want := newSpec(s.images[0], s).ref, "registry.example.com/team/kms-agent:v1"; got != want {
		t.Errorf("the reference is %q, want %q", got, want)
	}
	for _, args := range [][]string{{"--platforms=windows/amd64"}, {"--platforms=linux"}, {"kms-agnet"}, {"--push"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestLayerRefusesAPathTwice(t *testing.T) {
	_, err := layerTar([]entry{{Path: "/a"}, {Path: "/a"}})
	if err == nil || !strings.Contains(err.Error(), "/a") {
		t.Errorf("error is %v, want one that names /a", err)
	}
}
