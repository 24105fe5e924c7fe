package faults

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// zone is the DNS of this process: what it knows is on 127.0.0.1, the rest does not exist.
type zone struct{ known sync.Map }

var names zone

func (z *zone) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go z.serve(server)
	return client, nil
}

// serve answers over a stream, where a length goes before each message (RFC 1035, 4.2.2).
func (z *zone) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := z.answer(query)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer has the header and the one question of the query (RFC 1035, 4.1), and an address if there is one.
func (z *zone) answer(query []byte) []byte {
	const header = 12
	var labels []string
	end := header
	for query[end] != 0 {
		labels = append(labels, string(query[end+1:end+1+int(query[end])]))
		end += 1 + int(query[end])
	}
	kind := binary.BigEndian.Uint16(query[end+1:])
	end += 5 // the end of the name, type and class
	answer := append([]byte(nil), query[:end]...)
	copy(answer[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // an answer; one question, nothing else
	if _, ok := z.known.Load(strings.ToLower(strings.Join(labels, "."))); !ok {
		answer[3] |= 3 // no such name
	} else if kind == 1 {
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
	}
	return answer
}

// door is an address that refuses connections until it is opened. It is reserved meanwhile.
type door struct {
	addr string
	file *os.File
}

func newDoor(t *testing.T) *door {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "door")
	t.Cleanup(func() { file.Close() })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return &door{addr: "127.0.0.1:" + strconv.Itoa(name.(*syscall.SockaddrInet4).Port), file: file}
}

// open leads all who come to the address on.
func (d *door) open(t *testing.T, to string) {
	t.Helper()
	if err := syscall.Listen(int(d.file.Fd()), 16); err != nil {
		t.Fatal(err)
	}
	listener, err := net.FileListener(d.file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { relay(ctx, conn, to) })
		}
	})
	t.Cleanup(func() { cancel(); listener.Close(); group.Wait() })
}

// relay ends when either side does, or ctx.
func relay(ctx context.Context, conn net.Conn, to string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	target, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer target.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); target.Close() })()
	var group sync.WaitGroup
	group.Go(func() { io.Copy(conn, target); cancel() })
	group.Go(func() { io.Copy(target, conn); cancel() })
	group.Wait()
}
