package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write THIRD_PARTY_LICENSES anew")

// unpack reads a .tar.gz.
func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(compressed); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) || h.Uname != "" || h.Uid != 0 {
			t.Errorf("%s tells of the machine that it was made on: %v, %q, %d", h.Name, h.ModTime, h.Uname, h.Uid)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}

func TestChartAndManifestsOfAVersion(t *testing.T) {
	t.Chdir("../..")
	s := settings{version: "v1.2.3-rc.1", registry: "registry.example.com/team"}
	dir, digests := t.TempDir(), map[string]string{"kms-agent": "sha256:" + strings.Repeat("a", 64), "kms-webhook": "sha256:" + strings.Repeat("b", 64)}
	for image, digest := range digests { // as deploy/images writes them
		if err := write(dir, image+"-v1.2.3-rc.1.oci.tar", layout(t, digest)); err != nil {
			t.Fatal(err)
		}
	}
	read, err := readDigests(dir, s.version)
	if err != nil || !maps.Equal(read, digests) {
		t.Fatalf("the archives' digests are %v, %v", read, err)
	}
	packed, err := chart(s, read)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, packed)
	var meta struct{ Name, Version, AppVersion string }
	if err := yaml.Unmarshal([]byte(files["kms-agent-injector/Chart.yaml"]), &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Name != "kms-agent-injector" || meta.Version != "1.2.3-rc.1" || meta.AppVersion != "v1.2.3-rc.1" {
		t.Errorf("the chart is %+v", meta)
	}
	var values struct {
		Image struct{ Registry, Digest, AgentDigest string }
	}
	if err := yaml.Unmarshal([]byte(files["kms-agent-injector/values.yaml"]), &values); err != nil {
		t.Fatal(err)
	}
	if i := values.Image; i.Registry != s.registry || i.Digest != digests["kms-webhook"] || i.AgentDigest != digests["kms-agent"] {
		t.Errorf("the chart's images are %+v", i)
	}
	for _, name := range []string{"values.schema.json", "templates/deployment.yaml", "monitoring/alerts.yaml"} {
		if files["kms-agent-injector/"+name] == "" {
			t.Errorf("the chart has no %s", name)
		}
	}

	packed, err = manifests(s, read)
	if err != nil {
		t.Fatal(err)
	}
	files = unpack(t, packed)
	if text := files["kms-agent-injector/deployment.yaml"]; !strings.Contains(text, "image: registry.example.com/team/kms-agent-injector/kms-webhook:v1.2.3-rc.1@"+digests["kms-webhook"]+"\n") {
		t.Errorf("the webhook's image is not the version's:\n%s", text)
	}
	if text := files["kms-agent-injector/config.yaml"]; !strings.Contains(text, "image: registry.example.com/team/kms-agent-injector/kms-agent:v1.2.3-rc.1@"+digests["kms-agent"]+"\n") {
		t.Errorf("the agent's image is not the version's:\n%s", text)
	}
	for name, text := range files {
		if strings.Contains(text, ":dev") || strings.Contains(text, `"dev"`) {
			t.Errorf("%s is of no version", name)
		}
	}
}

