// Package manifest reads manifests and edits the pods in them, leaving everything else as its author wrote it.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Stdin is the name of the file that is standard input.
const Stdin = "-"

// A Source is where manifests are, as kubectl's flags -f, -k and -R say it.
type Source struct {
	Files     []string // files and folders; Stdin is In
	Kustomize string   // folder
	Recursive bool     // folders in folders too
	In        io.Reader
}

// Read reads all documents in their order. An error says which file it is about.
func (s Source) Read() ([]*Document, error) {
	if (len(s.Files) == 0) == (s.Kustomize == "") {
		return nil, errors.New("say which manifests: -f with files or folders (- is standard input), or -k with the folder of a kustomization")
	}
	if s.Kustomize != "" {
		return s.build()
	}
	var all []*Document
	for _, name := range s.Files {
		files, err := s.expand(name)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			documents, err := s.file(file)
			if err != nil {
				return nil, err
			}
			all = append(all, documents...)
		}
	}
	return all, nil
}

// expand lists the files that a name stands for, by kubectl's rules.
func (s Source) expand(name string) ([]string, error) {
	if name == Stdin {
		return []string{name}, nil
	}
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return nil, fmt.Errorf("%s: addresses are not read; download it and pipe it: curl -fsSL %s | kubectl kms … -f -", name, name)
	}
	visitors, err := resource.ExpandPathsToFileVisitors(nil, name, s.Recursive, resource.FileExtensions, nil)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, visitor := range visitors {
		if file, ok := visitor.(*resource.FileVisitor); ok {
			files = append(files, file.Path)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: there is no file that ends in %s; folders in it are read with -R", name, strings.Join(resource.FileExtensions, ", "))
	}
	return files, nil
}

func (s Source) file(name string) ([]*Document, error) {
	if name == Stdin {
		text, err := io.ReadAll(s.In)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return split(name, text)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return split(name, text)
}

func (s Source) build() ([]*Document, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // as kubectl does
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), s.Kustomize)
	if err != nil {
		return nil, err
	}
	text, err := built.AsYaml()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Kustomize, err)
	}
	return split(s.Kustomize, text)
}

// split takes a YAML stream apart at its lines ---.
func split(file string, text []byte) ([]*Document, error) {
	var documents []*Document
	line, begin := 0, 1
	var part bytes.Buffer
	end := func() error {
		if len(bytes.TrimSpace(part.Bytes())) > 0 {
			d, err := newDocument(file, begin, bytes.Clone(part.Bytes()))
			if err != nil {
				return err
			}
			documents = append(documents, d)
		}
		part.Reset()
		return nil
	}
	for one := range bytes.Lines(text) {
		line++
		rest, separator := bytes.CutPrefix(one, []byte("---"))
		if !separator || len(rest) > 0 && !bytes.ContainsAny(rest[:1], " \t\r\n") {
			part.Write(one)
			continue
		}
		if err := end(); err != nil {
			return nil, err
		}
		begin = line
		part.Write(bytes.TrimLeft(rest, " \t\r")) // so that lines count from the separator's
	}
	return documents, end()
}

// Write writes documents one after the other.
func Write(w io.Writer, documents []*Document) error {
	for i, d := range documents {
		text := d.text
		if i > 0 {
			text = append([]byte("---\n"), text...)
		}
		if !bytes.HasSuffix(text, []byte("\n")) {
			text = append(text, '\n')
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}
