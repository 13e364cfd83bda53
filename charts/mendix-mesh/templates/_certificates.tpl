{{/*
The server's certificate and the CA that the API server trusts. tls.source selects one of three
sources.
*/}}

{{/* The name that the API server calls. */}}
{{- define "mendix-mesh.host" -}}
mendix-mesh.{{ .Release.Namespace }}.svc
{{- end }}

{{/*
The spec of a cert-manager Certificate. Called with a list: the root, the Secret's name, the host.
*/}}
{{- define "mendix-mesh.leaf" -}}
{{- $root := index . 0 -}}
secretName: {{ index . 1 | quote }}
dnsNames:
  # The API server calls the Service by this name.
  - {{ index . 2 | quote }}
duration: {{ $root.Values.tls.certManager.duration | quote }}
renewBefore: {{ $root.Values.tls.certManager.renewBefore | quote }}
privateKey:
  algorithm: ECDSA
  size: 256
  rotationPolicy: Always
usages: [digital signature, server auth]
issuerRef:
  {{- if include "mendix-mesh.ownIssuer" $root }}
  name: mendix-mesh-ca
  kind: Issuer
  group: cert-manager.io
  {{- else }}
  {{- toYaml $root.Values.tls.certManager.issuerRef | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Non-empty if the chart creates its own CA with cert-manager. */}}
{{- define "mendix-mesh.ownIssuer" -}}
{{- if and (eq .Values.tls.source "certManager") (not .Values.tls.certManager.issuerRef.name) }}yes{{ end -}}
{{- end }}

{{/* With certManager: the annotation that makes cert-manager's CA injector fill in caBundle. */}}
{{- define "mendix-mesh.injectAnnotation" -}}
{{- if eq .Values.tls.source "certManager" -}}
{{- with .Values.tls.certManager.caSecretName -}}
cert-manager.io/inject-ca-from-secret: {{ printf "%s/%s" $.Release.Namespace . | quote }}
{{- else -}}
cert-manager.io/inject-ca-from: {{ printf "%s/mendix-mesh" .Release.Namespace | quote }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The CA as base64. Empty with certManager: if the chart does not set the field, the CA injector owns
it, in upgrades and in GitOps.
*/}}
{{- define "mendix-mesh.caBundle" -}}
{{- if eq .Values.tls.source "secret" -}}
  {{- $given := trim .Values.tls.caBundle -}}
  {{- contains "BEGIN CERTIFICATE" $given | ternary (b64enc (print $given "\n")) $given -}}
{{- else if eq .Values.tls.source "helm" -}}
  {{- get (include "mendix-mesh.madeByHelm" (list . .Values.tls.secretName (include "mendix-mesh.host" .)) | fromJson) "ca.crt" -}}
{{- end -}}
{{- end }}

{{/*
Where clients in the cluster (Prometheus and `helm test`) find that CA: a reference to a key, as
`secret:` or `configMap:`.
*/}}
{{- define "mendix-mesh.caReference" -}}
{{- if eq .Values.tls.source "secret" -}}
configMap:
  name: mendix-mesh-ca
  key: ca.crt
{{- else -}}
secret:
  name: {{ and (eq .Values.tls.source "certManager") .Values.tls.certManager.caSecretName | default .Values.tls.secretName | quote }}
  key: ca.crt
{{- end -}}
{{- end }}

{{/* The volume source of the CA that signs API servers' certificates; empty if none is required. */}}
{{- define "mendix-mesh.clientCA" -}}
{{- with .Values.clientCertificates -}}
{{- if .caSecretName -}}
secret:
  secretName: {{ .caSecretName | quote }}
  items: [{key: {{ .key | quote }}, path: ca.crt}]
  defaultMode: 0440
{{- else if .caConfigMapName -}}
configMap:
  name: {{ .caConfigMapName | quote }}
  items: [{key: {{ .key | quote }}, path: ca.crt}]
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The data of a Secret that Helm creates, as JSON: the Secret that is already in the cluster, else a
new CA and a certificate. It is created once in a render and kept in .Values, so that all templates
use the same one.
Called with a list: the root, the Secret's name, the host.
*/}}
{{- define "mendix-mesh.madeByHelm" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $host := index . 2 -}}
{{- if not (hasKey $root.Values.tls "made") -}}
  {{- $_ := set $root.Values.tls "made" dict -}}
{{- end -}}
{{- if not (hasKey $root.Values.tls.made $name) -}}
  {{- $made := (lookup "v1" "Secret" $root.Release.Namespace $name).data | default dict -}}
  {{- if not (and (get $made "ca.crt") (get $made "tls.crt") (get $made "tls.key")) -}}
    {{- $ca := genCAWithKey "mendix-mesh CA, made by Helm" 3650 (genPrivateKey "ecdsa") -}}
    {{- $pair := genSignedCertWithKey $host nil (list $host) 3650 $ca (genPrivateKey "ecdsa") -}}
    {{- $made = dict "ca.crt" (b64enc $ca.Cert) "tls.crt" (b64enc $pair.Cert) "tls.key" (b64enc $pair.Key) -}}
  {{- end -}}
  {{- $_ := set $root.Values.tls.made $name (pick $made "ca.crt" "tls.crt" "tls.key") -}}
{{- end -}}
{{- toJson (get $root.Values.tls.made $name) -}}
{{- end }}

