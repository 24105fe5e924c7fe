package injector

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A patch is a list of RFC 6902 add operations: there are no others here. Paths count elements as they are when it is applied in order,
// so that insertions into an array of containers must follow everything that addresses a container in it.
type patch []operation

// An operation adds a value or, at the path of an array that the pod does not have, an array of values.
type operation struct {
	path   string
	values []value
	array  bool
}

// A value is JSON, in pieces.
type value [][]byte

// injectedPointer is where config.InjectedAnnotation is, in an object that the pod has: without annotations it asks for nothing.
var injectedPointer = "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(podconfig.InjectedAnnotation)

func (p *patch) add(path string, v value) {
	*p = append(*p, operation{path: path, values: []value{v}})
}

// grow appends a value to the array at a pointer, which exists unless the pod lacks it (or has it as null).
func (p *patch) grow(pointer string, exists bool, v value) {
	if exists {
		p.add(pointer+"/-", v)
		return
	}
	i := slices.IndexFunc(*p, func(o operation) bool { return o.array && o.path == pointer })
	if i < 0 {
		*p = append(*p, operation{path: pointer, values: []value{v}, array: true})
		return
	}
	(*p)[i].values = append((*p)[i].values, v)
}

// insert puts a value into the array at a pointer, at an index.
func (p *patch) insert(pointer string, exists bool, index int, v value) {
	if exists {
		p.add(pointer+"/"+strconv.Itoa(index), v)
	} else {
		p.grow(pointer, false, v)
	}
}

// encode returns nil for a patch without operations. There is nothing in its paths that JSON escapes.
func (p *patch) encode() []byte {
	if len(*p) == 0 {
		return nil
	}
	length := 0
	for _, o := range *p {
		length += len(`,{"op":"add","path":"","value":[]}`) + len(o.path)
		for _, v := range o.values {
			length++
			for _, piece := range v {
				length += len(piece)
			}
		}
	}
	text := bytes.NewBuffer(make([]byte, 0, length))
	before := `[`
	for _, o := range *p {
		text.WriteString(before + `{"op":"add","path":"` + o.path + `","value":`)
		if o.array {
			text.WriteByte('[')
		}
		for i, v := range o.values {
			if i > 0 {
				text.WriteByte(',')
			}
			for _, piece := range v {
				text.Write(piece)
			}
		}
		if o.array {
			text.WriteByte(']')
		}
		text.WriteByte('}')
		before = `,`
	}
	text.WriteByte(']')
	return text.Bytes()
}
