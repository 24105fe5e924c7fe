// Package image makes container images of a few files, without a registry or a daemon.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one file of an image: a symbolic link if it has one, a folder that everyone may write to if its path ends in a slash, else a
// program.
type File struct {
	Path string // without a leading slash
	Data []byte
	Link string
}

// Write makes an image of this machine's architecture and writes it to target, as `docker save` would.
func Write(target, reference string, config v1.Config, files ...File) error {
	ref, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	image, err := New(config, files...)
	if err != nil {
		return fmt.Errorf("make %s: %w", reference, err)
	}
	return tarball.WriteToFile(target, ref, image)
}

// New makes an image of this machine's architecture.
func New(config v1.Config, files ...File) (v1.Image, error) {
	archive, err := archive(files)
	if err != nil {
		return nil, fmt.Errorf("archive the files: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Config: config})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, layer)
}

func archive(files []File) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.Path, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(f.Data))}
		switch {
		case f.Link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
		case strings.HasSuffix(f.Path, "/"):
			header.Typeflag, header.Mode = tar.TypeDir, 0o1777
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}
