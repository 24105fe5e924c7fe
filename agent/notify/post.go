package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// newClient returns a client that stays in the pod: no proxy, no redirects, loopback only, whatever the target is. It keeps no
// connections: changes are hours apart.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: callLimit, Control: func(_, address string, _ syscall.RawConn) error {
		if host, err := netip.ParseAddrPort(address); err != nil || !host.Addr().IsLoopback() {
			return fmt.Errorf("%s is not in this pod", address)
		}
		return nil
	}}
	return &http.Client{
		Timeout:       callLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true},
	}
}

func (n *Notifier) post(ctx context.Context, url string, change Change) error {
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "kms-agent")
	response, err := n.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	const most = 64 << 10 // of an answer, which is thrown away, so that the program can finish it
	_, _ = io.CopyN(io.Discard, response.Body, most)
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("POST %s: HTTP %d; 2xx is expected, redirects are not followed", url, response.StatusCode)
	}
	return nil
}
