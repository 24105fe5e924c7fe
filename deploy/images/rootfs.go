package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// uid is the user and group of the images: the customary "nonroot".
const uid = 65532

// caPath is where Go and most others look for certificate authorities.
const caPath = "/etc/ssl/certs/ca-certificates.crt"

// epoch is the time of everything in the images, so that equal sources give equal bytes.
var epoch = time.Unix(0, 0).UTC()

// An entry is one file, folder or symbolic link of an image.
type entry struct {
	Path string // absolute and clean
	Mode fs.FileMode
	Data []byte // a file's content or a link's target
}

// baseFiles are what every product has beside its binary.
func baseFiles(ctx context.Context, p progress, caRoots string, debian debian) ([]entry, error) {
	start := time.Now()
	var bundle []byte
	var err error
	source := caRoots
	if caRoots == "" {
		bundle, source, err = debian.caRoots(ctx)
	} else if bundle, err = os.ReadFile(caRoots); err == nil {
		err = checkPEM(bundle)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	p.step("roots", fmt.Sprintf("%d certificate authorities from %s", bytes.Count(bundle, []byte("-----BEGIN CERTIFICATE-----")), source), start)
	return append(userFiles(), entry{Path: caPath, Mode: 0o644, Data: bundle}), nil
}

// userFiles name the images' user and give it a /tmp.
func userFiles() []entry {
	return []entry{
		{Path: "/etc/passwd", Mode: 0o644, Data: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%[1]d:nonroot:/tmp:/sbin/nologin\n", uid)},
		{Path: "/etc/group", Mode: 0o644, Data: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", uid)},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

// layerTar writes entries and the folders above them as a tar archive, sorted, owned by root and without time stamps.
func layerTar(entries []entry) ([]byte, error) {
	all := map[string]entry{}
	for _, e := range entries {
		if _, twice := all[e.Path]; twice {
			return nil, fmt.Errorf("%s is there twice", e.Path)
		}
		all[e.Path] = e
	}
	for _, e := range entries {
		for dir := path.Dir(e.Path); dir != "/"; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = entry{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range slices.SortedFunc(maps.Values(all), func(a, b entry) int { return cmp.Compare(a.Path, b.Path) }) {
		if err := e.write(w); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (e entry) write(w *tar.Writer) error {
	h := &tar.Header{
		Name:    strings.TrimPrefix(e.Path, "/"),
		Mode:    int64(e.Mode.Perm()),
		ModTime: epoch,
		Format:  tar.FormatUSTAR,
	}
	switch e.Mode.Type() {
	case fs.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
		if e.Mode&fs.ModeSticky != 0 {
			h.Mode |= 0o1000
		}
	case fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(e.Data)
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(len(e.Data))
	}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := w.Write(e.Data)
	return err
}
