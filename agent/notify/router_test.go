package notify

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

func TestEachTargetIsToldOnce(t *testing.T) {
	pod, web := &receiver{}, &receiver{}
	podServer, webServer := httptest.NewServer(pod), httptest.NewServer(web)
	defer podServer.Close()
	defer webServer.Close()
	own := webServer.URL + "/"
	r, err := New(slog.New(slog.DiscardHandler), agentconfig.Config{
		OnChange: podServer.URL + "/", Files: []agentconfig.File{{Path: "a", OnChange: own}, {Path: "b"}, {Path: "c", OnChange: own}},
	}, func(config.Target, Change, int, error) {})
	if err != nil {
		t.Fatal(err)
	}
	r.Tell(t.Context(), change("v2", "v1", "a", "b", "c", "d"))
	r.Wait()
	for _, want := range []struct {
		*receiver
		paths string
	}{{pod, "b d"}, {web, "a c"}} {
		heard := want.heard()
		if len(heard) != 1 {
			t.Errorf("%d calls for %s", len(heard), want.paths)
			continue
		}
		var paths []string
		for _, f := range heard[0].Files {
			paths = append(paths, f.Path)
		}
		if got := strings.Join(paths, " "); got != want.paths {
			t.Errorf("heard of %s, want %s", got, want.paths)
		}
	}
	r.pod = config.Target{}
	r.Tell(t.Context(), change("v3", "v2", "b", "c"))
	r.Wait()
	if heard := web.heard(); len(pod.heard()) != 1 || len(heard) != 2 || len(heard[1].Files) != 1 {
		t.Errorf("got a notification of a file without a target, or missed one: %v", heard)
	}
}
