package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

// A ClientKey is where a client key comes from. It may be another from one call to the next.
type ClientKey struct {
	Name string // of the key, for errors
	// Read returns the client key as the KMS console gives it out, JSON, and its password, which may end in a newline.
	Read func() (key, password []byte, err error)
}

// ClientKeyFiles returns a client key in two files.
func ClientKeyFiles(key, password string) ClientKey {
	return ClientKey{key, func() ([]byte, []byte, error) {
		text, err := os.ReadFile(key)
		if err != nil {
			return nil, nil, &KeyError{File: key, Err: err}
		}
		secret, err := os.ReadFile(password)
		if err != nil {
			return nil, nil, &KeyError{File: password, Err: err}
		}
		return text, secret, nil
	}}
}

// KeyError says what is wrong with a client key. It holds neither key nor password.
type KeyError struct {
	File string // which is wrong
	Err  error  // ErrPassword, ErrExpired, that of reading the file, or about what is in it
}

func (e *KeyError) Error() string { return fmt.Sprintf("client key %s: %v", e.File, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

// Errors of a client key that was read completely.
var (
	ErrPassword = errors.New("the password does not open it")
	ErrExpired  = errors.New("it has expired")
)

// ClientKeyClient calls the gateway of one KMS instance, signed by the client key of an application access point. It is
// safe for concurrent use.
type ClientKeyClient struct {
	*openapi.Client
	endpoint string
	from     ClientKey

	mu             sync.Mutex
	text, password []byte // that key was opened from
	key            *openedKey
	wrong          error // why the newer one cannot be used
}

// NewClientKey returns a client for the instance with the Endpoint <id>.cryptoservice.kms.aliyuncs.com, once the client key
// has been read. It does not connect yet.
func NewClientKey(cfg Config, key ClientKey) (*ClientKeyClient, error) {
	cfg.HTTP1 = true // the SDK itself never offers HTTP/2 to an instance
	http, err := cfg.client()
	if err != nil {
		return nil, err
	}
	c := &ClientKeyClient{Client: http, endpoint: cfg.Endpoint, from: key}
	if _, err := c.currentKey(time.Now()); err != nil {
		return nil, err
	}
	return c, nil
}

// GetSecretValue reads one secret: one request, no retry. What KMS or the network refuses is an *Error, what is wrong with
// the client key a *KeyError; the end of ctx is ctx's error.
func (c *ClientKeyClient) GetSecretValue(ctx context.Context, ref Ref) (Secret, error) {
	key, err := c.currentKey(time.Now())
	if err != nil {
		return Secret{}, err
	}
	req, err := c.request(ctx, key, ref)
	if err != nil {
		return Secret{}, &Error{Ref: ref, Err: err}
	}
	answer, err := c.Send(req)
	switch {
	case err != nil:
		return Secret{}, failure(ctx, ref, err)
	case answer.Status != http.StatusOK:
		refused := refusal(ref, answer, readProtobuf(answer.Body).Safe())
		if newer := c.unusable(); newer != nil && refused.Class() == Permanent {
			refused.Message += fmt.Sprintf(" (the client key that is there now cannot be used: %v)", newer)
		}
		return Secret{}, refused
	}
	secret, err := decodeProtobuf(answer.Body)
	if err != nil {
		return Secret{}, &Error{Ref: ref, Status: http.StatusOK, Err: err}
	}
	return secret, nil
}

// currentKey returns the client key, opened again if it is another than before. While the two files are being replaced one
// may be new and the other old: the key before stays until both open.
func (c *ClientKeyClient) currentKey(now time.Time) (*openedKey, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = c.reread()
	if c.wrong != nil && c.key == nil {
		return nil, c.wrong
	}
	if end := c.key.certificate.Leaf.NotAfter; now.After(end) {
		expired := fmt.Errorf("%w on %s", ErrExpired, end.Format(time.DateOnly))
		if c.wrong != nil {
			expired = fmt.Errorf("%w, and the one that is there now cannot be used: %w", expired, c.wrong)
		}
		return nil, &KeyError{File: c.from.Name, Err: expired}
	}
	return c.key, nil
}

func (c *ClientKeyClient) unusable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong
}

// reread is called with mu held.
func (c *ClientKeyClient) reread() error {
	text, password, err := c.from.Read()
	if err != nil {
		return err
	}
	if c.key != nil && bytes.Equal(text, c.text) && bytes.Equal(password, c.password) {
		return nil
	}
	key, err := openKey(text, strings.TrimRight(string(password), "\r\n"))
	if err != nil {
		return &KeyError{File: c.from.Name, Err: err}
	}
	c.text, c.password, c.key = text, password, key
	c.Present(&key.certificate)
	return nil
}

// openedKey is a client key that has been decrypted.
type openedKey struct {
	id          string
	certificate tls.Certificate
	signer      signer
}

// request returns a request that the SDK has serialized and signed.
func (c *ClientKeyClient) request(ctx context.Context, key *openedKey, ref Ref) (*http.Request, error) {
	body, err := serialize(ref)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	headers := map[string]*string{}
	for name, value := range map[string]string{
		"accept":                "application/x-protobuf",
		"content-type":          "application/x-protobuf",
		"content-sha256":        strings.ToUpper(hex.EncodeToString(sum[:])),
		"date":                  time.Now().UTC().Format(http.TimeFormat),
		"user-agent":            "kms-agent-injector",
		"x-kms-apiversion":      "dkms-gcs-0.2",
		"x-kms-apiname":         "GetSecretValue",
		"x-kms-signaturemethod": "RSA_PKCS1_SHA_256",
		"x-kms-acccesskeyid":    key.id, // the protocol spells it so
	} {
		headers[name] = &value
		req.Header.Set(name, value)
	}
	signature, err := key.sign(req.Method, headers)
	if err != nil {
		return nil, err
	}
	req.Header.Set("authorization", signature)
	return req, nil
}
