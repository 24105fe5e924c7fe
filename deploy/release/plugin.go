package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// pluginPlatforms are where people type kubectl.
var pluginPlatforms = []string{"darwin/amd64", "darwin/arm64", "linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64"}

// A download is the plugin for one platform, as krew's manifest names it.
type download struct {
	OS, Arch, Archive, Binary, SHA256 string
}

// makePlugin builds kubectl-kms for each platform, packs it with the licences, and fills in the manifest for krew.
func makePlugin(ctx context.Context, s settings, dir string) error {
	var downloads []download
	var binaries []string
	for _, platform := range pluginPlatforms {
		system, arch, _ := strings.Cut(platform, "/")
		d := download{OS: system, Arch: arch, Binary: "kubectl-kms"}
		archive, extension := tarball, ".tar.gz"
		if system == "windows" {
			d.Binary, archive, extension = "kubectl-kms.exe", zipped, ".zip"
		}
		d.Archive = "kubectl-kms-" + s.version + "-" + system + "-" + arch + extension
		binary := filepath.Join(s.out, "plugin", system+"_"+arch, d.Binary)
		if err := buildPlugin(ctx, system, arch, binary); err != nil {
			return err
		}
		binaries = append(binaries, binary)
		files := []file{{name: d.Binary, mode: 0o755}, {name: "LICENSE", mode: 0o644}, {name: licensesFile, mode: 0o644}}
		for i, path := range []string{binary, "LICENSE", licensesFile} {
			var err error
			if files[i].data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		data, err := archive(files)
		if err != nil {
			return err
		}
		d.SHA256 = fmt.Sprintf("%x", sha256.Sum256(data))
		downloads = append(downloads, d)
		if err := write(dir, d.Archive, data); err != nil {
			return err
		}
	}
	if err := writeSBOM(dir, "kubectl-kms", s.version, binaries); err != nil {
		return err
	}
	manifest, err := krew(s.version, downloads)
	if err != nil {
		return err
	}
	return write(dir, "kms.yaml", manifest)
}

// buildPlugin links the plugin as the images' binaries are linked: without cgo, paths of this machine and symbols.
func buildPlugin(ctx context.Context, system, arch, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", binary, "./cmd/kubectl-kms")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build kubectl-kms for %s/%s: %w\n%s", system, arch, err, out)
	}
	return nil
}

const krewManifest = "deploy/krew/kms.yaml"

// krew fills in the plugin's manifest, a template.
func krew(version string, downloads []download) ([]byte, error) {
	text, err := os.ReadFile(krewManifest)
	if err != nil {
		return nil, err
	}
	t, err := template.New(krewManifest).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	err = t.Execute(&out, struct {
		Version   string
		Downloads []download
	}{version, slices.Clone(downloads)})
	return []byte(out.String()), err
}
