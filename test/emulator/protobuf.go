package emulator

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"strconv"
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
		return invalidAction
	case c.action != "GetSecretValue":
		return problemf(http.StatusBadRequest, "InvalidApiName", "The API name is invalid.")
	case c.version != clientKeyVersion:
		return problemf(http.StatusBadRequest, "InvalidApiVersion", "The API version is invalid.")
	}
	c.version = versions[kms] // from here on the two protocols are one
	names := map[uint64]string{1: "SecretName", 2: "VersionStage", 3: "VersionId"}
	c.params = url.Values{}
	for rest := c.body; len(rest) > 0; {
		var f field
		var ok bool
		if f, rest, ok = readField(rest); !ok {
			return unreadableRequest
		}
		switch {
		case names[f.number] != "" && f.kind == lengthDelimited:
			c.params.Set(names[f.number], string(f.bytes))
		case f.number == 4 && f.kind == varint:
			c.params.Set("FetchExtendedConfig", strconv.FormatBool(f.value != 0))
		}
	}
	return nil
}

// The wire types that the protocol's messages use; encoding/binary's uvarint is protobuf's.
const (
	varint          = 0
	lengthDelimited = 2
)

type field struct {
	number, kind uint64
	value        uint64
	bytes        []byte
}

// readField reads the first field of a message, and returns the rest.
func readField(b []byte) (f field, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 {
		return f, nil, false
	}
	f.number, f.kind = tag>>3, tag&7
	b = b[n:]
	if f.value, n = binary.Uvarint(b); n <= 0 {
		return f, nil, false
	}
	b = b[n:]
	switch f.kind {
	case varint:
		return f, b, true
	case lengthDelimited:
		if f.value > uint64(len(b)) {
			return f, nil, false
		}
		f.bytes = b[:f.value]
		return f, b[f.value:], true
	}
	return f, nil, false
}

// appendText appends a field with a text, unless that is empty.
func appendText(b []byte, number uint64, text string) []byte {
	if text == "" {
		return b
	}
	b = binary.AppendUvarint(binary.AppendUvarint(b, number<<3|lengthDelimited), uint64(len(text)))
	return append(b, text...)
}

// protobuf returns the answer as the instance gateway's protocol has it.
func (a getSecretValueAnswer) protobuf() []byte {
	var b []byte
	text := func(number uint64, value string) { b = appendText(b, number, value) }
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

// protobuf returns the refusal as the instance gateway's protocol has it.
func (p *problem) protobuf(c *call) []byte {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, 1<<3|varint), uint64(p.status))
	return appendText(appendText(appendText(b, 2, p.code), 3, p.message), 4, c.id)
}
