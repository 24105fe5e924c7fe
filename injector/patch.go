package injector

import (
	"strconv"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A patch is the text of RFC 6902 add operations: there are no others here. Paths count elements as they are when it is applied in order,
// so that insertions into an array of containers must follow everything that addresses a container in it. Values are JSON, in pieces.
type patch struct {
	text   []byte // without the closing bracket
	growth string // path of an array that the last operation adds
}

// injectedPointer is where config.InjectedAnnotation is, in an object that the pod has: without annotations it asks for nothing.
var injectedPointer = "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(podconfig.InjectedAnnotation)

// add adds an operation. There is nothing in its path that JSON escapes.
func (p *patch) add(path string, value ...[]byte) {
	before := byte(',')
	if len(p.text) == 0 {
		before = '['
	}
	p.text = append(append(append(append(p.text, before), `{"op":"add","path":"`...), path...), `","value":`...)
	p.write(value)
	p.text, p.growth = append(p.text, '}'), ""
}

func (p *patch) write(value [][]byte) {
	for _, piece := range value {
		p.text = append(p.text, piece...)
	}
}

// grow appends a value to the array at a pointer, which exists unless the pod lacks it (or has it as null). The values of an array that
// the pod lacks follow one another.
func (p *patch) grow(pointer string, exists bool, value ...[]byte) {
	if exists {
		p.add(pointer+"/-", value...)
		return
	}
	separator := ","
	if p.growth != pointer {
		p.add(pointer, []byte("[]"))
		p.growth, separator = pointer, ""
	}
	p.text = append(p.text[:len(p.text)-len("]}")], separator...)
	p.write(value)
	p.text = append(p.text, "]}"...)
}

// insert puts a value into the array at a pointer, at an index.
func (p *patch) insert(pointer string, exists bool, index int, value ...[]byte) {
	if exists {
		p.add(pointer+"/"+strconv.Itoa(index), value...)
	} else {
		p.grow(pointer, false, value...)
	}
}

// encode returns nil for a patch without operations.
func (p *patch) encode() []byte {
	if len(p.text) == 0 {
		return nil
	}
	return append(p.text, ']')
}
