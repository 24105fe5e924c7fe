package main

import (
	"bytes"
	"context"
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
	args := []string{"run", "./deploy/images", "-tag", s.version, "-out", built, "-registry", s.registry, "kms-webhook", "kms-agent"}
	if _, err := output(ctx, "go", args...); err != nil {
		return err
	}
	for _, product := range []string{"kms-webhook", "kms-agent"} {
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

// makeChart packs the chart as helm package does, but for the time stamps.
func makeChart(_ context.Context, s settings, dir string) error {
	data, err := chart(s)
	if err != nil {
		return err
	}
	return write(dir, chartName+"-"+strings.TrimPrefix(s.version, "v")+".tgz", data)
}

// chart is the chart of a version, whose images are the version's own.
func chart(s settings) ([]byte, error) {
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
			pairs = []string{"\n  registry: \"\"\n", "\n  registry: \"" + s.registry + "\"\n"}
		}
		for j := 0; j < len(pairs); j += 2 {
			replaced += bytes.Count(f.data, []byte(pairs[j]))
			files[i].data = bytes.ReplaceAll(files[i].data, []byte(pairs[j]), []byte(pairs[j+1]))
		}
	}
	if replaced != 3 {
		return nil, fmt.Errorf("the chart is not as expected: in Chart.yaml and values.yaml there are %d places to write version and registry, want 3", replaced)
	}
	return tarball(files)
}

// makeManifests packs what kubectl apply -k takes.
func makeManifests(_ context.Context, s settings, dir string) error {
	data, err := manifests(s)
	if err != nil {
		return err
	}
	return write(dir, chartName+"-manifests-"+s.version+".tar.gz", data)
}

// manifests are the plain manifests of a version.
func manifests(s settings) ([]byte, error) {
	files, err := readTree(manifestsDir, chartName)
	if err != nil {
		return nil, err
	}
	for i := range files {
		text := string(files[i].data)
		for _, image := range []string{"kms-webhook", "kms-agent"} {
			text = strings.ReplaceAll(text, chartName+"/"+image+":dev", path.Join(s.registry, chartName, image)+":"+s.version)
		}
		files[i].data = []byte(strings.ReplaceAll(text, `app.kubernetes.io/version: "dev"`, `app.kubernetes.io/version: "`+s.version+`"`))
	}
	return tarball(files)
}

// write writes a file of the release.
func write(dir, name string, data []byte) error {
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}
