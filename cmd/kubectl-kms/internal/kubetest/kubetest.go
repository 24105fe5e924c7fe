// Package kubetest is an API server for tests, with objects that do not change.
package kubetest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// A Server answers requests for its objects, and for pods to be created as a dry run. Anything that would change something it
// refuses.
type Server struct {
	Objects map[string]any    // by path: objects, and lists
	Refuses string            // what it says to whoever creates a pod; "": it accepts
	Forbids map[string]string // by path: what it says to the person who has no right to it
	// Runs is what a command prints that is run in a pod, by the path of its exec. Whatever it is, it is run and ends well.
	Runs map[string]func(command []string, stdout, stderr io.Writer)
	// Warns is what it says to every request besides, as webhooks do.
	Warns string
}

// Start returns the address of the server, which ends with the test.
func (s *Server) Start(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if run := s.Runs[r.URL.Path]; run != nil {
		exec(w, r, run)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if s.Warns != "" {
		w.Header().Set("Warning", s.Warns)
	}
	answer, status := s.Objects[r.URL.Path], http.StatusOK
	forbidden := s.Forbids[r.URL.Path]
	switch {
	case forbidden != "":
		status, answer = http.StatusForbidden, failure(http.StatusForbidden, "Forbidden", forbidden)
	case r.Method == http.MethodPost && r.URL.Query().Get("dryRun") == "All" && s.Refuses == "":
		answer = map[string]any{"kind": "Pod", "apiVersion": "v1"}
	case r.Method == http.MethodPost && r.URL.Query().Get("dryRun") == "All":
		status, answer = http.StatusInternalServerError, failure(http.StatusInternalServerError, "InternalError", s.Refuses)
	case r.Method != http.MethodGet:
		status, answer = http.StatusMethodNotAllowed, failure(http.StatusMethodNotAllowed, "MethodNotAllowed", "nothing may be changed")
	case answer == nil:
		status, answer = http.StatusNotFound, failure(http.StatusNotFound, "NotFound", r.URL.Path+" not found")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a client that has gone away needs no answer
}

// exec answers as the kubelet does.
func exec(w http.ResponseWriter, r *http.Request, run func(command []string, stdout, stderr io.Writer)) {
	channels := []wsstream.ChannelType{wsstream.IgnoreChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.WriteChannel, wsstream.IgnoreChannel}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{"v5.channel.k8s.io": {Binary: true, Channels: channels}})
	_, streams, err := conn.Open(w, r.WithContext(klog.NewContext(r.Context(), logr.Discard())))
	if err != nil {
		return // the client asks in another way
	}
	defer func() { _ = conn.Close() }()
	run(r.URL.Query()["command"], streams[1], streams[2])
	_ = json.NewEncoder(streams[3]).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
}

func failure(code int, reason, message string) map[string]any {
	return map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
}
