package main

import (
	"crypto/tls"
	"net/http/httptest"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/control"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/oidc"
)

const (
	account     = "1234567890123456"
	clusterID   = "c0ffee"
	providerARN = "acs:ram::" + account + ":oidc-provider/ack-rrsa-" + clusterID
	roleARN     = "acs:ram::" + account + ":role/shop"
	issuerURL   = "https://kubernetes.default.svc.cluster.local"
)

// A cloud is a running emulator, and the issuer that its OIDC provider trusts.
type cloud struct {
	addr      string // of STS and KMS, over TLS
	control   string // URL of the control API
	authority *authority.Authority
	issuer    *oidc.Issuer
	stop      func()
}

// startCloud starts a cloud with one role, which ServiceAccount shop/web may assume and which reads secrets with the tag env=prod.
func startCloud() (*cloud, error) {
	issuer, err := oidc.NewIssuer(issuerURL)
	if err != nil {
		return nil, err
	}
	ca, err := authority.New()
	if err != nil {
		return nil, err
	}
	e, err := emulator.New(emulator.Config{
		Account: account,
		OIDCProviders: []emulator.OIDCProvider{{
			Name: "ack-rrsa-" + clusterID, Issuer: issuerURL, JWKS: emulator.JWKS{Document: string(issuer.JWKS())},
		}},
		Roles: []emulator.Role{{
			Name: "shop",
			TrustPolicy: `{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
				"Principal": {"Federated": ["` + providerARN + `"]}, "Condition": {"StringEquals": {"oidc:aud": ["sts.aliyuncs.com"],
				"oidc:iss": ["` + issuerURL + `"], "oidc:sub": ["system:serviceaccount:shop:web"]}}}]}`,
			Policies: []string{`{"Version": "1", "Statement": [{"Effect": "Allow", "Action": ["kms:GetSecretValue", "kms:Decrypt"],
				"Resource": "*", "Condition": {"StringEqualsIgnoreCase": {"kms:tag/env": ["prod"]}}}]}`},
		}},
	})
	if err != nil {
		return nil, err
	}
	leaf, err := ca.Leaf("127.0.0.1")
	if err != nil {
		return nil, err
	}
	server, controller := httptest.NewUnstartedServer(e), httptest.NewServer(control.Handler(e))
	server.TLS, server.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{*leaf}}, true
	server.StartTLS()
	return &cloud{addr: server.Listener.Addr().String(), control: controller.URL, authority: ca, issuer: issuer, stop: func() {
		for _, s := range []*httptest.Server{server, controller} {
			s.CloseClientConnections()
			s.Close()
		}
	}}, nil
}
