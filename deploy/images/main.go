// Command images builds this project's container images from static binaries, for several platforms, without a container daemon.
//
// An image has one binary, the public certificate authorities, a user that is not root, and nothing else: no shell, no libc, no
// package manager. Each becomes one OCI archive (dist/images/<name>.tar) with an index over its platforms, which
// "ctr images import", "docker load" and "kind load image-archive" read. Equal sources give equal bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

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

// settings are what the command line says.
type settings struct {
	platforms  []platform
	tag        string
	registry   string // host, perhaps with a path; "" leaves it to the nodes
	repository string // what the images' names stand below
	out        string
	caRoots    string // PEM file; "" takes the certificates of Debian's package
	push       bool
	images     []product
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: images [flags] [name ...]\n\nNames: %s. Without names: those for the cluster, not %s.\n\n", strings.Join(names(products), ", "), demoApp)
		flags.PrintDefaults()
	}
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "comma list of os/architecture")
	flags.StringVar(&s.tag, "tag", devTag, "tag of the images; with any but \""+devTag+"\" the binaries carry the commit they were built from")
	flags.StringVar(&s.registry, "registry", "", "registry of the images, for example registry.example.com; the chart's image.registry")
	flags.StringVar(&s.repository, "repository", "kms-agent-injector", "what stands before the images' names; the chart's image.repository")
	flags.StringVar(&s.out, "out", "dist/images", "directory of the archives")
	flags.StringVar(&s.caRoots, "ca-roots", "", "PEM file of the certificate authorities that the images trust (default: those of Debian's package ca-certificates, fetched with apt-get)")
	flags.BoolVar(&s.push, "push", false, "push the images to their registry too, with the credentials of the Docker configuration file")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if s.push && s.registry == "" {
		return settings{}, errors.New("--push needs a --registry to push to")
	}
	var err error
	if s.platforms, err = parsePlatforms(*platforms); err != nil {
		return settings{}, fmt.Errorf("--platforms: %w", err)
	}
	s.images, err = choose(flags.Args())
	return s, err
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args, out)
	if err != nil {
		return err
	}
	p := progress{out: out, began: time.Now()}
	if s.out, err = filepath.Abs(s.out); err != nil {
		return err
	}
	if err := os.MkdirAll(s.out, 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	debian := debian{dir: scratch, kept: filepath.Join(s.out, "debian")}

	var base []entry
	if slices.ContainsFunc(s.images, func(p product) bool { return p.pkg != "" }) {
		if base, err = baseFiles(ctx, p, s.caRoots, debian); err != nil {
			return err
		}
	}
	binaries, err := buildAll(ctx, p, s)
	if err != nil {
		return err
	}
	for _, product := range s.images {
		var spec imageSpec
		if product.pkg == "" {
			spec, err = demoSpec(ctx, p, product, s, debian)
		} else {
			spec = productSpec(product, s, base, binaries)
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", product.name, err)
		}
		if err := publish(ctx, p, s, spec, filepath.Join(s.out, product.name+".tar")); err != nil {
			return fmt.Errorf("image %s: %w", product.name, err)
		}
	}
	return nil
}

// publish writes the archive, unless one of the same content is there, and pushes the image where that was asked for.
func publish(ctx context.Context, p progress, s settings, spec imageSpec, path string) error {
	start := time.Now()
	unchanged := archiveKey(path) == spec.key()
	if unchanged {
		p.step("unchanged", path, start)
		if !s.push {
			return nil
		}
	}
	index, err := spec.index()
	if err != nil {
		return err
	}
	if !unchanged {
		if err := writeArchive(path, spec, index); err != nil {
			return err
		}
		p.step("wrote", fmt.Sprintf("%s (%s)", path, spec.ref), start)
	}
	if !s.push {
		return nil
	}
	start = time.Now()
	digest, err := push(ctx, spec.ref, index)
	if err != nil {
		return err
	}
	p.step("pushed", spec.ref+"@"+digest, start)
	return nil
}

// progress prints a line a step, with the time since the start.
type progress struct {
	out   io.Writer
	began time.Time
}

// step says what is done and how long it took.
func (p progress) step(verb, what string, start time.Time) {
	p.line(verb, fmt.Sprintf("%s (%.1fs)", what, time.Since(start).Seconds()))
}

func (p progress) line(verb, what string) {
	fmt.Fprintf(p.out, "%6.1fs  %-9s  %s\n", time.Since(p.began).Seconds(), verb, what)
}
