// Command image packs files into a container image of this machine's architecture, without a registry or a daemon:
//
//	image TARGET.tar REFERENCE COMMAND PART...
//
// A part is NAME=FILE, a program; NAME@TARGET, a symbolic link; or NAME/, a folder that everyone may write to. The command is split at
// spaces.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/image"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return errors.New("usage: image TARGET.tar REFERENCE COMMAND PART")
	}
	var files []image.File
	for _, part := range args[3:] {
		f := image.File{Path: part}
		if name, source, ok := strings.Cut(part, "="); ok {
			data, err := os.ReadFile(source)
			if err != nil {
				return err
			}
			f = image.File{Path: name, Data: data}
		} else if name, target, ok := strings.Cut(part, "@"); ok {
			f = image.File{Path: name, Link: target}
		}
		files = append(files, f)
	}
	config := v1.Config{Cmd: strings.Fields(args[2]), User: "65532:65532", Env: []string{"PATH=/bin:/"}, WorkingDir: "/"}
	return image.Write(args[0], args[1], config, files...)
}
