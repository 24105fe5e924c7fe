// Package control is the emulator's control API: JSON over plain HTTP, on a port of its own.
//
// It is for tests and demonstrations. Its clients may replace any secret, so it belongs on loopback or behind a
// network that only they use; it never tells a secret's value.
//
//	GET    /healthz                   200
//	GET    /secrets                   secrets with their versions, without values
//	PUT    /secrets/{name}            create or replace; emulator.Secret
//	DELETE /secrets/{name}
//	POST   /secrets/{name}/versions   rotate: add a version and make it current; emulator.Version
//	PUT    /secrets/{name}/tags       replace the tags; an object of strings
//	GET    /roles                     roles with their policies
//	PUT    /roles/{name}              create or replace; emulator.Role
//	DELETE /roles/{name}
//	DELETE /sessions                  end all sessions that STS gave out
//	GET    /calls                     counts by action, secret, role and code; emulator.CallCounts
//	DELETE /calls                     count anew
//	GET    /faults                    faults that still strike
//	POST   /faults                    set one; emulator.Fault; answers {"id": "1"}
//	DELETE /faults                    remove all
//	DELETE /faults/{id}
//
// A name with slashes is one path segment with %2F, as in /secrets/app%2Fprod%2Fdb/versions; a secret may be named by
// its ARN too. Changes answer 204; a mistake 400 and a missing thing 404, with {"error": "…"}.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

const maxBody = 1 << 20

// Handler serves the control API of the cloud.
func Handler(cloud *emulator.Emulator) http.Handler {
	mux := http.NewServeMux()
	show := func(pattern string, get func() any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, get()) })
	}
	change := func(pattern string, do func(*http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			if err := do(r); err != nil {
				replyError(w, err)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	}
	show("GET /healthz", func() any { return map[string]string{"status": "healthy"} })

	show("GET /secrets", func() any { return listed(cloud.Secrets()) })
	change("PUT /secrets/{name}", func(r *http.Request) error {
		secret := emulator.Secret{Name: r.PathValue("name")}
		if err := read(r, &secret); err != nil {
			return err
		}
		return same(r, secret.Name, cloud.PutSecret, secret)
	})
	change("DELETE /secrets/{name}", func(r *http.Request) error { return cloud.DeleteSecret(r.PathValue("name")) })
	change("POST /secrets/{name}/versions", func(r *http.Request) error {
		var version emulator.Version
		if err := read(r, &version); err != nil {
			return err
		}
		return cloud.Rotate(r.PathValue("name"), version)
	})
	change("PUT /secrets/{name}/tags", func(r *http.Request) error {
		var tags map[string]string
		if err := read(r, &tags); err != nil {
			return err
		}
		return cloud.TagSecret(r.PathValue("name"), tags)
	})

	show("GET /roles", func() any { return listed(cloud.Roles()) })
	change("PUT /roles/{name}", func(r *http.Request) error {
		role := emulator.Role{Name: r.PathValue("name")}
		if err := read(r, &role); err != nil {
			return err
		}
		return same(r, role.Name, cloud.PutRole, role)
	})
	change("DELETE /roles/{name}", func(r *http.Request) error { return cloud.DeleteRole(r.PathValue("name")) })
	change("DELETE /sessions", func(*http.Request) error { cloud.ExpireSessions(); return nil })

	show("GET /calls", func() any { return listed(cloud.Calls()) })
	change("DELETE /calls", func(*http.Request) error { cloud.ResetCalls(); return nil })

	show("GET /faults", func() any { return listed(cloud.Faults()) })
	change("DELETE /faults", func(*http.Request) error { cloud.ClearFaults(); return nil })
	change("DELETE /faults/{id}", func(r *http.Request) error { return cloud.RemoveFault(r.PathValue("id")) })
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var fault emulator.Fault
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := read(r, &fault); err != nil {
			replyError(w, err)
			return
		}
		id, err := cloud.AddFault(fault)
		if err != nil {
			replyError(w, err)
			return
		}
		reply(w, http.StatusCreated, map[string]string{"id": id})
	})
	return mux
}

// same refuses a body that names another thing than the path.
func same[T any](r *http.Request, name string, put func(T) error, value T) error {
	if path := r.PathValue("name"); name != path {
		return fmt.Errorf("body has the name %q, path %q", name, path)
	}
	return put(value)
}

// listed makes an empty list of none, for JSON.
func listed[L ~[]T, T any](list L) L {
	if list == nil {
		return L{}
	}
	return list
}

func read(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}

func replyError(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if errors.Is(err, emulator.ErrNotFound) {
		status = http.StatusNotFound
	}
	reply(w, status, map[string]string{"error": err.Error()})
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client is gone if this fails.
	_ = json.NewEncoder(w).Encode(value)
}
