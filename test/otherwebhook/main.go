// Command otherwebhook is another mutating webhook of a cluster, for tests: at /identity it does to a pod what
// ack-pod-identity-webhook does, at /mesh it adds a proxy as service meshes do, and at /annotations it asks for a secret on behalf
// of the pod. Its key and certificate are in /tls, and may change.
package main

import (
	"crypto/tls"
	"encoding/json"
	"log"
	"net/http"
	"slices"
	"time"
)

func main() {
	http.HandleFunc("POST /identity", mutate(identity))
	http.HandleFunc("POST /mesh", mutate(mesh))
	http.HandleFunc("POST /annotations", mutate(annotations))
	server := &http.Server{Addr: ":8443", ReadHeaderTimeout: 5 * time.Second, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair("/tls/tls.crt", "/tls/tls.key")
			return &pair, err
		},
	}}
	log.Fatal(server.ListenAndServeTLS("", ""))
}

type (
	object = map[string]any
	array  = []any
)

// pod is what the handlers read of a pod.
type pod struct {
	Spec struct {
		Volumes        []named     `json:"volumes"`
		InitContainers []container `json:"initContainers"`
		Containers     []container `json:"containers"`
	} `json:"spec"`
}

type container struct {
	Name         string  `json:"name"`
	Env          []named `json:"env"`
	VolumeMounts []named `json:"volumeMounts"`
}

type named struct {
	Name string `json:"name"`
}

func has(list []named, name string) bool {
	return slices.ContainsFunc(list, func(n named) bool { return n.Name == name })
}

func add(path string, value any) object { return object{"op": "add", "path": path, "value": value} }

// mutate returns the handler of a webhook that makes a JSON patch for a pod.
func mutate(patch func(pod) array) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Request struct {
				UID    string `json:"uid"`
				Object pod    `json:"object"`
			} `json:"request"`
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response := object{"uid": review.Request.UID, "allowed": true}
		if operations := patch(review.Request.Object); len(operations) > 0 {
			text, err := json.Marshal(operations)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			response["patch"], response["patchType"] = text, "JSONPatch"
		}
		w.Header().Set("Content-Type", "application/json")
		answer := object{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
		json.NewEncoder(w).Encode(answer) //nolint:errcheck // the API server is gone
	}
}
