{{/*
The CEL conditions under which the API server calls the webhook. They leave out writes that cannot
change a verdict, so CNI plugins, kubelets, autoscalers and `kubectl label` do not wait for the server.
The keys and fields come from files/judged.json, which is generated from the server's own lists.
*/}}

{{- define "mendix-mesh.judged" -}}
{{- .Files.Get "files/judged.json" -}}
{{- end }}

{{/* A list of strings in CEL. */}}
{{- define "mendix-mesh.celList" -}}
[{{ range $index, $text := . }}{{ if $index }}, {{ end }}{{ include "mendix-mesh.celText" $text }}{{ end }}]
{{- end }}

{{/*
The labels that selectors in `settings` name, as a JSON list: with them, a pod can lose an exemption
or an allowance.
*/}}
{{- define "mendix-mesh.selectedLabels" -}}
{{- $keys := list -}}
{{- range $name := list "allow" "exemptions" "levels" -}}
  {{- range get ($.Values.settings | default dict) $name | default list -}}
    {{- with .selector -}}
      {{- $keys = concat $keys (keys (.matchLabels | default dict)) -}}
      {{- range .matchExpressions -}}{{- $keys = append $keys .key -}}{{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $keys | uniq | sortAlpha | toJson -}}
{{- end }}

{{/*
An expression that is true if an update changes a label or annotation that is judged. Called with
`place`, labels or annotations, with `of`, the entry of judged.json, and with further keys as `more`.
*/}}
{{- define "mendix-mesh.changesKeys" -}}
{{- $of := .of -}}
{{- $domains := list -}}
{{- with $of.starts -}}
  {{- $domains = append $domains (printf "%s.exists(start, key.startsWith(start))" (include "mendix-mesh.celList" .)) -}}
{{- end -}}
{{- with $of.below -}}
  {{- $domains = append $domains (printf "key.contains('%s')" .) -}}
{{- end -}}
{{- with $of.pattern -}}
  {{- $domains = append $domains (printf "(key.startsWith('%s') && key.matches('%s'))" $of.patternStart .) -}}
{{- end -}}
[object, oldObject].exists(one, one.metadata.?{{ .place }}.orValue({}).exists(key,
object.metadata.?{{ .place }}[?key] != oldObject.metadata.?{{ .place }}[?key]
{{- with $of.ofAgents }}
&& !(request.?subResource.orValue('') == 'status' && key in {{ include "mendix-mesh.celList" . }})
{{- end }}
&& ({{ with concat $of.keys .more }}key in {{ include "mendix-mesh.celList" . }} || {{ end -}}
({{ join " || " $domains }})
{{- with $of.free }} && !(key in {{ include "mendix-mesh.celList" . }}){{ end }})))
{{- end }}

{{/* An expression that is true if an update changes one of these annotations. */}}
{{- define "mendix-mesh.changesAnnotations" -}}
{{ include "mendix-mesh.celList" . }}.exists(key, object.metadata.?annotations[?key] != oldObject.metadata.?annotations[?key])
{{- end }}

{{/*
"mendix-mesh.templates": the condition for controllers. Updates that leave the pod template alone, such
as scaling, are left out.
*/}}
{{- define "mendix-mesh.templates" -}}
- name: new-template
  expression: >-
    request.operation != 'UPDATE' || !(request.resource.group in ['apps', 'batch'])
    || object.spec.?template != oldObject.spec.?template
    || object.spec.?jobTemplate.?spec.?template != oldObject.spec.?jobTemplate.?spec.?template
{{- end }}

{{/*
"mendix-mesh.mutatingConditions": the conditions of the mutating webhook for controllers and Ingresses.
*/}}
{{- define "mendix-mesh.mutatingConditions" -}}
{{- $judged := include "mendix-mesh.judged" . | fromJson -}}
# What a controller owns gets the opt-in from its owner's template.
- name: not-owned
  expression: >-
    !(request.resource.group in ['apps', 'batch'])
    || !object.metadata.?ownerReferences.orValue([]).exists(owner,
    owner.?controller.orValue(false) || owner.apiVersion.startsWith('{{ $judged.operator }}'))
{{ include "mendix-mesh.templates" . }}
{{- end }}

{{/*
"mendix-mesh.validatingConditions": the conditions of an entry of the validating webhook. Called with
the root as `root` and the entry as `entry`.
*/}}
{{- define "mendix-mesh.validatingConditions" -}}
{{- $judged := include "mendix-mesh.judged" .root | fromJson -}}
{{- $of := get $judged.meshes .entry.mesh -}}
# A ReplicaSet or Job of a controller has that controller's template, which is judged.
- name: no-copy
  expression: >-
    !(request.resource.resource in ['replicasets', 'jobs'])
    || !object.metadata.?ownerReferences.orValue([]).exists(owner, owner.?controller.orValue(false)
    && {{ include "mendix-mesh.celList" $judged.copiedFrom }}.exists(group, owner.apiVersion.startsWith(group)))
{{- if $of }}
{{ include "mendix-mesh.templates" . }}
# Updates of a pod that change nothing that is judged, such as the annotations of a CNI plugin, do
# not call the webhook.
- name: pod-changes-what-is-judged
  expression: >-
    request.operation != 'UPDATE' || request.resource.resource != 'pods'
    || {{ include "mendix-mesh.celList" $judged.podFields }}.exists(field, object.spec[?field] != oldObject.spec[?field])
    || {{ include "mendix-mesh.celList" $judged.containerLists }}.exists(place, object.spec[?place] != oldObject.spec[?place]
    && {{ include "mendix-mesh.celList" $judged.containerFields }}.exists(field,
    object.spec[?place].orValue([]).map(one, one[?field]) != oldObject.spec[?place].orValue([]).map(one, one[?field])))
    || {{ include "mendix-mesh.changesKeys" (dict "place" "labels" "of" $of.labels "more" (include "mendix-mesh.selectedLabels" .root | fromJsonArray)) | nindent 4 | trim }}
    || {{ include "mendix-mesh.changesKeys" (dict "place" "annotations" "of" $of.annotations "more" list) | nindent 4 | trim }}
{{- if .root.Values.reviewMeshPolicies }}
- name: policy-changes-what-is-judged
  expression: >-
    request.operation != 'UPDATE' || request.resource.group in ['apps', 'batch'] || request.resource.resource == 'pods'
    {{- with $of.namespaceAnnotations }}
    || (request.resource.resource == 'namespaces' && {{ include "mendix-mesh.changesAnnotations" . }})
    {{- end }}
    || (request.resource.resource != 'namespaces' && (object.?spec != oldObject.?spec
    || object.metadata.?labels != oldObject.metadata.?labels
    {{- with $of.policyAnnotations }}
    || {{ include "mendix-mesh.changesAnnotations" . }}
    {{- end }}))
{{- if eq .entry.mesh "istio" }}
# Of Services, Istio reads an annotation that few have.
- name: service-has-what-is-judged
  expression: >-
    request.resource.resource != 'services'
    || 'networking.istio.io/exportTo' in object.metadata.?annotations.orValue({})
{{- end }}
{{- end }}
{{- end }}
{{- end }}
