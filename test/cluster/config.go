//go:build linux

package cluster

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"golang.org/x/sys/unix"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

// Emulator is the Service to which every host name below aliyuncs.com resolves in the cluster's pods.
const Emulator = "kms-emulator.kms-emulator.svc.cluster.local"

//go:embed conf
var configurations embed.FS

// settings are the values that differ between the configurations of two clusters.
type settings struct {
	node.Layout
	CgroupRoot  string
	Snapshotter string // containerd's
	PauseImage  string
	Emulator    string
}

// render returns the components' configurations by their path below the node's configuration directory.
func (s settings) render() (map[string][]byte, error) {
	targets := map[string]string{"pods.conflist": "cni/10-pods.conflist"} // alone in a directory, as containerd takes the first it finds
	all, err := template.New("").Option("missingkey=error").ParseFS(configurations, "conf/*")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, t := range all.Templates() {
		target, ok := targets[t.Name()]
		if !ok {
			target = t.Name()
		}
		var out bytes.Buffer
		if err := t.Execute(&out, s); err != nil {
			return nil, fmt.Errorf("render %s: %w", t.Name(), err)
		}
		files[target] = out.Bytes()
	}
	return files, nil
}

func writeConfigurations(dir string) error {
	s := settings{
		Layout:      node.TheLayout,
		CgroupRoot:  "/" + cgroupName(dir),
		Snapshotter: snapshotter(dir),
		PauseImage:  pauseImage,
		Emulator:    Emulator,
	}
	files, err := s.render()
	if err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, node.ConfDir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// snapshotter returns overlayfs, unless the state directory is on an overlayfs already, as in a container: they do not stack.
func snapshotter(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "native"
	}
	return "overlayfs"
}
