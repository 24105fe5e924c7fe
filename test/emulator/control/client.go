package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// Client controls an emulator from another process. Its methods do what those of emulator.Emulator do.
type Client struct {
	URL  string       // of the control API, as in http://127.0.0.1:8090
	HTTP *http.Client // client to use. Default: http.DefaultClient.
}

func (c Client) PutSecret(ctx context.Context, s emulator.Secret) error {
	return c.do(ctx, http.MethodPut, s, nil, "secrets", s.Name)
}

func (c Client) Rotate(ctx context.Context, name string, v emulator.Version) error {
	return c.do(ctx, http.MethodPost, v, nil, "secrets", name, "versions")
}

func (c Client) TagSecret(ctx context.Context, name string, tags map[string]string) error {
	return c.do(ctx, http.MethodPut, tags, nil, "secrets", name, "tags")
}

func (c Client) DeleteSecret(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "secrets", name)
}

func (c Client) Secrets(ctx context.Context) (list []emulator.Secret, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "secrets")
}

func (c Client) PutRole(ctx context.Context, r emulator.Role) error {
	return c.do(ctx, http.MethodPut, r, nil, "roles", r.Name)
}

func (c Client) DeleteRole(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "roles", name)
}

func (c Client) Roles(ctx context.Context) (list []emulator.Role, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "roles")
}

func (c Client) ExpireSessions(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "sessions")
}

func (c Client) Calls(ctx context.Context) (counts emulator.CallCounts, err error) {
	return counts, c.do(ctx, http.MethodGet, nil, &counts, "calls")
}

func (c Client) ResetCalls(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "calls")
}

func (c Client) AddFault(ctx context.Context, f emulator.Fault) (id string, err error) {
	var added struct{ ID string }
	err = c.do(ctx, http.MethodPost, f, &added, "faults")
	return added.ID, err
}

func (c Client) Faults(ctx context.Context) (list []emulator.Fault, err error) {
	return list, c.do(ctx, http.MethodGet, nil, &list, "faults")
}

func (c Client) RemoveFault(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "faults", id)
}

func (c Client) ClearFaults(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, nil, nil, "faults")
}

func (c Client) do(ctx context.Context, method string, send, receive any, path ...string) error {
	for i, segment := range path {
		path[i] = url.PathEscape(segment)
	}
	address := strings.TrimSuffix(c.URL, "/") + "/" + strings.Join(path, "/")
	var body io.Reader
	if send != nil {
		text, err := json.Marshal(send)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		var problem struct{ Error string }
		if json.NewDecoder(resp.Body).Decode(&problem) != nil || problem.Error == "" {
			problem.Error = resp.Status
		}
		return fmt.Errorf("%s %s: %s", method, address, problem.Error)
	}
	if receive == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(receive); err != nil {
		return fmt.Errorf("%s %s: %w", method, address, err)
	}
	return nil
}
