// Package docs reads the project's documents, for the tests that hold them to what the program does.
package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A Page is a Markdown document.
type Page struct {
	File   string // relative to the repository
	Text   string
	Blocks []Block
}

// A Block is fenced text of a page. Note is the text of the HTML comment that stands on the line before it.
type Block struct {
	Note, Language, Text string
}

var fence = regexp.MustCompile("(?ms)^(?:<!-- ([^\n]*) -->\n)?```([a-z]*)\n(.*?)^```$")

// Read returns all documents for users that the repository has.
func Read(repository string) ([]Page, error) {
	var pages []Page
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/chart/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(repository, file)
			if err != nil {
				return nil, err
			}
			p := Page{File: name, Text: string(text)}
			for _, m := range fence.FindAllStringSubmatch(p.Text, -1) {
				p.Blocks = append(p.Blocks, Block{Note: m[1], Language: m[2], Text: m[3]})
			}
			pages = append(pages, p)
		}
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("%s has no documents", repository)
	}
	return pages, nil
}

// Prose returns the page without its fenced blocks.
func (p Page) Prose() string { return fence.ReplaceAllString(p.Text, "") }

// Commands returns the lines of a block of shell, with those that a backslash continues made one.
func (b Block) Commands() []string {
	var commands []string
	for line := range strings.Lines(strings.ReplaceAll(b.Text, "\\\n", " ")) {
		if line = strings.Join(strings.Fields(line), " "); line != "" {
			commands = append(commands, line)
		}
	}
	return commands
}
