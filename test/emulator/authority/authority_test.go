package authority_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
)

func TestNamesThatClientsAskFor(t *testing.T) {
	dir := t.TempDir()
	made, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Save(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, authority.KeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v, want mode 0600", info.Mode(), err)
	}
	ca, err := authority.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{GetCertificate: ca.GetCertificate}
	listener := tls.NewListener(server.Listener, server.TLS)
	go http.Serve(listener, http.NotFoundHandler())
	defer listener.Close()

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(made.PEM())
	for name, trusted := range map[string]bool{
		"sts.aliyuncs.com": true, "sts-vpc.cn-hangzhou.aliyuncs.com": true, "kms-vpc.cn-hangzhou.aliyuncs.com": true,
		"kst-hzz123.cryptoservice.kms.aliyuncs.com": true, "localhost": true, "127.0.0.1": true,
		"kms-emulator.kms-emulator.svc": true, "kms-emulator.kms-emulator.svc.cluster.local": true,
		"kubernetes.io": false, "aliyuncs.com.example": false, "192.0.2.1": false,
	} {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		client := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: name})
		if err := client.Handshake(); (err == nil) != trusted {
			t.Errorf("%s: %v, want trusted: %v", name, err, trusted)
		}
		client.Close()
	}
}

func TestLeavesAreReused(t *testing.T) {
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	leaves := make([]*tls.Certificate, 8)
	for i := range leaves {
		group.Go(func() { leaves[i], _ = ca.Leaf("sts.aliyuncs.com") })
	}
	group.Wait()
	for _, leaf := range leaves {
		if leaf == nil || leaf != leaves[0] {
			t.Fatal("the same name gets another certificate each time")
		}
	}
	if _, err := ca.Leaf(""); err == nil {
		t.Error("a certificate for no name")
	}
}

func TestRefusedFolders(t *testing.T) {
	if _, err := authority.Load(t.TempDir()); err == nil {
		t.Error("an empty folder is no authority")
	}
	dir := t.TempDir()
	ca, err := authority.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, authority.CertFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Load(dir); err == nil {
		t.Error("a broken certificate is no authority")
	}
}
