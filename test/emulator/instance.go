package emulator

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

var anyInstanceID = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)

// instance is a checked Instance with all its client keys, by ID.
type instance struct {
	Instance
	clientKeys map[string]clientKey
}

type clientKey struct {
	point    *accessPoint
	public   *rsa.PublicKey
	from, to time.Time
}

// accessPoint is an application access point.
type accessPoint struct {
	name    string
	secrets []string
}

func (p *accessPoint) reads(secret string) bool {
	return slices.ContainsFunc(p.secrets, func(pattern string) bool { return policy.Match(pattern, secret) })
}

func newInstance(in Instance, d defaults) (instance, error) {
	in.Account, in.Region = cmp.Or(in.Account, d.account), cmp.Or(in.Region, d.region)
	out := instance{Instance: in, clientKeys: map[string]clientKey{}}
	var errs []error
	if !anyInstanceID.MatchString(in.ID) {
		errs = append(errs, errors.New("want an id of lower-case letters, digits and -"))
	}
	for _, p := range in.AccessPoints {
		point := &accessPoint{name: p.Name, secrets: p.Secrets}
		for _, k := range p.ClientKeys {
			key, err := newClientKey(k, point)
			errs = append(errs, err, unique("client key", k.ID, out.clientKeys))
			out.clientKeys[k.ID] = key
		}
	}
	if err := errors.Join(errs...); err != nil {
		return instance{}, fmt.Errorf("KMS instance %s: %w", in.ID, err)
	}
	return out, nil
}

func newClientKey(in ClientKey, point *accessPoint) (clientKey, error) {
	block, _ := pem.Decode([]byte(in.Certificate))
	if block == nil || in.ID == "" {
		return clientKey{}, fmt.Errorf("client key %q: want id and certificate, in PEM", in.ID)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return clientKey{}, fmt.Errorf("client key %s: %w", in.ID, err)
	}
	public, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return clientKey{}, fmt.Errorf("client key %s: want an RSA key", in.ID)
	}
	return clientKey{point: point, public: public, from: certificate.NotBefore, to: certificate.NotAfter}, nil
}

// The instance gateway's own protocol, from the SDK alibabacloud-dkms-gcs-go-sdk; which code it gives to which mistake is
// UNVERIFIED but for InvalidParam and MissingParameter.
const (
	clientKeyMethod  = "RSA_PKCS1_SHA_256"
	clientKeyVersion = "dkms-gcs-0.2"
	clientKeyID      = "x-kms-acccesskeyid" // the protocol spells it so
)

// authenticateClientKey checks the signature of a client key, which the instance gateway takes.
func (e *Emulator) authenticateClientKey(c *call) (session, *problem) {
	header := c.request.Header
	for _, name := range []string{"date", "content-sha256", "x-kms-signaturemethod", clientKeyID, "authorization"} {
		if header.Get(name) == "" {
			return session{}, problemf(http.StatusBadRequest, "MissingParameter", "The header %s is missing.", name)
		}
	}
	date, err := http.ParseTime(header.Get("date"))
	if err != nil || c.now.Sub(date).Abs() > maxSkew {
		return session{}, problemf(http.StatusBadRequest, "InvalidParam", "The parameter Date is invalid.")
	}
	if header.Get("x-kms-signaturemethod") != clientKeyMethod {
		return session{}, problemf(http.StatusBadRequest, "InvalidParam", "The parameter x-kms-signaturemethod is invalid.")
	}
	in := e.instances[c.instance]
	key, ok := in.clientKeys[header.Get(clientKeyID)]
	if !ok || c.now.Before(key.from) || c.now.After(key.to) {
		return session{}, problemf(http.StatusForbidden, "Forbidden.InvalidClientKey", "The client key does not exist or is not valid now.")
	}
	text, bearer := strings.CutPrefix(header.Get("authorization"), "Bearer ")
	signature, err := base64.StdEncoding.DecodeString(text)
	digest := sha256.Sum256([]byte(clientKeyStringToSign(c)))
	sum := sha256.Sum256(c.body)
	switch {
	case !bearer, err != nil,
		header.Get("content-sha256") != strings.ToUpper(hex.EncodeToString(sum[:])),
		rsa.VerifyPKCS1v15(key.public, crypto.SHA256, digest[:], signature) != nil:
		return session{}, problemf(http.StatusForbidden, "Forbidden.SignatureNotMatch", "The signature does not match.")
	}
	return session{point: key.point, name: key.point.name, account: in.Account}, nil
}

func clientKeyStringToSign(c *call) string {
	header := c.request.Header
	var b bytes.Buffer
	for _, line := range []string{c.request.Method, header.Get("content-sha256"), header.Get("content-type"), header.Get("date")} {
		b.WriteString(line + "\n")
	}
	var lines []string
	for name, values := range header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-kms-") {
			lines = append(lines, name+":"+strings.TrimSpace(values[0])+"\n")
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	b.WriteString(c.request.URL.Path)
	return b.String()
}

// noInstance: code and status are UNVERIFIED; a client of the cloud would find no such host.
func noInstance(id string) *problem {
	return problemf(http.StatusNotFound, "Forbidden.KmsInstanceNotFound", "The KMS instance %s does not exist.", id)
}
