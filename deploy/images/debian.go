package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debian fetches packages with apt-get and unpacks them; nothing is installed on this machine.
type debian struct {
	dir  string // scratch
	kept string // packages of earlier runs, for when the archive cannot be reached
}

// fetch returns the folder that a package was unpacked into, and says what it is.
func (d debian) fetch(ctx context.Context, name string) (root, source string, err error) {
	kept := filepath.Join(d.kept, name+".deb")
	source = "Debian's package " + name
	if err := d.download(ctx, name, kept); err != nil {
		if _, missing := os.Stat(kept); missing != nil {
			return "", "", err
		}
		source = "an earlier run's copy of " + source
	}
	version, err := d.command(ctx, "dpkg-deb", "--field", kept, "Version")
	if err != nil {
		return "", "", err
	}
	root = filepath.Join(d.dir, name)
	if _, err := d.command(ctx, "dpkg-deb", "--extract", kept, root); err != nil {
		return "", "", err
	}
	return root, source + " " + strings.TrimSpace(version), nil
}

// download puts the newest version of a package at path.
func (d debian) download(ctx context.Context, name, path string) error {
	if _, err := d.command(ctx, "apt-get", "download", name); err != nil {
		// On a fresh machine apt-get has no list of packages yet.
		if _, err := d.command(ctx, "apt-get", "update"); err != nil {
			return err
		}
		if _, err := d.command(ctx, "apt-get", "download", name); err != nil {
			return err
		}
	}
	downloaded, err := filepath.Glob(filepath.Join(d.dir, name+"_*.deb"))
	if err != nil {
		return err
	}
	if len(downloaded) != 1 {
		return fmt.Errorf("apt-get download %s left %d files", name, len(downloaded))
	}
	content, err := os.ReadFile(downloaded[0])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

func (d debian) command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = d.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// caRoots returns the public certificate authorities as PEM. They come out of Debian's package, not out of this machine's own
// bundle, which may have authorities of its owner in it that images for everybody must not trust.
func (d debian) caRoots(ctx context.Context) (bundle []byte, source string, err error) {
	root, source, err := d.fetch(ctx, "ca-certificates")
	if err != nil {
		return nil, "", fmt.Errorf("fetch the public certificate authorities (or give them with --ca-roots): %w", err)
	}
	bundle, err = joinPEM(os.DirFS(filepath.Join(root, "usr/share/ca-certificates")))
	return bundle, source, err
}

// joinPEM joins all certificates below a folder, in the order of their paths.
func joinPEM(dir fs.FS) ([]byte, error) {
	var bundle []byte
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".crt") {
			return err
		}
		text, err := fs.ReadFile(dir, path)
		if err != nil {
			return err
		}
		bundle = append(append(bundle, bytes.TrimSpace(text)...), '\n')
		return nil
	})
	if err != nil {
		return nil, err
	}
	return bundle, checkPEM(bundle)
}

// checkPEM refuses a bundle in which something is not a certificate: TLS would pass over it in silence.
func checkPEM(bundle []byte) error {
	count := 0
	for rest := bundle; ; count++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d of the bundle: %w", count+1, err)
		}
	}
	if count == 0 {
		return errors.New("the bundle has no certificate in it")
	}
	return nil
}
