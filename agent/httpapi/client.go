package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"
)

// Client asks an agent's local API.
type Client struct {
	Address string // 127.0.0.1:2025, or the full path of a socket
	Token   string
}

// maxAnswer bounds an answer in bytes. A value has at most 30,720, and JSON makes at most six of one.
const maxAnswer = 1 << 20

// Get returns the value of a secret, decoded if it is binary, whatever the agent's response type is; of Vault's, the keys
// and values as JSON. What the agent refuses is an *Error.
func (c Client) Get(ctx context.Context, r Request) ([]byte, error) {
	query := url.Values{"secretId": {r.Name}}
	for name, value := range map[string]string{"versionId": r.VersionID, "versionStage": r.VersionStage} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if r.RefreshNow {
		query.Set("refreshNow", "true")
	}
	status, body, err := c.ask(ctx, queryPath+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		refusal := &Error{Status: status}
		if json.Unmarshal(body, refusal) != nil || refusal.Code == "" {
			return nil, fmt.Errorf("what answers on %s is not an agent (HTTP %d)", c.Address, status)
		}
		return nil, refusal
	}
	return value(body)
}

// Ping returns nil if an agent answers. It needs no token.
func (c Client) Ping(ctx context.Context) error {
	status, _, err := c.ask(ctx, "/ping")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("what answers on %s is not a healthy agent (HTTP %d)", c.Address, status)
	}
	return err
}

func (c Client) ask(ctx context.Context, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-KMS-Token", c.Token)
	res, err := c.http().Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok { // repeats the URL
			err = wrapped.Err
		}
		return 0, nil, fmt.Errorf("no agent answers on %s: does one run in this pod, with its local API on? %w", c.Address, err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer)); err != nil {
		err = fmt.Errorf("read the agent's answer: %w", err)
	}
	return res.StatusCode, body, err
}

// http returns a client that sends to Address and nowhere else, whatever proxy the environment names.
func (c Client) http() *http.Client {
	network := "tcp"
	if filepath.IsAbs(c.Address) {
		network = "unix"
	}
	dialer := net.Dialer{Timeout: 3 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, c.Address)
			},
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// value finds the value in any of the shapes.
func value(body []byte) ([]byte, error) {
	var answer struct {
		SecretData     *string
		SecretDataType string
		SecretString   *string
		SecretBinary   []byte
		Data           *struct{ Data json.RawMessage }
	}
	if json.Unmarshal(body, &answer) != nil {
		return nil, errors.New("the agent's answer is not a secret")
	}
	switch {
	case answer.SecretData != nil && answer.SecretDataType == "binary":
		data, err := base64.StdEncoding.DecodeString(*answer.SecretData)
		if err != nil {
			return nil, errors.New("the agent's answer is binary, but not base64")
		}
		return data, nil
	case answer.SecretData != nil:
		return []byte(*answer.SecretData), nil
	case answer.SecretString != nil:
		return []byte(*answer.SecretString), nil
	case answer.SecretBinary != nil:
		return answer.SecretBinary, nil
	case answer.Data != nil:
		return answer.Data.Data, nil
	}
	return nil, errors.New("the agent's answer has no value")
}
