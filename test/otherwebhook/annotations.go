package main

// annotations asks for the secret e2e/late, in a pod that has annotations.
func annotations(pod) array {
	return array{add("/metadata/annotations/kms.alibabacloud.com~1secret.late", "e2e/late")}
}
