// Package manifest reads manifests and edits the pods in them, leaving everything else as its author wrote it.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/yaml"
)

// Stdin is the file name that means standard input.
const Stdin = "-"

// A Source names manifests, as kubectl's flags -f, -k and -R do.
type Source struct {
	Files     []string // files and folders; Stdin is In
	Kustomize string   // folder
	Recursive bool     // includes subfolders
	In        io.Reader
}

// Read reads all documents in order. Its errors name the file.
func (s Source) Read() ([]*Document, error) {
	if (len(s.Files) == 0) == (s.Kustomize == "") {
		return nil, errors.New("name the manifests: -f with files or folders (- is standard input), or -k with the folder of a kustomization")
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

// expand lists the files of a file or folder, by kubectl's rules.
func (s Source) expand(name string) ([]string, error) {
	if name == Stdin {
		return []string{name}, nil
	}
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		return nil, fmt.Errorf("%s: URLs are not read; download it and pipe it: curl -fsSL %s | kubectl kms … -f -", name, name)
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
		return nil, fmt.Errorf("%s: there is no file that ends in %s; folders in it are read with -R", name,
			strings.Join(resource.FileExtensions, ", "))
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

// build builds a kustomization, as kubectl does.
func (s Source) build() ([]*Document, error) {
	infos, err := resource.NewLocalBuilder().Unstructured().
		FilenameParam(false, &resource.FilenameOptions{Kustomize: s.Kustomize}).Do().Infos()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for i, info := range infos {
		object, err := yaml.Marshal(info.Object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Kustomize, err)
		}
		if i > 0 {
			text.WriteString("---\n")
		}
		text.Write(object)
	}
	return split(s.Kustomize, text.Bytes())
}

// split splits a file into documents as kubectl does: at the lines ---, and between JSON objects, which need no separator. The documents
// together are the file, byte for byte.
func split(file string, text []byte) ([]*Document, error) {
	s := splitter{file: file}
	part, separator, line, begin := []byte(nil), []byte(nil), 1, 1
	for one := range bytes.Lines(text) {
		if rest, separates := bytes.CutPrefix(one, []byte("---")); separates {
			if rest = bytes.TrimSpace(rest); len(rest) > 0 && rest[0] != '#' {
				return nil, fmt.Errorf("%s, line %d: %q follows the separator ---, and kubectl refuses it; write it on a line of its own", file, line,
					rest)
			}
			if err := s.part(separator, part, begin); err != nil {
				return nil, err
			}
			part, separator, begin = nil, one, line+1
		} else {
			part = append(part, one...)
		}
		line++
	}
	return s.documents, s.part(separator, part, begin)
}

type splitter struct {
	file      string
	documents []*Document
}

// part adds the documents between two separators: leading JSON objects, and the rest as one YAML document.
func (s *splitter) part(separator, text []byte, line int) error {
	for len(text) > 0 || len(separator) > 0 {
		one := text
		var object json.RawMessage
		dec := json.NewDecoder(bytes.NewReader(text))
		isJSON := bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) && dec.Decode(&object) == nil
		if isJSON {
			one = text[:dec.InputOffset()]
			if blank := text[len(one):]; len(bytes.TrimSpace(blank)) == 0 {
				one = text
			}
		}
		d := &Document{File: s.file, Line: line, begin: line, first: len(s.documents) == 0, separator: separator, text: one, json: isJSON}
		if err := d.read(); err != nil {
			return err
		}
		s.documents = append(s.documents, d)
		line += bytes.Count(one, []byte("\n"))
		separator, text = nil, text[len(one):]
	}
	return nil
}

// Write writes documents in order, as they were read.
func Write(w io.Writer, documents []*Document) error {
	var out bytes.Buffer
	for i, d := range documents {
		if i > 0 && d.first { // of another file
			if text := out.Bytes(); len(text) > 0 && text[len(text)-1] != '\n' {
				out.WriteByte('\n')
			}
			if len(d.separator) == 0 && !(d.json && documents[i-1].json) {
				out.WriteString("---\n")
			}
		}
		out.Write(d.separator)
		out.Write(d.text)
	}
	_, err := w.Write(out.Bytes())
	return err
}
