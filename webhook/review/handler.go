package review

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// maxBody is the largest review that can be real: an object and its old version of at most 3 MB each, and the rest of the
// request. A longer body is refused before it fills the memory.
const maxBody = 7 << 20

// A Handler is the HTTP handler around one decision.
type Handler[T any] struct {
	Read     func(*rawjson.Reader) T
	Decide   func(context.Context, *Request[T]) Verdict
	Observe  func(Verdict, time.Duration)
	Advisory bool // what goes wrong here stops nobody
	Log      logr.Logger
	Draining *atomic.Bool
}

// buffers are for reviews, patches and answers. What is read is read from a copy, whose parts it is made of.
var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 16<<10)) }}

// contentType is every answer's; Header.Set would make a list for each.
var contentType = []string{"application/json"}

func release(buffer *bytes.Buffer) {
	if buffer.Cap() > 1<<20 {
		return // one enormous pod shall not be remembered
	}
	buffer.Reset()
	buffers.Put(buffer)
}

func (h *Handler[T]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	patch := buffers.Get().(*bytes.Buffer)
	defer release(patch)
	var req Request[T]
	v := h.answer(r, &req, patch.AvailableBuffer())
	h.Observe(v, time.Since(start))
	h.logVerdict(req.Namespace, v)

	if v.Reason == BadReview {
		http.Error(w, v.Err.Error(), http.StatusBadRequest)
		return
	}
	if h.Advisory {
		v = v.advice()
	}
	buffer := buffers.Get().(*bytes.Buffer)
	defer release(buffer)
	answer := v.append(buffer.AvailableBuffer(), req.UID)
	w.Header()["Content-Type"] = contentType
	if h.Draining.Load() {
		w.Header().Set("Connection", "close") // so that the API server's next request goes to another replica
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	w.Write(answer) //nolint:errcheck // the API server is gone: nobody is left to tell
}

// answer reads the review into req and decides on it. A panic of the decision is an answer too.
func (h *Handler[T]) answer(r *http.Request, req *Request[T], room []byte) (v Verdict) {
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	if err := readBody(r, body); err != nil {
		return Failed(BadReview, err)
	}
	var err error
	if *req, err = readReview(body.String(), h.Read); err != nil {
		return Failed(BadReview, err)
	}
	req.Room = room
	defer func() {
		if p := recover(); p != nil {
			cause, known := p.(runtime.Error) // any other value may quote the pod
			if !known {
				cause = nil
			}
			h.Log.Error(cause, "Panic while deciding", "namespace", req.Namespace, "stack", string(debug.Stack()))
			v = Failed(Panic, errors.New("a bug: the log of kms-webhook has the details"))
		}
	}()
	return h.Decide(r.Context(), req)
}

func readBody(r *http.Request, into *bytes.Buffer) error {
	if r.Method != http.MethodPost {
		return fmt.Errorf("method %s; POST an AdmissionReview", r.Method)
	}
	if t := r.Header.Get("Content-Type"); t != "application/json" {
		return fmt.Errorf("content type %q; POST application/json", t)
	}
	if r.ContentLength > 0 && r.ContentLength <= maxBody {
		into.Grow(int(r.ContentLength) + bytes.MinRead) // MinRead: else reading the end would grow it once more
	}
	n, err := into.ReadFrom(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if n > maxBody {
		return fmt.Errorf("the request is longer than %d bytes", maxBody)
	}
	return nil
}

func (h *Handler[T]) logVerdict(namespace string, v Verdict) {
	switch v.Result {
	case Errored:
		h.Log.Error(v.Err, "Not answered", "namespace", namespace, "reason", v.Reason)
	case Denied:
		h.Log.Info("Denied", "namespace", namespace, "reason", v.Reason)
	default:
		if verbose := h.Log.V(1); verbose.Enabled() { // arguments are values on the heap, whether anybody looks at them or not
			verbose.Info("Allowed", "namespace", namespace, "result", v.Result, "reason", v.Reason)
		}
	}
}
