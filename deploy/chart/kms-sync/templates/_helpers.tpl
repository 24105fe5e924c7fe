{{/* What identifies the controller's pods. It can never change: a Deployment's selector is immutable. */}}
{{- define "sync.selector" -}}
app.kubernetes.io/name: kms-sync
app.kubernetes.io/component: controller
{{- end }}

{{- define "sync.labels" -}}
{{ include "sync.selector" . }}
{{ include "sync.commonLabels" . }}
{{- end }}

{{/* The same of the webhook's pods, and of all that is the webhook's. */}}
{{- define "sync.admissionSelector" -}}
app.kubernetes.io/name: kms-sync
app.kubernetes.io/component: admission
{{- end }}

{{- define "sync.admissionLabels" -}}
{{ include "sync.admissionSelector" . }}
{{ include "sync.commonLabels" . }}
{{- end }}

{{- define "sync.commonLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sync.image" -}}
{{- with .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .Values.image.repository }}/kms-sync:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Written without quotes, or with --set, the account's id is a number, and a large one would come out as 1.2e+15. */}}
{{- define "sync.accountID" -}}
{{- with .Values.command.aliuid }}{{ kindIs "string" . | ternary . (int64 .) }}{{ end }}
{{- end }}

{{/* What the administrator allows, and where the services are. */}}
{{- define "sync.config" -}}
{{- $c := .Values.command }}
{{- $config := merge (dict "accountID" (include "sync.accountID" .) "clusterID" $c.clusterId "region" $c.region "nodeRole" $c.enableWorkerRole "crossNamespaceStores" $c.enableCrossNamespaceSecretStore) (deepCopy .Values.config) }}
{{- with $c.kmsEndpoint }}
{{- $_ := set $config "kms" (merge (dict "endpoint" .) ($config.kms | default dict)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* The namespaces that are watched; none: all. */}}
{{- define "sync.watched" -}}
{{- include "sync.names" .Values.command.watchNamespaces }}
{{- end }}

{{/* The namespaces that are not. */}}
{{- define "sync.excluded" -}}
{{- include "sync.names" .Values.command.excludeNamespaces }}
{{- end }}

{{- define "sync.names" -}}
{{- $names := list }}
{{- range splitList "," (. | default "") }}
{{- with trim . }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- toJson $names }}
{{- end }}

{{/* What a schema cannot say. All mistakes are reported together. */}}
{{- define "sync.checks" -}}
{{- $mistakes := list }}
{{- if not .Values.command.region }}
{{- $mistakes = append $mistakes "command.region is missing: the region of KMS, for example --set command.region=cn-hangzhou" }}
{{- end }}
{{- if not .Values.command.aliuid }}
{{- $mistakes = append $mistakes "command.aliuid is missing: the id of the Alibaba Cloud account, for example --set command.aliuid=1234567890123456" }}
{{- end }}
{{- if not (or .Values.command.clusterId .Values.config.oidcProviderARN) }}
{{- $mistakes = append $mistakes "command.clusterId is missing: the ACK cluster's id, for example --set command.clusterId=c0123456789abcdef" }}
{{- end }}
{{- range $service := list "kms" "sts" }}
{{- $file := (get $.Values.config $service | default dict).caFile }}
{{- if and $file (not (isAbs $file)) (not (hasKey ($.Values.caFiles | default dict) $file)) }}
{{- $mistakes = append $mistakes (printf "config.%s.caFile is %q, which is not in caFiles; add it, for example --set-file 'caFiles.%s=%s'" $service $file (replace "." "\\." $file) $file) }}
{{- end }}
{{- end }}
{{- if and .Values.command.watchNamespaces .Values.command.excludeNamespaces }}
{{- $mistakes = append $mistakes "command.watchNamespaces and command.excludeNamespaces are both set; one of them says everything" }}
{{- end }}
{{- range $label := list "name" "component" "instance" }}
{{- if hasKey ($.Values.podLabels | default dict) (printf "app.kubernetes.io/%s" $label) }}
{{- $mistakes = append $mistakes (printf "podLabels has app.kubernetes.io/%s, which the chart sets itself; remove it" $label) }}
{{- end }}
{{- end }}
{{- with .Values.image }}
{{- if and .digestTag (not .tag) (ne .digestTag $.Chart.AppVersion) }}
{{- $mistakes = append $mistakes (printf "image.digestTag is %s, and the chart is of %s: the earlier image's digest in the values would run as the new version; write --reset-then-reuse-values instead of --reuse-values, or take image.digest and image.digestTag out of your values" .digestTag $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- with $mistakes }}
{{- fail (printf "\n\n  - %s\n" (join "\n  - " .)) }}
{{- end }}
{{- end }}

{{/* What an ExternalSecret needs in its namespace: in every one, or only in those that are watched. */}}
{{- define "sync.rules" -}}
- apiGroups: [alibabacloud.com]
  resources: [externalsecrets, secretstores]
  verbs: [get, list, watch, patch] # patch: finalizers
- apiGroups: [alibabacloud.com]
  resources: [externalsecrets/status, secretstores/status]
  verbs: [patch]
# Only the metadata of those with the label kms.alibabacloud.com/synced is listed and watched; RBAC cannot say so.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# The role is in the ServiceAccount's annotations. Only metadata is asked for.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, list, watch]
# The guard holds these to the audience sts.aliyuncs.com and to an hour.
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
- apiGroups: ["", events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