{{/* "mendix-mesh.checkTLS": the problems of `tls`, as a JSON list. */}}
{{- define "mendix-mesh.checkTLS" -}}
{{- $tls := .Values.tls -}}
{{- $cm := $tls.certManager -}}
{{- $problems := list -}}
{{- if not (has $tls.source (list "certManager" "secret" "helm")) -}}
  {{- $problems = append $problems (printf "tls.source: %q is not a source; set it to one of certManager, secret, helm" $tls.source) -}}
{{- else if eq $tls.source "secret" -}}
  {{- if not $tls.caBundle -}}
    {{- $problems = append $problems (printf "tls.caBundle: it is empty, so the API server could not trust the webhook; set it to the CA that signed the certificate in Secret %s, as PEM or its base64 (--set-file tls.caBundle=ca.crt), or let cert-manager issue the certificate (tls.source: certManager)" $tls.secretName) -}}
  {{- else if not (contains "BEGIN CERTIFICATE" (include "mendix-mesh.caBundle" . | b64dec)) -}}
    {{- $problems = append $problems "tls.caBundle: it is neither a PEM certificate nor the base64 of one; set it to the CA's certificate (--set-file tls.caBundle=ca.crt)" -}}
  {{- end -}}
{{- else if $tls.caBundle -}}
  {{- $problems = append $problems (printf "tls.caBundle: with tls.source: %s the CA comes from there; to use your own certificate set tls.source: secret, otherwise remove tls.caBundle" $tls.source) -}}
{{- end -}}
{{- if ne $tls.source "certManager" -}}
  {{- range $key, $value := dict "issuerRef.name" $cm.issuerRef.name "caSecretName" $cm.caSecretName -}}
    {{- if $value -}}
      {{- $problems = append $problems (printf "tls.certManager.%s: it has no effect with tls.source: %s; set tls.source: certManager, or remove it" $key $tls.source) -}}
    {{- end -}}
  {{- end -}}
{{- else -}}
  {{- $leaf := trimSuffix "h" $cm.duration | int -}}
  {{- if le $leaf (trimSuffix "h" $cm.renewBefore | int) -}}
    {{- $problems = append $problems (printf "tls.certManager.renewBefore: %s is not shorter than tls.certManager.duration, %s, so the certificate would be renewed again and again; a third of the duration is usual" $cm.renewBefore $cm.duration) -}}
  {{- end -}}
  {{- if include "mendix-mesh.ownIssuer" . -}}
    {{- if le (trimSuffix "h" $cm.ca.duration | int) (trimSuffix "h" $cm.ca.renewBefore | int) -}}
      {{- $problems = append $problems (printf "tls.certManager.ca.renewBefore: %s is not shorter than tls.certManager.ca.duration, %s, so the CA would be renewed again and again; make it shorter" $cm.ca.renewBefore $cm.ca.duration) -}}
    {{- end -}}
    {{- if lt (trimSuffix "h" $cm.ca.renewBefore | int) $leaf -}}
      {{- $problems = append $problems (printf "tls.certManager.ca.renewBefore: %s is shorter than tls.certManager.duration, %s, so the CA could expire before the last certificate that it signed; make it at least as long" $cm.ca.renewBefore $cm.duration) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.clientCertificates -}}
  {{- if and .caSecretName .caConfigMapName -}}
    {{- $problems = append $problems "clientCertificates: caSecretName and caConfigMapName are both set; keep the one that has the API servers' CA, and remove the other" -}}
  {{- else if and .names (not .caSecretName) (not .caConfigMapName) -}}
    {{- $problems = append $problems "clientCertificates.names: without a CA no certificate is required; set clientCertificates.caSecretName or caConfigMapName, or remove the names" -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}
