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
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	query := url.Values{"secretId": {r.SecretID}}
	for name, value := range map[string]string{"versionId": r.VersionID, "versionStage": r.VersionStage} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if r.RefreshNow {
		query.Set("refreshNow", "true")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+queryPath+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-KMS-Token", c.Token)
	res, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		refusal := &Error{Status: res.StatusCode}
		if json.Unmarshal(body, refusal) != nil || refusal.Code == "" {
			return nil, fmt.Errorf("what answers on %s is not an agent (HTTP %d)", c.Address, res.StatusCode)
		}
		return nil, refusal
	}
	return value(body)
}

// Ping returns nil if an agent answers. It needs no token.
func (c Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/ping", http.NoBody)
	if err != nil {
		return err
	}
	res, err := c.do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("what answers on %s is not a healthy agent (HTTP %d)", c.Address, res.StatusCode)
	}
	return nil
}

func (c Client) do(req *http.Request) (*http.Response, error) {
	res, err := c.http().Do(req)
	if err != nil {
		var wrapped *url.Error // repeats the URL
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("no agent answers on %s: does one run in this pod, with its local API on? %w", c.Address, err)
	}
	return res, nil
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
