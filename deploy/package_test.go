//go:build chart

package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// pack runs package.sh and returns the folder that it writes.
func pack(t *testing.T, version, registry, webhook, agent, sync string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "./package.sh", version, registry, webhook, agent, sync, dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return dir, err
}

// The charts and manifests of a version name its images by digest.
func TestChartAndManifestsOfAVersion(t *testing.T) {
	const registry = "registry.example.com/team"
	agent, webhook := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	sync := "sha256:" + strings.Repeat("c", 64)
	dir, err := pack(t, "v1.2.3-rc.1", registry, webhook, agent, sync)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "kms-agent-injector-1.2.3-rc.1.tgz")
	inChart := func(name string) string {
		text, err := exec.CommandContext(t.Context(), "tar", "-xOf", archive, "kms-agent-injector/"+name).Output()
		if err != nil || len(text) == 0 {
			t.Fatalf("the chart has no %s: %v", name, err)
		}
		return string(text)
	}
	var meta struct {
		Name, Version, AppVersion string
		Annotations               map[string]string
	}
	if err := yaml.Unmarshal([]byte(inChart("Chart.yaml")), &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Name != "kms-agent-injector" || meta.Version != "1.2.3-rc.1" || meta.AppVersion != "v1.2.3-rc.1" {
		t.Errorf("the chart is %+v", meta)
	}
	var images []struct{ Name, Image string }
	if err := yaml.Unmarshal([]byte(meta.Annotations["artifacthub.io/images"]), &images); err != nil {
		t.Fatal(err)
	}
	for i, digest := range []string{webhook, agent} {
		if want := registry + "/kms-agent-injector/" + images[i].Name + ":v1.2.3-rc.1@" + digest; images[i].Image != want {
			t.Errorf("Artifact Hub reads the image %s, want %s", images[i].Image, want)
		}
	}
	var values struct {
		Image struct{ Registry, Digest, AgentDigest string }
	}
	if err := yaml.Unmarshal([]byte(inChart("values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	if i := values.Image; i.Registry != registry || i.Digest != webhook || i.AgentDigest != agent {
		t.Errorf("the chart's images are %+v", i)
	}
	for _, name := range []string{"README.md", "values.schema.json", "templates/deployment.yaml", "monitoring/alerts.yaml"} {
		inChart(name)
	}

	inSync := func(name string) string {
		text, err := exec.CommandContext(t.Context(), "tar", "-xOf", filepath.Join(dir, "kms-sync-1.2.3-rc.1.tgz"), "kms-sync/"+name).Output()
		if err != nil {
			t.Fatalf("the chart of kms-sync has no %s: %v", name, err)
		}
		return string(text)
	}
	for file, line := range map[string]string{
		"values.yaml": "  registry: \"" + registry + "\"\n",
		"Chart.yaml":  "image: " + registry + "/kms-agent-injector/kms-sync:v1.2.3-rc.1@" + sync,
		"README.md":   "| `command.region` |", "monitoring/dashboard.json": "kms_sync_ready",
	} {
		if text := inSync(file); !strings.Contains(text, line) {
			t.Errorf("%s of the chart of kms-sync does not have %q:\n%s", file, line, text)
		}
	}
	if !strings.Contains(inSync("values.yaml"), "  digest: \""+sync+"\"\n") {
		t.Errorf("the chart of kms-sync does not name the version's image by its digest")
	}

	manifests := filepath.Join(dir, "kms-agent-injector")
	for _, folder := range []string{".", "cert-manager"} {
		for file, image := range map[string]string{"deployment.yaml": "kms-webhook:v1.2.3-rc.1@" + webhook,
			"config.yaml": "kms-agent:v1.2.3-rc.1@" + agent} {
			if text := read(t, filepath.Join(manifests, folder, file)); !strings.Contains(text,
				"image: "+registry+"/kms-agent-injector/"+image+"\n") {
				t.Errorf("%s/%s does not have the version's image:\n%s", folder, file, text)
			}
		}
	}
	err = filepath.WalkDir(manifests, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if text := read(t, path); strings.Contains(text, ":dev") || strings.Contains(text, `"dev"`) {
				t.Errorf("%s is of no version", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNoDigestNoRelease(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, digests := range [][3]string{
		{"", digest, digest}, {digest, "", digest}, {digest, digest, "latest"}, {"sha256:abc", digest, digest},
	} {
		if dir, err := pack(t, "v1.2.3", "", digests[0], digests[1], digests[2]); err == nil {
			found, _ := filepath.Glob(dir + "/*")
			t.Errorf("%q: made %v", digests, found)
		}
	}
}

// helm upgrade --reuse-values keeps the default values of the chart that is installed: the digests of its images, under the tag of the new
// version. Both charts refuse that.
func TestDigestsOfAnotherVersion(t *testing.T) {
	charts := map[string]string{}
	for version, digit := range map[string]string{"v1.2.3": "3", "v1.2.4": "4"} {
		digest := "sha256:" + strings.Repeat(digit, 64)
		dir, err := pack(t, version, "", digest, digest, digest)
		if err != nil {
			t.Fatal(err)
		}
		charts[version] = dir
	}
	for name, args := range map[string][]string{"kms-agent-injector": required, "kms-sync": {"--set", requiredSync}} {
		old := filepath.Join(t.TempDir(), "values.yaml")
		text, err := exec.CommandContext(t.Context(), "tar", "-xOf", filepath.Join(charts["v1.2.3"], name+"-1.2.3.tgz"),
			name+"/values.yaml").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(old, text, 0o600); err != nil {
			t.Fatal(err)
		}
		upgrade := func(more ...string) (string, error) {
			return helm(t, slices.Concat([]string{"template", "x", filepath.Join(charts["v1.2.4"], name+"-1.2.4.tgz")}, args, more)...)
		}
		if text, err := upgrade(); err != nil || !strings.Contains(text, ":v1.2.4@sha256:4") {
			t.Errorf("%s: the chart does not name its own images: %v", name, err)
		}
		if text, err := upgrade("--values", old); err == nil || !strings.Contains(err.Error(), "image.digestTag is v1.2.3") ||
			!strings.Contains(err.Error(), "--reset-then-reuse-values") {
			t.Errorf("%s: v1.2.4 with the values of v1.2.3 renders an image of v1.2.3: %t, and the error is %v", name,
				strings.Contains(text, ":v1.2.4@sha256:3"), err)
		}
		if _, err := upgrade("--values", old, "--set", "image.tag=v1.2.3"); err != nil {
			t.Errorf("%s: the chart refuses a tag that the values have: %v", name, err)
		}
	}
}
