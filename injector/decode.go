package injector

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// DecodePod decodes a pod, or a pod template.
func DecodePod(document []byte) (p Pod, err error) {
	err = kubejson.Unmarshal(document, &p)
	p.KeepTexts(document)
	return p, err
}

// KeepTexts has a pod that was decoded, as a part of the document, keep the text of the agent's containers: parts of the document.
func (p *Pod) KeepTexts(document []byte) {
	for c := range p.Spec.each {
		if ours(c.Name) {
			c.text = bytes.TrimLeft(document[c.start:c.end], ", \t\r\n")
		}
	}
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *Container) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type plain Container
	start := dec.InputOffset() // behind the element before
	err := json.UnmarshalDecode(dec, (*plain)(c))
	c.start, c.end = start, dec.InputOffset()
	return err
}

// skipped is a value that is not decoded.
type skipped struct{}

// UnmarshalJSONFrom reads the value at once. It takes half the time in which the library skips a member that no field is for.
func (*skipped) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	_, err := dec.ReadValue()
	return err
}
