package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

const (
	uid            = 65532                                // user and group of the images, by custom "nonroot"
	caPath         = "/etc/ssl/certs/ca-certificates.crt" // where Go and most programs look for certificate authorities
	containerdName = "io.containerd.image.name"           // annotation with the name under which ctr and docker import the image
)

// epoch is the modification time of all files in the images, so that equal sources give equal bytes.
var epoch = time.Unix(0, 0).UTC()

// A file is a file or a folder in an image.
type file struct {
	path string // absolute and clean
	mode fs.FileMode
	data []byte
}

// baseFiles returns the files that every image has beside its binary. The public certificate authorities are Mozilla's, of the version of
// golang.org/x/crypto/x509roots in go.mod, without those with constraints, which a PEM file cannot express.
func baseFiles(license, thirdParty []byte) []file {
	var roots bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			roots.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	return []file{
		{caPath, 0o644, roots.Bytes()},
		{"/etc/passwd", 0o644, fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%[1]d:nonroot:/tmp:/sbin/nologin\n", uid)},
		{"/etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", uid)},
		{"/tmp", fs.ModeDir | fs.ModeSticky | 0o777, nil},
		{"/licenses/LICENSE", 0o644, license},
		{"/licenses/THIRD_PARTY_LICENSES", 0o644, thirdParty},
	}
}

// index builds a command's image for each platform, and their index.
func (s settings) index(command string, base []file) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range s.platforms {
		image, err := s.image(command, p, base)
		if err != nil {
			return nil, fmt.Errorf("for %s: %w", p, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &p}})
	}
	return index, nil
}

func (s settings) image(command string, p v1.Platform, base []file) (v1.Image, error) {
	binary, err := os.ReadFile(s.binary(p, command))
	if err != nil {
		return nil, err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":       command,
		"org.opencontainers.image.description": descriptions[command],
		"org.opencontainers.image.version":     s.tag,
		"org.opencontainers.image.source":      "https://" + module,
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
	if revision := commit(binary); revision != "" {
		labels["org.opencontainers.image.revision"] = revision
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: p.OS, Architecture: p.Architecture, Created: v1.Time{Time: epoch}, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User: fmt.Sprintf("%d:%[1]d", uid), Env: []string{"PATH=/bin:/"}, WorkingDir: "/", Entrypoint: []string{"/" + command}, Labels: labels,
		},
	})
	if err != nil {
		return nil, err
	}
	for _, files := range [][]file{base, {{"/" + command, 0o755, binary}}} { // the layer that rarely changes comes first
		packed, err := layerTar(files)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil },
			tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: v1.Time{Time: epoch}, CreatedBy: module + "/deploy/images"}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: history}); err != nil {
			return nil, err
		}
	}
	return image, nil
}

// commit returns the commit that a binary was built from; "" if the binary does not name it.
func commit(binary []byte) string {
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}

// layerTar returns a tar archive of files and their parent folders, sorted, owned by root and with the time epoch.
func layerTar(files []file) ([]byte, error) {
	all := map[string]file{}
	for _, f := range files {
		if _, twice := all[f.path]; twice {
			return nil, fmt.Errorf("the image has %s twice", f.path)
		}
		all[f.path] = f
	}
	for _, f := range files {
		for dir := path.Dir(f.path); dir != "/"; dir = path.Dir(dir) {
			if _, there := all[dir]; !there {
				all[dir] = file{path: dir, mode: fs.ModeDir | 0o755}
			}
		}
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		h := &tar.Header{Name: strings.TrimPrefix(name, "/"), Mode: int64(f.mode.Perm()), ModTime: epoch, Format: tar.FormatUSTAR}
		if f.mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
		if f.mode.IsDir() {
			h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		} else {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.data))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// writeArchive writes an index as an OCI image layout in a tar archive. The archive appears whole or not at all.
func writeArchive(archive, ref string, index v1.ImageIndex) (err error) {
	full, err := canonical(ref)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(archive), ".layout-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	outer := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index, Descriptor: v1.Descriptor{
		Annotations: map[string]string{containerdName: full, "org.opencontainers.image.ref.name": full[strings.LastIndex(full, ":")+1:]},
	}})
	blobs := filepath.Join(dir, "layout")
	if _, err := layout.Write(blobs, outer); err != nil {
		return err
	}
	packed := filepath.Join(dir, "archive.tar")
	if err := pack(packed, os.DirFS(blobs)); err != nil {
		return err
	}
	return os.Rename(packed, archive)
}

// canonical returns an image's full name, under which container runtimes store it: the default registry is Docker's.
func canonical(ref string) (string, error) {
	tag, err := name.NewTag(ref)
	if err != nil {
		return "", err
	}
	registry := tag.RegistryStr()
	if registry == name.DefaultRegistry {
		registry = "docker.io"
	}
	return registry + "/" + tag.RepositoryStr() + ":" + tag.TagStr(), nil
}

// pack writes a tar archive of a folder's files, sorted, without their times and owners.
func pack(archive string, folder fs.FS) (err error) {
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	err = fs.WalkDir(folder, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	return errors.Join(err, w.Close())
}

// push uploads an index with all its images.
func push(ctx context.Context, ref string, index v1.ImageIndex) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	return remote.WriteIndex(tag, index, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
}
