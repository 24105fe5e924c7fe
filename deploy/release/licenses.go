package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// licensesFile has the licences of everything that the programs are linked of, with their texts, which most of them ask for.
const licensesFile = "THIRD_PARTY_LICENSES"

// unstated is the licence of a module that comes without any.
const unstated = "not stated in the module"

// makeLicenses writes them for the state that is released.
func makeLicenses(ctx context.Context, _ settings, dir string) error {
	text, err := licenses(ctx, ".")
	if err != nil {
		return err
	}
	return write(dir, licensesFile, text)
}

// A dependency is a module that some program of ours is linked of.
type dependency struct {
	path, version string
	licenses      []string // SPDX identifiers, or unstated
	texts         []string
}

// licenses is the text of licensesFile for the module in root.
func licenses(ctx context.Context, root string) ([]byte, error) {
	dependencies, err := linked(ctx, root)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString("What kms-webhook, kms-agent and kubectl-kms are linked of, besides this project's own code and Go's standard library, and under which\n" +
		"licences. Made by make licenses; changes are lost.\n\n")
	users := map[string][]string{} // of a text
	for _, d := range dependencies {
		fmt.Fprintf(&out, "%s %s: %s\n", d.path, d.version, strings.Join(d.licenses, ", "))
		for _, text := range d.texts {
			users[text] = append(users[text], d.path)
		}
	}
	texts := slices.SortedFunc(maps.Keys(users), func(a, b string) int { return strings.Compare(users[a][0]+"\x00"+a, users[b][0]+"\x00"+b) })
	for _, text := range texts {
		fmt.Fprintf(&out, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(users[text], "\n"), text)
	}
	return out.Bytes(), nil
}

// linked are the modules of the programs on all their platforms, sorted.
func linked(ctx context.Context, root string) ([]dependency, error) {
	dirs := map[[2]string]string{}
	for _, system := range []string{"linux", "darwin", "windows"} {
		args := []string{"list", "-deps", "-json=Module", "./cmd/kms-webhook", "./cmd/kms-agent"}
		if _, err := os.Stat(filepath.Join(root, "cmd/kubectl-kms")); err == nil {
			args = append(args, "./cmd/kubectl-kms")
		}
		if system != "linux" {
			args = append(args[:3:3], args[5:]...) // the images are for Linux only
		}
		if len(args) == 3 {
			continue
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Stderr = root, os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH=amd64")
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
		}
		if err := modules(out, dirs); err != nil {
			return nil, err
		}
	}
	var found []dependency
	for _, m := range slices.SortedFunc(maps.Keys(dirs), func(a, b [2]string) int { return strings.Compare(a[0], b[0]) }) {
		d := dependency{path: m[0], version: m[1]}
		if err := d.read(dirs[m]); err != nil {
			return nil, fmt.Errorf("%s: %w", d.path, err)
		}
		found = append(found, d)
	}
	return found, nil
}

// modules adds what go list -json=Module printed to dirs: path and version, and where the module's files are.
func modules(listed []byte, dirs map[[2]string]string) error {
	for decoder := json.NewDecoder(bytes.NewReader(listed)); ; {
		var p struct {
			Module *struct {
				Path, Version, Dir string
				Main               bool
			}
		}
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p.Module != nil && !p.Module.Main {
			dirs[[2]string{p.Module.Path, p.Module.Version}] = p.Module.Dir
		}
	}
}

// licenseName is what a module's licence is called, and its notices, which Apache-2.0 wants passed on.
var licenseName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)([.-](txt|md|libyaml|mit|bsd|apache|apache-2\.0))?$`)

// read finds a module's licences.
func (d *dependency) read(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || !licenseName.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		d.texts = append(d.texts, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
		for _, match := range licensecheck.Scan(text).Match {
			if !match.IsURL && !slices.Contains(d.licenses, match.ID) {
				d.licenses = append(d.licenses, match.ID)
			}
		}
	}
	slices.Sort(d.licenses)
	if len(d.texts) == 0 {
		d.licenses = []string{unstated}
	}
	if len(d.licenses) == 0 {
		return errors.New("its licence is none that is known; read it")
	}
	return nil
}
