{{/*
Names are fixed and do not depend on the release's name. The webhook configurations are cluster-wide
and there can be only one, and the emergency command in NOTES.txt must always be correct.
*/}}

{{- define "mendix-mesh.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mendix-mesh.labels" -}}
{{ include "mendix-mesh.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: {{ .Chart.Name | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{- define "mendix-mesh.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* settings.yaml: mounted from the ConfigMap. Its checksum restarts the pods after a change. */}}
{{- define "mendix-mesh.settings" -}}
{{ toYaml .Values.settings }}
{{- end }}

{{- define "mendix-mesh.meshes" -}}
["linkerd", "istio", "ambient"]
{{- end }}

{{- define "mendix-mesh.modes" -}}
["enforce", "warn", "audit"]
{{- end }}

{{/* Namespaces that are never reviewed: a JSON object from name to reason, for the messages. */}}
{{- define "mendix-mesh.excluded" -}}
{{- $why := dict -}}
{{- range .Values.excludedNamespaces }}{{ $_ := set $why . "listed in excludedNamespaces" }}{{ end -}}
{{- range .Values.meshNamespaces }}{{ $_ := set $why . "listed in meshNamespaces" }}{{ end -}}
{{- range list "kube-system" "kube-node-lease" }}{{ $_ := set $why . "always excluded" }}{{ end -}}
{{- $_ := set $why .Release.Namespace "the release's own" -}}
{{- toJson $why -}}
{{- end }}

{{/* Labels that keep a pod of mendix-mesh outside every mesh, because the API server is outside. */}}
{{- define "mendix-mesh.unmeshedLabels" -}}
sidecar.istio.io/inject: "false"
istio.io/dataplane-mode: none
{{- end }}

{{- define "mendix-mesh.unmeshedAnnotations" -}}
linkerd.io/inject: disabled
{{- end }}

{{/* Security contexts that Pod Security's level restricted requires of a pod and of a container. */}}
{{- define "mendix-mesh.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .Values.runAsUser) }}
runAsUser: {{ int64 .Values.runAsUser }}
runAsGroup: {{ int64 .Values.runAsUser }}
fsGroup: {{ int64 .Values.runAsUser }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "mendix-mesh.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Labels of the pod of `helm test`. They differ from the server's; otherwise it would get reviews. */}}
{{- define "mendix-mesh.testLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
The address on which a container listens. Without a host, it is every address of IPv6 and IPv4.
Called with a list: the root, the port.
*/}}
{{- define "mendix-mesh.listen" -}}
{{- $hosts := dict "IPv4" "0.0.0.0" "IPv6" "[::]" -}}
{{- get $hosts (index . 0).Values.ipFamily }}:{{ int64 (index . 1) -}}
{{- end }}
