package oidc

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// A cluster that changes its signing key is believed as soon as a token names the new one, but a stream of made-up key
// IDs causes at most a fetch a second.
func TestKeysAreFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched := 0
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{newKey(t, "old")}}
		remote := &Remote{config: RemoteConfig{URL: "https://cluster.example"}, client: &http.Client{
			Transport: roundTripper(func(*http.Request) *http.Response {
				fetched++
				document, err := json.Marshal(set)
				if err != nil {
					t.Fatal(err)
				}
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(document))}
			}),
		}}
		ask := func(id string, keys, fetches int) {
			t.Helper()
			got, err := remote.Keys(t.Context(), id)
			if err != nil || len(got) != keys || fetched != fetches {
				t.Errorf("%s: got %d keys after %d fetches, %v; want %d after %d", id, len(got), fetched, err, keys, fetches)
			}
		}
		ask("old", 1, 1)
		set.Keys = append(set.Keys, newKey(t, "new"))
		ask("new", 0, 1)
		time.Sleep(refetchAfter)
		ask("new", 1, 2)
		ask("made-up", 0, 2)
		time.Sleep(refetchAfter)
		ask("made-up", 0, 3)
		ask("old", 1, 3)
		ask("", 2, 3)
	})
}

type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func newKey(t *testing.T, id string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key.Public(), KeyID: id, Use: "sig"}
}
