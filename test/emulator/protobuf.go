package emulator

import (
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// protobufType is the media type of the instance gateway's own protocol. Its messages are read and written field by
// field, independently of the SDK that sends them.
const protobufType = "application/x-protobuf"

// readProtobuf reads a call in the instance gateway's own format.
func (e *Emulator) readProtobuf(c *call) *problem {
	c.protobuf = true
	if c.instance == "" {
		c.instance = instanceID(c.host)
	}
	c.service, c.region = kms, e.instances[c.instance].Region
	header := c.request.Header
	c.action, c.version = header.Get("x-kms-apiname"), header.Get("x-kms-apiversion")
	switch {
	case c.instance == "": // the shared gateway does not know it
		return invalidAction()
	case c.action != "GetSecretValue":
		return problemf(http.StatusBadRequest, "InvalidApiName", "The API name is invalid.")
	case c.version != clientKeyVersion:
		return problemf(http.StatusBadRequest, "InvalidApiVersion", "The API version is invalid.")
	}
	c.version = versions[kms] // from here on the two protocols are one
	names := map[protowire.Number]string{1: "SecretName", 2: "VersionStage", 3: "VersionId"}
	c.params = url.Values{}
	for rest := c.body; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return unreadableRequest()
		}
		rest = rest[n:]
		switch {
		case names[number] != "" && kind == protowire.BytesType:
			value, n := protowire.ConsumeString(rest)
			if n < 0 {
				return unreadableRequest()
			}
			c.params.Set(names[number], value)
			rest = rest[n:]
		case number == 4 && kind == protowire.VarintType:
			value, n := protowire.ConsumeVarint(rest)
			if n < 0 {
				return unreadableRequest()
			}
			c.params.Set("FetchExtendedConfig", strconv.FormatBool(protowire.DecodeBool(value)))
			rest = rest[n:]
		default:
			n := protowire.ConsumeFieldValue(number, kind, rest)
			if n < 0 {
				return unreadableRequest()
			}
			rest = rest[n:]
		}
	}
	return nil
}

// protobuf is the answer as the instance gateway's protocol has it.
func (a getSecretValueAnswer) protobuf() []byte {
	var b []byte
	text := func(number protowire.Number, value string) {
		if value != "" {
			b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), value)
		}
	}
	text(1, a.SecretName)
	text(2, a.SecretType)
	text(3, a.SecretData)
	text(4, a.SecretDataType)
	for _, stage := range a.VersionStages.VersionStage {
		text(5, stage)
	}
	text(6, a.VersionID)
	text(7, a.CreateTime)
	text(8, a.RequestID)
	text(9, a.LastRotationDate)
	text(10, a.NextRotationDate)
	text(11, a.ExtendedConfig)
	text(12, a.AutomaticRotation)
	text(13, a.RotationInterval)
	return b
}

// protobuf is the refusal as the instance gateway's protocol has it.
func (p *problem) protobuf(c *call) []byte {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(p.status))
	for number, value := range []string{2: p.code, 3: p.message, 4: c.id} {
		if value != "" {
			b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(number), protowire.BytesType), value)
		}
	}
	return b
}
