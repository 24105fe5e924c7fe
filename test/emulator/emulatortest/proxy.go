package emulatortest

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// StartProxy serves an HTTP proxy until the test ends, for the variable HTTPS_PROXY of a program that calls the cloud by its real
// names. Whichever host is asked for, it connects to addr.
func StartProxy(t testing.TB, addr string) (url string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "want CONNECT", http.StatusMethodNotAllowed)
			return
		}
		cloud, err := new(net.Dialer).DialContext(r.Context(), "tcp", addr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer cloud.Close()
		w.WriteHeader(http.StatusOK)
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		var both sync.WaitGroup
		both.Go(func() {
			_, _ = io.Copy(cloud, buffered) // until either side has enough
			_ = cloud.(*net.TCPConn).CloseWrite()
		})
		_, _ = io.Copy(client, cloud)
		client.Close()
		both.Wait()
	}))
	t.Cleanup(server.Close)
	return server.URL
}
