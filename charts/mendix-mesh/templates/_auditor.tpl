{{/*
The auditor is a separate Deployment, because the webhook's server calls no API and has no token.
*/}}

{{/* Labels of its pods. They differ from the server's; otherwise the Service would send them reviews. */}}
{{- define "mendix-mesh.auditorSelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-auditor" .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mendix-mesh.auditorLabels" -}}
{{- merge (include "mendix-mesh.auditorSelectorLabels" . | fromYaml) (include "mendix-mesh.labels" . | fromYaml) | toYaml -}}
{{- end }}

{{/* The name with which the API server and Prometheus verify its certificate. */}}
{{- define "mendix-mesh.auditorHost" -}}
mendix-mesh-auditor.{{ .Release.Namespace }}.svc
{{- end }}

{{/* Host names of an exposed dashboard: the Service's, and those in the values. */}}
{{- define "mendix-mesh.dashboardHosts" -}}
{{- $service := list "mendix-mesh-auditor" (printf "mendix-mesh-auditor.%s" .Release.Namespace) (include "mendix-mesh.auditorHost" .) -}}
{{- concat $service .Values.auditor.dashboard.allowedHosts | uniq | toJson -}}
{{- end }}

{{/*
The Secret with the certificate of its HTTPS port. It differs from the server's, so that an attacker
in the auditor cannot pose as the webhook. Empty if the auditor serves no HTTPS: with
`tls.source: secret` and no certificate of yours, and with `hostNetwork`, because API servers then
cannot reach pod addresses.
*/}}
{{- define "mendix-mesh.auditorSecret" -}}
{{- if and .Values.auditor.enabled (not .Values.hostNetwork) -}}
{{- if eq .Values.tls.source "secret" -}}
{{- .Values.auditor.tlsSecretName -}}
{{- else -}}
{{- .Values.auditor.tlsSecretName | default "mendix-mesh-auditor-tls" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The CA that signed it, as base64, for the API server. Empty with certManager, whose CA injector fills
it in, as for the server.
*/}}
{{- define "mendix-mesh.auditorCaBundle" -}}
{{- if eq .Values.tls.source "helm" -}}
  {{- get (include "mendix-mesh.auditorMadeByHelm" . | fromJson) "ca.crt" -}}
{{- else -}}
  {{- include "mendix-mesh.caBundle" . -}}
{{- end -}}
{{- end }}

{{/* Where Prometheus finds that CA, as in `ca` of a ServiceMonitor. */}}
{{- define "mendix-mesh.auditorCaReference" -}}
{{- if eq .Values.tls.source "helm" -}}
secret:
  name: {{ include "mendix-mesh.auditorSecret" . | quote }}
  key: ca.crt
{{- else -}}
{{- include "mendix-mesh.caReference" . -}}
{{- end -}}
{{- end }}

{{/*
The mode in which the auditor enrolls namespaces; empty if it does not. YAML reads an unquoted `off`
as false.
*/}}
{{- define "mendix-mesh.autoEnroll" -}}
{{- with .Values.auditor -}}
{{- if and .enabled (has .autoEnroll (list "warn" "enforce")) -}}
{{- .autoEnroll -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Why the auditor asks the API server to review tokens: for the dashboard or the metrics, else empty. */}}
{{- define "mendix-mesh.auditorReviewsTokens" -}}
{{- with .Values.auditor -}}
{{- if and .enabled (or .metrics.authenticate (and .dashboard.enabled .dashboard.expose .dashboard.authenticate)) -}}
true
{{- end -}}
{{- end -}}
{{- end }}

{{- define "mendix-mesh.auditorMadeByHelm" -}}
{{- include "mendix-mesh.madeByHelm" (list . (include "mendix-mesh.auditorSecret" .) (include "mendix-mesh.auditorHost" .)) -}}
{{- end }}
