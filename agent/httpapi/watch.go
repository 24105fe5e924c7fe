package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// watch sends a server-sent event for each change of the secret's version. Its id is the version, so that a client that
// comes back with Last-Event-ID, which browsers and libraries do by themselves, learns of a change that it missed. The
// value is not in it: a client gets that as always, under the same checks.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	request, err := s.permitted(r, "", watchParameters)
	if err != nil {
		return err
	}
	current, err := s.cfg.Source.Get(r.Context(), request) // so that a mistake is answered as such
	if err != nil {
		return err
	}
	seen := current.VersionID
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		seen = id
	}
	changes := s.cfg.Source.Watch(r.Context(), request)

	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header["Cache-Control"] = noStore
	stream := stream{w, http.NewResponseController(w), s.writeLimit}
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	ok := stream.control.SetReadDeadline(time.Time{}) == nil && stream.send(": watching "+request.Name+"\n\n")
	for ok {
		select {
		case <-r.Context().Done():
			return nil
		case <-connectionOf(r).server.closing:
			return nil
		case <-beat.C:
			ok = stream.send(": still here\n\n")
		case secret, open := <-changes:
			if !open {
				return nil
			}
			if secret.VersionID == seen {
				continue
			}
			seen = secret.VersionID
			ok = stream.send(event(secret))
		}
	}
	return nil
}

func event(s *kms.Secret) string {
	data, err := json.Marshal(struct {
		SecretName    string
		VersionID     string `json:"VersionId"`
		VersionStages []string
	}{s.Name, s.VersionID, s.Stages})
	if err != nil {
		data = []byte("{}") // strings always encode
	}
	return fmt.Sprintf("event: version\nid: %s\ndata: %s\n\n", s.VersionID, data)
}

// stream writes to a client that may have stopped reading, which must not hold the server's end up.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	limit   time.Duration
}

func (s stream) send(text string) bool {
	if s.control.SetWriteDeadline(time.Now().Add(s.limit)) != nil {
		return false
	}
	_, err := s.w.Write([]byte(text))
	return err == nil && s.control.Flush() == nil
}
