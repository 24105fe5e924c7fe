package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	chartName    = "kms-agent-injector"
	chartDir     = "deploy/chart/" + chartName
	manifestsDir = "deploy/manifests"
)

// makeImages builds the multi-arch OCI archives, and writes the bill of materials of each from what its binaries say.
func makeImages(ctx context.Context, s settings, dir string) error {
	built := filepath.Join(s.out, "images")
	args := append([]string{"run", "./deploy/images", "-tag", s.version, "-out", built, "-registry", s.registry}, images...)
	if _, err := output(ctx, "go", args...); err != nil {
		return err
	}
	for _, product := range images {
		data, err := os.ReadFile(filepath.Join(built, product+".tar"))
		if err != nil {
			return err
		}
		if err := write(dir, product+"-"+s.version+".oci.tar", data); err != nil {
			return err
		}
		binaries, err := filepath.Glob(filepath.Join(built, "bin", "linux_*", product))
		if err != nil {
			return err
		}
		if err := writeSBOM(dir, product, s.version, binaries); err != nil {
			return err
		}
	}
	return nil
}

// images are what a release has of its own, in the order of their names.
var images = []string{"kms-agent", "kms-webhook"}

// readDigests returns the digests by which a registry knows the release's images, by their names.
func readDigests(dir, version string) (map[string]string, error) {
	digests := map[string]string{}
	for _, image := range images {
		archive := filepath.Join(dir, image+"-"+version+".oci.tar")
		digest, err := readDigest(archive)
		if err != nil {
			return nil, fmt.Errorf("digest of %s: %w", archive, err)
		}
		digests[image] = digest
	}
	return digests, nil
}

// readDigest returns the digest of the one image that an OCI layout in a tar archive has.
func readDigest(archive string) (string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			return "", fmt.Errorf("index.json: %w", err)
		}
		if h.Name != "index.json" {
			continue
		}
		var index struct{ Manifests []struct{ Digest string } }
		if err := json.NewDecoder(r).Decode(&index); err != nil {
			return "", err
		}
		if len(index.Manifests) != 1 || !strings.HasPrefix(index.Manifests[0].Digest, "sha256:") {
			return "", fmt.Errorf("index.json names %d images, want one, by its digest", len(index.Manifests))
		}
		return index.Manifests[0].Digest, nil
	}
}

// makeChart packs the chart as helm package does, but for the time stamps.
func makeChart(_ context.Context, s settings, dir string) error {
	digests, err := readDigests(dir, s.version)
	if err != nil {
		return err
	}
	data, err := chart(s, digests)
	if err != nil {
		return err
	}
	return write(dir, chartName+"-"+strings.TrimPrefix(s.version, "v")+".tgz", data)
}

// chart is the chart of a version, whose images are the version's own, by their digests.
func chart(s settings, digests map[string]string) ([]byte, error) {
	files, err := readTree(chartDir, chartName)
	if err != nil {
		return nil, err
	}
	replaced := 0
	for i, f := range files {
		var pairs []string
		switch f.name {
		case path.Join(chartName, "Chart.yaml"):
			pairs = []string{"\nversion: 0.1.0\n", "\nversion: " + strings.TrimPrefix(s.version, "v") + "\n", "\nappVersion: dev\n", "\nappVersion: " + s.version + "\n"}
		case path.Join(chartName, "values.yaml"):
			pairs = []string{
				"\n  registry: \"\"\n", "\n  registry: \"" + s.registry + "\"\n",
				"\n  digest: \"\"\n", "\n  digest: \"" + digests["kms-webhook"] + "\"\n",
				"\n  agentDigest: \"\"\n", "\n  agentDigest: \"" + digests["kms-agent"] + "\"\n",
			}
		}
		for j := 0; j < len(pairs); j += 2 {
			replaced += bytes.Count(f.data, []byte(pairs[j]))
			files[i].data = bytes.ReplaceAll(files[i].data, []byte(pairs[j]), []byte(pairs[j+1]))
		}
	}
	if replaced != 5 {
		return nil, fmt.Errorf("the chart is not as expected: in Chart.yaml and values.yaml there are %d places to write version, registry and digests, want 5", replaced)
	}
	return tarball(files)
}

// makeManifests packs what kubectl apply -k takes.
func makeManifests(_ context.Context, s settings, dir string) error {
	digests, err := readDigests(dir, s.version)
	if err != nil {
		return err
	}
	data, err := manifests(s, digests)
	if err != nil {
		return err
	}
	return write(dir, chartName+"-manifests-"+s.version+".tar.gz", data)
}

// manifests are the plain manifests of a version, whose images are the version's own, by their digests.
func manifests(s settings, digests map[string]string) ([]byte, error) {
	files, err := readTree(manifestsDir, chartName)
	if err != nil {
		return nil, err
	}
	for i := range files {
		text := string(files[i].data)
		for _, image := range images {
			text = strings.ReplaceAll(text, chartName+"/"+image+":dev", path.Join(s.registry, chartName, image)+":"+s.version+"@"+digests[image])
		}
		files[i].data = []byte(strings.ReplaceAll(text, `app.kubernetes.io/version: "dev"`, `app.kubernetes.io/version: "`+s.version+`"`))
	}
	return tarball(files)
}

// write writes a file of the release.
func write(dir, name string, data []byte) error {
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}
