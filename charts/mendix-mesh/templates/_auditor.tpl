{{/*
The auditor: a Deployment of its own, for the server of the webhook talks to no API and has no token.
*/}}

{{/* Its pods' labels: not the server's, or the Service would send them reviews. */}}
{{- define "mendix-mesh.auditorSelectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-auditor
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "mendix-mesh.auditorLabels" -}}
{{- merge (include "mendix-mesh.auditorSelectorLabels" . | fromYaml) (include "mendix-mesh.labels" . | fromYaml) | toYaml -}}
{{- end }}

{{/* The name by which the API server calls it, and Prometheus knows its certificate. */}}
{{- define "mendix-mesh.auditorHost" -}}
mendix-mesh-auditor.{{ .Release.Namespace }}.svc
{{- end }}

{{/* The names by which an exposed dashboard is reached: the Service's, and what the values add. */}}
{{- define "mendix-mesh.dashboardHosts" -}}
{{- $service := list "mendix-mesh-auditor" (printf "mendix-mesh-auditor.%s" .Release.Namespace) (include "mendix-mesh.auditorHost" .) -}}
{{- concat $service .Values.auditor.dashboard.allowedHosts | uniq | toJson -}}
{{- end }}

{{/*
The Secret with the certificate of its HTTPS port, another one than the server's: who gets into the
auditor can't pass for the webhook. Empty where it serves no HTTPS: without a certificate of yours
with `tls.source: secret`, and with `hostNetwork`, where API servers can't reach pods.
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
The CA that signed it, as base64, for the API server; empty with certManager, whose injector fills it
in as for the server.
*/}}
{{- define "mendix-mesh.auditorCaBundle" -}}
{{- if eq .Values.tls.source "helm" -}}
  {{- get (include "mendix-mesh.auditorMadeByHelm" . | fromJson) "ca.crt" -}}
{{- else -}}
  {{- include "mendix-mesh.caBundle" . -}}
{{- end -}}
{{- end }}

{{- define "mendix-mesh.auditorMadeByHelm" -}}
{{- include "mendix-mesh.madeByHelm" (list . (include "mendix-mesh.auditorSecret" .) (include "mendix-mesh.auditorHost" .)) -}}
{{- end }}
