//go:build linux

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/image"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

// pauseImage is the image of the container that holds a pod's namespaces; there is no registry for the usual one.
const pauseImage = "localhost/kms-cluster/pause:dev"

// LoadImages loads images into the node from tarballs of OCI layouts, or written by `docker save`. They have the names in the
// tarballs and replace images of the same name. Pods must not use imagePullPolicy Always, because the cluster has no
// registry.
func (c *Cluster) LoadImages(ctx context.Context, tarballs ...string) error {
	process, err := node.Find(c.dir)
	if err != nil {
		return err
	}
	if process == nil {
		return fmt.Errorf("load images into %s: %w", c.dir, ErrNotRunning)
	}
	for _, file := range tarballs {
		cmd := exec.CommandContext(ctx, filepath.Join(c.Containerd, "ctr"),
			"--address", process.Path(node.ContainerdSocket), "--namespace", "k8s.io",
			"images", "import", "--local", "--snapshotter", snapshotter(c.dir), file)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("load image %s: %w: %s", file, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// writePauseImage writes a tarball of an image with one file, the program.
func writePauseImage(program, target string) error {
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	config := v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}
	return image.Write(target, pauseImage, config, image.File{Path: "pause", Data: binary})
}
