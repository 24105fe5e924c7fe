package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// recipe is part of every image's key. Raise it when the way from an imageSpec to bytes changes.
const recipe = 1

// An imageSpec is everything that an image is made of.
type imageSpec struct {
	ref       string // repository and tag
	tag       string
	config    v1.Config
	platforms []platformSpec
}

// A platformSpec is an image for one platform; each layer has its own entries, the ones that change least first.
type platformSpec struct {
	platform platform
	layers   [][]entry
}

// productSpec is a command's image: the base and the binary.
func productSpec(of product, s settings, base []entry, binaries map[binaryKey]binary) imageSpec {
	spec := newSpec(of, s)
	spec.config.Entrypoint = []string{"/" + of.name}
	for _, platform := range s.platforms {
		binary := binaries[binaryKey{of.name, platform}]
		if binary.commit != "" {
			spec.config.Labels["org.opencontainers.image.revision"] = binary.commit
		}
		spec.platforms = append(spec.platforms, platformSpec{platform, [][]entry{base, {{Path: "/" + of.name, Mode: 0o755, Data: binary.data}}}})
	}
	return spec
}

// applets are the names that the demonstration's application calls busybox by.
var applets = strings.Fields("sh ash cat chmod cp cut date echo env false find grep head hexdump id kill ln ls md5sum mkdir mount mv nc pidof ps pwd readlink rm sed sha256sum sleep sort stat tail tee test timeout touch tr true wc whoami")

// demoSpec is an image with busybox, for this machine's own platform: apt-get has no other without changing its configuration.
func demoSpec(ctx context.Context, p progress, of product, s settings, debian debian) (imageSpec, error) {
	start := time.Now()
	root, source, err := debian.fetch(ctx, "busybox-static")
	if err != nil {
		return imageSpec{}, err
	}
	busybox, err := os.ReadFile(filepath.Join(root, "bin/busybox"))
	if err != nil {
		return imageSpec{}, err
	}
	p.step("shell", "busybox from "+source, start)
	entries := append(userFiles(), entry{Path: "/bin/busybox", Mode: 0o755, Data: busybox})
	for _, applet := range applets {
		entries = append(entries, entry{Path: "/bin/" + applet, Mode: fs.ModeSymlink | 0o777, Data: []byte("busybox")})
	}
	spec := newSpec(of, s)
	spec.config.Cmd = []string{"sleep", "infinity"}
	spec.platforms = []platformSpec{{hostPlatform, [][]entry{entries}}}
	return spec, nil
}

func newSpec(of product, s settings) imageSpec {
	return imageSpec{
		ref: path.Join(s.registry, s.repository, of.name) + ":" + s.tag,
		tag: s.tag,
		config: v1.Config{
			User:       fmt.Sprintf("%d:%[1]d", uid),
			Env:        []string{"PATH=/bin:/"},
			WorkingDir: "/",
			Labels: map[string]string{
				"org.opencontainers.image.title":       of.name,
				"org.opencontainers.image.description": of.description,
				"org.opencontainers.image.version":     s.tag,
				"org.opencontainers.image.source":      "https://" + module,
				"org.opencontainers.image.licenses":    "Apache-2.0",
			},
		},
	}
}

// key is a digest of everything that goes into the image, cheaper than the image itself: nothing is compressed for it.
func (s imageSpec) key() string {
	h := sha256.New()
	enc := json.NewEncoder(h) // of strings, numbers and sorted maps: it cannot fail on these
	must := func(v any) {
		if err := enc.Encode(v); err != nil {
			panic(err)
		}
	}
	must([]any{recipe, s.ref, s.config})
	for _, p := range s.platforms {
		must(p.platform.String())
		for i, layer := range p.layers {
			for _, e := range layer {
				must([]any{i, e.Path, e.Mode, sha256.Sum256(e.Data)})
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// index makes the image of every platform and the index over them.
func (s imageSpec) index() (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range s.platforms {
		image, err := s.image(p)
		if err != nil {
			return nil, fmt.Errorf("for %s: %w", p.platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.platform.os, Architecture: p.platform.arch}},
		})
	}
	return index, nil
}

func (s imageSpec) image(p platformSpec) (v1.Image, error) {
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           p.platform.os,
		Architecture: p.platform.arch,
		Created:      v1.Time{Time: epoch},
		Config:       s.config,
		RootFS:       v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	for _, entries := range p.layers {
		tar, err := layerTar(entries)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tar)), nil },
			tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: module + "/deploy/images"}})
		if err != nil {
			return nil, err
		}
	}
	return image, nil
}
