//go:build linux

package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/build"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/image"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// LoadCertManager builds cert-manager's programs once and loads their images into the node: localhost/kms-cluster/cert-manager-controller,
// -cainjector and -webhook, with the tag dev. It returns the folder of cert-manager's Helm chart of the same version.
func (c *Cluster) LoadCertManager(ctx context.Context, output io.Writer) (chart string, err error) {
	source, err := findSource()
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	module := certManagerModule(source)
	programs, err := module.Ensure(ctx, cache, progress.New(output))
	if err != nil {
		return "", err
	}
	binary, err := os.ReadFile(filepath.Join(programs, "certmanager-binary"))
	if err != nil {
		return "", err
	}
	var tarballs []string
	for _, name := range []string{"controller", "cainjector", "webhook"} {
		tarball := filepath.Join(c.dir, "cert-manager-"+name+".tar")
		config := v1.Config{Entrypoint: []string{"/" + name}, User: "65532:65532"}
		reference := "localhost/kms-cluster/cert-manager-" + name + ":dev"
		if err := image.Write(tarball, reference, config, image.File{Path: name, Data: binary}); err != nil {
			return "", fmt.Errorf("make cert-manager's image: %w", err)
		}
		tarballs = append(tarballs, tarball)
	}
	if err := c.LoadImages(ctx, tarballs...); err != nil {
		return "", err
	}
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	list.Dir = module.Dir
	out, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find cert-manager's chart: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "deploy/charts/cert-manager"), nil
}

func certManagerModule(source string) build.Module {
	return build.Module{
		Name:  "cert-manager",
		Dir:   filepath.Join(source, "test/cluster/certmanager"),
		Steps: []build.Step{{Packages: []string{"."}, LDFlags: "-s -w"}},
	}
}
