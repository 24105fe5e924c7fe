package injector_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestInsideVolumes asks for the files inside a volume of each kind that Kubernetes has: read-only by its source, where it can be, and not.
func TestInsideVolumes(t *testing.T) {
	in := administrator(t, "")
	alwaysReadOnly := map[string]bool{"image": true}
	stated := 0
	for field := range reflect.TypeFor[corev1.VolumeSource]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		sources := map[string]bool{"{}": !alwaysReadOnly[name]} // whether the files can be in a volume with this source
		if f, can := field.Type.Elem().FieldByName("ReadOnly"); can {
			if f.Tag.Get("json") != "readOnly,omitempty" {
				t.Fatalf("%s has its readOnly as %s", name, f.Tag.Get("json"))
			}
			stated++
			sources[`{"readOnly":true}`], sources[`{"readOnly":false}`] = false, true
		}
		for source, can := range sources {
			document := fmt.Sprintf(`{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true",
				"kms.alibabacloud.com/secret.db":"app/prod/db","kms.alibabacloud.com/mount-path":"/mnt/shop/secrets"}},
				"spec":{"volumes":[{"name":"shop",%q:%s}],
				"containers":[{"name":"web","volumeMounts":[{"name":"shop","mountPath":"/mnt/shop"}]}]}}`, name, source)
			_, _, err := inject(in, []byte(document))
			if can != (err == nil) || err != nil && !strings.Contains(err.Error(),
				"/mnt/shop/secrets is inside the volume shop of container web, at /mnt/shop, which is read-only") {
				t.Errorf("files in the volume %s: %s: %v", name, source, err)
			}
		}
	}
	if stated < 15 {
		t.Errorf("only %d kinds of volumes can be read-only by their source", stated)
	}
}

// TestPlacesOfOtherThings has something that is no mount where the files would be.
func TestPlacesOfOtherThings(t *testing.T) {
	in := administrator(t, "")
	for container, want := range map[string]string{
		`"terminationMessagePath":"/var/run/kms/secrets/end"`:                      "has its terminationMessagePath at /var/run/kms/secrets/end",
		`"terminationMessagePath":"var/run/kms/secrets/end"`:                       "has its terminationMessagePath at /var/run/kms/secrets/end",
		`"terminationMessagePath":"/dev/termination-log"`:                          "",
		`"volumeDevices":[{"name":"disk","devicePath":"/var/run/kms/secrets"}]`:    "already has a device at /var/run/kms/secrets",
		`"volumeDevices":[{"name":"disk","devicePath":"/var/run/kms/secrets/db"}]`: "",
	} {
		_, _, err := inject(in, []byte(`{"metadata":{"annotations":{`+oneFile+`}},"spec":{"containers":[{"name":"web",`+container+`}]}}`))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", container, err, want)
		}
	}
	_, _, err := inject(in, []byte(`{"metadata":{"annotations":{`+oneFile+`,"kms.alibabacloud.com/api":"true",`+
		`"kms.alibabacloud.com/mount-path":"/run/kmstoken"}},"spec":{"containers":[{"name":"web"}]}}`))
	if err == nil || !strings.Contains(err.Error(), "would be inside each other") {
		t.Errorf("files in /run/kmstoken, which /var/run/kmstoken is where /var/run is a link: %v", err)
	}
}
