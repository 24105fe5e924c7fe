package review

import (
	"bytes"
	"cmp"
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

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// The largest reviews that can be real: the API server takes objects of at most 3 MB, and a review of an UPDATE has two.
const (
	OneObject  = 3<<20 + 256<<10
	TwoObjects = 2 * OneObject
)

// freeBytes are what each connection may have in work without a share of Handler.Bytes: most reviews are shorter, so that they
// never wait for long ones.
const freeBytes = 32 << 10

// hurry is the time that is left for a request that goes over the limit.
const hurry = time.Second

// A Handler is the HTTP handler around one decision.
type Handler[T any] struct {
	Decide   func(context.Context, *Request[T]) Verdict
	Observe  func(Verdict, time.Duration)
	MaxBody  int          // bytes; 0 is TwoObjects
	Bytes    *share.Bytes // of all long requests that are in work; nil has no limit
	Advisory bool         // what goes wrong here refuses nothing
	Log      logr.Logger
	Draining *atomic.Bool
}

// buffers are for reviews and answers.
var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 16<<10)) }}

func release(buffer *bytes.Buffer) {
	if buffer.Cap() > 256<<10 {
		return // one enormous pod shall not be remembered
	}
	buffer.Reset()
	buffers.Put(buffer)
}

func (h *Handler[T]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	var lease *share.Lease
	if h.Bytes != nil {
		lease = h.Bytes.Lease(share.Source(r.RemoteAddr))
		defer lease.Release()
	}
	req, v := h.answer(w, r, lease)
	h.Observe(v, time.Since(start))
	h.logVerdict(req.Namespace, v)
	if status := unread[v.Reason]; status != 0 {
		http.Error(w, v.Err.Error(), status)
		return
	}
	if h.Advisory {
		v = v.advice()
	}
	answer := buffers.Get().(*bytes.Buffer)
	defer release(answer)
	v.encode(answer, req.UID)
	w.Header().Set("Content-Type", "application/json")
	if h.Draining.Load() {
		w.Header().Set("Connection", "close") // so that the API server's next request goes to another replica
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Len()))
	w.Write(answer.Bytes()) //nolint:errcheck // the API server has gone
}

// unread are the statuses of answers to what is not an AdmissionReview, or was not read.
var unread = map[string]int{BadReview: http.StatusBadRequest, Busy: http.StatusServiceUnavailable}

// answer reads the review and decides on it. A panic of the decision is an answer too.
func (h *Handler[T]) answer(w http.ResponseWriter, r *http.Request, lease *share.Lease) (req *Request[T], v Verdict) {
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	err := h.readBody(w, r, lease, body)
	switch {
	case errors.Is(err, share.ErrBusy):
		return &Request[T]{}, Failed(Busy, err)
	case err != nil:
		return &Request[T]{}, Failed(BadReview, err)
	}
	if req, err = decodeReview[T](body.Bytes()); err != nil {
		return req, Failed(BadReview, err)
	}
	req.Source = share.Source(r.RemoteAddr)
	defer func() {
		if p := recover(); p != nil {
			cause, known := p.(runtime.Error) // any other value may quote the pod
			if !known {
				cause = nil
			}
			h.Log.Error(cause, "Panic while deciding", "namespace", req.Namespace, "stack", string(debug.Stack()))
			v = Failed(Panic, errors.New("a bug: the log of the webhook has the details"))
		}
	}()
	return req, h.Decide(r.Context(), req)
}

// readBody counts the bytes as they come: what a caller says about their number costs nothing.
func (h *Handler[T]) readBody(w http.ResponseWriter, r *http.Request, lease *share.Lease, into *bytes.Buffer) error {
	if r.Method != http.MethodPost {
		return fmt.Errorf("method %s; POST an AdmissionReview", r.Method)
	}
	if t := r.Header.Get("Content-Type"); t != "application/json" {
		return fmt.Errorf("content type %q; POST application/json", t)
	}
	limit := cmp.Or(h.MaxBody, TwoObjects)
	if r.ContentLength > int64(limit) {
		return fmt.Errorf("read the request: it is longer than %d bytes", limit)
	}
	if r.ContentLength > 0 {
		into.Grow(int(min(r.ContentLength, freeBytes)) + bytes.MinRead) // MinRead: else reading the end would grow it once more
	}
	n, err := into.ReadFrom(io.LimitReader(r.Body, freeBytes))
	if err == nil && n == freeBytes {
		err = h.readLong(w, r, lease, into, limit)
	}
	if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

// readLong reads the rest of a body, for which it takes a share.
func (h *Handler[T]) readLong(w http.ResponseWriter, r *http.Request, lease *share.Lease, into *bytes.Buffer, limit int) error {
	ctx, cancel := context.WithTimeout(r.Context(), share.Patience)
	defer cancel()
	for {
		if lease != nil {
			last, err := lease.Take(ctx, freeBytes)
			if err != nil {
				return err
			}
			if last {
				http.NewResponseController(w).SetReadDeadline(time.Now().Add(hurry)) //nolint:errcheck // a test's connection has none
			}
		}
		n, err := into.ReadFrom(io.LimitReader(r.Body, freeBytes))
		switch {
		case err != nil:
			return err
		case into.Len() > limit:
			return fmt.Errorf("it is longer than %d bytes", limit)
		case n < freeBytes:
			return nil
		}
	}
}

func (h *Handler[T]) logVerdict(namespace string, v Verdict) {
	switch v.Result {
	case Errored:
		h.Log.Error(v.Err, "Not answered", "namespace", namespace, "reason", v.Reason)
	case Denied:
		h.Log.Info("Denied", "namespace", namespace, "reason", v.Reason)
	default:
		if verbose := h.Log.V(1); verbose.Enabled() { // the arguments would be allocated even if the line is not logged
			verbose.Info("Allowed", "namespace", namespace, "result", v.Result, "reason", v.Reason)
		}
	}
}

// A Request is what an AdmissionReview of admission.k8s.io/v1 asks, with the object decoded as T. Of the bytes that came nothing is kept
// but what T keeps.
type Request[T any] struct {
	UID       string `json:"uid"`
	Operation string `json:"operation"`
	Namespace string `json:"namespace"`
	DryRun    bool   `json:"dryRun"`
	Object    T      `json:"object"`
	OldObject T      `json:"oldObject"`
	Source    string `json:"-"` // address of the caller, without the port
}

// A textKeeper is an object that keeps parts of the text that it was decoded from, until the request is answered.
type textKeeper interface{ KeepTexts(document []byte) }

// maxNamespace is the length of a namespace's name at the most: a DNS label.
const maxNamespace = 63

// decodeReview decodes an AdmissionReview. The request is never nil.
func decodeReview[T any](text []byte) (*Request[T], error) {
	var review struct {
		Request Request[T] `json:"request"`
	}
	req := &review.Request
	err := kubejson.Limit(text)
	if err == nil {
		err = kubejson.Unmarshal(text, &review)
	}
	if err != nil {
		return &Request[T]{}, fmt.Errorf("decode the AdmissionReview: %w", err)
	}
	if req.UID == "" {
		return req, errors.New("the AdmissionReview has no request")
	}
	if len(req.Namespace) > maxNamespace {
		req.Namespace = ""
		return req, fmt.Errorf("the namespace of the AdmissionReview has more than %d characters", maxNamespace)
	}
	for _, object := range []any{&req.Object, &req.OldObject} {
		if k, ok := object.(textKeeper); ok {
			k.KeepTexts(text)
		}
	}
	return req, nil
}
