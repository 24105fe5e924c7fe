package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// makeChecksums writes what sha256sum --check reads, over everything that was made.
func makeChecksums(_ context.Context, _ settings, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var sums strings.Builder
	for _, e := range entries { // sorted by name
		data, err := root.ReadFile(e.Name())
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return write(dir, "SHA256SUMS", []byte(sums.String()))
}
