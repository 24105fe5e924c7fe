package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

const (
	containerdName = "io.containerd.image.name" // what ctr and docker call an imported image
	refName        = "org.opencontainers.image.ref.name"
	keyName        = "com.alibabacloud.kms.image-key" // imageSpec.key, to see that an archive is up to date
)

// writeArchive writes an index as an OCI image layout in a tar archive. The archive appears whole or not at all.
func writeArchive(path string, spec imageSpec, index v1.ImageIndex) (err error) {
	full, err := canonical(spec.ref)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".layout-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	blobs := filepath.Join(dir, "layout")
	outer := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index, Descriptor: v1.Descriptor{
		Annotations: map[string]string{containerdName: full, refName: spec.tag, keyName: spec.key()},
	}})
	if _, err := layout.Write(blobs, outer); err != nil {
		return fmt.Errorf("write the layout: %w", err)
	}
	packed := filepath.Join(dir, "archive.tar")
	if err := pack(packed, blobs); err != nil {
		return fmt.Errorf("pack the layout: %w", err)
	}
	return os.Rename(packed, path)
}

// canonical is the name that container runtimes keep an image under: with a registry, which is Docker's where none is named.
func canonical(ref string) (string, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return "", fmt.Errorf("image reference: %w", err)
	}
	registry := tag.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	return registry + "/" + tag.RepositoryStr() + ":" + tag.TagStr(), nil
}

// pack writes the files below dir, sorted and without their times and owners. The files that name the rest come first, so that a
// reader need not go through the blobs for them.
func pack(path, dir string) (err error) {
	var files []string
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	first := func(p string) bool { return filepath.Dir(p) == dir }
	slices.SortStableFunc(files, func(a, b string) int { // WalkDir's order is lexical already
		switch {
		case first(a) && !first(b):
			return -1
		case first(b) && !first(a):
			return 1
		}
		return 0
	})
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	for _, file := range files {
		if err := packFile(w, dir, file); err != nil {
			return err
		}
	}
	return w.Close()
}

func packFile(w *tar.Writer, dir, path string) error {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(rel), Mode: 0o644, Size: info.Size(), ModTime: epoch, Format: tar.FormatUSTAR}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// archiveKey returns the key that an archive was written with, or "" where there is none or it cannot be read.
func archiveKey(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err != nil {
			return ""
		}
		if h.Name != "index.json" {
			continue
		}
		var index v1.IndexManifest
		if err := json.NewDecoder(r).Decode(&index); err != nil || len(index.Manifests) != 1 {
			return ""
		}
		return index.Manifests[0].Annotations[keyName]
	}
}
