// Command registry is a container registry, for tests, that asks for a user and a password and has one image, of itself:
//
//	registry ADDRESS USER PASSWORD
//
// The image is ADDRESS/registry:dev.
package main

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/image"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: registry ADDRESS USER PASSWORD")
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	self, err := image.New(v1.Config{User: "65532:65532"}, image.File{Path: "registry", Data: program})
	if err != nil {
		return fmt.Errorf("make the image: %w", err)
	}
	handler := registry.New()
	if err := push(handler, self); err != nil {
		return fmt.Errorf("push the image: %w", err)
	}
	server := &http.Server{Addr: args[0], Handler: authenticated(handler, args[1], args[2]), ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}

// authenticated refuses requests without the user and the password.
func authenticated(handler http.Handler, user, password string) http.Handler {
	want := []byte(user + ":" + password)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+":"+password), want) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, "give the user and the password", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// push gives the registry an image.
func push(handler http.Handler, image v1.Image) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	config, err := partial.ConfigLayer(image)
	if err != nil {
		return err
	}
	for _, layer := range append(layers, config) {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		blob, err := layer.Compressed()
		if err != nil {
			return err
		}
		if err := send(handler, http.MethodPost, "/v2/registry/blobs/uploads/?digest="+digest.String(), "", blob); err != nil {
			return err
		}
	}
	mediaType, err := image.MediaType()
	if err != nil {
		return err
	}
	manifest, err := image.RawManifest()
	if err != nil {
		return err
	}
	return send(handler, http.MethodPut, "/v2/registry/manifests/dev", string(mediaType), bytes.NewReader(manifest))
}

func send(handler http.Handler, method, path, mediaType string, body io.Reader) error {
	request := httptest.NewRequest(method, path, body)
	request.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		return fmt.Errorf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
	return nil
}
