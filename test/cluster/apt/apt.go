// Package apt installs missing Debian packages.
package apt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A Need is a file that a command requires, and the package that has it.
type Need struct {
	Package string
	File    string // a program's name, looked up on PATH and in the sbin directories, or the absolute path or glob of a file
}

// Present reports whether the machine has the file.
func (n Need) Present() bool {
	if filepath.IsAbs(n.File) {
		found, _ := filepath.Glob(n.File) // a malformed pattern is found missing, and then not installed by its package
		return len(found) > 0
	}
	if _, err := exec.LookPath(n.File); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // not on the PATH of every root shell
		if info, err := os.Stat(filepath.Join(dir, n.File)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// Ensure installs the packages of the needs that are not present, after it has logged their names. It runs nothing if all are
// present.
func Ensure(ctx context.Context, log func(format string, args ...any), needs ...Need) error {
	missing, packages := absent(needs)
	if len(missing) == 0 {
		return nil
	}
	wanted := strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this machine lacks %s and has no apt-get: install the equivalent of the Debian packages %s",
			strings.Join(missing, ", "), wanted)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("this machine lacks %s: run as root, or install by hand: apt-get install %s", strings.Join(missing, ", "), wanted)
	}
	log("installing %s with apt-get", wanted)
	if err := run(ctx, "update"); err != nil {
		return err
	}
	if err := run(ctx, append([]string{"install", "--yes", "--no-install-recommends"}, packages...)...); err != nil {
		return err
	}
	if missing, packages = absent(needs); len(missing) > 0 {
		return fmt.Errorf("%s still missing after apt-get installed %s", strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	return nil
}

func absent(needs []Need) (missing, packages []string) {
	seen := map[string]bool{}
	for _, n := range needs {
		if n.Present() {
			continue
		}
		missing = append(missing, n.File)
		if !seen[n.Package] {
			seen[n.Package] = true
			packages = append(packages, n.Package)
		}
	}
	return missing, packages
}

// run waits for dpkg's lock, which a fresh machine's own updates often hold for a minute.
func run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return errors.Join(fmt.Errorf("apt-get %s: %w", args[0], err), errors.New(lastLines(out.String(), 10)))
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
