// Command release makes everything that a version is published as, in one folder: images, chart, manifests, the kubectl plugin for
// each platform, bills of materials, licences of what is linked, and checksums over all of it. Equal sources give equal bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

const module = "github.com/kms-agent-injector/kms-agent-injector"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	version  string // as it is tagged: v1.2.3
	registry string
	out      string
	trial    bool
}

// semver is how versions are written: SemVer with a v, which Go and the images' tags want and the chart drops.
var semver = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.version, "version", "", "for example v1.2.3; the checked-out commit must have this tag; required")
	flags.StringVar(&s.registry, "registry", "", "registry that the images will be pushed to, written into their names and the chart")
	flags.StringVar(&s.out, "out", "dist", "folder in which one is made for the version")
	flags.BoolVar(&s.trial, "trial", false, "also from a commit without the tag, or with changes that are not committed")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	if !semver.MatchString(s.version) {
		return settings{}, fmt.Errorf("--version: %q is not a version; write for example v1.2.3", s.version)
	}
	return s, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args, out)
	if err != nil {
		return err
	}
	if !s.trial {
		if err := checkTag(ctx, s.version); err != nil {
			return err
		}
	}
	dir := filepath.Join(s.out, s.version)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	steps := []struct {
		what string
		do   func(context.Context, settings, string) error
	}{
		{"images", makeImages}, {"chart", makeChart}, {"manifests", makeManifests}, {"kubectl plugin", makePlugin},
		{"licences", makeLicenses}, {"checksums", makeChecksums},
	}
	for _, step := range steps {
		fmt.Fprintln(out, "making", step.what)
		if err := step.do(ctx, s, dir); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	fmt.Fprintln(out, "made", dir)
	return nil
}

// checkTag refuses to publish under a version what the repository does not have under it.
func checkTag(ctx context.Context, version string) error {
	changed, err := output(ctx, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		return fmt.Errorf("there are changes that are not committed:\n%s\ncommit them, or try with --trial", changed)
	}
	tags, err := output(ctx, "git", "tag", "--points-at", "HEAD")
	if err != nil {
		return err
	}
	for tag := range strings.Lines(tags) {
		if strings.TrimSpace(tag) == version {
			return nil
		}
	}
	return fmt.Errorf("the checked-out commit is not tagged %s; write git tag %[1]s, or try with --trial", version)
}

// output runs a command and returns what it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(text)), nil
}
