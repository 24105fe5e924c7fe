package docs

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
)

// TestFormats has the webhook and the agent make the files of the page's example.
func TestFormats(t *testing.T) {
	pod := newExample(t, "formats")
	if err := pod.agent.Init(t.Context()); err != nil {
		t.Fatal(pod.agent.Explain(err))
	}
	var files strings.Builder
	entries, err := fs.Glob(os.DirFS(pod.doc.SecretsDir), "[^.]*")
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range entries {
		data, err := os.ReadFile(filepath.Join(pod.doc.SecretsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			files.WriteString("\n")
		}
		fmt.Fprintf(&files, "==> %s <==\n%s", name, data) // as tail does
	}
	if !strings.HasSuffix(files.String(), "\n") {
		files.WriteString("\n")
	}
	shows(t, "files", files.String())
}

// TestLocalAPI asks the agent of the page's example what is asked there.
func TestLocalAPI(t *testing.T) {
	pod := newExample(t, "local API")
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer func() { cancel(); group.Wait() }()
	group.Go(func() {
		if err := pod.agent.Run(ctx); err != nil {
			t.Error(pod.agent.Explain(err))
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(2 * time.Minute); agent.Ready(ctx, pod.doc) != nil; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the local API is not there")
		}
	}
	token, err := os.ReadFile(pod.doc.API.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	_, answers := noted(t, "answers")
	for line := range strings.Lines(answers.Text) {
		typed := curl.FindStringSubmatch(line)
		if typed == nil {
			continue
		}
		printed.WriteString(line + pod.ask(t, typed[1], string(token), typed[2]) + "\n")
	}
	shows(t, "answers", printed.String())
}

// curl is a line with it: the header with the token, if there is one, and the path.
var curl = regexp.MustCompile(`^\$ curl (?:-H "([A-Za-z-]+):\$\(</var/run/kmstoken/token\)" )?'http://localhost:2025(/[^']*)'\n$`)

// varies is what no two answers have in common.
var varies = regexp.MustCompile(`"(RequestId|CreateTime)":"[^"]+"`)

func (e *example) ask(t *testing.T, header, token, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header != "" {
		request.Header.Set(header, token)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.doc.API.Socket)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return varies.ReplaceAllString(strings.ReplaceAll(string(body), e.doc.KMS.Host, e.gateway), `"$1":"…"`)
}
