package webhook

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	kuberuntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// A queue is a recorder of events without a reader.
type queue struct {
	record.EventRecorder
	about    []kuberuntime.Object
	messages []string
}

func (q *queue) Event(about kuberuntime.Object, _, _, message string) {
	q.about, q.messages = append(q.about, about), append(q.messages, message)
}

// TestWaitingEventsAreSmall: an event that waits to be sent does not keep its pod in memory, which may be long.
func TestWaitingEventsAreSmall(t *testing.T) {
	const pods, long = 64, 1 << 20
	q := &queue{}
	e := &events{rate: share.NewRate(1, pods), recorder: q}
	before := heap()
	for i := range pods {
		text := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"%d",`+
			`"controller":true}],"managedFields":[%q]}}`, i, strings.Repeat("x", long))
		pod, err := injector.DecodePod([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		e.pod(&review.Request[injector.Pod]{Namespace: "shop", Object: pod},
			review.Verdict{Result: review.Injected, Reason: reasonNew, Audit: map[string]string{"identity": "rrsa"}})
	}
	if len(q.about) != pods {
		t.Fatalf("%d events of %d pods", len(q.about), pods)
	}
	if kept := heap() - before; kept > pods*long/4 {
		t.Errorf("%d events keep %d bytes", pods, kept)
	}
	runtime.KeepAlive(q)
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // less than 2^63
}
