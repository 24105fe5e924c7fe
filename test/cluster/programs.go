//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/apt"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/build"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// programs are the directories of the node's programs.
type programs struct{ kubernetes, containerd, pause string }

// The node's programs call these; runc is linked against libseccomp, for the seccomp profiles of pods.
var (
	runtimeNeeds = []apt.Need{
		{Package: "iproute2", File: "ip"},
		{Package: "nftables", File: "nft"}, // kube-proxy's
		{Package: "mount", File: "mount"},  // kubelet's
	}
	runcNeeds = []apt.Need{
		{Package: "gcc", File: "gcc"},
		{Package: "libc6-dev", File: "/usr/include/stdlib.h"},
		{Package: "pkg-config", File: "pkg-config"},
		{Package: "libseccomp-dev", File: "/usr/lib/*/libseccomp.a"},
	}
)

// Build builds what Up and LoadCertManager would build, and starts nothing.
func Build(ctx context.Context, o Options) error {
	source, err := findSource()
	if err != nil {
		return err
	}
	if o, err = o.locate(); err != nil { // its version
		return err
	}
	log := progress.New(o.Output)
	if _, err := ensurePrograms(ctx, source, o.Version, log); err != nil {
		return err
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	_, err = certManagerModule(source).Ensure(ctx, cache, log)
	return err
}

// ensurePrograms installs and builds what is missing.
func ensurePrograms(ctx context.Context, source, version string, log *progress.Printer) (programs, error) {
	var p programs
	cache, err := cacheDir()
	if err != nil {
		return p, err
	}
	if err := apt.Ensure(ctx, log.Line, runtimeNeeds...); err != nil {
		return p, err
	}
	kubernetes, err := kubernetesModule(source, version)
	if err != nil {
		return p, err
	}
	containerd := containerdModule(source)
	if cached, err := containerd.Cached(ctx, cache); err != nil {
		return p, err
	} else if !cached {
		if err := apt.Ensure(ctx, log.Line, runcNeeds...); err != nil {
			return p, err
		}
	}
	pause := build.Module{
		Name:  "pause",
		Dir:   filepath.Join(source, "test/cluster/pause"),
		Steps: []build.Step{{Packages: []string{"."}, LDFlags: "-s -w"}},
	}
	for _, b := range []struct {
		module build.Module
		dir    *string
	}{{containerd, &p.containerd}, {pause, &p.pause}, {kubernetes, &p.kubernetes}} {
		if *b.dir, err = b.module.Ensure(ctx, cache, log); err != nil {
			return p, err
		}
	}
	return p, nil
}

func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for built programs: %w", err)
	}
	return filepath.Join(cache, "kms-agent-injector"), nil
}

// kubernetesModule returns the build of a minor version, or of the default for "". It stamps the version as Kubernetes' own build
// does: an API server without it is v0.0.0 and refuses features.
func kubernetesModule(source, minor string) (build.Module, error) {
	dir := filepath.Join(source, "test/cluster/kubernetes")
	files, err := filepath.Glob(filepath.Join(dir, "*.mod"))
	if err != nil {
		return build.Module{}, err
	}
	var known []string
	for _, file := range files {
		version, err := kubernetesVersion(file)
		if err != nil {
			return build.Module{}, err
		}
		name := filepath.Base(file)
		known = append(known, version.minor())
		if minor == version.minor() || minor == "" && name == defaultMod {
			return version.module(dir, name), nil
		}
	}
	return build.Module{}, fmt.Errorf("no Kubernetes %q can be built here; K8S_VERSION may be %s", minor, strings.Join(known, ", "))
}

// defaultMod is the module file of the version that is built unless another is asked for.
const defaultMod = "go.mod"

// A version is the text of k8s.io/kubernetes' version, its major and its minor number.
type version [3]string

func (v version) minor() string { return v[1] + "." + v[2] }

var requiresKubernetes = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\S*)`)

func kubernetesVersion(modFile string) (version, error) {
	mod, err := os.ReadFile(modFile)
	if err != nil {
		return version{}, fmt.Errorf("find the sources of the cluster: %w", err)
	}
	found := requiresKubernetes.FindStringSubmatch(string(mod))
	if found == nil {
		return version{}, fmt.Errorf("%s requires no version of k8s.io/kubernetes", modFile)
	}
	return version(found[1:]), nil
}

func (v version) module(dir, mod string) build.Module {
	flags := []string{"-s", "-w"}
	for _, value := range []string{"gitVersion=" + v[0], "gitMajor=" + v[1], "gitMinor=" + v[2]} {
		flags = append(flags, "-X", "k8s.io/component-base/version."+value)
	}
	m := build.Module{
		Name:  "kubernetes",
		Dir:   dir,
		Steps: []build.Step{{Packages: []string{"."}, LDFlags: strings.Join(flags, " ")}},
		Links: []build.Link{{Name: "kubectl", Program: "kubernetes"}},
	}
	if mod != defaultMod {
		m.Mod = mod
	}
	return m
}

func containerdModule(source string) build.Module {
	const containerd, cni = "github.com/containerd/containerd/v2/cmd/", "github.com/containernetworking/plugins/plugins/"
	return build.Module{
		Name: "containerd",
		Dir:  filepath.Join(source, "test/cluster/containerd"),
		Steps: []build.Step{
			{
				Packages: []string{containerd + "containerd", containerd + "containerd-shim-runc-v2", containerd + "ctr",
					cni + "main/bridge", cni + "main/loopback", cni + "ipam/host-local"},
				Tags:    "no_btrfs,no_devmapper,no_zfs", // snapshotters that need C libraries or a device
				LDFlags: "-s -w",
			},
			{
				Packages: []string{"github.com/opencontainers/runc"}, Tags: "seccomp", Cgo: true,
				LDFlags: "-s -w -linkmode external -extldflags -static",
			},
		},
	}
}
