package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// binaryKey says which binary: of a product, for a platform.
type binaryKey struct {
	product  string
	platform platform
}

// A binary is a command as it goes into an image.
type binary struct {
	data   []byte
	commit string // that it was built from; "" where it does not say
}

// buildAll builds the products' binaries, one go build a platform. Whether there is anything to do is Go's build cache's
// business.
func buildAll(ctx context.Context, p progress, s settings) (map[binaryKey]binary, error) {
	binaries := map[binaryKey]binary{}
	var packages, commands []string
	for _, product := range s.images {
		if product.pkg != "" {
			packages = append(packages, module+"/"+product.pkg)
			commands = append(commands, product.name)
		}
	}
	if len(packages) == 0 {
		return binaries, nil
	}
	for _, platform := range s.platforms {
		start := time.Now()
		what := fmt.Sprintf("%s for %s", strings.Join(commands, ", "), platform)
		p.line("building", what+"; minutes when nothing has been compiled yet, else seconds")
		dir := filepath.Join(s.out, "bin", platform.os+"_"+platform.arch)
		if err := build(ctx, dir, platform, s.tag, packages); err != nil {
			return nil, fmt.Errorf("build for %s: %w", platform, err)
		}
		for _, command := range commands {
			b, err := readBinary(filepath.Join(dir, command))
			if err != nil {
				return nil, err
			}
			binaries[binaryKey{command, platform}] = b
		}
		p.step("built", what, start)
	}
	return binaries, nil
}

// build links packages into dir without cgo, paths of this machine, symbols or debugging data.
func build(ctx context.Context, dir string, platform platform, tag string, packages []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	vcs := "-buildvcs=true"
	if tag == devTag {
		vcs = "-buildvcs=false"
	}
	args := append([]string{"build", "-trimpath", vcs, "-ldflags=-s -w", "-o", dir + string(filepath.Separator)}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.os, "GOARCH="+platform.arch, "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(output))
	}
	return nil
}

func readBinary(path string) (binary, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return binary{}, err
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	if err != nil {
		return binary{}, fmt.Errorf("read the build information of %s: %w", path, err)
	}
	b := binary{data: data}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			b.commit = setting.Value
		}
	}
	return b, nil
}
