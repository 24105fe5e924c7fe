//go:build linux

package screen

import (
	"os"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/terminal"
)

// Colour and width are for terminals: what is piped or written to a file is plain, and its lines are whole.
func TestTerminal(t *testing.T) {
	const words = "one two three four five six seven eight nine ten eleven twelve"
	show := func(s Screen) {
		table := Table{Header: []string{"POD", "SECRETS"}}
		table.Add("web", words)
		s.Table(table)
		s.Printf("%s\n", s.Bad("end"))
	}
	for name, c := range map[string]struct {
		environment map[string]string
		colour      bool
	}{
		"colour":   {nil, true},
		"NO_COLOR": {map[string]string{"NO_COLOR": "1"}, false},
		"dumb":     {map[string]string{"TERM": "dumb"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			on, typed := terminal.Open(t, 40)
			show(New(on, func(name string) string { return c.environment[name] }))
			got, part := "", make([]byte, 4096)
			for !strings.Contains(got, "end") || !strings.HasSuffix(got, "\n") { // it comes in pieces
				n, err := typed.Read(part)
				if err != nil {
					t.Fatal(err)
				}
				got += strings.ReplaceAll(string(part[:n]), "\r", "")
			}
			if strings.Contains(got, "\x1b[31mend\x1b[0m") != c.colour || strings.Contains(got, "\x1b[") != c.colour {
				t.Errorf("colour is not %v:\n%q", c.colour, got)
			}
			if !strings.Contains(got, "web   one two three four five six seven\n      eight nine ten eleven twelve\n") {
				t.Errorf("not broken at the terminal's width:\n%s", got)
			}
		})
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	show(New(file, os.Getenv))
	text, err := os.ReadFile(file.Name())
	if want := "POD   SECRETS\nweb   " + words + "\nend\n"; err != nil || string(text) != want {
		t.Errorf("%v: in a file it is\n%s", err, text)
	}
}
