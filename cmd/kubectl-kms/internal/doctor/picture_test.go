package doctor

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

var show = flag.Bool("show", false, "write what the picture shows to the terminal")

// TestPicture compares the pictures of the documents, which test/picture.sh draws, to testdata/untrusted.json: the report of a real run
// about a pod that its role's trust policy does not name. TestDoctor of the end-to-end suite writes it.
func TestPicture(t *testing.T) {
	golden, err := os.ReadFile("testdata/untrusted.json")
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(golden, &report); err != nil {
		t.Fatal(err)
	}
	if *show {
		report.Text(screen.New(os.Stdout, os.Getenv))
		return
	}
	var text bytes.Buffer
	report.Text(screen.New(&text, os.Getenv))
	shown, _, _ := strings.Cut(text.String(), "Trust policy that ") // the picture has no room for the policies
	for _, picture := range []string{"light", "dark"} {
		file := "../../../../docs/doctor-" + picture + ".svg"
		if got := textOf(t, file); got != strings.Join(strings.Fields("$ kubectl kms doctor -n shop web "+shown), "") {
			t.Errorf("%s shows another report; test/picture.sh draws the present one:\n%s", file, got)
		}
	}
}

// textOf returns the text of a drawing, without spaces.
func textOf(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var text strings.Builder
	for dec := xml.NewDecoder(f); ; {
		switch token, err := dec.Token(); token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case nil:
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return strings.Join(strings.Fields(text.String()), "")
		}
	}
}
