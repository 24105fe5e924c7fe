package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// memoryLimit is the default of the injected containers, 64Mi.
const memoryLimit = 64 << 20

// Containers without the token cannot make the agent grow over its limit, nor lock out those that have it.
func TestFiveThousandConnectionsWithoutTheToken(t *testing.T) {
	p := newLeakyPod(t)
	p.doc.API = &config.LocalAPI{Socket: filepath.Join(p.directory("api"), "s"), TokenFile: filepath.Join(p.directory("api"), "token")}
	sidecar := p.command(t.Context(), agentconfig.CommandRun)
	sidecar.Env = append(sidecar.Env, fmt.Sprint("GOMEMLIMIT=", memoryLimit))
	var log journal
	sidecar.Stdout, sidecar.Stderr = &log, &log
	p.asOtherUser(sidecar)
	if err := sidecar.Start(); err != nil {
		t.Fatal(err)
	}
	p.until("the local API", func() bool { return p.command(t.Context(), agentconfig.CommandReady).Run() == nil })
	token, err := os.ReadFile(p.doc.API.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		for { // a socket's backlog may be full for a moment
			c, err := new(net.Dialer).DialContext(ctx, "unix", p.doc.API.Socket)
			if !errors.Is(err, syscall.EAGAIN) {
				return c, err
			}
			time.Sleep(time.Millisecond)
		}
	}
	app := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	ask := func() {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://agent/v1/app/key", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-KMS-Token", string(token))
		response, err := app.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.Body.Close(); response.StatusCode != http.StatusOK {
			t.Errorf("%s", response.Status)
		}
	}
	ask()
	half := "GET /v1/app/key HTTP/1.1\r\nX-KMS-Token: " + strings.Repeat("x", 7000)
	for i := range 5000 {
		c, err := dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = c.Write([]byte(half)) // the agent may have closed it by now
		}
		if i%500 == 0 {
			ask()
			app.CloseIdleConnections()
			ask()
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", sidecar.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int
	if _, err := fmt.Sscan(peak, &kilobytes); err != nil || kilobytes<<10 > memoryLimit {
		t.Errorf("the agent took %d kB, %v", kilobytes, err)
	}
	t.Logf("at most %d kB", kilobytes)
	if err := sidecar.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := sidecar.Wait(); err != nil {
		t.Errorf("run: %v\n%s", err, log.String())
	}
}