// layout is a tar archive of an OCI image layout, of which only index.json is looked at.
func layout(t *testing.T, digest string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []file{{name: "blobs/sha256/x", data: []byte("{}")}, {name: "index.json", data: []byte(`{"schemaVersion":2,"manifests":[{"digest":"` + digest + `"}]}`)}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A release whose archives do not say their digests is not made.
func TestNoDigestNoRelease(t *testing.T) {
	for name, index := range map[string][]byte{"no archive": nil, "not an archive": []byte("x"), "no digest": layout(t, "latest")} {
		dir := t.TempDir()
		for _, image := range images {
			if index == nil {
				continue
			}
			if err := write(dir, image+"-v1.2.3.oci.tar", index); err != nil {
				t.Fatal(err)
			}
		}
		if err := makeChart(t.Context(), settings{version: "v1.2.3"}, dir); err == nil {
			t.Errorf("%s: a chart was made", name)
		}
		if err := makeManifests(t.Context(), settings{version: "v1.2.3"}, dir); err == nil {
			t.Errorf("%s: manifests were made", name)
		}
	}
}

func TestArchivesAreEqualForEqualFiles(t *testing.T) {
	files := []file{{"kubectl-kms", 0o755, []byte("program")}, {"LICENSE", 0o644, []byte("licence")}}
	for name, archive := range map[string]func([]file) ([]byte, error){"tar.gz": tarball, "zip": zipped} {
		first, err := archive(files)
		if err != nil {
			t.Fatal(err)
		}
		second, err := archive(files)
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: two archives of the same files differ; %v", name, err)
		}
	}
	packed, err := tarball(files)
	if err != nil {
		t.Fatal(err)
	}
	if got := unpack(t, packed); len(got) != 2 || got["kubectl-kms"] != "program" {
		t.Errorf("the archive has %v", got)
	}
	packed, err = zipped(files)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 2 || r.File[0].Mode() != 0o755 || r.File[0].UncompressedSize64 != 7 {
		t.Errorf("the zip has %+v", r.File)
	}
}

// A bill of materials has what the linker says, each module once, and the same bytes every time.
func TestBillOfMaterials(t *testing.T) {
	info, ok := debug.ReadBuildInfo()
	if !ok || len(info.Deps) == 0 {
		t.Fatal("the test does not know what it is linked of")
	}
	first, err := sbom("kms-agent", "v1.2.3", []*debug.BuildInfo{info})
	if err != nil {
		t.Fatal(err)
	}
	second, err := sbom("kms-agent", "v1.2.3", []*debug.BuildInfo{info, info})
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("a second platform with the same modules gives another document; %v", err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(first), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if c := bom.Metadata.Component; c.Name != "kms-agent" || c.Version != "v1.2.3" || bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Errorf("the document is about %+v, %q %q", c, bom.SerialNumber, bom.Metadata.Timestamp)
	}
	var got []string
	for _, c := range *bom.Components {
		got = append(got, c.PackageURL)
	}
	want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the document has\n%v\nthe program is linked of\n%v", got, want)
	}
	if d := (*bom.Dependencies)[0]; d.Ref != bom.Metadata.Component.BOMRef || !slices.Equal(*d.Dependencies, want) {
		t.Errorf("dependencies are %+v", d)
	}
}

func TestKrewManifest(t *testing.T) {
	t.Chdir("../..")
	text, err := krew("v1.2.3", []download{
		{"linux", "amd64", "kubectl-kms-v1.2.3-linux-amd64.tar.gz", "kubectl-kms", strings.Repeat("a", 64)},
		{"windows", "arm64", "kubectl-kms-v1.2.3-windows-arm64.zip", "kubectl-kms.exe", strings.Repeat("b", 64)},
	})
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Metadata struct{ Name string }
		Spec     struct {
			Version   string
			Platforms []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, SHA256, Bin string
			}
		}
	}
	if err := yaml.Unmarshal(text, &manifest); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if manifest.Metadata.Name != "kms" || manifest.Spec.Version != "v1.2.3" || len(manifest.Spec.Platforms) != 2 {
		t.Fatalf("the manifest is %+v", manifest)
	}
	p := manifest.Spec.Platforms[1]
	if p.Selector.MatchLabels["os"] != "windows" || p.Selector.MatchLabels["arch"] != "arm64" || p.Bin != "kubectl-kms.exe" || p.SHA256 != strings.Repeat("b", 64) ||
		p.URI != "https://github.com/kms-agent-injector/kms-agent-injector/releases/download/v1.2.3/kubectl-kms-v1.2.3-windows-arm64.zip" {
		t.Errorf("for Windows it has %+v", p)
	}
}

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a"} {
		if err := write(dir, name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := makeChecksums(t.Context(), settings{}, dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(dir + "/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	want := "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a\n3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  b\n"
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestVersions(t *testing.T) {
	for version, ok := range map[string]bool{"v1.2.3": true, "v1.2.3-rc.1": true, "1.2.3": false, "v1.2": false, "": false, "latest": false} {
		if _, err := parse([]string{"--version", version}, io.Discard); (err == nil) != ok {
			t.Errorf("version %q: %v", version, err)
		}
	}
}
