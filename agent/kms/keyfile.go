package kms

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	credential "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-credential"
	dkmsutil "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-util"
)

// KeyError says what is wrong with a client key. It holds neither key nor password.
type KeyError struct {
	File string // which is wrong
	Err  error  // ErrPassword, ErrExpired, that of reading the file, or about what is in it
}

func (e *KeyError) Error() string { return fmt.Sprintf("client key %s: %v", e.File, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

// What can be wrong with a client key that is whole.
var (
	ErrPassword = errors.New("the password does not open it")
	ErrExpired  = errors.New("it has expired")
)

// clientKey is one that has been opened.
type clientKey struct {
	id          string
	certificate tls.Certificate
	credential  *credential.Client
}

// clientKeyFile is a client key and its password in two files.
type clientKeyFile struct {
	path, passwordPath string

	mu       sync.Mutex
	text     []byte
	password []byte
	key      *clientKey
}

// read returns the client key, opening it if it is another than before. While the files are being replaced, one may be
// new and the other old: then the key in hand stays.
func (f *clientKeyFile) read(now time.Time) (key *clientKey, changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if changed, err = f.reread(); err != nil && f.key == nil {
		return nil, false, err
	}
	if end := f.key.certificate.Leaf.NotAfter; now.After(end) {
		return nil, changed, &KeyError{File: f.path, Err: fmt.Errorf("%w on %s", ErrExpired, end.Format(time.DateOnly))}
	}
	return f.key, changed, nil
}

func (f *clientKeyFile) reread() (changed bool, err error) {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return false, &KeyError{File: f.path, Err: err}
	}
	password, err := os.ReadFile(f.passwordPath)
	if err != nil {
		return false, &KeyError{File: f.passwordPath, Err: err}
	}
	if f.key != nil && bytes.Equal(text, f.text) && bytes.Equal(password, f.password) {
		return false, nil
	}
	key, err := openClientKey(text, strings.TrimRight(string(password), "\r\n"))
	if err != nil {
		return false, &KeyError{File: f.path, Err: err}
	}
	f.text, f.password, f.key = text, password, key
	return true, nil
}

// openClientKey checks what the SDK takes for granted, and has it open the key.
func openClientKey(text []byte, password string) (key *clientKey, err error) {
	var doc struct {
		KeyID          string `json:"KeyId"`
		PrivateKeyData string
	}
	if json.Unmarshal(text, &doc) != nil || doc.KeyID == "" || doc.PrivateKeyData == "" {
		return nil, errors.New("want JSON with KeyId and PrivateKeyData, as the KMS console gives it out")
	}
	if _, err := base64.StdEncoding.DecodeString(doc.PrivateKeyData); err != nil {
		return nil, errors.New("PrivateKeyData is not base64")
	}
	defer func() {
		// The SDK takes the second item of the store without asking whether there is one.
		if r := recover(); r != nil {
			key, err = nil, errors.New("PrivateKeyData is not a PKCS#12 store with one certificate and one key")
		}
	}()
	kind, content := "rsa_key_pair", string(text)
	opened, err := credential.NewClient(&credential.Config{Type: &kind, ClientKeyContent: &content, Password: &password})
	switch {
	case err != nil && strings.Contains(err.Error(), "password incorrect"): // pkcs12.ErrIncorrectPassword, which is another module's
		return nil, ErrPassword
	case err != nil:
		return nil, fmt.Errorf("PrivateKeyData cannot be read: %w", err)
	}
	pair, err := tls.X509KeyPair([]byte(*opened.GetPrivateKeyCert()), []byte(*opened.GetAccessKeySecret()))
	if err != nil {
		return nil, errors.New("PrivateKeyData is not a PKCS#12 store with a private key and its certificate")
	}
	return &clientKey{id: doc.KeyID, certificate: pair, credential: opened}, nil
}

// sign has the SDK sign a request with these headers.
func (k *clientKey) sign(method string, headers map[string]*string) (authorization string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("the SDK cannot sign with the client key")
		}
	}()
	path := "/"
	text, err := dkmsutil.GetStringToSign(&method, &path, headers, nil)
	if err != nil {
		return "", errors.New("the SDK cannot tell what to sign")
	}
	signature, err := k.credential.GetSignature(text)
	if err != nil {
		return "", errors.New("the SDK cannot sign with the client key")
	}
	return *signature, nil
}
