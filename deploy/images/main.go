// Command images builds the project's container images from static binaries, for several platforms, without a container daemon:
//
//	go run -C deploy ./images -registry registry.example.com -push kms-webhook kms-agent
//
// An image has one binary, its licences, the public certificate authorities and a user that is not root. It has no shell, no libc and no
// package manager. Each image is an OCI archive (dist/images/<name>.tar) with an index of its platforms, for "ctr images import",
// "docker load" and "kind load image-archive". Equal sources give equal bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const module = "github.com/kms-agent-injector/kms-agent-injector"

// devTag marks images that are built from a working copy. Their binaries do not name the commit, so that a commit of other files does not
// change them.
const devTag = "dev"

// descriptions are the images' descriptions, by the names of their commands.
var descriptions = map[string]string{
	"kms-webhook":  "Admission webhook that gives annotated pods their KMS secrets",
	"kms-agent":    "Fetches and refreshes a pod's KMS secrets",
	"kms-sync":     "Syncs KMS secrets to Secrets, by the custom resources of ack-secret-manager",
	"kms-emulator": "Emulates Alibaba Cloud's STS and KMS, for tests only",
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// settings are the flags and arguments.
type settings struct {
	platforms  []v1.Platform
	tag        string
	registry   string // host, optionally with a path; "": the default of the nodes
	repository string // path before the images' names
	out        string
	push       bool
	images     []string
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	all := slices.Sorted(maps.Keys(descriptions))
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: images [flags] [name ...]\n\nNames: %s; default all.\n\n", strings.Join(all, ", "))
		flags.PrintDefaults()
	}
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "comma list of os/architecture")
	flags.StringVar(&s.tag, "tag", devTag, "tag of the images; unless it is \""+devTag+"\", binaries name their commit")
	flags.StringVar(&s.registry, "registry", "", "registry of the images, for example registry.example.com; the chart's image.registry")
	flags.StringVar(&s.repository, "repository", "kms-agent-injector", "path before the images' names; the chart's image.repository")
	flags.StringVar(&s.out, "out", "dist/images", "folder of the archives, below the repository if it is relative")
	flags.BoolVar(&s.push, "push", false, "push the images to their registry too, with the credentials of the Docker configuration file")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if s.push && s.registry == "" {
		return settings{}, errors.New("--push needs --registry")
	}
	for text := range strings.SplitSeq(*platforms, ",") {
		p, err := v1.ParsePlatform(strings.TrimSpace(text))
		if err != nil || p.OS != "linux" || p.Architecture == "" {
			return settings{}, fmt.Errorf("--platforms: %q is not a platform; write for example linux/amd64", text)
		}
		s.platforms = append(s.platforms, *p)
	}
	if s.images = flags.Args(); len(s.images) == 0 {
		s.images = all
	}
	for _, name := range s.images {
		if descriptions[name] == "" {
			return settings{}, fmt.Errorf("there is no image %q; the images are %s", name, strings.Join(all, ", "))
		}
	}
	return s, nil
}

// ref returns the name of an image, with its tag.
func (s settings) ref(image string) string {
	return path.Join(s.registry, s.repository, image) + ":" + s.tag
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args, out)
	if err != nil {
		return err
	}
	root, err := command(ctx, ".", nil, "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return err
	}
	root = strings.TrimSpace(root)
	if !filepath.IsAbs(s.out) {
		s.out = filepath.Join(root, s.out)
	}
	if _, err := command(ctx, root, nil, "deploy/licenses.sh"); err != nil {
		return err
	}
	license, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		return err
	}
	thirdParty, err := os.ReadFile(filepath.Join(root, "dist/THIRD_PARTY_LICENSES"))
	if err != nil {
		return err
	}
	base := baseFiles(license, thirdParty)
	for _, p := range s.platforms {
		fmt.Fprintf(out, "building %s for %s; the first build takes minutes, others take seconds\n", strings.Join(s.images, ", "), p)
		if err := build(ctx, root, s.binary(p, ""), p, s.tag, s.images); err != nil {
			return err
		}
	}
	for _, name := range s.images {
		index, err := s.index(name, base)
		if err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		if err := s.publish(ctx, out, name, index); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return nil
}

// binary returns the path of a command's binary for a platform.
func (s settings) binary(p v1.Platform, name string) string {
	return filepath.Join(s.out, "bin", p.OS+"_"+p.Architecture, name)
}

// build compiles commands into dir, without cgo, local paths, symbols and debugging data.
func build(ctx context.Context, root, dir string, p v1.Platform, tag string, names []string) error {
	args := []string{"build", "-trimpath", fmt.Sprintf("-buildvcs=%t", tag != devTag), "-ldflags=-s -w", "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err := command(ctx, root, []string{"CGO_ENABLED=0", "GOOS=" + p.OS, "GOARCH=" + p.Architecture, "GOFLAGS="}, "go", args...)
	return err
}

// publish writes the archive and, with --push, pushes the image.
func (s settings) publish(ctx context.Context, out io.Writer, name string, index v1.ImageIndex) error {
	archive, ref := filepath.Join(s.out, name+".tar"), s.ref(name)
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if err := writeArchive(archive, ref, index); err != nil {
		return err
	}
	if err := os.WriteFile(archive+".digest", []byte(digest.String()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %s (%s)\n", archive, ref)
	if !s.push {
		return nil
	}
	if err := push(ctx, ref, index); err != nil {
		return err
	}
	fmt.Fprintf(out, "pushed %s@%s\n", ref, digest)
	return nil
}

// command runs a program in dir and returns its standard output.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(text), nil
}
